/* Thin copies: content, what is listed and removed, deaths in the middle, chains that were tampered with. */
#include "fixture.h"

#define UUID_3 "aaaaaaaa-2222-4333-8444-555555555555"
#define BASE "base-bbbbbbbb-2222-4333-8444-555555555555"
#define SIZE (2 * MIB)

static void must(struct fixture *f, int outcome)
{
    cr_assert_eq(outcome, 0, "%s: %s", storage_failure_name(f->error.kind), f->error.text);
}

static void expect(struct fixture *f, int result, enum storage_failure kind)
{
    cr_assert_eq(result, -1);
    cr_assert_eq(f->error.kind, kind, "%s: %s", storage_failure_name(f->error.kind), f->error.text);
    cr_assert_null(strstr(f->error.text, f->dir), "the folder's path shows: %s", f->error.text);
}

static bool has_file(const struct fixture *f, const char *name)
{
    AUTO_FREE char *path = path_in(f, name);
    return access(path, F_OK) == 0;
}

static int count_bases(const struct fixture *f)
{
    int count = 0;
    DIR *dir = opendir(f->dir);
    for (const struct dirent *e; (e = readdir(dir));)
        count += strncmp(e->d_name, "base-", 5) == 0;
    closedir(dir);
    return count;
}

static size_t count_disks(struct fixture *f)
{
    AUTO_STORAGE_DISKS struct storage_disks disks = {0};
    must(f, storage_sr_scan(f->sr, &disks, &f->error));
    return disks.count;
}

static void reattach(struct fixture *f)
{
    storage_sr_detach(f->sr);
    fixture_attach(f, "file");
}

static void fill(struct fixture *f, const char *uuid, enum disk_format format, unsigned seed)
{
    AUTO_FREE char *data = test_data(SIZE, seed);
    int64_t made;
    struct memory_source source = {.data = data, .len = SIZE, .break_at = -1, .piece = 70000};
    struct storage_source from = {.read = memory_read, .arg = &source, .length = SIZE};
    must(f, storage_disk_create(f->sr, uuid, SIZE, format, &made, &f->error));
    must(f, storage_disk_import(f->sr, uuid, DISK_RAW, &from, NULL, &f->error));
}

/* Its content is test_data of that seed, with `zeros` more at the end. */
static void holds(struct fixture *f, const char *uuid, unsigned seed, int64_t zeros)
{
    AUTO_FREE char *data = test_data(SIZE, seed);
    struct memory_sink out = {0};
    struct storage_sink sink = {.begin = memory_begin, .write = memory_write, .arg = &out};
    must(f, storage_disk_export(f->sr, uuid, DISK_RAW, &sink, NULL, &f->error));
    cr_assert_eq(out.len, SIZE + zeros);
    cr_assert_eq(memcmp(out.data, data, SIZE), 0, "disk %s holds something else", uuid);
    for (int64_t i = SIZE; i < SIZE + zeros; i++)
        cr_assert_eq(out.data[i], 0);
    free(out.data);
}

/* Writes as a guest would. */
static void overwrite(struct fixture *f, const char *uuid, char value)
{
    AUTO_FREE char *path = xasprintf("%s/%s.qcow2", f->dir, uuid);
    AUTO_FREE char *command = xasprintf("write -P %d 0 64k", value);
    RUN("qemu-io", "-f", "qcow2", "-c", command, path);
}

static char first_byte(struct fixture *f, const char *uuid)
{
    struct memory_sink out = {0};
    struct storage_sink sink = {.begin = memory_begin, .write = memory_write, .arg = &out};
    must(f, storage_disk_export(f->sr, uuid, DISK_RAW, &sink, NULL, &f->error));
    char byte = out.data[0];
    free(out.data);
    return byte;
}

