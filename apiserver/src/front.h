/* The pool's front: which certificate the HTTPS port shows, and which clients it knows by theirs. An
 * installed certificate is DIR/pki/identity.pem (key, certificate, chain in one file, so that a crash leaves
 * no half of it); without it, DIR/pki/server.pem and server.key of the first start are shown. Functions block
 * (files): not for a network thread. */
#pragma once
#include "server.h"

struct http_server;
struct front;

struct front *front_new(struct server *server);
void front_free(struct front *front);
/* From now on this is the HTTPS port: it gets what is kept. A certificate that cannot be used is logged, and
 * the one of the first start stays. */
void front_open(struct front *front, struct http_server *https);

/* Certificate and chain that are shown, PEM without the key; the caller's. NULL with *err. */
char *front_certificate(struct server *server, struct api_err *err);
/* The same with its key (PEM, to be wiped). */
char *front_identity(struct server *server, char **key, struct api_err *err);
/* Key, certificate and chain in one text, checked before (pki_make_identity): kept and shown to whoever
 * connects from now on, noted in the database. When it fails nothing has changed. */
int front_install(struct server *server, const char *identity_pem, struct api_err *err);
/* The same with a new key and a certificate from the pool's own CA. */
int front_reset(struct server *server, struct api_err *err);
/* The pool's trusted certificates, revocation lists or its rule for client certificates have changed. */
int front_refresh(struct server *server, struct api_err *err);
/* First start, also. 0, or -1 after logging. */
int front_make_leaf(const struct server *server, const char *cert_file, const char *key_file);
