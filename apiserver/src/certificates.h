/* Rows of class Certificate: what hosts show, and what the pool was told to trust. The PEM of a trusted one
 * is in its row; revocation lists are the pool's. */
#pragma once
#include "server.h"

/* Those of the pool's own CA, for the pool's own parts: how long they are good, and how long before the end
 * they are made anew. */
#define CERTIFICATE_DAYS 3650
#define CERTIFICATE_RENEW_S (30 * 86400)

/* The host shows this certificate (PEM, leaf first) and no other of the type: host or host_internal. What is
 * no certificate is logged and leaves things as they are. */
void certificates_of_host(struct tx *tx, struct ref host, enum certificate_type type, const char *pem);
/* The certificates that are trusted: those for everything, and those for one of these purposes (a set of
 * bits; 0: the former only). One PEM text, the caller's. */
char *certificates_trusted(const struct snapshot *snap, uint64_t purposes);
/* The revocation lists, likewise. */
char *certificates_crls(const struct snapshot *snap);
/* The host is gone: its certificates go with it. */
void certificates_host_gone(struct tx *tx, struct ref host);
