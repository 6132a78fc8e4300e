/* Shared by the files of the client. */
#pragma once
#include <base/http_client.h>
#include <hv/client.h>

struct hv_host {
    char *uuid;
    int64_t term;
    struct http_client *http; /* NULL: a stand-in */
    _Atomic bool interrupted;
    void (*asked)(void *arg, const char *host_uuid); /* of a stand-in */
    void *asked_arg;
};

/* 0, or -1 for a stand-in, which has told that it was asked. */
int hv_host_check(struct hv_host *host, struct hv_err *err);

/* Translates; returns -1. */
int hv_http_failure(const struct http_error *error, struct hv_err *err);
/* 0: *result is filled; 1: *pending is (only if not NULL); -1: err. */
int hv_read_answer(const struct hv_call_desc *call, const struct http_reply *reply, void *result,
                   struct operation_status *pending, struct hv_err *err);
