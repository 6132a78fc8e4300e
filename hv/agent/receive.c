/* The receiving side of a migration (migration.h). A domain_receive waits here for the agent that it names;
 * requests of that agent find it by the ticket. Whatever ends the operation before the guest was taken over
 * drops all of it. */
#include "migration.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <errno.h>
#include <io/savefile.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>

#define COME_MS 120000 /* for the source to connect */
#define HELLO_MS 30000 /* for its first words */
#define GO_MS 120000   /* from all being here until it says so */
#define LOOK_MS 100

/* One domain that is waited for. It lives as long as its operation runs; with incoming_lock held others reach
 * it. */
struct incoming {
    const struct agent_op *op;
    const char *domain, *from;
    pthread_cond_t changed;
    struct migration_talk talk; /* of the operation's thread, once `there` */
    bool there;
    bool open;     /* parts may connect */
    int memory_fd; /* our end of what brings the memory; -1: not yet */
    struct incoming *next;
};

/* ---- requests of the other agent ---- */

/* With incoming_lock held. */
static struct incoming *find(struct agent *agent, const char *ticket, const char *from)
{
    size_t len = strlen(from), tail = strlen(MIGRATION_HOST_SUFFIX);
    for (struct incoming *in = agent->incoming; in; in = in->next)
        if (streq(in->op->id, ticket) && len == strlen(in->from) + tail &&
            strncasecmp(in->from, from, len - tail) == 0)
            return in;
    return NULL;
}

struct part {
    struct agent *agent;
    struct http_request *req;
    char *ticket, *from, *device;
    int fd; /* for the carried parts */
};

static void part_free(struct part *p)
{
    if (p->fd >= 0)
        close(p->fd);
    free(p->ticket);
    free(p->from);
    free(p->device);
    http_request_unref(p->req);
    free(p);
}

static void control_there(void *arg, struct stream *stream, const char *early, size_t early_len)
{
    struct part *p = arg;
    pthread_mutex_lock(&p->agent->incoming_lock);
    struct incoming *in = find(p->agent, p->ticket, p->from);
    if (in && !in->there && stream) {
        in->talk.stream = stream;
        buf_add(&in->talk.in, early, early_len);
        in->there = true;
        pthread_cond_broadcast(&in->changed);
        stream = NULL;
    }
    pthread_mutex_unlock(&p->agent->incoming_lock);
    stream_close(stream);
    part_free(p);
}

static void part_there(void *arg, struct stream *stream, const char *early, size_t early_len)
{
    struct part *p = arg;
    if (stream)
        streams_carry(p->agent, stream, TAKE_FD(p->fd), early, early_len);
    part_free(p);
}

static void upgrade(struct part *p, void (*there)(void *, struct stream *, const char *, size_t))
{
    static const struct http_header headers[] = {{"Upgrade", MIGRATION_PROTOCOL}, {NULL, NULL}};
    http_upgrade(p->req, headers, there, p);
}

/* The memory's other end goes to the operation's thread. */
static int open_memory(struct part *p, struct hv_err *err)
{
    int pair[2], outcome = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "No socket for the domain's memory: %s", strerror(errno));
    pthread_mutex_lock(&p->agent->incoming_lock);
    struct incoming *in = find(p->agent, p->ticket, p->from);
    if (in && in->open && in->memory_fd < 0) {
        in->memory_fd = pair[1];
        pthread_cond_broadcast(&in->changed);
    } else {
        close(pair[1]);
        outcome = hv_fail(err, HV_ERR_KIND_NOT_FOUND, "Nothing waits for that.");
    }
    pthread_mutex_unlock(&p->agent->incoming_lock);
    p->fd = pair[0];
    return outcome;
}

static int open_disk(struct part *p, struct hv_err *err)
{
    char domain[UUID_TEXT_SIZE] = "";
    pthread_mutex_lock(&p->agent->incoming_lock);
    struct incoming *in = find(p->agent, p->ticket, p->from);
    if (in && in->open)
        snprintf(domain, sizeof(domain), "%s", in->domain);
    pthread_mutex_unlock(&p->agent->incoming_lock);
    if (!domain[0])
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "Nothing waits for that.");
    return p->agent->driver->receive_disk(p->agent->state, domain, p->device, &p->fd, err);
}

