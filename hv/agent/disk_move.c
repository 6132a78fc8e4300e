/* Moving a disk of a running domain to another SR of this host. The domain keeps the disk that it has until
 * the driver has changed over; the new one is this operation's until then. */
#include "agent.h"
#include <base/mem.h>

static int find_disk(struct agent *agent, const struct hv_disk_move_args *args, struct domain_disk *now,
                     struct domain_disk *before, struct hv_err *err)
{
    struct domain_config config;
    bool found = false;
    if (agent->driver->config(agent->state, args->domain, &config, NULL) < 0)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain does not run on this host.");
    for (size_t i = 0; i < config.disks_count && !found; i++) {
        const struct domain_disk *disk = &config.disks[i];
        found = streq(disk->device, args->device) && disk->source == DISK_SOURCE_DISK && !disk->cdrom &&
                !disk->read_only;
        if (found) {
            domain_disk_copy(now, disk);
            domain_disk_copy(before, disk);
        }
    }
    domain_config_done(&config);
    if (!found)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The domain writes to no disk %s.", args->device);
    str_assign(&now->sr, args->new_sr);
    str_assign(&now->disk, args->new_disk);
    before->read_only = true; /* how it is opened here: for reading beside the domain */
    return 0;
}

static void report(void *ctx, double fraction)
{
    const struct op_job *job = ctx;
    agent_op_progress(job->agent, job->op, fraction);
}

static int move(struct agent *agent, struct agent_op *op, const char *domain,
                const struct domain_disk *before, const struct domain_disk *now, struct hv_err *err)
{
    struct disk_chain from = DISK_CHAIN_INIT, to = DISK_CHAIN_INIT;
    struct op_job job;
    if (disks_take(agent, now->sr, now->disk, true, err) < 0)
        return -1;
    op_job_init(&job, agent, op);
    int outcome = disks_open(agent, now, &to, err);
    /* A device model has its images already. */
    if (outcome == 0 && agent->driver == &hv_sim_driver)
        outcome = disks_open(agent, before, &from, err);
    if (outcome == 0)
        outcome =
            agent->driver->disk_move(agent->state, domain, now, &to, &from, report, &job, &op->deadline, err);
    else
        disk_chain_done(&to);
    disk_chain_done(&from);
    disks_release(agent, now->sr, now->disk, true);
    return outcome;
}

int agent_disk_move(struct agent *agent, struct agent_op *op, const struct hv_disk_move_args *args,
                    struct hv_disk_move_result *result, struct hv_err *err)
{
    struct domain_disk before, now;
    (void)result;
    if (!(agent->driver->capabilities(agent->state) & DRIVER_CAN_DISK_MOVE))
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "This host's driver (%s) cannot move disks of running domains.", agent->driver->name);
    if (find_disk(agent, args, &now, &before, err) < 0)
        return -1;
    int outcome = move(agent, op, args->domain, &before, &now, err);
    domain_disk_done(&before);
    domain_disk_done(&now);
    return outcome;
}
