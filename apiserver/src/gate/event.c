/* Subscribers of event.from and event.next.
 *
 * A publication of the store wakes the thread here (when anybody waits), which learns what changed since it
 * last looked and asks only those subscribers who wait for it. What a subscriber is told is computed from the
 * store's change list after its own token (event_list.c), so nothing is kept per subscriber and nothing can
 * be lost.
 *
 * The answers to one session leave at least BATCH_MS apart (XenAPI: event.from, "batching"), so a stream of
 * changes costs a client twenty answers a second, while the first change after a pause is told at once. Who
 * waits for tasks only is always told at once. */
#include "event.h"

#include "../server.h"
#include "../timers.h"
#include "answer.h"
#include "event_list.h"
#include "event_register.h"
#include "filter.h"
#include "session.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/worker.h>
#include <model/errors.h>
#include <pthread.h>
#include <time.h>

#define BATCH_MS 50
#define BATCH_NEXT_MS 200 /* event.next */
#define NAMED_MAX 64      /* objects that changed at once, known one by one */

struct waiter {
    struct call *call;
    struct event_filter *filter;
    uint64_t since;
    int64_t until_ms;      /* INT64_MAX: no limit */
    int64_t not_before_ms; /* an answer with events leaves then at the earliest */
    bool legacy;           /* event.next: filter and since are those of its registration */
    bool gone;             /* its session ended */
    bool check;            /* something may have changed for it */
    struct waiter *next;
};

struct events {
    struct server *server;
    struct store_watch *watch;
    struct registrations *registrations;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct waiter *waiters;
    unsigned count;
    uint64_t published; /* newest generation heard of */
    uint64_t seen;      /* up to which the thread has looked */
    _Atomic bool stop;  /* also read without the lock */
    unsigned rechecks;  /* registrations that were changed */
    bool poke;
    bool idle; /* nobody waits, and the thread sleeps until somebody does */
};

/* ---- answers ---- */

static void write_counts(const struct snapshot *snap, struct answer *out)
{
    answer_open(out, ANSWER_MAP);
    for (size_t i = 0; i < model_class_count; i++) {
        const struct class_desc *cls = &model_classes[i];
        if (!cls->row_size)
            continue;
        answer_key(out, cls->lower_name);
        answer_i4(out, (int64_t)snapshot_count(snap, cls));
    }
    answer_close(out);
}

static void answer_from(struct call *call, const struct snapshot *snap, const struct event_list *list)
{
    struct answer out = answer_begin(call->form);
    char token[EVENT_TOKEN_SIZE];
    event_token_format(snapshot_generation(snap), token);
    answer_open(&out, ANSWER_MAP);
    answer_key(&out, "events");
    event_list_write(list, &out);
    answer_key(&out, "valid_ref_counts");
    write_counts(snap, &out);
    answer_key(&out, "token");
    answer_text(&out, token);
    answer_close(&out);
    answer_give(&out, call);
    if (list->count)
        call->session->told_ms = clock_mono_ms();
    call->complete(call);
}

static void answer_next(struct events *e, struct call *call, const struct snapshot *snap,
                        const struct event_list *list, uint64_t first_id)
{
    struct answer out = answer_begin(call->form);
    event_list_write_numbered(list, first_id, clock_unix_seconds(), &out);
    answer_give(&out, call);
    registration_told(e->registrations, call->session->token, snapshot_generation(snap), list->count);
    call->session->told_ms = clock_mono_ms();
    call->complete(call);
}

/* With *call->err set. */
static void fail_call(struct call *call)
{
    call->failed = true;
    call->complete(call);
}

static void fail_gone(struct call *call)
{
    err_session_invalid(&call->err, REF_TEXT(call->session->token));
    fail_call(call);
}

/* The end of a session takes its registration along: then that is what there is to say. */
static void fail_unregistered(struct call *call)
{
    if (call->session->gone) {
        fail_gone(call);
        return;
    }
    err_session_not_registered(&call->err, REF_TEXT(call->session->token));
    fail_call(call);
}

/* Deletions after its token are forgotten: what is left could not be told completely. */
static void fail_lost(struct call *call)
{
    err_events_lost(&call->err);
    fail_call(call);
}

static void waiter_free(struct waiter *w)
{
    event_filter_free(w->filter);
    free(w);
}

