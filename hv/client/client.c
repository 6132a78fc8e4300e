/* Commands one host's agent (hv/client.h). The protocol, which hv/agent/http.c speaks on the other side:
 *
 *   POST /v1/call/<name>   {"op":"<uuid>","term":N,"timeout_ms":N,"wait_ms":N,"args":{...}}
 *     -> {"result":{...}} | {"error":{"kind":"...","text":"..."}} | {"pending":{operation_status}}
 *   PUT  /v1/disk_import?op=&term=&timeout_ms=&args=<JSON>   body: the image -> as above
 *   GET  /v1/disk_export?op=&term=&timeout_ms=&args=<JSON>   -> 8 bytes length, big-endian, then the image
 *   GET  /v1/console?domain=&kind=&term=   Upgrade: corral-console
 *   GET  /v1/nbd?sr=&disk=&iso=&term=      Upgrade: corral-nbd
 *
 * A call that was lost on the way is simply made again: the operation id makes that harmless. */
#include "client_internal.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <stdio.h>
#include <time.h>

#define WAIT_QUIET_MS 20000  /* one request waits so long for the end of an operation */
#define WAIT_CURIOUS_MS 1000 /* the same when progress or a cancellation is to be looked at */
#define REPLY_SLACK_MS 10000
#define IDLE_MAX 64   /* connections kept: one anew costs more than most calls */
#define RETRY_MS 6000 /* an agent that does not answer at all may be restarting for so long */
#define RETRY_PAUSE_MS 100

int hv_host_open(const struct hv_host_address *address, struct hv_host **out, struct hv_err *err)
{
    struct ref uuid;
    if (!address->host_uuid || !uuid_parse(address->host_uuid, &uuid) || !address->address ||
        address->port <= 0 || address->port > 65535)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The address of the host is not complete.");
    if ((!address->leaf_sha256 && access(address->ca_file, R_OK) < 0) ||
        access(address->cert_file, R_OK) < 0 || access(address->key_file, R_OK) < 0)
        return hv_fail(err, HV_ERR_KIND_DENIED, "The certificates for the host cannot be read.");
    char *url AUTO_FREE = xasprintf("https://%s.host.corral.internal:%d", address->host_uuid, address->port);
    bool v6 = strchr(address->address, ':') != NULL;
    char *where AUTO_FREE = xasprintf(v6 ? "[%s]:%d" : "%s:%d", address->address, address->port);
    struct http_client_config config = {.url = url,
                                        .connect_to = where,
                                        .ca_file = address->leaf_sha256 ? NULL : address->ca_file,
                                        .leaf_sha256 = address->leaf_sha256,
                                        .cert_file = address->cert_file,
                                        .key_file = address->key_file,
                                        .idle_max = IDLE_MAX};
    struct hv_host *host = xcalloc(1, sizeof(*host));
    host->uuid = xstrdup(address->host_uuid);
    host->term = address->term;
    host->http = http_client_new(&config);
    *out = host;
    return 0;
}

struct hv_host *hv_host_stand_in(const char *host_uuid, void (*asked)(void *arg, const char *host_uuid),
                                 void *arg)
{
    struct hv_host *host = xcalloc(1, sizeof(*host));
    host->uuid = xstrdup(host_uuid);
    host->asked = asked;
    host->asked_arg = arg;
    return host;
}

int hv_host_check(struct hv_host *host, struct hv_err *err)
{
    if (host->http)
        return 0;
    host->asked(host->asked_arg, host->uuid);
    return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The host's agent is not asked.");
}

void hv_host_close(struct hv_host *host)
{
    if (!host)
        return;
    http_client_free(host->http);
    free(host->uuid);
    free(host);
}

void hv_host_interrupt(struct hv_host *host)
{
    atomic_store(&host->interrupted, true);
}

const char *hv_host_uuid(const struct hv_host *host)
{
    return host->uuid;
}

int hv_http_failure(const struct http_error *error, struct hv_err *err)
{
    log_debug("hv", "a call to a host failed", "kind", http_failure_name(error->kind), "text", error->text);
    switch (error->kind) {
    case HTTP_CANNOT_CONNECT:
        return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The host's agent cannot be reached.");
    case HTTP_TLS_REFUSED:
        return hv_fail(err, HV_ERR_KIND_DENIED,
                       "The host's agent and the server do not accept each other's certificates: %s. "
                       "When a clock is wrong, set it; when the host's certificate has ended, xe "
                       "host-refresh-server-certificate.",
                       error->text);
    case HTTP_TIMED_OUT:
        return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The host's agent did not answer in time.");
    case HTTP_LOST:
        return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The connection to the host's agent was lost.");
    case HTTP_CANCELLED:
    case HTTP_CALLBACK:
        return hv_fail(err, HV_ERR_KIND_CANCELLED, "It was cancelled.");
    case HTTP_TOO_LARGE:
    case HTTP_PROTOCOL:
    case HTTP_ADDRESS_REFUSED:
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The host's agent sent an answer that cannot be used.");
    }
    return hv_fail(err, HV_ERR_KIND_INTERNAL, "The call to the host failed.");
}

