/* Reference-counted values. Counts sit in a header before the bytes of a string, and at the start of
 * a set or map. Everything is immutable once its first count was handed out. */
#include <base/mem.h>
#include <base/rc.h>
#include <stdarg.h>
#include <stdio.h>

static void count_up(const uint32_t *refs)
{
    if (__atomic_load_n(refs, __ATOMIC_RELAXED) != RC_STATIC)
        __atomic_fetch_add((uint32_t *)(uintptr_t)refs, 1, __ATOMIC_RELAXED);
}

/* True: that was the last count. */
static bool count_down(const uint32_t *refs)
{
    uint32_t now = __atomic_load_n(refs, __ATOMIC_ACQUIRE);
    if (now == RC_STATIC)
        return false;
    /* The holder of the only count races with nobody: no locked instruction needed. */
    return now == 1 || __atomic_sub_fetch((uint32_t *)(uintptr_t)refs, 1, __ATOMIC_ACQ_REL) == 0;
}

/* ---- strings ---- */

static struct str_header *header_of(const char *s)
{
    return (struct str_header *)(uintptr_t)(s - sizeof(struct str_header));
}

static char *str_alloc(size_t len)
{
    if (len >= UINT32_MAX)
        len = SIZE_MAX - sizeof(struct str_header) - 1; /* cannot be had: ends the process */
    struct str_header *header = xmalloc(sizeof(*header) + len + 1);
    header->refs = 1;
    header->len = (uint32_t)len;
    char *text = (char *)(header + 1);
    text[len] = '\0';
    return text;
}

const char *str_new_len(const char *s, size_t len)
{
    len = strnlen(s, len);
    if (len == 0)
        return "";
    return memcpy(str_alloc(len), s, len);
}

const char *str_new(const char *s)
{
    size_t len = strlen(s);
    if (len == 0)
        return "";
    return memcpy(str_alloc(len), s, len);
}

const char *str_newf(const char *format, ...)
{
    char small[256];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(small, sizeof(small), format, ap);
    va_end(ap);
    if (n < 0)
        abort(); /* only a broken format string or wide characters can do this */
    if ((size_t)n < sizeof(small))
        return str_new_len(small, (size_t)n);
    char *text = str_alloc((size_t)n);
    va_start(ap, format);
    vsnprintf(text, (size_t)n + 1, format, ap);
    va_end(ap);
    return text;
}

const char *str_ref(const char *s)
{
    if (*s)
        count_up(&header_of(s)->refs);
    return s;
}

void str_unref(const char *s)
{
    if (s && *s && count_down(&header_of(s)->refs))
        free(header_of(s));
}

size_t str_len(const char *s)
{
    return *s ? header_of(s)->len : 0;
}

bool str_eq(const char *a, const char *b)
{
    size_t len = str_len(a);
    return a == b || (len == str_len(b) && memcmp(a, b, len) == 0);
}

void str_assign(const char **slot, const char *s)
{
    const char *old = *slot;
    *slot = str_new(s);
    str_unref(old);
}

/* ---- sets of strings ---- */

static struct str_set *str_set_alloc(size_t count)
{
    struct str_set *s = xmalloc(sizeof(*s) + count * sizeof(s->items[0]));
    s->refs = 1;
    s->count = (uint32_t)count;
    return s;
}

static int compare_items(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const struct str_set *str_set_new_moved(const char **items, size_t count)
{
    if (count == 0)
        return NULL;
    if (count > 1)
        qsort(items, count, sizeof(items[0]), compare_items);
    struct str_set *s = str_set_alloc(count);
    s->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (s->count && streq(s->items[s->count - 1], items[i]))
            str_unref(items[i]);
        else
            s->items[s->count++] = items[i];
    }
    return s;
}

const struct str_set *str_set_new(const char *const *items, size_t count)
{
    if (count == 0)
        return NULL;
    AUTO_FREE const char **copies = xreallocarray(NULL, count, sizeof(*copies));
    for (size_t i = 0; i < count; i++)
        copies[i] = str_new(items[i]);
    return str_set_new_moved(copies, count);
}

const struct str_set *str_list_new(const char *const *items, size_t count)
{
    if (count == 0)
        return NULL;
    struct str_set *s = str_set_alloc(count);
    for (size_t i = 0; i < count; i++)
        s->items[i] = str_new(items[i]);
    return s;
}

const struct str_set *str_set_ref(const struct str_set *s)
{
    if (s)
        count_up(&s->refs);
    return s;
}

void str_set_unref(const struct str_set *s)
{
    if (!s || !count_down(&s->refs))
        return;
    for (uint32_t i = 0; i < s->count; i++)
        str_unref(s->items[i]);
    free((void *)(uintptr_t)s);
}

