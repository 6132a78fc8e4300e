/* Which blocks changed between snapshots: against a model, whatever happens to the images in between. */
#include "chain.h"

#define DISK "11111111-2222-4333-8444-555555555555"
#define OTHER "33333333-2222-4333-8444-555555555555"
#define SNAPS 12

struct history {
    struct fixture f;
    struct model disk, snaps[SNAPS];
    bool data[SNAPS], noted[SNAPS];
    bool changed[SNAPS + 1][BLOCKS]; /* written since the one before; the last: by the disk since */
    int count;
};

static const char *name(int i)
{
    static char text[4][40];
    static int next;
    next = (next + 1) % 4;
    snprintf(text[next], sizeof(text[next]), "22222222-2222-4333-8444-0000000000%02d", i % 100);
    return text[next];
}

static void put(struct history *h, int block, char value)
{
    write_block(&h->f, &h->disk, block, value);
    h->changed[h->count][block] = true;
}

static void snapshot(struct history *h)
{
    snapshot_disk(&h->f, &h->disk, &h->snaps[h->count], name(h->count));
    h->data[h->count] = h->noted[h->count] = true;
    h->count++;
}

/* Blocks that changed between snapshot `from` and `to` (count: the disk itself) as the storage says. */
static void expect_between(struct history *h, int from, int to)
{
    AUTO_FREE uint8_t *bits = NULL;
    size_t len;
    AUTO_FREE char *a = xstrdup(name(from)), *b = xstrdup(to == h->count ? DISK : name(to));
    ok(&h->f, storage_changes_list(h->f.sr, a, b, &bits, &len, &h->f.error));
    cr_assert_eq(len, (BLOCKS + 7) / 8);
    for (int block = 0; block < BLOCKS; block++) {
        bool wanted = false;
        for (int i = from + 1; i <= to; i++)
            wanted = wanted || h->changed[i][block];
        bool told = bits[block / 8] & 0x80 >> block % 8;
        cr_assert_eq(told, wanted, "block %d between %d and %d: %d", block, from, to, told);
    }
}

static void expect_all(struct history *h)
{
    for (int from = 0; from < h->count; from++)
        for (int to = from; h->noted[from] && to <= h->count; to++)
            if (to == h->count || h->noted[to])
                expect_between(h, from, to);
    check_disk(&h->f, &h->disk);
    for (int i = 0; i < h->count; i++)
        if (h->data[i])
            check_disk(&h->f, &h->snaps[i]);
}

static void expect_unrelated(struct history *h, const char *from, const char *to)
{
    uint8_t *bits;
    size_t len;
    cr_assert_eq(storage_changes_list(h->f.sr, from, to, &bits, &len, &h->f.error), -1);
    cr_assert_eq(h->f.error.kind, STORAGE_UNRELATED, "%s", h->f.error.text);
}

static void begin(struct history *h)
{
    *h = (struct history){.f = fixture_open("file")};
    make_disk(&h->f, &h->disk, DISK);
    put(h, 0, 1);
    ok(&h->f, storage_changes_enable(h->f.sr, DISK, &h->f.error));
    ok(&h->f, storage_changes_enable(h->f.sr, DISK, &h->f.error));
}

Test(changed, between_any_two_snapshots_whatever_goes_and_is_merged)
{
    struct history h;
    begin(&h);
    snapshot(&h);
    put(&h, 1, 2);
    put(&h, 0, 0);
    snapshot(&h);
    put(&h, BLOCKS - 1, 3);
    put(&h, 1, 4);
    snapshot(&h);
    put(&h, 20, 5);
    expect_all(&h);
    /* A copy that is no snapshot puts the disk on another image. */
    ok(&h.f, storage_disk_clone(h.f.sr, DISK, OTHER, false, NULL, &h.f.error));
    put(&h, 21, 6);
    expect_all(&h);
    ok(&h.f, storage_disk_destroy(h.f.sr, OTHER, &h.f.error));
    while (merge_one(&h.f))
        expect_all(&h);
    /* The data of the first and of the second goes; what they say stays. */
    for (int i = 0; i < 2; i++) {
        ok(&h.f, storage_data_destroy(h.f.sr, name(i), &h.f.error));
        ok(&h.f, storage_data_destroy(h.f.sr, name(i), &h.f.error));
        h.data[i] = false;
        expect_all(&h);
        while (merge_one(&h.f))
            expect_all(&h);
    }
    snapshot(&h);
    put(&h, 30, 7);
    expect_all(&h);
    /* One in the middle goes altogether: the next one knows. */
    ok(&h.f, storage_disk_destroy(h.f.sr, name(1), &h.f.error));
    h.noted[1] = false;
    ok(&h.f, storage_disk_destroy(h.f.sr, name(3), &h.f.error));
    h.noted[3] = h.data[3] = false;
    expect_all(&h);
    while (merge_one(&h.f))
        expect_all(&h);
    storage_sr_detach(h.f.sr);
    fixture_attach(&h.f, "file");
    expect_all(&h);
    cr_assert_eq(count_named(&h.f, "", ".cbt"), 3);
    expect_unrelated(&h, name(2), name(0));
    expect_unrelated(&h, name(1), name(2));
    expect_unrelated(&h, DISK, name(2));
    fixture_close(&h.f);
}

