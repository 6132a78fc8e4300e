/* Bond.*: several interfaces of a host as one. The bond's own PIF takes over what its first member was:
 * address settings, VLANs. The host makes it before it is recorded. */
#include "checks.h"
#include "pif.h"

#include "../plan/mac.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

#define MEMBERS_MAX 16
#define BONDS_MAX 100

/* ---- making ---- */

struct members {
    const struct pif_row *items[MEMBERS_MAX];
    size_t count;
    const struct pif_row *primary; /* whose settings the bond takes */
};

static int check_member(const struct pif_row *pif, const struct members *m, const struct refusals *all,
                        struct api_err *err)
{
    if (m->count && !ref_eq(pif->host, m->items[0]->host) &&
        refused(all, err_pif_cannot_bond_cross_host(err), err))
        return -1;
    if (pif->VLAN >= 0 && refused(all, err_pif_is_vlan(err, REF_TEXT(pif->row.ref)), err))
        return -1;
    if (refused(all, pif_check_not_member(pif, err), err) || refused(all, pif_check_managed(pif, err), err))
        return -1;
    if (pif_is_tunnel_access(pif))
        return err_is_tunnel_access_pif(err, REF_TEXT(pif->row.ref));
    return pif->physical || pif->VLAN >= 0 ? 0 : err_pif_is_not_physical(err, REF_TEXT(pif->row.ref));
}

/* The bond takes the settings of the management interface, else of one with an address, else of the first by
 * name: a set has no order. */
static int rank(const struct pif_row *pif)
{
    return pif->management ? 2 : pif->ip_configuration_mode != IP_CONFIGURATION_MODE_NONE;
}

static int find_members(struct call *call, const struct ref_set *refs, const struct refusals *all,
                        struct members *m, struct api_err *err)
{
    size_t with_address = 0;
    *m = (struct members){.count = 0};
    for (size_t i = 0; refs && i < refs->count; i++) {
        const struct pif_row *pif = pif_find(call, refs->items[i], err);
        if (refused(all, pif ? check_member(pif, m, all, err) : -1, err))
            return -1;
        if (!pif)
            continue;
        if (m->count == MEMBERS_MAX)
            return err_value_not_supported(err, "members", REF_TEXT(refs->items[i]), "a bond has 16 at most");
        m->items[m->count++] = pif;
        bool addressed = pif->ip_configuration_mode != IP_CONFIGURATION_MODE_NONE;
        with_address += addressed && !pif->management;
        if (!m->primary || rank(pif) > rank(m->primary) ||
            (rank(pif) == rank(m->primary) && strcmp(pif->device, m->primary->device) < 0))
            m->primary = pif;
    }
    if (m->count < 2 && refused(all, err_pif_bond_needs_more_members(err), err))
        return -1;
    return with_address > 1 ? err_pif_bond_more_than_one_ip(err) : 0;
}

static int check_property(enum bond_mode mode, const char *name, const char *value, struct api_err *err)
{
    char *end;
    long number = strtol(value, &end, 10);
    bool is_number = *value >= '0' && *value <= '9' && !*end && number >= 0 && number <= 3600000;
    bool fits = false;
    if (streq(name, "hashing_algorithm"))
        fits = mode == BOND_MODE_LACP && (streq(value, "src_mac") || streq(value, "tcpudp_ports"));
    else if (streq(name, "lacp-time"))
        fits = mode == BOND_MODE_LACP && (streq(value, "fast") || streq(value, "slow"));
    else if (streq(name, "miimon") || streq(name, "updelay") || streq(name, "downdelay"))
        fits = is_number;
    else if (streq(name, "use_carrier"))
        fits = is_number && number <= 1;
    return fits ? 0 : err_invalid_value(err, name, value);
}

static int check_properties(enum bond_mode mode, const struct str_map *properties, const struct refusals *all,
                            struct api_err *err)
{
    for (size_t i = 0; properties && i < properties->count; i++)
        if (refused(all, check_property(mode, properties->pairs[i].key, properties->pairs[i].value, err),
                    err))
            return -1;
    return 0;
}

