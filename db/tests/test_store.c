/* The store in memory: snapshots, transactions, indexes, relations, changes. */
#include "fixture.h"
#include <base/mem.h>
#include <criterion/criterion.h>

static struct ref make_disk(struct store *store, const char *name)
{
    struct tx *tx = store_begin(store);
    struct row *row = tx_create(tx, DISK);
    str_assign(&AS(disk, row)->name_label, name);
    struct ref ref = row->ref;
    fixture_commit(tx);
    return ref;
}

Test(store, a_snapshot_does_not_see_later_changes)
{
    struct store *store = fixture_open(NULL);
    struct ref ref = make_disk(store, "one");
    struct snapshot *before = store_snapshot(store);
    struct tx *tx = store_begin(store);
    str_assign(&AS(disk, tx_edit(tx, DISK, ref))->name_label, "two");
    fixture_commit(tx);
    struct snapshot *after = store_snapshot(store);
    cr_assert_str_eq(AS(disk, snapshot_get(before, DISK, ref))->name_label, "one");
    cr_assert_str_eq(AS(disk, snapshot_get(after, DISK, ref))->name_label, "two");
    cr_assert_gt(snapshot_generation(after), snapshot_generation(before));
    const struct row **rows;
    cr_assert_eq(snapshot_by_name(before, DISK, "two", &rows), 0);
    free(rows);
    cr_assert_eq(snapshot_by_name(after, DISK, "two", &rows), 1);
    cr_assert_eq(rows[0], snapshot_get(after, DISK, ref));
    free(rows);
    snapshot_unref(after);
    tx = store_begin(store);
    tx_delete(tx, DISK, ref);
    fixture_commit(tx);
    cr_assert_str_eq(AS(disk, snapshot_get(before, DISK, ref))->name_label, "one");
    snapshot_unref(before);
    fixture_check(store);
    store_close(store);
}

Test(store, a_row_that_is_kept_outlives_its_snapshot)
{
    struct store *store = fixture_open(NULL);
    struct ref ref = make_disk(store, "kept");
    struct snapshot *snap = store_snapshot(store);
    const struct row *row = row_ref(snapshot_get(snap, DISK, ref));
    snapshot_unref(snap);
    struct tx *tx = store_begin(store);
    tx_delete(tx, DISK, ref);
    fixture_commit(tx);
    store_close(store);
    cr_assert_str_eq(AS(disk, row)->name_label, "kept");
    row_unref(row);
}

Test(store, a_transaction_sees_its_own_changes_and_nobody_else_does)
{
    struct store *store = fixture_open(NULL);
    struct ref one = make_disk(store, "same"), two = make_disk(store, "same");
    struct tx *tx = store_begin(store);
    struct row *made = tx_create(tx, DISK);
    struct ref three = made->ref;
    str_assign(&AS(disk, made)->name_label, "same");
    str_assign(&AS(disk, made)->uuid, "11111111-2222-3333-4444-555555555555");
    cr_assert_eq(tx_edit(tx, DISK, three), made);
    struct row *edited = tx_edit(tx, DISK, one);
    cr_assert_eq(tx_edit(tx, DISK, one), edited);
    str_assign(&AS(disk, edited)->name_label, "other");
    tx_delete(tx, DISK, two);

    cr_assert_null(tx_get(tx, DISK, two));
    cr_assert_null(tx_edit(tx, DISK, two));
    cr_assert_eq(tx_get(tx, DISK, one), edited);
    cr_assert_eq(tx_count(tx, DISK), 2);
    cr_assert_eq(tx_by_uuid(tx, DISK, "11111111-2222-3333-4444-555555555555"), made);
    const struct row **rows;
    cr_assert_eq(tx_by_name(tx, DISK, "same", &rows), 1);
    cr_assert_eq(rows[0], made);
    free(rows);
    cr_assert_eq(tx_by_name(tx, DISK, "other", &rows), 1);
    cr_assert_eq(rows[0], edited);
    free(rows);

    struct snapshot *snap = store_snapshot(store);
    cr_assert_null(snapshot_get(snap, DISK, three));
    cr_assert_not_null(snapshot_get(snap, DISK, two));
    snapshot_unref(snap);
    tx_abort(tx);

    snap = store_snapshot(store);
    cr_assert_eq(snapshot_count(snap, DISK), 2);
    cr_assert_eq(snapshot_by_name(snap, DISK, "same", &rows), 2);
    cr_assert_eq(rows[0]->ref.hi, one.hi, "in the order of their creation");
    free(rows);
    snapshot_unref(snap);
    fixture_check(store);
    store_close(store);
}

