/* The NBD door: clients read disks from here, as VDI.get_nbd_info tells them, with their session in the name
 * of the export. Over TLS where a network's purpose is nbd; without where it is insecure_nbd; else nobody is
 * let in. Each connection has a thread, which joins it with the agent of a host that has the disk. */
#pragma once
#include "../server.h"

struct nbd;
struct session;

/* Listens on that address (numeric) and port; 0: a free one. NULL after logging. */
struct nbd *nbd_open(struct server *server, const char *address, uint16_t port);
uint16_t nbd_port(const struct nbd *nbd);
/* Lets nobody in any more and ends all connections; waits for their threads. NULL is accepted. */
void nbd_close(struct nbd *nbd);
/* The session has ended: so do its connections. NULL is accepted. */
void nbd_session_gone(struct nbd *nbd, const struct session *session);

/* What the networks' purposes ask for. */
enum nbd_policy { NBD_NOBODY, NBD_INSECURE, NBD_TLS };
enum nbd_policy nbd_policy(const struct snapshot *snap);
