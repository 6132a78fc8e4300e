/* poold: the pool's server. Reads its options, makes what a first start needs, opens the store, connects to
 * the hosts, then serves until SIGTERM or SIGINT. */
#include "blobs.h"
#include "bootstrap.h"
#include "confined.h"
#include "dr/replicas.h"
#include "fetch.h"
#include "front.h"
#include "gate/api_tokens.h"
#include "gate/auth.h"
#include "gate/call_log.h"
#include "gate/commits.h"
#include "gate/event.h"
#include "gate/park.h"
#include "gate/session.h"
#include "gate/task.h"
#include "gate/trail.h"
#include "gate/trail_chain.h"
#include "gate/work.h"
#include "hosts/claims.h"
#include "hosts/ha.h"
#include "hosts/hosts.h"
#include "hosts/join.h"
#include "hosts/recover.h"
#include "http/console.h"
#include "http/doors.h"
#include "http/web.h"
#include "members/members.h"
#include "metrics/metrics.h"
#include "nbd/nbd.h"
#include "notices.h"
#include "own_certificates.h"
#include "rest/rest.h"
#include "schedules.h"
#include "server.h"
#include "timers.h"
#include <base/args.h>
#include <base/file.h>
#include <base/listen.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>
#include <base/self.h>
#include <errno.h>
#include <libxml/parser.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define WORKERS_MIN 8
#define WORKERS_MAX 128
#define WORKERS_QUEUE 4096
#define CLI_MAX 64
#define DIRECTORY_WORKERS_MAX 4
#define LAST_ACTIVE_MS (10 * 60 * 1000) /* how much later than the truth session.last_active may be */
#define SETTLE_MS 3000
#define CONNECTIONS_MAX 40000
#define DESCRIPTORS_KEPT 512
#define LOCAL_CONNECTIONS_MAX 128
#define SWEEP_MAX_MS 60000
#define NAME_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-, "
#define EXIT_UNUSABLE 3 /* the database: to start again would not help */

struct options {
    const char *pam_dir, *state_dir, *listen, *web_dir, *log_level, *call_log, *socket, *fetch_allow, *names;
    const char *noted_sum;
    bool unconfined, verify_audit, accept_database;
    long long port, http_port, nbd_port, session_idle_s, operation_wait_s, event_heartbeat_s, rate_limit,
        rate_burst, call_limit, call_burst, upload_keep_s;
};

struct pool_server {
    struct server server;
    struct options options;
    struct web *web;
    struct http_server *https, *http, *local;
    struct http_budget budget; /* of both servers */
    bool unusable;             /* the database: damaged, or of a newer version */
};

/* ---- first start ---- */

static int make_dir(const char *path)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    log_error("poold", "a folder could not be made", "folder", path, "cause", strerror(errno));
    return -1;
}

/* Before the first thread. */
static int confine(const struct options *o)
{
    const struct confined_paths paths = {.state_dir = o->state_dir,
                                         .web_dir = o->web_dir,
                                         .pam_dir = o->pam_dir,
                                         .call_log = o->call_log,
                                         .socket = o->socket};
    if (o->unconfined)
        return 0;
    return make_dir(o->state_dir) == 0 && confined_begin(&paths) ? 0 : -1;
}

/* ---- parts ---- */

static int start_workers(struct server *s)
{
    const struct worker_config work = {
        .name = "work", .threads_min = WORKERS_MIN, .threads_max = WORKERS_MAX, .queue_max = WORKERS_QUEUE};
    const struct worker_config login = {
        .name = "login", .threads_min = 2, .threads_max = 2, .queue_max = 256};
    const struct worker_config cli = {
        .name = "cli", .threads_min = 1, .threads_max = CLI_MAX, .queue_max = CLI_MAX};
    const struct worker_config directory = {
        .name = "directory", .threads_min = 1, .threads_max = DIRECTORY_WORKERS_MAX, .queue_max = 256};
    s->workers = worker_pool_new(&work);
    s->login_workers = worker_pool_new(&login);
    s->cli_workers = worker_pool_new(&cli);
    s->directory_workers = worker_pool_new(&directory);
    if (s->workers && s->login_workers && s->cli_workers && s->directory_workers)
        return 0;
    log_error("poold", "no threads could be started", "cause", strerror(errno));
    return -1;
}

