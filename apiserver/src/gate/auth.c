/* The superuser's password and the brake on guessing.
 *
 * DIR/admin-password holds the first password, for the operator; DIR/admin-password.hash is what counts. A
 * changed password removes the clear one.
 *
 * Each pair of source and user has a time before which its next attempt is not looked at. Attempts that come
 * earlier wait in a timer, a few of them; further ones are refused unseen. So one source's guessing costs
 * nobody else anything, and no thread. */
#include "auth.h"

#include "../timers.h"
#include "session.h"
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

#define FAILURE_DELAY_MS 5000
#define FAILURE_DELAY_MAX_MS 60000
#define WAITING_MAX 8
#define SOURCES_MAX 4096
#define FORGET_MS (15 * 60 * 1000)

struct source {
    char peer[48];
    char user[64];
    unsigned failures, waiting;
    int64_t not_before_ms, last_ms;
};

struct auth {
    char *known_key;      /* random, of this process */
    pthread_mutex_t lock; /* guards what follows */
    char *hash;
    char known[SHA256_TEXT_SIZE]; /* keyed hash of the password that was right last; "": none */
    struct source *sources;
    size_t count, cap;
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
    free(auth->sources);
    pthread_mutex_destroy(&auth->lock);
    free(auth);
}

/* ---- the brake ---- */

static void forget_old(struct auth *auth, int64_t now)
{
    for (size_t i = 0; i < auth->count;) {
        if (auth->sources[i].waiting == 0 && now - auth->sources[i].last_ms > FORGET_MS)
            auth->sources[i] = auth->sources[--auth->count];
        else
            i++;
    }
}

/* NULL when the table is full of sources that are being watched. */
static struct source *source_of(struct auth *auth, const char *peer, const char *user, bool make)
{
    for (size_t i = 0; i < auth->count; i++)
        if (streq(auth->sources[i].peer, peer) &&
            strncmp(auth->sources[i].user, user, sizeof(auth->sources->user) - 1) == 0)
            return &auth->sources[i];
    if (!make)
        return NULL;
    int64_t now = clock_mono_ms();
    forget_old(auth, now);
    if (auth->count == SOURCES_MAX)
        return NULL;
    if (auth->count == auth->cap) {
        auth->cap = auth->cap ? 2 * auth->cap : 16;
        auth->sources = xreallocarray(auth->sources, auth->cap, sizeof(*auth->sources));
    }
    struct source *source = &auth->sources[auth->count++];
    *source = (struct source){.last_ms = now};
    snprintf(source->peer, sizeof(source->peer), "%s", peer);
    snprintf(source->user, sizeof(source->user), "%s", user);
    return source;
}

/* Returns how long the answer is to be held back. */
static int64_t note_failure(struct auth *auth, const char *peer, const char *user)
{
    int64_t delay = FAILURE_DELAY_MS;
    pthread_mutex_lock(&auth->lock);
    struct source *source = source_of(auth, peer, user, true);
    if (source) {
        source->failures++;
        delay = (int64_t)FAILURE_DELAY_MS * source->failures;
        if (delay > FAILURE_DELAY_MAX_MS)
            delay = FAILURE_DELAY_MAX_MS;
        source->last_ms = clock_mono_ms();
        source->not_before_ms = source->last_ms + delay;
    }
    pthread_mutex_unlock(&auth->lock);
    return delay;
}

static void note_success(struct auth *auth, const char *peer, const char *user)
{
    pthread_mutex_lock(&auth->lock);
    struct source *source = source_of(auth, peer, user, false);
    if (source) {
        source->failures = 0;
        source->not_before_ms = 0;
    }
    pthread_mutex_unlock(&auth->lock);
}

/* Milliseconds to wait, 0: go; -1: too many wait already. */
static int64_t admit(struct auth *auth, const char *peer, const char *user)
{
    int64_t wait = 0;
    pthread_mutex_lock(&auth->lock);
    struct source *source = source_of(auth, peer, user, false);
    int64_t now = clock_mono_ms();
    if (source && source->not_before_ms > now) {
        wait = source->not_before_ms - now;
        if (source->waiting >= WAITING_MAX)
            wait = -1;
        else
            source->waiting++;
    }
    pthread_mutex_unlock(&auth->lock);
    return wait;
}

static void leave(struct auth *auth, const char *peer, const char *user)
{
    pthread_mutex_lock(&auth->lock);
    struct source *source = source_of(auth, peer, user, false);
    if (source && source->waiting)
        source->waiting--;
    pthread_mutex_unlock(&auth->lock);
}

/* ---- running a login ---- */

struct late_login {
    struct call *call;
    void (*work)(void *call);
    char *user;
};

static void submit(struct call *call, void (*work)(void *call))
{
    struct server *server = call->server;
    if (server->closing)
        fail_internal(&call->err, "The server is stopping.");
    else if (worker_submit(server->login_workers, work, call) == 0)
        return;
    else
        fail_internal(&call->err, "Too many logins at once: try again in a moment.");
    call->failed = true;
    call->complete(call);
}

static void run_late(void *arg)
{
    struct late_login *late = arg;
    leave(late->call->server->auth, late->call->peer, late->user);
    submit(late->call, late->work);
    free(late->user);
    free(late);
}

void auth_schedule(struct call *call, void (*work)(void *call))
{
    const json_t *first = json_array_get(call->params, 0);
    const char *user = json_is_string(first) ? json_string_value(first) : "";
    int64_t wait = admit(call->server->auth, call->peer, user);
    if (wait == 0) {
        submit(call, work);
        return;
    }
    if (wait < 0) {
        err_session_authentication_failed(&call->err, user,
                                          "Too many attempts from this address: wait a minute.");
        call->failed = true;
        call->complete(call);
        return;
    }
    struct late_login *late = xcalloc(1, sizeof(*late));
    *late = (struct late_login){call, work, xstrdup(user)};
    timers_after(call->server->timers, wait, run_late, late);
}

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
        note_success(auth, peer, user);
        *role = ROLE_POOL_ADMIN;
        *superuser = true;
        return 0;
    }
    int64_t delay = note_failure(auth, peer, user);
    if (delay_ms)
        *delay_ms = delay;
    log_warn("auth", "wrong user or password", "user", user, "from", peer);
    return err_session_authentication_failed(err, user, "Wrong user name or password.");
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
