/* The one error of the hv layer: a kind from a small closed enum (openapi/agent/operation.toml) and a
 * sentence for a person. Callers decide on the kind alone. No path, secret or fragment of a protocol is
 * in the sentence; those go to the log of the side that saw them. Any thread. */
#pragma once
#include <hv/types.h>

struct hv_err {
    enum hv_err_kind kind;
    char text[512];
};

/* Fills *err (NULL is allowed) and returns -1, so that `return hv_fail(err, ...)` reads well. */
int hv_fail(struct hv_err *err, enum hv_err_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
