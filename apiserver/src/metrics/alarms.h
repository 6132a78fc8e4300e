/* The messages ALARM: in each round of measuring the limits of VMs and hosts (alarm.h) are looked at. */
#pragma once
#include "meters.h"

struct alarms;
struct server;
struct alarms *alarms_new(void);
void alarms_free(struct alarms *alarms); /* NULL is accepted */
/* One thread at a time, with no lock held. `now`: unix seconds. */
void alarms_round(struct alarms *alarms, struct server *server, struct meters *meters, double now);
