/* The PCI and USB devices of a simulated host; items are initialised. */
#pragma once
#include "agent.h"
#include <devices/devices.h>

void sim_pci(const char *hidden, struct host_pci **out, size_t *count);
void sim_usb(const struct agent *agent, const struct usb_policy *policy, struct host_usb **out,
             size_t *count);
