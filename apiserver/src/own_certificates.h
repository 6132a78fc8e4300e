/* Certificates in DIR/pki that the server makes for itself, all of the pool's CA: what it shows to clients
 * until another one is installed (front.h), and by which agents know it. Functions block (files). */
#pragma once

struct server;

/* For a start: makes what is missing, adds names by which clients reach the server to the certificate that
 * they are shown, then looks as below. A CA that was there is never made anew. 0, or -1 after logging. */
int own_certificates_make(const struct server *server);
/* Makes the one for agents anew when it ends soon; tells of what is not good now. */
void own_certificates_look(const char *state_dir);
