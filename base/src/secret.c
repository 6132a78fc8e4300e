/* Tokens, password hashes, constant-time comparison, hashes and base64, by OpenSSL. */
#include <base/buf.h>
#include <base/mem.h>
#include <base/secret.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>

static void random_bytes(uint8_t *to, size_t len)
{
    if (len > 256 || getrandom(to, len, 0) != (ssize_t)len)
        abort(); /* up to 256 bytes cannot be cut short or fail once the kernel's pool is ready */
}

/* ---- base64 ---- */

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static char *encode(const uint8_t *data, size_t len, const char *alphabet, bool pad)
{
    char *text = xmalloc((len + 2) / 3 * 4 + 1), *to = text;
    for (size_t i = 0; i < len; i += 3) {
        size_t have = len - i < 3 ? len - i : 3;
        uint32_t w = (uint32_t)data[i] << 16;
        w |= have > 1 ? (uint32_t)data[i + 1] << 8 : 0;
        w |= have > 2 ? data[i + 2] : 0;
        for (size_t k = 0; k < 4; k++) {
            if (k <= have)
                *to++ = alphabet[w >> (18 - 6 * k) & 63];
            else if (pad)
                *to++ = '=';
        }
    }
    *to = '\0';
    return text;
}

char *base64_encode(const void *data, size_t len)
{
    return encode(data, len, standard, true);
}

char *base64_decode(const char *text, size_t text_len, size_t *len)
{
    size_t padded = text_len;
    while (text_len > 0 && padded - text_len < 2 && text[text_len - 1] == '=')
        text_len--;
    if ((padded != text_len && padded % 4 != 0) || text_len % 4 == 1)
        return NULL;
    AUTO_FREE uint8_t *data = xmalloc(text_len / 4 * 3 + 3);
    size_t out = 0;
    uint32_t w = 0;
    for (size_t i = 0; i < text_len; i++) {
        const char *at = text[i] ? strchr(standard, text[i]) : NULL;
        if (!at)
            return NULL;
        w = w << 6 | (uint32_t)(at - standard);
        if (i % 4 != 0)
            data[out++] = (uint8_t)(w >> (6 - 2 * (i % 4)));
    }
    /* Bits beyond the last byte must be zero: one text for one value. */
    if ((text_len % 4 == 2 && (w & 15)) || (text_len % 4 == 3 && (w & 3)))
        return NULL;
    data[out] = 0;
    *len = out;
    return (char *)TAKE_PTR(data);
}

/* ---- tokens and comparison ---- */

char *secret_token(size_t bytes)
{
    uint8_t raw[64];
    if (bytes < 16 || bytes > sizeof(raw))
        abort();
    random_bytes(raw, bytes);
    char *text = encode(raw, bytes, url_safe, false);
    secret_wipe(raw, sizeof(raw));
    return text;
}

bool secret_equal(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && CRYPTO_memcmp(a, b, a_len) == 0;
}

bool secret_equal_text(const char *a, const char *b)
{
    return secret_equal(a, strlen(a), b, strlen(b));
}

void secret_wipe(void *p, size_t len)
{
    explicit_bzero(p, len);
}

void secret_free_cleanup(char **text)
{
    if (*text)
        secret_wipe(*text, strlen(*text));
    free(*text);
}

/* Looked up once: by its name, as SHA256() does each time, it takes as long as the hash of a line. */
static EVP_MD *sha256;
static void fetch_sha256(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

char *sha256_text(const void *data, size_t len, char out[static SHA256_TEXT_SIZE])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    pthread_once(&once, fetch_sha256);
    if (EVP_Digest(data, len, digest, NULL, sha256, NULL) != 1)
        abort(); /* only memory can be missing */
    for (size_t i = 0; i < sizeof(digest); i++) {
        out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    out[2 * sizeof(digest)] = '\0';
    return out;
}

/* ---- passwords ---- */

#define SALT_LEN 16
#define HASH_LEN 32
struct scrypt_cost {
    unsigned log_n, r, p;
};
static const struct scrypt_cost cost_now = {15, 8, 1};

static bool derive(const char *password, size_t len, const uint8_t *salt, size_t salt_len,
                   struct scrypt_cost cost, uint8_t out[static HASH_LEN])
{
    uint64_t memory = (UINT64_C(128) << cost.log_n) * cost.r + UINT64_C(1024) * 1024;
    return EVP_PBE_scrypt(password, len, salt, salt_len, UINT64_C(1) << cost.log_n, cost.r, cost.p, memory,
                          out, HASH_LEN) == 1;
}

static bool usable(const char *password, size_t len)
{
    return len > 0 && !memchr(password, '\0', len);
}

char *secret_hash_password(const char *password, size_t len)
{
    uint8_t salt[SALT_LEN], hash[HASH_LEN];
    if (!usable(password, len))
        return NULL;
    random_bytes(salt, sizeof(salt));
    if (!derive(password, len, salt, sizeof(salt), cost_now, hash))
        abort(); /* fixed parameters: only memory can be missing */
    AUTO_FREE char *salt_text = encode(salt, sizeof(salt), standard, false);
    AUTO_SECRET char *hash_text = encode(hash, sizeof(hash), standard, false);
    secret_wipe(hash, sizeof(hash));
    return xasprintf("$scrypt$ln=%u,r=%u,p=%u$%s$%s", cost_now.log_n, cost_now.r, cost_now.p, salt_text,
                     hash_text);
}

/* The text between *p and the next '$' or the end, decoded; steps behind it. */
static char *take_base64(const char **p, size_t *len)
{
    size_t text_len = strcspn(*p, "$");
    char *data = base64_decode(*p, text_len, len);
    *p += text_len;
    return data;
}

bool secret_verify_password(const char *password, size_t len, const char *hash)
{
    struct scrypt_cost cost;
    int used = 0;
    if (sscanf(hash, "$scrypt$ln=%2u,r=%2u,p=%2u$%n", &cost.log_n, &cost.r, &cost.p, &used) != 3 || used == 0)
        return false;
    /* Bounds on what a stored text can make this process do: at most 1 GiB. */
    if (cost.log_n < 1 || cost.log_n > 20 || cost.r < 1 || cost.r > 8 || cost.p < 1 || cost.p > 16)
        return false;
    const char *p = hash + used;
    size_t salt_len, want_len;
    AUTO_FREE char *salt = take_base64(&p, &salt_len);
    if (!salt || salt_len < 8 || *p++ != '$')
        return false;
    AUTO_FREE char *want = take_base64(&p, &want_len);
    if (!want || want_len != HASH_LEN || *p != '\0')
        return false;
    uint8_t got[HASH_LEN];
    bool fine = usable(password, len);
    /* A password that cannot be right costs the same time. */
    if (!derive(fine ? password : "x", fine ? len : 1, (uint8_t *)salt, salt_len, cost, got))
        return false;
    bool equal = CRYPTO_memcmp(got, want, HASH_LEN) == 0;
    secret_wipe(got, sizeof(got));
    return fine && equal;
}
