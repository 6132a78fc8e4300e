/* Hosts are judged one by one by the same checks that a start on a named host makes. */
#include "placement.h"

#include "../server.h"
#include "passthrough.h"
#include "reach.h"
#include "squeeze.h"
#include <base/mem.h>
#include <inttypes.h>
#include <model/errors.h>
#include <stdio.h>

static char *number(int64_t value, char text[24])
{
    snprintf(text, 24, "%" PRId64, value);
    return text;
}

/* ---- what refuses ---- */

/* Who hears of refusals; without `each` nobody does, and the first one ends it. */
struct hearing {
    placement_refusal_fn *each;
    void *arg;
};
static const struct hearing unheard;

/* False: that is enough. *err is empty afterwards. */
static bool tell(const struct hearing *to, struct api_err *err)
{
    bool on = to->each && to->each(to->arg, err);
    api_err_done(err);
    *err = API_ERR_INIT;
    return on;
}

static bool sizes_fit(const struct vm_row *vm, const struct hearing *to)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    char text[24];
    if (vm->memory_static_min > vm->memory_dynamic_min || vm->memory_dynamic_min > vm->memory_dynamic_max ||
        vm->memory_dynamic_max > vm->memory_static_max || vm->memory_static_max <= 0) {
        err_memory_constraint_violation(&err, "static_min <= dynamic_min <= dynamic_max <= static_max");
        if (!tell(to, &err))
            return false;
    }
    if (vm->VCPUs_at_startup >= 1 && vm->VCPUs_at_startup <= vm->VCPUs_max)
        return true;
    err_value_not_supported(&err, "VCPUs_at_startup", number(vm->VCPUs_at_startup, text),
                            "it is between 1 and VCPUs_max");
    return tell(to, &err);
}

/* The disk in the VM's nth drive; null: it is empty. */
static struct ref disk_in(const struct snapshot *snap, const struct vm_row *vm, size_t n)
{
    const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vm->VBDs->items[n]));
    return vbd && !vbd->empty ? vbd->VDI : REF_NULL;
}

static bool disks_exist(const struct snapshot *snap, const struct vm_row *vm, const struct hearing *to)
{
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        struct ref vdi = disk_in(snap, vm, i);
        if (ref_is_null(vdi) || snapshot_get(snap, CLASS_VDI, vdi))
            continue;
        fail_handle(&err, CLASS_VDI, vdi);
        if (!tell(to, &err))
            return false;
    }
    return true;
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

/* A disk that is not there is told by disks_exist(). */
static bool reaches_disk(const struct placement *p, struct ref vdi_ref, struct ref host,
                         const struct hearing *to)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct vdi_row *vdi = vdi_row(snapshot_get(p->snap, CLASS_VDI, vdi_ref));
    if (!vdi || sr_on_host(p->snap, vdi->SR, host))
        return true;
    err_vm_requires_sr(&err, REF_TEXT(p->vm->row.ref), REF_TEXT(vdi->SR));
    return tell(to, &err);
}

static bool reaches_storage(const struct placement *p, struct ref host, const struct hearing *to)
{
    const struct vm_row *vm = p->vm;
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++)
        if (!reaches_disk(p, disk_in(p->snap, vm, i), host, to))
            return false;
    return vm->power_state != VM_POWER_STATE_SUSPENDED || reaches_disk(p, vm->suspend_VDI, host, to);
}

/* A network with interfaces of hosts reaches only the hosts that have one; any other can be made anywhere. */
static bool network_on_host(const struct snapshot *snap, const struct network_row *network, struct ref host)
{
    size_t count = network && network->PIFs ? network->PIFs->count : 0;
    bool here = count == 0;
    for (size_t i = 0; i < count; i++) {
        const struct pif_row *pif = pif_row(snapshot_get(snap, CLASS_PIF, network->PIFs->items[i]));
        here |= pif && ref_eq(pif->host, host);
    }
    return here;
}

