/* Streams into and out of disks: each refusal leaves the disk as it was and no file behind. */
#include "fixture.h"
#include <signal.h>

#define DISK_SIZE (4 * MIB)

/* A disk with known content. */
static char *make_disk(struct fixture *f, enum disk_format format)
{
    AUTO_FREE char *path = path_in(f, format == DISK_RAW ? UUID_1 ".raw" : UUID_1 ".qcow2");
    AUTO_FREE char *source = xasprintf("%s-source", f->dir);
    char *data = test_data(DISK_SIZE, 7);
    put_file(source, data, (size_t)DISK_SIZE);
    RUN("qemu-img", "convert", "-f", "raw", "-O", format == DISK_RAW ? "raw" : "qcow2", source, path);
    unlink(source);
    return data;
}

static char *read_back(struct fixture *f, enum disk_format format, int64_t *len)
{
    struct memory_sink m = {0};
    struct storage_sink sink = {memory_begin, memory_write, &m};
    cr_assert_eq(storage_disk_export(f->sr, UUID_1, format, &sink, NULL, &f->error), 0, "%s", f->error.text);
    cr_assert_eq(m.len, m.announced);
    *len = m.len;
    return m.data;
}

static int import(struct fixture *f, enum disk_format format, const char *data, int64_t len,
                  int64_t announced, int64_t break_at)
{
    struct memory_source m = {.data = data, .len = len, .break_at = break_at, .piece = 77777};
    struct storage_source source = {memory_read, &m, announced};
    return storage_disk_import(f->sr, UUID_1, format, &source, NULL, &f->error);
}

static void expect_untouched_at(struct fixture *f, const char *data, int result, enum storage_failure kind,
                                int line)
{
    cr_assert_eq(result, -1, "accepted in line %d", line);
    cr_assert_eq(f->error.kind, kind, "%s: %s", storage_failure_name(f->error.kind), f->error.text);
    cr_assert_null(strstr(f->error.text, "/tmp"), "a path shows: %s", f->error.text);
    cr_assert_eq(count_files(f), 1, "something was left behind");
    int64_t len;
    AUTO_FREE char *now = read_back(f, DISK_RAW, &len);
    cr_assert_eq(len, DISK_SIZE);
    cr_assert_eq(memcmp(now, data, (size_t)len), 0, "the disk changed");
}

#define expect_untouched(f, data, result, kind) expect_untouched_at(f, data, result, kind, __LINE__)

/* An image made by qemu-img with these arguments behind "create -f qcow2". */
static char *make_image(struct fixture *f, const char *const *arguments, int64_t *len)
{
    const char *argv[20] = {"qemu-img", "create", "-q", "-f", "qcow2"};
    AUTO_FREE char *path = xasprintf("%s-image", f->dir);
    size_t n = 5;
    for (; arguments[n - 5]; n++)
        argv[n] = streq(arguments[n - 5], "PATH") ? path : arguments[n - 5];
    run_tool(argv);
    char *data = slurp(path, len);
    unlink(path);
    return data;
}
#define IMAGE(f, len, ...) make_image((f), (const char *const[]){__VA_ARGS__, NULL}, (len))

Test(import, every_format_into_every_format)
{
    static const enum disk_format formats[] = {DISK_RAW, DISK_QCOW2};
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < 2; k++) {
            struct fixture f = fixture_open("file");
            free(make_disk(&f, formats[i]));
            AUTO_FREE char *data = test_data(DISK_SIZE, 99);
            AUTO_FREE char *raw = xasprintf("%s-raw", f.dir);
            AUTO_FREE char *image = xasprintf("%s-image", f.dir);
            put_file(raw, data, (size_t)DISK_SIZE);
            RUN("qemu-img", "convert", "-f", "raw", "-O", k ? "qcow2" : "raw", raw, image);
            int64_t len, back_len;
            AUTO_FREE char *upload = slurp(image, &len);
            cr_assert_eq(import(&f, formats[k], upload, len, len, -1), 0, "%s", f.error.text);
            AUTO_FREE char *back = read_back(&f, DISK_RAW, &back_len);
            cr_assert_eq(back_len, DISK_SIZE);
            cr_assert_eq(memcmp(back, data, (size_t)DISK_SIZE), 0);
            struct storage_disk disk;
            cr_assert_eq(storage_disk_stat(f.sr, UUID_1, &disk, &f.error), 0);
            cr_assert(disk.format == formats[i] && disk.virtual_size_bytes == DISK_SIZE);
            /* The runs of zeros take no space. */
            cr_assert(disk.physical_bytes < DISK_SIZE);
            storage_disk_done(&disk);
            cr_assert_eq(count_files(&f), 1);
            unlink(raw);
            unlink(image);
            fixture_close(&f);
        }
    }
}

