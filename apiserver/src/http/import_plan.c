/* What the objects of an archive are here: networks, SRs and hosts that are known, CDs that are found, disks
 * that have to come. Nothing that an archive says is taken without a check. */
#include "import.h"

#include "../gate/roles.h"
#include "../handlers/vm_kept.h"
#include "../plan/mac.h"
#include "../rules/vbd_device.h"
#include "../rules/vdi_size.h"
#include <base/mem.h>
#include <model/errors.h>

#define DISKS_MAX 1024
#define VMS_MAX 10000
#define VIF_DEVICES 16

/* ---- looking up ---- */

static const struct row *find(const struct snapshot *snap, const struct class_desc *cls, const char *text)
{
    struct ref ref;
    if (ref_parse(text, &ref))
        return snapshot_get(snap, cls, ref);
    return snapshot_by_uuid(snap, cls, text);
}

int import_find_sr(struct import *im, struct api_err *err)
{
    const char *text = im->sr_text;
    const struct pool_row *pool = pool_row(snapshot_get(im->snap, CLASS_pool, im->t->server->pool_ref));
    const struct row *row =
        text ? find(im->snap, CLASS_SR, text) : snapshot_get(im->snap, CLASS_SR, pool->default_SR);
    if (!row)
        return err_handle_invalid(err, "SR", text ? text : REF_NULL_TEXT);
    im->sr = sr_row(row);
    if (storage_sr_is_iso(im->sr))
        return err_sr_operation_not_supported(err, REF_TEXT(row->ref));
    return storage_agent_get(im->t->server, im->snap, row->ref, REF_NULL, &im->at, err);
}

struct import_disk *import_disk_find(struct import *im, const char *id)
{
    for (size_t i = 0; i < im->disk_count; i++)
        if (streq(im->disks[i].object->id, id))
            return &im->disks[i];
    return NULL;
}

static int compare_links(const void *a, const void *b)
{
    return strcmp(((const struct import_link *)a)->object->id, ((const struct import_link *)b)->object->id);
}

struct ref import_ref(const struct import *im, const char *id)
{
    const struct ova_object object = {.id = id};
    const struct import_link key = {.object = &object};
    const struct import_link *link =
        im->link_count ? bsearch(&key, im->links, im->link_count, sizeof(key), compare_links) : NULL;
    if (link)
        return link->ref;
    for (size_t i = 0; i < im->disk_count; i++)
        if (streq(im->disks[i].object->id, id))
            return im->disks[i].ref;
    AUTO_FREE char *name = xasprintf("vm %s", id);
    const json_t *vm = json_object_get(im->known, name);
    return vm ? im->vms[json_integer_value(vm)].ref : REF_NULL;
}

void import_sort_links(struct import *im)
{
    if (im->link_count)
        qsort(im->links, im->link_count, sizeof(*im->links), compare_links);
}

static void add_link(struct import *im, const struct ova_object *object, const struct row *row)
{
    if (row)
        im->links[im->link_count++] = (struct import_link){object, row->ref};
}

static const struct row *by_uuid(const struct import *im, const struct ova_object *object)
{
    return snapshot_by_uuid(im->snap, object->cls, ova_text(object, "uuid"));
}

/* ---- networks ---- */

struct bridge_search {
    const char *bridge;
    const struct row *found;
};

static bool match_bridge(const struct row *row, void *arg)
{
    struct bridge_search *s = arg;
    if (streq(network_row(row)->bridge, s->bridge))
        s->found = row;
    return !s->found;
}

/* The same one, or one of the same name, or on the same bridge. */
static const struct row *find_network(const struct import *im, const struct ova_object *object)
{
    const struct row *row = by_uuid(im, object), **named;
    if (row)
        return row;
    size_t count = snapshot_by_name(im->snap, CLASS_network, ova_text(object, "name_label"), &named);
    row = count ? named[0] : NULL;
    free(named);
    struct bridge_search s = {.bridge = ova_text(object, "bridge")};
    if (!row && *s.bridge)
        snapshot_each(im->snap, CLASS_network, match_bridge, &s);
    return row ? row : s.found;
}

