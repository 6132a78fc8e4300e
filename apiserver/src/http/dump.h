/* The database as XML. */
#pragma once
#include "../server.h"

/* Writes the document by calling put until it returns -1. `whole`: as a backup; otherwise for people who
 * help, without the pool's secrets and what the API does not show. Never with sessions. 0, or -1 when put
 * did. */
int dump_database(const struct snapshot *snap, bool whole,
                  int (*put)(void *arg, const void *data, size_t len), void *arg);
