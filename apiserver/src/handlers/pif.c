/* PIF.*: interfaces of hosts: what there is, up and down, rows made and deleted by hand. Addresses are in
 * pif_address.c. */
#include "pif.h"

#include "../plan/mac.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

/* ---- looking up, checking ---- */

const struct pif_row *pif_find(struct call *call, struct ref ref, struct api_err *err)
{
    const struct pif_row *pif = pif_row(snapshot_get(call->snapshot, CLASS_PIF, ref));
    if (!pif)
        fail_handle(err, CLASS_PIF, ref);
    return pif;
}

const struct network_row *pif_find_network(struct call *call, struct ref ref, struct api_err *err)
{
    const struct network_row *network = network_row(snapshot_get(call->snapshot, CLASS_network, ref));
    if (!network)
        fail_handle(err, CLASS_network, ref);
    return network;
}

int pif_check_not_management(const struct pif_row *pif, struct api_err *err)
{
    return pif->management ? err_pif_is_management_interface(err, REF_TEXT(pif->row.ref)) : 0;
}

bool pif_is_tunnel_access(const struct pif_row *pif)
{
    return pif->tunnel_access_PIF_of && pif->tunnel_access_PIF_of->count;
}

int pif_check_managed(const struct pif_row *pif, struct api_err *err)
{
    return pif->managed ? 0 : err_pif_unmanaged(err, REF_TEXT(pif->row.ref));
}

int pif_check_not_member(const struct pif_row *pif, struct api_err *err)
{
    bool free_one = ref_is_null(pif->bond_slave_of);
    return free_one ? 0 : err_pif_already_bonded(err, REF_TEXT(pif->row.ref));
}

static int pif_check_no_vlans(const struct pif_row *pif, struct api_err *err)
{
    bool has = pif->VLAN_slave_of && pif->VLAN_slave_of->count;
    return has ? err_pif_vlan_still_exists(err, REF_TEXT(pif->row.ref)) : 0;
}

int pif_check_no_tunnels(const struct pif_row *pif, struct api_err *err)
{
    bool has =
        (pif->tunnel_transport_PIF_of && pif->tunnel_transport_PIF_of->count) || pif_is_tunnel_access(pif);
    return has ? err_pif_tunnel_still_exists(err, REF_TEXT(pif->row.ref)) : 0;
}

const struct row *pif_get(const struct pif_source *from, const struct class_desc *cls, struct ref ref)
{
    return from->snap ? snapshot_get(from->snap, cls, ref) : tx_get(from->tx, cls, ref);
}

int pif_check_network_free(const struct pif_source *from, const struct network_row *network, struct ref host,
                           struct api_err *err)
{
    for (size_t i = 0; network->PIFs && i < network->PIFs->count; i++) {
        const struct pif_row *pif = pif_row(pif_get(from, CLASS_PIF, network->PIFs->items[i]));
        if (pif && ref_eq(pif->host, host))
            return err_network_already_connected(err, REF_TEXT(network->row.ref), REF_TEXT(pif->row.ref));
    }
    return 0;
}

int pif_check_no_guests(const struct snapshot *snap, struct ref ref, struct ref host, struct api_err *err)
{
    const struct network_row *network = network_row(snapshot_get(snap, CLASS_network, ref));
    for (size_t i = 0; network && network->VIFs && i < network->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(snap, CLASS_VIF, network->VIFs->items[i]));
        const struct vm_row *vm = vif ? vm_row(snapshot_get(snap, CLASS_VM, vif->VM)) : NULL;
        if (vm && vif->currently_attached && ref_eq(vm->resident_on, host))
            return err_vif_in_use(err, REF_TEXT(ref), REF_TEXT(vif->row.ref));
    }
    return 0;
}

/* ---- up, down ---- */

/* An interface that the host set up itself is up already, and its addresses must not move: only the link is
 * seen to. */
static bool is_hosts_own(const struct pif_row *pif)
{
    return pif->VLAN < 0 && !pif->configured && (*pif->IP || (pif->IPv6 && pif->IPv6->count));
}

static int set_link(struct hv_host *agent, const struct pif_row *pif, bool up, struct api_err *err)
{
    struct hv_network_link_args args;
    struct hv_network_link_result result;
    struct hv_err cause;
    hv_network_link_args_init(&args);
    str_assign(&args.device, pif->device);
    args.up = up;
    int rc = hv_network_link(agent, NULL, &args, &result, &cause);
    hv_network_link_args_done(&args);
    if (rc < 0)
        return interfaces_fail(err, pif->host, pif->row.ref, &cause);
    hv_network_link_result_done(&result);
    return 0;
}