static enum hv_err_kind kind_of(const char *word)
{
    for (int i = 0; i < HV_ERR_KIND_COUNT; i++)
        if (streq(word, hv_err_kind_name((enum hv_err_kind)i)))
            return (enum hv_err_kind)i;
    return HV_ERR_KIND_INTERNAL;
}

static int protocol_error(struct hv_err *err, const char *what)
{
    log_warn("hv", "an agent's answer cannot be used", "reason", what);
    return hv_fail(err, HV_ERR_KIND_INTERNAL, "The host's agent sent an answer that cannot be used.");
}

int hv_read_answer(const struct hv_call_desc *call, const struct http_reply *reply, void *result,
                   struct operation_status *pending, struct hv_err *err)
{
    struct json_error bad;
    char complaint[WIRE_COMPLAINT_SIZE];
    json_t *json AUTO_JSON = reply->body.len ? json_parse(reply->body.data, reply->body.len, &bad) : NULL;
    const json_t *member;
    const char *kind, *text;
    if ((member = json_object_get(json, "error"))) {
        bool told = json_get_string(member, "kind", &kind) && json_get_string(member, "text", &text);
        if (!told && reply->status == 404)
            return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                           "The host's agent is of an earlier version and does not know %s.", call->name);
        if (!told)
            return protocol_error(err, "an error without kind or text");
        return hv_fail(err, kind_of(kind), "%s", text);
    }
    if ((member = json_object_get(json, "result")))
        return wire_decode(call->result, member, result, complaint) == 0 ? 0 : protocol_error(err, complaint);
    if ((member = json_object_get(json, "pending")) && pending)
        return wire_decode(&operation_status_desc, member, pending, complaint) == 0
                   ? 1
                   : protocol_error(err, complaint);
    return protocol_error(err, "neither result nor error");
}

/* Everything about one call while it is being made, perhaps several times. */
struct making {
    struct hv_host *host;
    const struct hv_call_desc *call;
    const struct hv_op *op; /* NULL: none */
    struct buf args;
    int64_t deadline;          /* mono ms */
    int64_t unreachable_since; /* 0: it answered the last time */
    bool sent;                 /* it may have arrived at least once */
    bool cancel_asked;
};

static int64_t left(const struct making *m)
{
    int64_t ms = m->deadline - clock_mono_ms();
    return ms > 0 ? ms : 0;
}

static bool wants_cancel(const struct making *m)
{
    return m->op && m->op->cancel && atomic_load(m->op->cancel);
}

static int64_t wait_ms(const struct making *m)
{
    if (m->call->kind == HV_CALL_READ)
        return 0;
    bool curious = m->op->progress || m->op->cancel;
    int64_t most = curious ? WAIT_CURIOUS_MS : WAIT_QUIET_MS;
    return left(m) < most ? left(m) : most;
}

static int post(struct making *m, struct http_reply *reply, struct http_error *error)
{
    struct buf body AUTO_BUF = BUF_INIT;
    int64_t wait = wait_ms(m);
    buf_add_str(&body, "{\"op\":");
    json_write_string(&body, m->op && m->op->id ? m->op->id : "");
    buf_printf(&body, ",\"term\":%lld,\"timeout_ms\":%lld,\"wait_ms\":%lld,\"args\":%s}",
               (long long)m->host->term, (long long)left(m), (long long)wait, m->args.data);
    char *path AUTO_FREE = xasprintf("/v1/call/%s", m->call->name);
    struct http_call call = {.method = "POST",
                             .path = path,
                             .body = body.data,
                             .body_len = body.len,
                             .timeout_ms =
                                 m->call->kind == HV_CALL_READ ? left(m) + 1 : wait + REPLY_SLACK_MS,
                             .body_max = 256u << 20,
                             .cancel = &m->host->interrupted};
    return http_client_call(m->host->http, &call, reply, error);
}

