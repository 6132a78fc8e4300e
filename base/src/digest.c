#include <base/digest.h>
#include <base/mem.h>
#include <openssl/evp.h>
#include <stdio.h>

struct digester {
    enum digest_kind kind;
    EVP_MD_CTX *md;
    bool failed;
};

size_t digest_size(enum digest_kind kind)
{
    static const size_t sizes[] = {[DIGEST_MD5] = 16, [DIGEST_SHA1] = 20, [DIGEST_SHA256] = DIGEST_SIZE};
    return sizes[kind];
}

char *digest_text(enum digest_kind kind, const unsigned char sum[static DIGEST_SIZE],
                  char out[static DIGEST_TEXT_SIZE])
{
    *out = '\0';
    for (size_t i = 0; i < digest_size(kind); i++)
        snprintf(out + 2 * i, 3, "%02x", sum[i]);
    return out;
}

void digester_reset(struct digester *d)
{
    const EVP_MD *kind = d->kind == DIGEST_MD5    ? EVP_md5()
                         : d->kind == DIGEST_SHA1 ? EVP_sha1()
                                                  : EVP_sha256();
    d->failed = !d->md || EVP_DigestInit_ex(d->md, kind, NULL) != 1;
}

struct digester *digester_new(enum digest_kind kind)
{
    struct digester *d = xcalloc(1, sizeof(*d));
    d->kind = kind;
    d->md = EVP_MD_CTX_new();
    digester_reset(d);
    return d;
}

void digester_add(struct digester *d, const void *data, size_t len)
{
    d->failed = d->failed || EVP_DigestUpdate(d->md, data, len) != 1;
}

bool digester_end(struct digester *d, unsigned char sum[static DIGEST_SIZE])
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    bool ok = !d->failed && EVP_DigestFinal_ex(d->md, bytes, NULL) == 1;
    memcpy(sum, bytes, ok ? digest_size(d->kind) : 0);
    return ok;
}

bool digest_of(enum digest_kind kind, const void *data, size_t len, unsigned char sum[static DIGEST_SIZE])
{
    AUTO_DIGESTER struct digester *d = digester_new(kind);
    digester_add(d, data, len);
    return digester_end(d, sum);
}

void digester_free(struct digester *d)
{
    if (!d)
        return;
    EVP_MD_CTX_free(d->md);
    free(d);
}

void digester_free_cleanup(struct digester **d)
{
    digester_free(*d);
}
