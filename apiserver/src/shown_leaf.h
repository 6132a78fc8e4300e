/* What the certificate that clients are shown states: every name and address by which they reach the server.
 */
#pragma once
#include "server.h"
#include <base/pki.h>

struct shown_leaf {
    struct pki_leaf leaf; /* its lists are the next two */
    char **dns, **ip;     /* heap, ended by NULL */
};

/* The machine's name; the address that the server listens on, or all of the machine when it listens on all;
 * what --names adds. The caller ends it with shown_leaf_done. */
void shown_leaf_make(const struct server *server, struct shown_leaf *out);
void shown_leaf_done(struct shown_leaf *shown);
#define AUTO_SHOWN_LEAF __attribute__((cleanup(shown_leaf_done)))

/* The first of them that is not in a certificate of the pool's CA. NULL: they all are, or it is none of that
 * CA that is good now. Both PEM. */
const char *shown_leaf_missing(const struct shown_leaf *shown, const char *cert, const char *ca);
