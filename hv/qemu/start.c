/* Starting a domain: folder and sockets, plan, process, and the device model's word that the guest runs.
 * The record is written and the sockets listen before the process exists, and the process writes its own
 * number down first, so an agent that dies at any point leaves something that adopt.c can finish or undo. */
#include "start.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DOMID_BLOCK 100

int handout_give(struct handout *h, int fd)
{
    h->fds = xreallocarray(h->fds, h->count + 1, sizeof(*h->fds));
    h->fds[h->count] = (struct proc_fd){.parent = fd, .child = (int)h->count + 3};
    return h->fds[h->count++].child;
}

int handout_give_owned(struct handout *h, int fd)
{
    h->owned = xreallocarray(h->owned, h->owned_count + 1, sizeof(*h->owned));
    h->owned[h->owned_count++] = fd;
    return handout_give(h, fd);
}

void handout_done(struct handout *h)
{
    for (size_t i = 0; i < h->owned_count; i++)
        close(h->owned[i]);
    free(h->owned);
    free(h->fds);
}

static int add_sockets(struct qemu_domain *d, const struct domain_config *config, struct handout *h,
                       struct qemu_plan_input *input, struct hv_err *err)
{
    int fd = rundir_listen(&d->dir, "qmp", err);
    if (fd < 0)
        return -1;
    input->qmp_fd = handout_give_owned(h, fd);
    if (config->serial) {
        if ((fd = rundir_listen(&d->dir, "serial", err)) < 0)
            return -1;
        input->serial_fd = handout_give_owned(h, fd);
        int log = openat(d->dir.fd, "serial.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log < 0)
            return hv_fail(err, HV_ERR_KIND_IO, "The serial log cannot be made: %s", strerror(errno));
        input->serial_log_fd = handout_give_owned(h, log);
    }
    if (config->guest_agent) {
        if ((fd = rundir_listen(&d->dir, "agent", err)) < 0)
            return -1;
        input->agent_fd = handout_give_owned(h, fd);
    }
    if (config->guest_data) {
        if ((fd = rundir_listen(&d->dir, "data", err)) < 0)
            return -1;
        input->data_fd = handout_give_owned(h, fd);
    }
    return 0;
}

/* The chains with the numbers that their descriptors have in the child. */
static struct disk_chain *chains_in_child(const struct domain_config *config, const struct disk_chain *chains,
                                          struct handout *h)
{
    struct disk_chain *moved = xcalloc(config->disks_count + 1, sizeof(*moved));
    for (size_t i = 0; i < config->disks_count; i++) {
        moved[i].count = chains[i].count;
        moved[i].nodes = xcalloc(chains[i].count + 1, sizeof(*moved[i].nodes));
        for (size_t k = 0; k < chains[i].count; k++) {
            moved[i].nodes[k] = chains[i].nodes[k];
            moved[i].nodes[k].fd = handout_give(h, chains[i].nodes[k].fd);
        }
    }
    return moved;
}

/* A tap for each nic on a bridge, as numbers of the child; -1 for the others. */
static int add_taps(const struct domain_config *config, struct handout *h, int *taps, struct hv_err *err)
{
    for (size_t i = 0; i < config->nics_count; i++) {
        taps[i] = -1;
        if (config->nics[i].kind != NIC_KIND_BRIDGE)
            continue;
        int fd = nic_open_tap(config->uuid, &config->nics[i], err);
        if (fd < 0)
            return -1;
        taps[i] = handout_give_owned(h, fd);
    }
    return 0;
}

static void free_moved(struct disk_chain *moved, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(moved[i].nodes);
    free(moved);
}

/* ---- the process ---- */

void launch_add(char ***argv, size_t *argc, char *moved)
{
    *argv = xreallocarray(*argv, *argc + 2, sizeof(**argv));
    (*argv)[(*argc)++] = moved;
    (*argv)[*argc] = NULL;
}

void launch_add_ruleset(char ***argv, size_t *argc, int child)
{
    if (child < 0)
        return;
    launch_add(argv, argc, xstrdup("--ruleset"));
    launch_add(argv, argc, xasprintf("%d", child));
}

/* The group that may open /dev/kvm, when the device model needs it for that; 0: none. */
static gid_t kvm_group(const struct hv_driver_state *state)
{
    struct stat st;
    if (state->accelerator != ACCELERATOR_KVM || stat("/dev/kvm", &st) < 0)
        return 0;
    bool open_to_all = (st.st_mode & S_IROTH) && (st.st_mode & S_IWOTH);
    return open_to_all ? 0 : st.st_gid;
}

void launch_begin(const struct qemu_domain *d, gid_t also, char ***argv, size_t *argc)
{
    const struct kept_user user = domain_user(d);
    launch_add(argv, argc, xstrdup(d->driver->launcher));
    if (user.uid == (uid_t)-1)
        return;
    launch_add(argv, argc, xstrdup("--uid"));
    launch_add(argv, argc, xasprintf("%u", user.uid));
    launch_add(argv, argc, xstrdup("--gid"));
    launch_add(argv, argc, xasprintf("%u", user.gid));
    if (also > 0) {
        launch_add(argv, argc, xstrdup("--also-gid"));
        launch_add(argv, argc, xasprintf("%u", also));
    }
}

static char *keep_list(const struct qemu_plan *plan)
{
    struct buf list = BUF_INIT;
    for (size_t i = 0; i < plan->fd_count; i++)
        buf_printf(&list, "%s%d", i ? "," : "", plan->fds[i]);
    return buf_take(&list);
}

static int spawn(struct qemu_domain *d, const struct qemu_plan *plan, struct handout *h, struct hv_err *err)
{
    int log AUTO_CLOSE = rundir_log(&d->dir, "qemu.log");
    int pid_fd = openat(d->dir.fd, "pid", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (log < 0 || pid_fd < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The domain's files on the host cannot be made: %s",
                       strerror(errno));
    char **argv = NULL;
    size_t argc = 0;
    int ruleset;
    if (confined_ruleset(d->driver, d->driver->qemu_binary, h->fds, h->count, -1, &ruleset, err) < 0) {
        close(pid_fd);
        return -1;
    }
    launch_begin(d, kvm_group(d->driver), &argv, &argc);
    launch_add_ruleset(&argv, &argc, ruleset >= 0 ? handout_give_owned(h, ruleset) : -1);
    launch_add(&argv, &argc, xstrdup("--pid-fd"));
    launch_add(&argv, &argc, xasprintf("%d", handout_give_owned(h, pid_fd)));
    launch_add(&argv, &argc, xstrdup("--keep"));
    launch_add(&argv, &argc, keep_list(plan));
    launch_add(&argv, &argc, xstrdup("--"));
    for (size_t i = 0; i < plan->argc; i++)
        launch_add(&argv, &argc, xstrdup(plan->argv[i]));
    struct proc_spec spec = {.argv = (const char *const *)argv,
                             .stdout_fd = log,
                             .stderr_fd = log,
                             .fds = h->fds,
                             .fd_count = h->count,
                             .new_session = true};
    int outcome = proc_start(&spec, &d->proc);
    if (outcome < 0)
        hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The device model cannot be started: %s", strerror(errno));
    for (size_t i = 0; i < argc; i++)
        free(argv[i]);
    free(argv);
    return outcome;
}

static int prepare_and_spawn(struct qemu_domain *d, const struct disk_chain *chains, struct hv_err *err)
{
    struct hv_driver_state *state = d->driver;
    const struct domain_config *config = &d->record.config;
    struct handout handout CLEANUP(handout_done) = {0};
    struct qemu_plan plan AUTO_QEMU_PLAN = QEMU_PLAN_INIT;
    struct qemu_plan_input input = {.config = config,
                                    .binary = state->qemu_binary,
                                    .accelerator = state->accelerator,
                                    .qmp_fd = -1,
                                    .serial_fd = -1,
                                    .agent_fd = -1,
                                    .data_fd = -1,
                                    .serial_log_fd = -1,
                                    .kernel_fd = -1,
                                    .ramdisk_fd = -1,
                                    .ovmf_code_fd = -1,
                                    .ovmf_vars_fd = -1,
                                    .tpm_fd = -1,
                                    .now = clock_unix_seconds(),
                                    .layout = d->record.layout,
                                    .incoming = d->record.incoming};
    struct boot_words words CLEANUP(boot_words_done) = {0};
    int *taps AUTO_FREE = xcalloc(config->nics_count + 1, sizeof(*taps));
    if (rundir_write_record(&d->dir, &d->record, err) < 0)
        return -1;
    failpoint("start:recorded");
    const struct kept_user user = domain_user(d);
    if (user.uid != (uid_t)-1 && state->env.give &&
        state->env.give(state->env.ctx, config, user.uid, user.gid, err) < 0)
        return -1;
    if (add_sockets(d, config, &handout, &input, err) < 0 ||
        firmware_add(d, chains, &handout, &input, &words, err) < 0 || tpm_add(d, &handout, &input, err) < 0 ||
        add_taps(config, &handout, taps, err) < 0)
        return -1;
    failpoint("start:prepared");
    input.taps = taps;
    struct disk_chain *moved = chains_in_child(config, chains, &handout);
    input.chains = moved;
    int outcome = qemu_plan_make(&input, &plan, err);
    free_moved(moved, config->disks_count);
    return outcome < 0 ? -1 : spawn(d, &plan, &handout, err);
}

/* The user that goes with a number; 0: all domains share one. */
static int64_t own_uid(const struct hv_driver_state *state, int64_t domid)
{
    uid_t first = state->env.guest_first_uid;
    return first ? (int64_t)first + domid % GUEST_USERS : 0;
}

/* With state->lock held. */
static bool uid_runs(const struct hv_driver_state *state, int64_t uid)
{
    bool runs = false;
    for (size_t i = 0; uid && !runs && i < state->count; i++) {
        struct qemu_domain *d = state->domains[i];
        pthread_mutex_lock(&d->lock);
        runs = !d->dead && d->record.uid == uid;
        pthread_mutex_unlock(&d->lock);
    }
    return runs;
}

/* A number for the domain whose user no other has; numbers are reserved on disk in blocks, so that a start
 * waits for no disk. */
static int64_t take_domid(struct hv_driver_state *state)
{
    pthread_mutex_lock(&state->lock);
    while (state->count < GUEST_USERS && uid_runs(state, own_uid(state, state->domid_next)))
        state->domid_next++;
    int64_t domid = state->domid_next++;
    if (domid >= state->domid_reserved) {
        state->domid_reserved = domid + DOMID_BLOCK;
        char *path AUTO_FREE = xasprintf("%s/domid", state->state_dir);
        char *text AUTO_FREE = xasprintf("%lld\n", (long long)state->domid_reserved);
        if (file_write_atomic(path, text, strlen(text), 0600) < 0)
            log_warn("qemu", "the last domain number cannot be written down", "error", strerror(errno));
    }
    pthread_mutex_unlock(&state->lock);
    return domid;
}

static void fill(struct qemu_domain *d, const struct domain_config *config, const struct save_header *header)
{
    domain_config_copy(&d->record.config, config);
    if (d->record.config.vcpus_max < config->vcpus)
        d->record.config.vcpus_max = config->vcpus;
    d->record.incoming = header != NULL;
    d->record.layout =
        header ? json_deep_copy(json_object_get(header->layout, "slots")) : qemu_layout_new(config);
    d->record.domid = take_domid(d->driver);
    d->record.uid = own_uid(d->driver, d->record.domid);
    d->record.tells_off = !qemu_resets(config);
    d->record.start_time = d->record.boot_time = clock_unix_seconds();
    snprintf(d->record.boot_id, sizeof(d->record.boot_id), "%s", d->driver->boot_id);
    str_assign(&d->info.name, config->name);
    d->info.state = config->start_paused ? DOMAIN_STATE_PAUSED : DOMAIN_STATE_RUNNING;
    d->info.domid = d->record.domid;
    d->info.start_time = d->info.boot_time = d->record.start_time;
    d->info.memory_bytes = d->info.memory_target_bytes = d->info.memory_actual_bytes = config->memory_bytes;
    d->info.vcpus = config->vcpus;
    d->starting = d->is_child = true;
}

/* Waits until the device model answers, which it does once its devices are made and the guest runs. */
static int wait_until_up(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err)
{
    if (domain_sync(d, deadline, err) == 0)
        return 0;
    if (err->kind != HV_ERR_KIND_DEVICE_MODEL)
        return -1;
    /* The last words of the process say why. */
    pthread_mutex_lock(&d->lock);
    if (d->dead && d->info.end_text)
        hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The guest could not be started. %s", d->info.end_text);
    pthread_mutex_unlock(&d->lock);
    return -1;
}

/* The balloon driver finds its target when it begins. */
static int balloon_first(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err)
{
    const struct domain_config *config = &d->record.config;
    int64_t target = config->memory_target_bytes;
    if (target <= 0 || target >= config->memory_bytes)
        return 0;
    return domain_balloon(d, target, deadline, err);
}

/* What a resumed domain is filled from; NULL: it boots. */
struct saved {
    const struct save_header *header;
    const struct hv_save *from; /* NULL: that comes later, and it is not listed until then */
};

static int begin_process(struct qemu_domain *d, const struct disk_chain *chains, struct hv_err *err)
{
    if (prepare_and_spawn(d, chains, err) < 0) {
        tpm_end(d);
        return -1;
    }
    pthread_mutex_lock(&d->lock);
    d->info.pid = d->proc.pid;
    pthread_mutex_unlock(&d->lock);
    failpoint("start:spawned");
    domain_attach(d);
    return 0;
}

int domain_start_process(struct qemu_domain *d, const struct disk_chain *chains,
                         const struct hv_deadline *deadline, struct hv_err *err)
{
    if (begin_process(d, chains, err) < 0 || wait_until_up(d, deadline, err) < 0)
        return -1;
    failpoint("start:up");
    return domain_schedule(d, deadline, err) < 0 ? -1 : balloon_first(d, deadline, err);
}

static int start_in_folder(struct qemu_domain *d, const struct disk_chain *chains, const struct saved *saved,
                           const struct hv_deadline *deadline, struct hv_err *err)
{
    if (begin_process(d, chains, err) < 0) {
        rundir_remove(d->driver->state_dir, d->uuid, &d->dir);
        return -1;
    }
    bool up = wait_until_up(d, deadline, err) == 0;
    if (up)
        failpoint("start:up");
    if (up && (!saved || !saved->from || domain_load(d, saved->header, saved->from, deadline, err) == 0) &&
        domain_schedule(d, deadline, err) == 0 && (saved || balloon_first(d, deadline, err) == 0))
        return 0;
    domain_kill(d);
    return -1;
}

static int start(struct hv_driver_state *state, const struct domain_config *config, const struct saved *saved,
                 struct disk_chain *chains, const struct hv_deadline *deadline, struct domain_info *info,
                 struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_new(state, config->uuid);
    fill(d, config, saved ? saved->header : NULL);
    int outcome = -1;
    if (!domain_table_add(state, d)) {
        hv_fail(err, HV_ERR_KIND_EXISTS, "The domain runs on this host already.");
    } else {
        ended_remove(state->state_dir, d->uuid);
        if (rundir_create(state->state_dir, d->uuid, &d->dir, err) == 0)
            outcome = start_in_folder(d, chains, saved, deadline, err);
        if (outcome < 0) {
            pthread_mutex_lock(&d->lock);
            d->dead = true;
            pthread_mutex_unlock(&d->lock);
            domain_table_remove(state, d);
        }
    }
    for (size_t i = 0; i < config->disks_count; i++)
        disk_chain_done(&chains[i]);
    if (outcome < 0)
        return -1;
    if (saved && !saved->from)
        return 0;
    pthread_mutex_lock(&d->lock);
    d->starting = false;
    bool ended = d->dead;
    if (!ended)
        domain_info_copy(info, &d->info);
    else
        hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The domain ended as soon as it ran. %s", d->info.end_text);
    pthread_mutex_unlock(&d->lock);
    if (ended)
        return -1;
    domain_publish(d, false);
    return 0;
}

int qemu_start(struct hv_driver_state *state, const struct domain_config *config, struct disk_chain *chains,
               const struct hv_deadline *deadline, struct domain_info *info, struct hv_err *err)
{
    return start(state, config, NULL, chains, deadline, info, err);
}

int domain_start_incoming(struct hv_driver_state *state, const struct domain_config *config,
                          const struct save_header *header, struct disk_chain *chains,
                          const struct hv_deadline *deadline, struct hv_err *err)
{
    struct saved saved = {.header = header};
    if (qemu_load_check(state, header, config, err) == 0)
        return start(state, config, &saved, chains, deadline, NULL, err);
    for (size_t i = 0; i < config->disks_count; i++)
        disk_chain_done(&chains[i]);
    return -1;
}

int qemu_resume(struct hv_driver_state *state, const struct domain_config *config,
                const struct save_header *header, const struct hv_save *from, struct disk_chain *chains,
                const struct hv_deadline *deadline, struct domain_info *info, struct hv_err *err)
{
    struct saved saved = {.header = header, .from = from};
    if (qemu_load_check(state, header, config, err) == 0)
        return start(state, config, &saved, chains, deadline, info, err);
    for (size_t i = 0; i < config->disks_count; i++)
        disk_chain_done(&chains[i]);
    return -1;
}