Test(import, a_smaller_image_leaves_zeros_behind_it)
{
    static const enum disk_format formats[] = {DISK_RAW, DISK_QCOW2};
    for (size_t i = 0; i < 2; i++) {
        struct fixture f = fixture_open("file");
        free(make_disk(&f, formats[i]));
        AUTO_FREE char *data = test_data(MIB + 777, 5);
        int64_t len;
        cr_assert_eq(import(&f, DISK_RAW, data, MIB + 777, -1, -1), 0, "%s", f.error.text);
        AUTO_FREE char *back = read_back(&f, DISK_RAW, &len);
        cr_assert_eq(len, DISK_SIZE);
        cr_assert_eq(memcmp(back, data, (size_t)MIB + 777), 0);
        for (int64_t at = MIB + 777; at < len; at++)
            cr_assert_eq(back[at], 0);
        int64_t image_len;
        AUTO_FREE char *image = IMAGE(&f, &image_len, "PATH", "1M");
        cr_assert_eq(import(&f, DISK_QCOW2, image, image_len, image_len, -1), 0, "%s", f.error.text);
        AUTO_FREE char *zeros = read_back(&f, DISK_RAW, &len);
        cr_assert_eq(len, DISK_SIZE);
        for (int64_t at = 0; at < len; at++)
            cr_assert_eq(zeros[at], 0);
        fixture_close(&f);
    }
}

Test(import, data_of_a_wrong_length)
{
    struct fixture f = fixture_open("file");
    AUTO_FREE char *data = make_disk(&f, DISK_RAW);
    AUTO_FREE char *more = test_data(DISK_SIZE + 10, 3);
    expect_untouched(&f, data, import(&f, DISK_RAW, more, MIB, 2 * MIB, -1), STORAGE_DATA_SHORT);
    expect_untouched(&f, data, import(&f, DISK_RAW, more, 2 * MIB, MIB, -1), STORAGE_DATA_SHORT);
    expect_untouched(&f, data, import(&f, DISK_RAW, more, DISK_SIZE + 1, -1, -1), STORAGE_DATA_LONG);
    expect_untouched(&f, data, import(&f, DISK_RAW, more, DISK_SIZE + 1, DISK_SIZE + 1, -1),
                     STORAGE_DATA_LONG);
    expect_untouched(&f, data, import(&f, DISK_RAW, more, DISK_SIZE, DISK_SIZE, 2 * MIB), STORAGE_DATA_SHORT);
    expect_untouched(&f, data, import(&f, DISK_QCOW2, more, DISK_SIZE, 2 * MIB, MIB), STORAGE_DATA_SHORT);
    expect_untouched(&f, data, import(&f, DISK_QCOW2, more, MIB, INT64_C(1) << 40, -1), STORAGE_DATA_LONG);
    fixture_close(&f);
}

