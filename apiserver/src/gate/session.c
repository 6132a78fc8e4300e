/* The table of sessions: a fixed number of buckets, a lock for a group of them. */
#include "session.h"

#include "../dr/database.h"
#include "../http/console.h"
#include "../nbd/nbd.h"
#include "../rules/pool.h"
#include "../server.h"
#include "accounts.h"
#include "event.h"
#include "permissions.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <pthread.h>

#define BUCKETS 1024
#define LOCKS 16
#define SESSIONS_PER_ORIGIN 500
#define SESSIONS_ANONYMOUS 400
#define SESSIONS_PER_USER 5000

struct sessions {
    _Atomic uint64_t serial;
    pthread_mutex_t locks[LOCKS]; /* lock i guards buckets with index % LOCKS == i */
    struct session *buckets[BUCKETS];
};

struct identity identity_of_root(const char *user)
{
    return (struct identity){
        .user = xstrdup(user), .sid = xstrdup(""), .role = ROLE_POOL_ADMIN, .superuser = true};
}

struct identity identity_of_certificate(const char *name)
{
    return (struct identity){
        .user = xstrdup(name), .sid = xstrdup(""), .role = ROLE_READ_ONLY, .certified = true};
}

void identity_done(struct identity *who)
{
    free(who->user);
    free(who->sid);
    free(who->token);
    str_set_unref(who->sids);
    *who = (struct identity){0};
}

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
    free(session->sid);
    str_set_unref(session->sids);
    free(session->originator);
    free(session->token_name);
    database_unref(session->database);
    free(session);
}

void session_unref_cleanup(struct session **session)
{
    session_unref(*session);
}

struct session *session_find(struct sessions *s, struct ref token)
{
    size_t b = bucket_of(token);
    pthread_mutex_lock(&s->locks[b % LOCKS]);
    struct session *at = s->buckets[b];
    while (at && !ref_eq(at->token, token))
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
    size_t b = bucket_of(session->token);
    pthread_mutex_lock(&s->locks[b % LOCKS]);
    session->next = s->buckets[b];
    s->buckets[b] = session;
    pthread_mutex_unlock(&s->locks[b % LOCKS]);
}