static void copy_and_change(enum disk_format format)
{
    struct fixture f = fixture_open("file");
    fill(&f, UUID_1, format, 7);
    must(&f, storage_disk_clone(f.sr, UUID_1, UUID_2, false, NULL, &f.error));
    holds(&f, UUID_1, 7, 0);
    holds(&f, UUID_2, 7, 0);
    cr_assert_eq(count_disks(&f), 2, "the base shows");
    cr_assert_eq(count_files(&f), 3, "a raw disk keeps its old file");
    struct storage_disk one, two;
    must(&f, storage_disk_stat(f.sr, UUID_1, &one, &f.error));
    must(&f, storage_disk_stat(f.sr, UUID_2, &two, &f.error));
    cr_assert_eq(one.format, DISK_QCOW2);
    cr_assert_eq(one.virtual_size_bytes, SIZE);
    cr_assert_lt(two.physical_bytes, MIB / 2, "the copy is not thin");
    cr_assert_eq(strlen(one.parent), 36);
    cr_assert_str_eq(one.parent, two.parent);
    storage_disk_done(&one);
    storage_disk_done(&two);
    overwrite(&f, UUID_1, 0x5a);
    cr_assert_eq(first_byte(&f, UUID_1), 0x5a);
    holds(&f, UUID_2, 7, 0);
    overwrite(&f, UUID_2, 0x33);
    cr_assert_eq(first_byte(&f, UUID_1), 0x5a);
    cr_assert_eq(first_byte(&f, UUID_2), 0x33);
    fixture_close(&f);
}

Test(layers, a_copy_and_its_disk_share_what_was_there_and_change_apart)
{
    copy_and_change(DISK_QCOW2);
}

Test(layers, a_raw_disk_can_be_copied_too)
{
    copy_and_change(DISK_RAW);
}

Test(layers, a_base_goes_with_the_last_disk_on_it)
{
    struct fixture f = fixture_open("file");
    fill(&f, UUID_1, DISK_QCOW2, 3);
    must(&f, storage_disk_clone(f.sr, UUID_1, UUID_2, false, NULL, &f.error));
    must(&f, storage_disk_clone(f.sr, UUID_2, UUID_3, false, NULL, &f.error));
    cr_assert_eq(count_bases(&f), 2);
    must(&f, storage_disk_destroy(f.sr, UUID_1, &f.error));
    holds(&f, UUID_2, 3, 0);
    holds(&f, UUID_3, 3, 0);
    must(&f, storage_disk_destroy(f.sr, UUID_2, &f.error));
    holds(&f, UUID_3, 3, 0);
    cr_assert_eq(count_bases(&f), 2);
    must(&f, storage_disk_destroy(f.sr, UUID_3, &f.error));
    cr_assert_eq(count_files(&f), 0, "a base stays without disks");
    fixture_close(&f);
}

Test(layers, thin_disks_grow_are_copied_and_replaced_like_any)
{
    struct fixture f = fixture_open("file");
    int64_t size;
    AUTO_FREE char *data = test_data(SIZE, 9);
    fill(&f, UUID_1, DISK_RAW, 5);
    must(&f, storage_disk_clone(f.sr, UUID_1, UUID_2, false, NULL, &f.error));
    must(&f, storage_disk_resize(f.sr, UUID_2, SIZE + MIB, &size, &f.error));
    holds(&f, UUID_2, 5, MIB);
    holds(&f, UUID_1, 5, 0);
    must(&f, storage_disk_copy(f.sr, UUID_2, f.sr, UUID_3, DISK_RAW, NULL, &f.error));
    holds(&f, UUID_3, 5, MIB);
    must(&f, storage_disk_destroy(f.sr, UUID_3, &f.error));
    must(&f, storage_disk_copy(f.sr, UUID_2, f.sr, UUID_3, DISK_QCOW2, NULL, &f.error));
    holds(&f, UUID_3, 5, MIB);
    struct memory_source source = {.data = data, .len = SIZE, .break_at = -1, .piece = 70000};
    struct storage_source from = {.read = memory_read, .arg = &source, .length = SIZE};
    must(&f, storage_disk_import(f.sr, UUID_1, DISK_RAW, &from, NULL, &f.error));
    holds(&f, UUID_1, 9, 0);
    holds(&f, UUID_2, 5, MIB);
    struct storage_disk about;
    must(&f, storage_disk_stat(f.sr, UUID_1, &about, &f.error));
    cr_assert_str_eq(about.parent, "");
    storage_disk_done(&about);
    must(&f, storage_disk_destroy(f.sr, UUID_2, &f.error));
    cr_assert_eq(count_bases(&f), 0);
    fixture_close(&f);
}

