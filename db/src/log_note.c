/* The layout of the log is SQLite's: a head of 32 bytes, then frames of 24 bytes and a page. Two salts in
 * each name the log's present use; the sum of a frame goes on from that of the one before. */
#include "log_note.h"

#include "store_impl.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define HEAD 32
#define FRAME_HEAD 24
#define PAGE_MAX 65536
#define MAGIC 0x377f0682u /* its last bit: sums of big-endian numbers */
#define NOTE_BYTES 80     /* at most */

struct log_note {
    char *log, *path;
    int fd; /* of the note; -1: not yet */
    uint32_t salts[2];
    int64_t frame; /* bytes of one; 0: the log's head is not known */
    int64_t end;   /* of the last frame written, if it ends a transaction; 0: it does not */
    bool failed;
};

static uint32_t number(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int64_t frame_bytes(const uint8_t head[static HEAD])
{
    uint32_t page = number(head + 8);
    return page >= 512 && page <= PAGE_MAX && (page & (page - 1)) == 0 ? FRAME_HEAD + (int64_t)page : 0;
}

static char *note_path(const char *log)
{
    return xasprintf("%s-synced", log);
}

/* ---- writing ---- */

struct log_note *log_note_new(const char *log)
{
    struct log_note *note = xcalloc(1, sizeof(*note));
    note->log = xstrdup(log);
    note->path = note_path(log);
    note->fd = -1;
    return note;
}

void log_note_free(struct log_note *note)
{
    if (!note)
        return;
    if (note->fd >= 0)
        close(note->fd);
    free(note->log);
    free(note->path);
    free(note);
}

static void take_head(struct log_note *note, const uint8_t head[static HEAD])
{
    note->frame = frame_bytes(head);
    note->salts[0] = number(head + 16);
    note->salts[1] = number(head + 20);
}

/* A log that was there when it was opened is gone on with. */
static void find_head(struct log_note *note)
{
    uint8_t head[HEAD];
    AUTO_CLOSE int fd = open(note->log, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && file_read_at(fd, head, sizeof(head), 0) == 0)
        take_head(note, head);
}

void log_note_wrote(struct log_note *note, const void *data, int len, int64_t at)
{
    if (at == 0 && len == HEAD) {
        take_head(note, data);
        note->end = 0;
        return;
    }
    if (len != FRAME_HEAD)
        return; /* the page of the frame */
    if (!note->frame)
        find_head(note);
    bool ends = number((const uint8_t *)data + 4) != 0;
    note->end = ends && note->frame ? at + note->frame : 0;
}

static int format(const struct log_note *note, char text[static NOTE_BYTES + 1])
{
    int len = snprintf(text, NOTE_BYTES + 1, "log %08x%08x synced to %020lld sum ", note->salts[0],
                       note->salts[1], (long long)note->end);
    return len + snprintf(text + len, (size_t)(NOTE_BYTES + 1 - len), "%016llx\n",
                          (unsigned long long)XXH3_64bits(text, (size_t)len));
}

void log_note_synced(struct log_note *note)
{
    char text[NOTE_BYTES + 1];
    if (!note->end)
        return;
    if (note->fd < 0)
        note->fd = open(note->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int len = format(note, text);
    bool failed = note->fd < 0 || file_write_at(note->fd, text, (size_t)len, 0) < 0;
    if (failed && !note->failed)
        log_warn("store", "how far the log is synced could not be noted: damage in it would not be noticed",
                 "path", note->path, "why", strerror(errno));
    note->failed = failed;
}

/* ---- comparing ---- */

/* False: there is no note that could be read. */
static bool read_note(const char *log, struct log_note *out)
{
    AUTO_FREE char *path = note_path(log);
    AUTO_FREE char *text = file_read(path, NOTE_BYTES, NULL);
    char again[NOTE_BYTES + 1];
    long long end;
    if (!text || sscanf(text, "log %8x%8x synced to %20lld", &out->salts[0], &out->salts[1], &end) != 3)
        return false;
    out->end = end;
    format(out, again);
    return streq(text, again);
}

struct sum {
    bool big;
    uint32_t a, b;
};

static void sum_add(struct sum *s, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i += 8) {
        uint32_t x = number(data + i), y = number(data + i + 4);
        s->a += (s->big ? x : __builtin_bswap32(x)) + s->b;
        s->b += (s->big ? y : __builtin_bswap32(y)) + s->a;
    }
}

static bool sum_is(const struct sum *s, const uint8_t *at)
{
    return s->a == number(at) && s->b == number(at + 4);
}

/* The number of the first frame that is not as it was written, of those that end before `end`; 0: none. */
static int64_t find_damage(int fd, const struct log_note *note, struct sum sum, int64_t end)
{
    uint8_t frame[FRAME_HEAD + PAGE_MAX];
    for (int64_t at = HEAD, i = 1; at + note->frame <= end; at += note->frame, i++) {
        if (file_read_at(fd, frame, (size_t)note->frame, at) < 0)
            return i;
        sum_add(&sum, frame, 8);
        sum_add(&sum, frame + FRAME_HEAD, (size_t)note->frame - FRAME_HEAD);
        if (number(frame + 8) != note->salts[0] || number(frame + 12) != note->salts[1] ||
            !sum_is(&sum, frame + 16))
            return i;
    }
    return 0;
}

static bool is_blank(const uint8_t *data, size_t len)
{
    return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

/* The head is synced before anything is written behind it. */
static int judge_head(const char *log, int fd, struct log_note *now, struct sum *sum, struct store_err *err)
{
    uint8_t head[HEAD + FRAME_HEAD];
    if (file_read_at(fd, head, sizeof(head), 0) < 0)
        return errno == ENODATA ? 0 : store_err_set(err, STORE_E_IO, "%s: %s", log, strerror(errno));
    take_head(now, head);
    *sum = (struct sum){.big = head[3] & 1};
    sum_add(sum, head, 24);
    if ((number(head) & ~1u) == MAGIC && now->frame && sum_is(sum, head + 24))
        return 1;
    if (is_blank(head + HEAD, FRAME_HEAD))
        return 0;
    return store_err_set(err, STORE_E_CORRUPT, "%s: the head of the log is damaged", log);
}

int log_note_check(const char *path, struct store_err *err)
{
    AUTO_FREE char *log = xasprintf("%s-wal", path);
    AUTO_CLOSE int fd = open(log, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct log_note noted = {0}, now = {0};
    struct sum sum;
    if (fd < 0)
        return errno == ENOENT ? 0 : store_err_set(err, STORE_E_IO, "%s: %s", log, strerror(errno));
    int rc = judge_head(log, fd, &now, &sum, err);
    if (rc <= 0)
        return rc;
    if (!read_note(log, &noted) || noted.salts[0] != now.salts[0] || noted.salts[1] != now.salts[1])
        return 0; /* the log's use began after the last note */
    int64_t bad = find_damage(fd, &now, sum, noted.end);
    if (!bad)
        return 0;
    return store_err_set(err, STORE_E_CORRUPT,
                         "%s: frame %lld of the log is damaged, and changes that were acknowledged follow it",
                         log, (long long)bad);
}

int log_note_drop(const char *path)
{
    AUTO_FREE char *log = xasprintf("%s-wal", path), *note = note_path(log);
    return unlink(note) == 0 || errno == ENOENT ? 0 : -1;
}
