/* Why something is refused, as the door and the command line of the server ask it. Any thread. */
#pragma once
#include <jansson.h>
#include <model/error.h>

struct server;
struct session;

/* `asked`: {"class", "object", "operation"} or {"task"}. The caller's; NULL with *err. */
json_t *why_answer(struct server *server, const struct session *session, const json_t *asked,
                   struct api_err *err);
