/* Each index is worked on once, whatever the sizes. */
#include <criterion/criterion.h>
#include <parallel.h>
#include <stdatomic.h>

#define MOST 1000

static _Atomic int seen[MOST];

static void mark(void *arg, size_t from, size_t to, unsigned worker)
{
    size_t chunk = *(const size_t *)arg;
    cr_assert_lt(worker, PARALLEL_MAX);
    cr_assert(from < to && to - from <= chunk && to <= MOST);
    for (size_t i = from; i < to; i++)
        atomic_fetch_add(&seen[i], 1);
}

Test(parallel, each_index_once)
{
    static const struct {
        size_t count, chunk;
    } cases[] = {{0, 1},     {1, 1},     {1, 100},  {2, 1},    {3, 2},
                 {100, 100}, {101, 100}, {MOST, 1}, {MOST, 7}, {MOST, 5000}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        size_t chunk = cases[c].chunk;
        for (size_t i = 0; i < MOST; i++)
            seen[i] = 0;
        parallel_run(cases[c].count, chunk, mark, &chunk);
        for (size_t i = 0; i < MOST; i++)
            cr_assert_eq(seen[i], i < cases[c].count, "case %zu, index %zu", c, i);
    }
}
