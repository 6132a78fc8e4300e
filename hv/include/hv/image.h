/* What server and agents agree on about images of disks. */
#pragma once
#include <stdint.h>

/* The most bytes of an image (not raw) that a disk of this size takes: its data, and tables and some
 * snapshots beside it. A first bound, enough for an honest one; what is in it is looked at when it is whole.
 */
static inline int64_t image_bytes_max(int64_t virtual_size)
{
    return virtual_size + virtual_size / 8 + (INT64_C(64) << 20);
}
