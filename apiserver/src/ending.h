/* The end of this process, asked for from within: for good, or to start anew in another part. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct server;
/* A moment after the answer that is under way, as SIGTERM does; `again`: the program then starts anew with
 * the same arguments. Any thread. */
void server_end(struct server *server, bool again);
/* The same after a while in which the server still answers. */
void server_end_later(struct server *server, bool again, int64_t delay_ms);
