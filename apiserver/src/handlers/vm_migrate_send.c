/* VM.migrate_send and its checks, host.migrate_receive, VDI.pool_migrate: VMs that go with their disks,
 * within the pool. To other pools: vm_send.c. */
#include "vm_migrate.h"

#include "../front.h"
#include "../gate/session.h"
#include "../gate/task.h"
#include "../plan/domain.h"
#include "../rules/operations.h"
#include "../rules/vm.h"
#include "disk_copies.h"
#include "vm_power.h"
#include "vm_send.h"
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>
#include <base/secret.h>
#include <handlers.h>
#include <model/errors.h>

/* What the four arguments say, whichever message they came with. */
struct wish {
    struct ref vm;
    const struct str_map *dest, *vdi_map, *vif_map, *options, *vgpu_map;
    bool live;
};

static const char *value(const struct str_map *map, const char *key)
{
    const char *word = str_map_get(map, key);
    return word ? word : "";
}

static int find_host(struct call *call, const struct wish *wish, struct ref *host, struct api_err *err)
{
    const char *text = value(wish->dest, "host");
    if (!*text)
        return err_invalid_value(err, "dest", "host is missing");
    if (!ref_parse(text, host) || !snapshot_get(call->snapshot, CLASS_host, *host))
        return err_handle_invalid(err, "host", text);
    if (streq(value(wish->options, "copy"), "true"))
        return err_not_implemented(err, "VM.migrate_send with copy=true within a pool; use VM.copy");
    if (wish->vgpu_map && wish->vgpu_map->count)
        return err_not_implemented(err, "VM.migrate_send with a vgpu_map");
    return 0;
}

static bool sr_is_on(const struct snapshot *snap, const struct sr_row *sr, struct ref host)
{
    for (size_t i = 0; sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && pbd->currently_attached && ref_eq(pbd->host, host))
            return true;
    }
    return false;
}

struct kind_search {
    const char *type;
    bool found;
};

static bool mirrors(const struct row *row, void *arg)
{
    struct kind_search *s = arg;
    const struct sm_row *sm = sm_row(row);
    s->found |= streq(sm->type, s->type) && str_map_get(sm->features, "VDI_MIRROR");
    return !s->found;
}

static bool can_mirror(const struct snapshot *snap, const struct sr_row *sr)
{
    struct kind_search s = {.type = sr->type};
    snapshot_each(snap, CLASS_SM, mirrors, &s);
    return s.found;
}

/* An SR that a disk is to go to, seen from `host` (null: whichever). */
static int check_target(struct call *call, const struct vm_row *vm, const struct sr_row *from,
                        const char *text, struct ref host, struct ref *out, struct api_err *err)
{
    const struct sr_row *sr =
        ref_parse(text, out) ? sr_row(snapshot_get(call->snapshot, CLASS_SR, *out)) : NULL;
    if (!sr)
        return err_handle_invalid(err, "SR", text);
    if (!ref_is_null(host) && !sr_is_on(call->snapshot, sr, host))
        return err_vm_requires_sr(err, REF_TEXT(vm->row.ref), text);
    if (from && !can_mirror(call->snapshot, from))
        return err_sr_does_not_support_migration(err, REF_TEXT(from->row.ref), "VDI_MIRROR");
    if (!can_mirror(call->snapshot, sr))
        return err_sr_does_not_support_migration(err, text, "VDI_MIRROR");
    return 0;
}

static bool used_by_another(const struct snapshot *snap, const struct vdi_row *vdi, const struct vm_row *vm)
{
    for (size_t i = 0; vdi->VBDs && i < vdi->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vdi->VBDs->items[i]));
        if (vbd && !ref_eq(vbd->VM, vm->row.ref) && vbd->currently_attached)
            return true;
    }
    return false;
}

static void add_disk(struct journey *j, const struct vbd_row *vbd, const struct vdi_row *vdi, struct ref sr)
{
    j->disks = xreallocarray(j->disks, j->count + 1, sizeof(*j->disks));
    j->disks[j->count++] = (struct moving_disk){.vbd = vbd, .vdi = vdi, .sr = sr};
}

