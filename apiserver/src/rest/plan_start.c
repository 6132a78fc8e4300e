/* Plans of starts and resumes: where the VM would run and why, and all that keeps it from running. */
#include "plan.h"

#include "../gate/gate.h"
#include "../hosts/claims.h"
#include "../hosts/ha.h"
#include "../plan/domain.h"
#include "../plan/hardware.h"
#include "../plan/scheduling.h"
#include "../plan/squeeze.h"
#include "../rules/device.h"
#include <base/json.h>
#include <base/mem.h>
#include <model/args.h>
#include <model/errors.h>

/* ---- where ---- */

struct refusing {
    struct plan *p;
    const struct placement *asked;
    const struct row *row; /* what the reasons are about */
};

static bool refuse(void *arg, struct api_err *err)
{
    const struct refusing *r = arg;
    plan_refused(r->p, r->row, err);
    return true;
}

void plan_host_refusals(struct plan *p, const struct placement *asked, struct ref host)
{
    struct refusing here = {p, asked, plan_row(p, CLASS_host, host)}, anywhere = {p, asked, &asked->vm->row};
    placement_refusals_anywhere(asked, refuse, &anywhere);
    placement_refusals(asked, host, refuse, &here);
}

static bool refuse_each_host(const struct row *row, void *arg)
{
    const struct refusing *r = arg;
    struct refusing here = {r->p, r->asked, row};
    placement_refusals(r->asked, row->ref, refuse, &here);
    return true;
}

struct judging {
    const struct placement *asked;
    json_t *hosts;
    size_t passing;
};

static bool judge(const struct row *row, void *arg)
{
    struct judging *j = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    bool fits = placement_check(j->asked, row->ref, &err) == 0;
    json_t *verdict =
        json_pack("{so,sb,sI,ss}", "host", plan_name(row), "fits", fits, "free_memory",
                  (json_int_t)placement_free_memory(j->asked->snap, host_row(row), NULL, true), "why",
                  fits                        ? ""
                  : err.desc && err.desc->doc ? err.desc->doc
                                              : "");
    json_object_set_new(verdict, "code", fits ? json_null() : json_string(err.code));
    json_array_append_new(j->hosts, verdict);
    j->passing += fits;
    return true;
}

/* No host was found: what the call says of several, and all reasons of all hosts, or of the one that is asked
 * for. */
static void no_place(struct plan *p, const struct placement *asked, struct ref wanted,
                     const struct api_err *err)
{
    size_t before = json_array_size(p->reasons);
    struct refusing r = {p, asked, NULL};
    if (err->desc == ERROR_NO_HOSTS_AVAILABLE)
        plan_refused(p, &asked->vm->row, err);
    if (snapshot_get(p->snap, CLASS_host, wanted)) {
        plan_host_refusals(p, asked, wanted);
    } else {
        placement_refusals_anywhere(asked, refuse, &(struct refusing){p, asked, &asked->vm->row});
        snapshot_each(p->snap, CLASS_host, refuse_each_host, &r);
    }
    if (json_array_size(p->reasons) ==
        before) /* memory of VMs that are just being started, or no host at all */
        plan_refused(p, plan_row(p, CLASS_host, wanted), err);
}

/* The memory that it needs, and the host: `wanted` null for the best one. */
static void place(struct plan *p, const struct vm_row *vm, struct ref wanted, bool force)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct squeeze_vm size = squeeze_vm_of(p->snap, vm);
    const struct claims_wish wish = {.host = wanted, .force = force};
    const struct placement asked = {.snap = p->snap, .vm = vm, .force = force};
    struct judging j = {.asked = &asked, .hosts = json_array()};
    struct ref host;
    json_object_set_new(p->needs, "memory",
                        json_pack("{sI,sI}", "least", (json_int_t)squeeze_least(&size), "most",
                                  (json_int_t)(size.max + size.overhead)));
    snapshot_each(p->snap, CLASS_host, judge, &j);
    if (claims_look(p->server, vm->row.ref, &wish, &host, &err) < 0) {
        no_place(p, &asked, wanted, &err);
        json_decref(p->where);
        p->where = json_pack("{s:n,ss,so}", "host", "why", "No host can take it.", "hosts", j.hosts);
        return;
    }
    const struct row *row = plan_row(p, CLASS_host, host);
    const char *why = !ref_is_null(wanted)         ? "It was asked for."
                      : ref_eq(host, vm->affinity) ? "It is the VM's affinity, and can take it."
                      : j.passing <= 1             ? "It is the only host that can take it."
                      : vm->groups && vm->groups->count > 0
                          ? "Of the hosts with the fewest members of the VM's "
                            "groups it was drawn, weighted by free memory."
                          : "Of the hosts that can take it, it was drawn, weighted "
                            "by free memory.";
    if (ha_check_place(p->snap, vm, NULL, host, &err) < 0)
        plan_refused(p, row, &err);
    p->host = host;
    json_decref(p->where);
    p->where = json_pack("{so,ss,so}", "host", plan_name(row), "why", why, "hosts", j.hosts);
}

/* ---- what it is made of ---- */

