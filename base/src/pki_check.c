/* Looking at certificates: fingerprint, chain, name, end. */
#include "pki_internal.h"
#include <base/mem.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <time.h>

int pki_fingerprint(const char *cert_pem, size_t len, char out[static SHA256_TEXT_SIZE],
                    struct pki_error *error)
{
    CLEANUP(pki_cert_free) X509 *cert = pki_read_cert(cert_pem, len);
    if (!cert)
        return pki_fail(error, "the text holds no certificate");
    unsigned char *der = NULL;
    int der_len = i2d_X509(cert, &der);
    if (der_len < 0)
        return pki_fail(error, "cannot encode a certificate");
    sha256_text(der, (size_t)der_len, out);
    OPENSSL_free(der);
    return 0;
}

static void store_free(X509_STORE **store)
{
    X509_STORE_free(*store);
}

static void store_context_free(X509_STORE_CTX **context)
{
    X509_STORE_CTX_free(*context);
}

static int add_all(X509_STORE *store, const char *pem)
{
    int count = 0;
    CLEANUP(pki_bio_free) BIO *bio = BIO_new_mem_buf(pem, -1);
    for (X509 *cert; (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)); X509_free(cert))
        count += X509_STORE_add_cert(store, cert) == 1;
    ERR_clear_error(); /* the end of the text counts as one */
    return count;
}

int pki_check(const char *cert_pem, const char *ca_pem, enum pki_usage usage, const char *name,
              struct pki_error *error)
{
    CLEANUP(pki_cert_free) X509 *cert = pki_read_cert(cert_pem, strlen(cert_pem));
    CLEANUP(store_free) X509_STORE *store = X509_STORE_new();
    CLEANUP(store_context_free) X509_STORE_CTX *context = X509_STORE_CTX_new();
    if (!cert)
        return pki_fail(error, "the text holds no certificate");
    if (!store || !context || add_all(store, ca_pem) == 0)
        return pki_fail(error, "there is no CA certificate to check against");
    if (X509_STORE_CTX_init(context, store, cert, NULL) != 1)
        return pki_fail(error, "cannot prepare the check");
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(context);
    X509_VERIFY_PARAM_set_purpose(param,
                                  usage == PKI_SERVER ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT);
    if (X509_verify_cert(context) != 1)
        return pki_fail(error, "the certificate is refused: %s",
                        X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
    if (name && X509_check_host(cert, name, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) != 1 &&
        X509_check_ip_asc(cert, name, 0) != 1)
        return pki_fail(error, "the certificate is not for %s", name);
    return 0;
}

int pki_expiry(const char *cert_pem, long long *unix_seconds, struct pki_error *error)
{
    CLEANUP(pki_cert_free) X509 *cert = pki_read_cert(cert_pem, strlen(cert_pem));
    struct tm end;
    if (!cert || ASN1_TIME_to_tm(X509_get0_notAfter(cert), &end) != 1)
        return pki_fail(error, "the text holds no certificate");
    *unix_seconds = timegm(&end);
    return 0;
}

bool pki_key_matches(const char *cert_pem, const char *key_file)
{
    struct pki_error ignored;
    CLEANUP(pki_cert_free) X509 *cert = pki_read_cert(cert_pem, strlen(cert_pem));
    CLEANUP(pki_key_free) EVP_PKEY *key = cert ? pki_read_key(key_file, &ignored) : NULL;
    bool matches = key && X509_check_private_key(cert, key) == 1;
    ERR_clear_error();
    return matches;
}
