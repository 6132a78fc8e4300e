/* The steps from what is to what the document says. Steps that need what does not exist yet have no
 * parameters: who applies looks again when it does. So an apply that was cut short goes on where it was. */
#include "desired.h"

#include <base/json.h>
#include <base/mem.h>
#include <base/rc_json.h>
#include <inttypes.h>
#include <model/errors.h>
#include <stdio.h>

/* Who a disk was made for, until it has its drive. */
#define NOTE_KEY "desired-for"

struct work {
    const struct snapshot *snap;
    const json_t *document;
    struct desired *out;
    const char *list, *name; /* the object at hand */
    size_t before;           /* steps that there were when it began */
};

void desired_done(struct desired *desired)
{
    for (size_t i = 0; i < desired->count; i++) {
        json_decref(desired->steps[i].params);
        free(desired->steps[i].text);
    }
    free(desired->steps);
    json_decref(desired->reasons);
    *desired = (struct desired){0};
}

static void add_step(struct desired *d, const char *message, json_t *params, const char *format, va_list ap)
    __attribute__((format(printf, 4, 0)));
static void add_step(struct desired *d, const char *message, json_t *params, const char *format, va_list ap)
{
    AUTO_BUF struct buf text = BUF_INIT;
    buf_vprintf(&text, format, ap);
    d->steps = xreallocarray(d->steps, d->count + 1, sizeof(*d->steps));
    d->steps[d->count++] = (struct desired_step){message, params, buf_take(&text)};
}

void desired_step(struct desired *d, const char *message, json_t *params, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    add_step(d, message, params, format, ap);
    va_end(ap);
}

void desired_refuse(struct desired *d, const char *object, const char *why)
{
    json_array_append_new(d->reasons, json_pack("{ss,ss}", "object", object, "why", why));
}

