/* Files in an SR's folder: opened without following links, made under a temporary name and renamed when
 * whole, and the clean-up of what a dead agent left. */
#include "storage_internal.h"
#include <base/log.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/syscall.h>

#define TEMP_PREFIX ".corral-tmp-"
#define TIME_NEVER ((time_t)INT64_MAX)

/* openat2(2): RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS hold for every component, at the moment of the
 * open, so that nothing swapped in between is followed. */
static int open_beneath(int dir, const char *name, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK),
        .mode = mode,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    long fd;
    do
        fd = syscall(SYS_openat2, dir, name, &how, sizeof(how));
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return (int)fd;
}

int folder_open(const struct storage_sr *sr, const char *name, int flags)
{
    AUTO_CLOSE int fd = open_beneath(sr->dir, name, flags, 0);
    struct stat st;
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return -1;
    if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    return TAKE_FD(fd);
}

/* 1: made and locked; 0: a clean-up removed it before it was locked; -1: *error. */
static int temp_try(struct temp_file *t, struct storage_error *error)
{
    struct stat st;
    snprintf(t->name, sizeof(t->name), TEMP_PREFIX "%s", UUID_TEXT(ref_new()));
    t->fd = open_beneath(t->sr->dir, t->name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (t->fd < 0)
        return storage_fail_errno(error, errno, "cannot make a file");
    if (flock(t->fd, LOCK_EX | LOCK_NB) == 0 && fstat(t->fd, &st) == 0 && st.st_nlink > 0 &&
        (storage_uid() == 0 || fchown(t->fd, storage_uid(), storage_gid()) == 0))
        return 1;
    bool swept = errno == EWOULDBLOCK || (fstat(t->fd, &st) == 0 && st.st_nlink == 0);
    int saved = errno;
    if (!swept)
        unlinkat(t->sr->dir, t->name, 0);
    close(t->fd);
    t->fd = -1;
    return swept ? 0 : storage_fail_errno(error, saved, "cannot prepare a file");
}

int temp_open(const struct storage_sr *sr, struct temp_file *out, struct storage_error *error)
{
    struct temp_file t = {.sr = sr, .fd = -1};
    int made;
    do
        made = temp_try(&t, error);
    while (made == 0);
    if (made < 0)
        return -1;
    *out = t;
    return 0;
}

int folder_sync(const struct storage_sr *sr, struct storage_error *error)
{
    return fsync(sr->dir) == 0 ? 0 : storage_fail_errno(error, errno, "cannot write the directory to disk");
}

int temp_commit(struct temp_file *t, const char *name, bool replace, struct storage_error *error)
{
    if (fsync(t->fd) < 0)
        return storage_fail_errno(error, errno, "cannot write the disk's data");
    if (renameat2(t->sr->dir, t->name, t->sr->dir, name, replace ? 0 : RENAME_NOREPLACE) < 0) {
        if (errno == EEXIST)
            return storage_fail(error, STORAGE_EXISTS, "there is a disk of that name already");
        return storage_fail_errno(error, errno, "cannot give the file its name");
    }
    t->name[0] = '\0';
    return folder_sync(t->sr, error);
}

void temp_done(struct temp_file *t)
{
    if (t->fd < 0)
        return;
    if (t->name[0] && unlinkat(t->sr->dir, t->name, 0) < 0)
        log_warn("storage", "a temporary file could not be removed", "file", t->name, "why", strerror(errno));
    close(t->fd);
    t->fd = -1;
}

/* Whoever works on a temporary file holds its lock; a dead agent's lock is gone with it (or with the
 * qemu-img that it had started). */
static void clean_one(const struct storage_sr *sr, const char *name, time_t younger)
{
    AUTO_CLOSE int fd = folder_open(sr, name, O_RDONLY);
    struct stat st;
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0 || st.st_mtime >= younger)
        return;
    if (unlinkat(sr->dir, name, 0) == 0)
        log_info("storage", "removed what an unfinished operation had left", "file", name);
}

void folder_clean(const struct storage_sr *sr)
{
    int fd = openat(sr->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        fd_close_cleanup(&fd);
        return; /* a scan will tell */
    }
    for (const struct dirent *entry; (entry = readdir(dir));)
        if (strncmp(entry->d_name, TEMP_PREFIX, strlen(TEMP_PREFIX)) == 0)
            clean_one(sr, entry->d_name, TIME_NEVER);
        else if (upload_name_parse(entry->d_name))
            clean_one(sr, entry->d_name, time(NULL) - UPLOAD_KEPT_S);
    closedir(dir);
}

int folder_each(const struct storage_sr *sr, void (*each)(const struct storage_sr *, const char *, void *),
                void *arg)
{
    int fd = openat(sr->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        fd_close_cleanup(&fd);
        return -1;
    }
    errno = 0;
    for (const struct dirent *e; (e = readdir(dir)); errno = 0)
        each(sr, e->d_name, arg);
    int failure = errno;
    closedir(dir);
    errno = failure;
    return failure ? -1 : 0;
}
