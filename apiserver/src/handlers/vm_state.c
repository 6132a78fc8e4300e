/* Rows of a VM as its power state changes (XenAPI: VM, "on becoming Halted", "Running"). */
#include "vm_state.h"

#include "../plan/passthrough.h"
#include "../rules/operations.h"
#include "../rules/vbd_device.h"
#include "../server.h"
#include "storage.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/mem.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

/* ---- devices ---- */

static void attach_devices(struct tx *tx, const struct vm_row *vm, bool attached)
{
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vm->VBDs->items[i]));
        if (!vbd || vbd->currently_attached == attached)
            continue;
        struct vbd_row *edit = vbd_row_mut(tx_edit(tx, CLASS_VBD, vbd->row.ref));
        char name[VBD_DEVICE_NAME_SIZE];
        int number;
        edit->currently_attached = attached;
        if (attached && !*edit->device && vbd_device_parse(edit->userdevice, &number))
            str_assign(&edit->device, vbd_device_name(number, name));
        if (!attached)
            str_map_assign(&edit->current_operations, NULL);
    }
    for (size_t i = 0; vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(tx_get(tx, CLASS_VIF, vm->VIFs->items[i]));
        if (!vif || vif->currently_attached == attached)
            continue;
        struct vif_row *edit = vif_row_mut(tx_edit(tx, CLASS_VIF, vif->row.ref));
        edit->currently_attached = attached;
        if (!attached)
            str_map_assign(&edit->current_operations, NULL);
    }
}

static void add_console(struct tx *tx, const struct vm_row *vm, enum console_protocol protocol,
                        const char *address)
{
    struct console_row *console = console_row_mut(tx_create(tx, CLASS_console));
    console->protocol = protocol;
    console->VM = vm->row.ref;
    AUTO_STR const char *location = str_newf("https://%s/console?uuid=%s", address, console->uuid);
    str_assign(&console->location, location);
}

static void remove_consoles(struct tx *tx, const struct vm_row *vm)
{
    AUTO_REF_SET const struct ref_set *consoles = ref_set_ref(vm->consoles);
    for (size_t i = 0; consoles && i < consoles->count; i++)
        tx_delete(tx, CLASS_console, consoles->items[i]);
}

static struct vm_metrics_row *edit_metrics(struct tx *tx, struct vm_row *vm)
{
    if (!tx_get(tx, CLASS_VM_metrics, vm->metrics))
        vm->metrics = tx_create(tx, CLASS_VM_metrics)->ref;
    return vm_metrics_row_mut(tx_edit(tx, CLASS_VM_metrics, vm->metrics));
}

/* ---- states ---- */

/* The disk with its memory is of no use any more. */
static void forget_memory(struct tx *tx, struct vm_row *vm)
{
    struct ref image = vm->suspend_VDI;
    vm->suspend_VDI = REF_NULL;
    if (!ref_is_null(image))
        storage_discard_vdi(tx, image);
}

