/* event.from: subscribers that wait cost memory, no thread. One thread looks at each publication of the
 * store and answers those whom it concerns. */
#pragma once
#include <base/ref.h>
#include <stdint.h>

struct call;
struct events;
struct server;
struct session;

struct events *events_new(struct server *server);
/* Answers all who wait with SESSION_INVALID and joins the thread. */
void events_free(struct events *events);

/* Takes over a call of event.from and answers it now or later. `classes` is what event_filter_parse gave. */
struct event_filter;
void events_from(struct events *events, struct call *call, struct event_filter *filter, uint64_t since,
                 int64_t timeout_ms);
/* The session ended: its waiting calls are answered with SESSION_INVALID. */
void events_session_gone(struct events *events, const struct session *session);
/* How many wait. */
unsigned events_waiting(struct events *events);
