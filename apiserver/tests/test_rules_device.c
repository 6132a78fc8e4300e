/* What VBDs, VIFs, VDIs and SRs allow, by the state of what they hang on. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <db/store.h>
#include <model/errors.h>
#include <model/rows.h>
#include <rules/device.h>
#include <rules/operations.h>

static struct store *store;
static struct tx *tx;

static void start(void)
{
    struct store_err err;
    const struct store_config config = {.path = NULL};
    cr_assert_eq(store_open(&store, &config, &err), 0);
    tx = store_begin(store);
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
    return device_operation_check(tx, row, operation, &err) < 0 ? error_find(err.code)->code : "";
}

Test(device, vbd)
{
    enum {
        HALTED = VM_POWER_STATE_HALTED,
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
    cr_assert_eq(vdi_row(tx_get(tx, CLASS_VDI, s.vdi))->allowed_operations, 0);
    operation_unmark(tx, CLASS_VDI, s.vdi, task);
    operations_refresh(tx, CLASS_VDI, s.vdi);
    cr_assert_neq(vdi_row(tx_get(tx, CLASS_VDI, s.vdi))->allowed_operations & (1u << VDI_OPERATIONS_DESTROY),
                  0);
    cr_assert_eq(operation_check(tx, CLASS_VDI, s.vdi, VDI_OPERATIONS_DESTROY, &err), 0);
    operation_unmark(tx, CLASS_VDI, s.vdi, task); /* twice does no harm, nor on what is gone */
    operation_unmark(tx, CLASS_VDI, REF_NULL, task);
}
