/* What an agent reports of its devices, compared with rows. Rows are kept of the kinds that somebody may want
 * to pass on or look up: storage, network and display controllers, accelerators, and what goes with them. */
#include "devices.h"

#include "hosts.h"
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <stdio.h>

struct look {
    struct tx *tx;
    const struct host_row *host;
    const struct hv_device_list_result *list;
    struct ref passthrough; /* the one VGPU type */
};

/* ---- types of virtual cards: sets on both sides ---- */

static bool find_passthrough(const struct row *row, void *arg)
{
    struct ref *found = arg;
    if (vgpu_type_row(row)->implementation == VGPU_TYPE_IMPLEMENTATION_PASSTHROUGH)
        *found = row->ref;
    return ref_is_null(*found);
}

static struct ref passthrough_type(struct tx *tx)
{
    struct ref found = REF_NULL;
    tx_each(tx, CLASS_VGPU_type, find_passthrough, &found);
    if (!ref_is_null(found))
        return found;
    struct vgpu_type_row *type = vgpu_type_row_mut(tx_create(tx, CLASS_VGPU_type));
    str_assign(&type->model_name, "passthrough");
    str_assign(&type->identifier, "passthrough");
    type->implementation = VGPU_TYPE_IMPLEMENTATION_PASSTHROUGH;
    return type->row.ref;
}

enum side { SUPPORTED_ON_PGPUS, ENABLED_ON_PGPUS, SUPPORTED_ON_GROUPS, ENABLED_ON_GROUPS };

static const struct ref_set **side_of(struct vgpu_type_row *type, enum side side)
{
    switch (side) {
    case SUPPORTED_ON_PGPUS:
        return &type->supported_on_PGPUs;
    case ENABLED_ON_PGPUS:
        return &type->enabled_on_PGPUs;
    case SUPPORTED_ON_GROUPS:
        return &type->supported_on_GPU_groups;
    case ENABLED_ON_GROUPS:
        break;
    }
    return &type->enabled_on_GPU_groups;
}

static void link_types(struct tx *tx, const struct ref_set *before, const struct ref_set *after,
                       struct ref self, enum side side)
{
    for (size_t i = 0; before && i < before->count; i++) {
        struct vgpu_type_row *type = ref_set_has(after, before->items[i])
                                         ? NULL
                                         : vgpu_type_row_mut(tx_edit(tx, CLASS_VGPU_type, before->items[i]));
        if (type)
            ref_set_assign(side_of(type, side), ref_set_without(*side_of(type, side), self));
    }
    for (size_t i = 0; after && i < after->count; i++) {
        struct vgpu_type_row *type = ref_set_has(before, after->items[i])
                                         ? NULL
                                         : vgpu_type_row_mut(tx_edit(tx, CLASS_VGPU_type, after->items[i]));
        if (type)
            ref_set_assign(side_of(type, side), ref_set_with(*side_of(type, side), self));
    }
}

static bool same_refs(const struct ref_set *a, const struct ref_set *b)
{
    if ((a ? a->count : 0) != (b ? b->count : 0))
        return false;
    for (size_t i = 0; a && i < a->count; i++)
        if (!ref_eq(a->items[i], b->items[i]))
            return false;
    return true;
}

void pci_kind(const struct pci_row *pci, char out[static 16])
{
    snprintf(out, 16, "%.6s/%.6s", pci->vendor_id, pci->device_id);
}

struct of_group {
    struct tx *tx;
    struct ref group;
    const struct ref_set *supported, *enabled;
    const struct str_set *kinds;
};

static bool add_processor(const struct row *row, void *arg)
{
    struct of_group *g = arg;
    const struct pgpu_row *pgpu = pgpu_row(row);
    const struct pci_row *pci = pci_row(tx_get(g->tx, CLASS_PCI, pgpu->PCI));
    char kind[16];
    if (!ref_eq(pgpu->GPU_group, g->group))
        return true;
    for (size_t i = 0; pgpu->supported_VGPU_types && i < pgpu->supported_VGPU_types->count; i++)
        ref_set_assign(&g->supported, ref_set_with(g->supported, pgpu->supported_VGPU_types->items[i]));
    for (size_t i = 0; pgpu->enabled_VGPU_types && i < pgpu->enabled_VGPU_types->count; i++)
        ref_set_assign(&g->enabled, ref_set_with(g->enabled, pgpu->enabled_VGPU_types->items[i]));
    if (pci) {
        pci_kind(pci, kind);
        str_set_assign(&g->kinds, str_set_with(g->kinds, kind));
    }
    return true;
}

