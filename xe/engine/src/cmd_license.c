/* Licences and editions, which exist for programs that ask: reading them, and changing an edition together
 * with the licence server's address. */
#include "run.h"
#include "xe_handlers.h"
#include <base/secret.h>
#include <stdio.h>
#include <time.h>

/* host-uuid=, else the coordinator (the caller's). */
static int host_arg(struct xe_run_state *x, char **host)
{
    const char *uuid = xe_arg(x, "host-uuid"), *ref;
    if (uuid)
        return xe_ref_by_uuid(x, "host", uuid, host);
    if (xe_coordinator(x, &ref) < 0)
        return -1;
    *host = xstrdup(ref);
    return 0;
}

int xe_cmd_host_license_add(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *name;
    size_t len;
    AUTO_FREE char *host = NULL, *text = NULL;
    (void)cmd;
    if (xe_arg_required(x, "license-file", &name) < 0 || host_arg(x, &host) < 0 ||
        x->api->read_file(x->api->ctx, name, &text, &len, &x->err) < 0)
        return -1;
    AUTO_FREE char *encoded = base64_encode(text, len);
    if (xe_call(x, "host.license_add", NULL, "[ss]", host, encoded) < 0)
        return -1;
    xe_out_item(x, "License applied.");
    return 0;
}

int xe_cmd_host_license_view(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_FREE char *host = NULL;
    AUTO_JSON json_t *params = NULL;
    (void)cmd;
    if (host_arg(x, &host) < 0 || xe_call(x, "host.get_license_params", &params, "[s]", host) < 0)
        return -1;
    json_object_del(params, "sku_type");
    xe_out_pairs(x, params);
    return 0;
}

/* ---- editions ---- */

/* Sets one entry of a host's licence server; `value` NULL: as it was. */
static int set_server(struct xe_run_state *x, const char *host, const char *key, const char *value)
{
    if (!value)
        return 0;
    return xe_call(x, "host.remove_from_license_server", NULL, "[ss]", host, key) < 0
               ? -1
               : xe_call(x, "host.add_to_license_server", NULL, "[sss]", host, key, value);
}

static bool is_port(const char *text)
{
    return *text && strlen(text) <= 5 && !text[strspn(text, "0123456789")] && atoi(text) <= 65535;
}

/* Puts the licence servers back that hosts had before; the error that x has stays. */
static void put_back(struct xe_run_state *x, const json_t *before)
{
    struct xe_err first = x->err;
    const char *host;
    json_t *server;
    x->err = (struct xe_err){0};
    json_object_foreach((json_t *)before, host, server)
    {
        if (xe_call(x, "host.set_license_server", NULL, "[sO]", host, server) < 0)
            xe_err_done(&x->err);
    }
    x->err = first;
}

static void name_editions(struct xe_run_state *x)
{
    struct xe_err first = x->err;
    const char *host;
    AUTO_JSON json_t *editions = NULL;
    AUTO_BUF struct buf list = BUF_INIT;
    x->err = (struct xe_err){0};
    if (xe_coordinator(x, &host) == 0 && xe_call(x, "host.get_editions", &editions, "[s]", host) == 0) {
        for (size_t i = 0; i < json_array_size(editions); i++)
            buf_printf(&list, "%s%s", i ? ", " : "", json_string_value(json_array_get(editions, i)));
        xe_note(x, "Valid editions are: %s", list.data ? list.data : "");
    }
    xe_err_done(&x->err);
    x->err = first;
}

/* `hosts`: reference -> the licence server that each has now. */
static int apply(struct xe_run_state *x, const json_t *hosts, const char *method, json_t *params)
{
    const char *address = xe_arg(x, "license-server-address"), *port = xe_arg(x, "license-server-port");
    const char *host;
    json_t *ignored;
    AUTO_JSON json_t *owned = params;
    if (port && !is_port(port)) {
        xe_note(x, "NOTE: The given port number is invalid; reverting to the current value.");
        port = NULL;
    }
    json_object_foreach((json_t *)hosts, host, ignored)
    {
        if (set_server(x, host, "address", address) < 0 || set_server(x, host, "port", port) < 0) {
            put_back(x, hosts);
            return -1;
        }
    }
    if (xe_call_params(x, method, TAKE_PTR(owned), NULL) == 0)
        return 0;
    if (xe_err_is(&x->err, "LICENSE_CHECKOUT_ERROR"))
        put_back(x, hosts);
    if (xe_err_is(&x->err, "INVALID_EDITION"))
        name_editions(x);
    return -1;
}

static int remember(struct xe_run_state *x, const char *host, json_t *servers)
{
    json_t *server = NULL;
    if (xe_call(x, "host.get_license_server", &server, "[s]", host) < 0)
        return -1;
    json_object_set_new(servers, host, server);
    return 0;
}

