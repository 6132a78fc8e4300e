/* Repository.* and what pool and host say of updates. Repositories are records that clients keep here; hosts
 * get their updates from their distribution, so nothing is fetched from them and nothing installed:
 * docs/administration.md. */
#include "../plan/evacuation.h"
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define NOT_HERE "Hosts get their updates from their distribution's packages, not through the pool."

/* ---- records ---- */

static bool is_plain_url(const char *url)
{
    size_t scheme = strncmp(url, "https://", 8) == 0 ? 8 : strncmp(url, "http://", 7) == 0 ? 7 : 0;
    const char *host = url + scheme;
    if (!scheme || !*host || strlen(url) > 2048)
        return false;
    for (const char *p = host; *p; p++)
        if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f || strchr("\"'\\<>`{}|^@", *p))
            return false;
    return *host != '/' && *host != '-' && *host != ':';
}

/* The name of a file with a key, without folders; "": none. */
static bool is_key_file(const char *name)
{
    size_t len = strlen(name);
    return len <= 255 && *name != '.' && *name != '-' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._+") == len;
}

struct search {
    const char *name, *url;
    enum origin origin;
    struct ref found;
};

static bool is_same(const struct row *row, void *arg)
{
    struct search *s = arg;
    const struct repository_row *one = repository_row(row);
    bool bundle = s->origin == ORIGIN_BUNDLE && one->origin == ORIGIN_BUNDLE;
    if (bundle || streq(one->name_label, s->name) || (*s->url && streq(one->binary_url, s->url)))
        s->found = row->ref;
    return ref_is_null(s->found);
}

/* A row with these, within *tx; NULL with *err, the transaction gone. */
static struct repository_row *introduce(struct call *call, struct tx **tx, const char *name,
                                        const char *description, const char *url, enum origin origin,
                                        struct api_err *err)
{
    struct search s = {.name = name, .url = url, .origin = origin};
    *tx = store_begin(call->server->store);
    tx_each(*tx, CLASS_Repository, is_same, &s);
    if (!ref_is_null(s.found)) {
        tx_abort(*tx);
        if (origin == ORIGIN_BUNDLE)
            err_bundle_repository_already_exists(err, REF_TEXT(s.found));
        else
            err_repository_already_exists(err, REF_TEXT(s.found));
        return NULL;
    }
    struct repository_row *row = repository_row_mut(tx_create(*tx, CLASS_Repository));
    str_assign(&row->name_label, name);
    str_assign(&row->name_description, description);
    str_assign(&row->binary_url, url);
    row->origin = origin;
    row->update = true;
    return row;
}

static int keep(struct tx *tx, const struct repository_row *row, struct ref *result, struct api_err *err)
{
    struct ref ref = row->row.ref;
    if (server_commit(tx, err) < 0)
        return -1;
    *result = ref;
    return 0;
}

int handle_repository_introduce(struct call *call, const struct repository_introduce_args *args,
                                struct ref *result, struct api_err *err)
{
    struct tx *tx;
    if (!is_plain_url(args->binary_url))
        return err_invalid_base_url(err, args->binary_url);
    if (*args->source_url && !is_plain_url(args->source_url))
        return err_invalid_base_url(err, args->source_url);
    if (!is_key_file(args->gpgkey_path))
        return err_invalid_gpgkey_path(err, args->gpgkey_path);
    struct repository_row *row =
        introduce(call, &tx, args->name_label, args->name_description, args->binary_url, ORIGIN_REMOTE, err);
    if (!row)
        return -1;
    str_assign(&row->source_url, args->source_url);
    str_assign(&row->gpgkey_path, args->gpgkey_path);
    row->update = args->update;
    return keep(tx, row, result, err);
}

int handle_repository_introduce_bundle(struct call *call, const struct repository_introduce_bundle_args *args,
                                       struct ref *result, struct api_err *err)
{
    struct tx *tx;
    struct repository_row *row =
        introduce(call, &tx, args->name_label, args->name_description, "", ORIGIN_BUNDLE, err);
    return row ? keep(tx, row, result, err) : -1;
}