/* The oldest token from which nothing that this subscriber hears of can have been missed. */
static uint64_t oldest_token(const struct snapshot *snap, const struct event_filter *filter)
{
    uint64_t oldest = 0;
    for (size_t i = 0; i < model_class_count; i++) {
        const struct class_desc *cls = &model_classes[i];
        if (!(filter->any[cls->index / 64] >> (cls->index % 64) & 1))
            continue;
        uint64_t of_class = snapshot_oldest_token_of(snap, cls);
        if (of_class > oldest)
            oldest = of_class;
    }
    return oldest;
}

/* ---- the thread ---- */

/* What changed after one generation up to another. */
struct changes {
    uint64_t from, to;
    uint64_t classes[EVENT_CLASS_WORDS];
    struct event_object objects[NAMED_MAX];
    size_t count; /* more than NAMED_MAX: only the classes are known */
};

static void note(struct changes *changes, const struct class_desc *cls, struct ref ref)
{
    changes->classes[cls->index / 64] |= (uint64_t)1 << (cls->index % 64);
    if (changes->count < NAMED_MAX)
        changes->objects[changes->count] = (struct event_object){cls, ref};
    changes->count++;
}

static bool note_row(const struct row *row, void *arg)
{
    note(arg, row->cls, row->ref);
    return true;
}

static bool note_tombstone(const struct store_tombstone *gone, void *arg)
{
    note(arg, gone->cls, gone->ref);
    return true;
}

static bool concerns(const struct event_filter *filter, const struct changes *changes)
{
    uint64_t any = 0, whole = 0;
    for (size_t i = 0; i < EVENT_CLASS_WORDS; i++) {
        any |= filter->any[i] & changes->classes[i];
        whole |= filter->whole[i] & changes->classes[i];
    }
    if (!any || whole || changes->count > NAMED_MAX)
        return any != 0;
    for (size_t i = 0; i < changes->count; i++)
        if (event_filter_has(filter, changes->objects[i].cls, changes->objects[i].ref))
            return true;
    return false;
}

/* A subscriber whom the changes do not concern has heard of them too: it need not look at them again. One
 * that came while they were being looked at may be older than all that is known of them; or it knows of an
 * object that came and went among them, which they leave out. */
static void tell(struct waiter *w, const struct changes *changes)
{
    if (w->check)
        return;
    bool amid = changes->from < w->since && w->since < changes->to;
    if (amid || concerns(w->filter, changes) || (!w->legacy && w->since < changes->from))
        w->check = true;
    else if (w->since < changes->to && !w->legacy)
        w->since = changes->to;
}

/* When something is to be done about it at the latest. */
static int64_t due_at(const struct events *e, const struct waiter *w)
{
    if (e->stop || w->gone)
        return 0;
    return w->check && w->not_before_ms < w->until_ms ? w->not_before_ms : w->until_ms;
}

/* Notes whom the changes concern, and takes out of the list whose time it is. */
static struct waiter *take_due(struct events *e, const struct changes *changes, int64_t now)
{
    struct waiter *due = NULL, **at = &e->waiters;
    while (*at) {
        struct waiter *w = *at;
        tell(w, changes);
        if (now >= due_at(e, w)) {
            *at = w->next;
            w->next = due;
            due = w;
            e->count--;
        } else {
            at = &w->next;
        }
    }
    return due;
}

/* `rechecks`: those before it was taken out of the list. Who was away when its registration was changed looks
 * at that now. */
static void put_back(struct events *e, struct waiter *w, unsigned rechecks)
{
    pthread_mutex_lock(&e->lock);
    w->check = w->legacy && e->rechecks != rechecks;
    e->poke |= w->check;
    if (e->stop || w->call->session->gone)
        w->gone = e->poke = true; /* it was not in the list when its session ended */
    w->next = e->waiters;
    e->waiters = w;
    e->count++;
    pthread_mutex_unlock(&e->lock);
}

/* Whoever came with a token that is newer than the thread's look must not be taken back to that: what lies
 * between would be told twice. NULL: the look is as new; else the caller frees it. */
static struct snapshot *newer_than(struct events *e, uint64_t told, const struct snapshot *snap)
{
    return told > snapshot_generation(snap) ? store_snapshot(e->server->store) : NULL;
}