void gpu_group_refresh(struct tx *tx, struct ref ref)
{
    struct of_group g = {.tx = tx, .group = ref};
    const struct gpu_group_row *now = gpu_group_row(tx_get(tx, CLASS_GPU_group, ref));
    if (!now)
        return;
    tx_each(tx, CLASS_PGPU, add_processor, &g);
    link_types(tx, now->supported_VGPU_types, g.supported, ref, SUPPORTED_ON_GROUPS);
    link_types(tx, now->enabled_VGPU_types, g.enabled, ref, ENABLED_ON_GROUPS);
    struct gpu_group_row *group = gpu_group_row_mut(tx_edit(tx, CLASS_GPU_group, ref));
    ref_set_assign(&group->supported_VGPU_types, g.supported);
    ref_set_assign(&group->enabled_VGPU_types, g.enabled);
    str_set_assign(&group->GPU_types, g.kinds);
}

void pgpu_set_types(struct tx *tx, struct ref ref, const struct ref_set *supported,
                    const struct ref_set *enabled)
{
    const struct pgpu_row *now = pgpu_row(tx_get(tx, CLASS_PGPU, ref));
    if (same_refs(now->supported_VGPU_types, supported) && same_refs(now->enabled_VGPU_types, enabled))
        return;
    link_types(tx, now->supported_VGPU_types, supported, ref, SUPPORTED_ON_PGPUS);
    link_types(tx, now->enabled_VGPU_types, enabled, ref, ENABLED_ON_PGPUS);
    struct pgpu_row *pgpu = pgpu_row_mut(tx_edit(tx, CLASS_PGPU, ref));
    ref_set_assign(&pgpu->supported_VGPU_types, ref_set_ref(supported));
    ref_set_assign(&pgpu->enabled_VGPU_types, ref_set_ref(enabled));
    str_map_assign(&pgpu->supported_VGPU_max_capacities, NULL);
    for (size_t i = 0; supported && i < supported->count; i++)
        str_map_put(&pgpu->supported_VGPU_max_capacities, REF_TEXT(supported->items[i]), "1");
    gpu_group_refresh(tx, pgpu->GPU_group);
}

/* ---- PCI ---- */

static bool is_display(const struct host_pci *seen)
{
    return strncmp(seen->class_id, "03", 2) == 0;
}

static bool is_kept(const struct look *look, const struct host_pci *seen)
{
    static const char *const kinds[] = {"01", "02", "03", "12"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strncmp(seen->class_id, kinds[i], 2) == 0)
            return true;
    for (size_t i = 0; i < look->list->pci_count; i++)
        for (size_t k = 0; is_display(&look->list->pci[i]) && k < look->list->pci[i].companions_count; k++)
            if (streq(look->list->pci[i].companions[k], seen->bus))
                return true;
    return false;
}

struct place {
    struct ref host;
    const char *bus;
    struct ref found;
};

static bool match_place(const struct row *row, void *arg)
{
    struct place *p = arg;
    if (ref_eq(pci_row(row)->host, p->host) && streq(pci_row(row)->pci_id, p->bus))
        p->found = row->ref;
    return ref_is_null(p->found);
}

static struct ref find_pci(const struct look *look, const char *bus)
{
    struct place p = {look->host->row.ref, bus, REF_NULL};
    tx_each(look->tx, CLASS_PCI, match_place, &p);
    return p.found;
}

static const struct host_pci *seen_at(const struct look *look, const char *bus)
{
    for (size_t i = 0; i < look->list->pci_count; i++)
        if (streq(look->list->pci[i].bus, bus))
            return &look->list->pci[i];
    return NULL;
}

