/* vm-install: a VM from a template. Clone (or copy, when an SR is given), name, put the SR into the
 * template's list of disks, provision; what was made is destroyed when a step fails. */
#include "run.h"
#include "xe_handlers.h"
#include <base/ref.h>

static bool is_template(const json_t *record, const char *name)
{
    return xe_true(record, "is_a_template") &&
           (streq(xe_str(record, "uuid"), name) || streq(xe_str(record, "name_label"), name));
}

static int find_template(struct xe_run_state *x, const char **ref, const json_t **record)
{
    static const char *const names[] = {"template", "template-uuid", "template-name", "template-name-label"};
    const char *name = NULL, *key;
    const json_t *all;
    json_t *vm;
    size_t matches = 0;
    for (size_t i = 0; i < ARRAY_LEN(names) && !name; i++)
        name = xe_arg(x, names[i]);
    if (!name)
        return xe_fail(x, XE_ERR_USAGE, "Required parameter not found: template");
    if (xe_records(x, "VM", &all) < 0)
        return -1;
    json_object_foreach((json_t *)all, key, vm)
    {
        if (!is_template(vm, name))
            continue;
        *ref = key;
        *record = vm;
        matches++;
    }
    if (matches == 0)
        return xe_fail(x, XE_ERR_CLI, "No templates matched '%s'; 'xe template-list' shows those there are",
                       name);
    if (matches > 1)
        return xe_fail(x, XE_ERR_CLI, "Multiple templates matched '%s'; say the uuid", name);
    return 0;
}

/* The SR that sr-uuid= or sr-name-label= means: a reference (the caller's), or NULL. */
static int given_sr(struct xe_run_state *x, char **ref)
{
    const char *uuid = xe_arg(x, "sr-uuid"), *label = xe_arg(x, "sr-name-label");
    *ref = NULL;
    if (uuid)
        return xe_ref_by_uuid(x, "SR", uuid, ref);
    if (!label)
        return 0;
    AUTO_JSON json_t *refs = NULL;
    if (xe_call(x, "SR.get_by_name_label", &refs, "[s]", label) < 0)
        return -1;
    if (json_array_size(refs) == 0)
        return xe_fail(x, XE_ERR_CLI, "No SR is called '%s'", label);
    if (json_array_size(refs) > 1)
        return xe_fail(x, XE_ERR_CLI, "Several SRs are called '%s'; say sr-uuid", label);
    *ref = xstrdup(json_string_value(json_array_get(refs, 0)));
    return 0;
}

/* Copies the `sr` attribute's new value into one <disk .../> tag. */
static void rewrite_tag(struct buf *out, const char *tag, size_t len, const char *sr_uuid, bool replace)
{
    AUTO_FREE char *copy = xstrndup(tag, len);
    char *at = strstr(copy, " sr=");
    char quote = at ? at[4] : 0;
    char *end = quote == '"' || quote == '\'' ? strchr(at + 5, quote) : NULL;
    if (!end) {
        size_t close = len - (len > 1 && copy[len - 2] == '/' ? 2 : 1);
        buf_add(out, copy, close);
        buf_printf(out, " sr=\"%s\"%s", sr_uuid, copy + close);
        return;
    }
    if (!replace && end > at + 5) {
        buf_add(out, copy, len);
        return;
    }
    buf_add(out, copy, (size_t)(at - copy));
    buf_printf(out, " sr=\"%s\"%s", sr_uuid, end + 1);
}

/* The disks XML with the SR set: in every disk, or only where none was said (the caller's). */
static char *rewrite_disks(const char *xml, const char *sr_uuid, bool replace)
{
    AUTO_BUF struct buf b = BUF_INIT;
    for (const char *s = xml; *s;) {
        const char *end = strncmp(s, "<disk ", 6) == 0 ? strchr(s, '>') : NULL;
        if (!end) {
            buf_add_char(&b, *s++);
            continue;
        }
        rewrite_tag(&b, s, (size_t)(end - s) + 1, sr_uuid, replace);
        s = end + 1;
    }
    return buf_take(&b);
}

/* True when a disk names no SR. */
static bool lacks_sr(const char *xml)
{
    for (const char *s = xml; (s = strstr(s, "<disk ")); s++) {
        const char *end = strchr(s, '>'), *at = strstr(s, " sr=");
        if (!end || !at || at > end || at[4] == at[5])
            return true;
    }
    return false;
}

/* Puts the SR into other_config:disks of the new VM, so that provision knows where disks go. */
static int set_disks(struct xe_run_state *x, const char *vm, const json_t *template, const char *sr)
{
    const char *xml = xe_str(json_object_get(template, "other_config"), "disks"), *uuid, *pool;
    const json_t *record;
    bool given = sr != NULL;
    if (!*xml || (!given && !lacks_sr(xml)))
        return 0;
    if (!given) {
        if (xe_pool(x, &pool, &record) < 0)
            return -1;
        sr = xe_str(record, "default_SR");
        if (xe_ref_null(sr))
            return xe_fail(x, XE_ERR_CLI,
                           "the template does not say where its disks go and the pool has no default "
                           "SR; say sr-uuid or sr-name-label");
    }
    if (xe_uuid_of(x, "SR", sr, &uuid) < 0)
        return -1;
    AUTO_FREE char *rewritten = rewrite_disks(xml, uuid, given);
    if (xe_call(x, "VM.remove_from_other_config", NULL, "[ss]", vm, "disks") < 0)
        return -1;
    return xe_call(x, "VM.add_to_other_config", NULL, "[sss]", vm, "disks", rewritten);
}

