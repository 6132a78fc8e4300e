/* What the calls about the host, events and operations mean. */
#include "agent.h"
#include <base/file.h>
#include <base/mem.h>
#include <base/pki.h>
#include <hv/system.h>

int agent_host_facts(struct agent *agent, struct agent_op *op, const struct hv_host_facts_args *args,
                     struct hv_host_facts_result *result, struct hv_err *err)
{
    (void)op;
    (void)args;
    (void)err;
    host_facts_done(&result->facts);
    pthread_mutex_lock(&agent->facts_lock);
    host_facts_copy(&result->facts, &agent->facts);
    pthread_mutex_unlock(&agent->facts_lock);
    result->facts.memory_free_bytes = facts_memory_free();
    char *path AUTO_FREE = agent_path(agent, "pki/host.pem");
    size_t len = 0;
    char *file AUTO_FREE = file_read(path, 65536, &len);
    char *certificate AUTO_FREE = file ? pki_normalized(file, len) : NULL;
    str_assign(&result->facts.certificate, certificate ? certificate : "");
    facts_images(agent, &result->facts);
    system_settings_done(&result->facts.system);
    hv_system_settings(agent->system, &result->facts.system);
    return 0;
}

int agent_host_stats(struct agent *agent, struct agent_op *op, const struct hv_host_stats_args *args,
                     struct hv_host_stats_result *result, struct hv_err *err)
{
    (void)op;
    (void)args;
    struct domain_info *infos;
    size_t count;
    if (agent->driver->list(agent->state, &infos, &count, err) < 0)
        return -1;
    host_numbers(agent, &result->stats);
    for (size_t i = 0; i < count; i++) {
        struct domain_stats stats;
        if (domain_state_is_live(infos[i].state) &&
            agent->driver->stats(agent->state, infos[i].uuid, &stats, NULL) == 0) {
            struct domain_stats *slot = host_stats_add_domains(&result->stats);
            domain_stats_done(slot);
            *slot = stats;
        }
        domain_info_done(&infos[i]);
    }
    free(infos);
    return 0;
}

int agent_events_wait(struct agent *agent, struct agent_op *op, const struct hv_events_wait_args *args,
                      struct hv_events_wait_result *result, struct hv_err *err)
{
    (void)op;
    (void)err;
    events_collect(agent, args->cursor, result);
    return 0;
}

int agent_operation_get(struct agent *agent, struct agent_op *op, const struct hv_operation_get_args *args,
                        struct hv_operation_get_result *result, struct hv_err *err)
{
    (void)op;
    (void)err;
    struct agent_op *found = args->bar ? ops_find_or_bar(agent, args->id) : ops_find(agent, args->id);
    if (found) {
        operation_status_done(&result->status);
        ops_status(agent, found, &result->status);
        agent_op_unref(found);
    } else {
        str_assign(&result->status.id, args->id);
        result->status.state = OPERATION_STATE_UNKNOWN;
    }
    return 0;
}

int agent_operation_list(struct agent *agent, struct agent_op *op, const struct hv_operation_list_args *args,
                         struct hv_operation_list_result *result, struct hv_err *err)
{
    (void)op;
    (void)args;
    (void)err;
    ops_list(agent, result);
    return 0;
}

int agent_operation_cancel(struct agent *agent, struct agent_op *op,
                           const struct hv_operation_cancel_args *args,
                           struct hv_operation_cancel_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    (void)err;
    ops_cancel(agent, args->id);
    return 0;
}
