/* Repositories and disks without streams: names, links, sizes, refusals, leftovers. */
#include "../storage_internal.h"
#include "fixture.h"
#include <base/confine.h>
#include <signal.h>
#include <sys/file.h>

static void expect(struct fixture *f, int result, enum storage_failure kind)
{
    cr_assert_eq(result, -1);
    cr_assert_eq(f->error.kind, kind, "%s: %s", storage_failure_name(f->error.kind), f->error.text);
    cr_assert_null(strstr(f->error.text, f->dir), "the folder's path shows: %s", f->error.text);
}

Test(sr, configuration_is_checked)
{
    static const char *const bad[] = {"", "relative/path", "/", "/tmp/../etc", "..", "/a/..", "/tmp/a\nb"};
    struct storage_error error;
    struct storage_sr *sr;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_STR_MAP const struct str_map *config = config_for(bad[i]);
        cr_assert_eq(storage_sr_attach("file", config, &sr, &error), -1, "%s", bad[i]);
        cr_assert_eq(error.kind, STORAGE_BAD_CONFIG);
    }
    cr_assert_eq(storage_sr_attach("file", NULL, &sr, &error), -1);
    cr_assert_eq(error.kind, STORAGE_BAD_CONFIG);
    AUTO_STR_MAP const struct str_map *fine = config_for("/tmp");
    cr_assert_eq(storage_sr_attach("lvm", fine, &sr, &error), -1);
    cr_assert_eq(error.kind, STORAGE_NOT_SUPPORTED);
}

Test(sr, the_folder_is_checked)
{
    struct fixture f = fixture_open("file");
    struct storage_sr *sr;
    AUTO_FREE char *missing = path_in(&f, "missing");
    AUTO_FREE char *plain = path_in(&f, "plain");
    AUTO_STR_MAP const struct str_map *missing_config = config_for(missing);
    AUTO_STR_MAP const struct str_map *plain_config = config_for(plain);
    put_file(plain, "x", 1);
    expect(&f, storage_sr_attach("file", missing_config, &sr, &f.error), STORAGE_UNAVAILABLE);
    expect(&f, storage_sr_attach("file", plain_config, &sr, &f.error), STORAGE_UNAVAILABLE);
    chmod(f.dir, 0777);
    expect(&f, storage_sr_attach("file", f.config, &sr, &f.error), STORAGE_UNAVAILABLE);
    chmod(f.dir, 0700);
    if (geteuid() == 0) {
        cr_assert_eq(chown(f.dir, 12345, 12345), 0);
        expect(&f, storage_sr_attach("file", f.config, &sr, &f.error), STORAGE_UNAVAILABLE);
    }
    fixture_close(&f);
}