static void take_pci(struct look *look, const struct host_pci *seen)
{
    struct ref ref = find_pci(look, seen->bus);
    if (ref_is_null(ref)) {
        struct pci_row *made = pci_row_mut(tx_create(look->tx, CLASS_PCI));
        made->host = look->host->row.ref;
        str_assign(&made->pci_id, seen->bus);
        ref = made->row.ref;
    }
    const struct pci_row *now = pci_row(tx_get(look->tx, CLASS_PCI, ref));
    const char *const values[] = {seen->class_id,    seen->class_name,          seen->vendor_id,
                                  seen->vendor_name, seen->device_id,           seen->device_name,
                                  seen->driver,      seen->subsystem_vendor_id, seen->subsystem_device_id};
    const char *const current[] = {now->class_id,    now->class_name,          now->vendor_id,
                                   now->vendor_name, now->device_id,           now->device_name,
                                   now->driver_name, now->subsystem_vendor_id, now->subsystem_device_id};
    bool same = true;
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        same = same && streq(values[i], current[i]);
    if (same)
        return;
    struct pci_row *pci = pci_row_mut(tx_edit(look->tx, CLASS_PCI, ref));
    const char **const slots[] = {&pci->class_id,    &pci->class_name,          &pci->vendor_id,
                                  &pci->vendor_name, &pci->device_id,           &pci->device_name,
                                  &pci->driver_name, &pci->subsystem_vendor_id, &pci->subsystem_device_id};
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        str_assign(slots[i], values[i]);
}

static void take_relations(struct look *look, const struct host_pci *seen)
{
    struct ref ref = find_pci(look, seen->bus);
    const struct pci_row *now = pci_row(tx_get(look->tx, CLASS_PCI, ref));
    const struct ref_set *with = NULL;
    for (size_t i = 0; i < seen->companions_count; i++) {
        struct ref other = find_pci(look, seen->companions[i]);
        if (!ref_is_null(other))
            ref_set_assign(&with, ref_set_with(with, other));
    }
    struct ref above = *seen->physical_function ? find_pci(look, seen->physical_function) : REF_NULL;
    if (!same_refs(now->dependencies, with) || !ref_eq(now->physical_function, above)) {
        struct pci_row *edit = pci_row_mut(tx_edit(look->tx, CLASS_PCI, ref));
        ref_set_assign(&edit->dependencies, ref_set_ref(with));
        edit->physical_function = above;
    }
    ref_set_unref(with);
}

/* ---- graphics processors ---- */

struct by_pci {
    struct ref pci, found;
};

static bool match_pci(const struct row *row, void *arg)
{
    struct by_pci *b = arg;
    if (ref_eq(pgpu_row(row)->PCI, b->pci))
        b->found = row->ref;
    return ref_is_null(b->found);
}

struct by_kind {
    const char *kind;
    struct ref found;
};

static bool match_kind(const struct row *row, void *arg)
{
    struct by_kind *b = arg;
    const struct str_set *kinds = gpu_group_row(row)->GPU_types;
    if (kinds && kinds->count == 1 && str_set_has(kinds, b->kind))
        b->found = row->ref;
    return ref_is_null(b->found);
}

static struct ref gpu_group_for(struct look *look, const struct pci_row *pci)
{
    char kind[16];
    pci_kind(pci, kind);
    struct by_kind by = {kind, REF_NULL};
    tx_each(look->tx, CLASS_GPU_group, match_kind, &by);
    if (!ref_is_null(by.found))
        return by.found;
    struct gpu_group_row *group = gpu_group_row_mut(tx_create(look->tx, CLASS_GPU_group));
    AUTO_STR const char *name = str_newf("Group of %s %s GPUs", pci->vendor_name, pci->device_name);
    const char *kinds[] = {kind};
    str_assign(&group->name_label, name);
    str_set_assign(&group->GPU_types, str_set_new(kinds, 1));
    return group->row.ref;
}

