/* OVA archives and OVF descriptions as files of this machine: tar files whose first member is the
 * description, or the description itself with its disks beside it. Disks are unpacked into a temporary file.
 */
#include "client.h"
#include <base/buf.h>
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmdk.h>

#define BLOCK 512
#define OVF_MAX (4 << 20)
#define MEMBERS_MAX 1000

/* A run of bytes of an open file. */
struct part {
    int64_t at, length;
};

static int fail(struct xe_err *err, const char *filename, const char *why)
{
    xe_err_set(err, XE_ERR_CLI, "%s: %s", filename, why);
    return -1;
}

/* Octal text, or since GNU the number itself with the highest bit set; -1: neither. */
static int64_t tar_number(const unsigned char *p, size_t len)
{
    int64_t n = 0;
    if (p[0] == 0x80) {
        for (size_t i = 1; i < len; i++) {
            if (n > INT64_MAX >> 8)
                return -1;
            n = n << 8 | p[i];
        }
        return n;
    }
    for (size_t i = 0; i < len && p[i] && p[i] != ' '; i++) {
        if (p[i] < '0' || p[i] > '7' || n > INT64_MAX >> 3)
            return -1;
        n = n << 3 | (p[i] - '0');
    }
    return n;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), e = strlen(end);
    return n > e && strcasecmp(name + n - e, end) == 0;
}

/* The member of this name, or with NULL the first one whose name ends in .ovf. 1, 0: there is none; -1: it is
 * no tar file, or a broken one. */
static int find_member(int fd, const char *name, struct part *out)
{
    struct stat st;
    int64_t at = 0;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return -1;
    for (int i = 0; i < MEMBERS_MAX && at + BLOCK <= st.st_size; i++) {
        unsigned char head[BLOCK];
        char member[101] = "";
        if (pread(fd, head, sizeof(head), at) != (ssize_t)sizeof(head))
            return -1;
        if (head[0] == 0)
            return 0;
        int64_t size = tar_number(head + 124, 12);
        if (memcmp(head + 257, "ustar", 5) != 0 || size < 0 || size > st.st_size - at - BLOCK)
            return -1;
        memcpy(member, head, 100);
        bool plain = head[156] == '0' || head[156] == '\0';
        const char *bare = strncmp(member, "./", 2) == 0 ? member + 2 : member;
        if (plain && (name ? streq(bare, name) : ends_with(bare, ".ovf"))) {
            *out = (struct part){at + BLOCK, size};
            return 1;
        }
        at += BLOCK + (size + BLOCK - 1) / BLOCK * BLOCK;
    }
    return 0;
}

static char *read_part(int fd, const struct part *part)
{
    char *text = xmalloc((size_t)part->length + 1);
    for (int64_t done = 0; done < part->length;) {
        ssize_t n = pread(fd, text + done, (size_t)(part->length - done), part->at + done);
        if (n <= 0) {
            free(text);
            return NULL;
        }
        done += n;
    }
    text[part->length] = '\0';
    return text;
}

int xe_open_ova(void *ctx, const char *filename, char **text, size_t *len, struct xe_err *err)
{
    struct part part;
    (void)ctx;
    *text = NULL;
    if (streq(filename, "-"))
        return 0;
    AUTO_CLOSE int fd = open(filename, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return 0; /* the upload says why */
    if (ends_with(filename, ".ovf")) {
        if (!(*text = file_read(filename, OVF_MAX, len)))
            return fail(err, filename, strerror(errno));
        return 0;
    }
    if (find_member(fd, NULL, &part) <= 0)
        return 0;
    if (part.length > OVF_MAX)
        return fail(err, filename, "its description is larger than 4 MiB");
    if (!(*text = read_part(fd, &part)))
        return fail(err, filename, strerror(errno));
    *len = (size_t)part.length;
    return 0;
}

/* A disk's file, and where in it the disk is. */
static int open_disk(const char *filename, const char *member, struct part *part, struct xe_err *err)
{
    struct stat st;
    if (!ends_with(filename, ".ovf")) {
        int fd = open(filename, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && find_member(fd, member, part) == 1)
            return fd;
        if (fd >= 0)
            close(fd);
        xe_err_set(err, XE_ERR_CLI, "%s holds no file %s, or is damaged", filename, member);
        return -1;
    }
    const char *slash = strrchr(filename, '/');
    AUTO_FREE char *path = xasprintf("%.*s%s", slash ? (int)(slash + 1 - filename) : 0, filename, member);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        fail(err, path, fd < 0 ? strerror(errno) : "it is no file");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    *part = (struct part){0, st.st_size};
    return fd;
}

struct watch {
    xe_progress_fn *progress;
    void *arg;
};

static int watch(void *arg, uint64_t done, uint64_t total)
{
    struct watch *w = arg;
    return w->progress(w->arg, done, total) != 0 || xe_stop;
}

int xe_ova_disk(void *ctx, const char *filename, const char *member, int64_t capacity,
                xe_progress_fn *progress, void *arg, char **file, struct xe_err *err)
{
    struct part part;
    struct watch watcher = {progress, arg};
    AUTO_FREE char *problem = NULL, *image = NULL;
    AUTO_CLOSE int from = open_disk(filename, member, &part, err);
    if (from < 0)
        return -1;
    AUTO_CLOSE int to = xe_temporary_disk(&image, err);
    if (to < 0)
        return -1;
    if (vmdk_read(from, part.at, part.length, capacity, to, watch, &watcher, &problem) == 0) {
        *file = TAKE_PTR(image);
        return 0;
    }
    if (xe_stop)
        xe_err_set(err, XE_ERR_CANCELLED, "Interrupted.");
    else
        fail(err, member, problem);
    xe_drop_disk(ctx, image);
    return -1;
}
