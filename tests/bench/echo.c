/* The limit that reads are measured against: a bare libmicrohttpd server that parses each request with
 * jansson and answers with its second parameter. No sessions, no roles, no data.
 *
 * Usage: bench_echo PORT-FILE THREADS [CERTIFICATE KEY] */
#include <jansson.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct body {
    char data[4096];
    size_t len;
};

static enum MHD_Result answer(struct MHD_Connection *connection, const struct body *body)
{
    json_t *request = json_loadb(body->data, body->len, 0, NULL);
    json_t *reply = json_pack("{s:s, s:O, s:O}", "jsonrpc", "2.0", "result",
                              json_array_get(json_object_get(request, "params"), 1), "id",
                              json_object_get(request, "id"));
    char *text = json_dumps(reply, JSON_COMPACT);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
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

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 65536);
    if (!file || !text || fread(text, 1, 65535, file) == 0) {
        fprintf(stderr, "bench_echo: cannot read %s\n", path);
        exit(1);
    }
    fclose(file);
    return text;
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 5) {
        fprintf(stderr, "usage: bench_echo PORT-FILE THREADS [CERTIFICATE KEY]\n");
        return 2;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | (argc == 5 ? MHD_USE_TLS : 0);
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, argc == 5 ? read_file(argv[3]) : NULL},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, argc == 5 ? read_file(argv[4]) : NULL},
                                   {MHD_OPTION_END, 0, NULL}};
    struct MHD_OptionItem plain[] = {{MHD_OPTION_END, 0, NULL}};
    struct MHD_Daemon *daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, handle, NULL, MHD_OPTION_THREAD_POOL_SIZE,
                         (unsigned)atoi(argv[2]), MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,
                         MHD_OPTION_ARRAY, argc == 5 ? tls : plain, MHD_OPTION_END);
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
    return 0;
}