static void take_pgpu(struct look *look, const struct host_pci *seen)
{
    struct by_pci by = {find_pci(look, seen->bus), REF_NULL};
    const struct pci_row *pci = pci_row(tx_get(look->tx, CLASS_PCI, by.pci));
    tx_each(look->tx, CLASS_PGPU, match_pci, &by);
    bool fresh = ref_is_null(by.found);
    if (fresh) {
        struct ref group = gpu_group_for(look, pci);
        struct pgpu_row *made = pgpu_row_mut(tx_create(look->tx, CLASS_PGPU));
        made->PCI = by.pci;
        made->host = look->host->row.ref;
        made->GPU_group = group;
        by.found = made->row.ref;
    }
    const struct pgpu_row *now = pgpu_row(tx_get(look->tx, CLASS_PGPU, by.found));
    enum pci_dom0_access access = (enum pci_dom0_access)seen->access;
    if (fresh || now->dom0_access != access || now->is_system_display_device != seen->boot_display) {
        struct pgpu_row *edit = pgpu_row_mut(tx_edit(look->tx, CLASS_PGPU, by.found));
        edit->dom0_access = access;
        edit->is_system_display_device = seen->boot_display;
    }
    /* The one that the host's own console is on is the host's until it is set aside. */
    bool can = seen->isolated && !(seen->boot_display && access == PCI_DOM0_ACCESS_ENABLED);
    AUTO_REF_SET const struct ref_set *supported = can ? ref_set_with(NULL, look->passthrough) : NULL;
    bool had = now->supported_VGPU_types && now->supported_VGPU_types->count;
    AUTO_REF_SET const struct ref_set *enabled =
        !can ? NULL : ref_set_ref(had ? now->enabled_VGPU_types : supported);
    pgpu_set_types(look->tx, by.found, supported, enabled);
    if (fresh)
        gpu_group_refresh(look->tx, now->GPU_group);
}

/* ---- what is there no more ---- */

static void drop_pci(struct look *look)
{
    AUTO_REF_SET const struct ref_set *all = ref_set_ref(look->host->PCIs);
    for (size_t i = 0; all && i < all->count; i++) {
        const struct pci_row *pci = pci_row(tx_get(look->tx, CLASS_PCI, all->items[i]));
        struct by_pci by = {all->items[i], REF_NULL};
        if (!pci || seen_at(look, pci->pci_id) || (pci->attached_VMs && pci->attached_VMs->count))
            continue;
        tx_each(look->tx, CLASS_PGPU, match_pci, &by);
        if (!ref_is_null(by.found)) {
            struct ref group = pgpu_row(tx_get(look->tx, CLASS_PGPU, by.found))->GPU_group;
            pgpu_set_types(look->tx, by.found, NULL, NULL);
            tx_delete(look->tx, CLASS_PGPU, by.found);
            gpu_group_refresh(look->tx, group);
        }
        tx_delete(look->tx, CLASS_PCI, all->items[i]);
    }
}

/* ---- USB ---- */

static bool is_same(const struct pusb_row *pusb, const struct host_usb *usb)
{
    return streq(pusb->path, usb->path) && streq(pusb->vendor_id, usb->vendor_id) &&
           streq(pusb->product_id, usb->product_id) && streq(pusb->serial, usb->serial);
}

static const struct host_usb *seen_usb(const struct look *look, const struct pusb_row *pusb)
{
    for (size_t i = 0; i < look->list->usb_count; i++)
        if (is_same(pusb, &look->list->usb[i]))
            return &look->list->usb[i];
    return NULL;
}

static bool has_row(const struct look *look, const struct host_usb *usb)
{
    const struct ref_set *all = look->host->PUSBs;
    for (size_t i = 0; all && i < all->count; i++) {
        const struct pusb_row *pusb = pusb_row(tx_get(look->tx, CLASS_PUSB, all->items[i]));
        if (pusb && is_same(pusb, usb))
            return true;
    }
    return false;
}

struct model {
    const struct host_usb *usb;
    struct ref group;
};

static bool match_model(const struct row *row, void *arg)
{
    struct model *m = arg;
    if (streq(pusb_row(row)->vendor_id, m->usb->vendor_id) &&
        streq(pusb_row(row)->product_id, m->usb->product_id))
        m->group = pusb_row(row)->USB_group;
    return ref_is_null(m->group);
}

/* Devices of one model are in one group. */
static struct ref usb_group_for(struct look *look, const struct host_usb *usb)
{
    struct model m = {usb, REF_NULL};
    tx_each(look->tx, CLASS_PUSB, match_model, &m);
    if (!ref_is_null(m.group))
        return m.group;
    struct usb_group_row *group = usb_group_row_mut(tx_create(look->tx, CLASS_USB_group));
    AUTO_STR const char *name = str_newf("Group of %s %s USBs", usb->vendor_desc, usb->product_desc);
    str_assign(&group->name_label, name);
    return group->row.ref;
}

