/* The table of sessions: a fixed number of buckets, a lock for a group of them. */
#include "session.h"

#include "../http/console.h"
#include "../server.h"
#include "event.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <pthread.h>

#define BUCKETS 1024
#define LOCKS 16
#define SESSIONS_PER_ORIGIN 500

struct sessions {
    pthread_mutex_t locks[LOCKS]; /* lock i guards buckets with index % LOCKS == i */
    struct session *buckets[BUCKETS];
};

static size_t bucket_of(struct ref ref)
{
    return (size_t)(ref.lo % BUCKETS);
}

struct sessions *sessions_new(void)
{
    struct sessions *s = xcalloc(1, sizeof(*s));
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&s->locks[i], NULL);
    return s;
}

void sessions_free(struct sessions *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        while (s->buckets[i]) {
            struct session *gone = s->buckets[i];
            s->buckets[i] = gone->next;
            session_unref(gone);
        }
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&s->locks[i]);
    free(s);
}

struct session *session_ref(struct session *session)
{
    atomic_fetch_add_explicit(&session->refs, 1, memory_order_relaxed);
    return session;
}

void session_unref(struct session *session)
{
    if (!session || atomic_fetch_sub_explicit(&session->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(session->user);
    free(session->originator);
    free(session);
}

void session_unref_cleanup(struct session **session)
{
    session_unref(*session);
}

struct session *session_find(struct sessions *s, struct ref ref)
{
    size_t b = bucket_of(ref);
    pthread_mutex_lock(&s->locks[b % LOCKS]);
    struct session *at = s->buckets[b];
    while (at && !ref_eq(at->ref, ref))
        at = at->next;
    if (at) {
        session_ref(at);
        atomic_store_explicit(&at->last_active_ms, clock_mono_ms(), memory_order_relaxed);
    }
    pthread_mutex_unlock(&s->locks[b % LOCKS]);
    return at;
}

static void table_add(struct sessions *s, struct session *session)
{
    size_t b = bucket_of(session->ref);
    pthread_mutex_lock(&s->locks[b % LOCKS]);
    session->next = s->buckets[b];
    s->buckets[b] = session;
    pthread_mutex_unlock(&s->locks[b % LOCKS]);
}

/* Takes the session out; false: it was not there (any more). The table's count is the caller's then. */
static bool table_remove(struct sessions *s, struct session *session)
{
    size_t b = bucket_of(session->ref);
    bool found = false;
    pthread_mutex_lock(&s->locks[b % LOCKS]);
    for (struct session **at = &s->buckets[b]; *at; at = &(*at)->next)
        if (*at == session) {
            *at = session->next;
            found = true;
            break;
        }
    pthread_mutex_unlock(&s->locks[b % LOCKS]);
    return found;
}

/* Calls fn for each session, counted, without holding a lock. */
static void each_session(struct sessions *s, void (*fn)(struct session *session, void *arg), void *arg)
{
    struct session **all = NULL;
    size_t count = 0, cap = 0;
    for (size_t b = 0; b < BUCKETS; b++) {
        pthread_mutex_lock(&s->locks[b % LOCKS]);
        for (struct session *at = s->buckets[b]; at; at = at->next) {
            if (count == cap) {
                cap = cap ? 2 * cap : 64;
                all = xreallocarray(all, cap, sizeof(*all));
            }
            all[count++] = session_ref(at);
        }
        pthread_mutex_unlock(&s->locks[b % LOCKS]);
    }
    for (size_t i = 0; i < count; i++) {
        fn(all[i], arg);
        session_unref(all[i]);
    }
    free(all);
}

struct crowd {
    const char *user, *originator;
    size_t count;
    struct session *oldest;
};

static void crowd_count(struct session *session, void *arg)
{
    struct crowd *crowd = arg;
    if (!streq(session->user, crowd->user) || !streq(session->originator, crowd->originator))
        return;
    crowd->count++;
    if (!crowd->oldest || session->last_active_ms < crowd->oldest->last_active_ms) {
        session_unref(crowd->oldest);
        crowd->oldest = session_ref(session);
    }
}

/* Keeps a client that never logs out from filling the memory. */
static void make_room(struct server *server, const char *user, const char *originator)
{
    struct crowd crowd = {.user = user, .originator = originator};
    each_session(server->sessions, crowd_count, &crowd);
    if (crowd.count >= SESSIONS_PER_ORIGIN) {
        log_info("session", "too many sessions of one user and originator: ended the one idle longest",
                 "user", user, "originator", originator);
        session_close(server, crowd.oldest);
    }
    session_unref(crowd.oldest);
}

static bool first_row(const struct row *row, void *arg)
{
    *(struct ref *)arg = row->ref;
    return false;
}

int session_open(struct server *server, const char *user, enum role role, bool superuser, struct ref subject,
                 const char *originator, struct session **out, struct api_err *err)
{
    make_room(server, user, originator);
    struct tx *tx = store_begin(server->store);
    struct row *row = tx_create(tx, CLASS_session);
    struct session_row *record = session_row_mut(row);
    struct ref ref = row->ref;
    tx_each(tx, CLASS_host, first_row, &record->this_host);
    record->pool = true;
    record->is_local_superuser = superuser;
    record->subject = subject;
    record->last_active = record->validation_time = clock_unix_seconds();
    str_assign(&record->auth_user_name, user);
    str_assign(&record->originator, originator);
    if (server_commit(tx, err) < 0)
        return -1;

    struct session *session = xcalloc(1, sizeof(*session));
    session->refs = 2; /* the table's and the caller's */
    session->ref = ref;
    session->role = role;
    session->superuser = superuser;
    session->subject = subject;
    session->last_active_ms = clock_mono_ms();
    session->user = xstrdup(user);
    session->originator = xstrdup(originator);
    table_add(server->sessions, session);
    *out = session;
    return 0;
}

static void delete_record(struct tx *tx, void *arg)
{
    const struct session *session = arg;
    if (tx_get(tx, CLASS_session, session->ref))
        tx_delete(tx, CLASS_session, session->ref);
}

void session_close(struct server *server, struct session *session)
{
    if (!table_remove(server->sessions, session))
        return;
    session->gone = true;
    events_session_gone(server->events, session);
    consoles_session_gone(server->console_tokens, session);
    server_insist(server, delete_record, session);
    session_unref(session);
}

struct sweep {
    struct server *server;
    int64_t before_ms;
};

static void sweep_one(struct session *session, void *arg)
{
    struct sweep *sweep = arg;
    if (session->last_active_ms < sweep->before_ms) {
        log_info("session", "ended an idle session", "user", session->user);
        session_close(sweep->server, session);
    }
}

void sessions_sweep(struct server *server, int64_t idle_ms)
{
    struct sweep sweep = {server, clock_mono_ms() - idle_ms};
    each_session(server->sessions, sweep_one, &sweep);
}
