/* Any bytes as a reply of a guest's agent: what is kept of it is bounded text. */
#include <base/json.h>
#include <base/mem.h>
#include <qemu/qga.h>
#include <stdlib.h>

static void check(const char *text, size_t max)
{
    if (strlen(text) > max || !utf8_valid(text, strlen(text)))
        abort();
    for (; *text; text++)
        if ((unsigned char)*text < 0x20)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_error error;
    struct domain_config config = {0};
    struct guest_info info;
    json_t *json AUTO_JSON = json_parse((const char *)data, size, &error);
    if (!json)
        return 0;
    guest_info_init(&info);
    qga_read_osinfo(json, &info);
    qga_read_interfaces(json, &config, &info);
    check(info.os_name, 256);
    check(info.hostname, 256);
    if (info.addresses_count > 64)
        abort();
    for (size_t i = 0; i < info.addresses_count; i++)
        check(info.addresses[i].mac, 64);
    guest_info_done(&info);
    return 0;
}
