/* Fills the database of a pool that does not run: VMs with what belongs to them, ten objects each (the VM,
 * its metrics and guest metrics, three VBDs with their VDIs, a VIF), a thousand to an SR and a network; and
 * hosts that all have one agent address.
 *
 * Usage: bench_fill POOL.DB VMS [HOSTS ADDRESS PORT] */
#include <base/clock.h>
#include <base/mem.h>
#include <db/store.h>
#include <model/rows.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define VMS_A_GROUP 1000 /* share an SR and a network, and a transaction */
#define DISKS 3
#define GIB (INT64_C(1) << 30)

static _Noreturn void give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench_fill: %s: %s\n", what, why);
    exit(1);
}

static void commit(struct tx *tx)
{
    struct store_err err;
    if (tx_commit(tx, NULL, &err) != 0)
        give_up("commit", err.text);
}

static __attribute__((format(printf, 2, 3))) void name(const char **slot, const char *format, ...)
{
    char text[96];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    str_assign(slot, text);
}

struct group {
    struct ref sr, network;
};

static struct group add_group(struct tx *tx, long number)
{
    struct sr_row *sr = sr_row_mut(tx_create(tx, CLASS_SR));
    struct network_row *network = network_row_mut(tx_create(tx, CLASS_network));
    name(&sr->name_label, "storage %ld", number);
    str_assign(&sr->type, "file");
    str_assign(&sr->content_type, "user");
    sr->shared = true;
    name(&network->name_label, "network %ld", number);
    name(&network->bridge, "net%ld", number);
    network->MTU = 1500;
    return (struct group){sr->row.ref, network->row.ref};
}

static void add_disk(struct tx *tx, struct ref vm, struct ref sr, long number, int device)
{
    struct vdi_row *vdi = vdi_row_mut(tx_create(tx, CLASS_VDI));
    struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
    name(&vdi->name_label, "disk of machine %ld", number);
    vdi->SR = sr;
    vdi->virtual_size = 20 * GIB;
    vdi->physical_utilisation = 3 * GIB;
    vdi->type = VDI_TYPE_USER;
    vdi->managed = true;
    str_assign(&vdi->location, vdi->uuid);
    vbd->VM = vm;
    vbd->VDI = vdi->row.ref;
    name(&vbd->userdevice, "%d", device);
    vbd->bootable = device == 0;
    vbd->mode = VBD_MODE_RW;
    vbd->type = VBD_TYPE_DISK;
    vbd->unpluggable = true;
    str_map_put(&vbd->other_config, "owner", "");
}

static void add_vm(struct tx *tx, const struct group *group, long number)
{
    struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
    struct vm_metrics_row *metrics = vm_metrics_row_mut(tx_create(tx, CLASS_VM_metrics));
    struct vm_guest_metrics_row *guest = vm_guest_metrics_row_mut(tx_create(tx, CLASS_VM_guest_metrics));
    struct vif_row *vif = vif_row_mut(tx_create(tx, CLASS_VIF));
    name(&vm->name_label, "machine %ld", number);
    name(&vm->name_description, "what machine %ld is for, in a sentence as people write them", number);
    vm->power_state = VM_POWER_STATE_HALTED;
    vm->memory_static_max = vm->memory_dynamic_max = vm->memory_dynamic_min = 2 * GIB;
    vm->memory_static_min = GIB;
    vm->VCPUs_max = vm->VCPUs_at_startup = 2;
    vm->actions_after_shutdown = ON_NORMAL_EXIT_DESTROY;
    vm->actions_after_reboot = ON_NORMAL_EXIT_RESTART;
    vm->actions_after_crash = ON_CRASH_BEHAVIOUR_RESTART;
    vm->domain_type = DOMAIN_TYPE_HVM;
    vm->domid = -1;
    str_assign(&vm->HVM_boot_policy, "BIOS order");
    str_map_put(&vm->HVM_boot_params, "order", "cdn");
    str_map_put(&vm->HVM_boot_params, "firmware", "bios");
    str_map_put(&vm->platform, "acpi", "1");
    str_map_put(&vm->platform, "apic", "true");
    str_map_put(&vm->platform, "nx", "true");
    str_map_put(&vm->platform, "pae", "true");
    str_map_put(&vm->platform, "viridian", "false");
    str_map_put(&vm->other_config, "base_template_name", "Debian Bookworm 12");
    str_map_put(&vm->other_config, "mac_seed", vm->uuid);
    vm->metrics = metrics->row.ref;
    vm->guest_metrics = guest->row.ref;
    metrics->install_time = clock_unix_seconds();
    metrics->VCPUs_number = 2;
    str_map_put(&guest->os_version, "name", "Debian GNU/Linux 12 (bookworm)");
    str_map_put(&guest->os_version, "distro", "debian");
    char mac[18];
    snprintf(mac, sizeof(mac), "02:00:00:%02lx:%02lx:%02lx", number >> 16 & 255, number >> 8 & 255,
             number & 255);
    str_assign(&vif->MAC, mac);
    str_assign(&vif->device, "0");
    vif->MTU = 1500;
    vif->VM = vm->row.ref;
    vif->network = group->network;
    for (int disk = 0; disk < DISKS; disk++)
        add_disk(tx, vm->row.ref, group->sr, number, disk);
}

static void add_host(struct tx *tx, long number, const char *address, int port)
{
    struct host_row *host = host_row_mut(tx_create(tx, CLASS_host));
    struct host_metrics_row *metrics = host_metrics_row_mut(tx_create(tx, CLASS_host_metrics));
    struct vm_row *domain = vm_row_mut(tx_create(tx, CLASS_VM));
    struct vm_metrics_row *domain_metrics = vm_metrics_row_mut(tx_create(tx, CLASS_VM_metrics));
    name(&host->name_label, "simulated host %ld", number);
    name(&host->hostname, "simulated-%ld", number);
    str_assign(&host->address, address);
    host->agent_port = port;
    host->enabled = true;
    host->metrics = metrics->row.ref;
    host->control_domain = domain->row.ref;
    domain->is_control_domain = true;
    domain->power_state = VM_POWER_STATE_RUNNING;
    domain->resident_on = host->row.ref;
    domain->metrics = domain_metrics->row.ref;
    name(&domain->name_label, "Control domain on host: simulated-%ld", number);
}

int main(int argc, char **argv)
{
    struct store *store;
    struct store_err err;
    if (argc != 3 && argc != 6) {
        fprintf(stderr, "usage: bench_fill POOL.DB VMS [HOSTS ADDRESS PORT]\n");
        return 2;
    }
    const struct store_config config = {.path = argv[1]};
    if (store_open(&store, &config, &err) != 0)
        give_up(argv[1], err.text);
    long vms = strtol(argv[2], NULL, 10), hosts = argc == 6 ? strtol(argv[3], NULL, 10) : 0;
    for (long first = 0; first < vms; first += VMS_A_GROUP) {
        struct tx *tx = store_begin(store);
        struct group group = add_group(tx, first / VMS_A_GROUP);
        for (long i = first; i < vms && i < first + VMS_A_GROUP; i++)
            add_vm(tx, &group, i);
        commit(tx);
    }
    struct tx *tx = store_begin(store);
    for (long i = 0; i < hosts; i++)
        add_host(tx, i, argv[4], (int)strtol(argv[5], NULL, 10));
    commit(tx);
    struct store_stats stats;
    store_stats(store, &stats);
    printf("%llu\n", (unsigned long long)stats.rows);
    store_close(store);
    return 0;
}
