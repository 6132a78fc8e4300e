/* The growing buffer and the allocation helpers. */
#include <base/buf.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>

Test(buf, is_terminated_after_each_addition)
{
    AUTO_BUF struct buf b = BUF_INIT;
    buf_add(&b, "", 0);
    cr_assert_str_eq(b.data, "");
    buf_add_str(&b, "ab");
    buf_add_char(&b, 'c');
    cr_assert_str_eq(b.data, "abc");
    cr_assert_eq(b.len, 3);
    char *to = buf_reserve(&b, 1000);
    memset(to, 'x', 1000);
    buf_advance(&b, 1000);
    cr_assert_eq(strlen(b.data), 1003);
}

Test(buf, writes_every_integer)
{
    static const int64_t numbers[] = {0, 7, -1, 1234567890123, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        AUTO_BUF struct buf b = BUF_INIT;
        char expected[32];
        snprintf(expected, sizeof(expected), "%lld", (long long)numbers[i]);
        buf_add_int(&b, numbers[i]);
        cr_assert_str_eq(b.data, expected);
    }
}

Test(buf, formats_text_longer_than_its_room)
{
    AUTO_BUF struct buf b = BUF_INIT;
    buf_add_str(&b, "<");
    buf_printf(&b, "%0500d", 7);
    buf_printf(&b, ">");
    cr_assert_eq(b.len, 502);
    cr_assert_eq(b.data[500], '7');
    cr_assert_str_eq(b.data + 501, ">");
}

Test(buf, take_gives_the_bytes_away)
{
    struct buf b = BUF_INIT;
    AUTO_FREE char *nothing = buf_take(&b);
    cr_assert_str_eq(nothing, "");
    buf_add_str(&b, "text");
    AUTO_FREE char *text = buf_take(&b);
    cr_assert_str_eq(text, "text");
    cr_assert(b.data == NULL && b.len == 0);
}

Test(buf, consume_drops_the_front)
{
    AUTO_BUF struct buf b = BUF_INIT;
    buf_consume(&b, 5);
    buf_add_str(&b, "hello world");
    buf_consume(&b, 6);
    cr_assert_str_eq(b.data, "world");
    buf_consume(&b, 99);
    cr_assert_eq(b.len, 0);
    buf_add_str(&b, "again");
    buf_clear(&b);
    cr_assert_str_eq(b.data, "");
}

Test(mem, a_product_that_overflows_ends_the_process, .signal = SIGABRT)
{
    free(xreallocarray(NULL, SIZE_MAX / 2, 3));
}

Test(mem, taking_a_pointer_clears_the_variable)
{
    char *p = xstrndup("hello", 3), *kept = p;
    AUTO_FREE char *taken = TAKE_PTR(p);
    cr_assert(p == NULL && taken == kept);
    cr_assert_str_eq(taken, "hel");
}
