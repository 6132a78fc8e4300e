/* Each allocation of the store failing in turn, from opening over a commit to closing: an error and a store
 * that goes on, or the end of the process; and in the file what was before, or all that was committed. */
#include "alloc_faults.h"
#include "fixture.h"
#include <base/buf.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/wait.h>

struct scene {
    char folder[64];
    char path[96];
    char *before, *after; /* contents */
    struct ref edited, parent, deleted;
};

static bool add_row(const struct row *row, void *arg)
{
    buf_add_str(arg, row_json(row)->text);
    buf_add_char(arg, '\n');
    return true;
}

/* Of the disks, by reference, without the one that a transaction adds; the caller frees. */
static char *content(struct store *store)
{
    AUTO_BUF struct buf all = BUF_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    buf_printf(&all, "%zu\n", snapshot_count(snap, DISK));
    snapshot_each(snap, GUEST, add_row, &all);
    return buf_take(&all);
}

/* What need not be synced: the log is written in another mode until the next change that is. */
static void change_lazily(struct tx *tx, const struct scene *scene)
{
    (void)scene;
    str_assign(&AS(errand, tx_create(tx, ERRAND))->name_label, "lazy");
}

static void change(struct tx *tx, const struct scene *scene)
{
    AS(guest, tx_edit(tx, GUEST, scene->edited))->parent = scene->parent;
    str_assign(&AS(guest, tx_edit(tx, GUEST, scene->edited))->name_label, "another name");
    str_map_put(&AS(guest, tx_edit(tx, GUEST, scene->edited))->other_config, "key", "value");
    tx_delete(tx, GUEST, scene->deleted);
    for (int i = 0; i < 5; i++)
        str_assign(&AS(disk, tx_create(tx, DISK))->name_label, "new");
}

static int open_scene(const struct scene *scene, struct store **store)
{
    struct store_err err = {0};
    struct store_config config = fixture_config();
    config.path = scene->path;
    config.max_tombstones = 1;
    if (store_open(store, &config, &err) == 0)
        return 0;
    return strstr(err.text, scene->path) ? -1 : -2;
}

/* Refused with words, or done; after a refusal the same works. */
static int commit(struct store *store, const struct scene *scene,
                  void (*edit)(struct tx *tx, const struct scene *scene))
{
    struct store_err err = {0};
    struct tx *tx = store_begin(store);
    edit(tx, scene);
    if (tx_commit(tx, NULL, &err) == 0)
        return 0;
    AUTO_FREE char *found = content(store);
    if (err.code == STORE_OK || !*err.text || !streq(found, scene->before))
        return -1;
    tx = store_begin(store);
    edit(tx, scene);
    return tx_commit(tx, NULL, &err);
}

static int use(void *arg)
{
    const struct scene *scene = arg;
    struct store *store;
    int rc = open_scene(scene, &store);
    if (rc < 0)
        return rc == -1 ? 0 : -1;
    rc = commit(store, scene, change_lazily) < 0 ? -1 : commit(store, scene, change);
    AUTO_FREE char *found = content(store);
    if (rc == 0 && !streq(found, scene->after))
        rc = -1;
    store_close(store);
    return rc;
}

/* Puts the file back to what it was before. */
static void restore(const struct scene *scene)
{
    AUTO_FREE char *command =
        xasprintf("rm -f %s-* && cp %s/kept %s", scene->path, scene->folder, scene->path);
    cr_assert_eq(system(command), 0);
}

static bool is_whole(void *arg, enum alloc_outcome outcome)
{
    const struct scene *scene = arg;
    struct store *store = fixture_open(scene->path);
    AUTO_FREE char *found = content(store);
    fixture_check(store);
    store_close(store);
    restore(scene);
    return streq(found, scene->after) || (outcome != ALLOC_DONE && streq(found, scene->before));
}

Test(memory, each_allocation_in_turn, .timeout = 1800)
{
    struct scene scene;
    fixture_folder(scene.folder);
    snprintf(scene.path, sizeof(scene.path), "%s/pool.db", scene.folder);
    struct store *store = fixture_open(scene.path);
    struct tx *tx = store_begin(store);
    scene.edited = tx_create(tx, GUEST)->ref;
    scene.parent = tx_create(tx, GUEST)->ref;
    scene.deleted = tx_create(tx, GUEST)->ref;
    fixture_commit(tx);
    scene.before = content(store);
    store_close(store);
    AUTO_FREE char *keep = xasprintf("cp %s %s/kept", scene.path, scene.folder);
    cr_assert_eq(system(keep), 0);
    store = fixture_open(scene.path);
    tx = store_begin(store);
    change(tx, &scene);
    fixture_commit(tx);
    scene.after = content(store);
    store_close(store);
    restore(&scene);

    size_t told, ended;
    cr_assert(alloc_faults_each(use, is_whole, &scene, &told, &ended));
    cr_assert_gt(told, 5);  /* SQLite's */
    cr_assert_gt(ended, 0); /* small ones of our own */
    free(scene.before);
    free(scene.after);
    fixture_remove(scene.folder);
}
