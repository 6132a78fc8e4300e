/* VDI.enable_cbt, disable_cbt, data_destroy, list_changed_blocks: which blocks of a disk changed between its
 * snapshots. The agent keeps the notes (hv/storage/changed.c); the rows say for which disks there are some.
 */
#include "../gate/task.h"
#include "../hosts/hosts.h"
#include "storage.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

struct target {
    const struct vdi_row *vdi;
    const struct sr_row *sr;
    struct storage_agent at;
    struct hosts_op op;
};

static void target_done(struct target *t)
{
    storage_agent_put(&t->at);
}
#define AUTO_TARGET __attribute__((cleanup(target_done)))

static int find_target(struct call *call, struct ref ref, struct target *t, struct api_err *err)
{
    t->vdi = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, ref));
    t->sr = t->vdi ? sr_row(snapshot_get(call->snapshot, CLASS_SR, t->vdi->SR)) : NULL;
    if (!t->sr)
        return t->vdi ? fail_handle(err, CLASS_SR, t->vdi->SR) : fail_handle(err, CLASS_VDI, ref);
    hosts_op_init(&t->op, call, 0);
    return 0;
}

/* An agent that sees the disk: that of a host where it is in use comes first. */
static int find_agent(struct call *call, struct target *t, struct api_err *err)
{
    return storage_agent_get(call->server, call->snapshot, t->vdi->SR, REF_NULL, &t->at, err);
}

static int fail_target(const struct target *t, const char *operation, const struct hv_err *cause,
                       struct api_err *err)
{
    return storage_fail(err, t->at.host, t->sr->row.ref, t->vdi->row.ref, operation, cause);
}

static int record_tracked(struct call *call, struct ref self, bool tracked, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_VDI, self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VDI, self);
    }
    vdi_row_mut(tx_edit(tx, CLASS_VDI, self))->cbt_enabled = tracked;
    task_note_done(tx, call, REF_NULL);
    return server_commit(tx, err);
}

int handle_vdi_enable_cbt(struct call *call, const struct vdi_enable_cbt_args *args, struct api_err *err)
{
    AUTO_TARGET struct target t = {.vdi = NULL};
    struct hv_changes_enable_args enable;
    struct hv_changes_enable_result result;
    struct hv_err cause;
    if (find_target(call, args->self, &t, err) < 0)
        return -1;
    if (t.vdi->cbt_enabled)
        return 0;
    if (find_agent(call, &t, err) < 0)
        return -1;
    hv_changes_enable_args_init(&enable);
    str_assign(&enable.sr, t.sr->uuid);
    str_assign(&enable.disk, t.vdi->uuid);
    int rc = hv_changes_enable(t.at.agent, &t.op.op, &enable, &result, &cause);
    hv_changes_enable_args_done(&enable);
    if (rc < 0)
        return fail_target(&t, "enable_cbt", &cause, err);
    hv_changes_enable_result_done(&result);
    return record_tracked(call, args->self, true, err);
}

int handle_vdi_disable_cbt(struct call *call, const struct vdi_disable_cbt_args *args, struct api_err *err)
{
    AUTO_TARGET struct target t = {.vdi = NULL};
    struct hv_changes_disable_args disable;
    struct hv_changes_disable_result result;
    struct hv_err cause;
    if (find_target(call, args->self, &t, err) < 0)
        return -1;
    if (!t.vdi->cbt_enabled)
        return 0;
    if (find_agent(call, &t, err) < 0)
        return -1;
    hv_changes_disable_args_init(&disable);
    str_assign(&disable.sr, t.sr->uuid);
    str_assign(&disable.disk, t.vdi->uuid);
    int rc = hv_changes_disable(t.at.agent, &t.op.op, &disable, &result, &cause);
    hv_changes_disable_args_done(&disable);
    if (rc < 0)
        return fail_target(&t, "disable_cbt", &cause, err);
    hv_changes_disable_result_done(&result);
    return record_tracked(call, args->self, false, err);
}

/* ---- data_destroy ---- */

static int check_unlinked(const struct vdi_row *vdi, struct api_err *err)
{
    return vdi->VBDs && vdi->VBDs->count ? err_vdi_in_use(err, REF_TEXT(vdi->row.ref), "data_destroy") : 0;
}