/* Which disks go along: those that the map sends elsewhere, and those that the host does not see. */
static int find_disks(struct call *call, const struct wish *wish, struct journey *j, struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    const struct vm_row *vm = j->vm;
    bool halted = vm->power_state == VM_POWER_STATE_HALTED || vm->power_state == VM_POWER_STATE_SUSPENDED;
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(call->snapshot, CLASS_VBD, vm->VBDs->items[i]));
        const struct vdi_row *vdi =
            vbd && !vbd->empty ? vdi_row(snapshot_get(call->snapshot, CLASS_VDI, vbd->VDI)) : NULL;
        const struct sr_row *from = vdi ? sr_row(snapshot_get(call->snapshot, CLASS_SR, vdi->SR)) : NULL;
        struct ref sr;
        if (!from || vbd->type == VBD_TYPE_CD || (!halted && !vbd->currently_attached))
            continue;
        const char *text = str_map_get(wish->vdi_map, REF_TEXT(vdi->row.ref));
        bool seen = sr_is_on(call->snapshot, from, j->host);
        AUTO_STR const char *fallback =
            str_new(pool && !ref_is_null(pool->default_SR) ? REF_TEXT(pool->default_SR) : "");
        if (!text && (seen || halted))
            continue;
        if (!text && !*fallback)
            return err_vdi_not_in_map(err, REF_TEXT(vdi->row.ref));
        if (check_target(call, vm, from, text ? text : fallback, j->host, &sr, err) < 0)
            return -1;
        if (ref_eq(sr, vdi->SR))
            continue;
        if (used_by_another(call->snapshot, vdi, vm))
            return err_vdi_in_use(err, REF_TEXT(vdi->row.ref), "mirror");
        add_disk(j, vbd, vdi, sr);
    }
    return 0;
}

static bool has_vbd_of(const struct journey *j, const struct snapshot *snap, const char *vdi)
{
    for (size_t i = 0; j->vm->VBDs && i < j->vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, j->vm->VBDs->items[i]));
        if (vbd && streq(REF_TEXT(vbd->VDI), vdi))
            return true;
    }
    return false;
}

static int check_maps(struct call *call, const struct wish *wish, const struct journey *j,
                      struct api_err *err)
{
    for (size_t i = 0; wish->vdi_map && i < wish->vdi_map->count; i++)
        if (!has_vbd_of(j, call->snapshot, wish->vdi_map->pairs[i].key))
            return err_vdi_not_in_map(err, wish->vdi_map->pairs[i].key);
    for (size_t i = 0; wish->vif_map && i < wish->vif_map->count; i++) {
        struct ref ref;
        const char *key = wish->vif_map->pairs[i].key, *to = wish->vif_map->pairs[i].value;
        const struct vif_row *vif =
            ref_parse(key, &ref) ? vif_row(snapshot_get(call->snapshot, CLASS_VIF, ref)) : NULL;
        if (!vif || !ref_eq(vif->VM, j->vm->row.ref))
            return err_handle_invalid(err, "VIF", key);
        const struct network_row *network =
            ref_parse(to, &ref) ? network_row(snapshot_get(call->snapshot, CLASS_network, ref)) : NULL;
        const struct network_row *now =
            network_row(snapshot_get(call->snapshot, CLASS_network, vif->network));
        if (!network)
            return err_handle_invalid(err, "network", to);
        /* What a running guest's card leads to is of one kind: a bridge, or the host's own addresses. */
        if (j->vm->power_state != VM_POWER_STATE_HALTED && now &&
            plan_nic_kind(now) != plan_nic_kind(network))
            return err_vm_requires_network(err, REF_TEXT(j->vm->row.ref), to);
    }
    return 0;
}

