/* Shared values: counts, sharing between versions, order, duplicates, constants. */
#include <base/mem.h>
#include <base/rc.h>
#include <criterion/criterion.h>
#include <pthread.h>

STR_STATIC(alpha, "alpha");
STR_STATIC(beta, "beta");
STR_SET_STATIC(letters, alpha.text, beta.text);
STR_MAP_STATIC(values, {alpha.text, ""}, {beta.text, alpha.text});
REF_SET_STATIC(known, {1, 2}, {3, 4});

static const struct {
    const char *text;
    const struct str_set *set;
} table[] = {{alpha.text, &letters}}; /* constant tables can hold them */

Test(rc, constants_are_never_counted)
{
    for (int i = 0; i < 3; i++) {
        cr_assert(str_ref(table[0].text) == alpha.text);
        str_set_ref(table[0].set);
        str_map_ref(&values);
        ref_set_ref(&known);
    }
    for (int i = 0; i < 9; i++) {
        str_unref(alpha.text);
        str_set_unref(&letters);
        str_map_unref(&values);
        ref_set_unref(&known);
    }
    cr_assert(letters.refs == RC_STATIC && letters.count == 2);
    cr_assert_eq(str_len(alpha.text), 5);
    cr_assert(str_set_has(&letters, "beta") && !str_set_has(&letters, "gamma"));
    cr_assert_str_eq(str_map_get(&values, "beta"), "alpha");
    cr_assert(ref_set_has(&known, (struct ref){3, 4}));
    /* A changed version of a constant is an ordinary value. */
    AUTO_STR_SET const struct str_set *more = str_set_with(&letters, "gamma");
    AUTO_STR_MAP const struct str_map *other = str_map_with(&values, "alpha", "1");
    cr_assert(more->count == 3 && more->refs == 1);
    cr_assert_str_eq(str_map_get(other, "alpha"), "1");
}

Test(rc, strings_are_shared_not_copied)
{
    AUTO_STR const char *s = str_new("hello");
    AUTO_STR const char *same = str_ref(s);
    cr_assert(s == same);
    AUTO_STR const char *made = str_newf("%s-%d", s, 7);
    cr_assert_str_eq(made, "hello-7");
    AUTO_STR const char *longer = str_newf("%0400d", 1);
    cr_assert_eq(str_len(longer), 400);
    AUTO_STR const char *cut = str_new_len("ab\0cd", 5);
    cr_assert_eq(str_len(cut), 2);
    AUTO_STR const char *equal = str_new_len("hello!", 5);
    cr_assert(str_eq(s, equal) && !str_eq(s, made) && str_eq("", str_new("")));
}

Test(rc, the_empty_string_needs_no_memory)
{
    const char *empty = str_new_len("x", 0);
    cr_assert_eq(str_len(empty), 0);
    for (int i = 0; i < 5; i++)
        str_unref(empty);
    str_unref("");
    str_unref(NULL);
}

Test(rc, assign_accepts_the_old_value_itself)
{
    const char *slot = NULL;
    str_assign(&slot, "one");
    str_assign(&slot, slot);
    cr_assert_str_eq(slot, "one");
    str_assign(&slot, "");
    str_unref(slot);
}

Test(rc, string_sets_are_sorted_without_doubles)
{
    static const char *const items[] = {"b", "", "a", "b", "B", "a"};
    AUTO_STR_SET const struct str_set *s = str_set_new(items, ARRAY_LEN(items));
    cr_assert_eq(s->count, 4);
    static const char *const sorted[] = {"", "B", "a", "b"};
    for (uint32_t i = 0; i < s->count; i++) {
        cr_assert_str_eq(s->items[i], sorted[i]);
        cr_assert(str_set_has(s, sorted[i]));
    }
    cr_assert_not(str_set_has(s, "c"));
    cr_assert_not(str_set_has(NULL, "c"));
    cr_assert(str_set_new(NULL, 0) == NULL);
}

Test(rc, string_set_versions_share_items)
{
    const struct str_set *slot = NULL;
    str_set_assign(&slot, str_set_with(slot, "m"));
    str_set_assign(&slot, str_set_with(slot, "a"));
    str_set_assign(&slot, str_set_with(slot, "z"));
    AUTO_STR_SET const struct str_set *before = str_set_ref(slot);
    AUTO_STR_SET const struct str_set *unchanged = str_set_with(slot, "m");
    cr_assert(unchanged == before);
    AUTO_STR_SET const struct str_set *also = str_set_without(slot, "none");
    cr_assert(also == before);
    str_set_assign(&slot, str_set_without(slot, "m"));
    cr_assert(slot->count == 2 && before->count == 3);
    cr_assert(slot->items[0] == before->items[0] && slot->items[1] == before->items[2]);
    str_set_assign(&slot, str_set_without(slot, "a"));
    str_set_assign(&slot, str_set_without(slot, "z"));
    cr_assert(slot == NULL);
}

