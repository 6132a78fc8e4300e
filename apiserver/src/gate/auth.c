/* The superuser's password, and logging in without costing others anything.
 *
 * DIR/admin-password holds the first password, for the operator; DIR/admin-password.hash is what counts. A
 * changed password removes the clear one.
 *
 * A login waits in a timer as long as the brake (brake.c) says, then for a turn of its source (turns.c), then
 * it takes one of the few login workers for the time of a hash. No thread waits. */
#include "auth.h"

#include "../timers.h"
#include "brake.h"
#include "session.h"
#include "turns.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <errno.h>
#include <model/args.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>

#define TURNS_OF_ONE_SOURCE 2
#define QUEUE_OF_ONE_SOURCE 256
#define DIRECT_CHECKS_MAX 2

struct auth {
    struct brake *brake;
    struct turns *turns;
    char *known_key;      /* random, of this process */
    pthread_mutex_t lock; /* guards what follows */
    char *hash;
    char known[SHA256_TEXT_SIZE]; /* keyed hash of the password that was right last; "": none */
    unsigned direct;              /* checks by HTTP Basic under way */
};

static char *path_in(const struct server *server, const char *name)
{
    return xasprintf("%s/%s", server->state_dir, name);
}

static char *trimmed(char *text)
{
    text[strcspn(text, "\r\n")] = '\0';
    return text;
}

static int write_secret(const char *path, const char *text)
{
    AUTO_SECRET char *line = xasprintf("%s\n", text);
    if (file_write_atomic(path, line, strlen(line), 0600) == 0)
        return 0;
    log_error("auth", "a password file could not be written", "file", path, "cause", strerror(errno));
    return -1;
}

/* The clear password: the one that is there, or a new random one. */
static char *first_password(const char *path)
{
    char *text = file_read(path, 4096, NULL);
    if (text)
        return trimmed(text);
    if (errno != ENOENT) {
        log_error("auth", "the password file could not be read", "file", path, "cause", strerror(errno));
        return NULL;
    }
    text = secret_token(18);
    if (write_secret(path, text) < 0) {
        secret_free_cleanup(&text);
        return NULL;
    }
    return text;
}

int auth_init(struct server *server)
{
    AUTO_FREE char *hash_path = path_in(server, "admin-password.hash");
    AUTO_FREE char *clear_path = path_in(server, "admin-password");
    struct auth *auth = xcalloc(1, sizeof(*auth));
    pthread_mutex_init(&auth->lock, NULL);
    auth->known_key = secret_token(32);
    auth->brake = brake_new();
    auth->turns = turns_new(TURNS_OF_ONE_SOURCE, QUEUE_OF_ONE_SOURCE);
    server->auth = auth;
    auth->hash = file_read(hash_path, 4096, NULL);
    if (auth->hash) {
        trimmed(auth->hash);
        return 0;
    }
    AUTO_SECRET char *password = first_password(clear_path);
    if (!password)
        return -1;
    auth->hash = secret_hash_password(password, strlen(password));
    if (!auth->hash) {
        log_error("auth", "the password file is empty: write a password into it, or remove it", "file",
                  clear_path);
        return -1;
    }
    return write_secret(hash_path, auth->hash);
}

void auth_free(struct auth *auth)
{
    if (!auth)
        return;
    secret_free_cleanup(&auth->known_key);
    free(auth->hash);
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

static void submit(struct login *login)
{
    struct server *server = login->call->server;
    while (login && (server->closing || worker_submit(server->login_workers, run_login, login) < 0)) {
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
    login->user = xstrdup(json_is_string(first) ? json_string_value(first) : "");
    schedule(login);
}

/* ---- checking ---- */

/* A slow hash at every login would make each short-lived client wait for it. The password that was right once
 * is known again by a keyed hash, in memory only; a wrong one always costs the slow hash and the brake. */
static void keyed_hash(const struct auth *auth, const char *password, char out[static SHA256_TEXT_SIZE])
{
    AUTO_SECRET char *text = xasprintf("%s/%s", auth->known_key, password);
    sha256_text(text, strlen(text), out);
}

static bool password_right(struct auth *auth, const char *password)
{
    char keyed[SHA256_TEXT_SIZE];
    keyed_hash(auth, password, keyed);
    pthread_mutex_lock(&auth->lock);
    bool known = secret_equal_text(auth->known, keyed);
    AUTO_FREE char *hash = xstrdup(auth->hash);
    pthread_mutex_unlock(&auth->lock);
    if (known)
        return true;
    if (!secret_verify_password(password, strlen(password), hash))
        return false;
    pthread_mutex_lock(&auth->lock);
    if (streq(auth->hash, hash)) /* not changed meanwhile */
        memcpy(auth->known, keyed, sizeof(auth->known));
    pthread_mutex_unlock(&auth->lock);
    return true;
}

int auth_check(struct server *server, const char *peer, const char *user, const char *password,
               enum role *role, bool *superuser, int64_t *delay_ms, struct api_err *err)
{
    struct auth *auth = server->auth;
    /* The hash is computed for unknown users too, so that the time tells nothing. */
    bool right = password_right(auth, password);
    if (right && streq(user, "root")) {
        brake_passed(auth->brake, peer, user);
        *role = ROLE_POOL_ADMIN;
        *superuser = true;
        return 0;
    }
    int64_t delay = brake_failed(auth->brake, peer, user, clock_mono_ms());
    if (delay_ms)
        *delay_ms = delay;
    log_warn("auth", "wrong user or password", "user", user, "from", peer);
    return err_session_authentication_failed(err, user, "Wrong user name or password.");
}

int auth_check_directly(struct server *server, const char *peer, const char *user, const char *password,
                        enum role *role, bool *superuser, struct api_err *err)
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
                      : auth_check(server, peer, user, password, role, superuser, NULL, err);
    pthread_mutex_lock(&auth->lock);
    auth->direct--;
    pthread_mutex_unlock(&auth->lock);
    return rc;
}

int auth_change_password(struct server *server, const char *old_password, const char *new_password,
                         struct api_err *err)
{
    struct auth *auth = server->auth;
    pthread_mutex_lock(&auth->lock);
    AUTO_FREE char *hash = xstrdup(auth->hash);
    pthread_mutex_unlock(&auth->lock);
    if (!secret_verify_password(old_password, strlen(old_password), hash))
        return err_session_authentication_failed(err, "root", "The old password is wrong.");
    char *fresh = secret_hash_password(new_password, strlen(new_password));
    if (!fresh)
        return err_change_password_rejected(err, "The new password is empty.");
    AUTO_FREE char *hash_path = path_in(server, "admin-password.hash");
    if (write_secret(hash_path, fresh) < 0) {
        free(fresh);
        return fail_internal(err, "The password could not be stored: it was not changed.");
    }
    AUTO_FREE char *clear_path = path_in(server, "admin-password");
    if (unlink(clear_path) < 0 && errno != ENOENT)
        log_warn("auth", "the file with the old password could not be removed", "cause", strerror(errno));
    pthread_mutex_lock(&auth->lock);
    free(auth->hash);
    auth->hash = fresh;
    auth->known[0] = '\0';
    pthread_mutex_unlock(&auth->lock);
    return 0;
}
