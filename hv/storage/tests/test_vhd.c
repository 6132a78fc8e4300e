/* VHD images: both kinds in, out as dynamic ones that QEMU reads, and each refusal. */
#include "../storage_internal.h"
#include "fixture.h"
#include <endian.h>

#define DISK_SIZE (4 * MIB)

static char *make_vhd(struct fixture *f, const char *data, int64_t size, const char *subformat, int64_t *len)
{
    AUTO_FREE char *options = xasprintf("subformat=%s,force_size=on", subformat);
    return convert_data(f, data, size, DISK_VHD, options, len);
}

static int import(struct fixture *f, const char *data, int64_t len)
{
    struct memory_source m = {.data = data, .len = len, .break_at = -1, .piece = 77777};
    struct storage_source source = {memory_read, &m, -1};
    return storage_disk_import(f->sr, UUID_1, DISK_VHD, &source, NULL, &f->error);
}

static char *export(struct fixture *f, enum disk_format format, int64_t *len)
{
    struct memory_sink m = {0};
    struct storage_sink sink = {memory_begin, memory_write, &m};
    cr_assert_eq(storage_disk_export(f->sr, UUID_1, format, &sink, NULL, &f->error), 0, "%s", f->error.text);
    *len = m.len;
    return m.data;
}

static void new_disk(struct fixture *f, enum disk_format format)
{
    int64_t size;
    cr_assert_eq(storage_disk_create(f->sr, UUID_1, DISK_SIZE, format, &size, &f->error), 0, "%s",
                 f->error.text);
}

Test(vhd, fixed_and_dynamic_into_every_disk)
{
    static const char *const subformats[] = {"fixed", "dynamic"};
    static const enum disk_format kept[] = {DISK_RAW, DISK_QCOW2};
    for (size_t i = 0; i < 4; i++) {
        struct fixture f = fixture_open("file");
        new_disk(&f, kept[i / 2]);
        /* A size that no geometry of cylinders gives. */
        int64_t size = DISK_SIZE - 512 * 7, len, back_len;
        AUTO_FREE char *data = test_data(size, 99);
        AUTO_FREE char *image = make_vhd(&f, data, size, subformats[i % 2], &len);
        cr_assert_eq(import(&f, image, len), 0, "%s", f.error.text);
        AUTO_FREE char *back = export(&f, DISK_RAW, &back_len);
        cr_assert_eq(back_len, DISK_SIZE);
        cr_assert_eq(memcmp(back, data, (size_t)size), 0, "%s into %s", subformats[i % 2],
                     disk_format_name(kept[i / 2]));
        cr_assert_eq(count_files(&f), 1);
        fixture_close(&f);
    }
}

Test(vhd, what_goes_out_comes_in)
{
    struct fixture f = fixture_open("file");
    new_disk(&f, DISK_QCOW2);
    int64_t len, vhd_len, back_len;
    AUTO_FREE char *data = test_data(DISK_SIZE, 5);
    AUTO_FREE char *image = make_vhd(&f, data, DISK_SIZE, "dynamic", &len);
    cr_assert_eq(import(&f, image, len), 0, "%s", f.error.text);
    AUTO_FREE char *vhd = export(&f, DISK_VHD, &vhd_len);
    cr_assert_eq(memcmp(vhd, "conectix", 8), 0);
    cr_assert_eq(memcmp(vhd + vhd_len - 512, "conectix", 8), 0);
    /* QEMU agrees on size and content. */
    AUTO_FREE char *path = xasprintf("%s-out", f.dir);
    AUTO_FREE char *raw = xasprintf("%s-out-raw", f.dir);
    put_file(path, vhd, (size_t)vhd_len);
    RUN("qemu-img", "convert", "-f", "vpc", "-O", "raw", path, raw);
    AUTO_FREE char *content = slurp(raw, &back_len);
    cr_assert_eq(back_len, DISK_SIZE);
    cr_assert_eq(memcmp(content, data, (size_t)DISK_SIZE), 0);
    unlink(path);
    unlink(raw);
    fixture_close(&f);
}

static void sum(char *block, size_t len, size_t at)
{
    uint32_t total = 0;
    memset(block + at, 0, 4);
    for (size_t i = 0; i < len; i++)
        total += (unsigned char)block[i];
    total = htobe32(~total);
    memcpy(block + at, &total, 4);
}