/* ---- VDIs ---- */

/* `known` has a key for each thing seen, so that large archives cost no squares:
 *   disk <id>, cd <id>: the VDI is used by a drive of that kind; vm <id>: index of the VM;
 *   uuid <uuid>: of a VM; vbd <VM>/<number>, vif <VM>/<number>: the device is taken. */
static bool note(struct import *im, const char *kind, const char *what, json_int_t value)
{
    AUTO_FREE char *key = xasprintf("%s %s", kind, what);
    if (json_object_get(im->known, key))
        return false;
    json_object_set_new(im->known, key, json_integer(value));
    return true;
}

static const json_t *noted(const struct import *im, const char *kind, const char *what)
{
    AUTO_FREE char *key = xasprintf("%s %s", kind, what);
    return json_object_get(im->known, key);
}

static void note_uses(struct import *im)
{
    for (size_t i = 0; i < im->ova.count; i++) {
        const struct ova_object *o = &im->ova.objects[i];
        if (o->cls == CLASS_VBD)
            note(im, streq(ova_text(o, "type"), "CD") ? "cd" : "disk", ova_text(o, "VDI"), 1);
        else if (o->cls == CLASS_VM && streq(ova_text(o, "power_state"), "Suspended"))
            note(im, "disk", ova_text(o, "suspend_VDI"), 1);
    }
}

struct medium_search {
    const struct snapshot *snap;
    const char *location;
    const struct row *found;
};

static bool match_medium(const struct row *row, void *arg)
{
    struct medium_search *s = arg;
    const struct sr_row *sr = sr_row(snapshot_get(s->snap, CLASS_SR, vdi_row(row)->SR));
    if (sr && storage_sr_is_iso(sr) && streq(vdi_row(row)->location, s->location))
        s->found = row;
    return !s->found;
}

/* The same CD, or one of the same file name. NULL: the drive is empty. */
static const struct row *find_medium(const struct import *im, const struct ova_object *object)
{
    struct medium_search s = {im->snap, ova_text(object, "location"), by_uuid(im, object)};
    if (!s.found && *s.location)
        snapshot_each(im->snap, CLASS_VDI, match_medium, &s);
    return s.found;
}

struct pair_search {
    const struct ova_object *object;
    const char *value;
};

/* vdi:<id or uuid in the archive>=<reference here> */
static bool match_pair(void *arg, const char *name, const char *value)
{
    struct pair_search *s = arg;
    if (strncmp(name, "vdi:", 4) == 0 &&
        (streq(name + 4, s->object->id) || streq(name + 4, ova_text(s->object, "uuid"))))
        s->value = value;
    return !s->value;
}

static int find_known_disk(struct import *im, const struct ova_object *object, struct api_err *err)
{
    struct pair_search s = {.object = object};
    if (im->t->req)
        http_request_each_query(im->t->req, match_pair, &s);
    const struct row *row = s.value ? find(im->snap, CLASS_VDI, s.value) : by_uuid(im, object);
    if (s.value && !row)
        return err_handle_invalid(err, "VDI", s.value);
    if (!row && !im->force)
        return err_import_error_attached_disks_not_found(err);
    add_link(im, object, row);
    return 0;
}

static int plan_new_disk(struct import *im, const struct ova_object *object, struct api_err *err)
{
    char error[CELL_ERROR_SIZE];
    const struct field_desc *field = field_find(CLASS_VDI, "virtual_size");
    const json_t *value = json_object_get(object->record, "virtual_size");
    union cell size;
    int64_t rounded;
    if (!value || !cell_read_json(field->type, value, &size, error) || !vdi_round_size(size.i, &rounded)) {
        AUTO_FREE char *text = xasprintf("disk %.60s has an impossible size", object->id);
        return err_import_error(err, text);
    }
    if (im->disk_count == DISKS_MAX)
        return err_import_error(err, "the archive has more than 1024 disks");
    im->disks = xreallocarray(im->disks, im->disk_count + 1, sizeof(*im->disks));
    im->disks[im->disk_count++] = (struct import_disk){.object = object, .size = rounded};
    im->total += rounded;
    return 0;
}

