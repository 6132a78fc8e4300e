/* pool.*: how logins are checked: how many at once, and for how long the outside directory's answers are
 * good. */
#include "../gate/auth.h"
#include "../gate/directory.h"
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define THREADS_MAX 64
#define CACHE_SIZE_MAX 4096
#define CACHE_EXPIRY_MAX_S (7 * 86400)

struct number {
    const char *field;
    int64_t value, min, max;
    int64_t *(*of)(struct pool_row *pool);
};

static int set_number(struct call *call, struct ref self, const struct number *n, struct api_err *err)
{
    AUTO_STR const char *text = str_newf("%lld", (long long)n->value);
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_pool, self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_pool, self);
    }
    if (n->value < n->min || n->value > n->max) {
        tx_abort(tx);
        return err_invalid_value(err, n->field, text);
    }
    *n->of(pool_row_mut(tx_edit(tx, CLASS_pool, self))) = n->value;
    return server_commit(tx, err);
}

/* ---- at once ---- */

static int64_t *local_threads(struct pool_row *pool)
{
    return &pool->local_auth_max_threads;
}

int handle_pool_set_local_auth_max_threads(struct call *call,
                                           const struct pool_set_local_auth_max_threads_args *args,
                                           struct api_err *err)
{
    const struct number n = {"local_auth_max_threads", args->value, 1, THREADS_MAX, local_threads};
    if (set_number(call, args->self, &n, err) < 0)
        return -1;
    auth_apply_threads(call->server);
    return 0;
}

static int64_t *directory_threads(struct pool_row *pool)
{
    return &pool->ext_auth_max_threads;
}

int handle_pool_set_ext_auth_max_threads(struct call *call,
                                         const struct pool_set_ext_auth_max_threads_args *args,
                                         struct api_err *err)
{
    const struct number n = {"ext_auth_max_threads", args->value, 1, THREADS_MAX, directory_threads};
    if (set_number(call, args->self, &n, err) < 0)
        return -1;
    auth_apply_threads(call->server);
    return 0;
}

/* ---- remembered answers: whatever changes, the directory is asked anew ---- */

int handle_pool_set_ext_auth_cache_enabled(struct call *call,
                                           const struct pool_set_ext_auth_cache_enabled_args *args,
                                           struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_pool, args->self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_pool, args->self);
    }
    pool_row_mut(tx_edit(tx, CLASS_pool, args->self))->ext_auth_cache_enabled = args->value;
    if (server_commit(tx, err) < 0)
        return -1;
    auth_forget_directory(call->server);
    return 0;
}

static int64_t *cache_size(struct pool_row *pool)
{
    return &pool->ext_auth_cache_size;
}

int handle_pool_set_ext_auth_cache_size(struct call *call,
                                        const struct pool_set_ext_auth_cache_size_args *args,
                                        struct api_err *err)
{
    const struct number n = {"ext_auth_cache_size", args->value, 1, CACHE_SIZE_MAX, cache_size};
    if (set_number(call, args->self, &n, err) < 0)
        return -1;
    auth_forget_directory(call->server);
    return 0;
}

static int64_t *cache_expiry(struct pool_row *pool)
{
    return &pool->ext_auth_cache_expiry;
}

int handle_pool_set_ext_auth_cache_expiry(struct call *call,
                                          const struct pool_set_ext_auth_cache_expiry_args *args,
                                          struct api_err *err)
{
    const struct number n = {"ext_auth_cache_expiry", args->value, 1, CACHE_EXPIRY_MAX_S, cache_expiry};
    if (set_number(call, args->self, &n, err) < 0)
        return -1;
    auth_forget_directory(call->server);
    return 0;
}

/* ---- LDAP: the directory here is PAM, and how its modules reach theirs is their configuration's ---- */

static int refuse_ldaps(struct call *call, struct ref host, struct api_err *err)
{
    return directory_enabled(call->server, call->snapshot)
               ? err_auth_set_ldaps_failed(
                     err, REF_TEXT(host),
                     "The directory is PAM: its modules' own configuration says whether they "
                     "speak TLS.")
               : err_auth_is_disabled(err);
}

int handle_pool_external_auth_set_ldaps(struct call *call,
                                        const struct pool_external_auth_set_ldaps_args *args,
                                        struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, args->pool));
    return pool ? refuse_ldaps(call, pool->master, err) : fail_handle(err, CLASS_pool, args->pool);
}

int handle_host_external_auth_set_ldaps(struct call *call,
                                        const struct host_external_auth_set_ldaps_args *args,
                                        struct api_err *err)
{
    return snapshot_get(call->snapshot, CLASS_host, args->host) ? refuse_ldaps(call, args->host, err)
                                                                : fail_handle(err, CLASS_host, args->host);
}
