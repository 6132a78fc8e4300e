/* A console shown to many viewers: what the guest writes is kept as scroll-back and copied to each; what
 * any viewer writes goes to the guest. A viewer that does not read is dropped; the guest never waits. */
#pragma once
#include "loop.h"
#include <stddef.h>

#define FANOUT_SCROLLBACK (256 * 1024) /* bytes kept */
#define FANOUT_LAG (1024 * 1024)       /* bytes a viewer may be behind before it is dropped */
#define FANOUT_VIEWERS 64

struct fanout;

/* `input` takes what viewers type, on the loop's thread; it may drop what does not fit. */
struct fanout *fanout_new(struct loop *loop, void (*input)(void *arg, const char *data, size_t len),
                          void *arg);
/* Loop thread. Every viewer sees the end once it has read what it was sent. NULL is allowed. */
void fanout_free(struct fanout *f);
/* Output of the guest. Loop thread. */
void fanout_write(struct fanout *f, const char *data, size_t len);
/* The scroll-back, oldest first, appended. Loop thread. */
struct buf;
void fanout_history(const struct fanout *f, struct buf *out);
/* A new viewer: *fd is a stream socket for the caller to keep. Loop thread. -1 with errno: EUSERS, too many.
 */
int fanout_attach(struct fanout *f, int *fd);
