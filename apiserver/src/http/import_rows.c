/* The rows of an import: VMs (and networks that nobody had) before the disks come, all the rest in one
 * transaction after. */
#include "../gate/roles.h"
#include "../handlers/vm_kept.h"
#include "../plan/mac.h"
#include "../rules/operations.h"
#include "../rules/vbd_device.h"
#include "import.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

/* ---- networks ---- */

/* *out is where the new network's link goes. */
static int make_network(struct import *im, const struct ova_object *object, struct import_link *out,
                        struct api_err *err)
{
    if (roles_allow(im->t->session, "network.create", err) < 0)
        return -1;
    struct row *row = row_new(CLASS_network, REF_NULL);
    struct call call;
    struct ref made;
    int rc = import_admit(im, object, row, NULL, err);
    transfer_call(im->t, &call);
    if (rc == 0) {
        str_assign(&network_row_mut(row)->bridge, ""); /* that name may be another's */
        rc = handle_network_create(&call, network_row(row), &made, err);
    }
    transfer_call_done(&call);
    row_unref(row);
    if (rc < 0)
        return -1;
    im->networks = xreallocarray(im->networks, im->network_count + 1, sizeof(*im->networks));
    im->networks[im->network_count++] = made;
    *out = (struct import_link){object, made};
    return 0;
}

static int make_networks(struct import *im, struct api_err *err)
{
    size_t found = im->link_count;
    for (size_t i = 0; i < im->ova.count; i++) {
        const struct ova_object *object = &im->ova.objects[i];
        if (object->cls != CLASS_network || !ref_is_null(import_ref(im, object->id)))
            continue;
        /* The new ones count as links when all are there, because links are sorted. */
        if (make_network(im, object, &im->links[found + im->network_count], err) < 0)
            return -1;
    }
    im->link_count += im->network_count;
    import_sort_links(im);
    return 0;
}

/* ---- VMs, before ---- */

static void copy_fields(struct row *to, const struct row *from)
{
    for (size_t i = 0; i < to->cls->field_count; i++) {
        const struct field_desc *field = &to->cls->fields[i];
        if ((field->flags & FIELD_DERIVED) || field == to->cls->uuid)
            continue;
        union cell *cell = row_cell_mut(to, field);
        cell_done(field->type, cell);
        cell_copy(field->type, cell, row_cell(from, field));
    }
}

static void settle_vm(struct tx *tx, const struct import *im, struct vm_row *vm,
                      const struct ova_object *object)
{
    char seed[UUID_TEXT_SIZE];
    struct row *metrics = tx_create(tx, CLASS_VM_metrics);
    vm->metrics = metrics->ref;
    vm_metrics_row_mut(metrics)->install_time = clock_unix_seconds();
    vm->domid = -1;
    vm->power_state = VM_POWER_STATE_HALTED;
    vm->importing = true;
    vm->is_default_template = vm->is_control_domain = vm->ha_always_run = false;
    str_assign(&vm->ha_restart_priority, "");
    str_map_del(&vm->other_config, "default_template");
    str_map_del(&vm->other_config, "xensource_internal");
    if (vm->domain_type == DOMAIN_TYPE_UNSPECIFIED)
        vm->domain_type = *vm->PV_kernel && !*vm->HVM_boot_policy ? DOMAIN_TYPE_PV : DOMAIN_TYPE_HVM;
    if (im->restore) {
        str_assign(&vm->uuid, ova_text(object, "uuid"));
        return;
    }
    str_map_put(&vm->other_config, "mac_seed", uuid_format(ref_new(), seed));
    AUTO_STR const char *generation =
        str_newf("%llu:%llu", (unsigned long long)ref_new().hi >> 1, (unsigned long long)ref_new().lo >> 1);
    str_assign(&vm->generation_id, generation);
}

int import_begin_rows(struct import *im, struct api_err *err)
{
    if (make_networks(im, err) < 0)
        return -1;
    struct tx *tx = store_begin(im->t->server->store);
    for (size_t i = 0; i < im->vm_count; i++) {
        struct import_vm *vm = &im->vms[i];
        const struct row *same = im->restore ? tx_by_uuid(tx, CLASS_VM, ova_text(vm->object, "uuid")) : NULL;
        if (same) {
            err_duplicate_vm(err, REF_TEXT(same->ref));
            tx_abort(tx);
            return -1;
        }
    }
    for (size_t i = 0; i < im->vm_count; i++) {
        struct row *row = tx_create(tx, CLASS_VM);
        copy_fields(row, im->vms[i].record);
        settle_vm(tx, im, vm_row_mut(row), im->vms[i].object);
        operation_mark(tx, CLASS_VM, row->ref, im->t->task, VM_OPERATIONS_IMPORT);
        im->vms[i].ref = row->ref;
    }
    return server_commit(tx, err);
}

