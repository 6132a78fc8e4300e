/* How a host becomes part of the pool: one-time tokens, its certificate, its rows. */
#pragma once
struct server;
struct joins;
struct joins *joins_new(void);
void joins_free(struct joins *joins);
