/* Switching a machine on from afar: wake-on-LAN, IPMI. */
#pragma once
#include "../server.h"

/* As the host's power_on_mode says, by its power_on_config; returns when the wish is sent, not when the
 * machine is up. -1: HOST_POWER_ON_MODE_DISABLED, or what was wrong. Blocks for some seconds. */
int host_wake(struct server *server, const struct snapshot *snap, const struct host_row *host,
              struct api_err *err);
