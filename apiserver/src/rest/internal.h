/* Shared by the files of REST.
 *
 * A request is one struct rest from its head to its answer. It is handed from thread to thread (network
 * thread, login worker, whoever completes a call) and never used by two at once; who answers frees it. */
#pragma once
#include "../server.h"
#include "rest.h"
#include <base/buf.h>

#define REST_BODY_MAX (300 * 1024)

/* What a path names. */
enum target_kind {
    TARGET_COLLECTION, /* /vms */
    TARGET_OBJECT,     /* /vms/{uuid} */
    TARGET_ACTION,     /* /vms/{uuid}/actions/start, /vms/actions/import */
    TARGET_SESSIONS,
    TARGET_SESSION,
    TARGET_TOKENS,     /* /tokens */
    TARGET_TOKEN,      /* /tokens/{uuid} */
    TARGET_PLAN_APPLY, /* /plans/{uuid}/apply */
    TARGET_APPLY,
    TARGET_STATE,
    TARGET_UNDO,
    TARGET_EVENTS,
    TARGET_CONTENT, /* /vdis/{uuid}/content */
    TARGET_UPLOADS, /* /vdis/{uuid}/uploads */
    TARGET_UPLOAD,  /* /vdis/{uuid}/uploads/{uuid} */
    TARGET_DESCRIPTION,
};
struct target {
    enum target_kind kind;
    const struct class_desc *cls;
    char uuid[UUID_TEXT_SIZE];         /* "": none in the path */
    char part[UUID_TEXT_SIZE];         /* TARGET_UPLOAD: the upload's */
    const struct method_desc *message; /* TARGET_ACTION */
};
/* The part of the path behind /api/v1. False: nothing there; `why` has a sentence. */
#define TARGET_WHY_SIZE 200
bool target_parse(const char *path, struct target *out, char why[static TARGET_WHY_SIZE]);
/* The class whose list has this name of `len` bytes ("vms"); NULL: none. */
const struct class_desc *class_of_collection(const char *name, size_t len);
/* True if the message is an action of REST, about one object (*object) or about the class. */
bool message_is_action(const struct method_desc *message, bool *object);
/* Name of the setter, constructor or other message of a class; NULL: none that REST offers. */
const struct method_desc *message_of(const struct class_desc *cls, const char *name);

/* Lives as long as its request. From rest_serve to rest_done one thread at a time has it. */
struct rest {
    struct server *server;
    struct http_request *req;
    enum http_method method;
    struct target target;
    void (*run)(struct rest *r); /* what it does */
    struct session *session;     /* counted; NULL: for logging in */
    bool temporary;              /* the session was made for this request */
    json_t *body;                /* NULL: none */
    struct http_reader *reader;  /* of a body that is no JSON; NULL: none */
    _Atomic bool gone;           /* the client is */
    /* Of a change that is under way. */
    const struct method_desc *message;
    struct task_claim claim;
    char *key;    /* Idempotency-Key with what it belongs to; NULL: none */
    char *digest; /* of the request that brought it */
    bool key_held;
    struct ref task;
    struct ref pinned;     /* the host that a plan has chosen; null: none */
    json_t *params;        /* of a message that is only planned; NULL: none */
    int64_t wait_until_ms; /* clock_mono_ms: then the task itself is the answer */
};
/* The last step, after the answer; nothing of `r` may be used any more. Any thread. */
void rest_done(struct rest *r);

/* ---- answers: the request is answered, rest_done is still to be called ---- */

/* A problem from an error of the API. */
void rest_fail(struct rest *r, const struct api_err *err);
/* The same before there is a struct rest. */
void rest_refuse(struct server *server, struct http_request *req, const struct api_err *err);
/* A problem that no code of the API names. */
void rest_problem(struct http_request *req, unsigned status, const char *title, const char *detail);
/* The same with a header. */
void rest_problem_with(struct http_request *req, unsigned status, const char *title, const char *detail,
                       const struct http_header *header);
/* 503: every worker is busy. */
void rest_busy(struct http_request *req);
/* 429 with Retry-After. */
void rest_too_many(struct http_request *req, int64_t wait_ms);
/* JSON; empties `out`. `location` and `etag` may be NULL. */
void rest_send(struct http_request *req, unsigned status, const char *location, const char *etag,
               struct buf *out);

/* A reference is told by the uuid of what it names, if that is there; else the text itself. */
const char *rest_param_text(const struct snapshot *snap, const char *param);

/* ---- values ---- */

/* Appends a value as REST shows it. */
void rest_value_write(const struct snapshot *snap, const struct type *type, const union cell *cell,
                      struct buf *out);