static bool stop_at_first(const struct row *row, void *arg)
{
    *(const struct row **)arg = row;
    return false;
}

Test(store, a_transaction_looks_for_what_it_has_changed_itself)
{
    struct store *store = fixture_open(NULL);
    struct ref one = make_disk(store, "n"), gone = make_disk(store, "n");
    struct tx *tx = store_begin(store);
    AUTO_FREE char *uuid = xstrdup(AS(disk, tx_get(tx, DISK, one))->uuid);
    AUTO_FREE char *of_gone = xstrdup(AS(disk, tx_get(tx, DISK, gone))->uuid);
    cr_assert_eq(tx_by_uuid(tx, DISK, uuid), tx_get(tx, DISK, one));
    struct row *edited = tx_edit(tx, DISK, one);
    cr_assert_eq(tx_by_uuid(tx, DISK, uuid), edited);
    str_assign(&AS(disk, edited)->uuid, "aaaaaaaa-2222-3333-4444-555555555555");
    cr_assert_null(tx_by_uuid(tx, DISK, uuid));
    cr_assert_eq(tx_by_uuid(tx, DISK, "aaaaaaaa-2222-3333-4444-555555555555"), edited);
    tx_delete(tx, DISK, gone);
    tx_delete(tx, DISK, gone);
    tx_delete(tx, DISK, ref_new());
    tx_renew(tx, DISK, gone);
    tx_renew(tx, DISK, ref_new());
    cr_assert_null(tx_by_uuid(tx, DISK, of_gone));
    for (int i = 0; i < 10; i++)
        str_assign(&AS(disk, tx_create(tx, DISK))->name_label, "n");
    tx_create(tx, LINK);
    const struct row **rows, *first = NULL;
    cr_assert_eq(tx_by_name(tx, DISK, "n", &rows), 11);
    free(rows);
    cr_assert_eq(tx_by_name(tx, LINK, "", &rows), 0, "a class without names");
    free(rows);
    tx_each(tx, LINK, stop_at_first, &first);
    cr_assert_not_null(first, "of the transaction alone");
    tx_each(tx, DISK, stop_at_first, &first);
    cr_assert_eq(first, edited);
    fixture_commit(tx);
    fixture_check(store);
    store_close(store);
}

struct seen {
    size_t count;
    bool has_deleted;
    struct ref refs[8];
    struct ref deleted;
};

static bool note_ref(const struct row *row, void *arg)
{
    struct seen *seen = arg;
    seen->refs[seen->count++] = row->ref;
    return true;
}

Test(store, each_row_once_also_in_a_transaction_that_adds_some)
{
    struct store *store = fixture_open(NULL);
    struct ref one = make_disk(store, "a"), two = make_disk(store, "b");
    struct tx *tx = store_begin(store);
    struct ref three = tx_create(tx, DISK)->ref;
    tx_edit(tx, DISK, one);
    tx_delete(tx, DISK, two);
    struct seen seen = {0};
    tx_each(tx, DISK, note_ref, &seen);
    cr_assert_eq(seen.count, 2);
    cr_assert(ref_eq(seen.refs[0], one) && ref_eq(seen.refs[1], three));
    tx_abort(tx);
    struct snapshot *snap = store_snapshot(store);
    seen = (struct seen){0};
    snapshot_each(snap, DISK, note_ref, &seen);
    cr_assert_eq(seen.count, 2);
    cr_assert_lt(ref_cmp(seen.refs[0], seen.refs[1]), 0);
    snapshot_unref(snap);
    store_close(store);
}

