/* GET /api/v1/pool/copy: one line of JSON, then the files that it lists, one after another. The database
 * comes last; the others are what a server needs to speak for the pool: keys, the secret, the password's
 * hash. */
#include "../gate/session.h"
#include "../http/doors.h"
#include "members.h"
#include "remote.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_MS 8000     /* one request waits so long for a change */
#define WAIT_STEP_MS 500 /* how soon the end of the server is noticed */
#define FETCH_MS 120000
#define DATABASE_MAX ((size_t)1 << 30)
#define SMALL_MAX ((size_t)1 << 20)

static const char *const small_files[] = {"pki/ca.pem",    "pki/ca.key",          "pki/poold.pem",
                                          "pki/poold.key", "admin-password.hash", "pool-secret"};

/* ---- giving ---- */

static int add_file(const char *path, const char *name, size_t max, json_t *list, struct buf *out)
{
    size_t len;
    AUTO_SECRET char *data = file_read(path, max, &len);
    if (!data) {
        log_error("members", "a file of the pool cannot be copied", "file", name, "cause", strerror(errno));
        return -1;
    }
    json_array_append_new(list, json_pack("{sssI}", "name", name, "size", (json_int_t)len));
    buf_add(out, data, len);
    return 0;
}

static int add_database(const char *data_dir, json_t *list, struct buf *out)
{
    AUTO_FREE char *path = xasprintf("%s/pool.db", data_dir);
    AUTO_FREE char *copy = xasprintf("%s/pool.db.copy.%llx", data_dir, (unsigned long long)ref_new().hi);
    struct store_err cause;
    int rc = store_copy_file(path, copy, &cause);
    if (rc < 0)
        log_error("members", "the database cannot be copied", "cause", cause.text);
    else
        rc = add_file(copy, "pool.db", DATABASE_MAX, list, out);
    unlink(copy);
    return rc;
}

static int add_files(const char *data_dir, json_t *list, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(small_files); i++) {
        AUTO_FREE char *path = xasprintf("%s/%s", data_dir, small_files[i]);
        if (add_file(path, small_files[i], SMALL_MAX, list, out) < 0)
            return -1;
    }
    return add_database(data_dir, list, out);
}

static void answer(struct http_request *req, const json_t *header, const struct buf *files)
{
    static const struct http_header headers[] = {{"Content-Type", "application/octet-stream"}, {NULL, NULL}};
    struct buf out = BUF_INIT;
    json_write(&out, header);
    buf_add_char(&out, '\n');
    if (files->len)
        buf_add(&out, files->data, files->len);
    size_t len = out.len;
    http_answer(req, 200, headers, buf_take(&out), len, HTTP_FREE);
}

/* Until the pool has changed, or the time is over. A restored database counts its changes from one again. */
static uint64_t wait_for_change(struct server *server, uint64_t since)
{
    int64_t until = clock_mono_ms() + WAIT_MS;
    uint64_t now;
    while ((now = store_wait(server->store, since, clock_mono_ms() + WAIT_STEP_MS)) == since &&
           clock_mono_ms() < until && !atomic_load(&server->closing))
        ;
    return now;
}

/* The member may have another port since it was started anew. */
static void note_port(struct server *server, const struct host_row *host, int64_t port)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (port < 1 || port > 65535 || host->server_port == port)
        return;
    struct tx *tx = store_begin(server->store);
    if (tx_get(tx, CLASS_host, host->row.ref))
        host_row_mut(tx_edit(tx, CLASS_host, host->row.ref))->server_port = port;
    if (server_commit(tx, &err) < 0)
        log_warn("members", "the port of a member could not be noted", "host", host->uuid);
}

/* A member gives up its pool at this word: it looks at the term that comes along. */
static void say_gone(struct server *server, struct http_request *req)
{
    struct buf out = BUF_INIT;
    buf_printf(&out, "{\"term\":%lld}", (long long)members_term(server));
    size_t len = out.len;
    http_answer_json(req, 410, buf_take(&out), len);
}

