#include "reach.h"

#include <base/mem.h>
#include <stdlib.h>

struct search {
    const struct snapshot *snap;
    struct reach reach;
    const struct ref_set *seen; /* repositories and networks */
};

/* Only hosts of `hosts`, which is used up, from now on. */
static void narrow(struct reach *reach, struct ref *hosts, size_t count)
{
    if (!reach->anywhere) {
        size_t kept = 0;
        for (size_t i = 0; i < count; i++)
            if (ref_set_has(reach->hosts, hosts[i]))
                hosts[kept++] = hosts[i];
        count = kept;
    }
    reach->anywhere = false;
    ref_set_assign(&reach->hosts, ref_set_new(hosts, count));
    free(hosts);
}

static bool is_new(struct search *s, struct ref ref)
{
    if (ref_set_has(s->seen, ref))
        return false;
    ref_set_assign(&s->seen, ref_set_with(s->seen, ref));
    return true;
}

static void need_disk(struct search *s, struct ref vdi_ref)
{
    const struct vdi_row *vdi = vdi_row(snapshot_get(s->snap, CLASS_VDI, vdi_ref));
    if (!vdi || !is_new(s, vdi->SR))
        return;
    const struct sr_row *sr = sr_row(snapshot_get(s->snap, CLASS_SR, vdi->SR));
    size_t all = sr && sr->PBDs ? sr->PBDs->count : 0, count = 0;
    struct ref *hosts = xcalloc(all + 1, sizeof(*hosts));
    for (size_t i = 0; i < all; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(s->snap, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && pbd->currently_attached)
            hosts[count++] = pbd->host;
    }
    narrow(&s->reach, hosts, count);
}

/* A network with interfaces of hosts reaches only the hosts that have one; any other can be made anywhere. */
static void need_network(struct search *s, struct ref ref)
{
    const struct network_row *network = network_row(snapshot_get(s->snap, CLASS_network, ref));
    size_t all = network && network->PIFs ? network->PIFs->count : 0, count = 0;
    if (all == 0 || !is_new(s, ref))
        return;
    struct ref *hosts = xcalloc(all, sizeof(*hosts));
    for (size_t i = 0; i < all; i++) {
        const struct pif_row *pif = pif_row(snapshot_get(s->snap, CLASS_PIF, network->PIFs->items[i]));
        if (pif)
            hosts[count++] = pif->host;
    }
    narrow(&s->reach, hosts, count);
}

struct reach reach_of(const struct snapshot *snap, const struct vm_row *vm)
{
    struct search s = {.snap = snap, .reach = {.anywhere = true}};
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vm->VBDs->items[i]));
        if (!vbd || vbd->empty || ref_is_null(vbd->VDI))
            continue;
        if (snapshot_get(snap, CLASS_VDI, vbd->VDI))
            need_disk(&s, vbd->VDI);
        else
            narrow(&s.reach, NULL, 0);
    }
    if (vm->power_state == VM_POWER_STATE_SUSPENDED)
        need_disk(&s, vm->suspend_VDI);
    for (size_t i = 0; vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(snap, CLASS_VIF, vm->VIFs->items[i]));
        if (vif)
            need_network(&s, vif->network);
    }
    ref_set_unref(s.seen);
    return s.reach;
}

void reach_done(struct reach *reach)
{
    ref_set_unref(reach->hosts);
}

bool reach_has(const struct reach *reach, struct ref host)
{
    return reach->anywhere || ref_set_has(reach->hosts, host);
}
