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
    server_end_later(server, again, DELAY_MS);
}

void server_end_later(struct server *server, bool again, int64_t delay_ms)
{
    if (!server->may_end)
        return;
    if (again)
        atomic_store(&server->again, true);
    timers_after(server->timers, delay_ms, end_now, NULL);
}
