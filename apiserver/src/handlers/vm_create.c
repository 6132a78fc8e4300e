/* VM.create, destroy, clone, copy, provision: VMs come and go as rows; their disks through the VDI handlers.
 */
#include "../blobs.h"
#include "../gate/generic.h"
#include "../plan/mac.h"
#include "../plan/provision.h"
#include "../rules/vbd_device.h"
#include "../server.h"
#include "alert.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

/* ---- create, destroy ---- */

static void settle_new_vm(struct tx *tx, struct vm_row *vm)
{
    char seed[UUID_TEXT_SIZE];
    vm->domid = -1;
    vm->is_control_domain = false;
    vm->power_state = VM_POWER_STATE_HALTED;
    if (!str_map_get(vm->other_config, "mac_seed"))
        str_map_put(&vm->other_config, "mac_seed", uuid_format(ref_new(), seed));
    if (vm->domain_type == DOMAIN_TYPE_UNSPECIFIED)
        vm->domain_type = *vm->PV_kernel && !*vm->HVM_boot_policy ? DOMAIN_TYPE_PV : DOMAIN_TYPE_HVM;
    struct row *metrics = tx_create(tx, CLASS_VM_metrics);
    vm->metrics = metrics->ref;
    vm_metrics_row_mut(metrics)->install_time = clock_unix_seconds();
}

int handle_vm_create(struct call *call, const struct vm_row *record, struct ref *result, struct api_err *err)
{
    if (record->power_state != VM_POWER_STATE_HALTED)
        return err_value_not_supported(
            err, "power_state", model_enum_vm_power_state.values[record->power_state], "a new VM is Halted");
    struct tx *tx = store_begin(call->server->store);
    struct row *row = tx_create(tx, CLASS_VM);
    if (generic_fill(tx, row, &record->row, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    settle_new_vm(tx, vm_row_mut(row));
    *result = row->ref;
    return server_commit(tx, err);
}

static void delete_all(struct tx *tx, const struct class_desc *cls, const struct ref_set *set)
{
    AUTO_REF_SET const struct ref_set *refs = ref_set_ref(set); /* the row's own shrinks as they go */
    for (size_t i = 0; refs && i < refs->count; i++)
        tx_delete(tx, cls, refs->items[i]);
}

static void delete_vm(struct tx *tx, struct ref ref)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    struct ref metrics = vm->metrics, guest = vm->guest_metrics;
    AUTO_REF_SET const struct ref_set *vbds = ref_set_ref(vm->VBDs);
    AUTO_REF_SET const struct ref_set *vifs = ref_set_ref(vm->VIFs);
    AUTO_REF_SET const struct ref_set *consoles = ref_set_ref(vm->consoles);
    blobs_delete(tx, vm->blobs);
    delete_all(tx, CLASS_VBD, vbds);
    delete_all(tx, CLASS_VIF, vifs);
    delete_all(tx, CLASS_console, consoles);
    tx_delete(tx, CLASS_VM, ref);
    if (tx_get(tx, CLASS_VM_metrics, metrics))
        tx_delete(tx, CLASS_VM_metrics, metrics);
    if (tx_get(tx, CLASS_VM_guest_metrics, guest))
        tx_delete(tx, CLASS_VM_guest_metrics, guest);
}

int handle_vm_destroy(struct call *call, const struct args_self *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, args->self));
    int rc = 0;
    if (!vm)
        rc = fail_handle(err, CLASS_VM, args->self);
    else if (vm->is_default_template)
        rc = err_vm_cannot_delete_default_template(err, REF_TEXT(args->self));
    else if (vm->is_control_domain)
        rc = err_operation_not_allowed(err, "The control domain of a host cannot be destroyed");
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    delete_vm(tx, args->self);
    return server_commit(tx, err);
}

/* ---- clone, copy ---- */

struct copied_disk {
    struct ref vbd, vdi; /* of the source VBD; the new VDI, null where the same medium is shared (CDs) */
};