Test(store, a_transaction_without_changes_publishes_nothing)
{
    struct store *store = fixture_open(NULL);
    struct ref ref = make_disk(store, "x");
    struct store_stats before, after;
    store_stats(store, &before);
    struct tx *tx = store_begin(store);
    str_assign(&AS(disk, tx_edit(tx, DISK, ref))->name_label, "y");
    str_assign(&AS(disk, tx_edit(tx, DISK, ref))->name_label, "x");
    tx_delete(tx, DISK, tx_create(tx, DISK)->ref);
    uint64_t generation = fixture_commit(tx);
    store_stats(store, &after);
    cr_assert_eq(after.batches, before.batches);
    cr_assert_eq(after.generation, before.generation);
    cr_assert_eq(generation, before.generation);
    store_close(store);
}

Test(store, by_uuid_and_by_name_follow_changes)
{
    struct store *store = fixture_open(NULL);
    struct ref ref = make_disk(store, "");
    AUTO_FREE char *uuid = NULL;
    struct snapshot *snap = store_snapshot(store);
    uuid = xstrdup(AS(disk, snapshot_get(snap, DISK, ref))->uuid);
    cr_assert_eq(snapshot_by_uuid(snap, DISK, uuid), snapshot_get(snap, DISK, ref));
    cr_assert_null(snapshot_by_uuid(snap, GUEST, uuid), "of another class");
    const struct row **rows;
    cr_assert_eq(snapshot_by_name(snap, DISK, "", &rows), 1, "rows without a name are found too");
    free(rows);
    cr_assert_eq(snapshot_by_name(snap, LINK, "", &rows), 0, "a class without names");
    free(rows);
    snapshot_unref(snap);
    struct tx *tx = store_begin(store);
    str_assign(&AS(disk, tx_edit(tx, DISK, ref))->uuid, "aaaaaaaa-2222-3333-4444-555555555555");
    fixture_commit(tx);
    snap = store_snapshot(store);
    cr_assert_null(snapshot_by_uuid(snap, DISK, uuid));
    cr_assert_not_null(snapshot_by_uuid(snap, DISK, "aaaaaaaa-2222-3333-4444-555555555555"));
    snapshot_unref(snap);
    fixture_check(store);
    store_close(store);
}

/* ---- relations ---- */

static struct ref make(struct tx *tx, const struct class_desc *cls)
{
    return tx_create(tx, cls)->ref;
}

static bool in_set(const struct ref_set *set, struct ref ref)
{
    return ref_set_has(set, ref);
}

Test(relations, the_other_side_follows_a_reference)
{
    struct store *store = fixture_open(NULL);
    struct tx *tx = store_begin(store);
    struct ref guest = make(tx, GUEST), other = make(tx, GUEST), disk = make(tx, DISK), link = make(tx, LINK);
    AS(link, tx_edit(tx, LINK, link))->guest = guest;
    AS(link, tx_edit(tx, LINK, link))->disk = disk;
    uint64_t made = fixture_commit(tx);
    struct snapshot *snap = store_snapshot(store);
    cr_assert(in_set(AS(guest, snapshot_get(snap, GUEST, guest))->links, link));
    cr_assert(in_set(AS(disk, snapshot_get(snap, DISK, disk))->links, link));
    snapshot_unref(snap);

    tx = store_begin(store);
    AS(link, tx_edit(tx, LINK, link))->guest = other;
    uint64_t moved = fixture_commit(tx);
    snap = store_snapshot(store);
    cr_assert_null(AS(guest, snapshot_get(snap, GUEST, guest))->links);
    cr_assert(in_set(AS(guest, snapshot_get(snap, GUEST, other))->links, link));
    cr_assert_eq(snapshot_get(snap, GUEST, guest)->generation, moved, "both ends are new versions");
    cr_assert_eq(snapshot_get(snap, GUEST, other)->generation, moved);
    cr_assert_eq(snapshot_get(snap, LINK, link)->generation, moved);
    cr_assert_eq(snapshot_get(snap, DISK, disk)->generation, made, "not touched");
    cr_assert_eq(snapshot_get(snap, GUEST, guest)->created, made);
    snapshot_unref(snap);
    fixture_check(store);
    store_close(store);
}