static int plan_vdi(struct import *im, const struct ova_object *object, struct api_err *err)
{
    struct row *row = row_new(CLASS_VDI, REF_NULL);
    int rc = import_admit(im, object, row, NULL, err);
    row_unref(row);
    if (rc < 0)
        return -1;
    if (noted(im, "disk", object->id))
        return im->metadata ? find_known_disk(im, object, err) : plan_new_disk(im, object, err);
    if (noted(im, "cd", object->id))
        add_link(im, object, find_medium(im, object));
    return 0;
}

/* ---- VMs ---- */

int import_admit(struct import *im, const struct ova_object *object, struct row *row, const char *const *more,
                 struct api_err *err)
{
    return ova_fill(object, row, more, err) < 0 || roles_check_record(im->t->session, row, err) < 0 ? -1 : 0;
}

static int plan_vm(struct import *im, const struct ova_object *object, struct api_err *err)
{
    /* What a constructor does not take, and that makes a VM what it is. */
    static const char *const more[] = {"is_a_snapshot",
                                       "snapshot_time",
                                       "snapshot_info",
                                       "transportable_snapshot_id",
                                       "snapshot_metadata",
                                       "bios_strings",
                                       NULL};
    if (ova_bool(object, "is_control_domain"))
        return 0; /* every host has its own */
    if (im->vm_count == VMS_MAX)
        return err_import_error(err, "the archive has more than 10000 VMs");
    im->vms = xreallocarray(im->vms, im->vm_count + 1, sizeof(*im->vms));
    struct import_vm *vm = &im->vms[im->vm_count++];
    *vm = (struct import_vm){.object = object,
                             .record = row_new(CLASS_VM, REF_NULL),
                             .is_snapshot = ova_bool(object, "is_a_snapshot")};
    if (import_admit(im, object, vm->record, more, err) < 0)
        return -1;
    struct ref ignored;
    const char *uuid = ova_text(object, "uuid");
    note(im, "vm", object->id, (json_int_t)im->vm_count - 1);
    if (im->restore && (!uuid_parse(uuid, &ignored) || !note(im, "uuid", uuid, 1)))
        return err_uuid_invalid(err, "VM", uuid);
    const struct row *same = im->restore ? by_uuid(im, object) : NULL;
    if (same)
        return err_duplicate_vm(err, REF_TEXT(same->ref));
    if (!*im->t->object) {
        free(im->t->object);
        im->t->object = xstrdup(vm_row(vm->record)->name_label);
    }
    return 0;
}

/* ---- drives and cards ---- */

static int plan_device(struct import *im, const struct ova_object *object, const char *kind, int number,
                       struct api_err *err)
{
    AUTO_FREE char *place = xasprintf("%s/%d", ova_text(object, "VM"), number);
    AUTO_FREE char *text = xasprintf("%d", number);
    return note(im, kind, place, 1) ? 0 : err_device_already_exists(err, text);
}

static int plan_vbd(struct import *im, const struct ova_object *object, struct api_err *err)
{
    int number;
    const char *device = ova_text(object, "userdevice");
    struct row *row = row_new(CLASS_VBD, REF_NULL);
    int rc = import_admit(im, object, row, NULL, err);
    if (rc == 0 && vbd_row(row)->type == VBD_TYPE_FLOPPY)
        rc = err_value_not_supported(err, "type", "Floppy", "Floppy drives are not built.");
    if (rc == 0 && !vbd_device_parse(device, &number))
        rc = err_invalid_device(err, device);
    row_unref(row);
    return rc < 0 ? -1 : plan_device(im, object, "vbd", number, err);
}