static int plan(struct call *call, const struct wish *wish, struct journey *j, struct api_err *err)
{
    *j = (struct journey){.vm = vm_find(call, wish->vm, err), .networks = wish->vif_map};
    if (!j->vm || find_host(call, wish, &j->host, err) < 0)
        return -1;
    if (j->vm->power_state == VM_POWER_STATE_RUNNING && !wish->live &&
        !streq(value(wish->options, "force"), "true"))
        return err_vm_bad_power_state(err, REF_TEXT(wish->vm), "halted; suspended", "running");
    if (check_maps(call, wish, j, err) < 0 || find_disks(call, wish, j, err) < 0)
        return -1;
    bool stays = ref_eq(j->vm->resident_on, j->host);
    return j->vm->power_state == VM_POWER_STATE_RUNNING && !stays ? vm_migrate_check(call, j, err) : 0;
}

/* ---- at rest ---- */

static void move_cards(struct tx *tx, const struct str_map *networks)
{
    for (size_t i = 0; networks && i < networks->count; i++) {
        struct ref vif, network;
        if (ref_parse(networks->pairs[i].key, &vif) && ref_parse(networks->pairs[i].value, &network) &&
            tx_get(tx, CLASS_VIF, vif) && tx_get(tx, CLASS_network, network))
            vif_row_mut(tx_edit(tx, CLASS_VIF, vif))->network = network;
    }
}

static int record_copies(struct call *call, const struct journey *j, struct disk_copies *copies,
                         struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    for (size_t i = 0; i < j->count; i++) {
        struct vdi_row *vdi =
            tx_get(tx, CLASS_VBD, j->disks[i].vbd->row.ref) ? disk_copies_record(copies, tx, i) : NULL;
        if (!vdi) {
            tx_abort(tx);
            return fail_handle(err, CLASS_VBD, j->disks[i].vbd->row.ref);
        }
        vbd_row_mut(tx_edit(tx, CLASS_VBD, j->disks[i].vbd->row.ref))->VDI = vdi->row.ref;
        storage_discard_vdi(tx, j->disks[i].vdi->row.ref);
    }
    move_cards(tx, j->networks);
    if (tx_get(tx, CLASS_host, j->host))
        vm_row_mut(tx_edit(tx, CLASS_VM, j->vm->row.ref))->affinity = j->host;
    task_note_done(tx, call, j->vm->row.ref);
    return server_commit(tx, err);
}

static int move_at_rest(struct call *call, const struct journey *j, struct api_err *err)
{
    struct disk_copies copies;
    int rc = 0;
    size_t index;
    for (size_t i = 0; i < j->count; i++)
        if (j->disks[i].vdi->VBDs && j->disks[i].vdi->VBDs->count > 1)
            return err_vdi_in_use(err, REF_TEXT(j->disks[i].vdi->row.ref), "mirror");
    disk_copies_init(&copies, call);
    for (size_t i = 0; rc == 0 && i < j->count; i++)
        rc = disk_copies_add(&copies, j->disks[i].vdi->row.ref, j->disks[i].sr, &index, err);
    if (rc == 0)
        rc = disk_copies_make(&copies, COPY_FULL, err);
    if (rc == 0)
        rc = record_copies(call, j, &copies, err);
    disk_copies_done(&copies, rc == 0);
    for (size_t i = 0; rc == 0 && i < j->count; i++)
        storage_sweep(call->server, j->disks[i].vdi->SR);
    return rc;
}

