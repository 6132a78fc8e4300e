/* The CA, certificate and key that a client shows, read once for all connections of all clients that have the
 * same files: OpenSSL takes longer to read them than for a handshake, and keeps several times their size for
 * each connection. Files that were replaced are read anew by the next connection. */
#include "http_curl_internal.h"
#include <base/mem.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#define FILES 3 /* CA, certificate, key */

struct seen {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec changed;
};

/* The last ones that were read: a process has one identity, but for tests. */
static struct {
    pthread_mutex_t lock; /* guards what follows */
    char *paths[FILES];
    struct seen seen[FILES];
    X509_STORE *store;
    X509 *leaf;
    STACK_OF(X509) * chain; /* of the leaf, without it */
    EVP_PKEY *key;
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool look(const char *const paths[static FILES], struct seen out[static FILES])
{
    for (int i = 0; i < FILES; i++) {
        struct stat st;
        if (stat(paths[i], &st) < 0)
            return false;
        out[i] = (struct seen){st.st_dev, st.st_ino, st.st_size, st.st_ctim};
    }
    return true;
}

static bool is_kept(const char *const paths[static FILES], const struct seen seen[static FILES])
{
    bool same = kept.store != NULL;
    for (int i = 0; same && i < FILES; i++)
        same = streq(paths[i], kept.paths[i]) && seen[i].dev == kept.seen[i].dev &&
               seen[i].ino == kept.seen[i].ino && seen[i].size == kept.seen[i].size &&
               seen[i].changed.tv_sec == kept.seen[i].changed.tv_sec &&
               seen[i].changed.tv_nsec == kept.seen[i].changed.tv_nsec;
    return same;
}

static void forget(void)
{
    X509_STORE_free(kept.store);
    X509_free(kept.leaf);
    sk_X509_pop_free(kept.chain, X509_free);
    EVP_PKEY_free(kept.key);
    kept.store = NULL;
    kept.leaf = NULL;
    kept.chain = NULL;
    kept.key = NULL;
}

static X509_STORE *read_store(const char *path)
{
    X509_STORE *store = X509_STORE_new();
    if (store && X509_STORE_load_file(store, path) == 1 &&
        X509_STORE_set_flags(store, X509_V_FLAG_TRUSTED_FIRST) == 1)
        return store;
    X509_STORE_free(store);
    return NULL;
}

static void read_certificates(const char *path)
{
    BIO *file = BIO_new_file(path, "r");
    kept.leaf = file ? PEM_read_bio_X509(file, NULL, NULL, NULL) : NULL;
    kept.chain = sk_X509_new_null();
    X509 *next;
    while (kept.leaf && kept.chain && (next = PEM_read_bio_X509(file, NULL, NULL, NULL)))
        if (sk_X509_push(kept.chain, next) == 0)
            abort(); /* only memory can be missing */
    ERR_clear_error();
    BIO_free(file);
}

static EVP_PKEY *read_key(const char *path)
{
    BIO *file = BIO_new_file(path, "r");
    EVP_PKEY *key = file ? PEM_read_bio_PrivateKey(file, NULL, NULL, NULL) : NULL;
    BIO_free(file);
    return key;
}

static bool renew(const char *const paths[static FILES], const struct seen seen[static FILES])
{
    forget();
    read_certificates(paths[1]);
    kept.key = read_key(paths[2]);
    kept.store = kept.leaf && kept.chain && kept.key ? read_store(paths[0]) : NULL;
    if (!kept.store) {
        forget();
        ERR_clear_error();
        return false;
    }
    for (int i = 0; i < FILES; i++) {
        free(kept.paths[i]);
        kept.paths[i] = xstrdup(paths[i]);
        kept.seen[i] = seen[i];
    }
    return true;
}

bool client_identity_install(const struct http_client *client, void *ssl_ctx)
{
    const char *const paths[FILES] = {client->ca_file, client->cert_file, client->key_file};
    struct seen seen[FILES];
    SSL_CTX *ctx = ssl_ctx;
    if (!look(paths, seen))
        return false;
    pthread_mutex_lock(&kept.lock);
    bool good = is_kept(paths, seen) || renew(paths, seen);
    if (good) {
        SSL_CTX_set1_cert_store(ctx, kept.store);
        good = SSL_CTX_use_certificate(ctx, kept.leaf) == 1 && SSL_CTX_set1_chain(ctx, kept.chain) == 1 &&
               SSL_CTX_use_PrivateKey(ctx, kept.key) == 1;
    }
    pthread_mutex_unlock(&kept.lock);
    return good;
}
