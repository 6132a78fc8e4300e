/* Operations that an agent before this one had begun and not ended. The driver has adopted what runs and
 * undone half-made starts, storage has swept what was half written; so it can be seen which ones were done,
 * which can be done again, and which cannot be known. */
#include "agent.h"
#include <base/log.h>
#include <base/mem.h>
#include <io/savefile.h>

static void done(struct agent *agent, struct agent_op *op, void *result)
{
    ops_finish(agent, agent_op_ref(op), result, NULL);
}

static void failed(struct agent *agent, struct agent_op *op, const char *sentence)
{
    struct hv_err err;
    hv_fail(&err, HV_ERR_KIND_INTERNAL, "%s", sentence);
    ops_finish(agent, agent_op_ref(op), NULL, &err);
}

/* Of calls on a domain that ran. */
static void failed_on(struct agent *agent, struct agent_op *op, const char *sentence)
{
    struct hv_err err;
    hv_fail(&err, HV_ERR_KIND_INTERNAL, "%s", sentence);
    ops_blame_end(agent, op, &err);
    ops_finish(agent, agent_op_ref(op), NULL, &err);
}

static bool live(struct agent *agent, const char *uuid, struct domain_info *info)
{
    if (agent->driver->info(agent->state, uuid, info, NULL) < 0)
        return false;
    if (domain_state_is_live(info->state))
        return true;
    domain_info_done(info);
    return false;
}

/* Of calls that bring a domain to life: it runs here, or nothing of it is left (one that came from another
 * host runs only if the driver wrote down that it is ours). The results of domain_start, domain_resume and
 * domain_receive have one member, of one type. */
static void recover_live(struct agent *agent, struct agent_op *op, const char *sentence)
{
    struct hv_domain_start_result result;
    struct domain_info info;
    hv_domain_start_result_init(&result);
    if (live(agent, op->key, &info)) {
        domain_info_done(&result.info);
        result.info = info;
        done(agent, op, &result);
    } else {
        failed(agent, op, sentence);
    }
    hv_domain_start_result_done(&result);
}

/* Pausing what is paused is done; anything else is tried again. */
static void recover_state(struct agent *agent, struct agent_op *op, enum domain_state wanted)
{
    struct domain_info info;
    void *result AUTO_FREE = xcalloc(1, op->call->result->size);
    bool there = live(agent, op->key, &info);
    bool as_wanted = there && info.state == wanted;
    if (there)
        domain_info_done(&info);
    if (as_wanted)
        done(agent, op, result);
    else
        ops_resume(agent, op);
}

static void recover_shutdown(struct agent *agent, struct agent_op *op)
{
    struct domain_info info;
    struct hv_domain_shutdown_result result;
    if (live(agent, op->key, &info)) {
        domain_info_done(&info);
        ops_resume(agent, op);
        return;
    }
    agent->driver->forget(agent->state, op->key, NULL);
    hv_domain_shutdown_result_init(&result);
    done(agent, op, &result);
}

/* The driver writes down when a guest began to boot, as soon as it hears of it. */
static void recover_reboot(struct agent *agent, struct agent_op *op)
{
    struct hv_domain_reboot_result result;
    struct domain_info info;
    bool there = live(agent, op->key, &info), again = there && info.boot_time > op->started;
    if (there)
        domain_info_done(&info);
    hv_domain_reboot_result_init(&result);
    if (again)
        done(agent, op, &result);
    else
        failed_on(agent, op,
                  "The host's agent was restarted meanwhile; whether the guest has rebooted is not known.");
}

/* The driver lets a domain that was being saved run on. One that is gone left by this operation only if its
 * state is whole, since the state's header is written last. */
static void recover_suspend(struct agent *agent, struct agent_op *op)
{
    const struct hv_domain_suspend_args *args = op->args;
    struct hv_domain_suspend_result result;
    struct save_header header AUTO_SAVE_HEADER = {.state_bytes = 0};
    struct domain_info info;
    struct storage_error error;
    enum disk_format format;
    int fd AUTO_CLOSE = -1;
    if (live(agent, op->key, &info)) {
        domain_info_done(&info);
        failed_on(agent, op,
                  "The host's agent was restarted while the domain was being suspended; the domain runs on.");
        return;
    }
    struct sr *sr = srs_get(agent, args->sr, NULL);
    bool whole = sr && storage_disk_open(sr->storage, args->disk, false, &fd, &format, &error) == 0 &&
                 save_header_read(fd, &header, NULL) == 0 && streq(header.config.uuid, args->domain);
    srs_put(agent, sr);
    if (!whole) {
        failed_on(
            agent, op,
            "The host's agent was restarted while the domain was being suspended, and the domain ended.");
        return;
    }
    agent->driver->forget(agent->state, op->key, NULL);
    hv_domain_suspend_result_init(&result);
    result.state_bytes = header.state_bytes;
    done(agent, op, &result);
}

/* The driver has seen which image the guest goes on with. */
static void recover_disk_move(struct agent *agent, struct agent_op *op)
{
    const struct hv_disk_move_args *args = op->args;
    struct hv_disk_move_result result;
    struct domain_config config;
    bool moved = false;
    if (agent->driver->config(agent->state, args->domain, &config, NULL) == 0) {
        for (size_t i = 0; i < config.disks_count; i++)
            moved |=
                streq(config.disks[i].device, args->device) && streq(config.disks[i].disk, args->new_disk);
        domain_config_done(&config);
    }
    hv_disk_move_result_init(&result);
    if (moved)
        done(agent, op, &result);
    else
        failed_on(agent, op,
                  "The host's agent was restarted while the disk was being moved; it is where it was.");
}

