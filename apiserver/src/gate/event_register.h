/* Who uses the older way of events (XenAPI: event.register, unregister, next): which sessions, for which
 * classes, and how far each was told. An entry is small and has no queue: what to tell is computed from the
 * store's change list. Any thread. */
#pragma once
#include "filter.h"

struct registrations;
struct registrations *registrations_new(void);
void registrations_free(struct registrations *r);

/* At most this many subscriptions of one session. */
#define REGISTER_WORDS_MAX 4096

/* Adds subscriptions of a session; the first ones begin after `now`. -1: EVENT_SUBSCRIPTION_PARSE_FAILURE, or
 * INVALID_VALUE when there are too many. */
int registration_add(struct registrations *r, struct ref session, const struct str_set *classes, uint64_t now,
                     struct api_err *err);
/* Takes away just these subscriptions; with the last one the session is no longer registered. */
int registration_remove(struct registrations *r, struct ref session, const struct str_set *classes,
                        struct api_err *err);
void registration_drop(struct registrations *r, struct ref session);

struct registration {
    struct event_filter *filter; /* the caller's copy: event_filter_free */
    uint64_t told;               /* generation */
    uint64_t next_id;
};
/* False: not registered. */
bool registration_get(struct registrations *r, struct ref session, struct registration *out);
/* The session was told `count` more events, of all changes up to `told`. */
void registration_told(struct registrations *r, struct ref session, uint64_t told, size_t count);
