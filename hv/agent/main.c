/* hostd: the agent of one host. Order of a start: state folder and its lock, facts, join (first time),
 * driver (which adopts what runs), repositories, operations that were cut short, and only then the socket. */
#include "merger.h"
#include <base/args.h>
#include <base/clock.h>
#include <base/confine.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/self.h>
#include <errno.h>
#include <fcntl.h>
#include <ha/watchdog.h>
#include <hv/network.h>
#include <hv/system.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define CLIENT_NAME "poold.corral.internal"
#define HOST_SUFFIX ".host.corral.internal"

static int parse(int argc, char **argv, struct agent_options *o)
{
    const struct arg_option options[] = {
        {.name = "state",
         .value_name = "DIR",
         .help = "folder of the agent's state",
         .out = &o->state_dir,
         .required = true},
        {.name = "join",
         .value_name = "URL",
         .help = "pool to join, at the first start",
         .out = &o->join_url},
        {.name = "token-file",
         .value_name = "FILE",
         .help = "file with the join token",
         .out = &o->token_file},
        {.name = "listen",
         .value_name = "ADDR:PORT",
         .help = "where to listen (127.0.0.1:0: a free port, kept)",
         .out = &o->listen},
        {.name = "driver", .value_name = "NAME", .help = "qemu (default) or sim", .out = &o->driver},
        {.name = "images",
         .value_name = "DIR",
         .help = "kernels and ramdisks that domains may name (STATE/images)",
         .out = &o->images},
        {.name = "launcher",
         .value_name = "FILE",
         .help = "corral-launch (beside this program)",
         .out = &o->launcher},
        {.name = "qemu", .value_name = "FILE", .help = "qemu-system-x86_64", .out = &o->qemu},
        {.name = "ovmf-code", .value_name = "FILE", .help = "UEFI firmware", .out = &o->ovmf_code},
        {.name = "ovmf-vars",
         .value_name = "FILE",
         .help = "template of UEFI variables",
         .out = &o->ovmf_vars},
        {.name = "ovmf-secure-code",
         .value_name = "FILE",
         .help = "UEFI firmware for Secure Boot",
         .out = &o->ovmf_secure_code},
        {.name = "ovmf-secure-vars",
         .value_name = "FILE",
         .help = "template with its keys",
         .out = &o->ovmf_secure_vars},
        {.name = "swtpm", .value_name = "FILE", .help = "swtpm, for virtual TPMs", .out = &o->swtpm},
        {.name = "guest-uid",
         .kind = ARG_INT,
         .value_name = "N",
         .help = "user of tools that read guests' disks (corral-qemu, else 64055)",
         .out = &o->guest_uid,
         .min = 1,
         .max = 0x7ffffffe},
        {.name = "guest-uids",
         .kind = ARG_INT,
         .value_name = "N",
         .help =
             "first of the 65536 users of device models, one a guest (1879048192); 0: all share --guest-uid",
         .out = &o->guest_uids,
         .min = 0,
         .max = 0x7ffffffe - GUEST_USERS},
        {.name = "sim-boot-ms",
         .kind = ARG_INT,
         .value_name = "N",
         .help = "how long a simulated guest boots",
         .out = &o->sim_boot_ms,
         .min = 0,
         .max = 3600000},
        {.name = "power-command",
         .value_name = "FILE",
         .help = "program that switches this machine off or reboots it; its argument is shutdown or reboot",
         .out = &o->power_command},
        {.name = "system-root",
         .value_name = "DIR",
         .help = "root folder of the machine's own system, whose settings the pool then may change: / (none)",
         .out = &o->system_root},
        {.name = "system-tools",
         .value_name = "DIR",
         .help = "folder of the programs that do so (the system's)",
         .out = &o->system_tools},
        {.name = "ssh-after",
         .kind = ARG_INT,
         .value_name = "S",
         .help = "with automatic SSH: how long the pool's server may be silent before it opens (300)",
         .out = &o->ssh_after_s,
         .min = 1,
         .max = 86400},
        {.name = "sim-memory",
         .kind = ARG_INT,
         .value_name = "MIB",
         .help = "memory of a simulated host (as the machine's)",
         .out = &o->sim_memory_mib,
         .min = 0,
         .max = 1 << 30},
        {.name = "reserve-memory",
         .kind = ARG_INT,
         .value_name = "MIB",
         .help = "memory that guests may not have (a sixteenth; 128 to 2048)",
         .out = &o->reserve_mib,
         .min = 0,
         .max = 1 << 30},
        {.name = "min-uptime",
         .kind = ARG_INT,
         .value_name = "S",
         .help = "a guest that ends sooner after its boot is not restarted (120)",
         .out = &o->min_uptime_s,
         .min = 0,
         .max = 86400},
        {.name = "cgroup",
         .value_name = "DIR",
         .help = "cgroup v2 tree for weights and caps (/sys/fs/cgroup)",
         .out = &o->cgroup},
        {.name = "usb-policy",
         .value_name = "FILE",
         .help = "which USB devices guests may have (STATE/usb-policy.conf)",
         .out = &o->usb_policy},
        {.name = "devices-root",
         .value_name = "DIR",
         .help = "folder with the sys and dev of the host's devices, for tests (/)",
         .out = &o->devices_root},
        {.name = "log-level", .value_name = "L", .help = "error, warn, info or debug", .out = &o->log_level},
    };
    struct buf text AUTO_BUF = BUF_INIT;
    enum log_level level = LOG_INFO_LEVEL;
    switch (args_parse(argc, argv, "agent of a Corral host", options, ARRAY_LEN(options), &text)) {
    case ARGS_HELP:
        fputs(text.data, stdout);
        return 1;
    case ARGS_ERROR:
        fprintf(stderr, "hostd: %s\n", text.data);
        return -1;
    case ARGS_OK:
        break;
    }
    if (o->log_level && !log_level_parse(o->log_level, &level)) {
        fprintf(stderr, "hostd: --log-level is not one of error, warn, info, debug\n");
        return -1;
    }
    if (!streq(o->driver, "qemu") && !streq(o->driver, "sim")) {
        fprintf(stderr, "hostd: --driver is qemu or sim, not '%s'\n", o->driver);
        return -1;
    }
    log_init("hostd", level);
    /* Before the first thread, and for all that it starts. */
    if (confine_calls(CONFINE_HOST) < 0)
        log_warn("main", "the agent's system calls are not limited", "cause", strerror(errno));
    return 0;
}

