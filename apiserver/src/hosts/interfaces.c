/* What an agent reports, compared with rows: a transaction is opened for each difference only by need.
 *
 * The management interface is the one with the address at which the host is reached. A host that is reached
 * over loopback (the server runs on it) has none by that rule: then it is the one with the default route, the
 * host's way to the world, which wants the same care; clients count on there being one. */
#include "interfaces.h"

#include "../plan/uplink.h"
#include "hosts.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <stdio.h>

#define CALL_MS 30000
#define BRIDGE_SIZE 16

/* ---- networks of devices ---- */

/* As clients of XenServer know them: xenbr0 of eth0. */
static void bridge_of(const char *device, char out[static BRIDGE_SIZE])
{
    if (strncmp(device, "eth", 3) == 0 && device[3])
        snprintf(out, BRIDGE_SIZE, "xenbr%.10s", device + 3);
    else
        snprintf(out, BRIDGE_SIZE, "br%.13s", device);
}

struct search {
    const char *bridge;
    const struct network_row *found;
};

static bool match_network(const struct row *row, void *arg)
{
    struct search *s = arg;
    if (streq(network_row(row)->bridge, s->bridge))
        s->found = network_row(row);
    return !s->found;
}

static const struct network_row *find_network(struct tx *tx, const char *bridge)
{
    struct search s = {.bridge = bridge};
    tx_each(tx, CLASS_network, match_network, &s);
    return s.found;
}

/* A device that the host has put into a bridge of its own leads to that bridge; else we will make one. Hosts
 * whose devices have the same name share the network. */
static struct ref network_for(struct tx *tx, const struct host_interface *seen, bool managed)
{
    char bridge[BRIDGE_SIZE];
    bool own = seen->own_bridge || !managed;
    bridge_of(seen->device, bridge);
    if (own)
        snprintf(bridge, sizeof(bridge), "%s", seen->own_bridge ? seen->master : "");
    const struct network_row *there = *bridge ? find_network(tx, bridge) : NULL;
    if (there && there->managed == !own)
        return there->row.ref;
    for (int n = 0; there; n++) {
        snprintf(bridge, sizeof(bridge), "xapi%d", n);
        there = find_network(tx, bridge);
    }
    struct network_row *network = network_row_mut(tx_create(tx, CLASS_network));
    AUTO_STR const char *name = str_newf("Pool-wide network associated with %s", seen->device);
    str_assign(&network->name_label, name);
    str_assign(&network->bridge, bridge);
    network->managed = !own;
    network->MTU = 1500;
    return network->row.ref;
}

/* ---- one interface ---- */

static void split(const char *address, char ip[static 64], int *length)
{
    const char *slash = strchrnul(address, '/');
    snprintf(ip, 64, "%.*s", (int)(slash - address), address);
    *length = *slash ? atoi(slash + 1) : 0;
}

/* What a row says of addresses, whoever set them. */
struct addresses {
    enum ip_configuration_mode mode;
    enum ipv6_configuration_mode mode6;
    char ip[64], netmask[16];
};

static void addresses_of(const struct host_interface *seen, struct addresses *out)
{
    int length;
    *out = (struct addresses){.mode = IP_CONFIGURATION_MODE_NONE, .mode6 = IPV6_CONFIGURATION_MODE_NONE};
    if (*seen->address) {
        split(seen->address, out->ip, &length);
        netmask_text(length, out->netmask);
        out->mode = seen->leased ? IP_CONFIGURATION_MODE_DHCP : IP_CONFIGURATION_MODE_STATIC;
    }
    if (seen->addresses6_count)
        out->mode6 = seen->leased6 ? IPV6_CONFIGURATION_MODE_AUTOCONF : IPV6_CONFIGURATION_MODE_STATIC;
}

static bool same_list(const struct str_set *set, const char *const *items, size_t count)
{
    if ((set ? set->count : 0) != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!streq(set->items[i], items[i]))
            return false;
    return true;
}

static bool addresses_differ(const struct pif_row *pif, const struct host_interface *seen)
{
    struct addresses a;
    addresses_of(seen, &a);
    return pif->ip_configuration_mode != a.mode || !streq(pif->IP, a.ip) || !streq(pif->netmask, a.netmask) ||
           !streq(pif->gateway, seen->gateway) || !streq(pif->DNS, seen->dns) ||
           pif->ipv6_configuration_mode != a.mode6 ||
           !same_list(pif->IPv6, seen->addresses6, seen->addresses6_count) ||
           !streq(pif->ipv6_gateway, seen->gateway6);
}

