/* The form of documents of desired state: what may stand in one, and the document of what there is. */
#include "desired.h"

#include "../plan/cloud_init.h"
#include <base/json.h>
#include <base/mem.h>
#include <base/rc_json.h>
#include <ctype.h>
#include <model/errors.h>
#include <stdio.h>

/* ---- checking ---- */

enum form { FORM_TEXT, FORM_NUMBER, FORM_BOOL, FORM_TEXTS, FORM_MAP, FORM_DISKS, FORM_NICS, FORM_CLOUD };

struct member {
    const char *name;
    enum form form;
};
static const struct member network_members[] = {{"description", FORM_TEXT},
                                                {"mtu", FORM_NUMBER},
                                                {"tags", FORM_TEXTS},
                                                {"other_config", FORM_MAP},
                                                {NULL, 0}};
static const struct member sr_members[] = {
    {"description", FORM_TEXT},  {"type", FORM_TEXT},  {"content_type", FORM_TEXT}, {"shared", FORM_BOOL},
    {"device_config", FORM_MAP}, {"tags", FORM_TEXTS}, {"other_config", FORM_MAP},  {NULL, 0}};
static const struct member vm_members[] = {{"description", FORM_TEXT}, {"template", FORM_TEXT},
                                           {"memory", FORM_NUMBER},    {"vcpus", FORM_NUMBER},
                                           {"running", FORM_BOOL},     {"kernel", FORM_TEXT},
                                           {"ramdisk", FORM_TEXT},     {"kernel_args", FORM_TEXT},
                                           {"tags", FORM_TEXTS},       {"other_config", FORM_MAP},
                                           {"disks", FORM_DISKS},      {"nics", FORM_NICS},
                                           {"cloud_init", FORM_CLOUD}, {NULL, 0}};
static const struct member disk_members[] = {
    {"device", FORM_TEXT}, {"name", FORM_TEXT}, {"sr", FORM_TEXT}, {"size", FORM_NUMBER}, {NULL, 0}};
static const struct member nic_members[] = {
    {"device", FORM_TEXT}, {"network", FORM_TEXT}, {"mac", FORM_TEXT}, {NULL, 0}};

static int check_members(const json_t *object, const struct member *members, const char *where,
                         struct api_err *err);

/* "ssh_keys" is the key cloud-init:ssh-keys. */
static char *cloud_key(const char *member)
{
    char *key = xasprintf(CLOUD_INIT_PREFIX "%s", member);
    for (char *p = key; *p; p++)
        if (*p == '_')
            *p = '-';
    return key;
}

static int check_cloud(const json_t *object, const char *where, struct api_err *err)
{
    const char *name, *why;
    json_t *value;
    if (!json_is_object(object))
        return err_invalid_value(err, where, "It is an object of texts.");
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        AUTO_FREE char *at = xasprintf("%s.%.60s", where, name), *key = cloud_key(name);
        if (!json_is_string(value))
            return err_invalid_value(err, at, "It is a text.");
        if (!cloud_init_ok(key, json_string_value(value), &why)) {
            AUTO_FREE char *sentence = xasprintf("%c%s.", toupper((unsigned char)*why), why + 1);
            return err_invalid_value(err, at, sentence);
        }
    }
    return 0;
}

json_t *desired_config(const json_t *wish)
{
    json_t *config = json_object(), *value;
    const char *name;
    json_object_update(config, json_object_get(wish, "other_config"));
    json_object_foreach(json_object_get(wish, "cloud_init"), name, value)
    {
        AUTO_FREE char *key = cloud_key(name);
        json_object_set(config, key, value);
    }
    return config;
}

/* Each member of a list is an object with a device of its own. */
static int check_devices(const json_t *list, const struct member *members, const char *where,
                         struct api_err *err)
{
    size_t i, k;
    json_t *item, *other;
    if (!json_is_array(list))
        return err_invalid_value(err, where, "It is a list.");
    json_array_foreach(list, i, item)
    {
        AUTO_FREE char *at = xasprintf("%s[%zu]", where, i);
        const char *device, *same;
        if (check_members(item, members, at, err) < 0)
            return -1;
        if (!json_get_string(item, "device", &device))
            return err_invalid_value(err, at, "Say its device, a number as text.");
        json_array_foreach(
            list, k, other) if (k < i && json_get_string(other, "device", &same) &&
                                streq(same, device)) return err_invalid_value(err, at,
                                                                              "The device is there twice.");
    }
    return 0;
}

