/* Hosts are judged one by one by the same checks that a start on a named host makes. */
#include "placement.h"

#include "../server.h"
#include <base/mem.h>
#include <inttypes.h>
#include <model/errors.h>
#include <stdio.h>

static char *number(int64_t value, char text[24])
{
    snprintf(text, 24, "%" PRId64, value);
    return text;
}

static int check_sizes(const struct vm_row *vm, struct api_err *err)
{
    if (vm->memory_static_min > vm->memory_dynamic_min || vm->memory_dynamic_min > vm->memory_dynamic_max ||
        vm->memory_dynamic_max > vm->memory_static_max || vm->memory_static_max <= 0)
        return err_memory_constraint_violation(err, "static_min <= dynamic_min <= dynamic_max <= static_max");
    char text[24];
    if (vm->VCPUs_at_startup < 1 || vm->VCPUs_at_startup > vm->VCPUs_max)
        return err_value_not_supported(err, "VCPUs_at_startup", number(vm->VCPUs_at_startup, text),
                                       "it is between 1 and VCPUs_max");
    return 0;
}

static bool sr_on_host(const struct snapshot *snap, struct ref sr_ref, struct ref host)
{
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, sr_ref));
    for (size_t i = 0; sr && sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && pbd->currently_attached && ref_eq(pbd->host, host))
            return true;
    }
    return false;
}

static int check_storage(const struct snapshot *snap, const struct vm_row *vm, struct ref host,
                         struct api_err *err)
{
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vm->VBDs->items[i]));
        if (!vbd || vbd->empty || ref_is_null(vbd->VDI))
            continue;
        const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, vbd->VDI));
        if (!vdi)
            return fail_handle(err, CLASS_VDI, vbd->VDI);
        if (!sr_on_host(snap, vdi->SR, host))
            return err_vm_requires_sr(err, REF_TEXT(vm->row.ref), REF_TEXT(vdi->SR));
    }
    if (vm->power_state != VM_POWER_STATE_SUSPENDED)
        return 0;
    const struct vdi_row *memory = vdi_row(snapshot_get(snap, CLASS_VDI, vm->suspend_VDI));
    if (memory && !sr_on_host(snap, memory->SR, host))
        return err_vm_requires_sr(err, REF_TEXT(vm->row.ref), REF_TEXT(memory->SR));
    return 0;
}

static int64_t claimed(const struct snapshot *snap, struct ref host, const struct placement_claims *claims)
{
    int64_t bytes = 0;
    for (size_t i = 0; claims && i < claims->count; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, claims->items[i].vm));
        bool counted = vm && ref_eq(vm->resident_on, host);
        if (ref_eq(claims->items[i].host, host) && !counted)
            bytes += claims->items[i].bytes;
    }
    return bytes;
}

int64_t placement_free_memory(const struct snapshot *snap, const struct host_row *host,
                              const struct placement_claims *claims)
{
    const struct host_metrics_row *metrics =
        host_metrics_row(snapshot_get(snap, CLASS_host_metrics, host->metrics));
    int64_t left = metrics ? metrics->memory_total - host->memory_overhead : 0;
    for (size_t i = 0; host->resident_VMs && i < host->resident_VMs->count; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, host->resident_VMs->items[i]));
        if (vm && !vm->is_control_domain)
            left -= vm->memory_dynamic_max + vm->memory_overhead;
    }
    return left - claimed(snap, host->row.ref, claims);
}

/* Hosts offer some versions of virtual hardware, a VM needs one. */
static int check_hardware(const struct vm_row *vm, const struct host_row *host, struct api_err *err)
{
    char version[24];
    const struct str_set *offered = host->virtual_hardware_platform_versions;
    number(vm->hardware_platform_version, version);
    if (vm->hardware_platform_version == 0 || str_set_has(offered, version))
        return 0;
    const char *list = str_new("");
    for (size_t i = 0; offered && i < offered->count; i++) {
        const char *more = str_newf("%s%s%s", list, i ? "; " : "", offered->items[i]);
        str_unref(list);
        list = more;
    }
    AUTO_STR const char *all = str_newf("{%s}", list);
    str_unref(list);
    return err_vm_host_incompatible_virtual_hardware_platform_version(err, REF_TEXT(host->row.ref), all,
                                                                      REF_TEXT(vm->row.ref), version);
}