static void step(struct work *w, const char *message, json_t *params, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void step(struct work *w, const char *message, json_t *params, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    add_step(w->out, message, params, format, ap);
    va_end(ap);
}

static void refuse(struct work *w, const char *why)
{
    AUTO_FREE char *object = xasprintf("%s/%s", w->list, w->name);
    desired_refuse(w->out, object, why);
}

static const char *text_of(const json_t *object, const char *key, const char *otherwise)
{
    const char *text = otherwise;
    json_get_string(object, key, &text);
    return text;
}

/* ---- finding ---- */

/* The row of this name that `fits`; NULL: none, or several (*many). */
static const struct row *named(const struct snapshot *snap, const struct class_desc *cls, const char *name,
                               bool (*fits)(const struct row *row), bool *many)
{
    const struct row **rows, *found = NULL;
    size_t count = snapshot_by_name(snap, cls, name, &rows);
    *many = false;
    for (size_t i = 0; i < count; i++) {
        if (fits && !fits(rows[i]))
            continue;
        *many = found != NULL;
        found = *many ? NULL : rows[i];
        if (*many)
            break;
    }
    free(rows);
    return found;
}

static bool is_own_vm(const struct row *row)
{
    const struct vm_row *vm = vm_row(row);
    return !vm->is_a_snapshot && !vm->is_control_domain && !vm->is_default_template;
}

static bool is_template(const struct row *row)
{
    return vm_row(row)->is_a_template && !vm_row(row)->is_a_snapshot;
}

/* False: there are several of this name, and nobody can tell which is meant. */
static bool find(struct work *w, const struct class_desc *cls, bool (*fits)(const struct row *row),
                 const struct row **row)
{
    bool many;
    *row = named(w->snap, cls, w->name, fits, &many);
    if (many)
        refuse(w, "There are several objects of this name: rename the others.");
    return !many;
}

/* ---- fields ---- */

static json_t *ref_of(const struct row *row)
{
    return json_string(REF_TEXT(row->ref));
}

static void want_text(struct work *w, const struct row *row, const json_t *wish, const char *key,
                      const char *now, const char *message)
{
    const char *text = text_of(wish, key, NULL);
    if (text && !streq(text, now))
        step(w, message, json_pack("[o,s]", ref_of(row), text), "Sets %s of %s to '%.80s'.", key, w->name,
             text);
}

static void want_tags(struct work *w, const struct row *row, const json_t *wish, const struct str_set *now,
                      const char *message)
{
    json_t *list = json_object_get(wish, "tags"), *item;
    bool same = json_array_size(list) == (now ? now->count : 0);
    size_t i;
    json_array_foreach(list, i, item) same = same && str_set_has(now, json_string_value(item));
    if (list && !same)
        step(w, message, json_pack("[o,O]", ref_of(row), list), "Sets the tags of %s.", w->name);
}

/* Keys that the document does not name stay. */
static void want_map(struct work *w, const struct row *row, const json_t *wish, const struct str_map *now,
                     const char *message)
{
    json_t *value;
    const char *key;
    bool same = true;
    AUTO_JSON json_t *merged = str_map_json(now), *wanted = desired_config(wish);
    json_object_foreach(wanted, key, value)
    {
        const char *old = str_map_get(now, key);
        same = same && old && streq(old, json_string_value(value));
        json_object_set(merged, key, value);
    }
    if (!same)
        step(w, message, json_pack("[o,O]", ref_of(row), merged), "Sets keys of other_config of %s.",
             w->name);
}

/* ---- networks and SRs ---- */

static void compare_network(struct work *w, const json_t *wish)
{
    const struct row *row;
    int64_t mtu = 1500;
    if (!find(w, CLASS_network, NULL, &row))
        return;
    const struct network_row *network = network_row(row);
    json_get_int(wish, "mtu", &mtu);
    if (!row) {
        AUTO_JSON json_t *record =
            json_pack("{ss,ss,sI,s{},ss,sb,s[]}", "name_label", w->name, "name_description",
                      text_of(wish, "description", ""), "MTU", (json_int_t)mtu, "other_config", "bridge", "",
                      "managed", 1, "tags");
        if (json_object_get(wish, "tags"))
            json_object_set(record, "tags", json_object_get(wish, "tags"));
        if (json_object_get(wish, "other_config"))
            json_object_set(record, "other_config", json_object_get(wish, "other_config"));
        step(w, "network.create", json_pack("[O]", record), "Makes network %s.", w->name);
        return;
    }
    want_text(w, row, wish, "description", network->name_description, "network.set_name_description");
    if (json_object_get(wish, "mtu") && mtu != network->MTU)
        step(w, "network.set_MTU", json_pack("[o,I]", ref_of(row), (json_int_t)mtu),
             "Sets the MTU of %s to %" PRId64 ".", w->name, mtu);
    want_tags(w, row, wish, network->tags, "network.set_tags");
    want_map(w, row, wish, network->other_config, "network.set_other_config");
}

static void compare_sr(struct work *w, const json_t *wish, struct ref host)
{
    const struct row *row;
    if (!find(w, CLASS_SR, NULL, &row))
        return;
    if (row) {
        const char *type = text_of(wish, "type", sr_row(row)->type);
        want_text(w, row, wish, "description", sr_row(row)->name_description, "SR.set_name_description");
        want_tags(w, row, wish, sr_row(row)->tags, "SR.set_tags");
        want_map(w, row, wish, sr_row(row)->other_config, "SR.set_other_config");
        if (!streq(type, sr_row(row)->type))
            refuse(w, "The SR is of another type, and its disks would be lost.");
        return;
    }
    bool shared = false;
    const char *type = NULL;
    json_get_bool(wish, "shared", &shared);
    if (!json_get_string(wish, "type", &type)) {
        refuse(w, "There is no such SR: say its type and device_config to have it made.");
        return;
    }
    AUTO_JSON json_t *config = json_object();
    if (json_object_get(wish, "device_config"))
        json_object_update(config, json_object_get(wish, "device_config"));
    step(w, "SR.create",
         json_pack("[s,O,i,s,s,s,s,b,{}]", REF_TEXT(host), config, 0, w->name,
                   text_of(wish, "description", ""), type, text_of(wish, "content_type", ""), shared),
         "Makes SR %s.", w->name);
}

/* ---- VMs ---- */

static void create_vm(struct work *w, const json_t *wish)
{
    int64_t memory = 512 << 20, vcpus = 1;
    const char *template = text_of(wish, "template", NULL), *kernel = text_of(wish, "kernel", "");
    json_get_int(wish, "memory", &memory);
    json_get_int(wish, "vcpus", &vcpus);
    if (template) {
        bool many;
        const struct row *row = named(w->snap, CLASS_VM, template, is_template, &many);
        if (row)
            step(w, "VM.clone", json_pack("[o,s]", ref_of(row), w->name), "Makes VM %s from template %s.",
                 w->name, template);
        else
            refuse(w,
                   many ? "There are several templates of that name." : "There is no template of that name.");
        return;
    }
    AUTO_JSON json_t *record = json_pack(
        "{ss,ss,sI,sI,sI,si,sI,sI,ss,ss,ss,ss,s{}}", "name_label", w->name, "name_description",
        text_of(wish, "description", ""), "memory_static_max", (json_int_t)memory, "memory_dynamic_max",
        (json_int_t)memory, "memory_dynamic_min", (json_int_t)memory, "memory_static_min", 0, "VCPUs_max",
        (json_int_t)vcpus, "VCPUs_at_startup", (json_int_t)vcpus, "PV_kernel", kernel, "PV_ramdisk",
        text_of(wish, "ramdisk", ""), "PV_args", text_of(wish, "kernel_args", ""), "HVM_boot_policy",
        *kernel ? "" : "BIOS order", "HVM_boot_params");
    if (!*kernel)
        json_object_set_new(json_object_get(record, "HVM_boot_params"), "order", json_string("cdn"));
    json_object_set_new(record, "actions_after_shutdown", json_string("destroy"));
    json_object_set_new(record, "actions_after_reboot", json_string("restart"));
    json_object_set_new(record, "actions_after_crash", json_string("restart"));
    rest_complete_record(CLASS_VM, record);
    step(w, "VM.create", json_pack("[O]", record), "Makes VM %s.", w->name);
}

static void want_memory(struct work *w, const struct vm_row *vm, const json_t *wish)
{
    int64_t memory;
    if (!json_get_int(wish, "memory", &memory) ||
        (memory == vm->memory_static_max && memory == vm->memory_dynamic_max &&
         memory == vm->memory_dynamic_min))
        return;
    if (vm->power_state != VM_POWER_STATE_HALTED) {
        refuse(w, "Its memory is changed while it is halted: shut it down first.");
        return;
    }
    int64_t least = vm->memory_static_min < memory ? vm->memory_static_min : memory;
    step(w, "VM.set_memory_limits",
         json_pack("[o,I,I,I,I]", ref_of(&vm->row), (json_int_t)least, (json_int_t)memory, (json_int_t)memory,
                   (json_int_t)memory),
         "Sets the memory of %s to %" PRId64 " bytes.", w->name, memory);
}

static void want_vcpus(struct work *w, const struct vm_row *vm, const json_t *wish)
{
    int64_t vcpus;
    if (!json_get_int(wish, "vcpus", &vcpus) || (vcpus == vm->VCPUs_max && vcpus == vm->VCPUs_at_startup))
        return;
    if (vm->power_state != VM_POWER_STATE_HALTED) {
        refuse(w, "Its processors are changed while it is halted: shut it down first.");
        return;
    }
    const char *order[] = {"VM.set_VCPUs_max", "VM.set_VCPUs_at_startup"};
    bool grows = vcpus >= vm->VCPUs_max;
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        step(w, order[grows ? i : 1 - i], json_pack("[o,I]", ref_of(&vm->row), (json_int_t)vcpus),
             "Sets the processors of %s to %" PRId64 ".", w->name, vcpus);
}

static const struct vbd_row *drive_of(const struct snapshot *snap, const struct vm_row *vm,
                                      const char *device)
{
    for (size_t i = 0; vm && vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vm->VBDs->items[i]));
        if (vbd && streq(vbd->userdevice, device))
            return vbd;
    }
    return NULL;
}

