/* Hosts: join tokens, processors, and forgetting one that is gone. */
#include "run.h"
#include "xe_handlers.h"
#include <time.h>

int xe_cmd_host_join_token(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_JSON json_t *answer = NULL;
    (void)cmd;
    if (x->api->rest(x->api->ctx, "POST", "/api/v1/join-tokens", NULL, &answer, &x->err) < 0)
        return -1;
    const char *token = xe_str(answer, "token"), *expires = xe_str(answer, "expires");
    if (!*token)
        return xe_fail(x, XE_ERR_TRANSPORT, "The server answered without a token.");
    xe_out_item(x, token);
    if (*expires && !x->minimal)
        xe_note(x, "One host can join with it until %s.", expires);
    return 0;
}

/* uuid=, else the coordinator (the caller's). */
static int host_arg(struct xe_run_state *x, char **host)
{
    const char *uuid = xe_arg(x, "uuid"), *ref;
    if (uuid)
        return xe_ref_by_uuid(x, "host", uuid, host);
    if (xe_coordinator(x, &ref) < 0)
        return -1;
    *host = xstrdup(ref);
    return 0;
}

int xe_cmd_host_cpu_info(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_FREE char *host = NULL;
    const json_t *record;
    (void)cmd;
    if (host_arg(x, &host) < 0 || xe_record(x, "host", host, &record) < 0)
        return -1;
    xe_out_pairs(x, json_object_get(record, "cpu_info"));
    return 0;
}

/* The entries of a processor description that are sets of features. */
static void print_features(struct xe_run_state *x, const json_t *info, const char *const *keys)
{
    struct xe_cell cells[4];
    size_t n = 0;
    for (; *keys && n < ARRAY_LEN(cells); keys++)
        if (json_object_get(info, *keys))
            cells[n++] = (struct xe_cell){*keys, "", xe_str(info, *keys)};
    xe_out_block(x, cells, n);
}

int xe_cmd_host_get_cpu_features(struct xe_run_state *x, const struct xe_command *cmd)
{
    static const char *const keys[] = {"features_pv", "features_hvm", "features_pv_host", "features_hvm_host",
                                       NULL};
    AUTO_FREE char *host = NULL;
    const json_t *record;
    (void)cmd;
    if (host_arg(x, &host) < 0 || xe_record(x, "host", host, &record) < 0)
        return -1;
    print_features(x, json_object_get(record, "cpu_info"), keys);
    return 0;
}

int xe_cmd_pool_get_cpu_features(struct xe_run_state *x, const struct xe_command *cmd)
{
    static const char *const keys[] = {"features_pv_host", "features_hvm_host", NULL};
    const char *ref;
    const json_t *record;
    (void)cmd;
    if (xe_pool(x, &ref, &record) < 0)
        return -1;
    print_features(x, json_object_get(record, "cpu_info"), keys);
    return 0;
}

int xe_cmd_host_ha_xapi_healthcheck(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_JSON json_t *healthy = NULL;
    (void)cmd;
    if (xe_call(x, "host.ha_xapi_healthcheck", &healthy, "[]") < 0)
        return -1;
    if (!json_is_true(healthy))
        return xe_fail(x, XE_ERR_PLAIN, "Host.ha_xapi_healthcheck reports false");
    xe_out_item(x, "xapi is healthy.");
    return 0;
}

/* ---- logs ---- */

