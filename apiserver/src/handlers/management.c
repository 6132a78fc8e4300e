/* host.management_reconfigure and its like: over which interface, and so at which address, a host is managed.
 * An address is only taken when the host's agent answers there. */
#include "pif.h"

#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

static const struct pif_row *management_of(const struct snapshot *snap, struct ref ref)
{
    const struct host_row *host = host_row(snapshot_get(snap, CLASS_host, ref));
    for (size_t i = 0; host && host->PIFs && i < host->PIFs->count; i++) {
        const struct pif_row *pif = pif_row(snapshot_get(snap, CLASS_PIF, host->PIFs->items[i]));
        if (pif && pif->management)
            return pif;
    }
    return NULL;
}

int handle_host_get_management_interface(struct call *call,
                                         const struct host_get_management_interface_args *args,
                                         struct ref *result, struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_host, args->host))
        return fail_handle(err, CLASS_host, args->host);
    const struct pif_row *pif = management_of(call->snapshot, args->host);
    if (!pif)
        return err_host_has_no_management_ip(err);
    *result = pif->row.ref;
    return 0;
}

/* Its address of the kind that it is managed by; NULL with the error. */
static char *address_of(const struct pif_row *pif, struct api_err *err)
{
    bool six = pif->primary_address_type == PRIMARY_ADDRESS_TYPE_IPV6;
    if (!six && *pif->IP)
        return xstrdup(pif->IP);
    if (six && pif->IPv6 && pif->IPv6->count)
        return xstrndup(pif->IPv6->items[0], strcspn(pif->IPv6->items[0], "/"));
    if (six)
        err_pif_has_no_v6_network_configuration(err, REF_TEXT(pif->row.ref));
    else if (pif->ip_configuration_mode == IP_CONFIGURATION_MODE_NONE)
        err_pif_has_no_network_configuration(err, REF_TEXT(pif->row.ref));
    else
        err_interface_has_no_ip(err, pif->device);
    return NULL;
}

static int check(const struct pif_row *pif, const struct pif_row *now, struct api_err *err)
{
    if (!ref_is_null(pif->bond_slave_of))
        return err_cannot_plug_bond_slave(err, REF_TEXT(pif->row.ref));
    if (now && now->primary_address_type != pif->primary_address_type)
        return err_pif_incompatible_primary_address_type(err, REF_TEXT(pif->row.ref));
    return pif->currently_attached ? 0 : err_required_pif_is_unplugged(err, REF_TEXT(pif->row.ref));
}

static int record(struct call *call, const struct pif_row *pif, const char *address, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct host_row *host = host_row(tx_get(tx, CLASS_host, pif->host));
    if (!host || !tx_get(tx, CLASS_PIF, pif->row.ref)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_PIF, pif->row.ref);
    }
    for (size_t i = 0; host->PIFs && i < host->PIFs->count; i++) {
        const struct pif_row *one = pif_row(tx_get(tx, CLASS_PIF, host->PIFs->items[i]));
        bool is = one && ref_eq(one->row.ref, pif->row.ref);
        if (one && one->management != is)
            pif_row_mut(tx_edit(tx, CLASS_PIF, one->row.ref))->management = is;
    }
    str_assign(&host_row_mut(tx_edit(tx, CLASS_host, pif->host))->address, address);
    return server_commit(tx, err);
}

static int reconfigure(struct call *call, const struct pif_row *pif, struct api_err *err)
{
    const struct pif_row *now = management_of(call->snapshot, pif->host);
    if (now && ref_eq(now->row.ref, pif->row.ref))
        return 0; /* it is that one */
    AUTO_FREE char *address = check(pif, now, err) < 0 ? NULL : address_of(pif, err);
    if (!address || hosts_readdress(call->server->hosts, pif->host, address, err) < 0)
        return -1;
    return record(call, pif, address, err);
}

int handle_host_management_reconfigure(struct call *call, const struct host_management_reconfigure_args *args,
                                       struct api_err *err)
{
    const struct pif_row *pif = pif_find(call, args->pif, err);
    return pif ? reconfigure(call, pif, err) : -1;
}

/* Named as devices or as bridges are. */
int handle_host_local_management_reconfigure(struct call *call,
                                             const struct host_local_management_reconfigure_args *args,
                                             struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    const struct host_row *host =
        pool ? host_row(snapshot_get(call->snapshot, CLASS_host, pool->master)) : NULL;
    for (size_t i = 0; host && host->PIFs && i < host->PIFs->count; i++) {
        const struct pif_row *pif = pif_row(snapshot_get(call->snapshot, CLASS_PIF, host->PIFs->items[i]));
        const struct network_row *network =
            pif ? network_row(snapshot_get(call->snapshot, CLASS_network, pif->network)) : NULL;
        bool by_device = pif && pif->VLAN < 0 && streq(pif->device, args->interface);
        if (by_device || (network && *args->interface && streq(network->bridge, args->interface)))
            return reconfigure(call, pif, err);
    }
    return err_pif_device_not_found(err);
}

struct everywhere {
    const struct snapshot *snap;
    const struct network_row *network;
    struct call *call;
    struct api_err *err;
    bool apply;
    int rc;
};

static const struct pif_row *on_network(const struct everywhere *e, struct ref host)
{
    for (size_t i = 0; e->network->PIFs && i < e->network->PIFs->count; i++) {
        const struct pif_row *pif = pif_row(snapshot_get(e->snap, CLASS_PIF, e->network->PIFs->items[i]));
        if (pif && ref_eq(pif->host, host))
            return pif;
    }
    return NULL;
}

static bool look_at_host(const struct row *row, void *arg)
{
    struct everywhere *e = arg;
    const struct pif_row *pif = on_network(e, row->ref);
    if (!pif)
        e->rc = err_pif_not_present(e->err, REF_TEXT(row->ref), REF_TEXT(e->network->row.ref));
    else if (e->apply)
        e->rc = reconfigure(e->call, pif, e->err);
    else {
        AUTO_FREE char *address =
            check(pif, management_of(e->snap, row->ref), e->err) < 0 ? NULL : address_of(pif, e->err);
        e->rc = address ? 0 : -1;
    }
    return e->rc == 0;
}

int handle_pool_management_reconfigure(struct call *call, const struct pool_management_reconfigure_args *args,
                                       struct api_err *err)
{
    struct everywhere e = {.snap = call->snapshot, .call = call, .err = err};
    e.network = pif_find_network(call, args->network, err);
    if (!e.network)
        return -1;
    snapshot_each(call->snapshot, CLASS_host, look_at_host, &e);
    if (e.rc == 0) {
        e.apply = true;
        snapshot_each(call->snapshot, CLASS_host, look_at_host, &e);
    }
    return e.rc;
}