int handle_repository_introduce_remote_pool(struct call *call,
                                            const struct repository_introduce_remote_pool_args *args,
                                            struct ref *result, struct api_err *err)
{
    struct tx *tx;
    if (!is_plain_url(args->binary_url))
        return err_invalid_base_url(err, args->binary_url);
    struct repository_row *row = introduce(call, &tx, args->name_label, args->name_description,
                                           args->binary_url, ORIGIN_REMOTE_POOL, err);
    if (!row)
        return -1;
    str_assign(&row->certificate, args->certificate);
    return keep(tx, row, result, err);
}

static bool uses(struct call *call, struct tx *tx, struct ref repository)
{
    const struct pool_row *pool = pool_row(tx_get(tx, CLASS_pool, call->server->pool_ref));
    return pool && ref_set_has(pool->repositories, repository);
}

int handle_repository_forget(struct call *call, const struct repository_forget_args *args,
                             struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    bool there = tx_get(tx, CLASS_Repository, args->self) != NULL;
    if (!there || uses(call, tx, args->self)) {
        tx_abort(tx);
        return there ? err_repository_is_in_use(err) : fail_handle(err, CLASS_Repository, args->self);
    }
    tx_delete(tx, CLASS_Repository, args->self);
    return server_commit(tx, err);
}

int handle_repository_set_gpgkey_path(struct call *call, const struct repository_set_gpgkey_path_args *args,
                                      struct api_err *err)
{
    if (!is_key_file(args->value))
        return err_invalid_gpgkey_path(err, args->value);
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_Repository, args->self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_Repository, args->self);
    }
    str_assign(&repository_row_mut(tx_edit(tx, CLASS_Repository, args->self))->gpgkey_path, args->value);
    return server_commit(tx, err);
}

/* ---- the pool's ---- */

/* The pool's row, to be changed within *tx; NULL with *err when one of the two is not there. */
static struct pool_row *edit_pool(struct call *call, struct ref self, struct ref repository, struct tx **tx,
                                  struct api_err *err)
{
    *tx = store_begin(call->server->store);
    if (tx_get(*tx, CLASS_pool, self) &&
        (ref_is_null(repository) || tx_get(*tx, CLASS_Repository, repository)))
        return pool_row_mut(tx_edit(*tx, CLASS_pool, self));
    if (!tx_get(*tx, CLASS_pool, self))
        fail_handle(err, CLASS_pool, self);
    else
        fail_handle(err, CLASS_Repository, repository);
    tx_abort(*tx);
    return NULL;
}

static struct pool_row *edit_repositories(struct call *call, struct ref self, struct ref repository,
                                          struct tx **tx, struct api_err *err)
{
    if (!ref_is_null(repository))
        return edit_pool(call, self, repository, tx, err);
    fail_handle(err, CLASS_Repository, repository);
    return NULL;
}

int handle_pool_add_repository(struct call *call, const struct pool_add_repository_args *args,
                               struct api_err *err)
{
    struct tx *tx;
    struct pool_row *pool = edit_repositories(call, args->self, args->value, &tx, err);
    if (!pool)
        return -1;
    ref_set_assign(&pool->repositories, ref_set_with(pool->repositories, args->value));
    return server_commit(tx, err);
}

int handle_pool_remove_repository(struct call *call, const struct pool_remove_repository_args *args,
                                  struct api_err *err)
{
    struct tx *tx;
    struct pool_row *pool = edit_repositories(call, args->self, args->value, &tx, err);
    if (!pool)
        return -1;
    ref_set_assign(&pool->repositories, ref_set_without(pool->repositories, args->value));
    if (!pool->repositories || pool->repositories->count == 0)
        pool->update_sync_enabled = false;
    return server_commit(tx, err);
}

static void forget_proxy(struct tx *tx, struct pool_row *pool)
{
    if (tx_get(tx, CLASS_secret, pool->repository_proxy_password))
        tx_delete(tx, CLASS_secret, pool->repository_proxy_password);
    str_assign(&pool->repository_proxy_url, "");
    str_assign(&pool->repository_proxy_username, "");
    pool->repository_proxy_password = REF_NULL;
}

