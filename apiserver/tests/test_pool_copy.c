/* A pool's database as bytes: there and back, and what is no such thing. */
#include "memory_store.h"
#include <base/mem.h>
#include <criterion/criterion.h>
#include <dr/pool_copy.h>
#include <model/rows.h>
#include <stdio.h>

#define POOL "6a3b4c5d-0000-4000-8000-00000000000a"

/* A VM with a disk, and things that are nobody else's business. */
static struct store *some_pool(struct ref *vm_ref)
{
    struct store *store = store_new();
    struct tx *tx = store_begin(store);
    struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
    struct vdi_row *vdi = vdi_row_mut(tx_create(tx, CLASS_VDI));
    struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
    str_assign(&vm->name_label, "w\"e\nb");
    str_map_put(&vm->other_config, "key", "value");
    vm->power_state = VM_POWER_STATE_RUNNING;
    vm->version = 3;
    vdi->physical_utilisation = 12345;
    vdi->virtual_size = 4096;
    vbd->VM = vm->row.ref;
    vbd->VDI = vdi->row.ref;
    *vm_ref = vm->row.ref;
    str_assign(&secret_row_mut(tx_create(tx, CLASS_secret))->value, "canary");
    vm_row_mut(tx_create(tx, CLASS_VM))->is_default_template = true;
    commit(tx);
    return store;
}

static struct buf copy_of(struct store *store)
{
    struct buf out = BUF_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    cr_assert(pool_copy_write(snap, POOL, 1700000000, &out));
    return out;
}

static const char *load(const struct buf *copy, struct store **out)
{
    static char error[POOL_COPY_ERROR];
    struct pool_copy_head head;
    if (copy->len < POOL_COPY_HEAD || !pool_copy_read_head(copy->data, &head) ||
        head.size > copy->len - POOL_COPY_HEAD)
        return "no head";
    return pool_copy_load(&head, copy->data + POOL_COPY_HEAD, out, error) == 0 ? NULL : error;
}

Test(pool_copy, there_and_back)
{
    struct ref ref;
    struct store *store = some_pool(&ref), *again = NULL;
    AUTO_BUF struct buf copy = copy_of(store);
    struct pool_copy_head head;
    buf_add_char(&copy, '\0');
    cr_expect_null(strstr(copy.data + POOL_COPY_HEAD, "canary"));
    cr_assert(pool_copy_read_head(copy.data, &head));
    cr_expect_str_eq(head.pool, POOL);
    cr_expect_eq(head.written, 1700000000);
    cr_assert_null(load(&copy, &again));
    struct snapshot *snap = store_snapshot(again);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, ref));
    cr_assert_not_null(vm);
    cr_expect_str_eq(vm->name_label, "w\"e\nb");
    cr_expect_str_eq(str_map_get(vm->other_config, "key"), "value");
    cr_expect_eq(vm->version, 3);
    cr_assert_eq(vm->VBDs->count, 1);
    const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vm->VBDs->items[0]));
    cr_expect_eq(vdi_row(snapshot_get(snap, CLASS_VDI, vbd->VDI))->virtual_size, 4096);
    cr_expect_eq(snapshot_count(snap, CLASS_secret), 0);
    cr_expect_eq(snapshot_count(snap, CLASS_VM), 1, "the default template stays");
    snapshot_unref(snap);
    store_close(again);
    store_close(store);
}

Test(pool_copy, writing_a_copy_changes_nothing_in_the_next)
{
    struct ref ref;
    struct store *store = some_pool(&ref);
    AUTO_BUF struct buf first = copy_of(store);
    struct tx *tx = store_begin(store);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    const struct vbd_row *vbd =
        vbd_row(snapshot_get(snap, CLASS_VBD, vm_row(snapshot_get(snap, CLASS_VM, ref))->VBDs->items[0]));
    struct vdi_row *vdi = vdi_row_mut(tx_edit(tx, CLASS_VDI, vbd->VDI));
    vdi->physical_utilisation = 99;
    vdi->metadata_latest = true;
    commit(tx);
    AUTO_BUF struct buf second = copy_of(store);
    cr_expect_eq(first.len, second.len);
    cr_expect_eq(
        memcmp(first.data + POOL_COPY_HEAD, second.data + POOL_COPY_HEAD, first.len - POOL_COPY_HEAD), 0);
    snapshot_unref(TAKE_PTR(snap));
    store_close(store);
}

Test(pool_copy, damage_is_found)
{
    struct ref ref;
    struct store *store = some_pool(&ref), *again = NULL;
    AUTO_BUF struct buf copy = copy_of(store);
    for (size_t at = 0; at < copy.len; at += at < 300 ? 1 : 97) {
        if (at > 300 && at < POOL_COPY_HEAD)
            continue; /* padding */
        char old = copy.data[at];
        copy.data[at] = old == 'x' ? 'y' : 'x';
        const char *error = load(&copy, &again);
        /* Of the head only what is told may change without a trace: the pool and the time. */
        if (!error)
            store_close(again);
        cr_expect(error || (at < POOL_COPY_HEAD && at > 20), "byte %zu", at);
        copy.data[at] = old;
    }
    cr_assert_null(load(&copy, &again));
    store_close(again);
    store_close(store);
}

Test(pool_copy, rows_that_are_none)
{
#define ROW(cls, ref, fields) "{\"class\":\"" cls "\",\"ref\":\"OpaqueRef:" ref "\",\"fields\":" fields "}\n"
#define A "6a3b4c5d-0000-4000-8000-00000000000a"
#define B "6a3b4c5d-0000-4000-8000-00000000000b"
    static const struct {
        const char *rows;
        bool good;
    } cases[] = {
        {"", true},
        {ROW("VM", A, "{\"uuid\":\"" A "\"}"), true},
        {ROW("VM", A, "{\"uuid\":\"" A "\"}") ROW("VM", B, "{\"uuid\":\"" B "\"}"), true},
        {ROW("VM", A, "{\"uuid\":\"" A "\",\"of_a_later_version\":[1]}"), true},
        {ROW("of_a_later_version", A, "{}"), true},
        {ROW("session", A, "{\"uuid\":\"" A "\"}"), true}, /* left out */
        {ROW("VM", A, "{\"uuid\":\"" A "\"}") ROW("VM", A, "{\"uuid\":\"" B "\"}"), false},
        {ROW("VM", A, "{\"uuid\":\"" A "\"}") ROW("VM", B, "{\"uuid\":\"" A "\"}"), false},
        {ROW("VM", A, "{}"), false},
        {ROW("VM", A, "{\"uuid\":\"" A "\",\"VCPUs_max\":\"many\"}"), false},
        {ROW("VM", A, "{\"uuid\":\"" A "\",\"name_label\":{}}"), false},
        {ROW("VM", A, "[]"), false},
        {"{\"class\":\"VM\",\"ref\":\"OpaqueRef:NULL\",\"fields\":{}}\n", false},
        {"{}\n", false},
        {"{\"class\":\"VM\"", false},
        {"\n", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pool_copy_head head = {.size = strlen(cases[i].rows)};
        char error[POOL_COPY_ERROR] = "";
        struct store *store;
        sha256_text(cases[i].rows, head.size, head.sha256);
        int rc = pool_copy_load(&head, cases[i].rows, &store, error);
        cr_expect_eq(rc, cases[i].good ? 0 : -1, "%zu: %s", i, error);
        if (rc == 0)
            store_close(store);
    }
}
