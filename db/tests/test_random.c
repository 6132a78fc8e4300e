/* Random transactions against a simple model of what the store should hold, and a reader that rebuilds
 * everything from the change feed alone; over restarts and failing disks. */
#include "fault_engine.h"
#include "fixture.h"
#include "refmap.h"
#include <base/mem.h>
#include <criterion/criterion.h>
#include <stdio.h>

/* ---- the model ---- */

struct item {
    const struct class_desc *cls;
    struct ref ref;
    bool alive;
    char name[12];
    struct ref a, b; /* link: guest and disk. guest: parent and home. disk: parent. job: parent and guest */
};

#define ITEMS_MAX 4000
struct world {
    struct item items[ITEMS_MAX];
    size_t count;
};

struct run {
    unsigned seed;
    const char *path;
    struct fault_control control;
    struct store *store;
    struct world world, kept; /* with the open transaction, and before it */
    uint64_t token;
    struct refmap mirror_map;
    struct mirror {
        const struct class_desc *cls;
        struct ref ref;
        char *json; /* NULL: gone */
        bool seen;
    } mirror[ITEMS_MAX];
    uint32_t mirror_count;
};

static unsigned roll(struct run *run, unsigned sides)
{
    run->seed = run->seed * 1664525u + 1013904223u;
    return (run->seed >> 8) % sides;
}

static void run_open(struct run *run)
{
    struct engine *engine = engine_memory_new();
    struct store_err err;
    struct store_config config = fixture_config();
    if (run->path) {
        engine->ops->close(engine);
        cr_assert_eq(engine_sqlite_open(&engine, run->path, NULL, &err), 0, "%s", err.text);
    }
    engine = fault_engine_new(engine, &run->control);
    cr_assert_eq(store_open_engine(&run->store, &config, engine, &err), 0, "%s", err.text);
}

static struct ref pick(struct run *run, const struct class_desc *cls)
{
    for (int tries = 0; tries < 20 && run->world.count; tries++) {
        const struct item *item = &run->world.items[roll(run, (unsigned)run->world.count)];
        if (item->cls == cls && item->alive)
            return item->ref;
    }
    return REF_NULL;
}

/* Where an item's references are in its row; NULL: it has none. */
static void item_slots(const struct item *item, struct row *row, struct ref **a, struct ref **b)
{
    *a = *b = NULL;
    if (item->cls == LINK) {
        *a = &AS(link, row)->guest;
        *b = &AS(link, row)->disk;
    } else if (item->cls == GUEST) {
        *a = &AS(guest, row)->parent;
        *b = &AS(guest, row)->home;
    } else if (item->cls == DISK) {
        *a = &AS(disk, row)->parent;
    } else if (item->cls == JOB) {
        *a = &AS(job, row)->parent;
        *b = &AS(job, row)->guest;
    }
}

static void change(struct run *run, struct tx *tx, struct item *item)
{
    struct row *row = tx_edit(tx, item->cls, item->ref);
    cr_assert_not_null(row);
    if (item->cls->name_label && roll(run, 2)) {
        snprintf(item->name, sizeof(item->name), "n%u", roll(run, 30));
        str_assign(row_slot(row, item->cls->name_label), item->name);
    }
    struct ref *a, *b;
    item_slots(item, row, &a, &b);
    if (a && roll(run, 2))
        *a = item->a = pick(run, item->cls == LINK ? GUEST : item->cls);
    if (b && roll(run, 2))
        *b = item->b = pick(run, item->cls == JOB ? GUEST : DISK);
    if (item->cls == GUEST && roll(run, 3) == 0) {
        struct ref groups[3] = {pick(run, GROUP), pick(run, GROUP), pick(run, GROUP)};
        size_t count = 0;
        for (size_t i = 0; i < 3; i++)
            if (!ref_is_null(groups[i]))
                groups[count++] = groups[i];
        ref_set_assign(&AS(guest, row)->groups, ref_set_new(groups, count));
    }
    if (item->cls == GUEST && roll(run, 3) == 0) {
        struct ref disk = pick(run, DISK);
        if (!ref_is_null(disk))
            str_map_put(&AS(guest, row)->notes, REF_TEXT(disk), "note");
        AS(guest, row)->running ^= true;
    }
}

