/* A list of calls and the thread that looks at it. It sleeps without a limit while nobody waits. */
#include "park.h"

#include "../server.h"
#include <base/clock.h>
#include <base/mem.h>
#include <pthread.h>

#define TICK_MS 250        /* cancel flags and times are looked at this often */
#define LOOK_AGAIN_MS 5000 /* and every obstacle is tried again this often, whatever was published */

struct waiting {
    struct parked parked;
    int64_t look_again_ms;
    struct waiting *next;
};

struct parking {
    struct server *server;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct waiting *first, **last; /* in order of arrival */
    bool stop;
};

static bool is_due(const struct waiting *w, const struct snapshot *snap, int64_t now)
{
    const struct call *call = w->parked.call;
    if ((call->cancel && *call->cancel) || now >= w->parked.until_ms || now >= w->look_again_ms)
        return true;
    const struct row *row = snapshot_get(snap, w->parked.cls, w->parked.object);
    return !row || row->generation > w->parked.generation;
}

/* Takes out those whose time has come; the lock is held. */
static struct waiting *take_due(struct parking *p, const struct snapshot *snap)
{
    struct waiting *due = NULL, **end = &due;
    int64_t now = clock_mono_ms();
    for (struct waiting **at = &p->first; *at;) {
        struct waiting *w = *at;
        if (!p->stop && !is_due(w, snap, now)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = NULL;
        *end = w;
        end = &w->next;
    }
    p->last = &p->first;
    while (*p->last)
        p->last = &(*p->last)->next;
    return due;
}

/* To the workers; when they have no room, back to the front of the list. */
static void submit(struct parking *p, struct waiting *due)
{
    while (due) {
        struct waiting *next = due->next;
        if (worker_submit(p->server->workers, due->parked.resume, due->parked.call) == 0) {
            free(due);
        } else {
            pthread_mutex_lock(&p->lock);
            due->look_again_ms = 0;
            due->next = p->first;
            if (!p->first)
                p->last = &due->next;
            p->first = due;
            pthread_mutex_unlock(&p->lock);
        }
        due = next;
    }
}

/* False: it is over. */
static bool wait_for_work(struct parking *p)
{
    pthread_mutex_lock(&p->lock);
    while (!p->first && !p->stop)
        pthread_cond_wait(&p->changed, &p->lock);
    bool work = p->first;
    pthread_mutex_unlock(&p->lock);
    return work;
}

static void *parking_run(void *arg)
{
    struct parking *p = arg;
    uint64_t seen = 0;
    while (wait_for_work(p)) {
        seen = store_wait(p->server->store, seen, clock_mono_ms() + TICK_MS);
        struct snapshot *snap = store_snapshot(p->server->store);
        pthread_mutex_lock(&p->lock);
        struct waiting *due = take_due(p, snap);
        pthread_mutex_unlock(&p->lock);
        snapshot_unref(snap);
        submit(p, due);
    }
    return NULL;
}

struct parking *parking_new(struct server *server)
{
    struct parking *p = xcalloc(1, sizeof(*p));
    p->server = server;
    p->last = &p->first;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    /* branch: a start without memory for a thread */
    if (pthread_create(&p->thread, NULL, parking_run, p) != 0)
        abort();
    return p;
}

void parking_stop(struct parking *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
}

void parking_free(struct parking *p)
{
    if (!p)
        return;
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

bool parking_add(struct parking *p, const struct parked *parked)
{
    struct waiting *w = xcalloc(1, sizeof(*w));
    w->parked = *parked;
    w->look_again_ms = clock_mono_ms() + LOOK_AGAIN_MS;
    pthread_mutex_lock(&p->lock);
    bool stop = p->stop;
    if (!stop) {
        *p->last = w;
        p->last = &w->next;
        pthread_cond_signal(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
    if (stop)
        free(w);
    return !stop;
}

bool parking_find(struct parking *p, struct ref task, const struct class_desc **cls, struct ref *object)
{
    bool found = false;
    pthread_mutex_lock(&p->lock);
    for (const struct waiting *w = p->first; w && !found; w = w->next) {
        if (!ref_eq(w->parked.call->task, task))
            continue;
        *cls = w->parked.cls;
        *object = w->parked.object;
        found = true;
    }
    pthread_mutex_unlock(&p->lock);
    return found;
}
