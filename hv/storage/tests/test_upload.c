/* Uploads in parts: what counts after each way to break off, and what a finish makes of them. */
#include "fixture.h"
#include <base/secret.h>
#include <time.h>

#define DISK_SIZE (4 * MIB)
#define UPLOAD "cccccccc-2222-4333-8444-555555555555"

static struct fixture open_with_disk(enum disk_format format)
{
    struct fixture f = fixture_open("file");
    int64_t made;
    cr_assert_eq(storage_disk_create(f.sr, UUID_1, DISK_SIZE, format, &made, &f.error), 0, "%s",
                 f.error.text);
    return f;
}

static struct storage_upload upload_of(int64_t length)
{
    return (struct storage_upload){.uuid = UPLOAD, .length = length};
}

/* Bytes data[from..from+len), of a stream that breaks at break_at (-1: it does not). */
static int put(struct fixture *f, int64_t length, const char *data, int64_t from, int64_t len,
               int64_t break_at, bool whole, int64_t *offset)
{
    struct memory_source m = {.data = data + from, .len = len, .break_at = break_at, .piece = 77777};
    struct storage_source source = {memory_read, &m, len};
    struct storage_upload upload = upload_of(length);
    return storage_upload_write(f->sr, &upload, from, whole, &source, NULL, offset, &f->error);
}

static int64_t look(struct fixture *f, int64_t length)
{
    int64_t offset;
    struct storage_upload upload = upload_of(length);
    if (storage_upload_look(f->sr, &upload, &offset, &f->error) == 0)
        return offset;
    cr_assert_eq(f->error.kind, STORAGE_NO_DISK, "%s", f->error.text);
    return -1;
}

static int finish(struct fixture *f, int64_t length, enum disk_format format, const char *sha256)
{
    struct storage_upload upload = upload_of(length);
    return storage_upload_finish(f->sr, &upload, UUID_1, format, sha256, NULL, &f->error);
}

static char *content(struct fixture *f, int64_t from, int64_t len)
{
    struct memory_sink m = {0};
    struct storage_sink sink = {memory_begin, memory_write, &m};
    cr_assert_eq(storage_disk_export_part(f->sr, UUID_1, from, len, &sink, NULL, &f->error), 0, "%s",
                 f->error.text);
    cr_assert_eq(m.len, m.announced);
    return m.data;
}

static void expect_content(struct fixture *f, const char *data, int64_t len)
{
    AUTO_FREE char *now = content(f, 0, -1);
    cr_assert_eq(memcmp(now, data, (size_t)len), 0);
    for (int64_t i = len; i < DISK_SIZE; i++)
        cr_assert_eq(now[i], 0, "byte %lld", (long long)i);
}

Test(upload, goes_on_where_it_broke)
{
    static const enum disk_format formats[] = {DISK_RAW, DISK_QCOW2};
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        struct fixture f = open_with_disk(formats[i]);
        const int64_t length = 3 * MIB + 700;
        AUTO_FREE char *data = test_data(length, 9);
        AUTO_FREE char *wrong = test_data(length, 10);
        char digest[SHA256_TEXT_SIZE];
        int64_t offset;
        memset(data + MIB, 0, (size_t)MIB / 2);
        cr_assert_eq(look(&f, length), -1);
        cr_assert_eq(put(&f, length, data, 0, length, MIB + 5, false, &offset), -1);
        cr_assert_eq(offset, look(&f, length));
        cr_assert(offset > 0 && offset <= MIB + 5, "%lld", (long long)offset);
        /* What was to count as a whole or not at all leaves no trace, not even under zeros. */
        int64_t before = offset;
        cr_assert_eq(put(&f, length, wrong, before, length - before, MIB, true, &offset), -1);
        cr_assert_eq(offset, before);
        cr_assert_eq(put(&f, length, data, before + 1, 10, -1, false, &offset), -1);
        cr_assert_eq(f.error.kind, STORAGE_BAD_SIZE);
        cr_assert_eq(finish(&f, length, DISK_RAW, ""), -1);
        cr_assert_eq(f.error.kind, STORAGE_DATA_SHORT);
        /* An agent that starts anew knows it. */
        storage_sr_detach(f.sr);
        fixture_attach(&f, "file");
        cr_assert_eq(look(&f, length), before);
        cr_assert_eq(put(&f, length, data, before, length - before, -1, false, &offset), 0, "%s",
                     f.error.text);
        cr_assert_eq(offset, length);
        cr_assert_eq(put(&f, length, data, length, 0, -1, false, &offset), 0);
        struct storage_disks disks AUTO_STORAGE_DISKS = {0};
        cr_assert_eq(storage_sr_scan(f.sr, &disks, &f.error), 0);
        cr_assert_eq(disks.count, 1, "an upload is no disk");
        sha256_text(wrong, (size_t)length, digest);
        cr_assert_eq(finish(&f, length, DISK_RAW, digest), -1);
        cr_assert_eq(f.error.kind, STORAGE_BAD_IMAGE);
        cr_assert_eq(look(&f, length), length);
        sha256_text(data, (size_t)length, digest);
        cr_assert_eq(finish(&f, length, DISK_RAW, digest), 0, "%s", f.error.text);
        expect_content(&f, data, length);
        cr_assert_eq(look(&f, length), -1);
        cr_assert_eq(count_files(&f), 1);
        fixture_close(&f);
    }
}

