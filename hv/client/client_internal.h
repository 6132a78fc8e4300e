/* Shared by the files of the client. */
#pragma once
#include <base/http_client.h>
#include <hv/client.h>

struct hv_host {
    char *uuid;
    int64_t term;
    struct http_client *http;
    _Atomic bool interrupted;
};

/* Translates; returns -1. */
int hv_http_failure(const struct http_error *error, struct hv_err *err);
/* 0: *result is filled; 1: *pending is (only if not NULL); -1: err. */
int hv_read_answer(const struct hv_call_desc *call, const struct http_reply *reply, void *result,
                   struct operation_status *pending, struct hv_err *err);