/* The same from the JSON of the XenAPI. */
void rest_value_write_wire(const struct snapshot *snap, const struct type *type, const json_t *wire,
                           struct buf *out);
/* The chosen fields of a row (NULL: all public ones). */
struct field_choice {
    const struct field_desc **fields;
    size_t count;
};
void rest_record_write(const struct snapshot *snap, const struct row *row, const struct field_choice *choice,
                       struct buf *out);
/* From REST to the JSON of the XenAPI: a new value, or NULL with INVALID_VALUE or UUID_INVALID. `where` names
 * the member for the error. */
json_t *rest_value_read(const struct snapshot *snap, const struct type *type, const json_t *json,
                        const char *where, struct api_err *err);
/* The same for the key of a map: a heap string. */
char *rest_key_read(const struct snapshot *snap, const struct type *type, const char *key, const char *where,
                    struct api_err *err);
/* True if clients may see it. */
bool field_is_public(const struct field_desc *field);
/* Its public field, or NULL. */
const struct field_desc *public_field(const struct class_desc *cls, const char *name);
/* The object's version as an ETag: "<generation>" in quotes. */
#define ETAG_SIZE 24
char *etag_format(const struct row *row, char out[static ETAG_SIZE]);

/* ---- what requests do; each answers, now or later, and ends with rest_done ---- */
void rest_list(struct rest *r);
void rest_get(struct rest *r);
void rest_create(struct rest *r);
void rest_patch(struct rest *r); /* blocks: on a worker */
void rest_destroy(struct rest *r);
void rest_action(struct rest *r);
void rest_log_in(struct rest *r);
void rest_log_out(struct rest *r);
void rest_whoami(struct rest *r);
void rest_tokens_list(struct rest *r);
void rest_token_make(struct rest *r);   /* blocks: on a worker */
void rest_token_revoke(struct rest *r); /* blocks: on a worker */
void rest_events(struct rest *r);

/* ---- bytes of disks: all block, on a worker ---- */
void rest_content(struct rest *r);
void rest_uploads_list(struct rest *r);
void rest_upload_make(struct rest *r);
void rest_upload_look(struct rest *r);
void rest_upload_write(struct rest *r);
void rest_upload_drop(struct rest *r);

/* Runs what target and method name. */
void rest_dispatch(struct rest *r);

/* ---- plans ---- */

/* "?plan=true". False: answered with 400. */
bool plan_wanted(struct rest *r, bool *wanted);
/* The same for who leaves it to another one to answer. */
bool plan_is_wanted(const struct rest *r);
/* Answers with the plan of a message that would be refused for what its parameters say. */
void plan_refused_params(struct rest *r, const struct method_desc *message, const struct api_err *errs,
                         size_t count);
/* Answers with what r->message would do with these parameters. Blocks; rest_done is still to be called. */
void plan_message(struct rest *r, const json_t *params);
struct plan;
/* Answers with the plan of a request that is no message; `fill` tells its steps and reasons (plan.h). It
 * cannot be applied but by the request itself. */
void plan_request(struct rest *r, const char *action, void (*fill)(struct plan *p, void *arg), void *arg);
struct upload;
void upload_plan_make(struct rest *r, struct ref vdi, const struct upload *wish);
void upload_plan_write(struct rest *r, struct ref vdi, const struct upload *upload, int64_t from);
void upload_plan_drop(struct rest *r, struct ref vdi, const struct upload *upload);
/* Answers 400 when a plan is asked for of what has none: true. */
bool plan_absent(struct rest *r);
struct patch_field;
/* Answers with what the setters would do; `errs`: of fields that cannot be set at all. */
void plan_patch(struct rest *r, const struct row *row, const struct patch_field *fields, size_t count,
                const struct api_err *errs, size_t err_count);
void rest_plan_apply(struct rest *r);

/* ---- desired state ---- */
void rest_apply(struct rest *r); /* blocks: on a worker */
void rest_undo(struct rest *r);  /* blocks: on a worker */
void rest_state(struct rest *r);
/* What a constructor wants to be told of a row, and `record` (JSON of the XenAPI) does not say: as in a fresh
 * one. */
void rest_complete_record(const struct class_desc *cls, json_t *record);

/* The object of the path, if If-Match (when given) names its version. NULL: answered with 404 or 412. */
const struct row *rest_object(struct rest *r, const struct snapshot *snap);
/* May the session read the class? False: answered with 403. */
bool rest_may_read(struct rest *r);

/* Runs a message (positional parameters without the session, taken over), as a task where the message can be
 * one, and answers as its kind wants. */
void change_run(struct rest *r, const struct method_desc *message, json_t *params);
