/* VDIs: create, clone, and their data in and out. */
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

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && streq(text + a - b, end);
}

/* The image format: said, or raw. A name that says otherwise must be confirmed. */
static int image_format(struct xe_run_state *x, const char *filename, bool import, const char **format)
{
    static const char *const names[] = {"qcow2", "vhd", "vmdk"};
    size_t count = import ? 3 : 2; /* VMDK images are not made */
    *format = xe_arg(x, "format");
    for (size_t i = 0; i < count; i++) {
        if (*format && streq(*format, names[i]))
            return 0;
        if (!*format && ends_with(filename, names[i]))
            return xe_fail(x, XE_ERR_USAGE,
                           "%s looks like %s: say format=%s, or format=raw to store it byte by byte",
                           filename, names[i], names[i]);
    }
    if (*format && !streq(*format, "raw"))
        return xe_fail(x, XE_ERR_CLI, "format must be raw, vhd%s qcow2%s, not '%s'", import ? "," : " or",
                       import ? " or vmdk" : "", *format);
    *format = "raw";
    return 0;
}

/* resume=true goes on with what was interrupted, resume=anew begins again. 1: neither is asked for. */
static int resumed_disk(struct xe_run_state *x, const char *vdi, bool *anew, char **uuid)
{
    const char *resume = xe_arg(x, "resume");
    if (!resume || streq(resume, "false"))
        return 1;
    *anew = streq(resume, "anew");
    if (!*anew && !streq(resume, "true"))
        return xe_fail(x, XE_ERR_USAGE, "resume is true or anew, not '%s'", resume);
    return xe_call_string(x, "VDI.get_uuid", uuid, "[s]", vdi);
}

int xe_cmd_vdi_import(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *given, *filename, *format;
    AUTO_FREE char *vdi = NULL, *uuid = NULL;
    bool anew;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &given) < 0 || xe_arg_required(x, "filename", &filename) < 0 ||
        image_format(x, filename, true, &format) < 0 || xe_ref_by_uuid(x, "VDI", given, &vdi) < 0)
        return -1;
    int how = resumed_disk(x, vdi, &anew, &uuid);
    if (how <= 0)
        return how < 0 ? -1 : xe_upload_parts_of(x, filename, uuid, format, anew);
    AUTO_FREE char *route = xasprintf("/import_raw_vdi?vdi=%s&format=%s", vdi, format);
    return xe_transfer(x, x->api->upload, "Importing", route, NULL);
}

/* Images of other formats are made anew each time, never twice the same. */
static int export_resumed(struct xe_run_state *x, const char *filename, const char *format, const char *uuid,
                          bool anew)
{
    if (!streq(format, "raw") || xe_arg(x, "base") || streq(filename, "-"))
        return xe_fail(x, XE_ERR_CLI,
                       "only an export of a whole disk as raw, into a file, can be resumed: an image of "
                       "another format is made anew each time. Export it as raw, or without resume");
    return xe_download_parts_of(x, filename, uuid, anew);
}

int xe_cmd_vdi_export(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *given, *filename, *format, *base = xe_arg(x, "base");
    AUTO_FREE char *vdi = NULL, *base_ref = NULL, *uuid = NULL;
    bool anew;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &given) < 0 || xe_arg_required(x, "filename", &filename) < 0 ||
        image_format(x, filename, false, &format) < 0 || xe_ref_by_uuid(x, "VDI", given, &vdi) < 0 ||
        (base && xe_ref_by_uuid(x, "VDI", base, &base_ref) < 0))
        return -1;
    int how = resumed_disk(x, vdi, &anew, &uuid);
    if (how <= 0)
        return how < 0 ? -1 : export_resumed(x, filename, format, uuid, anew);
    AUTO_FREE char *route = xasprintf("/export_raw_vdi?vdi=%s&format=%s%s%s", vdi, format,
                                      base_ref ? "&base=" : "", base_ref ? base_ref : "");
    return xe_transfer(x, x->api->download, "Exporting", route, NULL);
}