static int check_form(const json_t *value, enum form form, const char *where, struct api_err *err)
{
    size_t i;
    json_t *item;
    const char *key;
    switch (form) {
    case FORM_TEXT:
        return json_is_string(value) ? 0 : err_invalid_value(err, where, "It is a text.");
    case FORM_NUMBER:
        return json_is_integer(value) && json_integer_value(value) >= 0
                   ? 0
                   : err_invalid_value(err, where, "It is a whole number, not below zero.");
    case FORM_BOOL:
        return json_is_boolean(value) ? 0 : err_invalid_value(err, where, "It is true or false.");
    case FORM_TEXTS:
        if (!json_is_array(value))
            return err_invalid_value(err, where, "It is a list of texts.");
        json_array_foreach(value, i, item) if (!json_is_string(item)) return err_invalid_value(
            err, where, "It is a list of texts.");
        return 0;
    case FORM_MAP:
        if (!json_is_object(value))
            return err_invalid_value(err, where, "It is an object of texts.");
        json_object_foreach(
            (json_t *)(uintptr_t)value, key,
            item) if (!json_is_string(item)) return err_invalid_value(err, where,
                                                                      "It is an object of texts.");
        return 0;
    case FORM_DISKS:
        return check_devices(value, disk_members, where, err);
    case FORM_NICS:
        return check_devices(value, nic_members, where, err);
    case FORM_CLOUD:
        return check_cloud(value, where, err);
    }
    return 0;
}

static int check_members(const json_t *object, const struct member *members, const char *where,
                         struct api_err *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return err_invalid_value(err, where, "It is an object.");
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        const struct member *m = members;
        AUTO_FREE char *at = xasprintf("%s.%.60s", where, key);
        while (m->name && !streq(m->name, key))
            m++;
        if (!m->name)
            return err_invalid_value(err, at, "There is no such member here.");
        if (check_form(value, m->form, at, err) < 0)
            return -1;
    }
    return 0;
}

int desired_check(const json_t *document, struct api_err *err)
{
    static const struct {
        const char *name;
        const struct member *members;
    } lists[] = {{"networks", network_members}, {"srs", sr_members}, {"vms", vm_members}};
    const char *list, *name;
    json_t *objects, *wish;
    size_t count = 0;
    if (!json_is_object(document))
        return err_invalid_value(err, "document", "It is an object of networks, srs and vms.");
    json_object_foreach((json_t *)(uintptr_t)document, list, objects)
    {
        size_t i = 0;
        while (i < ARRAY_LEN(lists) && !streq(lists[i].name, list))
            i++;
        if (i == ARRAY_LEN(lists) || !json_is_object(objects))
            return err_invalid_value(err, list, "A document has networks, srs and vms: objects by name.");
        count += json_object_size(objects);
        if (count > DESIRED_OBJECTS_MAX)
            return err_invalid_value(err, list, "A document has at most 2,000 objects.");
        json_object_foreach(objects, name, wish)
        {
            AUTO_FREE char *where = xasprintf("%s.%.60s", list, name);
            if (!*name)
                return err_invalid_value(err, where, "A name is not empty.");
            if (check_members(wish, lists[i].members, where, err) < 0)
                return -1;
        }
    }
    return 0;
}

/* ---- what there is ---- */

struct writing {
    const struct snapshot *snap;
    json_t *list;
};

/* A name that several objects have would name none. */
static bool is_alone(const struct snapshot *snap, const struct class_desc *cls, const char *name)
{
    const struct row **rows;
    size_t count = snapshot_by_name(snap, cls, name, &rows), own = 0;
    for (size_t i = 0; i < count; i++) {
        const struct vm_row *vm = cls == CLASS_VM ? vm_row(rows[i]) : NULL;
        own += !vm || (!vm->is_a_snapshot && !vm->is_control_domain && !vm->is_default_template);
    }
    free(rows);
    return own == 1 && *name;
}

static bool add_network(const struct row *row, void *arg)
{
    struct writing *w = arg;
    const struct network_row *network = network_row(row);
    if (is_alone(w->snap, CLASS_network, network->name_label))
        json_object_set_new(w->list, network->name_label,
                            json_pack("{ss,sI,so}", "description", network->name_description, "mtu",
                                      (json_int_t)network->MTU, "tags", str_set_json(network->tags)));
    return true;
}

static bool add_sr(const struct row *row, void *arg)
{
    struct writing *w = arg;
    const struct sr_row *sr = sr_row(row);
    if (is_alone(w->snap, CLASS_SR, sr->name_label))
        json_object_set_new(w->list, sr->name_label,
                            json_pack("{ss,ss,ss,sb,so}", "description", sr->name_description, "type",
                                      sr->type, "content_type", sr->content_type, "shared", sr->shared,
                                      "tags", str_set_json(sr->tags)));
    return true;
}

