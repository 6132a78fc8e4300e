/* Whole files: read with a cap, written atomically. */
#include <base/buf.h>
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/stat.h>

int file_write_all(int fd, const void *data, size_t len)
{
    const char *from = data;
    while (len > 0) {
        ssize_t n = write(fd, from, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        from += n;
        len -= (size_t)n;
    }
    return 0;
}

int file_read_at(int fd, void *to, size_t len, int64_t at)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)to + done, len - done, (off_t)at + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n < 0 ? errno : ENODATA;
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

int file_write_at(int fd, const void *data, size_t len, int64_t at)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, (const char *)data + done, len - done, (off_t)at + (off_t)done);
        if (n < 0 && errno != EINTR)
            return -1;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int sync_folder_of(const char *path)
{
    AUTO_FREE char *copy = xstrdup(path);
    AUTO_CLOSE int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -1 : fsync(fd);
}

int file_write_atomic(const char *path, const void *data, size_t len, unsigned mode)
{
    AUTO_FREE char *temporary = xasprintf("%s.XXXXXX", path);
    AUTO_CLOSE int fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return -1;
    if (file_write_all(fd, data, len) < 0 || fchmod(fd, mode) < 0 || fsync(fd) < 0 ||
        rename(temporary, path) < 0) {
        int saved = errno;
        unlink(temporary);
        errno = saved;
        return -1;
    }
    return sync_folder_of(path);
}

char *file_read(const char *path, size_t max, size_t *len)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 ? file_read_fd(fd, max, len) : NULL;
}

char *file_read_fd(int fd, size_t max, size_t *len)
{
    AUTO_BUF struct buf b = BUF_INIT;
    for (;;) {
        size_t room = max - b.len + 1 < 65536 ? max - b.len + 1 : 65536;
        ssize_t n = read(fd, buf_reserve(&b, room), room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return NULL;
        if (n == 0)
            break;
        buf_advance(&b, (size_t)n);
        if (b.len > max) {
            errno = EFBIG;
            return NULL;
        }
    }
    if (len)
        *len = b.len;
    return buf_take(&b);
}
