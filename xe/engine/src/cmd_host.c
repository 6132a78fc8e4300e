/* Hosts: join tokens, processors, and forgetting one that is gone. */
#include "run.h"
#include "xe_handlers.h"

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
    json_t *info = json_object_get(record, "cpu_info"), *value;
    struct xe_cell *cells = xcalloc(json_object_size(info) + 1, sizeof *cells);
    size_t n = 0;
    const char *key;
    json_object_foreach(info, key, value) cells[n++] = (struct xe_cell){key, " ( RO)", xe_str(info, key)};
    xe_out_block(x, cells, n);
    free(cells);
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

int xe_cmd_host_forget(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid;
    AUTO_FREE char *host = NULL;
    const json_t *record;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_ref_by_uuid(x, "host", uuid, &host) < 0 ||
        xe_record(x, "host", host, &record) < 0)
        return -1;
    xe_out_message(x, "The pool is about to forget host %s (%s) for good.", uuid,
                   xe_str(record, "name_label"));
    if (xe_confirm(x) < 0)
        return -1;
    return xe_call_task(x, "host.destroy", json_pack("[s]", host), NULL);
}
