/* Rules of VDIs and SRs: they follow who uses them, and what the kind of SR can do (SM.features). */
#include "device.h"

#include "../server.h"
#include <base/mem.h>
#include <model/errors.h>

#define VDI_OP(name) (1u << VDI_OPERATIONS_##name)
#define SR_OP(name) (1u << STORAGE_OPERATIONS_##name)

/* ---- what the SR can do ---- */

struct kind_search {
    const char *type;
    const struct sm_row *sm;
};

static bool is_kind(const struct row *row, void *arg)
{
    struct kind_search *search = arg;
    if (streq(sm_row(row)->type, search->type))
        search->sm = sm_row(row);
    return !search->sm;
}

/* `feature` NULL: needs none. */
static bool sr_can(struct tx *tx, const struct sr_row *sr, const char *feature)
{
    struct kind_search search = {.type = sr->type};
    if (!feature)
        return true;
    tx_each(tx, CLASS_SM, is_kind, &search);
    return search.sm && str_map_get(search.sm->features, feature);
}

static bool sr_plugged(struct tx *tx, const struct sr_row *sr)
{
    for (size_t i = 0; sr && sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(tx_get(tx, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && pbd->currently_attached)
            return true;
    }
    return false;
}

/* ---- VDI ---- */

static const struct {
    const char *feature;
    bool live;      /* also while attached */
    bool agentless; /* changes rows alone */
} vdi_rules[] = {
    [VDI_OPERATIONS_CLONE] = {"VDI_CLONE", true, false},
    [VDI_OPERATIONS_COPY] = {NULL, false, false},
    [VDI_OPERATIONS_RESIZE] = {"VDI_RESIZE", false, false},
    [VDI_OPERATIONS_RESIZE_ONLINE] = {"VDI_RESIZE_ONLINE", true, false},
    [VDI_OPERATIONS_SNAPSHOT] = {"VDI_SNAPSHOT", true, false},
    [VDI_OPERATIONS_MIRROR] = {"VDI_MIRROR", true, false},
    [VDI_OPERATIONS_DESTROY] = {"VDI_DELETE", false, false},
    [VDI_OPERATIONS_FORGET] = {NULL, false, true},
    [VDI_OPERATIONS_UPDATE] = {"VDI_UPDATE", false, false},
    [VDI_OPERATIONS_FORCE_UNLOCK] = {NULL, false, true},
    [VDI_OPERATIONS_GENERATE_CONFIG] = {"VDI_GENERATE_CONFIG", false, false},
    [VDI_OPERATIONS_ENABLE_CBT] = {"VDI_CONFIG_CBT", true, false},
    [VDI_OPERATIONS_DISABLE_CBT] = {"VDI_CONFIG_CBT", true, false},
    [VDI_OPERATIONS_DATA_DESTROY] = {"VDI_CONFIG_CBT", true, false},
    [VDI_OPERATIONS_LIST_CHANGED_BLOCKS] = {"VDI_CONFIG_CBT", false, false},
    [VDI_OPERATIONS_SET_ON_BOOT] = {"VDI_RESET_ON_BOOT", false, false},
    [VDI_OPERATIONS_BLOCKED] = {NULL, true, true},
    [VDI_OPERATIONS_REVERT_TO] = {"VDI_CLONE", true, false},
    [VDI_OPERATIONS_REVERT_FROM] = {"VDI_CLONE", false, false},
};

static int check_vdi_running(const struct vdi_row *vdi, enum vdi_operations op, const struct refusals *all,
                             struct api_err *err)
{
    for (size_t i = 0; vdi->current_operations && i < vdi->current_operations->count; i++) {
        const struct str_pair *running = &vdi->current_operations->pairs[i];
        if (streq(running->value, "copy") && op == VDI_OPERATIONS_COPY)
            continue; /* two copies of one disk go side by side */
        if (streq(running->value, "mirror") && op == VDI_OPERATIONS_DESTROY)
            continue;
        if (refused(all, operation_in_the_way(err, &vdi->row, running), err))
            return -1;
    }
    return 0;
}

/* A VM that starts takes its disks before its row says so. */
static const struct str_pair *starting(const struct vm_row *vm)
{
    for (size_t i = 0; vm && vm->current_operations && i < vm->current_operations->count; i++) {
        const struct str_pair *running = &vm->current_operations->pairs[i];
        if (streq(running->value, "start") || streq(running->value, "start_on"))
            return running;
    }
    return NULL;
}

/* What is being done to a drive that has the disk. */
static int check_drive_busy(const struct vdi_row *vdi, const struct vbd_row *vbd, const struct vm_row *vm,
                            struct api_err *err)
{
    if (vbd->current_operations)
        return err_other_operation_in_progress(err, "VDI", REF_TEXT(vdi->row.ref),
                                               vbd->current_operations->pairs[0].value,
                                               vbd->current_operations->pairs[0].key);
    return starting(vm) ? operation_in_the_way(err, &vm->row, starting(vm)) : 0;
}

/* Who has the disk attached, or is about to change that. */
static int check_attachments(struct tx *tx, const struct vdi_row *vdi, enum vdi_operations op,
                             const struct refusals *all, struct api_err *err)
{
    bool attached = false, written = false;
    for (size_t i = 0; vdi->VBDs && i < vdi->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vdi->VBDs->items[i]));
        if (!vbd)
            continue;
        const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, vbd->VM));
        if (refused(all, check_drive_busy(vdi, vbd, vm, err), err))
            return -1;
        attached |= vbd->currently_attached;
        written |= vbd->currently_attached && vbd->mode == VBD_MODE_RW;
    }
    if (!attached || vdi_rules[op].live || (op == VDI_OPERATIONS_COPY && !written))
        return 0;
    return err_vdi_in_use(err, REF_TEXT(vdi->row.ref), model_enum_vdi_operations.values[op]);
}

