/* auth.*, and external authentication of pool and hosts: the machine's users and groups as a second source of
 * people who may log in. The coordinator's host row says whether it is on. */
#include "../gate/accounts.h"
#include "../gate/directory.h"
#include "../gate/session.h"
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

/* ---- questions ---- */

/* Local users are known always, others while the directory is connected. */
static int need_directory(struct call *call, struct api_err *err)
{
    return directory_enabled(call->server, call->snapshot) ? 0 : err_auth_is_disabled(err);
}

int handle_auth_get_subject_identifier(struct call *call, const struct auth_get_subject_identifier_args *args,
                                       const char **result, struct api_err *err)
{
    const struct user_row *user = accounts_user(call->snapshot, args->subject_name);
    AUTO_FREE char *sid = NULL;
    if (user)
        sid = accounts_sid(user->uuid);
    else if (need_directory(call, err) < 0)
        return -1;
    else
        sid = directory_find(args->subject_name);
    if (!sid)
        return err_subject_cannot_be_resolved(err);
    *result = str_new(sid);
    return 0;
}

static const struct str_map *local_information(const struct user_row *user, const char *sid)
{
    const struct str_pair pairs[] = {
        {"subject-name", user->short_name},
        {"subject-displayname", *user->fullname ? user->fullname : user->short_name},
        {"subject-gecos", user->fullname},
        {"subject-is-group", "false"},
        {"subject-sid", sid},
        {"subject-account-disabled", *user->password_hash ? "false" : "true"},
        {"subject-account-expired", "false"},
        {"subject-account-locked", "false"},
        {"subject-password-expired", "false"},
    };
    return str_map_new(pairs, ARRAY_LEN(pairs));
}

int handle_auth_get_subject_information_from_identifier(
    struct call *call, const struct auth_get_subject_information_from_identifier_args *args,
    const struct str_map **result, struct api_err *err)
{
    const struct user_row *user = accounts_user_of_sid(call->snapshot, args->subject_identifier);
    const struct str_map *information = NULL;
    if (user)
        information = local_information(user, args->subject_identifier);
    else if (need_directory(call, err) < 0)
        return -1;
    else
        information = directory_information(args->subject_identifier);
    if (!information)
        return err_subject_cannot_be_resolved(err);
    *result = information;
    return 0;
}

int handle_auth_get_group_membership(struct call *call, const struct auth_get_group_membership_args *args,
                                     const struct str_set **result, struct api_err *err)
{
    if (accounts_user_of_sid(call->snapshot, args->subject_identifier)) {
        *result = NULL; /* local users are in no groups */
        return 0;
    }
    if (need_directory(call, err) < 0)
        return -1;
    if (!directory_groups(args->subject_identifier, result))
        return err_subject_cannot_be_resolved(err);
    return 0;
}

/* ---- on and off ---- */

static void connect_host(struct tx *tx, struct ref ref, const char *type, const char *service)
{
    struct host_row *host = host_row_mut(tx_edit(tx, CLASS_host, ref));
    str_assign(&host->external_auth_type, type);
    str_assign(&host->external_auth_service_name, service);
    str_map_assign(&host->external_auth_configuration, NULL);
}

struct hosts {
    struct tx *tx;
    struct ref connected; /* one that has a directory already */
    struct ref all[4096];
    size_t count;
};

static bool collect_host(const struct row *row, void *arg)
{
    struct hosts *hosts = arg;
    if (*host_row(row)->external_auth_type)
        hosts->connected = row->ref;
    hosts->all[hosts->count++] = row->ref;
    return hosts->count < ARRAY_LEN(hosts->all);
}

static void connect_all(struct tx *tx, const struct hosts *hosts, const char *type, const char *service)
{
    for (size_t i = 0; i < hosts->count; i++)
        connect_host(tx, hosts->all[i], type, service);
}

/* The directory's users have nobody to vouch for them any more. */
static void close_outside_sessions(struct server *server)
{
    const struct str_set *sids = sessions_sids(server->sessions);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    for (size_t i = 0; sids && i < sids->count; i++)
        if (!accounts_user_of_sid(snap, sids->items[i]))
            sessions_close_of(server, sids->items[i], NULL);
    str_set_unref(sids);
}

int handle_pool_enable_external_auth(struct call *call, const struct pool_enable_external_auth_args *args,
                                     struct api_err *err)
{
    char why[256] = "The pool has no host yet.";
    if (!snapshot_get(call->snapshot, CLASS_pool, args->pool))
        return fail_handle(err, CLASS_pool, args->pool);
    if (!streq(args->auth_type, DIRECTORY_TYPE))
        return err_auth_unknown_type(err, args->auth_type);
    AUTO_FREE struct hosts *hosts = xcalloc(1, sizeof(*hosts));
    struct tx *tx = store_begin(call->server->store);
    tx_each(tx, CLASS_host, collect_host, hosts);
    int rc = 0;
    if (!ref_is_null(hosts->connected))
        rc = err_pool_auth_already_enabled(err, REF_TEXT(hosts->connected));
    else if (hosts->count == 0 || !directory_ready(call->server->pam_dir, why))
        rc = err_pool_auth_enable_failed(err, REF_TEXT(pool_row(tx_get(tx, CLASS_pool, args->pool))->master),
                                         why);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    connect_all(tx, hosts, DIRECTORY_TYPE, args->service_name);
    return server_commit(tx, err);
}

int handle_pool_disable_external_auth(struct call *call, const struct pool_disable_external_auth_args *args,
                                      struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_pool, args->pool))
        return fail_handle(err, CLASS_pool, args->pool);
    AUTO_FREE struct hosts *hosts = xcalloc(1, sizeof(*hosts));
    struct tx *tx = store_begin(call->server->store);
    tx_each(tx, CLASS_host, collect_host, hosts);
    connect_all(tx, hosts, "", "");
    if (server_commit(tx, err) < 0)
        return -1;
    close_outside_sessions(call->server);
    return 0;
}

int handle_host_enable_external_auth(struct call *call, const struct host_enable_external_auth_args *args,
                                     struct api_err *err)
{
    char why[256];
    if (!streq(args->auth_type, DIRECTORY_TYPE))
        return err_auth_unknown_type(err, args->auth_type);
    struct tx *tx = store_begin(call->server->store);
    const struct host_row *host = host_row(tx_get(tx, CLASS_host, args->host));
    int rc = 0;
    if (!host)
        rc = fail_handle(err, CLASS_host, args->host);
    else if (*host->external_auth_type)
        rc = err_auth_already_enabled(err, host->external_auth_type, host->external_auth_service_name);
    else if (!directory_ready(call->server->pam_dir, why))
        rc = err_auth_enable_failed(err, why);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    connect_host(tx, args->host, DIRECTORY_TYPE, args->service_name);
    return server_commit(tx, err);
}

int handle_host_disable_external_auth(struct call *call, const struct host_disable_external_auth_args *args,
                                      struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_host, args->host)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_host, args->host);
    }
    connect_host(tx, args->host, "", "");
    if (server_commit(tx, err) < 0)
        return -1;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    if (!directory_enabled(call->server, snap))
        close_outside_sessions(call->server);
    return 0;
}
