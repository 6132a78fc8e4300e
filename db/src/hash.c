/* SipHash with one round a word and three at the end (Aumasson and Bernstein, 2012). */
#include "hash.h"

static inline uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
}

uint64_t hash_bytes(struct ref key, uint64_t prefix, const void *data, size_t len)
{
    uint64_t v[4] = {key.hi ^ UINT64_C(0x736f6d6570736575), key.lo ^ UINT64_C(0x646f72616e646f6d),
                     key.hi ^ UINT64_C(0x6c7967656e657261), key.lo ^ UINT64_C(0x7465646279746573)};
    const unsigned char *p = data;
    sip_word(v, prefix);
    uint64_t last = (uint64_t)(len + 8) << 56;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        sip_word(v, word);
    }
    for (size_t i = 0; i < len; i++)
        last |= (uint64_t)p[i] << (8 * i);
    sip_word(v, last);
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