int xe_cmd_host_apply_edition(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *edition;
    AUTO_FREE char *host = NULL;
    AUTO_JSON json_t *servers = json_object();
    (void)cmd;
    if (xe_arg_required(x, "edition", &edition) < 0 || host_arg(x, &host) < 0 ||
        remember(x, host, servers) < 0)
        return -1;
    return apply(x, servers, "host.apply_edition", json_pack("[ssb]", host, edition, 0));
}

int xe_cmd_pool_apply_edition(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *edition, *uuid = xe_arg(x, "uuid"), *own, *host;
    const json_t *hosts;
    json_t *record;
    AUTO_FREE char *pool = NULL;
    AUTO_JSON json_t *servers = json_object();
    (void)cmd;
    if (xe_arg_required(x, "edition", &edition) < 0 || xe_pool(x, &own, NULL) < 0 ||
        (uuid && xe_ref_by_uuid(x, "pool", uuid, &pool) < 0) || xe_records(x, "host", &hosts) < 0)
        return -1;
    json_object_foreach((json_t *)hosts, host, record)
    {
        if (remember(x, host, servers) < 0)
            return -1;
    }
    return apply(x, servers, "pool.apply_edition", json_pack("[ss]", pool ? pool : own, edition));
}

/* ---- diagnostic-license-status ---- */

enum { COLUMNS = 6, ROWS_MAX = 512 };
struct status {
    char *cells[ROWS_MAX][COLUMNS];
    size_t count;
};

static void add_row(struct status *s, const char *const cells[static COLUMNS])
{
    for (size_t i = 0; s->count < ROWS_MAX && i < COLUMNS; i++)
        s->cells[s->count][i] = xstrdup(cells[i]);
    s->count += s->count < ROWS_MAX;
}

/* What is not restricted. */
static char *features(const json_t *params)
{
    AUTO_BUF struct buf b = BUF_INIT;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)params, key, value)
    {
        const char *text = json_string_value(value);
        if (text && strncmp(key, "restrict_", 9) == 0 && streq(text, "false"))
            buf_printf(&b, "%s%s", b.len ? " " : "", key + 9);
    }
    return b.len ? buf_take(&b) : xstrdup("-");
}

static void add_host(struct xe_run_state *x, struct status *s, const char *ref, const json_t *record)
{
    AUTO_JSON json_t *params = NULL;
    AUTO_FREE char *uuid = xstrndup(xe_str(record, "uuid"), 8);
    if (xe_call(x, "host.get_license_params", &params, "[s]", ref) < 0) {
        xe_err_done(&x->err);
        add_row(s, (const char *[]){xe_str(record, "hostname"), uuid, "-", "-", "-", "-"});
        return;
    }
    struct tm tm = {0};
    const char *expiry = xe_str(params, "expiry");
    AUTO_FREE char *list = features(params);
    AUTO_FREE char *days = NULL;
    if (strptime(expiry, "%Y%m%dT%H:%M:%SZ", &tm))
        days = xasprintf("%.1f", difftime(timegm(&tm), time(NULL)) / 86400);
    add_row(s, (const char *[]){xe_str(record, "hostname"), uuid, list, xe_str(record, "edition"),
                                *expiry ? expiry : "-", days ? days : "-"});
}

static void print(struct xe_run_state *x, const struct status *s)
{
    size_t width[COLUMNS] = {0};
    for (size_t r = 0; r < s->count; r++)
        for (size_t c = 0; c < COLUMNS; c++)
            width[c] = strlen(s->cells[r][c]) > width[c] ? strlen(s->cells[r][c]) : width[c];
    for (size_t r = 0; r < s->count; r++) {
        AUTO_BUF struct buf line = BUF_INIT;
        for (size_t c = 0; c < COLUMNS; c++)
            buf_printf(&line, "%s%-*s", c ? " " : "", (int)width[c], s->cells[r][c]);
        xe_out_message(x, "%s", line.data);
    }
}

int xe_cmd_diagnostic_license_status(struct xe_run_state *x, const struct xe_command *cmd)
{
    static const char *const divider[] = {"-", "-", "-", "-", "-", "-"};
    const json_t *hosts, *pool;
    const char *ref;
    json_t *record;
    (void)cmd;
    if (xe_records(x, "host", &hosts) < 0 || xe_pool(x, &ref, &pool) < 0)
        return -1;
    struct status *s = xcalloc(1, sizeof *s);
    AUTO_FREE char *all = features(json_object_get(pool, "restrictions"));
    add_row(s, (const char *[]){"Hostname", "UUID", "Features", "Edition", "Expiry", "Days left"});
    add_row(s, divider);
    json_object_foreach((json_t *)hosts, ref, record) add_host(x, s, ref, record);
    add_row(s, divider);
    add_row(s, (const char *[]){"-", "-", all, "-", "-", "-"});
    print(x, s);
    for (size_t r = 0; r < s->count; r++)
        for (size_t c = 0; c < COLUMNS; c++)
            free(s->cells[r][c]);
    free(s);
    return 0;
}
