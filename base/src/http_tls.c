/* TLS beyond what libmicrohttpd does by itself.
 *
 * Client certificates that are demanded (client_ca_file) are checked within the handshake, so that a stranger
 * never gets to send a request. Those that are merely welcome (http_server_set_identity) make a known client;
 * whoever has none, or one that nobody vouches for, stays a stranger.
 *
 * The server's own certificate can be replaced: each connection counts the identity that it began with. */
#include "http_internal.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define REFUSALS_QUIET_MS 60000
#define GOOD (-1)

static bool ends_with(const char *name, const char *suffix)
{
    size_t len = strlen(name), tail = suffix ? strlen(suffix) : 0;
    return tail > 0 && len > tail && strcasecmp(name + len - tail, suffix) == 0;
}

/* The first of the certificate's names that is good. */
static bool find_dns_name(gnutls_x509_crt_t cert, struct connection *c)
{
    for (unsigned i = 0;; i++) {
        char name[256];
        size_t size = sizeof(name) - 1;
        unsigned type;
        int rc = gnutls_x509_crt_get_subject_alt_name2(cert, i, name, &size, &type, NULL);
        if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            return false;
        if (rc < 0 || type != GNUTLS_SAN_DNSNAME)
            continue;
        name[size] = '\0';
        /* A NUL inside would make a longer name look like a shorter one. */
        if (strlen(name) != size || size >= sizeof(c->client) ||
            (strcasecmp(name, c->server->client_name) != 0 && !ends_with(name, c->server->client_suffix)))
            continue;
        memcpy(c->client, name, size + 1);
        return true;
    }
}

/* libmicrohttpd keeps its connection in the session's pointer. */
static struct connection *connection_of(gnutls_session_t session)
{
    struct MHD_Connection *connection = gnutls_session_get_ptr(session);
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

/* Is the peer's certificate good for a client, by the trusted ones. */
static bool chain_is_good(gnutls_session_t session, unsigned *status)
{
    gnutls_typed_vdata_st purpose = {
        .type = GNUTLS_DT_KEY_PURPOSE_OID,
        .data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT,
    };
    *status = 0;
    return gnutls_certificate_verify_peers(session, &purpose, 1, status) >= 0 && *status == 0;
}

/* The peer's own certificate; the caller frees it. NULL: it has shown none that can be read. */
static gnutls_x509_crt_t peer_certificate(gnutls_session_t session)
{
    unsigned count;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(session, &count);
    gnutls_x509_crt_t cert;
    if (!list || count == 0 || gnutls_x509_crt_init(&cert) < 0)
        return NULL;
    if (gnutls_x509_crt_import(cert, &list[0], GNUTLS_X509_FMT_DER) == 0)
        return cert;
    gnutls_x509_crt_deinit(cert);
    return NULL;
}

static bool peer_has_name(gnutls_session_t session, struct connection *c)
{
    gnutls_x509_crt_t cert = peer_certificate(session);
    if (!cert)
        return false;
    bool has = find_dns_name(cert, c);
    gnutls_x509_crt_deinit(cert);
    return has;
}

/* A certificate in words; "" when it cannot be read. */
static void describe(gnutls_session_t session, char name[static 128], char when[static PKI_VALIDITY_SIZE])
{
    gnutls_x509_crt_t cert = peer_certificate(session);
    size_t size = 128;
    name[0] = when[0] = '\0';
    if (!cert)
        return;
    if (gnutls_x509_crt_get_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &size) < 0)
        name[0] = '\0';
    pki_validity(gnutls_x509_crt_get_activation_time(cert), gnutls_x509_crt_get_expiration_time(cert), when);
    gnutls_x509_crt_deinit(cert);
}

/* Strangers may try as often as they like: the log hears of the first in a while. */
static void tell_refusal(gnutls_session_t session, struct http_server *server, unsigned status)
{
    char name[128], when[PKI_VALIDITY_SIZE];
    gnutls_datum_t reason = {0};
    int64_t now = clock_mono_ms(), quiet_until = atomic_load(&server->refusals_quiet_until_ms);
    if (now < quiet_until || !atomic_compare_exchange_strong(&server->refusals_quiet_until_ms, &quiet_until,
                                                             now + REFUSALS_QUIET_MS))
        return;
    if (status && gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &reason, 0) < 0)
        reason.data = NULL;
    describe(session, name, when);
    log_warn("http", "a client's certificate is refused", "name", name, "reason",
             reason.data ? (const char *)reason.data : "it is not for a client of this server", "validity",
             when);
    gnutls_free(reason.data);
}

/* GOOD, or the alert that says why not. */
static int judge_client(gnutls_session_t session)
{
    struct connection *c = connection_of(session);
    unsigned status;
    if (!chain_is_good(session, &status)) {
        tell_refusal(session, c->server, status);
        return status & (GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED) ? GNUTLS_A_CERTIFICATE_EXPIRED
               : status & GNUTLS_CERT_SIGNER_NOT_FOUND                    ? GNUTLS_A_UNKNOWN_CA
                                                                          : GNUTLS_A_BAD_CERTIFICATE;
    }
    if (c->server->client_name && !peer_has_name(session, c)) {
        tell_refusal(session, c->server, 0);
        return GNUTLS_A_BAD_CERTIFICATE;
    }
    return GOOD;
}

