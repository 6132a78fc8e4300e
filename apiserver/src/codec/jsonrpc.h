/* JSON-RPC 1.0 and 2.0 on POST /jsonrpc (the shapes of the XenAPI: ids are compulsory, no batches, an API
 * error is HTTP 200). */
#pragma once
#include <base/http_server.h>

struct server;

/* Handles the whole request; `arg` is the struct server. For http_read_body. */
void jsonrpc_request(struct http_request *req, char *data, size_t len, void *arg);