static bool reaches_networks(const struct placement *p, struct ref host, const struct hearing *to)
{
    for (size_t i = 0; p->vm->VIFs && i < p->vm->VIFs->count; i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        const struct vif_row *vif = vif_row(snapshot_get(p->snap, CLASS_VIF, p->vm->VIFs->items[i]));
        if (!vif ||
            network_on_host(p->snap, network_row(snapshot_get(p->snap, CLASS_network, vif->network)), host))
            continue;
        err_vm_requires_network(&err, REF_TEXT(p->vm->row.ref), REF_TEXT(vif->network));
        if (!tell(to, &err))
            return false;
    }
    return true;
}

static bool keep_first(void *arg, struct api_err *err)
{
    struct api_err *first = arg;
    api_err_done(first);
    api_err_copy(first, err);
    return false;
}

/* Memory of a host that is left for more guests: as it is, and if those that run gave what they can. */
struct room {
    int64_t now, squeezed;
};

static void subtract_claims(const struct snapshot *snap, struct ref host,
                            const struct placement_claims *claims, struct room *room)
{
    for (size_t i = 0; claims && i < claims->count; i++) {
        if (!ref_eq(claims->items[i].host, host))
            continue;
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, claims->items[i].vm));
        if (vm && ref_eq(vm->resident_on, host))
            continue; /* counted by its row */
        room->now -= claims->items[i].bytes;
        room->squeezed -= claims->items[i].least;
    }
}

int64_t placement_guest_memory(const struct snapshot *snap, const struct host_row *host)
{
    const struct host_metrics_row *metrics =
        host_metrics_row(snapshot_get(snap, CLASS_host_metrics, host->metrics));
    return metrics ? metrics->memory_total - host->memory_overhead - host->memory_reserved : 0;
}

static struct room room_on(const struct snapshot *snap, const struct host_row *host,
                           const struct placement_claims *claims)
{
    int64_t all = placement_guest_memory(snap, host);
    struct room room = {all, all};
    for (size_t i = 0; host->resident_VMs && i < host->resident_VMs->count; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, host->resident_VMs->items[i]));
        if (!vm || vm->is_control_domain)
            continue;
        const struct squeeze_vm has = squeeze_vm_of(snap, vm);
        room.now -= squeeze_now(&has);
        room.squeezed -= squeeze_least(&has);
    }
    subtract_claims(snap, host->row.ref, claims, &room);
    return room;
}

int64_t placement_free_memory(const struct snapshot *snap, const struct host_row *host,
                              const struct placement_claims *claims, bool squeezed)
{
    struct room room = room_on(snap, host, claims);
    return squeezed ? room.squeezed : room.now;
}

/* Hosts offer some versions of virtual hardware, a VM needs one. */
static bool hardware_fits(const struct vm_row *vm, const struct host_row *host, const struct hearing *to)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    char version[24];
    const struct str_set *offered = host->virtual_hardware_platform_versions;
    number(vm->hardware_platform_version, version);
    if (vm->hardware_platform_version == 0 || str_set_has(offered, version))
        return true;
    const char *list = str_new("");
    for (size_t i = 0; offered && i < offered->count; i++) {
        const char *more = str_newf("%s%s%s", list, i ? "; " : "", offered->items[i]);
        str_unref(list);
        list = more;
    }
    AUTO_STR const char *all = str_newf("{%s}", list);
    str_unref(list);
    err_vm_host_incompatible_virtual_hardware_platform_version(&err, REF_TEXT(host->row.ref), all,
                                                               REF_TEXT(vm->row.ref), version);
    return tell(to, &err);
}

static bool host_is_ready(const struct placement *p, const struct host_row *host, const struct hearing *to)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct host_metrics_row *metrics =
        host_metrics_row(snapshot_get(p->snap, CLASS_host_metrics, host->metrics));
    if ((!metrics || !metrics->live || !host->enabled) && !to->each)
        return false;
    if (!metrics || !metrics->live) {
        err_host_not_live(&err);
        if (!tell(to, &err))
            return false;
    }
    if (host->enabled)
        return true;
    err_host_disabled(&err, REF_TEXT(host->row.ref));
    return tell(to, &err);
}

static bool devices_are_free(const struct placement *p, struct ref host, const struct hearing *to)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct device_source rows = {.snap = p->snap};
    if (!passthrough_wanted(p->vm))
        return true;
    return plan_passthrough(&rows, p->vm, host, NULL, &err) == 0 || tell(to, &err);
}

