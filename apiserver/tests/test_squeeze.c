/* Memory shared among VMs: table of fields and what becomes of them. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <plan/squeeze.h>

#define MIB (INT64_C(1) << 20)
#define MOST 4

struct one {
    int min, max, actual, target; /* MiB */
    bool keeps;
    int share;
};

static const struct {
    const char *what;
    int bytes;
    struct one vms[MOST];
    int left;
} table[] = {
    {"enough for all", 1000, {{100, 400, 400, 400, false, 400}, {100, 500, 500, 500, false, 500}}, 100},
    {"exactly enough", 900, {{100, 400, 400, 400, false, 400}, {100, 500, 500, 500, false, 500}}, 0},
    {"the same part of what lies between",
     550,
     {{100, 400, 400, 400, false, 250}, {100, 500, 500, 500, false, 300}},
     0},
    {"everybody at the least", 200, {{100, 400, 400, 400, false, 100}, {100, 500, 500, 500, false, 100}}, 0},
    {"not even that", 150, {{100, 400, 400, 400, false, 100}, {100, 500, 500, 500, false, 100}}, -50},
    {"one that keeps what it has",
     600,
     {{100, 400, 400, 100, true, 400}, {100, 500, 500, 500, false, 200}},
     0},
    {"one that keeps too much",
     450,
     {{100, 400, 400, 100, true, 400}, {100, 500, 500, 500, false, 100}},
     -50},
    {"a newcomer", 700, {{100, 700, 700, 700, false, 366}, {200, 500, 0, 0, false, 333}}, 1},
    {"nothing to give", 500, {{300, 300, 300, 300, false, 300}, {200, 200, 0, 0, false, 200}}, 0},
    {"nobody", 500, {{0}}, 500},
};

Test(squeeze, table)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct squeeze_vm vms[MOST];
        size_t count = 0;
        for (; count < MOST && table[i].vms[count].max; count++) {
            const struct one *o = &table[i].vms[count];
            vms[count] = (struct squeeze_vm){.min = o->min * MIB,
                                             .max = o->max * MIB,
                                             .actual = o->actual * MIB,
                                             .target = o->target * MIB,
                                             .follows = !o->keeps};
        }
        int64_t left = squeeze_share(vms, count, table[i].bytes * MIB);
        int64_t sum = 0;
        for (size_t k = 0; k < count; k++) {
            cr_expect_eq(vms[k].share / MIB, table[i].vms[k].share, "%s: VM %zu has %d", table[i].what, k,
                         (int)(vms[k].share / MIB));
            sum += vms[k].share;
        }
        cr_expect_eq(left / MIB, table[i].left, "%s: left %d", table[i].what, (int)(left / MIB));
        cr_expect_eq(sum + left, table[i].bytes * MIB, "%s: nothing is lost", table[i].what);
    }
}

Test(squeeze, what_counts)
{
    struct squeeze_vm vm = {
        .min = 100, .max = 400, .actual = 300, .target = 200, .overhead = 10, .follows = true};
    cr_assert_eq(squeeze_now(&vm), 310, "it has not given yet");
    cr_assert_eq(squeeze_least(&vm), 110);
    vm.target = 400;
    cr_assert_eq(squeeze_now(&vm), 410, "it is about to take");
    vm.follows = false;
    cr_assert_eq(squeeze_now(&vm), 310);
    cr_assert_eq(squeeze_least(&vm), 310);
}