static void memory_job(void *arg)
{
    struct part *p = arg;
    struct hv_err err;
    if (open_memory(p, &err) == 0) {
        upgrade(p, part_there);
        return;
    }
    http_answer_error(p->req, 404, err.text);
    part_free(p);
}

static void disk_job(void *arg)
{
    struct part *p = arg;
    struct hv_err err;
    if (open_disk(p, &err) == 0) {
        upgrade(p, part_there);
        return;
    }
    http_answer_error(p->req, err.kind == HV_ERR_KIND_NOT_FOUND ? 404 : 500, err.text);
    part_free(p);
}

static void control_job(void *arg)
{
    struct part *p = arg;
    pthread_mutex_lock(&p->agent->incoming_lock);
    struct incoming *in = find(p->agent, p->ticket, p->from);
    bool wanted = in && !in->there;
    pthread_mutex_unlock(&p->agent->incoming_lock);
    if (wanted) {
        upgrade(p, control_there);
        return;
    }
    http_answer_error(p->req, 404, "nothing waits for that");
    part_free(p);
}

/* Only the host that the operation names hears of it. */
static void status_job(void *arg)
{
    struct part *p = arg;
    struct agent_op *op = ops_find(p->agent, p->ticket);
    const char *word = "unknown";
    if (op && op->call == &hv_calls[HV_CALL_DOMAIN_RECEIVE]) {
        const struct hv_domain_receive_args *args = op->args;
        size_t len = strlen(args->from);
        struct operation_status status;
        ops_status(p->agent, op, &status);
        if (strncasecmp(args->from, p->from, len) == 0 && streq(p->from + len, MIGRATION_HOST_SUFFIX))
            word = operation_state_name(status.state);
        operation_status_done(&status);
    }
    agent_op_unref(op);
    char *text = xasprintf("{\"state\":\"%s\"}", word);
    http_answer_json(p->req, 200, text, strlen(text));
    part_free(p);
}

void receive_request(struct agent *agent, struct http_request *req, const char *from)
{
    static const struct {
        const char *part;
        void (*job)(void *arg);
        bool upgrades;
    } parts[] = {{"control", control_job, true},
                 {"memory", memory_job, true},
                 {"disk", disk_job, true},
                 {"status", status_job, false}};
    const char *ticket = http_request_query(req, "ticket"), *part = http_request_query(req, "part"),
               *device = http_request_query(req, "device"), *protocol = http_request_header(req, "Upgrade");
    struct ref uuid;
    for (size_t i = 0; part && ticket && uuid_parse(ticket, &uuid) && i < ARRAY_LEN(parts); i++) {
        if (!streq(parts[i].part, part) ||
            (parts[i].upgrades && !(protocol && streq(protocol, MIGRATION_PROTOCOL))))
            continue;
        struct part *p = xcalloc(1, sizeof(*p));
        *p = (struct part){.agent = agent,
                           .req = http_request_ref(req),
                           .ticket = xstrdup(ticket),
                           .from = xstrdup(from),
                           .device = xstrdup(device ? device : ""),
                           .fd = -1};
        if (worker_submit(agent->consoles, parts[i].job, p) < 0) {
            http_answer_error(req, 503, "the host has too much to do");
            part_free(p);
        }
        return;
    }
    http_answer_error(req, 400, "a migration needs a ticket and a part");
}

/* ---- the operation ---- */

static void list_add(struct agent *agent, struct incoming *in)
{
    pthread_mutex_lock(&agent->incoming_lock);
    in->next = agent->incoming;
    agent->incoming = in;
    pthread_mutex_unlock(&agent->incoming_lock);
}

static void list_remove(struct agent *agent, struct incoming *in)
{
    pthread_mutex_lock(&agent->incoming_lock);
    struct incoming **at = &agent->incoming;
    while (*at != in)
        at = &(*at)->next;
    *at = in->next;
    pthread_mutex_unlock(&agent->incoming_lock);
}

