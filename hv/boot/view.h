/* A disk as its guest sees it, read from the images that it is made of: raw, or qcow2 with what is below.
 * Only reads, and trusts no header. Compressed clusters, external data and extended L2 entries are refused.
 * Not thread-safe. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct view;

/* `words`: the images from the top down, "qcow2:5,qcow2:6,raw:7": format and open descriptor, which stays the
 * caller's. NULL with *why, a sentence. */
struct view *view_open(const char *words, const char **why);
void view_close(struct view *view);
uint64_t view_size(const struct view *view);
/* As pread. -1 with errno: EIO for what an image cannot say. */
ssize_t view_read(struct view *view, void *data, size_t len, uint64_t at);