Test(relations, a_free_set_fills_the_derived_one)
{
    struct store *store = fixture_open(NULL);
    struct tx *tx = store_begin(store);
    struct ref guest = make(tx, GUEST), a = make(tx, GROUP), b = make(tx, GROUP), c = make(tx, GROUP);
    ref_set_assign(&AS(guest, tx_edit(tx, GUEST, guest))->groups, ref_set_new((struct ref[]){a, b}, 2));
    fixture_commit(tx);
    struct snapshot *snap = store_snapshot(store);
    cr_assert(in_set(AS(group, snapshot_get(snap, GROUP, a))->guests, guest));
    cr_assert(in_set(AS(group, snapshot_get(snap, GROUP, b))->guests, guest));
    snapshot_unref(snap);
    tx = store_begin(store);
    ref_set_assign(&AS(guest, tx_edit(tx, GUEST, guest))->groups, ref_set_new((struct ref[]){c, b}, 2));
    fixture_commit(tx);
    snap = store_snapshot(store);
    cr_assert_null(AS(group, snapshot_get(snap, GROUP, a))->guests);
    cr_assert(in_set(AS(group, snapshot_get(snap, GROUP, c))->guests, guest));
    snapshot_unref(snap);
    tx = store_begin(store);
    tx_delete(tx, GROUP, b);
    fixture_commit(tx);
    snap = store_snapshot(store);
    cr_assert_eq(AS(guest, snapshot_get(snap, GUEST, guest))->groups->count, 1);
    snapshot_unref(snap);
    fixture_check(store);
    store_close(store);
}

Test(relations, a_deleted_row_leaves_every_field_that_referred_to_it)
{
    struct store *store = fixture_open(NULL);
    struct tx *tx = store_begin(store);
    struct ref guest = make(tx, GUEST), disk = make(tx, DISK), other = make(tx, DISK), link = make(tx, LINK);
    struct ref child = make(tx, DISK);
    AS(link, tx_edit(tx, LINK, link))->disk = disk;
    AS(disk, tx_edit(tx, DISK, child))->parent = disk;
    struct guest_row *g = AS(guest, tx_edit(tx, GUEST, guest));
    g->home = disk;
    g->favourites = ref_set_new((struct ref[]){disk, other}, 2);
    str_map_put(&g->notes, REF_TEXT(disk), "gone");
    str_map_put(&g->notes, REF_TEXT(other), "stays");
    fixture_commit(tx);
    fixture_check(store);

    tx = store_begin(store);
    tx_delete(tx, DISK, disk);
    uint64_t generation = fixture_commit(tx);
    struct snapshot *snap = store_snapshot(store);
    g = AS(guest, snapshot_get(snap, GUEST, guest));
    cr_assert(ref_is_null(g->home));
    cr_assert_eq(g->favourites->count, 1);
    cr_assert_eq(g->notes->count, 1);
    cr_assert_str_eq(g->notes->pairs[0].value, "stays");
    cr_assert_eq(g->row.generation, generation);
    cr_assert(ref_is_null(AS(link, snapshot_get(snap, LINK, link))->disk));
    cr_assert(ref_is_null(AS(disk, snapshot_get(snap, DISK, child))->parent));
    snapshot_unref(snap);
    fixture_check(store);
    store_close(store);
}