/* What a mode needs is said even when nobody asked for it. */
static void default_properties(enum bond_mode mode, const struct str_map **properties)
{
    if (mode == BOND_MODE_LACP && !str_map_get(*properties, "hashing_algorithm"))
        str_map_put(properties, "hashing_algorithm", "tcpudp_ports");
}

struct names {
    struct ref host;
    const char *device;
    bool taken;
};

static bool match_name(const struct row *row, void *arg)
{
    struct names *n = arg;
    n->taken = n->taken || (ref_eq(pif_row(row)->host, n->host) && streq(pif_row(row)->device, n->device));
    return !n->taken;
}

static void choose_device(struct tx *tx, struct ref host, char out[static 16])
{
    for (int i = 0; i < BONDS_MAX; i++) {
        snprintf(out, 16, "bond%d", i);
        struct names n = {.host = host, .device = out};
        tx_each(tx, CLASS_PIF, match_name, &n);
        if (!n.taken)
            return;
    }
}

static struct pif_row *add_master(struct tx *tx, const struct members *m, struct ref network, const char *mac)
{
    char device[16];
    const struct pif_row *first = m->primary;
    struct ref metrics = tx_create(tx, CLASS_PIF_metrics)->ref;
    struct pif_row *pif = pif_row_mut(tx_create(tx, CLASS_PIF));
    choose_device(tx, first->host, device);
    str_assign(&pif->device, device);
    str_assign(&pif->device_name, device);
    str_assign(&pif->MAC, *mac ? mac : first->MAC);
    pif->host = first->host;
    pif->network = network;
    pif->MTU = first->MTU;
    pif->VLAN = -1;
    pif->physical = false;
    pif->metrics = metrics;
    pif->managed = true;
    pif->currently_attached = true;
    pif->management = first->management;
    pif->ip_configuration_mode = first->ip_configuration_mode;
    str_assign(&pif->IP, first->IP);
    str_assign(&pif->netmask, first->netmask);
    str_assign(&pif->gateway, first->gateway);
    str_assign(&pif->DNS, first->DNS);
    pif->configured = first->configured;
    pif->primary_address_type = first->primary_address_type;
    return pif;
}

static void move_vlans(struct tx *tx, const struct pif_row *from, const struct pif_row *to)
{
    for (size_t i = 0; from->VLAN_slave_of && i < from->VLAN_slave_of->count; i++) {
        const struct vlan_row *vlan = vlan_row(tx_get(tx, CLASS_VLAN, from->VLAN_slave_of->items[i]));
        if (!vlan)
            continue;
        vlan_row_mut(tx_edit(tx, CLASS_VLAN, vlan->row.ref))->tagged_PIF = to->row.ref;
        if (!tx_get(tx, CLASS_PIF, vlan->untagged_PIF))
            continue;
        struct pif_row *pif = pif_row_mut(tx_edit(tx, CLASS_PIF, vlan->untagged_PIF));
        str_assign(&pif->device, to->device);
        pif->metrics = to->metrics;
    }
}

static void make_member(struct tx *tx, const struct pif_row *pif, struct ref bond)
{
    struct pif_row *member = pif_row_mut(tx_edit(tx, CLASS_PIF, pif->row.ref));
    member->bond_slave_of = bond;
    member->currently_attached = false;
    member->management = false;
    member->configured = false;
    member->ip_configuration_mode = IP_CONFIGURATION_MODE_NONE;
    str_assign(&member->IP, "");
    str_assign(&member->netmask, "");
    str_assign(&member->gateway, "");
    str_assign(&member->DNS, "");
}

/* Rows of the bond; not committed. */
static struct ref add_rows(struct tx *tx, const struct members *m, const struct bond_create_args *args,
                           const char *mac)
{
    struct bond_row *bond = bond_row_mut(tx_create(tx, CLASS_Bond));
    struct pif_row *master = add_master(tx, m, args->network, mac);
    bond->master = master->row.ref;
    bond->primary_slave = m->primary->row.ref;
    bond->mode = args->mode;
    bond->auto_update_mac = !*mac;
    bond->links_up = (int64_t)m->count;
    str_map_assign(&bond->properties, str_map_ref(args->properties));
    default_properties(args->mode, &bond->properties);
    for (size_t i = 0; i < m->count; i++) {
        move_vlans(tx, m->items[i], master);
        make_member(tx, m->items[i], bond->row.ref);
    }
    return bond->row.ref;
}

