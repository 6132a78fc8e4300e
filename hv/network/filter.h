/* The rules of a tap (filter.c). */
#pragma once
#include "netlink.h"

#define TAP_PREFIX "ctap" /* then ten digits that are used once */

/* Puts the card's rules in force on this tap in place of those that it has; `fresh`: it has none yet. */
int filter_apply(const char *tap, const struct network_card *card, bool fresh, struct network_error *error);
