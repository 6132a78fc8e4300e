/* pool.set_*: settings of the pool that have rules of their own. */
#include "../server.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define DAYS_OF_A_WEEK 7
#define TELEMETRY_LATEST_S (31 * 86400)

/* The pool's row, to be changed within *tx; NULL with *err when `self` is not the pool. */
static struct pool_row *edit_pool(struct call *call, struct ref self, struct tx **tx, struct api_err *err)
{
    *tx = store_begin(call->server->store);
    struct pool_row *pool =
        tx_get(*tx, CLASS_pool, self) ? pool_row_mut(tx_edit(*tx, CLASS_pool, self)) : NULL;
    if (!pool) {
        tx_abort(*tx);
        fail_handle(err, CLASS_pool, self);
    }
    return pool;
}

static int abort_with(struct tx *tx, int rc)
{
    tx_abort(tx);
    return rc;
}

/* ---- every host ---- */

struct of_hosts {
    struct ref *refs;
    size_t count;
};

static bool collect(const struct row *row, void *arg)
{
    struct of_hosts *hosts = arg;
    hosts->refs = xreallocarray(hosts->refs, hosts->count + 1, sizeof(*hosts->refs));
    hosts->refs[hosts->count++] = row->ref;
    return true;
}

static int on_every_host(struct call *call, struct ref self, void (*set)(struct host_row *host, bool value),
                         bool value, struct api_err *err)
{
    struct of_hosts hosts = {0};
    struct tx *tx;
    if (!edit_pool(call, self, &tx, err))
        return -1;
    tx_each(tx, CLASS_host, collect, &hosts);
    for (size_t i = 0; i < hosts.count; i++)
        set(host_row_mut(tx_edit(tx, CLASS_host, hosts.refs[i])), value);
    free(hosts.refs);
    return server_commit(tx, err);
}

static void https_only(struct host_row *host, bool value)
{
    host->https_only = value;
}

/* The server's plain port asks for it with each request: http/web.c. */
int handle_pool_set_https_only(struct call *call, const struct pool_set_https_only_args *args,
                               struct api_err *err)
{
    return on_every_host(call, args->self, https_only, args->value, err);
}

static void ssl_legacy(struct host_row *host, bool value)
{
    host->ssl_legacy = value;
}

int handle_pool_disable_ssl_legacy(struct call *call, const struct pool_disable_ssl_legacy_args *args,
                                   struct api_err *err)
{
    return on_every_host(call, args->self, ssl_legacy, false, err);
}

/* ---- guest agents ---- */

int handle_pool_add_to_guest_agent_config(struct call *call,
                                          const struct pool_add_to_guest_agent_config_args *args,
                                          struct api_err *err)
{
    struct tx *tx;
    struct pool_row *pool = edit_pool(call, args->self, &tx, err);
    if (!pool)
        return -1;
    if (str_map_get(pool->guest_agent_config, args->key))
        return abort_with(
            tx, err_map_duplicate_key(err, "pool", "guest_agent_config", REF_TEXT(args->self), args->key));
    str_map_put(&pool->guest_agent_config, args->key, args->value);
    return server_commit(tx, err);
}

int handle_pool_remove_from_guest_agent_config(struct call *call,
                                               const struct pool_remove_from_guest_agent_config_args *args,
                                               struct api_err *err)
{
    struct tx *tx;
    struct pool_row *pool = edit_pool(call, args->self, &tx, err);
    if (!pool)
        return -1;
    str_map_del(&pool->guest_agent_config, args->key);
    return server_commit(tx, err);
}

/* ---- updates: hosts get theirs from their distribution, so there is no repository to fetch from ---- */

int handle_pool_configure_update_sync(struct call *call, const struct pool_configure_update_sync_args *args,
                                      struct api_err *err)
{
    struct tx *tx;
    bool weekly = args->update_sync_frequency == UPDATE_SYNC_FREQUENCY_WEEKLY;
    AUTO_STR const char *day = str_newf("%lld", (long long)args->update_sync_day);
    struct pool_row *pool = edit_pool(call, args->self, &tx, err);
    if (!pool)
        return -1;
    if (weekly && (args->update_sync_day < 0 || args->update_sync_day >= DAYS_OF_A_WEEK))
        return abort_with(tx, err_invalid_update_sync_day(err, day));
    pool->update_sync_frequency = args->update_sync_frequency;
    pool->update_sync_day = weekly ? args->update_sync_day : 0;
    return server_commit(tx, err);
}