/* Index of the first item not before `item`. */
static uint32_t str_set_place(const struct str_set *s, const char *item)
{
    uint32_t low = 0, high = s ? s->count : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (strcmp(s->items[middle], item) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool str_set_has_at(const struct str_set *s, uint32_t at, const char *item)
{
    return s && at < s->count && streq(s->items[at], item);
}

bool str_set_has(const struct str_set *s, const char *item)
{
    return str_set_has_at(s, str_set_place(s, item), item);
}

const struct str_set *str_set_with(const struct str_set *s, const char *item)
{
    uint32_t at = str_set_place(s, item), count = s ? s->count : 0;
    if (str_set_has_at(s, at, item))
        return str_set_ref(s);
    struct str_set *more = str_set_alloc((size_t)count + 1);
    for (uint32_t i = 0; i < at; i++)
        more->items[i] = str_ref(s->items[i]);
    more->items[at] = str_new(item);
    for (uint32_t i = at; i < count; i++)
        more->items[i + 1] = str_ref(s->items[i]);
    return more;
}

const struct str_set *str_set_without(const struct str_set *s, const char *item)
{
    uint32_t at = str_set_place(s, item);
    if (!str_set_has_at(s, at, item))
        return str_set_ref(s);
    if (s->count == 1)
        return NULL;
    struct str_set *less = str_set_alloc(s->count - 1);
    for (uint32_t i = 0; i < less->count; i++)
        less->items[i] = str_ref(s->items[i + (i >= at)]);
    return less;
}

/* ---- sets of references ---- */

static struct ref_set *ref_set_alloc(size_t count)
{
    struct ref_set *s = xmalloc(sizeof(*s) + count * sizeof(s->items[0]));
    s->refs = 1;
    s->count = (uint32_t)count;
    return s;
}

static int compare_refs(const void *a, const void *b)
{
    return ref_cmp(*(const struct ref *)a, *(const struct ref *)b);
}

const struct ref_set *ref_set_new(const struct ref *items, size_t count)
{
    if (count == 0)
        return NULL;
    struct ref_set *s = ref_set_alloc(count);
    memcpy(s->items, items, count * sizeof(items[0]));
    if (count > 1)
        qsort(s->items, count, sizeof(s->items[0]), compare_refs);
    uint32_t kept = 1;
    for (size_t i = 1; i < count; i++)
        if (!ref_eq(s->items[kept - 1], s->items[i]))
            s->items[kept++] = s->items[i];
    s->count = kept;
    return s;
}

const struct ref_set *ref_set_ref(const struct ref_set *s)
{
    if (s)
        count_up(&s->refs);
    return s;
}

void ref_set_unref(const struct ref_set *s)
{
    if (s && count_down(&s->refs))
        free((void *)(uintptr_t)s);
}

static uint32_t ref_set_place(const struct ref_set *s, struct ref item)
{
    uint32_t low = 0, high = s ? s->count : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ref_cmp(s->items[middle], item) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool ref_set_has_at(const struct ref_set *s, uint32_t at, struct ref item)
{
    return s && at < s->count && ref_eq(s->items[at], item);
}

bool ref_set_has(const struct ref_set *s, struct ref item)
{
    return ref_set_has_at(s, ref_set_place(s, item), item);
}

const struct ref_set *ref_set_with(const struct ref_set *s, struct ref item)
{
    uint32_t at = ref_set_place(s, item), count = s ? s->count : 0;
    if (ref_set_has_at(s, at, item))
        return ref_set_ref(s);
    struct ref_set *more = ref_set_alloc((size_t)count + 1);
    if (at)
        memcpy(more->items, s->items, at * sizeof(item));
    more->items[at] = item;
    if (count > at)
        memcpy(more->items + at + 1, s->items + at, (count - at) * sizeof(item));
    return more;
}

const struct ref_set *ref_set_without(const struct ref_set *s, struct ref item)
{
    uint32_t at = ref_set_place(s, item);
    if (!ref_set_has_at(s, at, item))
        return ref_set_ref(s);
    if (s->count == 1)
        return NULL;
    struct ref_set *less = ref_set_alloc(s->count - 1);
    memcpy(less->items, s->items, at * sizeof(item));
    memcpy(less->items + at, s->items + at + 1, (s->count - 1 - at) * sizeof(item));
    return less;
}

/* ---- maps ---- */

static struct str_map *str_map_alloc(size_t count)
{
    struct str_map *m = xmalloc(sizeof(*m) + count * sizeof(m->pairs[0]));
    m->refs = 1;
    m->count = (uint32_t)count;
    return m;
}

static void pair_ref(struct str_pair *to, const struct str_pair *from)
{
    to->key = str_ref(from->key);
    to->value = str_ref(from->value);
}

static void pair_unref(const struct str_pair *pair)
{
    str_unref(pair->key);
    str_unref(pair->value);
}

static int compare_pairs(const void *a, const void *b)
{
    return strcmp(((const struct str_pair *)a)->key, ((const struct str_pair *)b)->key);
}

static bool keys_ascend(const struct str_pair *pairs, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (strcmp(pairs[i - 1].key, pairs[i].key) >= 0)
            return false;
    return true;
}

/* Stable: of equal keys the later one stays behind the earlier one. `to` and `from` are two halves
 * of the work; the result is in `from`. */
static void merge_sort(struct str_pair *from, struct str_pair *to, size_t count)
{
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t start = 0; start < count; start += 2 * width) {
            size_t middle = start + width < count ? start + width : count;
            size_t end = start + 2 * width < count ? start + 2 * width : count;
            size_t a = start, b = middle;
            for (size_t i = start; i < end; i++)
                to[i] = a < middle && (b >= end || compare_pairs(&from[a], &from[b]) <= 0) ? from[a++]
                                                                                           : from[b++];
        }
        memcpy(from, to, count * sizeof(*from));
    }
}

const struct str_map *str_map_new_moved(struct str_pair *pairs, size_t count)
{
    if (count == 0)
        return NULL;
    struct str_map *m = str_map_alloc(count);
    if (!keys_ascend(pairs, count))
        merge_sort(pairs, m->pairs, count);
    m->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (m->count && streq(m->pairs[m->count - 1].key, pairs[i].key))
            pair_unref(&m->pairs[--m->count]);
        m->pairs[m->count++] = pairs[i];
    }
    return m;
}

