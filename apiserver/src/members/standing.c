/* The standing's file. */
#include "standing.h"

#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#define ROLE_MAX ((size_t)1 << 20)

struct standing {
    char *dir, *path;
    pthread_mutex_t lock; /* guards value */
    json_t *value;
};

static json_t *first_standing(void)
{
    return json_pack("{sbsisss{}s[]}", "member", 0, "term", 1, "data", "", "leader", "peers");
}

static bool fits(const json_t *value)
{
    const char *data;
    int64_t term;
    return json_get_string(value, "data", &data) && !strchr(data, '/') && data[0] != '.' &&
           json_get_int(value, "term", &term) && term > 0;
}

static json_t *read_standing(const char *path)
{
    size_t len;
    struct json_error error;
    AUTO_FREE char *text = file_read(path, ROLE_MAX, &len);
    if (!text && errno == ENOENT)
        return first_standing();
    json_t *value = text ? json_parse(text, len, &error) : NULL;
    if (value && fits(value))
        return value;
    json_decref(value);
    log_error("members", "what this server is in its pool cannot be read", "file", path, "cause",
              text ? "it is not what was written" : strerror(errno));
    return NULL;
}

struct standing *standing_open(const char *dir)
{
    AUTO_FREE char *path = xasprintf("%s/standing.json", dir);
    json_t *value = read_standing(path);
    if (!value)
        return NULL;
    struct standing *standing = xcalloc(1, sizeof(*standing));
    standing->dir = xstrdup(dir);
    standing->path = TAKE_PTR(path);
    standing->value = value;
    pthread_mutex_init(&standing->lock, NULL);
    return standing;
}

void standing_free(struct standing *standing)
{
    if (!standing)
        return;
    pthread_mutex_destroy(&standing->lock);
    json_decref(standing->value);
    free(standing->path);
    free(standing->dir);
    free(standing);
}

json_t *standing_get(struct standing *standing)
{
    pthread_mutex_lock(&standing->lock);
    json_t *copy = json_deep_copy(standing->value);
    pthread_mutex_unlock(&standing->lock);
    return copy;
}

int standing_set(struct standing *standing, const json_t *value)
{
    AUTO_BUF struct buf text = BUF_INIT;
    json_write(&text, value);
    buf_add_char(&text, '\n');
    pthread_mutex_lock(&standing->lock);
    int rc = file_write_atomic(standing->path, text.data, text.len, 0600);
    int cause = errno;
    if (rc == 0) {
        json_decref(standing->value);
        standing->value = json_deep_copy(value);
    }
    pthread_mutex_unlock(&standing->lock);
    errno = cause;
    return rc;
}

bool standing_is_member(struct standing *standing)
{
    bool member = false;
    pthread_mutex_lock(&standing->lock);
    json_get_bool(standing->value, "member", &member);
    pthread_mutex_unlock(&standing->lock);
    return member;
}

int64_t standing_term(struct standing *standing)
{
    int64_t term = 1;
    pthread_mutex_lock(&standing->lock);
    json_get_int(standing->value, "term", &term);
    pthread_mutex_unlock(&standing->lock);
    return term;
}

char *standing_data_dir(struct standing *standing)
{
    const char *data = "";
    pthread_mutex_lock(&standing->lock);
    json_get_string(standing->value, "data", &data);
    char *dir = *data ? xasprintf("%s/%s", standing->dir, data) : xstrdup(standing->dir);
    pthread_mutex_unlock(&standing->lock);
    return dir;
}

bool standing_leader(struct standing *standing, struct peer *out)
{
    pthread_mutex_lock(&standing->lock);
    bool known = peer_read(json_object_get(standing->value, "leader"), out);
    pthread_mutex_unlock(&standing->lock);
    return known;
}

bool peer_read(const json_t *json, struct peer *out)
{
    const char *uuid = "", *address;
    int64_t port;
    json_get_string(json, "uuid", &uuid);
    if (!json_get_string(json, "address", &address) || !*address || !json_get_int(json, "port", &port) ||
        port < 1 || port > 65535 || strlen(uuid) >= sizeof(out->uuid) ||
        strlen(address) >= sizeof(out->address))
        return false;
    *out = (struct peer){.port = (int)port};
    snprintf(out->uuid, sizeof(out->uuid), "%s", uuid);
    snprintf(out->address, sizeof(out->address), "%s", address);
    return true;
}

json_t *peer_json(const struct peer *peer)
{
    return json_pack("{sssssi}", "uuid", peer->uuid, "address", peer->address, "port", peer->port);
}
