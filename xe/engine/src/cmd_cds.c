/* CD drives of a VM: add, remove, insert, eject; and the list of images that fit. */
#include "drives.h"
#include "xe_handlers.h"

/* The VDI of an ISO library with this name: a reference (the caller's). */
static int cd_named(struct xe_run_state *x, const char *name, char **vdi)
{
    AUTO_JSON json_t *refs = NULL;
    const json_t *ref, *record, *sr;
    size_t i;
    AUTO_FREE char *found = NULL;
    if (xe_call(x, "VDI.get_by_name_label", &refs, "[s]", name) < 0)
        return -1;
    json_array_foreach(refs, i, ref)
    {
        if (xe_record(x, "VDI", json_string_value(ref), &record) < 0 ||
            xe_record(x, "SR", xe_str(record, "SR"), &sr) < 0)
            return -1;
        if (!streq(xe_str(sr, "content_type"), "iso"))
            continue;
        if (found)
            return xe_fail(x, XE_ERR_CLI, "several CDs are called '%s'; use vbd-insert with a uuid", name);
        found = xstrdup(json_string_value(ref));
    }
    if (!found)
        return xe_fail(x, XE_ERR_CLI, "CD %s not found; 'xe cd-list' shows those there are", name);
    *vdi = TAKE_PTR(found);
    return 0;
}

static int add_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    AUTO_FREE char *vdi = NULL, *vbd = NULL;
    (void)cmd;
    if (cd_named(x, xe_arg(x, "cd-name"), &vdi) < 0)
        return -1;
    return xe_make_vbd(x, vm, vdi, xe_arg(x, "device"), "CD", "RO", true, false, &vbd);
}

int xe_cmd_vm_cd_add(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, add_one);
}

struct search {
    const char *vdi; /* only drives that hold it; NULL: by `empty` */
    bool empty;
    const char *vbd;
    size_t count;
};

static int match_drive(struct xe_run_state *x, const char *vbd, const json_t *record, void *arg)
{
    struct search *s = arg;
    (void)x;
    if (!streq(xe_str(record, "type"), "CD"))
        return 0;
    if (s->vdi ? !streq(xe_str(record, "VDI"), s->vdi) : xe_true(record, "empty") != s->empty)
        return 0;
    s->vbd = vbd;
    s->count++;
    return 0;
}

static int eject_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    struct search s = {0};
    (void)cmd;
    if (xe_each_vbd(x, vm, match_drive, &s) < 0)
        return -1;
    if (s.count == 0)
        return xe_fail(x, XE_ERR_CLI, "The VM has no CDs.");
    if (s.count > 1)
        return xe_fail(x, XE_ERR_CLI,
                       "The VM has more than one CD. Please use the command 'vbd-eject' instead.");
    return xe_call_task(x, "VBD.eject", json_pack("[s]", s.vbd), NULL);
}

int xe_cmd_vm_cd_eject(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, eject_one);
}

static int insert_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    struct search s = {.empty = true};
    AUTO_FREE char *vdi = NULL;
    (void)cmd;
    if (cd_named(x, xe_arg(x, "cd-name"), &vdi) < 0 || xe_each_vbd(x, vm, match_drive, &s) < 0)
        return -1;
    if (s.count == 0)
        return xe_fail(x, XE_ERR_CLI,
                       "The VM has no empty CD drive (VBD); 'xe vm-cd-add cd-name=%s device=3' with the VM's "
                       "uuid= gives it one with the CD in it",
                       xe_arg(x, "cd-name"));
    if (s.count > 1)
        return xe_fail(x, XE_ERR_CLI,
                       "The VM has more than one empty CD drive. Please use the command 'vbd-insert' "
                       "instead.");
    return xe_call_task(x, "VBD.insert", json_pack("[ss]", s.vbd, vdi), NULL);
}

int xe_cmd_vm_cd_insert(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, insert_one);
}

static int remove_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    AUTO_FREE char *vdi = NULL;
    const json_t *record;
    (void)cmd;
    if (cd_named(x, xe_arg(x, "cd-name"), &vdi) < 0)
        return -1;
    struct search s = {.vdi = vdi};
    if (xe_each_vbd(x, vm, match_drive, &s) < 0)
        return -1;
    if (s.count == 0)
        return xe_fail(x, XE_ERR_CLI, "No drive of the VM holds the CD %s.", xe_arg(x, "cd-name"));
    if (xe_record(x, "VBD", s.vbd, &record) < 0)
        return -1;
    if (xe_true(record, "currently_attached") &&
        xe_call_task(x, "VBD.unplug", json_pack("[s]", s.vbd), NULL) < 0)
        return -1;
    return xe_call(x, "VBD.destroy", NULL, "[s]", s.vbd);
}

int xe_cmd_vm_cd_remove(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, remove_one);
}

int xe_cmd_cd_list(struct xe_run_state *x, const struct xe_command *cmd)
{
    static const char *const columns[] = {"uuid", "name-label", NULL};
    const json_t *vdis, *sr;
    const char *ref;
    json_t *vdi;
    (void)cmd;
    x->bulk = true;
    if (xe_records(x, "VDI", &vdis) < 0)
        return -1;
    json_object_foreach((json_t *)vdis, ref, vdi)
    {
        if (xe_record(x, "SR", xe_str(vdi, "SR"), &sr) < 0)
            return -1;
        if (streq(xe_str(sr, "content_type"), "iso") &&
            xe_list_print(x, xe_class_find("vdi"), ref, xe_arg(x, "params"), columns) < 0)
            return -1;
    }
    return 0;
}