/* Of the disk below a folder: SQLite does not always tell a full one from one that fails. -1: not known. */
static long long free_bytes(const char *folder)
{
    struct statvfs fs;
    return statvfs(folder, &fs) == 0 ? (long long)fs.f_bavail * (long long)fs.f_frsize : -1;
}

static int open_store(struct pool_server *p)
{
    struct server *s = &p->server;
    struct store_err cause;
    AUTO_FREE char *path = xasprintf("%s/pool.db", s->state_dir);
    /* A member keeps the pool's database for the day when it leads; for itself it needs none. */
    const struct store_config config = {.path = members_is_member(s) ? NULL : path};
    if (store_open(&s->store, &config, &cause) == 0)
        return 0;
    p->unusable = cause.code == STORE_E_CORRUPT || cause.code == STORE_E_NEWER;
    if (cause.code == STORE_E_CORRUPT)
        log_error("poold",
                  "nothing was changed: put a copy of the database in its place, or take it as it is with "
                  "--accept-database when another program has written it (docs/recovery.md)");
    log_error("poold", "the database could not be opened", "cause", cause.text, "free_bytes",
              LOG_INT(free_bytes(s->state_dir)));
    return -1;
}

/* poold --accept-database; returns the exit code. */
static int accept_database(const struct options *o)
{
    struct store_err cause;
    AUTO_FREE char *path = xasprintf("%s/pool.db", o->state_dir);
    if (store_accept_file(path, &cause) != 0) {
        fprintf(stderr, "poold: %s\n", cause.text);
        return cause.code == STORE_E_CORRUPT ? EXIT_UNUSABLE : 1;
    }
    printf("%s: what it holds is taken for right from now on\n", path);
    return 0;
}

/* As many open descriptors as the system allows; returns how many connections the two servers may have
 * together, so that the database, agents and pipes always find a free one. */
static unsigned raise_limits(void)
{
    struct rlimit limit = {.rlim_cur = 1024};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            log_warn("poold", "the limit of open files could not be raised", "cause", strerror(errno));
    }
    rlim_t rest =
        limit.rlim_cur > 2 * DESCRIPTORS_KEPT ? limit.rlim_cur - DESCRIPTORS_KEPT : limit.rlim_cur / 2;
    return rest < CONNECTIONS_MAX ? (unsigned)rest : CONNECTIONS_MAX;
}

static struct http_server *listen_on(struct pool_server *p, uint16_t port, bool tls)
{
    AUTO_FREE char *cert = xasprintf("%s/pki/server.pem", p->server.state_dir);
    AUTO_FREE char *key = xasprintf("%s/pki/server.key", p->server.state_dir);
    struct http_server_error cause;
    struct http_server *server;
    const struct http_server_config config = {
        .address = tls ? p->options.listen : "127.0.0.1",
        .port = port,
        .certificate_file = tls ? cert : NULL,
        .key_file = tls ? key : NULL,
        .on_request = web_request,
        .context = p->web,
        .error_page = web_error_page,
        .connections_max = p->budget.connections_max,
        .budget = &p->budget,
    };
    if (http_server_start(&config, &server, &cause) == 0)
        return server;
    log_error("poold", "cannot listen", "cause", cause.text);
    return NULL;
}

/* The socket of this machine's root. Its default path may be too long for a socket's, deep in a folder: then
 * there is none. */
static int listen_locally(struct pool_server *p)
{
    AUTO_FREE char *path =
        p->options.socket ? xstrdup(p->options.socket) : xasprintf("%s/poold.sock", p->options.state_dir);
    struct http_server_error cause;
    const struct http_server_config config = {
        .socket_path = path,
        .on_request = web_request,
        .context = p->web,
        .error_page = web_error_page,
        .threads = 1,
        .connections_max = LOCAL_CONNECTIONS_MAX,
    };
    if (streq(path, "none") || http_server_start(&config, &p->local, &cause) == 0)
        return 0;
    if (p->options.socket)
        log_error("poold", "cannot listen", "cause", cause.text);
    else
        log_warn("poold", "no socket for this machine's root", "cause", cause.text);
    return p->options.socket ? -1 : 0;
}

