/* Domains: VMs that run on one host. The structs (domain_config, domain_disk, domain_nic, domain_info,
 * guest_info) and their enums are described in openapi/agent/domain.toml and generated into <hv/types.h>:
 *
 *     struct domain_config config;
 *     domain_config_init(&config);               // every field at its default
 *     str_assign(&config.uuid, uuid);            // strings are rc strings (base/rc.h)
 *     config.memory_bytes = 256 << 20;
 *     struct domain_disk *disk = domain_config_add_disks(&config);   // grows the list, initialised
 *     ...
 *     domain_config_done(&config);               // or AUTO_DOMAIN_CONFIG on the variable
 *
 * This header adds what is not data: checks that the server, the agent and the drivers share. */
#pragma once
#include <hv/err.h>
#include <hv/types.h>

#define AUTO_DOMAIN_CONFIG __attribute__((cleanup(domain_config_done)))
#define AUTO_DOMAIN_INFO __attribute__((cleanup(domain_info_done)))

/* Everything that can be refused without touching a host: uuid, sizes, unique devices, indices and MACs,
 * names without `/` or a leading dot, letters of boot_order, firmware = kernel needs a kernel, a CD is not
 * written to, an iso needs an SR and a name. -1: HV_ERR_KIND_BAD_ARGUMENT with the first complaint. */
int domain_config_check(const struct domain_config *config, struct hv_err *err);

/* Data that a domain and the pool share: keys are vm-data/..., parts of letters, digits and `-_@.:` divided
 * by single slashes, at most DOMAIN_DATA_KEY bytes; values are text (UTF-8 without control characters but tab
 * and newline) of at most DOMAIN_DATA_VALUE bytes; at most DOMAIN_DATA_KEYS keys and DOMAIN_DATA_BYTES
 * together. */
#define DOMAIN_DATA_PREFIX "vm-data/"
#define DOMAIN_DATA_KEY 255
#define DOMAIN_DATA_VALUE 4096
#define DOMAIN_DATA_KEYS 256
#define DOMAIN_DATA_BYTES (48 * 1024)
bool domain_data_key_ok(const char *key);
bool domain_data_value_ok(const char *value);
bool domain_data_fits(const struct str_map *data);
/* All of that. -1: HV_ERR_KIND_BAD_ARGUMENT. */
int domain_data_check(const struct str_map *data, struct hv_err *err);

/* Memory of the host that a domain costs beyond its own, in whole MiB, given as bytes: 64 MiB for the device
 * model with its screen and firmware, 1 MiB a processor, and for the tables that map its memory 1/256 of
 * that. Any numbers. */
int64_t domain_overhead(int64_t memory_bytes, int64_t vcpus_max);

/* Letters, digits, `.`, `_`, `-`, `+`; not empty, no leading dot or dash: safe as the name of a file. */
bool hv_file_name_ok(const char *name);
/* "0,2-5" into processors[0..count): false, and nothing is set, when it is not such a list or names none of
 * them. Empty text: all. */
bool hv_cpu_mask_parse(const char *text, bool *processors, int count);
#define HV_CPUS_MAX 1024
/* "0000:00:02.0": the place of a PCI device, in lower case. */
bool hv_pci_bus_ok(const char *bus);
/* "1-2.4": bus and ports of a USB device. */
bool hv_usb_path_ok(const char *path);
/* Takes this USB device out of the configuration; false: it is not in it. */
bool domain_config_drop_usb(struct domain_config *config, const char *path);
/* aa:bb:cc:dd:ee:ff, not multicast, not all zero. */
bool hv_mac_ok(const char *mac);
/* True while a device model exists for it: running, paused, shutdown or crashed. */
bool domain_state_is_live(enum domain_state state);