void vm_state_running(struct tx *tx, struct ref ref, struct ref host, const struct domain_info *info)
{
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, ref));
    const struct host_row *on = host_row(tx_get(tx, CLASS_host, host));
    enum vm_power_state was = vm->power_state;
    vm->power_state = info->state == DOMAIN_STATE_PAUSED ? VM_POWER_STATE_PAUSED : VM_POWER_STATE_RUNNING;
    vm->resident_on = vm->last_host = host;
    str_assign(&vm->restore, "");
    vm->ha_always_run = streq(vm->ha_restart_priority, "restart");
    vm->memory_target = info->memory_target_bytes ? info->memory_target_bytes : info->memory_bytes;
    vm->keeps_memory = false;
    vm->scheduled_to_be_resident_on = REF_NULL;
    vm->domid = info->domid;
    struct vm_metrics_row *metrics = edit_metrics(tx, vm);
    metrics->start_time = info->start_time ? info->start_time : clock_unix_seconds();
    metrics->memory_actual = info->memory_actual_bytes ? info->memory_actual_bytes : info->memory_bytes;
    metrics->VCPUs_number = info->vcpus;
    metrics->last_updated = clock_unix_seconds();
    metrics->current_domain_type =
        vm->domain_type == DOMAIN_TYPE_UNSPECIFIED ? DOMAIN_TYPE_HVM : vm->domain_type;
    metrics->hvm = metrics->current_domain_type == DOMAIN_TYPE_HVM;
    if (was == VM_POWER_STATE_HALTED) { /* else they are as they were left */
        attach_devices(tx, vm, true);
        passthrough_attach(tx, vm);
    }
    forget_memory(tx, vm);
    if (!vm->consoles || vm->consoles->count == 0) {
        const char *address = on ? on->address : "";
        add_console(tx, vm, CONSOLE_PROTOCOL_RFB, address);
        add_console(tx, vm, CONSOLE_PROTOCOL_VT100, address);
    }
}

void vm_state_moved(struct tx *tx, struct ref ref, struct ref host, const struct domain_info *info)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    const struct vm_metrics_row *metrics = vm_metrics_row(tx_get(tx, CLASS_VM_metrics, vm->metrics));
    const struct host_row *on = host_row(tx_get(tx, CLASS_host, host));
    int64_t started = metrics ? metrics->start_time : 0;
    bool had_consoles = vm->consoles && vm->consoles->count > 0;
    remove_consoles(tx, vm);
    vm_state_running(tx, ref, host, info); /* for it, those are still there */
    if (had_consoles) {
        add_console(tx, vm, CONSOLE_PROTOCOL_RFB, on ? on->address : "");
        add_console(tx, vm, CONSOLE_PROTOCOL_VT100, on ? on->address : "");
    }
    if (started)
        edit_metrics(tx, vm_row_mut(tx_edit(tx, CLASS_VM, ref)))->start_time = started;
}

bool vm_state_has_numbers(const struct vm_metrics_row *metrics, const struct domain_info *info)
{
    int64_t memory = info->memory_actual_bytes ? info->memory_actual_bytes : info->memory_bytes;
    return metrics && metrics->memory_actual == memory && metrics->VCPUs_number == info->vcpus;
}

void vm_state_numbers(struct tx *tx, struct ref ref, const struct domain_info *info)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    const struct vm_metrics_row *now = vm_metrics_row(tx_get(tx, CLASS_VM_metrics, vm->metrics));
    if (!now || vm_state_has_numbers(now, info))
        return;
    struct vm_metrics_row *edit = vm_metrics_row_mut(tx_edit(tx, CLASS_VM_metrics, vm->metrics));
    edit->memory_actual = info->memory_actual_bytes ? info->memory_actual_bytes : info->memory_bytes;
    edit->VCPUs_number = info->vcpus;
    edit->last_updated = clock_unix_seconds();
}

void vm_state_paused(struct tx *tx, struct ref ref, bool paused)
{
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, ref));
    vm->power_state = paused ? VM_POWER_STATE_PAUSED : VM_POWER_STATE_RUNNING;
}

static void leave_host(struct tx *tx, struct vm_row *vm)
{
    vm->resident_on = REF_NULL;
    vm->scheduled_to_be_resident_on = REF_NULL;
    vm->domid = -1;
    remove_consoles(tx, vm);
    struct vm_metrics_row *metrics = edit_metrics(tx, vm);
    metrics->memory_actual = 0;
    metrics->current_domain_type = DOMAIN_TYPE_UNSPECIFIED;
    metrics->last_updated = clock_unix_seconds();
}

void vm_state_suspended(struct tx *tx, struct ref ref)
{
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, ref));
    vm->power_state = VM_POWER_STATE_SUSPENDED;
    vm->ha_always_run = false;
    leave_host(tx, vm);
    if (tx_get(tx, CLASS_VM_guest_metrics, vm->guest_metrics))
        vm_guest_metrics_row_mut(tx_edit(tx, CLASS_VM_guest_metrics, vm->guest_metrics))->live = false;
}

