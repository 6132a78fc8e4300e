/* Announced digests, and whether bytes have them. */
#include "digest.h"

#include <base/mem.h>
#include <base/secret.h>
#include <string.h>

static bool read_sum(const char *text, size_t len, enum digest_kind kind, struct digest *out)
{
    size_t got;
    if (len > 2 * DIGEST_SIZE)
        return false;
    AUTO_FREE char *sum = base64_decode(text, len, &got);
    if (!sum || got != digest_size(kind))
        return false;
    out->kind = kind;
    memcpy(out->sum, sum, got);
    return true;
}

bool digest_read(const char *text, struct digest *out)
{
    out->kind = DIGEST_NONE;
    for (;;) {
        text += strspn(text, " \t");
        size_t name = strcspn(text, "=, \t");
        const char *value = text + name;
        if (name == 0 || strncmp(value, "=:", 2) != 0)
            return false;
        value += 2;
        size_t len = strcspn(value, ":");
        if (value[len] != ':')
            return false;
        if (name == 7 && strncmp(text, "sha-256", name) == 0 && !read_sum(value, len, DIGEST_SHA256, out))
            return false;
        text = value + len + 1;
        text += strspn(text, " \t");
        if (*text == '\0')
            return true;
        if (*text++ != ',')
            return false;
    }
}

bool digest_read_checksum(const char *text, struct digest *out)
{
    static const struct {
        const char *name;
        enum digest_kind kind;
    } kinds[] = {{"sha1 ", DIGEST_SHA1}, {"sha256 ", DIGEST_SHA256}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        size_t len = strlen(kinds[i].name);
        if (strncmp(text, kinds[i].name, len) == 0)
            return read_sum(text + len, strlen(text + len), kinds[i].kind, out);
    }
    return false;
}

bool digest_fits(const struct digest *expected, struct digester *of)
{
    unsigned char sum[DIGEST_SIZE];
    return digester_end(of, sum) && memcmp(sum, expected->sum, digest_size(expected->kind)) == 0;
}
