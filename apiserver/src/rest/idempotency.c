/* Idempotency-Key. The note is in the other_config of the task: who and key, hashed, and a digest of the
 * request. */
#include "change.h"

#include "../gate/session.h"
#include "../gate/task.h"
#include <base/json.h>
#include <base/mem.h>
#include <base/secret.h>
#include <pthread.h>
#include <stdio.h>

#define KEY_MAX 255
#define NOTE_KEY "rest:idempotency-key"
#define NOTE_DIGEST "rest:request"
#define UNDER_WAY_MAX 4096

/* Keys of requests that are not answered yet: their task may not be there. */
struct rest_keys {
    pthread_mutex_t lock;
    const char *keys[UNDER_WAY_MAX]; /* the requests' own */
    size_t count;
};

struct rest_keys *rest_keys_new(void)
{
    struct rest_keys *under_way = xcalloc(1, sizeof(*under_way));
    pthread_mutex_init(&under_way->lock, NULL);
    return under_way;
}

void rest_keys_free(struct rest_keys *under_way)
{
    if (!under_way)
        return;
    pthread_mutex_destroy(&under_way->lock);
    free(under_way);
}

static bool hold(struct rest *r)
{
    struct rest_keys *under_way = r->server->rest_keys;
    bool taken = false;
    pthread_mutex_lock(&under_way->lock);
    for (size_t i = 0; i < under_way->count; i++)
        taken = taken || streq(under_way->keys[i], r->key);
    if (!taken && under_way->count < UNDER_WAY_MAX) {
        under_way->keys[under_way->count++] = r->key;
        r->key_held = true;
    }
    pthread_mutex_unlock(&under_way->lock);
    return r->key_held;
}

void idempotency_release(struct rest *r)
{
    struct rest_keys *under_way = r->server->rest_keys;
    if (!r->key_held)
        return;
    r->key_held = false;
    pthread_mutex_lock(&under_way->lock);
    for (size_t i = 0; i < under_way->count; i++)
        if (under_way->keys[i] == r->key) {
            under_way->keys[i] = under_way->keys[--under_way->count];
            break;
        }
    pthread_mutex_unlock(&under_way->lock);
}

static char *hash(const struct buf *text)
{
    char out[SHA256_TEXT_SIZE];
    return xstrdup(sha256_text(text->data, text->len, out));
}

/* Who and key: the keys of two users are different ones. */
static void make_key(struct rest *r, const char *key)
{
    AUTO_BUF struct buf text = BUF_INIT;
    buf_printf(&text, "%s\n%s\n%s", r->session->sid, r->session->user, key);
    r->key = hash(&text);
}

static void make_digest(struct rest *r)
{
    AUTO_BUF struct buf text = BUF_INIT;
    buf_printf(&text, "%s\n%s\n", r->message->name, r->target.uuid);
    if (r->body) {
        AUTO_FREE char *body = json_dumps(r->body, JSON_SORT_KEYS | JSON_COMPACT);
        buf_add_str(&text, body ? body : "");
    }
    r->digest = hash(&text);
}

struct search {
    const char *key;
    const struct task_row *found;
};

static bool look(const struct row *row, void *arg)
{
    struct search *search = arg;
    const struct task_row *task = task_row(row);
    const char *key = str_map_get(task->other_config, NOTE_KEY);
    if (key && streq(key, search->key))
        search->found = task;
    return !search->found;
}

static enum key_state refuse(struct rest *r, unsigned status, const char *title, const char *detail)
{
    rest_problem(r->req, status, title, detail);
    return KEY_REFUSED;
}

enum key_state idempotency_not_here(struct rest *r)
{
    if (!http_request_header(r->req, "Idempotency-Key"))
        return KEY_NEW;
    return refuse(r, 422, "Unprocessable Content",
                  "This call leaves no task, so an Idempotency-Key cannot be kept for it: leave it out.");
}

enum key_state idempotency_begin(struct rest *r)
{
    const char *given = http_request_header(r->req, "Idempotency-Key");
    if (!given)
        return KEY_NEW;
    if (!*given || strlen(given) > KEY_MAX)
        return refuse(r, 400, "Bad Request", "An Idempotency-Key has 1 to 255 characters.");
    make_key(r, given);
    make_digest(r);
    if (!hold(r))
        return refuse(r, 409, "Conflict",
                      "A request with this Idempotency-Key is being worked on: ask again in a moment.");
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    struct search search = {.key = r->key};
    snapshot_each(snap, CLASS_task, look, &search);
    if (!search.found) {
        str_map_put(&r->claim.origin, NOTE_KEY, r->key);
        str_map_put(&r->claim.origin, NOTE_DIGEST, r->digest);
        return KEY_NEW;
    }
    const char *digest = str_map_get(search.found->other_config, NOTE_DIGEST);
    if (!digest || !streq(digest, r->digest))
        return refuse(r, 422, "Unprocessable Content",
                      "This Idempotency-Key belongs to another request: take a new key for a new request.");
    r->task = search.found->row.ref;
    return KEY_SEEN;
}
