/* Certificates: making the CA, requests, leaves. Checks are in pki_check.c. */
#include "pki_internal.h"
#include <base/file.h>
#include <base/mem.h>
#include <base/pki.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#define FILE_MAX (256 * 1024)

int pki_fail(struct pki_error *error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(error->text, sizeof(error->text), format, ap);
    va_end(ap);
    ERR_clear_error();
    return -1;
}

/* ---- PEM in and out ---- */

static BIO *bio_of(const char *text, size_t len)
{
    return BIO_new_mem_buf(text, len > INT32_MAX ? INT32_MAX : (int)len);
}

X509 *pki_read_cert(const char *pem, size_t len)
{
    CLEANUP(pki_bio_free) BIO *bio = bio_of(pem, len);
    return PEM_read_bio_X509(bio, NULL, NULL, NULL);
}

static char *bio_take(BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    return xstrndup(data, len > 0 ? (size_t)len : 0);
}

static char *cert_pem(X509 *cert)
{
    CLEANUP(pki_bio_free) BIO *bio = BIO_new(BIO_s_mem());
    return PEM_write_bio_X509(bio, cert) == 1 ? bio_take(bio) : NULL;
}

/* A pass phrase prompt must never appear in a daemon. */
static int no_pass_phrase(char *buffer, int size, int writing, void *arg)
{
    (void)buffer, (void)size, (void)writing, (void)arg;
    return -1;
}

EVP_PKEY *pki_read_key(const char *key_file, struct pki_error *error)
{
    size_t len;
    AUTO_SECRET char *pem = file_read(key_file, FILE_MAX, &len);
    if (!pem) {
        pki_fail(error, "cannot read the key %s: %s", key_file, strerror(errno));
        return NULL;
    }
    CLEANUP(pki_bio_free) BIO *bio = bio_of(pem, len);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, NULL);
    if (!key)
        pki_fail(error, "%s holds no private key", key_file);
    return key;
}

static int write_key(EVP_PKEY *key, const char *key_file, struct pki_error *error)
{
    CLEANUP(pki_bio_free) BIO *bio = BIO_new(BIO_s_secmem());
    char *data;
    if (PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return pki_fail(error, "cannot encode a key");
    long len = BIO_get_mem_data(bio, &data);
    if (file_write_atomic(key_file, data, (size_t)len, 0600) < 0)
        return pki_fail(error, "cannot write the key %s: %s", key_file, strerror(errno));
    return 0;
}

static EVP_PKEY *new_key(void)
{
    return EVP_EC_gen("P-256");
}

static bool file_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* ---- building a certificate ---- */

static bool set_name(X509_NAME *name, const char *common_name)
{
    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1,
                                      0) == 1;
}

/* 127 random bits: positive, not zero in practice, never repeated. */
static bool set_serial(X509 *cert)
{
    uint8_t bytes[16];
    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return false;
    bytes[0] &= 0x7f;
    BIGNUM *n = BN_bin2bn(bytes, sizeof(bytes), NULL);
    bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
    BN_free(n);
    return ok;
}

static bool set_validity(X509 *cert, unsigned days)
{
    return X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
           X509_time_adj_ex(X509_getm_notAfter(cert), (int)days, 0, NULL);
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

/* Names are made as structures, never as configuration text: no name can smuggle in a second one. */
static bool push_name(GENERAL_NAMES *names, int type, ASN1_STRING *moved)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    if (!moved || !name || sk_GENERAL_NAME_push(names, name) == 0) {
        ASN1_STRING_free(moved);
        GENERAL_NAME_free(name);
        return false;
    }
    GENERAL_NAME_set0_value(name, type, moved);
    return true;
}

static bool is_dns_name(const char *s)
{
    size_t len = strlen(s);
    return len > 0 && len < 254 &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == len;
}

static bool add_alternative_names(X509 *cert, const struct pki_leaf *leaf)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    bool ok = names != NULL;
    for (size_t i = 0; ok && leaf->dns && leaf->dns[i]; i++) {
        ASN1_IA5STRING *text = ASN1_IA5STRING_new();
        ok = is_dns_name(leaf->dns[i]) && text && ASN1_STRING_set(text, leaf->dns[i], -1) == 1;
        if (ok)
            ok = push_name(names, GEN_DNS, text);
        else
            ASN1_STRING_free(text);
    }
    for (size_t i = 0; ok && leaf->ip && leaf->ip[i]; i++)
        ok = push_name(names, GEN_IPADD, a2i_IPADDRESS(leaf->ip[i]));
    if (ok && sk_GENERAL_NAME_num(names) > 0)
        ok = X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return ok;
}

