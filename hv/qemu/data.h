/* The guest's port org.corral.data.0: requests about the data that it shares with the pool. What a guest says
 * is bounded in size and rate: one that floods is read more slowly and
 * cut off if it goes on (what it had sent is lost), one that does not take its answers is not
 * read at all until it does. All functions and callbacks: loop thread. */
#pragma once
#include <hv/domain.h>
#include <io/loop.h>

#define DATA_RATE 20  /* requests a second that are answered in the long run */
#define DATA_BURST 60 /* and at once */

struct data_port;

struct data_callbacks {
    /* Its data now (borrowed, may be NULL) and the version that the guest is told. */
    const struct str_map *(*data)(void *arg, int64_t *version);
    /* The guest has changed it. False: it cannot be kept, the guest is told so. */
    bool (*changed)(void *arg, const struct str_map *data);
    /* The channel broke, or was cut off: in a while connect anew and call data_connected. */
    void (*lost)(void *arg);
    void *arg;
};

struct data_port *data_new(struct loop *loop, const struct data_callbacks *callbacks);
/* NULL is allowed. */
void data_free(struct data_port *port);
/* Takes over a connected socket. */
void data_connected(struct data_port *port, int fd);