/* `available`: with what others would give. */
static bool has_room(const struct placement *p, const struct squeeze_vm *wants, const struct host_row *host,
                     int64_t available, const struct hearing *to)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    char a[24], b[24];
    int64_t needed = squeeze_least(wants);
    if (needed > available) {
        if (!to->each)
            return false;
        err_host_not_enough_free_memory(&err, number(needed, a), number(available > 0 ? available : 0, b));
        if (!tell(to, &err))
            return false;
    }
    const char *cpus = str_map_get(host->cpu_info, "cpu_count");
    if (p->force || !cpus || p->vm->VCPUs_max <= strtoll(cpus, NULL, 10))
        return true;
    err_host_not_enough_pcpus(&err, number(p->vm->VCPUs_max, a), cpus);
    return tell(to, &err);
}

bool placement_refusals_anywhere(const struct placement *p, placement_refusal_fn *each, void *arg)
{
    const struct hearing to = {each, arg};
    return sizes_fit(p->vm, &to) && disks_exist(p->snap, p->vm, &to);
}

bool placement_refusals(const struct placement *p, struct ref ref, placement_refusal_fn *each, void *arg)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct hearing to = {each, arg};
    const struct host_row *host = host_row(snapshot_get(p->snap, CLASS_host, ref));
    if (!host) {
        fail_handle(&err, CLASS_host, ref);
        return tell(&to, &err);
    }
    const struct squeeze_vm wants = squeeze_vm_of(p->snap, p->vm);
    return host_is_ready(p, host, &to) && (p->force || hardware_fits(p->vm, host, &to)) &&
           reaches_storage(p, ref, &to) && reaches_networks(p, ref, &to) && devices_are_free(p, ref, &to) &&
           has_room(p, &wants, host, room_on(p->snap, host, p->claims).squeezed, &to);
}

int placement_check(const struct placement *p, struct ref host, struct api_err *err)
{
    bool fits =
        placement_refusals_anywhere(p, keep_first, err) && placement_refusals(p, host, keep_first, err);
    return fits ? 0 : -1;
}

/* ---- the choice ---- */

struct candidate {
    struct ref ref;
    size_t neighbours; /* running members of the VM's anti-affinity groups */
    int tier;          /* 0: the memory is there; 1: if others give some; 2: not all of it */
    int64_t weight;
};

/* What is the same for all hosts is found once. */
struct search {
    const struct placement *p;
    struct squeeze_vm wants;
    struct candidate *passing;
    size_t count, cap;
};

static bool keeps_apart(const struct snapshot *snap, const struct vm_row *vm, const struct vm_row *other)
{
    for (size_t i = 0; vm->groups && i < vm->groups->count; i++) {
        const struct vm_group_row *group =
            vm_group_row(snapshot_get(snap, CLASS_VM_group, vm->groups->items[i]));
        if (group && group->placement == PLACEMENT_POLICY_ANTI_AFFINITY &&
            ref_set_has(other->groups, group->row.ref))
            return true;
    }
    return false;
}

static size_t neighbours(const struct snapshot *snap, const struct vm_row *vm, const struct host_row *host)
{
    size_t count = 0;
    bool grouped = vm->groups && vm->groups->count;
    for (size_t i = 0; grouped && host->resident_VMs && i < host->resident_VMs->count; i++) {
        const struct vm_row *other = vm_row(snapshot_get(snap, CLASS_VM, host->resident_VMs->items[i]));
        count += other && !ref_eq(other->row.ref, vm->row.ref) && keeps_apart(snap, vm, other);
    }
    return count;
}

static bool is_avoided(const struct placement *p, struct ref host)
{
    for (size_t i = 0; i < p->avoid_count; i++)
        if (ref_eq(p->avoid[i], host))
            return true;
    return false;
}

