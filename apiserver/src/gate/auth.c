/* Logging in without costing others anything, and who a name and a password stand for.
 *
 * A login waits in a timer as long as the brake (brake.c) says, then for a turn of its source (turns.c), then
 * it takes one of the few login workers for the time of a hash. No thread waits. What an outside directory
 * decides has workers of its own, so that one that hangs keeps nobody out who is known here.
 *
 * A name is looked for in this order, and the first place that knows it decides: root, the local users, and
 * the machine's directory when external authentication is on. */
#include "auth.h"

#include "../notices.h"
#include "../timers.h"
#include "accounts.h"
#include "brake.h"
#include "directory.h"
#include "remembered.h"
#include "superuser.h"
#include "turns.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <model/args.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>

#define TURNS_OF_ONE_SOURCE 2
#define QUEUE_OF_ONE_SOURCE 256
#define DIRECT_CHECKS_MAX 2
#define KNOWN_MAX 256
#define ROOT "root"

/* A password that was right once: a keyed hash of it and of the slow hash that it fits. */
struct known {
    char keyed[SHA256_TEXT_SIZE];
};

struct auth {
    struct superuser *superuser;
    struct brake *brake;
    struct turns *turns;
    struct remembered *directory;
    char *known_key;      /* random, of this process */
    pthread_mutex_t lock; /* guards what follows */
    struct known known[KNOWN_MAX];
    size_t known_next; /* the oldest goes */
    unsigned direct;   /* checks by HTTP Basic under way */
};

int auth_init(struct server *server)
{
    struct superuser *superuser = superuser_open(server->state_dir);
    if (!superuser)
        return -1;
    struct auth *auth = xcalloc(1, sizeof(*auth));
    pthread_mutex_init(&auth->lock, NULL);
    auth->superuser = superuser;
    auth->known_key = secret_token(32);
    auth->directory = remembered_new();
    auth->brake = brake_new();
    auth->turns = turns_new(TURNS_OF_ONE_SOURCE, QUEUE_OF_ONE_SOURCE);
    server->auth = auth;
    return 0;
}

void auth_free(struct auth *auth)
{
    if (!auth)
        return;
    secret_free_cleanup(&auth->known_key);
    remembered_free(auth->directory);
    superuser_free(auth->superuser);
    brake_free(auth->brake);
    turns_free(auth->turns);
    pthread_mutex_destroy(&auth->lock);
    free(auth);
}

/* ---- running a login ---- */

struct login {
    struct call *call;
    void (*work)(void *call);
    struct auth *auth;
    char peer[sizeof(((struct call *)NULL)->peer)];
    char *user;
};

static void login_free(struct login *login)
{
    free(login->user);
    free(login);
}

/* Before the work began. */
static void login_fail(struct login *login)
{
    struct call *call = login->call;
    login_free(login);
    call->failed = true;
    call->complete(call);
}

static void run_login(void *arg);

static struct worker_pool *workers_for(const struct login *login)
{
    struct server *server = login->call->server;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    bool outside =
        !streq(login->user, ROOT) && directory_enabled(server, snap) && !accounts_user(snap, login->user);
    return outside ? server->directory_workers : server->login_workers;
}

static void submit(struct login *login)
{
    struct server *server = login->call->server;
    while (login && (server->closing || worker_submit(workers_for(login), run_login, login) < 0)) {
        struct login *next = turns_next(login->auth->turns, login->peer);
        fail_internal(&login->call->err, server->closing ? "The server is stopping."
                                                         : "Too many logins at once: try again in a moment.");
        login_fail(login);
        login = next;
    }
}

/* On a login worker. */
static void run_login(void *arg)
{
    struct login *login = arg;
    struct auth *auth = login->auth;
    login->work(login->call);
    struct login *next = turns_next(auth->turns, login->peer);
    login_free(login);
    if (next)
        submit(next);
}

static void take_turn(struct login *login)
{
    switch (turns_ask(login->auth->turns, login->peer, login)) {
    case TURN_NOW:
        submit(login);
        return;
    case TURN_LATER:
        return;
    case TURN_REFUSED:
        fail_internal(&login->call->err, "Too many logins at once from this address: try again in a moment.");
        login_fail(login);
        return;
    }
}

static void schedule(struct login *login);

static void schedule_again(void *arg)
{
    struct login *login = arg;
    brake_unwait(login->auth->brake, login->peer, login->user);
    if (login->call->server->closing) {
        fail_internal(&login->call->err, "The server is stopping.");
        login_fail(login);
    } else {
        schedule(login);
    }
}

static void schedule(struct login *login)
{
    struct brake *brake = login->auth->brake;
    int64_t wait = brake_ask(brake, login->peer, login->user, clock_mono_ms());
    if (wait == 0) {
        take_turn(login);
    } else if (brake_wait(brake, login->peer, login->user)) {
        timers_after(login->call->server->timers, wait, schedule_again, login);
    } else {
        err_session_authentication_failed(&login->call->err, login->user,
                                          "Too many attempts from this address: wait a minute.");
        login_fail(login);
    }
}