static void take_addresses(struct pif_row *pif, const struct host_interface *seen)
{
    struct addresses a;
    addresses_of(seen, &a);
    pif->ip_configuration_mode = a.mode;
    str_assign(&pif->IP, a.ip);
    str_assign(&pif->netmask, a.netmask);
    str_assign(&pif->gateway, seen->gateway);
    str_assign(&pif->DNS, seen->dns);
    pif->ipv6_configuration_mode = a.mode6;
    str_set_assign(&pif->IPv6, seen->addresses6_count ? str_set_new((const char *const *)seen->addresses6,
                                                                    seen->addresses6_count)
                                                      : NULL);
    str_assign(&pif->ipv6_gateway, seen->gateway6);
}

static bool takes_addresses(const struct pif_row *pif)
{
    return !pif->configured && ref_is_null(pif->bond_slave_of);
}

static void update_pif(struct tx *tx, const struct pif_row *pif, const struct host_interface *seen)
{
    /* A member of a bond shows the bond's address while it is one. */
    bool mac = pif->physical && ref_is_null(pif->bond_slave_of) && !streq(pif->MAC, seen->mac);
    bool attached = ref_is_null(pif->bond_slave_of) && pif->currently_attached != seen->up;
    bool addresses = takes_addresses(pif) && addresses_differ(pif, seen);
    if (!mac && !attached && pif->MTU == seen->mtu && !addresses)
        return;
    struct pif_row *edit = pif_row_mut(tx_edit(tx, CLASS_PIF, pif->row.ref));
    if (mac)
        str_assign(&edit->MAC, seen->mac);
    if (attached)
        edit->currently_attached = seen->up;
    edit->MTU = seen->mtu;
    if (addresses)
        take_addresses(edit, seen);
}

static bool metrics_right(const struct pif_metrics_row *m, const struct host_interface *seen)
{
    return m->carrier == seen->carrier && m->speed == seen->speed_mbit && m->duplex == seen->full_duplex &&
           streq(m->vendor_id, seen->vendor_id) && streq(m->device_id, seen->device_id) &&
           streq(m->pci_bus_path, *seen->bus ? seen->bus : "N/A");
}

static void update_metrics(struct tx *tx, struct ref ref, const struct host_interface *seen)
{
    const struct pif_metrics_row *metrics = pif_metrics_row(tx_get(tx, CLASS_PIF_metrics, ref));
    if (!metrics || metrics_right(metrics, seen))
        return;
    struct pif_metrics_row *edit = pif_metrics_row_mut(tx_edit(tx, CLASS_PIF_metrics, ref));
    edit->carrier = seen->carrier;
    edit->speed = seen->speed_mbit;
    edit->duplex = seen->full_duplex;
    str_assign(&edit->vendor_id, seen->vendor_id);
    str_assign(&edit->device_id, seen->device_id);
    str_assign(&edit->pci_bus_path, *seen->bus ? seen->bus : "N/A");
    edit->last_updated = clock_unix_seconds();
}

struct ref interfaces_add(struct tx *tx, struct ref host, const struct host_interface *seen, bool managed)
{
    struct ref metrics = tx_create(tx, CLASS_PIF_metrics)->ref;
    struct pif_row *pif = pif_row_mut(tx_create(tx, CLASS_PIF));
    pif->host = host;
    str_assign(&pif->device, seen->device);
    str_assign(&pif->device_name, seen->device);
    str_assign(&pif->MAC, seen->mac);
    pif->MTU = seen->mtu;
    pif->VLAN = -1;
    pif->physical = seen->physical;
    pif->managed = managed;
    pif->metrics = metrics;
    pif->currently_attached = seen->up;
    pif->network = network_for(tx, seen, managed);
    take_addresses(pif, seen);
    update_metrics(tx, metrics, seen);
    return pif->row.ref;
}

/* ---- all of a host ---- */

struct look {
    struct tx *tx;
    const struct host_row *host;
    const struct hv_network_list_result *list;
    uint64_t asked; /* generation of the store when the host was asked */
};

/* The row of this very interface, not of a VLAN over it. */
static const struct pif_row *row_of(const struct look *look, const char *device)
{
    const struct ref_set *pifs = look->host->PIFs;
    for (size_t i = 0; pifs && i < pifs->count; i++) {
        const struct pif_row *pif = pif_row(tx_get(look->tx, CLASS_PIF, pifs->items[i]));
        if (pif && pif->VLAN < 0 && streq(pif->device, device))
            return pif;
    }
    return NULL;
}

static const struct host_interface *seen_as(const struct look *look, const char *device)
{
    for (size_t i = 0; i < look->list->interfaces_count; i++)
        if (streq(look->list->interfaces[i].device, device))
            return &look->list->interfaces[i];
    return NULL;
}

/* An interface that was taken out of the machine. */
static void mark_absent(struct look *look, const struct pif_row *pif)
{
    const struct pif_metrics_row *metrics =
        pif_metrics_row(tx_get(look->tx, CLASS_PIF_metrics, pif->metrics));
    if (pif->currently_attached)
        pif_row_mut(tx_edit(look->tx, CLASS_PIF, pif->row.ref))->currently_attached = false;
    if (metrics && metrics->carrier)
        pif_metrics_row_mut(tx_edit(look->tx, CLASS_PIF_metrics, pif->metrics))->carrier = false;
}

