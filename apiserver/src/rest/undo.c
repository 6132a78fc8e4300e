/* The way back from the last apply: a note beside the database (DIR/undo.json) with the document of what its
 * objects were before, and the names of those that it made. */
#include "desired.h"

#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <model/errors.h>
#include <stdio.h>

#define NOTE_MAX ((size_t)4 << 20)

static char *path_of(const struct server *server)
{
    return xasprintf("%s/undo.json", server->state_dir);
}

int undo_note(struct server *server, const struct snapshot *snap, const json_t *document, struct api_err *err)
{
    AUTO_JSON json_t *now = desired_export(snap), *before = json_object(), *made = json_object();
    AUTO_FREE char *path = path_of(server);
    AUTO_BUF struct buf text = BUF_INIT;
    const char *list, *name;
    json_t *objects, *wish;
    json_object_foreach((json_t *)(uintptr_t)document, list, objects)
    {
        json_t *kept = json_object(), *names = json_array();
        json_object_foreach(objects, name, wish)
        {
            json_t *was = json_object_get(json_object_get(now, list), name);
            if (was)
                json_object_set(kept, name, was);
            else
                json_array_append_new(names, json_string(name));
        }
        json_object_set_new(before, list, kept);
        json_object_set_new(made, list, names);
    }
    AUTO_JSON json_t *note = json_pack("{sO,sO}", "before", before, "made", made);
    json_write(&text, note);
    if (file_write_atomic(path, text.data, text.len, 0600) == 0)
        return 0;
    log_error("apply", "the way back could not be noted", "file", path, "cause", strerror(errno));
    return fail_internal(err, "The way back could not be noted: nothing was done.");
}

json_t *undo_read(struct server *server)
{
    AUTO_FREE char *path = path_of(server);
    size_t len;
    struct json_error error;
    AUTO_FREE char *text = file_read(path, NOTE_MAX, &len);
    json_t *note = text ? json_parse(text, len, &error) : NULL;
    if (note || !text)
        return note;
    log_error("apply", "the note of the way back cannot be read", "file", path, "cause", error.text);
    return NULL;
}

void undo_forget(struct server *server)
{
    AUTO_FREE char *path = path_of(server);
    if (unlink(path) < 0 && errno != ENOENT)
        log_error("apply", "the note of the way back cannot be removed", "file", path, "cause",
                  strerror(errno));
}

/* ---- what was made ---- */

/* An earlier step takes the interface away. */
static bool is_removed(const struct desired *d, struct ref vif)
{
    for (size_t i = 0; i < d->count; i++) {
        const char *ref = json_string_value(json_array_get(d->steps[i].params, 0));
        if (streq(d->steps[i].message, "VIF.destroy") && ref && streq(ref, REF_TEXT(vif)))
            return true;
    }
    return false;
}

static void made_network(const struct row *row, const char *object, struct desired *out)
{
    const struct ref_set *vifs = network_row(row)->VIFs;
    for (size_t i = 0; vifs && i < vifs->count; i++)
        if (!is_removed(out, vifs->items[i])) {
            desired_refuse(out, object, "It was made, and is used by now: take its interfaces away first.");
            return;
        }
    desired_step(out, "network.destroy", vifs && vifs->count ? NULL : json_pack("[s]", REF_TEXT(row->ref)),
                 "Removes network %s.", network_row(row)->name_label);
}

static void made(const struct snapshot *snap, const char *list, const char *name, struct desired *out)
{
    AUTO_FREE char *object = xasprintf("%s/%s", list, name);
    const struct class_desc *cls = streq(list, "networks") ? CLASS_network
                                   : streq(list, "srs")    ? CLASS_SR
                                                           : CLASS_VM;
    const struct row **rows;
    size_t count = snapshot_by_name(snap, cls, name, &rows);
    if (count > 1)
        desired_refuse(out, object, "There are several objects of this name.");
    else if (count == 1 && cls == CLASS_network)
        made_network(rows[0], object, out);
    else if (count == 1)
        desired_refuse(out, object,
                       cls == CLASS_SR
                           ? "It was made: its disks would be lost. Remove it yourself."
                           : "It was made: what its disks hold would be lost. Remove it yourself.");
    free(rows);
}

/* ---- what was added to what there was ---- */

static bool has_device(const json_t *list, const char *device)
{
    size_t i;
    json_t *item;
    const char *there;
    json_array_foreach(list, i,
                       item) if (json_get_string(item, "device", &there) && streq(there, device)) return true;
    return false;
}

static void added(const struct snapshot *snap, const char *name, const json_t *before, const json_t *now,
                  struct desired *out)
{
    AUTO_FREE char *object = xasprintf("vms/%s", name);
    const struct row **rows;
    size_t i, count = snapshot_by_name(snap, CLASS_VM, name, &rows);
    const struct vm_row *vm = count == 1 ? vm_row(rows[0]) : NULL;
    json_t *item;
    const char *device = "";
    free(rows);
    json_array_foreach(json_object_get(now, "disks"), i, item)
    {
        json_get_string(item, "device", &device);
        if (!has_device(json_object_get(before, "disks"), device))
            desired_refuse(out, object, "A disk was added: what it holds would be lost. Remove it yourself.");
    }
    for (i = 0; vm && vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(snap, CLASS_VIF, vm->VIFs->items[i]));
        if (!vif || has_device(json_object_get(before, "nics"), vif->device))
            continue;
        if (vif->currently_attached)
            desired_refuse(out, object,
                           "An interface was added, and is plugged: unplug it, or shut the VM down.");
        else
            desired_step(out, "VIF.destroy", json_pack("[s]", REF_TEXT(vif->row.ref)),
                         "Removes interface %s of %s.", vif->device, name);
    }
}

void undo_compare(const struct snapshot *snap, struct ref pool, const json_t *note, struct desired *out)
{
    const char *list, *name;
    json_t *names, *item;
    size_t i;
    const json_t *before = json_object_get(note, "before");
    AUTO_JSON json_t *now = desired_export(snap);
    desired_compare(snap, pool, before, out);
    json_object_foreach(json_object_get(before, "vms"), name, item)
        added(snap, name, item, json_object_get(json_object_get(now, "vms"), name), out);
    json_object_foreach(json_object_get(note, "made"), list, names) json_array_foreach(names, i, item)
        made(snap, list, json_string_value(item), out);
}
