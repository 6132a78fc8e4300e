/* The store calls `landed` on its committer's thread, which has the next batch to write: so that only moves
 * the call to a list. */
#include "commits.h"

#include "gate.h"
#include <base/mem.h>
#include <pthread.h>

#define FINISHED_MAX 64 /* at once: none waits for long for those that landed with it */

struct away {
    struct commits *commits;
    struct call *call;
    struct away *next;
};

struct commits {
    void (*finish)(struct call *const calls[], size_t count);
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;  /* for the thread: something landed, or the end */
    pthread_cond_t quiet; /* nothing is away */
    struct away *first, **last;
    unsigned away;
    bool closed, stop;
};

static void landed(void *arg, int result, uint64_t generation, const struct store_err *err)
{
    (void)generation;
    struct away *a = arg;
    struct commits *commits = a->commits;
    a->call->failed = result < 0;
    if (result < 0)
        fail_store(&a->call->err, err);
    a->next = NULL;
    pthread_mutex_lock(&commits->lock);
    bool wake = !commits->first;
    *commits->last = a;
    commits->last = &a->next;
    if (wake)
        pthread_cond_signal(&commits->wake);
    pthread_mutex_unlock(&commits->lock);
}

static unsigned finish_all(struct commits *commits, struct away *first)
{
    struct call *calls[FINISHED_MAX];
    unsigned all = 0, count = 0;
    for (struct away *a = first, *next; a; a = next) {
        next = a->next;
        calls[count++] = a->call;
        free(a);
        if (next && count < FINISHED_MAX)
            continue;
        commits->finish(calls, count);
        all += count;
        count = 0;
    }
    return all;
}

static void *commits_run(void *arg)
{
    struct commits *commits = arg;
    pthread_mutex_lock(&commits->lock);
    for (;;) {
        while (!commits->first && !commits->stop)
            pthread_cond_wait(&commits->wake, &commits->lock);
        struct away *first = commits->first;
        if (!first)
            break;
        commits->first = NULL;
        commits->last = &commits->first;
        pthread_mutex_unlock(&commits->lock);
        unsigned count = finish_all(commits, first);
        pthread_mutex_lock(&commits->lock);
        commits->away -= count;
        if (commits->away == 0)
            pthread_cond_signal(&commits->quiet);
    }
    pthread_mutex_unlock(&commits->lock);
    return NULL;
}

struct commits *commits_new(void (*finish)(struct call *const calls[], size_t count))
{
    struct commits *commits = xcalloc(1, sizeof(*commits));
    commits->finish = finish;
    pthread_mutex_init(&commits->lock, NULL);
    pthread_cond_init(&commits->wake, NULL);
    pthread_cond_init(&commits->quiet, NULL);
    commits->last = &commits->first;
    /* branch: a start without memory for a thread */
    if (pthread_create(&commits->thread, NULL, commits_run, commits) == 0)
        return commits;
    free(commits);
    return NULL;
}

void commits_close(struct commits *commits)
{
    if (!commits)
        return;
    pthread_mutex_lock(&commits->lock);
    commits->closed = true;
    while (commits->away > 0)
        pthread_cond_wait(&commits->quiet, &commits->lock);
    pthread_mutex_unlock(&commits->lock);
}

void commits_free(struct commits *commits)
{
    if (!commits)
        return;
    pthread_mutex_lock(&commits->lock);
    commits->stop = true;
    pthread_cond_signal(&commits->wake);
    pthread_mutex_unlock(&commits->lock);
    pthread_join(commits->thread, NULL);
    pthread_cond_destroy(&commits->wake);
    pthread_cond_destroy(&commits->quiet);
    pthread_mutex_destroy(&commits->lock);
    free(commits);
}

/* False: it has to be waited for. */
static bool leave(struct commits *commits)
{
    pthread_mutex_lock(&commits->lock);
    bool open = !commits->closed;
    commits->away += open;
    pthread_mutex_unlock(&commits->lock);
    return open;
}

static void stay(struct commits *commits)
{
    pthread_mutex_lock(&commits->lock);
    if (--commits->away == 0)
        pthread_cond_signal(&commits->quiet);
    pthread_mutex_unlock(&commits->lock);
}

static struct away *away_new(struct commits *commits, struct call *call)
{
    struct away *a = xmalloc(sizeof(*a));
    *a = (struct away){.commits = commits, .call = call};
    return a;
}

int commits_add(struct commits *commits, struct tx *tx, struct call *call)
{
    if (!leave(commits))
        return server_commit(tx, &call->err);
    struct away *a = away_new(commits, call);
    struct store_err cause;
    server_refresh(tx);
    int rc = tx_commit_or_queue(tx, &cause, landed, a);
    if (rc == 1)
        return 1; /* the call may have been answered already */
    stay(commits);
    free(a);
    return rc < 0 ? fail_store(&call->err, &cause) : 0;
}

int commits_queue(struct commits *commits, struct tx *tx, struct call *call)
{
    if (!leave(commits))
        return server_commit(tx, &call->err);
    server_refresh(tx);
    tx_commit_async(tx, landed, away_new(commits, call));
    return 1;
}
