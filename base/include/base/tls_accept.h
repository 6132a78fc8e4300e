/* The server's side of TLS on a connection that began without it (STARTTLS of other protocols than HTTP). */
#pragma once
#include <base/stream.h>

struct tls_error {
    char text[200];
};
/* Shakes hands on `fd` as a server with this certificate chain and key (PEM; may be the same text), within
 * the time; TLS 1.2 at least. The stream owns `fd` from then on. NULL with a sentence: `fd` stays the
 * caller's, good for nothing but close. Blocks. */
struct stream *tls_accept(int fd, const char *certificate_pem, const char *key_pem, int64_t timeout_ms,
                          struct tls_error *error);
