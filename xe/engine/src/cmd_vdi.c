/* VDIs: create, clone, and their data in and out. A transfer has a task of its own on the server;
 * Ctrl-C stops the bytes, cancels the task and waits for its end. */
#include "run.h"
#include "xe_handlers.h"

int xe_cmd_vdi_create(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *sr_uuid, *label, *size, *type = xe_arg(x, "type");
    int64_t bytes = 0;
    bool sharable = false;
    AUTO_FREE char *sr = NULL;
    AUTO_JSON json_t *made = NULL, *type_value = NULL;
    (void)cmd;
    if (xe_arg_required(x, "sr-uuid", &sr_uuid) < 0 || xe_arg_required(x, "name-label", &label) < 0 ||
        xe_arg_required(x, "virtual-size", &size) < 0 || xe_arg_bytes(x, "virtual-size", &bytes) < 0 ||
        xe_arg_bool(x, "sharable", &sharable) < 0 || xe_ref_by_uuid(x, "SR", sr_uuid, &sr) < 0)
        return -1;
    const struct xe_field *f = xe_field_find(xe_class_find("vdi"), "type");
    type_value = xe_input(x, "type", f->type, NULL, f->texts, type ? type : "user");
    if (!type_value)
        return -1;
    AUTO_JSON json_t *tags = json_array(), *tag_map = xe_arg_map(x, "tags");
    const char *tag;
    json_t *ignored;
    json_object_foreach(tag_map, tag, ignored) json_array_append_new(tags, json_string(tag));
    json_t *disk = json_pack("{s:s, s:s, s:s, s:I, s:O, s:b, s:b, s:{}, s:{}, s:o, s:O}", "name_label", label,
                             "name_description", "", "SR", sr, "virtual_size", (json_int_t)bytes, "type",
                             type_value, "sharable", sharable, "read_only", 0, "other_config",
                             "xenstore_data", "sm_config", xe_arg_map(x, "sm-config"), "tags", tags);
    if (!disk)
        return xe_fail(x, XE_ERR_CLI, "name-label must be text in UTF-8");
    if (xe_call_task(x, "VDI.create", json_pack("[o]", disk), &made) < 0)
        return -1;
    return xe_print_uuid(x, "VDI", json_string_value(made));
}

int xe_cmd_vdi_clone(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *given, *label = xe_arg(x, "new-name-label"), *description = xe_arg(x, "new-name-description");
    AUTO_FREE char *vdi = NULL;
    AUTO_JSON json_t *made = NULL;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &given) < 0 || xe_ref_by_uuid(x, "VDI", given, &vdi) < 0 ||
        xe_call_task(x, "VDI.clone", json_pack("[so]", vdi, xe_arg_map(x, "driver-params")), &made) < 0)
        return -1;
    const char *ref = json_string_value(made);
    if (ref && label && xe_call(x, "VDI.set_name_label", NULL, "[ss]", ref, label) < 0)
        return -1;
    if (ref && description && xe_call(x, "VDI.set_name_description", NULL, "[ss]", ref, description) < 0)
        return -1;
    return xe_print_uuid(x, "VDI", ref);
}

/* ---- transfers ---- */

struct meter {
    struct xe_run_state *x;
    const char *label;
    int last; /* percent, or MiB when the total is unknown */
};

static int draw(void *arg, uint64_t done, uint64_t total)
{
    static const char full[] = "########################################";
    struct meter *m = arg;
    const struct xe_api *api = m->x->api;
    int now = total ? (int)(done * 100 / total) : (int)(done >> 20);
    if (now == m->last || !api->progress_terminal || m->x->minimal)
        return 0;
    m->last = now;
    AUTO_BUF struct buf b = BUF_INIT;
    if (total)
        buf_printf(&b, "\r%s %3d%% %-40.*s", m->label, now, now * 40 / 100, full);
    else
        buf_printf(&b, "\r%s %d MiB", m->label, now);
    api->print_error(api->ctx, b.data, b.len);
    return 0;
}

/* After a transfer ended badly: the task's own reason is better than "connection closed". */
static void task_reason(struct xe_run_state *x, const char *task)
{
    struct xe_err first = x->err;
    AUTO_JSON json_t *record = NULL;
    x->err = (struct xe_err){0};
    if (x->api->resume)
        x->api->resume(x->api->ctx);
    if (xe_call(x, "task.get_record", &record, "[s]", task) == 0) {
        const json_t *info = json_object_get(record, "error_info");
        AUTO_JSON json_t *params = json_array();
        for (size_t i = 1; i < json_array_size(info); i++)
            json_array_append(params, json_array_get(info, i));
        if (json_array_size(info) && first.kind == XE_ERR_TRANSPORT)
            xe_err_set_api(&first, json_string_value(json_array_get(info, 0)), params);
    }
    xe_err_done(&x->err);
    x->err = first;
}

