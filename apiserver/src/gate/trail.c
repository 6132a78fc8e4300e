/* Lines are whole in each write to a file opened for appending. At a size the file is renamed away and a new
 * one begun; a handful of older parts is kept. */
#include "trail.h"

#include "permissions.h"
#include "session.h"
#include "trail_chain.h"
#include <base/buf.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define PART_BYTES_MAX (16 * 1024 * 1024)
#define WORD_BYTES_MAX 200
#define READ_BYTES 65536

struct trail {
    char *path;
    char host[65];
    pthread_mutex_t lock; /* guards what follows, and the names of the parts */
    int fd;               /* -1: not open */
    off_t size;
    bool complained;
    char last_sum[SHA256_TEXT_SIZE];
};

static char *part_name(const struct trail *trail, unsigned part)
{
    return part ? xasprintf("%s.%u", trail->path, part) : xstrdup(trail->path);
}

static void complain(struct trail *trail, const char *sentence)
{
    if (!trail->complained)
        log_error("audit", sentence, "file", trail->path, "cause", strerror(errno));
    trail->complained = true;
}

static void open_part(struct trail *trail)
{
    struct stat st;
    trail->fd = open(trail->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (trail->fd < 0 || fstat(trail->fd, &st) < 0)
        complain(trail, "the audit log cannot be opened");
    else
        trail->size = st.st_size;
}

/* The chain goes on where the last line left it. A last line that has no end (the machine died) is given one,
 * and stays without a sum. */
static void take_up_chain(struct trail *trail)
{
    AUTO_FREE char *older = part_name(trail, 1);
    bool cut, old_cut;
    if (!chain_last(trail->path, trail->last_sum, &cut) && !chain_last(older, trail->last_sum, &old_cut))
        snprintf(trail->last_sum, sizeof(trail->last_sum), "%s", CHAIN_BEGIN);
    if (cut && trail->fd >= 0 && write(trail->fd, "\n", 1) != 1)
        complain(trail, "a line of the audit log cannot be ended");
}

struct trail *trail_open(const char *state_dir)
{
    struct trail *trail = xcalloc(1, sizeof(*trail));
    pthread_mutex_init(&trail->lock, NULL);
    trail->path = xasprintf("%s/audit.log", state_dir);
    if (gethostname(trail->host, sizeof(trail->host) - 1) < 0)
        snprintf(trail->host, sizeof(trail->host), "localhost");
    open_part(trail);
    take_up_chain(trail);
    return trail;
}

void trail_close(struct trail *trail)
{
    if (!trail)
        return;
    if (trail->fd >= 0)
        close(trail->fd);
    pthread_mutex_destroy(&trail->lock);
    free(trail->path);
    free(trail);
}

static void rotate(struct trail *trail)
{
    for (unsigned part = TRAIL_PARTS_KEPT; part > 0; part--) {
        AUTO_FREE char *from = part_name(trail, part - 1), *to = part_name(trail, part);
        if (rename(from, to) < 0 && errno != ENOENT)
            complain(trail, "a part of the audit log cannot be renamed");
    }
    close(trail->fd);
    open_part(trail);
}

/* Whole, or not at all. */
static bool write_whole(struct trail *trail, const struct buf *text)
{
    if (trail->fd >= 0 && trail->size + (off_t)text->len > PART_BYTES_MAX)
        rotate(trail);
    if (trail->fd < 0)
        open_part(trail);
    ssize_t done = trail->fd >= 0 ? write(trail->fd, text->data, text->len) : -1;
    if (done == (ssize_t)text->len) {
        trail->size += done;
        trail->complained = false;
        return true;
    }
    /* A part of it: a full disk says why only to who asks for more. */
    if (done >= 0)
        errno = ENOSPC;
    int cause = errno;
    if (done > 0 && ftruncate(trail->fd, trail->size) < 0)
        trail->size += done;
    errno = cause;
    complain(trail, "a line of the audit log cannot be written");
    return false;
}

/* `lines` end with a newline each. */
static void append(struct trail *trail, const struct buf *lines)
{
    AUTO_BUF struct buf text = BUF_INIT;
    char sum[SHA256_TEXT_SIZE];
    pthread_mutex_lock(&trail->lock);
    memcpy(sum, trail->last_sum, sizeof(sum));
    for (const char *line = lines->data, *end; line < lines->data + lines->len; line = end + 1) {
        end = memchr(line, '\n', (size_t)(lines->data + lines->len - line));
        chain_next(sum, line, (size_t)(end - line), sum);
        buf_add(&text, line, (size_t)(end - line));
        buf_printf(&text, " #%s\n", sum);
    }
    if (write_whole(trail, &text))
        memcpy(trail->last_sum, sum, sizeof(sum));
    else
        log_warn("audit", "not in the audit log", "lines", lines->data);
    pthread_mutex_unlock(&trail->lock);
}

/* ---- a line ---- */

/* In quotes, on one line whatever it holds, at most 200 bytes of it. */
static void add_word(struct buf *line, const char *text)
{
    size_t len = strlen(text), cut = len > WORD_BYTES_MAX ? WORD_BYTES_MAX : len;
    while (cut < len && cut > 0 && ((unsigned char)text[cut] & 0xc0) == 0x80)
        cut--; /* not within a character */
    buf_add_char(line, '\'');
    for (size_t i = 0; i < cut; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\'' || c == '\\')
            buf_add_char(line, '\\');
        if (c < ' ' || c == 0x7f)
            buf_printf(line, "\\x%02x", c);
        else
            buf_add_char(line, (char)c);
    }
    buf_add_str(line, cut < len ? "...'" : "'");
}

