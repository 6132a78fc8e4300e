/* The environment is read once: afterwards a failpoint that is not wanted costs one comparison. */
#include <base/failpoint.h>
#include <base/mem.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static const char *wanted;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void read_wanted(void)
{
    wanted = getenv("CORRAL_FAILPOINT");
}

void failpoint(const char *name, const char *detail)
{
    pthread_once(&once, read_wanted);
    if (!wanted)
        return;
    AUTO_FREE char *here = xasprintf("%s:%s", name, detail);
    if (!streq(wanted, here))
        return;
    kill(getpid(), SIGKILL);
    for (;;)
        pause(); /* nothing further happens on this thread until the signal has done its work */
}
