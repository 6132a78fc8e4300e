/* Reading archives with libarchive, which is told of tar, gzip and zstd alone. Nothing that an archive says
 * is trusted: names never reach a file system, sizes are held against what the caller expects, and memory
 * does not grow with either. */
#include "xva.h"

#include <archive.h>
#include <archive_entry.h>
#include <base/digest.h>
#include <base/mem.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <xxhash.h>

#define IN_BYTES 65536
#define DIGITS_MIN 8
#define DIGITS_MAX 9

struct xva_reader {
    struct archive *archive;
    ssize_t (*read)(void *arg, void *to, size_t max);
    void *arg;
    bool opened, lenient;
    bool source_failed, source_ended;
    char *in;

    /* The member that stands next, or is being read. */
    bool have, over;
    char name[XVA_NAME_SIZE];
    int64_t member_size;

    /* The disk. */
    char id[XVA_NAME_SIZE];
    bool in_chunk;
    int64_t size, at;    /* of the disk; bytes given */
    int64_t zeros_until; /* up to where chunks were left out */
    int64_t chunk_left;
    int64_t unit; /* size of the first chunk with data; 0: unknown */
    bool was_short;
    uint32_t number, next_number;
    XXH64_state_t *xx;
    struct digester *sha1;
};

static int fail(struct xva_error *error, enum xva_failure kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int fail(struct xva_error *error, enum xva_failure kind, const char *format, ...)
{
    va_list ap;
    *error = (struct xva_error){.kind = kind};
    va_start(ap, format);
    vsnprintf(error->text, sizeof(error->text), format, ap);
    va_end(ap);
    return -1;
}

static int unexpected(struct xva_error *error, const char *expected, const char *found)
{
    fail(error, XVA_UNEXPECTED, "the archive has another member than it should");
    snprintf(error->expected, sizeof(error->expected), "%s", expected);
    snprintf(error->found, sizeof(error->found), "%s", found);
    return -1;
}

static int fail_archive(struct xva_reader *r, struct xva_error *error)
{
    if (r->source_failed)
        return fail(error, XVA_SOURCE, "the data broke off");
    if (r->source_ended)
        return fail(error, XVA_SHORT, "the data ended too early, or is no archive");
    const char *text = archive_error_string(r->archive);
    return fail(error, XVA_BAD, "the archive cannot be read: %.100s", text ? text : "it is damaged");
}

static la_ssize_t on_read(struct archive *archive, void *arg, const void **data)
{
    struct xva_reader *r = arg;
    (void)archive;
    ssize_t n = r->read(r->arg, r->in, IN_BYTES);
    r->source_failed = n < 0;
    r->source_ended = n == 0;
    *data = r->in;
    return n < 0 ? ARCHIVE_FATAL : n;
}

struct xva_reader *xva_reader_new(ssize_t (*read)(void *arg, void *to, size_t max), void *arg, bool lenient)
{
    struct xva_reader *r = xcalloc(1, sizeof(*r));
    r->read = read;
    r->arg = arg;
    r->lenient = lenient;
    r->in = xmalloc(IN_BYTES);
    r->archive = archive_read_new();
    r->xx = XXH64_createState();
    r->sha1 = digester_new(DIGEST_SHA1);
    if (!r->archive || !r->xx)
        abort(); /* only memory can be missing */
    archive_read_support_format_tar(r->archive);
    archive_read_support_filter_gzip(r->archive);
    archive_read_support_filter_zstd(r->archive);
    return r;
}

void xva_reader_free(struct xva_reader *r)
{
    if (!r)
        return;
    archive_read_free(r->archive);
    XXH64_freeState(r->xx);
    digester_free(r->sha1);
    free(r->in);
    free(r);
}

/* ---- members ---- */

bool xva_name_parse(const char *name, char id[static XVA_NAME_SIZE], uint32_t *number, enum xva_part *part)
{
    const char *slash = strrchr(name, '/');
    if (!slash || slash == name || slash - name >= XVA_NAME_SIZE || memchr(name, '/', (size_t)(slash - name)))
        return false;
    size_t digits = strspn(slash + 1, "0123456789");
    const char *end = slash + 1 + digits;
    if (digits < DIGITS_MIN || digits > DIGITS_MAX)
        return false;
    if (*end == '\0')
        *part = XVA_PART_CHUNK;
    else if (streq(end, ".xxhash"))
        *part = XVA_PART_XXHASH;
    else if (streq(end, ".checksum"))
        *part = XVA_PART_SHA1;
    else
        return false;
    memcpy(id, name, (size_t)(slash - name));
    id[slash - name] = '\0';
    *number = (uint32_t)strtoul(slash + 1, NULL, 10);
    return true;
}

/* Makes the next member known: 1, or 0 at the end. */
static int peek(struct xva_reader *r, struct xva_error *error)
{
    struct archive_entry *entry;
    if (r->have)
        return 1;
    if (r->over)
        return 0;
    if (!r->opened) {
        r->opened = true;
        if (archive_read_open(r->archive, r, NULL, on_read, NULL) != ARCHIVE_OK)
            return fail_archive(r, error);
    }
    int rc = archive_read_next_header(r->archive, &entry);
    if (rc == ARCHIVE_EOF) {
        r->over = true;
        return 0;
    }
    if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
        return fail_archive(r, error);
    const char *name = archive_entry_pathname(entry);
    if (!name || strlen(name) >= XVA_NAME_SIZE)
        return fail(error, XVA_BAD, "a member of the archive has no name, or a very long one");
    snprintf(r->name, sizeof(r->name), "%s", name);
    r->member_size = archive_entry_size(entry);
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) || r->member_size < 0)
        return fail(error, XVA_BAD, "a member of the archive is not a plain file");
    r->have = true;
    return 1;
}

