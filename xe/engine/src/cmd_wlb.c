/* What a workload balancing server recommends, and other answers that map objects to words: one block, a line
 * for each object. */
#include "run.h"
#include "xe_handlers.h"
#include <base/http.h>

/* "uuid (name)" (the caller's). */
static int title(struct xe_run_state *x, const char *api_class, const char *ref, char **text)
{
    const json_t *record;
    if (xe_record(x, api_class, ref, &record) < 0)
        return -1;
    *text =
        record ? xasprintf("%s (%s)", xe_str(record, "uuid"), xe_str(record, "name_label")) : xstrdup(ref);
    return 0;
}

/* Says in words what stands beside an object (the caller's). */
typedef int words_fn(struct xe_run_state *x, const json_t *value, char **text);

static int joined(struct xe_run_state *x, const json_t *value, char **text)
{
    AUTO_BUF struct buf b = BUF_INIT;
    (void)x;
    for (size_t i = 0; i < json_array_size(value); i++)
        buf_printf(&b, "%s%s", i ? " " : "", json_string_value(json_array_get(value, i)));
    *text = b.data ? buf_take(&b) : xstrdup("");
    return 0;
}

static int host_or_error(struct xe_run_state *x, const json_t *value, char **text)
{
    const char *host = xe_str(value, "host"), *error = xe_str(value, "error_code");
    if (*host)
        return title(x, "host", host, text);
    *text = xstrdup(*error ? error : "UNKNOWN");
    return 0;
}

/* `answer`: reference of the class -> value. */
static int print_map(struct xe_run_state *x, const char *api_class, const char *kind, const char *heading,
                     const json_t *answer, words_fn *words)
{
    struct xe_cell *cells = xcalloc(json_object_size(answer) + 1, sizeof *cells);
    size_t n = 0;
    const char *ref;
    json_t *value;
    int rc = 0;
    cells[n++] = (struct xe_cell){kind, "", heading};
    json_object_foreach((json_t *)answer, ref, value)
    {
        char *name = NULL, *text = NULL;
        rc = title(x, api_class, ref, &name);
        if (rc == 0 && (rc = words(x, value, &text)) < 0)
            free(name);
        if (rc < 0)
            break;
        cells[n++] = (struct xe_cell){name, "", text};
    }
    if (rc == 0)
        xe_out_block(x, cells, n);
    for (size_t i = 1; i < n; i++) {
        free((char *)cells[i].name);
        free((char *)cells[i].value);
    }
    free(cells);
    return rc;
}

int xe_cmd_pool_retrieve_wlb_recommendations(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_JSON json_t *answer = NULL;
    (void)cmd;
    return xe_call(x, "pool.retrieve_wlb_recommendations", &answer, "[]") < 0
               ? -1
               : print_map(x, "VM", "VM", "Host, OptID, RecID, Reason", answer, joined);
}

int xe_cmd_host_retrieve_wlb_evacuate_recommendations(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid;
    AUTO_FREE char *host = NULL;
    AUTO_JSON json_t *answer = NULL;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_ref_by_uuid(x, "host", uuid, &host) < 0 ||
        xe_call(x, "host.retrieve_wlb_evacuate_recommendations", &answer, "[s]", host) < 0)
        return -1;
    return print_map(x, "VM", "VM", "[Host, RecID] / Error", answer, joined);
}

static int recommendations_of_vm(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    AUTO_JSON json_t *answer = NULL;
    (void)cmd;
    return xe_call(x, "VM.retrieve_wlb_recommendations", &answer, "[s]", vm) < 0
               ? -1
               : print_map(x, "host", "Host(Uuid)", "Stars, RecID, ZeroScoreReason", answer, joined);
}

int xe_cmd_vm_retrieve_wlb_recommendations(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, recommendations_of_vm);
}

