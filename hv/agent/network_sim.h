/* The network interfaces of a simulated host (network_sim.c). */
#pragma once
#include "agent.h"

void sim_network_list(struct agent *agent, struct hv_network_list_result *result);
/* It goes up; NOT_FOUND when the host has no such interface. */
int sim_network_uplink(struct agent *agent, const char *device, struct hv_err *err);
int sim_network_tunnel(struct agent *agent, const char *local, struct hv_err *err);
int sim_network_link(struct agent *agent, const char *device, bool up, struct hv_err *err);
int sim_network_addresses(struct agent *agent, const struct hv_network_addresses_args *args,
                          struct hv_err *err);
int sim_network_bond(struct agent *agent, const struct hv_network_bond_args *args, struct hv_err *err);
void sim_network_unbond(struct agent *agent, const char *device);