static ssize_t member_read(struct xva_reader *r, void *to, size_t max, struct xva_error *error)
{
    la_ssize_t n = archive_read_data(r->archive, to, max);
    if (n < 0)
        return fail_archive(r, error);
    if (n == 0 && max > 0)
        return fail(error, XVA_SHORT, "a member of the archive is shorter than it says");
    return n;
}

int xva_read_ova(struct xva_reader *r, struct buf *out, struct xva_error *error)
{
    int rc = peek(r, error);
    if (rc < 0)
        return -1;
    if (rc == 0)
        return fail(error, XVA_SHORT, "there is no data");
    if (!streq(r->name, "ova.xml"))
        return unexpected(error, "ova.xml", r->name);
    if (r->member_size > XVA_OVA_MAX)
        return fail(error, XVA_BAD, "ova.xml is longer than %d MiB", XVA_OVA_MAX >> 20);
    char piece[16384];
    for (int64_t left = r->member_size; left > 0;) {
        ssize_t n =
            member_read(r, piece, left < (int64_t)sizeof(piece) ? (size_t)left : sizeof(piece), error);
        if (n < 0)
            return -1;
        buf_add(out, piece, (size_t)n);
        left -= n;
    }
    r->have = false;
    return 0;
}

/* ---- disks ---- */

int xva_read_disk(struct xva_reader *r, char id[static XVA_NAME_SIZE], struct xva_error *error)
{
    uint32_t number;
    enum xva_part part;
    int rc = peek(r, error);
    if (rc <= 0)
        return rc;
    if (!xva_name_parse(r->name, id, &number, &part) || part != XVA_PART_CHUNK || number != 0)
        return unexpected(error, "<disk>/00000000", r->name);
    snprintf(r->id, sizeof(r->id), "%s", id);
    r->in_chunk = r->was_short = false;
    r->at = r->zeros_until = r->chunk_left = r->unit = 0;
    r->size = INT64_MAX;
    r->next_number = 0;
    return 1;
}

void xva_expect_size(struct xva_reader *r, int64_t size)
{
    r->size = size;
}

static int beyond(const struct xva_reader *r, struct xva_error *error)
{
    return fail(error, XVA_BAD, "the data of disk %.40s is longer than its %lld bytes", r->id,
                (long long)r->size);
}

/* Begins the chunk that stands next: 1, or 0 when it belongs to another disk. */
static int begin_chunk(struct xva_reader *r, struct xva_error *error)
{
    char id[XVA_NAME_SIZE];
    uint32_t number;
    enum xva_part part;
    int rc = peek(r, error);
    if (rc <= 0)
        return rc;
    if (!xva_name_parse(r->name, id, &number, &part) || !streq(id, r->id))
        return 0; /* whatever it is, it is looked at as the begin of the next disk */
    if (part != XVA_PART_CHUNK || number < r->next_number) {
        char expected[XVA_NAME_SIZE + 16];
        snprintf(expected, sizeof(expected), "%s/%08u", r->id, r->next_number);
        return unexpected(error, expected, r->name);
    }
    int64_t unit = r->unit ? r->unit : XVA_CHUNK_BYTES;
    if (r->was_short && r->member_size > 0)
        return fail(error, XVA_BAD, "a chunk in the middle of disk %.40s is too short", r->id);
    if ((int64_t)number > r->size / unit + 1)
        return beyond(r, error);
    int64_t begin = (int64_t)number * unit;
    if (begin > r->size || r->member_size > r->size - begin || (r->unit && r->member_size > r->unit))
        return beyond(r, error);
    if (begin < r->at) /* cannot be: numbers rise and chunks have one size */
        return fail(error, XVA_BAD, "the chunks of disk %.40s overlap", r->id);
    if (r->member_size > 0 && !r->unit)
        r->unit = r->member_size;
    else if (r->member_size > 0 && r->member_size < r->unit)
        r->was_short = true;
    r->zeros_until = begin;
    r->chunk_left = r->member_size;
    r->number = number;
    r->next_number = number + 1;
    r->in_chunk = true;
    XXH64_reset(r->xx, 0);
    digester_reset(r->sha1);
    return 1;
}

