/* Waiting for the answer of a call that may be given on any thread, and perhaps never: a server that stops
 * drops answers that wait in a timer. */
#include "local.h"

#include "../http/doors.h"
#include "gate.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <pthread.h>
#include <time.h>

#define TICK_MS 200
#define STOP_PATIENCE_MS 5000

/* Shared by who waits and who answers; the second one to leave frees it. */
struct exchange {
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t answered;
    struct call *call; /* answered */
    bool abandoned;
};

static void exchange_free(struct exchange *x)
{
    if (x->call)
        call_free(x->call);
    pthread_cond_destroy(&x->answered);
    pthread_mutex_destroy(&x->lock);
    free(x);
}

static void complete(struct call *call)
{
    struct exchange *x = call->reply;
    if (!x) { /* an asynchronous call, after its task was answered */
        call_free(call);
        return;
    }
    pthread_mutex_lock(&x->lock);
    x->call = call;
    bool abandoned = x->abandoned;
    pthread_cond_signal(&x->answered);
    pthread_mutex_unlock(&x->lock);
    if (abandoned)
        exchange_free(x);
}

/* False: the server stops, and the answer may never come. */
static bool wait_answer(struct server *server, struct exchange *x)
{
    int64_t give_up = INT64_MAX;
    pthread_mutex_lock(&x->lock);
    while (!x->call && clock_mono_ms() < give_up) {
        int64_t until = clock_mono_ms() + TICK_MS;
        struct timespec tick = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
        pthread_cond_timedwait(&x->answered, &x->lock, &tick);
        if (give_up == INT64_MAX && atomic_load(&server->closing))
            give_up = until + STOP_PATIENCE_MS;
    }
    bool answered = x->call != NULL;
    x->abandoned = !answered;
    pthread_mutex_unlock(&x->lock);
    return answered;
}

static json_t *result_of(const struct call *call)
{
    AUTO_BUF struct buf text = BUF_INIT;
    struct json_error cause;
    if (call->raw)
        return json_parse(call->raw, call->raw_len, &cause);
    if (!call->result_type || call->result_type->kind == TYPE_VOID)
        return json_string("");
    cell_write_json(call->result_type, &call->result, &text);
    return json_parse(text.data, text.len, &cause);
}

static int take_answer(const struct call *call, json_t **result, struct api_err *err)
{
    if (call->failed) {
        api_err_copy(err, &call->err);
        return -1;
    }
    json_t *value = result_of(call);
    if (!value)
        return fail_internal(err, "The answer of %s cannot be read.", call->name);
    *result = value;
    return 0;
}

int local_call(struct server *server, const char *peer, const char *name, json_t *params, json_t **result,
               struct api_err *err)
{
    if (!doors_try_enter(server))
        return fail_internal(err, "The server is stopping.");
    struct exchange *x = xcalloc(1, sizeof(*x));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&x->answered, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&x->lock, NULL);
    /* The gate changes the array, and other threads count what is in it: a copy of our own. */
    AUTO_JSON json_t *own = json_deep_copy(params);
    struct call *call = call_new(server, name, own, true, peer, complete);
    call->reply = x;
    json_decref(TAKE_PTR(own));
    gate_run(call);
    doors_leave(server);
    if (!wait_answer(server, x))
        return fail_internal(err, "The server is stopping.");
    int rc = take_answer(x->call, result, err);
    exchange_free(x);
    return rc;
}
