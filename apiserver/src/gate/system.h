/* system.*: questions about the server as such, which are no messages of a class. */
#pragma once
#include "../server.h"

/* One of them: system.listMethods, or system.isAlive: and anything behind it. */
bool system_serves(const char *name);
/* Needs no session; never blocks. */
int system_run(struct call *call, struct api_err *err);
