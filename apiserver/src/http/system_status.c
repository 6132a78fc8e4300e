/* GET /system-status?entries=a,b&output=tar: what support needs to know, in one archive: the database without
 * secrets, the audit log, how the server is doing, the logs of each host. An entry that cannot be had says so
 * in its file. */
#include "system_status.h"

#include "../gate/trail.h"
#include "dump.h"
#include "transfer.h"
#include <archive.h>
#include <archive_entry.h>
#include <base/buf.h>
#include <base/clock.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

#define PIECE ((size_t)64 * 1024)
#define FOLDER "system-status"

struct bundle {
    struct call *call; /* for handlers that it asks */
    const struct system_status_sink *sink;
    struct archive *archive;
    bool failed;
};

/* Where a member is collected before its length is known: a file without a name. */
struct spool {
    int fd;
};

static int spool_put(void *arg, const void *data, size_t len)
{
    const struct spool *spool = arg;
    const char *from = data;
    while (len > 0) {
        ssize_t n = write(spool->fd, from, len);
        if (n < 0 && errno != EINTR)
            return -1;
        from += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int spool_text(struct spool *spool, const char *text)
{
    return spool_put(spool, text, strlen(text));
}

static int spool_line(void *arg, const char *data, size_t len)
{
    return spool_put(arg, data, len);
}

/* ---- members ---- */

static int send_member(struct bundle *b, const char *name, const struct spool *spool)
{
    char piece[PIECE];
    off_t size = lseek(spool->fd, 0, SEEK_END), at = 0;
    AUTO_FREE char *path = xasprintf(FOLDER "/%s", name);
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_size(entry, size);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0400);
    archive_entry_set_mtime(entry, clock_unix_seconds(), 0);
    b->failed = b->failed || size < 0 || archive_write_header(b->archive, entry) != ARCHIVE_OK;
    archive_entry_free(entry);
    while (!b->failed && at < size) {
        ssize_t n = pread(spool->fd, piece, sizeof(piece), at);
        b->failed = b->failed || n <= 0 || archive_write_data(b->archive, piece, (size_t)n) != n;
        at += n;
    }
    return b->failed ? -1 : 0;
}

/* Collects a member by `fill`, then sends it. */
static int add(struct bundle *b, const char *name,
               int (*fill)(struct bundle *b, struct spool *spool, void *arg), void *arg)
{
    AUTO_CLOSE int fd = open(b->call->server->state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    struct spool spool = {fd};
    if (b->failed || fd < 0 || fill(b, &spool, arg) < 0 || send_member(b, name, &spool) < 0)
        b->failed = true;
    return b->failed ? -1 : 0;
}

static int fill_database(struct bundle *b, struct spool *spool, void *arg)
{
    (void)arg;
    return dump_database(b->call->snapshot, false, spool_put, spool);
}

static int fill_audit_log(struct bundle *b, struct spool *spool, void *arg)
{
    (void)arg;
    return trail_read(b->call->server->trail, "", true, spool_line, spool);
}

static int fill_figures(struct bundle *b, struct spool *spool, void *arg)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct str_map *figures = NULL;
    (void)arg;
    if (handle_diagnostics_db_stats(b->call, &figures, &err) < 0)
        return spool_text(spool, err.code);
    for (size_t i = 0; figures && i < figures->count; i++) {
        AUTO_FREE char *line = xasprintf("%s: %s\n", figures->pairs[i].key, figures->pairs[i].value);
        if (spool_text(spool, line) < 0)
            break;
    }
    str_map_unref(figures);
    return 0;
}

/* What a host answers to a question, or why it does not. */
struct question {
    struct ref host;
    int (*ask)(struct call *call, struct ref host, const char **result, struct api_err *err);
};

static int fill_answer(struct bundle *b, struct spool *spool, void *arg)
{
    const struct question *q = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const char *text = NULL;
    if (q->ask(b->call, q->host, &text, &err) < 0) {
        AUTO_FREE char *line =
            xasprintf("not to be had: %s %s\n", err.code, err.param_count ? err.params[0] : "");
        return spool_text(spool, line);
    }
    int rc = spool_text(spool, text);
    str_unref(text);
    return rc;
}

static int ask_kernel_log(struct call *call, struct ref host, const char **result, struct api_err *err)
{
    return handle_host_dmesg(call, &(struct host_dmesg_args){.host = host}, result, err);
}

static int ask_agent_log(struct call *call, struct ref host, const char **result, struct api_err *err)
{
    return handle_host_get_log(call, &(struct host_get_log_args){.host = host}, result, err);
}

static int ask_storage(struct call *call, struct ref host, const char **result, struct api_err *err)
{
    return handle_host_get_sm_diagnostics(call, &(struct host_get_sm_diagnostics_args){.host = host}, result,
                                          err);
}

static int ask_threads(struct call *call, struct ref host, const char **result, struct api_err *err)
{
    return handle_host_get_thread_diagnostics(call, &(struct host_get_thread_diagnostics_args){.host = host},
                                              result, err);
}

struct of_hosts {
    struct bundle *b;
    const char *name;
    int (*ask)(struct call *call, struct ref host, const char **result, struct api_err *err);
    bool once; /* any host can answer: it is about the server */
};

static bool add_of_host(const struct row *row, void *arg)
{
    const struct of_hosts *of = arg;
    struct question q = {.host = row->ref, .ask = of->ask};
    AUTO_FREE char *name =
        of->once ? xstrdup(of->name) : xasprintf("hosts/%s/%s", host_row(row)->uuid, of->name);
    return add(of->b, name, fill_answer, &q) == 0 && !of->once;
}

/* ---- entries ---- */

static const struct entry {
    const char *key, *pii; /* whether it may tell of persons */
    const char *member;
    int (*fill)(struct bundle *b, struct spool *spool, void *arg); /* one member */
    int (*ask)(struct call *call, struct ref host, const char **result,
               struct api_err *err); /* or one a host */
    bool once;
} entries[] = {
    {"xapi-database", "yes", "database.xml", fill_database, NULL, false},
    {"audit-log", "yes", "audit.log", fill_audit_log, NULL, false},
    {"server-figures", "no", "server.txt", fill_figures, NULL, false},
    {"server-threads", "no", "threads.txt", NULL, ask_threads, true},
    {"host-logs", "maybe", "agent.log", NULL, ask_agent_log, false},
    {"kernel-log", "maybe", "kernel.log", NULL, ask_kernel_log, false},
    {"storage", "no", "storage.txt", NULL, ask_storage, false},
};

static char *capabilities(void)
{
    struct buf out = BUF_INIT;
    buf_add_str(&out, "<?xml version=\"1.0\"?><system-status-capabilities>");
    for (size_t i = 0; i < ARRAY_LEN(entries); i++)
        buf_printf(
            &out,
            "<capability content-type=\"text/plain\" default-checked=\"yes\" key=\"%s\" max-size=\"-1\" "
            "max-time=\"-1\" min-size=\"-1\" min-time=\"-1\" pii=\"%s\"/>",
            entries[i].key, entries[i].pii);
    buf_add_str(&out, "</system-status-capabilities>");
    return buf_take(&out);
}

int handle_host_get_system_status_capabilities(struct call *call,
                                               const struct host_get_system_status_capabilities_args *args,
                                               const char **result, struct api_err *err)
{
    AUTO_FREE char *text = capabilities();
    if (!snapshot_get(call->snapshot, CLASS_host, args->host))
        return fail_handle(err, CLASS_host, args->host);
    *result = str_new(text);
    return 0;
}

/* Words separated by commas; NULL: all. */
static bool is_wanted(const char *list, const char *key)
{
    size_t len = strlen(key);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, key, len) == 0 && (at[len] == ',' || at[len] == '\0'))
            return true;
    return !list || !*list;
}

