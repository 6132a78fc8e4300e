/* main.c waits for the signal and looks at server->again. */
#include "ending.h"

#include "server.h"
#include "timers.h"
#include <signal.h>
#include <unistd.h>

#define DELAY_MS 300

static void end_now(void *arg)
{
    (void)arg;
    kill(getpid(), SIGTERM);
}

void server_end(struct server *server, bool again)
{
    if (!server->may_end)
        return;
    if (again)
        atomic_store(&server->again, true);
    timers_after(server->timers, DELAY_MS, end_now, NULL);
}
