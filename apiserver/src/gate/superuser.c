/* DIR/admin-password holds the first password, for the operator; DIR/admin-password.hash is what counts. A
 * changed password removes the clear one. DIR/pool-secret is random. */
#include "superuser.h"

#include "../server.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <errno.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>

#define SECRET_BYTES 48

struct superuser {
    const char *state_dir;
    pthread_mutex_t lock; /* guards what follows */
    char *hash, *pool_secret;
};

static char *path_in(const char *state_dir, const char *name)
{
    return xasprintf("%s/%s", state_dir, name);
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

/* The secret that is there, or a new random one. */
static char *read_or_make(const char *path, size_t bytes)
{
    char *text = file_read(path, 4096, NULL);
    if (text)
        return trimmed(text);
    if (errno != ENOENT) {
        log_error("auth", "a password file could not be read", "file", path, "cause", strerror(errno));
        return NULL;
    }
    text = secret_token(bytes);
    if (write_secret(path, text) < 0) {
        secret_free_cleanup(&text);
        return NULL;
    }
    return text;
}

static int load(struct superuser *s)
{
    AUTO_FREE char *hash_path = path_in(s->state_dir, "admin-password.hash");
    AUTO_FREE char *clear_path = path_in(s->state_dir, "admin-password");
    AUTO_FREE char *secret_path = path_in(s->state_dir, "pool-secret");
    s->pool_secret = read_or_make(secret_path, SECRET_BYTES);
    if (!s->pool_secret)
        return -1;
    if (strlen(s->pool_secret) < SECRET_BYTES) {
        log_error("auth", "the pool's secret is too short: remove its file, and a new one is made", "file",
                  secret_path);
        return -1;
    }
    s->hash = file_read(hash_path, 4096, NULL);
    if (s->hash) {
        trimmed(s->hash);
        return 0;
    }
    AUTO_SECRET char *password = read_or_make(clear_path, 18);
    if (!password)
        return -1;
    s->hash = secret_hash_password(password, strlen(password));
    if (!s->hash) {
        log_error("auth", "the password file is empty: write a password into it, or remove it", "file",
                  clear_path);
        return -1;
    }
    return write_secret(hash_path, s->hash);
}

struct superuser *superuser_open(const char *state_dir)
{
    struct superuser *s = xcalloc(1, sizeof(*s));
    s->state_dir = state_dir;
    pthread_mutex_init(&s->lock, NULL);
    if (load(s) == 0)
        return s;
    superuser_free(s);
    return NULL;
}

void superuser_free(struct superuser *s)
{
    if (!s)
        return;
    secret_free_cleanup(&s->pool_secret);
    free(s->hash);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

char *superuser_hash(struct superuser *s)
{
    pthread_mutex_lock(&s->lock);
    char *hash = xstrdup(s->hash);
    pthread_mutex_unlock(&s->lock);
    return hash;
}

int superuser_set_password(struct superuser *s, const char *password, struct api_err *err)
{
    char *fresh = secret_hash_password(password, strlen(password));
    if (!fresh)
        return err_change_password_rejected(err, "The new password is empty.");
    AUTO_FREE char *hash_path = path_in(s->state_dir, "admin-password.hash");
    pthread_mutex_lock(&s->lock);
    int rc = write_secret(hash_path, fresh);
    if (rc == 0) {
        free(s->hash);
        s->hash = fresh;
    }
    pthread_mutex_unlock(&s->lock);
    if (rc < 0) {
        free(fresh);
        return fail_internal(err, "The password could not be stored: it was not changed.");
    }
    AUTO_FREE char *clear_path = path_in(s->state_dir, "admin-password");
    if (unlink(clear_path) < 0 && errno != ENOENT)
        log_warn("auth", "the file with the old password could not be removed", "cause", strerror(errno));
    return 0;
}

bool superuser_is_pool_secret(struct superuser *s, const char *secret)
{
    pthread_mutex_lock(&s->lock);
    bool is = secret_equal_text(s->pool_secret, secret);
    pthread_mutex_unlock(&s->lock);
    return is;
}

int superuser_rotate_pool_secret(struct superuser *s, struct api_err *err)
{
    AUTO_FREE char *path = path_in(s->state_dir, "pool-secret");
    AUTO_SECRET char *other = secret_token(SECRET_BYTES);
    pthread_mutex_lock(&s->lock);
    int rc = write_secret(path, other);
    if (rc == 0) {
        char *old = s->pool_secret;
        s->pool_secret = other;
        other = old; /* wiped on return */
    }
    pthread_mutex_unlock(&s->lock);
    return rc < 0 ? fail_internal(err, "The secret could not be stored: it was not changed.") : 0;
}