static bool is_ha_disk(const struct vdi_row *vdi)
{
    return vdi->type == VDI_TYPE_HA_STATEFILE || vdi->type == VDI_TYPE_REDO_LOG;
}

static bool ha_pool(const struct row *row, void *arg)
{
    *(bool *)arg = pool_row(row)->ha_enabled;
    return false;
}

static bool ha_is_on(struct tx *tx, const struct vdi_row *vdi)
{
    bool on = false;
    if (is_ha_disk(vdi))
        tx_each(tx, CLASS_pool, ha_pool, &on);
    return on;
}

/* Changed blocks are told of disks that stay, and of what is no snapshot. */
static int check_tracking(const struct vdi_row *vdi, const struct refusals *all, struct api_err *err)
{
    if (vdi->is_a_snapshot) {
        AUTO_FREE char *text = xasprintf("VDI is a snapshot: %s", REF_TEXT(vdi->row.ref));
        if (refused(all, err_operation_not_allowed(err, text), err))
            return -1;
    }
    if (vdi->type != VDI_TYPE_USER && vdi->type != VDI_TYPE_SYSTEM &&
        refused(all,
                err_vdi_incompatible_type(err, REF_TEXT(vdi->row.ref), model_enum_vdi_type.values[vdi->type]),
                err))
        return -1;
    return vdi->on_boot == ON_BOOT_RESET ? err_vdi_on_boot_mode_incompatible_with_operation(err) : 0;
}

static int check_data_destroy(const struct vdi_row *vdi, const struct refusals *all, struct api_err *err)
{
    if (!vdi->is_a_snapshot) {
        AUTO_FREE char *text = xasprintf("VDI is not a snapshot: %s", REF_TEXT(vdi->row.ref));
        if (refused(all, err_operation_not_allowed(err, text), err))
            return -1;
    }
    return vdi->cbt_enabled ? 0 : err_vdi_no_cbt_metadata(err, REF_TEXT(vdi->row.ref));
}

static int check_cbt(const struct vdi_row *vdi, enum vdi_operations op, const struct refusals *all,
                     struct api_err *err)
{
    const char *self = REF_TEXT(vdi->row.ref);
    const unsigned of_metadata = VDI_OP(BLOCKED) | VDI_OP(DATA_DESTROY) | VDI_OP(DESTROY) |
                                 VDI_OP(LIST_CHANGED_BLOCKS) | VDI_OP(FORCE_UNLOCK) | VDI_OP(FORGET) |
                                 VDI_OP(GENERATE_CONFIG) | VDI_OP(UPDATE);
    if (vdi->type == VDI_TYPE_CBT_METADATA && !(1u << op & of_metadata) &&
        refused(all, err_vdi_incompatible_type(err, self, "cbt_metadata"), err))
        return -1;
    if (vdi->cbt_enabled && 1u << op & (VDI_OP(MIRROR) | VDI_OP(SET_ON_BOOT)) &&
        refused(all, err_vdi_cbt_enabled(err, self), err))
        return -1;
    if (op == VDI_OPERATIONS_ENABLE_CBT || op == VDI_OPERATIONS_DISABLE_CBT)
        return check_tracking(vdi, all, err);
    return op == VDI_OPERATIONS_DATA_DESTROY ? check_data_destroy(vdi, all, err) : 0;
}