Test(layers, the_device_model_gets_every_image)
{
    struct fixture f = fixture_open("file");
    struct storage_images images;
    fill(&f, UUID_1, DISK_RAW, 5);
    must(&f, storage_disk_clone(f.sr, UUID_1, UUID_2, false, NULL, &f.error));
    must(&f, storage_disk_clone(f.sr, UUID_2, UUID_3, false, NULL, &f.error));
    must(&f, storage_disk_open_images(f.sr, UUID_3, true, &images, &f.error));
    cr_assert_eq(images.count, 3);
    static const enum disk_format formats[] = {DISK_QCOW2, DISK_QCOW2, DISK_RAW};
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(images.items[i].format, formats[i]);
        cr_assert_eq(fcntl(images.items[i].fd, F_GETFL) & O_ACCMODE, i == 0 ? O_RDWR : O_RDONLY);
    }
    storage_images_done(&images);
    int fd;
    enum disk_format format;
    expect(&f, storage_disk_open(f.sr, UUID_3, false, &fd, &format, &f.error), STORAGE_NOT_SUPPORTED);
    fixture_close(&f);
}

Test(layers, deep_disks_start_anew)
{
    struct fixture f = fixture_open("file");
    fill(&f, UUID_1, DISK_QCOW2, 2);
    struct storage_images images;
    for (int i = 0; i < 36; i++) {
        must(&f, storage_disk_clone(f.sr, UUID_1, UUID_2, false, NULL, &f.error));
        must(&f, storage_disk_destroy(f.sr, UUID_2, &f.error));
    }
    must(&f, storage_disk_open_images(f.sr, UUID_1, false, &images, &f.error));
    cr_assert_lt(images.count, 20);
    cr_assert_eq(count_files(&f), (int)images.count, "bases that are not needed stay");
    storage_images_done(&images);
    holds(&f, UUID_1, 2, 0);
    fixture_close(&f);
}

/* ---- a disk that a device model writes to ---- */

static void changed_while_it_ran(bool applied)
{
    struct fixture f = fixture_open("file");
    struct storage_layer *layer;
    fill(&f, UUID_1, DISK_QCOW2, 4);
    AUTO_FREE char *path = path_in(&f, UUID_1 ".qcow2");
    struct stat before, after;
    stat(path, &before);
    must(&f, storage_layer_begin(f.sr, UUID_1, UUID_2, &layer, &f.error));
    cr_assert_geq(strlen(storage_layer_token(layer)), 12);
    cr_assert_geq(storage_layer_fd(layer), 0);
    holds(&f, UUID_1, 4, 0); /* whoever looks now sees all of it */
    cr_assert_not(has_file(&f, UUID_2 ".qcow2"));
    storage_layer_abort(layer, applied);
    holds(&f, UUID_1, 4, 0);
    stat(path, &after);
    cr_assert_eq(after.st_ino == before.st_ino, !applied);
    cr_assert_eq(count_files(&f), applied ? 2 : 1);
    fixture_close(&f);
}

Test(layers, a_change_that_was_not_taken_up_is_undone)
{
    changed_while_it_ran(false);
}

Test(layers, a_change_that_was_taken_up_stays)
{
    changed_while_it_ran(true);
}

/* While it is written to, no image can be taken from below it. */
Test(layers, a_disk_that_runs_gets_only_so_deep)
{
    struct fixture f = fixture_open("file");
    struct storage_layer *layer;
    struct storage_images images;
    fill(&f, UUID_1, DISK_QCOW2, 2);
    int count = 0;
    for (; count < 100 && storage_layer_begin(f.sr, UUID_1, UUID_2, &layer, &f.error) == 0; count++)
        storage_layer_abort(layer, true);
    cr_assert_eq(count, 49);
    cr_assert_eq(f.error.kind, STORAGE_TOO_DEEP, "%s", f.error.text);
    cr_assert_eq(count_files(&f), 50, "what was refused left something");
    must(&f, storage_disk_open_images(f.sr, UUID_1, false, &images, &f.error));
    cr_assert_eq(images.count, 50);
    storage_images_done(&images);
    holds(&f, UUID_1, 2, 0);
    /* At rest it is copied, and can go on. */
    must(&f, storage_disk_clone(f.sr, UUID_1, UUID_2, false, NULL, &f.error));
    must(&f, storage_layer_begin(f.sr, UUID_1, UUID_3, &layer, &f.error));
    storage_layer_abort(layer, true);
    holds(&f, UUID_1, 2, 0);
    fixture_close(&f);
}

