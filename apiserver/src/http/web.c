/* Routing by the longest prefix of whole path parts, per method; unknown GET paths are static files. The
 * files are few and small: they are read once, so a request never touches the file system and no path can
 * lead out. */
#include "web.h"

#include "../codec/jsonrpc.h"
#include "../codec/rpc.h"
#include "../codec/xmlrpc.h"
#include "../rest/rest.h"
#include "../server.h"
#include "doors.h"
#include "tus.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <base/xml.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define FILE_MAX (16 * 1024 * 1024)
#define FILES_MAX 500

struct web_file {
    char *path; /* "/app.js" */
    char *data;
    size_t len;
    const char *type;
    char etag[SHA256_TEXT_SIZE + 2];
};

struct web {
    struct server *server;
    struct web_file *files;
    size_t count;
};

static const char content_policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src "
    "'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'";

static const char *type_of(const char *path)
{
    static const struct {
        const char *end, *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".ico", "image/x-icon"},
        {".json", "application/json"},
        {".map", "application/json"},
        {".woff2", "font/woff2"},
        {".webmanifest", "application/manifest+json"},
        {".txt", "text/plain; charset=utf-8"},
    };
    size_t len = strlen(path);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        size_t end = strlen(types[i].end);
        if (len > end && streq(path + len - end, types[i].end))
            return types[i].type;
    }
    return "application/octet-stream";
}

static void add_file(struct web *web, const char *full, const char *path)
{
    size_t len;
    char *data = file_read(full, FILE_MAX, &len);
    if (!data) {
        log_warn("web", "a file of the web console could not be read", "file", full, "cause",
                 strerror(errno));
        return;
    }
    web->files = xreallocarray(web->files, web->count + 1, sizeof(*web->files));
    struct web_file *file = &web->files[web->count++];
    *file = (struct web_file){.path = xstrdup(path), .data = data, .len = len, .type = type_of(path)};
    char hash[SHA256_TEXT_SIZE];
    snprintf(file->etag, sizeof(file->etag), "\"%.32s\"", sha256_text(data, len, hash));
}

static void add_folder(struct web *web, const char *dir, const char *prefix, int depth)
{
    DIR *d = opendir(dir);
    if (!d) {
        log_warn("web", "the folder of the web console could not be read", "folder", dir, "cause",
                 strerror(errno));
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(d)) && web->count < FILES_MAX) {
        if (entry->d_name[0] == '.')
            continue;
        AUTO_FREE char *full = xasprintf("%s/%s", dir, entry->d_name);
        AUTO_FREE char *path = xasprintf("%s/%s", prefix, entry->d_name);
        struct stat st;
        if (stat(full, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth > 0)
            add_folder(web, full, path, depth - 1);
        else if (S_ISREG(st.st_mode))
            add_file(web, full, path);
    }
    closedir(d);
}

struct web *web_new(struct server *server, const char *dir)
{
    struct web *web = xcalloc(1, sizeof(*web));
    web->server = server;
    if (dir)
        add_folder(web, dir, "", 4);
    return web;
}

void web_free(struct web *web)
{
    if (!web)
        return;
    for (size_t i = 0; i < web->count; i++) {
        free(web->files[i].path);
        free(web->files[i].data);
    }
    free(web->files);
    free(web);
}

static const struct web_file *find_exactly(const struct web *web, const char *path)
{
    for (size_t i = 0; i < web->count; i++)
        if (streq(web->files[i].path, path))
            return &web->files[i];
    return NULL;
}

/* The file itself, or the index.html of a folder. */
static const struct web_file *find_file(const struct web *web, const char *path)
{
    const struct web_file *file = find_exactly(web, path);
    if (file)
        return file;
    bool slash = path[0] && path[strlen(path) - 1] == '/';
    AUTO_FREE char *index = xasprintf("%.1024s%sindex.html", path, slash ? "" : "/");
    return find_exactly(web, index);
}

static void serve_file(const struct web *web, struct http_request *req)
{
    const struct web_file *file = find_file(web, http_request_path(req));
    if (!file) {
        http_answer_error(req, 404, "there is no such page");
        return;
    }
    const struct http_header headers[] = {
        {"Content-Type", file->type},
        {"ETag", file->etag},
        {"Cache-Control", "no-cache"},
        {"Content-Security-Policy", content_policy},
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {http_request_is_tls(req) ? "Strict-Transport-Security" : NULL, "max-age=31536000"},
        {NULL, NULL},
    };
    const char *known = http_request_header(req, "If-None-Match");
    if (known && streq(known, file->etag))
        http_answer(req, 304, headers, "", 0, HTTP_STATIC);
    else
        http_answer(req, 200, headers, file->data, file->len, HTTP_STATIC);
}

/* ---- error pages ---- */

