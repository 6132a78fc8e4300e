/* A list: such sessions are few. Subscriptions are kept as the words that were given, with the class in small
 * letters, because unregistering takes away words. */
#include "event_register.h"

#include <base/mem.h>
#include <ctype.h>
#include <model/errors.h>
#include <pthread.h>

struct entry {
    struct ref session;
    const struct str_set *words;
    struct event_filter *filter;
    uint64_t told, next_id;
    struct entry *next;
};

struct registrations {
    pthread_mutex_t lock; /* guards the list and what is in it */
    struct entry *entries;
};

struct registrations *registrations_new(void)
{
    struct registrations *r = xcalloc(1, sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    return r;
}

static void entry_free(struct entry *entry)
{
    str_set_unref(entry->words);
    event_filter_free(entry->filter);
    free(entry);
}

void registrations_free(struct registrations *r)
{
    if (!r)
        return;
    while (r->entries) {
        struct entry *entry = r->entries;
        r->entries = entry->next;
        entry_free(entry);
    }
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static struct entry **find(struct registrations *r, struct ref session)
{
    struct entry **at = &r->entries;
    while (*at && !ref_eq((*at)->session, session))
        at = &(*at)->next;
    return at;
}

/* The words with their classes in small letters; -1 when one of them is no subscription. */
static int take_words(const struct str_set *classes, const struct str_set **out, struct api_err *err)
{
    struct event_filter *filter;
    if (event_filter_parse(classes, &filter, err) < 0)
        return -1;
    event_filter_free(filter);
    size_t count = classes ? classes->count : 0;
    AUTO_FREE const char **items = xcalloc(count + 1, sizeof(*items));
    for (size_t i = 0; i < count; i++) {
        char *word = xstrdup(classes->items[i]);
        for (char *c = word; *c && *c != '/'; c++)
            *c = (char)tolower((unsigned char)*c);
        items[i] = str_new(word);
        free(word);
    }
    *out = str_set_new_moved(items, count);
    return 0;
}

static void replace_words(struct entry *entry, const struct str_set *moved)
{
    AUTO_API_ERR struct api_err none = API_ERR_INIT;
    str_set_assign(&entry->words, moved);
    event_filter_free(entry->filter);
    entry->filter = NULL;
    event_filter_parse(entry->words, &entry->filter, &none); /* each word passed it before */
}

int registration_add(struct registrations *r, struct ref session, const struct str_set *classes, uint64_t now,
                     struct api_err *err)
{
    AUTO_STR_SET const struct str_set *words = NULL;
    if (take_words(classes, &words, err) < 0)
        return -1;
    if (!words)
        return 0; /* nothing asked for */
    int rc = 0;
    pthread_mutex_lock(&r->lock);
    struct entry *entry = *find(r, session);
    AUTO_STR_SET const struct str_set *all = str_set_ref(entry ? entry->words : NULL);
    for (size_t i = 0; i < words->count && (!all || all->count <= REGISTER_WORDS_MAX); i++)
        str_set_assign(&all, str_set_with(all, words->items[i]));
    if (all->count > REGISTER_WORDS_MAX) {
        rc = err_invalid_value(err, "classes", "too many subscriptions of one session");
    } else {
        if (!entry) {
            entry = xcalloc(1, sizeof(*entry));
            *entry = (struct entry){.session = session, .told = now, .next_id = now + 1, .next = r->entries};
            r->entries = entry;
        }
        replace_words(entry, TAKE_PTR(all));
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

int registration_remove(struct registrations *r, struct ref session, const struct str_set *classes,
                        struct api_err *err)
{
    AUTO_STR_SET const struct str_set *words = NULL;
    if (take_words(classes, &words, err) < 0)
        return -1;
    pthread_mutex_lock(&r->lock);
    struct entry **at = find(r, session), *entry = *at;
    if (entry) {
        AUTO_STR_SET const struct str_set *rest = str_set_ref(entry->words);
        for (size_t i = 0; words && i < words->count; i++)
            str_set_assign(&rest, str_set_without(rest, words->items[i]));
        if (rest && rest->count) {
            replace_words(entry, TAKE_PTR(rest));
        } else {
            *at = entry->next;
            entry_free(entry);
        }
    }
    pthread_mutex_unlock(&r->lock);
    return 0;
}

void registration_drop(struct registrations *r, struct ref session)
{
    pthread_mutex_lock(&r->lock);
    struct entry **at = find(r, session), *entry = *at;
    if (entry) {
        *at = entry->next;
        entry_free(entry);
    }
    pthread_mutex_unlock(&r->lock);
}

bool registration_get(struct registrations *r, struct ref session, struct registration *out)
{
    pthread_mutex_lock(&r->lock);
    const struct entry *entry = *find(r, session);
    if (entry)
        *out = (struct registration){event_filter_copy(entry->filter), entry->told, entry->next_id};
    pthread_mutex_unlock(&r->lock);
    return entry != NULL;
}

void registration_told(struct registrations *r, struct ref session, uint64_t told, size_t count)
{
    pthread_mutex_lock(&r->lock);
    struct entry *entry = *find(r, session);
    if (entry) {
        entry->told = told;
        entry->next_id += count;
    }
    pthread_mutex_unlock(&r->lock);
}