int pif_bring_up(struct hv_host *agent, const struct snapshot *snap, const struct pif_row *pif,
                 struct api_err *err)
{
    const struct network_row *network = network_row(snapshot_get(snap, CLASS_network, pif->network));
    AUTO_UPLINK struct uplink uplink = {.device = ""};
    struct hv_err cause;
    if (is_hosts_own(pif) || !network || !network->managed)
        return set_link(agent, pif, true, err);
    if (plan_uplink(snap, network, pif->host, &uplink) && network_ensure(agent, network, &uplink, &cause) < 0)
        return interfaces_fail(err, pif->host, pif->row.ref, &cause);
    return pif->configured ? interfaces_set_addresses(agent, snap, pif, pif, err) : 0;
}

/* Notes whether it is up. */
static int pif_record_attached(struct call *call, struct ref ref, bool attached, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct pif_row *pif = pif_row(tx_get(tx, CLASS_PIF, ref));
    if (!pif) {
        tx_abort(tx);
        return fail_handle(err, CLASS_PIF, ref);
    }
    if (pif->currently_attached != attached)
        pif_row_mut(tx_edit(tx, CLASS_PIF, ref))->currently_attached = attached;
    return server_commit(tx, err);
}

int handle_pif_plug(struct call *call, const struct pif_plug_args *args, struct api_err *err)
{
    const struct pif_row *pif = pif_find(call, args->self, err);
    if (!pif || pif_check_managed(pif, err) < 0)
        return -1;
    if (!ref_is_null(pif->bond_slave_of))
        return err_cannot_plug_bond_slave(err, REF_TEXT(args->self));
    struct hv_host *agent = hosts_get(call->server->hosts, pif->host, err);
    if (!agent)
        return -1;
    int rc = pif_bring_up(agent, call->snapshot, pif, err);
    hosts_put(call->server->hosts, agent);
    return rc < 0 ? -1 : pif_record_attached(call, args->self, true, err);
}

/* The bridge goes, a device is switched off; a VLAN's or bond's own interface goes or stays with its bridge.
 */
static int bring_down(struct hv_host *agent, const struct snapshot *snap, const struct pif_row *pif,
                      struct api_err *err)
{
    const struct network_row *network = network_row(snapshot_get(snap, CLASS_network, pif->network));
    struct hv_err cause;
    if (pif->configured) {
        struct pif_row none = *pif;
        none.configured = false;
        if (interfaces_set_addresses(agent, snap, &none, pif, err) < 0)
            return -1;
    }
    if (network && network_remove(agent, network, &cause) < 0)
        return interfaces_fail(err, pif->host, pif->row.ref, &cause);
    bool tunnel = pif_is_tunnel_access(pif);
    return pif->VLAN < 0 && !tunnel ? set_link(agent, pif, false, err) : 0;
}

int pif_remove_bridge(struct call *call, const struct snapshot *snap, const struct pif_row *pif,
                      struct api_err *err)
{
    const struct network_row *network = network_row(snapshot_get(snap, CLASS_network, pif->network));
    AUTO_API_ERR struct api_err away = API_ERR_INIT;
    struct hv_host *agent = network ? hosts_get(call->server->hosts, pif->host, &away) : NULL;
    struct hv_err cause;
    int rc = agent ? network_remove(agent, network, &cause) : 0;
    if (agent)
        hosts_put(call->server->hosts, agent);
    if (rc < 0 && cause.kind != HV_ERR_KIND_UNREACHABLE)
        return interfaces_fail(err, pif->host, pif->row.ref, &cause);
    return 0;
}

int handle_pif_unplug(struct call *call, const struct pif_unplug_args *args, struct api_err *err)
{
    const struct pif_row *pif = pif_find(call, args->self, err);
    if (!pif || pif_check_managed(pif, err) < 0 || pif_check_not_management(pif, err) < 0 ||
        pif_check_no_guests(call->snapshot, pif->network, pif->host, err) < 0)
        return -1;
    if (pif->disallow_unplug)
        return err_pif_does_not_allow_unplug(err, REF_TEXT(args->self));
    struct hv_host *agent = hosts_get(call->server->hosts, pif->host, err);
    if (!agent)
        return -1;
    int rc = bring_down(agent, call->snapshot, pif, err);
    hosts_put(call->server->hosts, agent);
    return rc < 0 ? -1 : pif_record_attached(call, args->self, false, err);
}

/* ---- finding, introducing, forgetting ---- */

int handle_pif_scan(struct call *call, const struct pif_scan_args *args, struct api_err *err)
{
    struct hv_host *agent = hosts_get(call->server->hosts, args->host, err);
    if (!agent)
        return -1;
    int rc = interfaces_look(call->server, args->host, agent, true, err);
    hosts_put(call->server->hosts, agent);
    return rc;
}