/* ---- after ---- */

static int add_vdi(struct tx *tx, struct import *im, struct import_disk *disk, struct api_err *err)
{
    struct row *like = row_new(CLASS_VDI, REF_NULL);
    int rc = import_admit(im, disk->object, like, NULL, err);
    if (rc == 0) {
        /* What another back end noted for itself says nothing here. */
        str_map_assign(&vdi_row_mut(like)->sm_config, NULL);
        struct vdi_row *vdi = storage_add_vdi(tx, im->sr->row.ref, disk->uuid, &disk->info, vdi_row(like));
        storage_settle_disk(tx, im->sr->row.ref, disk->uuid);
        vdi->on_boot = vdi_row(like)->on_boot;
        vdi->allow_caching = vdi_row(like)->allow_caching;
        disk->ref = vdi->row.ref;
    }
    row_unref(like);
    return rc;
}

static bool is_suspended(const struct import *im, const struct ova_object *vm)
{
    return streq(ova_text(vm, "power_state"), "Suspended") &&
           !ref_is_null(import_ref(im, ova_text(vm, "suspend_VDI")));
}

static bool was_attached(const struct import *im, const struct ova_object *device)
{
    const struct ova_object *vm = ova_find(&im->ova, ova_text(device, "VM"));
    return vm && is_suspended(im, vm) && ova_bool(device, "currently_attached");
}

static int add_vbd(struct tx *tx, struct import *im, const struct ova_object *object, struct api_err *err)
{
    struct ref vm = import_ref(im, ova_text(object, "VM")), vdi = import_ref(im, ova_text(object, "VDI"));
    bool cd = streq(ova_text(object, "type"), "CD");
    int number = 0;
    if (ref_is_null(vm) || (ref_is_null(vdi) && !cd))
        return 0; /* of a control domain; or a disk that is not here, in an import that was forced */
    if (!ref_is_null(vdi) && !tx_get(tx, CLASS_VDI, vdi))
        return fail_handle(err, CLASS_VDI, vdi);
    struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
    if (import_admit(im, object, &vbd->row, NULL, err) < 0 || !vbd_device_parse(vbd->userdevice, &number))
        return -1;
    AUTO_STR const char *userdevice = str_newf("%d", number);
    str_assign(&vbd->userdevice, userdevice);
    vbd->VM = vm;
    vbd->VDI = vdi;
    vbd->empty = ref_is_null(vdi);
    vbd->currently_attached = was_attached(im, object);
    if (cd)
        vbd->mode = VBD_MODE_RO;
    return 0;
}

static int add_vif(struct tx *tx, struct import *im, const struct ova_object *object, struct api_err *err)
{
    struct ref ref = import_ref(im, ova_text(object, "VM"));
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    struct ref network = import_ref(im, ova_text(object, "network"));
    char mac[MAC_TEXT_SIZE];
    if (!vm)
        return 0; /* of a control domain */
    if (!tx_get(tx, CLASS_network, network))
        return fail_handle(err, CLASS_network, network);
    struct vif_row *vif = vif_row_mut(tx_create(tx, CLASS_VIF));
    if (import_admit(im, object, &vif->row, NULL, err) < 0)
        return -1;
    vif->VM = ref;
    vif->network = network;
    vif->currently_attached = was_attached(im, object);
    vif->MAC_autogenerated = !im->restore || ova_bool(object, "MAC_autogenerated");
    if (!im->restore || !mac_parse(vif->MAC, mac))
        mac_from_seed(str_map_get(vm->other_config, "mac_seed"), vif->device, mac);
    str_assign(&vif->MAC, mac);
    return 0;
}

static void add_vtpm(struct tx *tx, struct import *im, const struct ova_object *object)
{
    struct ref vm = import_ref(im, ova_text(object, "VM"));
    if (tx_get(tx, CLASS_VM, vm))
        vtpm_add(tx, vm, ova_bool(object, "is_unique"), ova_text(object, "contents"));
}

