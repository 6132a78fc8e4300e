/* Handlers of storage against agents that fail in the middle: nothing is left half done. */
#include "../../src/handlers/storage.h"
#include "../../src/hosts/hosts.h"
#include "fake.h"
#include <base/mem.h>
#include <criterion/criterion.h>
#include <handlers.h>
#include <stdio.h>

TestSuite(storage, .init = fake_start, .fini = fake_stop);

/* ---- reading rows ---- */

static const struct vdi_row *vdi_now(struct snapshot **snap, struct ref ref)
{
    snapshot_unref_cleanup(snap);
    *snap = store_snapshot(fake.server.store);
    return vdi_row(snapshot_get(*snap, CLASS_VDI, ref));
}

static size_t count_rows(const struct class_desc *cls)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(fake.server.store);
    return snapshot_count(snap, cls);
}

static int64_t allocation(struct ref sr)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(fake.server.store);
    return sr_row(snapshot_get(snap, CLASS_SR, sr))->virtual_allocation;
}

static const char *sr_uuid(struct ref sr)
{
    static char uuid[UUID_TEXT_SIZE];
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(fake.server.store);
    snprintf(uuid, sizeof(uuid), "%s", sr_row(snapshot_get(snap, CLASS_SR, sr))->uuid);
    return uuid;
}

static void expect_code(const struct api_err *err, const char *code)
{
    cr_assert(err->code, "no error where %s was expected", code);
    cr_assert_str_eq(err->code, code);
}

/* ---- making rows ---- */

static int create_vdi(int64_t size, const char *format, struct ref *ref, struct api_err *err)
{
    AUTO_CALL struct call *call = fake_call();
    struct row *row = row_new(CLASS_VDI, REF_NULL);
    struct vdi_row *record = vdi_row_mut(row);
    record->SR = fake.sr;
    record->virtual_size = size;
    record->type = VDI_TYPE_SYSTEM;
    str_assign(&record->name_label, "a disk");
    if (format)
        str_map_put(&record->sm_config, "type", format);
    int rc = handle_vdi_create(call, record, ref, err);
    row_unref(row);
    return rc;
}

static struct ref must_create_vdi(int64_t size)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref ref = REF_NULL;
    cr_assert_eq(create_vdi(size, NULL, &ref, &err), 0, "%s", err.code);
    return ref;
}

static struct ref add_vm(enum vm_power_state state)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(fake.server.store);
    struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
    struct ref ref = vm->row.ref;
    vm->power_state = state;
    if (state != VM_POWER_STATE_HALTED)
        vm->resident_on = fake.host;
    cr_assert_eq(server_commit(tx, &err), 0);
    return ref;
}

static int create_vbd(struct ref vm, struct ref vdi, const char *device, enum vbd_type type,
                      enum vbd_mode mode, struct ref *ref, struct api_err *err)
{
    AUTO_CALL struct call *call = fake_call();
    struct row *row = row_new(CLASS_VBD, REF_NULL);
    struct vbd_row *record = vbd_row_mut(row);
    record->VM = vm;
    record->VDI = vdi;
    record->type = type;
    record->mode = mode;
    record->empty = ref_is_null(vdi);
    str_assign(&record->userdevice, device);
    int rc = handle_vbd_create(call, record, ref, err);
    row_unref(row);
    return rc;
}

static struct ref must_create_vbd(struct ref vm, struct ref vdi, const char *device, enum vbd_type type)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref ref = REF_NULL;
    enum vbd_mode mode = type == VBD_TYPE_CD ? VBD_MODE_RO : VBD_MODE_RW;
    cr_assert_eq(create_vbd(vm, vdi, device, type, mode, &ref, &err), 0, "%s", err.code);
    return ref;
}

static void set_attached(struct ref vbd)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(fake.server.store);
    vbd_row_mut(tx_edit(tx, CLASS_VBD, vbd))->currently_attached = true;
    cr_assert_eq(server_commit(tx, &err), 0);
}