void auth_schedule(struct call *call, void (*work)(void *call))
{
    const json_t *first = json_array_get(call->params, 0);
    struct login *login = xcalloc(1, sizeof(*login));
    login->call = call;
    login->work = work;
    login->auth = call->server->auth;
    snprintf(login->peer, sizeof(login->peer), "%s", call->peer);
    bool named = call->method->param_count > 1 && streq(call->method->params[0].name, "uname");
    login->user = xstrdup(named && json_is_string(first) ? json_string_value(first) : "");
    schedule(login);
}

/* ---- checking ---- */

/* A slow hash at every login would make each short-lived client wait for it. A password that was right once
 * is known again by a keyed hash, in memory only; a wrong one always costs the slow hash and the brake. The
 * slow hash is part of it, so a changed password is not known any more. */
static void keyed_hash(const struct auth *auth, const char *hash, const char *password,
                       char out[static SHA256_TEXT_SIZE])
{
    AUTO_SECRET char *text = xasprintf("%s/%s/%s", auth->known_key, hash, password);
    sha256_text(text, strlen(text), out);
}

static bool is_known(struct auth *auth, const char *keyed)
{
    bool known = false;
    pthread_mutex_lock(&auth->lock);
    for (size_t i = 0; i < KNOWN_MAX; i++)
        known |= secret_equal_text(auth->known[i].keyed, keyed);
    pthread_mutex_unlock(&auth->lock);
    return known;
}

static bool password_right(struct auth *auth, const char *hash, const char *password)
{
    char keyed[SHA256_TEXT_SIZE];
    keyed_hash(auth, hash, password, keyed);
    if (is_known(auth, keyed))
        return true;
    if (!secret_verify_password(password, strlen(password), hash))
        return false;
    pthread_mutex_lock(&auth->lock);
    memcpy(auth->known[auth->known_next].keyed, keyed, sizeof(keyed));
    auth->known_next = (auth->known_next + 1) % KNOWN_MAX;
    pthread_mutex_unlock(&auth->lock);
    return true;
}

void auth_forget_directory(struct server *server)
{
    if (server->rehearsal)
        return;
    remembered_clear(server->auth->directory);
}

#define LOCAL_THREADS_DEFAULT 8 /* of the field: the server then takes its own number */
#define LOCAL_THREADS 2
#define DIRECTORY_THREADS_DEFAULT 1
#define DIRECTORY_THREADS 4

void auth_apply_threads(struct server *server)
{
    if (server->rehearsal)
        return;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    if (!pool)
        return;
    int64_t local = pool->local_auth_max_threads, outside = pool->ext_auth_max_threads;
    worker_pool_set_max(server->login_workers,
                        local == LOCAL_THREADS_DEFAULT ? LOCAL_THREADS : (unsigned)local);
    worker_pool_set_max(server->directory_workers,
                        outside == DIRECTORY_THREADS_DEFAULT ? DIRECTORY_THREADS : (unsigned)outside);
}

enum found { FOUND_WRONG, FOUND_ROOT, FOUND_SUBJECT, FOUND_BROKEN };

/* Whom the directory knows. */
static enum found ask_directory(struct server *server, const char *peer, const char *user,
                                const char *password, struct identity *who)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    bool remember = pool && pool->ext_auth_cache_enabled;
    struct remembered *answers = server->auth->directory;
    AUTO_FREE char *name = remember ? remembered_find(answers, user, password, clock_mono_ms()) : NULL;
    bool asked = !name;
    switch (!asked ? DIRECTORY_RIGHT : directory_check(server->pam_dir, peer, user, password, &name)) {
    case DIRECTORY_RIGHT:
        break;
    case DIRECTORY_WRONG:
        return FOUND_WRONG;
    case DIRECTORY_BROKEN:
        return FOUND_BROKEN;
    }
    if (remember && asked)
        remembered_put(answers, user, password, name, (size_t)pool->ext_auth_cache_size,
                       clock_mono_ms() + pool->ext_auth_cache_expiry * 1000);
    AUTO_FREE char *sid = directory_user_sid(name);
    *who =
        (struct identity){.user = xstrdup(user), .sid = TAKE_PTR(sid), .sids = directory_sids_of_user(name)};
    return FOUND_SUBJECT;
}