struct copying {
    struct call *call;
    struct ref sr; /* null: the disk's own */
    bool full;
    struct copied_disk *disks;
    size_t count;
};

static int copy_disk(struct copying *c, struct ref vdi, struct ref *result, struct api_err *err)
{
    if (!c->full) {
        const struct vdi_clone_args args = {.vdi = vdi};
        return handle_vdi_clone(c->call, &args, result, err);
    }
    const struct vdi_copy_args args = {.vdi = vdi, .sr = c->sr};
    return handle_vdi_copy(c->call, &args, result, err);
}

static int copy_disks(struct copying *c, const struct vm_row *vm, struct api_err *err)
{
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(c->call->snapshot, CLASS_VBD, vm->VBDs->items[i]));
        if (!vbd)
            continue;
        struct copied_disk copy = {.vbd = vbd->row.ref};
        if (vbd->type == VBD_TYPE_DISK && !ref_is_null(vbd->VDI) &&
            copy_disk(c, vbd->VDI, &copy.vdi, err) < 0)
            return -1;
        c->disks = xreallocarray(c->disks, c->count + 1, sizeof(*c->disks));
        c->disks[c->count++] = copy;
    }
    return 0;
}

/* A failure in the middle leaves no disks behind. */
static void destroy_copies(struct copying *c)
{
    for (size_t i = 0; i < c->count; i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        const struct args_self args = {.self = c->disks[i].vdi};
        if (!ref_is_null(args.self) && handle_vdi_destroy(c->call, &args, &err) < 0)
            log_error("vm", "a disk copied in vain could not be removed", "vdi", REF_TEXT(args.self), "error",
                      err.code);
    }
}

static void reset_copied_vm(struct tx *tx, struct vm_row *vm, const struct vm_row *source, const char *name)
{
    char text[UUID_TEXT_SIZE];
    str_assign(&vm->name_label, name);
    vm->is_default_template = false;
    vm->resident_on = vm->scheduled_to_be_resident_on = REF_NULL;
    vm->power_state = VM_POWER_STATE_HALTED;
    vm->domid = -1;
    vm->appliance = vm->snapshot_schedule = vm->protection_policy = vm->suspend_SR = vm->suspend_VDI =
        REF_NULL;
    vm->parent = vm->snapshot_of = REF_NULL;
    vm->is_a_snapshot = false;
    vm->snapshot_time = 0;
    vm->start_delay = vm->shutdown_delay = vm->order = 0;
    vm->guest_metrics = REF_NULL;
    str_map_assign(&vm->snapshot_info, NULL);
    str_map_assign(&vm->blocked_operations, NULL);
    str_map_assign(&vm->blobs, NULL);
    str_map_assign(&vm->current_operations, NULL);
    str_map_del(&vm->other_config, "default_template");
    str_map_del(&vm->other_config, "xensource_internal");
    str_map_put(&vm->other_config, "mac_seed", uuid_format(ref_new(), text));
    if (source->is_a_template)
        str_map_put(&vm->other_config, "base_template_name", source->name_label);
    AUTO_STR const char *generation =
        str_newf("%llu:%llu", (unsigned long long)ref_new().hi >> 1, (unsigned long long)ref_new().lo >> 1);
    str_assign(&vm->generation_id, generation);
    struct row *metrics = tx_create(tx, CLASS_VM_metrics);
    vm->metrics = metrics->ref;
    vm_metrics_row_mut(metrics)->install_time = clock_unix_seconds();
}

/* Takes over every field that is the class's own (not uuid, not the sets that relations fill). */
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

