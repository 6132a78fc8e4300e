/* Certificates from files, and the bundle for support. */
#include "run.h"
#include "xe_handlers.h"
#include <base/secret.h>

static int take_file(struct xe_run_state *x, const char *parameter, char **text)
{
    const char *name;
    size_t len;
    if (xe_arg_required(x, parameter, &name) < 0)
        return -1;
    return x->api->read_file(x->api->ctx, name, text, &len, &x->err);
}

/* name=, else what the file is called in its folder. */
static const char *take_name(struct xe_run_state *x)
{
    const char *name = xe_arg(x, "name"), *file = xe_arg(x, "filename");
    const char *slash = file ? strrchr(file, '/') : NULL;
    return name ? name : slash ? slash + 1 : file;
}

static int install(struct xe_run_state *x, const char *method)
{
    AUTO_FREE char *text = NULL;
    return take_file(x, "filename", &text) < 0 ? -1 : xe_call(x, method, NULL, "[ss]", take_name(x), text);
}

int xe_cmd_pool_install_ca_certificate(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return install(x, "pool.install_ca_certificate");
}

int xe_cmd_pool_certificate_install(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return install(x, "pool.certificate_install");
}

int xe_cmd_pool_crl_install(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return install(x, "pool.crl_install");
}

/* Words separated by commas, as a set. */
static json_t *words(const char *text)
{
    json_t *set = json_array();
    while (text && *text) {
        size_t len = strcspn(text, ",");
        if (len)
            json_array_append_new(set, json_stringn(text, len));
        text += len + (text[len] == ',');
    }
    return set;
}

int xe_cmd_pool_install_trusted_certificate(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *ca, *pool;
    const json_t *record;
    AUTO_FREE char *text = NULL;
    (void)cmd;
    if (xe_arg_required(x, "ca", &ca) < 0 || take_file(x, "filename", &text) < 0 ||
        xe_pool(x, &pool, &record) < 0)
        return -1;
    if (!streq(ca, "true") && !streq(ca, "false"))
        return xe_fail(x, XE_ERR_USAGE, "ca is true or false");
    AUTO_JSON json_t *purpose = words(xe_arg(x, "purpose"));
    return xe_call(x, "pool.install_trusted_certificate", NULL, "[sbsO]", pool, (int)streq(ca, "true"), text,
                   purpose);
}

static int install_of_host(struct xe_run_state *x, const struct xe_command *cmd, const char *host)
{
    AUTO_FREE char *certificate = NULL, *chain = NULL;
    AUTO_SECRET char *key = NULL;
    (void)cmd;
    if (take_file(x, "certificate", &certificate) < 0 || take_file(x, "private-key", &key) < 0 ||
        (xe_arg(x, "certificate-chain") && take_file(x, "certificate-chain", &chain) < 0))
        return -1;
    return xe_call(x, "host.install_server_certificate", NULL, "[ssss]", host, certificate, key,
                   chain ? chain : "");
}

int xe_cmd_host_server_certificate_install(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, install_of_host);
}

/* The server speaks for every host: the bundle holds all of them. */
int xe_cmd_host_get_system_status(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *filename, *output = xe_arg(x, "output"), *entries = xe_arg(x, "entries");
    const char *const given[] = {output, entries};
    (void)cmd;
    if (xe_arg_required(x, "filename", &filename) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(given); i++)
        for (const char *c = given[i]; c && *c; c++)
            if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-_.,", *c))
                return xe_fail(x, XE_ERR_USAGE,
                               "entries are words separated by commas, output is tar, tar.bz2 or zip");
    AUTO_FREE char *route =
        xasprintf("/system-status?output=%s&entries=%s", output ? output : "tar.bz2", entries ? entries : "");
    return xe_transfer(x, x->api->download, "System status", route, NULL);
}

/* url= and http_proxy= for something that the server sends away. */
static int send_away(struct xe_run_state *x, const char *method, const char *ref)
{
    const char *url = xe_arg(x, "url"), *proxy = xe_arg(x, "http_proxy");
    AUTO_JSON json_t *options = json_object();
    if (proxy)
        json_object_set_new(options, "http_proxy", json_string(proxy));
    return xe_call(x, method, NULL, "[ssO]", ref, url ? url : "", options);
}

static int upload_of_host(struct xe_run_state *x, const struct xe_command *cmd, const char *host)
{
    (void)cmd;
    return send_away(x, "host.bugreport_upload", host);
}

int xe_cmd_host_crashdump_upload(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid;
    AUTO_FREE char *dump = NULL;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_ref_by_uuid(x, "host_crashdump", uuid, &dump) < 0)
        return -1;
    return send_away(x, "host_crashdump.upload", dump);
}

int xe_cmd_host_bugreport_upload(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, upload_of_host);
}
