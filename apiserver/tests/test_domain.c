/* Golden texts: rows of a VM -> the configuration that its host's agent gets. */
#include <base/buf.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <db/store.h>
#include <hv/types.h>
#include <hv/wire.h>
#include <model/errors.h>
#include <model/rows.h>
#include <plan/domain.h>
#include <plan/hardware.h>

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
    store_close(store);
}

TestSuite(domain, .init = start, .fini = stop);

static struct vm_row *make_vm(void)
{
    struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
    str_assign(&vm->uuid, "11111111-1111-4111-8111-111111111111");
    str_assign(&vm->name_label, "web <1>, \"x\"");
    vm->memory_static_max = 512 << 20;
    vm->memory_dynamic_max = 256 << 20;
    vm->VCPUs_max = 4;
    vm->VCPUs_at_startup = 2;
    vm->actions_after_shutdown = ON_NORMAL_EXIT_DESTROY;
    vm->actions_after_reboot = ON_NORMAL_EXIT_RESTART;
    vm->actions_after_crash = ON_CRASH_BEHAVIOUR_PRESERVE;
    return vm;
}

static struct ref make_sr(const char *type, const char *uuid)
{
    struct sr_row *sr = sr_row_mut(tx_create(tx, CLASS_SR));
    str_assign(&sr->uuid, uuid);
    str_assign(&sr->type, type);
    str_assign(&sr->content_type, streq(type, "iso") ? "iso" : "user");
    return sr->row.ref;
}

static struct ref make_vdi(struct ref sr, const char *uuid, const char *location)
{
    struct vdi_row *vdi = vdi_row_mut(tx_create(tx, CLASS_VDI));
    str_assign(&vdi->uuid, uuid);
    str_assign(&vdi->location, location);
    vdi->SR = sr;
    return vdi->row.ref;
}

static struct vbd_row *make_vbd(const struct vm_row *vm, struct ref vdi, const char *device,
                                enum vbd_type type)
{
    struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
    vbd->VM = vm->row.ref;
    vbd->VDI = vdi;
    vbd->type = type;
    vbd->mode = VBD_MODE_RW;
    vbd->empty = ref_is_null(vdi);
    str_assign(&vbd->userdevice, device);
    return vbd;
}

static struct vif_row *make_vif(const struct vm_row *vm, const char *device, const char *mac)
{
    struct vif_row *vif = vif_row_mut(tx_create(tx, CLASS_VIF));
    struct network_row *network = network_row_mut(tx_create(tx, CLASS_network));
    str_map_put(&network->other_config, "corral:kind", "user");
    vif->VM = vm->row.ref;
    vif->network = network->row.ref;
    str_assign(&vif->device, device);
    str_assign(&vif->MAC, mac);
    return vif;
}

/* Commits, plans, and gives the configuration as JSON, or "!CODE parameters". */
static char *planned(struct ref vm, bool paused)
{
    struct store_err cause;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct domain_config config;
    struct buf out = BUF_INIT;
    cr_assert_eq(tx_commit(tx, NULL, &cause), 0);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    if (plan_domain(snap, vm_row(snapshot_get(snap, CLASS_VM, vm)), paused, &config, &err) < 0) {
        buf_printf(&out, "!%s", err.code);
        for (size_t i = 0; i < err.param_count; i++)
            buf_printf(&out, " %s", err.params[i]);
        return buf_take(&out);
    }
    wire_encode(&domain_config_desc, &config, &out);
    domain_config_done(&config);
    return buf_take(&out);
}

