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
        if (file_read_at(fd, head, sizeof(head), at) < 0)
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
    if (file_read_at(fd, text, (size_t)part->length, part->at) < 0) {
        free(text);
        return NULL;
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

/* ---- writing ---- */

/* The head of a member whose content begins behind it and ends where the file does now. */
static int finish_member(int fd, off_t at, const char *name)
{
    unsigned char head[BLOCK] = {0};
    static const char zeroes[BLOCK];
    off_t end = lseek(fd, 0, SEEK_END);
    int64_t size = end - at - BLOCK;
    unsigned sum = 0;
    if (end < 0 || file_write_all(fd, zeroes, (size_t)((BLOCK - size % BLOCK) % BLOCK)) < 0)
        return -1;
    snprintf((char *)head, 100, "%s", name);
    memcpy(head + 100, "0000644\0000000000\0000000000", 23);
    if (size < INT64_C(1) << 33) {
        char octal[13];
        snprintf(octal, sizeof(octal), "%011llo", (long long)size);
        memcpy(head + 124, octal, 12);
    } else {
        head[124] = 0x80; /* GNU's way for sizes of 8 GiB and more */
        for (int i = 0; i < 8; i++)
            head[135 - i] = (unsigned char)((uint64_t)size >> (8 * i));
    }
    memcpy(head + 136, "00000000000", 11);
    memset(head + 148, ' ', 8);
    head[156] = '0';
    memcpy(head + 257, "ustar\00000", 8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += head[i];
    char text[8];
    snprintf(text, sizeof(text), "%06o", sum & 0777777);
    memcpy(head + 148, text, 7);
    return file_write_at(fd, head, BLOCK, at);
}

/* Room for a head; where it is, or -1. */
static off_t begin_member(int fd)
{
    static const char zeroes[BLOCK];
    off_t at = lseek(fd, 0, SEEK_END);
    return at < 0 || file_write_all(fd, zeroes, BLOCK) < 0 ? -1 : at;
}

static int pack(int to, const char *raw, const struct xe_ova_disk *disk, struct watch *watcher,
                struct xe_err *err)
{
    AUTO_FREE char *problem = NULL;
    AUTO_CLOSE int from = open(raw, O_RDONLY | O_CLOEXEC);
    off_t at = from < 0 ? -1 : begin_member(to);
    if (at < 0)
        return fail(err, raw, strerror(errno));
    if (vmdk_write(from, disk->capacity, to, watch, watcher, &problem) == 0)
        return finish_member(to, at, disk->member) < 0 ? fail(err, disk->member, strerror(errno)) : 0;
    if (xe_stop)
        xe_err_set(err, XE_ERR_CANCELLED, "Interrupted.");
    else
        fail(err, disk->member, problem);
    return -1;
}

int xe_write_ova(void *ctx, const char *filename, const char *description, const struct xe_ova_disk *disks,
                 size_t count, int (*fetch)(void *arg, size_t disk, const char *file),
                 xe_progress_fn *progress, void *arg, struct xe_err *err)
{
    static const char end[2 * BLOCK];
    AUTO_FREE char *partial = xasprintf("%s.partial", filename), *raw = NULL;
    struct watch watcher = {progress, arg};
    if (access(filename, F_OK) == 0)
        return fail(err, filename, "it exists already");
    AUTO_CLOSE int to = open(partial, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (to < 0)
        return fail(err, partial, strerror(errno));
    int rc = 0;
    off_t at = begin_member(to);
    if (at < 0 || file_write_all(to, description, strlen(description)) < 0 ||
        finish_member(to, at, "vm.ovf") < 0)
        rc = fail(err, partial, strerror(errno));
    for (size_t i = 0; rc == 0 && i < count; i++) {
        int empty = xe_temporary_disk(&raw, err);
        if (empty < 0) {
            rc = -1;
            break;
        }
        close(empty);
        unlink(raw); /* a download makes its file */
        rc = fetch(arg, i, raw) < 0 ? -1 : pack(to, raw, &disks[i], &watcher, err);
        xe_drop_disk(ctx, raw);
        free(TAKE_PTR(raw));
    }
    if (rc == 0 &&
        (file_write_all(to, end, sizeof(end)) < 0 || fsync(to) < 0 || rename(partial, filename) < 0))
        rc = fail(err, filename, strerror(errno));
    if (rc < 0)
        unlink(partial);
    return rc;
}
