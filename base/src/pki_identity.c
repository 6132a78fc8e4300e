/* Certificates that come from outside: what is in them, and whether a server can use them. */
#include "pki_internal.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/mem.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 4096

/* ---- facts ---- */

static bool fingerprint(X509 *cert, const EVP_MD *digest, char *out, size_t size)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (X509_digest(cert, digest, bytes, &len) != 1 || 3 * len > size)
        return false;
    for (unsigned i = 0; i < len; i++)
        snprintf(out + 3 * i, 4 - (i + 1 == len), "%02X%s", bytes[i], i + 1 < len ? ":" : "");
    return true;
}

static bool seconds_of(const ASN1_TIME *time, long long *out)
{
    struct tm parts;
    if (!time || ASN1_TIME_to_tm(time, &parts) != 1)
        return false;
    *out = timegm(&parts);
    return true;
}

static int describe(X509 *cert, struct pki_facts *out)
{
    struct pki_facts facts = {.ca = X509_check_ca(cert) == 1};
    if (!seconds_of(X509_get0_notBefore(cert), &facts.not_before) ||
        !seconds_of(X509_get0_notAfter(cert), &facts.not_after) ||
        !fingerprint(cert, EVP_sha256(), facts.sha256, sizeof(facts.sha256)) ||
        !fingerprint(cert, EVP_sha1(), facts.sha1, sizeof(facts.sha1)))
        return -1;
    *out = facts;
    return 0;
}

char *pki_validity(long long not_before, long long not_after, char out[static PKI_VALIDITY_SIZE])
{
    char from[RFC3339_SIZE], to[RFC3339_SIZE], now[RFC3339_SIZE];
    snprintf(out, PKI_VALIDITY_SIZE, "it is good from %s to %s, and the clock here says %s",
             rfc3339_format(not_before, from), rfc3339_format(not_after, to),
             rfc3339_format(clock_unix_seconds(), now));
    return out;
}

int pki_describe(const char *cert_pem, size_t len, struct pki_facts *out, struct pki_error *error)
{
    CLEANUP(pki_cert_free) X509 *cert = pki_read_cert(cert_pem, len);
    if (!cert || describe(cert, out) < 0)
        return pki_fail(error, "the text holds no certificate");
    return 0;
}

/* NULL: none. */
static char *first_dns_name(X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    char *found = NULL;
    for (int i = 0; !found && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_DNS)
            found = xstrndup((const char *)ASN1_STRING_get0_data(name->d.dNSName),
                             (size_t)ASN1_STRING_length(name->d.dNSName));
    }
    GENERAL_NAMES_free(names);
    return found;
}

char *pki_dns_name(const char *cert_pem, size_t len)
{
    CLEANUP(pki_cert_free) X509 *cert = pki_read_cert(cert_pem, len);
    char common[256] = "";
    if (!cert)
        return xstrdup("");
    X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, common, sizeof(common));
    if (*common && X509_check_host(cert, common, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1)
        return xstrdup(common);
    char *name = first_dns_name(cert);
    return name ? name : xstrdup("");
}

static bool add_cert(struct buf *out, X509 *cert)
{
    CLEANUP(pki_bio_free) BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    if (!bio || PEM_write_bio_X509(bio, cert) != 1)
        return false;
    long len = BIO_get_mem_data(bio, &data);
    buf_add(out, data, len > 0 ? (size_t)len : 0);
    return true;
}

char *pki_normalized(const char *cert_pem, size_t len)
{
    CLEANUP(pki_cert_free) X509 *cert = pki_read_cert(cert_pem, len);
    struct buf out = BUF_INIT;
    bool ok = cert && add_cert(&out, cert);
    ERR_clear_error();
    if (ok)
        return buf_take(&out);
    buf_done(&out);
    return NULL;
}

/* How many certificates were added; -1: what begins like one is none. */
static int add_certs(struct buf *out, const char *pem)
{
    int count = 0;
    bool ok = true;
    CLEANUP(pki_bio_free) BIO *bio = BIO_new_mem_buf(pem, -1);
    for (X509 *cert; ok && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)); X509_free(cert), count++)
        ok = add_cert(out, cert);
    if (ok && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        ok = false;
    ERR_clear_error();
    return ok ? count : -1;
}

char *pki_certificates_of(const char *pem)
{
    struct buf out = BUF_INIT;
    add_certs(&out, pem);
    return buf_take(&out);
}

