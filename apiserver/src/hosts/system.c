/* One call to an agent for all parts of its host's system. */
#include "system.h"

#include "../server.h"
#include "hosts.h"
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>

static int set_part(struct hv_host *agent, struct hv_op *op, enum system_part part,
                    const struct system_settings *wanted, struct system_settings *now, struct hv_err *cause)
{
    struct hv_system_set_args args;
    struct hv_system_set_result result;
    hv_system_set_args_init(&args);
    args.part = part;
    system_settings_done(&args.settings);
    system_settings_copy(&args.settings, wanted);
    int rc = hv_system_set(agent, op, &args, &result, cause);
    hv_system_set_args_done(&args);
    if (rc == 0) {
        system_settings_copy(now, &result.settings);
        hv_system_set_result_done(&result);
    }
    return rc;
}

int system_ask(struct call *call, struct ref host, enum system_part part,
               const struct system_settings *wanted, struct system_settings *now, struct hv_err *cause,
               struct api_err *err)
{
    struct hosts_op op;
    cause->kind = HV_ERR_KIND_NONE;
    struct hv_host *agent = hosts_get(call->server->hosts, host, err);
    if (!agent)
        return -1;
    hosts_op_init(&op, call, 0);
    int rc = set_part(agent, &op.op, part, wanted, now, cause);
    hosts_put(call->server->hosts, agent);
    return rc;
}

int system_fail(struct api_err *err, struct ref host, const char *field, const char *value,
                const struct hv_err *cause)
{
    if (cause->kind == HV_ERR_KIND_NONE)
        return -1; /* *err says it */
    if (cause->kind == HV_ERR_KIND_BAD_ARGUMENT)
        return err_invalid_value(err, field, value);
    if (cause->kind == HV_ERR_KIND_IO) /* not a repository's */
        return fail_internal(err, "%s", cause->text);
    return hosts_fail(err, host, cause);
}

static bool was_set(const struct system_settings *s, const char *part)
{
    for (size_t i = 0; i < s->parts_count; i++)
        if (streq(s->parts[i], part))
            return true;
    return false;
}

void system_connected(struct server *server, struct ref host, struct hv_host *agent,
                      const struct system_settings *settings)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    bool known = was_set(settings, system_part_name(SYSTEM_PART_IGMP_SNOOPING));
    struct system_settings wanted, now;
    struct hv_err cause;
    struct hv_op op = {.timeout_ms = 5000};
    if (!pool ||
        (known ? settings->igmp_snooping == pool->igmp_snooping_enabled : !pool->igmp_snooping_enabled))
        return;
    system_settings_init(&wanted);
    wanted.igmp_snooping = pool->igmp_snooping_enabled;
    if (set_part(agent, &op, SYSTEM_PART_IGMP_SNOOPING, &wanted, &now, &cause) == 0)
        system_settings_done(&now);
    else
        log_warn("hosts", "bridges of a host do not watch IGMP as the pool wants", "host",
                 OBJECT_TEXT(server, CLASS_host, host), "cause", cause.text);
    system_settings_done(&wanted);
}
