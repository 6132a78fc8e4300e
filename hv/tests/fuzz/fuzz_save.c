/* Any bytes as the beginning of a suspended domain, and any text as what a sound header says: what is taken
 * from it is a configuration that passes the checks, and it can be resumed as itself. */
#include <base/mem.h>
#include <base/secret.h>
#include <endian.h>
#include <io/savefile.h>
#include <qemu/plan.h>
#include <stdlib.h>

#define FIXED 96 /* as in savefile.c */

static void take(const void *data, size_t size)
{
    struct save_header header AUTO_SAVE_HEADER = {.state_bytes = 0};
    struct domain_config merged AUTO_DOMAIN_CONFIG;
    struct hv_err err;
    domain_config_init(&merged);
    if (save_header_parse(data, size, &header, &err) < 0)
        return;
    domain_config_done(&merged);
    if (domain_config_check(&header.config, &err) < 0 || header.state_bytes < SAVE_DATA_OFFSET ||
        save_merge(&header.config, &header.config, true, &merged, &err) < 0 ||
        domain_config_check(&merged, &err) < 0)
        abort();
    const json_t *slots = json_object_get(header.layout, "slots");
    if (qemu_layout_ok(slots, &merged))
        for (size_t i = 0; i < merged.nics_count; i++) {
            char id[QEMU_DEVICE_ID_SIZE];
            int port = qemu_layout_port(slots, qemu_nic_id(merged.nics[i].index, id));
            if (port < 0 || port >= QEMU_PORTS_MAX)
                abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    take(data, size);
    if (size > SAVE_DATA_OFFSET - FIXED)
        return 0;
    char *whole AUTO_FREE = xcalloc(1, FIXED + size + 1), sum[SHA256_TEXT_SIZE];
    uint32_t version = htole32(1), len = htole32((uint32_t)size);
    memcpy(whole, "CORRALsv", 8);
    memcpy(whole + 8, &version, 4);
    memcpy(whole + 12, &len, 4);
    memcpy(whole + 16, sha256_text(data, size, sum), SHA256_TEXT_SIZE);
    memcpy(whole + FIXED, data, size);
    take(whole, FIXED + size);
    return 0;
}