static const char *status_name(unsigned status)
{
    static const struct {
        unsigned status;
        const char *name;
    } names[] = {
        {400, "Bad request"},
        {401, "Unauthorised"},
        {403, "Forbidden"},
        {404, "Not found"},
        {408, "Request timeout"},
        {413, "Request entity too large"},
        {431, "Request header fields too large"},
        {500, "Internal error"},
        {501, "Method not implemented"},
        {503, "Service unavailable"},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (names[i].status == status)
            return names[i].name;
    return "Error";
}

bool web_error_page(const struct http_request *req, unsigned status, const char *text, struct buf *out,
                    const struct http_header **headers)
{
    static const struct http_header page_headers[] = {
        {"Content-Type", "text/html"}, {"Cache-Control", "no-cache, no-store"}, {NULL, NULL}};
    static const struct http_header last_headers[] = {{"Content-Type", "text/html"},
                                                      {"Cache-Control", "no-cache, no-store"},
                                                      {"Connection", "close"},
                                                      {NULL, NULL}};
    if (strncmp(http_request_path(req), "/api/", 5) == 0)
        return false;
    *headers = status == 403 ? last_headers : page_headers;
    buf_printf(out, "<html><body><h1>HTTP %u ", status);
    xml_write_text(out, status_name(status));
    buf_add_str(out, "</h1>");
    xml_write_text(out, text);
    buf_add_str(out, "</body></html>");
    return true;
}

static void answer_options(struct http_request *req)
{
    const char *asked = http_request_header(req, "Access-Control-Request-Headers");
    bool is_vdi = strncmp(http_request_path(req), "/api/v1/vdis/", 13) == 0; /* has uploads */
    AUTO_FREE char *allowed =
        asked ? xasprintf("%.512s, X-Requested-With", asked) : xstrdup("X-Requested-With");
    const struct http_header headers[] = {
        {"Access-Control-Allow-Origin", "*"},
        {"Access-Control-Allow-Headers", allowed},
        {"Access-Control-Allow-Methods", "PUT"},
        {"Cache-Control", "no-cache, no-store"},
        {is_vdi ? "Tus-Resumable" : NULL, TUS_VERSION},
        {"Tus-Version", TUS_VERSION},
        {"Tus-Extension", TUS_EXTENSIONS},
        {"Tus-Checksum-Algorithm", TUS_CHECKSUMS},
        {NULL, NULL},
    };
    http_answer(req, 200, headers, "", 0, HTTP_STATIC);
}

/* Calls come with their length (XenServer answers 500 to one that does not). */
static bool has_length(struct http_request *req)
{
    if (http_request_content_length(req) >= 0)
        return true;
    http_answer_error(req, 500, "a call needs Content-Length");
    return false;
}

static void serve_jsonrpc(struct server *server, struct http_request *req)
{
    if (!has_length(req))
        return;
    http_read_body(req, RPC_BODY_MAX, jsonrpc_request, server);
}

static void serve_xmlrpc(struct server *server, struct http_request *req)
{
    if (!has_length(req))
        return;
    http_read_body(req, RPC_BODY_MAX, xmlrpc_request, server);
}

struct route {
    enum http_method method;
    const char *prefix;
    void (*serve)(struct server *server, struct http_request *req);
};

static const struct route routes[] = {
    {HTTP_POST, "/jsonrpc", serve_jsonrpc},
    {HTTP_POST, "/api/v1/join-tokens", door_join_tokens},
    {HTTP_POST, "/api/v1/why", door_why},
    {HTTP_POST, "/api/v1/hosts/join", door_join},
    {HTTP_GET, "/api/v1/pool/copy", door_pool_copy},
    {HTTP_GET, "/api/v1/pool/secret", door_pool_secret},
    {HTTP_POST, "/api/v1/pool/members", door_pool_members},
    {HTTP_POST, "/api/v1/console-tokens", door_console_tokens},
    {HTTP_GET, "/api/v1", rest_serve},
    {HTTP_HEAD, "/api/v1", rest_serve},
    {HTTP_POST, "/api/v1", rest_serve},
    {HTTP_PATCH, "/api/v1", rest_serve},
    {HTTP_PUT, "/api/v1", rest_serve},
    {HTTP_DELETE, "/api/v1", rest_serve},
    {HTTP_POST, "/cli", door_cli},
    {HTTP_GET, "/console", door_console},
    {HTTP_CONNECT, "/console", door_console_tunnel},
    {HTTP_GET, "/vncsnapshot", door_vncsnapshot},
    {HTTP_GET, "/rrd_updates", door_rrd_updates},
    {HTTP_GET, "/vm_rrd", door_vm_rrd},
    {HTTP_GET, "/vm_rrds", door_vm_rrd},
    {HTTP_GET, "/host_rrd", door_host_rrd},
    {HTTP_GET, "/host_rrds", door_host_rrd},
    {HTTP_GET, "/sr_rrd", door_sr_rrd},
    {HTTP_PUT, "/rrd", door_put_rrd},
    {HTTP_GET, "/metrics", door_metrics},
    {HTTP_GET, "/healthz", door_healthz},
    {HTTP_GET, "/readyz", door_readyz},
    {HTTP_GET, "/audit_log", door_audit_log},
    {HTTP_GET, "/blob", door_get_blob},
    {HTTP_PUT, "/blob", door_put_blob},
    {HTTP_GET, "/export", door_export},
    {HTTP_GET, "/export_metadata", door_export_metadata},
    {HTTP_PUT, "/import", door_import},
    {HTTP_PUT, "/import_metadata", door_import_metadata},
    {HTTP_PUT, "/import_raw_vdi", door_import_raw_vdi},
    {HTTP_GET, "/export_raw_vdi", door_export_raw_vdi},
    {HTTP_GET, "/pool/xmldbdump", door_dump},
    {HTTP_PUT, "/pool/xmldbdump", door_restore},
    {HTTP_GET, "/host_backup", door_unbuilt},
    {HTTP_PUT, "/host_restore", door_unbuilt},
    {HTTP_GET, "/host_logs_download", door_host_logs},
    {HTTP_GET, "/system-status", door_system_status},
    {HTTP_PUT, "/pool_patch_upload", door_unbuilt},
    {HTTP_GET, "/update", door_unbuilt},
    {HTTP_GET, "/updates", door_unbuilt},
    {HTTP_GET, "/repository", door_unbuilt},
    {HTTP_GET, "/host_updates", door_unbuilt},
    {HTTP_PUT, "/bundle", door_unbuilt},
    {HTTP_GET, "/wlb_report", door_unbuilt},
    {HTTP_GET, "/wlb_diagnostics", door_unbuilt},
    {HTTP_POST, "/", serve_xmlrpc},
};

static const struct route *find_route(enum http_method method, const char *path)
{
    const struct route *best = NULL;
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (routes[i].method != method)
            continue;
        size_t len = strlen(routes[i].prefix);
        if (strncmp(path, routes[i].prefix, len) == 0 &&
            (path[len] == '\0' || path[len] == '/' || len == 1) && (!best || len > strlen(best->prefix)))
            best = &routes[i];
    }
    return best;
}