/* Whose the folder is, and who we are: a folder of another user is what a start by hand as root leaves. */
static int check_folder(const char *path)
{
    struct stat st;
    if (access(path, R_OK | W_OK | X_OK) == 0)
        return 0;
    const char *cause = strerror(errno);
    log_error("poold", "the state folder cannot be used", "folder", path, "cause", cause, "own_uid",
              LOG_INT(geteuid()), "folder_uid", LOG_INT(stat(path, &st) == 0 ? (long long)st.st_uid : -1));
    return -1;
}

static int write_port(const struct server *s, const char *name, const struct http_server *server)
{
    AUTO_FREE char *path = xasprintf("%s/%s", s->members->root_dir, name);
    char text[16];
    int len = snprintf(text, sizeof(text), "%u\n", http_server_port(server));
    if (file_write_atomic(path, text, (size_t)len, 0644) == 0)
        return 0;
    log_error("poold", "the port could not be noted", "file", path, "cause", strerror(errno));
    return -1;
}

static void sweep_sessions(void *arg)
{
    struct pool_server *p = arg;
    sessions_sweep(&p->server, p->options.session_idle_s * 1000);
    sessions_note_activity(&p->server, LAST_ACTIVE_MS);
    api_tokens_sweep(&p->server);
}

static void sweep_tasks(void *arg)
{
    tasks_sweep(&((struct pool_server *)arg)->server);
}

static void sweep_blobs(void *arg)
{
    blobs_sweep(&((struct pool_server *)arg)->server);
}

/* The sweeps wait for the store: not for the timer's own thread. */
static void sweep_later(void *arg)
{
    struct pool_server *p = arg;
    if (worker_submit(p->server.workers, sweep_sessions, p) < 0 ||
        worker_submit(p->server.workers, sweep_tasks, p) < 0 ||
        worker_submit(p->server.workers, sweep_blobs, p) < 0)
        log_warn("poold", "old sessions, tasks and files are cleared later: all workers are busy");
}

static int open_call_log(struct pool_server *p)
{
    if (!p->options.call_log || (p->server.call_log = call_log_open(p->options.call_log)))
        return 0;
    log_error("poold", "the log of calls could not be opened", "file", p->options.call_log, "cause",
              strerror(errno));
    return -1;
}

/* A server that starts anew in place is found where it was, also when the system had chosen its ports. */
#define PORTS_ENV "CORRAL_POOLD_PORTS"

static void keep_ports(struct pool_server *p)
{
    char text[32];
    snprintf(text, sizeof(text), "%u:%u", p->server.port, p->http ? http_server_port(p->http) : 0);
    if (setenv(PORTS_ENV, text, 1) < 0)
        log_warn("poold", "the ports cannot be kept", "cause", strerror(errno));
}

static void take_kept_ports(struct pool_server *p)
{
    const char *text = getenv(PORTS_ENV);
    unsigned https, http;
    if (!text || sscanf(text, "%u:%u", &https, &http) != 2 || https > 65535 || http > 65535)
        return;
    if (p->options.port == 0)
        p->options.port = https;
    if (p->options.http_port == 0)
        p->options.http_port = http;
}