struct lookup {
    struct ref host;
    const char *mac, *device;
    const struct pif_row *by_mac, *by_device;
};

static bool match(const struct row *row, void *arg)
{
    struct lookup *l = arg;
    const struct pif_row *pif = pif_row(row);
    if (!ref_eq(pif->host, l->host) || pif->VLAN >= 0)
        return true;
    if (pif->physical && strcasecmp(pif->MAC, l->mac) == 0)
        l->by_mac = pif;
    if (streq(pif->device, l->device))
        l->by_device = pif;
    return true;
}

static int introduce(struct call *call, const struct pif_introduce_args *args, const char *mac,
                     const struct hv_network_list_result *list, struct ref *result, struct api_err *err)
{
    const struct host_interface *seen = NULL;
    for (size_t i = 0; i < list->interfaces_count && !seen; i++)
        if (list->interfaces[i].physical && strcasecmp(list->interfaces[i].mac, mac) == 0)
            seen = &list->interfaces[i];
    if (!seen)
        return err_mac_does_not_exist(err, mac);
    if (*args->device && !streq(args->device, seen->device))
        return err_could_not_find_network_interface_with_specified_device_name_and_mac_address(
            err, args->device, mac);
    struct lookup l = {.host = args->host, .mac = mac, .device = seen->device};
    struct tx *tx = store_begin(call->server->store);
    tx_each(tx, CLASS_PIF, match, &l);
    int rc = l.by_device ? err_duplicate_pif_device_name(err, seen->device)
             : l.by_mac  ? err_mac_still_exists(err, mac)
                         : 0;
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    *result = interfaces_add(tx, args->host, seen, args->managed);
    return server_commit(tx, err);
}

int handle_pif_introduce(struct call *call, const struct pif_introduce_args *args, struct ref *result,
                         struct api_err *err)
{
    char mac[MAC_TEXT_SIZE];
    struct hv_network_list_args none;
    struct hv_network_list_result list;
    struct hv_err cause;
    if (!mac_parse(args->MAC, mac))
        return err_mac_invalid(err, args->MAC);
    struct hv_host *agent = hosts_get(call->server->hosts, args->host, err);
    if (!agent)
        return -1;
    hv_network_list_args_init(&none);
    int rc = hv_network_list(agent, NULL, &none, &list, &cause);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return hosts_fail(err, args->host, &cause);
    rc = introduce(call, args, mac, &list, result, err);
    hv_network_list_result_done(&list);
    return rc;
}

void pif_delete(struct tx *tx, const struct pif_row *pif)
{
    if (pif->VLAN < 0 && !ref_is_null(pif->metrics))
        tx_delete(tx, CLASS_PIF_metrics, pif->metrics);
    tx_delete(tx, CLASS_PIF, pif->row.ref);
}

static int delete_row(struct call *call, struct ref ref, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct pif_row *pif = pif_row(tx_get(tx, CLASS_PIF, ref));
    if (!pif) {
        tx_abort(tx);
        return fail_handle(err, CLASS_PIF, ref);
    }
    pif_delete(tx, pif);
    return server_commit(tx, err);
}

int handle_pif_forget(struct call *call, const struct pif_forget_args *args, struct api_err *err)
{
    const struct pif_row *pif = pif_find(call, args->self, err);
    if (!pif || pif_check_not_member(pif, err) < 0 || pif_check_no_vlans(pif, err) < 0 ||
        pif_check_no_tunnels(pif, err) < 0 || pif_check_not_management(pif, err) < 0)
        return -1;
    if (!pif->physical)
        return err_pif_is_not_physical(err, REF_TEXT(args->self));
    if (pif_check_no_guests(call->snapshot, pif->network, pif->host, err) < 0)
        return -1;
    /* The bridge that joins it with guests goes, where the host answers; the device is left as it is. */
    AUTO_API_ERR struct api_err away = API_ERR_INIT;
    struct hv_host *agent = hosts_get(call->server->hosts, pif->host, &away);
    const struct network_row *network =
        network_row(snapshot_get(call->snapshot, CLASS_network, pif->network));
    struct hv_err cause;
    if (agent && network && network_remove(agent, network, &cause) < 0 && cause.kind == HV_ERR_KIND_IN_USE) {
        hosts_put(call->server->hosts, agent);
        return interfaces_fail(err, pif->host, pif->row.ref, &cause);
    }
    if (agent)
        hosts_put(call->server->hosts, agent);
    return delete_row(call, args->self, err);
}

