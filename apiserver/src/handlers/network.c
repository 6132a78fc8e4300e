/* network.*: networks of the pool. */
#include "../blobs.h"
#include "../gate/generic.h"
#include "../hosts/hosts.h"
#include "../hosts/networks.h"
#include "../server.h"
#include "checks.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

#define BRIDGE_MAX 15

/* ---- networks ---- */

struct bridge_search {
    const char *name;
    bool found;
};

static bool match_bridge(const struct row *row, void *arg)
{
    struct bridge_search *s = arg;
    s->found = streq(network_row(row)->bridge, s->name);
    return !s->found;
}

static bool bridge_taken(struct tx *tx, const char *name)
{
    struct bridge_search s = {.name = name};
    tx_each(tx, CLASS_network, match_bridge, &s);
    return s.found;
}

static bool bridge_reserved(const char *name)
{
    static const char *const prefixes[] = {"xen", "xapi", "vif", "tap", "eth"};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return strlen(name) > BRIDGE_MAX;
}

/* A name that the client has chosen. */
int check_network_create(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                         struct api_err *err)
{
    const struct network_row *record = network_row(((const struct args_create *)args)->record);
    (void)call;
    if (bridge_reserved(record->bridge) &&
        refused(all, err_invalid_value(err, "bridge", record->bridge), err))
        return -1;
    return *record->bridge && bridge_taken(tx, record->bridge) ? err_bridge_name_exists(err, record->bridge)
                                                               : 0;
}

static void choose_bridge(struct tx *tx, struct network_row *network)
{
    char name[BRIDGE_MAX + 1];
    int n = 0;
    do
        snprintf(name, sizeof(name), "xapi%d", n++);
    while (bridge_taken(tx, name));
    str_assign(&network->bridge, name);
}

