/* Settings of one host's own system that the pool also has for all hosts. Each calls the agent: with no
 * transaction open. */
#pragma once
#include "../server.h"

int host_system_enable_ssh(struct call *call, struct ref host, struct api_err *err);
int host_system_disable_ssh(struct call *call, struct ref host, struct api_err *err);
/* Seconds; 0: SSH stays open. INVALID_VALUE beyond two days. */
int host_system_set_ssh_timeout(struct call *call, struct ref host, int64_t value, struct api_err *err);
int host_system_set_ssh_auto(struct call *call, struct ref host, bool value, struct api_err *err);
/* Seconds; 0: never. */
int host_system_set_console_idle(struct call *call, struct ref host, int64_t value, struct api_err *err);
