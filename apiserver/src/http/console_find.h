/* Which console a request names, who may see it, and the way to it. */
#pragma once
#include <base/http_server.h>
#include <base/stream.h>
#include <db/store.h>
#include <model/error.h>
#include <model/http.h>
#include <model/rows.h>

struct server;
struct session;

/* What uuid= or ref= of a query name: a console, or a VM, which stands for its first screen (a VM without
 * one: its terminal). Rows of the snapshot; both NULL: no such thing; no console: the VM does not run. */
struct console_target {
    const struct console_row *console;
    const struct vm_row *vm;
};
struct console_target console_asked(const struct snapshot *snap, struct http_request *req);

/* Who may: see openapi/http.toml. */
struct console_actions {
    const struct http_action *guests;
    const struct http_action *hosts; /* the console of a host's own system */
};
/* True, or false after answering 403. */
bool console_allow(struct server *server, struct http_request *req, const struct session *session,
                   const struct console_target *target, const struct console_actions *actions);

/* Connects to it through the host's agent. Blocks. */
int console_open(struct server *server, const struct console_target *target, struct stream **stream,
                 struct api_err *err);
