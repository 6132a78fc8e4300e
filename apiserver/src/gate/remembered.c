/* A ring of answers, the oldest overwritten. */
#include "remembered.h"

#include <base/mem.h>
#include <base/secret.h>
#include <pthread.h>
#include <stdbool.h>

#define SIZE_MAX_EVER 4096

struct answer {
    char keyed[SHA256_TEXT_SIZE]; /* of user and password */
    char *name;                   /* NULL: a free place */
    int64_t until_ms;
    uint64_t number;
};

struct remembered {
    char *key; /* random, of this process */
    pthread_mutex_t lock;
    struct answer *answers;
    size_t size;
    uint64_t last;
};

struct remembered *remembered_new(void)
{
    struct remembered *r = xcalloc(1, sizeof(*r));
    r->key = secret_token(32);
    pthread_mutex_init(&r->lock, NULL);
    return r;
}

static void drop(struct answer *a)
{
    free(a->name);
    secret_wipe(a, sizeof(*a));
}

void remembered_free(struct remembered *r)
{
    if (!r)
        return;
    remembered_clear(r);
    free(r->answers);
    secret_free_cleanup(&r->key);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void remembered_clear(struct remembered *r)
{
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->size; i++)
        drop(&r->answers[i]);
    pthread_mutex_unlock(&r->lock);
}

static void keyed_hash(const struct remembered *r, const char *user, const char *password,
                       char out[static SHA256_TEXT_SIZE])
{
    AUTO_SECRET char *text = xasprintf("%s/%zu/%s/%s", r->key, strlen(user), user, password);
    sha256_text(text, strlen(text), out);
}

char *remembered_find(struct remembered *r, const char *user, const char *password, int64_t now_ms)
{
    char keyed[SHA256_TEXT_SIZE];
    char *name = NULL;
    keyed_hash(r, user, password, keyed);
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->size; i++) {
        struct answer *a = &r->answers[i];
        if (a->name && a->until_ms <= now_ms)
            drop(a);
        else if (a->name && secret_equal_text(a->keyed, keyed))
            name = xstrdup(a->name);
    }
    pthread_mutex_unlock(&r->lock);
    return name;
}

/* With the lock held: a smaller ring loses its oldest answers. */
static void resize(struct remembered *r, size_t size)
{
    while (r->size > size) {
        size_t oldest = 0;
        for (size_t i = 1; i < r->size; i++)
            if (r->answers[i].number < r->answers[oldest].number)
                oldest = i;
        drop(&r->answers[oldest]);
        r->answers[oldest] = r->answers[--r->size];
    }
    if (r->size == size)
        return;
    r->answers = xreallocarray(r->answers, size, sizeof(*r->answers));
    memset(r->answers + r->size, 0, (size - r->size) * sizeof(*r->answers));
    r->size = size;
}

void remembered_put(struct remembered *r, const char *user, const char *password, const char *name,
                    size_t size_max, int64_t good_until_ms)
{
    char keyed[SHA256_TEXT_SIZE];
    keyed_hash(r, user, password, keyed);
    pthread_mutex_lock(&r->lock);
    resize(r, size_max < SIZE_MAX_EVER ? size_max : SIZE_MAX_EVER);
    struct answer *place = r->size ? &r->answers[0] : NULL;
    for (size_t i = 1; i < r->size; i++)
        if (r->answers[i].number < place->number) /* free places have number 0 */
            place = &r->answers[i];
    if (place) {
        drop(place);
        memcpy(place->keyed, keyed, sizeof(keyed));
        place->name = xstrdup(name);
        place->until_ms = good_until_ms;
        place->number = ++r->last;
    }
    pthread_mutex_unlock(&r->lock);
}
