/* The body of a transaction: an overlay of rows over the head. Nothing here is seen by anyone else. */
#include "parallel.h"
#include "store_impl.h"
#include <assert.h>
#include <base/mem.h>
#include <time.h>

#define SOON_NS 1000000

static struct tx *begin(struct store *store)
{
    struct tx *tx = &store->tx;
    assert(tx->count == 0);
    tx->store = store;
    tx->generation = store->next_generation++;
    return tx;
}

struct tx *store_begin(struct store *store)
{
    for (;;) {
        pthread_mutex_lock(&store->writer);
        pthread_mutex_lock(&store->head_lock);
        if (!store->failed)
            break;
        /* The committer needs the writer's lock to put the head back. */
        pthread_mutex_unlock(&store->writer);
        while (store->failed)
            pthread_cond_wait(&store->healed, &store->head_lock);
        pthread_mutex_unlock(&store->head_lock);
    }
    pthread_mutex_unlock(&store->head_lock);
    return begin(store);
}

struct tx *store_begin_soon(struct store *store)
{
    struct timespec until;
    /* ThreadSanitizer does not know pthread_mutex_clocklock. Should this clock be set back just now, the wait
     * is that of store_begin. */
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += SOON_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    if (pthread_mutex_timedlock(&store->writer, &until) != 0)
        return NULL;
    pthread_mutex_lock(&store->head_lock);
    bool failed = store->failed;
    pthread_mutex_unlock(&store->head_lock);
    if (!failed)
        return begin(store);
    pthread_mutex_unlock(&store->writer);
    return NULL;
}

uint64_t tx_generation(const struct tx *tx)
{
    return tx->generation;
}

void tx_clear(struct tx *tx)
{
    for (uint32_t i = 0; i < tx->count; i++)
        if (tx->rows[i].row != tx->rows[i].old)
            row_unref(tx->rows[i].row);
    tx->count = 0;
    tx->sync = false;
    if (tx->cap > 4096) {
        free(tx->rows);
        tx->rows = NULL;
        tx->cap = 0;
    }
    refmap_clear(&tx->map);
    if (tx->looked)
        memset(tx->looks, 0, sizeof(tx->looks));
    tx->looked = false;
}

void tx_abort(struct tx *tx)
{
    tx_clear(tx);
    pthread_mutex_unlock(&tx->store->writer);
}

/* ---- the overlay ---- */

struct tx_row *tx_find(const struct tx *tx, const struct class_desc *cls, struct ref ref)
{
    uint32_t at = refmap_get(&tx->map, cls, ref);
    return at == REFMAP_NONE ? NULL : &tx->rows[at];
}

struct tx_row *tx_add(struct tx *tx, const struct class_desc *cls, struct ref ref, const struct row *old,
                      struct row *row)
{
    if (tx->count == tx->cap) {
        tx->cap = tx->cap ? tx->cap * 2 : 32;
        tx->rows = xreallocarray(tx->rows, tx->cap, sizeof(tx->rows[0]));
    }
    refmap_add(&tx->map, cls, ref, tx->count);
    tx->rows[tx->count] = (struct tx_row){.cls = cls, .ref = ref, .old = old, .row = row};
    return &tx->rows[tx->count++];
}

struct tx_row *tx_touch(struct tx *tx, const struct class_desc *cls, struct ref ref)
{
    struct tx_row *there = tx_find(tx, cls, ref);
    if (there)
        return there;
    const struct row *old = version_get(tx->store->head, cls, ref);
    return old ? tx_add(tx, cls, ref, old, row_copy(old)) : NULL;
}

void tx_sync(struct tx *tx)
{
    tx->sync = true;
}

/* ---- changing ---- */

struct row *tx_edit(struct tx *tx, const struct class_desc *cls, struct ref ref)
{
    struct tx_row *touched = tx_touch(tx, cls, ref);
    return touched ? touched->row : NULL;
}

void tx_renew(struct tx *tx, const struct class_desc *cls, struct ref ref)
{
    struct tx_row *touched = tx_touch(tx, cls, ref);
    if (touched && touched->row)
        touched->changed = true;
}

struct row *tx_create(struct tx *tx, const struct class_desc *cls)
{
    struct ref ref = ref_new();
    while (tx_find(tx, cls, ref) || version_get(tx->store->head, cls, ref)) /* branch: 122 random bits */
        ref = ref_new();
    return tx_create_as(tx, cls, ref);
}

struct row *tx_create_as(struct tx *tx, const struct class_desc *cls, struct ref ref)
{
    assert(!tx_find(tx, cls, ref) && !version_get(tx->store->head, cls, ref));
    struct row *row = row_new(cls, ref);
    row->generation = row->created = tx->generation;
    if (cls->uuid) {
        union cell *uuid = row_cell_mut(row, cls->uuid);
        str_unref(uuid->str);
        uuid->str = str_new(UUID_TEXT(ref_new()));
    }
    tx_add(tx, cls, ref, NULL, row);
    return row;
}

void tx_delete(struct tx *tx, const struct class_desc *cls, struct ref ref)
{
    struct tx_row *there = tx_find(tx, cls, ref);
    if (there) {
        row_unref(there->row);
        there->row = NULL;
        return;
    }
    const struct row *old = version_get(tx->store->head, cls, ref);
    if (old)
        tx_add(tx, cls, ref, old, NULL);
}

/* ---- reading ---- */