static void pause_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* 1: try again; -1: give up with err. */
static int after_failure(struct making *m, struct http_error *error, struct hv_err *err)
{
    if (atomic_load(&m->host->interrupted))
        return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The connection to the host is being closed.");
    /* What has arrived is not undone because the agent is not let in, or breaks off a handshake, later. */
    if (m->sent && error->kind == HTTP_TLS_REFUSED)
        error->kind = HTTP_LOST;
    hv_http_failure(error, err);
    bool lost = error->kind == HTTP_LOST || error->kind == HTTP_TIMED_OUT;
    if (!lost && error->kind != HTTP_CANNOT_CONNECT)
        return -1;
    int64_t now = clock_mono_ms();
    m->sent = m->sent || lost;
    /* Nothing was ever sent: say so at once instead of waiting for a host that is down. */
    if (!m->sent)
        return -1;
    if (!m->unreachable_since)
        m->unreachable_since = now;
    if (now - m->unreachable_since > RETRY_MS || left(m) == 0)
        return -1;
    pause_ms(RETRY_PAUSE_MS);
    return 1;
}

static void ask_cancel(struct making *m)
{
    struct hv_operation_cancel_args args;
    struct hv_operation_cancel_result result;
    hv_operation_cancel_args_init(&args);
    str_assign(&args.id, m->op->id);
    if (hv_operation_cancel(m->host, NULL, &args, &result, NULL) == 0)
        m->cancel_asked = true;
    hv_operation_cancel_args_done(&args);
}

static void on_pending(struct making *m, struct operation_status *status)
{
    if (m->op->progress)
        m->op->progress(m->op->ctx, status->progress);
    operation_status_done(status);
    if (wants_cancel(m) && !m->cancel_asked)
        ask_cancel(m);
}

/* An agent that ends in order turns away who waits: what it had begun goes on, or is looked into, when it is
 * back. Its own refusals are objects. */
static bool is_ending(const struct http_reply *reply)
{
    struct json_error bad;
    json_t *json AUTO_JSON = NULL;
    if (reply->status != 503)
        return false;
    json = reply->body.len ? json_parse(reply->body.data, reply->body.len, &bad) : NULL;
    return !json_is_object(json_object_get(json, "error"));
}

/* As http_client_call; an agent that is ending counts as lost. */
static int ask(struct making *m, struct http_reply *reply, struct http_error *error)
{
    if (post(m, reply, error) < 0)
        return -1;
    if (!is_ending(reply))
        return 0;
    *error = (struct http_error){.kind = HTTP_LOST};
    return -1;
}

static int make(struct making *m, void *result, struct hv_err *err)
{
    for (;;) {
        struct http_reply reply AUTO_HTTP_REPLY = HTTP_REPLY_INIT;
        struct http_error error;
        struct operation_status status;
        if (atomic_load(&m->host->interrupted))
            return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The connection to the host is being closed.");
        if (ask(m, &reply, &error) < 0) {
            if (after_failure(m, &error, err) < 0)
                return -1;
            continue;
        }
        m->sent = true;
        m->unreachable_since = 0;
        int answer = hv_read_answer(m->call, &reply, result, &status, err);
        if (answer <= 0)
            return answer;
        on_pending(m, &status);
        if (left(m) == 0)
            return hv_fail(err, HV_ERR_KIND_DEADLINE, "The host did not finish in time; it may still do so.");
    }
}

static int begin(struct hv_host *host, const struct hv_call_desc *call, const struct hv_op *op,
                 const void *args, struct hv_err *err)
{
    const char *key = *(const char *const *)((const char *)args + call->key_offset);
    if (op->begin && op->begin(op->ctx, host, call->name, key ? key : "") < 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL,
                       "The operation could not be written down, so it was not begun.");
    failpoint_of("agent-called", call->name);
    return 0;
}

int hv_call(struct hv_host *host, enum hv_call_id id, const struct hv_op *op, const void *args, void *result,
            struct hv_err *err)
{
    const struct hv_call_desc *call = &hv_calls[id];
    struct hv_err ignored;
    struct ref uuid;
    if (!err)
        err = &ignored;
    if (call->kind != HV_CALL_READ && (!op || !op->id || !uuid_parse(op->id, &uuid)))
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The operation has no id.");
    if (wants_cancel(&(struct making){.op = op}))
        return hv_fail(err, HV_ERR_KIND_CANCELLED, "It was cancelled.");
    if (hv_host_check(host, err) < 0 || (call->kind != HV_CALL_READ && begin(host, call, op, args, err) < 0))
        return -1;
    struct making m = {.host = host, .call = call, .op = op};
    m.deadline = clock_mono_ms() + (op && op->timeout_ms > 0 ? op->timeout_ms : call->timeout_ms);
    wire_encode(call->args, args, &m.args);
    int outcome = make(&m, result, err);
    buf_done(&m.args);
    if (call->kind != HV_CALL_READ)
        failpoint_of("agent-answered", call->name);
    return outcome;
}