/* Every further parameter is one of the report. */
int xe_cmd_pool_retrieve_wlb_report(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *filename = xe_arg(x, "filename"), *report;
    AUTO_BUF struct buf route = BUF_INIT;
    (void)cmd;
    if (xe_arg_required(x, "report", &report) < 0)
        return -1;
    buf_add_str(&route, "/wlb_report");
    for (size_t i = 0, n = 0; i < x->param_count; i++) {
        const struct xe_param *p = &x->params[i];
        if (streq(p->name, "filename") || xe_param_standard(p->name))
            continue;
        buf_add_char(&route, n++ ? '&' : '?');
        http_escape(&route, p->name);
        buf_add_char(&route, '=');
        http_escape(&route, p->value);
    }
    if (xe_transfer_file(x, x->api->download, "WLB report", filename ? filename : "-", route.data, NULL) < 0)
        return -1;
    if (filename)
        xe_out_item(x, "Report generation succeeded");
    return 0;
}

/* ---- plans of high availability ---- */

/* The references of comma-separated uuids. */
static int refs_of(struct xe_run_state *x, const char *api_class, const char *uuids, json_t *refs)
{
    AUTO_FREE char *copy = xstrdup(uuids);
    char *rest = copy, *uuid;
    while ((uuid = strsep(&rest, ","))) {
        AUTO_FREE char *ref = NULL;
        if (xe_ref_by_uuid(x, api_class, uuid, &ref) < 0)
            return -1;
        json_array_append_new(refs, json_string(ref));
    }
    return 0;
}

/* The VMs that run on the hosts now, without the hosts' own domains. */
static int residents(struct xe_run_state *x, const json_t *hosts, json_t *vms)
{
    const json_t *all;
    const char *ref;
    json_t *vm;
    if (xe_records(x, "VM", &all) < 0)
        return -1;
    json_object_foreach((json_t *)all, ref, vm) if (!xe_true(vm, "is_control_domain"))
    {
        for (size_t i = 0; i < json_array_size(hosts); i++)
            if (streq(xe_str(vm, "resident_on"), json_string_value(json_array_get(hosts, i))))
                json_array_append_new(vms, json_string(ref));
    }
    return 0;
}

int xe_cmd_pool_ha_compute_vm_failover_plan(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuids;
    AUTO_JSON json_t *hosts = json_array(), *vms = json_array(), *answer = NULL;
    (void)cmd;
    if (xe_arg_required(x, "host-uuids", &uuids) < 0 || refs_of(x, "host", uuids, hosts) < 0 ||
        residents(x, hosts, vms) < 0 ||
        xe_call(x, "pool.ha_compute_vm_failover_plan", &answer, "[OO]", hosts, vms) < 0)
        return -1;
    return print_map(x, "VM", "VM", "Destination Host or Error", answer, host_or_error);
}

/* vm-uuid= and restart-priority= come in pairs, as often as wanted. */
int xe_cmd_pool_ha_compute_hypothetical_max_host_failures_to_tolerate(struct xe_run_state *x,
                                                                      const struct xe_command *cmd)
{
    AUTO_JSON json_t *vms = json_array(), *priorities = json_array(), *plan = json_object(), *answer = NULL;
    (void)cmd;
    for (size_t i = 0; i < x->param_count; i++) {
        if (streq(x->params[i].name, "vm-uuid") && refs_of(x, "VM", x->params[i].value, vms) < 0)
            return -1;
        if (streq(x->params[i].name, "restart-priority"))
            json_array_append_new(priorities, json_string(x->params[i].value));
    }
    if (json_array_size(vms) != json_array_size(priorities))
        return xe_fail(x, XE_ERR_CLI,
                       "Call requires an equal number of vm-uuid and restart-priority arguments");
    for (size_t i = 0; i < json_array_size(vms); i++)
        json_object_set(plan, json_string_value(json_array_get(vms, i)), json_array_get(priorities, i));
    if (xe_call(x, "pool.ha_compute_hypothetical_max_host_failures_to_tolerate", &answer, "[O]", plan) < 0)
        return -1;
    AUTO_FREE char *text = json_dumps(answer, JSON_ENCODE_ANY);
    AUTO_FREE char *plain = json_is_string(answer) ? xstrdup(json_string_value(answer)) : NULL;
    xe_out_item(x, plain ? plain : text ? text : "");
    return 0;
}
