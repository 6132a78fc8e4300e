/* The merger (merger.c) as the rest of the agent sees it. Any thread; a NULL merger is not there yet. */
#pragma once
#include "agent.h"

/* Before requests come: what it begins is seen by every operation. It lives as long as the process. */
int merger_start(struct agent *agent, struct hv_err *err);
/* Somebody wants this disk (NULL: the SR) or this domain: when this returns no merge is at work there, and
 * none begins while the operation is known to disks.c or ops.c. */
void merger_yield_disk(struct merger *merger, const char *sr, const char *disk);
void merger_yield_domain(struct merger *merger, const char *domain);
/* There may be something to merge. */
void merger_wake(struct merger *merger);
