/* Failpoints: places where a test wants this process to end as if it had been killed there. They do nothing
 * unless the process was started with CORRAL_FAILPOINT=NAME:DETAIL in its environment, and one environment
 * names one place; or with CORRAL_FAILPOINT=*:N, which is the N-th place that the process comes to, whatever
 * its name. The name of the place goes to stderr first. For tests only. Any thread. */
#pragma once

/* Kills this process with SIGKILL when the environment names this place; `detail` says what is under way
 * there ("VM.start"). */
void failpoint(const char *name, const char *detail);