static int start(struct pool_server *p)
{
    struct server *s = &p->server;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (open_call_log(p) < 0)
        return -1;
    s->listen = p->options.listen;
    s->names = p->options.names;
    if (make_dir(p->options.state_dir) < 0 || check_folder(p->options.state_dir) < 0 ||
        !(s->members = members_open(s, p->options.state_dir)))
        return -1;
    s->state_dir = s->members->data_dir;
    s->pam_dir = p->options.pam_dir;
    p->budget.connections_max = raise_limits();
    if (make_dir(s->state_dir) < 0 || own_certificates_make(s) < 0 || auth_init(s) < 0 || open_store(p) < 0 ||
        bootstrap(s, &err) < 0 || start_workers(s) < 0)
        return -1;
    s->trail = trail_open(s->state_dir);
    s->timers = timers_new();
    s->sessions = sessions_new();
    s->tasks = tasks_new();
    s->events = events_new(s, p->options.event_heartbeat_s);
    s->joins = joins_new();
    s->rest_keys = rest_keys_new();
    s->plans = plans_new();
    s->api_tokens = api_tokens_new();
    s->rates = rates_new();
    s->rest_rate = (struct rate_limit){(double)p->options.rate_limit, (double)p->options.rate_burst};
    s->call_rate = (struct rate_limit){(double)p->options.call_limit, (double)p->options.call_burst};
    s->claims = claims_new();
    s->console_tokens = console_tokens_new(s);
    s->operation_wait_ms = p->options.operation_wait_s * 1000;
    s->upload_keep_s = p->options.upload_keep_s;
    s->parking = parking_new(s);
    if (!(s->commits = commits_new(work_finish_changes)))
        return -1;
    if (blobs_start(s) < 0 || recovery_begin(s, &s->recovery, &err) < 0)
        return -1;
    auth_apply_threads(s);
    s->front = front_new(s);
    if (members_superseded(s))
        return 1;
    s->hosts = hosts_new(s, SETTLE_MS);
    s->ha = ha_new(s);
    s->metrics = metrics_new(s);
    if (!members_is_member(s))
        s->notices = notices_new(s);
    s->schedules = schedules_new(s);
    if (!s->schedules)
        return -1;
    if (!members_is_member(s) && !(s->replicas = replicas_new(s)))
        return -1;
    p->web = web_new(s, p->options.web_dir);
    p->https = listen_on(p, (uint16_t)p->options.port, true);
    if (!p->https)
        return -1;
    s->port = http_server_port(p->https);
    front_open(s->front, p->https);
    if (p->options.http_port >= 0 && !(p->http = listen_on(p, (uint16_t)p->options.http_port, false)))
        return -1;
    if (listen_locally(p) < 0)
        return -1;
    if (p->options.nbd_port >= 0 && !members_is_member(s) &&
        !(s->nbd = nbd_open(s, p->options.listen, (uint16_t)p->options.nbd_port)))
        return -1;
    int64_t sweep_ms = p->options.session_idle_s * 1000 / 4;
    timers_every(s->timers, sweep_ms < SWEEP_MAX_MS ? sweep_ms : SWEEP_MAX_MS, sweep_later, p);
    keep_ports(p);
    if (members_start(s, &err) < 0 || (p->http && write_port(s, "poold.http", p->http) < 0))
        return -1;
    return write_port(s, "poold.port", p->https);
}

/* First nobody gets in, then what runs ends, then what it stands on. The stop_ steps leave their part in
 * place: what still runs may use it, and gets a refusal. */
static void stop(struct pool_server *p)
{
    struct server *s = &p->server;
    if (p->https)
        http_server_quiesce(p->https);
    if (p->http)
        http_server_quiesce(p->http);
    if (p->local)
        http_server_quiesce(p->local);
    doors_close(s);
    members_stop(s->members);
    timers_stop(s->timers);
    replicas_stop(s->replicas);
    hosts_stop(s->hosts);
    nbd_close(s->nbd);
    ha_stop(s->ha);
    parking_stop(s->parking);
    if (s->login_workers)
        worker_pool_stop(s->login_workers);
    if (s->directory_workers)
        worker_pool_stop(s->directory_workers);
    commits_close(s->commits);
    if (s->workers)
        worker_pool_stop(s->workers);
    events_free(s->events);
    schedules_stop(s->schedules);
    if (s->cli_workers)
        worker_pool_stop(s->cli_workers);
    metrics_stop(s->metrics);
    console_tokens_stop(s->console_tokens);
    if (p->https)
        http_server_stop(p->https);
    if (p->http)
        http_server_stop(p->http);
    http_server_stop(p->local);
    console_tokens_free(s->console_tokens);
    metrics_free(s->metrics);
    schedules_free(s->schedules);
    replicas_free(s->replicas);
    ha_free(s->ha);
    hosts_free(s->hosts);
    parking_free(s->parking);
    commits_free(s->commits);
    recovery_free(s->recovery);
    claims_free(s->claims);
    front_free(s->front);
    timers_free(s->timers);
    notices_free(s->notices);
    web_free(p->web);
    joins_free(s->joins);
    rest_keys_free(s->rest_keys);
    plans_free(s->plans);
    api_tokens_free(s->api_tokens);
    rates_free(s->rates);
    tasks_free(s->tasks);
    sessions_free(s->sessions);
    auth_free(s->auth);
    trail_close(s->trail);
    call_log_close(s->call_log);
    if (s->store)
        store_close(s->store);
    members_free(s->members);
    fetch_rules_free(s->fetch_rules);
    xmlCleanupParser();
}