static int add_entries(struct bundle *b, const char *list)
{
    for (size_t i = 0; i < ARRAY_LEN(entries) && !b->failed; i++) {
        struct of_hosts of = {b, entries[i].member, entries[i].ask, entries[i].once};
        if (!is_wanted(list, entries[i].key))
            continue;
        if (entries[i].fill)
            add(b, entries[i].member, entries[i].fill, NULL);
        else
            snapshot_each(b->call->snapshot, CLASS_host, add_of_host, &of);
        b->sink->report(b->sink->arg, (double)(i + 1) / ARRAY_LEN(entries));
    }
    return b->failed ? -1 : 0;
}

/* ---- the archive ---- */

static const struct system_status_output {
    const char *name, *type, *suffix;
    int (*format)(struct archive *archive);
    int (*filter)(struct archive *archive);
} outputs[] = {
    {"tar", "application/x-tar", ".tar", archive_write_set_format_ustar, archive_write_add_filter_none},
    {"tar.bz2", "application/x-bzip2", ".tar.bz2", archive_write_set_format_ustar,
     archive_write_add_filter_bzip2},
    {"zip", "application/zip", ".zip", archive_write_set_format_zip, archive_write_add_filter_none},
};

const struct system_status_output *system_status_output(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(outputs); i++)
        if (!name || streq(outputs[i].name, name))
            return &outputs[i];
    return NULL;
}