static int record_destroyed(struct call *call, const struct target *t, const struct sr_stats *stats,
                            struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    struct ref self = t->vdi->row.ref;
    const struct vdi_row *now = vdi_row(tx_get(tx, CLASS_VDI, self));
    if (!now) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VDI, self);
    }
    /* A VBD that came meanwhile leads nowhere any more. */
    AUTO_REF_SET const struct ref_set *vbds = ref_set_ref(now->VBDs);
    for (size_t i = 0; vbds && i < vbds->count; i++)
        if (tx_get(tx, CLASS_VBD, vbds->items[i]))
            tx_delete(tx, CLASS_VBD, vbds->items[i]);
    struct vdi_row *vdi = vdi_row_mut(tx_edit(tx, CLASS_VDI, self));
    vdi->type = VDI_TYPE_CBT_METADATA;
    vdi->physical_utilisation = 0;
    vdi->missing = false;
    if (stats)
        storage_apply_stats(tx, vdi->SR, stats);
    task_note_done(tx, call, REF_NULL);
    return server_commit(tx, err);
}

int handle_vdi_data_destroy(struct call *call, const struct vdi_data_destroy_args *args, struct api_err *err)
{
    AUTO_TARGET struct target t = {.vdi = NULL};
    struct hv_data_destroy_args destroy;
    struct hv_data_destroy_result result;
    struct hv_err cause;
    struct sr_stats stats;
    if (find_target(call, args->self, &t, err) < 0)
        return -1;
    if (t.vdi->type == VDI_TYPE_CBT_METADATA)
        return 0;
    if (check_unlinked(t.vdi, err) < 0 || find_agent(call, &t, err) < 0)
        return -1;
    hv_data_destroy_args_init(&destroy);
    str_assign(&destroy.sr, t.sr->uuid);
    str_assign(&destroy.disk, t.vdi->uuid);
    int rc = hv_data_destroy(t.at.agent, &t.op.op, &destroy, &result, &cause);
    hv_data_destroy_args_done(&destroy);
    if (rc < 0 && cause.kind == HV_ERR_KIND_BAD_STATE)
        return err_vdi_no_cbt_metadata(err, REF_TEXT(args->self));
    if (rc < 0)
        return fail_target(&t, "data_destroy", &cause, err);
    hv_data_destroy_result_done(&result);
    bool known = storage_read_stats(t.at.agent, t.sr->uuid, &stats);
    return record_destroyed(call, &t, known ? &stats : NULL, err);
}

/* ---- list_changed_blocks ---- */

static int unrelated(struct api_err *err, const char *why)
{
    AUTO_FREE char *text = xasprintf("Failed to calculate changed blocks for given VDIs. [opterr=%s]", why);
    return storage_fail_backend(err, BACKEND_FAILURE_UNRELATED, text);
}

int handle_vdi_list_changed_blocks(struct call *call, const struct vdi_list_changed_blocks_args *args,
                                   const char **result, struct api_err *err)
{
    AUTO_TARGET struct target t = {.vdi = NULL};
    struct hv_changes_list_args list;
    struct hv_changes_list_result listed;
    struct hv_err cause;
    const struct vdi_row *to = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, args->vdi_to));
    if (!to)
        return fail_handle(err, CLASS_VDI, args->vdi_to);
    if (find_target(call, args->vdi_from, &t, err) < 0)
        return -1;
    if (!t.vdi->cbt_enabled || !to->cbt_enabled)
        return unrelated(err, "Changed Block Tracking not enabled for source/target VDI");
    if (!ref_eq(to->SR, t.vdi->SR))
        return unrelated(err, "Source and target VDI are unrelated");
    if (find_agent(call, &t, err) < 0)
        return -1;
    hv_changes_list_args_init(&list);
    str_assign(&list.sr, t.sr->uuid);
    str_assign(&list.from, t.vdi->uuid);
    str_assign(&list.to, to->uuid);
    int rc = hv_changes_list(t.at.agent, &t.op.op, &list, &listed, &cause);
    hv_changes_list_args_done(&list);
    if (rc < 0 && cause.kind == HV_ERR_KIND_BAD_STATE)
        return unrelated(err, "Source and target VDI are unrelated");
    if (rc < 0 && cause.kind == HV_ERR_KIND_IN_USE)
        return err_vdi_in_use(err, REF_TEXT(args->vdi_to), "list_changed_blocks");
    if (rc < 0)
        return fail_target(&t, "list_changed_blocks", &cause, err);
    *result = str_new(listed.map);
    hv_changes_list_result_done(&listed);
    return 0;
}
