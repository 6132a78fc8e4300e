/* The planner against golden files: tests/golden/<name>.json is a configuration as it comes over the wire,
 * <name>.args the arguments that it must become, one a line. CORRAL_GOLDEN_UPDATE=1 writes them anew. */
#include <base/file.h>
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <glob.h>
#include <qemu/plan.h>
#include <stdio.h>

static void load(const char *file, struct domain_config *config)
{
    size_t len = 0;
    char *text AUTO_FREE = file_read(file, 1 << 20, &len);
    cr_assert(text, "%s", file);
    struct json_error error;
    json_t *json AUTO_JSON = json_parse(text, len, &error);
    cr_assert(json, "%s: %s", file, error.text);
    char complaint[WIRE_COMPLAINT_SIZE] = "";
    cr_assert_eq(wire_decode(&domain_config_desc, json, config, complaint), 0, "%s: %s", file, complaint);
    struct hv_err err;
    cr_assert_eq(domain_config_check(config, &err), 0, "%s: %s", file, err.text);
}

/* Descriptors are numbered 20, 21... in order; a disk of two images when its device ends in `t` (thin). */
static struct disk_chain *chains_for(const struct domain_config *config)
{
    struct disk_chain *chains = xcalloc(config->disks_count + 1, sizeof(*chains));
    int fd = 20;
    for (size_t i = 0; i < config->disks_count; i++) {
        const struct domain_disk *disk = &config->disks[i];
        if (disk->source == DISK_SOURCE_EMPTY)
            continue;
        bool thin = disk->device[strlen(disk->device) - 1] == 't';
        chains[i].count = thin ? 2 : 1;
        chains[i].nodes = xcalloc(chains[i].count, sizeof(*chains[i].nodes));
        for (size_t k = 0; k < chains[i].count; k++)
            chains[i].nodes[k] = (struct disk_node){.fd = fd++,
                                                    .format = disk->source == DISK_SOURCE_ISO ||
                                                                      (k == 0 && streq(disk->device, "raw"))
                                                                  ? IMAGE_FORMAT_RAW
                                                                  : IMAGE_FORMAT_QCOW2,
                                                    .read_only = disk->read_only || disk->cdrom || k > 0};
    }
    return chains;
}

static void chains_free(struct disk_chain *chains, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(chains[i].nodes);
    free(chains);
}

/* What nics on bridges get. */
static const int taps[] = {40, 41, 42, 43};

static struct qemu_plan_input input_for(const struct domain_config *config, const struct disk_chain *chains)
{
    return (struct qemu_plan_input){
        .config = config,
        .chains = chains,
        .taps = taps,
        .binary = "/usr/bin/qemu-system-x86_64",
        .accelerator = ACCELERATOR_TCG,
        .qmp_fd = 10,
        .serial_fd = config->serial ? 11 : -1,
        .serial_log_fd = config->serial ? 12 : -1,
        .agent_fd = config->guest_agent ? 13 : -1,
        .data_fd = config->guest_data ? 19 : -1,
        .kernel_fd =
            config->firmware == FIRMWARE_KERNEL || config->firmware == FIRMWARE_GUEST_KERNEL ? 14 : -1,
        .ramdisk_fd = config->ramdisk && *config->ramdisk ? 15 : -1,
        .cmdline = config->cmdline,
        .secure_boot = config->secure_boot == SECURE_BOOT_ON,
        .tpm_fd = config->tpm ? 18 : -1,
        .ovmf_code_fd = config->firmware == FIRMWARE_UEFI ? 16 : -1,
        .ovmf_vars_fd = config->firmware == FIRMWARE_UEFI ? 17 : -1,
        .now = 1800000000,
        .layout = qemu_layout_new(config), /* the caller decrefs */
    };
}

static char *plan_text(const struct qemu_plan *plan)
{
    struct buf text = BUF_INIT;
    for (size_t i = 0; i < plan->argc; i++)
        buf_printf(&text, "%s\n", plan->argv[i]);
    buf_add_str(&text, "descriptors:");
    for (size_t i = 0; i < plan->fd_count; i++)
        buf_printf(&text, " %d", plan->fds[i]);
    buf_add_char(&text, '\n');
    return buf_take(&text);
}

