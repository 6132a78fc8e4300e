/* What the calls about the life of a running domain mean: snapshots, suspend and resume, devices that come
 * and go. The prototypes are generated from openapi/agent/domain.toml. */
#include "agent.h"

static int cannot(struct agent *agent, const char *what, struct hv_err *err)
{
    return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "This host's driver (%s) cannot %s.", agent->driver->name,
                   what);
}

int agent_domain_snapshot(struct agent *agent, struct agent_op *op,
                          const struct hv_domain_snapshot_args *args,
                          struct hv_domain_snapshot_result *result, struct hv_err *err)
{
    (void)op, (void)args, (void)result;
    return cannot(agent, "make snapshots of running domains", err);
}

int agent_domain_suspend_size(struct agent *agent, struct agent_op *op,
                              const struct hv_domain_suspend_size_args *args,
                              struct hv_domain_suspend_size_result *result, struct hv_err *err)
{
    (void)op, (void)args, (void)result;
    return cannot(agent, "suspend domains", err);
}

int agent_domain_suspend(struct agent *agent, struct agent_op *op, const struct hv_domain_suspend_args *args,
                         struct hv_domain_suspend_result *result, struct hv_err *err)
{
    (void)op, (void)args, (void)result;
    return cannot(agent, "suspend domains", err);
}

int agent_domain_resume(struct agent *agent, struct agent_op *op, const struct hv_domain_resume_args *args,
                        struct hv_domain_resume_result *result, struct hv_err *err)
{
    (void)op, (void)args, (void)result;
    return cannot(agent, "resume domains", err);
}

int agent_disk_plug(struct agent *agent, struct agent_op *op, const struct hv_disk_plug_args *args,
                    struct hv_disk_plug_result *result, struct hv_err *err)
{
    (void)op, (void)args, (void)result;
    return cannot(agent, "plug disks in", err);
}

int agent_disk_unplug(struct agent *agent, struct agent_op *op, const struct hv_disk_unplug_args *args,
                      struct hv_disk_unplug_result *result, struct hv_err *err)
{
    (void)op, (void)args, (void)result;
    return cannot(agent, "unplug disks", err);
}

int agent_nic_plug(struct agent *agent, struct agent_op *op, const struct hv_nic_plug_args *args,
                   struct hv_nic_plug_result *result, struct hv_err *err)
{
    (void)op, (void)args, (void)result;
    return cannot(agent, "plug nics in", err);
}

int agent_nic_unplug(struct agent *agent, struct agent_op *op, const struct hv_nic_unplug_args *args,
                     struct hv_nic_unplug_result *result, struct hv_err *err)
{
    (void)op, (void)args, (void)result;
    return cannot(agent, "unplug nics", err);
}

int agent_domain_set_vcpus(struct agent *agent, struct agent_op *op,
                           const struct hv_domain_set_vcpus_args *args,
                           struct hv_domain_set_vcpus_result *result, struct hv_err *err)
{
    (void)op, (void)args, (void)result;
    return cannot(agent, "change the number of processors", err);
}

int agent_domain_set_memory(struct agent *agent, struct agent_op *op,
                            const struct hv_domain_set_memory_args *args,
                            struct hv_domain_set_memory_result *result, struct hv_err *err)
{
    (void)op, (void)args, (void)result;
    return cannot(agent, "change the memory of a running domain", err);
}