static const struct vif_row *interface_of(const struct snapshot *snap, const struct vm_row *vm,
                                          const char *device)
{
    for (size_t i = 0; vm && vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(snap, CLASS_VIF, vm->VIFs->items[i]));
        if (vif && streq(vif->device, device))
            return vif;
    }
    return NULL;
}

struct search {
    const char *note;
    const struct row *found;
};

static bool is_noted(const struct row *row, void *arg)
{
    struct search *search = arg;
    const char *note = str_map_get(vdi_row(row)->other_config, NOTE_KEY);
    if (note && streq(note, search->note) && !vdi_row(row)->is_a_snapshot)
        search->found = row;
    return !search->found;
}

/* A disk and its drive are two steps: the disk says what it is for meanwhile. */
static void make_disk(struct work *w, const struct vm_row *vm, const json_t *wish, const char *device)
{
    bool many, bootable = streq(device, "0");
    const char *sr_name = text_of(wish, "sr", "");
    const struct row *sr = named(w->snap, CLASS_SR, sr_name, NULL, &many);
    AUTO_FREE char *note = vm ? xasprintf("%s/%s", vm->uuid, device) : NULL;
    AUTO_FREE char *label = xasprintf("%s %s", w->name, device);
    struct search search = {.note = note};
    int64_t size = 0;
    json_get_int(wish, "size", &size);
    if (many) {
        refuse(w, "There are several SRs of the name that a disk says.");
        return;
    }
    if (!sr && !json_object_get(json_object_get(w->document, "srs"), sr_name)) {
        refuse(w, "There is no SR of the name that a disk says.");
        return;
    }
    if (vm)
        snapshot_each(w->snap, CLASS_VDI, is_noted, &search);
    if (!search.found) {
        json_t *params = NULL;
        if (vm && sr) {
            AUTO_JSON json_t *record =
                json_pack("{ss,ss,ss,sI,ss,sb,sb,s{ss}}", "name_label", text_of(wish, "name", label),
                          "name_description", "", "SR", REF_TEXT(sr->ref), "virtual_size", (json_int_t)size,
                          "type", "user", "sharable", 0, "read_only", 0, "other_config", NOTE_KEY, note);
            params = json_pack("[O]", record);
        }
        step(w, "VDI.create", params, "Makes a disk of %" PRId64 " bytes for %s on SR %s.", size, w->name,
             sr_name);
    }
    json_t *params = NULL;
    if (vm && search.found) {
        AUTO_JSON json_t *record =
            json_pack("{ss,ss,ss,sb,ss,ss,sb,sb,s{},ss,s{}}", "VM", REF_TEXT(vm->row.ref), "VDI",
                      REF_TEXT(search.found->ref), "userdevice", device, "bootable", bootable, "mode", "RW",
                      "type", "Disk", "unpluggable", 1, "empty", 0, "other_config", "qos_algorithm_type", "",
                      "qos_algorithm_params");
        params = json_pack("[O]", record);
    }
    step(w, "VBD.create", params, "Gives %s the disk as device %s.", w->name, device);
}

