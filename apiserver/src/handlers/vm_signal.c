/* VM.send_trigger, send_sysrq, s3_resume: what a machine feels without its guest being asked; and
 * restart_device_models. */
#include "../rules/vm.h"
#include "../server.h"
#include "vm_power.h"
#include <handlers.h>
#include <hv/client.h>
#include <model/errors.h>

static int send(struct call *call, struct ref ref, enum domain_signal signal, const char *key,
                struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, ref, err);
    if (!vm)
        return -1;
    if (ref_is_null(vm->resident_on) || vm->power_state != VM_POWER_STATE_RUNNING)
        return vm_bad_state(err, vm, "running");
    struct hv_host *agent = hosts_get(call->server->hosts, vm->resident_on, err);
    if (!agent)
        return -1;
    struct hosts_op op;
    struct hv_domain_trigger_args args;
    struct hv_domain_trigger_result result;
    struct hv_err cause;
    hosts_op_init(&op, call, 0);
    hv_domain_trigger_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    args.signal = signal;
    str_assign(&args.key, key);
    int rc = hv_domain_trigger(agent, &op.op, &args, &result, &cause);
    hv_domain_trigger_args_done(&args);
    hosts_put(call->server->hosts, agent);
    return rc < 0 ? hosts_fail_vm(err, vm->row.ref, vm->resident_on, &cause) : 0;
}

int handle_vm_send_trigger(struct call *call, const struct vm_send_trigger_args *args, struct api_err *err)
{
    static const struct {
        const char *word;
        enum domain_signal signal;
    } triggers[] = {
        {"nmi", DOMAIN_SIGNAL_NMI}, {"power", DOMAIN_SIGNAL_POWER}, {"s3resume", DOMAIN_SIGNAL_WAKEUP}};
    for (size_t i = 0; i < sizeof(triggers) / sizeof(*triggers); i++)
        if (strcmp(args->trigger, triggers[i].word) == 0)
            return send(call, args->vm, triggers[i].signal, "", err);
    return err_value_not_supported(err, "trigger", args->trigger,
                                   "It is nmi, power or s3resume; VM.hard_reboot does a reset.");
}

int handle_vm_send_sysrq(struct call *call, const struct vm_send_sysrq_args *args, struct api_err *err)
{
    char key = args->key[0];
    bool good = (key >= 'a' && key <= 'z') || (key >= '0' && key <= '9');
    if (!good || args->key[1])
        return err_value_not_supported(err, "key", args->key, "It is one small letter or digit.");
    return send(call, args->vm, DOMAIN_SIGNAL_SYSRQ, args->key, err);
}

int handle_vm_s3_resume(struct call *call, const struct vm_s3_resume_args *args, struct api_err *err)
{
    return send(call, args->vm, DOMAIN_SIGNAL_WAKEUP, "", err);
}

/* QEMU is the guest's own process: what replaces it under a running guest is a migration. */
int handle_vm_restart_device_models(struct call *call, const struct vm_restart_device_models_args *args,
                                    struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    if (!vm)
        return -1;
    if (vm->is_a_template)
        return err_vm_is_template(err, REF_TEXT(args->self), "restart_device_models");
    if (vm->power_state != VM_POWER_STATE_RUNNING)
        return vm_bad_state(err, vm, "running");
    return err_operation_not_allowed(err, "A device model here is the guest's own process. To change it "
                                          "under a running guest, migrate the VM to "
                                          "another host (VM.pool_migrate), or suspend and resume it.");
}
