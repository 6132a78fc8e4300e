/* A list of the sources that have work here: a handful, so it is walked. */
#include "turns.h"

#include <base/mem.h>
#include <pthread.h>

struct waiting {
    void *item;
    struct waiting *next;
};

struct source {
    char *name;
    unsigned running, count;
    struct waiting *first, **last;
    struct source *next;
};

struct turns {
    unsigned running_max, waiting_max;
    pthread_mutex_t lock; /* guards the list */
    struct source *sources;
};

struct turns *turns_new(unsigned running_max, unsigned waiting_max)
{
    struct turns *t = xcalloc(1, sizeof(*t));
    t->running_max = running_max;
    t->waiting_max = waiting_max;
    pthread_mutex_init(&t->lock, NULL);
    return t;
}

void turns_free(struct turns *t)
{
    if (!t)
        return;
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static struct source **find(struct turns *t, const char *name)
{
    struct source **at = &t->sources;
    while (*at && !streq((*at)->name, name))
        at = &(*at)->next;
    return at;
}

static enum turn ask(struct source *source, const struct turns *t, void *item)
{
    if (source->running < t->running_max) {
        source->running++;
        return TURN_NOW;
    }
    if (source->count == t->waiting_max)
        return TURN_REFUSED;
    struct waiting *waiting = xcalloc(1, sizeof(*waiting));
    waiting->item = item;
    *source->last = waiting;
    source->last = &waiting->next;
    source->count++;
    return TURN_LATER;
}

enum turn turns_ask(struct turns *t, const char *name, void *item)
{
    pthread_mutex_lock(&t->lock);
    struct source **at = find(t, name);
    if (!*at) {
        *at = xcalloc(1, sizeof(**at));
        (*at)->name = xstrdup(name);
        (*at)->last = &(*at)->first;
    }
    enum turn turn = ask(*at, t, item);
    pthread_mutex_unlock(&t->lock);
    return turn;
}

void *turns_next(struct turns *t, const char *name)
{
    void *item = NULL;
    pthread_mutex_lock(&t->lock);
    struct source **at = find(t, name), *source = *at;
    struct waiting *first = source ? source->first : NULL;
    if (first) {
        item = first->item;
        source->first = first->next;
        source->count--;
        if (!source->first)
            source->last = &source->first;
        free(first);
    } else if (source && --source->running == 0) {
        *at = source->next;
        free(source->name);
        free(source);
    }
    pthread_mutex_unlock(&t->lock);
    return item;
}
