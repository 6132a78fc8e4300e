/* A table of pairs that have failed lately. When it is full, the pair that failed longest ago is forgotten:
 * to get rid of its own entry a guesser has to make thousands of other attempts, which takes longer than
 * waiting. */
#include "brake.h"

#include <base/mem.h>
#include <pthread.h>
#include <stdio.h>

#define DELAY_MS 5000
#define DELAY_MAX_MS 60000
#define WAITING_MAX 8
#define PAIRS_MAX 4096
#define FORGET_MS (15 * 60 * 1000)

struct pair {
    char peer[48];
    char user[64]; /* cut: longer names that begin alike share an entry */
    unsigned failures, waiting;
    int64_t not_before_ms, last_ms;
};

struct brake {
    pthread_mutex_t lock; /* guards what follows */
    struct pair *pairs;
    size_t count, cap;
};

struct brake *brake_new(void)
{
    struct brake *b = xcalloc(1, sizeof(*b));
    pthread_mutex_init(&b->lock, NULL);
    return b;
}

void brake_free(struct brake *b)
{
    if (!b)
        return;
    free(b->pairs);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static struct pair *find(struct brake *b, const char *peer, const char *user)
{
    for (size_t i = 0; i < b->count; i++)
        if (streq(b->pairs[i].peer, peer) && strncmp(b->pairs[i].user, user, sizeof(b->pairs->user) - 1) == 0)
            return &b->pairs[i];
    return NULL;
}

/* Room for one more: what is old goes, or else what is oldest. Pairs that somebody waits for stay. */
static void make_room(struct brake *b, int64_t now)
{
    size_t oldest = SIZE_MAX;
    for (size_t i = 0; i < b->count;) {
        struct pair *pair = &b->pairs[i];
        if (pair->waiting == 0 && now - pair->last_ms > FORGET_MS) {
            *pair = b->pairs[--b->count];
            continue;
        }
        if (pair->waiting == 0 && (oldest == SIZE_MAX || pair->last_ms < b->pairs[oldest].last_ms))
            oldest = i;
        i++;
    }
    if (b->count >= PAIRS_MAX && oldest < b->count)
        b->pairs[oldest] = b->pairs[--b->count];
}

static struct pair *find_or_add(struct brake *b, const char *peer, const char *user, int64_t now)
{
    struct pair *pair = find(b, peer, user);
    if (pair)
        return pair;
    if (b->count >= b->cap || b->count >= PAIRS_MAX)
        make_room(b, now);
    if (b->count == b->cap) {
        b->cap = b->cap ? 2 * b->cap : 16;
        b->pairs = xreallocarray(b->pairs, b->cap, sizeof(*b->pairs));
    }
    pair = &b->pairs[b->count++];
    *pair = (struct pair){.last_ms = now};
    snprintf(pair->peer, sizeof(pair->peer), "%s", peer);
    snprintf(pair->user, sizeof(pair->user), "%s", user);
    return pair;
}

int64_t brake_ask(struct brake *b, const char *peer, const char *user, int64_t now)
{
    int64_t wait = 0;
    pthread_mutex_lock(&b->lock);
    struct pair *pair = find(b, peer, user);
    if (pair && pair->not_before_ms > now)
        wait = pair->not_before_ms - now;
    else if (pair && pair->failures)
        pair->not_before_ms = now + DELAY_MS;
    pthread_mutex_unlock(&b->lock);
    return wait;
}

bool brake_wait(struct brake *b, const char *peer, const char *user)
{
    pthread_mutex_lock(&b->lock);
    struct pair *pair = find(b, peer, user);
    bool ok = !pair || pair->waiting < WAITING_MAX;
    if (pair && ok)
        pair->waiting++;
    pthread_mutex_unlock(&b->lock);
    return ok;
}

void brake_unwait(struct brake *b, const char *peer, const char *user)
{
    pthread_mutex_lock(&b->lock);
    struct pair *pair = find(b, peer, user);
    if (pair && pair->waiting)
        pair->waiting--;
    pthread_mutex_unlock(&b->lock);
}

int64_t brake_failed(struct brake *b, const char *peer, const char *user, int64_t now)
{
    pthread_mutex_lock(&b->lock);
    struct pair *pair = find_or_add(b, peer, user, now);
    int64_t delay = DELAY_MAX_MS;
    if (pair->failures < DELAY_MAX_MS / DELAY_MS)
        delay = (int64_t)DELAY_MS * ++pair->failures;
    pair->last_ms = now;
    pair->not_before_ms = now + delay;
    pthread_mutex_unlock(&b->lock);
    return delay;
}

void brake_passed(struct brake *b, const char *peer, const char *user)
{
    pthread_mutex_lock(&b->lock);
    struct pair *pair = find(b, peer, user);
    if (pair)
        pair->failures = 0, pair->not_before_ms = 0;
    pthread_mutex_unlock(&b->lock);
}
