/* Preloaded, it lets each fdatasync and fsync take SLOW_SYNC_US microseconds more, as on a disk that has to
 * write to flash or platters first. The same for ours and for what stands beside it. */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void delay(void)
{
    const char *text = getenv("SLOW_SYNC_US");
    long us = text ? atol(text) : 0;
    struct timespec pause = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    nanosleep(&pause, NULL);
}

static int call(const char *name, int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fdatasync(int fd)
{
    delay();
    return call("fdatasync", fd);
}

int fsync(int fd)
{
    delay();
    return call("fsync", fd);
}
