/* Buckets of permits. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <gate/rate.h>
#include <stdio.h>

static const struct rate_limit two = {.per_second = 2, .burst = 4};

Test(rate, a_bucket_empties_and_fills)
{
    struct rates *rates = rates_new();
    for (int i = 0; i < 4; i++)
        cr_expect(eq(i64, rates_take(rates, "ann", &two, 1, 1000), 0));
    cr_expect(eq(i64, rates_take(rates, "ann", &two, 1, 1000), 500));
    cr_expect(eq(i64, rates_take(rates, "bob", &two, 1, 1000), 0), "a name has its own");
    cr_expect(eq(i64, rates_take(rates, "ann", &two, 1, 1400), 100), "a refusal takes nothing");
    cr_expect(eq(i64, rates_take(rates, "ann", &two, 1, 1500), 0));
    cr_expect(eq(i64, rates_take(rates, "ann", &two, 3, 2000), 1000));
    cr_expect(eq(i64, rates_take(rates, "ann", &two, 100, 1000000), 0), "no more than a full bucket is asked");
    cr_expect(eq(i64, rates_take(rates, "ann", &two, 1, 1000000), 500));
    rates_free(rates);
}

Test(rate, no_limit)
{
    struct rates *rates = rates_new();
    const struct rate_limit none = {0};
    for (int i = 0; i < 1000; i++)
        cr_expect(eq(i64, rates_take(rates, "ann", &none, 1, 0), 0));
    rates_free(rates);
}

Test(rate, the_one_seen_last_is_kept_among_many)
{
    struct rates *rates = rates_new();
    const struct rate_limit one = {.per_second = 0.001, .burst = 1};
    char name[32];
    cr_expect(eq(i64, rates_take(rates, "ann", &one, 1, 1), 0));
    for (int i = 0; i < 100000; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        cr_expect(eq(i64, rates_take(rates, name, &one, 1, 2 + i), 0));
        if (i % 100 == 0)
            cr_expect(ne(i64, rates_take(rates, "ann", &one, 1, 2 + i), 0), "%d", i);
    }
    rates_free(rates);
}
