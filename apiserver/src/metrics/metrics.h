/* Measurements: every 5 seconds each agent is asked how its host and domains are doing, and the answers go
 * into archives (meters.h) that clients read as RRDs and data sources. */
#pragma once
#include "meters.h"
#include <model/error.h>

struct metrics;
struct server;

/* Begins to measure. After hosts_new. */
struct metrics *metrics_new(struct server *server);
/* Ends what is under way and saves everything. After timers_stop and hosts_stop. */
void metrics_stop(struct metrics *metrics);
/* After metrics_stop and the workers, when nobody reads any more. NULL is accepted. */
void metrics_free(struct metrics *metrics);

struct meters *metrics_meters(struct metrics *metrics);
/* Saves all archives some time from now. */
void metrics_save_later(struct metrics *metrics, double delay_s);
/* Runs a door's job that writes archives out: few at a time, so that such answers take neither the
 * processors nor the memory from others. -1: too many wait. */
int metrics_submit(struct metrics *metrics, void (*run)(void *arg), void *arg);