Test(relations, references_to_nothing_become_null_at_the_end)
{
    struct store *store = fixture_open(NULL);
    struct tx *tx = store_begin(store);
    struct ref guest = make(tx, GUEST), disk = make(tx, DISK), link = make(tx, LINK), real = make(tx, DISK);
    AS(link, tx_edit(tx, LINK, link))->guest = ref_new();
    AS(link, tx_edit(tx, LINK, link))->disk = disk;
    AS(guest, tx_edit(tx, GUEST, guest))->home = ref_new();
    AS(guest, tx_edit(tx, GUEST, guest))->favourites = ref_set_new((struct ref[]){ref_new(), real}, 2);
    tx_delete(tx, DISK, disk); /* made and deleted here */
    fixture_commit(tx);
    struct snapshot *snap = store_snapshot(store);
    cr_assert(ref_is_null(AS(link, snapshot_get(snap, LINK, link))->guest));
    cr_assert(ref_is_null(AS(link, snapshot_get(snap, LINK, link))->disk));
    cr_assert(ref_is_null(AS(guest, snapshot_get(snap, GUEST, guest))->home));
    cr_assert_eq(AS(guest, snapshot_get(snap, GUEST, guest))->favourites->count, 1);
    snapshot_unref(snap);
    fixture_check(store);
    store_close(store);
}

Test(relations, rows_that_refer_to_each_other_can_go_together)
{
    struct store *store = fixture_open(NULL);
    struct tx *tx = store_begin(store);
    struct ref parent = make(tx, GUEST), child = make(tx, GUEST), link = make(tx, LINK);
    AS(guest, tx_edit(tx, GUEST, child))->parent = parent;
    AS(guest, tx_edit(tx, GUEST, parent))->parent = parent; /* of itself, too */
    AS(link, tx_edit(tx, LINK, link))->guest = child;
    fixture_commit(tx);
    fixture_check(store);
    tx = store_begin(store);
    tx_delete(tx, GUEST, parent);
    tx_delete(tx, GUEST, child);
    tx_delete(tx, LINK, link);
    fixture_commit(tx);
    struct store_stats stats;
    store_stats(store, &stats);
    cr_assert_eq(stats.rows, 0);
    fixture_check(store);
    store_close(store);
}

/* ---- changes ---- */

static bool note_deleted(const struct store_tombstone *gone, void *arg)
{
    struct seen *seen = arg;
    cr_assert(!seen->has_deleted);
    seen->has_deleted = true;
    seen->deleted = gone->ref;
    return true;
}

Test(changes, newest_last_then_what_is_gone)
{
    struct store *store = fixture_open(NULL);
    struct ref a = make_disk(store, "a"), b = make_disk(store, "b"), c = make_disk(store, "c");
    struct snapshot *snap = store_snapshot(store);
    uint64_t since = snapshot_generation(snap);
    snapshot_unref(snap);
    struct tx *tx = store_begin(store);
    AS(disk, tx_edit(tx, DISK, a))->size = 1;
    fixture_commit(tx);
    struct ref brief = make_disk(store, "brief");
    tx = store_begin(store);
    tx_delete(tx, DISK, b);
    AS(disk, tx_edit(tx, DISK, c))->size = 1;
    fixture_commit(tx);
    tx = store_begin(store);
    AS(disk, tx_edit(tx, DISK, a))->size = 2;
    tx_delete(tx, DISK, brief);
    fixture_commit(tx);
    snap = store_snapshot(store);
    struct seen seen = {0};
    snapshot_changes(snap, since, note_ref, note_deleted, &seen);
    cr_assert_eq(seen.count, 2);
    cr_assert(ref_eq(seen.refs[0], c) && ref_eq(seen.refs[1], a));
    cr_assert(seen.has_deleted && ref_eq(seen.deleted, b), "a row that came and went is not reported");
    seen = (struct seen){0};
    snapshot_changes(snap, snapshot_generation(snap), note_ref, note_deleted, &seen);
    cr_assert_eq(seen.count, 0);
    snapshot_unref(snap);
    store_close(store);
}