static void create(struct run *run, struct tx *tx)
{
    if (run->world.count == ITEMS_MAX)
        return;
    static const int classes[] = {C_DISK, C_GUEST, C_LINK, C_LINK, C_GROUP, C_JOB};
    const struct class_desc *cls = &fixture_classes[classes[roll(run, ARRAY_LEN(classes))]];
    struct item *item = &run->world.items[run->world.count++];
    *item = (struct item){.cls = cls, .ref = tx_create(tx, cls)->ref, .alive = true};
    change(run, tx, item);
}

static void forget(struct world *world, struct ref gone)
{
    for (size_t i = 0; i < world->count; i++) {
        if (ref_eq(world->items[i].a, gone))
            world->items[i].a = REF_NULL;
        if (ref_eq(world->items[i].b, gone))
            world->items[i].b = REF_NULL;
    }
}

static void destroy(struct run *run, struct tx *tx, struct item *item)
{
    tx_delete(tx, item->cls, item->ref);
    item->alive = false;
    forget(&run->world, item->ref);
}

static void transaction(struct run *run)
{
    run->kept = run->world;
    struct tx *tx = store_begin(run->store);
    for (unsigned steps = 1 + roll(run, 8); steps > 0; steps--) {
        struct item *item =
            run->world.count ? &run->world.items[roll(run, (unsigned)run->world.count)] : NULL;
        unsigned what = roll(run, 10);
        if (!item || what < 4)
            create(run, tx);
        else if (item->alive && what < 8)
            change(run, tx, item);
        else if (item->alive)
            destroy(run, tx, item);
    }
    struct store_err err;
    if (roll(run, 10) == 0) {
        tx_abort(tx);
        run->world = run->kept;
    } else if (tx_commit(tx, NULL, &err) != 0) {
        run->world = run->kept;
    }
}

/* ---- does the store hold what the model says ---- */

static void compare_world(struct run *run)
{
    struct snapshot *snap = store_snapshot(run->store);
    size_t alive = 0;
    for (size_t i = 0; i < run->world.count; i++) {
        struct item *item = &run->world.items[i];
        struct row *row = (struct row *)(uintptr_t)snapshot_get(snap, item->cls, item->ref);
        cr_assert_eq(row != NULL, item->alive);
        alive += item->alive;
        if (!row)
            continue;
        if (item->cls->name_label)
            cr_assert_str_eq(row_cell(row, item->cls->name_label)->str, item->name);
        struct ref *a, *b;
        item_slots(item, row, &a, &b);
        cr_assert(!a || ref_eq(*a, item->a));
        cr_assert(!b || ref_eq(*b, item->b));
    }
    struct store_stats stats;
    store_stats(run->store, &stats);
    cr_assert_eq(stats.rows, alive);
    snapshot_unref(snap);
    fixture_check(run->store);
}

/* ---- a reader of the change feed ---- */

static bool mirror_row(const struct row *row, void *arg)
{
    struct run *run = arg;
    cr_assert_gt(row->generation, run->token);
    uint32_t at = refmap_get(&run->mirror_map, row->cls, row->ref);
    if (at == REFMAP_NONE) {
        at = run->mirror_count++;
        refmap_add(&run->mirror_map, row->cls, row->ref, at);
        run->mirror[at] = (struct mirror){.cls = row->cls, .ref = row->ref};
    }
    free(run->mirror[at].json);
    run->mirror[at].json = xstrdup(row_json(row)->text);
    return true;
}

static bool mirror_deleted(const struct store_tombstone *gone, void *arg)
{
    struct run *run = arg;
    uint32_t at = refmap_get(&run->mirror_map, gone->cls, gone->ref);
    cr_assert_neq(at, REFMAP_NONE, "only rows that the reader knew are reported as gone");
    cr_assert_not_null(run->mirror[at].json);
    free(run->mirror[at].json);
    run->mirror[at].json = NULL;
    return true;
}

