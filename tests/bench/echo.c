/* The limit that calls are measured against: a bare libmicrohttpd server that parses each request with
 * jansson and answers with its second parameter, or with the bytes of a file. No sessions, no roles, no data.
 * With --commit it first makes one row's change durable, on the thread that has read the request: what the
 * simplest server that keeps its word could reach with one client.
 *
 * Usage: bench_echo PORT-FILE THREADS [--answer FILE | --commit DATABASE] [CERTIFICATE KEY] */
#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_CONNECTIONS 4096

static char *fixed; /* NULL: the second parameter */
static size_t fixed_len;

static pthread_mutex_t commit_lock = PTHREAD_MUTEX_INITIALIZER; /* guards both */
static sqlite3 *database;                                       /* NULL: nothing is written */
static sqlite3_stmt *update;

struct body {
    char data[4096];
    size_t len;
};

static void fail_database(const char *what)
{
    fprintf(stderr, "bench_echo: %s: %s\n", what, sqlite3_errmsg(database));
    exit(1);
}

static void run(const char *sql)
{
    if (sqlite3_exec(database, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_database(sql);
}

/* The table that writes.py has made. The log is brought to its full length: a sync of a file that grows takes
 * longer. */
static void open_database(const char *path)
{
    if (sqlite3_open(path, &database) != SQLITE_OK)
        fail_database(path);
    run("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF");
    for (int i = 0; i < 100; i++)
        run("UPDATE VM SET generation = generation + 1");
    run("PRAGMA synchronous = FULL");
    if (sqlite3_prepare_v2(database,
                           "UPDATE VM SET description = ?1, generation = generation + 1 WHERE ref = ?2", -1,
                           &update, NULL) != SQLITE_OK)
        fail_database(path);
}

/* The parameters are those of VM.set_name_description: session, VM, text. */
static void commit(json_t *params)
{
    pthread_mutex_lock(&commit_lock);
    sqlite3_bind_text(update, 1, json_string_value(json_array_get(params, 2)), -1, SQLITE_STATIC);
    sqlite3_bind_text(update, 2, json_string_value(json_array_get(params, 1)), -1, SQLITE_STATIC);
    if (sqlite3_step(update) != SQLITE_DONE || sqlite3_changes(database) != 1)
        fail_database("a change");
    sqlite3_reset(update);
    pthread_mutex_unlock(&commit_lock);
}

static enum MHD_Result answer(struct MHD_Connection *connection, const struct body *body)
{
    json_t *request = json_loadb(body->data, body->len, 0, NULL);
    if (database)
        commit(json_object_get(request, "params"));
    json_t *reply = json_pack("{s:s, s:O, s:O}", "jsonrpc", "2.0", "result",
                              json_array_get(json_object_get(request, "params"), 1), "id",
                              json_object_get(request, "id"));
    char *text = fixed ? NULL : json_dumps(reply, JSON_COMPACT);
    struct MHD_Response *response =
        fixed ? MHD_create_response_from_buffer(fixed_len, fixed, MHD_RESPMEM_PERSISTENT)
              : MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    MHD_add_response_header(response, "Content-Type", "application/json");
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    json_decref(reply);
    json_decref(request);
    return result;
}

static enum MHD_Result handle(void *cls, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data, size_t *size,
                              void **con_cls)
{
    (void)cls;
    (void)url;
    (void)method;
    (void)version;
    struct body *body = *con_cls;
    if (!body) {
        *con_cls = calloc(1, sizeof(*body));
        return *con_cls ? MHD_YES : MHD_NO;
    }
    if (*size) {
        if (body->len + *size > sizeof(body->data))
            return MHD_NO;
        memcpy(body->data + body->len, data, *size);
        body->len += *size;
        *size = 0;
        return MHD_YES;
    }
    return answer(connection, body);
}

static void completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                      enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)connection;
    (void)code;
    free(*con_cls);
}

static char *read_file(const char *path, size_t *len)
{
    FILE *file = fopen(path, "r");
    struct stat about;
    char *text = file && fstat(fileno(file), &about) == 0 ? calloc(1, (size_t)about.st_size + 1) : NULL;
    if (!text || fread(text, 1, (size_t)about.st_size, file) != (size_t)about.st_size) {
        fprintf(stderr, "bench_echo: cannot read %s\n", path);
        exit(1);
    }
    fclose(file);
    *len = (size_t)about.st_size;
    return text;
}

int main(int argc, char **argv)
{
    size_t ignored;
    int next = 3;
    if (argc > 4 && strcmp(argv[3], "--answer") == 0) {
        fixed = read_file(argv[4], &fixed_len);
        next = 5;
    } else if (argc > 4 && strcmp(argv[3], "--commit") == 0) {
        open_database(argv[4]);
        next = 5;
    }
    if (argc != next && argc != next + 2) {
        fprintf(stderr, "usage: bench_echo PORT-FILE THREADS [--answer FILE | --commit DATABASE] "
                        "[CERTIFICATE KEY]\n");
        return 2;
    }
    bool tls_on = argc == next + 2;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | (tls_on ? MHD_USE_TLS : 0);
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, tls_on ? read_file(argv[next], &ignored) : NULL},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, tls_on ? read_file(argv[next + 1], &ignored) : NULL},
        {MHD_OPTION_END, 0, NULL}};
    struct MHD_OptionItem plain[] = {{MHD_OPTION_END, 0, NULL}};
    struct MHD_Daemon *daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, handle, NULL, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)atoi(argv[2]),
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)MAX_CONNECTIONS, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,
        MHD_OPTION_ARRAY, tls_on ? tls : plain, MHD_OPTION_END);
    if (!daemon) {
        fprintf(stderr, "bench_echo: cannot listen\n");
        return 1;
    }
    FILE *file = fopen(argv[1], "w");
    if (!file)
        return 1;
    fprintf(file, "%u\n", MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    fclose(file);
    int signal_number;
    sigwait(&signals, &signal_number);
    MHD_stop_daemon(daemon);
    sqlite3_finalize(update);
    sqlite3_close(database);
    return 0;
}
