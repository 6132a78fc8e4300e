/* Announced digests, and whether bytes have them. */
#include "digest.h"

#include <base/mem.h>
#include <base/secret.h>
#include <openssl/evp.h>
#include <string.h>

static size_t sum_size(enum digest_kind kind)
{
    return kind == DIGEST_SHA256 ? 32 : kind == DIGEST_SHA1 ? 20 : 0;
}

static bool read_sum(const char *text, size_t len, enum digest_kind kind, struct digest *out)
{
    size_t got;
    if (len > 64)
        return false;
    AUTO_FREE char *sum = base64_decode(text, len, &got);
    if (!sum || got != sum_size(kind))
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

struct digester {
    EVP_MD_CTX *md;
    bool failed;
};

struct digester *digester_new(enum digest_kind kind)
{
    struct digester *d = xcalloc(1, sizeof(*d));
    d->md = EVP_MD_CTX_new();
    d->failed =
        !d->md || EVP_DigestInit_ex(d->md, kind == DIGEST_SHA1 ? EVP_sha1() : EVP_sha256(), NULL) != 1;
    return d;
}

void digester_add(struct digester *d, const void *data, size_t len)
{
    d->failed = d->failed || EVP_DigestUpdate(d->md, data, len) != 1;
}

bool digester_fits(struct digester *d, const struct digest *expected)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    bool fits = !d->failed && EVP_DigestFinal_ex(d->md, sum, &len) == 1 && len == sum_size(expected->kind) &&
                memcmp(sum, expected->sum, len) == 0;
    digester_free(d);
    return fits;
}

void digester_free(struct digester *d)
{
    if (!d)
        return;
    EVP_MD_CTX_free(d->md);
    free(d);
}
