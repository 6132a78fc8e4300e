/* PUT /pool/xmldbdump: the dump becomes the pool's database. It is read into a database of its own beside the
 * one in use, checked there and fitted to the machines that there are now; then one rename decides
 * (store_offer_file), and the server starts anew over it. With dry_run it is read into memory, and that is
 * all. */
#include "../dr/dump_read.h"
#include "../ending.h"
#include "../handlers/host_rows.h"
#include "../handlers/vm_state.h"
#include "../hosts/ha.h"
#include "../rules/pool.h"
#include "transfer.h"
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <model/errors.h>
#include <stdio.h>
#include <unistd.h>

#define DUMP_MAX (INT64_C(2) << 30)
#define PIECE ((size_t)64 * 1024)
#define FUSE_MS 3000 /* for whoever asks how the task has ended */

struct restore {
    struct transfer *t;
    struct snapshot *own; /* of the database that goes */
    char *path;           /* of the new one; NULL: in memory */
    struct store *store;
};

/* Of the database that goes. */
static const struct pool_row *own_pool(const struct restore *r)
{
    return pool_row(snapshot_get(r->own, CLASS_pool, r->t->server->pool_ref));
}

/* ---- fitting it to what there is ---- */

struct fitting {
    struct tx *tx;
    const struct snapshot *own;
    struct ref *unknown; /* hosts that the old database does not have */
    size_t count;
};

/* Where its agent and its server are is known better now. */
static void take_place(struct host_row *host, const struct host_row *now)
{
    str_assign(&host->uuid, now->uuid);
    str_assign(&host->address, now->address);
    str_assign(&host->boot_id, now->boot_id);
    host->agent_port = now->agent_port;
    host->server_port = now->server_port;
}

static bool fit_host(const struct row *row, void *arg)
{
    struct fitting *f = arg;
    const struct row *now = snapshot_by_uuid(f->own, CLASS_host, host_row(row)->uuid);
    if (now) {
        take_place(host_row_mut(tx_edit(f->tx, CLASS_host, row->ref)), host_row(now));
        return true;
    }
    f->unknown = xreallocarray(f->unknown, f->count + 1, sizeof(f->unknown[0]));
    f->unknown[f->count++] = row->ref;
    return true;
}

/* Its agent has credentials of another pool, or none: nothing can be asked of it, and it is taken for dead.
 */
static void forget_host(struct tx *tx, struct ref ref)
{
    const struct host_row *host = host_row(tx_get(tx, CLASS_host, ref));
    AUTO_REF_SET const struct ref_set *vms = ref_set_ref(host->resident_VMs);
    for (size_t i = 0; vms && i < vms->count; i++)
        if (!ref_eq(vms->items[i], host->control_domain))
            vm_state_halted(tx, vms->items[i]);
    log_info("restore", "a host of the backup is forgotten", "host", host->uuid);
    host_rows_delete(tx, host);
}

/* The coordinator's host keeps its part. In the backup of another pool the host that led stands for it. */
static int fit_master(struct fitting *f, const struct pool_row *own, struct pool_row *pool,
                      struct api_err *err)
{
    const struct host_row *self = own ? host_row(snapshot_get(f->own, CLASS_host, own->master)) : NULL;
    const struct row *there = self ? tx_by_uuid(f->tx, CLASS_host, self->uuid) : NULL;
    if (!self)
        return 0;
    if (there) {
        pool->master = there->ref;
        return 0;
    }
    for (size_t i = 0; i < f->count; i++)
        if (ref_eq(f->unknown[i], pool->master)) {
            take_place(host_row_mut(tx_edit(f->tx, CLASS_host, pool->master)), self);
            f->unknown[i] = f->unknown[--f->count];
            return 0;
        }
    return err_restore_target_mgmt_if_not_in_backup(err);
}

/* What was being made then: nobody goes on with it, and nothing that has become of it may be taken for a
 * remnant. */
static bool fit_sr(const struct row *row, void *arg)
{
    if (sr_row(row)->unfinished_disks)
        str_map_assign(&sr_row_mut(tx_edit(arg, CLASS_SR, row->ref))->unfinished_disks, NULL);
    return true;
}

static bool fit_vdi(const struct row *row, void *arg)
{
    if (vdi_row(row)->upload)
        str_map_assign(&vdi_row_mut(tx_edit(arg, CLASS_VDI, row->ref))->upload, NULL);
    return true;
}

static int fit(struct restore *r, struct api_err *err)
{
    struct fitting f = {.tx = store_begin(r->store), .own = r->own};
    struct store_err cause;
    struct pool_row *pool = pool_row_mut(tx_edit(f.tx, CLASS_pool, pool_in(f.tx)->row.ref));
    ha_row_off(pool); /* no host has a lease: see refuse */
    tx_each(f.tx, CLASS_host, fit_host, &f);
    tx_each(f.tx, CLASS_SR, fit_sr, f.tx);
    tx_each(f.tx, CLASS_VDI, fit_vdi, f.tx);
    int rc = fit_master(&f, own_pool(r), pool, err);
    for (size_t i = 0; rc == 0 && i < f.count; i++)
        forget_host(f.tx, f.unknown[i]);
    free(f.unknown);
    if (rc < 0) {
        tx_abort(f.tx);
        return -1;
    }
    return tx_commit(f.tx, NULL, &cause) < 0 ? fail_store(err, &cause) : 0;
}