/* ---- bridges over an interface and its VLANs ---- */

static int each_bridge(struct hv_host *agent, const struct snapshot *snap, const struct pif_row *pif,
                       int (*step)(struct hv_host *, const struct snapshot *, const struct pif_row *,
                                   struct api_err *),
                       struct api_err *err)
{
    for (size_t i = 0; pif->VLAN_slave_of && i < pif->VLAN_slave_of->count; i++) {
        const struct vlan_row *vlan = vlan_row(snapshot_get(snap, CLASS_VLAN, pif->VLAN_slave_of->items[i]));
        const struct pif_row *untagged =
            vlan ? pif_row(snapshot_get(snap, CLASS_PIF, vlan->untagged_PIF)) : NULL;
        if (untagged && step(agent, snap, untagged, err) < 0)
            return -1;
    }
    return step(agent, snap, pif, err);
}

static int check_idle(struct hv_host *agent, const struct snapshot *snap, const struct pif_row *pif,
                      struct api_err *err)
{
    (void)agent;
    return pif_check_no_guests(snap, pif->network, pif->host, err);
}

/* It is made again when somebody needs it. */
static int remove_bridge(struct hv_host *agent, const struct snapshot *snap, const struct pif_row *pif,
                         struct api_err *err)
{
    const struct network_row *network = network_row(snapshot_get(snap, CLASS_network, pif->network));
    struct hv_err cause;
    return network && network_remove(agent, network, &cause) < 0
               ? interfaces_fail(err, pif->host, pif->row.ref, &cause)
               : 0;
}

static int free_members(struct hv_host *agent, const struct snapshot *snap, const struct members *m,
                        struct api_err *err)
{
    for (size_t i = 0; i < m->count; i++)
        if (each_bridge(agent, snap, m->items[i], remove_bridge, err) < 0)
            return -1;
    return 0;
}

/* ---- taking back ---- */

static void take_settings(struct pif_row *to, const struct pif_row *from)
{
    to->ip_configuration_mode = from->ip_configuration_mode;
    to->configured = from->configured;
    to->management = from->management;
    str_assign(&to->IP, from->IP);
    str_assign(&to->netmask, from->netmask);
    str_assign(&to->gateway, from->gateway);
    str_assign(&to->DNS, from->DNS);
}

static int delete_bond(struct tx *tx, struct ref ref, const struct pif_row *master, struct api_err *err)
{
    pif_delete(tx, master);
    tx_delete(tx, CLASS_Bond, ref);
    return server_commit(tx, err);
}

/* The host did not make it: all is as it was. */
static void undo(struct call *call, struct ref ref, const struct members *m)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(call->server->store);
    const struct bond_row *bond = bond_row(tx_get(tx, CLASS_Bond, ref));
    const struct pif_row *master = bond ? pif_row(tx_get(tx, CLASS_PIF, bond->master)) : NULL;
    for (size_t i = 0; i < m->count; i++) {
        const struct pif_row *was = m->items[i];
        if (!tx_get(tx, CLASS_PIF, was->row.ref))
            continue;
        struct pif_row *pif = pif_row_mut(tx_edit(tx, CLASS_PIF, was->row.ref));
        pif->bond_slave_of = REF_NULL;
        pif->currently_attached = was->currently_attached;
        take_settings(pif, was);
        move_vlans(tx, was, was);
    }
    if (!master)
        tx_abort(tx);
    else if (delete_bond(tx, ref, master, &err) < 0)
        log_error("network", "a bond that is not on its host stays in the database", "bond", REF_TEXT(ref));
}

