/* session.*: logging in and out. */
#include "../gate/session.h"
#include "../gate/accounts.h"
#include "../gate/auth.h"
#include "../gate/roles.h"
#include "../gate/trail.h"
#include "../server.h"
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <handlers.h>
#include <model/errors.h>

/* Opens the session and tells of it; `err` set: tells of the refusal. */
static int admit(struct call *call, const struct identity *who, const char *originator, struct ref *result,
                 struct api_err *err)
{
    AUTO_SESSION struct session *session = NULL;
    if (session_open(call->server, who, originator, &session, err) < 0)
        return -1;
    log_info("session", "logged in", "user", who->user, "from", call->peer, "originator", originator);
    trail_session(call->server->trail, call->peer, call->method->name, who->user, session, NULL);
    *result = session->token;
    return 0;
}

static int refuse(struct call *call, const char *user, const struct api_err *err)
{
    trail_session(call->server->trail, call->peer, call->method->name, user, NULL, err);
    return -1;
}

static int who_is(struct call *call, const char *user, const char *password, struct identity *who,
                  struct api_err *err)
{
    if (call->local_root) {
        *who = identity_of_root(user);
        return 0;
    }
    /* Who says a password is judged by that. */
    int rc = call->known_client && !*password
                 ? auth_check_certificate(call->server, who, err)
                 : auth_check(call->server, call->peer, user, password, who, &call->delay_ms, err);
    return rc < 0 ? refuse(call, user, err) : 0;
}

int handle_session_login_with_password(struct call *call, const struct session_login_with_password_args *args,
                                       struct ref *result, struct api_err *err)
{
    AUTO_IDENTITY struct identity who = {0};
    if (who_is(call, args->uname, args->pwd, &who, err) < 0)
        return -1;
    return admit(call, &who, args->originator, result, err);
}

/* Only the server's own administrator: a user of the pool is nobody on one host alone. */
int handle_session_slave_local_login_with_password(
    struct call *call, const struct session_slave_local_login_with_password_args *args, struct ref *result,
    struct api_err *err)
{
    AUTO_IDENTITY struct identity who = {0};
    if (who_is(call, args->uname, args->pwd, &who, err) < 0)
        return -1;
    if (!who.superuser) {
        err_session_authentication_failed(err, args->uname, "Only root may log in to one host alone.");
        return refuse(call, args->uname, err);
    }
    who.local = true;
    return admit(call, &who, "", result, err);
}

static int by_secret(struct call *call, const char *secret, bool local, struct ref *result,
                     struct api_err *err)
{
    AUTO_IDENTITY struct identity who = identity_of_root("");
    if (auth_check_secret(call->server, call->peer, secret, &call->delay_ms, err) < 0)
        return refuse(call, "", err);
    who.pool = !local;
    who.local = local;
    return admit(call, &who, "", result, err);
}

int handle_session_slave_login(struct call *call, const struct session_slave_login_args *args,
                               struct ref *result, struct api_err *err)
{
    return by_secret(call, args->psecret, false, result, err);
}

int handle_session_slave_local_login(struct call *call, const struct session_slave_local_login_args *args,
                                     struct ref *result, struct api_err *err)
{
    return by_secret(call, args->psecret, true, result, err);
}

static void close_own(struct call *call)
{
    trail_session(call->server->trail, call->peer, call->method->name, call->session->user, call->session,
                  NULL);
    session_close(call->server, call->session);
}

int handle_session_logout(struct call *call, struct api_err *err)
{
    (void)err;
    close_own(call);
    return 0;
}

/* Sessions of the pool are not on one host alone: they stay. */
int handle_session_local_logout(struct call *call, struct api_err *err)
{
    (void)err;
    if (call->session->local)
        close_own(call);
    return 0;
}

static int set_local_password(struct call *call, const char *password, struct api_err *err)
{
    AUTO_FREE char *hash = secret_hash_password(password, strlen(password));
    if (!hash)
        return err_change_password_rejected(err, "The new password is empty.");
    struct tx *tx = store_begin(call->server->store);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct user_row *user = accounts_user_of_sid(snap, call->session->sid);
    struct user_row *row = user ? user_row_mut(tx_edit(tx, CLASS_user, user->row.ref)) : NULL;
    if (!row) {
        tx_abort(tx);
        return fail_internal(err, "The user is not there any more.");
    }
    str_assign(&row->password_hash, hash);
    return server_commit(tx, err);
}

int handle_session_change_password(struct call *call, const struct session_change_password_args *args,
                                   struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct session *session = call->session;
    bool local = !session->superuser && accounts_user_of_sid(snap, session->sid);
    int rc;
    if (!session->superuser && !local) /* the directory keeps this user's password */
        rc = roles_require(session, ROLE_INTERNAL, "session.change_password", err);
    else if (!call->local_root && auth_check_own(call->server, session, args->old_pwd, err) < 0)
        rc = -1;
    else if (local)
        rc = set_local_password(call, args->new_pwd, err);
    else
        rc = auth_set_root_password(call->server, args->new_pwd, err);
    trail_session(call->server->trail, call->peer, call->method->name, session->user, session,
                  rc < 0 ? err : NULL);
    return rc;
}

int handle_session_get_all_subject_identifiers(struct call *call, const struct str_set **result,
                                               struct api_err *err)
{
    (void)err;
    *result = sessions_sids(call->server->sessions);
    return 0;
}

int handle_session_logout_subject_identifier(struct call *call,
                                             const struct session_logout_subject_identifier_args *args,
                                             struct api_err *err)
{
    (void)err;
    sessions_close_of(call->server, args->subject_identifier, NULL);
    return 0;
}
