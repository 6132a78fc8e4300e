/* What the calls about the host's own system mean: <hv/system.h> does it. */
#include "agent.h"
#include <base/mem.h>
#include <hv/system.h>

int agent_system_set(struct agent *agent, struct agent_op *op, const struct hv_system_set_args *args,
                     struct hv_system_set_result *result, struct hv_err *err)
{
    (void)op;
    if (hv_system_set(agent->system, args->part, &args->settings, err) < 0)
        return -1;
    system_settings_done(&result->settings);
    hv_system_settings(agent->system, &result->settings);
    return 0;
}

int agent_system_timezones(struct agent *agent, struct agent_op *op,
                           const struct hv_system_timezones_args *args,
                           struct hv_system_timezones_result *result, struct hv_err *err)
{
    (void)op;
    (void)args;
    AUTO_STR_SET const struct str_set *zones = NULL;
    if (hv_system_timezones(agent->system, &zones, err) < 0)
        return -1;
    for (size_t i = 0; i < zones->count; i++)
        hv_system_timezones_result_add_zones(result, zones->items[i]);
    return 0;
}

int agent_system_clock_set(struct agent *agent, struct agent_op *op,
                           const struct hv_system_clock_set_args *args,
                           struct hv_system_clock_set_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    return hv_system_clock_set(agent->system, args->time, err);
}

int agent_system_clock_status(struct agent *agent, struct agent_op *op,
                              const struct hv_system_clock_status_args *args,
                              struct hv_system_clock_status_result *result, struct hv_err *err)
{
    (void)op;
    (void)args;
    const struct str_map *servers = NULL;
    bool synchronized;
    if (hv_system_clock_status(agent->system, &synchronized, &servers, err) < 0)
        return -1;
    result->synchronized = synchronized;
    str_map_assign(&result->servers, servers);
    return 0;
}
