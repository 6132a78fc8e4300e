/* See console_find.h. */
#include "console_find.h"

#include "../hosts/hosts.h"
#include "../server.h"
#include "doors.h"

#define CONNECT_MS 5000

static const struct console_row *first_console(const struct snapshot *snap, const struct vm_row *vm)
{
    const struct console_row *found = NULL;
    for (size_t i = 0; vm && vm->consoles && i < vm->consoles->count; i++) {
        const struct console_row *console =
            console_row(snapshot_get(snap, CLASS_console, vm->consoles->items[i]));
        if (console && (!found || (console->protocol == CONSOLE_PROTOCOL_RFB &&
                                   found->protocol != CONSOLE_PROTOCOL_RFB)))
            found = console;
    }
    return found;
}

struct console_target console_asked(const struct snapshot *snap, struct http_request *req)
{
    const char *uuid = http_request_query(req, "uuid"), *text = http_request_query(req, "ref");
    struct console_target target = {0};
    struct ref ref;
    if (uuid) {
        target.console = console_row(snapshot_by_uuid(snap, CLASS_console, uuid));
        target.vm = vm_row(snapshot_by_uuid(snap, CLASS_VM, uuid));
    } else if (text && ref_parse(text, &ref)) {
        target.console = console_row(snapshot_get(snap, CLASS_console, ref));
        target.vm = vm_row(snapshot_get(snap, CLASS_VM, ref));
    }
    if (target.console)
        target.vm = vm_row(snapshot_get(snap, CLASS_VM, target.console->VM));
    else
        target.console = first_console(snap, target.vm);
    return target;
}

bool console_allow(struct server *server, struct http_request *req, const struct session *session,
                   const struct console_target *target, const struct console_actions *actions)
{
    bool host = target->vm && target->vm->is_control_domain;
    return door_allow(server, req, session, host ? actions->hosts : actions->guests);
}

int console_open(struct server *server, const struct console_target *target, struct stream **stream,
                 struct api_err *err)
{
    const char *kind = target->console->protocol == CONSOLE_PROTOCOL_RFB ? "vnc" : "serial";
    struct hv_err cause;
    if (!target->vm)
        return fail_handle(err, CLASS_VM, target->console->VM);
    struct hv_host *agent = hosts_get(server->hosts, target->vm->resident_on, err);
    if (!agent)
        return -1;
    int rc = hv_console_open(agent, target->vm->uuid, kind, CONNECT_MS, stream, &cause);
    hosts_put(server->hosts, agent);
    return rc < 0 ? hosts_fail(err, target->vm->resident_on, &cause) : 0;
}