Test(changed, new_content_and_new_room_count_as_changed)
{
    struct history h;
    int64_t size;
    begin(&h);
    snapshot(&h);
    ok(&h.f, storage_disk_resize(h.f.sr, DISK, CHAIN_SIZE + 4 * BLOCK, &size, &h.f.error));
    AUTO_FREE uint8_t *bits = NULL;
    size_t len;
    ok(&h.f, storage_changes_list(h.f.sr, name(0), DISK, &bits, &len, &h.f.error));
    cr_assert_eq(len, (BLOCKS + 4 + 7) / 8);
    for (int i = 0; i < BLOCKS + 4; i++)
        cr_assert_eq((bits[i / 8] & 0x80 >> i % 8) != 0, i >= BLOCKS - 1, "block %d", i);
    AUTO_FREE char *data = test_data(MIB, 3);
    struct memory_source source = {.data = data, .len = MIB, .break_at = -1, .piece = 70000};
    struct storage_source from = {.read = memory_read, .arg = &source, .length = MIB};
    ok(&h.f, storage_disk_import(h.f.sr, DISK, DISK_RAW, &from, NULL, &h.f.error));
    free(bits);
    ok(&h.f, storage_changes_list(h.f.sr, name(0), DISK, &bits, &len, &h.f.error));
    for (int i = 0; i < BLOCKS + 4; i++)
        cr_assert(bits[i / 8] & 0x80 >> i % 8, "block %d", i);
    fixture_close(&h.f);
}

Test(changed, only_what_is_tracked)
{
    struct history h;
    begin(&h);
    snapshot(&h);
    ok(&h.f, storage_changes_disable(h.f.sr, DISK, &h.f.error));
    ok(&h.f, storage_changes_disable(h.f.sr, DISK, &h.f.error));
    snapshot(&h);
    expect_unrelated(&h, name(0), name(1));
    cr_assert_eq(storage_data_destroy(h.f.sr, name(1), &h.f.error), -1);
    cr_assert_eq(h.f.error.kind, STORAGE_UNRELATED);
    check_disk(&h.f, &h.snaps[1]);
    ok(&h.f, storage_changes_enable(h.f.sr, DISK, &h.f.error));
    snapshot(&h);
    expect_unrelated(&h, name(0), name(2));
    expect_unrelated(&h, name(1), name(2));
    put(&h, 7, 7);
    expect_between(&h, 2, 3);
    /* A damaged note is said, and does no harm. */
    AUTO_FREE char *file = xasprintf("%s.cbt", name(2)), *path = path_in(&h.f, file);
    put_file(path, "CORRALCB nonsense", 17);
    uint8_t *bits;
    size_t len;
    cr_assert_eq(storage_changes_list(h.f.sr, name(2), DISK, &bits, &len, &h.f.error), -1);
    cr_assert_eq(h.f.error.kind, STORAGE_BAD_IMAGE, "%s", h.f.error.text);
    ok(&h.f, storage_disk_destroy(h.f.sr, name(2), &h.f.error));
    for (int i = 0; i < 2; i++)
        ok(&h.f, storage_disk_destroy(h.f.sr, name(i), &h.f.error));
    ok(&h.f, storage_disk_destroy(h.f.sr, DISK, &h.f.error));
    cr_assert_eq(count_files(&h.f), 0);
    fixture_close(&h.f);
}

/* Without images on each other: by comparing. */
Test(changed, raw_disks_are_compared)
{
    struct fixture f = fixture_open("file");
    int64_t made;
    struct storage_layer *layer;
    ok(&f, storage_disk_create(f.sr, DISK, CHAIN_SIZE, DISK_RAW, &made, &f.error));
    ok(&f, storage_changes_enable(f.sr, DISK, &f.error));
    AUTO_FREE char *path = path_in(&f, DISK ".raw"), *one = xstrdup(name(1)), *two = xstrdup(name(2));
    for (int i = 1; i <= 2; i++) {
        ok(&f, storage_layer_begin_plain(f.sr, DISK, name(i), &layer, &f.error));
        storage_layer_track(layer, DISK, name(i));
        ok(&f, storage_layer_commit(layer, &f.error));
        AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
        cr_assert_eq(pwrite(fd, "new", 3, i * 3 * BLOCK), 3);
    }
    static const struct {
        int from, to, first;
        bool second;
    } rows[] = {{1, 2, 3, false}, {2, 3, 6, false}, {1, 3, 3, true}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_FREE uint8_t *bits = NULL;
        size_t len;
        ok(&f, storage_changes_list(f.sr, rows[i].from == 1 ? one : two, rows[i].to == 2 ? two : DISK, &bits,
                                    &len, &f.error));
        for (int b = 0; b < BLOCKS; b++)
            cr_assert_eq((bits[b / 8] & 0x80 >> b % 8) != 0, b == rows[i].first || (rows[i].second && b == 6),
                         "row %zu, block %d", i, b);
    }
    fixture_close(&f);
}