static void give(struct server *server, struct http_request *req)
{
    const char *host = http_request_query(req, "host"), *since = http_request_query(req, "since");
    const char *port = http_request_query(req, "port");
    uint64_t known = since ? strtoull(since, NULL, 10) : 0;
    struct peer self = {0};
    if (!host) {
        http_answer_error(req, 400, "say which host asks");
        return;
    }
    uint64_t generation = wait_for_change(server, known);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct row *row = snapshot_by_uuid(snap, CLASS_host, host);
    if (!row) {
        say_gone(server, req);
        return;
    }
    note_port(server, host_row(row), port ? strtoll(port, NULL, 10) : 0);
    members_self(server, snap, &self);
    AUTO_BUF struct buf files = BUF_INIT;
    struct peer agent = {.port = (int)host_row(row)->agent_port};
    snprintf(agent.uuid, sizeof(agent.uuid), "%s", host);
    snprintf(agent.address, sizeof(agent.address), "%s", host_row(row)->address);
    AUTO_JSON json_t *header =
        json_pack("{sosIsIsososss[]}", "agent", peer_json(&agent), "term", (json_int_t)members_term(server),
                  "generation", (json_int_t)generation, "leader", peer_json(&self), "peers",
                  members_peers(snap, host), "yield", "", "files");
    if (generation != known && add_files(server->state_dir, json_object_get(header, "files"), &files) < 0)
        http_answer_error(req, 500, "the pool cannot be copied now");
    else
        answer(req, header, &files);
}

/* A server that stepped back has its database closed: what it gives is all that was ever acknowledged. */
static void give_last(struct server *server, struct http_request *req)
{
    const char *host = http_request_query(req, "host"), *heir = "";
    AUTO_JSON json_t *standing = standing_get(server->members->standing);
    AUTO_BUF struct buf files = BUF_INIT;
    json_get_string(standing, "yield", &heir);
    if (!host || !*heir || !streq(heir, host)) {
        http_answer_error(req, 409, "this server is not the coordinator");
        return;
    }
    AUTO_JSON json_t *header =
        json_pack("{sIsIsOsOsss[]}", "term", (json_int_t)members_term(server), "generation", (json_int_t)0,
                  "leader", json_object_get(standing, "leader"), "peers", json_object_get(standing, "peers"),
                  "yield", heir, "files");
    if (add_files(server->state_dir, json_object_get(header, "files"), &files) < 0)
        http_answer_error(req, 500, "the pool cannot be copied now");
    else
        answer(req, header, &files);
}

static void run_copy(void *arg)
{
    struct door_job *job = arg;
    bool temporary;
    AUTO_SESSION struct session *session =
        door_admit(job->server, job->req, ACTION_get_pool_copy, &temporary);
    if (session) {
        if (temporary)
            session_close(job->server, session);
        if (members_is_member(job->server))
            give_last(job->server, job->req);
        else
            give(job->server, job->req);
    }
    door_job_free(job);
}

void door_pool_copy(struct server *server, struct http_request *req)
{
    door_submit(server->workers, server, req, NULL, run_copy);
}

/* ---- taking ---- */

static int write_whole(const char *path, const char *data, size_t len)
{
    int fd AUTO_CLOSE = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return fd < 0 || file_write_all(fd, data, len) < 0 ? -1 : fsync(fd);
}

/* The logs of an older database beside it would be taken for the new one's. */
static int install_database(const char *data_dir, const char *data, size_t len)
{
    static const char *const logs[] = {"pool.db-wal", "pool.db-shm"};
    AUTO_FREE char *fresh = xasprintf("%s/pool.db.new", data_dir), *path = xasprintf("%s/pool.db", data_dir);
    if (write_whole(fresh, data, len) < 0)
        return -1;
    failpoint("copy-written:pool.db");
    for (size_t i = 0; i < ARRAY_LEN(logs); i++) {
        AUTO_FREE char *log = xasprintf("%s/%s", data_dir, logs[i]);
        if (unlink(log) < 0 && errno != ENOENT)
            return -1;
    }
    if (rename(fresh, path) < 0)
        return -1;
    int dir AUTO_CLOSE = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? -1 : fsync(dir);
}