static int scan(struct ref sr, struct api_err *err)
{
    AUTO_CALL struct call *call = fake_call();
    const struct sr_scan_args args = {.sr = sr};
    return handle_sr_scan(call, &args, err);
}

static struct ref find_vdi(const char *location)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(fake.server.store);
    for (int i = 0; i < 2; i++) {
        const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, i ? fake.iso : fake.sr));
        for (size_t k = 0; sr->VDIs && k < sr->VDIs->count; k++)
            if (streq(vdi_row(snapshot_get(snap, CLASS_VDI, sr->VDIs->items[k]))->location, location))
                return sr->VDIs->items[k];
    }
    return REF_NULL;
}

static void reconnect(void)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct hv_host *agent = hosts_get(fake.server.hosts, fake.host, &err);
    storage_host_connected(&fake.server, fake.host, agent);
    hosts_put(fake.server.hosts, agent);
}

/* ---- VDI.create ---- */

Test(storage, create_records_what_was_made)
{
    struct ref ref = must_create_vdi(FAKE_GIB + 1);
    AUTO_SNAPSHOT struct snapshot *snap = NULL;
    const struct vdi_row *vdi = vdi_now(&snap, ref);
    cr_assert(vdi);
    cr_assert_eq(vdi->virtual_size, FAKE_GIB + 512);
    cr_assert_eq(vdi->type, VDI_TYPE_SYSTEM);
    cr_assert_str_eq(vdi->name_label, "a disk");
    cr_assert_str_eq(vdi->location, vdi->uuid);
    cr_assert(vdi->managed && fake_has_disk(vdi->uuid));
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, fake.sr));
    cr_assert_eq(sr->virtual_allocation, FAKE_GIB + 512);
    cr_assert_eq(sr->physical_size, 100 * FAKE_GIB);
    cr_assert_eq(sr->physical_utilisation, 40 * FAKE_GIB);
}

Test(storage, create_is_refused_before_an_agent_is_asked)
{
    static const struct {
        int64_t size;
        const char *format, *code;
    } table[] = {
        {0, NULL, "SR_BACKEND_FAILURE_79"},
        {-5, NULL, "SR_BACKEND_FAILURE_79"},
        {INT64_MAX, NULL, "SR_BACKEND_FAILURE_79"},
        {512, "vmdk", "VALUE_NOT_SUPPORTED"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        struct ref ref;
        cr_assert_lt(create_vdi(table[i].size, table[i].format, &ref, &err), 0);
        expect_code(&err, table[i].code);
    }
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref ref, file = fake.sr;
    fake.sr = fake.iso;
    cr_assert_lt(create_vdi(512, NULL, &ref, &err), 0);
    fake.sr = file;
    expect_code(&err, "SR_OPERATION_NOT_SUPPORTED");
    cr_assert_eq(fake.log_count, 0);
}

static int then_the_sr_is_forgotten(enum hv_call_id call, const void *args, void *result, struct hv_err *err)
{
    if (call == HV_CALL_DISK_CREATE) {
        AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
        struct tx *tx = store_begin(fake.server.store);
        tx_delete(tx, CLASS_SR, fake.sr);
        cr_assert_eq(server_commit(tx, &ignored), 0);
    }
    return fake_default(call, args, result, err);
}

Test(storage, create_takes_the_disk_away_when_it_cannot_be_recorded)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref ref;
    fake.hook = then_the_sr_is_forgotten;
    cr_assert_lt(create_vdi(512, NULL, &ref, &err), 0);
    expect_code(&err, "HANDLE_INVALID");
    cr_assert_eq(fake_count("disk_destroy"), 1);
    cr_assert_eq(fake.disk_count, 0);
    cr_assert_eq(count_rows(CLASS_VDI), 0);
}

static int falls_silent(enum hv_call_id call, const void *args, void *result, struct hv_err *err)
{
    int rc = fake_default(call, args, result, err);
    if (call == HV_CALL_DISK_CREATE || call == HV_CALL_DISK_COPY)
        return hv_fail(err, HV_ERR_KIND_DEADLINE, "no answer");
    return rc;
}

