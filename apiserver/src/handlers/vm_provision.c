/* VM.provision: a copy of a template becomes a VM, with the disks that the template asks for. */
#include "../gate/task.h"
#include "../plan/provision.h"
#include "../rules/vbd_device.h"
#include "../server.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

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
    task_note_done(tx, p->call, REF_NULL);
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
            log_error("vm", "a disk made in vain could not be removed", "vdi",
                      OBJECT_TEXT(call->server, CLASS_VDI, destroy.self), "error", ignored.code);
    }
    free(p.vdis);
    return rc;
}
