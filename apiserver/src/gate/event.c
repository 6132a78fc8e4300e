/* Subscribers of event.from.
 *
 * A publication of the store wakes the thread here, which learns the classes that changed since it last
 * looked and asks only those subscribers who wait for one of them. What a subscriber is told is computed from
 * the store's change list after its own token, so nothing is kept per subscriber and nothing can be lost:
 * events say what objects are, not what happened to them. */
#include "event.h"

#include "../server.h"
#include "answer.h"
#include "filter.h"
#include "session.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <inttypes.h>
#include <model/errors.h>
#include <pthread.h>
#include <time.h>

struct waiter {
    struct call *call;
    struct event_filter *filter;
    uint64_t since;
    int64_t until_ms;
    bool gone;  /* its session ended */
    bool check; /* look at it whatever changed: something did before it stood in the list */
    struct waiter *next;
};

struct events {
    struct server *server;
    struct store_watch *watch;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct waiter *waiters;
    unsigned count;
    uint64_t published; /* newest generation heard of */
    _Atomic bool stop;  /* also read without the lock */
    bool poke;
};

/* ---- the answer ---- */

struct collected {
    const struct event_filter *filter;
    uint64_t since;
    struct answer adds, mods, dels, messages;
};

/* `row` NULL: it is gone. */
static void write_event(struct answer *out, uint64_t generation, const struct class_desc *cls, struct ref ref,
                        const char *operation, const struct row *row)
{
    char id[24];
    snprintf(id, sizeof(id), "%" PRIu64, generation);
    answer_open(out, ANSWER_MAP);
    answer_key(out, "id");
    answer_text(out, id);
    answer_key(out, "timestamp");
    answer_text(out, "0.0");
    answer_key(out, "class");
    answer_text(out, cls->lower_name);
    answer_key(out, "operation");
    answer_text(out, operation);
    answer_key(out, "ref");
    answer_ref(out, ref);
    if (row) {
        answer_key(out, "snapshot");
        answer_record(out, row);
    }
    answer_close(out);
}

static bool collect_row(const struct row *row, void *arg)
{
    struct collected *c = arg;
    if (!(row->cls->flags & CLASS_EVENTS) || !event_filter_has(c->filter, row->cls, row->ref))
        return true;
    bool added = row->created > c->since;
    struct answer *out = row->cls == CLASS_message ? &c->messages : added ? &c->adds : &c->mods;
    write_event(out, row->generation, row->cls, row->ref, added ? "add" : "mod", row);
    return true;
}

static bool collect_tombstone(const struct store_tombstone *gone, void *arg)
{
    struct collected *c = arg;
    if ((gone->cls->flags & CLASS_EVENTS) && event_filter_has(c->filter, gone->cls, gone->ref))
        write_event(&c->dels, gone->deleted, gone->cls, gone->ref, "del", NULL);
    return true;
}

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

static void collected_done(struct collected *c)
{
    answer_done(&c->adds);
    answer_done(&c->mods);
    answer_done(&c->dels);
    answer_done(&c->messages);
}

/* True if there is something to tell. The events stand in *c. */
static bool collect(const struct snapshot *snap, const struct event_filter *filter, uint64_t since,
                    enum answer_form form, struct collected *c)
{
    *c = (struct collected){.filter = filter,
                            .since = since,
                            .adds = answer_begin_items(form),
                            .mods = answer_begin_items(form),
                            .dels = answer_begin_items(form),
                            .messages = answer_begin_items(form)};
    snapshot_changes(snap, since, collect_row, collect_tombstone, c);
    return !answer_is_empty(&c->adds) || !answer_is_empty(&c->mods) || !answer_is_empty(&c->dels) ||
           !answer_is_empty(&c->messages);
}

static void answer_events(struct call *call, const struct snapshot *snap, const struct collected *c)
{
    struct answer out = answer_begin(call->form);
    char token[EVENT_TOKEN_SIZE];
    event_token_format(snapshot_generation(snap), token);
    answer_open(&out, ANSWER_MAP);
    answer_key(&out, "events");
    answer_open(&out, ANSWER_LIST);
    answer_join(&out, &c->messages);
    answer_join(&out, &c->adds);
    answer_join(&out, &c->mods);
    answer_join(&out, &c->dels);
    answer_close(&out);
    answer_key(&out, "valid_ref_counts");
    write_counts(snap, &out);
    answer_key(&out, "token");
    answer_text(&out, token);
    answer_close(&out);
    answer_give(&out, call);
    call->complete(call);
}

static void fail_gone(struct call *call)
{
    err_session_invalid(&call->err, REF_TEXT(call->session->ref));
    call->failed = true;
    call->complete(call);
}

static void waiter_free(struct waiter *w)
{
    event_filter_free(w->filter);
    free(w);
}

/* ---- the thread ---- */

struct class_set {
    uint64_t bits[EVENT_CLASS_WORDS];
};

static bool note_row(const struct row *row, void *arg)
{
    ((struct class_set *)arg)->bits[row->cls->index / 64] |= (uint64_t)1 << (row->cls->index % 64);
    return true;
}

