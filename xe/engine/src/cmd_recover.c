/* vm-recover, appliance-recover and what is asked before: calls in a session that reads from the database on
 * a disk, with our own session as the pool that takes over. */
#include "run.h"
#include "xe_handlers.h"
#include <base/json.h>
#include <base/mem.h>

static int open_database(struct xe_run_state *x, char **session)
{
    AUTO_JSON json_t *map = xe_arg_map(x, "database"), *answer = NULL;
    const char *uuid = json_string_value(json_object_get(map, "vdi-uuid"));
    AUTO_FREE char *vdi = NULL;
    if (!uuid)
        return xe_fail(x, XE_ERR_CLI, "say which disk holds the database: database:vdi-uuid=UUID");
    if (xe_ref_by_uuid(x, "VDI", uuid, &vdi) < 0 ||
        xe_call_task(x, "VDI.open_database", json_pack("[s]", vdi), &answer) < 0)
        return -1;
    if (!json_is_string(answer))
        return xe_fail(x, XE_ERR_TRANSPORT, "The server opened the database without a session.");
    *session = xstrdup(json_string_value(answer));
    return 0;
}

/* In the database's session. */
static int do_there(struct xe_run_state *x, const char *api_class, const char *message, bool recover,
                    const char *own)
{
    const char *uuid;
    bool force = false;
    AUTO_FREE char *ref = NULL, *find = xasprintf("%s.get_by_uuid", api_class);
    AUTO_FREE char *method = xasprintf("%s.%s", api_class, message);
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_arg_bool(x, "force", &force) < 0 ||
        xe_call_string(x, find, &ref, "[s]", uuid) < 0)
        return -1;
    return recover ? xe_call(x, method, NULL, "[ssb]", ref, own, force)
                   : xe_call(x, method, NULL, "[ss]", ref, own);
}

static int run(struct xe_run_state *x, const char *api_class, bool recover)
{
    AUTO_FREE char *session = NULL;
    if (open_database(x, &session) < 0)
        return -1;
    const char *own = x->api->session(x->api->ctx, &x->err);
    if (!own)
        return -1;
    x->api->use_session(x->api->ctx, session);
    int rc = do_there(x, api_class, recover ? "recover" : "assert_can_be_recovered", recover, own);
    struct xe_err first = x->err;
    x->err = (struct xe_err){0};
    int ended = xe_call(x, "session.logout", NULL, "[]");
    x->api->use_session(x->api->ctx, NULL);
    if (rc == 0)
        return ended;
    xe_err_done(&x->err);
    x->err = first;
    return -1;
}

int xe_cmd_vm_recover(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return run(x, "VM", true);
}

int xe_cmd_vm_assert_can_be_recovered(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return run(x, "VM", false);
}

int xe_cmd_appliance_recover(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return run(x, "VM_appliance", true);
}

int xe_cmd_appliance_assert_can_be_recovered(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return run(x, "VM_appliance", false);
}