static void copy_vbds(struct tx *tx, const struct copying *c, struct ref vm)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct row *source = snapshot_get(c->call->snapshot, CLASS_VBD, c->disks[i].vbd);
        struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
        copy_fields(&vbd->row, source);
        vbd->VM = vm;
        vbd->currently_attached = false;
        vbd->metrics = REF_NULL;
        str_map_assign(&vbd->current_operations, NULL);
        if (!ref_is_null(c->disks[i].vdi))
            vbd->VDI = c->disks[i].vdi;
        else if (!ref_is_null(vbd->VDI) && !tx_get(tx, CLASS_VDI, vbd->VDI))
            vbd->VDI = REF_NULL;
        vbd->empty = vbd->type == VBD_TYPE_CD && ref_is_null(vbd->VDI);
    }
}

static void copy_vifs(struct tx *tx, const struct copying *c, const struct vm_row *source, struct vm_row *vm)
{
    for (size_t i = 0; source->VIFs && i < source->VIFs->count; i++) {
        const struct row *from = snapshot_get(c->call->snapshot, CLASS_VIF, source->VIFs->items[i]);
        if (!from || !tx_get(tx, CLASS_network, vif_row(from)->network))
            continue;
        struct vif_row *vif = vif_row_mut(tx_create(tx, CLASS_VIF));
        char mac[MAC_TEXT_SIZE];
        copy_fields(&vif->row, from);
        vif->VM = vm->row.ref;
        vif->currently_attached = false;
        vif->metrics = REF_NULL;
        str_map_assign(&vif->current_operations, NULL);
        if (vif->MAC_autogenerated) {
            mac_from_seed(str_map_get(vm->other_config, "mac_seed"), vif->device, mac);
            str_assign(&vif->MAC, mac);
        }
    }
}

static int record_copy(struct copying *c, const struct vm_row *source, const char *name, struct ref *result,
                       struct api_err *err)
{
    struct tx *tx = store_begin(c->call->server->store);
    struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
    copy_fields(&vm->row, &source->row);
    if (!ref_is_null(vm->affinity) && !tx_get(tx, CLASS_host, vm->affinity))
        vm->affinity = REF_NULL;
    reset_copied_vm(tx, vm, source, name);
    copy_vbds(tx, c, vm->row.ref);
    copy_vifs(tx, c, source, vm);
    AUTO_FREE char *body = xasprintf("VM '%s' was cloned to '%s'", source->name_label, name);
    alert_add(tx, ALERT_VM_CLONED, CLS_VM, vm->uuid, body);
    *result = vm->row.ref;
    return server_commit(tx, err);
}

static int copy_vm(struct copying *c, struct ref ref, const char *name, struct ref *result,
                   struct api_err *err)
{
    const struct vm_row *source = vm_row(snapshot_get(c->call->snapshot, CLASS_VM, ref));
    if (!source)
        return fail_handle(err, CLASS_VM, ref);
    if (*name == '\0')
        return err_invalid_value(err, "new_name", "the name of the new VM is empty");
    int rc = copy_disks(c, source, err);
    if (rc == 0)
        rc = record_copy(c, source, name, result, err);
    if (rc < 0)
        destroy_copies(c);
    free(c->disks);
    return rc;
}

int handle_vm_clone(struct call *call, const struct vm_clone_args *args, struct ref *result,
                    struct api_err *err)
{
    struct copying c = {.call = call};
    return copy_vm(&c, args->vm, args->new_name, result, err);
}

int handle_vm_copy(struct call *call, const struct vm_copy_args *args, struct ref *result,
                   struct api_err *err)
{
    if (!ref_is_null(args->sr) && !snapshot_get(call->snapshot, CLASS_SR, args->sr))
        return fail_handle(err, CLASS_SR, args->sr);
    struct copying c = {.call = call, .sr = args->sr, .full = true};
    return copy_vm(&c, args->vm, args->new_name, result, err);
}

/* ---- provision ---- */

struct provisioning {
    struct call *call;
    struct ref vm;
    struct ref *vdis;
    size_t count;
};

