/* vm-create-image: a VM with a Debian of its own, made on the machine where xe runs and sent to the pool.
 * What was made on the server goes again when a step fails. */
#include "run.h"
#include "xe_handlers.h"
#include <base/ref.h>
#include <base/secret.h>
#include <inttypes.h>
#include <stdio.h>

struct image {
    const char *hostname, *suite;
    int64_t size, memory, vcpus;
    char *sr, *network; /* references */
    char *password;     /* NULL: keys only */
    char *vdi, *vm;     /* made so far */
};

static void image_done(struct image *i)
{
    free(i->sr);
    free(i->network);
    if (i->password)
        secret_wipe(i->password, strlen(i->password));
    free(i->password);
    free(i->vdi);
    free(i->vm);
}

static int read_arguments(struct xe_run_state *x, struct image *i)
{
    const char *vcpus = xe_arg(x, "vcpus");
    *i = (struct image){.size = 4LL << 30, .memory = 512LL << 20, .vcpus = 1};
    i->suite = xe_arg(x, "suite");
    if (xe_arg_required(x, "hostname", &i->hostname) < 0 || xe_arg_bytes(x, "size", &i->size) < 0 ||
        xe_arg_bytes(x, "memory", &i->memory) < 0)
        return -1;
    if (vcpus && (sscanf(vcpus, "%3" SCNd64, &i->vcpus) != 1 || i->vcpus < 1))
        return xe_fail(x, XE_ERR_CLI, "vcpus must be a number from 1, not '%s'", vcpus);
    i->size = (i->size + (1 << 20) - 1) >> 20 << 20;
    if (!x->api->build_disk)
        return xe_fail(x, XE_ERR_CLI, "this command makes a disk where it runs: use the xe of this pool");
    return xe_making_sr(x, xe_arg(x, "sr"), &i->sr) < 0 ||
                   xe_making_network(x, xe_arg(x, "network-uuid"), &i->network) < 0
               ? -1
               : 0;
}

static int draw(void *arg, uint64_t done, uint64_t total)
{
    xe_meter_fraction(arg, (double)done / (double)total);
    return 0;
}

static int build(struct xe_run_state *x, struct image *i, char **file)
{
    static const struct {
        const char *param, *option;
    } passed[] = {{"suite", "--suite"}, {"ip", "--ip"},           {"ssh-key", "--ssh-key"},
                  {"role", "--role"},   {"include", "--include"}, {"mirror", "--mirror"}};
    const char *options[24];
    char size[24];
    size_t n = 0;
    snprintf(size, sizeof(size), "%" PRId64, i->size);
    options[n++] = "--hostname";
    options[n++] = i->hostname;
    options[n++] = "--size";
    options[n++] = size;
    for (size_t k = 0; k < ARRAY_LEN(passed); k++)
        if (xe_arg(x, passed[k].param)) {
            options[n++] = passed[k].option;
            options[n++] = xe_arg(x, passed[k].param);
        }
    options[n] = NULL;
    if (!xe_arg(x, "ssh-key")) {
        char *token = secret_token(16);
        i->password = xasprintf("%s\n", token);
        secret_wipe(token, strlen(token));
        free(token);
    }
    struct xe_meter meter = xe_meter_init(x, "Making the disk", false);
    int rc = x->api->build_disk(x->api->ctx, options, i->password, draw, &meter, file, &x->err);
    xe_meter_end(&meter);
    return rc;
}

static int send_disk(struct xe_run_state *x, struct image *i, const char *file)
{
    AUTO_FREE char *name = xasprintf("%s disk", i->hostname);
    return xe_making_disk(x, name, i->sr, i->size, file, "raw", &i->vdi);
}

static int make_vm(struct xe_run_state *x, struct image *i)
{
    AUTO_FREE char *about = xasprintf("Debian %s", i->suite ? i->suite : "bookworm");
    json_t *record =
        json_pack("{s:s, s:s, s:i, s:b, s:s, s:I, s:I, s:I, s:i, s:{}, s:I, s:I, s:s, s:s, s:s}",
                  "name_label", i->hostname, "name_description", about, "user_version", 1, "is_a_template", 0,
                  "affinity", "OpaqueRef:NULL", "memory_static_max", (json_int_t)i->memory,
                  "memory_dynamic_max", (json_int_t)i->memory, "memory_dynamic_min", (json_int_t)i->memory,
                  "memory_static_min", 0, "VCPUs_params", "VCPUs_max", (json_int_t)i->vcpus,
                  "VCPUs_at_startup", (json_int_t)i->vcpus, "actions_after_shutdown", "destroy",
                  "actions_after_reboot", "restart", "actions_after_crash", "restart");
    json_t *more =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:{s:s}, s:{}, s:s, s:{}, s:s}", "PV_bootloader", "",
                  "PV_kernel", "", "PV_ramdisk", "", "PV_args", "", "PV_bootloader_args", "",
                  "PV_legacy_args", "", "HVM_boot_policy", "BIOS order", "HVM_boot_params", "order", "c",
                  "platform", "PCI_bus", "", "other_config", "recommendations", "");
    if (!record || !more)
        return xe_fail(x, XE_ERR_CLI, "hostname must be text in UTF-8");
    json_object_update(record, more);
    json_decref(more);
    AUTO_JSON json_t *made = NULL;
    if (xe_call_params(x, "VM.create", json_pack("[o]", record), &made) < 0)
        return -1;
    i->vm = xstrdup(json_string_value(made) ? json_string_value(made) : "");
    if (xe_making_vbd(x, i->vm, i->vdi, &(struct xe_new_vbd){.bootable = true}) < 0)
        return -1;
    return i->network ? xe_making_vif(x, i->vm, i->network, &(struct xe_new_vif){.mtu = 1500}) : 0;
}

static void undo(struct xe_run_state *x, const struct image *i)
{
    const char *const vdis[] = {i->vdi};
    xe_making_undo(x, i->vm, vdis, i->vdi != NULL);
}

int xe_cmd_vm_create_image(struct xe_run_state *x, const struct xe_command *cmd)
{
    CLEANUP(image_done) struct image i = {0};
    AUTO_FREE char *file = NULL;
    (void)cmd;
    if (read_arguments(x, &i) < 0 || build(x, &i, &file) < 0)
        return -1;
    int rc = send_disk(x, &i, file);
    x->api->drop_disk(x->api->ctx, file);
    if (rc < 0 || make_vm(x, &i) < 0) {
        undo(x, &i);
        return -1;
    }
    if (i.password)
        xe_note(x, "The password of root is %s", i.password);
    xe_record_forget(x, "VM");
    return xe_print_uuid(x, "VM", i.vm);
}
