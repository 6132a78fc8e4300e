/* The HTTP client on libcurl: handles with kept connections, and calls. Its streams are in
 * http_curl_stream.c. */
#include "http_curl_internal.h"
#include <base/mem.h>

#define BULK_BUFFER 131072L /* libcurl allocates two a call: for streams */
#define CALL_BUFFER 16384L  /* for the rest */

/* ---- handles ---- */

static int on_request_goes_out(void *arg, char *remote, char *local, int remote_port, int local_port)
{
    (void)remote, (void)local, (void)remote_port, (void)local_port;
    struct easy *e = arg;
    e->sent++;
    return CURL_PREREQFUNC_OK;
}

/* libcurl repeats a request when a kept connection was closed before any answer. That is fine only for
 * requests without effect. */
static int on_request_goes_out_once(void *arg, char *remote, char *local, int remote_port, int local_port)
{
    struct easy *e = arg;
    if (e->sent > 0)
        return CURL_PREREQFUNC_ABORT;
    return on_request_goes_out(arg, remote, local, remote_port, local_port);
}

static CURLcode tls_context_ready(CURL *curl, void *ssl_ctx, void *arg)
{
    struct easy *e = arg;
    (void)curl;
    client_trust_install(ssl_ctx, &e->trust);
    return !e->shows || client_identity_install(e->shows, ssl_ctx) ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
}

static void global_init(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort(); /* only memory can be missing */
}

struct easy *easy_new(const struct http_client *client)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, global_init);
    struct easy *e = xcalloc(1, sizeof(*e));
    CURL *c = e->curl = curl_easy_init();
    if (!c)
        abort(); /* only memory can be missing */
    e->trust.root_sha256 = client->root_sha256;
    e->trust.leaf_sha256 = client->leaf_sha256;
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, e->error);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)client->connect_timeout_ms);
    curl_easy_setopt(c, CURLOPT_MAXAGE_CONN, (long)CLIENT_KEEP_S);
    curl_easy_setopt(c, CURLOPT_MAXCONNECTS, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    if (client->connect_to) {
        AUTO_FREE char *entry = xasprintf("::%s", client->connect_to);
        e->connect_to = curl_slist_append(NULL, entry);
        curl_easy_setopt(c, CURLOPT_CONNECT_TO, e->connect_to);
    }
    curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, client->socket_path);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, client->no_name_check ? 0L : 2L);
    e->shows = client->ca_file && client->cert_file && client->key_file ? client : NULL;
    /* The system's are some hundred: who has pinned a certificate does without reading them. */
    if (client->ca_file || client->root_sha256 || client->leaf_sha256) {
        curl_easy_setopt(c, CURLOPT_CAINFO, e->shows ? NULL : client->ca_file);
        curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
    }
    if (client->cert_file && !e->shows) {
        curl_easy_setopt(c, CURLOPT_SSLCERT, client->cert_file);
        curl_easy_setopt(c, CURLOPT_SSLKEY, client->key_file);
    }
    curl_easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, tls_context_ready);
    curl_easy_setopt(c, CURLOPT_SSL_CTX_DATA, e);
    curl_easy_setopt(c, CURLOPT_PREREQDATA, e);
    return e;
}

void easy_free(struct easy *e)
{
    curl_easy_cleanup(e->curl);
    curl_slist_free_all(e->connect_to);
    free(e);
}

void client_close_kept(void *kept)
{
    easy_free(kept);
}

/* ---- one call ---- */

struct transfer {
    struct easy *easy;
    const struct http_call *call;
    struct http_reply *reply;
    size_t body_max;
    bool too_large, gave_up, cancelled;
};

static char *header_or_null(CURL *c, const char *name)
{
    struct curl_header *header;
    return curl_easy_header(c, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? xstrdup(header->value)
                                                                                : NULL;
}

static void read_head(CURL *c, struct http_reply *reply)
{
    long status = 0;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    reply->status = (unsigned)status;
    reply->content_type = header_or_null(c, "Content-Type");
    reply->location = header_or_null(c, "Location");
    reply->etag = header_or_null(c, "ETag");
    reply->content_range = header_or_null(c, "Content-Range");
}

static size_t on_answer_data(char *data, size_t one, size_t len, void *arg)
{
    (void)one;
    struct transfer *t = arg;
    const struct http_call *call = t->call;
    bool first = t->reply->status == 0;
    if (first)
        read_head(t->easy->curl, t->reply);
    if (call->sink && t->reply->status >= 200 && t->reply->status < 300) {
        bool welcome = !first || !call->head || call->head(call->arg, t->reply) == 0;
        if (welcome && call->sink(call->arg, data, len) == 0)
            return len;
        t->gave_up = true;
        return CURL_WRITEFUNC_ERROR;
    }
    if (len > t->body_max - t->reply->body.len) {
        t->too_large = true;
        return CURL_WRITEFUNC_ERROR;
    }
    buf_add(&t->reply->body, data, len);
    return len;
}

static size_t on_upload(char *to, size_t one, size_t max, void *arg)
{
    struct transfer *t = arg;
    ssize_t n = t->call->source(t->call->arg, to, one * max);
    if (n >= 0)
        return (size_t)n;
    t->gave_up = true;
    return CURL_READFUNC_ABORT;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    struct transfer *t = arg;
    if (!t->call->cancel || !*t->call->cancel)
        return 0;
    t->cancelled = true;
    return 1;
}

static struct curl_slist *build_headers(const struct http_call *call)
{
    struct curl_slist *list = NULL;
    for (const struct http_header *h = call->headers; h && h->name; h++) {
        AUTO_FREE char *line = *h->value ? xasprintf("%s: %s", h->name, h->value) : xasprintf("%s;", h->name);
        list = curl_slist_append(list, line);
    }
    if (call->body || call->source) {
        AUTO_FREE char *line =
            xasprintf("Content-Type: %s", call->content_type ? call->content_type : "application/json");
        list = curl_slist_append(list, line);
    }
    if (call->source && call->source_len < 0)
        list = curl_slist_append(list, "Transfer-Encoding: chunked");
    return list;
}

static void set_body(CURL *c, struct transfer *t, const char *method)
{
    const struct http_call *call = t->call;
    if (call->source) {
        curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c, CURLOPT_READFUNCTION, on_upload);
        curl_easy_setopt(c, CURLOPT_READDATA, t);
        curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)call->source_len);
    } else if (call->body || strcmp(method, "GET") != 0) {
        /* Also without a body: a POST or PUT then says Content-Length: 0. */
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, call->body ? call->body : "");
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(call->body ? call->body_len : 0));
    } else {
        curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
    }
    if (streq(method, "HEAD"))
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
}

