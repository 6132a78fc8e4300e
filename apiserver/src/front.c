/* One lock serializes the changes: what is on disk, in the database and in the listening port follow each
 * other. */
#include "front.h"

#include "certificates.h"
#include "shown_leaf.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/http_server.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>
#include <errno.h>
#include <pthread.h>

#define PEM_MAX (256 * 1024)

struct front {
    struct server *server;
    pthread_mutex_t lock;
    struct http_server *https; /* NULL: not open yet */
};

/* What is shown, as PEM texts. */
struct shown {
    char *cert, *key;
    bool installed; /* by somebody: not the one of the first start, which own_certificates.h looks after */
};

static void shown_done(struct shown *shown)
{
    free(shown->cert);
    secret_free_cleanup(&shown->key);
}

struct front *front_new(struct server *server)
{
    struct front *front = xcalloc(1, sizeof(*front));
    front->server = server;
    pthread_mutex_init(&front->lock, NULL);
    return front;
}

void front_free(struct front *front)
{
    if (!front)
        return;
    pthread_mutex_destroy(&front->lock);
    free(front);
}

static char *pki_path(const struct server *server, const char *name)
{
    return xasprintf("%s/pki/%s", server->state_dir, name);
}

int front_make_leaf(const struct server *server, const char *cert_file, const char *key_file)
{
    AUTO_FREE char *ca = pki_path(server, "ca.pem"), *ca_key = pki_path(server, "ca.key");
    AUTO_SHOWN_LEAF struct shown_leaf shown;
    struct pki_error cause;
    shown_leaf_make(server, &shown);
    if (pki_issue_files(ca, ca_key, &shown.leaf, cert_file, key_file, &cause) == 0)
        return 0;
    log_error("front", "a certificate could not be made", "file", cert_file, "cause", cause.text);
    return -1;
}

/* ---- what is shown ---- */

static int load_first(const struct server *server, struct shown *out)
{
    AUTO_FREE char *cert = pki_path(server, "server.pem"), *key = pki_path(server, "server.key");
    out->cert = file_read(cert, PEM_MAX, NULL);
    out->key = out->cert ? file_read(key, PEM_MAX, NULL) : NULL;
    return out->key ? 0 : -1;
}

static int load(const struct server *server, struct shown *out)
{
    AUTO_FREE char *path = pki_path(server, "identity.pem");
    out->key = file_read(path, PEM_MAX, NULL);
    if (!out->key)
        return errno == ENOENT ? load_first(server, out) : -1;
    out->installed = true;
    out->cert = pki_certificates_of(out->key);
    return 0;
}

/* Under the lock. */
static int apply(struct front *front, const struct shown *shown, struct api_err *err)
{
    struct http_server_error cause;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(front->server->store);
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, front->server->pool_ref));
    bool ask = pool && pool->client_certificate_auth_enabled;
    AUTO_FREE char *trusted = ask ? certificates_trusted(snap, 0) : NULL;
    AUTO_FREE char *crls = ask ? certificates_crls(snap) : NULL;
    if (!front->https)
        return 0;
    /* Nobody to trust: nobody is known. */
    if (http_server_set_identity(front->https, shown->cert, shown->key, trusted && *trusted ? trusted : NULL,
                                 crls, ask ? pool->client_certificate_auth_name : NULL, &cause) == 0)
        return 0;
    log_warn("front", "the certificate cannot be shown", "cause", cause.text);
    return fail_internal(err, "The server cannot use this: %s.", cause.text);
}

static void tell_if_not_good(const struct shown *shown)
{
    struct pki_facts facts;
    struct pki_error cause;
    char when[PKI_VALIDITY_SIZE];
    int64_t now = clock_unix_seconds();
    if (!shown->cert || pki_describe(shown->cert, strlen(shown->cert), &facts, &cause) < 0 ||
        (now >= facts.not_before && now < facts.not_after))
        return;
    log_error("front",
              now < facts.not_before
                  ? "the certificate that clients are shown is not good yet: set this machine's clock"
                  : "the certificate that clients are shown has ended: xe "
                    "host-emergency-reset-server-certificate, as root "
                    "on this machine over the server's socket, makes a new one",
              "validity", pki_validity(facts.not_before, facts.not_after, when));
}

/* One that was brought along may have other names on purpose. */
static void tell_if_not_named(const struct front *front, const struct shown *shown)
{
    AUTO_FREE char *path = pki_path(front->server, "ca.pem"), *ca = file_read(path, PEM_MAX, NULL);
    AUTO_SHOWN_LEAF struct shown_leaf wanted;
    shown_leaf_make(front->server, &wanted);
    const char *missing = ca && shown->cert ? shown_leaf_missing(&wanted, shown->cert, ca) : NULL;
    if (missing)
        log_warn(
            "front",
            "the certificate that clients are shown lacks a name: xe host-reset-server-certificate makes one "
            "that has it",
            "missing", missing);
}

