/* MAC addresses of VIFs. Pure. */
#pragma once
#include <stdbool.h>
#define MAC_TEXT_SIZE 18
/* The address of the device-th VIF of a VM with this seed: the same whenever asked; locally administered. */
void mac_from_seed(const char *seed, const char *device, char out[static MAC_TEXT_SIZE]);
/* "aa:bb:cc:dd:ee:ff" in any case: unicast and not all zero. Writes it in lower case. */
bool mac_parse(const char *text, char out[static MAC_TEXT_SIZE]);
