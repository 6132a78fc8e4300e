/* The store over the real data model. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <db/store.h>
#include <model/rows.h>
#include <stdio.h>

static struct store *open_model(const char *path)
{
    struct store_config config = {.path = path};
    struct store *store;
    struct store_err err;
    cr_assert_eq(store_open(&store, &config, &err), 0, "%s", err.text);
    return store;
}

static void commit(struct tx *tx)
{
    struct store_err err;
    cr_assert_eq(tx_commit(tx, NULL, &err), 0, "%s", err.text);
}

Test(model, a_row_of_every_class_is_stored_and_found_again)
{
    char folder[] = "/tmp/store-test-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    AUTO_FREE char *path = xasprintf("%s/pool.db", folder);
    struct store *store = open_model(path);
    struct tx *tx = store_begin(store);
    AUTO_FREE struct ref *refs = xcalloc(model_class_count, sizeof(*refs));
    AUTO_FREE char **json = xcalloc(model_class_count, sizeof(*json));
    for (uint16_t i = 0; i < model_class_count; i++)
        if (model_classes[i].row_size)
            refs[i] = tx_create(tx, &model_classes[i])->ref;
    commit(tx);
    struct store_err err;
    cr_assert_eq(store_check(store, &err), 0, "%s", err.text);
    struct snapshot *snap = store_snapshot(store);
    for (uint16_t i = 0; i < model_class_count; i++)
        if (model_classes[i].row_size)
            json[i] = xstrdup(row_json(snapshot_get(snap, &model_classes[i], refs[i]))->text);
    snapshot_unref(snap);
    store_close(store);
    store = open_model(path);
    cr_assert_eq(store_check(store, &err), 0, "%s", err.text);
    snap = store_snapshot(store);
    for (uint16_t i = 0; i < model_class_count; i++) {
        const struct class_desc *cls = &model_classes[i];
        if (!cls->row_size)
            continue;
        const struct row *row = snapshot_get(snap, cls, refs[i]);
        cr_assert_eq(row != NULL, (cls->flags & CLASS_PERSIST) != 0, "%s", cls->name);
        if (row)
            cr_assert_str_eq(row_json(row)->text, json[i]);
        free(json[i]);
    }
    snapshot_unref(snap);
    store_close(store);
    static const char *const files[] = {"", ".lock", "-newest", "-wal-synced"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        AUTO_FREE char *name = xasprintf("%s%s", path, files[i]);
        unlink(name);
    }
    cr_assert_eq(rmdir(folder), 0, "nothing else is left");
}

Test(model, disks_of_a_vm)
{
    struct store *store = open_model(NULL);
    struct tx *tx = store_begin(store);
    struct ref vm = tx_create(tx, CLASS_VM)->ref, vdi = tx_create(tx, CLASS_VDI)->ref;
    struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
    struct ref ref = vbd->row.ref;
    vbd->VM = vm;
    vbd->VDI = vdi;
    commit(tx);
    tx = store_begin(store);
    tx_delete(tx, CLASS_VM, vm);
    commit(tx);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    cr_assert(ref_is_null(vbd_row(snapshot_get(snap, CLASS_VBD, ref))->VM));
    cr_assert(ref_set_has(vdi_row(snapshot_get(snap, CLASS_VDI, vdi))->VBDs, ref));
    snapshot_unref(TAKE_PTR(snap));
    store_close(store);
}
