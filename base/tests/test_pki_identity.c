/* Certificates that somebody brings along: what is refused, and why. */
#include <base/mem.h>
#include <base/pki.h>
#include <criterion/criterion.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#define BEGIN 1700000000
#define END (BEGIN + 86400)

static char *text_of(BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    char *text = xstrndup(data, (size_t)len);
    BIO_free(bio);
    return text;
}

static char *key_text(EVP_PKEY *key, const EVP_CIPHER *cipher)
{
    BIO *bio = BIO_new(BIO_s_mem());
    cr_assert_eq(PEM_write_bio_PrivateKey(bio, key, cipher, cipher ? (const unsigned char *)"pass" : NULL,
                                          cipher ? 4 : 0, NULL, NULL),
                 1);
    return text_of(bio);
}

static char *cert_text(EVP_PKEY *key, const EVP_MD *digest)
{
    X509 *cert = X509_new();
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 7);
    ASN1_TIME_set(X509_getm_notBefore(cert), BEGIN);
    ASN1_TIME_set(X509_getm_notAfter(cert), END);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)"it",
                               -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_set_pubkey(cert, key);
    cr_assert_neq(X509_sign(cert, key, digest), 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, cert);
    X509_free(cert);
    return text_of(bio);
}

static EVP_PKEY *rsa_of(unsigned bits, int primes)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, NULL);
    EVP_PKEY *key = NULL;
    cr_assert(
        EVP_PKEY_keygen_init(context) == 1 && EVP_PKEY_CTX_set_rsa_keygen_bits(context, (int)bits) == 1 &&
        EVP_PKEY_CTX_set_rsa_keygen_primes(context, primes) == 1 && EVP_PKEY_keygen(context, &key) == 1);
    EVP_PKEY_CTX_free(context);
    return key;
}

Test(pki_identity, each_fault_has_its_name)
{
    EVP_PKEY *good = rsa_of(2048, 2), *other = rsa_of(2048, 2), *small = rsa_of(1024, 2),
             *multi = rsa_of(2048, 3), *curve = EVP_EC_gen("P-256");
    AUTO_FREE char *cert = cert_text(good, EVP_sha256()), *weak = cert_text(good, EVP_sha1());
    AUTO_FREE char *key = key_text(good, NULL), *other_key = key_text(other, NULL),
                   *small_key = key_text(small, NULL), *multi_key = key_text(multi, NULL),
                   *curve_key = key_text(curve, NULL), *closed_key = key_text(good, EVP_aes_128_cbc());
    AUTO_FREE char *cut = xstrndup(cert, strlen(cert) / 2);
    const struct {
        const char *name, *cert, *key, *chain;
        long long now;
        int fault; /* -1: none */
        const char *detail;
    } cases[] = {
        {"good", cert, key, "", BEGIN + 1, -1, ""},
        {"with a chain", cert, key, cert, BEGIN + 1, -1, ""},
        {"last second", cert, key, "", END, -1, ""},
        {"no key", cert, "", "", BEGIN, PKI_FAULT_KEY, ""},
        {"a certificate for a key", cert, cert, "", BEGIN, PKI_FAULT_KEY, ""},
        {"a pass phrase", cert, closed_key, "", BEGIN, PKI_FAULT_KEY, ""},
        {"a curve", cert, curve_key, "", BEGIN, PKI_FAULT_KEY_ALGORITHM, "1.2.840.10045.2.1"},
        {"too short", cert, small_key, "", BEGIN, PKI_FAULT_KEY_LENGTH, "1024"},
        {"three primes", cert, multi_key, "", BEGIN, PKI_FAULT_KEY_PRIMES, ""},
        {"no certificate", key, key, "", BEGIN, PKI_FAULT_CERTIFICATE, ""},
        {"half a certificate", cut, key, "", BEGIN, PKI_FAULT_CERTIFICATE, ""},
        {"too early", cert, key, "", BEGIN - 1, PKI_FAULT_NOT_YET, ""},
        {"too late", cert, key, "", END + 1, PKI_FAULT_EXPIRED, ""},
        {"of another", cert, other_key, "", BEGIN, PKI_FAULT_MISMATCH, ""},
        {"SHA-1", weak, key, "", BEGIN, PKI_FAULT_SIGNATURE, ""},
        {"chain of nothing", cert, key, "chain", BEGIN, PKI_FAULT_CHAIN, ""},
        {"chain of a half", cert, key, cut, BEGIN, PKI_FAULT_CHAIN, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pki_identity_fault fault = {0};
        char *out = NULL;
        int rc = pki_make_identity(cases[i].cert, cases[i].key, cases[i].chain, cases[i].now, &out, &fault);
        cr_expect_eq(rc, cases[i].fault < 0 ? 0 : -1, "%s", cases[i].name);
        if (rc < 0) {
            cr_expect_eq((int)fault.kind, cases[i].fault, "%s: %d", cases[i].name, fault.kind);
            cr_expect_str_eq(fault.detail, cases[i].detail, "%s", cases[i].name);
            continue;
        }
        AUTO_FREE char *public = pki_certificates_of(out);
        cr_expect_not_null(strstr(out, "PRIVATE KEY"), "%s", cases[i].name);
        cr_expect_null(strstr(public, "PRIVATE KEY"), "%s", cases[i].name);
        cr_expect_eq(strncmp(public, cert, strlen(cert)), 0, "%s", cases[i].name);
        cr_expect_eq(strlen(public), strlen(cert) * (*cases[i].chain ? 2 : 1), "%s", cases[i].name);
        free(out);
    }
    EVP_PKEY *const keys[] = {good, other, small, multi, curve};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        EVP_PKEY_free(keys[i]);
}

Test(pki_identity, facts)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    AUTO_FREE char *cert = cert_text(key, EVP_sha256());
    AUTO_FREE char *padded = xasprintf("# a comment\n%s\nrest", cert);
    struct pki_facts facts;
    struct pki_error error;
    cr_assert_eq(pki_describe(padded, strlen(padded), &facts, &error), 0, "%s", error.text);
    cr_assert_eq(facts.not_before, BEGIN);
    cr_assert_eq(facts.not_after, END);
    cr_assert_not(facts.ca);
    cr_assert_eq(strlen(facts.sha256), 32 * 3 - 1);
    cr_assert_eq(strlen(facts.sha1), 20 * 3 - 1);
    AUTO_FREE char *normal = pki_normalized(padded, strlen(padded));
    cr_assert_str_eq(normal, cert);
    cr_assert_null(pki_normalized("x", 1));
    cr_assert_eq(pki_describe("x", 1, &facts, &error), -1);
    cr_assert_not(pki_is_crl(cert, strlen(cert)));
    EVP_PKEY_free(key);
}
