/* Filling an empty head from the engine: the rows, then references, then derived sets and indexes. Built
 * at once from sorted arrays, because a large pool is to be back in seconds. */
#include "parallel.h"
#include "store_impl.h"
#include <base/log.h>
#include <base/mem.h>

#define REFERENCE_CHUNK 8192 /* rows */

struct loader {
    struct store *store;
    struct row **rows;
    size_t count, cap;
    uint64_t newest; /* generation seen */
    struct store_tombstone *tombstones;
    size_t tombstone_count, tombstone_cap;
};

static void load_rows(void *arg, struct row *const *rows, size_t count)
{
    struct loader *loader = arg;
    if (loader->count + count > loader->cap) {
        loader->cap = 2 * loader->cap + count;
        loader->rows = xreallocarray(loader->rows, loader->cap, sizeof(loader->rows[0]));
    }
    for (size_t i = 0; i < count; i++) {
        loader->rows[loader->count++] = rows[i];
        if (rows[i]->generation > loader->newest)
            loader->newest = rows[i]->generation;
    }
}

static void load_tombstone(void *arg, const struct store_tombstone *gone)
{
    struct loader *loader = arg;
    if (loader->tombstone_count == loader->tombstone_cap) {
        loader->tombstone_cap = loader->tombstone_cap ? loader->tombstone_cap * 2 : 64;
        loader->tombstones =
            xreallocarray(loader->tombstones, loader->tombstone_cap, sizeof(loader->tombstones[0]));
    }
    loader->tombstones[loader->tombstone_count++] = *gone;
    if (gone->deleted > loader->newest)
        loader->newest = gone->deleted;
}

/* ---- references ---- */

/* "The member belongs to this set of the target." */
struct member {
    struct row *target;
    const struct field_desc *field; /* the derived set */
    struct ref member;
};
struct member_list {
    struct member *items;
    size_t count, cap;
};

struct target_search {
    const struct version *head;
    const struct class_desc *cls;
};

static bool is_missing(struct ref ref, void *arg)
{
    const struct target_search *search = arg;
    return !version_get(search->head, search->cls, ref);
}

struct member_visit {
    struct member_list *list;
    const struct version *head;
    const struct field_desc *field;
    struct ref member;
    bool missing; /* a target was not there */
};

static void member_add(struct ref target, void *arg)
{
    struct member_visit *visit = arg;
    struct member_list *list = visit->list;
    const struct row *row = version_get(visit->head, visit->field->inverse->cls, target);
    if (!row) {
        visit->missing = true;
        return;
    }
    if (list->count == list->cap) {
        list->cap = list->cap ? list->cap * 2 : 1024;
        list->items = xreallocarray(list->items, list->cap, sizeof(list->items[0]));
    }
    list->items[list->count++] =
        (struct member){(struct row *)(uintptr_t)row, visit->field->inverse, visit->member};
}

/* References to rows that were not on disk become null. True: there were some. */
static bool clear_missing(const struct version *head, struct row *row, const struct field_desc *field)
{
    struct target_search search = {head, field_target(field)};
    return cell_drop_refs(field, row_cell_mut(row, field), is_missing, &search);
}

static int compare_members(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    if (x->target != y->target)
        return (uintptr_t)x->target < (uintptr_t)y->target ? -1 : 1;
    if (x->field != y->field)
        return (uintptr_t)x->field < (uintptr_t)y->field ? -1 : 1;
    return ref_cmp(x->member, y->member);
}

static void fill_derived(struct member_list *list)
{
    if (list->count > 1)
        qsort(list->items, list->count, sizeof(list->items[0]), compare_members);
    for (size_t start = 0, end; start < list->count; start = end) {
        const struct member *first = &list->items[start];
        for (end = start; end < list->count && list->items[end].target == first->target &&
                          list->items[end].field == first->field;)
            end++;
        AUTO_FREE struct ref *refs = xreallocarray(NULL, end - start, sizeof(*refs));
        for (size_t i = start; i < end; i++)
            refs[i - start] = list->items[i].member;
        row_cell_mut(first->target, first->field)->ref_set = ref_set_new(refs, end - start);
    }
}

struct reference_work {
    struct loader *loader;
    uint64_t generation;
    struct member_list members[PARALLEL_MAX]; /* by worker */
};

/* Clears what dangles, and collects what the derived sets will hold. */
static void load_references_of(struct reference_work *work, struct row *row, struct member_list *members)
{
    const struct version *head = work->loader->store->head;
    const struct class_plan *plan = plan_of(&work->loader->store->schema, row->cls);
    bool fixed = false;
    for (uint16_t i = 0; i < plan->relations.count; i++) {
        const struct field_desc *field = plan->relations.items[i];
        struct member_visit visit = {members, head, field, row->ref, false};
        cell_each_ref(field, row_cell(row, field), member_add, &visit);
        fixed |= visit.missing && clear_missing(head, row, field);
    }
    for (uint16_t i = 0; i < plan->plain.count; i++)
        fixed |= clear_missing(head, row, plan->plain.items[i]);
    if (fixed || (row->cls->flags & CLASS_RUNTIME))
        row->generation = work->generation; /* not what readers saw before */
}

static void load_references_range(void *arg, size_t from, size_t to, unsigned worker)
{
    struct reference_work *work = arg;
    for (size_t i = from; i < to; i++)
        load_references_of(work, work->loader->rows[i], &work->members[worker]);
}

