/* VIF.*: where a card leads and what it may send: VIF.move, locking, allowed addresses, rate. While the guest
 * runs, its host does it before the row says so. On a user-mode network nothing that the guest sends carries
 * an address of its choice, so what locking asks for holds there by itself. */
#include "../gate/task.h"
#include "../hosts/hosts.h"
#include "../hosts/networks.h"
#include "../plan/domain.h"
#include "../server.h"
#include "vm_power.h"
#include <arpa/inet.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

/* Makes the row what `wanted` (a copy, whose values are borrowed) says in one respect. */
typedef void vif_copy(struct vif_row *row, const struct vif_row *wanted);

static int update_failed(const struct vif_row *vif, const struct vm_row *vm, const struct hv_err *cause,
                         struct api_err *err)
{
    switch (cause->kind) {
    case HV_ERR_KIND_BAD_ARGUMENT:
    case HV_ERR_KIND_IO:
        return err_cannot_plug_vif(err, REF_TEXT(vif->row.ref));
    default:
        return hosts_fail_vm(err, vm->row.ref, vm->resident_on, cause);
    }
}

/* The running guest's card becomes what the row is to say. */
static int update_card(struct call *call, const struct vif_row *wanted, const struct vm_row *vm,
                       struct hv_host *agent, struct api_err *err)
{
    const struct network_row *network =
        network_row(snapshot_get(call->snapshot, CLASS_network, wanted->network));
    struct hosts_op op;
    struct hv_nic_update_args args;
    struct hv_nic_update_result result;
    struct hv_err cause;
    if (!network || network_prepare(agent, vm->resident_on, call->snapshot, network, err) < 0)
        return network ? -1 : fail_handle(err, CLASS_network, wanted->network);
    hosts_op_init(&op, call, 0);
    hv_nic_update_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    int rc = plan_nic(call->snapshot, wanted, &args.nic, err);
    if (rc == 0 && (rc = hv_nic_update(agent, &op.op, &args, &result, &cause)) < 0)
        update_failed(wanted, vm, &cause, err);
    else if (rc == 0)
        hv_nic_update_result_done(&result);
    hv_nic_update_args_done(&args);
    return rc;
}

static int change(struct call *call, const struct vif_row *wanted, vif_copy *copy, struct api_err *err)
{
    const struct vm_row *vm = vm_row(snapshot_get(call->snapshot, CLASS_VM, wanted->VM));
    if (vm && wanted->currently_attached && !ref_is_null(vm->resident_on)) {
        struct hv_host *agent = hosts_get(call->server->hosts, vm->resident_on, err);
        int rc = agent ? update_card(call, wanted, vm, agent, err) : -1;
        if (agent)
            hosts_put(call->server->hosts, agent);
        if (rc < 0)
            return -1;
    }
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_VIF, wanted->row.ref)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VIF, wanted->row.ref);
    }
    copy(vif_row_mut(tx_edit(tx, CLASS_VIF, wanted->row.ref)), wanted);
    task_note_done(tx, call, REF_NULL);
    return server_commit(tx, err);
}

void vif_renew(struct server *server, struct hv_host *agent, struct ref host, const char *vm_uuid)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct row *row = snapshot_by_uuid(snap, CLASS_VM, vm_uuid);
    const struct vm_row *vm = row ? vm_row(row) : NULL;
    for (size_t i = 0; vm && vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(snap, CLASS_VIF, vm->VIFs->items[i]));
        const struct network_row *network =
            vif ? network_row(snapshot_get(snap, CLASS_network, vif->network)) : NULL;
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        char id[UUID_TEXT_SIZE];
        struct hv_op op = {.id = uuid_format(ref_new(), id)};
        struct hv_nic_update_args args;
        struct hv_nic_update_result result;
        struct hv_err cause = {.text = ""};
        if (!network || !vif->currently_attached || network_prepare(agent, host, snap, network, &err) < 0)
            continue;
        hv_nic_update_args_init(&args);
        str_assign(&args.domain, vm->uuid);
        int rc = plan_nic(snap, vif, &args.nic, &err);
        if (rc == 0 && (rc = hv_nic_update(agent, &op, &args, &result, &cause)) == 0)
            hv_nic_update_result_done(&result);
        if (rc < 0)
            log_warn("network", "a card is not what its row says", "vif", vif->uuid, "cause", cause.text);
        hv_nic_update_args_done(&args);
    }
}

static int find(struct call *call, struct ref ref, struct vif_row *copy, struct api_err *err)
{
    const struct vif_row *vif = vif_row(snapshot_get(call->snapshot, CLASS_VIF, ref));
    if (!vif)
        return fail_handle(err, CLASS_VIF, ref);
    *copy = *vif;
    return 0;
}

/* ---- where it leads ---- */

static void copy_network(struct vif_row *row, const struct vif_row *wanted)
{
    row->network = wanted->network;
}

/* Frames of a network that has a tag of its own cannot carry another one, and those of a user-mode network
 * none at all. */