Test(storage, create_takes_the_disk_away_when_its_outcome_is_unknown)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref ref;
    fake.hook = falls_silent;
    cr_assert_lt(create_vdi(512, NULL, &ref, &err), 0);
    cr_assert_eq(fake.disk_count, 0);
    cr_assert_eq(count_rows(CLASS_VDI), 0);
}

static int has_no_space(enum hv_call_id call, const void *args, void *result, struct hv_err *err)
{
    if (call == HV_CALL_DISK_CREATE || call == HV_CALL_DISK_COPY)
        return hv_fail(err, HV_ERR_KIND_NO_SPACE, "the SR is full");
    return fake_default(call, args, result, err);
}

Test(storage, a_full_sr_has_the_number_that_clients_know)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref ref;
    fake.hook = has_no_space;
    cr_assert_lt(create_vdi(512, NULL, &ref, &err), 0);
    expect_code(&err, "SR_BACKEND_FAILURE_44");
    cr_assert_eq(err.param_count, 3);
    cr_assert_str_eq(err.params[1], "the SR is full");
    cr_assert_eq(fake_count("disk_destroy"), 0);
}

/* ---- copies ---- */

Test(storage, clone_copies_in_full_where_the_agent_knows_no_thin_copies)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct vdi_clone_args args = {.vdi = must_create_vdi(FAKE_GIB)};
    AUTO_CALL struct call *call = fake_call();
    struct ref ref;
    cr_assert_eq(handle_vdi_clone(call, &args, &ref, &err), 0, "%s", err.code);
    AUTO_SNAPSHOT struct snapshot *snap = NULL;
    const struct vdi_row *vdi = vdi_now(&snap, ref);
    cr_assert_str_eq(vdi->name_label, "a disk");
    cr_assert_eq(fake_count("disk_clone") + fake_count("disk_copy"), 2);
    cr_assert_eq(allocation(fake.sr), 2 * FAKE_GIB);
}

Test(storage, a_failed_copy_leaves_nothing)
{
    struct ref from = must_create_vdi(FAKE_GIB);
    int (*const failures[])(enum hv_call_id, const void *, void *, struct hv_err *) = {has_no_space,
                                                                                       falls_silent};
    for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        const struct vdi_copy_args args = {.vdi = from};
        AUTO_CALL struct call *call = fake_call();
        struct ref ref;
        fake.hook = failures[i];
        cr_assert_lt(handle_vdi_copy(call, &args, &ref, &err), 0);
        cr_assert_eq(fake.disk_count, 1);
        cr_assert_eq(count_rows(CLASS_VDI), 1);
    }
}

Test(storage, copy_into_an_iso_library_is_refused)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct vdi_copy_args args = {.vdi = must_create_vdi(FAKE_GIB), .sr = fake.iso};
    AUTO_CALL struct call *call = fake_call();
    struct ref ref;
    cr_assert_lt(handle_vdi_copy(call, &args, &ref, &err), 0);
    expect_code(&err, "SR_OPERATION_NOT_SUPPORTED");
}

/* ---- destroy, resize ---- */

Test(storage, destroy_takes_disks_from_vms_and_media_from_drives)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref vdi = must_create_vdi(FAKE_GIB), vm = add_vm(VM_POWER_STATE_HALTED);
    struct ref disk = must_create_vbd(vm, vdi, "0", VBD_TYPE_DISK),
               drive = must_create_vbd(vm, vdi, "3", VBD_TYPE_CD);
    const struct args_self args = {vdi};
    AUTO_CALL struct call *call = fake_call();
    cr_assert_eq(handle_vdi_destroy(call, &args, &err), 0, "%s", err.code);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(fake.server.store);
    cr_assert(!snapshot_get(snap, CLASS_VDI, vdi) && !snapshot_get(snap, CLASS_VBD, disk));
    const struct vbd_row *left = vbd_row(snapshot_get(snap, CLASS_VBD, drive));
    cr_assert(left && left->empty && ref_is_null(left->VDI));
    cr_assert_eq(fake.disk_count, 0);
    cr_assert_eq(allocation(fake.sr), 0);
}