static bool mirror_compare(const struct row *row, void *arg)
{
    struct run *run = arg;
    uint32_t at = refmap_get(&run->mirror_map, row->cls, row->ref);
    cr_assert_neq(at, REFMAP_NONE);
    cr_assert_str_eq(run->mirror[at].json, row_json(row)->text);
    run->mirror[at].seen = true;
    return true;
}

static void mirror_follow(struct run *run)
{
    struct snapshot *snap = store_snapshot(run->store);
    for (uint32_t i = 0; i < run->mirror_count; i++) {
        /* Its token is too old for this class: it starts over. */
        if (run->mirror[i].json && snapshot_oldest_token_of(snap, run->mirror[i].cls) > run->token) {
            free(run->mirror[i].json);
            run->mirror[i].json = NULL;
        }
        run->mirror[i].seen = false;
    }
    snapshot_changes(snap, run->token, mirror_row, mirror_deleted, run);
    run->token = snapshot_generation(snap);
    for (int i = 0; i < C_COUNT; i++)
        snapshot_each(snap, &fixture_classes[i], mirror_compare, run);
    for (uint32_t i = 0; i < run->mirror_count; i++)
        cr_assert_eq(run->mirror[i].seen, run->mirror[i].json != NULL);
    snapshot_unref(snap);
}

/* ---- runs ---- */

static void restart(struct run *run)
{
    store_close(run->store);
    run->control.next = FAULT_NONE;
    for (size_t i = 0; i < run->world.count; i++) /* jobs are in memory only */
        if (run->world.items[i].cls == JOB)
            run->world.items[i].alive = false;
    run_open(run);
}

static void play(unsigned seed, const char *path, int transactions, bool faults)
{
    struct run *run = xcalloc(1, sizeof(*run));
    run->seed = seed;
    run->path = path;
    run_open(run);
    struct snapshot *held = NULL;
    for (int i = 0; i < transactions; i++) {
        if (faults)
            run->control.next = roll(run, 4) ? FAULT_NONE : (int)roll(run, 5);
        transaction(run);
        if (roll(run, 10) == 0)
            mirror_follow(run);
        if (roll(run, 20) == 0)
            compare_world(run);
        if (roll(run, 15) == 0) { /* old snapshots come and go */
            snapshot_unref(held);
            held = store_snapshot(run->store);
        }
        if (path && roll(run, 100) == 0) {
            /* What was written although it was said to have failed is put right by the next batch. */
            run->control.next = FAULT_NONE;
            struct tx *tx = store_begin(run->store);
            run->kept = run->world;
            create(run, tx);
            fixture_commit(tx);
            snapshot_unref(held);
            held = NULL;
            restart(run);
            compare_world(run);
            mirror_follow(run);
        }
    }
    mirror_follow(run);
    compare_world(run);
    snapshot_unref(held);
    store_close(run->store);
    for (uint32_t i = 0; i < run->mirror_count; i++)
        free(run->mirror[i].json);
    refmap_done(&run->mirror_map);
    free(run);
}

Test(random, in_memory)
{
    for (unsigned seed = 1; seed <= 6; seed++)
        play(seed, NULL, 1000, false);
}

Test(random, in_memory_with_failures)
{
    for (unsigned seed = 11; seed <= 16; seed++)
        play(seed, NULL, 1000, true);
}

static void on_disk(unsigned seed, bool faults)
{
    char folder[64];
    fixture_folder(folder);
    AUTO_FREE char *path = xasprintf("%s/pool.db", folder);
    play(seed, path, 800, faults);
    fixture_remove(folder);
}

Test(random, on_disk_over_restarts)
{
    on_disk(21, false);
    on_disk(22, false);
}

Test(random, on_disk_over_restarts_with_failures)
{
    on_disk(31, true);
    on_disk(32, true);
    on_disk(33, true);
}