static void look_at_rows(struct look *look)
{
    const struct ref_set *pifs = look->host->PIFs;
    for (size_t i = 0; pifs && i < pifs->count; i++) {
        const struct pif_row *pif = pif_row(tx_get(look->tx, CLASS_PIF, pifs->items[i]));
        /* Of one that has changed since the host was asked, the next look knows better. */
        if (!pif || pif->VLAN >= 0 || pif->row.generation > look->asked)
            continue;
        const struct host_interface *seen = seen_as(look, pif->device);
        if (seen) {
            update_pif(look->tx, pif, seen);
            update_metrics(look->tx, pif->metrics, seen);
        } else if (pif->physical) {
            mark_absent(look, pif);
        }
    }
}

static bool has_address(const struct pif_row *pif, const char *address)
{
    char ip[64];
    int length;
    if (streq(pif->IP, address))
        return *address != '\0';
    for (size_t i = 0; pif->IPv6 && i < pif->IPv6->count; i++) {
        split(pif->IPv6->items[i], ip, &length);
        if (streq(ip, address))
            return true;
    }
    return false;
}

/* See above. New rows are not in host->PIFs yet. */
struct choice {
    const struct host_row *host;
    struct ref by_address, by_route, now;
};

static bool consider(const struct row *row, void *arg)
{
    struct choice *c = arg;
    const struct pif_row *pif = pif_row(row);
    if (!ref_eq(pif->host, c->host->row.ref))
        return true;
    if (has_address(pif, c->host->address))
        c->by_address = pif->row.ref;
    if ((*pif->gateway || *pif->ipv6_gateway) && ref_is_null(c->by_route))
        c->by_route = pif->row.ref;
    if (pif->management)
        c->now = pif->row.ref;
    return true;
}

static void choose_management(struct look *look)
{
    struct choice c = {.host = look->host, .by_address = REF_NULL, .by_route = REF_NULL, .now = REF_NULL};
    tx_each(look->tx, CLASS_PIF, consider, &c);
    struct ref chosen = !ref_is_null(c.by_address) ? c.by_address : !ref_is_null(c.now) ? c.now : c.by_route;
    if (ref_eq(chosen, c.now))
        return;
    if (!ref_is_null(c.now))
        pif_row_mut(tx_edit(look->tx, CLASS_PIF, c.now))->management = false;
    pif_row_mut(tx_edit(look->tx, CLASS_PIF, chosen))->management = true;
}

static int list_interfaces(struct hv_host *agent, struct hv_network_list_result *out, struct hv_err *cause)
{
    struct hv_network_list_args args;
    const struct hv_op op = {.timeout_ms = 10000};
    hv_network_list_args_init(&args);
    return hv_network_list(agent, &op, &args, out, cause);
}

static uint64_t newest_generation(struct server *server)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    return snapshot_generation(snap);
}

int interfaces_look(struct server *server, struct ref host, struct hv_host *agent, bool all,
                    struct api_err *err)
{
    struct hv_network_list_result list;
    struct hv_err cause;
    uint64_t asked = newest_generation(server);
    if (list_interfaces(agent, &list, &cause) < 0)
        return hosts_fail(err, host, &cause);
    struct look look = {.tx = store_begin(server->store), .list = &list, .asked = asked};
    look.host = host_row(tx_get(look.tx, CLASS_host, host));
    if (!look.host) {
        tx_abort(look.tx);
        hv_network_list_result_done(&list);
        return fail_handle(err, CLASS_host, host);
    }
    look_at_rows(&look);
    for (size_t i = 0; all && i < list.interfaces_count; i++)
        if (list.interfaces[i].physical && !row_of(&look, list.interfaces[i].device))
            interfaces_add(look.tx, host, &list.interfaces[i], true);
    choose_management(&look);
    hv_network_list_result_done(&list);
    return server_commit(look.tx, err);
}

/* ---- what the pool gives a host ---- */

int interfaces_fail(struct api_err *err, struct ref host, struct ref pif, const struct hv_err *cause)
{
    switch (cause->kind) {
    case HV_ERR_KIND_NOT_FOUND:
    case HV_ERR_KIND_IN_USE:
    case HV_ERR_KIND_BAD_ARGUMENT:
    case HV_ERR_KIND_UNSUPPORTED:
    case HV_ERR_KIND_IO:
        log_info("network", "a host refused a change of its network", "host", REF_TEXT(host), "pif",
                 REF_TEXT(pif), "cause", cause->text);
        return err_pif_configuration_error(err, REF_TEXT(pif), cause->text);
    default:
        return hosts_fail(err, host, cause);
    }
}