/* Two agents with one state would both command the same domains. The lock lasts as long as the process. */
static int lock_state(struct agent *agent, struct hv_err *err)
{
    if (mkdir(agent->options.state_dir, 0700) < 0 && errno != EEXIST)
        return hv_fail(err, HV_ERR_KIND_IO, "The state folder cannot be made: %s", strerror(errno));
    char *path AUTO_FREE = agent_path(agent, "hostd.lock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
        hv_fail(err, HV_ERR_KIND_IN_USE, "The state folder cannot be locked: %s",
                errno == EWOULDBLOCK ? "another hostd uses it" : strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return 0;
}

/* The directory of this program. The caller frees. */
static char *own_folder(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(path, '/');
    return xstrndup(path, slash ? (size_t)(slash - path) : 0);
}

static char *find_launcher(const struct agent_options *o)
{
    if (o->launcher)
        return xstrdup(o->launcher);
    char *folder AUTO_FREE = own_folder();
    char *beside AUTO_FREE = xasprintf("%s/corral-launch", folder);
    if (access(beside, X_OK) == 0)
        return TAKE_PTR(beside);
    return xasprintf("%s/../libexec/corral/corral-launch", folder);
}

static void on_changed(void *ctx, const struct domain_info *info, bool guest_only)
{
    struct agent *agent = ctx;
    events_domain(agent, info, guest_only);
    if (info->state == DOMAIN_STATE_GONE) {
        agent_sweep_rules(agent);
        merger_wake(agent->merger);
    }
}

static int give(void *ctx, const struct domain_config *config, uid_t uid, gid_t gid, struct hv_err *err)
{
    return devices_give(ctx, config, uid, gid, err);
}

static int rebooted(void *ctx, const char *uuid)
{
    return domain_reboot_later(ctx, uuid);
}

static int open_disks(void *ctx, const struct domain_config *config, struct disk_chain *chains,
                      struct hv_err *err)
{
    return domain_open_chains(ctx, config, chains, err);
}

static void set_up(struct agent *agent)
{
    struct agent_options *o = &agent->options;
    bool sim = streq(o->driver, "sim");
    agent->driver = sim ? &hv_sim_driver : &hv_qemu_driver;
    agent->storage = sim ? &storage_simulated : &storage_real;
    agent->images_dir = o->images ? xstrdup(o->images) : agent_path(agent, "images");
    agent->images_fd = open(agent->images_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    agent->launcher = find_launcher(o);
    agent->env = (struct hv_driver_env){.state_dir = o->state_dir,
                                        .images_fd = agent->images_fd,
                                        .launcher = agent->launcher,
                                        .qemu_binary = o->qemu,
                                        .ovmf_code = o->ovmf_code,
                                        .ovmf_vars = o->ovmf_vars,
                                        .ovmf_secure_code = o->ovmf_secure_code,
                                        .ovmf_secure_vars = o->ovmf_secure_vars,
                                        .swtpm = o->swtpm,
                                        .sim_boot_ms = o->sim_boot_ms,
                                        .cgroup = o->cgroup,
                                        .min_uptime_s = o->min_uptime_s,
                                        .changed = on_changed,
                                        .give = give,
                                        .rebooted = rebooted,
                                        .open_disks = open_disks,
                                        .ctx = agent};
    users_choose(agent);
    storage_set_launcher(agent->launcher);
    if (geteuid() == 0 && !sim)
        storage_set_user(agent->env.guest_uid, agent->env.guest_gid);
}

static void add_capabilities(struct agent *agent)
{
    unsigned can = agent->driver->capabilities(agent->state);
    for (unsigned bit = 1; driver_capability_name(bit); bit <<= 1)
        if (can & bit)
            host_facts_add_capabilities(&agent->facts, driver_capability_name(bit));
}

static int start_pools(struct agent *agent, struct hv_err *err)
{
    struct worker_config work = {.name = "work", .threads_min = 4, .threads_max = 256, .queue_max = 10000};
    struct worker_config console = {.name = "console", .threads_min = 1, .threads_max = 512, .queue_max = 0};
    agent->workers = worker_pool_new(&work);
    agent->consoles = worker_pool_new(&console);
    agent->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!agent->workers || !agent->consoles || agent->stop_fd < 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "Threads cannot be started: %s", strerror(errno));
    return 0;
}

static int start_server(struct agent *agent, struct hv_err *err)
{
    char *certificate AUTO_FREE = agent_path(agent, "pki/host.pem"),
                      *key AUTO_FREE = agent_path(agent, "pki/host.key");
    char *ca AUTO_FREE = agent_path(agent, "pki/ca.pem"),
             *port_file AUTO_FREE = agent_path(agent, "hostd.port");
    struct http_server_config config = {.address = agent->address,
                                        .port = (uint16_t)agent->port,
                                        .certificate_file = certificate,
                                        .key_file = key,
                                        .client_ca_file = ca,
                                        .client_name = CLIENT_NAME,
                                        .client_suffix = HOST_SUFFIX,
                                        .threads = 2,
                                        .on_request = agent_on_request,
                                        .context = agent};
    struct http_server_error error;
    if (http_server_start(&config, &agent->server, &error) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The agent cannot listen on %s:%d: %s", agent->address,
                       agent->port, error.text);
    char *text AUTO_FREE = xasprintf("%d\n", http_server_port(agent->server));
    if (file_write_atomic(port_file, text, strlen(text), 0644) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "hostd.port cannot be written: %s", strerror(errno));
    log_info("main", "ready", "address", agent->address, "port", LOG_INT(http_server_port(agent->server)),
             "driver", agent->driver->name, "host", agent->host_uuid);
    return 0;
}

static void on_system_changed(void *ctx)
{
    struct agent *agent = ctx;
    events_publish(agent, EVENT_KIND_HOST_CHANGED, agent->host_uuid);
}

/* A simulated host that was not given a system has a model of one. */
static int open_system(struct agent *agent, struct hv_err *err)
{
    bool simulated = agent->driver == &hv_sim_driver && !agent->options.system_root;
    agent->system_note = agent_path(agent, "system.json");
    agent->system_model = agent_path(agent, "system");
    const struct hv_system_env env = {.state_file = agent->system_note,
                                      .root = simulated ? agent->system_model : agent->options.system_root,
                                      .tools = agent->options.system_tools,
                                      .simulated = simulated,
                                      .silence_s = agent->options.ssh_after_s,
                                      .changed = on_system_changed,
                                      .ctx = agent};
    return hv_system_open(&env, &agent->system, err);
}

/* What an agent before this one may have left. */
static void sweep_once(void *arg)
{
    (void)arg;
    if (geteuid() == 0)
        network_filters_sweep();
}

static int start(struct agent *agent, struct hv_err *err)
{
    if (lock_state(agent, err) < 0)
        return -1;
    set_up(agent);
    facts_collect(agent, &agent->facts);
    if (agent->driver->probe(&agent->env, &agent->facts, err) < 0)
        return -1;
    facts_images(agent, &agent->facts);
    join_repair(agent);
    certificate_repair(agent);
    if (join_pool(agent, err) < 0 || start_pools(agent, err) < 0)
        return -1;
    term_load(agent);
    host_facts_done(&agent->facts);
    host_facts_init(&agent->facts);
    facts_collect(agent, &agent->facts);
    agent->driver->probe(&agent->env, &agent->facts, err);
    agent->events = events_new(agent);
    agent->waiters = waiters_new(agent);
    if (agent->driver->open(&agent->env, &agent->state, err) < 0 || srs_open(agent, err) < 0 ||
        ops_open(agent, err) < 0)
        return -1;
    facts_boot(agent, &agent->facts);
    add_capabilities(agent);
    send_settle_all(agent);
    if (merger_start(agent, err) < 0 || open_system(agent, err) < 0)
        return -1;
    devices_start(agent);
    ops_recover(agent);
    if (ha_open(agent, err) < 0)
        return -1;
    atomic_store(&agent->ready, true);
    if (agent->driver == &hv_qemu_driver && worker_submit(agent->workers, sweep_once, NULL) < 0)
        log_warn("main", "rules of taps that are gone stay");
    return start_server(agent, err);
}

static void stop(struct agent *agent)
{
    uint64_t one = 1;
    if (agent->stop_fd >= 0 && write(agent->stop_fd, &one, sizeof(one)) < 0)
        log_warn("main", "consoles cannot be told to end", "error", strerror(errno));
    if (agent->server)
        http_server_stop(agent->server);
    /* An operation that waits for a guest is taken up again by the next start. */
    log_info("main", "stopped");
}

static void raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* hostd --watchdog STATE sim|qemu anew|LEASE: what ha.c starts beside the agent. */
static int run_watchdog(char **argv)
{
    const struct watchdog_start start = {.simulated = streq(argv[3], "sim"),
                                         .anew = streq(argv[4], "anew"),
                                         .lease_until_ms = strtoll(argv[4], NULL, 10)};
    log_init("watchdog", LOG_INFO_LEVEL);
    return watchdog_run(argv[2], &start);
}

int main(int argc, char **argv)
{
    if (argc == 5 && streq(argv[1], "--watchdog"))
        return run_watchdog(argv);
    static struct agent agent = {.options = {.listen = "127.0.0.1:0",
                                             .driver = "qemu",
                                             .qemu = "/usr/bin/qemu-system-x86_64",
                                             .ovmf_code = "/usr/share/OVMF/OVMF_CODE_4M.fd",
                                             .ovmf_vars = "/usr/share/OVMF/OVMF_VARS_4M.fd",
                                             .ovmf_secure_code = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd",
                                             .ovmf_secure_vars = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
                                             .swtpm = "/usr/bin/swtpm",
                                             .sim_boot_ms = 300,
                                             .guest_uids = GUEST_FIRST_UID,
                                             .reserve_mib = -1,
                                             .min_uptime_s = 120,
                                             .ssh_after_s = 300,
                                             .cgroup = "/sys/fs/cgroup"},
                                 .images_fd = -1,
                                 .stop_fd = -1};
    self_note(argv);
    int parsed = parse(argc, argv, &agent.options);
    if (parsed != 0)
        return parsed > 0 ? 0 : 2;
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_limits();
    pthread_mutex_init(&agent.facts_lock, NULL);
    pthread_mutex_init(&agent.term_lock, NULL);
    pthread_mutex_init(&agent.srs_lock, NULL);
    pthread_mutex_init(&agent.uses_lock, NULL);
    pthread_mutex_init(&agent.incoming_lock, NULL);
    host_facts_init(&agent.facts);
    struct hv_err err;
    if (start(&agent, &err) < 0) {
        log_error("main", "the agent cannot start", "reason", err.text);
        return 1;
    }
    int signal_number;
    sigwait(&ends, &signal_number);
    stop(&agent);
    /* Threads may still be at work, and what they do is written down: nothing is to be torn down under them.
     */
    if (atomic_load(&agent.again) && self_again() < 0)
        log_error("main", "the agent cannot start anew", "reason", strerror(errno));
    _exit(atomic_load(&agent.again) ? 1 : 0);
}