static int find_sr(struct call *call, const char *uuid, struct ref *sr, struct api_err *err)
{
    const struct row *row;
    if (*uuid) {
        row = snapshot_by_uuid(call->snapshot, CLASS_SR, uuid);
    } else {
        const struct pool_row *pool =
            pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
        row = snapshot_get(call->snapshot, CLASS_SR, pool->default_SR);
    }
    if (!row)
        return err_uuid_invalid(err, "sr", uuid);
    *sr = row->ref;
    return 0;
}

static int make_disk(struct provisioning *p, const struct provision_disk *disk, struct api_err *err)
{
    struct ref sr;
    if (find_sr(p->call, disk->sr, &sr, err) < 0)
        return -1;
    struct row *record = row_new(CLASS_VDI, REF_NULL);
    struct vdi_row *vdi = vdi_row_mut(record);
    str_assign(&vdi->name_label, disk->device);
    str_assign(&vdi->name_description, "Created by template provisioner");
    vdi->SR = sr;
    vdi->virtual_size = disk->size;
    vdi->type = disk->type;
    struct ref ref;
    int rc = handle_vdi_create(p->call, vdi, &ref, err);
    row_unref(record);
    if (rc < 0)
        return -1;
    p->vdis = xreallocarray(p->vdis, p->count + 1, sizeof(*p->vdis));
    p->vdis[p->count++] = ref;
    return 0;
}

static void add_vbd(struct tx *tx, struct ref vm, struct ref vdi, const struct provision_disk *disk)
{
    struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
    char name[VBD_DEVICE_NAME_SIZE], number[8];
    vbd->VM = vm;
    vbd->VDI = vdi;
    snprintf(number, sizeof(number), "%d", disk->number);
    str_assign(&vbd->userdevice, number);
    str_assign(&vbd->device, vbd_device_name(disk->number, name));
    vbd->bootable = disk->bootable;
    vbd->mode = VBD_MODE_RW;
    vbd->type = VBD_TYPE_DISK;
    vbd->unpluggable = disk->type != VDI_TYPE_SYSTEM;
    str_map_put(&vbd->other_config, "owner", "");
}

static int record_provision(struct provisioning *p, const struct provision *wanted, struct api_err *err)
{
    struct tx *tx = store_begin(p->call->server->store);
    if (!tx_get(tx, CLASS_VM, p->vm)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, p->vm);
    }
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, p->vm));
    vm->is_a_template = false;
    str_map_del(&vm->other_config, "disks");
    str_map_del(&vm->other_config, "postinstall");
    for (size_t i = 0; i < wanted->count; i++)
        add_vbd(tx, p->vm, p->vdis[i], &wanted->disks[i]);
    return server_commit(tx, err);
}

int handle_vm_provision(struct call *call, const struct vm_provision_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_row(snapshot_get(call->snapshot, CLASS_VM, args->vm));
    if (!vm)
        return fail_handle(err, CLASS_VM, args->vm);
    if (str_map_get(vm->other_config, "postinstall"))
        return err_not_implemented(err, "other_config:postinstall");
    const char *xml = str_map_get(vm->other_config, "disks");
    AUTO_PROVISION struct provision wanted;
    if (provision_parse(xml ? xml : "", &wanted, err) < 0)
        return -1;
    struct provisioning p = {.call = call, .vm = args->vm};
    int rc = 0;
    for (size_t i = 0; i < wanted.count && rc == 0; i++)
        rc = make_disk(&p, &wanted.disks[i], err);
    if (rc == 0)
        rc = record_provision(&p, &wanted, err);
    for (size_t i = 0; rc < 0 && i < p.count; i++) {
        AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
        const struct args_self destroy = {.self = p.vdis[i]};
        if (handle_vdi_destroy(call, &destroy, &ignored) < 0)
            log_error("vm", "a disk made in vain could not be removed", "vdi", REF_TEXT(destroy.self),
                      "error", ignored.code);
    }
    free(p.vdis);
    return rc;
}