static void begin_line(struct trail *trail, struct buf *line, const char *peer, const char *action)
{
    struct timespec now;
    struct tm tm;
    char stamp[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%dT%H:%M:%S", &tm);
    buf_printf(line, "[%s.%03ldZ|info|%s|%s|%.100s|audit] (", stamp, now.tv_nsec / 1000000, trail->host,
               *peer ? peer : "local", action);
}

static void add_who(struct buf *line, const struct session *session, const char *user)
{
    AUTO_FREE char *track = session
                                ? xasprintf("trackid=%.16s", REF_TEXT(session->ref) + strlen("OpaqueRef:"))
                                : xstrdup("trackid=");
    add_word(line, track);
    buf_add_char(line, ' ');
    add_word(line, !session ? "" : session->superuser ? "LOCAL_SUPERUSER" : session->sid);
    buf_add_char(line, ' ');
    AUTO_FREE char *by_token = session && session->token_name
                                   ? xasprintf("%s (token %s)", session->user, session->token_name)
                                   : NULL;
    add_word(line, by_token ? by_token : session ? session->user : user);
}

static void add_outcome(struct buf *line, const struct api_err *err)
{
    bool denied = err && (err->desc == ERROR_RBAC_PERMISSION_DENIED ||
                          err->desc == ERROR_SESSION_AUTHENTICATION_FAILED ||
                          err->desc == ERROR_SESSION_AUTHORIZATION_FAILED);
    AUTO_FREE char *outcome = err ? xasprintf("ERROR:%s", err->code) : xstrdup("OK");
    buf_add_str(line, denied ? " 'DENIED' " : " 'ALLOWED' ");
    add_word(line, outcome);
}

/* ('vm' 'web1' '<uuid>' 'OpaqueRef:...') */
static void add_object(struct buf *line, const struct call *call, const struct param_desc *param,
                       struct ref ref)
{
    const struct class_desc *cls = param->type->cls;
    const struct row *row = call->snapshot && cls->row_size ? snapshot_get(call->snapshot, cls, ref) : NULL;
    const char *name = row && cls->name_label ? row_cell(row, cls->name_label)->str : "";
    const char *uuid = row && cls->uuid ? row_cell(row, cls->uuid)->str : "";
    const char *text = cls == CLASS_session ? "" : REF_TEXT(ref);
    const char *words[] = {param->name, name, cls == CLASS_session ? "" : uuid, text};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        buf_add_str(line, i ? " " : "('");
        if (i)
            add_word(line, words[i]);
        else
            buf_printf(line, "%s'", words[i]);
    }
    buf_add_char(line, ')');
}

static void add_param(struct buf *line, const struct call *call, size_t i)
{
    const struct method_desc *method = call->method;
    const struct param_desc *param = &method->params[i];
    const union cell *cell = (const union cell *)((const char *)call->args + param->offset);
    AUTO_BUF struct buf text = BUF_INIT;
    bool key = i == 1 && (method->kind == METHOD_ADD || method->kind == METHOD_REMOVE) && method->field &&
               method->field->type->kind == TYPE_MAP;
    if (param->type->kind == TYPE_REF) {
        add_object(line, call, param, cell->ref);
        return;
    }
    switch (param->type->rep) {
    case REP_BOOL:
    case REP_INT:
    case REP_FLOAT:
    case REP_ENUM:
        cell_write_text(param->type, cell, &text);
        break;
    case REP_STRING:
        if (key)
            buf_add_str(&text, cell->str);
        break;
    default:
        break;
    }
    if (!text.len)
        return;
    buf_printf(line, "('%s' ", param->name);
    add_word(line, text.data);
    buf_add_str(line, " '' '')");
}

static void add_params(struct buf *line, const struct call *call)
{
    buf_add_str(line, " (");
    size_t begin = line->len;
    bool hidden = call->method->flags & METHOD_SECRET_ARGS || call->method->kind == METHOD_CREATE;
    for (size_t i = 0; call->args && !hidden && i < call->method->param_count; i++) {
        size_t before = line->len;
        if (before > begin)
            buf_add_char(line, ' ');
        size_t at = line->len;
        add_param(line, call, i);
        if (line->len == at)
            line->len = before;
    }
    buf_add_char(line, ')');
}

