/* Requests of the pool's server: the protocol is described in hv/client/client.c. Who may connect is
 * decided in the TLS handshake, so that whoever gets here is the pool's server or the agent of another of its
 * hosts, which has one door of its own. Nothing blocks on the server's threads: calls are handed to the
 * workers, waits to the waiters. */
#include "agent.h"
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <hv/system.h>

#define POOL_NAME "poold.corral.internal"
#define BODY_MAX (1u << 20)
#define WAIT_MAX_MS 60000

struct request_job {
    struct agent *agent;
    struct http_request *req;
    char *body;
    size_t len;
    const struct hv_call_desc *call;
};

void answer_error(struct http_request *req, unsigned status, const struct hv_err *err)
{
    struct buf text = BUF_INIT;
    buf_printf(&text, "{\"error\":{\"kind\":\"%s\",\"text\":", hv_err_kind_name(err->kind));
    json_write_string(&text, err->text);
    buf_add_str(&text, "}}");
    size_t len = text.len;
    http_answer_json(req, status, buf_take(&text), len);
}

void answer_result(struct http_request *req, const struct wire_struct *desc, const void *result)
{
    struct buf text = BUF_INIT;
    buf_add_str(&text, "{\"result\":");
    wire_encode(desc, result, &text);
    buf_add_char(&text, '}');
    size_t len = text.len;
    http_answer_json(req, 200, buf_take(&text), len);
}

void answer_op(struct agent *agent, struct http_request *req, struct agent_op *op)
{
    struct operation_status status;
    ops_status(agent, op, &status);
    struct buf text = BUF_INIT;
    if (status.state == OPERATION_STATE_DONE) {
        buf_printf(&text, "{\"result\":%s}", op->result_text); /* constant once it is done */
    } else if (status.state == OPERATION_STATE_FAILED) {
        answer_error(req, 200, &op->err);
        operation_status_done(&status);
        return;
    } else {
        buf_add_str(&text, "{\"pending\":");
        wire_encode(&operation_status_desc, &status, &text);
        buf_add_char(&text, '}');
    }
    operation_status_done(&status);
    size_t len = text.len;
    http_answer_json(req, 200, buf_take(&text), len);
}

static void refuse(struct http_request *req, const char *sentence)
{
    struct hv_err err;
    hv_fail(&err, HV_ERR_KIND_BAD_ARGUMENT, "%s", sentence);
    answer_error(req, 200, &err);
}

/* Reads that may wait are the ones with wait_ms among their arguments. */
static int64_t read_wait(const struct hv_call_desc *call, const void *args)
{
    if (call == &hv_calls[HV_CALL_EVENTS_WAIT])
        return ((const struct hv_events_wait_args *)args)->wait_ms;
    if (call == &hv_calls[HV_CALL_OPERATION_GET])
        return ((const struct hv_operation_get_args *)args)->wait_ms;
    return 0;
}

static void run_operation(struct request_job *job, const json_t *body, void *args)
{
    const char *id = "";
    int64_t timeout_ms = 0, wait_ms = 0;
    struct ref uuid;
    struct agent_op *op;
    struct hv_err err;
    json_get_string(body, "op", &id);
    json_get_int(body, "timeout_ms", &timeout_ms);
    json_get_int(body, "wait_ms", &wait_ms);
    if (!uuid_parse(id, &uuid)) {
        wire_done(job->call->args, args);
        free(args);
        refuse(job->req, "The operation has no id.");
        return;
    }
    char plain[UUID_TEXT_SIZE];
    failpoint_of("agent-asked", job->call->name);
    if (ops_submit(job->agent, uuid_format(uuid, plain), job->call, args, timeout_ms, &op, &err) < 0)
        answer_error(job->req, 200, &err);
    else
        waiters_park_op(job->agent, job->req, op, wait_ms > WAIT_MAX_MS ? WAIT_MAX_MS : wait_ms);
}

