/* Doors of the classic server that nobody built here: who may not use them is told so, as at all doors; who
 * may, that there is nothing behind (501). */
#include "../gate/session.h"
#include "../server.h"
#include "doors.h"
#include <base/mem.h>

/* The row for a request: the longest path of the method that it begins with. */
static const struct http_action *find_action(const struct http_request *req)
{
    const char *path = http_request_path(req), *method = http_method_name(http_request_method(req));
    const struct http_action *best = NULL;
    for (size_t i = 0; i < model_http_action_count; i++) {
        const struct http_action *action = &model_http_actions[i];
        size_t len = strlen(action->uri);
        if (streq(action->method, method) && strncmp(path, action->uri, len) == 0 &&
            (!best || len > strlen(best->uri)))
            best = action;
    }
    return best;
}

static void work(void *arg)
{
    struct door_job *job = arg;
    const struct http_action *action = find_action(job->req);
    bool temporary = false;
    struct session *session = NULL;
    if (action && !action->open) {
        session = door_admit(job->server, job->req, action, &temporary);
        if (!session) {
            door_job_free(job); /* answered */
            return;
        }
    }
    http_answer_error(job->req, 501, "this server knows the request, but does not do it");
    if (temporary)
        session_close(job->server, session);
    session_unref(session);
    door_job_free(job);
}

void door_unbuilt(struct server *server, struct http_request *req)
{
    door_submit(server->workers, server, req, NULL, work);
}
