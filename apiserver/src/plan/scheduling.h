/* VM.VCPUs_params -> how its domain shares the host's processors. Pure. */
#pragma once
#include <hv/domain.h>
#include <model/error.h>
#include <model/rows.h>

/* Keys: weight (1 to 65535, 256 being the usual), cap (percent of one processor, 0: none), mask ("0,2-5").
 * Other keys are kept and mean nothing. -1: VALUE_NOT_SUPPORTED. Sets cpu_weight, cpu_cap_percent and
 * cpu_mask. */
int plan_scheduling(const struct str_map *params, struct domain_config *config, struct api_err *err);
