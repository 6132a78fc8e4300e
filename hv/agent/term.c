/* Servers of the pool have terms: who takes over has a later one. An agent that has heard of a term takes no
 * orders of an earlier one, so a server that was replaced while it slept can do no harm. The term is in
 * STATE/pki/term: it belongs to the pool, not to the agent. */
#include "agent.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>

void term_load(struct agent *agent)
{
    char *path AUTO_FREE = agent_path(agent, "pki/term");
    char *text AUTO_FREE = file_read(path, 64, NULL);
    agent->term = text ? strtoll(text, NULL, 10) : 0;
}

static int store_term(struct agent *agent, int64_t term, struct hv_err *err)
{
    char *path AUTO_FREE = agent_path(agent, "pki/term");
    char text[32];
    int len = snprintf(text, sizeof(text), "%lld\n", (long long)term);
    if (file_write_atomic(path, text, (size_t)len, 0600) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The server's term cannot be written down: %s", strerror(errno));
    log_info("term", "the pool has a server of a later term", "term", LOG_INT(term));
    agent->term = term;
    return 0;
}

int term_check(struct agent *agent, int64_t term, struct hv_err *err)
{
    int rc = 0;
    pthread_mutex_lock(&agent->term_lock);
    if (term < agent->term)
        rc = hv_fail(err, HV_ERR_KIND_SUPERSEDED, "Another server has taken over the pool (term %lld).",
                     (long long)agent->term);
    else if (term > agent->term)
        rc = store_term(agent, term, err);
    pthread_mutex_unlock(&agent->term_lock);
    return rc;
}
