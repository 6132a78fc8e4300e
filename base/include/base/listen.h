/* TCP sockets that take connections in. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Listens at a numeric address; port 0: any free one. The descriptor (the caller's, closed at exec, blocking)
 * with its port in *bound, or -1 with a sentence of at most `max` bytes in `error`. */
int listen_tcp(const char *address, uint16_t port, uint16_t *bound, char *error, size_t max);
/* False: it is no numeric address. */
bool listen_is_address(const char *text);
/* True if the numeric address is this machine's own, which nobody else reaches. */
bool listen_is_loopback(const char *address);
