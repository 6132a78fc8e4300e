/* Numbers in bytes of a stated order, at any address: headers of disk images, records on disk. */
#pragma once
#include <endian.h>
#include <stdint.h>
#include <string.h>

#define BYTES_ACCESS(bits, order)                                                                            \
    static inline uint##bits##_t order##bits##_get(const void *at)                                           \
    {                                                                                                        \
        uint##bits##_t n;                                                                                    \
        memcpy(&n, at, sizeof(n));                                                                           \
        return order##bits##toh(n);                                                                          \
    }                                                                                                        \
    static inline void order##bits##_put(void *at, uint##bits##_t n)                                         \
    {                                                                                                        \
        n = hto##order##bits(n);                                                                             \
        memcpy(at, &n, sizeof(n));                                                                           \
    }

BYTES_ACCESS(16, be)
BYTES_ACCESS(32, be)
BYTES_ACCESS(64, be)
BYTES_ACCESS(16, le)
BYTES_ACCESS(32, le)
BYTES_ACCESS(64, le)
