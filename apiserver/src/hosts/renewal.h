/* New certificates of the pool's CA for hosts' agents, in place of those that end. Functions block. */
#pragma once
#include <base/ref.h>
#include <model/error.h>

struct call;
struct server;

/* A new key, made by the host's agent, and a certificate for it; the row follows. One that is not good now,
 * by its dates, is renewed over a connection that trusts just it. `call`: who asked; NULL: nobody. */
int renewal_of_host(struct server *server, struct call *call, struct ref host, struct api_err *err);
/* Renews those of all hosts that end within 30 days. What cannot be done is logged. */
void renewal_look(struct server *server);
