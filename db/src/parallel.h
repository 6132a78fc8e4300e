/* Work on a long array by as many threads as there are processors, while a store is being opened. */
#pragma once
#include <stddef.h>

#define PARALLEL_MAX 4 /* threads, the caller's among them */

/* Calls fn for all of [0, count) in ranges of at most `chunk`, and returns when all have returned. `worker`
 * tells those apart that run at once: less than PARALLEL_MAX. One chunk is the caller's alone. Needs no
 * memory and cannot fail: without threads the caller does it all. */
void parallel_run(size_t count, size_t chunk, void (*fn)(void *arg, size_t from, size_t to, unsigned worker),
                  void *arg);