void front_open(struct front *front, struct http_server *https)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    CLEANUP(shown_done) struct shown shown = {0};
    pthread_mutex_lock(&front->lock);
    front->https = https;
    if (load(front->server, &shown) < 0 || apply(front, &shown, &err) < 0)
        log_error("front", "the installed certificate is left aside: the one of the first start is shown");
    tell_if_not_good(&shown);
    if (shown.installed)
        tell_if_not_named(front, &shown);
    pthread_mutex_unlock(&front->lock);
}

static int read_failed(struct api_err *err)
{
    log_error("front", "the server's certificate could not be read", "cause", strerror(errno));
    return fail_internal(err, "The server's certificate cannot be read.");
}

char *front_certificate(struct server *server, struct api_err *err)
{
    CLEANUP(shown_done) struct shown shown = {0};
    if (load(server, &shown) < 0) {
        read_failed(err);
        return NULL;
    }
    return TAKE_PTR(shown.cert);
}

char *front_identity(struct server *server, char **key, struct api_err *err)
{
    CLEANUP(shown_done) struct shown shown = {0};
    if (load(server, &shown) < 0) {
        read_failed(err);
        return NULL;
    }
    *key = TAKE_PTR(shown.key);
    return TAKE_PTR(shown.cert);
}

/* ---- changes ---- */

static int note(struct server *server, const char *cert, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    const struct pool_row *pool = pool_row(tx_get(tx, CLASS_pool, server->pool_ref));
    if (pool && tx_get(tx, CLASS_host, pool->master))
        certificates_of_host(tx, pool->master, CERTIFICATE_TYPE_HOST, cert);
    return server_commit(tx, err);
}

/* Under the lock: first it has to be good for the port, then it is kept. */
static int take(struct front *front, const char *identity_pem, struct api_err *err)
{
    struct server *server = front->server;
    AUTO_FREE char *path = pki_path(server, "identity.pem");
    CLEANUP(shown_done) struct shown before = {0};
    CLEANUP(shown_done)
    struct shown shown = {.cert = pki_certificates_of(identity_pem), .key = xstrdup(identity_pem)};
    AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
    if (load(server, &before) < 0)
        return read_failed(err);
    if (apply(front, &shown, err) < 0)
        return -1;
    if (file_write_atomic(path, identity_pem, strlen(identity_pem), 0600) < 0) {
        log_error("front", "a certificate could not be kept", "cause", strerror(errno));
        fail_internal(err, "The certificate could not be kept: it was not installed.");
        if (apply(front, &before, &ignored) < 0)
            log_error("front", "the certificate from before could not be shown again");
        return -1;
    }
    return note(server, shown.cert, err);
}

int front_install(struct server *server, const char *identity_pem, struct api_err *err)
{
    struct front *front = server->front;
    pthread_mutex_lock(&front->lock);
    int rc = take(front, identity_pem, err);
    pthread_mutex_unlock(&front->lock);
    return rc;
}

static int make_and_take(struct front *front, struct api_err *err)
{
    AUTO_FREE char *cert_path = pki_path(front->server, "new.pem"),
                   *key_path = pki_path(front->server, "new.key");
    AUTO_SECRET char *key = NULL;
    AUTO_SECRET char *both = NULL;
    AUTO_FREE char *cert = NULL;
    int rc = front_make_leaf(front->server, cert_path, key_path);
    if (rc == 0 && (cert = file_read(cert_path, PEM_MAX, NULL)) && (key = file_read(key_path, PEM_MAX, NULL)))
        both = xasprintf("%s%s", key, cert);
    if ((unlink(cert_path) < 0 && errno != ENOENT) || (unlink(key_path) < 0 && errno != ENOENT))
        log_warn("front", "a file that is not needed any more stays", "cause", strerror(errno));
    return both ? take(front, both, err) : fail_internal(err, "No new certificate could be made.");
}

int front_reset(struct server *server, struct api_err *err)
{
    struct front *front = server->front;
    pthread_mutex_lock(&front->lock);
    int rc = make_and_take(front, err);
    pthread_mutex_unlock(&front->lock);
    return rc;
}

int front_refresh(struct server *server, struct api_err *err)
{
    struct front *front = server->front;
    CLEANUP(shown_done) struct shown shown = {0};
    pthread_mutex_lock(&front->lock);
    int rc = load(server, &shown) < 0 ? read_failed(err) : apply(front, &shown, err);
    pthread_mutex_unlock(&front->lock);
    return rc;
}
