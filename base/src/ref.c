/* References and uuids as text, by table: these run for every reference on the wire. */
#include <base/ref.h>
#include <stdlib.h>
#include <sys/random.h>

#define PREFIX "OpaqueRef:"
#define PREFIX_LEN (sizeof(PREFIX) - 1)

/* 1 + value of a hexadecimal digit; 0 for every other byte. */
static const uint8_t hex_value[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

static const char hex_pair[513] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
                                  "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
                                  "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
                                  "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
                                  "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
                                  "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
                                  "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
                                  "e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

/* Where the two digits of each of the 16 bytes stand in the text. */
static const uint8_t digit_at[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};

struct ref ref_new(void)
{
    struct ref r;
    if (getrandom(&r, sizeof(r), 0) != sizeof(r))
        abort(); /* 16 bytes cannot be cut short or fail once the kernel's pool is ready */
    /* RFC 9562, version 4 variant 1: also what keeps it from ever being null. */
    r.hi = (r.hi & ~UINT64_C(0xf000)) | 0x4000;
    r.lo = (r.lo & ~(UINT64_C(3) << 62)) | UINT64_C(2) << 62;
    return r;
}

bool uuid_parse(const char *text, struct ref *out)
{
    /* Each test reads one byte further only after the bytes before were not NUL. */
    uint64_t half[2] = {0, 0};
    for (int i = 0; i < 16; i++) {
        const unsigned char *p = (const unsigned char *)text + digit_at[i];
        if ((i == 4 || i == 6 || i == 8 || i == 10) && p[-1] != '-')
            return false;
        if (!hex_value[p[0]] || !hex_value[p[1]])
            return false;
        unsigned byte = (unsigned)(hex_value[p[0]] - 1) << 4 | (unsigned)(hex_value[p[1]] - 1);
        half[i / 8] = half[i / 8] << 8 | byte;
    }
    if (text[36] != '\0')
        return false;
    *out = (struct ref){half[0], half[1]};
    return true;
}

char *uuid_format(struct ref uuid, char out[static UUID_TEXT_SIZE])
{
    for (int i = 0; i < 16; i++) {
        uint64_t half = i < 8 ? uuid.hi : uuid.lo;
        memcpy(out + digit_at[i], hex_pair + 2 * (half >> (56 - 8 * (i & 7)) & 0xff), 2);
    }
    out[8] = out[13] = out[18] = out[23] = '-';
    out[36] = '\0';
    return out;
}

bool ref_parse(const char *text, struct ref *out)
{
    if (text[0] == '\0' || strcmp(text, REF_NULL_TEXT) == 0) {
        *out = REF_NULL;
        return true;
    }
    return strncmp(text, PREFIX, PREFIX_LEN) == 0 && uuid_parse(text + PREFIX_LEN, out);
}

char *ref_format(struct ref ref, char out[static REF_TEXT_SIZE])
{
    if (ref_is_null(ref))
        return memcpy(out, REF_NULL_TEXT, sizeof(REF_NULL_TEXT));
    memcpy(out, PREFIX, PREFIX_LEN);
    uuid_format(ref, out + PREFIX_LEN);
    return out;
}