static int is_in_use(enum hv_call_id call, const void *args, void *result, struct hv_err *err)
{
    if (call == HV_CALL_DISK_DESTROY)
        return hv_fail(err, HV_ERR_KIND_IN_USE, "a domain has it open");
    return fake_default(call, args, result, err);
}

Test(storage, destroy_keeps_the_row_of_a_disk_that_stays)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct args_self args = {must_create_vdi(FAKE_GIB)};
    AUTO_CALL struct call *call = fake_call();
    fake.hook = is_in_use;
    cr_assert_lt(handle_vdi_destroy(call, &args, &err), 0);
    expect_code(&err, "VDI_IN_USE");
    cr_assert_str_eq(err.params[1], "destroy");
    cr_assert_eq(count_rows(CLASS_VDI), 1);
}

Test(storage, resize_grows_only)
{
    struct ref vdi = must_create_vdi(FAKE_GIB);
    static const struct {
        int64_t size;
        const char *code;
    } table[] = {{FAKE_GIB / 2, "SR_BACKEND_FAILURE_79"},
                 {FAKE_GIB, NULL},
                 {3 * FAKE_GIB, NULL},
                 {0, "SR_BACKEND_FAILURE_79"}};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        const struct vdi_resize_args args = {.vdi = vdi, .size = table[i].size};
        AUTO_CALL struct call *call = fake_call();
        int rc = handle_vdi_resize(call, &args, &err);
        if (table[i].code)
            expect_code(&err, table[i].code);
        else
            cr_assert_eq(rc, 0);
    }
    cr_assert_eq(allocation(fake.sr), 3 * FAKE_GIB);
}

/* ---- SR.scan ---- */

#define STRANGER "0f0f0f0f-0000-4000-8000-00000000abcd"

Test(storage, scan_brings_rows_and_disks_together)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref lost = must_create_vdi(FAKE_GIB);
    fake.disk_count = 0;
    fake_add_disk(sr_uuid(fake.sr), STRANGER, 5 * FAKE_GIB);
    cr_assert_eq(scan(fake.sr, &err), 0, "%s", err.code);
    AUTO_SNAPSHOT struct snapshot *snap = NULL;
    cr_assert(vdi_now(&snap, lost)->missing);
    const struct vdi_row *found = vdi_row(snapshot_by_uuid(snap, CLASS_VDI, STRANGER));
    cr_assert(found && !found->missing);
    cr_assert_str_eq(found->location, STRANGER);
    cr_assert_eq(found->virtual_size, 5 * FAKE_GIB);
    cr_assert_eq(allocation(fake.sr), 6 * FAKE_GIB);
}

Test(storage, scan_follows_an_iso_library)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    fake_add_disk(sr_uuid(fake.iso), "one.iso", 1024);
    fake_add_disk(sr_uuid(fake.iso), "two.iso", 2048);
    cr_assert_eq(scan(fake.iso, &err), 0, "%s", err.code);
    struct ref one = find_vdi("one.iso"), two = find_vdi("two.iso"), vm = add_vm(VM_POWER_STATE_RUNNING);
    AUTO_SNAPSHOT struct snapshot *snap = NULL;
    cr_assert(vdi_now(&snap, one)->read_only);
    cr_assert_str_eq(vdi_now(&snap, one)->name_label, "one.iso");
    set_attached(must_create_vbd(vm, two, "3", VBD_TYPE_CD));
    struct ref drive = must_create_vbd(vm, one, "4", VBD_TYPE_CD);
    fake.disk_count = 0;
    cr_assert_eq(scan(fake.iso, &err), 0, "%s", err.code);
    AUTO_SNAPSHOT struct snapshot *after = store_snapshot(fake.server.store);
    cr_assert(!snapshot_get(after, CLASS_VDI, one), "a file that is gone keeps its row");
    cr_assert(vbd_row(snapshot_get(after, CLASS_VBD, drive))->empty);
    cr_assert(vdi_row(snapshot_get(after, CLASS_VDI, two))->missing, "a medium in a running VM lost its row");
}