Test(changes, old_tombstones_are_forgotten_and_the_token_tells)
{
    struct store_config config = fixture_config();
    config.max_tombstones = 10;
    struct store *store;
    struct store_err err;
    cr_assert_eq(store_open(&store, &config, &err), 0);
    struct ref refs[40];
    for (int i = 0; i < 40; i++)
        refs[i] = make_disk(store, "x");
    struct snapshot *snap = store_snapshot(store);
    uint64_t since = snapshot_generation(snap);
    cr_assert_eq(snapshot_oldest_token(snap), 0);
    snapshot_unref(snap);
    for (int i = 0; i < 40; i++) {
        struct tx *tx = store_begin(store);
        tx_delete(tx, DISK, refs[i]);
        fixture_commit(tx);
    }
    snap = store_snapshot(store);
    cr_assert_gt(snapshot_oldest_token(snap), since);
    cr_assert_leq(snapshot_oldest_token(snap), since + 30, "at least ten are kept");
    snapshot_unref(snap);
    fixture_check(store);
    store_close(store);
}

/* ---- waiting ---- */

struct watched {
    _Atomic uint64_t generation;
    _Atomic int calls;
};

static void on_publish(void *arg, uint64_t generation)
{
    struct watched *watched = arg;
    watched->generation = generation;
    watched->calls++;
}

Test(waiting, a_watch_is_called_after_each_publication_until_removed)
{
    struct store *store = fixture_open(NULL);
    struct watched watched = {0};
    struct store_watch *watch = store_watch(store, on_publish, &watched);
    make_disk(store, "a");
    struct snapshot *snap = store_snapshot(store);
    uint64_t first = snapshot_generation(snap);
    snapshot_unref(snap);
    store_unwatch(store, watch); /* the call for the first publication is over, or never comes */
    int calls = watched.calls;
    cr_assert_leq(calls, 1);
    if (calls)
        cr_assert_eq(watched.generation, first);
    make_disk(store, "b");
    cr_assert_eq(watched.calls, calls);
    store_close(store);
}

static void on_done(void *arg, int result, uint64_t generation, const struct store_err *err)
{
    (void)err;
    cr_assert_eq(result, 0);
    *(_Atomic uint64_t *)arg = generation;
}

Test(waiting, an_asynchronous_commit_calls_back)
{
    struct store *store = fixture_open(NULL);
    _Atomic uint64_t generation = 0;
    struct snapshot *snap = store_snapshot(store);
    uint64_t before = snapshot_generation(snap);
    snapshot_unref(snap);
    struct tx *tx = store_begin(store);
    make(tx, DISK);
    uint64_t expected = tx_generation(tx);
    tx_commit_async(tx, on_done, &generation);
    cr_assert_eq(store_wait(store, before, INT64_MAX / 2000000), expected);
    store_close(store); /* waits for the call */
    cr_assert_eq(generation, expected);
    store = fixture_open(NULL);
    tx_commit_async(store_begin(store), on_done, &generation);
    cr_assert_neq(generation, expected, "nothing to do: called at once");
    cr_assert_eq(store_wait(store, generation, 0), generation, "the deadline has passed");
    store_close(store);
}

/* ---- forks ---- */

#define FORK_ROWS 60