static bool note_tombstone(const struct store_tombstone *gone, void *arg)
{
    ((struct class_set *)arg)->bits[gone->cls->index / 64] |= (uint64_t)1 << (gone->cls->index % 64);
    return true;
}

static bool concerns(const struct waiter *w, const struct class_set *changed)
{
    for (size_t i = 0; i < EVENT_CLASS_WORDS; i++)
        if (w->filter->any[i] & changed->bits[i])
            return true;
    return false;
}

/* Takes out of the list who may have to be answered: concerned, out of time, or without a session. */
static struct waiter *take_due(struct events *e, const struct class_set *changed, int64_t now)
{
    struct waiter *due = NULL, **at = &e->waiters;
    while (*at) {
        struct waiter *w = *at;
        if (e->stop || w->gone || w->check || now >= w->until_ms || concerns(w, changed)) {
            w->check = false;
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

static void put_back(struct events *e, struct waiter *w)
{
    pthread_mutex_lock(&e->lock);
    if (e->stop || w->call->session->gone)
        w->gone = e->poke = true; /* it was not in the list when its session ended */
    w->next = e->waiters;
    e->waiters = w;
    e->count++;
    pthread_mutex_unlock(&e->lock);
}

static void serve(struct events *e, struct waiter *due, const struct snapshot *snap)
{
    while (due) {
        struct waiter *w = due;
        due = w->next;
        if (e->stop || w->gone) {
            fail_gone(w->call);
            waiter_free(w);
            continue;
        }
        struct collected c;
        bool some = collect(snap, w->filter, w->since, w->call->form, &c);
        if (some || clock_mono_ms() >= w->until_ms) {
            answer_events(w->call, snap, &c);
            waiter_free(w);
        } else {
            w->since = snapshot_generation(snap); /* nothing for it up to here */
            put_back(e, w);
        }
        collected_done(&c);
    }
}

static void wait_for_work(struct events *e, uint64_t seen)
{
    while (!e->stop && !e->poke && e->published <= seen) {
        int64_t until = INT64_MAX;
        for (struct waiter *w = e->waiters; w; w = w->next)
            if (w->until_ms < until)
                until = w->until_ms;
        if (until == INT64_MAX) {
            pthread_cond_wait(&e->wake, &e->lock);
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
    struct snapshot *start = store_snapshot(e->server->store);
    uint64_t seen = snapshot_generation(start);
    snapshot_unref(start);
    pthread_mutex_lock(&e->lock);
    while (!e->stop || e->waiters) {
        wait_for_work(e, seen);
        pthread_mutex_unlock(&e->lock);
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(e->server->store);
        struct class_set changed = {{0}};
        snapshot_changes(snap, seen, note_row, note_tombstone, &changed);
        seen = snapshot_generation(snap);
        pthread_mutex_lock(&e->lock);
        struct waiter *due = take_due(e, &changed, clock_mono_ms());
        pthread_mutex_unlock(&e->lock);
        serve(e, due, snap);
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
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

struct events *events_new(struct server *server)
{
    struct events *e = xcalloc(1, sizeof(*e));
    e->server = server;
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&e->wake, &attr);
    pthread_condattr_destroy(&attr);
    e->watch = store_watch(server->store, on_publish, e);
    if (pthread_create(&e->thread, NULL, events_run, e) != 0)
        abort();
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
    free(e);
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

void events_from(struct events *e, struct call *call, struct event_filter *filter, uint64_t since,
                 int64_t timeout_ms)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(e->server->store);
    if (since && since < oldest_token(snap, filter)) {
        /* Deletions after that token are forgotten: what is left could not be told completely. */
        err_events_lost(&call->err);
        call->failed = true;
        event_filter_free(filter);
        call->complete(call);
        return;
    }
    struct collected c;
    bool some = collect(snap, filter, since, call->form, &c);
    if (some || timeout_ms == 0) {
        answer_events(call, snap, &c);
        event_filter_free(filter);
    } else {
        struct waiter *w = xcalloc(1, sizeof(*w));
        w->call = call;
        w->filter = filter;
        w->since = snapshot_generation(snap);
        w->until_ms = clock_mono_ms() + timeout_ms;
        pthread_mutex_lock(&e->lock);
        w->gone = call->session->gone || e->stop;
        w->next = e->waiters;
        e->waiters = w;
        e->count++;
        w->check = e->published > w->since; /* between the snapshot and here */
        if (w->check || w->gone)
            e->poke = true;
        pthread_cond_signal(&e->wake);
        pthread_mutex_unlock(&e->lock);
    }
    collected_done(&c);
}

void events_session_gone(struct events *e, const struct session *session)
{
    pthread_mutex_lock(&e->lock);
    for (struct waiter *w = e->waiters; w; w = w->next)
        if (w->call->session == session)
            w->gone = e->poke = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

unsigned events_waiting(struct events *e)
{
    pthread_mutex_lock(&e->lock);
    unsigned count = e->count;
    pthread_mutex_unlock(&e->lock);
    return count;
}