Test(domain, kernel_with_disk_cd_and_nics)
{
    struct vm_row *vm = make_vm();
    struct ref sr = make_sr("file", "22222222-2222-4222-8222-222222222222");
    struct ref iso = make_sr("iso", "33333333-3333-4333-8333-333333333333");
    str_assign(&vm->PV_kernel, "vmlinuz");
    str_assign(&vm->PV_ramdisk, "initrd");
    str_assign(&vm->PV_args, "console=ttyS0 quiet");
    str_map_put(&vm->platform, "timeoffset", "-3600");
    make_vbd(vm, make_vdi(sr, "44444444-4444-4444-8444-444444444444", "x"), "0", VBD_TYPE_DISK);
    make_vbd(vm, make_vdi(sr, "55555555-5555-4555-8555-555555555555", "x"), "xvdb", VBD_TYPE_DISK)->mode =
        VBD_MODE_RO;
    make_vbd(vm, make_vdi(iso, "66666666-6666-4666-8666-666666666666", "debian.iso"), "3", VBD_TYPE_CD);
    make_vif(vm, "0", "02:00:00:00:00:01");
    make_vif(vm, "1", "02:00:00:00:00:02")->locking_mode = VIF_LOCKING_MODE_DISABLED;
    struct ref ref = vm->row.ref;
    AUTO_FREE char *text = planned(ref, false);
    AUTO_JSON json_t *got = json_loads(text, 0, NULL);
    cr_assert_not_null(got, "%s", text);
    AUTO_JSON json_t *wanted = json_loads(
        "{\"uuid\":\"11111111-1111-4111-8111-111111111111\",\"name\":\"web <1>, "
        "\\\"x\\\"\",\"memory_bytes\":268435456,"
        "\"vcpus\":2,\"firmware\":\"kernel\",\"kernel\":\"vmlinuz\",\"ramdisk\":\"initrd\","
        "\"cmdline\":\"console=ttyS0 quiet\",\"rtc_offset_seconds\":-3600,\"on_shutdown\":\"destroy\","
        "\"on_reboot\":\"restart\",\"on_crash\":\"preserve\",\"start_paused\":false}",
        0, NULL);
    const char *key;
    json_t *value;
    json_object_foreach(wanted, key, value)
        cr_assert(json_equal(json_object_get(got, key), value), "%s in %s", key, text);
    json_t *disks = json_object_get(got, "disks");
    cr_assert_eq(json_array_size(disks), 3, "%s", text);
    static const struct {
        int index;
        const char *device, *bus, *source, *sr, *disk, *iso;
        bool cdrom, read_only;
    } table[] = {
        {0, "xvda", "virtio", "disk", "22222222-2222-4222-8222-222222222222",
         "44444444-4444-4444-8444-444444444444", "", false, false},
        {1, "xvdb", "virtio", "disk", "22222222-2222-4222-8222-222222222222",
         "55555555-5555-4555-8555-555555555555", "", false, true},
        {3, "xvdd", "sata", "iso", "33333333-3333-4333-8333-333333333333", "", "debian.iso", true, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const json_t *disk = NULL;
        for (size_t n = 0; n < json_array_size(disks); n++)
            if (json_integer_value(json_object_get(json_array_get(disks, n), "index")) == table[i].index)
                disk = json_array_get(disks, n);
        cr_assert_not_null(disk, "no disk %d in %s", table[i].index, text);
        const char *const pairs[][2] = {{"device", table[i].device}, {"bus", table[i].bus},
                                        {"source", table[i].source}, {"sr", table[i].sr},
                                        {"disk", table[i].disk},     {"iso", table[i].iso}};
        for (size_t p = 0; p < ARRAY_LEN(pairs); p++) {
            const char *is = json_string_value(json_object_get(disk, pairs[p][0]));
            cr_assert_str_eq(is ? is : "", pairs[p][1], "%s of disk %d in %s", pairs[p][0], table[i].index,
                             text);
        }
        cr_assert_eq(json_is_true(json_object_get(disk, "cdrom")), table[i].cdrom);
        cr_assert_eq(json_is_true(json_object_get(disk, "read_only")), table[i].read_only);
    }
    json_t *nics = json_object_get(got, "nics");
    cr_assert_eq(json_array_size(nics), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *nic = json_array_get(nics, i);
        int64_t index = json_integer_value(json_object_get(nic, "index"));
        cr_assert_str_eq(json_string_value(json_object_get(nic, "kind")), index == 0 ? "user" : "none");
        cr_assert_str_eq(json_string_value(json_object_get(nic, "mac")),
                         index == 0 ? "02:00:00:00:00:01" : "02:00:00:00:00:02");
    }
}

Test(domain, a_nic_on_a_bridge)
{
    struct vm_row *vm = make_vm();
    struct network_row *network = network_row_mut(tx_create(tx, CLASS_network));
    str_assign(&network->bridge, "xapi0");
    make_vif(vm, "0", "02:00:00:00:00:01")->network = network->row.ref;
    struct ref ref = vm->row.ref;
    AUTO_FREE char *text = planned(ref, false);
    AUTO_JSON json_t *got = json_loads(text, 0, NULL);
    json_t *nic = json_array_get(json_object_get(got, "nics"), 0);
    cr_assert_str_eq(json_string_value(json_object_get(nic, "kind")), "bridge", "%s", text);
    cr_assert_str_eq(json_string_value(json_object_get(nic, "bridge")), "xapi0");
}

Test(domain, paused_and_firmware)
{
    static const struct {
        const char *firmware, *order, *wanted;
    } table[] = {
        {NULL, NULL, "\"firmware\":\"bios\""},
        {"", "cd", "\"firmware\":\"bios\""},
        {"bios", "dc", "\"boot_order\":\"dc\""},
        {"uefi", "n", "\"firmware\":\"uefi\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct vm_row *vm = make_vm();
        if (table[i].firmware)
            str_map_put(&vm->HVM_boot_params, "firmware", table[i].firmware);
        if (table[i].order)
            str_map_put(&vm->HVM_boot_params, "order", table[i].order);
        AUTO_FREE char *text = planned(vm->row.ref, true);
        cr_assert(strstr(text, table[i].wanted), "%s in %s", table[i].wanted, text);
        cr_assert(strstr(text, "\"start_paused\":true"), "%s", text);
        tx = store_begin(store);
    }
    tx_abort(tx);
}

Test(domain, an_empty_drive)
{
    struct vm_row *vm = make_vm();
    make_vbd(vm, REF_NULL, "3", VBD_TYPE_CD);
    AUTO_FREE char *text = planned(vm->row.ref, false);
    cr_assert(strstr(text, "\"source\":\"empty\""), "%s", text);
}

enum fault {
    FAULT_BOOTLOADER,
    FAULT_FIRMWARE,
    FAULT_DEVICE,
    FAULT_FLOPPY,
    FAULT_TWO_DISKS_AT_ONE_PLACE,
    FAULT_KERNEL_PATH,
    FAULT_ORDER,
    FAULT_NO_VCPU,
    FAULT_MAC,
    FAULT_ISO_PATH,
};

static void add_fault(struct vm_row *vm, enum fault fault)
{
    struct ref sr = make_sr("file", "22222222-2222-4222-8222-222222222222");
    switch (fault) {
    case FAULT_BOOTLOADER:
        str_assign(&vm->PV_bootloader, "/usr/bin/pygrub");
        return;
    case FAULT_FIRMWARE:
        str_map_put(&vm->HVM_boot_params, "firmware", "openfirmware");
        return;
    case FAULT_DEVICE:
        make_vbd(vm, REF_NULL, "../../x", VBD_TYPE_CD);
        return;
    case FAULT_FLOPPY:
        make_vbd(vm, REF_NULL, "0", VBD_TYPE_FLOPPY);
        return;
    case FAULT_TWO_DISKS_AT_ONE_PLACE:
        make_vbd(vm, make_vdi(sr, "44444444-4444-4444-8444-444444444444", "x"), "0", VBD_TYPE_DISK);
        make_vbd(vm, make_vdi(sr, "55555555-5555-4555-8555-555555555555", "x"), "xvda", VBD_TYPE_DISK);
        return;
    case FAULT_KERNEL_PATH:
        str_assign(&vm->PV_kernel, "../../../etc/shadow");
        return;
    case FAULT_ORDER:
        str_map_put(&vm->HVM_boot_params, "order", "c,-device");
        return;
    case FAULT_NO_VCPU:
        vm->VCPUs_at_startup = 0;
        return;
    case FAULT_MAC:
        make_vif(vm, "0", "02:00:00:00:00:01,script=/x");
        return;
    case FAULT_ISO_PATH:
        make_vbd(vm,
                 make_vdi(make_sr("iso", "33333333-3333-4333-8333-333333333333"),
                          "66666666-6666-4666-8666-666666666666", "../../etc/passwd"),
                 "3", VBD_TYPE_CD);
        return;
    }
}

/* What cannot run, or must not reach a host, is refused before the agent is asked. */
Test(domain, refusals)
{
    for (enum fault fault = FAULT_BOOTLOADER; fault <= FAULT_ISO_PATH; fault++) {
        struct vm_row *vm = make_vm();
        add_fault(vm, fault);
        AUTO_FREE char *text = planned(vm->row.ref, false);
        cr_assert(text[0] == '!', "fault %d gives %s", fault, text);
        tx = store_begin(store);
    }
    tx_abort(tx);
}

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

Test(domain, the_kernel_of_the_guest)
{
    struct vm_row *vm = make_vm();
    vm->domain_type = DOMAIN_TYPE_PV;
    str_assign(&vm->PV_bootloader, "pygrub");
    str_assign(&vm->PV_bootloader_args, "Debian, old kernel");
    str_assign(&vm->PV_kernel, "left-over");
    str_assign(&vm->PV_args, "single");
    AUTO_FREE char *text = planned(vm->row.ref, false);
    cr_expect(has(text,
                  "\"firmware\":\"guest_kernel\",\"kernel\":\"\",\"ramdisk\":\"\",\"cmdline\":\"single\","
                  "\"kernel_title\":\"Debian, old kernel\""),
              "%s", text);
}

Test(domain, firmware_and_hardware)
{
    struct vm_row *vm = make_vm();
    static const struct str_pair platform[] = {
        {"secureboot", "auto"},    {"hpet", "false"},       {"nx", "0"},
        {"viridian", "true"},      {"vga", "cirrus"},       {"videoram", "200"},
        {"cores-per-socket", "2"}, {"usb_tablet", "false"}, {"nic_type", "e1000"},
        {"disk_type", "sata"},     {"serial", "none"}};
    vm->domain_type = DOMAIN_TYPE_HVM;
    str_map_put(&vm->HVM_boot_params, "firmware", "uefi");
    str_map_assign(&vm->platform, str_map_new(platform, ARRAY_LEN(platform)));
    str_assign(&vm->generation_id, "4972798176784127:-2401053088876216594");
    struct ref sr = make_sr("file", "22222222-2222-4222-8222-222222222222");
    make_vbd(vm, make_vdi(sr, "44444444-4444-4444-8444-444444444444", "x"), "0", VBD_TYPE_DISK);
    make_vif(vm, "0", "02:00:00:00:00:01");
    vtpm_row_mut(tx_create(tx, CLASS_VTPM))->VM = vm->row.ref;
    AUTO_FREE char *text = planned(vm->row.ref, false);
    cr_expect(has(text, "\"firmware\":\"uefi\""), "%s", text);
    cr_expect(has(text, "\"secure_boot\":\"auto\",\"tpm\":true,\"generation\":\"ccddeeff-aabb-0011-"), "%s",
              text);
    cr_expect(has(text,
                  "\"nx\":false,\"hpet\":false,\"viridian\":true,\"nested\":false,\"cores_per_socket\":2,"
                  "\"video\":\"cirrus\",\"video_mib\":16,\"tablet\":false,\"vnc\":true,\"serial\":false"),
              "%s", text);
    cr_expect(has(text, "\"bus\":\"sata\""), "%s", text);
    cr_expect(has(text, "\"model\":\"e1000\""), "%s", text);
}

Test(domain, an_installer_comes_before_everything_else)
{
    struct vm_row *vm = make_vm();
    str_assign(&vm->HVM_boot_policy, "BIOS order");
    str_map_put(&vm->other_config, "corral:install-kernel", "i.linux");
    str_map_put(&vm->other_config, "corral:install-ramdisk", "i.initrd");
    str_map_put(&vm->other_config, "corral:install-arguments", "auto=true");
    AUTO_FREE char *text = planned(vm->row.ref, false);
    cr_expect(has(text, "\"firmware\":\"kernel\",\"kernel\":\"i.linux\",\"ramdisk\":\"i.initrd\",\"cmdline\":"
                        "\"auto=true\""),
              "%s", text);
    cr_expect(has(text, "\"on_reboot\":\"destroy\""), "%s", text);
}

Test(domain, generation_ids)
{
    char id[UUID_TEXT_SIZE];
    cr_assert(plan_generation("1234605616436508552:-81985529216486896", id));
    cr_expect_str_eq(id, "55667788-3344-1122-1032-547698badcfe");
    cr_assert(plan_generation("1:2", id));
    cr_expect_str_eq(id, "00000001-0000-0000-0200-000000000000");
    static const char *const none[] = {"", "0:0", "1", "1:", ":1", "1:2:3", "x:y", "1:99999999999999999999"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        cr_expect_not(plan_generation(none[i], id), "%s", none[i]);
}

/* Plans a VM with these keys: the seed alone (the caller's), or the error as `planned` has it in *refused. */
static json_t *seed_of(const struct str_pair *pairs, size_t count, char **refused)
{
    struct vm_row *vm = make_vm();
    str_map_assign(&vm->other_config, str_map_new(pairs, count));
    make_vif(vm, "0", "02:00:00:00:00:01");
    AUTO_FREE char *text = planned(vm->row.ref, false);
    tx = store_begin(store);
    tx_delete(tx, CLASS_VM, vm->row.ref);
    AUTO_JSON json_t *config = json_loads(text, 0, NULL);
    json_t *disks = json_object_get(config, "disks"),
           *last = json_array_get(disks, json_array_size(disks) - 1);
    json_t *seed = json_object_get(last, "seed");
    *refused = seed ? NULL : xstrdup(text);
    if (seed)
        cr_expect(json_is_true(json_object_get(last, "read_only")), "%s", text);
    return json_incref(seed);
}

Test(domain, cloud_init)
{
    static const char key[] = "ssh-ed25519 AAAA ann: \"x\" # {a} \\n- b";
    char *refused;
    const struct str_pair pairs[] = {
        {"cloud-init:hostname", "web-1.example.org"},
        {"cloud-init:user", "ann"},
        {"cloud-init:ssh-keys", "ssh-ed25519 AAAA ann: \"x\" # {a} \\n- b\n\nssh-rsa B\n"},
        {"cloud-init:address", "192.0.2.10/24,192.0.2.1,192.0.2.53"}};
    AUTO_JSON json_t *seed = seed_of(pairs, ARRAY_LEN(pairs), &refused);
    cr_assert(seed, "%s", refused);
    AUTO_JSON json_t *meta = json_loads(json_string_value(json_object_get(seed, "meta-data")), 0, NULL);
    AUTO_JSON json_t *wanted_meta =
        json_pack("{s:s, s:s, s:[s, s]}", "instance-id", "11111111-1111-4111-8111-111111111111",
                  "local-hostname", "web-1.example.org", "public-keys", key, "ssh-rsa B");
    cr_expect(json_equal(meta, wanted_meta));
    const char *user = json_string_value(json_object_get(seed, "user-data"));
    cr_assert_eq(strncmp(user, "#cloud-config\n{", 15), 0, "%s", user);
    AUTO_JSON json_t *config = json_loads(strchr(user, '{'), 0, NULL);
    json_t *ann = json_array_get(json_object_get(config, "users"), 0);
    cr_expect_str_eq(json_string_value(json_object_get(ann, "name")), "ann");
    cr_expect_str_eq(json_string_value(json_array_get(json_object_get(ann, "ssh_authorized_keys"), 0)), key);
    AUTO_JSON json_t *network =
        json_loads(json_string_value(json_object_get(seed, "network-config")), 0, NULL);
    AUTO_JSON json_t *wanted_network =
        json_pack("{s:i, s:[{s:s, s:s, s:s, s:[{s:s, s:s, s:s, s:[s]}]}]}", "version", 1, "config", "type",
                  "physical", "name", "eth0", "mac_address", "02:00:00:00:00:01", "subnets", "type", "static",
                  "address", "192.0.2.10/24", "gateway", "192.0.2.1", "dns_nameservers", "192.0.2.53");
    cr_expect(json_equal(network, wanted_network));
    tx_abort(tx);
}

Test(domain, cloud_init_takes_own_texts_as_they_are)
{
    char *refused;
    const struct str_pair pairs[] = {{"cloud-init:user-data", "#!/bin/sh\necho \"'\n"},
                                     {"cloud-init:network-config", "version: 1\n"}};
    AUTO_JSON json_t *seed = seed_of(pairs, ARRAY_LEN(pairs), &refused);
    cr_assert(seed, "%s", refused);
    cr_expect_str_eq(json_string_value(json_object_get(seed, "user-data")), pairs[0].value);
    cr_expect_str_eq(json_string_value(json_object_get(seed, "network-config")), pairs[1].value);
    tx_abort(tx);
}

Test(domain, cloud_init_refuses)
{
    static const struct str_pair bad[][2] = {
        {{"cloud-init:hostname", "a b"}},
        {{"cloud-init:hostname", "a\nruncmd: [x]"}},
        {{"cloud-init:hostname", ""}},
        {{"cloud-init:hostname", "-a"}},
        {{"cloud-init:hostname", "a..b"}},
        {{"cloud-init:user", "Ann"}},
        {{"cloud-init:user", "ann: x"}},
        {{"cloud-init:user", ""}},
        {{"cloud-init:ssh-keys", "ssh-rsa \x01"}},
        {{"cloud-init:ssh-keys", "ssh-rsa \xc2\x85 x"}},
        {{"cloud-init:ssh-keys", "-----BEGIN OPENSSH PRIVATE KEY-----"}},
        {{"cloud-init:address", "192.0.2.10"}},
        {{"cloud-init:address", "192.0.2.10/33"}},
        {{"cloud-init:address", "192.0.2.10/24,"}},
        {{"cloud-init:address", "192.0.2.10/24,2001:db8::1"}},
        {{"cloud-init:address", "192.0.2.10/24\n,192.0.2.1"}},
        {{"cloud-init:ssh-key", "ssh-rsa A"}},
        {{"cloud-init:user", "ann"}, {"cloud-init:user-data", "#cloud-config\n"}},
        {{"cloud-init:address", "192.0.2.10/24"}, {"cloud-init:network-config", "version: 2\n"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char *refused;
        AUTO_JSON json_t *seed = seed_of(bad[i], bad[i][1].key ? 2 : 1, &refused);
        cr_expect(!seed && has(refused, "!VALUE_NOT_SUPPORTED other_config:cloud-init:"), "%zu: %s", i,
                  refused ? refused : "taken");
        free(refused);
    }
    tx_abort(tx);
}