bool pki_is_crl(const char *pem, size_t len)
{
    CLEANUP(pki_bio_free) BIO *bio = BIO_new_mem_buf(pem, len > INT32_MAX ? 0 : (int)len);
    X509_CRL *crl = bio ? PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL) : NULL;
    bool is = crl != NULL;
    X509_CRL_free(crl);
    ERR_clear_error();
    return is;
}

/* ---- an identity ---- */

static int blame(struct pki_identity_fault *fault, enum pki_fault kind, const char *detail)
{
    fault->kind = kind;
    snprintf(fault->detail, sizeof(fault->detail), "%s", detail);
    ERR_clear_error();
    return -1;
}

/* A pass phrase prompt must never appear in a daemon. */
static int no_pass_phrase(char *buffer, int size, int writing, void *arg)
{
    (void)buffer, (void)size, (void)writing, (void)arg;
    return -1;
}

static bool has_more_primes(EVP_PKEY *key)
{
    BIGNUM *third = NULL;
    bool has = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_FACTOR3, &third) == 1;
    BN_clear_free(third);
    ERR_clear_error();
    return has;
}

static int check_key(EVP_PKEY *key, struct pki_identity_fault *fault)
{
    char text[64];
    if (!key)
        return blame(fault, PKI_FAULT_KEY, "");
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
        ASN1_OBJECT *object = OBJ_nid2obj(EVP_PKEY_get_base_id(key));
        if (!object || OBJ_obj2txt(text, sizeof(text), object, 1) <= 0)
            text[0] = '\0';
        return blame(fault, PKI_FAULT_KEY_ALGORITHM, text);
    }
    if (has_more_primes(key))
        return blame(fault, PKI_FAULT_KEY_PRIMES, "");
    int bits = EVP_PKEY_get_bits(key);
    snprintf(text, sizeof(text), "%d", bits);
    return bits < RSA_BITS_MIN || bits > RSA_BITS_MAX ? blame(fault, PKI_FAULT_KEY_LENGTH, text) : 0;
}

static int check_cert(X509 *cert, EVP_PKEY *key, long long now, struct pki_identity_fault *fault)
{
    int digest = NID_undef;
    if (!cert || describe(cert, &fault->facts) < 0)
        return blame(fault, PKI_FAULT_CERTIFICATE, "");
    if (now < fault->facts.not_before)
        return blame(fault, PKI_FAULT_NOT_YET, "");
    if (now > fault->facts.not_after)
        return blame(fault, PKI_FAULT_EXPIRED, "");
    if (X509_check_private_key(cert, key) != 1)
        return blame(fault, PKI_FAULT_MISMATCH, "");
    if (X509_get_signature_info(cert, &digest, NULL, NULL, NULL) != 1 ||
        (digest != NID_sha256 && digest != NID_sha384 && digest != NID_sha512))
        return blame(fault, PKI_FAULT_SIGNATURE, "");
    return 0;
}

static bool add_key(struct buf *out, EVP_PKEY *key)
{
    CLEANUP(pki_bio_free) BIO *bio = BIO_new(BIO_s_secmem());
    char *data;
    if (!bio || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return false;
    long len = BIO_get_mem_data(bio, &data);
    buf_add(out, data, len > 0 ? (size_t)len : 0);
    return true;
}

int pki_make_identity(const char *cert_pem, const char *key_pem, const char *chain_pem, long long now,
                      char **out, struct pki_identity_fault *fault)
{
    CLEANUP(pki_bio_free) BIO *bio = BIO_new_mem_buf(key_pem, -1);
    CLEANUP(pki_key_free)
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, NULL) : NULL;
    if (check_key(key, fault) < 0)
        return -1;
    CLEANUP(pki_cert_free) X509 *cert = pki_read_cert(cert_pem, strlen(cert_pem));
    if (check_cert(cert, key, now, fault) < 0)
        return -1;
    struct buf chain = BUF_INIT, text = BUF_INIT;
    int rc = 0;
    if (*chain_pem && add_certs(&chain, chain_pem) <= 0)
        rc = blame(fault, PKI_FAULT_CHAIN, "");
    buf_reserve(&text,
                chain.len + 64 * 1024); /* it does not move any more: no copy of the key stays behind */
    if (rc == 0 && (!add_key(&text, key) || !add_cert(&text, cert)))
        rc = blame(fault, PKI_FAULT_KEY, "");
    if (rc == 0) {
        buf_add(&text, chain.data ? chain.data : "", chain.len);
        *out = buf_take(&text);
    } else if (text.data) {
        secret_wipe(text.data, text.len);
    }
    buf_done(&chain);
    buf_done(&text);
    return rc;
}