static X509 *new_cert(EVP_PKEY *key, const char *common_name, unsigned days)
{
    CLEANUP(pki_cert_free) X509 *cert = X509_new();
    if (!cert || X509_set_version(cert, X509_VERSION_3) != 1 || !set_serial(cert) ||
        !set_validity(cert, days) || !set_name(X509_get_subject_name(cert), common_name) ||
        X509_set_pubkey(cert, key) != 1)
        return NULL;
    return TAKE_PTR(cert);
}

int pki_create_ca(const char *common_name, unsigned days, const char *cert_file, const char *key_file,
                  struct pki_error *error)
{
    if (file_exists(cert_file) || file_exists(key_file))
        return pki_fail(error, "%s or %s is already there", cert_file, key_file);
    CLEANUP(pki_key_free) EVP_PKEY *key = new_key();
    CLEANUP(pki_cert_free) X509 *cert = key ? new_cert(key, common_name, days) : NULL;
    if (!cert || X509_set_issuer_name(cert, X509_get_subject_name(cert)) != 1 ||
        !add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(cert, cert, NID_subject_key_identifier, "hash") ||
        X509_sign(cert, key, EVP_sha256()) == 0)
        return pki_fail(error, "cannot make the CA's certificate");
    AUTO_FREE char *pem = cert_pem(cert);
    if (!pem || write_key(key, key_file, error) < 0)
        return pem ? -1 : pki_fail(error, "cannot encode a certificate");
    if (file_write_atomic(cert_file, pem, strlen(pem), 0644) < 0) {
        pki_fail(error, "cannot write %s: %s", cert_file, strerror(errno));
        unlink(key_file); /* a key without its certificate would block the next attempt */
        return -1;
    }
    return 0;
}

int pki_create_request(const char *common_name, const char *key_file, char **csr_pem, struct pki_error *error)
{
    CLEANUP(pki_key_free) EVP_PKEY *key = NULL;
    if (file_exists(key_file)) {
        key = pki_read_key(key_file, error);
        if (!key)
            return -1;
    } else {
        key = new_key();
        if (!key)
            return pki_fail(error, "cannot make a key");
        if (write_key(key, key_file, error) < 0)
            return -1;
    }
    CLEANUP(pki_request_free) X509_REQ *request = X509_REQ_new();
    CLEANUP(pki_bio_free) BIO *bio = BIO_new(BIO_s_mem());
    if (!request || !bio || X509_REQ_set_version(request, X509_REQ_VERSION_1) != 1 ||
        !set_name(X509_REQ_get_subject_name(request), common_name) ||
        X509_REQ_set_pubkey(request, key) != 1 || X509_REQ_sign(request, key, EVP_sha256()) == 0 ||
        PEM_write_bio_X509_REQ(bio, request) != 1)
        return pki_fail(error, "cannot make a certificate request");
    *csr_pem = bio_take(bio);
    return 0;
}

/* ---- issuing ---- */

struct issuer {
    X509 *cert;
    EVP_PKEY *key;
};

static void issuer_done(struct issuer *issuer)
{
    X509_free(issuer->cert);
    EVP_PKEY_free(issuer->key);
}

static int issuer_load(const char *cert_file, const char *key_file, struct issuer *issuer,
                       struct pki_error *error)
{
    size_t len;
    AUTO_FREE char *pem = file_read(cert_file, FILE_MAX, &len);
    if (!pem)
        return pki_fail(error, "cannot read %s: %s", cert_file, strerror(errno));
    issuer->cert = pki_read_cert(pem, len);
    if (!issuer->cert)
        return pki_fail(error, "%s holds no certificate", cert_file);
    issuer->key = pki_read_key(key_file, error);
    if (!issuer->key)
        return -1;
    if (X509_check_private_key(issuer->cert, issuer->key) != 1)
        return pki_fail(error, "%s and %s do not belong together", cert_file, key_file);
    return 0;
}

