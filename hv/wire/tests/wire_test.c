/* The codec: round trips, defaults, limits and refusals; checks of a domain's configuration. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <hv/calls.h>
#include <hv/domain.h>

#define U1 "11111111-1111-4111-8111-111111111111"
#define U2 "22222222-2222-4222-8222-222222222222"

static void fill(struct domain_config *config)
{
    domain_config_init(config);
    str_assign(&config->uuid, U1);
    str_assign(&config->name, "a \"name\", with = and, commas");
    config->memory_bytes = 256 << 20;
    config->vcpus = 2;
    struct domain_disk *disk = domain_config_add_disks(config);
    str_assign(&disk->device, "xvda");
    disk->source = DISK_SOURCE_DISK;
    str_assign(&disk->sr, U2);
    str_assign(&disk->disk, U1);
    disk = domain_config_add_disks(config);
    str_assign(&disk->device, "hdc");
    disk->index = 3;
    disk->cdrom = true;
    disk->bus = DISK_BUS_SATA;
    struct domain_nic *nic = domain_config_add_nics(config);
    str_assign(&nic->mac, "52:54:00:12:34:56");
}

static json_t *parse(const char *text)
{
    struct json_error error;
    json_t *json = json_parse(text, strlen(text), &error);
    cr_assert(json, "%s", error.text);
    return json;
}

Test(wire, a_struct_survives_the_round_trip)
{
    struct domain_config config, copy, back;
    fill(&config);
    domain_config_copy(&copy, &config);
    cr_assert(wire_equal(&domain_config_desc, &config, &copy));

    struct buf text AUTO_BUF = BUF_INIT;
    wire_encode(&domain_config_desc, &config, &text);
    json_t *json AUTO_JSON = parse(text.data);
    char complaint[WIRE_COMPLAINT_SIZE] = "";
    cr_assert_eq(wire_decode(&domain_config_desc, json, &back, complaint), 0, "%s", complaint);
    cr_assert(wire_equal(&domain_config_desc, &config, &back));
    cr_assert_eq(back.disks_count, 2);
    cr_assert_str_eq(back.disks[1].device, "hdc");
    cr_assert(back.disks[1].cdrom);
    cr_assert_eq(back.on_reboot, END_ACTION_RESTART);
    domain_config_done(&config);
    domain_config_done(&copy);
    domain_config_done(&back);
}

Test(wire, every_described_struct_round_trips_at_its_defaults)
{
    for (int i = 0; i < HV_CALL_COUNT; i++) {
        const struct wire_struct *descs[] = {hv_calls[i].args, hv_calls[i].result};
        for (int k = 0; k < 2; k++) {
            void *value AUTO_FREE = xcalloc(1, descs[k]->size);
            wire_init(descs[k], value);
            struct buf text AUTO_BUF = BUF_INIT;
            wire_encode(descs[k], value, &text);
            json_t *json AUTO_JSON = parse(text.data);
            cr_assert(json_is_object(json));
            wire_done(descs[k], value);
        }
    }
}

Test(wire, a_missing_member_takes_its_default_or_is_refused)
{
    char complaint[WIRE_COMPLAINT_SIZE] = "";
    struct domain_nic nic;
    json_t *json AUTO_JSON = parse("{\"index\":1,\"mac\":\"52:54:00:12:34:56\",\"of the future\":[]}");
    cr_assert_eq(wire_decode(&domain_nic_desc, json, &nic, complaint), 0, "%s", complaint);
    cr_assert_eq(nic.kind, NIC_KIND_USER);
    domain_nic_done(&nic);
    json_t *missing AUTO_JSON = parse("{\"index\":1}");
    cr_assert_eq(wire_decode(&domain_nic_desc, missing, &nic, complaint), -1);
    cr_assert_str_eq(complaint, "domain_nic.mac is missing");
}

Test(wire, wrong_values_are_refused_with_the_member_named)
{
    static const struct {
        const char *json, *complaint;
    } cases[] = {
        {"{\"index\":\"1\",\"mac\":\"a\"}", "domain_nic.index is not a whole number"},
        {"{\"index\":32,\"mac\":\"a\"}", "domain_nic.index is out of range"},
        {"{\"index\":-1,\"mac\":\"a\"}", "domain_nic.index is out of range"},
        {"{\"index\":1.5,\"mac\":\"a\"}", "domain_nic.index is not a whole number"},
        {"{\"index\":1,\"mac\":7}", "domain_nic.mac is not a string"},
        {"{\"index\":1,\"mac\":\"52:54:00:12:34:56:78\"}", "domain_nic.mac is too long"},
        {"{\"index\":1,\"mac\":\"a\\nb\"}", "domain_nic.mac contains a control character"},
        {"{\"index\":1,\"mac\":\"a\",\"kind\":\"tap\"}", "domain_nic.kind is not one of the allowed words"},
        {"{\"index\":1,\"mac\":\"a\",\"restricted\":1}", "domain_nic.restricted is not a boolean"},
        {"[]", "domain_nic is not an object"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char complaint[WIRE_COMPLAINT_SIZE] = "";
        struct domain_nic nic;
        json_t *json AUTO_JSON = parse(cases[i].json);
        cr_assert_eq(wire_decode(&domain_nic_desc, json, &nic, complaint), -1, "case %zu", i);
        cr_assert_str_eq(complaint, cases[i].complaint);
    }
}

Test(wire, a_fault_deep_inside_frees_what_was_read)
{
    char complaint[WIRE_COMPLAINT_SIZE] = "";
    struct domain_config config;
    json_t *json AUTO_JSON = parse("{\"uuid\":\"" U1 "\",\"memory_bytes\":1048576,\"vcpus\":1,\"disks\":["
                                   "{\"device\":\"a\",\"index\":0,\"source\":\"empty\"},"
                                   "{\"device\":\"b\",\"index\":1,\"source\":\"empty\",\"sr\":\"../x\"}]}");
    cr_assert_eq(wire_decode(&domain_config_desc, json, &config, complaint), -1);
    cr_assert_str_eq(complaint, "domain_disk.sr is not a uuid in lower case");
}

Test(wire, too_many_items_are_refused)
{
    struct buf text AUTO_BUF = BUF_INIT;
    buf_add_str(&text, "{\"uuid\":\"" U1 "\",\"memory_bytes\":1048576,\"vcpus\":1,\"nics\":[");
    for (int i = 0; i < 17; i++)
        buf_printf(&text, "%s{\"index\":%d,\"mac\":\"m\"}", i ? "," : "", i);
    buf_add_str(&text, "]}");
    json_t *json AUTO_JSON = parse(text.data);
    char complaint[WIRE_COMPLAINT_SIZE] = "";
    struct domain_config config;
    cr_assert_eq(wire_decode(&domain_config_desc, json, &config, complaint), -1);
    cr_assert_str_eq(complaint, "domain_config.nics has too many items");
}

Test(wire, a_zeroed_struct_can_be_encoded_copied_and_finished)
{
    struct domain_info zero = {0}, copy;
    struct buf text AUTO_BUF = BUF_INIT;
    wire_encode(&domain_info_desc, &zero, &text);
    domain_info_copy(&copy, &zero);
    domain_info_done(&copy);
    domain_info_done(&zero);
    cr_assert(text.len > 0);
}

Test(wire, calls_know_their_key)
{
    struct hv_domain_start_args args;
    hv_domain_start_args_init(&args);
    str_assign(&args.config.uuid, U2);
    const struct hv_call_desc *call = hv_call_find("domain_start");
    cr_assert(call && call->queue == HV_QUEUE_DOMAIN && call->kind == HV_CALL_OPERATION);
    cr_assert_str_eq(*(const char **)((char *)&args + call->key_offset), U2);
    cr_assert_null(hv_call_find("domain_explode"));
    hv_domain_start_args_done(&args);
}

Test(domain, a_sound_configuration_passes)
{
    struct domain_config config;
    struct hv_err err;
    fill(&config);
    cr_assert_eq(domain_config_check(&config, &err), 0, "%s", err.text);
    domain_config_done(&config);
}

static void no_uuid(struct domain_config *c)
{
    str_assign(&c->uuid, "nonsense");
}
static void same_device(struct domain_config *c)
{
    str_assign(&c->disks[1].device, "xvda");
}
static void same_index(struct domain_config *c)
{
    c->disks[1].index = 0;
}
static void empty_disk(struct domain_config *c)
{
    c->disks[1].cdrom = false;
}
static void device_with_comma(struct domain_config *c)
{
    str_assign(&c->disks[0].device, "xvda,x=y");
}
static void disk_without_uuid(struct domain_config *c)
{
    str_assign(&c->disks[0].disk, "");
}
static void iso_with_path(struct domain_config *c)
{
    c->disks[1].source = DISK_SOURCE_ISO;
    str_assign(&c->disks[1].sr, U1);
    str_assign(&c->disks[1].iso, "../secret");
}
static void multicast_mac(struct domain_config *c)
{
    str_assign(&c->nics[0].mac, "01:00:5e:00:00:01");
}
static void mac_with_options(struct domain_config *c)
{
    str_assign(&c->nics[0].mac, "52:54:00:12:34:,x");
}
static void kernel_with_path(struct domain_config *c)
{
    c->firmware = FIRMWARE_KERNEL;
    str_assign(&c->kernel, "/etc/shadow");
}
static void kernel_dots(struct domain_config *c)
{
    c->firmware = FIRMWARE_KERNEL;
    str_assign(&c->kernel, "..");
}
static void no_kernel(struct domain_config *c)
{
    c->firmware = FIRMWARE_KERNEL;
}
static void cmdline_newline(struct domain_config *c)
{
    c->firmware = FIRMWARE_KERNEL;
    str_assign(&c->kernel, "vmlinuz");
    str_assign(&c->cmdline, "quiet\n-device x");
}
static void unused_kernel(struct domain_config *c)
{
    str_assign(&c->kernel, "vmlinuz");
}
static void odd_boot_order(struct domain_config *c)
{
    str_assign(&c->boot_order, "cx");
}
static void twice_in_boot_order(struct domain_config *c)
{
    str_assign(&c->boot_order, "cdc");
}
static void no_vcpu(struct domain_config *c)
{
    c->vcpus = 0;
}

Test(domain, each_fault_is_refused)
{
    static void (*const faults[])(struct domain_config *) = {
        no_uuid,       same_device,    same_index,  empty_disk,          device_with_comma, disk_without_uuid,
        iso_with_path, multicast_mac,  kernel_dots, kernel_with_path,    no_kernel,         cmdline_newline,
        unused_kernel, odd_boot_order, no_vcpu,     twice_in_boot_order, mac_with_options};
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct domain_config config;
        struct hv_err err = {0};
        fill(&config);
        faults[i](&config);
        cr_assert_eq(domain_config_check(&config, &err), -1, "fault %zu", i);
        cr_assert_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT);
        cr_assert(strlen(err.text) > 10);
        domain_config_done(&config);
    }
}