/* ---- the new database ---- */

static int fail_read(struct restore *r, struct api_err *err)
{
    return transfer_interrupted(r->t, err) ? -1 : err_import_error_premature_eof(err);
}

static int read_dump(struct restore *r, struct dump_reader *reader, struct api_err *err)
{
    AUTO_FREE char *piece = xmalloc(PIECE);
    ssize_t got;
    while ((got = transfer_read(r->t, piece, PIECE)) > 0) {
        if (r->t->done > DUMP_MAX)
            return err_could_not_import_database(err, "the dump is too large");
        if (dump_reader_feed(reader, piece, (size_t)got, err) < 0)
            return -1;
    }
    return got < 0 ? fail_read(r, err) : dump_reader_end(reader, err);
}

static int fill(struct restore *r, struct api_err *err)
{
    struct store_err cause;
    struct tx *tx = store_begin(r->store);
    struct dump_reader *reader = dump_reader_new(tx, r->own);
    int rc = read_dump(r, reader, err);
    dump_reader_free(reader);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    if (tx_commit(tx, NULL, &cause) < 0)
        return fail_store(err, &cause);
    if (fit(r, err) < 0)
        return -1;
    if (store_check(r->store, &cause) < 0)
        return err_could_not_import_database(err, cause.text);
    return 0;
}

/* With all that SQLite and the store put beside it. */
static void remove_database(const char *path)
{
    static const char *const ends[] = {"", "-wal", "-shm", "-wal-synced", "-newest", ".lock"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        AUTO_FREE char *file = xasprintf("%s%s", path, ends[i]);
        if (unlink(file) < 0 && errno != ENOENT)
            log_warn("restore", "a file could not be removed", "file", file, "cause", strerror(errno));
    }
}

static int build(struct restore *r, struct api_err *err)
{
    struct store_err cause;
    const struct store_config config = {.path = r->path};
    if (r->path)
        remove_database(r->path); /* of an attempt that was interrupted */
    if (store_open(&r->store, &config, &cause) < 0)
        return fail_store(err, &cause);
    int rc = fill(r, err);
    store_close(r->store);
    return rc;
}

/* Hosts that hold leases would go on without the database that they belong to. */
static int refuse(const struct server *server, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    return pool && pool->ha_enabled ? err_ha_is_enabled(err) : 0;
}

/* From here on it is decided. */
static int take(struct restore *r, struct api_err *err)
{
    struct server *server = r->t->server;
    struct store_err cause;
    AUTO_FREE char *path = xasprintf("%s/pool.db", server->state_dir);
    failpoint("restore-built:");
    atomic_store(&server->replaced, true);
    if (refuse(server, err) < 0) { /* switched on while the dump came */
        atomic_store(&server->replaced, false);
        return -1;
    }
    if (store_offer_file(path, r->path, &cause) < 0) {
        atomic_store(&server->replaced, false);
        return fail_store(err, &cause);
    }
    failpoint("restore-decided:");
    log_warn("restore", "the server starts anew with the restored database");
    server_end_later(server, true, FUSE_MS);
    return 0;
}

static int restore(struct restore *r, struct api_err *err)
{
    int rc = build(r, err);
    if (rc == 0 && r->path)
        rc = take(r, err);
    if (r->path)
        remove_database(r->path);
    return rc;
}

static int run(struct transfer *t, struct api_err *err)
{
    static atomic_flag busy = ATOMIC_FLAG_INIT; /* one at a time: it takes as much memory as the pool */
    bool dry = transfer_flag(t, "dry_run");
    struct restore r = {.t = t, .own = store_snapshot(t->server->store)};
    t->object = xstrdup("");
    if (!dry)
        r.path = xasprintf("%s/pool.db-incoming", t->server->state_dir);
    int rc = refuse(t->server, err) < 0 || transfer_accept(t, err) < 0 ? -1 : 0;
    if (rc == 0 && atomic_flag_test_and_set(&busy)) {
        rc = err_other_operation_in_progress(err, "pool", REF_TEXT(t->server->pool_ref), "restore", "");
    } else if (rc == 0) {
        rc = restore(&r, err);
        atomic_flag_clear(&busy);
    }
    snapshot_unref(r.own);
    free(r.path);
    return rc;
}

void door_restore(struct server *server, struct http_request *req)
{
    static const struct transfer_kind kind = {.label = "Restoring the database from XML",
                                              .action = ACTION_put_pool_xml_db_sync,
                                              .word = "database restore",
                                              .uploads = true,
                                              .run = run};
    transfer_begin(server, req, &kind);
}