static bool is_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(small_files); i++)
        if (streq(name, small_files[i]))
            return true;
    return streq(name, "pool.db");
}

static int install(const char *data_dir, const json_t *files, const char *data, size_t len)
{
    AUTO_FREE char *pki = xasprintf("%s/pki", data_dir);
    if ((mkdir(data_dir, 0700) < 0 && errno != EEXIST) || (mkdir(pki, 0700) < 0 && errno != EEXIST))
        return -1;
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *file = json_array_get(files, i);
        const char *name;
        int64_t size;
        errno = EPROTO;
        if (!json_get_string(file, "name", &name) || !json_get_int(file, "size", &size) || !is_known(name) ||
            size < 0 || (size_t)size > len)
            return -1;
        AUTO_FREE char *path = xasprintf("%s/%s", data_dir, name);
        int rc = streq(name, "pool.db") ? install_database(data_dir, data, (size_t)size)
                                        : file_write_atomic(path, data, (size_t)size, 0600);
        if (rc < 0)
            return -1;
        data += size;
        len -= (size_t)size;
    }
    return 0;
}

static enum copy_outcome take(const char *data_dir, const struct http_reply *reply, int64_t term,
                              json_t **out)
{
    const char *end = reply->body.len ? memchr(reply->body.data, '\n', reply->body.len) : NULL;
    struct json_error bad;
    int64_t their_term = 0;
    const char *heir = "";
    AUTO_JSON json_t *header =
        end ? json_parse(reply->body.data, (size_t)(end - reply->body.data), &bad) : NULL;
    const json_t *files = json_object_get(header, "files");
    if (!json_get_int(header, "term", &their_term) || !json_is_array(files)) {
        log_warn("members", "the coordinator's copy is not what was asked for");
        return COPY_FAILED;
    }
    if (their_term < term) {
        log_warn("members", "a server of an earlier term is not followed", "term", LOG_INT(their_term));
        return COPY_FAILED;
    }
    json_get_string(header, "yield", &heir);
    bool yielded = *heir;
    if (install(data_dir, files, end + 1, reply->body.len - (size_t)(end + 1 - reply->body.data)) < 0) {
        log_error("members", "the pool's copy could not be written", "cause", strerror(errno));
        return COPY_FAILED;
    }
    enum copy_outcome outcome = yielded ? COPY_YIELDED : json_array_size(files) ? COPY_FRESH : COPY_SAME;
    if (out)
        *out = TAKE_PTR(header);
    return outcome;
}

static enum copy_outcome take_gone(const struct http_reply *reply, int64_t term)
{
    struct json_error bad;
    int64_t their_term = 0;
    AUTO_JSON json_t *json = reply->body.len ? json_parse(reply->body.data, reply->body.len, &bad) : NULL;
    if (json_get_int(json, "term", &their_term) && their_term >= term)
        return COPY_GONE;
    log_warn("members", "a server of an earlier term does not know this host: it is not listened to");
    return COPY_FAILED;
}

enum copy_outcome copy_fetch(struct remote *remote, const char *data_dir, const char *host, int port,
                             int64_t since, int64_t term, json_t **header)
{
    AUTO_FREE char *path =
        xasprintf("/api/v1/pool/copy?host=%s&port=%d&since=%lld", host, port, (long long)since);
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    struct http_error error;
    if (remote_get(remote, path, FETCH_MS, &reply, &error) < 0) {
        log_debug("members", "the coordinator does not answer", "cause", error.text);
        return COPY_FAILED;
    }
    if (reply.status == 410)
        return take_gone(&reply, term);
    if (reply.status != 200) {
        log_debug("members", "the coordinator gave no copy", "status", LOG_INT(reply.status));
        return COPY_FAILED;
    }
    return take(data_dir, &reply, term, header);
}
