#include "tls_record.h"
#include <errno.h>

/* At most this goes into one TLS record, so that an interrupted record is known to hold all of a write. */
#define RECORD_MAX 16000

static bool would_block(ssize_t rc)
{
    return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
}

static ssize_t with_errno(ssize_t rc)
{
    if (rc >= 0)
        return rc;
    errno = would_block(rc) ? EAGAIN : ECONNRESET;
    return -1;
}

ssize_t tls_record_read(struct tls_record *t, void *to, size_t max)
{
    ssize_t rc;
    do
        rc = gnutls_record_recv(t->session, to, max);
    while (rc == GNUTLS_E_REHANDSHAKE); /* asked for, and not granted */
    return rc == GNUTLS_E_PREMATURE_TERMINATION ? 0 : with_errno(rc);
}

ssize_t tls_record_write(struct tls_record *t, const void *from, size_t len)
{
    ssize_t rc = t->interrupted ? gnutls_record_send(t->session, NULL, 0)
                                : gnutls_record_send(t->session, from, len < RECORD_MAX ? len : RECORD_MAX);
    t->interrupted = would_block(rc);
    return with_errno(rc);
}
