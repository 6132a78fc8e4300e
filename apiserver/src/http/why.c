/* POST /api/v1/why: {"class", "object", "operation"} or {"task"}; see gate/why.h. */
#include "doors.h"

#include "../gate/roles.h"
#include "../gate/session.h"
#include "../gate/why.h"
#include "../server.h"
#include "why.h"
#include <base/json.h>
#include <base/mem.h>
#include <model/errors.h>

#define BODY_MAX 4096

json_t *why_answer(struct server *server, const struct session *session, const json_t *asked,
                   struct api_err *err)
{
    const char *task = json_string_value(json_object_get(asked, "task"));
    const char *cls = json_string_value(json_object_get(asked, "class"));
    const char *object = json_string_value(json_object_get(asked, "object"));
    const char *operation = json_string_value(json_object_get(asked, "operation"));
    if (roles_allow(session, ACTION_post_why->permission, err) < 0)
        return NULL;
    if (task)
        return why_task(server, task, err);
    if (cls && object && operation)
        return why_operation(server, cls, object, operation, err);
    err_invalid_value(err, "body", "task, or class, object and operation");
    return NULL;
}

static void run(void *arg)
{
    struct door_job *job = arg;
    bool temporary;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_SESSION struct session *session = door_admit(job->server, job->req, ACTION_post_why, &temporary);
    if (!session) {
        door_job_free(job);
        return;
    }
    AUTO_JSON json_t *answer = why_answer(job->server, session, job->body, &err);
    if (answer) {
        struct buf body = BUF_INIT;
        json_write(&body, answer);
        buf_add_char(&body, '\n');
        size_t len = body.len;
        http_answer_json(job->req, 200, buf_take(&body), len);
    } else {
        door_fail(job->req, streq(err.code, "HANDLE_INVALID") ? 404 : 422, &err);
    }
    if (temporary)
        session_close(job->server, session);
    door_job_free(job);
}

void door_why(struct server *server, struct http_request *req)
{
    static const struct door_body door = {.run = run, .max = BODY_MAX};
    door_submit_json(server, req, &door);
}