static void sum_text(struct xva_reader *r, enum xva_part part, char out[static DIGEST_TEXT_SIZE])
{
    unsigned char sum[DIGEST_SIZE];
    if (part == XVA_PART_XXHASH) {
        snprintf(out, DIGEST_TEXT_SIZE, "%016llX", (unsigned long long)XXH64_digest(r->xx));
        return;
    }
    if (!digester_end(r->sha1, sum))
        abort();
    digest_text(DIGEST_SHA1, sum, out);
}

/* The checksum behind a chunk. */
static int check_sum(struct xva_reader *r, struct xva_error *error)
{
    char id[XVA_NAME_SIZE], text[64] = "", sum[DIGEST_TEXT_SIZE], expected[XVA_NAME_SIZE + 24];
    uint32_t number;
    enum xva_part part;
    bool keep_alive = r->member_size == 0;
    r->have = r->in_chunk = false;
    int rc = peek(r, error);
    if (rc < 0)
        return -1;
    if (rc == 0 || !xva_name_parse(r->name, id, &number, &part) || !streq(id, r->id) || number != r->number ||
        part == XVA_PART_CHUNK) {
        if (keep_alive || r->lenient)
            return 0;
        snprintf(expected, sizeof(expected), "%s/%08u.xxhash", r->id, r->number);
        return rc == 0 ? fail(error, XVA_SHORT, "the last checksum is missing")
                       : unexpected(error, expected, r->name);
    }
    if (r->member_size >= (int64_t)sizeof(text))
        return fail(error, XVA_BAD, "a checksum has an impossible length");
    for (int64_t at = 0; at < r->member_size;) {
        ssize_t n = member_read(r, text + at, (size_t)(r->member_size - at), error);
        if (n < 0)
            return -1;
        at += n;
    }
    for (size_t len = strlen(text); len > 0 && isspace((unsigned char)text[len - 1]);)
        text[--len] = '\0';
    r->have = false;
    sum_text(r, part, sum);
    if (strcasecmp(text, sum) != 0 && !r->lenient)
        return fail(error, XVA_CHECKSUM, "the data of %.40s/%08u does not match its checksum", r->id,
                    r->number);
    return 0;
}

static ssize_t read_chunk(struct xva_reader *r, void *to, size_t max, struct xva_error *error)
{
    ssize_t n = member_read(r, to, (int64_t)max < r->chunk_left ? max : (size_t)r->chunk_left, error);
    if (n < 0)
        return -1;
    XXH64_update(r->xx, to, (size_t)n);
    digester_add(r->sha1, to, (size_t)n);
    r->chunk_left -= n;
    r->at += n;
    return n;
}

static ssize_t read_zeros(struct xva_reader *r, void *to, size_t max)
{
    int64_t left = r->zeros_until - r->at;
    size_t n = (int64_t)max < left ? max : (size_t)left;
    memset(to, 0, n);
    r->at += (int64_t)n;
    return (ssize_t)n;
}

ssize_t xva_read_data(struct xva_reader *r, void *to, size_t max, struct xva_error *error)
{
    for (;;) {
        if (r->at < r->zeros_until)
            return read_zeros(r, to, max);
        if (r->in_chunk && r->chunk_left > 0)
            return read_chunk(r, to, max, error);
        if (r->in_chunk && check_sum(r, error) < 0)
            return -1;
        int rc = begin_chunk(r, error);
        if (rc < 0)
            return -1;
        if (rc > 0)
            continue;
        if (r->at < r->size && r->size != INT64_MAX && !r->lenient)
            return fail(error, XVA_SHORT, "the data of disk %.40s ends after %lld of its %lld bytes", r->id,
                        (long long)r->at, (long long)r->size);
        return 0;
    }
}