/* Sets *who, but for its rights. A hash is computed for unknown users too, so that the time tells nothing. */
static enum found find_user(struct server *server, const char *peer, const char *user, const char *password,
                            struct identity *who)
{
    struct auth *auth = server->auth;
    AUTO_FREE char *hash = superuser_hash(auth->superuser);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    if (streq(user, ROOT)) {
        if (!password_right(auth, hash, password))
            return FOUND_WRONG;
        *who = identity_of_root(user);
        return FOUND_ROOT;
    }
    const struct user_row *local = accounts_user(snap, user);
    if (!local && directory_enabled(server, snap))
        return ask_directory(server, peer, user, password, who);
    bool may = local && *local->password_hash;
    if (!password_right(auth, may ? local->password_hash : hash, password) || !may)
        return FOUND_WRONG;
    AUTO_FREE char *sid = accounts_sid(local->uuid);
    const char *sids[] = {sid};
    *who = (struct identity){.user = xstrdup(user), .sids = str_set_new(sids, 1)};
    who->sid = TAKE_PTR(sid);
    return FOUND_SUBJECT;
}

/* The right person, but what may they do? */
static int grant(struct server *server, struct identity *who, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    switch (accounts_rights(snap, who->sids, &who->subject, &who->role)) {
    case RIGHTS_SOME:
        return 0;
    case RIGHTS_NO_ROLE:
        return err_rbac_permission_denied(err, "session.login_with_password",
                                          "The user has no role: an administrator can give one.");
    case RIGHTS_NO_SUBJECT:
        break;
    }
    return err_session_authorization_failed(
        err, who->user, "Neither the user nor a group of the user was allowed to log in here.");
}

int auth_check(struct server *server, const char *peer, const char *user, const char *password,
               struct identity *who, int64_t *delay_ms, struct api_err *err)
{
    struct auth *auth = server->auth;
    struct identity found = {0};
    enum found how = find_user(server, peer, user, password, &found);
    if (how == FOUND_BROKEN)
        return err_session_authentication_failed(err, user, "The directory of users cannot be asked now.");
    if (how == FOUND_WRONG) {
        int64_t delay = brake_failed(auth->brake, peer, user, clock_mono_ms());
        if (delay_ms)
            *delay_ms = delay;
        log_warn("auth", "wrong user or password", "user", user, "from", peer);
        notices_login_failed(server->notices, peer, user);
        return err_session_authentication_failed(err, user, "Wrong user name or password.");
    }
    brake_passed(auth->brake, peer, user);
    if (how == FOUND_SUBJECT && grant(server, &found, err) < 0) {
        log_warn("auth", "a user without rights", "user", user, "from", peer, "error", err->code);
        identity_done(&found);
        return -1;
    }
    *who = found;
    return 0;
}

int auth_check_directly(struct server *server, const char *peer, const char *user, const char *password,
                        struct identity *who, struct api_err *err)
{
    struct auth *auth = server->auth;
    pthread_mutex_lock(&auth->lock);
    bool room = auth->direct < DIRECT_CHECKS_MAX;
    auth->direct += room;
    pthread_mutex_unlock(&auth->lock);
    if (!room)
        return fail_internal(err, "Too many logins at once: try again in a moment.");
    int64_t wait = brake_ask(auth->brake, peer, user, clock_mono_ms());
    int rc = wait > 0 ? err_session_authentication_failed(
                            err, user,
                            "The password was wrong just now: wait a few seconds before the next attempt.")
                      : auth_check(server, peer, user, password, who, NULL, err);
    pthread_mutex_lock(&auth->lock);
    auth->direct--;
    pthread_mutex_unlock(&auth->lock);
    return rc;
}

bool auth_is_pool_secret(struct server *server, const char *secret)
{
    return superuser_is_pool_secret(server->auth->superuser, secret);
}

int auth_check_certificate(struct server *server, struct identity *who, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    if (!pool || !pool->client_certificate_auth_enabled)
        return err_session_authentication_failed(err, "", "Logins by client certificate are switched off.");
    *who = identity_of_certificate(pool->client_certificate_auth_name);
    return 0;
}

int auth_rotate_pool_secret(struct server *server, struct api_err *err)
{
    return superuser_rotate_pool_secret(server->auth->superuser, err);
}

int auth_check_secret(struct server *server, const char *peer, const char *secret, int64_t *delay_ms,
                      struct api_err *err)
{
    if (auth_is_pool_secret(server, secret))
        return 0;
    *delay_ms = brake_failed(server->auth->brake, peer, "", clock_mono_ms());
    log_warn("auth", "wrong pool secret", "from", peer);
    return err_session_authentication_failed(err, "", "The secret is not that of this pool.");
}

int auth_check_own(struct server *server, const struct session *session, const char *password,
                   struct api_err *err)
{
    AUTO_FREE char *hash = superuser_hash(server->auth->superuser);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct user_row *user = session->superuser ? NULL : accounts_user_of_sid(snap, session->sid);
    const char *counts = user ? user->password_hash : hash;
    if (secret_verify_password(password, strlen(password), counts))
        return 0;
    return err_session_authentication_failed(err, session->user, "The old password is wrong.");
}

int auth_set_root_password(struct server *server, const char *password, struct api_err *err)
{
    return superuser_set_password(server->auth->superuser, password, err);
}
