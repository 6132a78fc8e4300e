/* What the files of this folder share beyond rrd.h. */
#pragma once
#include "rrd.h"

/* How many values a row holds: one where all consolidations are the same. */
unsigned rrd_cfs_kept(unsigned archive);
/* NULL: too many, or too long a name. Invalidates pointers to other sources. */
struct rrd_source *rrd_source_add(struct rrd *rrd, const char *name, enum rrd_kind kind, double min,
                                  double max);