/* "logs-2025-3-19T041624Z". */
static char *log_name(void)
{
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    return xasprintf("logs-%d-%d-%dT%02d%02d%02dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                     tm.tm_min, tm.tm_sec);
}

/* With several hosts, each has a file of its own. */
int xe_cmd_host_logs_download(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *given = xe_arg(x, "file-name");
    AUTO_FREE char *base = given ? xstrdup(given) : log_name();
    AUTO_REFS struct xe_refs hosts = {0};
    if (xe_select(x, cmd, &hosts) < 0)
        return -1;
    for (size_t i = 0; i < hosts.count; i++) {
        const json_t *record;
        if (xe_record(x, "host", hosts.items[i], &record) < 0)
            return -1;
        AUTO_FREE char *file =
            hosts.count == 1 ? xstrdup(base) : xasprintf("%s-%s", base, xe_str(record, "name_label"));
        AUTO_FREE char *route = xasprintf("/host_logs_download?host=%s", hosts.items[i]);
        if (xe_transfer_file(x, x->api->download, "Host logs", file, route, NULL) < 0)
            return -1;
    }
    return 0;
}

int xe_cmd_diagnostic_timing_stats(struct xe_run_state *x, const struct xe_command *cmd)
{
    const json_t *hosts;
    const char *ref, *key;
    json_t *host, *value;
    (void)cmd;
    if (xe_records(x, "host", &hosts) < 0)
        return -1;
    json_object_foreach((json_t *)hosts, ref, host)
    {
        AUTO_JSON json_t *stats = NULL;
        AUTO_JSON json_t *row = json_pack("{sOsO}", "host-uuid", json_object_get(host, "uuid"),
                                          "host-name-label", json_object_get(host, "name_label"));
        if (xe_call(x, "host.get_diagnostic_timing_stats", &stats, "[s]", ref) < 0) {
            AUTO_FREE char *why = xe_err_line(&x->err);
            xe_err_done(&x->err);
            json_object_set_new(row, "Error", json_string(why));
        }
        json_object_foreach(stats, key, value) json_object_set(row, key, value);
        xe_out_pairs(x, row);
    }
    return 0;
}

static int host_guests(struct xe_run_state *x, const char *fn)
{
    AUTO_FREE char *host = NULL;
    AUTO_JSON json_t *answer = NULL;
    if (host_arg(x, &host) < 0 ||
        xe_call_task(x, "host.call_plugin", json_pack("[sss{}]", host, "guests", fn), &answer) < 0)
        return -1;
    xe_out_item(x, json_is_string(answer) ? json_string_value(answer) : "");
    return 0;
}

int xe_cmd_host_guests_down(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return host_guests(x, "down");
}

int xe_cmd_host_guests_up(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return host_guests(x, "up");
}

/* What cannot be taken back is asked for first. */
static int careful(struct xe_run_state *x, const char *const *warnings, const char *method)
{
    const char *uuid;
    bool force = false;
    AUTO_FREE char *host = NULL;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_ref_by_uuid(x, "host", uuid, &host) < 0 ||
        xe_arg_bool(x, "force", &force) < 0)
        return -1;
    for (; *warnings && !force; warnings++)
        xe_out_message(x, "%s", *warnings);
    return xe_confirm(x) < 0 ? -1 : xe_call_task(x, method, json_pack("[s]", host), NULL);
}

int xe_cmd_host_forget(struct xe_run_state *x, const struct xe_command *cmd)
{
    static const char *const warnings[] = {
        "WARNING: A host should only be forgotten if it is physically unrecoverable;",
        "WARNING: if possible, Hosts should be 'ejected' from the Pool instead.",
        "WARNING: Once a host has been forgotten it will have to be re-installed.",
        "WARNING: This operation is irreversible.", NULL};
    (void)cmd;
    return careful(x, warnings, "host.destroy");
}

int xe_cmd_host_declare_dead(struct xe_run_state *x, const struct xe_command *cmd)
{
    static const char *const warnings[] = {
        "WARNING: A host should only be declared dead if it is verified offline.",
        "WARNING: Performing this operation if the host is still online and has any",
        "WARNING: running VMs may lead to possible data loss and/or corruption.", NULL};
    (void)cmd;
    return careful(x, warnings, "host.declare_dead");
}

/* One block for each VM: what of it, and why. */
int xe_cmd_host_get_vms_which_prevent_evacuation(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid, *ref;
    json_t *reason;
    const json_t *vm;
    AUTO_FREE char *host = NULL;
    AUTO_JSON json_t *answer = NULL;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_ref_by_uuid(x, "host", uuid, &host) < 0 ||
        xe_call(x, "host.get_vms_which_prevent_evacuation", &answer, "[s]", host) < 0)
        return -1;
    json_object_foreach(answer, ref, reason)
    {
        AUTO_BUF struct buf words = BUF_INIT;
        for (size_t i = 0; i < json_array_size(reason); i++)
            buf_printf(&words, "%s%s", i ? "," : "", json_string_value(json_array_get(reason, i)));
        if (xe_record(x, "VM", ref, &vm) < 0)
            return -1;
        const struct xe_cell cells[] = {{"uuid", " ( RO)", xe_str(vm, "uuid")},
                                        {"name-label", " ( RW)", xe_str(vm, "name_label")},
                                        {"reason", " ( RO)", words.data ? words.data : ""}};
        xe_out_block(x, cells, ARRAY_LEN(cells));
    }
    return 0;
}
