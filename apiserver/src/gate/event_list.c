/* Events say what objects are, not what happened to them, so they are computed from the store's change list
 * when somebody asks (XenAPI: event.from, "coalescing" and "list order"). */
#include "event_list.h"

#include <base/mem.h>
#include <inttypes.h>
#include <model/rows.h>
#include <stdio.h>

struct collecting {
    const struct event_filter *filter;
    uint64_t since;
    struct event_list *list;
    size_t cap;
};

static void add(struct collecting *c, const struct event_entry *entry)
{
    if (!(entry->cls->flags & CLASS_EVENTS) || !event_filter_has(c->filter, entry->cls, entry->ref))
        return;
    if (c->list->count == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 8;
        c->list->items = xreallocarray(c->list->items, c->cap, sizeof(*c->list->items));
    }
    c->list->items[c->list->count++] = *entry;
}

static bool add_row(const struct row *row, void *arg)
{
    struct collecting *c = arg;
    add(c, &(struct event_entry){.generation = row->generation,
                                 .cls = row->cls,
                                 .ref = row->ref,
                                 .row = row,
                                 .kind = row->created > c->since ? EVENT_ADD : EVENT_MOD});
    return true;
}

static bool add_gone(const struct store_tombstone *gone, void *arg)
{
    add(arg, &(struct event_entry){
                 .generation = gone->deleted, .cls = gone->cls, .ref = gone->ref, .kind = EVENT_DEL});
    return true;
}

static int by_generation(const void *a, const void *b)
{
    const struct event_entry *x = a, *y = b;
    if (x->generation != y->generation)
        return x->generation < y->generation ? -1 : 1;
    return ref_cmp(x->ref, y->ref);
}

void event_list_collect(struct event_list *list, const struct snapshot *snap,
                        const struct event_filter *filter, uint64_t since)
{
    struct collecting c = {.filter = filter, .since = since, .list = list};
    *list = EVENT_LIST_INIT;
    snapshot_changes(snap, since, add_row, add_gone, &c);
    if (list->count > 1)
        qsort(list->items, list->count, sizeof(*list->items), by_generation);
}

void event_list_done(struct event_list *list)
{
    free(list->items);
    *list = EVENT_LIST_INIT;
}

/* ---- writing ---- */

static void write_event(const struct event_entry *entry, const char *id, const char *timestamp,
                        struct answer *out)
{
    static const char *const words[] = {[EVENT_ADD] = "add", [EVENT_MOD] = "mod", [EVENT_DEL] = "del"};
    answer_open(out, ANSWER_MAP);
    answer_key(out, "id");
    answer_text(out, id);
    answer_key(out, "timestamp");
    answer_text(out, timestamp);
    answer_key(out, "class");
    answer_text(out, entry->cls->lower_name);
    answer_key(out, "operation");
    answer_text(out, words[entry->kind]);
    answer_key(out, "ref");
    answer_ref(out, entry->ref);
    if (entry->row) {
        answer_key(out, "snapshot");
        answer_record(out, entry->row);
    }
    answer_close(out);
}

/* Messages before all others, the others by what happened to them. */
static int group_of(const struct event_entry *entry)
{
    return entry->cls == CLASS_message ? 0 : 1 + (int)entry->kind;
}

void event_list_write(const struct event_list *list, struct answer *out)
{
    char id[24];
    answer_open(out, ANSWER_LIST);
    for (int group = 0; group <= 1 + EVENT_DEL; group++)
        for (size_t i = 0; i < list->count; i++) {
            if (group_of(&list->items[i]) != group)
                continue;
            snprintf(id, sizeof(id), "%" PRIu64, list->items[i].generation);
            write_event(&list->items[i], id, "0.0", out);
        }
    answer_close(out);
}

void event_list_write_numbered(const struct event_list *list, uint64_t first_id, int64_t time_s,
                               struct answer *out)
{
    char id[24], stamp[24];
    snprintf(stamp, sizeof(stamp), "%" PRId64 ".", time_s);
    answer_open(out, ANSWER_LIST);
    for (size_t i = 0; i < list->count; i++) {
        snprintf(id, sizeof(id), "%" PRIu64, first_id + i);
        write_event(&list->items[i], id, stamp, out);
    }
    answer_close(out);
}
