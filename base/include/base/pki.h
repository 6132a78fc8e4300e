/* The pool's own certificates: X.509 with EC P-256 keys, by OpenSSL. Certificates and requests travel
 * as PEM text; keys stay in files of mode 0600. Any thread. Functions give 0, or -1 with a sentence for
 * the log in *error (a struct of the caller's). */
#pragma once
#include <base/secret.h>
#include <stdbool.h>
#include <stddef.h>

struct pki_error {
    char text[200];
};

enum pki_usage { PKI_SERVER = 1, PKI_CLIENT = 2 };

/* What the issuer states about a leaf. Names in a request are ignored. */
struct pki_leaf {
    const char *common_name;
    const char *const *dns; /* each list ended by NULL; NULL: none */
    const char *const *ip;  /* numeric addresses */
    unsigned usage;         /* PKI_SERVER | PKI_CLIENT */
    unsigned days;          /* of validity; it starts an hour in the past, for clocks that differ */
};

/* Makes a CA: self-signed certificate and key, written atomically; the key first. Refuses to overwrite. */
int pki_create_ca(const char *common_name, unsigned days, const char *cert_file, const char *key_file,
                  struct pki_error *error);
/* Makes a key file unless there is one, and gives a request signed by it (PEM, caller frees). */
int pki_create_request(const char *common_name, const char *key_file, char **csr_pem,
                       struct pki_error *error);
/* Issues a certificate for the key in a request. The request's own signature must be right, its key
 * EC P-256 (or P-384) or RSA of at least 2,048 bits. The caller frees *cert_pem. */
int pki_issue_from_request(const char *ca_cert_file, const char *ca_key_file, const char *csr_pem,
                           size_t csr_len, const struct pki_leaf *leaf, char **cert_pem,
                           struct pki_error *error);
/* Makes a key and a certificate for it, and writes both files (the certificate file holds leaf, then CA). */
int pki_issue_files(const char *ca_cert_file, const char *ca_key_file, const struct pki_leaf *leaf,
                    const char *cert_file, const char *key_file, struct pki_error *error);

/* sha256 of the DER of the first certificate in a PEM text. */
int pki_fingerprint(const char *cert_pem, size_t len, char out[static SHA256_TEXT_SIZE],
                    struct pki_error *error);
/* Checks the first certificate of `cert_pem` against the CA certificates in `ca_pem`: signature, time, usage
 * and, if not NULL, the DNS name or numeric IP address. */
int pki_check(const char *cert_pem, const char *ca_pem, enum pki_usage usage, const char *name,
              struct pki_error *error);
/* Unix second at which the first certificate ends. */
int pki_expiry(const char *cert_pem, long long *unix_seconds, struct pki_error *error);
/* True if the certificate (its first, in the file) and the key in the file belong together. */
bool pki_key_matches(const char *cert_pem, const char *key_file);

/* What is told of a certificate: the first of a PEM text, which holds no key. */
#define PKI_SHA256_SIZE (3 * 32)
struct pki_facts {
    long long not_before, not_after; /* Unix seconds */
    char sha256[PKI_SHA256_SIZE];    /* of its DER, "AB:CD:..." */
    char sha1[3 * 20];
    bool ca; /* it may sign others */
};
int pki_describe(const char *cert_pem, size_t len, struct pki_facts *out, struct pki_error *error);
/* "it is good from ... to ..., and the clock here says ...": for whoever is told that it is not good now. */
#define PKI_VALIDITY_SIZE 128
char *pki_validity(long long not_before, long long not_after, char out[static PKI_VALIDITY_SIZE]);
/* The name to check it for: its common name where it is one of its DNS names, else the first of those; heap,
 * "" when it has none. */
char *pki_dns_name(const char *cert_pem, size_t len);
/* The same certificate, alone and as this library writes PEM; heap, NULL: none in the text. */
char *pki_normalized(const char *cert_pem, size_t len);
/* Is this one revocation list in PEM? */
bool pki_is_crl(const char *pem, size_t len);

/* What may be wrong with a certificate and key that somebody brings along. */
enum pki_fault {
    PKI_FAULT_KEY,           /* no private key, or one with a pass phrase */
    PKI_FAULT_KEY_ALGORITHM, /* not RSA; detail: its object identifier */
    PKI_FAULT_KEY_LENGTH,    /* RSA of less than 2,048 or more than 4,096 bits; detail: how many */
    PKI_FAULT_KEY_PRIMES,    /* RSA of more than two primes */
    PKI_FAULT_CERTIFICATE,   /* none in the text */
    PKI_FAULT_NOT_YET,
    PKI_FAULT_EXPIRED,
    PKI_FAULT_MISMATCH,  /* the key is of another certificate */
    PKI_FAULT_SIGNATURE, /* not made with SHA-256, SHA-384 or SHA-512 */
    PKI_FAULT_CHAIN,     /* text, but no certificate in it */
};
struct pki_identity_fault {
    enum pki_fault kind;
    char detail[64];
    struct pki_facts facts; /* from PKI_FAULT_NOT_YET on */
};
/* Looks at a certificate, its key and the chain ("": none) above it, all PEM, in the order of enum pki_fault.
 * 0 with one PEM text of key, certificate and chain (the caller's, to be wiped), or -1 with what is wrong. */
int pki_make_identity(const char *cert_pem, const char *key_pem, const char *chain_pem, long long now,
                      char **out, struct pki_identity_fault *fault);
/* The certificates of a PEM text without any key in it; heap, "" when there is none. */
char *pki_certificates_of(const char *pem);