/* What the disk itself is, for each operation. */
static int check_destroy(const struct vdi_row *vdi, const struct sr_row *sr, struct api_err *err)
{
    if (streq(sr->type, "udev"))
        return err_vdi_is_a_physical_device(err, REF_TEXT(vdi->row.ref));
    return sr->is_tools_sr ? err_sr_operation_not_supported(err, REF_TEXT(sr->row.ref)) : 0;
}

static int check_copied(const struct vdi_row *vdi, enum vdi_operations op, const struct refusals *all,
                        struct api_err *err)
{
    if (op == VDI_OPERATIONS_SNAPSHOT && vdi->sharable && refused(all, err_vdi_is_sharable(err), err))
        return -1;
    if (vdi->on_boot == ON_BOOT_RESET &&
        refused(all, err_vdi_on_boot_mode_incompatible_with_operation(err), err))
        return -1;
    if (op == VDI_OPERATIONS_COPY && is_ha_disk(vdi))
        return err_operation_not_allowed(err, "VDI containing HA statefile or redo log cannot be copied "
                                              "(check the VDI's allowed operations).");
    return 0;
}

static int check_vdi_kind(struct tx *tx, const struct vdi_row *vdi, const struct sr_row *sr,
                          enum vdi_operations op, const struct refusals *all, struct api_err *err)
{
    if (op == VDI_OPERATIONS_DESTROY && refused(all, check_destroy(vdi, sr, err), err))
        return -1;
    if ((op == VDI_OPERATIONS_SNAPSHOT || op == VDI_OPERATIONS_COPY) &&
        refused(all, check_copied(vdi, op, all, err), err))
        return -1;
    if (op == VDI_OPERATIONS_DESTROY || op == VDI_OPERATIONS_FORGET) {
        if (vdi->type == VDI_TYPE_RRD && refused(all, err_vdi_has_rrds(err, REF_TEXT(vdi->row.ref)), err))
            return -1;
        if (ha_is_on(tx, vdi) && refused(all, err_ha_is_enabled(err), err))
            return -1;
    }
    return check_cbt(vdi, op, all, err);
}

int vdi_operation_check(struct tx *tx, const struct vdi_row *vdi, enum vdi_operations op,
                        const struct refusals *all, struct api_err *err)
{
    const struct sr_row *sr = sr_row(tx_get(tx, CLASS_SR, vdi->SR));
    if (!sr)
        return fail_handle(err, CLASS_SR, vdi->SR);
    if (vdi_upload_is_open(vdi) && /* what the disk holds is not what it is to be */
        refused(all, err_vdi_in_use(err, REF_TEXT(vdi->row.ref), "import"), err))
        return -1;
    if (check_vdi_running(vdi, op, all, err) < 0 ||
        refused(all, check_attachments(tx, vdi, op, all, err), err))
        return -1;
    if (!vdi_rules[op].agentless && !sr_plugged(tx, sr) &&
        refused(all, err_sr_has_no_pbds(err, REF_TEXT(vdi->SR)), err))
        return -1;
    /* Files of an ISO library are not disks that agents copy. */
    bool no_copy = op == VDI_OPERATIONS_COPY && streq(sr->type, "iso");
    if ((no_copy || !sr_can(tx, sr, vdi_rules[op].feature)) &&
        refused(all, err_sr_operation_not_supported(err, REF_TEXT(vdi->SR)), err))
        return -1;
    return check_vdi_kind(tx, vdi, sr, op, all, err);
}

/* ---- SR ---- */

