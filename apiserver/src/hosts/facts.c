/* The host's record: names of keys are those that XenAPI clients read (software_version, cpu_info). */
#include "facts.h"

#include "../server.h"
#include <base/clock.h>
#include <base/mem.h>
#include <inttypes.h>
#include <stdio.h>

static void put_int(const struct str_map **map, const char *key, int64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, value);
    str_map_put(map, key, text);
}

static const struct str_map *software_version(const struct host_facts *facts)
{
    const struct str_map *map = NULL;
    static const struct str_pair fixed[] = {
        {"product_brand", "Corral"},
        {"product_version", "8.3.0"},
        {"product_version_text", "8.3"},
        {"platform_name", "Corral"},
        {"platform_version", "3.4.0"},
        {"build_number", "0"},
        {"xapi", "25.0"},
        {"xapi_build", "25.0.0"},
        {"db_schema", "5.909"},
        {"network_backend", "bridge"},
        {"dbv", "2026.0001"},
    };
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        str_map_put(&map, fixed[i].key, fixed[i].value);
    str_map_put(&map, "hostname", facts->hostname);
    str_map_put(&map, "linux", facts->kernel_version);
    str_map_put(&map, "corral_agent", facts->agent_version);
    str_map_put(&map, "hypervisor", facts->driver);
    str_map_put(&map, "accelerator", accelerator_name(facts->accelerator));
    str_map_put(&map, "accelerator_reason", facts->accelerator_reason);
    if (*facts->qemu_version)
        str_map_put(&map, "qemu", facts->qemu_version);
    if (*facts->os_name)
        str_map_put(&map, "os", facts->os_name);
    return map;
}

static const struct str_map *cpu_info(const struct host_facts *facts)
{
    const struct str_map *map = NULL;
    char speed[32];
    put_int(&map, "cpu_count", facts->cpu_count);
    put_int(&map, "socket_count", facts->cpu_sockets);
    put_int(&map, "family", facts->cpu_family);
    put_int(&map, "model", facts->cpu_model);
    put_int(&map, "stepping", facts->cpu_stepping);
    str_map_put(&map, "vendor", facts->cpu_vendor);
    str_map_put(&map, "modelname", facts->cpu_model_name);
    snprintf(speed, sizeof(speed), "%.3f", facts->cpu_mhz);
    str_map_put(&map, "speed", speed);
    str_map_put(&map, "flags", facts->cpu_flags);
    str_map_put(&map, "features", "");
    return map;
}

static void put_time(struct host_row *host, const char *key, int64_t seconds)
{
    char text[32];
    snprintf(text, sizeof(text), "%" PRId64 ".", seconds);
    str_map_put(&host->other_config, key, text);
}

/* What the host's own system has: guests may not have it. */
static void control_domain_memory(struct tx *tx, const struct host_row *host, const struct host_facts *facts)
{
    int64_t bytes = facts->memory_reserved_bytes;
    const struct vm_row *now = vm_row(tx_get(tx, CLASS_VM, host->control_domain));
    if (!now || now->memory_target == bytes)
        return;
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, host->control_domain));
    vm->memory_static_min = vm->memory_static_max = vm->memory_dynamic_min = vm->memory_dynamic_max = bytes;
    vm->memory_target = bytes;
    if (tx_get(tx, CLASS_VM_metrics, vm->metrics))
        vm_metrics_row_mut(tx_edit(tx, CLASS_VM_metrics, vm->metrics))->memory_actual = bytes;
}

static enum host_ntp_mode ntp_mode(enum ntp_mode mode)
{
    switch (mode) {
    case NTP_MODE_DHCP:
        return HOST_NTP_MODE_DHCP;
    case NTP_MODE_CUSTOM:
        return HOST_NTP_MODE_CUSTOM;
    case NTP_MODE_DISABLED:
        return HOST_NTP_MODE_DISABLED;
    case NTP_MODE_FACTORY:
        break;
    }
    return HOST_NTP_MODE_FACTORY;
}

void host_rows_system(struct host_row *host, const struct system_settings *system)
{
    if (!system->managed)
        return;
    host->ssh_enabled = system->ssh_enabled;
    host->ssh_expiry = system->ssh_expiry;
    host->ssh_auto_mode = system->ssh_auto;
    host->console_idle_timeout = system->console_idle_seconds;
    host->ntp_mode = ntp_mode(system->ntp_mode);
    str_set_assign(&host->ntp_custom_servers, str_set_new(system->ntp_servers, system->ntp_servers_count));
    str_assign(&host->timezone, *system->timezone ? system->timezone : "UTC");
    str_assign(&host->max_cstate, system->max_cstate);
    host->display = system->display ? HOST_DISPLAY_ENABLED : HOST_DISPLAY_DISABLED;
}