static bool takes_tags(const struct snapshot *snap, struct ref ref)
{
    const struct network_row *network = network_row(snapshot_get(snap, CLASS_network, ref));
    for (size_t i = 0; network && network->PIFs && i < network->PIFs->count; i++) {
        const struct pif_row *pif = pif_row(snapshot_get(snap, CLASS_PIF, network->PIFs->items[i]));
        if (pif && pif->VLAN >= 0)
            return false;
    }
    return network && plan_nic_kind(network) == NIC_KIND_BRIDGE;
}

int handle_vif_move(struct call *call, const struct vif_move_args *args, struct api_err *err)
{
    struct vif_row wanted;
    if (find(call, args->self, &wanted, err) < 0)
        return -1;
    if (!snapshot_get(call->snapshot, CLASS_network, args->network))
        return fail_handle(err, CLASS_network, args->network);
    if (wanted.trunks && wanted.trunks->count && !takes_tags(call->snapshot, args->network))
        return err_network_incompatible_with_trunks(err, REF_TEXT(args->network));
    wanted.network = args->network;
    return change(call, &wanted, copy_network, err);
}

/* ---- what it may send ---- */

static void copy_mode(struct vif_row *row, const struct vif_row *wanted)
{
    row->locking_mode = wanted->locking_mode;
}

int handle_vif_set_locking_mode(struct call *call, const struct vif_set_locking_mode_args *args,
                                struct api_err *err)
{
    struct vif_row wanted;
    if (find(call, args->self, &wanted, err) < 0)
        return -1;
    wanted.locking_mode = args->value;
    return change(call, &wanted, copy_mode, err);
}

enum family { FAMILY_IPV4, FAMILY_IPV6 };

static bool is_address(enum family family, const char *text)
{
    unsigned char bytes[16];
    return inet_pton(family == FAMILY_IPV4 ? AF_INET : AF_INET6, text, bytes) == 1;
}

static const char *field_name(enum family family)
{
    return family == FAMILY_IPV4 ? "ipv4_allowed" : "ipv6_allowed";
}

static const struct str_set **allowed_slot(struct vif_row *vif, enum family family)
{
    return family == FAMILY_IPV4 ? &vif->ipv4_allowed : &vif->ipv6_allowed;
}

static void copy_allowed4(struct vif_row *row, const struct vif_row *wanted)
{
    str_set_assign(&row->ipv4_allowed, str_set_ref(wanted->ipv4_allowed));
}

static void copy_allowed6(struct vif_row *row, const struct vif_row *wanted)
{
    str_set_assign(&row->ipv6_allowed, str_set_ref(wanted->ipv6_allowed));
}

static int allow(struct call *call, struct vif_row *wanted, enum family family, const struct str_set *value,
                 struct api_err *err)
{
    *allowed_slot(wanted, family) = value;
    return change(call, wanted, family == FAMILY_IPV4 ? copy_allowed4 : copy_allowed6, err);
}

static int set_allowed(struct call *call, struct ref ref, enum family family, const struct str_set *value,
                       struct api_err *err)
{
    struct vif_row wanted;
    for (size_t i = 0; value && i < value->count; i++)
        if (!is_address(family, value->items[i]))
            return err_invalid_ip_address_specified(err, field_name(family));
    if (find(call, ref, &wanted, err) < 0)
        return -1;
    AUTO_STR_SET const struct str_set *set = value ? str_set_new(value->items, value->count) : NULL;
    return allow(call, &wanted, family, set, err);
}

static int change_allowed(struct call *call, struct ref ref, enum family family, const char *value, bool add,
                          struct api_err *err)
{
    struct vif_row wanted;
    if (add && !is_address(family, value))
        return err_invalid_ip_address_specified(err, field_name(family));
    if (find(call, ref, &wanted, err) < 0)
        return -1;
    const struct str_set *now = *allowed_slot(&wanted, family);
    AUTO_STR_SET const struct str_set *set = add ? str_set_with(now, value) : str_set_without(now, value);
    return allow(call, &wanted, family, set, err);
}

int handle_vif_set_ipv4_allowed(struct call *call, const struct vif_set_ipv4_allowed_args *args,
                                struct api_err *err)
{
    return set_allowed(call, args->self, FAMILY_IPV4, args->value, err);
}

int handle_vif_add_ipv4_allowed(struct call *call, const struct vif_add_ipv4_allowed_args *args,
                                struct api_err *err)
{
    return change_allowed(call, args->self, FAMILY_IPV4, args->value, true, err);
}

int handle_vif_remove_ipv4_allowed(struct call *call, const struct vif_remove_ipv4_allowed_args *args,
                                   struct api_err *err)
{
    return change_allowed(call, args->self, FAMILY_IPV4, args->value, false, err);
}

int handle_vif_set_ipv6_allowed(struct call *call, const struct vif_set_ipv6_allowed_args *args,
                                struct api_err *err)
{
    return set_allowed(call, args->self, FAMILY_IPV6, args->value, err);
}

