/* Merging images: content, what is left in the folder, who is in the way, deaths in the middle. */
#include "chain.h"
#include <signal.h>
#include <sys/wait.h>

#define DISK "11111111-2222-4333-8444-555555555555"
#define SNAP "22222222-2222-4333-8444-00000000000%d"

static const char *snap(int i)
{
    static char text[4][40];
    static int next;
    next = (next + 1) % 4;
    snprintf(text[next], sizeof(text[next]), SNAP, i);
    return text[next];
}

static int64_t room(const struct fixture *f)
{
    int64_t sum = 0;
    struct stat st;
    DIR *dir = opendir(f->dir);
    for (const struct dirent *e; (e = readdir(dir));)
        if (fstatat(dirfd(dir), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            sum += st.st_blocks * 512;
    closedir(dir);
    return sum;
}

Test(merge, a_disk_whose_snapshots_went_is_one_image_again)
{
    struct fixture f = fixture_open("file");
    struct model disk, snapshots[3];
    make_disk(&f, &disk, DISK);
    write_block(&f, &disk, 0, 1);
    write_block(&f, &disk, BLOCKS - 1, 2);
    for (int i = 0; i < 3; i++) {
        snapshot_disk(&f, &disk, &snapshots[i], snap(i));
        write_block(&f, &disk, 3, (char)(10 + i));
        write_block(&f, &disk, 4 + i, (char)(20 + i));
    }
    write_block(&f, &disk, 0, 0); /* zeros over data */
    cr_assert_not(merge_one(&f), "snapshots are in the way");
    cr_assert_eq(count_named(&f, "base-", ".qcow2"), 3);
    int64_t before = room(&f);
    ok(&f, storage_disk_destroy(f.sr, snap(1), &f.error));
    cr_assert(merge_one(&f));
    cr_assert_not(merge_one(&f));
    check_disk(&f, &disk);
    check_disk(&f, &snapshots[0]);
    check_disk(&f, &snapshots[2]);
    cr_assert_eq(count_named(&f, "base-", ".qcow2"), 2);
    ok(&f, storage_disk_destroy(f.sr, snap(0), &f.error));
    ok(&f, storage_disk_destroy(f.sr, snap(2), &f.error));
    while (merge_one(&f))
        check_disk(&f, &disk);
    check_disk(&f, &disk);
    cr_assert_eq(count_files(&f), 1);
    cr_assert_lt(room(&f), before, "no room was given back");
    storage_sr_detach(f.sr);
    fixture_attach(&f, "file");
    check_disk(&f, &disk);
    fixture_close(&f);
}

Test(merge, a_disk_that_grew_over_its_base)
{
    struct fixture f = fixture_open("file");
    struct model disk, snapshot;
    int64_t size;
    make_disk(&f, &disk, DISK);
    write_block(&f, &disk, 5, 7);
    snapshot_disk(&f, &disk, &snapshot, snap(0));
    ok(&f, storage_disk_resize(f.sr, DISK, CHAIN_SIZE + 8 * MIB, &size, &f.error));
    ok(&f, storage_disk_destroy(f.sr, snap(0), &f.error));
    cr_assert(merge_one(&f));
    struct storage_disk about;
    ok(&f, storage_disk_stat(f.sr, DISK, &about, &f.error));
    cr_assert_eq(about.virtual_size_bytes, CHAIN_SIZE + 8 * MIB);
    cr_assert_str_eq(about.parent, "");
    storage_disk_done(&about);
    struct memory_sink out = {0};
    struct storage_sink sink = {.begin = memory_begin, .write = memory_write, .arg = &out};
    ok(&f, storage_disk_export(f.sr, DISK, DISK_RAW, &sink, NULL, &f.error));
    for (int64_t i = 0; i < out.len; i++)
        cr_assert_eq(out.data[i], i / BLOCK == 5 ? 7 : 0);
    free(out.data);
    fixture_close(&f);
}

Test(merge, a_raw_base_stays)
{
    struct fixture f = fixture_open("file");
    int64_t made;
    ok(&f, storage_disk_create(f.sr, DISK, CHAIN_SIZE, DISK_RAW, &made, &f.error));
    ok(&f, storage_disk_clone(f.sr, DISK, snap(0), true, NULL, &f.error));
    ok(&f, storage_disk_destroy(f.sr, snap(0), &f.error));
    cr_assert_not(merge_one(&f));
    cr_assert_eq(count_named(&f, "base-", ".raw"), 1);
    fixture_close(&f);
}

Test(merge, what_changed_meanwhile_is_seen)
{
    struct fixture f = fixture_open("file");
    struct model disk, snapshot, other;
    AUTO_STORAGE_MERGES struct storage_merges merges = {.count = 0};
    make_disk(&f, &disk, DISK);
    snapshot_disk(&f, &disk, &snapshot, snap(0));
    ok(&f, storage_disk_destroy(f.sr, snap(0), &f.error));
    ok(&f, storage_merges_find(f.sr, &merges, &f.error));
    cr_assert_eq(merges.count, 1);
    cr_assert(merges.items[0].of_disk);
    cr_assert_eq(merges.items[0].top_count, 1);
    cr_assert_str_eq(merges.items[0].tops[0], DISK);
    snapshot_disk(&f, &disk, &other, snap(1));
    cr_assert_eq(storage_merge_begin(f.sr, &merges.items[0], &f.error), -1);
    cr_assert_eq(f.error.kind, STORAGE_NOT_SUPPORTED);
    cr_assert_eq(storage_merge_finish(f.sr, &merges.items[0], &f.error), -1);
    check_disk(&f, &disk);
    check_disk(&f, &other);
    fixture_close(&f);
}

/* A process that dies at a failpoint, or whose qemu-img is cut short. */
static void die_in_merge(struct fixture *f, const char *failpoint, bool cut)
{
    pid_t child = fork();
    if (child == 0) {
        static _Atomic bool cancel = true;
        struct storage_job job = {.cancel = &cancel};
        struct storage_merges merges = {.count = 0};
        struct storage_error error;
        setenv("CORRAL_FAILPOINT", failpoint, 1);
        if (storage_merges_find(f->sr, &merges, &error) < 0 || merges.count == 0 ||
            storage_merge_begin(f->sr, &merges.items[0], &error) < 0)
            _exit(2);
        if (storage_merge_write(f->sr, &merges.items[0], cut ? &job : NULL, &error) < 0)
            raise(SIGKILL);
        storage_merge_finish(f->sr, &merges.items[0], &error);
        _exit(3);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s: it ended otherwise: %x", failpoint,
              (unsigned)status);
}

static void death(const char *failpoint, bool cut)
{
    struct fixture f = fixture_open("file");
    struct model disk, snapshot;
    make_disk(&f, &disk, DISK);
    write_block(&f, &disk, 1, 1);
    snapshot_disk(&f, &disk, &snapshot, snap(0));
    write_block(&f, &disk, 1, 2);
    write_block(&f, &disk, 2, 3);
    ok(&f, storage_disk_destroy(f.sr, snap(0), &f.error));
    die_in_merge(&f, failpoint, cut);
    storage_sr_detach(f.sr);
    fixture_attach(&f, "file");
    check_disk(&f, &disk);
    cr_assert_eq(count_files(&f), 2);
    cr_assert(merge_one(&f));
    check_disk(&f, &disk);
    cr_assert_eq(count_files(&f), 1);
    fixture_close(&f);
}

Test(merge, a_death_before_anything_is_written)
{
    death("merge-begun:disk", false);
}

Test(merge, a_death_while_it_is_written)
{
    death("none:", true);
}

Test(merge, a_death_before_the_new_name)
{
    death("merge-written:disk", false);
}