static int bios_strings(struct xe_run_state *x, const char *vm)
{
    const char *uuid = xe_arg(x, "copy-bios-strings-from");
    AUTO_FREE char *host = NULL;
    if (!uuid)
        return 0;
    if (xe_ref_by_uuid(x, "host", uuid, &host) < 0)
        return -1;
    return xe_call_task(x, "VM.copy_bios_strings", json_pack("[ss]", vm, host), NULL);
}

/* The installer's own words stand before those for the system that it installs. */
static int set_preseed(struct xe_run_state *x, const char *vm, const json_t *template)
{
    static const char key[] = "corral:install-arguments";
    const char *url = xe_arg(x, "preseed"),
               *arguments = xe_str(json_object_get(template, "other_config"), key);
    if (!url)
        return 0;
    AUTO_FREE char *all = xasprintf("auto=true priority=critical url=%s %s", url, arguments);
    if (xe_call(x, "VM.remove_from_other_config", NULL, "[ss]", vm, key) < 0)
        return -1;
    return xe_call(x, "VM.add_to_other_config", NULL, "[sss]", vm, key, all);
}

/* It becomes one word of a kernel's command line. */
static int check_preseed(struct xe_run_state *x, const json_t *template)
{
    static const char *const schemes[] = {"http://", "https://", "tftp://", "ftp://"};
    const char *url = xe_arg(x, "preseed");
    bool known = false, plain = true;
    for (size_t i = 0; url && i < ARRAY_LEN(schemes); i++)
        known = known || strncmp(url, schemes[i], strlen(schemes[i])) == 0;
    for (const char *p = url; p && *p; p++)
        plain = plain && *p > ' ' && *p < 0x7f && *p != '"';
    if (url && (!known || !plain))
        return xe_fail(x, XE_ERR_CLI, "preseed is an address: http, https, tftp or ftp, without blanks");
    if (url && !json_object_get(json_object_get(template, "other_config"), "corral:install-kernel"))
        return xe_fail(x, XE_ERR_CLI, "the template starts no installer that a preseed file could be for");
    return 0;
}

static int finish(struct xe_run_state *x, const char *vm, const json_t *template, const char *sr,
                  const json_t *cloud_init)
{
    if (xe_call(x, "VM.set_name_description", NULL, "[ss]", vm, "Installed via xe CLI") < 0)
        return -1;
    if (sr && xe_call(x, "VM.set_suspend_SR", NULL, "[ss]", vm, sr) < 0)
        return -1;
    if (set_disks(x, vm, template, sr) < 0 || bios_strings(x, vm) < 0 ||
        xe_cloud_init_set(x, vm, cloud_init) < 0 || set_preseed(x, vm, template) < 0)
        return -1;
    return xe_call_task(x, "VM.provision", json_pack("[s]", vm), NULL);
}

/* Takes back what was made; the first error is the one that counts. */
static void undo(struct xe_run_state *x, const char *vm)
{
    struct xe_err first = x->err;
    x->err = (struct xe_err){0};
    if (x->api->resume)
        x->api->resume(x->api->ctx);
    if (xe_call(x, "VM.destroy", NULL, "[s]", vm) < 0)
        xe_note(x, "The half-made VM %s could not be destroyed.", vm);
    xe_err_done(&x->err);
    x->err = first;
}

int xe_cmd_vm_install(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *name, *template_ref = NULL;
    const json_t *template = NULL;
    AUTO_FREE char *sr = NULL;
    AUTO_JSON json_t *made = NULL, *cloud_init = NULL;
    (void)cmd;
    if (xe_arg_required(x, "new-name-label", &name) < 0 || find_template(x, &template_ref, &template) < 0 ||
        check_preseed(x, template) < 0 || given_sr(x, &sr) < 0 || xe_cloud_init_read(x, &cloud_init) < 0)
        return -1;
    int rc = sr ? xe_call_task(x, "VM.copy", json_pack("[sss]", template_ref, name, sr), &made)
                : xe_call_task(x, "VM.clone", json_pack("[ss]", template_ref, name), &made);
    if (rc < 0)
        return -1;
    const char *vm = json_string_value(made);
    if (!vm)
        return xe_fail(x, XE_ERR_TRANSPORT, "The server answered without a reference.");
    if (finish(x, vm, template, sr, cloud_init) < 0) {
        undo(x, vm);
        return -1;
    }
    /* The record was cached before the VM was finished, if at all. */
    xe_record_forget(x, "VM");
    return xe_print_uuid(x, "VM", vm);
}
