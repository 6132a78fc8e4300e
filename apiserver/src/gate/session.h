/* Sessions: who is calling. A session is a row that clients can read, and an entry here that a call
 * finds without touching the store. Any thread. */
#pragma once
#include <base/ref.h>
#include <model/error.h>
#include <model/method.h>
#include <stdatomic.h>
#include <stdbool.h>

struct server;
struct sessions;

struct session {
    _Atomic uint32_t refs;
    struct ref ref;
    enum role role;
    bool superuser; /* no role check at all */
    _Atomic bool gone;
    _Atomic int64_t last_active_ms; /* monotonic */
    _Atomic int64_t told_ms;        /* monotonic: when it was last told of events; 0: never */
    struct ref subject;             /* null for the superuser */
    char *user;                     /* name as logged in */
    char *originator;
    struct session *next; /* in its bucket */
};

struct sessions *sessions_new(void);
void sessions_free(struct sessions *sessions);

/* Makes a session, counted for the caller. At most 500 of one originator and user: the one idle longest goes.
 */
int session_open(struct server *server, const char *user, enum role role, bool superuser, struct ref subject,
                 const char *originator, struct session **out, struct api_err *err);
/* Counted; NULL: no such session. Notes the activity. */
struct session *session_find(struct sessions *sessions, struct ref ref);
struct session *session_ref(struct session *session);
void session_unref(struct session *session);
void session_unref_cleanup(struct session **session);
#define AUTO_SESSION __attribute__((cleanup(session_unref_cleanup)))
/* Ends it: further calls get SESSION_INVALID, its waiting event calls end. */
void session_close(struct server *server, struct session *session);
/* Ends what was idle for longer. */
void sessions_sweep(struct server *server, int64_t idle_ms);