/* Renames, relates, deletes and makes rows, as the number says. */
static void stir(struct store *store, struct ref *disks, struct ref *guests, unsigned seed)
{
    for (unsigned i = 0; i < 4 * FORK_ROWS; i++) {
        unsigned at = (seed = seed * 1103515245u + 12345u) / 65536 % FORK_ROWS;
        struct tx *tx = store_begin(store);
        struct row *disk = tx_edit(tx, DISK, disks[at]), *guest = tx_edit(tx, GUEST, guests[at]);
        if (!disk) {
            disks[at] = tx_create(tx, DISK)->ref;
        } else if (i % 5 == 0) {
            tx_delete(tx, DISK, disks[at]);
        } else if (i % 3 == 0) {
            struct row *link = tx_create(tx, LINK);
            AS(link, link)->guest = guests[at];
            AS(link, link)->disk = disks[(at + i) % FORK_ROWS];
        } else {
            const char *name = str_newf("disk %u", i);
            str_assign(&AS(disk, disk)->name_label, name);
            str_unref(name);
            AS(guest, guest)->home = disks[(at + i) % FORK_ROWS];
            AS(guest, guest)->parent = guests[(at + i) % FORK_ROWS];
        }
        fixture_commit(tx);
    }
}

static bool same_row(const struct row *row, void *arg)
{
    const struct row *there = snapshot_get(arg, row->cls, row->ref);
    cr_assert(there == row, "a row of %s is another one", row->cls->name);
    return true;
}

static void assert_same(const struct snapshot *a, const struct snapshot *b)
{
    for (int i = 0; i < C_COUNT; i++) {
        cr_assert_eq(snapshot_count(a, &fixture_classes[i]), snapshot_count(b, &fixture_classes[i]));
        snapshot_each(a, &fixture_classes[i], same_row, (void *)(uintptr_t)b);
    }
}

Test(store, a_fork_begins_with_a_snapshot_and_keeps_its_changes_to_itself)
{
    struct store *store = fixture_open(NULL);
    struct ref disks[FORK_ROWS] = {0}, guests[FORK_ROWS], ours[FORK_ROWS];
    struct tx *tx = store_begin(store);
    for (int i = 0; i < FORK_ROWS; i++)
        guests[i] = tx_create(tx, GUEST)->ref;
    fixture_commit(tx);
    stir(store, disks, guests, 1);
    for (unsigned round = 0; round < 5; round++) {
        struct snapshot *before = store_snapshot(store);
        struct store *fork = store_fork(before);
        struct snapshot *first = store_snapshot(fork);
        assert_same(before, first);
        memcpy(ours, disks, sizeof(ours));
        stir(fork, ours, guests, round + 2);
        struct snapshot *after = store_snapshot(store);
        assert_same(before, after);
        snapshot_unref(after);
        stir(store, disks, guests, round + 100); /* what the fork was made from goes on */
        stir(fork, ours, guests, round + 50);
        assert_same(before, first);
        fixture_check(fork);
        fixture_check(store);
        snapshot_unref(before);
        snapshot_unref(first);
        store_close(fork);
    }
    fixture_check(store);
    store_close(store);
}

static bool note_changed(const struct row *row, void *arg)
{
    if (row->cls == DISK)
        *(struct ref *)arg = row->ref;
    return true;
}

static bool note_gone(const struct store_tombstone *gone, void *arg)
{
    ((struct ref *)arg)[1] = gone->ref;
    return true;
}

Test(store, a_fork_tells_what_changed_in_it)
{
    struct store *store = fixture_open(NULL);
    struct ref kept = make_disk(store, "kept"), gone = make_disk(store, "gone"), told[2] = {0};
    struct snapshot *base = store_snapshot(store);
    struct store *fork = store_fork(base);
    struct tx *tx = store_begin(fork);
    AS(disk, tx_edit(tx, DISK, kept))->size = 9;
    tx_delete(tx, DISK, gone);
    fixture_commit(tx);
    struct snapshot *now = store_snapshot(fork);
    snapshot_changes(now, snapshot_generation(base), note_changed, note_gone, told);
    cr_assert(ref_eq(told[0], kept));
    cr_assert(ref_eq(told[1], gone));
    cr_assert_neq(AS(disk, snapshot_get(base, DISK, kept))->size, 9);
    cr_assert_not_null(snapshot_get(base, DISK, gone));
    snapshot_unref(now);
    snapshot_unref(base);
    store_close(fork);
    store_close(store);
}
