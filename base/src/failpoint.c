/* The environment is read once: afterwards a failpoint that is not wanted costs one comparison. */
#include <base/failpoint.h>
#include <base/mem.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *wanted;
static _Atomic long countdown; /* of "*:N"; 0: not counted */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void read_wanted(void)
{
    wanted = getenv("CORRAL_FAILPOINT");
    if (wanted && strncmp(wanted, "*:", 2) == 0)
        countdown = strtol(wanted + 2, NULL, 10);
}

void failpoint(const char *name, const char *detail)
{
    pthread_once(&once, read_wanted);
    if (!wanted)
        return;
    AUTO_FREE char *here = xasprintf("%s:%s", name, detail);
    if (!streq(wanted, here) && !(countdown > 0 && atomic_fetch_sub(&countdown, 1) == 1))
        return;
    dprintf(STDERR_FILENO, "killed at failpoint %s\n", here);
    kill(getpid(), SIGKILL);
    for (;;)
        pause(); /* nothing further happens on this thread until the signal has done its work */
}