static void run_call(struct request_job *job, const json_t *body)
{
    char complaint[WIRE_COMPLAINT_SIZE];
    int64_t term = 0;
    struct hv_err err;
    json_get_int(body, "term", &term);
    if (term_check(job->agent, term, &err) < 0) {
        answer_error(job->req, 200, &err);
        return;
    }
    log_debug("http", "called", "call", job->call->name);
    void *args = xcalloc(1, job->call->args->size);
    if (wire_decode(job->call->args, json_object_get(body, "args"), args, complaint) < 0) {
        free(args);
        refuse(job->req, complaint);
    } else if (job->call->kind == HV_CALL_READ) {
        waiters_park_read(job->agent, job->req, job->call, args, read_wait(job->call, args));
    } else {
        run_operation(job, body, args);
    }
}

static void call_job(void *arg)
{
    struct request_job *job = arg;
    struct json_error error;
    json_t *body AUTO_JSON = json_parse(job->body, job->len, &error);
    if (!json_is_object(body))
        refuse(job->req, "The call is not a JSON object.");
    else
        run_call(job, body);
    http_request_unref(job->req);
    free(job->body);
    free(job);
}

static const char calls_path[] = "/v1/call/";

static const struct hv_call_desc *call_of(const struct http_request *req)
{
    const struct hv_call_desc *call = hv_call_find(http_request_path(req) + sizeof(calls_path) - 1);
    return call && call->kind != HV_CALL_STREAM ? call : NULL;
}

static void body_read(struct http_request *req, char *data, size_t len, void *arg)
{
    struct agent *agent = arg;
    struct request_job *job = xcalloc(1, sizeof(*job));
    *job = (struct request_job){.agent = agent,
                                .call = call_of(req),
                                .body = xmalloc(len + 1),
                                .len = len,
                                .req = http_request_ref(req)};
    memcpy(job->body, data, len);
    job->body[len] = '\0';
    if (worker_submit(agent->workers, call_job, job) == 0)
        return;
    struct hv_err err;
    hv_fail(&err, HV_ERR_KIND_IN_USE, "The host has too much to do; try again later.");
    answer_error(req, 503, &err);
    http_request_unref(job->req);
    free(job->body);
    free(job);
}

/* Another host's agent, at a door that is not for it. */
static void refuse_stranger(struct http_request *req)
{
    struct hv_err err;
    hv_fail(&err, HV_ERR_KIND_DENIED, "Only the pool's server commands an agent.");
    answer_error(req, 403, &err);
}

/* Streams say the term in their query. */
static bool stream_allowed(struct agent *agent, struct http_request *req)
{
    const char *term = http_request_query(req, "term");
    struct hv_err err;
    if (term_check(agent, term ? strtoll(term, NULL, 10) : 0, &err) == 0)
        return true;
    answer_error(req, 403, &err);
    return false;
}

void agent_on_request(struct http_request *req, void *context)
{
    struct agent *agent = context;
    const char *path = http_request_path(req), *who = http_request_client_name(req);
    enum http_method method = http_request_method(req);
    if (!who || !streq(who, POOL_NAME)) {
        if (who && method == HTTP_GET && streq(path, "/v1/migrate"))
            receive_request(agent, req, who);
        else
            refuse_stranger(req);
        return;
    }
    hv_system_heard(agent->system);
    if (method != HTTP_POST && !stream_allowed(agent, req))
        return;
    if (method == HTTP_POST && strncmp(path, calls_path, sizeof(calls_path) - 1) == 0 && call_of(req))
        http_read_body(req, BODY_MAX, body_read, agent);
    else if (method == HTTP_PUT && streq(path, "/v1/disk_import"))
        streams_import(agent, req);
    else if (method == HTTP_PUT && streq(path, "/v1/upload_write"))
        streams_upload(agent, req);
    else if (method == HTTP_GET && streq(path, "/v1/disk_export"))
        streams_export(agent, req);
    else if (method == HTTP_GET && streq(path, "/v1/console"))
        streams_console(agent, req);
    else if (method == HTTP_GET && streq(path, "/v1/nbd"))
        streams_nbd(agent, req);
    else
        http_answer_error(req, 404, "there is no such resource");
}
