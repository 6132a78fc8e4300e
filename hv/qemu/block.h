/* Images of a running device model: block nodes come and go, with the descriptors below them. A disk's nodes
 * are named drive<index> and drive<index>-...; an index is one disk's at a time. Not on the loop's thread. */
#pragma once
#include "internal.h"

/* Who asks: the domain, until when, and where a failure goes. */
struct block {
    struct qemu_domain *d;
    const struct hv_deadline *deadline;
    struct hv_err *err; /* may be NULL */
};

int block_command(const struct block *b, const char *name, json_t *moved);
/* Adds an image, without anything below it when `backing` is NULL. After a failure nothing of it is left. */
int block_add_image(const struct block *b, const char *node, const struct disk_node *image,
                    const char *backing);
/* Adds all images of a disk; the top one is called `name`. */
int block_add_chain(const struct block *b, const char *name, const struct disk_chain *chain);
/* Removes all nodes of a disk that are in no use; what fails stays, unused. */
void block_drop(const struct block *b, int64_t index);
/* Names of a device's nodes, what the guest writes first; `max` of room. */
int block_chain(const struct block *b, const char *device_id, char (*nodes)[QEMU_NODE_SIZE], size_t max,
                size_t *count);
/* Gives a node's file one more descriptor for a while. */
struct block_loan {
    int64_t set, fd; /* fd -1: none */
};
int block_lend(const struct block *b, const char *node, int fd, struct block_loan *loan);
void block_return(const struct block *b, const struct block_loan *loan);
/* Removes a node that nothing stands on, with its file. */
void block_remove_node(const struct block *b, const char *node);
/* The node that is in a device; empty: none. `size` of node. */
int block_current(const struct block *b, const char *device_id, char *node, size_t size);