const struct str_map *str_map_new(const struct str_pair *pairs, size_t count)
{
    if (count == 0)
        return NULL;
    AUTO_FREE struct str_pair *copies = xreallocarray(NULL, count, sizeof(*copies));
    for (size_t i = 0; i < count; i++)
        copies[i] = (struct str_pair){str_new(pairs[i].key), str_new(pairs[i].value)};
    return str_map_new_moved(copies, count);
}

const struct str_map *str_map_ref(const struct str_map *m)
{
    if (m)
        count_up(&m->refs);
    return m;
}

void str_map_unref(const struct str_map *m)
{
    if (!m || !count_down(&m->refs))
        return;
    for (uint32_t i = 0; i < m->count; i++)
        pair_unref(&m->pairs[i]);
    free((void *)(uintptr_t)m);
}

static uint32_t str_map_place(const struct str_map *m, const char *key)
{
    uint32_t low = 0, high = m ? m->count : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (strcmp(m->pairs[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool str_map_has_at(const struct str_map *m, uint32_t at, const char *key)
{
    return m && at < m->count && streq(m->pairs[at].key, key);
}

const char *str_map_get(const struct str_map *m, const char *key)
{
    uint32_t at = str_map_place(m, key);
    return str_map_has_at(m, at, key) ? m->pairs[at].value : NULL;
}

const struct str_map *str_map_with(const struct str_map *m, const char *key, const char *value)
{
    uint32_t at = str_map_place(m, key), count = m ? m->count : 0;
    bool there = str_map_has_at(m, at, key);
    if (there && streq(m->pairs[at].value, value))
        return str_map_ref(m);
    struct str_map *next = str_map_alloc((size_t)count + !there);
    for (uint32_t i = 0; i < at; i++)
        pair_ref(&next->pairs[i], &m->pairs[i]);
    next->pairs[at].key = there ? str_ref(m->pairs[at].key) : str_new(key);
    next->pairs[at].value = str_new(value);
    for (uint32_t i = at + 1; i < next->count; i++)
        pair_ref(&next->pairs[i], &m->pairs[i - !there]);
    return next;
}

const struct str_map *str_map_without(const struct str_map *m, const char *key)
{
    uint32_t at = str_map_place(m, key);
    if (!str_map_has_at(m, at, key))
        return str_map_ref(m);
    if (m->count == 1)
        return NULL;
    struct str_map *less = str_map_alloc(m->count - 1);
    for (uint32_t i = 0; i < less->count; i++)
        pair_ref(&less->pairs[i], &m->pairs[i + (i >= at)]);
    return less;
}

bool str_map_equal(const struct str_map *a, const struct str_map *b)
{
    if (a == b)
        return true;
    uint32_t count = a ? a->count : 0;
    if (count != (b ? b->count : 0))
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!str_eq(a->pairs[i].key, b->pairs[i].key) || !str_eq(a->pairs[i].value, b->pairs[i].value))
            return false;
    return true;
}

/* ---- slots and cleanup ---- */

void str_set_assign(const struct str_set **slot, const struct str_set *moved)
{
    const struct str_set *old = *slot;
    *slot = moved;
    str_set_unref(old);
}

void ref_set_assign(const struct ref_set **slot, const struct ref_set *moved)
{
    const struct ref_set *old = *slot;
    *slot = moved;
    ref_set_unref(old);
}

void str_map_assign(const struct str_map **slot, const struct str_map *moved)
{
    const struct str_map *old = *slot;
    *slot = moved;
    str_map_unref(old);
}

void str_map_put(const struct str_map **slot, const char *key, const char *value)
{
    str_map_assign(slot, str_map_with(*slot, key, value));
}

void str_map_del(const struct str_map **slot, const char *key)
{
    str_map_assign(slot, str_map_without(*slot, key));
}

void str_unref_cleanup(const char **s)
{
    str_unref(*s);
}

void str_set_unref_cleanup(const struct str_set **s)
{
    str_set_unref(*s);
}

void ref_set_unref_cleanup(const struct ref_set **s)
{
    ref_set_unref(*s);
}

void str_map_unref_cleanup(const struct str_map **m)
{
    str_map_unref(*m);
}
