/* event.*: what changed. */
#include "../gate/event.h"
#include "../gate/filter.h"
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <inttypes.h>
#include <math.h>
#include <model/errors.h>

#define TIMEOUT_MAX_S (24.0 * 3600)

struct wait {
    struct event_filter *filter;
    uint64_t since;
    int64_t timeout_ms;
};

static void begin_wait(struct call *call, void *arg)
{
    struct wait wait = *(struct wait *)arg;
    free(arg);
    events_from(call->server->events, call, wait.filter, wait.since, wait.timeout_ms);
}

int handle_event_from(struct call *call, const struct event_from_args *args, json_t **result,
                      struct api_err *err)
{
    (void)result; /* the event thread answers */
    struct wait wait;
    if (event_token_parse(args->token, &wait.since, err) < 0 ||
        event_filter_parse(args->classes, &wait.filter, err) < 0)
        return -1;
    double timeout = args->timeout;
    if (isnan(timeout) || timeout < 0 || timeout > TIMEOUT_MAX_S)
        timeout = TIMEOUT_MAX_S;
    wait.timeout_ms = (int64_t)(timeout * 1000);
    struct wait *kept = xmalloc(sizeof(*kept));
    *kept = wait;
    call->take_over = begin_wait;
    call->take_over_arg = kept;
    return 0;
}

int handle_event_register(struct call *call, const struct event_register_args *args, struct api_err *err)
{
    return events_register(call->server->events, call->session, args->classes, err);
}

int handle_event_unregister(struct call *call, const struct event_unregister_args *args, struct api_err *err)
{
    return events_unregister(call->server->events, call->session, args->classes, err);
}

static void begin_next(struct call *call, void *arg)
{
    (void)arg;
    events_next(call->server->events, call);
}

int handle_event_next(struct call *call, json_t **result, struct api_err *err)
{
    (void)result; /* the event thread answers */
    (void)err;
    call->take_over = begin_next;
    return 0;
}

int handle_event_get_current_id(struct call *call, int64_t *result, struct api_err *err)
{
    (void)err;
    *result = (int64_t)snapshot_generation(call->snapshot);
    return 0;
}

/* Touches the object, so that event.from after the returned token tells of it. */
int handle_event_inject(struct call *call, const struct event_inject_args *args, const char **result,
                        struct api_err *err)
{
    const struct class_desc *cls = class_find(args->class);
    struct ref ref;
    /* Messages never change: they come and go. */
    if (!cls || !cls->row_size || cls == CLASS_message || !ref_parse(args->ref, &ref))
        return err_handle_invalid(err, args->class, args->ref);
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, cls, ref)) {
        tx_abort(tx);
        return err_handle_invalid(err, args->class, args->ref);
    }
    uint64_t generation = tx_generation(tx);
    tx_renew(tx, cls, ref);
    if (server_commit(tx, err) < 0)
        return -1;
    char token[EVENT_TOKEN_SIZE];
    event_token_format(generation - 1, token);
    *result = str_new(token);
    return 0;
}