static json_t *disks_of(const struct snapshot *snap, const struct vm_row *vm)
{
    json_t *list = json_array();
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vm->VBDs->items[i]));
        const struct vdi_row *vdi = vbd ? vdi_row(snapshot_get(snap, CLASS_VDI, vbd->VDI)) : NULL;
        const struct sr_row *sr = vdi ? sr_row(snapshot_get(snap, CLASS_SR, vdi->SR)) : NULL;
        if (sr && vbd->type == VBD_TYPE_DISK)
            json_array_append_new(list, json_pack("{ss,ss,ss,sI}", "device", vbd->userdevice, "name",
                                                  vdi->name_label, "sr", sr->name_label, "size",
                                                  (json_int_t)vdi->virtual_size));
    }
    return list;
}

static json_t *nics_of(const struct snapshot *snap, const struct vm_row *vm)
{
    json_t *list = json_array();
    for (size_t i = 0; vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(snap, CLASS_VIF, vm->VIFs->items[i]));
        const struct network_row *network =
            vif ? network_row(snapshot_get(snap, CLASS_network, vif->network)) : NULL;
        if (network && is_alone(snap, CLASS_network, network->name_label))
            json_array_append_new(list, json_pack("{ss,ss,ss}", "device", vif->device, "network",
                                                  network->name_label, "mac", vif->MAC));
    }
    return list;
}

/* NULL: nothing of it. */
static json_t *cloud_of(const struct vm_row *vm)
{
    json_t *shown = NULL;
    for (size_t i = 0; vm->other_config && i < vm->other_config->count; i++) {
        const struct str_pair *pair = &vm->other_config->pairs[i];
        const char *why;
        if (strncmp(pair->key, CLOUD_INIT_PREFIX, strlen(CLOUD_INIT_PREFIX)) != 0 ||
            !cloud_init_ok(pair->key, pair->value, &why))
            continue;
        AUTO_FREE char *name = xstrdup(pair->key + strlen(CLOUD_INIT_PREFIX));
        for (char *p = name; *p; p++)
            if (*p == '-')
                *p = '_';
        if (!shown)
            shown = json_object();
        json_object_set_new(shown, name, json_string(pair->value));
    }
    return shown;
}

static bool add_vm(const struct row *row, void *arg)
{
    struct writing *w = arg;
    const struct vm_row *vm = vm_row(row);
    if (vm->is_a_template || vm->is_control_domain || vm->is_a_snapshot ||
        !is_alone(w->snap, CLASS_VM, vm->name_label))
        return true;
    json_t *shown =
        json_pack("{ss,so,so,so}", "description", vm->name_description, "tags", str_set_json(vm->tags),
                  "disks", disks_of(w->snap, vm), "nics", nics_of(w->snap, vm));
    bool one_size =
        vm->memory_dynamic_min == vm->memory_static_max && vm->memory_dynamic_max == vm->memory_static_max;
    if (one_size)
        json_object_set_new(shown, "memory", json_integer(vm->memory_static_max));
    if (vm->VCPUs_max == vm->VCPUs_at_startup)
        json_object_set_new(shown, "vcpus", json_integer(vm->VCPUs_max));
    if (*vm->PV_kernel) {
        json_object_set_new(shown, "kernel", json_string(vm->PV_kernel));
        json_object_set_new(shown, "ramdisk", json_string(vm->PV_ramdisk));
        json_object_set_new(shown, "kernel_args", json_string(vm->PV_args));
    }
    json_t *cloud = cloud_of(vm);
    if (cloud)
        json_object_set_new(shown, "cloud_init", cloud);
    if (vm->power_state == VM_POWER_STATE_RUNNING || vm->power_state == VM_POWER_STATE_HALTED)
        json_object_set_new(shown, "running", json_boolean(vm->power_state == VM_POWER_STATE_RUNNING));
    json_object_set_new(w->list, vm->name_label, shown);
    return true;
}

json_t *desired_export(const struct snapshot *snap)
{
    static const struct {
        const char *name;
        const struct class_desc *cls;
        bool (*add)(const struct row *row, void *arg);
    } lists[] = {
        {"networks", CLASS_network, add_network}, {"srs", CLASS_SR, add_sr}, {"vms", CLASS_VM, add_vm}};
    json_t *document = json_object();
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct writing w = {snap, json_object()};
        snapshot_each(snap, lists[i].cls, lists[i].add, &w);
        json_object_set_new(document, lists[i].name, w.list);
    }
    return document;
}
