/* Joining the log of a serial port with what came over a new connection. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <qemu/internal.h>

Test(serial, log_and_connection_are_joined_without_gap_or_repeat)
{
    static const struct {
        const char *logged, *held;
        size_t before;
    } cases[] = {
        {"", "", 0},
        {"abc", "", 3},         /* nothing came yet: all of it is from before */
        {"", "abc", 0},         /* sent, not logged yet */
        {"abcdef", "def", 3},   /* the usual case */
        {"abcd", "def", 3},     /* the log is a little behind */
        {"abcdefgh", "def", 3}, /* or ahead */
        {"abc", "def", 3},      /* behind by all of it */
        {"aaa", "aaa", 0},
        {"xaab", "aab", 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf held AUTO_BUF = BUF_INIT;
        buf_add_str(&held, cases[i].held);
        cr_expect_eq(serial_before_held(cases[i].logged, strlen(cases[i].logged), &held), cases[i].before,
                     "case %zu", i);
    }
}
