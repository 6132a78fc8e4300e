/* What handlers may ask about a request's head: from libmicrohttpd's memory, or from a copy. */
#include "http_internal.h"
#include <arpa/inet.h>
#include <base/mem.h>
#include <stdio.h>
#include <strings.h>

static const char *const method_names[] = {"GET",   "HEAD",   "POST",    "PUT",
                                           "PATCH", "DELETE", "OPTIONS", "CONNECT"};

const char *http_method_name(enum http_method method)
{
    return method_names[method];
}

bool http_method_parse(const char *text, enum http_method *out)
{
    for (size_t i = 0; i < ARRAY_LEN(method_names); i++) {
        if (streq(text, method_names[i])) {
            *out = (enum http_method)i;
            return true;
        }
    }
    return false;
}

/* ---- the copy ---- */

static enum MHD_Result copy_value(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct head_copy *copy = context;
    copy->values = xreallocarray(copy->values, copy->count + 1, sizeof(*copy->values));
    copy->values[copy->count++] = (struct head_value){kind, xstrdup(name), xstrdup(value ? value : "")};
    return MHD_YES;
}

void head_copy_take(struct http_request *req)
{
    struct head_copy *copy = xcalloc(1, sizeof(*copy));
    copy->path = xstrdup(req->path);
    MHD_get_connection_values(req->connection, MHD_HEADER_KIND | MHD_GET_ARGUMENT_KIND, copy_value, copy);
    http_request_peer(req);          /* keeps its text in the request */
    http_request_is_local_root(req); /* likewise */
    req->path = copy->path;
    req->copy = copy;
}

void head_copy_free(struct head_copy *copy)
{
    if (!copy)
        return;
    for (size_t i = 0; i < copy->count; i++) {
        free(copy->values[i].name);
        free(copy->values[i].value);
    }
    free(copy->values);
    free(copy->path);
    free(copy);
}

static const char *copied(const struct http_request *req, enum MHD_ValueKind kind, const char *name)
{
    for (size_t i = 0; i < req->copy->count; i++) {
        const struct head_value *v = &req->copy->values[i];
        /* Names of headers ignore case. */
        if (v->kind == kind &&
            (kind == MHD_HEADER_KIND ? strcasecmp(v->name, name) == 0 : streq(v->name, name)))
            return v->value;
    }
    return NULL;
}

/* ---- questions ---- */

enum http_method http_request_method(const struct http_request *req)
{
    return req->method;
}

const char *http_request_path(const struct http_request *req)
{
    return req->path;
}

const char *http_request_header(const struct http_request *req, const char *name)
{
    return req->copy ? copied(req, MHD_HEADER_KIND, name)
                     : MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND, name);
}

const char *http_request_query(const struct http_request *req, const char *name)
{
    const char *value = NULL;
    size_t len = 0;
    if (req->copy)
        return copied(req, MHD_GET_ARGUMENT_KIND, name);
    if (MHD_lookup_connection_value_n(req->connection, MHD_GET_ARGUMENT_KIND, name, strlen(name), &value,
                                      &len) != MHD_YES)
        return NULL;
    return value ? value : "";
}

struct query_walk {
    bool (*each)(void *arg, const char *name, const char *value);
    void *arg;
};

static enum MHD_Result walk_query(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    struct query_walk *walk = context;
    return walk->each(walk->arg, name, value ? value : "") ? MHD_YES : MHD_NO;
}

void http_request_each_query(const struct http_request *req,
                             bool (*each)(void *arg, const char *name, const char *value), void *arg)
{
    struct query_walk walk = {each, arg};
    if (!req->copy) {
        MHD_get_connection_values(req->connection, MHD_GET_ARGUMENT_KIND, walk_query, &walk);
        return;
    }
    for (size_t i = 0; i < req->copy->count; i++) {
        const struct head_value *v = &req->copy->values[i];
        if (v->kind == MHD_GET_ARGUMENT_KIND && !each(arg, v->name, v->value))
            return;
    }
}

/* Cookies are cut at ';', and at '&' as well: some old clients write "session_id=x&task_id=y". */
static void cut_cookies(struct http_request *req)
{
    const char *header = http_request_header(req, "Cookie");
    req->cookies = xstrdup(header ? header : "");
    req->cookies_len = strlen(req->cookies);
    for (char *c = req->cookies; *c; c++)
        if (strchr(";& \t", *c))
            *c = '\0';
}

const char *http_request_cookie(struct http_request *req, const char *name)
{
    size_t name_len = strlen(name);
    if (!req->cookies)
        cut_cookies(req);
    for (char *at = req->cookies; at < req->cookies + req->cookies_len; at += strlen(at) + 1)
        if (strncmp(at, name, name_len) == 0 && at[name_len] == '=')
            return at + name_len + 1;
    return NULL;
}

int64_t http_request_content_length(const struct http_request *req)
{
    return req->content_length;
}

bool http_request_is_tls(const struct http_request *req)
{
    return req->server->tls;
}

const char *http_request_peer(struct http_request *req)
{
    if (req->peer[0])
        return req->peer;
    const struct sockaddr *address =
        MHD_get_connection_info(req->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;
    if (address->sa_family == AF_UNIX) {
        snprintf(req->peer, sizeof(req->peer), "local");
        return req->peer;
    }
    const void *bytes = address->sa_family == AF_INET6
                            ? (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr
                            : (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr;
    if (!inet_ntop(address->sa_family, bytes, req->peer, sizeof(req->peer)))
        snprintf(req->peer, sizeof(req->peer), "unknown");
    return req->peer;
}

static bool is_local_root(struct MHD_Connection *connection)
{
    int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    int domain = 0;
    struct ucred peer;
    socklen_t domain_size = sizeof(domain), peer_size = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_size) < 0 || domain != AF_UNIX)
        return false;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) < 0 || peer_size != sizeof(peer))
        return false;
    return peer.pid > 0 && (peer.uid == 0 || peer.uid == geteuid());
}

bool http_request_is_local_root(struct http_request *req)
{
    if (!req->local_root_known) {
        /* Other servers have no such sockets: the kernel need not be asked with each request. */
        req->local_root = req->server->socket_path && is_local_root(req->connection);
        req->local_root_known = true;
    }
    return req->local_root;
}

bool http_request_is_known_client(const struct http_request *req)
{
    return req->client_known;
}

const char *http_request_client_name(const struct http_request *req)
{
    return req->server->client_certificates && req->socket->client[0] ? req->socket->client : NULL;
}

void http_request_set_data(struct http_request *req, void *data)
{
    req->data = data;
}

void *http_request_data(const struct http_request *req)
{
    return req->data;
}

void http_request_on_close(struct http_request *req, void (*closed)(void *arg), void *arg,
                           void (*release)(void *arg))
{
    req->closed = closed;
    req->closed_arg = arg;
    req->closed_release = release;
}
