/* What all doors share that move much data: uploads and downloads of disks, VMs and metadata. Each runs on a
 * worker as a task (the client's own when task_id names one); see transfer.c. */
#pragma once
#include "../server.h"
#include "doors.h"

/* One kind of transfer: a constant. */
struct transfer;
struct transfer_kind {
    const struct http_action *action;
    const char *label; /* of the task */
    const char *word;  /* for the log */
    bool uploads;
    unsigned chunked_status; /* what answers a body without a declared length; 0: it is taken */
    /* The work, on a worker, for somebody who may. -1 with *err, which fails the task; as long as the answer
     * has not begun it is the answer, too. */
    int (*run)(struct transfer *t, struct api_err *err);
};

/* One transfer, from the request's head to the end of its answer. */
struct transfer {
    struct server *server;
    struct http_request *req; /* counted */
    const struct transfer_kind *kind;
    struct door_claim claim;
    int64_t length;             /* of the body or, once the answer has begun, of that; -1: unknown */
    bool open_ended;            /* the declared length is only a way to say "until I close the connection" */
    struct http_reader *reader; /* once the upload was accepted */
    /* Where the bytes come from instead, of a transfer that no request carries (then `req` is NULL): > 0, 0
     * at the end, -1. */
    ssize_t (*pull)(void *arg, void *data, size_t len);
    void *pull_arg;
    struct http_writer *writer; /* once the answer has begun */

    struct session *session;
    bool temporary;
    struct ref task;
    const _Atomic bool *cancel;
    char *object; /* what it is about, for the log */
    char *result; /* XML of the task's result; NULL: nothing */
    int64_t done; /* bytes that came or went */
    bool lost;    /* the client went away, or stalled */
    bool has_first;
    char first; /* byte of an upload, read by transfer_await */
    void *arg;  /* the door's own */
    /* A download's last byte so far waits until the task has ended and the marks are off: who has all bytes
     * may go on. */
    bool holds;
    char held;
};

/* Server thread. */
void transfer_begin(struct server *server, struct http_request *req, const struct transfer_kind *kind);

/* For doors that let people in and answer by themselves, after the bytes: `t` has server, req, kind, session,
 * length, arg and, of an upload, reader. Runs it to its end on this thread: 0; -1 with *err; 1: too many
 * others run. The answer, if kind->run began one, is still to be ended. */
int transfer_perform(struct transfer *t, struct api_err *err);
/* A reader of the request's body for it, opened before anybody knows who asks; NULL: there are too many (they
 * take memory). Server thread, as http_reader_open. Closed by transfer_reader_close. */
struct http_reader *transfer_reader(struct http_request *req);
void transfer_reader_close(struct http_reader *reader);
void transfer_answer_with(struct transfer *t, unsigned status, const struct http_header *headers,
                          int64_t length);
/* Ends the answer; false: none has begun. */
bool transfer_end_answer(struct transfer *t, bool ok);

/* A parameter of the request; NULL: absent. Valid until the answer begins. */
const char *transfer_query(const struct transfer *t, const char *name);
/* It is there and says true. */
bool transfer_flag(const struct transfer *t, const char *name);

/* The checks are over: answers 200 with the task's reference, and the body may come. From here on only the
 * task tells of errors. An empty body is what clients send to ask whether they may: then -1 with
 * IMPORT_ERROR_PREMATURE_EOF. */
int transfer_accept(struct transfer *t, struct api_err *err);
/* > 0 bytes; 0: the end; -1: see transfer_fail_bytes. An hv_read_fn. */
ssize_t transfer_read(void *transfer, void *data, size_t len);
/* Waits for the first byte of an upload, which is kept. -1 with *err: none comes. */
int transfer_await(struct transfer *t, struct api_err *err);
/* Reads and drops a little that may still come, so that the client is not cut off in the middle of its last
 * words. */
void transfer_drain(struct transfer *t);

/* Begins the answer, `length` bytes of this type (-1: unknown); `filename` NULL: not named. */
void transfer_answer(struct transfer *t, const char *type, const char *filename, int64_t length);
/* 0, or -1: see transfer_fail_bytes. An hv_write_fn. */
int transfer_write(void *transfer, const void *data, size_t len);

/* Progress of the task, 0 to 1. */
void transfer_report(struct transfer *t, double fraction);
/* True (and *err set) if bytes stopped because of the client, a cancel or the end of the server. */
bool transfer_interrupted(const struct transfer *t, struct api_err *err);

/* For calls to agents: progress is not reported. */
struct hv_op;
struct transfer_op {
    char id[UUID_TEXT_SIZE];
};
/* A fresh operation with the task's cancel flag. */
struct hv_op transfer_op(struct transfer *t, struct transfer_op *keep);
/* A call as handlers want it, for steps that they share with transfers. Its snapshot is of now: release it
 * with transfer_call_done. */
void transfer_call(struct transfer *t, struct call *call);
void transfer_call_done(struct call *call);
