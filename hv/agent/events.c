/* Events: a ring of what happened lately, read with cursors. A cursor names this run of the agent and a
 * serial; one of another run, or one that the ring has left behind, gives `lost`. */
#include "agent.h"
#include <base/clock.h>
#include <base/mem.h>
#include <stdio.h>

#define RING 4096
#define BATCH 256

struct events {
    pthread_mutex_t lock;
    char run[UUID_TEXT_SIZE];
    int64_t last; /* serial of the newest; ring[serial % RING] */
    struct hv_event ring[RING];
};

struct events *events_new(struct agent *agent)
{
    (void)agent;
    struct events *events = xcalloc(1, sizeof(*events));
    pthread_mutex_init(&events->lock, NULL);
    uuid_format(ref_new(), events->run);
    return events;
}

void events_free(struct events *events)
{
    if (!events)
        return;
    for (size_t i = 0; i < RING; i++)
        hv_event_done(&events->ring[i]);
    pthread_mutex_destroy(&events->lock);
    free(events);
}

/* With the lock held: a fresh event at the end of the ring. */
static struct hv_event *append(struct events *events, enum event_kind kind, const char *subject)
{
    struct hv_event *event = &events->ring[++events->last % RING];
    hv_event_done(event);
    hv_event_init(event);
    event->serial = events->last;
    event->time = clock_unix_seconds();
    event->kind = kind;
    str_assign(&event->subject, subject);
    return event;
}

void events_domain(struct agent *agent, const struct domain_info *info, bool guest_only)
{
    pthread_mutex_lock(&agent->events->lock);
    struct hv_event *event =
        append(agent->events, guest_only ? EVENT_KIND_GUEST_CHANGED : EVENT_KIND_DOMAIN_CHANGED, info->uuid);
    struct domain_info *slot = hv_event_add_domain(event);
    domain_info_done(slot);
    domain_info_copy(slot, info);
    pthread_mutex_unlock(&agent->events->lock);
    waiters_wake(agent->waiters);
}

void events_operation(struct agent *agent, struct agent_op *op)
{
    struct operation_status status;
    ops_status(agent, op, &status);
    pthread_mutex_lock(&agent->events->lock);
    struct hv_event *event = append(agent->events, EVENT_KIND_OPERATION_CHANGED, op->id);
    struct operation_status *slot = hv_event_add_operation(event);
    operation_status_done(slot);
    *slot = status;
    pthread_mutex_unlock(&agent->events->lock);
    waiters_wake(agent->waiters);
}

void events_publish(struct agent *agent, enum event_kind kind, const char *subject)
{
    pthread_mutex_lock(&agent->events->lock);
    append(agent->events, kind, subject);
    pthread_mutex_unlock(&agent->events->lock);
    waiters_wake(agent->waiters);
}

/* Serial of a cursor; -1: of another run. An empty one is now. */
static int64_t position(const struct events *events, const char *cursor)
{
    size_t len = strlen(events->run);
    if (!*cursor)
        return events->last;
    if (strncmp(cursor, events->run, len) != 0 || cursor[len] != ':')
        return -1;
    char *end;
    long long serial = strtoll(cursor + len + 1, &end, 10);
    return *end || serial < 0 || serial > events->last ? -1 : serial;
}

void events_collect(struct agent *agent, const char *cursor, struct hv_events_wait_result *result)
{
    struct events *events = agent->events;
    pthread_mutex_lock(&events->lock);
    int64_t from = position(events, cursor);
    int64_t oldest = events->last > RING ? events->last - RING : 0;
    if (from < oldest) {
        /* What is true now is in domain_list; the reader goes on from here. */
        result->lost = true;
        from = events->last;
    }
    int64_t to = from + BATCH < events->last ? from + BATCH : events->last;
    for (int64_t serial = from + 1; serial <= to; serial++) {
        struct hv_event *copy = hv_events_wait_result_add_events(result);
        hv_event_done(copy);
        hv_event_copy(copy, &events->ring[serial % RING]);
    }
    const char *text = str_newf("%s:%lld", events->run, (long long)to);
    str_assign(&result->cursor, text);
    str_unref(text);
    pthread_mutex_unlock(&events->lock);
}