int handle_network_create(struct call *call, const struct network_row *record, struct ref *result,
                          struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct args_create args = {&record->row};
    if (check_network_create(call, tx, &args, NULL, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    struct network_row *network = network_row_mut(tx_create(tx, CLASS_network));
    if (generic_fill(tx, &network->row, &record->row, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    if (!*network->bridge)
        choose_bridge(tx, network);
    if (network->MTU <= 0)
        network->MTU = 1500;
    *result = network->row.ref;
    return server_commit(tx, err);
}

/* The record alone: a joining host's network, whose bridge has its name already. */
int handle_network_pool_introduce(struct call *call, const struct network_pool_introduce_args *args,
                                  struct ref *result, struct api_err *err)
{
    if (strlen(args->bridge) > BRIDGE_MAX)
        return err_invalid_value(err, "bridge", args->bridge);
    struct tx *tx = store_begin(call->server->store);
    struct network_row *network = network_row_mut(tx_create(tx, CLASS_network));
    str_assign(&network->name_label, args->name_label);
    str_assign(&network->name_description, args->name_description);
    network->MTU = args->MTU > 0 ? args->MTU : 1500;
    str_map_assign(&network->other_config, str_map_ref(args->other_config));
    str_assign(&network->bridge, args->bridge);
    network->managed = args->managed;
    network->purpose = args->purpose;
    *result = network->row.ref;
    return server_commit(tx, err);
}

static const char *join_refs(const struct ref_set *refs)
{
    const char *text = str_new("");
    for (size_t i = 0; i < refs->count; i++) {
        const char *more = str_newf("%s%s%s", text, i ? "; " : "", REF_TEXT(refs->items[i]));
        str_unref(text);
        text = more;
    }
    return text;
}

int check_network_destroy(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                          struct api_err *err)
{
    struct ref self = ((const struct args_self *)args)->self;
    const struct network_row *network = network_row(tx_get(tx, CLASS_network, self));
    (void)call;
    if (!network)
        return fail_handle(err, CLASS_network, self);
    if (network->PIFs && network->PIFs->count) {
        AUTO_STR const char *refs = join_refs(network->PIFs);
        if (refused(all, err_network_contains_pif(err, refs), err))
            return -1;
    }
    if (network->VIFs && network->VIFs->count) {
        AUTO_STR const char *refs = join_refs(network->VIFs);
        return err_network_contains_vif(err, refs);
    }
    return 0;
}

int handle_network_destroy(struct call *call, const struct args_self *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (check_network_destroy(call, tx, args, NULL, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    const struct network_row *network = network_row(tx_get(tx, CLASS_network, args->self));
    const struct row *gone = row_ref(&network->row);
    blobs_delete(tx, network->blobs);
    tx_delete(tx, CLASS_network, args->self);
    int rc = server_commit(tx, err);
    if (rc == 0)
        network_withdraw(call->server, network_row(gone));
    row_unref(gone);
    return rc;
}

/* ---- on hosts ---- */

int handle_network_attach(struct call *call, const struct network_attach_args *args, struct api_err *err)
{
    const struct network_row *network =
        network_row(snapshot_get(call->snapshot, CLASS_network, args->network));
    if (!network)
        return fail_handle(err, CLASS_network, args->network);
    struct hv_host *agent = hosts_get(call->server->hosts, args->host, err);
    if (!agent)
        return -1;
    int rc = network_prepare(agent, args->host, call->snapshot, network, err);
    hosts_put(call->server->hosts, agent);
    return rc;
}

int handle_network_attach_for_vm(struct call *call, const struct network_attach_for_vm_args *args,
                                 struct api_err *err)
{
    const struct vm_row *vm = vm_row(snapshot_get(call->snapshot, CLASS_VM, args->vm));
    if (!vm)
        return fail_handle(err, CLASS_VM, args->vm);
    struct hv_host *agent = networks_host(call->server, args->host, call->snapshot, vm, err);
    if (agent)
        hosts_put(call->server->hosts, agent);
    return agent ? 0 : -1;
}

/* A bridge without a way out, and without guests, is of no use to anybody. One with a way out stays: its
 * interface is the pool's to take down. */
static int detach(struct hv_host *agent, struct ref host, const struct snapshot *snap,
                  const struct network_row *network, struct api_err *err)
{
    AUTO_UPLINK struct uplink uplink = {.device = ""};
    struct hv_err cause;
    if (!plan_uplink(snap, network, host, &uplink) || uplink.pif)
        return 0;
    if (network_remove(agent, network, &cause) == 0 || cause.kind == HV_ERR_KIND_IN_USE)
        return 0;
    return hosts_fail(err, host, &cause);
}

int handle_network_detach_for_vm(struct call *call, const struct network_detach_for_vm_args *args,
                                 struct api_err *err)
{
    const struct snapshot *snap = call->snapshot;
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, args->vm));
    if (!vm)
        return fail_handle(err, CLASS_VM, args->vm);
    struct hv_host *agent = hosts_get(call->server->hosts, args->host, err);
    int rc = agent ? 0 : -1;
    for (size_t i = 0; rc == 0 && vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(snap, CLASS_VIF, vm->VIFs->items[i]));
        const struct network_row *network =
            vif ? network_row(snapshot_get(snap, CLASS_network, vif->network)) : NULL;
        if (network)
            rc = detach(agent, args->host, snap, network, err);
    }
    if (agent)
        hosts_put(call->server->hosts, agent);
    return rc;
}

/* ---- settings ---- */

/* Cards that follow the network's mode and are in use would change under their guests. */
int handle_network_set_default_locking_mode(struct call *call,
                                            const struct network_set_default_locking_mode_args *args,
                                            struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct network_row *network = network_row(tx_get(tx, CLASS_network, args->network));
    int rc = network ? 0 : fail_handle(err, CLASS_network, args->network);
    for (size_t i = 0; rc == 0 && network->VIFs && i < network->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(tx_get(tx, CLASS_VIF, network->VIFs->items[i]));
        if (vif && vif->currently_attached && vif->locking_mode == VIF_LOCKING_MODE_NETWORK_DEFAULT &&
            network->default_locking_mode != args->value)
            rc = err_vif_in_use(err, REF_TEXT(args->network), REF_TEXT(vif->row.ref));
    }
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    network_row_mut(tx_edit(tx, CLASS_network, args->network))->default_locking_mode = args->value;
    return server_commit(tx, err);
}

/* ---- purposes ---- */

static struct network_row *begin_edit(struct call *call, struct ref ref, struct tx **tx, struct api_err *err)
{
    *tx = store_begin(call->server->store);
    if (tx_get(*tx, CLASS_network, ref))
        return network_row_mut(tx_edit(*tx, CLASS_network, ref));
    tx_abort(*tx);
    fail_handle(err, CLASS_network, ref);
    return NULL;
}

static const char *const purpose_names[] = {
    [NETWORK_PURPOSE_NBD] = "nbd", [NETWORK_PURPOSE_INSECURE_NBD] = "insecure_nbd"};

int handle_network_add_purpose(struct call *call, const struct network_add_purpose_args *args,
                               struct api_err *err)
{
    /* Either with TLS or without. */
    enum network_purpose other =
        args->value == NETWORK_PURPOSE_NBD ? NETWORK_PURPOSE_INSECURE_NBD : NETWORK_PURPOSE_NBD;
    struct tx *tx;
    struct network_row *network = begin_edit(call, args->self, &tx, err);
    if (!network)
        return -1;
    if (network->purpose & 1ULL << other) {
        tx_abort(tx);
        return err_network_incompatible_purposes(err, purpose_names[args->value], purpose_names[other]);
    }
    network->purpose |= 1ULL << args->value;
    return server_commit(tx, err);
}

int handle_network_remove_purpose(struct call *call, const struct network_remove_purpose_args *args,
                                  struct api_err *err)
{
    struct tx *tx;
    struct network_row *network = begin_edit(call, args->self, &tx, err);
    if (!network)
        return -1;
    network->purpose &= ~(1ULL << args->value);
    return server_commit(tx, err);
}