Test(layers, an_undone_change_leaves_a_raw_disk_raw)
{
    struct fixture f = fixture_open("file");
    struct storage_layer *layer;
    fill(&f, UUID_1, DISK_RAW, 4);
    must(&f, storage_layer_begin(f.sr, UUID_1, UUID_2, &layer, &f.error));
    cr_assert_not(has_file(&f, UUID_1 ".raw"));
    storage_layer_abort(layer, false);
    cr_assert(has_file(&f, UUID_1 ".raw"));
    cr_assert_eq(count_files(&f), 1);
    holds(&f, UUID_1, 4, 0);
    fixture_close(&f);
}

/* ---- deaths and strangers ---- */

Test(layers, leftovers_of_a_death_are_put_right)
{
    struct fixture f = fixture_open("file");
    AUTO_FREE char *raw = path_in(&f, UUID_1 ".raw");
    AUTO_FREE char *base = path_in(&f, BASE ".raw");
    AUTO_FREE char *top = path_in(&f, UUID_1 ".qcow2");
    AUTO_FREE char *temp = path_in(&f, ".corral-tmp-x");
    fill(&f, UUID_1, DISK_RAW, 6);
    /* After the link. */
    cr_assert_eq(link(raw, base), 0);
    reattach(&f);
    cr_assert_eq(count_files(&f), 1);
    holds(&f, UUID_1, 6, 0);
    /* After the rename of the new top, before the old name went; with the copy's temporary file. */
    cr_assert_eq(link(raw, base), 0);
    RUN("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", BASE ".raw", "-F", "raw", top, "2M");
    RUN("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", BASE ".raw", "-F", "raw", temp, "2M");
    reattach(&f);
    cr_assert_eq(count_files(&f), 2);
    cr_assert_not(has_file(&f, UUID_1 ".raw"));
    holds(&f, UUID_1, 6, 0);
    cr_assert_eq(count_disks(&f), 1);
    fixture_close(&f);
}

Test(layers, bases_are_kept_when_a_file_cannot_be_seen)
{
    struct fixture f = fixture_open("file");
    AUTO_FREE char *base = path_in(&f, BASE ".qcow2");
    AUTO_FREE char *odd = path_in(&f, "odd");
    RUN("qemu-img", "create", "-q", "-f", "qcow2", base, "2M");
    /* Its backing name is longer than any of ours, so it cannot be known what it needs. */
    RUN("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b",
        "a-name-that-is-much-longer-than-the-names-of-bases-are-in-this-folder", "-F", "qcow2", odd, "2M");
    reattach(&f);
    cr_assert(has_file(&f, BASE ".qcow2"));
    unlink(odd);
    reattach(&f);
    cr_assert_not(has_file(&f, BASE ".qcow2"));
    fixture_close(&f);
}

