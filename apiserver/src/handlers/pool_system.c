/* pool.*: the same setting for the system of every host. Hosts are asked one after another; those that cannot
 * do it are named in the error, and the others keep what they were given. */
#include "../hosts/system.h"
#include "../server.h"
#include "host_system.h"
#include <base/buf.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

struct each_host {
    struct ref *refs;
    size_t count;
};

static bool collect(const struct row *row, void *arg)
{
    struct each_host *hosts = arg;
    hosts->refs = xreallocarray(hosts->refs, hosts->count + 1, sizeof(*hosts->refs));
    hosts->refs[hosts->count++] = row->ref;
    return true;
}

/* What a message sets. */
struct setting {
    int (*set)(struct call *call, struct ref host, const struct setting *setting, struct api_err *err);
    int64_t number;
    bool flag;
};

/* 0; 1: *failed names the hosts that could not; -1 with *err: refused everywhere for the same wrong value, or
 * no such pool. The caller frees. */
static int on_all(struct call *call, struct ref self, const struct setting *setting, char **failed,
                  struct api_err *err)
{
    struct each_host hosts = {0};
    struct buf names AUTO_BUF = BUF_INIT;
    if (!snapshot_get(call->snapshot, CLASS_pool, self))
        return fail_handle(err, CLASS_pool, self);
    snapshot_each(call->snapshot, CLASS_host, collect, &hosts);
    for (size_t i = 0; i < hosts.count; i++) {
        struct api_err one = API_ERR_INIT;
        if (setting->set(call, hosts.refs[i], setting, &one) == 0)
            continue;
        if (streq(one.code, "INVALID_VALUE")) {
            *err = one;
            free(hosts.refs);
            return -1;
        }
        log_warn("pool", "a host's system could not be set", "host",
                 OBJECT_TEXT(call->server, CLASS_host, hosts.refs[i]), "error", one.code);
        buf_printf(&names, "%s%s", names.len ? "; " : "", REF_TEXT(hosts.refs[i]));
        api_err_done(&one);
    }
    free(hosts.refs);
    if (names.len == 0)
        return 0;
    *failed = buf_take(&names);
    return 1;
}

static int answer(struct call *call, struct ref self, const struct setting *setting,
                  int (*partially)(struct api_err *err, const char *hosts), struct api_err *err)
{
    char *failed AUTO_FREE = NULL;
    int rc = on_all(call, self, setting, &failed, err);
    return rc > 0 ? partially(err, failed) : rc;
}

static int enable_ssh(struct call *call, struct ref host, const struct setting *setting, struct api_err *err)
{
    (void)setting;
    return host_system_enable_ssh(call, host, err);
}

int handle_pool_enable_ssh(struct call *call, const struct pool_enable_ssh_args *args, struct api_err *err)
{
    const struct setting setting = {.set = enable_ssh};
    return answer(call, args->self, &setting, err_enable_ssh_partially_failed, err);
}

static int disable_ssh(struct call *call, struct ref host, const struct setting *setting, struct api_err *err)
{
    (void)setting;
    return host_system_disable_ssh(call, host, err);
}

int handle_pool_disable_ssh(struct call *call, const struct pool_disable_ssh_args *args, struct api_err *err)
{
    const struct setting setting = {.set = disable_ssh};
    return answer(call, args->self, &setting, err_disable_ssh_partially_failed, err);
}

static int ssh_timeout(struct call *call, struct ref host, const struct setting *setting, struct api_err *err)
{
    return host_system_set_ssh_timeout(call, host, setting->number, err);
}

int handle_pool_set_ssh_enabled_timeout(struct call *call,
                                        const struct pool_set_ssh_enabled_timeout_args *args,
                                        struct api_err *err)
{
    const struct setting setting = {.set = ssh_timeout, .number = args->value};
    return answer(call, args->self, &setting, err_set_ssh_timeout_partially_failed, err);
}

static int ssh_auto(struct call *call, struct ref host, const struct setting *setting, struct api_err *err)
{
    return host_system_set_ssh_auto(call, host, setting->flag, err);
}

int handle_pool_set_ssh_auto_mode(struct call *call, const struct pool_set_ssh_auto_mode_args *args,
                                  struct api_err *err)
{
    const struct setting setting = {.set = ssh_auto, .flag = args->value};
    return answer(call, args->self, &setting, err_set_ssh_auto_mode_partially_failed, err);
}

static int console_idle(struct call *call, struct ref host, const struct setting *setting,
                        struct api_err *err)
{
    return host_system_set_console_idle(call, host, setting->number, err);
}

int handle_pool_set_console_idle_timeout(struct call *call,
                                         const struct pool_set_console_idle_timeout_args *args,
                                         struct api_err *err)
{
    const struct setting setting = {.set = console_idle, .number = args->value};
    return answer(call, args->self, &setting, err_set_console_timeout_partially_failed, err);
}

/* ---- bridges: what the pool wants is in its row, and hosts that come back get it then (hosts/system.c) ----
 */

static int igmp_snooping(struct call *call, struct ref host, const struct setting *setting,
                         struct api_err *err)
{
    struct hv_err cause = {0};
    struct system_settings wanted, now;
    system_settings_init(&wanted);
    wanted.igmp_snooping = setting->flag;
    int rc = system_ask(call, host, SYSTEM_PART_IGMP_SNOOPING, &wanted, &now, &cause, err);
    system_settings_done(&wanted);
    if (rc < 0)
        return system_fail(err, host, "igmp_snooping_enabled", setting->flag ? "true" : "false", &cause);
    system_settings_done(&now);
    return 0;
}

int handle_pool_set_igmp_snooping_enabled(struct call *call,
                                          const struct pool_set_igmp_snooping_enabled_args *args,
                                          struct api_err *err)
{
    const struct setting setting = {.set = igmp_snooping, .flag = args->value};
    char *failed AUTO_FREE = NULL;
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_pool, args->self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_pool, args->self);
    }
    pool_row_mut(tx_edit(tx, CLASS_pool, args->self))->igmp_snooping_enabled = args->value;
    if (server_commit(tx, err) < 0)
        return -1;
    int rc = on_all(call, args->self, &setting, &failed, err);
    return rc > 0 ? err_could_not_update_igmp_snooping_everywhere(err) : rc;
}