static void compare(const char *json_file)
{
    struct domain_config config;
    load(json_file, &config);
    struct disk_chain *chains = chains_for(&config);
    struct qemu_plan_input input = input_for(&config, chains);
    struct qemu_plan plan AUTO_QEMU_PLAN = QEMU_PLAN_INIT;
    struct hv_err err;
    cr_assert_eq(qemu_plan_make(&input, &plan, &err), 0, "%s: %s", json_file, err.text);
    char *text AUTO_FREE = plan_text(&plan);
    char *golden AUTO_FREE = xasprintf("%.*sargs", (int)(strlen(json_file) - 4), json_file);
    if (getenv("CORRAL_GOLDEN_UPDATE")) {
        FILE *f = fopen(golden, "w");
        fputs(text, f);
        fclose(f);
    }
    char *expected AUTO_FREE = file_read(golden, 1 << 20, NULL);
    cr_expect(expected && streq(text, expected), "%s is not what the planner makes:\n%s", golden, text);
    chains_free(chains, config.disks_count);
    json_decref((json_t *)(uintptr_t)input.layout);
    domain_config_done(&config);
}

Test(plan, configurations_become_the_golden_arguments)
{
    glob_t found;
    cr_assert_eq(glob(GOLDEN_DIR "/*.json", 0, NULL, &found), 0);
    cr_assert_geq(found.gl_pathc, 5);
    for (size_t i = 0; i < found.gl_pathc; i++)
        compare(found.gl_pathv[i]);
    globfree(&found);
}

static void small(struct domain_config *config)
{
    domain_config_init(config);
    str_assign(&config->uuid, "11111111-1111-4111-8111-111111111111");
    config->memory_bytes = 64 << 20;
    config->vcpus = 1;
}

static struct domain_disk *sata_disk(struct domain_config *config, int index, bool cdrom)
{
    struct domain_disk *disk = domain_config_add_disks(config);
    const char *name = str_newf("sd%c", 'a' + index);
    str_assign(&disk->device, name);
    str_unref(name);
    disk->index = index;
    disk->bus = DISK_BUS_SATA;
    disk->cdrom = cdrom;
    return disk;
}

