/* People: local users, subjects and their roles, the audit log. */
#include "run.h"
#include "xe_handlers.h"
#include <base/secret.h>

#define LINE_END "\r\n"

/* ---- passwords ---- */

static int password_from_file(struct xe_run_state *x, const char *name, char **password)
{
    size_t len;
    char *data;
    if (x->api->read_file(x->api->ctx, name, &data, &len, &x->err) < 0)
        return -1;
    data[strcspn(data, LINE_END)] = '\0';
    *password = data;
    return 0;
}

/* From password-file, password or the user, in this order. Words of a command line are seen by everybody on
 * the machine, so the last two are for scripts that know what they do, and for people. */
static int take_password(struct xe_run_state *x, char **password)
{
    const char *file = xe_arg(x, "password-file"), *given = xe_arg(x, "password");
    if (file)
        return password_from_file(x, file, password);
    if (given) {
        *password = xstrdup(given);
        return 0;
    }
    if (!x->api->prompt_secret)
        return xe_fail(x, XE_ERR_CLI, "there is no one to ask for the password: say password-file=");
    xe_out_flush(x);
    return x->api->prompt_secret(x->api->ctx, "New password: ", password, &x->err);
}

/* ---- roles ---- */

static int role_by_name(struct xe_run_state *x, const char *name, char **role)
{
    AUTO_JSON json_t *found = NULL;
    if (xe_call(x, "role.get_by_name_label", &found, "[s]", name) < 0)
        return -1;
    const char *ref = json_string_value(json_array_get(found, 0));
    if (!ref)
        return xe_fail(x, XE_ERR_CLI, "there is no role %s: role-list shows them", name);
    *role = xstrdup(ref);
    return 0;
}

static int take_role(struct xe_run_state *x, char **role)
{
    const char *name = xe_arg(x, "role-name"), *uuid = xe_arg(x, "role-uuid");
    if (uuid)
        return xe_ref_by_uuid(x, "role", uuid, role);
    if (name)
        return role_by_name(x, name, role);
    return xe_fail(x, XE_ERR_USAGE, "say which role: role-name= or role-uuid=");
}

static int change_role(struct xe_run_state *x, const char *method)
{
    const char *uuid;
    AUTO_FREE char *subject = NULL, *role = NULL;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || take_role(x, &role) < 0 ||
        xe_ref_by_uuid(x, "subject", uuid, &subject) < 0)
        return -1;
    return xe_call(x, method, NULL, "[ss]", subject, role);
}

int xe_cmd_subject_role_add(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return change_role(x, "subject.add_to_roles");
}

int xe_cmd_subject_role_remove(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return change_role(x, "subject.remove_from_roles");
}

/* ---- subjects ---- */

int xe_cmd_subject_add(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *name;
    AUTO_FREE char *sid = NULL, *subject = NULL;
    AUTO_JSON json_t *information = NULL;
    (void)cmd;
    if (xe_arg_required(x, "subject-name", &name) < 0 ||
        xe_call_string(x, "auth.get_subject_identifier", &sid, "[s]", name) < 0 ||
        xe_call(x, "auth.get_subject_information_from_identifier", &information, "[s]", sid) < 0 ||
        xe_call_string(x, "subject.create", &subject, "[{s:s, s:O}]", "subject_identifier", sid,
                       "other_config", information) < 0)
        return -1;
    return xe_print_uuid(x, "subject", subject);
}

/* ---- local users ---- */

int xe_cmd_user_create(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *name, *full = xe_arg(x, "full-name"), *role_name = xe_arg(x, "role-name");
    AUTO_FREE char *role = NULL, *made = NULL;
    AUTO_SECRET char *password = NULL;
    (void)cmd;
    if (xe_arg_required(x, "name", &name) < 0 || (role_name && role_by_name(x, role_name, &role) < 0) ||
        take_password(x, &password) < 0)
        return -1;
    AUTO_JSON json_t *roles = json_array();
    if (role)
        json_array_append_new(roles, json_string(role));
    if (xe_call_string(x, "user.create_with_password", &made, "[sssO]", name, full ? full : "", password,
                       roles) < 0)
        return -1;
    return xe_print_uuid(x, "user", made);
}

int xe_cmd_user_password_reset(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid;
    AUTO_FREE char *user = NULL;
    AUTO_SECRET char *password = NULL;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_ref_by_uuid(x, "user", uuid, &user) < 0 ||
        take_password(x, &password) < 0)
        return -1;
    return xe_call(x, "user.set_password", NULL, "[ss]", user, password);
}

/* ---- the audit log ---- */

static int go_on(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    (void)done;
    (void)total;
    return 0;
}

int xe_cmd_audit_log_get(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *filename, *since = xe_arg(x, "since");
    (void)cmd;
    if (xe_arg_required(x, "filename", &filename) < 0)
        return -1;
    for (const char *c = since; c && *c; c++)
        if (!strchr("0123456789TZ:.-", *c))
            return xe_fail(x, XE_ERR_CLI, "since is a stamp such as 20250319T04:16:24Z");
    AUTO_FREE char *path = xasprintf("/audit_log?since=%s", since ? since : "");
    return x->api->download(x->api->ctx, filename, path, go_on, NULL, &x->err);
}
