/* Turns: of the work that one source brings only a little runs at a time, the rest waits in order, so that no
 * source keeps others from a small pool of workers. Any thread. */
#pragma once
#include <stdbool.h>

struct turns;
/* At most `running_max` of one source at a time, at most `waiting_max` of it in the queue. */
struct turns *turns_new(unsigned running_max, unsigned waiting_max);
/* Nobody may run or wait any more. */
void turns_free(struct turns *turns);

enum turn {
    TURN_NOW,    /* run `item` now, then call turns_next */
    TURN_LATER,  /* turns_next will give it to somebody */
    TURN_REFUSED /* too many of this source wait */
};
enum turn turns_ask(struct turns *turns, const char *source, void *item);
/* A turn of this source is over: the item whose turn it is (run it, then call turns_next), or NULL. */
void *turns_next(struct turns *turns, const char *source);