/* True: answered. */
static bool serve_from(struct events *e, struct waiter *w, const struct snapshot *snap)
{
    AUTO_SNAPSHOT struct snapshot *newer = newer_than(e, w->since, snap);
    snap = newer ? newer : snap;
    AUTO_EVENT_LIST struct event_list list;
    event_list_collect(&list, snap, w->filter, w->since);
    if (!list.count && clock_mono_ms() < w->until_ms) {
        w->since = snapshot_generation(snap); /* nothing for it up to here */
        return false;
    }
    answer_from(w->call, snap, &list);
    return true;
}

static bool serve_next(struct events *e, struct waiter *w, const struct snapshot *snap)
{
    struct ref session = w->call->session->token;
    struct registration at;
    if (!registration_get(e->registrations, session, &at)) {
        fail_unregistered(w->call);
        return true;
    }
    event_filter_free(w->filter);
    w->filter = at.filter;
    failpoint("events:next");
    AUTO_SNAPSHOT struct snapshot *newer = newer_than(e, at.told, snap);
    snap = newer ? newer : snap;
    if (at.told < oldest_token(snap, w->filter)) {
        registration_told(e->registrations, session, snapshot_generation(snap), 0);
        fail_lost(w->call);
        return true;
    }
    AUTO_EVENT_LIST struct event_list list;
    event_list_collect(&list, snap, w->filter, at.told);
    if (!list.count) {
        registration_told(e->registrations, session, snapshot_generation(snap), 0);
        return false;
    }
    answer_next(e, w->call, snap, &list, at.next_id);
    return true;
}

static void serve(struct events *e, struct waiter *due, const struct snapshot *snap, unsigned rechecks)
{
    while (due) {
        struct waiter *w = due;
        bool answered = true;
        due = w->next;
        if (e->stop || w->gone)
            fail_gone(w->call);
        else
            answered = w->legacy ? serve_next(e, w, snap) : serve_from(e, w, snap);
        if (answered)
            waiter_free(w);
        else
            put_back(e, w, rechecks);
    }
}

static void wait_for_work(struct events *e)
{
    while (!e->stop && !e->poke && (e->published <= e->seen || !e->waiters)) {
        int64_t until = INT64_MAX;
        for (struct waiter *w = e->waiters; w; w = w->next) {
            int64_t at = due_at(e, w);
            if (at < until)
                until = at;
        }
        if (until == INT64_MAX) {
            e->idle = !e->waiters;
            pthread_cond_wait(&e->wake, &e->lock);
            e->idle = false;
            continue;
        }
        if (until <= clock_mono_ms())
            break;
        struct timespec when = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
        pthread_cond_timedwait(&e->wake, &e->lock, &when);
    }
    e->poke = false;
}

