/* GET /vncsnapshot: the screen of a VM as a JPEG picture. The server is an RFB client of its own for a
 * moment; a pool that allows one viewer of a console at a time does not count this one. */
#include "../gate/session.h"
#include "../rfb/jpeg.h"
#include "../rfb/rfb.h"
#include "../server.h"
#include "console_find.h"
#include "doors.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <model/http_actions.h>

#define SNAPSHOTS_MAX 4 /* at once: each holds a worker and a picture */
#define PICTURE_MS 10000

static _Atomic int snapshots;

/* Feeds the client from the stream until it is done. NULL, or why not. */
static const char *take_picture(struct stream *stream, struct rfb *rfb)
{
    int64_t deadline = clock_mono_ms() + PICTURE_MS;
    AUTO_FREE char *piece = xmalloc(65536);
    for (;;) {
        int64_t left = deadline - clock_mono_ms();
        if (left <= 0)
            return "the screen was not sent in time";
        if (rfb->out.len > 0 && stream_write_all(stream, rfb->out.data, rfb->out.len, left) < 0)
            return "the connection to the screen was lost";
        buf_clear(&rfb->out);
        ssize_t n = stream_read(stream, piece, 65536);
        if (n < 0 && errno == EAGAIN) {
            stream_wait_readable(stream, left);
            continue;
        }
        if (n <= 0)
            return "the connection to the screen was lost";
        switch (rfb_feed(rfb, piece, (size_t)n)) {
        case RFB_MORE:
            break;
        case RFB_DONE:
            return NULL;
        case RFB_FAILED:
            return rfb->complaint;
        }
    }
}

static void answer_picture(struct door_job *job, const struct console_target *target)
{
    static const struct http_header headers[] = {
        {"Content-Type", "image/jpeg"},
        {"Content-Disposition", "attachment; filename=\"snapshot.jpg\""},
        {"Cache-Control", "no-cache, no-store"},
        {NULL, NULL}};
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct stream *stream;
    struct rfb rfb;
    size_t len;
    char text[200];
    if (console_open(job->server, target, &stream, &err) < 0) {
        door_fail(job->req, 500, &err);
        return;
    }
    rfb_init(&rfb);
    const char *complaint = take_picture(stream, &rfb);
    stream_close(stream);
    char *jpeg = complaint ? NULL : jpeg_of(&rfb.picture, &len, text);
    rfb_done(&rfb);
    if (jpeg) {
        http_answer(job->req, 200, headers, jpeg, len, HTTP_FREE);
        return;
    }
    log_warn("console", "no picture of a screen", "vm", target->vm->uuid, "cause",
             complaint ? complaint : text);
    http_answer_error(job->req, 500, complaint ? complaint : "the picture could not be made");
}

static void answer_in_turn(struct door_job *job, const struct console_target *target)
{
    if (atomic_fetch_add(&snapshots, 1) < SNAPSHOTS_MAX)
        answer_picture(job, target);
    else
        http_answer_error(job->req, 503, "too many pictures are taken now: try again in a moment");
    atomic_fetch_sub(&snapshots, 1);
}

static void run_snapshot(void *arg)
{
    const struct console_actions actions = {ACTION_get_vncsnapshot, ACTION_get_vncsnapshot_host_console};
    struct door_job *job = arg;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(job->server->store);
    bool temporary;
    AUTO_SESSION struct session *session = door_authenticate(job->server, job->req, &temporary);
    if (session) {
        struct console_target target = console_asked(snap, job->req);
        if (!console_allow(job->server, job->req, session, &target, &actions)) {
            /* answered */
        } else if (!target.console || target.console->protocol != CONSOLE_PROTOCOL_RFB) {
            http_answer_error(job->req, 404, "there is no such screen: is the VM running?");
        } else {
            answer_in_turn(job, &target);
        }
        if (temporary)
            session_close(job->server, session);
    }
    door_job_free(job);
}

void door_vncsnapshot(struct server *server, struct http_request *req)
{
    door_submit(server->workers, server, req, NULL, run_snapshot);
}
