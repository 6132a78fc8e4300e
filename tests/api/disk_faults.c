/* Preloaded into poold by test_disk_full.py: what the disk under the database refuses. The test writes into
 * the file that CORRAL_DISK_FAULTS names, which is shared memory: how many writes or syncs of files below the
 * folder of the database still succeed, and how the ones after that fail. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NOTHING, WRITES, SYNCS };

struct faults {
    int32_t what;  /* WRITES or SYNCS */
    int32_t after; /* so many succeed */
    int32_t times; /* then so many fail */
    int32_t error; /* with this errno */
    int32_t torn;  /* not 0: half of a failing write is written all the same */
    int32_t hits;  /* how many failed: told to the test */
};
static struct faults *faults;

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("CORRAL_DISK_FAULTS");
    int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    void *at = fd >= 0 ? mmap(NULL, sizeof(*faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (at == MAP_FAILED) {
        fprintf(stderr, "disk_faults: CORRAL_DISK_FAULTS cannot be used\n");
        _exit(125);
    }
    close(fd);
    faults = at;
}

static int is_database(int fd)
{
    char link[40], path[4096];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n < 0)
        return 0;
    path[n] = '\0';
    return strstr(path, "/pool.db") != NULL;
}

/* 1: this one fails, with errno. */
static int fails(int what, int fd)
{
    int saved = errno;
    if (!faults || __atomic_load_n(&faults->what, __ATOMIC_ACQUIRE) != what || !is_database(fd)) {
        errno = saved;
        return 0;
    }
    int number = __atomic_sub_fetch(&faults->after, 1, __ATOMIC_ACQ_REL);
    if (number >= 0 || number < -__atomic_load_n(&faults->times, __ATOMIC_ACQUIRE)) {
        errno = saved;
        return 0;
    }
    __atomic_add_fetch(&faults->hits, 1, __ATOMIC_ACQ_REL);
    errno = faults->error;
    return 1;
}

#define REAL(name, type)                                                                                     \
    static type real;                                                                                        \
    if (!real)                                                                                               \
    real = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off_t);
typedef int (*sync_fn)(int);

ssize_t pwrite64(int fd, const void *data, size_t len, off_t at)
{
    REAL("pwrite64", pwrite_fn);
    if (!fails(WRITES, fd))
        return real(fd, data, len, at);
    int error = errno;
    if (faults->torn && real(fd, data, len / 2, at) < 0)
        return -1;
    errno = error;
    return -1;
}

int fsync(int fd)
{
    REAL("fsync", sync_fn);
    return fails(SYNCS, fd) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL("fdatasync", sync_fn);
    return fails(SYNCS, fd) ? -1 : real(fd);
}