int handle_vif_add_ipv6_allowed(struct call *call, const struct vif_add_ipv6_allowed_args *args,
                                struct api_err *err)
{
    return change_allowed(call, args->self, FAMILY_IPV6, args->value, true, err);
}

int handle_vif_remove_ipv6_allowed(struct call *call, const struct vif_remove_ipv6_allowed_args *args,
                                   struct api_err *err)
{
    return change_allowed(call, args->self, FAMILY_IPV6, args->value, false, err);
}

/* ---- tags that it may use ---- */

#define TAG_MAX 4094

static void copy_trunks(struct vif_row *row, const struct vif_row *wanted)
{
    str_set_assign(&row->trunks, str_set_ref(wanted->trunks));
}

/* Takes over `trunks`. */
static int trunk(struct call *call, struct ref self, const struct str_set *trunks, struct api_err *err)
{
    AUTO_STR_SET const struct str_set *held = trunks;
    struct vif_row wanted;
    if (find(call, self, &wanted, err) < 0)
        return -1;
    for (size_t i = 0; held && i < held->count; i++) {
        long long tag = strtoll(held->items[i], NULL, 10);
        if (tag < 0 || tag > TAG_MAX)
            return err_vlan_tag_invalid(err, held->items[i]);
    }
    if (held && held->count && !takes_tags(call->snapshot, wanted.network))
        return err_network_incompatible_with_trunks(err, REF_TEXT(wanted.network));
    wanted.trunks = held;
    return change(call, &wanted, copy_trunks, err);
}

int handle_vif_set_trunks(struct call *call, const struct vif_set_trunks_args *args, struct api_err *err)
{
    const struct str_set *value = args->value;
    return trunk(call, args->self, value ? str_set_new(value->items, value->count) : NULL, err);
}

static const struct str_set *trunks_now(struct call *call, struct ref self)
{
    const struct vif_row *vif = vif_row(snapshot_get(call->snapshot, CLASS_VIF, self));
    return vif ? vif->trunks : NULL;
}

int handle_vif_add_trunks(struct call *call, const struct vif_add_trunks_args *args, struct api_err *err)
{
    AUTO_STR const char *tag = str_newf("%lld", (long long)args->value);
    return trunk(call, args->self, str_set_with(trunks_now(call, args->self), tag), err);
}

int handle_vif_remove_trunks(struct call *call, const struct vif_remove_trunks_args *args,
                             struct api_err *err)
{
    AUTO_STR const char *tag = str_newf("%lld", (long long)args->value);
    return trunk(call, args->self, str_set_without(trunks_now(call, args->self), tag), err);
}

/* ---- how much ---- */

static void copy_qos(struct vif_row *row, const struct vif_row *wanted)
{
    str_assign(&row->qos_algorithm_type, wanted->qos_algorithm_type);
    str_map_assign(&row->qos_algorithm_params, str_map_ref(wanted->qos_algorithm_params));
}

int handle_vif_set_qos_algorithm_type(struct call *call, const struct vif_set_qos_algorithm_type_args *args,
                                      struct api_err *err)
{
    struct vif_row wanted;
    if (find(call, args->self, &wanted, err) < 0)
        return -1;
    wanted.qos_algorithm_type = args->value;
    return change(call, &wanted, copy_qos, err);
}

int handle_vif_set_qos_algorithm_params(struct call *call,
                                        const struct vif_set_qos_algorithm_params_args *args,
                                        struct api_err *err)
{
    struct vif_row wanted;
    if (find(call, args->self, &wanted, err) < 0)
        return -1;
    wanted.qos_algorithm_params = args->value;
    return change(call, &wanted, copy_qos, err);
}

int handle_vif_add_to_qos_algorithm_params(struct call *call,
                                           const struct vif_add_to_qos_algorithm_params_args *args,
                                           struct api_err *err)
{
    struct vif_row wanted;
    if (find(call, args->self, &wanted, err) < 0)
        return -1;
    if (str_map_get(wanted.qos_algorithm_params, args->key))
        return err_map_duplicate_key(err, "VIF", "qos_algorithm_params", wanted.uuid, args->key);
    AUTO_STR_MAP const struct str_map *params = str_map_ref(wanted.qos_algorithm_params);
    str_map_put(&params, args->key, args->value);
    wanted.qos_algorithm_params = params;
    return change(call, &wanted, copy_qos, err);
}

int handle_vif_remove_from_qos_algorithm_params(struct call *call,
                                                const struct vif_remove_from_qos_algorithm_params_args *args,
                                                struct api_err *err)
{
    struct vif_row wanted;
    if (find(call, args->self, &wanted, err) < 0)
        return -1;
    AUTO_STR_MAP const struct str_map *params = str_map_without(wanted.qos_algorithm_params, args->key);
    wanted.qos_algorithm_params = params;
    return change(call, &wanted, copy_qos, err);
}