/* After the agent listed its disks, one VDI is made and one is destroyed. */
static struct ref raced_away, raced_in;
static int while_others_work(enum hv_call_id call, const void *args, void *result, struct hv_err *err)
{
    int rc = fake_default(call, args, result, err);
    if (call == HV_CALL_SR_SCAN) {
        AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
        struct tx *tx = store_begin(fake.server.store);
        storage_remove_vdi(tx, raced_away);
        struct vdi_row *vdi = vdi_row_mut(tx_create(tx, CLASS_VDI));
        vdi->SR = fake.sr;
        str_assign(&vdi->location, vdi->uuid);
        raced_in = vdi->row.ref;
        cr_assert_eq(server_commit(tx, &ignored), 0);
    }
    return rc;
}

Test(storage, scan_leaves_alone_what_changes_meanwhile)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    raced_away = must_create_vdi(FAKE_GIB);
    fake.hook = while_others_work;
    cr_assert_eq(scan(fake.sr, &err), 0, "%s", err.code);
    AUTO_SNAPSHOT struct snapshot *snap = NULL;
    cr_assert(!vdi_now(&snap, raced_in)->missing, "a VDI made during the scan is called missing");
    cr_assert_eq(count_rows(CLASS_VDI), 1, "a VDI destroyed during the scan came back");
}

static int scanned_in_the_middle(enum hv_call_id call, const void *args, void *result, struct hv_err *err)
{
    int rc = fake_default(call, args, result, err);
    if (call == HV_CALL_DISK_CREATE && rc == 0) {
        AUTO_API_ERR struct api_err scan_err = API_ERR_INIT;
        cr_assert_eq(scan(fake.sr, &scan_err), 0, "%s", scan_err.code);
        cr_assert_eq(count_rows(CLASS_VDI), 0, "a disk on its way was introduced");
        cr_assert_eq(fake.disk_count, 1, "a disk on its way was swept away");
    }
    return rc;
}

Test(storage, a_scan_in_the_middle_of_create_leaves_the_disk_alone)
{
    fake.hook = scanned_in_the_middle;
    struct ref ref = must_create_vdi(FAKE_GIB);
    AUTO_SNAPSHOT struct snapshot *snap = NULL;
    cr_assert_str_eq(vdi_now(&snap, ref)->name_label, "a disk");
    cr_assert_eq(count_rows(CLASS_VDI), 1);
    cr_assert_eq(allocation(fake.sr), FAKE_GIB);
    cr_assert_null(sr_row(snapshot_get(snap, CLASS_SR, fake.sr))->unfinished_disks);
}

/* ---- disks that nobody waits for ---- */

static size_t unfinished(void)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(fake.server.store);
    const struct str_map *disks = sr_row(snapshot_get(snap, CLASS_SR, fake.sr))->unfinished_disks;
    return disks ? disks->count : 0;
}

static int falls_silent_for_good(enum hv_call_id call, const void *args, void *result, struct hv_err *err)
{
    int rc = fake_default(call, args, result, err);
    return call == HV_CALL_DISK_CREATE ? hv_fail(err, HV_ERR_KIND_UNREACHABLE, "no answer") : rc;
}
static int is_silent(enum hv_call_id call, const void *args, void *result, struct hv_err *err)
{
    if (call == HV_CALL_DISK_DESTROY)
        return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "no answer");
    return falls_silent_for_good(call, args, result, err);
}