/* A domain that was offered is asked after; any other goes on here. */
static void recover_send(struct agent *agent, struct agent_op *op)
{
    struct hv_domain_send_result result;
    struct domain_info info;
    AUTO_STR const char *offer = agent->driver->offered(agent->state, op->key);
    if (offer) {
        ops_resume(agent, op);
        return;
    }
    if (agent->driver->info(agent->state, op->key, &info, NULL) < 0) {
        failed_on(agent, op,
                  "The host's agent was restarted while the domain was being sent, and the domain ended.");
        return;
    }
    if (info.end_reason == END_REASON_MIGRATED) {
        hv_domain_send_result_init(&result);
        done(agent, op, &result);
    } else {
        failed_on(agent, op,
                  "The host's agent was restarted while the domain was being sent; it was not sent.");
    }
    domain_info_done(&info);
}

/* The copies get their names last, and a checkpoint's memory is whole by then: either all of them are there,
 * or it was not done. */
static void recover_snapshot(struct agent *agent, struct agent_op *op)
{
    const struct hv_domain_snapshot_args *args = op->args;
    struct hv_domain_snapshot_result result;
    struct hv_err err;
    hv_domain_snapshot_result_init(&result);
    if (args->disks_count > 0 && domain_snapshot_infos(agent, args, &result, &err) == 0) {
        done(agent, op, &result);
    } else {
        domain_snapshot_drop(agent, args);
        failed_on(agent, op,
                  "The host's agent was restarted while the snapshot was being made; nothing of it is left.");
    }
    hv_domain_snapshot_result_done(&result);
}

/* A disk appears under its name only when it is whole. */
static void recover_new_disk(struct agent *agent, struct agent_op *op, const char *sr_uuid, const char *disk)
{
    struct sr *sr = srs_get(agent, sr_uuid, NULL);
    /* The results of disk_create, disk_copy, disk_clone and upload_finish have one member, of one type. */
    struct hv_disk_create_result result;
    hv_disk_create_result_init(&result);
    bool there = sr && srs_disk_info(agent, sr, disk, &result.info, NULL) == 0;
    srs_put(agent, sr);
    if (there)
        done(agent, op, &result);
    else
        ops_resume(agent, op);
    hv_disk_create_result_done(&result);
}

/* An upload's file is gone when it is the disk's content; before that all of it can be done again. */
static void recover_upload(struct agent *agent, struct agent_op *op)
{
    const struct hv_upload_finish_args *args = op->args;
    struct storage_upload upload = {.uuid = args->upload, .length = args->length};
    struct storage_error error;
    int64_t offset;
    struct sr *sr = srs_get(agent, args->sr, NULL);
    bool ended =
        sr && storage_upload_look(sr->storage, &upload, &offset, &error) < 0 && error.kind == STORAGE_NO_DISK;
    srs_put(agent, sr);
    if (ended)
        recover_new_disk(agent, op, args->sr, args->disk);
    else
        ops_resume(agent, op);
}

void recover_operation(struct agent *agent, struct agent_op *op)
{
    log_info("recover", "an operation was cut short by a restart", "operation", op->id, "call",
             op->call->name, "key", op->key);
    switch ((enum hv_call_id)(op->call - hv_calls)) {
    case HV_CALL_DOMAIN_START:
        recover_live(
            agent, op,
            "The host's agent was restarted while the domain was being started; nothing of it is left.");
        return;
    case HV_CALL_DOMAIN_PAUSE:
        recover_state(agent, op, DOMAIN_STATE_PAUSED);
        return;
    case HV_CALL_DOMAIN_UNPAUSE:
        recover_state(agent, op, DOMAIN_STATE_RUNNING);
        return;
    case HV_CALL_DOMAIN_SHUTDOWN:
        recover_shutdown(agent, op);
        return;
    case HV_CALL_DOMAIN_SUSPEND:
        recover_suspend(agent, op);
        return;
    case HV_CALL_DOMAIN_RESUME:
        recover_live(
            agent, op,
            "The host's agent was restarted while the domain was being resumed; nothing of it is left.");
        return;
    case HV_CALL_DOMAIN_SNAPSHOT:
        recover_snapshot(agent, op);
        return;
    case HV_CALL_DOMAIN_RECEIVE:
        recover_live(agent, op,
                     "The host's agent was restarted while the domain came; nothing of it is left here.");
        return;
    case HV_CALL_DOMAIN_SEND:
        recover_send(agent, op);
        return;
    case HV_CALL_DISK_MOVE:
        recover_disk_move(agent, op);
        return;
    case HV_CALL_DISK_CREATE: {
        const struct hv_disk_create_args *args = op->args;
        recover_new_disk(agent, op, args->sr, args->disk);
        return;
    }
    case HV_CALL_DISK_COPY: {
        const struct hv_disk_copy_args *args = op->args;
        recover_new_disk(agent, op, args->new_sr, args->new_disk);
        return;
    }
    case HV_CALL_DISK_CLONE: {
        const struct hv_disk_clone_args *args = op->args;
        recover_new_disk(agent, op, args->sr, args->new_disk);
        return;
    }
    case HV_CALL_UPLOAD_FINISH:
        recover_upload(agent, op);
        return;
    case HV_CALL_UPLOAD_WRITE:
    case HV_CALL_DISK_IMPORT:
    case HV_CALL_DISK_EXPORT:
        failed(agent, op,
               "The host's agent was restarted in the middle of the stream; the disk is as before.");
        return;
    case HV_CALL_DOMAIN_REBOOT:
        recover_reboot(agent, op);
        return;
    default:
        ops_resume(agent, op); /* the same twice is the same as once */
    }
}
