/* VMDK images: both kinds of a single file come in, and each refusal leaves the disk as it was. */
#include "../storage_internal.h"
#include "fixture.h"

#define DISK_SIZE (4 * MIB)
#define TEXT_AT 512

static char *make_vmdk(struct fixture *f, const char *data, int64_t size, const char *subformat, int64_t *len)
{
    AUTO_FREE char *options = xasprintf("subformat=%s", subformat);
    return convert_data(f, data, size, DISK_VMDK, options, len);
}

/* As writers of streams do that cannot go back: the header that tells of the tables is at the end. */
static char *with_footer(const char *image, int64_t *len)
{
    char *made = xcalloc(1, (size_t)*len + 1536), *footer = made + *len;
    memcpy(made, image, (size_t)*len);
    footer[0] = 1;
    footer[12] = 3;
    memcpy(footer + 512, image, 512);
    memset(made + 56, 0xff, 8);
    *len += 1536;
    return made;
}

static int import(struct fixture *f, const char *data, int64_t len)
{
    struct memory_source m = {.data = data, .len = len, .break_at = -1, .piece = 77777};
    struct storage_source source = {memory_read, &m, -1};
    return storage_disk_import(f->sr, UUID_1, DISK_VMDK, &source, NULL, &f->error);
}

static char *content(struct fixture *f, int64_t *len)
{
    struct memory_sink m = {0};
    struct storage_sink sink = {memory_begin, memory_write, &m};
    cr_assert_eq(storage_disk_export(f->sr, UUID_1, DISK_RAW, &sink, NULL, &f->error), 0, "%s",
                 f->error.text);
    *len = m.len;
    return m.data;
}

static void new_disk(struct fixture *f, enum disk_format format)
{
    int64_t size;
    cr_assert_eq(storage_disk_create(f->sr, UUID_1, DISK_SIZE, format, &size, &f->error), 0, "%s",
                 f->error.text);
}

Test(vmdk, every_kind_into_every_disk)
{
    static const char *const subformats[] = {"monolithicSparse", "streamOptimized", "streamOptimized"};
    static const enum disk_format kept[] = {DISK_RAW, DISK_QCOW2};
    for (size_t i = 0; i < 6; i++) {
        struct fixture f = fixture_open("file");
        int64_t len, back_len, size = i % 2 ? DISK_SIZE : DISK_SIZE - MIB;
        AUTO_FREE char *data = test_data(size, 11);
        AUTO_FREE char *image = make_vmdk(&f, data, size, subformats[i / 2], &len);
        if (i >= 4) {
            char *whole = with_footer(image, &len);
            free(image);
            image = whole;
        }
        new_disk(&f, kept[i % 2]);
        cr_assert_eq(import(&f, image, len), 0, "%s", f.error.text);
        AUTO_FREE char *back = content(&f, &back_len);
        cr_assert_eq(back_len, DISK_SIZE);
        cr_assert_eq(memcmp(back, data, (size_t)size), 0);
        for (int64_t at = size; at < back_len; at++)
            cr_assert_eq(back[at], 0);
        cr_assert_eq(count_files(&f), 1);
        fixture_close(&f);
    }
}

static void expect_refused(struct fixture *f, const char *what, const char *data, int64_t len,
                           enum storage_failure kind)
{
    cr_expect_eq(import(f, data, len), -1, "accepted: %s", what);
    cr_expect_eq(f->error.kind, kind, "%s: %s", what, f->error.text);
    cr_expect_null(strstr(f->error.text, "/tmp"), "%s: a path shows: %s", what, f->error.text);
    cr_expect_eq(count_files(f), 1, "%s: something was left behind", what);
    int64_t back_len;
    AUTO_FREE char *back = content(f, &back_len);
    for (int64_t at = 0; at < back_len; at++)
        cr_assert_eq(back[at], 0, "%s: the disk changed", what);
}

/* Puts `to` in the place of `from` in the description; the same length. */
static void reword(char *image, const char *from, const char *to)
{
    char *at = memmem(image + TEXT_AT, 20 * 512, from, strlen(from));
    cr_assert(at && strlen(from) == strlen(to), "%s", from);
    memcpy(at, to, strlen(to));
}

Test(vmdk, images_that_are_refused)
{
    static const struct {
        const char *what, *subformat;
        size_t at, count; /* these bytes of the image get the value */
        int value;
        const char *from, *to; /* or these words */
    } rows[] = {
        {"no magic", "monolithicSparse", 0, 1, 'X', NULL, NULL},
        {"an unknown version", "monolithicSparse", 4, 1, 9, NULL, NULL},
        {"a list of files: no capacity", "monolithicSparse", 12, 8, 0, NULL, NULL},
        {"an impossible capacity", "monolithicSparse", 12, 8, 0x7f, NULL, NULL},
        {"parts of 0 bytes", "monolithicSparse", 20, 8, 0, NULL, NULL},
        {"parts of an odd size", "monolithicSparse", 20, 1, 3, NULL, NULL},
        {"its description elsewhere", "monolithicSparse", 28, 1, 2, NULL, NULL},
        {"an unknown compression", "streamOptimized", 77, 1, 7, NULL, NULL},
        {"tables behind its end", "monolithicSparse", 58, 2, 0x7f, NULL, NULL},
        {"a parent", "monolithicSparse", 0, 0, 0, "parentCID=ffffffff", "parentCID=12345678"},
        {"a parent's name", "monolithicSparse", 0, 0, 0, "# The Disk Data Base", "parentFileNameHint=\""},
        {"a list of files by name", "monolithicSparse", 0, 0, 0, "\"monolithicSparse\"",
         "\"twoGbMaxExtentSp\""},
    };
    struct fixture f = fixture_open("file");
    new_disk(&f, DISK_QCOW2);
    AUTO_FREE char *data = test_data(MIB, 3);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t len;
        AUTO_FREE char *image = make_vmdk(&f, data, MIB, rows[i].subformat, &len);
        memset(image + rows[i].at, rows[i].value, rows[i].count);
        if (rows[i].from)
            reword(image, rows[i].from, rows[i].to);
        expect_refused(&f, rows[i].what, image, len, STORAGE_BAD_IMAGE);
    }
    int64_t len, large_len;
    AUTO_FREE char *stream = make_vmdk(&f, data, MIB, "streamOptimized", &len);
    expect_refused(&f, "half", stream, len / 2, STORAGE_BAD_IMAGE);
    expect_refused(&f, "a head alone", stream, 512, STORAGE_BAD_IMAGE);
    expect_refused(&f, "nothing", stream, 0, STORAGE_BAD_IMAGE);
    AUTO_FREE char *footed = with_footer(stream, &len);
    expect_refused(&f, "cut short", footed, len - 512, STORAGE_BAD_IMAGE);
    footed[len - 1024 + 12] ^= 1;
    expect_refused(&f, "an end of another disk", footed, len, STORAGE_BAD_IMAGE);
    AUTO_FREE char *more = test_data(DISK_SIZE + MIB, 3);
    AUTO_FREE char *large = make_vmdk(&f, more, DISK_SIZE + MIB, "streamOptimized", &large_len);
    expect_refused(&f, "a larger disk", large, large_len, STORAGE_DATA_LONG);
    static const char list[] =
        "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n"
        "RW 2048 FLAT \"/etc/passwd\" 0\n";
    expect_refused(&f, "a description alone", list, sizeof(list), STORAGE_BAD_IMAGE);
    fixture_close(&f);
}