/* The disk in a drive: a start waits for copies of it, and is refused for the rest. */
static void look_at_sharing(struct plan *p, struct tx *tx, const struct vbd_row *vbd)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct row *vdi = plan_row(p, CLASS_VDI, vbd->VDI);
    if (vbd->empty || vbd_sharing_check(tx, vbd, &err) == 0)
        return;
    if (err.desc == ERROR_OTHER_OPERATION_IN_PROGRESS)
        plan_step(p, vdi, "Waits until the operation on the disk has ended.");
    else
        plan_refused(p, vdi, &err);
}

static void look_at_drive(struct plan *p, const struct vbd_row *vbd)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct domain_disk disk;
    if (!vbd->empty && !ref_is_null(vbd->VDI) && !snapshot_get(p->snap, CLASS_VDI, vbd->VDI))
        return; /* told as one of the VM's reasons */
    domain_disk_init(&disk);
    if (plan_disk(p->snap, vbd, &disk, &err) < 0)
        plan_refused(p, &vbd->row, &err);
    domain_disk_done(&disk);
}

static void look_at_card(struct plan *p, const struct vif_row *vif)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct domain_nic nic;
    domain_nic_init(&nic);
    if (plan_nic(p->snap, vif, &nic, &err) < 0)
        plan_refused(p, &vif->row, &err);
    domain_nic_done(&nic);
}

static void look_at_devices(struct plan *p, const struct vm_row *vm)
{
    struct tx *tx = store_begin(p->server->store);
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(plan_row(p, CLASS_VBD, vm->VBDs->items[i]));
        if (!vbd)
            continue;
        look_at_drive(p, vbd);
        look_at_sharing(p, tx, vbd);
    }
    tx_abort(tx);
    for (size_t i = 0; vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(plan_row(p, CLASS_VIF, vm->VIFs->items[i]));
        if (vif)
            look_at_card(p, vif);
    }
}

static void refuse_if(struct plan *p, const struct vm_row *vm, int rc, const struct api_err *err)
{
    if (rc < 0)
        plan_refused(p, &vm->row, err);
}

/* What no host could start: each group of settings tells its first reason. */
static void look_at_settings(struct plan *p, const struct vm_row *vm, bool paused)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_DOMAIN_CONFIG struct domain_config parts;
    struct domain_config whole;
    enum disk_bus bus;
    enum nic_model model;
    domain_config_init(&parts);
    refuse_if(p, vm, plan_scheduling(vm->VCPUs_params, &parts, &err), &err);
    refuse_if(p, vm, plan_boot(vm, &parts, &err), &err);
    refuse_if(p, vm, plan_hardware(vm, &parts, &err), &err);
    refuse_if(p, vm, plan_bus(vm, &bus, &err), &err);
    refuse_if(p, vm, plan_nic_model(vm, &model, &err), &err);
    if (json_array_size(p->reasons))
        return;
    int rc = plan_domain(p->snap, vm, paused, &whole, &err); /* and what only all of it together shows */
    refuse_if(p, vm, rc, &err);
    if (rc == 0)
        domain_config_done(&whole);
}

/* ---- VMs ---- */

static void attach(struct plan *p, const struct vbd_row *vbd, const struct vdi_row *vdi)
{
    plan_step(p, &vdi->row, "Attaches the disk as device %s.", vbd->userdevice);
}

static void start_steps(struct plan *p, const struct vm_row *vm)
{
    plan_each_disk(p, vm, attach);
    for (size_t i = 0; vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(plan_row(p, CLASS_VIF, vm->VIFs->items[i]));
        const struct row *network = vif ? plan_row(p, CLASS_network, vif->network) : NULL;
        if (network)
            plan_step(p, network, "Connects interface %s to the network.", vif->device);
    }
}

void plan_start(struct plan *p)
{
    const struct vm_start_args *args = p->call->args;
    const struct vm_row *vm = plan_vm(p);
    place(p, vm, REF_NULL, args->force);
    look_at_devices(p, vm);
    look_at_settings(p, vm, args->start_paused);
    start_steps(p, vm);
    plan_step(p, &vm->row, "Starts the VM%s.", args->start_paused ? ", paused" : "");
}

void plan_start_on(struct plan *p)
{
    const struct vm_start_on_args *args = p->call->args;
    const struct vm_row *vm = plan_vm(p);
    place(p, vm, args->host, args->force);
    look_at_devices(p, vm);
    look_at_settings(p, vm, args->start_paused);
    start_steps(p, vm);
    plan_step(p, &vm->row, "Starts the VM%s.", args->start_paused ? ", paused" : "");
}

static void resume_at(struct plan *p, struct ref host)
{
    const struct vm_row *vm = plan_vm(p);
    place(p, vm, host, false);
    start_steps(p, vm);
    plan_step(p, plan_row(p, CLASS_VDI, vm->suspend_VDI), "Reads the VM's memory, and deletes this disk.");
    plan_step(p, &vm->row, "The VM goes on.");
}

void plan_resume(struct plan *p)
{
    resume_at(p, REF_NULL);
}

void plan_resume_on(struct plan *p)
{
    resume_at(p, ((const struct vm_resume_on_args *)p->call->args)->host);
}