static int finish_vm(struct tx *tx, struct import *im, const struct import_vm *imported, struct api_err *err)
{
    const struct ova_object *o = imported->object;
    if (!tx_get(tx, CLASS_VM, imported->ref))
        return fail_handle(err, CLASS_VM, imported->ref);
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, imported->ref));
    vm->importing = false;
    vm->snapshot_of = import_ref(im, ova_text(o, "snapshot_of"));
    vm->parent = import_ref(im, ova_text(o, "parent"));
    vm->affinity = import_ref(im, ova_text(o, "affinity"));
    vm->suspend_SR = import_ref(im, ova_text(o, "suspend_SR"));
    if (is_suspended(im, o)) {
        vm->power_state = VM_POWER_STATE_SUSPENDED;
        vm->suspend_VDI = import_ref(im, ova_text(o, "suspend_VDI"));
    }
    operation_unmark(tx, CLASS_VM, imported->ref, im->t->task);
    return 0;
}

static int finish_disk(struct tx *tx, const struct import *im, const struct import_disk *disk)
{
    struct ref of = import_ref(im, ova_text(disk->object, "snapshot_of"));
    if (!ova_bool(disk->object, "is_a_snapshot") || ref_is_null(of))
        return 0;
    struct vdi_row *vdi = vdi_row_mut(tx_edit(tx, CLASS_VDI, disk->ref));
    vdi->is_a_snapshot = true;
    vdi->snapshot_of = of;
    return 0;
}

static int add_device(struct tx *tx, struct import *im, const struct ova_object *object, struct api_err *err)
{
    if (object->cls == CLASS_VBD)
        return add_vbd(tx, im, object, err);
    if (object->cls == CLASS_VTPM)
        add_vtpm(tx, im, object);
    return object->cls == CLASS_VIF ? add_vif(tx, im, object, err) : 0;
}

static int finish(struct tx *tx, struct import *im, struct api_err *err)
{
    if (im->disk_count && !tx_get(tx, CLASS_SR, im->sr->row.ref))
        return fail_handle(err, CLASS_SR, im->sr->row.ref);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < im->disk_count; i++)
        rc = add_vdi(tx, im, &im->disks[i], err);
    for (size_t i = 0; rc == 0 && i < im->disk_count; i++)
        rc = finish_disk(tx, im, &im->disks[i]);
    for (size_t i = 0; rc == 0 && i < im->ova.count; i++)
        rc = add_device(tx, im, &im->ova.objects[i], err);
    for (size_t i = 0; rc == 0 && i < im->vm_count; i++)
        rc = finish_vm(tx, im, &im->vms[i], err);
    return rc;
}

int import_finish_rows(struct import *im, struct api_err *err)
{
    struct sr_stats stats;
    bool have_stats = im->disk_count && storage_read_stats(im->at.agent, im->sr->uuid, &stats);
    struct tx *tx = store_begin(im->t->server->store);
    if (finish(tx, im, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    if (have_stats)
        storage_apply_stats(tx, im->sr->row.ref, &stats);
    return server_commit(tx, err);
}

/* ---- undoing ---- */

static void delete_vm(struct tx *tx, struct ref ref)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    if (!vm || !vm->importing)
        return;
    struct ref metrics = vm->metrics;
    tx_delete(tx, CLASS_VM, ref);
    if (tx_get(tx, CLASS_VM_metrics, metrics))
        tx_delete(tx, CLASS_VM_metrics, metrics);
}

static void undo(struct tx *tx, void *arg)
{
    const struct import *im = arg;
    for (size_t i = 0; i < im->vm_count; i++)
        delete_vm(tx, im->vms[i].ref);
    for (size_t i = 0; i < im->network_count; i++) {
        const struct network_row *network = network_row(tx_get(tx, CLASS_network, im->networks[i]));
        if (network && (!network->VIFs || network->VIFs->count == 0))
            tx_delete(tx, CLASS_network, im->networks[i]);
    }
}

void import_undo_rows(struct import *im)
{
    server_insist(im->t->server, undo, im);
}

struct unfinished {
    struct ref *vms;
    size_t count;
};

static bool note_unfinished(const struct row *row, void *arg)
{
    struct unfinished *u = arg;
    if (vm_row(row)->importing) {
        u->vms = xreallocarray(u->vms, u->count + 1, sizeof(*u->vms));
        u->vms[u->count++] = row->ref;
    }
    return true;
}

void import_sweep(struct tx *tx)
{
    struct unfinished u = {0};
    tx_each(tx, CLASS_VM, note_unfinished, &u);
    for (size_t i = 0; i < u.count; i++) {
        log_info("transfer", "a VM whose import did not end is removed", "vm", REF_TEXT(u.vms[i]));
        delete_vm(tx, u.vms[i]);
    }
    free(u.vms);
}