Test(storage, what_could_not_be_undone_is_swept_later)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref ref;
    fake.hook = is_silent;
    cr_assert_lt(create_vdi(512, NULL, &ref, &err), 0);
    cr_assert_eq(fake.disk_count, 1);
    cr_assert_eq(unfinished(), 1);
    fake.hook = NULL;
    cr_assert_eq(scan(fake.sr, &err), 0);
    cr_assert_eq(fake.disk_count, 0);
    cr_assert_eq(unfinished(), 0);
    cr_assert_eq(count_rows(CLASS_VDI), 0);
}

/* Whoever looks at the host tries again; a disk that a call of this run waits for is left alone. */
Test(storage, what_could_not_be_undone_is_tried_again)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref ref;
    char uuid[UUID_TEXT_SIZE];
    fake.hook = is_silent;
    cr_assert_lt(create_vdi(512, NULL, &ref, &err), 0);
    cr_assert_eq(storage_announce_disk(&fake.server, fake.sr, uuid_format(ref_new(), uuid), &err), 0);
    storage_sweep_host(&fake.server, fake.host);
    cr_assert_eq(unfinished(), 2);
    fake.hook = NULL;
    storage_sweep_host(&fake.server, fake.host);
    cr_assert_eq(fake.disk_count, 0);
    cr_assert_eq(unfinished(), 1);
    size_t calls = fake_count("disk_destroy");
    storage_sweep_host(&fake.server, fake.host);
    cr_assert_eq(fake_count("disk_destroy"), calls, "what is on its way was swept");
}

Test(storage, what_an_earlier_run_left_and_stays_is_not_taken_for_it_again)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(fake.server.store);
    str_map_put(&sr_row_mut(tx_edit(tx, CLASS_SR, fake.sr))->unfinished_disks, STRANGER, "an earlier run");
    cr_assert_eq(server_commit(tx, &err), 0);
    fake.hook = is_silent;
    storage_sweep_host(&fake.server, fake.host);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(fake.server.store);
    const struct str_map *disks = sr_row(snapshot_get(snap, CLASS_SR, fake.sr))->unfinished_disks;
    cr_assert_str_eq(str_map_get(disks, STRANGER), "");
}

Test(storage, what_an_earlier_run_left_is_swept_when_its_host_connects)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(fake.server.store);
    str_map_put(&sr_row_mut(tx_edit(tx, CLASS_SR, fake.sr))->unfinished_disks, STRANGER, "an earlier run");
    cr_assert_eq(server_commit(tx, &err), 0);
    fake_add_disk(sr_uuid(fake.sr), STRANGER, FAKE_GIB);
    reconnect();
    cr_assert_eq(fake.disk_count, 0);
    cr_assert_eq(unfinished(), 0);
}

/* ---- SR.create, PBDs ---- */

static int create_sr(const char *type, struct ref *ref, struct api_err *err)
{
    AUTO_CALL struct call *call = fake_call();
    const struct sr_create_args args = {
        .host = fake.host, .name_label = "new", .name_description = "", .type = type, .content_type = ""};
    return handle_sr_create(call, &args, ref, err);
}

static int cannot_attach(enum hv_call_id call, const void *args, void *result, struct hv_err *err)
{
    if (call == HV_CALL_SR_ATTACH)
        return hv_fail(err, HV_ERR_KIND_IO, "the folder is gone");
    return fake_default(call, args, result, err);
}

Test(storage, sr_create_makes_a_plugged_sr)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref ref;
    cr_assert_eq(create_sr("file", &ref, &err), 0, "%s", err.code);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(fake.server.store);
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, ref));
    cr_assert_str_eq(sr->content_type, "user");
    cr_assert_eq(sr->physical_size, 100 * FAKE_GIB);
    cr_assert(sr->PBDs && sr->PBDs->count == 1);
    cr_assert(pbd_row(snapshot_get(snap, CLASS_PBD, sr->PBDs->items[0]))->currently_attached);
    cr_assert_eq(fake_count("sr_create") + fake_count("sr_attach"), 2);
}