int handle_pool_set_update_sync_enabled(struct call *call,
                                        const struct pool_set_update_sync_enabled_args *args,
                                        struct api_err *err)
{
    struct tx *tx;
    struct pool_row *pool = edit_pool(call, args->self, &tx, err);
    if (!pool)
        return -1;
    if (args->value && (!pool->repositories || pool->repositories->count == 0))
        return abort_with(tx, err_no_repositories_configured(err));
    pool->update_sync_enabled = args->value;
    return server_commit(tx, err);
}

int handle_pool_set_repositories(struct call *call, const struct pool_set_repositories_args *args,
                                 struct api_err *err)
{
    struct tx *tx;
    struct pool_row *pool = edit_pool(call, args->self, &tx, err);
    if (!pool)
        return -1;
    for (size_t i = 0; args->value && i < args->value->count; i++)
        if (!tx_get(tx, CLASS_Repository, args->value->items[i]))
            return abort_with(tx, fail_handle(err, CLASS_Repository, args->value->items[i]));
    ref_set_assign(&pool->repositories, ref_set_ref(args->value));
    if (!args->value || args->value->count == 0)
        pool->update_sync_enabled = false;
    return server_commit(tx, err);
}

/* ---- usage data: none is collected, but clients keep its identifier here ---- */

int handle_pool_reset_telemetry_uuid(struct call *call, const struct pool_reset_telemetry_uuid_args *args,
                                     struct api_err *err)
{
    struct tx *tx;
    struct pool_row *pool = edit_pool(call, args->self, &tx, err);
    if (!pool)
        return -1;
    struct ref old = pool->telemetry_uuid;
    struct secret_row *secret = secret_row_mut(tx_create(tx, CLASS_secret));
    str_assign(&secret->value, UUID_TEXT(ref_new()));
    pool->telemetry_uuid = secret->row.ref;
    if (tx_get(tx, CLASS_secret, old))
        tx_delete(tx, CLASS_secret, old);
    return server_commit(tx, err);
}

int handle_pool_set_telemetry_next_collection(struct call *call,
                                              const struct pool_set_telemetry_next_collection_args *args,
                                              struct api_err *err)
{
    struct tx *tx;
    char text[DATETIME_TEXT_SIZE];
    struct pool_row *pool = edit_pool(call, args->self, &tx, err);
    if (!pool)
        return -1;
    if (args->value > clock_unix_seconds() + TELEMETRY_LATEST_S) {
        datetime_format(args->value, text);
        return abort_with(tx, err_telemetry_next_collection_too_late(err, text));
    }
    pool->telemetry_next_collection = args->value;
    return server_commit(tx, err);
}

/* ---- directories ---- */

struct directory {
    const struct host_row *first;
    bool differs;
};

static bool compare_directory(const struct row *row, void *arg)
{
    struct directory *d = arg;
    const struct host_row *host = host_row(row);
    if (!d->first)
        d->first = host;
    d->differs = !str_eq(host->external_auth_type, d->first->external_auth_type) ||
                 !str_eq(host->external_auth_service_name, d->first->external_auth_service_name);
    return !d->differs;
}

int handle_pool_detect_nonhomogeneous_external_auth(
    struct call *call, const struct pool_detect_nonhomogeneous_external_auth_args *args, struct api_err *err)
{
    struct directory d = {0};
    if (!snapshot_get(call->snapshot, CLASS_pool, args->pool))
        return fail_handle(err, CLASS_pool, args->pool);
    snapshot_each(call->snapshot, CLASS_host, compare_directory, &d);
    return d.differs ? err_pool_joining_external_auth_mismatch(err) : 0;
}

/* ---- workload balancing: there is no such service for this pool ---- */

int handle_pool_deconfigure_wlb(struct call *call, struct api_err *err)
{
    (void)call;
    return err_wlb_not_initialized(err);
}

int handle_pool_send_wlb_configuration(struct call *call, const struct pool_send_wlb_configuration_args *args,
                                       struct api_err *err)
{
    (void)call;
    (void)args;
    return err_wlb_not_initialized(err);
}

int handle_pool_retrieve_wlb_configuration(struct call *call, const struct str_map **result,
                                           struct api_err *err)
{
    (void)call;
    (void)result;
    return err_wlb_not_initialized(err);
}