int placement_check(const struct snapshot *snap, const struct vm_row *vm, struct ref ref,
                    const struct placement_claims *claims, struct api_err *err)
{
    char a[24], b[24];
    const struct host_row *host = host_row(snapshot_get(snap, CLASS_host, ref));
    if (!host)
        return fail_handle(err, CLASS_host, ref);
    if (check_sizes(vm, err) < 0)
        return -1;
    const struct host_metrics_row *metrics =
        host_metrics_row(snapshot_get(snap, CLASS_host_metrics, host->metrics));
    if (!metrics || !metrics->live)
        return err_host_not_live(err);
    if (!host->enabled)
        return err_host_disabled(err, REF_TEXT(ref));
    if (check_hardware(vm, host, err) < 0 || check_storage(snap, vm, ref, err) < 0)
        return -1;
    int64_t needed = vm->memory_dynamic_min + vm->memory_overhead,
            available = placement_free_memory(snap, host, claims);
    if (needed > available)
        return err_host_not_enough_free_memory(err, number(needed, a),
                                               number(available > 0 ? available : 0, b));
    const char *cpus = str_map_get(host->cpu_info, "cpu_count");
    if (cpus && vm->VCPUs_max > strtoll(cpus, NULL, 10))
        return err_host_not_enough_pcpus(err, number(vm->VCPUs_max, a), cpus);
    return 0;
}

struct search {
    const struct snapshot *snap;
    const struct vm_row *vm;
    const struct placement_claims *claims;
    struct ref *passing;
    size_t count, cap;
    struct ref best;
    int64_t best_free;
};

static bool consider(const struct row *row, void *arg)
{
    struct search *s = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (placement_check(s->snap, s->vm, row->ref, s->claims, &err) < 0)
        return true;
    if (s->count == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 16;
        s->passing = xreallocarray(s->passing, s->cap, sizeof(*s->passing));
    }
    s->passing[s->count++] = row->ref;
    int64_t left = placement_free_memory(s->snap, host_row(row), s->claims);
    if (left > s->best_free) {
        s->best_free = left;
        s->best = row->ref;
    }
    return true;
}

static bool only_host(const struct row *row, void *arg)
{
    *(struct ref *)arg = row->ref;
    return false;
}

int placement_choose(const struct snapshot *snap, const struct vm_row *vm,
                     const struct placement_claims *claims, struct ref *host, struct api_err *err)
{
    AUTO_API_ERR struct api_err reason = API_ERR_INIT;
    if (check_sizes(vm, err) < 0)
        return -1;
    if (!ref_is_null(vm->affinity) && placement_check(snap, vm, vm->affinity, claims, &reason) == 0) {
        *host = vm->affinity;
        return 0;
    }
    struct search s = {.snap = snap, .vm = vm, .claims = claims, .best_free = INT64_MIN};
    snapshot_each(snap, CLASS_host, consider, &s);
    free(s.passing);
    if (s.count) {
        *host = s.best;
        return 0;
    }
    struct ref only = REF_NULL;
    if (snapshot_count(snap, CLASS_host) == 1) {
        snapshot_each(snap, CLASS_host, only_host, &only);
        return placement_check(snap, vm, only, claims, err);
    }
    return err_no_hosts_available(err);
}

const struct ref_set *placement_possible(const struct snapshot *snap, const struct vm_row *vm)
{
    struct search s = {.snap = snap, .vm = vm, .best_free = INT64_MIN};
    snapshot_each(snap, CLASS_host, consider, &s);
    const struct ref_set *set = ref_set_new(s.passing, s.count);
    free(s.passing);
    return set;
}