/* True: answered, for this address has made too many calls. REST counts by itself, by who asks; local root is
 * not counted. */
static bool is_too_often(struct server *server, struct http_request *req)
{
    const struct rate_limit *limit = &server->call_rate;
    const char *path = http_request_path(req), *peer = http_request_peer(req);
    if (limit->per_second <= 0 || strncmp(path, "/api/", 5) == 0 || streq(path, "/healthz") ||
        streq(path, "/readyz") || streq(peer, "local"))
        return false;
    AUTO_FREE char *name = xasprintf("call %s", peer);
    int64_t wait_ms = rates_take(server->rates, name, limit, 1, clock_mono_ms());
    if (wait_ms == 0)
        return false;
    AUTO_FREE char *seconds = xasprintf("%lld", (long long)(wait_ms + 999) / 1000);
    const struct http_header headers[] = {{"Retry-After", seconds},
                                          {"Content-Type", "text/plain"},
                                          {"Cache-Control", "no-cache, no-store"},
                                          {NULL, NULL}};
    AUTO_FREE char *text = xasprintf("More calls than are allowed: try again in %s s.\n", seconds);
    http_answer(req, 429, headers, text, strlen(text), HTTP_COPY);
    return true;
}

static void serve(struct web *web, struct http_request *req)
{
    enum http_method method = http_request_method(req);
    const struct route *route = find_route(method, http_request_path(req));
    if (route) {
        if (!is_too_often(web->server, req))
            route->serve(web->server, req);
        return;
    }
    switch (method) {
    case HTTP_GET:
    case HTTP_HEAD:
        serve_file(web, req);
        break;
    case HTTP_OPTIONS:
        answer_options(req);
        break;
    case HTTP_POST:
    case HTTP_PUT:
    case HTTP_CONNECT:
        http_answer_error(req, 403, "nothing of this name takes this method");
        break;
    case HTTP_PATCH:
    case HTTP_DELETE:
        http_answer_error(req, 501, "this method is not known here");
        break;
    }
}

/* Plain HTTP over a network, which the coordinator's setting closes. */
static bool is_closed(struct server *server, struct http_request *req)
{
    if (http_request_is_tls(req) || streq(http_request_peer(req), "local"))
        return false;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    const struct host_row *host = pool ? host_row(snapshot_get(snap, CLASS_host, pool->master)) : NULL;
    return host && host->https_only;
}

void web_request(struct http_request *req, void *context)
{
    struct web *web = context;
    if (!doors_enter(web->server, req))
        return;
    if (is_closed(web->server, req))
        http_answer_error(req, 403, "this pool answers over HTTPS only");
    else
        serve(web, req);
    doors_leave(web->server);
}
