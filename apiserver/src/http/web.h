/* Routes of the server: which path goes to which door, and the static files of the console. */
#pragma once
#include <base/http_server.h>

struct server;
struct web;

/* Reads the files of `dir` into memory (NULL: none are served). NULL after logging why. */
struct web *web_new(struct server *server, const char *dir);
void web_free(struct web *web);
/* error_page of the HTTP servers: a small page, except for paths below /api/, whose clients read JSON. */
bool web_error_page(const struct http_request *req, unsigned status, const char *text, struct buf *out,
                    const struct http_header **headers);
/* on_request of the HTTP servers; context is the struct web. */
void web_request(struct http_request *req, void *context);