/* Stays on its host: its disks move one by one. */
static int move_disks_here(struct call *call, const struct journey *j, struct api_err *err)
{
    for (size_t i = 0; i < j->count; i++) {
        struct journey one = {.vm = j->vm, .host = j->host, .disks = &j->disks[i], .count = 1};
        struct ref made;
        if (vm_migrate_disk(call, &one, &made, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- the messages ---- */

/* The destination is no host of this pool. */
static bool leads_away(struct call *call, const struct wish *wish)
{
    const char *text = value(wish->dest, "host");
    struct ref host;
    return *text && (!ref_parse(text, &host) || !snapshot_get(call->snapshot, CLASS_host, host));
}

static int send_away(struct call *call, const struct wish *wish, struct ref *result, struct api_err *err)
{
    const struct vm_send send = {.vm = vm_find(call, wish->vm, err),
                                 .dest = wish->dest,
                                 .disks = wish->vdi_map,
                                 .nics = wish->vif_map,
                                 .copy = streq(value(wish->options, "copy"), "true")};
    if (!send.vm)
        return -1;
    if (wish->vgpu_map && wish->vgpu_map->count)
        return err_not_implemented(err, "VM.migrate_send with a vgpu_map");
    return result ? vm_send(call, &send, result, err) : vm_send_check(call, &send, err);
}

int handle_vm_migrate_send(struct call *call, const struct vm_migrate_send_args *args, struct ref *result,
                           struct api_err *err)
{
    const struct wish wish = {args->vm,      args->dest,     args->vdi_map, args->vif_map,
                              args->options, args->vgpu_map, args->live};
    AUTO_JOURNEY struct journey j = {0};
    if (leads_away(call, &wish))
        return send_away(call, &wish, result, err);
    if (plan(call, &wish, &j, err) < 0)
        return -1;
    *result = j.vm->row.ref;
    if (j.vm->power_state != VM_POWER_STATE_RUNNING)
        return move_at_rest(call, &j, err);
    return ref_eq(j.vm->resident_on, j.host) ? move_disks_here(call, &j, err) : vm_migrate(call, &j, err);
}

static int assert_can(struct call *call, const struct wish *wish, struct api_err *err)
{
    AUTO_JOURNEY struct journey j = {0};
    struct tx *tx = store_begin(call->server->store);
    int rc = operation_check(tx, CLASS_VM, wish->vm, VM_OPERATIONS_MIGRATE_SEND, err);
    tx_abort(tx);
    if (rc < 0)
        return -1;
    return leads_away(call, wish) ? send_away(call, wish, NULL, err) : plan(call, wish, &j, err);
}

int handle_vm_assert_can_migrate(struct call *call, const struct vm_assert_can_migrate_args *args,
                                 struct api_err *err)
{
    const struct wish wish = {args->vm,      args->dest,     args->vdi_map, args->vif_map,
                              args->options, args->vgpu_map, args->live};
    return assert_can(call, &wish, err);
}

int handle_vm_assert_can_migrate_sender(struct call *call,
                                        const struct vm_assert_can_migrate_sender_args *args,
                                        struct api_err *err)
{
    const struct wish wish = {args->vm,      args->dest,     args->vdi_map, args->vif_map,
                              args->options, args->vgpu_map, args->live};
    return assert_can(call, &wish, err);
}

/* Where the server listens, as seen from elsewhere: at the coordinator's address. An rc string. */
static const char *server_url(struct call *call, const struct host_row *host)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    const struct host_row *master =
        pool ? host_row(snapshot_get(call->snapshot, CLASS_host, pool->master)) : NULL;
    const char *address = master ? master->address : host->address;
    AUTO_FREE char *bracketed = strchr(address, ':') ? xasprintf("[%s]", address) : xstrdup(address);
    return call->server->port == 443 ? str_newf("https://%s/", bracketed)
                                     : str_newf("https://%s:%u/", bracketed, call->server->port);
}

int handle_host_migrate_receive(struct call *call, const struct host_migrate_receive_args *args,
                                const struct str_map **result, struct api_err *err)
{
    const struct host_row *host = host_row(snapshot_get(call->snapshot, CLASS_host, args->host));
    if (!host)
        return fail_handle(err, CLASS_host, args->host);
    if (!snapshot_get(call->snapshot, CLASS_network, args->network))
        return fail_handle(err, CLASS_network, args->network);
    if (!storage_host_is_live(call->snapshot, args->host))
        return err_host_not_live(err);
    if (!host->enabled)
        return err_host_disabled(err, REF_TEXT(args->host));
    AUTO_FREE char *certificate = front_certificate(call->server, err);
    char pin[SHA256_TEXT_SIZE];
    struct pki_error cause;
    if (!certificate)
        return -1;
    if (pki_fingerprint(certificate, strlen(certificate), pin, &cause) < 0)
        return fail_internal(err, "The server's certificate cannot be read: %s.", cause.text);
    AUTO_STR const char *session = str_new(REF_TEXT(call->session->token));
    AUTO_STR const char *ref = str_new(REF_TEXT(args->host));
    AUTO_STR const char *master = server_url(call, host);
    AUTO_STR const char *sm = str_newf("%sservices/SM?session_id=%s", master, session);
    AUTO_STR const char *xenops = str_newf("%sservices/xenops?session_id=%s", master, session);
    AUTO_STR const char *shown = str_new(pin);
    const struct str_pair pairs[] = {{"SM", sm},         {"host", ref},
                                     {"xenops", xenops}, {"session_id", session},
                                     {"master", master}, {VM_SEND_PIN, shown}};
    *result = str_map_new(pairs, ARRAY_LEN(pairs));
    return 0;
}

/* ---- VDI.pool_migrate ---- */

/* The running VM that writes the disk, and its drive. */
static int find_writer(struct call *call, const struct vdi_row *vdi, struct journey *j, struct ref sr,
                       struct api_err *err)
{
    for (size_t i = 0; vdi->VBDs && i < vdi->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(call->snapshot, CLASS_VBD, vdi->VBDs->items[i]));
        const struct vm_row *vm = vbd ? vm_row(snapshot_get(call->snapshot, CLASS_VM, vbd->VM)) : NULL;
        if (!vm || !vbd->currently_attached || ref_is_null(vm->resident_on))
            continue;
        if (j->vm)
            return err_vdi_in_use(err, REF_TEXT(vdi->row.ref), "mirror");
        if (vbd->mode != VBD_MODE_RW || vbd->type == VBD_TYPE_CD)
            return err_vdi_in_use(err, REF_TEXT(vdi->row.ref), "mirror");
        j->vm = vm;
        j->host = vm->resident_on;
        add_disk(j, vbd, vdi, sr);
    }
    return j->vm ? 0 : err_vdi_needs_vm_for_migrate(err, REF_TEXT(vdi->row.ref));
}

struct marking {
    struct ref vm, task;
};

static void unmark(struct tx *tx, void *arg)
{
    const struct marking *m = arg;
    operation_unmark(tx, CLASS_VM, m->vm, m->task);
}

/* Nothing else may happen to the VM meanwhile. */
static int mark(struct call *call, const struct vm_row *vm, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (operation_check(tx, CLASS_VM, vm->row.ref, VM_OPERATIONS_MIGRATE_SEND, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    operation_mark(tx, CLASS_VM, vm->row.ref, call->task, VM_OPERATIONS_MIGRATE_SEND);
    return server_commit(tx, err);
}

int handle_vdi_pool_migrate(struct call *call, const struct vdi_pool_migrate_args *args, struct ref *result,
                            struct api_err *err)
{
    const struct vdi_row *vdi = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, args->vdi));
    AUTO_JOURNEY struct journey j = {0};
    struct ref sr;
    if (!vdi)
        return fail_handle(err, CLASS_VDI, args->vdi);
    if (!snapshot_get(call->snapshot, CLASS_SR, args->sr))
        return fail_handle(err, CLASS_SR, args->sr);
    if (find_writer(call, vdi, &j, args->sr, err) < 0 ||
        check_target(call, j.vm, sr_row(snapshot_get(call->snapshot, CLASS_SR, vdi->SR)), REF_TEXT(args->sr),
                     j.host, &sr, err) < 0)
        return -1;
    if (ref_eq(sr, vdi->SR)) {
        *result = args->vdi; /* it is there */
        return 0;
    }
    if (mark(call, j.vm, err) < 0)
        return -1;
    int rc = vm_migrate_disk(call, &j, result, err);
    struct marking m = {j.vm->row.ref, call->task};
    server_insist(call->server, unmark, &m);
    return rc;
}
