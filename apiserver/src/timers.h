/* Work for later: callbacks at a time, run on one thread of their own. A callback must be quick; what
 * blocks is handed to a worker. Any thread. */
#pragma once
#include <stdint.h>

struct timers;
struct timers *timers_new(void);
/* Joins the thread and calls what is pending at once, so that its owner can clear up. */
void timers_stop(struct timers *timers);
/* After timers_stop. */
void timers_free(struct timers *timers);
/* Calls fn(arg) once, `delay_ms` from now; at once when the timers are stopped. */
void timers_after(struct timers *timers, int64_t delay_ms, void (*fn)(void *arg), void *arg);
/* Calls fn(arg) every `period_ms` until timers_stop. */
void timers_every(struct timers *timers, int64_t period_ms, void (*fn)(void *arg), void *arg);
