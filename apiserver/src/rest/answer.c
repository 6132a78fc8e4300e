/* How REST answers: JSON with a few headers, and problems (RFC 9457). */
#include "internal.h"

#include <base/json.h>
#include <base/mem.h>
#include <model/errors.h>

void rest_send(struct http_request *req, unsigned status, const char *location, const char *etag,
               struct buf *out)
{
    const struct http_header headers[] = {
        {"Content-Type", "application/json"},
        {"Cache-Control", "no-store"},
        {"X-Content-Type-Options", "nosniff"},
        {location ? "Location"
         : etag   ? "ETag"
                  : NULL,
         location ? location : etag},
        {location && etag ? "ETag" : NULL, etag},
        {NULL, NULL},
    };
    size_t len = out->len;
    http_answer(req, status, headers, buf_take(out), len, HTTP_FREE);
}

static void send_problem_with(struct http_request *req, unsigned status, const struct http_header *header,
                              struct buf *out)
{
    static const struct http_header challenge = {"WWW-Authenticate",
                                                 "Bearer realm=\"corral\", Basic realm=\"corral\""};
    const struct http_header *more = status == 401 ? &challenge : header;
    const struct http_header headers[] = {
        {"Content-Type", "application/problem+json"},
        {"Cache-Control", "no-store"},
        {"X-Content-Type-Options", "nosniff"},
        {more ? more->name : NULL, more ? more->value : NULL},
        {NULL, NULL},
    };
    size_t len = out->len;
    http_answer(req, status, headers, buf_take(out), len, HTTP_FREE);
}

static void send_problem(struct http_request *req, unsigned status, struct buf *out)
{
    send_problem_with(req, status, NULL, out);
}

static void write_member(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, ",\"%s\":", name);
    json_write_string(out, text);
}

static void write_plain(struct http_request *req, unsigned status, const char *title, const char *detail,
                        struct buf *out)
{
    buf_printf(out, "{\"type\":\"about:blank\",\"status\":%u", status);
    write_member(out, "title", title);
    write_member(out, "detail", detail);
    write_member(out, "instance", http_request_path(req));
    buf_add_char(out, '}');
}

void rest_problem(struct http_request *req, unsigned status, const char *title, const char *detail)
{
    struct buf out = BUF_INIT;
    write_plain(req, status, title, detail, &out);
    send_problem(req, status, &out);
}

void rest_problem_with(struct http_request *req, unsigned status, const char *title, const char *detail,
                       const struct http_header *header)
{
    struct buf out = BUF_INIT;
    write_plain(req, status, title, detail, &out);
    send_problem_with(req, status, header, &out);
}

void rest_too_many(struct http_request *req, int64_t wait_ms)
{
    AUTO_FREE char *seconds = xasprintf("%lld", (long long)(wait_ms + 999) / 1000);
    AUTO_FREE char *detail = xasprintf("More requests than are allowed: try again in %s s.", seconds);
    rest_problem_with(req, 429, "Too Many Requests", detail, &(struct http_header){"Retry-After", seconds});
}

void rest_busy(struct http_request *req)
{
    rest_problem(req, 503, "Service Unavailable", "The server is too busy now: try again in a moment.");
}

/* A reference among the parameters is told by the uuid of what it names. */
const char *rest_param_text(const struct snapshot *snap, const char *param)
{
    struct ref ref;
    if (strncmp(param, "OpaqueRef:", 10) != 0 || !ref_parse(param, &ref) || ref_is_null(ref))
        return param;
    for (size_t i = 0; i < model_class_count; i++) {
        const struct class_desc *cls = &model_classes[i];
        const struct row *row = cls->row_size && cls->uuid ? snapshot_get(snap, cls, ref) : NULL;
        if (row)
            return row_cell(row, cls->uuid)->str;
    }
    return param;
}

/* The code's sentence, and what it is about. */
static void write_detail(const struct snapshot *snap, const struct api_err *err, struct buf *out)
{
    struct buf text AUTO_BUF = BUF_INIT;
    buf_add_str(&text, err->desc && *err->desc->doc ? err->desc->doc : "The call was refused.");
    for (size_t i = 0; i < err->param_count; i++) {
        bool named = err->desc && i < err->desc->param_count;
        buf_add_str(&text, i ? ", " : " (");
        if (named)
            buf_printf(&text, "%s: ", err->desc->params[i]);
        buf_add_str(&text, rest_param_text(snap, err->params[i]));
    }
    buf_add_str(&text, err->param_count ? ")" : "");
    json_write_string_len(out, text.data, text.len);
}

static void write_error(struct server *server, struct http_request *req, const struct api_err *err,
                        unsigned status, struct buf *out)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    buf_printf(out, "{\"type\":\"/reference/#error-%s\",\"status\":%u", err->code, status);
    write_member(out, "title", err->code);
    buf_add_str(out, ",\"detail\":");
    write_detail(snap, err, out);
    write_member(out, "instance", http_request_path(req));
    write_member(out, "code", err->code);
    buf_add_str(out, ",\"params\":[");
    for (size_t i = 0; i < err->param_count; i++) {
        buf_add_str(out, i ? "," : "");
        json_write_string(out, rest_param_text(snap, err->params[i]));
    }
    buf_add_str(out, "]}");
}

void rest_refuse(struct server *server, struct http_request *req, const struct api_err *err)
{
    struct buf out = BUF_INIT;
    unsigned status = err->desc ? err->desc->status : 409;
    write_error(server, req, err, status, &out);
    send_problem(req, status, &out);
}

void rest_fail(struct rest *r, const struct api_err *err)
{
    rest_refuse(r->server, r->req, err);
}