/* What a case does to a good dynamic image of 4 MiB. */
static void cut_footer(char *image, int64_t *len)
{
    (void)image;
    *len -= 512;
}
static void cut_middle(char *image, int64_t *len)
{
    memmove(image + *len - MIB - 512, image + *len - 512, 512);
    *len -= MIB;
}
static void everything(char *image, int64_t *len)
{
    (void)image;
    *len = 0;
}
static void checksum(char *image, int64_t *len)
{
    image[*len - 512 + 50] ^= 1;
}
static void both_footers(char *image, int64_t len, size_t at, uint32_t value)
{
    value = htobe32(value);
    memcpy(image + at, &value, 4);
    sum(image, 512, 64);
    memcpy(image + len - 512, image, 512);
}
static void differencing(char *image, int64_t *len)
{
    both_footers(image, *len, 60, 4);
}
static void unknown_type(char *image, int64_t *len)
{
    both_footers(image, *len, 60, 77);
}
static void no_size(char *image, int64_t *len)
{
    memset(image + 48, 0, 8);
    both_footers(image, *len, 60, 3);
}
static void front_differs(char *image, int64_t *len)
{
    (void)len;
    image[30] ^= 1;
    sum(image, 512, 64);
}
static void header_far(char *image, int64_t *len)
{
    memset(image + 16, 0x7f, 8);
    both_footers(image, *len, 60, 3);
}
static void header_sum(char *image, int64_t *len)
{
    (void)len;
    image[512 + 100] ^= 1;
}
static void header_field(char *image, size_t at, uint32_t value)
{
    value = htobe32(value);
    memcpy(image + 512 + at, &value, 4);
    sum(image + 512, 1024, 36);
}
static void table_far(char *image, int64_t *len)
{
    (void)len;
    header_field(image, 20, 0x7fffffff);
}
static void table_short(char *image, int64_t *len)
{
    (void)len;
    header_field(image, 28, 1);
}
static void table_huge(char *image, int64_t *len)
{
    (void)len;
    header_field(image, 28, UINT32_MAX);
}
static void odd_blocks(char *image, int64_t *len)
{
    (void)len;
    header_field(image, 32, 12345);
}
static void block_far(char *image, int64_t *len)
{
    (void)len;
    memset(image + 1536, 0x7f, 4);
}

Test(vhd, what_is_refused)
{
    static const struct {
        const char *name;
        void (*spoil)(char *image, int64_t *len);
    } cases[] = {
        {"no footer", cut_footer},
        {"cut in the middle", cut_middle},
        {"nothing", everything},
        {"checksum", checksum},
        {"differencing", differencing},
        {"unknown type", unknown_type},
        {"size 0", no_size},
        {"front footer", front_differs},
        {"header far away", header_far},
        {"header's checksum", header_sum},
        {"table far away", table_far},
        {"table too short", table_short},
        {"table too long", table_huge},
        {"odd size of blocks", odd_blocks},
        {"block far away", block_far},
    };
    struct fixture f = fixture_open("file");
    new_disk(&f, DISK_QCOW2);
    int64_t good_len;
    AUTO_FREE char *data = test_data(DISK_SIZE, 5);
    AUTO_FREE char *good = make_vhd(&f, data, DISK_SIZE, "dynamic", &good_len);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *image = memcpy(xmalloc((size_t)good_len), good, (size_t)good_len);
        int64_t len = good_len;
        cases[i].spoil(image, &len);
        cr_assert_eq(import(&f, image, len), -1, "%s was accepted", cases[i].name);
        cr_assert_eq(f.error.kind, STORAGE_BAD_IMAGE, "%s: %s", cases[i].name, f.error.text);
        cr_assert_eq(count_files(&f), 1);
    }
    int64_t large_len, fixed_len;
    AUTO_FREE char *more = test_data(DISK_SIZE + 512, 5);
    AUTO_FREE char *large = make_vhd(&f, more, DISK_SIZE + 512, "dynamic", &large_len);
    cr_assert_eq(import(&f, large, large_len), -1);
    cr_assert_eq(f.error.kind, STORAGE_DATA_LONG);
    /* A fixed image is data with a footer behind: all of the data has to be there, and QEMU must not take it
     * for another kind. */
    AUTO_FREE char *fixed = make_vhd(&f, data, DISK_SIZE, "fixed", &fixed_len);
    cr_assert_eq(import(&f, fixed + MIB, fixed_len - MIB), -1);
    cr_assert_eq(f.error.kind, STORAGE_BAD_IMAGE);
    memcpy(fixed, good, 512);
    cr_assert_eq(import(&f, fixed, fixed_len), -1);
    cr_assert_eq(f.error.kind, STORAGE_BAD_IMAGE);
    cr_assert_eq(import(&f, good, good_len), 0, "%s", f.error.text);
    fixture_close(&f);
}
