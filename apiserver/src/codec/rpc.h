/* What the codecs of calls share: from a decoded request to a call, and what their answers look like to
 * HTTP. */
#pragma once
#include "../server.h"
#include <base/buf.h>
#include <base/http_server.h>

/* Largest request body: what the API's reference server takes. */
#define RPC_BODY_MAX (300 * 1024)

/* Where the answer of a call goes; `own` is the codec's, freed with free(). */
struct rpc_reply {
    struct http_request *req; /* counted */
    void *own;
};

/* A call from this request, with the form of its answer and what else the gate wants to know of where it
 * came from; takes the caller's counts of `params` and the ownership of `own`. */
struct call *rpc_call(struct server *server, struct http_request *req, const char *method, json_t *params,
                      enum answer_form form, void (*complete)(struct call *), void *own);
/* Writes the call's `raw`; its pieces, if any, are sent at their places by rpc_complete. */
void rpc_write_raw(struct buf *out, struct call *call);
/* The last step of `complete`: sends what was written (NULL: the call has no client any more), frees the
 * call. */
void rpc_complete(struct call *call, struct buf *out);
/* 200 with the content type of the form; empties `out`. */
void rpc_send(struct http_request *req, enum answer_form form, struct buf *out);
/* INVALID_VALUE for text that is not UTF-8: its second parameter is the first of `params` that is concerned,
 * made readable. */
void rpc_fail_damaged(const json_t *params, struct api_err *err);