/* Every option that differs between calls is set on every call. */
static void set_call(CURL *c, struct transfer *t, const char *url, struct curl_slist *headers,
                     const char *method)
{
    const struct http_call *call = t->call;
    bool limit = call->timeout_ms >= 0;
    unsigned stall = call->stall_ms ? call->stall_ms : 60000;
    long buffer = call->source || call->sink ? BULK_BUFFER : CALL_BUFFER;
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, buffer);
    curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, buffer);
    curl_easy_setopt(c, CURLOPT_UPLOAD, 0L);
    curl_easy_setopt(c, CURLOPT_NOBODY, 0L);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_answer_data);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, call->cancel ? 0L : 1L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, limit ? (long)(call->timeout_ms ? call->timeout_ms : 30000) : 0L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, limit ? 0L : 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, limit ? 0L : (long)((stall + 999) / 1000));
    bool harmless = streq(method, "GET") || streq(method, "HEAD");
    curl_easy_setopt(c, CURLOPT_PREREQFUNCTION, harmless ? on_request_goes_out : on_request_goes_out_once);
    set_body(c, t, method);
}

static enum http_failure failure_of(const struct easy *e, CURLcode code)
{
    if (e->trust.refused_by_peer)
        return HTTP_TLS_REFUSED;
    if (code == CURLE_SSL_CONNECT_ERROR && e->trust.broken_off)
        code = CURLE_COULDNT_CONNECT;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        /* After a lost request even a failure to connect again leaves open what the first one did. */
        return e->sent ? HTTP_LOST : HTTP_CANNOT_CONNECT;
    case CURLE_OPERATION_TIMEDOUT:
        return e->sent ? HTTP_TIMED_OUT : HTTP_CANNOT_CONNECT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
        return e->sent ? HTTP_LOST : HTTP_TLS_REFUSED;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
        return HTTP_PROTOCOL;
    default:
        return HTTP_LOST;
    }
}

int easy_failed(const struct easy *e, CURLcode code, struct http_error *error)
{
    enum http_failure kind = failure_of(e, code);
    const char *text = e->error[0] ? e->error : curl_easy_strerror(code);
    return client_fail(error, kind, kind == HTTP_TLS_REFUSED && *e->trust.why ? e->trust.why : text);
}

static int explain(const struct transfer *t, CURLcode code, struct http_error *error)
{
    if (t->cancelled)
        return client_fail(error, HTTP_CANCELLED, "cancelled");
    if (t->too_large)
        return client_fail(error, HTTP_TOO_LARGE, "the answer is longer than allowed");
    if (t->gave_up)
        return client_fail(error, HTTP_CALLBACK, "the transfer was given up on this side");
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return client_fail(error, HTTP_LOST, "the kept connection was closed before an answer");
    return easy_failed(t->easy, code, error);
}

int http_client_call(struct http_client *client, const struct http_call *call, struct http_reply *reply,
                     struct http_error *error)
{
    if (client_check_call(call, error) < 0)
        return -1;
    struct http_reply got = HTTP_REPLY_INIT;
    struct easy *e = client_take_kept(client);
    if (!e)
        e = easy_new(client);
    struct transfer t = {.easy = e, .call = call, .reply = &got, .body_max = client_body_max(call)};
    AUTO_FREE char *url = xasprintf("%s%s", client->url, call->path);
    const char *method = client_method(call);
    struct curl_slist *headers = build_headers(call);
    set_call(e->curl, &t, url, headers, method);
    e->error[0] = '\0';
    e->sent = 0;
    client_trust_begin(&e->trust);
    CURLcode code = curl_easy_perform(e->curl);
    int result = code == CURLE_OK ? 0 : explain(&t, code, error);
    if (result == 0) {
        if (got.status == 0)
            read_head(e->curl, &got);
        *reply = got;
    } else {
        http_reply_done(&got);
    }
    curl_easy_setopt(e->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    client_keep(client, e);
    return result;
}