Test(rc, reference_sets)
{
    struct ref items[] = {{3, 3}, {1, 1}, {3, 3}, {2, 9}, {2, 2}};
    AUTO_REF_SET const struct ref_set *s = ref_set_new(items, ARRAY_LEN(items));
    cr_assert_eq(s->count, 4);
    for (uint32_t i = 1; i < s->count; i++)
        cr_assert(ref_cmp(s->items[i - 1], s->items[i]) < 0);
    AUTO_REF_SET const struct ref_set *more = ref_set_with(s, (struct ref){2, 5});
    cr_assert(more->count == 5 && more->items[2].lo == 5);
    AUTO_REF_SET const struct ref_set *less = ref_set_without(more, (struct ref){1, 1});
    cr_assert(less->count == 4 && !ref_set_has(less, (struct ref){1, 1}) &&
              ref_set_has(s, (struct ref){1, 1}));
    AUTO_REF_SET const struct ref_set *one = ref_set_with(NULL, (struct ref){7, 7});
    cr_assert(ref_set_without(one, (struct ref){7, 7}) == NULL);
    AUTO_REF_SET const struct ref_set *same = ref_set_without(one, (struct ref){8, 8});
    cr_assert(same == one);
}

Test(rc, of_equal_keys_the_last_wins)
{
    struct str_pair pairs[] = {{"k", "1"}, {"a", "x"}, {"k", "2"}, {"b", ""}, {"k", "3"}, {"a", "y"}};
    AUTO_STR_MAP const struct str_map *m = str_map_new(pairs, ARRAY_LEN(pairs));
    cr_assert_eq(m->count, 3);
    cr_assert_str_eq(str_map_get(m, "k"), "3");
    cr_assert_str_eq(str_map_get(m, "a"), "y");
    cr_assert_str_eq(m->pairs[1].key, "b");
    cr_assert(str_map_get(m, "none") == NULL && str_map_get(NULL, "k") == NULL);
}

Test(rc, many_keys_in_any_order)
{
    enum { COUNT = 1000 };
    struct str_pair *pairs = xcalloc(COUNT, sizeof(*pairs));
    for (int i = 0; i < COUNT; i++)
        pairs[i] = (struct str_pair){str_newf("key%d", i * 7919 % 500), str_newf("%d", i)};
    AUTO_STR_MAP const struct str_map *m = str_map_new_moved(pairs, COUNT);
    free(pairs);
    cr_assert_eq(m->count, 500);
    for (uint32_t i = 1; i < m->count; i++)
        cr_assert(strcmp(m->pairs[i - 1].key, m->pairs[i].key) < 0);
    for (int i = 500; i < COUNT; i++) {
        AUTO_STR const char *key = str_newf("key%d", i * 7919 % 500), *value = str_newf("%d", i);
        cr_assert_str_eq(str_map_get(m, key), value);
    }
}

Test(rc, maps_change_by_version)
{
    const struct str_map *slot = NULL;
    str_map_put(&slot, "b", "2");
    str_map_put(&slot, "a", "1");
    AUTO_STR_MAP const struct str_map *before = str_map_ref(slot);
    str_map_put(&slot, "a", "1");
    cr_assert(slot == before);
    str_map_put(&slot, "a", "one");
    cr_assert_str_eq(str_map_get(before, "a"), "1");
    cr_assert_str_eq(str_map_get(slot, "a"), "one");
    cr_assert(slot->pairs[1].key == before->pairs[1].key);
    str_map_del(&slot, "none");
    str_map_del(&slot, "a");
    str_map_del(&slot, "b");
    cr_assert(slot == NULL);
}

static void *take_and_release(void *arg)
{
    const char *s = arg;
    for (int i = 0; i < 100000; i++)
        str_unref(str_ref(s));
    str_unref(s);
    return NULL;
}

Test(rc, counts_survive_many_threads)
{
    const char *s = str_new("shared");
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        cr_assert(pthread_create(&threads[i], NULL, take_and_release, (void *)(uintptr_t)str_ref(s)) == 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(((const struct str_header *)(const void *)s)[-1].refs, 1);
    str_unref(s);
}