Test(import, images_that_are_refused)
{
    struct fixture f = fixture_open("file");
    AUTO_FREE char *data = make_disk(&f, DISK_QCOW2);
    AUTO_FREE char *raw = test_data(MIB, 3);
    int64_t backing_len, data_file_len, large_len, encrypted_len, whole_len;
    AUTO_FREE char *backing = IMAGE(&f, &backing_len, "-u", "-b", "/etc/passwd", "-F", "raw", "PATH", "1M");
    AUTO_FREE char *outside = xasprintf("%s-data", f.dir);
    AUTO_FREE char *option = xasprintf("data_file=%s,data_file_raw=on", outside);
    AUTO_FREE char *data_file = IMAGE(&f, &data_file_len, "-o", option, "PATH", "1M");
    AUTO_FREE char *large = IMAGE(&f, &large_len, "PATH", "5M");
    AUTO_FREE char *encrypted = IMAGE(&f, &encrypted_len, "--object", "secret,id=s,data=abcdefgh", "-o",
                                      "encrypt.format=aes,encrypt.key-secret=s", "PATH", "1M");
    AUTO_FREE char *whole = IMAGE(&f, &whole_len, "PATH", "1M");
    unlink(outside);
    expect_untouched(&f, data, import(&f, DISK_QCOW2, raw, MIB, MIB, -1), STORAGE_BAD_IMAGE);
    expect_untouched(&f, data, import(&f, DISK_QCOW2, "", 0, 0, -1), STORAGE_BAD_IMAGE);
    expect_untouched(&f, data, import(&f, DISK_QCOW2, backing, backing_len, -1, -1), STORAGE_BAD_IMAGE);
    expect_untouched(&f, data, import(&f, DISK_QCOW2, data_file, data_file_len, -1, -1), STORAGE_BAD_IMAGE);
    expect_untouched(&f, data, import(&f, DISK_QCOW2, encrypted, encrypted_len, -1, -1), STORAGE_BAD_IMAGE);
    expect_untouched(&f, data, import(&f, DISK_QCOW2, large, large_len, -1, -1), STORAGE_DATA_LONG);
    /* A head alone, and a head whose tables point to nowhere. */
    expect_untouched(&f, data, import(&f, DISK_QCOW2, whole, 200, 200, -1), STORAGE_BAD_IMAGE);
    memset(whole + 40, 0x7f, 8); /* l1_table_offset */
    expect_untouched(&f, data, import(&f, DISK_QCOW2, whole, whole_len, whole_len, -1), STORAGE_BAD_IMAGE);
    whole[79] |= 0x40; /* an incompatible feature nobody knows */
    expect_untouched(&f, data, import(&f, DISK_QCOW2, whole, whole_len, whole_len, -1), STORAGE_BAD_IMAGE);
    /* The same bytes claimed as raw are just bytes. */
    cr_assert_eq(import(&f, DISK_RAW, backing, backing_len, backing_len, -1), 0, "%s", f.error.text);
    int64_t len;
    AUTO_FREE char *back = read_back(&f, DISK_RAW, &len);
    cr_assert_eq(memcmp(back, backing, (size_t)backing_len), 0);
    fixture_close(&f);
}