static int parse_options(int argc, char **argv, struct options *o)
{
    AUTO_BUF struct buf text = BUF_INIT;
    const struct arg_option table[] = {
        {"state", ARG_TEXT, "DIR", "folder of the database, certificates and the first password",
         &o->state_dir, 0, 0, true},
        {"port", ARG_INT, "N", "HTTPS port; 0: a free one (default 8443)", &o->port, 0, 65535, false},
        {"listen", ARG_TEXT, "ADDR", "address for HTTPS (default 127.0.0.1)", &o->listen, 0, 0, false},
        {"names", ARG_TEXT, "LIST",
         "further names and addresses by which clients reach it, for its certificate, separated by commas",
         &o->names, 0, 0, false},
        {"http", ARG_INT, "N", "also plain HTTP on this port of 127.0.0.1; 0: a free one", &o->http_port, 0,
         65535, false},
        {"nbd-port", ARG_INT, "N",
         "port of NBD, for networks with that purpose; 0: a free one (default: none; usual: 10809)",
         &o->nbd_port, 0, 65535, false},
        {"socket", ARG_TEXT, "PATH",
         "unix socket where root logs in without a password (default DIR/poold.sock; none: no such)",
         &o->socket, 0, 0, false},
        {"web", ARG_TEXT, "DIR", "files of the web console (default: none)", &o->web_dir, 0, 0, false},
        {"session-idle", ARG_INT, "SECONDS", "end sessions that are idle for longer (default 86400)",
         &o->session_idle_s, 1, 86400 * 365, false},
        {"operation-wait", ARG_INT, "SECONDS",
         "a call waits so long for another operation on its object (default 7200)", &o->operation_wait_s, 0,
         86400, false},
        {"upload-keep", ARG_INT, "SECONDS",
         "an upload in parts is kept so long for whoever goes on with it (default 86400)", &o->upload_keep_s,
         1, 86400 * 6, false},
        {"event-heartbeat", ARG_INT, "SECONDS",
         "touch the pool's record so often, for subscribers; 0: never (default 60)", &o->event_heartbeat_s, 0,
         86400, false},
        {"rate-limit", ARG_INT, "N",
         "REST requests a second that one user, API token or address may make on average; 0: any number "
         "(default)",
         &o->rate_limit, 0, 1000000, false},
        {"rate-burst", ARG_INT, "N", "and so many at once (default 100)", &o->rate_burst, 1, 1000000, false},
        {"call-limit", ARG_INT, "N",
         "calls and logins a second that one address may make at the other doors (JSON-RPC, XML-RPC, "
         "transfers) "
         "on average; 0: any number (default)",
         &o->call_limit, 0, 1000000, false},
        {"call-burst", ARG_INT, "N", "and so many at once (default 1000)", &o->call_burst, 1, 1000000, false},
        {"call-log", ARG_TEXT, "FILE", "append the name of each message that succeeds, once (default: no)",
         &o->call_log, 0, 0, false},
        {"fetch-allow", ARG_TEXT, "NETS",
         "networks (10.0.0.0/8,fd00::/8) that VM.import, test posts and uploads of bug reports and crash "
         "dumps "
         "may reach besides public addresses",
         &o->fetch_allow, 0, 0, false},
        {"pam-dir", ARG_TEXT, "DIR", "folder of PAM's service files (default: the system's)", &o->pam_dir, 0,
         0, false},
        {"unconfined", ARG_FLAG, NULL,
         "may open whatever its user may (for finding faults; default: its own files only)", &o->unconfined,
         0, 0, false},
        {"verify-audit", ARG_FLAG, NULL,
         "check the sums of the audit log's lines, say so and end; starts nothing", &o->verify_audit, 0, 0,
         false},
        {"noted-sum", ARG_TEXT, "SUM", "with --verify-audit: this sum has to be among them", &o->noted_sum, 0,
         0, false},
        {"accept-database", ARG_FLAG, NULL,
         "another program has written the database: take what it holds for right, say so and end",
         &o->accept_database, 0, 0, false},
        {"log-level", ARG_TEXT, "LEVEL", "error, warn, info or debug (default info)", &o->log_level, 0, 0,
         false},
    };
    switch (args_parse(argc, argv, "server of a Corral pool", table, ARRAY_LEN(table), &text)) {
    case ARGS_OK:
        return 0;
    case ARGS_HELP:
        fputs(text.data, stdout);
        return 1;
    case ARGS_ERROR:
        fprintf(stderr, "poold: %s\n", text.data);
        return -1;
    }
    return -1;
}