void vm_state_unwanted(struct tx *tx, struct ref ref)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    if (vm && vm->ha_always_run)
        vm_row_mut(tx_edit(tx, CLASS_VM, ref))->ha_always_run = false;
}

void vm_state_halted(struct tx *tx, struct ref ref)
{
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, ref));
    vm->power_state = VM_POWER_STATE_HALTED;
    vm->requires_reboot = false;
    leave_host(tx, vm);
    forget_memory(tx, vm);
    attach_devices(tx, vm, false);
    passthrough_detach(tx, vm);
    if (tx_get(tx, CLASS_VM_guest_metrics, vm->guest_metrics)) {
        struct ref guest = vm->guest_metrics;
        vm->guest_metrics = REF_NULL;
        tx_delete(tx, CLASS_VM_guest_metrics, guest);
    }
}

/* ---- the guest's own word ---- */

/* "12", "12.4" -> its numbers as text. */
static void version_parts(const char *version, char major[16], char minor[16])
{
    size_t digits = strspn(version, "0123456789");
    snprintf(major, 16, "%.*s", (int)(digits < 15 ? digits : 15), version);
    minor[0] = '\0';
    if (version[digits] == '.') {
        const char *rest = version + digits + 1;
        size_t more = strspn(rest, "0123456789");
        snprintf(minor, 16, "%.*s", (int)(more < 15 ? more : 15), rest);
    }
}

static const struct str_map *os_version(const struct guest_info *guest)
{
    char major[16], minor[16];
    version_parts(guest->os_version, major, minor);
    const struct str_pair pairs[] = {{"name", guest->os_name},
                                     {"uname", guest->kernel},
                                     {"distro", guest->os_id},
                                     {"major", major},
                                     {"minor", minor}};
    return str_map_new(pairs, ARRAY_LEN(pairs));
}

/* "<nic>/ip" is the first IPv4 address, "<nic>/ipv4/<n>" and "<nic>/ipv6/<n>" are all. */
static const struct str_map *networks(const struct guest_info *guest)
{
    const struct str_map *map = NULL;
    for (size_t i = 0; i < guest->addresses_count; i++) {
        const struct guest_address *a = &guest->addresses[i];
        if (a->nic < 0)
            continue;
        const char *family = strchr(a->address, ':') ? "ipv6" : "ipv4";
        char key[64];
        for (int n = 0; n < 64; n++) {
            snprintf(key, sizeof(key), "%" PRId64 "/%s/%d", a->nic, family, n);
            if (!str_map_get(map, key))
                break;
        }
        str_map_put(&map, key, a->address);
        snprintf(key, sizeof(key), "%" PRId64 "/ip", a->nic);
        if (streq(family, "ipv4") && !str_map_get(map, key))
            str_map_put(&map, key, a->address);
    }
    return map;
}

/* Mountpoint -> "ext4 vda3 1073741824 25%": type, device, size in bytes, used; the last two when it says
 * them. */
static const struct str_map *filesystems(const struct guest_info *guest)
{
    const struct str_map *map = NULL;
    for (size_t i = 0; i < guest->filesystems_count; i++) {
        const struct guest_filesystem *fs = &guest->filesystems[i];
        AUTO_BUF struct buf text = BUF_INIT;
        buf_printf(&text, "%s %s", *fs->type ? fs->type : "-", *fs->device ? fs->device : "-");
        if (fs->used_percent >= 0)
            buf_printf(&text, " %" PRId64 " %" PRId64 "%%", fs->total_bytes, fs->used_percent);
        str_map_put(&map, fs->mountpoint, text.data);
    }
    return map;
}

