/* event.from and event.next: subscribers that wait cost memory, no thread. One thread looks at each
 * publication of the store and answers those whom it concerns. */
#pragma once
#include <base/ref.h>
#include <model/error.h>
#include <stdint.h>

struct call;
struct event_filter;
struct events;
struct server;
struct session;
struct str_set;

/* Touches the pool's row every `heartbeat_s` seconds (0: never), in memory only, so that idle connections of
 * subscribers carry something now and then. */
struct events *events_new(struct server *server, int64_t heartbeat_s);
/* Answers all who wait with SESSION_INVALID and joins the thread. */
void events_free(struct events *events);

/* Takes over a call of event.from and answers it now or later. `filter` is what event_filter_parse gave, and
 * is taken over too. */
void events_from(struct events *events, struct call *call, struct event_filter *filter, uint64_t since,
                 int64_t timeout_ms);
/* The older way: subscriptions of a session, and a call of event.next that is taken over. */
int events_register(struct events *events, const struct session *session, const struct str_set *classes,
                    struct api_err *err);
int events_unregister(struct events *events, const struct session *session, const struct str_set *classes,
                      struct api_err *err);
void events_next(struct events *events, struct call *call);
/* The session ended: its waiting calls are answered with SESSION_INVALID. */
void events_session_gone(struct events *events, const struct session *session);