/* The head is as it is until the transaction ends. */
static const struct row *look(struct tx *tx, const struct class_desc *cls, struct ref ref)
{
    struct tx_look *at = &tx->looks[(ref.lo ^ cls->index) % TX_LOOKS];
    if (at->cls != cls || !ref_eq(at->ref, ref))
        *at = (struct tx_look){cls, ref, version_get(tx->store->head, cls, ref)};
    tx->looked = true;
    return at->row;
}

const struct row *tx_get(struct tx *tx, const struct class_desc *cls, struct ref ref)
{
    const struct tx_row *there = tx_find(tx, cls, ref);
    return there ? there->row : look(tx, cls, ref);
}

static bool text_is(const struct row *row, const struct field_desc *field, const char *text)
{
    return row && streq(row_cell(row, field)->str, text);
}

const struct row *tx_by_uuid(struct tx *tx, const struct class_desc *cls, const char *uuid)
{
    if (!cls->uuid)
        return NULL;
    const struct row *row = version_by_uuid(tx->store->head, cls, uuid);
    const struct tx_row *there = row ? tx_find(tx, cls, row->ref) : NULL;
    if (row && !there)
        return row;
    if (there && text_is(there->row, cls->uuid, uuid))
        return there->row;
    for (uint32_t i = 0; i < tx->count; i++)
        if (tx->rows[i].cls == cls && text_is(tx->rows[i].row, cls->uuid, uuid))
            return tx->rows[i].row;
    return NULL;
}

struct name_search {
    struct tx *tx;
    const struct row **rows;
    size_t count, cap;
};

static void name_add(struct name_search *search, const struct row *row)
{
    if (search->count == search->cap) {
        search->cap = search->cap ? search->cap * 2 : 8;
        search->rows = xreallocarray(search->rows, search->cap, sizeof(search->rows[0]));
    }
    search->rows[search->count++] = row;
}

static void name_visit(const struct row *row, void *arg)
{
    struct name_search *search = arg;
    if (!tx_find(search->tx, row->cls, row->ref))
        name_add(search, row);
}

size_t tx_by_name(struct tx *tx, const struct class_desc *cls, const char *name, const struct row ***rows)
{
    struct name_search search = {.tx = tx};
    version_by_name(tx->store->head, cls, name, name_visit, &search);
    for (uint32_t i = 0; cls->name_label && i < tx->count; i++)
        if (tx->rows[i].cls == cls && text_is(tx->rows[i].row, cls->name_label, name))
            name_add(&search, tx->rows[i].row);
    rows_sort_by_creation(search.rows, search.count);
    *rows = search.rows;
    return search.count;
}

size_t tx_count(struct tx *tx, const struct class_desc *cls)
{
    size_t count = tx->store->head->rows[cls->index].count;
    for (uint32_t i = 0; i < tx->count; i++)
        if (tx->rows[i].cls == cls)
            count = count + !tx->rows[i].old * !!tx->rows[i].row - !!tx->rows[i].old * !tx->rows[i].row;
    return count;
}

struct tx_walk {
    struct tx *tx;
    bool (*fn)(const struct row *row, void *arg);
    void *arg;
};

static bool walk_visit(const struct row *row, void *arg)
{
    const struct tx_walk *walk = arg;
    const struct tx_row *there = tx_find(walk->tx, row->cls, row->ref);
    if (!there)
        return walk->fn(row, walk->arg);
    return !there->row || walk->fn(there->row, walk->arg);
}

void tx_each(struct tx *tx, const struct class_desc *cls, bool (*fn)(const struct row *row, void *arg),
             void *arg)
{
    struct tx_walk walk = {tx, fn, arg};
    uint32_t count = tx->count; /* fn may touch more rows */
    if (!version_each(tx->store->head, cls, walk_visit, &walk))
        return;
    for (uint32_t i = 0; i < count; i++)
        if (tx->rows[i].cls == cls && !tx->rows[i].old && tx->rows[i].row && !fn(tx->rows[i].row, arg))
            return;
}

struct settling {
    struct tx *tx;
    void (*fn)(struct tx *tx, struct row *row, void *arg);
    void *arg;
    const struct row **rows;
    size_t count;
};

#define SETTLE_CHUNK 4096

static bool settle_collect(const struct row *row, void *arg)
{
    struct settling *settling = arg;
    settling->rows[settling->count++] = row;
    return true;
}

static void settle_range(void *arg, size_t from, size_t to, unsigned worker)
{
    const struct settling *settling = arg;
    (void)worker;
    struct tx own = {.store = settling->tx->store, .generation = settling->tx->generation};
    for (size_t i = from; i < to; i++)
        settling->fn(&own, (struct row *)(uintptr_t)settling->rows[i], settling->arg);
    assert(own.count == 0);
}

void tx_settle(struct tx *tx, const struct class_desc *cls,
               void (*fn)(struct tx *tx, struct row *row, void *arg), void *arg)
{
    AUTO_FREE const struct row **rows = xreallocarray(NULL, tx_count(tx, cls), sizeof(struct row *));
    struct settling settling = {tx, fn, arg, rows, 0};
    assert(cls->flags & CLASS_RUNTIME);
    /* Nobody has seen these rows: the opening published them, and no snapshot is held but the store's. */
    assert(tx->count == 0 && atomic_load(&tx->store->current->refs) == 1);
    version_each(tx->store->head, cls, settle_collect, &settling);
    parallel_run(settling.count, SETTLE_CHUNK, settle_range, &settling);
}
