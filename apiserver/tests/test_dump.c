/* The database as XML: there and back, in pieces of every size, and what is no such dump. */
#include "memory_store.h"
#include <base/buf.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <dr/dump_read.h>
#include <http/dump.h>
#include <model/errors.h>
#include <model/rows.h>
#include <stdio.h>

static int put(void *arg, const void *data, size_t len)
{
    buf_add(arg, data, len);
    return 0;
}

static struct buf dump_of(struct store *store, bool whole)
{
    struct buf out = BUF_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    cr_assert_eq(dump_database(snap, whole, put, &out), 0);
    return out;
}

static struct store *some_pool(struct ref *vm_ref, struct ref *user_ref)
{
    struct store *store = store_new();
    struct tx *tx = store_begin(store);
    str_assign(&pool_row_mut(tx_create(tx, CLASS_pool))->name_label, "p");
    struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
    struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
    struct user_row *user = user_row_mut(tx_create(tx, CLASS_user));
    str_assign(&vm->name_label, "w\"e\n\t\r <&>' \xe2\x82\xac");
    str_map_put(&vm->other_config, "k'\\", "(v) ('x')");
    vm->power_state = VM_POWER_STATE_RUNNING;
    vm->memory_target = INT64_MAX;
    vbd->VM = vm->row.ref;
    vbd->reserved = true;
    str_assign(&user->password_hash, "canary");
    *vm_ref = vm->row.ref;
    *user_ref = user->row.ref;
    tx_create(tx, CLASS_session);
    tx_create(tx, CLASS_task);
    commit(tx);
    return store;
}

/* The error's code, with what it says in `why`; NULL: it was read into `store`. */
static const char *load(struct store *store, struct store *own, const char *data, size_t len, size_t piece,
                        struct buf *why)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(own);
    struct tx *tx = store_begin(store);
    struct dump_reader *reader = dump_reader_new(tx, snap);
    int rc = 0;
    for (size_t at = 0; at < len && rc == 0; at += piece)
        rc = dump_reader_feed(reader, data + at, piece < len - at ? piece : len - at, &err);
    if (rc == 0)
        rc = dump_reader_end(reader, &err);
    dump_reader_free(reader);
    if (rc == 0) {
        commit(tx);
        return NULL;
    }
    tx_abort(tx);
    buf_clear(why);
    buf_printf(why, "%s %s", err.code, err.param_count ? err.params[0] : "");
    return why->data;
}

Test(dump, there_and_back)
{
    struct ref vm, user;
    struct store *store = some_pool(&vm, &user);
    AUTO_BUF struct buf dump = dump_of(store, true), why = BUF_INIT;
    cr_expect_null(strstr(dump.data, "canary"));
    for (size_t piece = 1; piece < 8192; piece = 3 * piece + 1) {
        struct store *again = store_new();
        struct store_err err;
        cr_assert_null(load(again, piece == 1 ? again : store, dump.data, dump.len, piece, &why), "%s",
                       why.data);
        cr_expect_eq(store_check(again, &err), 0);
        struct snapshot *snap = store_snapshot(again), *old = store_snapshot(store);
        const struct row *row = snapshot_get(snap, CLASS_VM, vm);
        cr_assert_not_null(row);
        cr_expect_str_eq(row_json(row)->text, row_json(snapshot_get(old, CLASS_VM, vm))->text);
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vm_row(row)->VBDs->items[0]));
        cr_expect(vbd->reserved, "what the API does not show is there");
        cr_expect_str_eq(user_row(snapshot_get(snap, CLASS_user, user))->password_hash,
                         piece == 1 ? "" : "canary");
        cr_expect_eq(snapshot_count(snap, CLASS_session) + snapshot_count(snap, CLASS_task), 0);
        snapshot_unref(snap);
        snapshot_unref(old);
        store_close(again);
    }
    store_close(store);
}

Test(dump, for_others_lacks_what_is_internal)
{
    struct ref vm, user;
    struct store *store = some_pool(&vm, &user);
    AUTO_BUF struct buf dump = dump_of(store, false);
    cr_expect_null(strstr(dump.data, "reserved="));
    cr_expect_null(strstr(dump.data, "<table name=\"secret\">"));
    store_close(store);
}