/* gnutls calls this inside the handshake; not 0 ends it. */
static int verify_client(gnutls_session_t session)
{
    int alert = judge_client(session);
    if (alert == GOOD)
        return 0;
    gnutls_alert_send(session, GNUTLS_AL_FATAL, (gnutls_alert_description_t)alert);
    return -1;
}

/* ---- identities ---- */

struct tls_identity {
    _Atomic uint32_t refs;
    gnutls_certificate_credentials_t credentials;
    char *client_name; /* NULL: clients are not asked */
};

void tls_identity_unref(struct tls_identity *identity)
{
    if (!identity || atomic_fetch_sub(&identity->refs, 1) != 1)
        return;
    gnutls_certificate_free_credentials(identity->credentials);
    free(identity->client_name);
    free(identity);
}

static gnutls_datum_t datum_of(const char *text)
{
    return (gnutls_datum_t){.data = (unsigned char *)(uintptr_t)text, .size = (unsigned)strlen(text)};
}

static int fail(struct http_server_error *error, const char *what, int cause)
{
    snprintf(error->text, sizeof(error->text), "%s: %s", what, gnutls_strerror(cause));
    return -1;
}

static int load_trust(struct tls_identity *identity, const char *trusted_pem, const char *crl_pem,
                      struct http_server_error *error)
{
    gnutls_datum_t trusted = datum_of(trusted_pem);
    int rc = gnutls_certificate_set_x509_trust_mem(identity->credentials, &trusted, GNUTLS_X509_FMT_PEM);
    if (rc < 0)
        return fail(error, "the trusted certificates cannot be used", rc);
    gnutls_datum_t crl = datum_of(crl_pem ? crl_pem : "");
    rc = crl.size ? gnutls_certificate_set_x509_crl_mem(identity->credentials, &crl, GNUTLS_X509_FMT_PEM) : 0;
    return rc < 0 ? fail(error, "the revocation lists cannot be used", rc) : 0;
}

int http_server_set_identity(struct http_server *server, const char *certificate_pem, const char *key_pem,
                             const char *trusted_pem, const char *crl_pem, const char *client_name,
                             struct http_server_error *error)
{
    struct tls_identity *identity = xcalloc(1, sizeof(*identity));
    gnutls_datum_t certificate = datum_of(certificate_pem), key = datum_of(key_pem);
    atomic_init(&identity->refs, 1);
    int rc = gnutls_certificate_allocate_credentials(&identity->credentials);
    if (rc < 0) {
        free(identity);
        return fail(error, "no room for a certificate", rc);
    }
    rc = gnutls_certificate_set_x509_key_mem(identity->credentials, &certificate, &key, GNUTLS_X509_FMT_PEM);
    if (rc < 0)
        fail(error, "certificate and key cannot be used", rc);
    else if (trusted_pem)
        rc = load_trust(identity, trusted_pem, crl_pem, error);
    if (rc < 0) {
        tls_identity_unref(identity);
        return -1;
    }
    identity->client_name = trusted_pem ? xstrdup(client_name) : NULL;
    pthread_mutex_lock(&server->lock);
    struct tls_identity *old = server->identity;
    server->identity = identity;
    pthread_mutex_unlock(&server->lock);
    tls_identity_unref(old);
    return 0;
}

static bool peer_is_called(gnutls_session_t session, const char *name)
{
    gnutls_x509_crt_t cert = peer_certificate(session);
    if (!cert)
        return false;
    bool is = gnutls_x509_crt_check_hostname2(cert, name, GNUTLS_VERIFY_DO_NOT_ALLOW_WILDCARDS) != 0;
    gnutls_x509_crt_deinit(cert);
    return is;
}

/* Within the handshake; never ends it: what the server lets in is decided by who asks for what. */
static int look_at_client(gnutls_session_t session)
{
    struct connection *c = connection_of(session);
    unsigned status, count = 0;
    if (!gnutls_certificate_get_peers(session, &count) || count == 0)
        return 0;
    c->known = chain_is_good(session, &status) && peer_is_called(session, c->identity->client_name);
    if (!c->known)
        log_debug("http", "a client's certificate is not known", "status", LOG_INT(status));
    return 0;
}

bool tls_is_known(struct connection *c)
{
    if (!c->known)
        return false;
    pthread_mutex_lock(&c->server->lock);
    bool current = c->identity == c->server->identity;
    pthread_mutex_unlock(&c->server->lock);
    return current;
}

/* ---- a new connection ---- */

void tls_prepare(struct http_server *server, struct connection *c, struct MHD_Connection *connection)
{
    if (!server->tls)
        return;
    gnutls_session_t session =
        (gnutls_session_t)MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION)
            ->tls_session;
    if (server->client_certificates) {
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_function(session, verify_client);
    }
    pthread_mutex_lock(&server->lock);
    c->identity = server->identity;
    if (c->identity)
        atomic_fetch_add(&c->identity->refs, 1);
    pthread_mutex_unlock(&server->lock);
    if (!c->identity)
        return;
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, c->identity->credentials);
    if (c->identity->client_name && !server->client_certificates) {
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUEST);
        gnutls_session_set_verify_function(session, look_at_client);
    }
}
