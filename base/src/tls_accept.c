/* GnuTLS on a socket of our own. */
#include "tls_record.h"
#include <base/clock.h>
#include <base/mem.h>
#include <base/tls_accept.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

struct tls_stream {
    struct stream stream;
    gnutls_certificate_credentials_t credentials;
    struct tls_record record;
};

static ssize_t tls_read(struct stream *s, void *to, size_t max)
{
    return tls_record_read(&((struct tls_stream *)s)->record, to, max);
}

static ssize_t tls_write(struct stream *s, const void *from, size_t len)
{
    return tls_record_write(&((struct tls_stream *)s)->record, from, len);
}

static void tls_shut_write(struct stream *s)
{
    gnutls_bye(((struct tls_stream *)s)->record.session, GNUTLS_SHUT_WR);
}

static void tls_free(struct tls_stream *t)
{
    if (t->record.session)
        gnutls_deinit(t->record.session);
    if (t->credentials)
        gnutls_certificate_free_credentials(t->credentials);
    free(t);
}

static void tls_close(struct stream *s)
{
    struct tls_stream *t = (struct tls_stream *)s;
    if (!t->record.interrupted)
        gnutls_bye(t->record.session, GNUTLS_SHUT_WR);
    close(s->fd);
    tls_free(t);
}

static const struct stream_ops tls_ops = {tls_read, tls_write, tls_shut_write, tls_close};

static int prepare(struct tls_stream *t, const char *certificate_pem, const char *key_pem)
{
    const gnutls_datum_t certificate = {(unsigned char *)(uintptr_t)certificate_pem,
                                        (unsigned)strlen(certificate_pem)};
    const gnutls_datum_t key = {(unsigned char *)(uintptr_t)key_pem, (unsigned)strlen(key_pem)};
    int rc = gnutls_certificate_allocate_credentials(&t->credentials);
    if (rc == 0)
        rc = gnutls_certificate_set_x509_key_mem(t->credentials, &certificate, &key, GNUTLS_X509_FMT_PEM);
    if (rc >= 0)
        rc = gnutls_init(&t->record.session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (rc == 0)
        rc =
            gnutls_priority_set_direct(t->record.session, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", NULL);
    if (rc == 0)
        rc = gnutls_credentials_set(t->record.session, GNUTLS_CRD_CERTIFICATE, t->credentials);
    if (rc == 0)
        gnutls_transport_set_int(t->record.session, t->stream.fd);
    return rc;
}

static int shake_hands(struct tls_stream *t, int64_t timeout_ms)
{
    int64_t end = clock_mono_ms() + timeout_ms;
    for (;;) {
        int rc = gnutls_handshake(t->record.session);
        if (rc == 0 || (rc < 0 && gnutls_error_is_fatal(rc)))
            return rc;
        int64_t left = end - clock_mono_ms();
        struct pollfd p = {.fd = t->stream.fd,
                           .events = gnutls_record_get_direction(t->record.session) ? POLLOUT : POLLIN};
        if (left <= 0 || (poll(&p, 1, (int)left) < 0 && errno != EINTR))
            return GNUTLS_E_TIMEDOUT;
    }
}

struct stream *tls_accept(int fd, const char *certificate_pem, const char *key_pem, int64_t timeout_ms,
                          struct tls_error *error)
{
    struct tls_stream *t = xcalloc(1, sizeof(*t));
    t->stream = (struct stream){&tls_ops, fd};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    int rc = prepare(t, certificate_pem, key_pem);
    if (rc >= 0)
        rc = shake_hands(t, timeout_ms);
    if (rc >= 0)
        return &t->stream;
    snprintf(error->text, sizeof(error->text), "%s", gnutls_strerror(rc));
    tls_free(t);
    return NULL;
}