/* Cancels the task and waits until the server has cleaned up. */
static void cancel(struct xe_run_state *x, const char *task)
{
    struct xe_err first = x->err;
    x->err = (struct xe_err){0};
    if (x->api->resume)
        x->api->resume(x->api->ctx);
    if (xe_call(x, "task.cancel", NULL, "[s]", task) == 0 && xe_task_wait(x, task, NULL, NULL) < 0 &&
        x->err.kind == XE_ERR_CANCELLED)
        xe_err_set(&first, XE_ERR_CANCELLED, "Cancelled.");
    xe_err_done(&x->err);
    x->err = first;
}

static void destroy_task(struct xe_run_state *x, const char *task)
{
    struct xe_err first = x->err;
    x->err = (struct xe_err){0};
    if (xe_call(x, "task.destroy", NULL, "[s]", task) < 0)
        xe_err_done(&x->err);
    x->err = first;
}

typedef int transfer_fn(void *ctx, const char *filename, const char *path, xe_progress_fn *progress,
                        void *arg, struct xe_err *err);

static int transfer(struct xe_run_state *x, transfer_fn *move, const char *label, const char *route)
{
    const char *filename = xe_arg(x, "filename");
    AUTO_FREE char *task = NULL;
    if (xe_call_string(x, "task.create", &task, "[ss]", label, filename) < 0)
        return -1;
    AUTO_FREE char *path = xasprintf("%s&task_id=%s", route, task);
    struct meter m = {x, label, -1};
    int rc = move(x->api->ctx, filename, path, draw, &m, &x->err);
    if (m.last >= 0)
        x->api->print_error(x->api->ctx, "\n", 1);
    if (rc == 0)
        return xe_task_wait(x, task, NULL, NULL);
    if (x->err.kind == XE_ERR_CANCELLED) {
        cancel(x, task);
    } else {
        task_reason(x, task);
        destroy_task(x, task);
    }
    return -1;
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && streq(text + a - b, end);
}

/* The image format: said, or raw. A name that says otherwise must be confirmed. */
static int image_format(struct xe_run_state *x, const char *filename, const char **format)
{
    static const char *const names[] = {"qcow2", "vhd"};
    *format = xe_arg(x, "format");
    if (!*format) {
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
            if (ends_with(filename, names[i]))
                return xe_fail(x, XE_ERR_USAGE,
                               "%s looks like %s: say format=%s, or format=raw to store it byte by byte",
                               filename, names[i], names[i]);
        *format = "raw";
    }
    if (!streq(*format, "raw") && !streq(*format, "qcow2") && !streq(*format, "vhd") &&
        !streq(*format, "tar"))
        return xe_fail(x, XE_ERR_CLI, "format must be raw or qcow2, not '%s'", *format);
    return 0;
}

int xe_cmd_vdi_import(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid, *filename, *format;
    AUTO_FREE char *vdi = NULL;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_arg_required(x, "filename", &filename) < 0 ||
        image_format(x, filename, &format) < 0 || xe_ref_by_uuid(x, "VDI", uuid, &vdi) < 0)
        return -1;
    AUTO_FREE char *route = xasprintf("/import_raw_vdi?vdi=%s&format=%s", vdi, format);
    return transfer(x, x->api->upload, "Importing", route);
}

int xe_cmd_vdi_export(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid, *filename, *format, *base = xe_arg(x, "base");
    AUTO_FREE char *vdi = NULL, *base_ref = NULL;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_arg_required(x, "filename", &filename) < 0 ||
        image_format(x, filename, &format) < 0 || xe_ref_by_uuid(x, "VDI", uuid, &vdi) < 0 ||
        (base && xe_ref_by_uuid(x, "VDI", base, &base_ref) < 0))
        return -1;
    AUTO_FREE char *route = xasprintf("/export_raw_vdi?vdi=%s&format=%s%s%s", vdi, format,
                                      base_ref ? "&base=" : "", base_ref ? base_ref : "");
    return transfer(x, x->api->download, "Exporting", route);
}