static const struct str_map *features(void)
{
    static const struct str_pair pairs[] = {
        {"feature-shutdown", "1"}, {"feature-poweroff", "1"}, {"feature-reboot", "1"}};
    return str_map_new(pairs, ARRAY_LEN(pairs));
}

/* What its agent said last stays. */
static void guest_silent(struct tx *tx, const struct vm_row *vm)
{
    const struct vm_guest_metrics_row *now =
        vm_guest_metrics_row(tx_get(tx, CLASS_VM_guest_metrics, vm->guest_metrics));
    if (!now || !now->live)
        return;
    struct vm_guest_metrics_row *edit =
        vm_guest_metrics_row_mut(tx_edit(tx, CLASS_VM_guest_metrics, now->row.ref));
    edit->live = edit->PV_drivers_detected = edit->PV_drivers_up_to_date = false;
    str_map_assign(&edit->other, NULL);
    operations_refresh(tx, CLASS_VM, vm->row.ref);
}

void vm_state_guest(struct tx *tx, struct ref ref, const struct guest_info *guest)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    if (!vm || guest->updated == 0)
        return;
    if (!guest->live) {
        guest_silent(tx, vm);
        return;
    }
    AUTO_STR_MAP const struct str_map *os = os_version(guest);
    AUTO_STR_MAP const struct str_map *nets = networks(guest);
    AUTO_STR_MAP const struct str_map *disks = filesystems(guest);
    AUTO_STR_MAP const struct str_map *other = features();
    const struct vm_guest_metrics_row *now =
        vm_guest_metrics_row(tx_get(tx, CLASS_VM_guest_metrics, vm->guest_metrics));
    if (now && now->live && str_map_equal(now->os_version, os) && str_map_equal(now->networks, nets) &&
        str_map_equal(now->disks, disks))
        return;
    struct vm_guest_metrics_row *edit;
    if (now) {
        edit = vm_guest_metrics_row_mut(tx_edit(tx, CLASS_VM_guest_metrics, now->row.ref));
    } else {
        edit = vm_guest_metrics_row_mut(tx_create(tx, CLASS_VM_guest_metrics));
        vm_row_mut(tx_edit(tx, CLASS_VM, ref))->guest_metrics = edit->row.ref;
    }
    edit->live = edit->PV_drivers_detected = edit->PV_drivers_up_to_date = true;
    edit->last_updated = guest->updated;
    str_map_assign(&edit->os_version, TAKE_PTR(os));
    str_map_assign(&edit->networks, TAKE_PTR(nets));
    str_map_assign(&edit->disks, TAKE_PTR(disks));
    str_map_assign(&edit->other, TAKE_PTR(other));
    char major[16], minor[16];
    version_parts(guest->agent_version, major, minor);
    const struct str_pair version[] = {{"major", major}, {"minor", minor}, {"micro", "0"}, {"build", ""}};
    str_map_assign(&edit->PV_drivers_version, str_map_new(version, ARRAY_LEN(version)));
    operations_refresh(tx, CLASS_VM, ref);
}

void vm_state_drivers(struct tx *tx, struct ref ref, bool virtio)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    const struct vm_guest_metrics_row *now =
        vm ? vm_guest_metrics_row(tx_get(tx, CLASS_VM_guest_metrics, vm->guest_metrics)) : NULL;
    if (!vm || !virtio || (now && now->PV_drivers_detected))
        return;
    struct vm_guest_metrics_row *edit;
    if (now) {
        edit = vm_guest_metrics_row_mut(tx_edit(tx, CLASS_VM_guest_metrics, now->row.ref));
    } else {
        edit = vm_guest_metrics_row_mut(tx_create(tx, CLASS_VM_guest_metrics));
        vm_row_mut(tx_edit(tx, CLASS_VM, ref))->guest_metrics = edit->row.ref;
        edit->last_updated = clock_unix_seconds();
    }
    edit->PV_drivers_detected = edit->PV_drivers_up_to_date = true;
    operations_refresh(tx, CLASS_VM, ref);
}