Test(plan, more_drives_than_ports_are_refused)
{
    struct domain_config config;
    struct hv_err err;
    small(&config);
    for (int i = 0; i < 6; i++)
        sata_disk(&config, i, true);
    cr_assert_eq(qemu_plan_check(&config, &err), 0);
    sata_disk(&config, 6, true);
    cr_assert_eq(qemu_plan_check(&config, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_UNSUPPORTED);
    domain_config_done(&config);
}

Test(plan, a_read_only_sata_disk_is_refused)
{
    struct domain_config config;
    struct hv_err err;
    small(&config);
    sata_disk(&config, 0, false)->read_only = true;
    cr_assert_eq(qemu_plan_check(&config, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_UNSUPPORTED);
    domain_config_done(&config);
}

/* No value may become an argument or an option of its own. */
Test(plan, values_do_not_inject_options)
{
    struct domain_config config;
    struct hv_err err;
    small(&config);
    str_assign(&config.name, "-snapshot,process=x=y,, ;\"'");
    config.firmware = FIRMWARE_KERNEL;
    str_assign(&config.kernel, "vmlinuz");
    str_assign(&config.cmdline, "-device,evil=1 quiet");
    struct qemu_plan_input input = input_for(&config, NULL);
    struct qemu_plan plan AUTO_QEMU_PLAN = QEMU_PLAN_INIT;
    cr_assert_eq(domain_config_check(&config, &err), 0, "%s", err.text);
    cr_assert_eq(qemu_plan_make(&input, &plan, &err), 0);
    cr_assert_str_eq(plan.argv[1], "-name");
    cr_assert_str_eq(plan.argv[2], "guest=-snapshot,,process=x=y,,,, ;\"',debug-threads=on");
    int appended = 0;
    for (size_t i = 0; i < plan.argc; i++) {
        cr_assert(!streq(plan.argv[i], "-snapshot"));
        if (streq(plan.argv[i], "-append")) {
            cr_assert_str_eq(plan.argv[i + 1], "-device,evil=1 quiet");
            appended++;
        }
    }
    cr_assert_eq(appended, 1);
    json_decref((json_t *)(uintptr_t)input.layout);
    domain_config_done(&config);
}

/* ---- every string of a configuration, with values that somebody could want to be more ---- */

static const char *const nasty[] = {
    "a\nb", "a,b",  "a,,b", "a=b", "-snapshot", "--help",           "a\"b",
    "a'b",  "a\\b", "{}",   "%n",  "$(id)",     "../../etc/passwd", "a\tb",
};

/* What an argument is without the values in it: keys of options and of JSON, nothing else. */
static void add_shape(const json_t *json, struct buf *out)
{
    const char *key;
    json_t *value;
    size_t i;
    if (json_is_object(json)) {
        json_object_foreach((json_t *)(uintptr_t)json, key, value)
        {
            buf_printf(out, "%s:", key);
            add_shape(value, out);
        }
    } else if (json_is_array(json)) {
        json_array_foreach((json_t *)(uintptr_t)json, i, value) add_shape(value, out);
    }
    buf_add_char(out, '.');
}

static void add_option_shape(const char *text, struct buf *out)
{
    bool in_value = false;
    for (const char *p = text; *p; p++) {
        bool doubled = p[0] == ',' && p[1] == ',';
        if (*p == ',' && !doubled)
            in_value = false;
        if (!in_value)
            buf_add_char(out, *p);
        in_value = in_value || *p == '=';
        p += doubled;
    }
}

static char *shape(const struct qemu_plan *plan)
{
    struct buf out = BUF_INIT;
    for (size_t i = 0; i < plan->argc; i++) {
        struct json_error error;
        json_t *json AUTO_JSON =
            *plan->argv[i] == '{' ? json_parse(plan->argv[i], strlen(plan->argv[i]), &error) : NULL;
        if (i > 0 && streq(plan->argv[i - 1], "-append")) /* taken as it is */
            buf_add_str(&out, "words");
        else if (json)
            add_shape(json, &out);
        else
            add_option_shape(plan->argv[i], &out);
        buf_add_char(&out, '\n');
    }
    return buf_take(&out);
}

/* NULL: refused, by what comes over the wire, by the checks or by the planner. */
static char *shape_of(const struct domain_config *given)
{
    struct buf text = BUF_INIT;
    struct domain_config config;
    struct json_error error;
    struct hv_err err;
    char complaint[WIRE_COMPLAINT_SIZE];
    wire_encode(&domain_config_desc, given, &text);
    char *sent AUTO_FREE = buf_take(&text);
    json_t *json AUTO_JSON = json_parse(sent, strlen(sent), &error);
    cr_assert(json, "%s: %s", error.text, sent);
    if (wire_decode(&domain_config_desc, json, &config, complaint) < 0)
        return NULL;
    char *result = NULL;
    if (domain_config_check(&config, &err) == 0 && qemu_plan_check(&config, &err) == 0) {
        struct disk_chain *chains = chains_for(&config);
        struct qemu_plan_input input = input_for(&config, chains);
        struct qemu_plan plan AUTO_QEMU_PLAN = QEMU_PLAN_INIT;
        if (qemu_plan_make(&input, &plan, &err) == 0)
            result = shape(&plan);
        chains_free(chains, config.disks_count);
        json_decref((json_t *)(uintptr_t)input.layout);
    }
    domain_config_done(&config);
    return result;
}

struct trial {
    struct domain_config *config;
    const char *plain; /* the shape of the configuration as it was */
    int accepted, refused;
};

static void try_value(struct trial *t, const char **place, const char *value, const char *member)
{
    const char *was = *place;
    *place = str_new(value);
    char *now AUTO_FREE = shape_of(t->config);
    if (now)
        cr_expect_str_eq(now, t->plain, "%s = %.20s is more than a value", member, value);
    t->accepted += now != NULL;
    t->refused += now == NULL;
    str_unref(*place);
    *place = was;
}

static void try_string(struct trial *t, const char **place, const char *member)
{
    char long_one[10001];
    memset(long_one, 'x', sizeof(long_one) - 1);
    long_one[sizeof(long_one) - 1] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(nasty); i++)
        try_value(t, place, nasty[i], member);
    try_value(t, place, long_one, member);
}

static void try_struct(struct trial *t, const struct wire_struct *desc, char *at)
{
    for (int i = 0; i < desc->field_count; i++) {
        const struct wire_field *field = &desc->fields[i];
        char *value = at + field->offset;
        size_t count = field->count_offset ? *(size_t *)(void *)(at + field->count_offset) : 0;
        if (field->kind == WIRE_STRING || field->kind == WIRE_UUID || field->kind == WIRE_UUID_OPTIONAL)
            try_string(t, (const char **)(void *)value, field->name);
        else if (field->kind == WIRE_STRINGS && count > 0)
            try_string(t, *(const char ***)(void *)value, field->name);
        else if (field->kind == WIRE_LIST && count > 0)
            try_struct(t, field->st, *(char **)(void *)value);
    }
}

Test(plan, no_string_of_a_configuration_is_more_than_a_value)
{
    glob_t found;
    struct trial all = {.accepted = 0};
    cr_assert_eq(glob(GOLDEN_DIR "/*.json", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct domain_config config;
        load(found.gl_pathv[i], &config);
        char *plain AUTO_FREE = shape_of(&config);
        cr_assert(plain, "%s", found.gl_pathv[i]);
        struct trial t = {.config = &config, .plain = plain};
        try_struct(&t, &domain_config_desc, (char *)&config);
        all.accepted += t.accepted;
        all.refused += t.refused;
        domain_config_done(&config);
    }
    globfree(&found);
    cr_expect_gt(all.accepted, 50); /* names and kernel arguments are free text */
    cr_expect_gt(all.refused, 500);
}