int handle_pool_configure_repository_proxy(struct call *call,
                                           const struct pool_configure_repository_proxy_args *args,
                                           struct api_err *err)
{
    struct tx *tx;
    if (!is_plain_url(args->url))
        return err_invalid_repository_proxy_url(err, args->url);
    if (!*args->username != !*args->password || strpbrk(args->username, "\r\n:") ||
        strpbrk(args->password, "\r\n"))
        return err_invalid_repository_proxy_credential(err);
    struct pool_row *pool = edit_pool(call, args->self, REF_NULL, &tx, err);
    if (!pool)
        return -1;
    forget_proxy(tx, pool);
    str_assign(&pool->repository_proxy_url, args->url);
    str_assign(&pool->repository_proxy_username, args->username);
    if (*args->password) {
        struct secret_row *secret = secret_row_mut(tx_create(tx, CLASS_secret));
        str_assign(&secret->value, args->password);
        pool->repository_proxy_password = secret->row.ref;
    }
    return server_commit(tx, err);
}

int handle_pool_disable_repository_proxy(struct call *call,
                                         const struct pool_disable_repository_proxy_args *args,
                                         struct api_err *err)
{
    struct tx *tx;
    struct pool_row *pool = edit_pool(call, args->self, REF_NULL, &tx, err);
    if (!pool)
        return -1;
    forget_proxy(tx, pool);
    return server_commit(tx, err);
}

/* ---- fetching and installing ---- */

static int refuse(const struct call *call, struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    return pool && pool->repositories && pool->repositories->count ? err_operation_not_allowed(err, NOT_HERE)
                                                                   : err_no_repositories_configured(err);
}

int handle_pool_sync_updates(struct call *call, const struct pool_sync_updates_args *args,
                             const char **result, struct api_err *err)
{
    (void)result;
    return snapshot_get(call->snapshot, CLASS_pool, args->self) ? refuse(call, err)
                                                                : fail_handle(err, CLASS_pool, args->self);
}

int handle_host_apply_updates(struct call *call, const struct host_apply_updates_args *args, json_t **result,
                              struct api_err *err)
{
    (void)result;
    return snapshot_get(call->snapshot, CLASS_host, args->self) ? refuse(call, err)
                                                                : fail_handle(err, CLASS_host, args->self);
}

struct obstacles {
    const struct snapshot *snap;
    json_t *list;
    bool requires_reboot;
};

static void add_obstacle(struct obstacles *o, const char *code, const char *param)
{
    json_array_append_new(o->list, param ? json_pack("[ss]", code, param) : json_pack("[s]", code));
}

static bool look_at_host(const struct row *row, void *arg)
{
    struct obstacles *o = arg;
    const struct host_row *host = host_row(row);
    const struct row *metrics = snapshot_get(o->snap, CLASS_host_metrics, host->metrics);
    AUTO_EVACUATION struct evacuation plan = {0};
    if (!metrics || !host_metrics_row(metrics)->live)
        add_obstacle(o, "HOST_OFFLINE", REF_TEXT(row->ref));
    else if (!host->enabled)
        add_obstacle(o, "HOST_DISABLED", REF_TEXT(row->ref));
    else if (o->requires_reboot) {
        evacuation_plan(o->snap, host, &plan);
        for (size_t i = 0; i < plan.count; i++)
            if (ref_is_null(plan.steps[i].to))
                add_obstacle(o, plan.steps[i].why.code, REF_TEXT(plan.steps[i].vm));
    }
    return true;
}

int handle_pool_check_update_readiness(struct call *call, const struct pool_check_update_readiness_args *args,
                                       json_t **result, struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, args->self));
    if (!pool)
        return fail_handle(err, CLASS_pool, args->self);
    struct obstacles o = {call->snapshot, json_array(), args->requires_reboot};
    if (pool->ha_enabled)
        add_obstacle(&o, "HA_IS_ENABLED", NULL);
    snapshot_each(call->snapshot, CLASS_host, look_at_host, &o);
    *result = o.list;
    return 0;
}

/* ---- XenServer's own update packages ---- */

int handle_pool_update_introduce(struct call *call, const struct pool_update_introduce_args *args,
                                 struct ref *result, struct api_err *err)
{
    (void)result;
    return snapshot_get(call->snapshot, CLASS_VDI, args->vdi)
               ? err_invalid_update(err,
                                    "Updates of this server are packages of the distribution, not disks.")
               : fail_handle(err, CLASS_VDI, args->vdi);
}

/* No host has one: there is nothing to read anew. */
int handle_pool_update_resync_host(struct call *call, const struct pool_update_resync_host_args *args,
                                   struct api_err *err)
{
    return snapshot_get(call->snapshot, CLASS_host, args->host) ? 0
                                                                : fail_handle(err, CLASS_host, args->host);
}