Test(layers, a_base_that_leads_elsewhere_is_refused)
{
    static const char *const bad[] = {"/etc/passwd", "../" BASE ".raw",
                                      "base-x.raw",  UUID_2 ".qcow2",
                                      BASE ".vmdk",  "BASE-bbbbbbbb-2222-4333-8444-555555555555.raw",
                                      BASE ".raw/.", "json:{}"};
    struct fixture f = fixture_open("file");
    struct storage_images images;
    AUTO_FREE char *top = path_in(&f, UUID_1 ".qcow2");
    AUTO_FREE char *base = path_in(&f, BASE ".raw");
    AUTO_FREE char *data = test_data(SIZE, 1);
    put_file(base, data, SIZE);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        RUN("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", bad[i], "-F", "raw", top, "2M");
        expect(&f, storage_disk_open_images(f.sr, UUID_1, false, &images, &f.error), STORAGE_BAD_IMAGE);
        expect(&f, storage_disk_clone(f.sr, UUID_1, UUID_2, false, NULL, &f.error), STORAGE_BAD_IMAGE);
    }
    /* The right name of a link, of nothing, of itself. */
    RUN("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", BASE ".raw", "-F", "raw", top, "2M");
    holds(&f, UUID_1, 1, 0);
    unlink(base);
    expect(&f, storage_disk_open_images(f.sr, UUID_1, false, &images, &f.error), STORAGE_BAD_IMAGE);
    cr_assert_eq(symlink("/etc/passwd", base), 0);
    expect(&f, storage_disk_open_images(f.sr, UUID_1, false, &images, &f.error), STORAGE_BAD_IMAGE);
    AUTO_FREE char *loop = path_in(&f, BASE ".qcow2");
    RUN("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", BASE ".qcow2", "-F", "qcow2", loop, "2M");
    RUN("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", BASE ".qcow2", "-F", "qcow2", top, "2M");
    expect(&f, storage_disk_open_images(f.sr, UUID_1, false, &images, &f.error), STORAGE_BAD_IMAGE);
    fixture_close(&f);
}

Test(layers, a_guest_that_writes_a_header_into_a_raw_disk_gains_nothing)
{
    struct fixture f = fixture_open("file");
    int64_t made;
    must(&f, storage_disk_create(f.sr, UUID_1, SIZE, DISK_RAW, &made, &f.error));
    AUTO_FREE char *raw = path_in(&f, UUID_1 ".raw");
    AUTO_FREE char *evil = path_in(&f, "evil");
    RUN("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", evil, "1M");
    AUTO_FREE char *of = xasprintf("of=%s", raw);
    AUTO_FREE char *from = xasprintf("if=%s", evil);
    RUN("dd", from, of, "conv=notrunc", "status=none");
    unlink(evil);
    must(&f, storage_disk_clone(f.sr, UUID_1, UUID_2, false, NULL, &f.error));
    cr_assert_eq(first_byte(&f, UUID_2), 'Q'); /* its bytes, not what they name */
    cr_assert_eq(first_byte(&f, UUID_1), 'Q');
    fixture_close(&f);
}

Test(layers, refusals_leave_nothing)
{
    struct fixture f = fixture_open("file");
    struct storage_layer *layer;
    fill(&f, UUID_1, DISK_QCOW2, 2);
    fill(&f, UUID_2, DISK_QCOW2, 3);
    expect(&f, storage_disk_clone(f.sr, UUID_1, UUID_2, false, NULL, &f.error), STORAGE_EXISTS);
    expect(&f, storage_disk_clone(f.sr, UUID_3, UUID_2, false, NULL, &f.error), STORAGE_EXISTS);
    expect(&f,
           storage_disk_clone(f.sr, UUID_3, "aaaaaaaa-0000-4333-8444-555555555555", false, NULL, &f.error),
           STORAGE_NO_DISK);
    expect(&f, storage_disk_clone(f.sr, UUID_1, "../x", false, NULL, &f.error), STORAGE_BAD_NAME);
    expect(&f, storage_layer_begin(f.sr, UUID_1, UUID_2, &layer, &f.error), STORAGE_EXISTS);
    cr_assert_eq(count_files(&f), 2);
    fixture_close(&f);
}

Test(layers, plain_copies_need_no_tools)
{
    struct fixture f = fixture_open("file");
    struct storage_layer *layer;
    fill(&f, UUID_1, DISK_RAW, 8);
    must(&f, storage_disk_copy_plain(f.sr, UUID_1, f.sr, UUID_2, NULL, &f.error));
    holds(&f, UUID_2, 8, 0);
    must(&f, storage_layer_begin_plain(f.sr, UUID_1, UUID_3, &layer, &f.error));
    cr_assert_eq(storage_layer_fd(layer), -1);
    storage_layer_abort(layer, false);
    cr_assert_eq(count_files(&f), 2);
    must(&f, storage_layer_begin_plain(f.sr, UUID_1, UUID_3, &layer, &f.error));
    must(&f, storage_layer_commit(layer, &f.error));
    holds(&f, UUID_3, 8, 0);
    fixture_close(&f);
}