static int plan_vif(struct import *im, const struct ova_object *object, struct api_err *err)
{
    char mac[MAC_TEXT_SIZE], *end;
    const char *device = ova_text(object, "device"), *address = ova_text(object, "MAC");
    long number = strtol(device, &end, 10);
    if (*device < '0' || *device > '9' || *end || number >= VIF_DEVICES)
        return err_invalid_device(err, device);
    if (im->restore && !mac_parse(address, mac))
        return err_mac_invalid(err, address);
    struct row *row = row_new(CLASS_VIF, REF_NULL);
    int rc = import_admit(im, object, row, NULL, err);
    row_unref(row);
    return rc < 0 ? -1 : plan_device(im, object, "vif", (int)number, err);
}

static int plan_vtpm(struct import *im, const struct ova_object *object, struct api_err *err)
{
    struct row *row = row_new(CLASS_VTPM, REF_NULL);
    int rc = import_admit(im, object, row, NULL, err);
    row_unref(row);
    if (rc == 0 && vtpm_check_contents(ova_text(object, "contents"), err) < 0)
        rc = -1;
    if (rc == 0 && !note(im, "vtpm", ova_text(object, "VM"), 1))
        rc = err_vtpm_max_amount_reached(err, "1");
    return rc;
}

/* ---- all ---- */

static int plan_object(struct import *im, const struct ova_object *object, struct api_err *err)
{
    const struct class_desc *cls = object->cls;
    if (cls == CLASS_VM)
        return plan_vm(im, object, err);
    if (cls == CLASS_VDI)
        return plan_vdi(im, object, err);
    if (cls == CLASS_VBD)
        return plan_vbd(im, object, err);
    if (cls == CLASS_VIF)
        return plan_vif(im, object, err);
    if (cls == CLASS_VTPM)
        return plan_vtpm(im, object, err);
    if (cls == CLASS_network)
        add_link(im, object, find_network(im, object));
    else if (cls == CLASS_SR || cls == CLASS_host)
        add_link(im, object, by_uuid(im, object));
    return 0;
}

/* A reference of a drive or card has to lead to something in the archive. */
static int check_reference(const struct import *im, const struct ova_object *object, const char *field,
                           const struct class_desc *cls, bool may_be_null, struct api_err *err)
{
    const char *id = ova_text(object, field);
    const struct ova_object *target = ova_find(&im->ova, id);
    if (may_be_null && (!*id || streq(id, REF_NULL_TEXT)))
        return 0;
    return target && target->cls == cls ? 0 : err_import_error_failed_to_find_object(err, id);
}

static int check_references(const struct import *im, struct api_err *err)
{
    for (size_t i = 0; i < im->ova.count; i++) {
        const struct ova_object *o = &im->ova.objects[i];
        if (o->cls == CLASS_VBD && (check_reference(im, o, "VM", CLASS_VM, false, err) < 0 ||
                                    check_reference(im, o, "VDI", CLASS_VDI, true, err) < 0))
            return -1;
        if (o->cls == CLASS_VTPM && check_reference(im, o, "VM", CLASS_VM, false, err) < 0)
            return -1;
        if (o->cls == CLASS_VIF && (check_reference(im, o, "VM", CLASS_VM, false, err) < 0 ||
                                    check_reference(im, o, "network", CLASS_network, false, err) < 0))
            return -1;
    }
    return 0;
}

int import_plan(struct import *im, struct api_err *err)
{
    im->links = xcalloc(im->ova.count + 1, sizeof(*im->links));
    im->known = json_object();
    note_uses(im);
    if (check_references(im, err) < 0)
        return -1;
    for (size_t i = 0; i < im->ova.count; i++)
        if (plan_object(im, &im->ova.objects[i], err) < 0)
            return -1;
    if (im->vm_count == 0)
        return err_import_error(err, "the archive has no VM");
    import_sort_links(im);
    return 0;
}