Test(sr, create_and_destroy)
{
    struct fixture f = fixture_open("file");
    AUTO_FREE char *dir = path_in(&f, "new");
    AUTO_STR_MAP const struct str_map *config = config_for(dir);
    struct stat st;
    cr_assert_eq(storage_sr_create("file", config, &f.error), 0, "%s", f.error.text);
    cr_assert_eq(stat(dir, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0700);
    struct storage_sr *sr;
    int64_t size;
    cr_assert_eq(storage_sr_attach("file", config, &sr, &f.error), 0);
    cr_assert_eq(storage_disk_create(sr, UUID_1, MIB, DISK_RAW, &size, &f.error), 0);
    expect(&f, storage_sr_create("file", config, &f.error), STORAGE_EXISTS);
    expect(&f, storage_sr_destroy("file", config, &f.error), STORAGE_EXISTS);
    cr_assert_eq(storage_disk_destroy(sr, UUID_1, &f.error), 0);
    storage_sr_detach(sr);
    cr_assert_eq(storage_sr_destroy("file", config, &f.error), 0);
    cr_assert_eq(stat(dir, &st), -1);
    expect(&f, storage_sr_create("iso", config, &f.error), STORAGE_UNAVAILABLE);
    fixture_close(&f);
}

Test(sr, leftovers_go_unless_somebody_works_on_them)
{
    struct fixture f = fixture_open("file");
    AUTO_FREE char *dead = path_in(&f, ".corral-tmp-dead");
    AUTO_FREE char *live = path_in(&f, ".corral-tmp-live");
    AUTO_FREE char *other = path_in(&f, ".other");
    put_file(dead, "x", 1);
    put_file(live, "x", 1);
    put_file(other, "x", 1);
    AUTO_CLOSE int held = open(live, O_RDONLY | O_CLOEXEC);
    cr_assert_eq(flock(held, LOCK_EX), 0);
    storage_sr_detach(f.sr);
    fixture_attach(&f, "file");
    cr_assert_eq(access(dead, F_OK), -1);
    cr_assert_eq(access(live, F_OK), 0);
    cr_assert_eq(access(other, F_OK), 0);
    fixture_close(&f);
}

Test(sr, scan_lists_disks_and_nothing_else)
{
    struct fixture f = fixture_open("file");
    int64_t size;
    cr_assert_eq(storage_disk_create(f.sr, UUID_2, 5 * MIB, DISK_QCOW2, &size, &f.error), 0, "%s",
                 f.error.text);
    cr_assert_eq(storage_disk_create(f.sr, UUID_1, MIB, DISK_RAW, &size, &f.error), 0);
    static const char *const others[] = {"readme.txt", "11111111-2222-4333-8444-555555555556.vmdk", "x.raw",
                                         "AAAAAAAA-2222-4333-8444-555555555555.raw",
                                         "33333333-2222-4333-8444-555555555555.qcow2"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        AUTO_FREE char *path = path_in(&f, others[i]);
        put_file(path, "not an image", 12);
    }
    AUTO_FREE char *link = path_in(&f, "44444444-2222-4333-8444-555555555555.raw");
    AUTO_FREE char *folder = path_in(&f, "55555555-2222-4333-8444-555555555555.raw");
    AUTO_FREE char *fifo = path_in(&f, "66666666-2222-4333-8444-555555555555.raw");
    cr_assert_eq(symlink("/etc/passwd", link), 0);
    cr_assert_eq(mkdir(folder, 0700), 0);
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    AUTO_STORAGE_DISKS struct storage_disks disks = {0};
    cr_assert_eq(storage_sr_scan(f.sr, &disks, &f.error), 0);
    cr_assert_eq(disks.count, 2);
    cr_assert_str_eq(disks.items[0].location, UUID_1);
    cr_assert(disks.items[0].format == DISK_RAW && disks.items[0].virtual_size_bytes == MIB);
    cr_assert_str_eq(disks.items[1].location, UUID_2);
    cr_assert(disks.items[1].format == DISK_QCOW2 && disks.items[1].virtual_size_bytes == 5 * MIB);
    cr_assert(disks.items[1].physical_bytes > 0 && disks.items[1].physical_bytes < MIB);
    struct storage_stats stats;
    cr_assert_eq(storage_sr_stats(f.sr, &stats, &f.error), 0);
    cr_assert(stats.physical_size_bytes > stats.physical_used_bytes && stats.physical_used_bytes > 0);
    rmdir(folder);
    fixture_close(&f);
}

Test(sr, iso_library)
{
    struct fixture f = fixture_open("iso");
    AUTO_FREE char *iso = path_in(&f, "debian 12.iso");
    AUTO_FREE char *upper = path_in(&f, "UPPER.ISO");
    AUTO_FREE char *text = path_in(&f, "notes.txt");
    AUTO_FREE char *link = path_in(&f, "link.iso");
    put_file(iso, "12345", 5);
    put_file(upper, "1234567", 7);
    put_file(text, "x", 1);
    cr_assert_eq(symlink("/etc/passwd", link), 0);
    AUTO_STORAGE_DISKS struct storage_disks disks = {0};
    cr_assert_eq(storage_sr_scan(f.sr, &disks, &f.error), 0);
    cr_assert_eq(disks.count, 2);
    cr_assert_str_eq(disks.items[1].location, "debian 12.iso");
    cr_assert(disks.items[1].read_only && disks.items[1].virtual_size_bytes == 5);
    int fd;
    enum disk_format format;
    cr_assert_eq(storage_disk_open(f.sr, "debian 12.iso", false, &fd, &format, &f.error), 0);
    cr_assert_eq(format, DISK_RAW);
    close(fd);
    expect(&f, storage_disk_open(f.sr, "debian 12.iso", true, &fd, &format, &f.error), STORAGE_READ_ONLY);
    expect(&f, storage_disk_open(f.sr, "link.iso", false, &fd, &format, &f.error), STORAGE_BAD_IMAGE);
    expect(&f, storage_disk_open(f.sr, "none.iso", false, &fd, &format, &f.error), STORAGE_NO_DISK);
    static const char *const bad[] = {"../x.iso", "/etc/x.iso", ".iso", ".hidden.iso", "notes.txt",
                                      "a/b.iso",  "x\n.iso",    "",     "..",          "\xff.iso"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        expect(&f, storage_disk_open(f.sr, bad[i], false, &fd, &format, &f.error), STORAGE_BAD_NAME);
    int64_t size;
    expect(&f, storage_disk_create(f.sr, UUID_1, MIB, DISK_RAW, &size, &f.error), STORAGE_READ_ONLY);
    expect(&f, storage_disk_destroy(f.sr, "debian 12.iso", &f.error), STORAGE_READ_ONLY);
    fixture_close(&f);
}

Test(disk, create_open_resize_destroy_in_each_format)
{
    static const enum disk_format formats[] = {DISK_RAW, DISK_QCOW2};
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        struct fixture f = fixture_open("file");
        int64_t size = 0;
        cr_assert_eq(storage_disk_create(f.sr, UUID_1, 3 * MIB + 1, formats[i], &size, &f.error), 0, "%s",
                     f.error.text);
        cr_assert_eq(size, 3 * MIB + 512);
        cr_assert_eq(count_files(&f), 1);
        int fd;
        enum disk_format format;
        cr_assert_eq(storage_disk_open(f.sr, UUID_1, true, &fd, &format, &f.error), 0);
        cr_assert_eq(format, formats[i]);
        struct stat st;
        cr_assert_eq(fstat(fd, &st), 0);
        cr_assert_eq(st.st_mode & 07777, 0600);
        if (geteuid() == 0)
            cr_assert_eq(st.st_uid, 65534);
        close(fd);
        expect(&f, storage_disk_create(f.sr, UUID_1, MIB, DISK_RAW, &size, &f.error), STORAGE_EXISTS);
        expect(&f, storage_disk_create(f.sr, UUID_1, MIB, DISK_QCOW2, &size, &f.error), STORAGE_EXISTS);
        expect(&f, storage_disk_resize(f.sr, UUID_1, MIB, &size, &f.error), STORAGE_BAD_SIZE);
        cr_assert_eq(storage_disk_resize(f.sr, UUID_1, 8 * MIB, &size, &f.error), 0, "%s", f.error.text);
        struct storage_disk disk;
        cr_assert_eq(storage_disk_stat(f.sr, UUID_1, &disk, &f.error), 0);
        cr_assert_eq(disk.virtual_size_bytes, 8 * MIB);
        storage_disk_done(&disk);
        cr_assert_eq(storage_disk_destroy(f.sr, UUID_1, &f.error), 0);
        cr_assert_eq(storage_disk_destroy(f.sr, UUID_1, &f.error), 0);
        cr_assert_eq(count_files(&f), 0);
        expect(&f, storage_disk_open(f.sr, UUID_1, true, &fd, &format, &f.error), STORAGE_NO_DISK);
        fixture_close(&f);
    }
}

Test(disk, sizes_out_of_range)
{
    struct fixture f = fixture_open("file");
    int64_t size;
    static const int64_t bad[] = {0, -1, INT64_MAX, (INT64_C(64) << 40) + 1};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        expect(&f, storage_disk_create(f.sr, UUID_1, bad[i], DISK_QCOW2, &size, &f.error), STORAGE_BAD_SIZE);
    cr_assert_eq(count_files(&f), 0);
    fixture_close(&f);
}

Test(disk, names_that_are_no_uuid)
{
    struct fixture f = fixture_open("file");
    static const char *const bad[] = {"", "../" UUID_1, UUID_1 "/..", "x", UUID_1 ".raw", "/etc/passwd"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int fd;
        int64_t size;
        enum disk_format format;
        expect(&f, storage_disk_open(f.sr, bad[i], false, &fd, &format, &f.error), STORAGE_BAD_NAME);
        expect(&f, storage_disk_create(f.sr, bad[i], MIB, DISK_RAW, &size, &f.error), STORAGE_BAD_NAME);
        expect(&f, storage_disk_destroy(f.sr, bad[i], &f.error), STORAGE_BAD_NAME);
    }
    fixture_close(&f);
}

Test(disk, links_are_never_followed)
{
    struct fixture f = fixture_open("file");
    AUTO_FREE char *outside = xasprintf("%s-outside", f.dir);
    AUTO_FREE char *link = path_in(&f, UUID_1 ".raw");
    put_file(outside, "secret", 6);
    cr_assert_eq(symlink(outside, link), 0);
    int fd;
    int64_t size;
    enum disk_format format;
    struct storage_disk disk;
    expect(&f, storage_disk_open(f.sr, UUID_1, true, &fd, &format, &f.error), STORAGE_BAD_IMAGE);
    expect(&f, storage_disk_stat(f.sr, UUID_1, &disk, &f.error), STORAGE_BAD_IMAGE);
    expect(&f, storage_disk_resize(f.sr, UUID_1, MIB, &size, &f.error), STORAGE_BAD_IMAGE);
    expect(&f, storage_disk_create(f.sr, UUID_1, MIB, DISK_RAW, &size, &f.error), STORAGE_EXISTS);
    expect(&f, storage_disk_copy(f.sr, UUID_1, f.sr, UUID_2, DISK_RAW, NULL, &f.error), STORAGE_BAD_IMAGE);
    cr_assert_eq(storage_disk_destroy(f.sr, UUID_1, &f.error), 0);
    cr_assert_eq(access(outside, F_OK), 0);
    unlink(outside);
    fixture_close(&f);
}

Test(disk, a_raw_disk_that_looks_like_qcow2_stays_raw)
{
    /* A guest writes an image with a backing file into its raw disk: nobody may look inside. */
    struct fixture f = fixture_open("file");
    AUTO_FREE char *path = path_in(&f, UUID_1 ".raw");
    RUN("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", path, "1M");
    RUN("truncate", "-s", "2M", path);
    struct storage_disk disk;
    int64_t size;
    cr_assert_eq(storage_disk_stat(f.sr, UUID_1, &disk, &f.error), 0);
    cr_assert(disk.format == DISK_RAW && disk.virtual_size_bytes == 2 * MIB);
    storage_disk_done(&disk);
    cr_assert_eq(storage_disk_resize(f.sr, UUID_1, 3 * MIB, &size, &f.error), 0);
    cr_assert_eq(storage_disk_copy(f.sr, UUID_1, f.sr, UUID_2, DISK_QCOW2, NULL, &f.error), 0, "%s",
                 f.error.text);
    AUTO_FREE char *copy = path_in(&f, UUID_2 ".qcow2");
    RUN("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", path, copy);
    fixture_close(&f);
}

Test(disk, a_qcow2_disk_that_refers_to_another_file_is_not_opened)
{
    struct fixture f = fixture_open("file");
    AUTO_FREE char *path = path_in(&f, UUID_1 ".qcow2");
    RUN("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", path, "1M");
    int fd;
    enum disk_format format;
    expect(&f, storage_disk_open(f.sr, UUID_1, false, &fd, &format, &f.error), STORAGE_BAD_IMAGE);
    fixture_close(&f);
}

static double last_progress;
static void note_progress(void *arg, double fraction)
{
    cr_assert(fraction >= last_progress && fraction <= 1);
    last_progress = fraction;
    ++*(int *)arg;
}

Test(disk, copy_between_formats_with_progress)
{
    struct fixture f = fixture_open("file");
    AUTO_FREE char *from = path_in(&f, UUID_1 ".raw");
    AUTO_FREE char *to = path_in(&f, UUID_2 ".qcow2");
    AUTO_FREE char *data = test_data(4 * MIB, 1);
    put_file(from, data, 4 * (size_t)MIB);
    int calls = 0;
    struct storage_job job = {.progress = note_progress, .arg = &calls};
    cr_assert_eq(storage_disk_copy(f.sr, UUID_1, f.sr, UUID_2, DISK_QCOW2, &job, &f.error), 0, "%s",
                 f.error.text);
    cr_assert(calls > 0 && last_progress == 1);
    RUN("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", from, to);
    expect(&f, storage_disk_copy(f.sr, UUID_1, f.sr, UUID_2, DISK_RAW, NULL, &f.error), STORAGE_EXISTS);
    _Atomic bool cancel = true;
    struct storage_job cancelled = {.cancel = &cancel};
    cr_assert_eq(storage_disk_destroy(f.sr, UUID_2, &f.error), 0);
    expect(&f, storage_disk_copy(f.sr, UUID_1, f.sr, UUID_2, DISK_QCOW2, &cancelled, &f.error),
           STORAGE_CANCELLED);
    cr_assert_eq(count_files(&f), 1);
    fixture_close(&f);
}

/* An image that makes qemu-img open another file, by whatever way, gets nowhere: neither reading what all may
 * read nor writing where all may write. */
Test(tool, it_opens_its_images_alone)
{
    if (confine_version() == 0)
        cr_skip_test("this kernel has no Landlock");
    struct fixture f = fixture_open("file");
    char elsewhere[] = "/tmp/corral-elsewhere-XXXXXX";
    cr_assert(mkdtemp(elsewhere) && chmod(elsewhere, 0777) == 0);
    AUTO_FREE char *given = path_in(&f, UUID_1 ".raw"), *other = xasprintf("%s/other.raw", elsewhere),
                   *made = xasprintf("%s/made.raw", elsewhere), *data = test_data(MIB, 1);
    put_file(given, data, MIB);
    put_file(other, data, MIB);
    cr_assert_eq(chmod(other, 0666), 0);
    struct {
        const char *argv[8];
        int result;
    } table[] = {
        {{"info", "-f", "raw", TOOL_PATH_SOURCE}, 0},
        {{"info", "-f", "raw", other}, -1},
        {{"convert", "-f", "raw", "-O", "raw", TOOL_PATH_SOURCE, made}, -1},
        {{"create", "-f", "raw", made, "1M"}, -1},
        {{"info", "-f", "raw", TOOL_PATH_SOURCE}, 0},
    };
    AUTO_CLOSE int fd = open(given, O_RDWR | O_CLOEXEC);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct tool_run run = {.argv = table[i].argv,
                               .fds = &fd,
                               .fd_count = 1,
                               .timeout_ms = 60000,
                               .file_size_max = RLIM_INFINITY};
        cr_expect_eq(tool_run(f.sr, &run, &f.error), table[i].result, "case %zu: %s", i, f.error.text);
    }
    cr_expect(access(made, F_OK) < 0);
    unlink(other);
    rmdir(elsewhere);
    fixture_close(&f);
}