static void compare_disk(struct work *w, const struct vm_row *vm, const json_t *wish)
{
    const char *device = text_of(wish, "device", "");
    const struct vbd_row *vbd = drive_of(w->snap, vm, device);
    const struct vdi_row *vdi = vbd ? vdi_row(snapshot_get(w->snap, CLASS_VDI, vbd->VDI)) : NULL;
    int64_t size = 0;
    if (!vbd) {
        make_disk(w, vm, wish, device);
        return;
    }
    if (!vdi || !json_get_int(wish, "size", &size) || size == vdi->virtual_size)
        return;
    /* SRs round sizes up to their unit, at most 2 MiB here. */
    if (size < vdi->virtual_size && vdi->virtual_size - size < (2 << 20))
        return;
    if (size < vdi->virtual_size)
        refuse(w, "A disk would get smaller, and lose data.");
    else if (vm->power_state != VM_POWER_STATE_HALTED)
        refuse(w, "A disk is enlarged while its VM is halted: shut it down first.");
    else
        step(w, "VDI.resize", json_pack("[o,I]", ref_of(&vdi->row), (json_int_t)size),
             "Enlarges disk %s of %s to %" PRId64 " bytes.", device, w->name, size);
}

static void compare_nic(struct work *w, const struct vm_row *vm, const json_t *wish)
{
    bool many;
    const char *device = text_of(wish, "device", ""), *name = text_of(wish, "network", "");
    const char *mac = text_of(wish, "mac", "");
    const struct row *network = named(w->snap, CLASS_network, name, NULL, &many);
    const struct vif_row *vif = interface_of(w->snap, vm, device);
    if (many || (!network && !json_object_get(json_object_get(w->document, "networks"), name))) {
        refuse(w, many ? "There are several networks of the name that an interface says."
                       : "There is no network of the name that an interface says.");
        return;
    }
    if (vif && *mac && strcasecmp(mac, vif->MAC) != 0)
        refuse(w, "An interface has another MAC address: remove the interface first.");
    if (vif && network && !ref_eq(vif->network, network->ref))
        step(w, "VIF.move", json_pack("[o,o]", ref_of(&vif->row), ref_of(network)),
             "Moves interface %s of %s to network %s.", device, w->name, name);
    if (vif)
        return;
    json_t *params = NULL;
    if (vm && network) {
        AUTO_JSON json_t *record =
            json_pack("{ss,ss,ss,ss,si,s{},ss,s{}}", "device", device, "network", REF_TEXT(network->ref),
                      "VM", REF_TEXT(vm->row.ref), "MAC", mac, "MTU", 1500, "other_config",
                      "qos_algorithm_type", "", "qos_algorithm_params");
        params = json_pack("[O]", record);
    }
    step(w, "VIF.create", params, "Connects %s to network %s as interface %s.", w->name, name, device);
}