/* Its first member takes over what the bond had. */
static int dissolve(struct call *call, struct ref ref, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct bond_row *bond = bond_row(tx_get(tx, CLASS_Bond, ref));
    const struct pif_row *master = bond ? pif_row(tx_get(tx, CLASS_PIF, bond->master)) : NULL;
    if (!master) {
        tx_abort(tx);
        return fail_handle(err, CLASS_Bond, ref);
    }
    for (size_t i = 0; bond->slaves && i < bond->slaves->count; i++) {
        const struct pif_row *member = pif_row(tx_get(tx, CLASS_PIF, bond->slaves->items[i]));
        if (!member)
            continue;
        struct pif_row *edit = pif_row_mut(tx_edit(tx, CLASS_PIF, member->row.ref));
        edit->bond_slave_of = REF_NULL;
        edit->currently_attached = true;
        if (!ref_eq(member->row.ref, bond->primary_slave))
            continue;
        take_settings(edit, master);
        move_vlans(tx, master, edit);
    }
    return delete_bond(tx, ref, master, err);
}

/* Recorded first, for it needs the device's name to itself, and taken back when the host refuses. */
static int make(struct call *call, struct hv_host *agent, const struct members *m,
                const struct bond_create_args *args, const char *mac, struct ref *result, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    for (size_t i = 0; i < m->count; i++) {
        const struct pif_row *now = pif_row(tx_get(tx, CLASS_PIF, m->items[i]->row.ref));
        int rc = now ? pif_check_not_member(now, err) : fail_handle(err, CLASS_PIF, m->items[i]->row.ref);
        if (rc < 0) {
            tx_abort(tx);
            return -1;
        }
    }
    *result = add_rows(tx, m, args, mac);
    if (server_commit(tx, err) < 0)
        return -1;
    AUTO_SNAPSHOT struct snapshot *now = store_snapshot(call->server->store);
    const struct bond_row *bond = bond_row(snapshot_get(now, CLASS_Bond, *result));
    if (bond && interfaces_set_bond(agent, now, bond, err) == 0)
        return 0;
    undo(call, *result, m);
    return bond ? -1 : fail_handle(err, CLASS_Bond, *result);
}

/* The members, and the address in its usual form ("": that of a member). */
static int look(struct call *call, const struct bond_create_args *args, const struct refusals *all,
                struct members *m, char mac[static MAC_TEXT_SIZE], struct api_err *err)
{
    const struct pif_source from = {.snap = call->snapshot};
    const struct network_row *network = pif_find_network(call, args->network, err);
    if (refused(all, network ? 0 : -1, err) ||
        refused(all, find_members(call, args->members, all, m, err), err))
        return -1;
    if (network && !network->managed &&
        refused(all, err_network_unmanaged(err, REF_TEXT(args->network)), err))
        return -1;
    mac[0] = '\0';
    if (*args->MAC && !mac_parse(args->MAC, mac) && refused(all, err_mac_invalid(err, args->MAC), err))
        return -1;
    if (refused(all, check_properties(args->mode, args->properties, all, err), err))
        return -1;
    if (network && m->primary &&
        refused(all, pif_check_network_free(&from, network, m->primary->host, err), err))
        return -1;
    for (size_t i = 0; i < m->count; i++)
        if (refused(all, each_bridge(NULL, call->snapshot, m->items[i], check_idle, err), err))
            return -1;
    return 0;
}

int check_bond_create(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                      struct api_err *err)
{
    char mac[MAC_TEXT_SIZE];
    struct members m;
    (void)tx;
    return look(call, args, all, &m, mac, err);
}

int handle_bond_create(struct call *call, const struct bond_create_args *args, struct ref *result,
                       struct api_err *err)
{
    char mac[MAC_TEXT_SIZE];
    struct members m;
    if (look(call, args, NULL, &m, mac, err) < 0)
        return -1;
    struct hv_host *agent = hosts_get(call->server->hosts, m.primary->host, err);
    if (!agent)
        return -1;
    int rc = free_members(agent, call->snapshot, &m, err);
    if (rc == 0)
        rc = make(call, agent, &m, args, mac, result, err);
    hosts_put(call->server->hosts, agent);
    return rc;
}

