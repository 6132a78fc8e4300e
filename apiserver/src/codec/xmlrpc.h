/* XML-RPC on POST / and every other path that is no door: an API error is HTTP 200 and a struct with Status
 * Failure, never a <fault>. */
#pragma once
#include <base/http_server.h>

/* Handles the whole request; `arg` is the struct server. For http_read_body. */
void xmlrpc_request(struct http_request *req, char *data, size_t len, void *arg);