static const char *usage_text(unsigned usage)
{
    switch (usage) {
    case PKI_SERVER:
        return "serverAuth";
    case PKI_CLIENT:
        return "clientAuth";
    case PKI_SERVER | PKI_CLIENT:
        return "serverAuth,clientAuth";
    default:
        return NULL;
    }
}

static char *issue(const struct issuer *issuer, EVP_PKEY *key, const struct pki_leaf *leaf,
                   struct pki_error *error)
{
    CLEANUP(pki_cert_free) X509 *cert = new_cert(key, leaf->common_name, leaf->days);
    const char *usage = usage_text(leaf->usage);
    if (!cert || !usage || X509_set_issuer_name(cert, X509_get_subject_name(issuer->cert)) != 1 ||
        !add_extension(cert, issuer->cert, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(cert, issuer->cert, NID_key_usage, "critical,digitalSignature") ||
        !add_extension(cert, issuer->cert, NID_ext_key_usage, usage) ||
        !add_extension(cert, issuer->cert, NID_subject_key_identifier, "hash") ||
        !add_extension(cert, issuer->cert, NID_authority_key_identifier, "keyid:always") ||
        !add_alternative_names(cert, leaf) || X509_sign(cert, issuer->key, EVP_sha256()) == 0) {
        pki_fail(error,
                 "cannot issue a certificate for %s: a name or address is malformed, or the usage is missing",
                 leaf->common_name);
        return NULL;
    }
    char *pem = cert_pem(cert);
    if (!pem)
        pki_fail(error, "cannot encode a certificate");
    return pem;
}

static bool key_is_strong(EVP_PKEY *key)
{
    char group[32];
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_EC:
        return EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1 &&
               (streq(group, "prime256v1") || streq(group, "P-256") || streq(group, "secp384r1") ||
                streq(group, "P-384"));
    case EVP_PKEY_RSA:
        return EVP_PKEY_get_bits(key) >= 2048 && EVP_PKEY_get_bits(key) <= 8192;
    default:
        return false;
    }
}

int pki_issue_from_request(const char *ca_cert_file, const char *ca_key_file, const char *csr_pem,
                           size_t csr_len, const struct pki_leaf *leaf, char **out, struct pki_error *error)
{
    if (csr_len > 16384)
        return pki_fail(error, "the certificate request is too long");
    CLEANUP(pki_bio_free) BIO *bio = bio_of(csr_pem, csr_len);
    CLEANUP(pki_request_free) X509_REQ *request = PEM_read_bio_X509_REQ(bio, NULL, no_pass_phrase, NULL);
    if (!request)
        return pki_fail(error, "the text is not a certificate request");
    EVP_PKEY *key = X509_REQ_get0_pubkey(request);
    if (!key || !key_is_strong(key))
        return pki_fail(error, "the request's key is not EC P-256, P-384 or RSA of 2,048 bits and more");
    if (X509_REQ_verify(request, key) != 1)
        return pki_fail(error, "the request's signature is wrong");
    CLEANUP(issuer_done) struct issuer issuer = {0};
    if (issuer_load(ca_cert_file, ca_key_file, &issuer, error) < 0)
        return -1;
    char *pem = issue(&issuer, key, leaf, error);
    if (!pem)
        return -1;
    *out = pem;
    return 0;
}

int pki_issue_files(const char *ca_cert_file, const char *ca_key_file, const struct pki_leaf *leaf,
                    const char *cert_file, const char *key_file, struct pki_error *error)
{
    CLEANUP(issuer_done) struct issuer issuer = {0};
    if (issuer_load(ca_cert_file, ca_key_file, &issuer, error) < 0)
        return -1;
    CLEANUP(pki_key_free) EVP_PKEY *key = new_key();
    if (!key)
        return pki_fail(error, "cannot make a key");
    AUTO_FREE char *pem = issue(&issuer, key, leaf, error);
    AUTO_FREE char *ca_pem = pem ? cert_pem(issuer.cert) : NULL;
    if (!ca_pem || write_key(key, key_file, error) < 0)
        return -1;
    AUTO_FREE char *chain = xasprintf("%s%s", pem, ca_pem);
    if (file_write_atomic(cert_file, chain, strlen(chain), 0644) < 0)
        return pki_fail(error, "cannot write %s: %s", cert_file, strerror(errno));
    return 0;
}
