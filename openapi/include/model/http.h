/* Requests over HTTP that are no messages of the API, as rows of a table: who may make them. Written by the
 * generator from openapi/http.toml; <model/http_actions.h> names the rows ACTION_<name>. Constant; any
 * thread. */
#pragma once
#include <model/method.h>

struct http_action {
    const char *name;       /* "get_export" */
    const char *permission; /* "http/get_export" */
    const char *method, *uri;
    const char *doc;
    enum role role; /* the weakest that may; not asked of open ones */
    bool open;      /* anybody may: no login is asked for at this door */
};

extern const struct http_action model_http_actions[];
extern const uint16_t model_http_action_count;
