/* host.*: off, on, anew; the management services themselves. */
#include "../ending.h"
#include "../gate/session.h"
#include "../hosts/facts.h"
#include "../hosts/hosts.h"
#include "../hosts/wake.h"
#include "../server.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

static const struct host_row *find(struct call *call, struct ref ref, struct api_err *err)
{
    const struct row *row = snapshot_get(call->snapshot, CLASS_host, ref);
    if (!row)
        fail_handle(err, CLASS_host, ref);
    return host_row(row);
}

/* ---- off and anew ---- */

static int check_empty(const struct snapshot *snap, const struct host_row *host, struct api_err *err)
{
    for (size_t i = 0; host->resident_VMs && i < host->resident_VMs->count; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, host->resident_VMs->items[i]));
        if (vm && !vm->is_control_domain)
            return err_host_in_use(err, REF_TEXT(host->row.ref), "VM", REF_TEXT(vm->row.ref));
    }
    return 0;
}

/* Clients see at once that it is gone; when its agent answers again it is live. */
static int record_gone(struct call *call, struct ref ref, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (tx_get(tx, CLASS_host, ref))
        host_rows_live(tx, ref, false, 0);
    return server_commit(tx, err);
}

static int end_machine(struct call *call, struct ref ref, enum host_power_action action, struct api_err *err)
{
    const struct host_row *host = find(call, ref, err);
    if (!host || check_empty(call->snapshot, host, err) < 0)
        return -1;
    struct hosts_op op;
    struct hv_host_power_args args;
    struct hv_host_power_result result;
    struct hv_err cause;
    struct hv_host *agent = hosts_get(call->server->hosts, ref, err);
    if (!agent)
        return -1;
    hosts_op_init(&op, call, 0);
    hv_host_power_args_init(&args);
    args.action = action;
    log_warn("host", "a host is asked to end", "host", host->uuid, "action", host_power_action_name(action),
             "user", call->session->user);
    int rc = hv_host_power(agent, &op.op, &args, &result, &cause);
    hv_host_power_args_done(&args);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return hosts_fail(err, ref, &cause);
    hv_host_power_result_done(&result);
    hosts_leaving(call->server->hosts, ref);
    return record_gone(call, ref, err);
}

int handle_host_shutdown(struct call *call, const struct host_shutdown_args *args, struct api_err *err)
{
    return end_machine(call, args->host, HOST_POWER_ACTION_SHUTDOWN, err);
}

int handle_host_reboot(struct call *call, const struct host_reboot_args *args, struct api_err *err)
{
    return end_machine(call, args->host, HOST_POWER_ACTION_REBOOT, err);
}

/* ---- on ---- */

int handle_host_power_on(struct call *call, const struct host_power_on_args *args, struct api_err *err)
{
    const struct host_row *host = find(call, args->host, err);
    return host ? host_wake(call->server, call->snapshot, host, err) : -1;
}

int handle_host_set_power_on_mode(struct call *call, const struct host_set_power_on_mode_args *args,
                                  struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_host, args->self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_host, args->self);
    }
    struct host_row *host = host_row_mut(tx_edit(tx, CLASS_host, args->self));
    str_assign(&host->power_on_mode, args->power_on_mode);
    str_map_assign(&host->power_on_config, str_map_ref(args->power_on_config));
    return server_commit(tx, err);
}

/* ---- the services; guests run on ---- */

int handle_host_restart_agent(struct call *call, const struct host_restart_agent_args *args,
                              struct api_err *err)
{
    struct hosts_op op;
    struct hv_agent_end_args end;
    struct hv_agent_end_result result;
    struct hv_err cause;
    struct hv_host *agent =
        find(call, args->host, err) ? hosts_get(call->server->hosts, args->host, err) : NULL;
    if (!agent)
        return -1;
    hosts_op_init(&op, call, 0);
    hv_agent_end_args_init(&end);
    end.action = AGENT_END_ACTION_RESTART;
    int rc = hv_agent_end(agent, &op.op, &end, &result, &cause);
    hv_agent_end_args_done(&end);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return hosts_fail(err, args->host, &cause);
    hv_agent_end_result_done(&result);
    return 0;
}

/* "This host" of the message is the one that was asked: what ends is this server. */
int handle_host_shutdown_agent(struct call *call, struct api_err *err)
{
    (void)err;
    log_warn("host", "the server is asked to end", "user", call->session->user);
    server_end(call->server, false);
    return 0;
}

/* Nothing of the host's waits to be copied: every change is on disk before it is acknowledged. What does not
 * wait for the disk (tasks) does now. */
int handle_host_sync_data(struct call *call, const struct host_sync_data_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_host, args->host)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_host, args->host);
    }
    tx_renew(tx, CLASS_host, args->host);
    tx_sync(tx);
    return server_commit(tx, err);
}
