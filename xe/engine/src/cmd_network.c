/* Network cards and VLANs: vif-create, vm-vif-list, vlan-destroy. */
#include "run.h"
#include "xe_handlers.h"

int xe_cmd_vif_create(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *device, *network_uuid, *vm_uuid, *mac = xe_arg(x, "mac");
    AUTO_FREE char *network = NULL, *vm = NULL, *vif = NULL;
    (void)cmd;
    if (xe_arg_required(x, "device", &device) < 0 || xe_arg_required(x, "network-uuid", &network_uuid) < 0 ||
        xe_arg_required(x, "vm-uuid", &vm_uuid) < 0 ||
        xe_ref_by_uuid(x, "network", network_uuid, &network) < 0 || xe_ref_by_uuid(x, "VM", vm_uuid, &vm) < 0)
        return -1;
    if (mac && streq(mac, "random"))
        mac = "";
    json_t *card = json_pack("{s:s, s:s, s:s, s:s, s:i, s:{}, s:s, s:{}}", "device", device, "network",
                             network, "VM", vm, "MAC", mac ? mac : "", "MTU", 1500, "other_config",
                             "qos_algorithm_type", "", "qos_algorithm_params");
    if (!card)
        return xe_fail(x, XE_ERR_CLI, "device and mac must be text in UTF-8");
    return xe_call_string(x, "VIF.create", &vif, "[o]", card) < 0 ? -1 : xe_print_uuid(x, "VIF", vif);
}

static int list_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    static const char *const columns[] = {"uuid",         "vm-name-label",      "device", "MAC",
                                          "network-uuid", "network-name-label", NULL};
    const json_t *record, *ref;
    size_t i;
    (void)cmd;
    if (xe_record(x, "VM", vm, &record) < 0)
        return -1;
    json_array_foreach(json_object_get(record, "VIFs"), i,
                       ref) if (xe_list_print(x, xe_class_find("vif"), json_string_value(ref),
                                              xe_arg(x, "params"), columns) < 0) return -1;
    return 0;
}

int xe_cmd_vm_vif_list(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, list_one);
}

/* By the VLAN's uuid or, as scripts of old times do, by that of its PIF. */
int xe_cmd_vlan_destroy(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid;
    AUTO_FREE char *vlan = NULL, *pif = NULL;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &uuid) < 0)
        return -1;
    if (xe_ref_by_uuid(x, "VLAN", uuid, &vlan) == 0)
        return xe_call_task(x, "VLAN.destroy", json_pack("[s]", vlan), NULL);
    if (!xe_err_is(&x->err, "UUID_INVALID"))
        return -1;
    struct xe_err first = x->err;
    x->err = (struct xe_err){0};
    if (xe_ref_by_uuid(x, "PIF", uuid, &pif) == 0) {
        xe_err_done(&first);
        return xe_call_task(x, "PIF.destroy", json_pack("[s]", pif), NULL);
    }
    xe_err_done(&x->err);
    x->err = first;
    return -1;
}