/* Where its addresses are set: a VLAN's on its bridge, any other's on itself or its bridge. */
static const char *carrier_of(const struct snapshot *snap, const struct pif_row *pif)
{
    const struct network_row *network = network_row(snapshot_get(snap, CLASS_network, pif->network));
    return pif->VLAN >= 0 && network ? network->bridge : pif->device;
}

int interfaces_set_addresses(struct hv_host *agent, const struct snapshot *snap, const struct pif_row *pif,
                             const struct pif_row *former, struct api_err *err)
{
    struct hv_network_addresses_args args;
    struct hv_network_addresses_result result;
    struct hv_err cause;
    const struct hv_op op = {.timeout_ms = CALL_MS};
    struct uplink_addresses now, before = {.count = 0};
    plan_addresses(pif, &now);
    if (former)
        plan_addresses(former, &before);
    hv_network_addresses_args_init(&args);
    str_assign(&args.device, carrier_of(snap, pif));
    for (size_t i = 0; i < now.count; i++)
        hv_network_addresses_args_add_addresses(&args, now.text[i]);
    for (size_t i = 0; i < before.count; i++)
        hv_network_addresses_args_add_former(&args, before.text[i]);
    str_assign(&args.gateway, pif->configured && *pif->IP ? pif->gateway : "");
    str_assign(&args.gateway6, pif->configured ? pif->ipv6_gateway : "");
    int rc = hv_network_addresses(agent, &op, &args, &result, &cause);
    hv_network_addresses_args_done(&args);
    if (rc < 0)
        return interfaces_fail(err, pif->host, pif->row.ref, &cause);
    hv_network_addresses_result_done(&result);
    return 0;
}

int interfaces_set_bond(struct hv_host *agent, const struct snapshot *snap, const struct bond_row *bond,
                        struct api_err *err)
{
    static const enum host_bond_mode modes[] = {[BOND_MODE_BALANCE_SLB] = HOST_BOND_MODE_BALANCE_SLB,
                                                [BOND_MODE_ACTIVE_BACKUP] = HOST_BOND_MODE_ACTIVE_BACKUP,
                                                [BOND_MODE_LACP] = HOST_BOND_MODE_LACP};
    const struct pif_row *master = pif_row(snapshot_get(snap, CLASS_PIF, bond->master));
    struct hv_network_bond_args args;
    struct hv_network_bond_result result;
    struct hv_err cause;
    const struct hv_op op = {.timeout_ms = CALL_MS};
    if (!master)
        return fail_handle(err, CLASS_PIF, bond->master);
    hv_network_bond_args_init(&args);
    str_assign(&args.owner, bond->uuid);
    str_assign(&args.device, master->device);
    str_assign(&args.mac, master->MAC);
    args.mode = modes[bond->mode];
    str_map_assign(&args.properties, str_map_ref(bond->properties));
    for (size_t i = 0; bond->slaves && i < bond->slaves->count; i++) {
        const struct pif_row *member = pif_row(snapshot_get(snap, CLASS_PIF, bond->slaves->items[i]));
        if (member)
            hv_network_bond_args_add_members(&args, member->device);
    }
    int rc = hv_network_bond(agent, &op, &args, &result, &cause);
    hv_network_bond_args_done(&args);
    if (rc < 0)
        return interfaces_fail(err, master->host, master->row.ref, &cause);
    hv_network_bond_result_done(&result);
    return 0;
}

static void give_again(struct hv_host *agent, const struct snapshot *snap, const struct pif_row *pif)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct bond_row *bond =
        pif->bond_master_of && pif->bond_master_of->count
            ? bond_row(snapshot_get(snap, CLASS_Bond, pif->bond_master_of->items[0]))
            : NULL;
    if (bond && interfaces_set_bond(agent, snap, bond, &err) < 0)
        log_warn("network", "a bond could not be made again", "pif", pif->uuid);
    if (pif->configured && pif->VLAN < 0 && pif->currently_attached &&
        interfaces_set_addresses(agent, snap, pif, pif, &err) < 0)
        log_warn("network", "an interface did not get its addresses again", "pif", pif->uuid);
}

void interfaces_connected(struct server *server, struct ref host, struct hv_host *agent)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct host_row *row = host_row(snapshot_get(snap, CLASS_host, host));
    for (size_t i = 0; row && row->PIFs && i < row->PIFs->count; i++) {
        const struct pif_row *pif = pif_row(snapshot_get(snap, CLASS_PIF, row->PIFs->items[i]));
        if (pif)
            give_again(agent, snap, pif);
    }
    if (interfaces_look(server, host, agent, true, &err) < 0)
        log_warn("network", "the interfaces of a host are not known", "host",
                 OBJECT_TEXT(server, CLASS_host, host));
}
