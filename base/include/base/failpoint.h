/* Failpoints: places where a test wants this process to end as if it had been killed there. They do nothing
 * unless the process was started with CORRAL_FAILPOINT=NAME:DETAIL in its environment, and one environment
 * names one place. For tests only. Any thread. */
#pragma once

/* Kills this process with SIGKILL when the environment names this place; `detail` says what is under way
 * there ("VM.start"). */
void failpoint(const char *name, const char *detail);
