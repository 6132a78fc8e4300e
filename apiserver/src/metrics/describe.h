/* What data sources mean, for people: unit and sentence by name. Pure. */
#pragma once
#include "meters.h"

#define DESCRIPTION_SIZE 160

/* `out` gets the sentence; returns the unit, as XenAPI writes units. */
const char *describe_source(enum meter_kind kind, const char *name, char out[static DESCRIPTION_SIZE]);
