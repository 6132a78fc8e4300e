/* Between the files that map keys of xl: each map_fn takes one key's value over, or notes why not. */
#pragma once
#include "guests.h"
#include <stdint.h>

struct mapping {
    json_t *guest;
    char **problem;
};
/* False: *m->problem is set. */
typedef bool map_fn(struct mapping *m, const char *key, const json_t *v);

/* Sets the problem "key: what"; false. */
bool xl_fail(struct mapping *m, const char *key, const char *what);
/* A value as one text (the caller's). */
char *xl_text(const json_t *v);
/* A number, or a text that is one. */
bool xl_int(const json_t *v, int64_t *out);

map_fn xl_disks, xl_vifs, xl_nics;
