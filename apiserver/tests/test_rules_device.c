/* What VBDs, VIFs, VDIs and SRs allow, by the state of what they hang on. */
#include "told.h"

#include <base/mem.h>
#include <criterion/criterion.h>
#include <db/store.h>
#include <handlers/storage.h>
#include <model/errors.h>
#include <model/rows.h>
#include <rules/device.h>
#include <rules/operations.h>
#include <rules/vm.h>

static struct store *store;
static struct tx *tx;

static void start(void)
{
    struct store_err err;
    const struct store_config config = {.path = NULL};
    cr_assert_eq(store_open(&store, &config, &err), 0);
    tx = store_begin(store);
    storage_bootstrap(tx);
}

static void stop(void)
{
    tx_abort(tx);
    store_close(store);
}

TestSuite(device, .init = start, .fini = stop);

static const char *verdict(const struct row *row, int operation)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct told told = TOLD_INIT;
    int rc = device_operation_check(tx, row, operation, &err);
    device_operation_refusals(tx, row, operation, &(struct refusals){told_add, &told});
    told_agrees(&told, rc, &err);
    if (rc == 0)
        return "";
    const struct error_desc *desc = error_find(err.code);
    cr_assert_not_null(desc, "%s", err.code);
    return desc->code;
}

Test(device, vbd)
{
    enum {
        HALTED = VM_POWER_STATE_HALTED,
        PAUSED = VM_POWER_STATE_PAUSED,
        RUNNING = VM_POWER_STATE_RUNNING,
        SUSPENDED = VM_POWER_STATE_SUSPENDED
    };
    static const struct {
        int state, type, operation;
        bool empty, attached, unpluggable;
        const char *wanted;
    } table[] = {
        {HALTED, VBD_TYPE_CD, VBD_OPERATIONS_INSERT, true, false, true, ""},
        {RUNNING, VBD_TYPE_CD, VBD_OPERATIONS_INSERT, true, true, true, ""},
        {SUSPENDED, VBD_TYPE_CD, VBD_OPERATIONS_INSERT, true, false, true, "VM_BAD_POWER_STATE"},
        {HALTED, VBD_TYPE_CD, VBD_OPERATIONS_INSERT, false, false, true, "VBD_NOT_EMPTY"},
        {HALTED, VBD_TYPE_CD, VBD_OPERATIONS_EJECT, false, false, true, ""},
        {RUNNING, VBD_TYPE_CD, VBD_OPERATIONS_EJECT, false, true, true, ""},
        {HALTED, VBD_TYPE_CD, VBD_OPERATIONS_EJECT, true, false, true, "VBD_IS_EMPTY"},
        {RUNNING, VBD_TYPE_DISK, VBD_OPERATIONS_INSERT, true, true, true, "VBD_NOT_REMOVABLE_MEDIA"},
        {RUNNING, VBD_TYPE_DISK, VBD_OPERATIONS_EJECT, false, true, true, "VBD_NOT_REMOVABLE_MEDIA"},
        {HALTED, VBD_TYPE_DISK, VBD_OPERATIONS_PLUG, false, false, true, "VM_BAD_POWER_STATE"},
        {RUNNING, VBD_TYPE_DISK, VBD_OPERATIONS_PLUG, false, false, true, ""},
        {RUNNING, VBD_TYPE_DISK, VBD_OPERATIONS_PLUG, false, true, true, "DEVICE_ALREADY_ATTACHED"},
        {RUNNING, VBD_TYPE_DISK, VBD_OPERATIONS_UNPLUG, false, true, true, ""},
        {RUNNING, VBD_TYPE_DISK, VBD_OPERATIONS_UNPLUG, false, false, true, "DEVICE_ALREADY_DETACHED"},
        {RUNNING, VBD_TYPE_DISK, VBD_OPERATIONS_UNPLUG, false, true, false, "VBD_NOT_UNPLUGGABLE"},
        {HALTED, VBD_TYPE_DISK, VBD_OPERATIONS_UNPLUG, false, true, true, "VM_BAD_POWER_STATE"},
        {SUSPENDED, VBD_TYPE_CD, VBD_OPERATIONS_EJECT, false, true, true, "VM_BAD_POWER_STATE"},
        {RUNNING, VBD_TYPE_CD, VBD_OPERATIONS_PLUG, true, false, true, "OPERATION_NOT_ALLOWED"},
        {RUNNING, VBD_TYPE_CD, VBD_OPERATIONS_UNPLUG, true, true, true, "OPERATION_NOT_ALLOWED"},
        {RUNNING, VBD_TYPE_DISK, VBD_OPERATIONS_UNPLUG_FORCE, false, true, false, "VBD_NOT_UNPLUGGABLE"},
        {RUNNING, VBD_TYPE_DISK, VBD_OPERATIONS_PAUSE, false, true, true, ""},
        {PAUSED, VBD_TYPE_DISK, VBD_OPERATIONS_PAUSE, false, true, true, ""},
        {PAUSED, VBD_TYPE_DISK, VBD_OPERATIONS_PLUG, false, false, true, "VM_BAD_POWER_STATE"},
        {HALTED, VBD_TYPE_DISK, VBD_OPERATIONS_UNPAUSE, false, false, true, "VM_BAD_POWER_STATE"},
        {HALTED, VBD_TYPE_DISK, VBD_OPERATIONS_ATTACH, false, false, true, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
        struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
        vm->power_state = (enum vm_power_state)table[i].state;
        vbd->VM = vm->row.ref;
        vbd->type = (enum vbd_type)table[i].type;
        vbd->empty = table[i].empty;
        vbd->currently_attached = table[i].attached;
        vbd->unpluggable = table[i].unpluggable;
        cr_assert_str_eq(verdict(&vbd->row, table[i].operation), table[i].wanted, "row %zu", i);
    }
    struct vbd_row *orphan = vbd_row_mut(tx_create(tx, CLASS_VBD));
    cr_assert_str_eq(verdict(&orphan->row, VBD_OPERATIONS_PLUG), "HANDLE_INVALID");
}

Test(device, vif)
{
    for (int running = 0; running < 2; running++)
        for (int attached = 0; attached < 2; attached++) {
            struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
            struct vif_row *vif = vif_row_mut(tx_create(tx, CLASS_VIF));
            vm->power_state = running ? VM_POWER_STATE_RUNNING : VM_POWER_STATE_HALTED;
            vif->VM = vm->row.ref;
            vif->currently_attached = attached;
            cr_assert_str_eq(verdict(&vif->row, VIF_OPERATIONS_PLUG), !running   ? "VM_BAD_POWER_STATE"
                                                                      : attached ? "DEVICE_ALREADY_ATTACHED"
                                                                                 : "");
            cr_assert_str_eq(verdict(&vif->row, VIF_OPERATIONS_UNPLUG), !running ? "VM_BAD_POWER_STATE"
                                                                        : attached
                                                                            ? ""
                                                                            : "DEVICE_ALREADY_DETACHED");
        }
}

/* The store fills the sets of relations when a transaction ends: rules see them in the next one. */
static void next_tx(void)
{
    struct store_err err;
    cr_assert_eq(tx_commit(tx, NULL, &err), 0);
    tx = store_begin(store);
}

struct storage {
    struct ref sr, pbd, vdi, vbd;
};

static struct storage make_storage(const char *type, bool plugged, bool disk, bool attached)
{
    struct storage s = {0};
    struct sr_row *sr = sr_row_mut(tx_create(tx, CLASS_SR));
    struct pbd_row *pbd = pbd_row_mut(tx_create(tx, CLASS_PBD));
    str_assign(&sr->type, type);
    pbd->SR = sr->row.ref;
    pbd->host = tx_create(tx, CLASS_host)->ref;
    pbd->currently_attached = plugged;
    s.sr = sr->row.ref;
    s.pbd = pbd->row.ref;
    if (disk) {
        struct vdi_row *vdi = vdi_row_mut(tx_create(tx, CLASS_VDI));
        struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
        vdi->SR = s.sr;
        vdi->managed = true;
        vbd->mode = VBD_MODE_RW;
        vbd->VDI = s.vdi = vdi->row.ref;
        vbd->VM = tx_create(tx, CLASS_VM)->ref;
        vbd->currently_attached = attached;
        s.vbd = vbd->row.ref;
    }
    next_tx();
    return s;
}

Test(device, vdi)
{
    static const struct {
        const char *type;
        bool plugged, attached;
        int operation;
        const char *wanted;
    } table[] = {
        {"file", true, false, VDI_OPERATIONS_DESTROY, ""},
        {"file", true, true, VDI_OPERATIONS_DESTROY, "VDI_IN_USE"},
        {"file", true, true, VDI_OPERATIONS_RESIZE, "VDI_IN_USE"},
        {"file", true, true, VDI_OPERATIONS_COPY, "VDI_IN_USE"},
        {"file", true, true, VDI_OPERATIONS_SNAPSHOT, ""},
        {"file", false, false, VDI_OPERATIONS_DESTROY, "SR_HAS_NO_PBDS"},
        {"file", false, false, VDI_OPERATIONS_FORGET, ""},
        {"iso", true, false, VDI_OPERATIONS_DESTROY, "SR_OPERATION_NOT_SUPPORTED"},
        {"iso", true, false, VDI_OPERATIONS_RESIZE, "SR_OPERATION_NOT_SUPPORTED"},
        {"iso", true, false, VDI_OPERATIONS_UPDATE, ""},
        {"iso", true, false, VDI_OPERATIONS_FORGET, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct storage s = make_storage(table[i].type, table[i].plugged, true, table[i].attached);
        cr_assert_str_eq(verdict(tx_get(tx, CLASS_VDI, s.vdi), table[i].operation), table[i].wanted,
                         "row %zu", i);
    }
}

Test(device, sr)
{
    static const struct {
        const char *type;
        bool plugged, disk;
        int operation;
        const char *wanted;
    } table[] = {
        {"file", true, false, STORAGE_OPERATIONS_SCAN, ""},
        {"file", false, false, STORAGE_OPERATIONS_SCAN, "SR_HAS_NO_PBDS"},
        {"file", true, false, STORAGE_OPERATIONS_FORGET, "SR_HAS_PBD"},
        {"file", false, true, STORAGE_OPERATIONS_FORGET, ""},
        {"file", true, false, STORAGE_OPERATIONS_DESTROY, "SR_HAS_PBD"},
        {"file", false, false, STORAGE_OPERATIONS_DESTROY, ""},
        {"file", false, true, STORAGE_OPERATIONS_DESTROY, "SR_NOT_EMPTY"},
        {"iso", false, false, STORAGE_OPERATIONS_DESTROY, "SR_OPERATION_NOT_SUPPORTED"},
        {"iso", true, false, STORAGE_OPERATIONS_VDI_CREATE, "SR_OPERATION_NOT_SUPPORTED"},
        {"file", true, false, STORAGE_OPERATIONS_VDI_CREATE, ""},
        {"file", false, false, STORAGE_OPERATIONS_VDI_CREATE, "SR_HAS_NO_PBDS"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct storage s = make_storage(table[i].type, table[i].plugged, table[i].disk, false);
        cr_assert_str_eq(verdict(tx_get(tx, CLASS_SR, s.sr), table[i].operation), table[i].wanted, "row %zu",
                         i);
    }
}

/* An operation under way excludes others on the same object and is offered no more; the mark's end opens it.
 */
Test(device, marks)
{
    struct storage s = make_storage("file", true, true, false);
    struct ref task = tx_create(tx, CLASS_task)->ref;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    cr_assert_eq(operation_check(tx, CLASS_VDI, s.vdi, VDI_OPERATIONS_COPY, &err), 0);
    operation_mark(tx, CLASS_VDI, s.vdi, task, VDI_OPERATIONS_COPY);
    cr_assert_eq(operation_check(tx, CLASS_VDI, s.vdi, VDI_OPERATIONS_DESTROY, &err), -1);
    cr_assert_str_eq(err.code, "OTHER_OPERATION_IN_PROGRESS");
    cr_assert_str_eq(err.params[0], "VDI");
    cr_assert_str_eq(err.params[1], REF_TEXT(s.vdi));
    cr_assert_str_eq(err.params[2], "copy");
    cr_assert_str_eq(err.params[3], REF_TEXT(task));
    operations_refresh(tx, CLASS_VDI, s.vdi);
    /* Copies of one disk go side by side. */
    cr_assert_eq(vdi_row(tx_get(tx, CLASS_VDI, s.vdi))->allowed_operations, 1u << VDI_OPERATIONS_COPY);
    operation_unmark(tx, CLASS_VDI, s.vdi, task);
    operations_refresh(tx, CLASS_VDI, s.vdi);
    cr_assert_neq(vdi_row(tx_get(tx, CLASS_VDI, s.vdi))->allowed_operations & (1u << VDI_OPERATIONS_DESTROY),
                  0);
    cr_assert_eq(operation_check(tx, CLASS_VDI, s.vdi, VDI_OPERATIONS_DESTROY, &err), 0);
    operation_unmark(tx, CLASS_VDI, s.vdi, task); /* twice does no harm, nor on what is gone */
    operation_unmark(tx, CLASS_VDI, REF_NULL, task);
}

/* A device while its VM does something else, and while the guest says that it cannot take any. */
Test(device, plugging_and_the_vm)
{
    static const struct {
        const char *running; /* on the VM */
        enum tristate_type hotplug;
        const char *wanted;
    } table[] = {
        {NULL, TRISTATE_TYPE_UNSPECIFIED, ""},
        {NULL, TRISTATE_TYPE_YES, ""},
        {NULL, TRISTATE_TYPE_NO, "OPERATION_NOT_ALLOWED"},
        {"clean_shutdown", TRISTATE_TYPE_YES, "OPERATION_NOT_ALLOWED"},
        {"hard_shutdown", TRISTATE_TYPE_YES, "OPERATION_NOT_ALLOWED"},
        {"suspend", TRISTATE_TYPE_YES, "OPERATION_NOT_ALLOWED"},
        {"pause", TRISTATE_TYPE_YES, "OPERATION_NOT_ALLOWED"},
        {"snapshot", TRISTATE_TYPE_YES, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
        struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
        struct vif_row *vif = vif_row_mut(tx_create(tx, CLASS_VIF));
        struct vm_guest_metrics_row *guest = vm_guest_metrics_row_mut(tx_create(tx, CLASS_VM_guest_metrics));
        vm->power_state = VM_POWER_STATE_RUNNING;
        vm->guest_metrics = guest->row.ref;
        guest->can_use_hotplug_vbd = guest->can_use_hotplug_vif = table[i].hotplug;
        if (table[i].running)
            str_map_put(&vm->current_operations, "OpaqueRef:t", table[i].running);
        vbd->VM = vif->VM = vm->row.ref;
        vbd->type = VBD_TYPE_DISK;
        cr_expect_str_eq(verdict(&vbd->row, VBD_OPERATIONS_PLUG), table[i].wanted, "VBD, row %zu", i);
        cr_expect_str_eq(verdict(&vif->row, VIF_OPERATIONS_PLUG), table[i].wanted, "VIF, row %zu", i);
    }
}

/* Who may have one disk at the same time. */
Test(device, sharing)
{
    static const struct {
        bool sharable, read_only, managed;
        enum vbd_mode mine, other;
        bool other_attached;
        const char *copying; /* operation on the VDI */
        const char *wanted;
    } table[] = {
        {false, false, true, VBD_MODE_RW, VBD_MODE_RW, false, NULL, ""},
        {false, false, true, VBD_MODE_RW, VBD_MODE_RW, true, NULL, "VDI_IN_USE"},
        {false, false, true, VBD_MODE_RW, VBD_MODE_RO, true, NULL, "VDI_IN_USE"},
        {false, false, true, VBD_MODE_RO, VBD_MODE_RW, true, NULL, "VDI_IN_USE"},
        {false, false, true, VBD_MODE_RO, VBD_MODE_RO, true, NULL, ""},
        {true, false, true, VBD_MODE_RW, VBD_MODE_RW, true, NULL, ""},
        {false, true, true, VBD_MODE_RW, VBD_MODE_RW, false, NULL, "VDI_READONLY"},
        {false, true, true, VBD_MODE_RO, VBD_MODE_RW, false, NULL, ""},
        {false, false, false, VBD_MODE_RW, VBD_MODE_RW, false, NULL, "VDI_NOT_MANAGED"},
        {false, false, true, VBD_MODE_RW, VBD_MODE_RW, false, "resize", "OTHER_OPERATION_IN_PROGRESS"},
        {false, false, true, VBD_MODE_RW, VBD_MODE_RW, false, "copy", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
        struct vdi_row *vdi = vdi_row_mut(tx_create(tx, CLASS_VDI));
        struct vbd_row *mine = vbd_row_mut(tx_create(tx, CLASS_VBD));
        struct vbd_row *other = vbd_row_mut(tx_create(tx, CLASS_VBD));
        vm->power_state = VM_POWER_STATE_RUNNING;
        vdi->sharable = table[i].sharable;
        vdi->read_only = table[i].read_only;
        vdi->managed = table[i].managed;
        if (table[i].copying)
            str_map_put(&vdi->current_operations, "OpaqueRef:t", table[i].copying);
        mine->VM = other->VM = vm->row.ref;
        mine->VDI = other->VDI = vdi->row.ref;
        mine->type = other->type = VBD_TYPE_DISK;
        mine->mode = table[i].mine;
        other->mode = table[i].other;
        other->currently_attached = table[i].other_attached;
        struct ref ref = mine->row.ref;
        next_tx();
        cr_expect_str_eq(verdict(tx_get(tx, CLASS_VBD, ref), VBD_OPERATIONS_PLUG), table[i].wanted, "row %zu",
                         i);
        cr_expect_str_eq(verdict(tx_get(tx, CLASS_VBD, ref), VBD_OPERATIONS_ATTACH), table[i].wanted,
                         "row %zu", i);
    }
}

/* Every operation on a VDI while every other runs on it: all exclude each other but two copies, and a
 * mirrored disk may go. */
Test(device, operations_on_one_disk)
{
    struct storage s = make_storage("file", true, true, false);
    for (int running = 0; running < model_enum_vdi_operations.count; running++) {
        struct vdi_row *vdi = vdi_row_mut(tx_edit(tx, CLASS_VDI, s.vdi));
        str_map_assign(&vdi->current_operations, NULL);
        str_map_put(&vdi->current_operations, "OpaqueRef:t", model_enum_vdi_operations.values[running]);
        for (int op = 0; op < model_enum_vdi_operations.count; op++) {
            bool beside = (running == VDI_OPERATIONS_COPY && op == VDI_OPERATIONS_COPY) ||
                          (running == VDI_OPERATIONS_MIRROR && op == VDI_OPERATIONS_DESTROY);
            cr_expect_eq(streq(verdict(&vdi->row, op), "OTHER_OPERATION_IN_PROGRESS"), !beside, "%s while %s",
                         model_enum_vdi_operations.values[op], model_enum_vdi_operations.values[running]);
        }
    }
}

/* What kind of disk allows what. */
Test(device, kinds_of_disk)
{
    static const struct {
        int operation;
        enum vdi_type type;
        bool sharable, snapshot, reset, ha;
        const char *wanted;
    } table[] = {
        {VDI_OPERATIONS_SNAPSHOT, VDI_TYPE_USER, false, false, false, false, ""},
        {VDI_OPERATIONS_SNAPSHOT, VDI_TYPE_USER, true, false, false, false, "VDI_IS_SHARABLE"},
        {VDI_OPERATIONS_SNAPSHOT, VDI_TYPE_USER, false, false, true, false,
         "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION"},
        {VDI_OPERATIONS_COPY, VDI_TYPE_USER, false, false, true, false,
         "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION"},
        {VDI_OPERATIONS_COPY, VDI_TYPE_REDO_LOG, false, false, false, false, "OPERATION_NOT_ALLOWED"},
        {VDI_OPERATIONS_DESTROY, VDI_TYPE_RRD, false, false, false, false, "VDI_HAS_RRDS"},
        {VDI_OPERATIONS_DESTROY, VDI_TYPE_HA_STATEFILE, false, false, false, false, ""},
        {VDI_OPERATIONS_DESTROY, VDI_TYPE_HA_STATEFILE, false, false, false, true, "HA_IS_ENABLED"},
        {VDI_OPERATIONS_FORGET, VDI_TYPE_REDO_LOG, false, false, false, true, "HA_IS_ENABLED"},
        {VDI_OPERATIONS_ENABLE_CBT, VDI_TYPE_USER, false, false, false, false, ""},
        {VDI_OPERATIONS_ENABLE_CBT, VDI_TYPE_USER, false, true, false, false, "OPERATION_NOT_ALLOWED"},
        {VDI_OPERATIONS_ENABLE_CBT, VDI_TYPE_METADATA, false, false, false, false, "VDI_INCOMPATIBLE_TYPE"},
        {VDI_OPERATIONS_DISABLE_CBT, VDI_TYPE_USER, false, false, true, false,
         "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION"},
        {VDI_OPERATIONS_DATA_DESTROY, VDI_TYPE_USER, false, false, false, false, "OPERATION_NOT_ALLOWED"},
        {VDI_OPERATIONS_DATA_DESTROY, VDI_TYPE_USER, false, true, false, false, "VDI_NO_CBT_METADATA"},
        {VDI_OPERATIONS_CLONE, VDI_TYPE_CBT_METADATA, false, true, false, false, "VDI_INCOMPATIBLE_TYPE"},
        {VDI_OPERATIONS_SET_ON_BOOT, VDI_TYPE_USER, false, false, false, false, "SR_OPERATION_NOT_SUPPORTED"},
        {VDI_OPERATIONS_RESIZE_ONLINE, VDI_TYPE_USER, false, false, false, false,
         "SR_OPERATION_NOT_SUPPORTED"},
        {VDI_OPERATIONS_BLOCKED, VDI_TYPE_USER, false, false, false, false, ""},
    };
    struct ref pool = tx_create(tx, CLASS_pool)->ref;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct storage s = make_storage("file", true, true, false);
        struct vdi_row *vdi = vdi_row_mut(tx_edit(tx, CLASS_VDI, s.vdi));
        pool_row_mut(tx_edit(tx, CLASS_pool, pool))->ha_enabled = table[i].ha;
        vdi->type = table[i].type;
        vdi->sharable = table[i].sharable;
        vdi->is_a_snapshot = table[i].snapshot;
        vdi->on_boot = table[i].reset ? ON_BOOT_RESET : ON_BOOT_PERSIST;
        cr_expect_str_eq(verdict(&vdi->row, table[i].operation), table[i].wanted, "row %zu", i);
    }
}

/* Every operation on a host while every other runs on it. */
Test(device, hosts)
{
    enum { CREATES = 1, REMOVES = 2, ENDS = 4 };
    static const int kind[] = {
        [HOST_ALLOWED_OPERATIONS_PROVISION] = CREATES,
        [HOST_ALLOWED_OPERATIONS_EVACUATE] = REMOVES,
        [HOST_ALLOWED_OPERATIONS_SHUTDOWN] = REMOVES | ENDS,
        [HOST_ALLOWED_OPERATIONS_REBOOT] = REMOVES | ENDS,
        [HOST_ALLOWED_OPERATIONS_POWER_ON] = 0,
        [HOST_ALLOWED_OPERATIONS_VM_START] = CREATES,
        [HOST_ALLOWED_OPERATIONS_VM_RESUME] = CREATES,
        [HOST_ALLOWED_OPERATIONS_VM_MIGRATE] = CREATES,
        [HOST_ALLOWED_OPERATIONS_APPLY_UPDATES] = ENDS,
        [HOST_ALLOWED_OPERATIONS_ENABLE] = 0,
    };
    struct host_row *host = host_row_mut(tx_create(tx, CLASS_host));
    str_assign(&host->power_on_mode, "wake-on-lan");
    for (int running = 0; running < model_enum_host_allowed_operations.count; running++) {
        str_map_assign(&host->current_operations, NULL);
        str_map_put(&host->current_operations, "OpaqueRef:t",
                    model_enum_host_allowed_operations.values[running]);
        for (int op = 0; op < model_enum_host_allowed_operations.count; op++) {
            bool busy = (kind[op] & CREATES && kind[running] & (REMOVES | ENDS)) ||
                        (kind[op] & (REMOVES | ENDS) && kind[running] & (REMOVES | ENDS)) ||
                        (kind[op] & REMOVES && kind[running] & CREATES);
            cr_expect_eq(streq(verdict(&host->row, op), "OTHER_OPERATION_IN_PROGRESS"), busy, "%s while %s",
                         model_enum_host_allowed_operations.values[op],
                         model_enum_host_allowed_operations.values[running]);
        }
    }
    str_map_assign(&host->current_operations, NULL);
    host->enabled = true;
    cr_expect_str_eq(verdict(&host->row, HOST_ALLOWED_OPERATIONS_REBOOT), "HOST_NOT_DISABLED");
    cr_expect_str_eq(verdict(&host->row, HOST_ALLOWED_OPERATIONS_POWER_ON), "");
    str_assign(&host->power_on_mode, "");
    cr_expect_str_eq(verdict(&host->row, HOST_ALLOWED_OPERATIONS_POWER_ON), "HOST_POWER_ON_MODE_DISABLED");
}

/* USB devices, and classes without rules of their own: one operation at a time. */
Test(device, usb)
{
    static const struct {
        bool vm, running, attached;
        const char *other;    /* operation under way */
        const char *stopping; /* on the VM */
        int operation;
        const char *wanted;
    } table[] = {
        {false, false, false, NULL, NULL, VUSB_OPERATIONS_PLUG, "HANDLE_INVALID"},
        {true, true, false, "plug", NULL, VUSB_OPERATIONS_PLUG, "OTHER_OPERATION_IN_PROGRESS"},
        {true, false, false, NULL, NULL, VUSB_OPERATIONS_ATTACH, ""},
        {true, false, false, NULL, NULL, VUSB_OPERATIONS_PLUG, "VM_BAD_POWER_STATE"},
        {true, true, false, NULL, NULL, VUSB_OPERATIONS_PLUG, ""},
        {true, true, true, NULL, NULL, VUSB_OPERATIONS_PLUG, "DEVICE_ALREADY_ATTACHED"},
        {true, true, false, NULL, NULL, VUSB_OPERATIONS_UNPLUG, "DEVICE_ALREADY_DETACHED"},
        {true, true, true, NULL, NULL, VUSB_OPERATIONS_UNPLUG, ""},
        {true, true, false, NULL, "clean_shutdown", VUSB_OPERATIONS_PLUG, "OPERATION_NOT_ALLOWED"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
        struct vusb_row *vusb = vusb_row_mut(tx_create(tx, CLASS_VUSB));
        vm->power_state = table[i].running ? VM_POWER_STATE_RUNNING : VM_POWER_STATE_HALTED;
        vusb->VM = table[i].vm ? vm->row.ref : REF_NULL;
        vusb->currently_attached = table[i].attached;
        if (table[i].other)
            str_map_put(&vusb->current_operations, "OpaqueRef:t", table[i].other);
        if (table[i].stopping)
            str_map_put(&vm->current_operations, "OpaqueRef:t", table[i].stopping);
        cr_expect_str_eq(verdict(&vusb->row, table[i].operation), table[i].wanted, "row %zu", i);
    }
    struct row *pool = tx_create(tx, CLASS_pool);
    cr_expect_str_eq(verdict(pool, 0), "");
    str_map_put(&pool_row_mut(pool)->current_operations, "OpaqueRef:t", "ha_enable");
    cr_expect_str_eq(verdict(pool, 0), "OTHER_OPERATION_IN_PROGRESS");
}

Test(device, appliances)
{
    enum { H = VM_POWER_STATE_HALTED, P = VM_POWER_STATE_PAUSED, R = VM_POWER_STATE_RUNNING, NONE = -1 };
    static const struct {
        int states[2];
        bool busy;
        int operation;
        const char *wanted;
    } table[] = {
        {{NONE, NONE}, false, VM_APPLIANCE_OPERATION_START, "OPERATION_NOT_ALLOWED"},
        {{H, R}, true, VM_APPLIANCE_OPERATION_START, "OTHER_OPERATION_IN_PROGRESS"},
        {{H, R}, false, VM_APPLIANCE_OPERATION_START, ""},
        {{P, R}, false, VM_APPLIANCE_OPERATION_START, "OPERATION_NOT_ALLOWED"},
        {{H, R}, false, VM_APPLIANCE_OPERATION_CLEAN_SHUTDOWN, ""},
        {{H, P}, false, VM_APPLIANCE_OPERATION_CLEAN_SHUTDOWN, "OPERATION_NOT_ALLOWED"},
        {{H, P}, false, VM_APPLIANCE_OPERATION_HARD_SHUTDOWN, ""},
        {{H, H}, false, VM_APPLIANCE_OPERATION_HARD_SHUTDOWN, "OPERATION_NOT_ALLOWED"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct vm_appliance_row *self = vm_appliance_row_mut(tx_create(tx, CLASS_VM_appliance));
        struct ref ref = self->row.ref;
        if (table[i].busy)
            str_map_put(&self->current_operations, "OpaqueRef:t", "start");
        for (size_t k = 0; k < 2; k++)
            if (table[i].states[k] != NONE) {
                struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
                vm->power_state = (enum vm_power_state)table[i].states[k];
                vm->appliance = ref;
            }
        next_tx();
        cr_expect_str_eq(verdict(tx_get(tx, CLASS_VM_appliance, ref), table[i].operation), table[i].wanted,
                         "row %zu", i);
    }
}

Test(device, cards_that_are_busy_or_of_a_hosts_own_system)
{
    struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
    struct vif_row *vif = vif_row_mut(tx_create(tx, CLASS_VIF));
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    cr_expect_str_eq(verdict(&vif->row, VIF_OPERATIONS_PLUG), "HANDLE_INVALID");
    vif->VM = vm->row.ref;
    cr_expect_str_eq(verdict(&vif->row, VIF_OPERATIONS_ATTACH), "");
    vm->power_state = VM_POWER_STATE_RUNNING;
    vm->is_control_domain = true;
    cr_expect_str_eq(verdict(&vif->row, VIF_OPERATIONS_PLUG), "OPERATION_NOT_ALLOWED");
    str_map_put(&vif->current_operations, "OpaqueRef:a", "plug");
    str_map_put(&vif->current_operations, "OpaqueRef:b", "attach");
    cr_expect_eq(device_operation_check(tx, &vif->row, VIF_OPERATIONS_UNPLUG, &err), -1);
    cr_expect_str_eq(err.params[2], "{plug; attach}");
    struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
    vbd->VM = vm->row.ref;
    str_map_put(&vbd->current_operations, "OpaqueRef:a", "plug");
    cr_expect_str_eq(verdict(&vbd->row, VBD_OPERATIONS_INSERT), "OTHER_OPERATION_IN_PROGRESS");
    cr_expect_str_eq(verdict(&vbd->row, VBD_OPERATIONS_PAUSE), ""); /* goes beside */
}

/* A disk whose other drive is about to have it, and one whose drive names nothing. */
Test(device, disks_that_are_about_to_be_used)
{
    struct storage s = make_storage("file", true, true, false);
    struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
    struct vbd_row *mine = vbd_row_mut(tx_create(tx, CLASS_VBD)),
                   *empty = vbd_row_mut(tx_create(tx, CLASS_VBD));
    vm->power_state = VM_POWER_STATE_RUNNING;
    mine->VM = empty->VM = vm->row.ref;
    mine->VDI = s.vdi;
    mine->type = empty->type = VBD_TYPE_DISK;
    str_map_put(&vbd_row_mut(tx_edit(tx, CLASS_VBD, s.vbd))->current_operations, "OpaqueRef:t", "plug");
    struct ref ref = mine->row.ref, of_nothing = empty->row.ref;
    next_tx();
    cr_expect_str_eq(verdict(tx_get(tx, CLASS_VBD, ref), VBD_OPERATIONS_PLUG), "VDI_IN_USE");
    cr_expect_str_eq(verdict(tx_get(tx, CLASS_VBD, of_nothing), VBD_OPERATIONS_PLUG), "");
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    cr_expect_eq(vbd_sharing_check(tx, vbd_row(tx_get(tx, CLASS_VBD, of_nothing)), &err), 0);
    /* Within one transaction a drive may have gone that the disk still names. */
    tx_delete(tx, CLASS_VBD, s.vbd);
    cr_expect_str_eq(verdict(tx_get(tx, CLASS_VBD, ref), VBD_OPERATIONS_PLUG), "");
    cr_expect_str_eq(verdict(tx_get(tx, CLASS_VDI, s.vdi), VDI_OPERATIONS_FORGET), "");
    tx_delete(tx, CLASS_PBD, s.pbd);
    cr_expect_str_eq(verdict(tx_get(tx, CLASS_VDI, s.vdi), VDI_OPERATIONS_DESTROY), "SR_HAS_NO_PBDS");
    tx_delete(tx, CLASS_SR, s.sr);
    cr_expect_str_eq(verdict(tx_get(tx, CLASS_VDI, s.vdi), VDI_OPERATIONS_DESTROY), "HANDLE_INVALID");
}

Test(device, repositories_of_other_kinds)
{
    static const struct {
        const char *type, *running;
        bool tools, plugged, linked, disk, rrd, managed;
        int operation;
        const char *wanted;
    } table[] = {
        {"iso", NULL, true, true, true, false, false, false, STORAGE_OPERATIONS_VDI_CREATE,
         "SR_OPERATION_NOT_SUPPORTED"},
        {"iso", NULL, true, true, true, false, false, false, STORAGE_OPERATIONS_SCAN, ""},
        {"none", NULL, false, true, true, false, false, false, STORAGE_OPERATIONS_SCAN,
         "SR_OPERATION_NOT_SUPPORTED"},
        {"file", NULL, false, false, false, false, false, false, STORAGE_OPERATIONS_DESTROY,
         "SR_HAS_NO_PBDS"},
        {"file", NULL, false, false, true, true, true, true, STORAGE_OPERATIONS_DESTROY, ""},
        {"file", NULL, false, false, true, true, false, false, STORAGE_OPERATIONS_DESTROY, ""},
        {"file", NULL, false, false, true, true, false, true, STORAGE_OPERATIONS_DESTROY, "SR_NOT_EMPTY"},
        {"file", "plug", false, true, true, false, false, false, STORAGE_OPERATIONS_PLUG, ""},
        {"file", "plug", false, true, true, false, false, false, STORAGE_OPERATIONS_SCAN,
         "OTHER_OPERATION_IN_PROGRESS"},
        {"file", "scan", false, true, true, false, false, false, STORAGE_OPERATIONS_PLUG,
         "OTHER_OPERATION_IN_PROGRESS"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct storage s = make_storage(table[i].type, table[i].plugged, table[i].disk, false);
        struct sr_row *sr = sr_row_mut(tx_edit(tx, CLASS_SR, s.sr));
        sr->is_tools_sr = table[i].tools;
        if (table[i].running)
            str_map_put(&sr->current_operations, "OpaqueRef:t", table[i].running);
        if (!table[i].linked)
            tx_delete(tx, CLASS_PBD, s.pbd);
        if (table[i].disk) {
            struct vdi_row *vdi = vdi_row_mut(tx_edit(tx, CLASS_VDI, s.vdi));
            vdi->managed = table[i].managed;
            vdi->type = table[i].rrd ? VDI_TYPE_RRD : VDI_TYPE_USER;
        }
        next_tx();
        cr_expect_str_eq(verdict(tx_get(tx, CLASS_SR, s.sr), table[i].operation), table[i].wanted, "row %zu",
                         i);
    }
    struct storage drive = make_storage("udev", true, true, false),
                   tools = make_storage("file", true, true, false);
    cr_expect_str_eq(verdict(tx_get(tx, CLASS_VDI, drive.vdi), VDI_OPERATIONS_DESTROY),
                     "SR_OPERATION_NOT_SUPPORTED");
    sr_row_mut(tx_edit(tx, CLASS_SR, tools.sr))->is_tools_sr = true;
    cr_expect_str_eq(verdict(tx_get(tx, CLASS_VDI, tools.vdi), VDI_OPERATIONS_DESTROY),
                     "SR_OPERATION_NOT_SUPPORTED");
}

/* Who is about to have a disk, or has it for reading only; and what tracks changes. */
Test(device, disks_in_use)
{
    static const struct {
        const char *type, *vm, *vbd; /* operations under way */
        bool attached, reads, tracks;
        int operation;
        const char *wanted;
    } table[] = {
        {"file", "start", NULL, false, false, false, VDI_OPERATIONS_DESTROY, "OTHER_OPERATION_IN_PROGRESS"},
        {"file", "start_on", NULL, false, false, false, VDI_OPERATIONS_DESTROY,
         "OTHER_OPERATION_IN_PROGRESS"},
        {"file", "snapshot", NULL, false, false, false, VDI_OPERATIONS_DESTROY, ""},
        {"file", NULL, "plug", false, false, false, VDI_OPERATIONS_DESTROY, "OTHER_OPERATION_IN_PROGRESS"},
        {"file", NULL, NULL, true, true, false, VDI_OPERATIONS_COPY, ""},
        {"file", NULL, NULL, true, false, false, VDI_OPERATIONS_COPY, "VDI_IN_USE"},
        {"file", NULL, NULL, false, false, true, VDI_OPERATIONS_SNAPSHOT, ""},
        {"iso", NULL, NULL, false, false, false, VDI_OPERATIONS_COPY, "SR_OPERATION_NOT_SUPPORTED"},
        {"nothing", NULL, NULL, false, false, false, VDI_OPERATIONS_CLONE, "SR_OPERATION_NOT_SUPPORTED"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct storage s = make_storage(table[i].type, true, true, table[i].attached);
        struct vbd_row *vbd = vbd_row_mut(tx_edit(tx, CLASS_VBD, s.vbd));
        vdi_row_mut(tx_edit(tx, CLASS_VDI, s.vdi))->cbt_enabled = table[i].tracks;
        vbd->mode = table[i].reads ? VBD_MODE_RO : VBD_MODE_RW;
        if (table[i].vbd)
            str_map_put(&vbd->current_operations, "OpaqueRef:t", table[i].vbd);
        if (table[i].vm)
            str_map_put(&vm_row_mut(tx_edit(tx, CLASS_VM, vbd->VM))->current_operations, "OpaqueRef:t",
                        table[i].vm);
        cr_expect_str_eq(verdict(tx_get(tx, CLASS_VDI, s.vdi), table[i].operation), table[i].wanted,
                         "row %zu", i);
        /* With its VM gone, and with nobody. */
        tx_delete(tx, CLASS_VM, vbd->VM);
        verdict(tx_get(tx, CLASS_VDI, s.vdi), table[i].operation);
        tx_delete(tx, CLASS_VBD, s.vbd);
        next_tx();
        verdict(tx_get(tx, CLASS_VDI, s.vdi), table[i].operation);
        operations_refresh(tx, CLASS_VDI, s.vdi);
    }
}

/* What the rules see of a VM, from its rows. */
Test(device, views_of_vms)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref refs[6];
    static const struct {
        const char *platform, *value; /* a key of the platform */
        const char *feature;          /* what the guest says of feature-suspend; NULL: there is no guest */
        enum on_boot on_boot;
        bool drive, caching;
        bool immobile, resets, caches;
    } table[ARRAY_LEN(refs)] = {
        {"nomigrate", "true", NULL, ON_BOOT_PERSIST, false, false, true, false, false},
        {"nested-virt", "1", "0", ON_BOOT_PERSIST, true, false, true, false, false},
        {"nested-virt", "no", "1", ON_BOOT_RESET, true, false, false, true, false},
        {"nomigrate", "1", "1", ON_BOOT_RESET, true, true, true, true, true},
        {"other", "1", NULL, ON_BOOT_PERSIST, true, true, false, false, false},
        {"nomigrate", "false", "1", ON_BOOT_PERSIST, false, false, false, false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
        refs[i] = vm->row.ref;
        vm->power_state = VM_POWER_STATE_SUSPENDED;
        str_map_put(&vm->platform, table[i].platform, table[i].value);
        str_map_put(&vm->current_operations, "OpaqueRef:t", "a word of a later version");
        if (table[i].feature) {
            struct vm_guest_metrics_row *guest =
                vm_guest_metrics_row_mut(tx_create(tx, CLASS_VM_guest_metrics));
            vm->guest_metrics = guest->row.ref;
            guest->PV_drivers_detected = i == 3;
            str_map_put(&guest->other, "feature-suspend", table[i].feature);
        }
        struct vbd_row *empty = vbd_row_mut(tx_create(tx, CLASS_VBD));
        empty->VM = refs[i];
        if (table[i].drive) {
            struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
            struct vdi_row *vdi = vdi_row_mut(tx_create(tx, CLASS_VDI));
            vbd->VM = refs[i];
            vbd->VDI = vdi->row.ref;
            vdi->on_boot = table[i].on_boot;
            vdi->allow_caching = table[i].caching;
        }
    }
    next_tx();
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct vm_view view = vm_view_of(tx, vm_row(tx_get(tx, CLASS_VM, refs[i])));
        cr_expect_eq(view.immobile, table[i].immobile, "row %zu", i);
        cr_expect_eq(view.resets_disks, table[i].resets, "row %zu", i);
        cr_expect_eq(view.caches_reset, table[i].caches, "row %zu", i);
        /* What it does not know is in the way of everything but what ends the VM. */
        cr_expect_eq(operation_check(tx, CLASS_VM, refs[i], VM_OPERATIONS_DESTROY, &err), -1);
        view.power_state = VM_POWER_STATE_RUNNING;
        vm_operations_allowed(&view);
    }
    struct pool_row *pool = pool_row_mut(tx_create(tx, CLASS_pool));
    static const char *const words[] = {NULL, "true", "1", "yes"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (words[i])
            str_map_put(&pool->other_config, "allow_clone_suspended_vm", words[i]);
        struct vm_view view = vm_view_of(tx, vm_row(tx_get(tx, CLASS_VM, refs[0])));
        cr_expect_eq(view.allow_clone_suspended, i == 1 || i == 2, "%zu", i);
    }
    cr_expect_eq(operation_find(CLASS_VM, "start"), (int)VM_OPERATIONS_START);
    cr_expect_eq(operation_find(CLASS_VM, "nothing"), -1);
    cr_expect_eq(operation_find(CLASS_network, "x"), -1);
    cr_expect_eq(operation_find(CLASS_PBD, "x"), -1);
}