static void want_power(struct work *w, const struct vm_row *vm, const json_t *wish)
{
    bool running, first = w->out->count > w->before;
    if (!json_get_bool(wish, "running", &running))
        return;
    bool runs = vm && vm->power_state != VM_POWER_STATE_HALTED;
    if (running && vm && vm->power_state == VM_POWER_STATE_SUSPENDED)
        step(w, "VM.resume", first ? NULL : json_pack("[o,b,b]", ref_of(&vm->row), 0, 0), "Resumes %s.",
             w->name);
    else if (running && vm && vm->power_state == VM_POWER_STATE_PAUSED)
        step(w, "VM.unpause", json_pack("[o]", ref_of(&vm->row)), "Unpauses %s.", w->name);
    else if (running && !runs)
        step(w, "VM.start", first || !vm ? NULL : json_pack("[o,b,b]", ref_of(&vm->row), 0, 0), "Starts %s.",
             w->name);
    else if (!running && runs && vm->power_state == VM_POWER_STATE_RUNNING)
        step(w, "VM.shutdown", json_pack("[o]", ref_of(&vm->row)), "Shuts %s down.", w->name);
    else if (!running && runs)
        refuse(w, "It is paused or suspended: what it was doing would be lost.");
}

static void compare_vm(struct work *w, const json_t *wish)
{
    const struct row *row;
    size_t i;
    json_t *item;
    if (!find(w, CLASS_VM, is_own_vm, &row))
        return;
    const struct vm_row *vm = vm_row(row);
    size_t refused = json_array_size(w->out->reasons);
    if (!vm)
        create_vm(w, wish);
    if (json_array_size(w->out->reasons) > refused)
        return;
    if (vm && vm->is_a_template) {
        if (!text_of(wish, "template", NULL)) {
            refuse(w, "A template has this name.");
            return;
        }
        step(w, "VM.provision", json_pack("[o]", ref_of(row)), "Makes the disks of %s.", w->name);
    } else if (!vm && text_of(wish, "template", NULL)) {
        step(w, "VM.provision", NULL, "Makes the disks of %s.", w->name);
    }
    if (vm && !vm->is_a_template) {
        want_text(w, row, wish, "description", vm->name_description, "VM.set_name_description");
        want_tags(w, row, wish, vm->tags, "VM.set_tags");
        want_map(w, row, wish, vm->other_config, "VM.set_other_config");
        want_memory(w, vm, wish);
        want_vcpus(w, vm, wish);
    }
    json_array_foreach(json_object_get(wish, "disks"), i, item) compare_disk(w, vm, item);
    json_array_foreach(json_object_get(wish, "nics"), i, item) compare_nic(w, vm, item);
    want_power(w, vm, wish);
}

void desired_compare(const struct snapshot *snap, struct ref pool_ref, const json_t *document,
                     struct desired *out)
{
    static const char *const lists[] = {"networks", "srs", "vms"};
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, pool_ref));
    *out = (struct desired){.reasons = json_array()};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        const char *name;
        json_t *wish;
        json_object_foreach(json_object_get(document, lists[i]), name, wish)
        {
            struct work w = {snap, document, out, lists[i], name, out->count};
            if (i == 0)
                compare_network(&w, wish);
            else if (i == 1)
                compare_sr(&w, wish, pool ? pool->master : REF_NULL);
            else
                compare_vm(&w, wish);
        }
    }
}