/* What the kind of SR must be able to do; NULL: nothing. */
static const char *const sr_features[] = {
    [STORAGE_OPERATIONS_SCAN] = "SR_SCAN",
    [STORAGE_OPERATIONS_DESTROY] = "SR_DELETE",
    [STORAGE_OPERATIONS_UPDATE] = "SR_UPDATE",
    [STORAGE_OPERATIONS_VDI_CREATE] = "VDI_CREATE",
    [STORAGE_OPERATIONS_VDI_INTRODUCE] = "VDI_INTRODUCE",
    [STORAGE_OPERATIONS_VDI_DESTROY] = "VDI_DELETE",
    [STORAGE_OPERATIONS_VDI_RESIZE] = "VDI_RESIZE",
    [STORAGE_OPERATIONS_VDI_CLONE] = "VDI_CLONE",
    [STORAGE_OPERATIONS_VDI_SNAPSHOT] = "VDI_SNAPSHOT",
    [STORAGE_OPERATIONS_VDI_MIRROR] = "VDI_MIRROR",
    [STORAGE_OPERATIONS_VDI_ENABLE_CBT] = "VDI_CONFIG_CBT",
    [STORAGE_OPERATIONS_VDI_DISABLE_CBT] = "VDI_CONFIG_CBT",
    [STORAGE_OPERATIONS_VDI_DATA_DESTROY] = "VDI_CONFIG_CBT",
    [STORAGE_OPERATIONS_VDI_LIST_CHANGED_BLOCKS] = "VDI_CONFIG_CBT",
    [STORAGE_OPERATIONS_VDI_SET_ON_BOOT] = "VDI_RESET_ON_BOOT",
    [STORAGE_OPERATIONS_VDI_REVERT] = "VDI_CLONE",
};

static int check_sr_destroy(struct tx *tx, const struct sr_row *sr, bool plugged, const struct refusals *all,
                            struct api_err *err)
{
    if (plugged && refused(all, err_sr_has_pbd(err, REF_TEXT(sr->row.ref)), err))
        return -1;
    if (!sr->PBDs && refused(all, err_sr_has_no_pbds(err, REF_TEXT(sr->row.ref)), err))
        return -1;
    for (size_t i = 0; sr->VDIs && i < sr->VDIs->count; i++) {
        const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, sr->VDIs->items[i]));
        if (vdi && vdi->managed && vdi->type != VDI_TYPE_RRD)
            return err_sr_not_empty(err);
    }
    return 0;
}

/* What its kind never does. */
static int check_sr_kind(struct tx *tx, const struct sr_row *sr, enum storage_operations op,
                         struct api_err *err)
{
    if ((sr->is_tools_sr && 1u << op & (SR_OP(VDI_CREATE) | SR_OP(VDI_DESTROY))) ||
        (op < ARRAY_LEN(sr_features) && !sr_can(tx, sr, sr_features[op])))
        return err_sr_operation_not_supported(err, REF_TEXT(sr->row.ref));
    return 0;
}

int sr_operation_check(struct tx *tx, const struct sr_row *sr, enum storage_operations op,
                       const struct refusals *all, struct api_err *err)
{
    const char *self = REF_TEXT(sr->row.ref);
    bool plugged = sr_plugged(tx, sr);
    const unsigned of_disks = SR_OP(SCAN) | SR_OP(UPDATE) | SR_OP(VDI_CREATE) | SR_OP(VDI_INTRODUCE) |
                              SR_OP(VDI_DESTROY) | SR_OP(VDI_RESIZE) | SR_OP(VDI_CLONE) | SR_OP(VDI_SNAPSHOT);
    if (refused(all, check_sr_kind(tx, sr, op, err), err))
        return -1;
    if (op == STORAGE_OPERATIONS_FORGET && plugged && refused(all, err_sr_has_pbd(err, self), err))
        return -1;
    if (op == STORAGE_OPERATIONS_DESTROY && refused(all, check_sr_destroy(tx, sr, plugged, all, err), err))
        return -1;
    if (1u << op & of_disks && !plugged && refused(all, err_sr_has_no_pbds(err, self), err))
        return -1;
    for (size_t i = 0; sr->current_operations && i < sr->current_operations->count; i++)
        if ((!streq(sr->current_operations->pairs[i].value, "plug") || op != STORAGE_OPERATIONS_PLUG) &&
            refused(all, operation_in_the_way(err, &sr->row, &sr->current_operations->pairs[i]), err))
            return -1;
    return 0;
}
