/* What the calls about networks mean; the work is done by hv/network. The simulator's networks are names. */
#include "agent.h"
#include <base/mem.h>
#include <hv/network.h>

static int to_hv(struct hv_err *err, const struct network_error *error)
{
    enum hv_err_kind kind = HV_ERR_KIND_IO;
    switch (error->kind) {
    case NETWORK_NOT_ALLOWED:
        kind = HV_ERR_KIND_UNSUPPORTED;
        break;
    case NETWORK_NO_DEVICE:
        kind = HV_ERR_KIND_NOT_FOUND;
        break;
    case NETWORK_CONFLICT:
        kind = HV_ERR_KIND_IN_USE;
        break;
    case NETWORK_BAD_NAME:
        kind = HV_ERR_KIND_BAD_ARGUMENT;
        break;
    case NETWORK_SYSTEM:
        break;
    }
    return hv_fail(err, kind, "%s", error->text);
}

static bool is_simulated(const struct agent *agent)
{
    return agent->driver == &hv_sim_driver;
}

int agent_network_ensure(struct agent *agent, struct agent_op *op, const struct hv_network_ensure_args *args,
                         struct hv_network_ensure_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    const struct network_bridge bridge = {.name = args->bridge,
                                          .owner = args->network,
                                          .managed = args->managed,
                                          .mtu = args->mtu,
                                          .uplink = args->uplink,
                                          .vlan = (int)args->vlan};
    struct network_error error;
    if (is_simulated(agent) || network_bridge_ensure(&bridge, &error) == 0)
        return 0;
    return to_hv(err, &error);
}

int agent_network_remove(struct agent *agent, struct agent_op *op, const struct hv_network_remove_args *args,
                         struct hv_network_remove_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    struct network_error error;
    if (is_simulated(agent) || network_bridge_remove(args->bridge, args->network, &error) == 0)
        return 0;
    return to_hv(err, &error);
}