void host_rows_update(struct tx *tx, struct ref ref, const struct host_facts *facts)
{
    static const char *const capabilities[] = {"hvm-3.0-x86_64", "hvm-3.0-x86_32"};
    static const char *const editions[] = {"free"};
    /* What templates and VMs of XenServer ask for. */
    static const char *const hardware[] = {"0", "1", "2"};
    struct host_row *host = host_row_mut(tx_edit(tx, CLASS_host, ref));
    str_assign(&host->hostname, facts->hostname);
    str_map_assign(&host->software_version, software_version(facts));
    str_map_assign(&host->cpu_info, cpu_info(facts));
    str_set_assign(&host->capabilities, str_set_new(capabilities, ARRAY_LEN(capabilities)));
    str_set_assign(&host->virtual_hardware_platform_versions, str_set_new(hardware, ARRAY_LEN(hardware)));
    str_assign(&host->edition, editions[0]);
    str_set_assign(&host->editions, str_set_new(editions, ARRAY_LEN(editions)));
    host->memory_reserved = facts->memory_reserved_bytes;
    control_domain_memory(tx, host, facts);
    host_rows_system(host, &facts->system);
    put_time(host, "boot_time", facts->boot_time);
    put_time(host, "agent_start_time", facts->agent_start_time);
    if (tx_get(tx, CLASS_host_metrics, host->metrics))
        host_metrics_row_mut(tx_edit(tx, CLASS_host_metrics, host->metrics))->memory_total =
            facts->memory_total_bytes;
}

void host_rows_live(struct tx *tx, struct ref ref, bool live, int64_t memory_free_bytes)
{
    const struct host_row *host = host_row(tx_get(tx, CLASS_host, ref));
    const struct row *metrics = host ? tx_get(tx, CLASS_host_metrics, host->metrics) : NULL;
    if (!metrics || host_metrics_row(metrics)->live == live)
        return;
    struct host_metrics_row *edit = host_metrics_row_mut(tx_edit(tx, CLASS_host_metrics, host->metrics));
    edit->live = live;
    edit->last_updated = clock_unix_seconds();
    (void)memory_free_bytes; /* host_metrics.memory_free is a removed field: always 0 */
}

/* The host as the machine it is: clients count its memory and expect it to run. */
static struct ref add_control_domain(struct tx *tx, struct ref host, const struct host_facts *facts)
{
    struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
    AUTO_STR const char *name = str_newf("Control domain on host: %s", facts->hostname);
    str_assign(&vm->name_label, name);
    str_assign(&vm->name_description, "The host's own operating system, which runs the agent");
    vm->is_control_domain = true;
    vm->power_state = VM_POWER_STATE_RUNNING;
    vm->resident_on = vm->affinity = host;
    vm->domid = 0;
    vm->VCPUs_max = vm->VCPUs_at_startup = facts->cpu_count;
    vm->domain_type = DOMAIN_TYPE_PV;
    vm->actions_after_crash = ON_CRASH_BEHAVIOUR_RESTART;
    struct row *metrics = tx_create(tx, CLASS_VM_metrics);
    vm->metrics = metrics->ref;
    vm_metrics_row_mut(metrics)->VCPUs_number = facts->cpu_count;
    vm_metrics_row_mut(metrics)->start_time = facts->boot_time;
    return vm->row.ref;
}

/* Its own name; several agents on one machine are told apart by a number. */
static void name_host(struct tx *tx, struct host_row *host, const char *hostname)
{
    AUTO_STR const char *name = str_new(hostname);
    for (int n = 2;; n++) {
        const struct row **rows;
        size_t taken = tx_by_name(tx, CLASS_host, name, &rows);
        free(rows);
        if (!taken)
            break;
        str_unref(name);
        name = str_newf("%s-%d", hostname, n);
    }
    str_assign(&host->name_label, name);
}

struct ref host_rows_create(struct tx *tx, const char *uuid, const char *address, int port,
                            const struct host_facts *facts)
{
    struct host_row *host = host_row_mut(tx_create(tx, CLASS_host));
    struct ref ref = host->row.ref;
    str_assign(&host->uuid, uuid);
    name_host(tx, host, facts->hostname);
    str_assign(&host->address, address);
    host->agent_port = port;
    host->enabled = true;
    host->API_version_major = 2;
    host->API_version_minor = 21;
    str_assign(&host->API_version_vendor, "Corral");
    str_assign(&host->sched_policy, "fair");
    host->metrics = tx_create(tx, CLASS_host_metrics)->ref;
    host->control_domain = add_control_domain(tx, ref, facts);
    host_rows_update(tx, ref, facts);
    return ref;
}
