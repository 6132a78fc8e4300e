/* The client's side of NBD's beginning, towards the server of one disk that an agent has started: one export
 * named "disk", nothing to choose. Blocks. */
#pragma once
#include <base/stream.h>

struct upstream_export {
    uint64_t size;
    uint16_t flags; /* transmission flags */
};
/* 0: requests may be sent. -1: it does not answer like one, or not in time. */
int upstream_begin(struct stream *s, bool structured, int64_t timeout_ms, struct upstream_export *out);
