/* One operation of the agent, and its record in the journal: a line of JSON (operation.h). */
#include "operation.h"

#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <stdio.h>

#define TIME_MAX (INT64_C(1) << 40)

struct agent_op *agent_op_ref(struct agent_op *op)
{
    atomic_fetch_add(&op->refs, 1);
    return op;
}

void agent_op_unref(struct agent_op *op)
{
    if (!op || atomic_fetch_sub(&op->refs, 1) > 1)
        return;
    if (op->args) {
        wire_done(op->call->args, op->args);
        free(op->args);
    }
    free(op->args_text);
    free(op->result_text);
    free(op);
}

struct agent_op *agent_op_new(const char *id, const struct hv_call_desc *call, void *args, int64_t timeout_ms)
{
    struct agent_op *op = xcalloc(1, sizeof(*op));
    struct buf text = BUF_INIT;
    op->refs = 1;
    snprintf(op->id, sizeof(op->id), "%s", id);
    op->call = call;
    op->args = args;
    const char *key = *(const char **)((char *)args + call->key_offset);
    snprintf(op->key, sizeof(op->key), "%s", key ? key : "");
    wire_encode(call->args, args, &text);
    op->args_text = buf_take(&text);
    if (timeout_ms <= 0 || timeout_ms > call->timeout_ms * 10)
        timeout_ms = call->timeout_ms;
    op->deadline = (struct hv_deadline){.mono_ms = clock_mono_ms() + timeout_ms, .cancelled = &op->cancel};
    op->started = clock_unix_seconds();
    op->deadline_unix = op->started + (timeout_ms + 999) / 1000;
    op->state = OPERATION_STATE_QUEUED;
    return op;
}

bool agent_op_is_over(const struct agent_op *op)
{
    return op->state == OPERATION_STATE_DONE || op->state == OPERATION_STATE_FAILED;
}

void agent_op_write(const struct agent_op *op, struct buf *text)
{
    buf_printf(text,
               "{\"id\":\"%s\",\"call\":\"%s\",\"state\":\"%s\",\"started\":%lld,\"finished\":%lld,"
               "\"deadline\":%lld",
               op->id, op->call->name, operation_state_name(op->state), (long long)op->started,
               (long long)op->finished, (long long)op->deadline_unix);
    buf_printf(text, ",\"args\":%s", op->args_text);
    if (op->state == OPERATION_STATE_DONE)
        buf_printf(text, ",\"result\":%s", op->result_text);
    if (op->state == OPERATION_STATE_FAILED) {
        buf_printf(text, ",\"error\":\"%s\",\"text\":", hv_err_kind_name(op->err.kind));
        json_write_string(text, op->err.text);
    }
    buf_add_str(text, "}\n");
}

/* ---- reading ---- */

static enum hv_err_kind kind_of(const char *word)
{
    for (int i = 0; i < HV_ERR_KIND_COUNT; i++)
        if (streq(word, hv_err_kind_name((enum hv_err_kind)i)))
            return (enum hv_err_kind)i;
    return HV_ERR_KIND_INTERNAL;
}

static char *json_text(const json_t *json)
{
    struct buf text = BUF_INIT;
    json_write(&text, json);
    return buf_take(&text);
}

/* Seconds since 1970: no sum or difference of two of them overflows, nor one in milliseconds. */
static bool get_time(const json_t *json, const char *key, int64_t *out)
{
    return json_get_int(json, key, out) && *out >= 0 && *out <= TIME_MAX;
}

/* How it ended, if it did. False: it says that it ended, and not how. */
static bool read_end(struct agent_op *op, const json_t *json, const char *state)
{
    const json_t *result = json_object_get(json, "result");
    const char *kind, *sentence;
    if (streq(state, operation_state_name(OPERATION_STATE_DONE))) {
        if (!json_is_object(result))
            return false;
        op->state = OPERATION_STATE_DONE;
        op->progress = 1;
        op->result_text = json_text(result);
    } else if (streq(state, operation_state_name(OPERATION_STATE_FAILED))) {
        if (!json_get_string(json, "error", &kind) || !json_get_string(json, "text", &sentence))
            return false;
        op->state = OPERATION_STATE_FAILED;
        hv_fail(&op->err, kind_of(kind), "%s", sentence);
    }
    return true;
}

struct agent_op *agent_op_read(const char *text, size_t len)
{
    struct json_error error;
    char complaint[WIRE_COMPLAINT_SIZE], plain[UUID_TEXT_SIZE];
    json_t *json AUTO_JSON = json_parse(text, len, &error);
    const char *id, *name, *state;
    int64_t started, finished, deadline;
    struct ref uuid;
    if (!json || !json_get_string(json, "id", &id) || !uuid_parse(id, &uuid) ||
        !json_get_string(json, "call", &name) || !json_get_string(json, "state", &state) ||
        !get_time(json, "started", &started) || !get_time(json, "finished", &finished) ||
        !get_time(json, "deadline", &deadline))
        return NULL;
    const struct hv_call_desc *call = hv_call_find(name);
    if (!call || call->kind == HV_CALL_READ)
        return NULL;
    void *args = xcalloc(1, call->args->size);
    if (wire_decode(call->args, json_object_get(json, "args"), args, complaint) < 0) {
        free(args);
        return NULL;
    }
    struct agent_op *op = agent_op_new(uuid_format(uuid, plain), call, args, 0);
    int64_t left = deadline - op->started;
    op->deadline.mono_ms = clock_mono_ms() + (left > 10 ? left * 1000 : 10000);
    op->started = started;
    op->finished = finished;
    op->deadline_unix = deadline;
    if (read_end(op, json, state))
        return op;
    agent_op_unref(op);
    return NULL;
}