Test(storage, a_failed_sr_create_leaves_no_row)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    size_t srs = count_rows(CLASS_SR), pbds = count_rows(CLASS_PBD);
    struct ref ref;
    cr_assert_lt(create_sr("lvm", &ref, &err), 0);
    expect_code(&err, "SR_UNKNOWN_DRIVER");
    fake.hook = cannot_attach;
    cr_assert_lt(create_sr("file", &ref, &err), 0);
    expect_code(&err, "SR_BACKEND_FAILURE");
    cr_assert_eq(count_rows(CLASS_SR), srs);
    cr_assert_eq(count_rows(CLASS_PBD), pbds);
}

static bool pbd_attached(void)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(fake.server.store);
    return pbd_row(snapshot_get(snap, CLASS_PBD, fake.pbd))->currently_attached;
}

Test(storage, a_host_that_comes_back_gets_its_srs_again)
{
    fake.hook = cannot_attach;
    reconnect();
    cr_assert(!pbd_attached());
    cr_assert_eq(count_rows(CLASS_message), 2, "one for each SR");
    reconnect();
    cr_assert_eq(count_rows(CLASS_message), 2, "told again");
    fake.hook = NULL;
    reconnect();
    cr_assert(pbd_attached());
}

Test(storage, an_unplugged_pbd_stays_unplugged)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct pbd_unplug_args args = {.self = fake.pbd};
    for (int i = 0; i < 2; i++) {
        AUTO_CALL struct call *call = fake_call();
        cr_assert_eq(handle_pbd_unplug(call, &args, &err), 0, "%s", err.code);
    }
    cr_assert_eq(fake_count("sr_forget"), 1);
    reconnect();
    cr_assert(!pbd_attached());
    struct ref ref;
    cr_assert_lt(create_vdi(512, NULL, &ref, &err), 0);
    expect_code(&err, "SR_HAS_NO_PBDS");
}

Test(storage, unplug_is_refused_while_a_vm_runs_from_it)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct pbd_unplug_args args = {.self = fake.pbd};
    struct ref vdi = must_create_vdi(FAKE_GIB);
    set_attached(must_create_vbd(add_vm(VM_POWER_STATE_RUNNING), vdi, "0", VBD_TYPE_DISK));
    AUTO_CALL struct call *call = fake_call();
    cr_assert_lt(handle_pbd_unplug(call, &args, &err), 0);
    expect_code(&err, "VDI_IN_USE");
    cr_assert_eq(fake_count("sr_forget"), 0);
}

/* ---- VBDs ---- */

