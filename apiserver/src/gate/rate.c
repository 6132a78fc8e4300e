/* A table of groups of buckets; a name belongs to one group. Names are kept as 64-bit hashes: two names that
 * share one would share a bucket, which nobody can bring about on purpose, for the hash has a random key. */
#include "rate.h"

#include <base/mem.h>
#include <base/ref.h>
#include <math.h>
#include <pthread.h>
#include <xxhash.h>

#define GROUPS 512
#define GROUP_SIZE 8
#define LOCKS 16

struct bucket {
    uint64_t name; /* 0: free */
    double permits;
    int64_t at_ms; /* when there were so many */
};

struct rates {
    uint64_t key;
    pthread_mutex_t locks[LOCKS]; /* lock i guards groups with index % LOCKS == i */
    struct bucket groups[GROUPS][GROUP_SIZE];
};

struct rates *rates_new(void)
{
    struct rates *rates = xcalloc(1, sizeof(*rates));
    rates->key = ref_new().lo;
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&rates->locks[i], NULL);
    return rates;
}

void rates_free(struct rates *rates)
{
    if (!rates)
        return;
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&rates->locks[i]);
    free(rates);
}

/* The name's bucket; a new one takes a free place, or that of the one seen longest ago. */
static struct bucket *find(struct bucket *group, uint64_t name, double burst, int64_t now_ms)
{
    struct bucket *oldest = &group[0];
    for (size_t i = 0; i < GROUP_SIZE; i++) {
        if (group[i].name == name)
            return &group[i];
        if (oldest->name && (!group[i].name || group[i].at_ms < oldest->at_ms))
            oldest = &group[i];
    }
    *oldest = (struct bucket){.name = name, .permits = burst, .at_ms = now_ms};
    return oldest;
}

int64_t rates_take(struct rates *rates, const char *name, const struct rate_limit *limit, double cost,
                   int64_t now_ms)
{
    if (limit->per_second <= 0)
        return 0;
    double burst = limit->burst < 1 ? 1 : limit->burst, wanted = cost < burst ? cost : burst;
    uint64_t hash = XXH3_64bits_withSeed(name, strlen(name), rates->key) | 1;
    size_t group = (hash >> 1) % GROUPS;
    int64_t wait = 0;
    pthread_mutex_lock(&rates->locks[group % LOCKS]);
    struct bucket *bucket = find(rates->groups[group], hash, burst, now_ms);
    double permits = bucket->permits + (double)(now_ms - bucket->at_ms) * limit->per_second / 1000;
    bucket->permits = permits < burst ? permits : burst;
    bucket->at_ms = now_ms;
    if (bucket->permits >= wanted)
        bucket->permits -= wanted;
    else
        wait = (int64_t)ceil((wanted - bucket->permits) / limit->per_second * 1000);
    pthread_mutex_unlock(&rates->locks[group % LOCKS]);
    return wait > 0 ? wait : 0;
}