/* What would only show after the start has made something. */
static int check_options(const struct options *o)
{
    if (o->names && o->names[strspn(o->names, NAME_LETTERS)])
        fprintf(stderr,
                "poold: --names are names and addresses separated by commas, such as pool.example,10.0.0.5, "
                "not '%s'\n",
                o->names);
    else if (!listen_is_address(o->listen))
        fprintf(stderr, "poold: --listen is a numeric address, not '%s'\n", o->listen);
    else if (o->noted_sum && !o->verify_audit)
        fprintf(stderr, "poold: --noted-sum goes with --verify-audit\n");
    else if (o->pam_dir && access(o->pam_dir, R_OK) < 0)
        fprintf(stderr, "poold: --pam-dir %s: %s\n", o->pam_dir, strerror(errno));
    else
        return 0;
    return -1;
}

int main(int argc, char **argv)
{
    static struct pool_server p = {.options = {.listen = "127.0.0.1",
                                               .log_level = "info",
                                               .port = 8443,
                                               .rate_burst = 100,
                                               .call_burst = 1000,
                                               .http_port = -1,
                                               .nbd_port = -1,
                                               .operation_wait_s = 7200,
                                               .upload_keep_s = 86400,
                                               .session_idle_s = 86400,
                                               .event_heartbeat_s = 60}};
    enum log_level level;
    self_note(argv);
    int rc = parse_options(argc, argv, &p.options);
    if (rc != 0)
        return rc > 0 ? 0 : 2;
    if (check_options(&p.options) < 0)
        return 2;
    if (p.options.verify_audit) {
        AUTO_FREE char *path = xasprintf("%s/audit.log", p.options.state_dir);
        rc = chain_verify(path, p.options.noted_sum, stdout);
        return rc < 0 ? 2 : rc;
    }
    if (p.options.accept_database)
        return accept_database(&p.options);
    if (!log_level_parse(p.options.log_level, &level)) {
        fprintf(stderr, "poold: --log-level is error, warn, info or debug, not '%s'\n", p.options.log_level);
        return 2;
    }
    char error[160];
    if (!(p.server.fetch_rules = fetch_rules_new(p.options.fetch_allow, error))) {
        fprintf(stderr, "poold: --fetch-allow: %s\n", error);
        return 2;
    }
    log_init("poold", level);
    umask(077);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* inherited by every thread: only sigwait below sees them */
    signal(SIGPIPE, SIG_IGN);
    LIBXML_TEST_VERSION
    p.server.may_end = true;
    take_kept_ports(&p);
    rc = confine(&p.options);
    if (rc == 0)
        rc = start(&p);
    if (rc != 0) {
        stop(&p);
        if (rc > 0)
            self_again();
        return p.unusable ? EXIT_UNUSABLE : 1;
    }
    log_info("poold", "serving", "port", LOG_INT(p.server.port), "state", p.server.state_dir);
    int signal_number;
    sigwait(&signals, &signal_number);
    log_info("poold", "stopping", "signal", LOG_INT(signal_number));
    stop(&p);
    log_info("poold", "stopped");
    if (!atomic_load(&p.server.again))
        return 0;
    self_again();
    log_error("poold", "the server could not start anew", "cause", strerror(errno));
    return 1;
}