#define HEAD "<database><manifest><pair key=\"schema_major_vsn\" value=\"1\"/></manifest>"
#define REF "OpaqueRef:11111111-2222-4333-8444-555555555555"
#define UUID "11111111-2222-4333-8444-666666666666"
#define POOL "<table name='pool'><row ref='" REF "' uuid='" UUID "'/></table>"
#define ROW(attributes) HEAD POOL "<table name='VM'><row " attributes "/></table></database>"
#define NEW_REF "ref='OpaqueRef:21111111-2222-4333-8444-555555555555' "
#define NEW_UUID "uuid='21111111-2222-4333-8444-666666666666' "

Test(dump, what_is_none_is_refused)
{
    static const struct {
        const char *text, *why; /* NULL: it is one */
    } table[] = {
        {HEAD POOL "</database>", NULL},
        {"<?xml version='1.0'?>\n" HEAD "\n" POOL "<table name='later' /></database>\n", NULL},
        {ROW(NEW_REF NEW_UUID), NULL},
        {ROW(NEW_REF NEW_UUID "name__label='&#65;&#x20AC;&quot;' later='x'"), NULL},
        {"", "cut off"},
        {HEAD POOL, "cut off"},
        {HEAD POOL "</database", "cut off"},
        {HEAD "</database>", "0 pools"},
        {"<database>" POOL "</database>", "no manifest"},
        {"<database><manifest></manifest>", "of which version"},
        {"<database><manifest><pair key=\"schema_major_vsn\" value=\"x\"/>", "no number"},
        {"<database><manifest><pair key=\"schema_major_vsn\"/>", "without key or value"},
        {"<database><manifest><pair key=\"schema_major_vsn\" value=\"99999\"/>",
         "RESTORE_INCOMPATIBLE_VERSION"},
        {"text", "text between"},
        {"<html>", "<html> is not expected"},
        {"<!DOCTYPE x>", "attributes"},
        {"<>", "<> is not expected"},
        {HEAD "<table>", "no name"},
        {HEAD POOL POOL "</database>", "two rows of pool have one reference"},
        {ROW("ref='" REF "' " NEW_UUID), "two rows have one reference"},
        {HEAD POOL "<table name='pool'><row " NEW_REF NEW_UUID "/></table></database>", "2 pools"},
        {HEAD POOL "<table name='VM'><row " NEW_REF NEW_UUID
                   "/><row ref='OpaqueRef:31111111-2222-4333-8444-555555555555' " NEW_UUID
                   "/></table></database>",
         "one uuid"},
        {ROW(NEW_UUID), "no reference"},
        {ROW("ref='OpaqueRef:NULL' " NEW_UUID), "no reference"},
        {ROW(NEW_REF), "no valid uuid"},
        {ROW(NEW_REF "uuid='x'"), "no valid uuid"},
        {ROW(NEW_REF NEW_UUID "power_state='Gone'"), "VM.power_state"},
        {ROW(NEW_REF NEW_UUID "tags='(one)'"), "VM.tags"},
        {ROW(NEW_REF "x"), "attributes"},
        {ROW(NEW_REF "x="), "attributes"},
        {ROW(NEW_REF "='1'"), "attributes"},
        {ROW(NEW_REF "x='&nbsp;'"), "attributes"},
        {ROW(NEW_REF "x='&#0;'"), "attributes"},
        {ROW(NEW_REF "x='&#xd800;'"), "attributes"},
        {ROW(NEW_REF "x='&#x110000;'"), "attributes"},
        {ROW(NEW_REF "x='&#99999999999999999999;'"), "attributes"},
        {ROW(NEW_REF "x='&#;'"), "attributes"},
        {ROW(NEW_REF "x='&#12'"), "attributes"},
        {ROW(NEW_REF "x='\xff'"), "attributes"},
    };
    AUTO_BUF struct buf why = BUF_INIT;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct store *store = store_new();
        const char *got = load(store, store, table[i].text, strlen(table[i].text), 7, &why);
        if (!table[i].why)
            cr_expect_null(got, "%s: %s", table[i].text, got);
        else
            cr_expect(got && strstr(got, table[i].why), "%s: %s", table[i].text, got ? got : "taken");
        store_close(store);
    }
}