const char *system_status_type(const struct system_status_output *output)
{
    return output->type;
}

const char *system_status_suffix(const struct system_status_output *output)
{
    return output->suffix;
}

static la_ssize_t on_write(struct archive *archive, void *arg, const void *data, size_t len)
{
    struct bundle *b = arg;
    (void)archive;
    /* libarchive 3.6 loses its buffers when a write fails: it is told that all is well. */
    if (!b->failed && b->sink->put(b->sink->arg, data, len) < 0)
        b->failed = true;
    return (la_ssize_t)len;
}

int system_status_write(struct call *call, const struct system_status_output *output, const char *list,
                        const struct system_status_sink *sink)
{
    struct bundle b = {.call = call, .sink = sink, .archive = archive_write_new()};
    if (!b.archive)
        abort(); /* only memory can be missing */
    output->format(b.archive);
    output->filter(b.archive);
    archive_write_set_bytes_in_last_block(b.archive, 1);
    archive_write_open(b.archive, &b, NULL, on_write, NULL);
    add_entries(&b, list);
    if (archive_write_close(b.archive) != ARCHIVE_OK)
        b.failed = true;
    archive_write_free(b.archive);
    return b.failed ? -1 : 0;
}

/* ---- downloads ---- */

static void report(void *arg, double fraction)
{
    transfer_report(arg, fraction);
}

static int run(struct transfer *t, struct api_err *err)
{
    bool logs_alone = t->kind->action == ACTION_get_host_logs_download;
    const char *wanted = logs_alone ? NULL : transfer_query(t, "output");
    const char *list = logs_alone ? "host-logs,kernel-log" : transfer_query(t, "entries");
    AUTO_FREE char *kept = list ? xstrdup(list) : NULL; /* the query goes with the answer's begin */
    const struct system_status_output *output = system_status_output(wanted);
    if (!output)
        return err_invalid_value(err, "output", wanted);
    const struct system_status_sink sink = {transfer_write, report, t};
    AUTO_FREE char *filename = xasprintf(FOLDER "%s", output->suffix);
    struct call call;
    t->object = xstrdup(output->name);
    transfer_call(t, &call);
    transfer_answer(t, output->type, filename, -1);
    int rc = system_status_write(&call, output, kept, &sink);
    transfer_call_done(&call);
    if (rc < 0 && !transfer_interrupted(t, err))
        fail_internal(err, "The bundle could not be made.");
    return rc;
}

void door_system_status(struct server *server, struct http_request *req)
{
    static const struct transfer_kind kind = {
        .label = "System status", .action = ACTION_get_system_status, .word = "system status", .run = run};
    transfer_begin(server, req, &kind);
}

/* Of all hosts that answer. */
void door_host_logs(struct server *server, struct http_request *req)
{
    static const struct transfer_kind kind = {
        .label = "Host logs", .action = ACTION_get_host_logs_download, .word = "host logs", .run = run};
    transfer_begin(server, req, &kind);
}
