/* VBD.set_qos_algorithm_type, set_qos_algorithm_params: what a disk may do in a second, at once where a VM
 * runs with it. The row is changed first: should the host not be reached, it holds from the next start on. */
#include "../hosts/hosts.h"
#include "../plan/domain.h"
#include "../rules/vbd_device.h"
#include "storage.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

static int push(struct call *call, const struct vbd_row *vbd, const struct vm_row *vm,
                const struct disk_limits *limits, struct api_err *err)
{
    int number;
    char device[VBD_DEVICE_NAME_SIZE];
    struct hv_disk_limit_args args;
    struct hv_disk_limit_result result;
    struct hv_err cause;
    struct hosts_op op;
    if (!vbd_device_parse(vbd->userdevice, &number))
        return err_invalid_device(err, vbd->userdevice);
    struct hv_host *agent = hosts_get(call->server->hosts, vm->resident_on, err);
    if (!agent)
        return -1;
    hosts_op_init(&op, call, 0);
    hv_disk_limit_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    str_assign(&args.device, vbd_device_name(number, device));
    args.max_iops = limits->max_iops;
    args.max_kbytes = limits->max_kbytes;
    int rc = hv_disk_limit(agent, &op.op, &args, &result, &cause);
    hv_disk_limit_args_done(&args);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return hosts_fail_vm(err, vm->row.ref, vm->resident_on, &cause);
    hv_disk_limit_result_done(&result);
    return 0;
}

/* `type` or `params` NULL: as it is. */
static int change(struct call *call, struct ref self, const char *type, const struct str_map *const *params,
                  struct api_err *err)
{
    struct disk_limits limits;
    const struct vbd_row *seen = vbd_row(snapshot_get(call->snapshot, CLASS_VBD, self));
    if (!seen)
        return fail_handle(err, CLASS_VBD, self);
    if (plan_limits(type ? type : seen->qos_algorithm_type, params ? *params : seen->qos_algorithm_params,
                    &limits, err) < 0)
        return -1;
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_VBD, self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VBD, self);
    }
    struct vbd_row *vbd = vbd_row_mut(tx_edit(tx, CLASS_VBD, self));
    if (type)
        str_assign(&vbd->qos_algorithm_type, type);
    if (params)
        str_map_assign(&vbd->qos_algorithm_params, str_map_ref(*params));
    if (server_commit(tx, err) < 0)
        return -1;
    const struct vm_row *vm = vm_row(snapshot_get(call->snapshot, CLASS_VM, seen->VM));
    bool live =
        vm && seen->currently_attached && seen->type == VBD_TYPE_DISK && !ref_is_null(vm->resident_on);
    return live ? push(call, seen, vm, &limits, err) : 0;
}

int handle_vbd_set_qos_algorithm_type(struct call *call, const struct vbd_set_qos_algorithm_type_args *args,
                                      struct api_err *err)
{
    return change(call, args->self, args->value, NULL, err);
}

int handle_vbd_set_qos_algorithm_params(struct call *call,
                                        const struct vbd_set_qos_algorithm_params_args *args,
                                        struct api_err *err)
{
    return change(call, args->self, NULL, &args->value, err);
}
