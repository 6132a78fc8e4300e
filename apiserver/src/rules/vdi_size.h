/* Sizes of disks. Pure; any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define VDI_SIZE_UNIT 512
#define VDI_SIZE_MAX ((int64_t)64 << 40) /* 64 TiB: what agents accept */

/* The size that a disk of at least `bytes` gets: the next multiple of a sector. False: not positive, or too
 * large. */
static inline bool vdi_round_size(int64_t bytes, int64_t *out)
{
    if (bytes <= 0 || bytes > VDI_SIZE_MAX)
        return false;
    *out = (bytes + VDI_SIZE_UNIT - 1) / VDI_SIZE_UNIT * VDI_SIZE_UNIT;
    return true;
}
