/* The way back from the last apply: a row of the database, which moves with the coordinator, with the
 * document of what its objects were before, and the names of those that it made. */
#include "desired.h"

#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <stdio.h>

#define NOTE_MAX ((size_t)4 << 20)

static bool delete_note(const struct row *row, void *arg)
{
    tx_delete(arg, CLASS_undo_note, row->ref);
    return true;
}

static int keep(struct server *server, const char *user, const char *note, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    struct tx *tx = store_begin(server->store);
    snapshot_each(snap, CLASS_undo_note, delete_note, tx);
    struct undo_note_row *row = undo_note_row_mut(tx_create(tx, CLASS_undo_note));
    str_assign(&row->user, user);
    str_assign(&row->note, note);
    row->applied = clock_unix_seconds();
    return server_commit(tx, err);
}

int undo_note(struct server *server, const char *user, const struct snapshot *snap, const json_t *document,
              struct api_err *err)
{
    AUTO_JSON json_t *now = desired_export(snap), *before = json_object(), *made = json_object();
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
    if (text.len > NOTE_MAX)
        return err_operation_not_allowed(err, "The document is too large for a way back: apply it in parts.");
    return keep(server, user, text.data, err);
}

static bool take_note(const struct row *row, void *arg)
{
    *(const struct undo_note_row **)arg = undo_note_row(row);
    return false;
}

json_t *undo_read(struct server *server)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct undo_note_row *row = NULL;
    struct json_error error;
    snapshot_each(snap, CLASS_undo_note, take_note, &row);
    json_t *note = row ? json_parse(row->note, strlen(row->note), &error) : NULL;
    if (row && !note)
        log_error("apply", "the note of the way back cannot be read", "cause", error.text);
    return note;
}

int undo_forget(struct server *server, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    struct tx *tx = store_begin(server->store);
    snapshot_each(snap, CLASS_undo_note, delete_note, tx);
    return server_commit(tx, err);
}

/* ---- what was made ---- */

/* An earlier step takes the interface away, or its VM. */
static bool is_removed(const struct snapshot *snap, const struct desired *d, struct ref vif)
{
    const struct vif_row *row = vif_row(snapshot_get(snap, CLASS_VIF, vif));
    for (size_t i = 0; i < d->count; i++) {
        const char *ref = json_string_value(json_array_get(d->steps[i].params, 0));
        bool itself = streq(d->steps[i].message, "VIF.destroy") && ref && streq(ref, REF_TEXT(vif));
        bool its_vm = streq(d->steps[i].message, "VM.destroy") && ref && row && streq(ref, REF_TEXT(row->VM));
        if (itself || its_vm)
            return true;
    }
    return false;
}

static void made_network(const struct snapshot *snap, const struct row *row, const char *object,
                         struct desired *out)
{
    const struct ref_set *vifs = network_row(row)->VIFs;
    for (size_t i = 0; vifs && i < vifs->count; i++)
        if (!is_removed(snap, out, vifs->items[i])) {
            desired_refuse(out, object, "It was made, and is used by now: take its interfaces away first.");
            return;
        }
    desired_step(out, "network.destroy", vifs && vifs->count ? NULL : json_pack("[s]", REF_TEXT(row->ref)),
                 "Removes network %s.", network_row(row)->name_label);
}

static bool has_disk(const struct snapshot *snap, const struct vm_row *vm)
{
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vm->VBDs->items[i]));
        if (vbd && vbd->type != VBD_TYPE_CD)
            return true;
    }
    return false;
}

/* A VM without disks is its description, which the document has. */
static void made_vm(const struct snapshot *snap, const struct row *row, const char *object,
                    struct desired *out)
{
    const struct vm_row *vm = vm_row(row);
    if (has_disk(snap, vm))
        desired_refuse(out, object, "It was made: what its disks hold would be lost. Remove it yourself.");
    else if (vm->snapshots && vm->snapshots->count)
        desired_refuse(out, object, "It was made, and has snapshots by now: they would be lost.");
    else if (vm->power_state != VM_POWER_STATE_HALTED)
        desired_refuse(out, object, "It was made, and runs: shut it down first.");
    else
        desired_step(out, "VM.destroy", json_pack("[s]", REF_TEXT(row->ref)), "Removes VM %s.",
                     vm->name_label);
}

/* A repository without disks is unplugged and forgotten. */
static void made_sr(const struct snapshot *snap, const struct row *row, const char *object,
                    struct desired *out)
{
    const struct sr_row *sr = sr_row(row);
    bool plugged = false;
    if (sr->VDIs && sr->VDIs->count) {
        desired_refuse(out, object, "It was made, and holds disks: they would be lost. Remove it yourself.");
        return;
    }
    for (size_t i = 0; sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, sr->PBDs->items[i]));
        if (!pbd || !pbd->currently_attached)
            continue;
        plugged = true;
        desired_step(out, "PBD.unplug", json_pack("[s]", REF_TEXT(pbd->row.ref)),
                     "Unplugs SR %s from a host.", sr->name_label);
    }
    desired_step(out, "SR.forget", plugged ? NULL : json_pack("[s]", REF_TEXT(row->ref)), "Forgets SR %s.",
                 sr->name_label);
}

struct made_kind {
    const char *list;
    const struct class_desc *cls;
    void (*undo)(const struct snapshot *snap, const struct row *row, const char *object, struct desired *out);
};

static void made(const struct snapshot *snap, const struct made_kind *kind, const char *name,
                 struct desired *out)
{
    AUTO_FREE char *object = xasprintf("%s/%s", kind->list, name);
    const struct row **rows;
    size_t count = snapshot_by_name(snap, kind->cls, name, &rows);
    if (count > 1)
        desired_refuse(out, object, "There are several objects of this name.");
    else if (count == 1)
        kind->undo(snap, rows[0], object, out);
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
    /* What others use comes last. */
    const struct made_kind kinds[] = {
        {"vms", CLASS_VM, made_vm}, {"srs", CLASS_SR, made_sr}, {"networks", CLASS_network, made_network}};
    const char *name;
    json_t *item;
    const json_t *before = json_object_get(note, "before");
    AUTO_JSON json_t *now = desired_export(snap);
    desired_compare(snap, pool, before, out);
    json_object_foreach(json_object_get(before, "vms"), name, item)
        added(snap, name, item, json_object_get(json_object_get(now, "vms"), name), out);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        const json_t *names = json_object_get(json_object_get(note, "made"), kinds[k].list);
        for (size_t i = 0; i < json_array_size(names); i++)
            made(snap, &kinds[k], json_string_value(json_array_get(names, i)), out);
    }
}
