/* The rows that every pool has from its first start on. */
#pragma once
#include <model/error.h>
struct server;
/* Makes what is missing (pool, default network, storage managers) and sets server->pool_ref. */
int bootstrap(struct server *server, struct api_err *err);