/* Waits until there is a control connection, or memory. With `watched`, the end of the control connection
 * ends the wait too. */
static int wait_for(struct agent *agent, struct incoming *in, bool memory, int64_t wait_ms,
                    struct hv_err *err)
{
    int64_t end = clock_mono_ms() + wait_ms;
    int outcome = 0;
    pthread_mutex_lock(&agent->incoming_lock);
    while (outcome == 0 && !(memory ? in->memory_fd >= 0 : in->there)) {
        int64_t now = clock_mono_ms(), until = now + LOOK_MS;
        if (atomic_load(&in->op->cancel))
            outcome = hv_fail(err, HV_ERR_KIND_CANCELLED, "It was cancelled.");
        else if (now >= end || now >= in->op->deadline.mono_ms)
            outcome = hv_fail(err, HV_ERR_KIND_DEADLINE, "The other host did not send the domain in time.");
        else if (memory && migration_has_news(&in->talk))
            outcome =
                hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The other host has given up sending the domain.");
        if (outcome < 0)
            break;
        struct timespec at = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
        pthread_cond_timedwait(&in->changed, &agent->incoming_lock, &at);
    }
    pthread_mutex_unlock(&agent->incoming_lock);
    return outcome;
}

static bool is_mirrored(const struct hv_domain_receive_args *args, const char *device)
{
    for (size_t i = 0; i < args->mirror_count; i++)
        if (streq(args->mirror[i], device))
            return true;
    return false;
}

/* Disks that do not come along are the images that the source has open: with any others the guest would find
 * another content than it left. */
static int check_same_images(const struct hv_domain_receive_args *args, const struct domain_config *from,
                             const struct domain_config *to, struct hv_err *err)
{
    for (size_t i = 0; i < from->disks_count && i < to->disks_count; i++) {
        const struct domain_disk *a = &from->disks[i], *b = &to->disks[i]; /* merged: the same order */
        if (!is_mirrored(args, a->device) && a->source == DISK_SOURCE_DISK &&
            !wire_equal(&domain_disk_desc, a, b))
            return hv_fail(err, HV_ERR_KIND_FORMAT, "The disk %s is another one there.", a->device);
    }
    return 0;
}

/* The configuration to run it with: what comes, on what is here. */
static int hear_header(struct agent *agent, struct incoming *in, const struct domain_config *asked,
                       struct save_header *header, struct domain_config *config, struct hv_err *err)
{
    json_t *hello AUTO_JSON = NULL;
    bool refused;
    const char *text;
    size_t len;
    if (migration_hear(&in->talk, HELLO_MS, &in->op->deadline, &hello, &refused, err) < 0)
        return -1;
    char *bytes AUTO_FREE =
        json_get_string(hello, "header", &text) ? base64_decode(text, strlen(text), &len) : NULL;
    if (!bytes)
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The other host does not say what it sends.");
    if (save_header_parse(bytes, len, header, err) < 0)
        return -1;
    if (!streq(header->config.uuid, asked->uuid))
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The other host sends another domain.");
    if (!streq(header->driver, agent->driver->name))
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The domain runs under the driver %s; this host has %s.",
                       header->driver, agent->driver->name);
    return save_merge(&header->config, asked, header->config.start_paused, config, err);
}

/* The other side waits for nothing else: until it hears this, the guest stands still as far as it knows. */
static void runs(void *ctx)
{
    struct incoming *in = ctx;
    struct hv_err ignored;
    failpoint("migrate-destination:running");
    migration_say(&in->talk, json_pack("{s:b}", "running", 1), &ignored); /* else it asks */
}

