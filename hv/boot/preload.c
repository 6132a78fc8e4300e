/* Loaded into grub-fstest (LD_PRELOAD), which reads files out of the file systems of a guest's disk. It sees
 * the disk under the name /dev/null; the images come as open descriptors (CORRAL_DISK, view.h), so that the
 * process needs no right to any file. Before the program's first instruction everything else is taken away:
 * no file can be opened, no process started, no connection made. */
#include "view.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DISK "/dev/null"

int __open64_2(const char *path, int flags);

#define FDS_MAX 1024
static struct view *disk;
static uint64_t position[FDS_MAX]; /* of each descriptor that stands for the disk */
static bool opened[FDS_MAX];
static int anchor; /* what such descriptors are copies of */
static DIR *empty; /* what every folder of the host is */

#define ALLOW(name)                                                                                          \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void confine(void)
{
    static struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(read),
        ALLOW(pread64),
        ALLOW(write),
        ALLOW(writev),
        ALLOW(lseek),
        ALLOW(close),
        ALLOW(dup),
        ALLOW(fstat),
        ALLOW(newfstatat),
        ALLOW(stat),
        ALLOW(lstat),
        ALLOW(readlink),
        ALLOW(brk),
        ALLOW(mmap),
        ALLOW(munmap),
        ALLOW(mremap),
        ALLOW(mprotect),
        ALLOW(futex),
        ALLOW(clock_gettime),
        ALLOW(getrandom),
        ALLOW(getpid),
        ALLOW(gettid),
        ALLOW(rt_sigaction),
        ALLOW(rt_sigprocmask),
        ALLOW(exit),
        ALLOW(exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };
    const struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
        perror("the process cannot be confined");
        _exit(126);
    }
}

__attribute__((constructor)) static void begin(void)
{
    const char *why, *words = getenv("CORRAL_DISK");
    disk = view_open(words ? words : "", &why);
    if (!disk) {
        fprintf(stderr, "%s\n", why);
        _exit(125);
    }
    anchor = (int)syscall(SYS_openat, AT_FDCWD, DISK, O_RDONLY | O_CLOEXEC);
    empty = anchor >= 0
                ? fdopendir((int)syscall(SYS_openat, AT_FDCWD, "/usr", O_RDONLY | O_DIRECTORY | O_CLOEXEC))
                : NULL;
    if (!empty)
        _exit(124);
    unsetenv("LD_PRELOAD");
    confine();
}

/* ---- the disk as a file ---- */

static bool is_disk(int fd)
{
    return fd >= 0 && fd < FDS_MAX && opened[fd];
}

static int open_disk(void)
{
    int fd = dup(anchor);
    if (fd >= FDS_MAX) {
        close(fd);
        errno = EMFILE;
        return -1;
    }
    if (fd >= 0) {
        opened[fd] = true;
        position[fd] = 0;
    }
    return fd;
}

/* Other names cannot be opened any more. */
static int open_name(const char *path)
{
    if (strcmp(path, DISK) == 0)
        return open_disk();
    errno = EACCES;
    return -1;
}

int open64(const char *path, int flags, ...)
{
    (void)flags;
    return open_name(path);
}

int __open64_2(const char *path, int flags)
{
    (void)flags;
    return open_name(path);
}

int fstat64(int fd, struct stat64 *st)
{
    if (!is_disk(fd))
        return (int)syscall(SYS_fstat, fd, st);
    memset(st, 0, sizeof(*st));
    st->st_mode = S_IFREG | 0400;
    st->st_size = (off64_t)view_size(disk);
    return 0;
}

off64_t lseek64(int fd, off64_t offset, int whence)
{
    if (!is_disk(fd))
        return syscall(SYS_lseek, fd, offset, whence);
    int64_t base = whence == SEEK_SET   ? 0
                   : whence == SEEK_CUR ? (int64_t)position[fd]
                                        : (int64_t)view_size(disk);
    int64_t to;
    if (__builtin_add_overflow(base, offset, &to) || to < 0) {
        errno = EINVAL;
        return -1;
    }
    position[fd] = (uint64_t)to;
    return to;
}

ssize_t read(int fd, void *data, size_t len)
{
    if (!is_disk(fd))
        return syscall(SYS_read, fd, data, len);
    ssize_t n = view_read(disk, data, len, position[fd]);
    if (n > 0)
        position[fd] += (uint64_t)n;
    return n;
}

int close(int fd)
{
    if (is_disk(fd))
        opened[fd] = false;
    return (int)syscall(SYS_close, fd);
}

/* The program looks at the root folder before it opens the disk. */
DIR *opendir(const char *path)
{
    (void)path;
    return empty;
}

struct dirent64 *readdir64(DIR *dir)
{
    (void)dir;
    return NULL;
}

int closedir(DIR *dir)
{
    (void)dir;
    return 0;
}
