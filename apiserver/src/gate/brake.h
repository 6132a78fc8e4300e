/* What slows down guessing of passwords. Each pair of source and user has a time before which its next
 * attempt is not looked at; it grows with each failure and is lifted by a success. Pure apart from its table:
 * the caller says what time it is (monotonic milliseconds). Any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct brake;
struct brake *brake_new(void);
void brake_free(struct brake *brake);

/* 0: look at the attempt now, and tell the outcome. After a failure only one is looked at at a time: others
 * that ask before its outcome have to wait. > 0: not before that many milliseconds have passed. */
int64_t brake_ask(struct brake *brake, const char *peer, const char *user, int64_t now_ms);
/* The attempt is going to wait in memory. False: enough of this pair do already. Undone by brake_unwait. */
bool brake_wait(struct brake *brake, const char *peer, const char *user);
void brake_unwait(struct brake *brake, const char *peer, const char *user);

/* The outcome. A failure tells how long its answer should be held back. */
int64_t brake_failed(struct brake *brake, const char *peer, const char *user, int64_t now_ms);
void brake_passed(struct brake *brake, const char *peer, const char *user);
