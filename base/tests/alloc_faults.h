/* Memory that runs out on demand: for programs that link alloc_faults, in which the code of the
 * project, jansson (see json.h) and SQLite get all their memory here. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* From now on allocations of at least that many bytes fail; 0: none. Any thread. */
void alloc_faults_from(size_t bytes);

enum alloc_outcome {
    ALLOC_DONE,  /* there are fewer allocations */
    ALLOC_TOLD,  /* it failed, and the scenario went on to its end */
    ALLOC_ENDED, /* the process ended itself, with the words for it */
    ALLOC_BROKEN,
};
/* Runs the scenario in a process of its own in which the `nth` allocation (from 1) fails. It returns 0 when
 * all it saw was right. A crash, a leak of a scenario that went on, another end: ALLOC_BROKEN, and the reason
 * on standard error. */
enum alloc_outcome alloc_faults_run(int (*scenario)(void *arg), void *arg, long nth);

/* Calls alloc_faults_run for each allocation in turn, after each `check` (may be NULL) with what became of
 * it. By default the first ones and then fewer and fewer; all with CORRAL_ALLOCATIONS=all. False: something
 * was not right. *told and *ended are counted. */
bool alloc_faults_each(int (*scenario)(void *arg), bool (*check)(void *arg, enum alloc_outcome outcome),
                       void *arg, size_t *told, size_t *ended);