Test(upload, an_image_that_is_refused_leaves_disk_and_upload)
{
    struct fixture f = open_with_disk(DISK_QCOW2);
    AUTO_FREE char *data = test_data(MIB, 3);
    int64_t offset;
    cr_assert_eq(put(&f, MIB, data, 0, MIB, -1, true, &offset), 0, "%s", f.error.text);
    cr_assert_eq(finish(&f, MIB, DISK_QCOW2, ""), -1);
    cr_assert_eq(f.error.kind, STORAGE_BAD_IMAGE, "%s", f.error.text);
    cr_assert_eq(finish(&f, MIB, DISK_VHD, ""), -1);
    cr_assert_eq(f.error.kind, STORAGE_BAD_IMAGE, "%s", f.error.text);
    cr_assert_eq(look(&f, MIB), MIB);
    expect_content(&f, data, 0);
    cr_assert_eq(finish(&f, MIB, DISK_RAW, ""), 0, "%s", f.error.text);
    expect_content(&f, data, MIB);
    fixture_close(&f);
}

Test(upload, bounds)
{
    struct fixture f = open_with_disk(DISK_RAW);
    AUTO_FREE char *data = test_data(DISK_SIZE + 1, 3);
    int64_t offset;
    static const int64_t bad[] = {0, -1, (INT64_C(64) << 40) + 1};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_assert_eq(put(&f, bad[i], data, 0, 1, -1, false, &offset), -1);
    cr_assert_eq(put(&f, 100, data, 0, 101, -1, false, &offset), -1);
    cr_assert_eq(f.error.kind, STORAGE_DATA_LONG);
    cr_assert_eq(offset, 0);
    cr_assert_eq(storage_disk_destroy(f.sr, UPLOAD, &f.error), 0, "%s", f.error.text);
    cr_assert_eq(put(&f, DISK_SIZE + 1, data, 0, DISK_SIZE + 1, -1, false, &offset), 0);
    cr_assert_eq(finish(&f, DISK_SIZE + 1, DISK_RAW, ""), -1);
    cr_assert_eq(f.error.kind, STORAGE_DATA_LONG);
    cr_assert_eq(storage_disk_destroy(f.sr, UPLOAD, &f.error), 0, "%s", f.error.text);
    cr_assert_eq(count_files(&f), 1);
    fixture_close(&f);
}

Test(upload, one_that_nobody_writes_for_a_week_goes)
{
    struct fixture f = open_with_disk(DISK_RAW);
    AUTO_FREE char *data = test_data(1000, 3);
    AUTO_FREE char *path = path_in(&f, "upload-" UPLOAD);
    int64_t offset;
    cr_assert_eq(put(&f, 1000, data, 0, 500, -1, false, &offset), 0, "%s", f.error.text);
    static const int days[] = {6, 8};
    for (size_t i = 0; i < ARRAY_LEN(days); i++) {
        struct timespec times[2] = {{.tv_sec = time(NULL) - (time_t)days[i] * 24 * 3600}};
        times[1] = times[0];
        cr_assert_eq(utimensat(AT_FDCWD, path, times, 0), 0);
        storage_sr_detach(f.sr);
        fixture_attach(&f, "file");
        cr_assert_eq(look(&f, 1000), days[i] < 7 ? 500 : -1);
    }
    fixture_close(&f);
}

/* Parts of a disk, and a version that tells whether they are of the same content. */
Test(upload, parts_of_a_disk)
{
    static const enum disk_format formats[] = {DISK_RAW, DISK_QCOW2};
    static const int64_t parts[][2] = {{0, DISK_SIZE}, {1, 1},      {511, 2},           {MIB + 3, 2 * MIB},
                                       {DISK_SIZE, 0}, {4096, 512}, {DISK_SIZE - 1, 1}, {7, DISK_SIZE - 7}};
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        struct fixture f = open_with_disk(formats[i]);
        AUTO_FREE char *data = test_data(DISK_SIZE, 20);
        struct storage_disk first, second;
        int64_t offset;
        cr_assert_eq(storage_disk_stat(f.sr, UUID_1, &first, &f.error), 0);
        cr_assert_eq(put(&f, DISK_SIZE, data, 0, DISK_SIZE, -1, false, &offset), 0);
        cr_assert_eq(finish(&f, DISK_SIZE, DISK_RAW, ""), 0);
        cr_assert_eq(storage_disk_stat(f.sr, UUID_1, &second, &f.error), 0);
        cr_assert_str_neq(first.version, second.version);
        storage_disk_done(&first);
        storage_disk_done(&second);
        for (size_t k = 0; k < ARRAY_LEN(parts); k++) {
            AUTO_FREE char *part = content(&f, parts[k][0], parts[k][1]);
            cr_assert_eq(memcmp(part, data + parts[k][0], (size_t)parts[k][1]), 0, "part %zu", k);
        }
        struct storage_sink sink = {memory_begin, memory_write, &(struct memory_sink){0}};
        cr_assert_eq(storage_disk_export_part(f.sr, UUID_1, 1, DISK_SIZE, &sink, NULL, &f.error), -1);
        cr_assert_eq(f.error.kind, STORAGE_BAD_SIZE);
        fixture_close(&f);
    }
}
