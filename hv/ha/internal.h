/* What the files of the watchdog share. */
#pragma once
#include "watchdog.h"

/* Kills the device models that STATE/run names. How many were alive. Does not wait. */
size_t guests_end(const char *state_dir);
/* None of them lives. */
bool guests_gone(const char *state_dir);

/* One request, one answer (struct watchdog_status), on a connection of their own. */
struct link_request {
    int64_t what, value;
};
/* -1 with errno. */
int link_listen(const char *state_dir);