static void add_usb(struct look *look, const struct host_usb *usb)
{
    struct ref group = usb_group_for(look, usb);
    struct pusb_row *pusb = pusb_row_mut(tx_create(look->tx, CLASS_PUSB));
    AUTO_STR const char *words = str_newf("%s%s%s%s%s", usb->vendor_desc, *usb->product_desc ? "_" : "",
                                          usb->product_desc, *usb->serial ? "_" : "", usb->serial);
    pusb->host = look->host->row.ref;
    pusb->USB_group = group;
    str_assign(&pusb->path, usb->path);
    str_assign(&pusb->vendor_id, usb->vendor_id);
    str_assign(&pusb->vendor_desc, usb->vendor_desc);
    str_assign(&pusb->product_id, usb->product_id);
    str_assign(&pusb->product_desc, usb->product_desc);
    str_assign(&pusb->serial, usb->serial);
    str_assign(&pusb->version, usb->version);
    str_assign(&pusb->description, words);
    pusb->speed = usb->speed_mbit;
}

/* A VM that runs with a device that was pulled out keeps its VUSB, and the group with it. */
static void drop_usb(struct look *look)
{
    AUTO_REF_SET const struct ref_set *all = ref_set_ref(look->host->PUSBs);
    for (size_t i = 0; all && i < all->count; i++) {
        const struct pusb_row *pusb = pusb_row(tx_get(look->tx, CLASS_PUSB, all->items[i]));
        if (!pusb || seen_usb(look, pusb))
            continue;
        const struct usb_group_row *group = usb_group_row(tx_get(look->tx, CLASS_USB_group, pusb->USB_group));
        bool last =
            group && group->PUSBs && group->PUSBs->count == 1 && (!group->VUSBs || !group->VUSBs->count);
        struct ref group_ref = pusb->USB_group;
        tx_delete(look->tx, CLASS_PUSB, all->items[i]);
        if (last)
            tx_delete(look->tx, CLASS_USB_group, group_ref);
    }
}

/* ---- all of a host ---- */

static void take_iommu(struct look *look)
{
    const char *word = look->list->iommu ? "true" : "false", *now;
    now = str_map_get(look->host->chipset_info, "iommu");
    if (now && streq(now, word))
        return;
    struct host_row *edit = host_row_mut(tx_edit(look->tx, CLASS_host, look->host->row.ref));
    str_map_put(&edit->chipset_info, "iommu", word);
}

static void compare(struct look *look)
{
    take_iommu(look);
    look->passthrough = passthrough_type(look->tx);
    for (size_t i = 0; i < look->list->pci_count; i++)
        if (is_kept(look, &look->list->pci[i]))
            take_pci(look, &look->list->pci[i]);
    for (size_t i = 0; i < look->list->pci_count; i++) {
        const struct host_pci *seen = &look->list->pci[i];
        if (is_kept(look, seen))
            take_relations(look, seen);
        if (is_display(seen))
            take_pgpu(look, seen);
    }
    drop_pci(look);
    for (size_t i = 0; i < look->list->usb_count; i++)
        if (!has_row(look, &look->list->usb[i]))
            add_usb(look, &look->list->usb[i]);
    drop_usb(look);
}

int devices_look(struct server *server, struct ref host, struct hv_host *agent, struct api_err *err)
{
    struct hv_device_list_args args;
    struct hv_device_list_result list;
    struct hv_err cause;
    const struct hv_op op = {.timeout_ms = 10000};
    hv_device_list_args_init(&args);
    if (hv_device_list(agent, &op, &args, &list, &cause) < 0)
        return hosts_fail(err, host, &cause);
    struct look look = {.tx = store_begin(server->store), .list = &list};
    look.host = host_row(tx_get(look.tx, CLASS_host, host));
    int rc = 0;
    if (look.host)
        compare(&look);
    else
        rc = fail_handle(err, CLASS_host, host);
    hv_device_list_result_done(&list);
    if (rc == 0)
        return server_commit(look.tx, err);
    tx_abort(look.tx);
    return -1;
}

void devices_connected(struct server *server, struct ref host, struct hv_host *agent)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (devices_look(server, host, agent, &err) < 0)
        log_warn("devices", "the devices of a host are not known", "host",
                 OBJECT_TEXT(server, CLASS_host, host), "error", err.code);
}
