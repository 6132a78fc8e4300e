/* What the common messages would do, told from the rows. Starts and resumes are in plan_start.c. */
#include "plan.h"

#include "../gate/gate.h"
#include "../handlers/disk_copies.h"
#include "../handlers/suspend_image.h"
#include "../plan/evacuation.h"
#include "../plan/placement.h"
#include "../plan/squeeze.h"
#include <base/json.h>
#include <base/mem.h>
#include <model/args.h>
#include <model/errors.h>
#include <stdio.h>

void plan_each_disk(struct plan *p, const struct vm_row *vm,
                    void (*fn)(struct plan *p, const struct vbd_row *vbd, const struct vdi_row *vdi))
{
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(plan_row(p, CLASS_VBD, vm->VBDs->items[i]));
        const struct vdi_row *vdi = vbd && !vbd->empty ? vdi_row(plan_row(p, CLASS_VDI, vbd->VDI)) : NULL;
        if (vdi)
            fn(p, vbd, vdi);
    }
}

/* ---- VMs ---- */

static void gives_back(struct plan *p, const struct vm_row *vm)
{
    const struct squeeze_vm size = squeeze_vm_of(p->snap, vm);
    plan_step(p, plan_row(p, CLASS_host, vm->resident_on), "The host has %lld bytes of memory more.",
              (long long)squeeze_now(&size));
}

static void clean_shutdown(struct plan *p)
{
    const struct vm_row *vm = plan_vm(p);
    plan_step(p, &vm->row, "Asks the guest to shut down, and waits.");
    gives_back(p, vm);
}

static void hard_shutdown(struct plan *p)
{
    const struct vm_row *vm = plan_vm(p);
    plan_step(p, &vm->row, "Ends the VM at once: what the guest has not written is lost.");
    if (!ref_is_null(vm->suspend_VDI))
        plan_step(p, plan_row(p, CLASS_VDI, vm->suspend_VDI), "Deletes the disk with the VM's memory.");
    if (!ref_is_null(vm->resident_on))
        gives_back(p, vm);
}

static void reboot(struct plan *p)
{
    const struct vm_row *vm = plan_vm(p);
    bool clean = strstr(p->call->method->name, "clean") != NULL;
    plan_step(p, &vm->row, clean ? "Asks the guest to restart, and waits." : "Restarts the VM at once.");
}

static void suspend(struct plan *p)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct vm_row *vm = plan_vm(p);
    struct ref sr;
    int64_t bytes;
    if (json_array_size(p->reasons))
        return;
    if (suspend_image_choose(p->snap, p->server, vm, &sr, &err) < 0 ||
        suspend_image_size(p->server, vm, &bytes, &err) < 0) {
        plan_refused(p, NULL, &err);
        return;
    }
    plan_needs_space(p, sr, bytes);
    plan_step(p, plan_row(p, CLASS_SR, sr), "Makes a disk for the VM's memory on the SR.");
    plan_step(p, &vm->row, "Writes the memory, and ends the VM on its host.");
    gives_back(p, vm);
}

/* Whether the VM's drive takes a copy of what is in it. */
static bool is_copied(const struct vbd_row *vbd)
{
    return vbd->type != VBD_TYPE_CD;
}

/* What the disk, or where it goes, has against that. */
static void look_at_copy(struct plan *p, const struct vdi_row *vdi, struct ref sr)
{
    const struct refusals all = plan_refusals(p);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    refused(&all, disk_copies_check(p->snap, vdi->row.ref, sr, &all, &err), &err);
    refused(&all, storage_check_reached(p->server, p->snap, vdi->SR, sr, &err), &err);
}

static void snapshot_disk(struct plan *p, const struct vbd_row *vbd, const struct vdi_row *vdi)
{
    if (!is_copied(vbd))
        return;
    look_at_copy(p, vdi, REF_NULL);
    plan_step(p, &vdi->row, "Takes a snapshot of the disk; it grows as the disk is written to.");
    plan_needs_space(p, vdi->SR, 0);
}

static void snapshot(struct plan *p)
{
    const struct vm_row *vm = plan_vm(p);
    const struct vm_snapshot_args *args = p->call->args; /* checkpoint begins alike */
    plan_each_disk(p, vm, snapshot_disk);
    plan_step(p, &vm->row, "Records the VM as snapshot '%s'.", args->new_name);
}

