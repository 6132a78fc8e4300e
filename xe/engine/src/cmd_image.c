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

static int find_sr(struct xe_run_state *x, struct image *i)
{
    const char *pool, *given = xe_arg(x, "sr");
    const json_t *record, *all;
    const char *ref;
    json_t *sr;
    if (!given) {
        if (xe_pool(x, &pool, &record) < 0)
            return -1;
        if (xe_ref_null(xe_str(record, "default_SR")))
            return xe_fail(x, XE_ERR_CLI, "the pool has no default SR; say sr=");
        i->sr = xstrdup(xe_str(record, "default_SR"));
        return 0;
    }
    if (xe_records(x, "SR", &all) < 0)
        return -1;
    json_object_foreach((json_t *)(uintptr_t)all, ref, sr)
    {
        if (!streq(xe_str(sr, "uuid"), given) && !streq(xe_str(sr, "name_label"), given))
            continue;
        if (i->sr)
            return xe_fail(x, XE_ERR_CLI, "Several SRs are called '%s'; say its uuid", given);
        i->sr = xstrdup(ref);
    }
    return i->sr ? 0 : xe_fail(x, XE_ERR_CLI, "No SR is called '%s'", given);
}

/* The one that is said, or the one behind the host; a pool may have neither. */
static int find_network(struct xe_run_state *x, struct image *i)
{
    const char *uuid = xe_arg(x, "network-uuid"), *ref;
    const json_t *all;
    json_t *network;
    if (uuid)
        return xe_ref_by_uuid(x, "network", uuid, &i->network);
    if (xe_records(x, "network", &all) < 0)
        return -1;
    json_object_foreach((json_t *)(uintptr_t)all, ref,
                        network) if (!i->network &&
                                     streq(xe_str(json_object_get(network, "other_config"), "corral:kind"),
                                           "user")) i->network = xstrdup(ref);
    return 0;
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
    return find_sr(x, i) < 0 || find_network(x, i) < 0 ? -1 : 0;
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
    if (xe_call_string(x, "VDI.create", &i->vdi,
                       "[{s:s, s:s, s:s, s:I, s:s, s:b, s:b, s:{}, s:{}, s:{}, s:[]}]", "name_label", name,
                       "name_description", "", "SR", i->sr, "virtual_size", (json_int_t)i->size, "type",
                       "system", "sharable", 0, "read_only", 0, "other_config", "xenstore_data", "sm_config",
                       "tags") < 0)
        return -1;
    AUTO_FREE char *route = xasprintf("/import_raw_vdi?vdi=%s&format=raw", i->vdi);
    return xe_transfer_file(x, x->api->upload, "Sending", file, route, NULL);
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
    if (xe_call(x, "VBD.create", NULL, "[{s:s, s:s, s:s, s:b, s:s, s:s, s:b, s:b, s:{}, s:s, s:{}}]", "VM",
                i->vm, "VDI", i->vdi, "userdevice", "0", "bootable", 1, "mode", "RW", "type", "Disk",
                "unpluggable", 1, "empty", 0, "other_config", "qos_algorithm_type", "",
                "qos_algorithm_params") < 0)
        return -1;
    if (!i->network)
        return 0;
    return xe_call(x, "VIF.create", NULL, "[{s:s, s:s, s:s, s:s, s:i, s:{}, s:s, s:{}}]", "device", "0",
                   "network", i->network, "VM", i->vm, "MAC", "", "MTU", 1500, "other_config",
                   "qos_algorithm_type", "", "qos_algorithm_params");
}

/* Takes back what was made; the first error is the one that counts. */
static void undo(struct xe_run_state *x, const struct image *i)
{
    struct xe_err first = x->err;
    x->err = (struct xe_err){0};
    if (x->api->resume)
        x->api->resume(x->api->ctx);
    if (i->vm && xe_call(x, "VM.destroy", NULL, "[s]", i->vm) < 0)
        xe_note(x, "The half-made VM %s could not be destroyed.", i->vm);
    xe_err_done(&x->err);
    x->err = (struct xe_err){0};
    if (i->vdi && xe_call(x, "VDI.destroy", NULL, "[s]", i->vdi) < 0)
        xe_note(x, "The disk %s could not be destroyed.", i->vdi);
    xe_err_done(&x->err);
    x->err = first;
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
