/* Archives as bytes to keep: compact, with a checksum, so that a file that was damaged is told from a whole
 * one. Numbers are little-endian. */
#pragma once
#include "rrd.h"
#include <base/buf.h>

#define RRD_BYTES_MAX (64u << 20)

void rrd_encode(const struct rrd *rrd, struct buf *out);
/* NULL: not whole, or not ours. */
struct rrd *rrd_decode(const void *data, size_t len);