static struct member_list load_references(struct loader *loader, uint64_t generation)
{
    struct reference_work work = {.loader = loader, .generation = generation};
    parallel_run(loader->count, REFERENCE_CHUNK, load_references_range, &work);
    struct member_list all = work.members[0];
    for (unsigned i = 1; i < PARALLEL_MAX; i++) {
        struct member_list *more = &work.members[i];
        if (more->count == 0)
            continue;
        all.cap = all.count + more->count;
        all.items = xreallocarray(all.items, all.cap, sizeof(all.items[0]));
        memcpy(all.items + all.count, more->items, more->count * sizeof(all.items[0]));
        all.count = all.cap;
        free(more->items);
    }
    return all;
}

/* ---- all ---- */

struct row_build {
    struct store *store;
    uint64_t generation;
    struct row **rows;
    const size_t *start;    /* of each class in `rows`, and the end of the last */
    _Atomic uint16_t twice; /* a class in which two have one reference, and 1; 0: none */
};

static void build_class(void *arg, size_t from, size_t to, unsigned worker)
{
    struct row_build *build = arg;
    (void)worker;
    for (size_t i = from; i < to; i++)
        if (!version_build_rows(build->store->head, &build->store->schema.classes[i], build->generation,
                                build->rows + build->start[i], build->start[i + 1] - build->start[i]))
            build->twice = (uint16_t)(i + 1);
}

/* Rows class by class: the order of the array changes. */
static int build_rows(struct loader *loader, uint64_t generation, struct store_err *err)
{
    const struct schema *schema = &loader->store->schema;
    AUTO_FREE size_t *start = xcalloc((size_t)schema->class_count + 1, sizeof(*start));
    AUTO_FREE size_t *next = xcalloc(schema->class_count, sizeof(*next));
    for (size_t i = 0; i < loader->count; i++)
        start[loader->rows[i]->cls->index + 1]++;
    for (uint16_t i = 0; i < schema->class_count; i++)
        start[i + 1] += start[i];
    memcpy(next, start, schema->class_count * sizeof(*next));
    struct row **sorted = xreallocarray(NULL, loader->count, sizeof(sorted[0]));
    for (size_t i = 0; i < loader->count; i++)
        sorted[next[loader->rows[i]->cls->index]++] = loader->rows[i];
    free(loader->rows);
    loader->rows = sorted;
    struct row_build build = {loader->store, generation, sorted, start, 0};
    parallel_run(schema->class_count, 1, build_class, &build);
    if (build.twice)
        return store_err_set(err, STORE_E_CORRUPT, "two rows of class %s have the same reference",
                             schema->classes[build.twice - 1].name);
    return 0;
}

/* Two threads beside this one: they build different maps, and nobody writes what another reads. */
struct side_work {
    struct loader *loader;
    uint64_t generation;
    struct member_list members;
};

static void *derived_run(void *arg)
{
    struct side_work *work = arg;
    fill_derived(&work->members);
    return NULL;
}

static void *names_run(void *arg)
{
    struct side_work *work = arg;
    version_build_names(work->loader->store->head, work->generation, work->loader->rows, work->loader->count);
    return NULL;
}

static int build(struct loader *loader, uint64_t generation, struct store_err *err)
{
    struct version *head = loader->store->head;
    if (build_rows(loader, generation, err) != 0)
        return -1;
    struct side_work work = {loader, generation, load_references(loader, generation)};
    pthread_t derived, names;
    bool derived_apart = pthread_create(&derived, NULL, derived_run, &work) == 0;
    bool names_apart = pthread_create(&names, NULL, names_run, &work) == 0;
    bool distinct = version_build_changes(head, generation, loader->rows, loader->count);
    if (derived_apart)
        pthread_join(derived, NULL);
    else
        derived_run(&work);
    if (names_apart)
        pthread_join(names, NULL);
    else
        names_run(&work);
    free(work.members.items);
    struct trie_edit edit = store_edit(loader->store, generation);
    for (size_t i = 0; i < loader->tombstone_count; i++)
        version_bury(head, &edit, &loader->tombstones[i]);
    if (!distinct)
        return store_err_set(err, STORE_E_CORRUPT, "two rows of different classes have the same reference");
    return 0;
}

int store_load(struct store *store, struct store_err *err)
{
    struct loader loader = {.store = store};
    const struct engine_sink sink = {&loader, load_rows, load_tombstone};
    struct engine_meta meta = {0};
    int result = store->engine->ops->load(store->engine, &store->schema, &sink, &meta, err);
    /* The store's opening has a generation of its own, above all that were handed out. */
    uint64_t generation = (meta.reserve > loader.newest ? meta.reserve : loader.newest) + 1;
    if (meta.fresh)
        generation = 1;
    struct version *head = store->head;
    head->oldest_token = meta.oldest_token;
    if (meta.newest) {
        /* Readers have seen more than this file has: none of their tokens is good. */
        generation = meta.newest + 1;
        head->oldest_token = meta.newest;
        log_warn("store",
                 "the database is an older copy than the one that was used last: later changes are lost",
                 "came_to", LOG_INT(meta.reserve), "had_come_to", LOG_INT(meta.newest));
    }
    head->runtime_token = meta.fresh ? 0 : generation;
    head->lazy_token = meta.fresh || meta.same_boot ? 0 : generation;
    head->generation = generation;
    store->forgotten_on_disk = meta.oldest_token;
    store->frozen = 0;
    store->reserved = 0; /* the first batch reserves, before anything new is published */
    store->next_generation = generation + 1;
    if (result == 0)
        result = build(&loader, generation, err);
    if (result) {
        for (uint16_t i = 0; i < store->schema.class_count; i++)
            trie_free_after(&head->rows[i], 0, NULL, NULL); /* the rows themselves are the loader's still */
        version_free_after(head, 0);
        for (size_t i = 0; i < loader.count; i++)
            row_unref(loader.rows[i]);
    }
    free(loader.rows);
    free(loader.tombstones);
    return result;
}
