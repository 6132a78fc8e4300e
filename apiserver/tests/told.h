/* For tests of rules: what a plan hears, who asks for every reason (refusals.h), beside what a call hears. */
#pragma once
#include <criterion/criterion.h>
#include <refusals.h>
#include <stddef.h>

struct told {
    size_t count;
    struct api_err first;
};

#define TOLD_INIT                                                                                            \
    {                                                                                                        \
        .first = API_ERR_INIT                                                                                \
    }

/* An `each` of struct refusals. */
static inline void told_add(void *arg, const struct api_err *err)
{
    struct told *told = arg;
    if (told->count++ == 0)
        api_err_copy(&told->first, err);
}

/* A call was answered with `rc` and *err: a plan, too, has heard that one first, or nothing. Empties *told.
 */
static inline void told_agrees(struct told *told, int rc, const struct api_err *err)
{
    cr_expect_eq(rc<0, told->count> 0, "%zu reasons", told->count);
    if (rc < 0 && told->count)
        cr_expect_str_eq(told->first.code, err->code);
    api_err_done(&told->first);
}
