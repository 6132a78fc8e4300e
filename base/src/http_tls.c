/* Client certificates: demanded and checked within the handshake, so that a stranger never gets to send
 * a request. */
#include "http_internal.h"
#include <base/log.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <strings.h>

static bool has_dns_name(gnutls_x509_crt_t cert, const char *wanted)
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
        if (strlen(name) == size && strcasecmp(name, wanted) == 0)
            return true;
    }
}

static bool peer_has_name(gnutls_session_t session, const char *wanted)
{
    unsigned count;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(session, &count);
    gnutls_x509_crt_t cert;
    if (!list || count == 0 || gnutls_x509_crt_init(&cert) < 0)
        return false;
    bool has = gnutls_x509_crt_import(cert, &list[0], GNUTLS_X509_FMT_DER) == 0 && has_dns_name(cert, wanted);
    gnutls_x509_crt_deinit(cert);
    return has;
}

static bool client_is_good(gnutls_session_t session)
{
    /* libmicrohttpd keeps its connection in the session's pointer. */
    struct MHD_Connection *connection = gnutls_session_get_ptr(session);
    const struct connection *c =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    gnutls_typed_vdata_st purpose = {
        .type = GNUTLS_DT_KEY_PURPOSE_OID,
        .data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT,
    };
    unsigned status = 0;
    if (gnutls_certificate_verify_peers(session, &purpose, 1, &status) < 0 || status != 0) {
        log_debug("http", "a client's certificate was refused", "status", LOG_INT(status));
        return false;
    }
    if (c->server->client_name && !peer_has_name(session, c->server->client_name)) {
        log_debug("http", "a client's certificate has another name");
        return false;
    }
    return true;
}

/* gnutls calls this inside the handshake; not 0 ends it. */
static int verify_client(gnutls_session_t session)
{
    if (client_is_good(session))
        return 0;
    gnutls_alert_send(session, GNUTLS_AL_FATAL, GNUTLS_A_BAD_CERTIFICATE);
    return -1;
}

void tls_prepare(struct http_server *server, struct MHD_Connection *connection)
{
    if (!server->client_certificates)
        return;
    gnutls_session_t session =
        (gnutls_session_t)MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION)
            ->tls_session;
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_verify_function(session, verify_client);
}