/* The host has the VM's storage and networks. */
static void consider(struct search *s, const struct host_row *host)
{
    const struct placement *p = s->p;
    if (is_avoided(p, host->row.ref) || !host_is_ready(p, host, &unheard) ||
        (!p->force && !hardware_fits(p->vm, host, &unheard)) || !devices_are_free(p, host->row.ref, &unheard))
        return;
    const struct room room = room_on(p->snap, host, p->claims);
    if (!has_room(p, &s->wants, host, room.squeezed, &unheard))
        return;
    if (s->count == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 16;
        s->passing = xreallocarray(s->passing, s->cap, sizeof(*s->passing));
    }
    int64_t all = s->wants.max + s->wants.overhead;
    s->passing[s->count++] = (struct candidate){.ref = host->row.ref,
                                                .neighbours = neighbours(p->snap, p->vm, host),
                                                .tier = room.now >= all        ? 0
                                                        : room.squeezed >= all ? 1
                                                                               : 2,
                                                .weight = room.now >= all ? room.now : room.squeezed};
}

static bool consider_row(const struct row *row, void *arg)
{
    consider(arg, host_row(row));
    return true;
}

/* Finds the hosts that pass, in order of references. */
static void search(struct search *s, const struct placement *p)
{
    AUTO_REACH struct reach reach = reach_of(p->snap, p->vm);
    *s = (struct search){.p = p, .wants = squeeze_vm_of(p->snap, p->vm)};
    if (reach.anywhere)
        snapshot_each(p->snap, CLASS_host, consider_row, s);
    for (size_t i = 0; reach.hosts && i < reach.hosts->count; i++) {
        const struct host_row *host = host_row(snapshot_get(p->snap, CLASS_host, reach.hosts->items[i]));
        if (host)
            consider(s, host);
    }
}

static bool only_host(const struct row *row, void *arg)
{
    *(struct ref *)arg = row->ref;
    return false;
}

static bool better(const struct candidate *a, const struct candidate *b)
{
    return a->neighbours != b->neighbours ? a->neighbours < b->neighbours : a->tier < b->tier;
}

static struct ref pick(const struct search *s, double random)
{
    const struct candidate *best = &s->passing[0];
    double sum = 0;
    for (size_t i = 1; i < s->count; i++)
        if (better(&s->passing[i], best))
            best = &s->passing[i];
    struct ref chosen = best->ref;
    for (size_t i = 0; i < s->count; i++)
        if (!better(best, &s->passing[i]))
            sum += (double)s->passing[i].weight;
    double at = random * sum;
    for (size_t i = 0; i < s->count; i++) {
        if (better(best, &s->passing[i]))
            continue;
        chosen = s->passing[i].ref;
        at -= (double)s->passing[i].weight;
        if (at < 0)
            break;
    }
    return chosen;
}

int placement_choose(const struct placement *p, struct ref *host, struct api_err *err)
{
    AUTO_API_ERR struct api_err reason = API_ERR_INIT;
    const struct vm_row *vm = p->vm;
    if (!sizes_fit(vm, &(const struct hearing){keep_first, err}))
        return -1;
    if (!ref_is_null(vm->affinity) && !is_avoided(p, vm->affinity) &&
        placement_check(p, vm->affinity, &reason) == 0) {
        *host = vm->affinity;
        return 0;
    }
    struct search s;
    search(&s, p);
    if (s.count) {
        *host = pick(&s, p->random);
        free(s.passing);
        return 0;
    }
    struct ref only = REF_NULL;
    if (snapshot_count(p->snap, CLASS_host) == 1 && p->avoid_count == 0) {
        snapshot_each(p->snap, CLASS_host, only_host, &only);
        return placement_check(p, only, err);
    }
    return err_no_hosts_available(err);
}

const struct ref_set *placement_possible(const struct snapshot *snap, const struct vm_row *vm)
{
    const struct placement p = {.snap = snap, .vm = vm};
    struct search s = {.p = &p};
    if (sizes_fit(vm, &unheard))
        search(&s, &p);
    struct ref *refs = xcalloc(s.count + 1, sizeof(*refs));
    for (size_t i = 0; i < s.count; i++)
        refs[i] = s.passing[i].ref;
    const struct ref_set *set = ref_set_new(refs, s.count);
    free(refs);
    free(s.passing);
    return set;
}
