/* session.*: logging in and out. */
#include "../gate/session.h"
#include "../gate/auth.h"
#include "../server.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

int handle_session_login_with_password(struct call *call, const struct session_login_with_password_args *args,
                                       struct ref *result, struct api_err *err)
{
    enum role role = ROLE_POOL_ADMIN;
    bool superuser = true;
    if (!call->local_root && auth_check(call->server, call->peer, args->uname, args->pwd, &role, &superuser,
                                        &call->delay_ms, err) < 0)
        return -1;
    AUTO_SESSION struct session *session = NULL;
    if (session_open(call->server, args->uname, role, superuser, REF_NULL, args->originator, &session, err) <
        0)
        return -1;
    log_info("session", "logged in", "user", args->uname, "from", call->peer, "originator", args->originator);
    *result = session->ref;
    return 0;
}

int handle_session_logout(struct call *call, struct api_err *err)
{
    (void)err;
    session_close(call->server, call->session);
    return 0;
}

int handle_session_change_password(struct call *call, const struct session_change_password_args *args,
                                   struct api_err *err)
{
    if (!call->session->superuser)
        return err_rbac_permission_denied(err, "session.change_password",
                                          "Only the superuser has a password here.");
    return auth_change_password(call->server, args->old_pwd, args->new_pwd, err);
}

int handle_session_get_all_subject_identifiers(struct call *call, const struct str_set **result,
                                               struct api_err *err)
{
    (void)call;
    (void)err;
    *result = NULL; /* sessions of subjects come with external directories, which are not built */
    return 0;
}