Test(storage, vbd_create_checks)
{
    struct ref vm = add_vm(VM_POWER_STATE_HALTED), vdi = must_create_vdi(FAKE_GIB), none = REF_NULL;
    must_create_vbd(vm, vdi, "1", VBD_TYPE_DISK);
    const struct {
        struct ref vm, vdi;
        const char *device;
        enum vbd_type type;
        enum vbd_mode mode;
        const char *code;
    } table[] = {
        {none, vdi, "2", VBD_TYPE_DISK, VBD_MODE_RW, "HANDLE_INVALID"},
        {vm, vm, "2", VBD_TYPE_DISK, VBD_MODE_RW, "HANDLE_INVALID"},
        {vm, vdi, "xvdb", VBD_TYPE_DISK, VBD_MODE_RW, "DEVICE_ALREADY_EXISTS"},
        {vm, vdi, "hdb", VBD_TYPE_DISK, VBD_MODE_RW, "DEVICE_ALREADY_EXISTS"},
        {vm, vdi, "300", VBD_TYPE_DISK, VBD_MODE_RW, "INVALID_DEVICE"},
        {vm, vdi, "", VBD_TYPE_DISK, VBD_MODE_RW, "INVALID_DEVICE"},
        {vm, vdi, "3", VBD_TYPE_CD, VBD_MODE_RW, "VBD_CDS_MUST_BE_READONLY"},
        {vm, none, "3", VBD_TYPE_DISK, VBD_MODE_RW, "VBD_NOT_REMOVABLE_MEDIA"},
        {vm, vdi, "3", VBD_TYPE_FLOPPY, VBD_MODE_RO, "VALUE_NOT_SUPPORTED"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        struct ref ref;
        cr_assert_lt(
            create_vbd(table[i].vm, table[i].vdi, table[i].device, table[i].type, table[i].mode, &ref, &err),
            0);
        expect_code(&err, table[i].code);
    }
    cr_assert_eq(count_rows(CLASS_VBD), 1);
}

Test(storage, autodetect_takes_the_lowest_free_device)
{
    struct ref vm = add_vm(VM_POWER_STATE_HALTED), vdi = must_create_vdi(FAKE_GIB);
    must_create_vbd(vm, vdi, "xvda", VBD_TYPE_DISK);
    must_create_vbd(vm, vdi, "2", VBD_TYPE_DISK);
    struct ref vbd = must_create_vbd(vm, vdi, "autodetect", VBD_TYPE_DISK);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(fake.server.store);
    cr_assert_str_eq(vbd_row(snapshot_get(snap, CLASS_VBD, vbd))->userdevice, "1");
    AUTO_STR_SET const struct str_set *left =
        storage_allowed_vbd_devices(snap, vm_row(snapshot_get(snap, CLASS_VM, vm)));
    cr_assert_eq(left->count, 252);
    cr_assert_str_eq(left->items[0], "3");
    cr_assert_str_eq(left->items[7], "10");
}

static int insert(struct ref vbd, struct ref vdi, struct api_err *err)
{
    AUTO_CALL struct call *call = fake_call();
    const struct vbd_insert_args args = {.vbd = vbd, .vdi = vdi};
    return handle_vbd_insert(call, &args, err);
}

Test(storage, insert_asks_the_agent_of_a_running_vm_alone)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    fake_add_disk(sr_uuid(fake.iso), "one.iso", 1024);
    cr_assert_eq(scan(fake.iso, &err), 0);
    struct ref iso = find_vdi("one.iso");
    struct ref cold = must_create_vbd(add_vm(VM_POWER_STATE_HALTED), REF_NULL, "3", VBD_TYPE_CD);
    struct ref warm = must_create_vbd(add_vm(VM_POWER_STATE_RUNNING), REF_NULL, "3", VBD_TYPE_CD);
    set_attached(warm);
    cr_assert_eq(insert(cold, iso, &err), 0, "%s", err.code);
    cr_assert_eq(fake_count("cd_insert"), 0);
    cr_assert_eq(insert(warm, iso, &err), 0, "%s", err.code);
    cr_assert_eq(fake_count("cd_insert"), 1);
    cr_assert_str_eq(fake.log[fake.log_count - 1], "cd_insert xvdd");
    AUTO_CALL struct call *call = fake_call();
    const struct vbd_eject_args args = {.vbd = warm};
    cr_assert_eq(handle_vbd_eject(call, &args, &err), 0, "%s", err.code);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(fake.server.store);
    cr_assert(vbd_row(snapshot_get(snap, CLASS_VBD, warm))->empty);
    cr_assert(!vbd_row(snapshot_get(snap, CLASS_VBD, cold))->empty);
}

static int tray_is_stuck(enum hv_call_id call, const void *args, void *result, struct hv_err *err)
{
    if (call == HV_CALL_CD_INSERT)
        return hv_fail(err, HV_ERR_KIND_BAD_STATE, "no such domain runs");
    return fake_default(call, args, result, err);
}

Test(storage, a_failed_insert_changes_no_row)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref drive = must_create_vbd(add_vm(VM_POWER_STATE_RUNNING), REF_NULL, "3", VBD_TYPE_CD);
    set_attached(drive);
    fake.hook = tray_is_stuck;
    cr_assert_lt(insert(drive, must_create_vdi(512), &err), 0);
    expect_code(&err, "VM_BAD_POWER_STATE");
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(fake.server.store);
    cr_assert(vbd_row(snapshot_get(snap, CLASS_VBD, drive))->empty);
}