static void clone_disk(struct plan *p, const struct vbd_row *vbd, const struct vdi_row *vdi)
{
    if (!is_copied(vbd))
        return;
    look_at_copy(p, vdi, REF_NULL);
    plan_step(p, &vdi->row, "Makes a disk that shares what it has with this one.");
    plan_needs_space(p, vdi->SR, 0);
}

static void clone_vm(struct plan *p)
{
    const struct vm_row *vm = plan_vm(p);
    const struct vm_clone_args *args = p->call->args;
    plan_each_disk(p, vm, clone_disk);
    plan_step(p, &vm->row, "Makes VM '%s' like this one.", args->new_name);
}

static void copy_disk(struct plan *p, const struct vbd_row *vbd, const struct vdi_row *vdi)
{
    const struct vm_copy_args *args = p->call->args;
    struct ref sr = snapshot_get(p->snap, CLASS_SR, args->sr) ? args->sr : vdi->SR;
    if (!is_copied(vbd))
        return;
    look_at_copy(p, vdi, sr);
    plan_step(p, &vdi->row, "Copies the disk, %lld bytes.", (long long)vdi->virtual_size);
    plan_needs_space(p, sr, vdi->virtual_size);
}

static void copy(struct plan *p)
{
    const struct vm_row *vm = plan_vm(p);
    const struct vm_copy_args *args = p->call->args;
    plan_each_disk(p, vm, copy_disk);
    plan_step(p, &vm->row, "Makes VM '%s' like this one.", args->new_name);
}

static void migrate(struct plan *p)
{
    const struct vm_pool_migrate_args *args = p->call->args;
    const struct vm_row *vm = plan_vm(p);
    const struct row *host = plan_row(p, CLASS_host, args->host);
    const struct placement judged = {.snap = p->snap, .vm = vm};
    if (!host)
        return;
    if (ref_eq(vm->resident_on, args->host)) {
        plan_step(p, host, "Nothing: the VM runs there.");
        return;
    }
    plan_host_refusals(p, &judged, args->host);
    p->host = args->host;
    json_decref(p->where);
    p->where = json_pack("{so,ss}", "host", plan_name(host), "why", "It was asked for.");
    plan_step(p, host, "Makes room for the VM, and lets it wait for the memory.");
    plan_step(p, &vm->row,
              "Sends the memory while the guest runs, then stops it for a moment to send the rest.");
    plan_step(p, &vm->row, "The VM goes on on the other host.");
    gives_back(p, vm);
}

static void destroy(struct plan *p)
{
    const struct vm_row *vm = plan_vm(p);
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(plan_row(p, CLASS_VBD, vm->VBDs->items[i]));
        const struct row *vdi = vbd ? plan_row(p, CLASS_VDI, vbd->VDI) : NULL;
        if (vbd)
            plan_step(p, vdi, vdi ? "Removes its drive; the disk stays." : "Removes an empty drive.");
    }
    for (size_t i = 0; vm->VIFs && i < vm->VIFs->count; i++)
        plan_step(p, plan_row(p, CLASS_VIF, vm->VIFs->items[i]), "Removes the interface.");
    plan_step(p, &vm->row, "Removes the VM.");
}

/* ---- others ---- */

static void evacuate(struct plan *p)
{
    const struct host_evacuate_args *args = p->call->args;
    const struct host_row *host = host_row(plan_row(p, CLASS_host, args->host));
    AUTO_EVACUATION struct evacuation plan = {0};
    if (!host)
        return;
    evacuation_plan(p->snap, host, &plan);
    if (plan.count)
        p->asks = args->host;
    for (size_t i = 0; i < plan.count; i++) {
        const struct row *vm = plan_row(p, CLASS_VM, plan.steps[i].vm);
        const struct row *to = plan_row(p, CLASS_host, plan.steps[i].to);
        if (to)
            plan_step(p, vm, "Migrates the VM to %s.", host_row(to)->name_label);
        else
            plan_refused(p, vm, &plan.steps[i].why);
    }
    if (!plan.count)
        plan_step(p, &host->row, "Nothing: no VM runs there.");
}

/* ---- disks ---- */

