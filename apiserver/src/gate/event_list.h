/* What changed since a token, as a subscriber is told it: one entry an object. Pure apart from the snapshot
 * it reads. Not thread-safe. */
#pragma once
#include "answer.h"
#include "filter.h"

enum event_kind { EVENT_ADD, EVENT_MOD, EVENT_DEL };

struct event_entry {
    uint64_t generation;
    const struct class_desc *cls;
    struct ref ref;
    const struct row *row; /* the snapshot's; NULL when it is gone */
    enum event_kind kind;
};

struct event_list {
    struct event_entry *items; /* in the order of their generations */
    size_t count;
};
#define EVENT_LIST_INIT ((struct event_list){0})

/* The changes of what the filter chooses after `since`, up to the snapshot, which has to outlive the list.
 * What came and went in between is not told. */
void event_list_collect(struct event_list *list, const struct snapshot *snap,
                        const struct event_filter *filter, uint64_t since);
void event_list_done(struct event_list *list);
#define AUTO_EVENT_LIST __attribute__((cleanup(event_list_done)))

/* The array of event.from: messages, then what was added, changed, deleted. */
void event_list_write(const struct event_list *list, struct answer *out);
/* The array of event.next: in order of time, numbered from `first_id` on, stamped with a time in seconds. */
void event_list_write_numbered(const struct event_list *list, uint64_t first_id, int64_t time_s,
                               struct answer *out);