/* Takes the session out; false: it was not there (any more). The table's count is the caller's then. */
static bool table_remove(struct sessions *s, struct session *session)
{
    size_t b = bucket_of(session->token);
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

/* ---- limits ---- */

struct crowd {
    const char *user, *originator; /* NULL: any */
    size_t count;
    struct session *oldest; /* counted */
};

/* Of sessions that were active in one and the same millisecond the older one counts as idle longer. */
static bool idle_longer(const struct session *a, const struct session *b)
{
    int64_t a_ms = a->last_active_ms, b_ms = b->last_active_ms;
    return a_ms < b_ms || (a_ms == b_ms && a->serial < b->serial);
}

static void crowd_count(struct session *session, void *arg)
{
    struct crowd *crowd = arg;
    if (!streq(session->user, crowd->user) ||
        (crowd->originator && !streq(session->originator, crowd->originator)))
        return;
    crowd->count++;
    if (!crowd->oldest || idle_longer(session, crowd->oldest)) {
        session_unref(crowd->oldest);
        crowd->oldest = session_ref(session);
    }
}

/* Counted anew after each end, so that logins at the same time do not end one too many or too few. */
static void trim(struct server *server, const char *user, const char *originator, size_t max)
{
    for (;;) {
        struct crowd crowd = {.user = user, .originator = originator};
        each_session(server->sessions, crowd_count, &crowd);
        if (crowd.count > max) {
            log_info("session", "too many sessions of one user: ended the one idle longest", "user", user,
                     "originator", crowd.oldest->originator);
            session_close(server, crowd.oldest);
        }
        session_unref(crowd.oldest);
        if (crowd.count <= max)
            return;
    }
}

/* Keeps a client that never logs out from filling the memory. */
static void make_room(struct server *server, const char *user, const char *originator)
{
    trim(server, user, originator, *user || *originator ? SESSIONS_PER_ORIGIN : SESSIONS_ANONYMOUS);
    trim(server, user, NULL, SESSIONS_PER_USER);
}

/* ---- opening and closing ---- */

struct granted {
    const struct session *session;
    enum role role;
};

static void write_rights(struct tx *tx, void *arg)
{
    const struct granted *rights = arg;
    struct session_row *row = session_row_mut(tx_edit(tx, CLASS_session, rights->session->ref));
    if (row)
        str_set_assign(&row->rbac_permissions, permissions_of_role(rights->role));
}

static void reassess(struct session *session, void *arg)
{
    struct server *server = arg;
    struct granted rights = {.session = session};
    struct ref subject;
    if (session->superuser || !session->sids)
        return;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    if (accounts_rights(snap, session->sids, &subject, &rights.role) != RIGHTS_SOME) {
        log_info("session", "ended: its user has no rights any more", "user", session->user);
        session_close(server, session);
        return;
    }
    if (rights.role > session->limit)
        rights.role = session->limit;
    if ((int)rights.role != session->role) {
        session->role = (int)rights.role;
        server_insist(server, write_rights, &rights);
    }
}

int session_open(struct server *server, const struct identity *who, const char *originator,
                 struct session **out, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    struct row *row = tx_create(tx, CLASS_session);
    struct session_row *record = session_row_mut(row);
    struct ref ref = row->ref;
    record->this_host = pool_coordinator(tx);
    record->pool = who->pool;
    record->is_local_superuser = who->superuser;
    record->subject = who->subject;
    record->last_active = record->validation_time = clock_unix_seconds();
    str_assign(&record->auth_user_name, who->user);
    str_assign(&record->auth_user_sid, who->sid);
    str_assign(&record->originator, originator);
    record->client_certificate = who->certified;
    if (!who->superuser)
        str_set_assign(&record->rbac_permissions,
                       who->certified ? permissions_of_certificates() : permissions_of_role(who->role));
    if (server_commit(tx, err) < 0)
        return -1;

    struct session *session = xcalloc(1, sizeof(*session));
    session->refs = 2; /* the table's and the caller's */
    session->token = ref_new();
    session->ref = ref;
    session->role = (int)who->role;
    session->superuser = who->superuser;
    session->pool = who->pool;
    session->local = who->local;
    session->certified = who->certified;
    session->subject = who->subject;
    session->last_active_ms = session->noted_ms = clock_mono_ms();
    session->serial = atomic_fetch_add(&server->sessions->serial, 1);
    session->user = xstrdup(who->user);
    session->sid = xstrdup(who->sid);
    session->sids = str_set_ref(who->sids);
    session->originator = xstrdup(originator);
    session->limit = who->limited ? who->limit : ROLE_POOL_ADMIN;
    session->token_name = who->token ? xstrdup(who->token) : NULL;
    table_add(server->sessions, session);
    make_room(server, who->user, originator);
    reassess(session, server); /* the rights may have changed since they were looked up */
    *out = session;
    return 0;
}

void session_translate(const struct session *session, const struct method_desc *method, void *args)
{
    for (size_t i = 0; i < method->param_count; i++) {
        const struct param_desc *param = &method->params[i];
        if (param->type->kind != TYPE_REF || param->type->cls != CLASS_session)
            continue;
        struct ref *given = &((union cell *)((char *)args + param->offset))->ref;
        if (ref_eq(*given, session->token))
            *given = session->ref;
    }
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
    nbd_session_gone(server->nbd, session);
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

/* ---- activity ---- */

struct behind {
    struct session **items; /* counted */
    size_t count, cap;
    int64_t behind_ms;
};

static void collect_behind(struct session *session, void *arg)
{
    struct behind *list = arg;
    if (session->last_active_ms - session->noted_ms <= list->behind_ms)
        return;
    if (list->count == list->cap) {
        list->cap = list->cap ? 2 * list->cap : 64;
        list->items = xreallocarray(list->items, list->cap, sizeof(*list->items));
    }
    list->items[list->count++] = session_ref(session);
}

static void write_activity(struct tx *tx, void *arg)
{
    const struct behind *list = arg;
    int64_t unix_ms = clock_unix_seconds() * 1000, mono_ms = clock_mono_ms();
    for (size_t i = 0; i < list->count; i++) {
        struct session_row *row = session_row_mut(tx_edit(tx, CLASS_session, list->items[i]->ref));
        if (row)
            row->last_active = (unix_ms - (mono_ms - list->items[i]->last_active_ms)) / 1000;
    }
}

void sessions_note_activity(struct server *server, int64_t behind_ms)
{
    struct behind list = {.behind_ms = behind_ms};
    each_session(server->sessions, collect_behind, &list);
    if (list.count)
        server_insist(server, write_activity, &list);
    for (size_t i = 0; i < list.count; i++) {
        list.items[i]->noted_ms = list.items[i]->last_active_ms;
        session_unref(list.items[i]);
    }
    free(list.items);
}

/* ---- of subjects ---- */

static void add_sid(struct session *session, void *arg)
{
    const struct str_set **sids = arg;
    if (*session->sid)
        str_set_assign(sids, str_set_with(*sids, session->sid));
}

const struct str_set *sessions_sids(struct sessions *s)
{
    const struct str_set *sids = NULL;
    each_session(s, add_sid, &sids);
    return sids;
}

struct closing {
    struct server *server;
    const char *sid;
    const struct session *except;
};

static void close_one(struct session *session, void *arg)
{
    const struct closing *closing = arg;
    if (session == closing->except || !*session->sid || !streq(session->sid, closing->sid))
        return;
    log_info("session", "ended by order", "user", session->user);
    session_close(closing->server, session);
}

void sessions_close_of(struct server *server, const char *sid, const struct session *except)
{
    if (server->rehearsal)
        return;
    struct closing closing = {server, sid, except};
    each_session(server->sessions, close_one, &closing);
}

void sessions_reassess(struct server *server)
{
    if (server->rehearsal)
        return;
    each_session(server->sessions, reassess, server);
}