int handle_pif_db_introduce(struct call *call, const struct pif_db_introduce_args *args, struct ref *result,
                            struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_host, args->host))
        return fail_handle(err, CLASS_host, args->host);
    if (!pif_find_network(call, args->network, err))
        return -1;
    struct tx *tx = store_begin(call->server->store);
    struct ref metrics = tx_create(tx, CLASS_PIF_metrics)->ref;
    struct pif_row *pif = pif_row_mut(tx_create(tx, CLASS_PIF));
    str_assign(&pif->device, args->device);
    str_assign(&pif->device_name, args->device);
    pif->network = args->network;
    pif->host = args->host;
    str_assign(&pif->MAC, args->MAC);
    pif->MTU = args->MTU;
    pif->VLAN = args->VLAN;
    pif->physical = args->physical;
    pif->metrics = metrics;
    pif->currently_attached = false;
    pif->ip_configuration_mode = args->ip_configuration_mode;
    str_assign(&pif->IP, args->IP);
    str_assign(&pif->netmask, args->netmask);
    str_assign(&pif->gateway, args->gateway);
    str_assign(&pif->DNS, args->DNS);
    pif->bond_slave_of = args->bond_slave_of;
    pif->VLAN_master_of = args->VLAN_master_of;
    pif->management = args->management;
    str_map_assign(&pif->other_config, str_map_ref(args->other_config));
    pif->disallow_unplug = args->disallow_unplug;
    pif->ipv6_configuration_mode = args->ipv6_configuration_mode;
    str_set_assign(&pif->IPv6, str_set_ref(args->IPv6));
    str_assign(&pif->ipv6_gateway, args->ipv6_gateway);
    pif->primary_address_type = args->primary_address_type;
    pif->managed = args->managed;
    str_map_assign(&pif->properties, str_map_ref(args->properties));
    *result = pif->row.ref;
    return server_commit(tx, err);
}

int handle_pif_pool_introduce(struct call *call, const struct pif_pool_introduce_args *args,
                              struct ref *result, struct api_err *err)
{
    const struct pif_db_introduce_args same = {
        .device = args->device,
        .network = args->network,
        .host = args->host,
        .MAC = args->MAC,
        .MTU = args->MTU,
        .VLAN = args->VLAN,
        .physical = args->physical,
        .ip_configuration_mode = args->ip_configuration_mode,
        .IP = args->IP,
        .netmask = args->netmask,
        .gateway = args->gateway,
        .DNS = args->DNS,
        .bond_slave_of = args->bond_slave_of,
        .VLAN_master_of = args->VLAN_master_of,
        .management = args->management,
        .other_config = args->other_config,
        .disallow_unplug = args->disallow_unplug,
        .ipv6_configuration_mode = args->ipv6_configuration_mode,
        .IPv6 = args->IPv6,
        .ipv6_gateway = args->ipv6_gateway,
        .primary_address_type = args->primary_address_type,
        .managed = args->managed,
        .properties = args->properties,
    };
    return handle_pif_db_introduce(call, &same, result, err);
}

int handle_pif_db_forget(struct call *call, const struct pif_db_forget_args *args, struct api_err *err)
{
    return delete_row(call, args->self, err);
}

/* ---- settings ---- */

int handle_pif_set_disallow_unplug(struct call *call, const struct pif_set_disallow_unplug_args *args,
                                   struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_PIF, args->self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_PIF, args->self);
    }
    pif_row_mut(tx_edit(tx, CLASS_PIF, args->self))->disallow_unplug = args->value;
    return server_commit(tx, err);
}

/* ---- VLANs by their older messages ---- */

static bool match_device(const struct row *row, void *arg)
{
    struct lookup *l = arg;
    const struct pif_row *pif = pif_row(row);
    if (ref_eq(pif->host, l->host) && pif->VLAN < 0 && streq(pif->device, l->device))
        l->by_device = pif;
    return !l->by_device;
}

int handle_pif_create_VLAN(struct call *call, const struct pif_create_VLAN_args *args, struct ref *result,
                           struct api_err *err)
{
    struct lookup l = {.host = args->host, .device = args->device};
    struct ref vlan;
    if (!snapshot_get(call->snapshot, CLASS_host, args->host))
        return fail_handle(err, CLASS_host, args->host);
    snapshot_each(call->snapshot, CLASS_PIF, match_device, &l);
    if (!l.by_device)
        return err_pif_device_not_found(err);
    return vlan_make(call, l.by_device->row.ref, args->VLAN, args->network, &vlan, result, err);
}

int handle_pif_destroy(struct call *call, const struct pif_destroy_args *args, struct api_err *err)
{
    const struct pif_row *pif = pif_find(call, args->self, err);
    if (!pif)
        return -1;
    if (ref_is_null(pif->VLAN_master_of))
        return err_pif_is_physical(err, REF_TEXT(args->self));
    return vlan_unmake(call, pif->VLAN_master_of, err);
}