/* From here on a device model may exist: -1 leaves none. */
static int take_over(struct agent *agent, struct incoming *in, struct domain_info *info, struct hv_err *err)
{
    json_t *go AUTO_JSON = NULL;
    bool refused, yes = false;
    int memory AUTO_CLOSE = -1;
    if (migration_say(&in->talk, json_pack("{s:b}", "ready", 1), err) < 0)
        return -1;
    failpoint("migrate-destination:ready");
    if (wait_for(agent, in, true, in->op->deadline.mono_ms - clock_mono_ms(), err) < 0)
        return -1;
    pthread_mutex_lock(&agent->incoming_lock);
    memory = dup(in->memory_fd);
    pthread_mutex_unlock(&agent->incoming_lock);
    if (agent->driver->receive_memory(agent->state, in->domain, memory, &in->op->deadline, err) < 0)
        return -1;
    failpoint("migrate-destination:loaded");
    if (migration_hear(&in->talk, GO_MS, &in->op->deadline, &go, &refused, err) < 0)
        return -1;
    if (!json_get_bool(go, "go", &yes) || !yes)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The other host's agent says what cannot be understood.");
    return agent->driver->receive_run(agent->state, in->domain, runs, in, info, err);
}

static int receive_into(struct agent *agent, struct incoming *in, const struct hv_domain_receive_args *args,
                        const struct domain_config *config, const struct save_header *header,
                        struct domain_info *info, struct hv_err *err)
{
    if (domain_config_check(config, err) < 0 || agent->driver->check(agent->state, config, err) < 0 ||
        domain_check_memory(agent, config, err) < 0)
        return -1;
    struct disk_chain *chains AUTO_FREE = xcalloc(config->disks_count + 1, sizeof(*chains));
    if (disks_take_domain(agent, config, err) < 0)
        return -1;
    int outcome = domain_open_chains(agent, config, chains, err);
    if (outcome == 0)
        outcome = agent->driver->receive(agent->state, config, header, args->mirror, args->mirror_count,
                                         chains, &in->op->deadline, err);
    if (outcome == 0) {
        pthread_mutex_lock(&agent->incoming_lock);
        in->open = true;
        pthread_mutex_unlock(&agent->incoming_lock);
        outcome = take_over(agent, in, info, err);
        pthread_mutex_lock(&agent->incoming_lock);
        in->open = false;
        pthread_mutex_unlock(&agent->incoming_lock);
        if (outcome < 0)
            agent->driver->receive_drop(agent->state, in->domain);
    }
    disks_release_domain(agent, config);
    return outcome;
}

static int receive(struct agent *agent, struct incoming *in, const struct hv_domain_receive_args *args,
                   struct domain_info *info, struct hv_err *err)
{
    struct save_header header AUTO_SAVE_HEADER = {.state_bytes = 0};
    struct domain_config config;
    if (wait_for(agent, in, false, COME_MS, err) < 0)
        return -1;
    if (hear_header(agent, in, &args->config, &header, &config, err) < 0)
        return -1;
    int outcome = check_same_images(args, &header.config, &config, err);
    if (outcome == 0)
        outcome = receive_into(agent, in, args, &config, &header, info, err);
    domain_config_done(&config);
    return outcome;
}

int agent_domain_receive(struct agent *agent, struct agent_op *op, const struct hv_domain_receive_args *args,
                         struct hv_domain_receive_result *result, struct hv_err *err)
{
    if (!(agent->driver->capabilities(agent->state) & DRIVER_CAN_MIGRATE))
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "This host's driver (%s) cannot receive domains.",
                       agent->driver->name);
    if (ha_check_start(agent, err) < 0 || domain_check_absent(agent, args->config.uuid, err) < 0 ||
        domain_config_check(&args->config, err) < 0)
        return -1;
    struct incoming in = {.op = op, .domain = args->config.uuid, .from = args->from, .memory_fd = -1};
    struct domain_info info;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&in.changed, &attr);
    pthread_condattr_destroy(&attr);
    list_add(agent, &in);
    int outcome = receive(agent, &in, args, &info, err);
    list_remove(agent, &in);
    if (outcome == 0) {
        domain_info_done(&result->info);
        result->info = info;
    } else if (in.there) {
        migration_say_error(&in.talk, err);
    }
    if (in.memory_fd >= 0)
        close(in.memory_fd);
    migration_talk_done(&in.talk);
    pthread_cond_destroy(&in.changed);
    return outcome;
}
