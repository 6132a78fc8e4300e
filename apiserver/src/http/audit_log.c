/* GET /audit_log?since=&sums=: lines of the audit log, those from a stamp on; `sums=true` with their sums. */
#include "../gate/session.h"
#include "../gate/trail.h"
#include "../server.h"
#include "doors.h"
#include <base/mem.h>

#define WINDOW_BYTES (256 * 1024)
#define STALL_MS (60 * 1000)

static int put(void *arg, const char *data, size_t len)
{
    return http_writer_write(arg, data, len, STALL_MS);
}

/* On a worker. */
static void run(void *arg)
{
    static const struct http_header headers[] = {
        {"Content-Type", "text/plain; charset=utf-8"}, {"Cache-Control", "no-cache, no-store"}, {NULL, NULL}};
    struct door_job *job = arg;
    bool temporary;
    AUTO_SESSION struct session *session =
        door_admit(job->server, job->req, ACTION_get_audit_log, &temporary);
    if (!session) {
        door_job_free(job);
        return;
    }
    const char *given = http_request_query(job->req, "since"), *sums = http_request_query(job->req, "sums");
    AUTO_FREE char *since = xstrdup(given ? given : "");
    bool with_sums = sums && streq(sums, "true");
    trail_door(job->server->trail, http_request_peer(job->req), session, ACTION_get_audit_log->permission,
               NULL);
    struct http_writer *writer = http_writer_open(job->req, 200, headers, -1, WINDOW_BYTES);
    http_writer_close(writer, trail_read(job->server->trail, since, with_sums, put, writer) == 0);
    if (temporary)
        session_close(job->server, session);
    door_job_free(job);
}

void door_audit_log(struct server *server, struct http_request *req)
{
    door_submit(server->workers, server, req, NULL, run);
}
