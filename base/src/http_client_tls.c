/* TLS beyond a CA file: trust in one certificate or root by its fingerprint, and knowing that the other side
 * refused us, and in words why a handshake failed. */
#include "http_client_internal.h"
#include <base/mem.h>
#include <base/pki.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

static int trust_index(void)
{
    static int index;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    if (index == 0)
        index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    pthread_mutex_unlock(&lock);
    return index;
}

/* What OpenSSL says when the other side has just closed is no verdict. */
static bool nothing_is_wrong(void)
{
    unsigned long error = ERR_peek_last_error();
    return error == 0 || ERR_GET_LIB(error) == ERR_LIB_SYS ||
           (ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING);
}

/* With TLS 1.3 a refused client certificate shows only when the answer is read. */
static void on_info(const SSL *ssl, int where, int ret)
{
    struct client_trust *t = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), trust_index());
    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && ret >> 8 == SSL3_AL_FATAL) {
        t->refused_by_peer = true;
        snprintf(t->why, sizeof(t->why), "the other side refuses: %s",
                 (ret & 0xff) == SSL_AD_CERTIFICATE_EXPIRED
                     ? "certificate expired, or not good yet by its clock"
                     : SSL_alert_desc_string_long(ret));
    }
    if (where == SSL_CB_CONNECT_EXIT) /* also whenever it waits for the other side */
        t->broken_off = ret <= 0 && !t->refused_by_peer && nothing_is_wrong();
}

static long long seconds_of(const ASN1_TIME *time)
{
    struct tm parts;
    return ASN1_TIME_to_tm(time, &parts) == 1 ? timegm(&parts) : 0;
}

/* What keeps the chain from being good: for dates, also which clock says so. */
static void note_why(struct client_trust *t, X509_STORE_CTX *context)
{
    int code = X509_STORE_CTX_get_error(context);
    const X509 *cert = X509_STORE_CTX_get_current_cert(context);
    const char *reason = X509_verify_cert_error_string(code);
    char name[41] = "", when[PKI_VALIDITY_SIZE];
    if (!cert || (code != X509_V_ERR_CERT_HAS_EXPIRED && code != X509_V_ERR_CERT_NOT_YET_VALID)) {
        snprintf(t->why, sizeof(t->why), "%s", reason);
        return;
    }
    X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name, sizeof(name));
    pki_validity(seconds_of(X509_get0_notBefore(cert)), seconds_of(X509_get0_notAfter(cert)), when);
    snprintf(t->why, sizeof(t->why), "%s ('%s'): %s", reason, name, when);
}

/* Changes no verdict. */
static int on_verdict(int good, X509_STORE_CTX *context)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx());
    if (!good)
        note_why(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), trust_index()), context);
    return good;
}

static bool fingerprint(X509 *cert, char out[static SHA256_TEXT_SIZE])
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    if (len < 0)
        return false;
    sha256_text(der, (size_t)len, out);
    OPENSSL_free(der);
    return true;
}

/* The certificate of the sent chain that has the fingerprint. */
static X509 *find_root(STACK_OF(X509) * chain, const char *wanted)
{
    for (int i = 0; i < sk_X509_num(chain); i++) {
        char text[SHA256_TEXT_SIZE];
        if (fingerprint(sk_X509_value(chain, i), text) && secret_equal_text(text, wanted))
            return sk_X509_value(chain, i);
    }
    return NULL;
}

/* Verifies the sent chain with `root` as the only trusted certificate. */
static bool chain_is_good(X509 *leaf, STACK_OF(X509) * chain, X509 *root, struct client_trust *t)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    bool good = store && context && X509_STORE_add_cert(store, root) == 1 &&
                X509_STORE_CTX_init(context, store, leaf, chain) == 1;
    if (good) {
        X509_VERIFY_PARAM_set_purpose(X509_STORE_CTX_get0_param(context), X509_PURPOSE_SSL_SERVER);
        good = X509_verify_cert(context) == 1;
        if (!good)
            note_why(t, context);
    }
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    return good;
}

/* In place of OpenSSL's own verification. */
static int verify_by_root(X509_STORE_CTX *context, void *arg)
{
    struct client_trust *t = arg;
    X509 *leaf = X509_STORE_CTX_get0_cert(context);
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(context);
    int count = chain ? sk_X509_num(chain) : 0;
    if (count > 0)
        fingerprint(sk_X509_value(chain, count - 1), t->seen_root);
    bool named = leaf && fingerprint(leaf, t->seen_leaf);
    bool good = t->accept_any_root;
    if (!good && t->leaf_sha256) {
        good = named && secret_equal_text(t->seen_leaf, t->leaf_sha256);
    } else if (!good && leaf && count > 0) {
        X509 *root = find_root(chain, t->root_sha256);
        good = root && chain_is_good(leaf, chain, root, t);
    }
    X509_STORE_CTX_set_error(context, good ? X509_V_OK : X509_V_ERR_CERT_UNTRUSTED);
    return good;
}

void client_trust_begin(struct client_trust *trust)
{
    trust->refused_by_peer = trust->broken_off = false;
    trust->why[0] = '\0';
}

void client_trust_install(void *ssl_ctx, struct client_trust *trust)
{
    SSL_CTX_set_ex_data(ssl_ctx, trust_index(), trust);
    SSL_CTX_set_info_callback(ssl_ctx, on_info);
    SSL_CTX_set_verify(ssl_ctx, SSL_VERIFY_PEER, on_verdict);
    if (trust->root_sha256 || trust->leaf_sha256 || trust->accept_any_root)
        SSL_CTX_set_cert_verify_callback(ssl_ctx, verify_by_root, trust);
}
