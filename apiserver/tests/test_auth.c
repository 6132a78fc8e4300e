/* The brake on guessing and the turns of sources. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/brake.h>
#include <gate/turns.h>
#include <stdio.h>

Test(brake, first_attempts_are_free)
{
    struct brake *b = brake_new();
    for (int i = 0; i < 100; i++)
        cr_assert_eq(brake_ask(b, "10.0.0.1", "root", i), 0);
    brake_free(b);
}

Test(brake, each_failure_waits_longer)
{
    struct brake *b = brake_new();
    int64_t now = 1000;
    for (int i = 1; i <= 20; i++) {
        int64_t delay = brake_failed(b, "10.0.0.1", "root", now);
        cr_assert_eq(delay, i <= 12 ? i * 5000 : 60000);
        cr_assert_eq(brake_ask(b, "10.0.0.1", "root", now + 1), delay - 1);
        cr_assert_eq(brake_ask(b, "10.0.0.1", "root", now + delay - 1), 1);
        now += delay;
        cr_assert_eq(brake_ask(b, "10.0.0.1", "root", now), 0);
    }
    brake_free(b);
}

Test(brake, after_a_failure_one_at_a_time)
{
    struct brake *b = brake_new();
    brake_failed(b, "10.0.0.1", "root", 0);
    cr_assert_eq(brake_ask(b, "10.0.0.1", "root", 5000), 0);
    for (int i = 0; i < 10; i++)
        cr_assert_gt(brake_ask(b, "10.0.0.1", "root", 5000), 0,
                     "a second guess before the outcome of the first");
    brake_passed(b, "10.0.0.1", "root");
    for (int i = 0; i < 10; i++)
        cr_assert_eq(brake_ask(b, "10.0.0.1", "root", 5000), 0);
    brake_free(b);
}

Test(brake, pairs_are_told_apart)
{
    struct brake *b = brake_new();
    brake_failed(b, "10.0.0.1", "root", 0);
    cr_assert_eq(brake_ask(b, "10.0.0.2", "root", 1), 0);
    cr_assert_eq(brake_ask(b, "10.0.0.1", "alice", 1), 0);
    cr_assert_gt(brake_ask(b, "10.0.0.1", "root", 1), 0);
    brake_free(b);
}

Test(brake, long_names_cannot_escape)
{
    struct brake *b = brake_new();
    char longest[200], other[200];
    memset(longest, 'u', sizeof(longest));
    longest[199] = '\0';
    memcpy(other, longest, sizeof(other));
    other[198] = 'x';
    brake_failed(b, "10.0.0.1", longest, 0);
    cr_assert_gt(brake_ask(b, "10.0.0.1", longest, 1), 0);
    cr_assert_gt(brake_ask(b, "10.0.0.1", other, 1), 0);
    brake_free(b);
}

/* Thousands of made-up names must not make room for guesses at a real one. */
Test(brake, a_full_table_brakes_on)
{
    struct brake *b = brake_new();
    char name[32];
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof(name), "user%d", i);
        brake_failed(b, "10.0.0.1", name, i);
    }
    cr_assert_eq(brake_ask(b, "10.0.0.1", "root", 10001), 0);
    brake_failed(b, "10.0.0.1", "root", 10001);
    cr_assert_gt(brake_ask(b, "10.0.0.1", "root", 10002), 0);
    cr_assert_gt(brake_ask(b, "10.0.0.1", "user9999", 10002), 0);
    cr_assert_eq(brake_ask(b, "10.0.0.1", "user0", 10002), 0, "the oldest were forgotten");
    brake_free(b);
}

Test(brake, few_wait)
{
    struct brake *b = brake_new();
    brake_failed(b, "10.0.0.1", "root", 0);
    for (int i = 0; i < 8; i++)
        cr_assert(brake_wait(b, "10.0.0.1", "root"));
    cr_assert_not(brake_wait(b, "10.0.0.1", "root"));
    brake_unwait(b, "10.0.0.1", "root");
    cr_assert(brake_wait(b, "10.0.0.1", "root"));
    cr_assert(brake_wait(b, "10.0.0.2", "root"));
    brake_free(b);
}

Test(turns, in_order_and_not_more_than_allowed)
{
    struct turns *t = turns_new(2, 3);
    int items[6];
    cr_assert_eq(turns_ask(t, "a", &items[0]), TURN_NOW);
    cr_assert_eq(turns_ask(t, "a", &items[1]), TURN_NOW);
    cr_assert_eq(turns_ask(t, "a", &items[2]), TURN_LATER);
    cr_assert_eq(turns_ask(t, "a", &items[3]), TURN_LATER);
    cr_assert_eq(turns_ask(t, "a", &items[4]), TURN_LATER);
    cr_assert_eq(turns_ask(t, "a", &items[5]), TURN_REFUSED);
    cr_assert_eq(turns_ask(t, "b", &items[5]), TURN_NOW, "another source has turns of its own");
    for (int i = 2; i < 5; i++)
        cr_assert_eq(turns_next(t, "a"), &items[i]);
    cr_assert_null(turns_next(t, "a"));
    cr_assert_null(turns_next(t, "a"));
    cr_assert_null(turns_next(t, "b"));
    cr_assert_eq(turns_ask(t, "a", &items[0]), TURN_NOW);
    cr_assert_null(turns_next(t, "a"));
    turns_free(t);
}
