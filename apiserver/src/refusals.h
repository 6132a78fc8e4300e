/* Who wants all that refuses something, not the first reason alone. Functions that check several things take
 * one: with NULL they stop at the first refusal, as calls do; plans and "why" hear each. */
#pragma once
#include <model/error.h>
#include <stdbool.h>

struct refusals {
    void (*each)(void *arg, const struct api_err *err);
    void *arg;
};

/* The result of one check: true if the checking ends with it. Else it passed, or was told, and *err is empty:
 * the next check is made whatever this one said. */
static inline bool refused(const struct refusals *all, int rc, struct api_err *err)
{
    if (rc == 0 || !all)
        return rc < 0;
    all->each(all->arg, err);
    api_err_done(err);
    return false;
}
