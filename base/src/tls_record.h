/* Bytes over a GnuTLS session whose socket never blocks, with the results of a stream (stream.h). One thread
 * at a time. */
#pragma once
#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tls_record {
    gnutls_session_t session; /* borrowed */
    bool interrupted;         /* gnutls holds a record that the socket did not take yet */
};

/* A peer that hangs up without a word is an end like any other: what comes over such a stream frames itself.
 */
ssize_t tls_record_read(struct tls_record *t, void *to, size_t max);
/* After EAGAIN the caller comes again with the same bytes at the front. */
ssize_t tls_record_write(struct tls_record *t, const void *from, size_t len);