/* ---- taking apart, changing ---- */

static const struct bond_row *find_bond(struct call *call, struct ref ref, const struct pif_row **master,
                                        struct api_err *err)
{
    const struct bond_row *bond = bond_row(snapshot_get(call->snapshot, CLASS_Bond, ref));
    if (!bond) {
        fail_handle(err, CLASS_Bond, ref);
        return NULL;
    }
    *master = pif_find(call, bond->master, err);
    return *master ? bond : NULL;
}

static int unbond(struct hv_host *agent, const struct snapshot *snap, const struct bond_row *bond,
                  const struct pif_row *master, struct api_err *err)
{
    struct hv_network_unbond_args args;
    struct hv_network_unbond_result result;
    struct hv_err cause;
    if (each_bridge(agent, snap, master, remove_bridge, err) < 0)
        return -1;
    hv_network_unbond_args_init(&args);
    str_assign(&args.owner, bond->uuid);
    str_assign(&args.device, master->device);
    int rc = hv_network_unbond(agent, NULL, &args, &result, &cause);
    hv_network_unbond_args_done(&args);
    if (rc < 0)
        return interfaces_fail(err, master->host, master->row.ref, &cause);
    hv_network_unbond_result_done(&result);
    return 0;
}

int handle_bond_destroy(struct call *call, const struct bond_destroy_args *args, struct api_err *err)
{
    const struct pif_row *master;
    const struct bond_row *bond = find_bond(call, args->self, &master, err);
    if (!bond || each_bridge(NULL, call->snapshot, master, check_idle, err) < 0 ||
        pif_check_no_tunnels(master, err) < 0)
        return -1;
    struct hv_host *agent = hosts_get(call->server->hosts, master->host, err);
    if (!agent)
        return -1;
    int rc = unbond(agent, call->snapshot, bond, master, err);
    hosts_put(call->server->hosts, agent);
    return rc < 0 ? -1 : dissolve(call, args->self, err);
}

/* The host first: `wanted` is the row as it shall be. */
static int change(struct call *call, const struct pif_row *master, const struct bond_row *wanted,
                  struct api_err *err)
{
    struct hv_host *agent = hosts_get(call->server->hosts, master->host, err);
    if (!agent)
        return -1;
    int rc = interfaces_set_bond(agent, call->snapshot, wanted, err);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return -1;
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_Bond, wanted->row.ref)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_Bond, wanted->row.ref);
    }
    struct bond_row *row = bond_row_mut(tx_edit(tx, CLASS_Bond, wanted->row.ref));
    row->mode = wanted->mode;
    str_map_assign(&row->properties, str_map_ref(wanted->properties));
    return server_commit(tx, err);
}

int handle_bond_set_mode(struct call *call, const struct bond_set_mode_args *args, struct api_err *err)
{
    const struct pif_row *master;
    const struct bond_row *bond = find_bond(call, args->self, &master, err);
    if (!bond)
        return -1;
    struct bond_row wanted = *bond;
    AUTO_STR_MAP const struct str_map *properties = NULL;
    for (size_t i = 0; bond->properties && i < bond->properties->count; i++) {
        AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
        const struct str_pair *p = &bond->properties->pairs[i];
        if (check_property(args->value, p->key, p->value, &ignored) == 0)
            str_map_put(&properties, p->key, p->value);
    }
    default_properties(args->value, &properties);
    wanted.mode = args->value;
    wanted.properties = properties;
    return change(call, master, &wanted, err);
}

int handle_bond_set_property(struct call *call, const struct bond_set_property_args *args,
                             struct api_err *err)
{
    const struct pif_row *master;
    const struct bond_row *bond = find_bond(call, args->self, &master, err);
    if (!bond || check_property(bond->mode, args->name, args->value, err) < 0)
        return -1;
    struct bond_row wanted = *bond;
    AUTO_STR_MAP const struct str_map *properties = str_map_ref(bond->properties);
    str_map_put(&properties, args->name, args->value);
    wanted.properties = properties;
    return change(call, master, &wanted, err);
}
