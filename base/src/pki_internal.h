/* Shared by pki.c and pki_check.c. */
#pragma once
#include <base/pki.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

/* Always -1. */
int pki_fail(struct pki_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The first certificate; NULL: none. */
X509 *pki_read_cert(const char *pem, size_t len);
EVP_PKEY *pki_read_key(const char *key_file, struct pki_error *error);

static inline void pki_bio_free(BIO **bio)
{
    BIO_free(*bio);
}
static inline void pki_cert_free(X509 **cert)
{
    X509_free(*cert);
}
static inline void pki_key_free(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}
static inline void pki_request_free(X509_REQ **request)
{
    X509_REQ_free(*request);
}