static void *events_run(void *arg)
{
    struct events *e = arg;
    pthread_mutex_lock(&e->lock);
    while (!e->stop || e->waiters) {
        wait_for_work(e);
        uint64_t seen = e->seen;
        pthread_mutex_unlock(&e->lock);
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(e->server->store);
        failpoint("events:look");
        struct changes changes = {.from = seen, .to = snapshot_generation(snap)};
        snapshot_changes(snap, seen, note_row, note_tombstone, &changes);
        pthread_mutex_lock(&e->lock);
        e->seen = changes.to;
        struct waiter *due = take_due(e, &changes, clock_mono_ms());
        unsigned rechecks = e->rechecks;
        pthread_mutex_unlock(&e->lock);
        serve(e, due, snap, rechecks);
        pthread_mutex_lock(&e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

static void on_publish(void *arg, uint64_t generation)
{
    struct events *e = arg;
    pthread_mutex_lock(&e->lock);
    e->published = generation;
    bool wake = !e->idle;
    pthread_mutex_unlock(&e->lock);
    if (wake)
        pthread_cond_signal(&e->wake);
}

/* ---- heartbeat ---- */

static void touch_pool(void *arg)
{
    struct events *e = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(e->server->store);
    if (tx_get(tx, CLASS_pool, e->server->pool_ref))
        tx_renew(tx, CLASS_pool, e->server->pool_ref);
    if (server_commit(tx, &err) < 0)
        log_warn("events", "no heartbeat this time", "error", err.code);
}

static void heartbeat(void *arg)
{
    struct events *e = arg;
    if (worker_submit(e->server->workers, touch_pool, e) < 0)
        log_warn("events", "no heartbeat this time: all workers are busy");
}

/* ---- life ---- */

struct events *events_new(struct server *server, int64_t heartbeat_s)
{
    struct events *e = xcalloc(1, sizeof(*e));
    e->server = server;
    e->registrations = registrations_new();
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&e->wake, &attr);
    pthread_condattr_destroy(&attr);
    AUTO_SNAPSHOT struct snapshot *start = store_snapshot(server->store);
    e->seen = e->published = snapshot_generation(start);
    e->watch = store_watch(server->store, on_publish, e);
    if (pthread_create(&e->thread, NULL, events_run, e) != 0)
        abort();
    if (heartbeat_s > 0)
        timers_every(server->timers, heartbeat_s * 1000, heartbeat, e);
    return e;
}

void events_free(struct events *e)
{
    if (!e)
        return;
    store_unwatch(e->server->store, e->watch);
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    registrations_free(e->registrations);
    free(e);
}

/* ---- calls ---- */

static void wait_in_list(struct events *e, struct waiter *w)
{
    pthread_mutex_lock(&e->lock);
    w->gone = w->call->session->gone || e->stop;
    w->next = e->waiters;
    e->waiters = w;
    e->count++;
    if (e->idle) { /* what was published until now concerns this one alone, which looks for itself */
        e->seen = e->published;
        e->idle = false;
    }
    /* Something between the snapshot that was looked at and here. */
    w->check = w->check || e->published > w->since || e->seen > w->since;
    if (w->check || w->gone)
        e->poke = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

/* The end of the window that the session's last answer with events opened. */
static int64_t window_end(const struct session *session, int64_t window_ms)
{
    int64_t told = session->told_ms;
    return told ? told + window_ms : 0;
}

void events_from(struct events *e, struct call *call, struct event_filter *filter, uint64_t since,
                 int64_t timeout_ms)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(e->server->store);
    if (since && since < oldest_token(snap, filter)) {
        event_filter_free(filter);
        fail_lost(call);
        return;
    }
    int64_t now = clock_mono_ms();
    int64_t not_before = event_filter_only(filter, CLASS_task) ? 0 : window_end(call->session, BATCH_MS);
    AUTO_EVENT_LIST struct event_list list;
    event_list_collect(&list, snap, filter, since);
    if (timeout_ms == 0 || (list.count && (!since || now >= not_before))) {
        answer_from(call, snap, &list);
        event_filter_free(filter);
        return;
    }
    struct waiter *w = xcalloc(1, sizeof(*w));
    *w = (struct waiter){.call = call,
                         .filter = filter,
                         .since = list.count ? since : snapshot_generation(snap),
                         .until_ms = now + timeout_ms,
                         .not_before_ms = not_before,
                         .check = list.count > 0};
    wait_in_list(e, w);
}

/* The session's waiting calls of event.next have to look at its registration anew. */
static void recheck(struct events *e, const struct session *session)
{
    pthread_mutex_lock(&e->lock);
    e->rechecks++;
    for (struct waiter *w = e->waiters; w; w = w->next)
        if (w->legacy && w->call->session == session)
            w->check = e->poke = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

int events_register(struct events *e, const struct session *session, const struct str_set *classes,
                    struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(e->server->store);
    if (registration_add(e->registrations, session->token, classes, snapshot_generation(snap), err) < 0)
        return -1;
    if (session->gone) /* perhaps before the entry stood there */
        registration_drop(e->registrations, session->token);
    recheck(e, session);
    return 0;
}

int events_unregister(struct events *e, const struct session *session, const struct str_set *classes,
                      struct api_err *err)
{
    if (registration_remove(e->registrations, session->token, classes, err) < 0)
        return -1;
    recheck(e, session);
    return 0;
}

void events_next(struct events *e, struct call *call)
{
    struct registration at;
    if (!registration_get(e->registrations, call->session->token, &at)) {
        fail_unregistered(call);
        return;
    }
    struct waiter *w = xcalloc(1, sizeof(*w));
    *w = (struct waiter){.call = call,
                         .filter = at.filter,
                         .since = at.told,
                         .until_ms = INT64_MAX,
                         .not_before_ms = window_end(call->session, BATCH_NEXT_MS),
                         .legacy = true,
                         .check = true};
    wait_in_list(e, w);
}

void events_session_gone(struct events *e, const struct session *session)
{
    registration_drop(e->registrations, session->token);
    pthread_mutex_lock(&e->lock);
    for (struct waiter *w = e->waiters; w; w = w->next)
        if (w->call->session == session)
            w->gone = e->poke = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}