static bool only_reads(const struct method_desc *method)
{
    switch (method->kind) {
    case METHOD_CREATE:
    case METHOD_DESTROY:
    case METHOD_SETTER:
    case METHOD_ADD:
    case METHOD_REMOVE:
        return false;
    case METHOD_CUSTOM:
        return method->role == ROLE_READ_ONLY;
    default:
        return true;
    }
}

static void add_call(struct trail *trail, struct buf *lines, const struct call *call,
                     const struct api_err *err)
{
    bool denied = err && err->desc == ERROR_RBAC_PERMISSION_DENIED;
    if ((only_reads(call->method) && !denied) || call->method->flags & METHOD_NO_SESSION)
        return;
    begin_line(trail, lines, call->peer, call->name);
    add_who(lines, call->session, "");
    add_outcome(lines, err);
    buf_add_str(lines, " 'API' ");
    add_word(lines, call->method->name);
    add_params(lines, call);
    buf_add_str(lines, ")\n");
}

void trail_call(const struct call *call, const struct api_err *err)
{
    struct trail *trail = call->server->trail;
    AUTO_BUF struct buf lines = BUF_INIT;
    if (!trail)
        return;
    add_call(trail, &lines, call, err);
    if (lines.len)
        append(trail, &lines);
}

void trail_calls(struct call *const calls[], size_t count)
{
    struct trail *trail = calls[0]->server->trail;
    AUTO_BUF struct buf lines = BUF_INIT;
    if (!trail)
        return;
    for (size_t i = 0; i < count; i++)
        add_call(trail, &lines, calls[i], calls[i]->failed ? &calls[i]->err : NULL);
    if (lines.len)
        append(trail, &lines);
}

static void add_request(struct trail *trail, const char *peer, const struct session *session,
                        const char *user, const char *kind, const char *action, const struct api_err *err)
{
    if (!trail)
        return;
    AUTO_BUF struct buf line = BUF_INIT;
    begin_line(trail, &line, peer, action);
    add_who(&line, session, user);
    add_outcome(&line, err);
    buf_printf(&line, " '%s' ", kind);
    add_word(&line, action);
    buf_add_str(&line, " ())\n");
    append(trail, &line);
}

void trail_session(struct trail *trail, const char *peer, const char *message, const char *user,
                   const struct session *session, const struct api_err *err)
{
    add_request(trail, peer, session, user, "API", message, err);
}

void trail_door(struct trail *trail, const char *peer, const struct session *session, const char *permission,
                const struct api_err *err)
{
    add_request(trail, peer, session, "", "HTTP", permission, err);
}

/* ---- reading ---- */

struct reading {
    const char *since;
    bool sums;
    int (*put)(void *arg, const char *data, size_t len);
    void *arg;
    struct buf line; /* the part of a line that was read */
};

/* The stamp stands between the first bracket and the first bar. */
static int put_line(struct reading *r)
{
    const char *bar = memchr(r->line.data, '|', r->line.len);
    size_t stamp = bar && r->line.data[0] == '[' ? (size_t)(bar - r->line.data) - 1 : 0;
    size_t since = strlen(r->since), least = stamp < since ? stamp : since;
    int order = memcmp(r->line.data + 1, r->since, least);
    bool old = order < 0 || (order == 0 && stamp < since);
    const char *sum;
    size_t text = chain_split(r->line.data, r->line.len, &sum);
    if (sum && !r->sums) {
        r->line.data[text] = '\n';
        r->line.len = text + 1;
    }
    int rc = old ? 0 : r->put(r->arg, r->line.data, r->line.len);
    buf_clear(&r->line);
    return rc;
}

static int read_part(int fd, struct reading *r)
{
    AUTO_FREE char *chunk = xcalloc(1, READ_BYTES);
    ssize_t got;
    while ((got = read(fd, chunk, READ_BYTES)) > 0)
        for (ssize_t at = 0; at < got;) {
            const char *end = memchr(chunk + at, '\n', (size_t)(got - at));
            size_t len = end ? (size_t)(end - chunk - at) + 1 : (size_t)(got - at);
            buf_add(&r->line, chunk + at, len);
            at += (ssize_t)len;
            if (end && put_line(r) < 0)
                return -1;
        }
    buf_clear(&r->line);
    return got < 0 ? -1 : 0;
}

int trail_read(struct trail *trail, const char *since, bool sums,
               int (*put)(void *arg, const char *data, size_t len), void *arg)
{
    int fds[TRAIL_PARTS_KEPT + 1];
    struct reading reading = {.since = since, .sums = sums, .put = put, .arg = arg};
    pthread_mutex_lock(&trail->lock); /* the parts keep their names meanwhile */
    for (unsigned part = 0; part <= TRAIL_PARTS_KEPT; part++) {
        AUTO_FREE char *name = part_name(trail, part);
        fds[part] = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    }
    pthread_mutex_unlock(&trail->lock);
    int rc = 0;
    for (unsigned part = TRAIL_PARTS_KEPT + 1; part-- > 0;) {
        if (fds[part] < 0)
            continue;
        if (rc == 0)
            rc = read_part(fds[part], &reading);
        close(fds[part]);
    }
    buf_done(&reading.line);
    return rc;
}
