/* What the HTTP server and the HTTP client share. */
#pragma once
#include <stddef.h>

struct http_header {
    const char *name, *value;
};

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_PATCH,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_CONNECT, /* with a path, as consoles of old clients do it; for http_tunnel */
};
const char *http_method_name(enum http_method method);

struct buf;
/* Percent-encodes for a path segment or a query value; appended. */
void http_escape(struct buf *b, const char *text);
