/* The environment is read once: afterwards a failpoint that is not wanted costs one comparison. */
#include <base/failpoint.h>
#include <base/file.h>
#include <base/mem.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ARMED_MAX 256
#define HELD_LOOK_NS 2000000

static const char *wanted, *folder;
static _Atomic long countdown; /* of "*:N"; 0: not counted */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A child of a test's may be given an environment of its own. */
static void read_again(void)
{
    static const pthread_once_t fresh = PTHREAD_ONCE_INIT;
    once = fresh;
}

static void read_environment(void)
{
    pthread_atfork(NULL, NULL, read_again);
    wanted = getenv("CORRAL_FAILPOINT");
    folder = getenv("CORRAL_FAILPOINTS");
    if (wanted && strncmp(wanted, "*:", 2) == 0)
        countdown = strtol(wanted + 2, NULL, 10);
}

static void end_here(const char *place)
{
    dprintf(STDERR_FILENO, "killed at failpoint %s\n", place);
    kill(getpid(), SIGKILL);
    for (;;)
        pause(); /* nothing further happens on this thread until the signal has done its work */
}

static void note(const char *place)
{
    AUTO_FREE char *path = xasprintf("%s/reached", folder);
    AUTO_FREE char *line = xasprintf("%s\n", place);
    int fd AUTO_CLOSE = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, strlen(line)) < 0)
        abort(); /* the test relies on it */
}

/* This thread alone. */
static void hold(const char *path)
{
    const struct timespec pause = {.tv_nsec = HELD_LOOK_NS};
    while (access(path, F_OK) == 0)
        nanosleep(&pause, NULL);
}

static void obey(const char *place)
{
    AUTO_FREE char *path = xasprintf("%s/armed", folder), *held = xasprintf("%s/held", folder);
    AUTO_FREE char *order = file_read(path, ARMED_MAX, NULL);
    const char *space = order ? strchr(order, ' ') : NULL;
    bool holds = order && strncmp(order, "hold ", 5) == 0;
    /* Whoever takes it away is the one that it was for. */
    if (!space || !streq(space + 1, place) || (holds ? rename(path, held) : unlink(path)) < 0)
        return;
    if (holds)
        hold(held);
    else if (strncmp(order, "stop ", 5) == 0)
        raise(SIGSTOP); /* to this thread, which would go on otherwise until another has taken the signal */
    else
        end_here(place);
}

void failpoint_reach(const char *name, const char *detail)
{
    pthread_once(&once, read_environment);
    if (!wanted && !folder)
        return;
    AUTO_FREE char *place = xasprintf("%s%s", name, detail);
    if (wanted && (streq(wanted, place) || (countdown > 0 && atomic_fetch_sub(&countdown, 1) == 1)))
        end_here(place);
    if (!folder)
        return;
    note(place);
    obey(place);
}