/* The SR is not what the plan rests on: how full it is changes all the time. */
static void create_disk(struct plan *p)
{
    const struct vdi_row *disk = vdi_row(((const struct args_create *)p->call->args)->record);
    const struct row *sr = snapshot_get(p->snap, CLASS_SR, disk->SR);
    plan_step(p, sr, "Makes disk '%s'; it grows up to %lld bytes as it is written to.", disk->name_label,
              (long long)disk->virtual_size);
    plan_needs_space(p, disk->SR, disk->virtual_size);
}

static void resize_disk(struct plan *p)
{
    const struct vdi_resize_args *args = p->call->args;
    const struct vdi_row *vdi = vdi_row(plan_row(p, CLASS_VDI, args->vdi));
    if (!vdi)
        return;
    plan_step(p, &vdi->row, "Enlarges the disk from %lld to %lld bytes.", (long long)vdi->virtual_size,
              (long long)args->size);
    if (args->size > vdi->virtual_size)
        plan_needs_space(p, vdi->SR, args->size - vdi->virtual_size);
}

static void copy_of_disk(struct plan *p)
{
    const struct vdi_copy_args *args = p->call->args;
    const struct vdi_row *vdi = vdi_row(plan_row(p, CLASS_VDI, args->vdi));
    if (!vdi)
        return;
    plan_step(p, &vdi->row, "Copies the disk, %lld bytes.", (long long)vdi->virtual_size);
    plan_needs_space(p, args->sr, vdi->virtual_size);
}

static void vbd_plug(struct plan *p)
{
    const struct vbd_row *vbd =
        vbd_row(plan_row(p, CLASS_VBD, ((const struct args_self *)p->call->args)->self));
    bool plug = strstr(p->call->method->name, "unplug") == NULL;
    if (!vbd)
        return;
    const struct row *vdi = plan_row(p, CLASS_VDI, vbd->VDI), *vm = plan_row(p, CLASS_VM, vbd->VM);
    plan_step(p, vdi, plug ? "Gives the running VM the disk." : "Takes the disk from the running VM.");
    (void)vm;
}

static void vif_plug(struct plan *p)
{
    const struct vif_row *vif =
        vif_row(plan_row(p, CLASS_VIF, ((const struct args_self *)p->call->args)->self));
    bool plug = strstr(p->call->method->name, "unplug") == NULL;
    if (!vif)
        return;
    const struct row *network = plan_row(p, CLASS_network, vif->network);
    plan_row(p, CLASS_VM, vif->VM);
    plan_step(p, network,
              plug ? "Connects the running VM to the network." : "Takes the running VM off the network.");
}

static const struct {
    const char *message;
    void (*tell)(struct plan *p);
} details[] = {
    {"VM.start", plan_start},
    {"VM.start_on", plan_start_on},
    {"VM.resume", plan_resume},
    {"VM.resume_on", plan_resume_on},
    {"VM.clean_shutdown", clean_shutdown},
    {"VM.shutdown", clean_shutdown},
    {"VM.hard_shutdown", hard_shutdown},
    {"VM.clean_reboot", reboot},
    {"VM.hard_reboot", reboot},
    {"VM.suspend", suspend},
    {"VM.snapshot", snapshot},
    {"VM.checkpoint", snapshot},
    {"VM.clone", clone_vm},
    {"VM.copy", copy},
    {"VM.pool_migrate", migrate},
    {"VM.destroy", destroy},
    {"host.evacuate", evacuate},
    {"VBD.plug", vbd_plug},
    {"VBD.unplug", vbd_plug},
    {"VIF.plug", vif_plug},
    {"VIF.unplug", vif_plug},
    {"VDI.resize", resize_disk},
    {"VDI.copy", copy_of_disk},
};

void plan_detail(struct plan *p)
{
    const struct method_desc *m = p->call->method;
    const struct row *row =
        m->param_count && m->params[0].type->kind == TYPE_REF
            ? snapshot_get(p->snap, m->params[0].type->cls, ((const struct args_self *)p->call->args)->self)
            : NULL;
    for (size_t i = 0; row && i < ARRAY_LEN(details); i++)
        if (streq(details[i].message, m->name)) {
            details[i].tell(p);
            p->whole = true;
        }
    if (streq(m->name, "VDI.create")) /* what the SR's storage says is not asked */
        create_disk(p);
}