Test(import, a_truncated_image)
{
    struct fixture f = fixture_open("file");
    AUTO_FREE char *data = make_disk(&f, DISK_RAW);
    AUTO_FREE char *raw = xasprintf("%s-raw", f.dir);
    AUTO_FREE char *image = xasprintf("%s-image", f.dir);
    AUTO_FREE char *content = test_data(DISK_SIZE, 42);
    put_file(raw, content, (size_t)DISK_SIZE);
    RUN("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image);
    int64_t len;
    AUTO_FREE char *upload = slurp(image, &len);
    unlink(raw);
    unlink(image);
    expect_untouched(&f, data, import(&f, DISK_QCOW2, upload, len / 2, len / 2, -1), STORAGE_BAD_IMAGE);
    fixture_close(&f);
}

Test(import, cancelled)
{
    struct fixture f = fixture_open("file");
    AUTO_FREE char *data = make_disk(&f, DISK_RAW);
    AUTO_FREE char *more = test_data(DISK_SIZE, 3);
    _Atomic bool cancel = true;
    struct storage_job job = {.cancel = &cancel};
    struct memory_source m = {.data = more, .len = DISK_SIZE, .break_at = -1, .piece = 65536};
    struct storage_source source = {memory_read, &m, DISK_SIZE};
    expect_untouched(&f, data, storage_disk_import(f.sr, UUID_1, DISK_RAW, &source, &job, &f.error),
                     STORAGE_CANCELLED);
    fixture_close(&f);
}

/* A full file system: a small tmpfs in a mount namespace of this test's own process. */
Test(import, a_full_disk_leaves_nothing)
{
    if (geteuid() != 0)
        cr_skip_test("needs root to mount a small tmpfs");
    struct fixture f = fixture_open("file");
    storage_sr_detach(f.sr);
    cr_assert_eq(unshare(CLONE_NEWNS), 0);
    cr_assert_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    cr_assert_eq(mount("tmpfs", f.dir, "tmpfs", 0, "size=6m,mode=0700"), 0);
    fixture_attach(&f, "file");
    AUTO_FREE char *full = xmalloc((size_t)DISK_SIZE);
    memset(full, 'f', (size_t)DISK_SIZE);
    int64_t size, len;
    /* As raw: the second copy does not fit beside the first. */
    cr_assert_eq(storage_disk_create(f.sr, UUID_1, DISK_SIZE, DISK_RAW, &size, &f.error), 0);
    cr_assert_eq(import(&f, DISK_RAW, full, DISK_SIZE, DISK_SIZE, -1), 0, "%s", f.error.text);
    AUTO_FREE char *other = test_data(DISK_SIZE, 1);
    memset(other, 'o', (size_t)DISK_SIZE);
    cr_assert_eq(import(&f, DISK_RAW, other, DISK_SIZE, DISK_SIZE, -1), -1);
    cr_assert_eq(f.error.kind, STORAGE_FULL, "%s", f.error.text);
    cr_assert_eq(count_files(&f), 1);
    AUTO_FREE char *back = read_back(&f, DISK_RAW, &len);
    cr_assert_eq(memcmp(back, full, (size_t)len), 0);
    /* With a conversion: the spooled file fits, the converted one does not. */
    cr_assert_eq(storage_disk_destroy(f.sr, UUID_1, &f.error), 0);
    cr_assert_eq(storage_disk_create(f.sr, UUID_1, DISK_SIZE, DISK_QCOW2, &size, &f.error), 0);
    cr_assert_eq(import(&f, DISK_RAW, other, DISK_SIZE, DISK_SIZE, -1), -1);
    cr_assert_eq(f.error.kind, STORAGE_FULL, "%s", f.error.text);
    cr_assert_eq(count_files(&f), 1);
    storage_sr_detach(f.sr);
    umount(f.dir);
    fixture_attach(&f, "file");
    fixture_close(&f);
}

Test(import, a_file_size_limit_counts_as_full)
{
    struct fixture f = fixture_open("file");
    AUTO_FREE char *data = make_disk(&f, DISK_RAW);
    AUTO_FREE char *more = test_data(DISK_SIZE, 3);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {(rlim_t)MIB, (rlim_t)MIB};
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    expect_untouched(&f, data, import(&f, DISK_RAW, more, DISK_SIZE, DISK_SIZE, -1), STORAGE_FULL);
    fixture_close(&f);
}

Test(export, a_qcow2_image_comes_back_whole)
{
    struct fixture f = fixture_open("file");
    free(make_disk(&f, DISK_RAW));
    AUTO_FREE char *image = xasprintf("%s-image", f.dir);
    int64_t len;
    AUTO_FREE char *sent = read_back(&f, DISK_QCOW2, &len);
    put_file(image, sent, (size_t)len);
    AUTO_FREE char *path = path_in(&f, UUID_1 ".raw");
    RUN("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", path, image);
    unlink(image);
    cr_assert_eq(count_files(&f), 1);
    fixture_close(&f);
}

Test(export, a_receiver_that_gives_up)
{
    struct fixture f = fixture_open("file");
    free(make_disk(&f, DISK_QCOW2));
    struct memory_sink m = {.give_up_at = MIB};
    struct storage_sink sink = {memory_begin, memory_write, &m};
    cr_assert_eq(storage_disk_export(f.sr, UUID_1, DISK_RAW, &sink, NULL, &f.error), -1);
    cr_assert_eq(f.error.kind, STORAGE_CANCELLED);
    cr_assert_eq(count_files(&f), 1);
    free(m.data);
    fixture_close(&f);
}
