/* The sending side of a migration (migration.h), and what is done when the two agents lost each other at the
 * moment of the hand-over: the domain stands still until the other has said what became of it. */
#include "migration.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <io/savefile.h>
#include <stdio.h>
#include <time.h>

#define CONNECT_MS 15000 /* how long the other side may take to know the ticket */
#define READY_MS 180000  /* to start its device model */
#define RUN_MS 60000     /* to let the guest run; after that it is asked */
#define ASK_MS 5000
#define ASK_PAUSE_MS 200
#define PATIENCE_MS 10000 /* how long somebody who cancels waits for an answer that must come */

/* Where the other agent is. */
struct peer {
    struct agent *agent;
    const char *ticket;
    struct http_client *http;
};

static struct http_client *peer_connect(struct agent *agent, const char *host, const char *address,
                                        int64_t port)
{
    char *url AUTO_FREE = xasprintf("https://%s%s:%lld", host, MIGRATION_HOST_SUFFIX, (long long)port);
    char *where AUTO_FREE =
        xasprintf(strchr(address, ':') ? "[%s]:%lld" : "%s:%lld", address, (long long)port);
    char *ca AUTO_FREE = agent_path(agent, "pki/ca.pem"), *cert AUTO_FREE = agent_path(agent, "pki/host.pem"),
             *key AUTO_FREE = agent_path(agent, "pki/host.key");
    struct http_client_config config = {.url = url,
                                        .connect_to = where,
                                        .ca_file = ca,
                                        .cert_file = cert,
                                        .key_file = key,
                                        .connect_timeout_ms = 15000};
    return http_client_new(&config);
}

static void pause_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static int explain(const struct http_error *error, unsigned status, struct hv_err *err)
{
    if (status == 404)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The other host does not wait for the domain.");
    if (error->kind == HTTP_TLS_REFUSED)
        return hv_fail(err, HV_ERR_KIND_DENIED, "The two hosts do not accept each other's certificates.");
    return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The other host's agent cannot be reached: %s", error->text);
}

static int open_part(const struct peer *peer, const char *part, const char *device, struct stream **out,
                     struct hv_err *err)
{
    struct buf path AUTO_BUF = BUF_INIT;
    struct http_error error = {.kind = HTTP_LOST};
    unsigned status = 0;
    buf_printf(&path, "/v1/migrate?ticket=%s&part=%s&device=", peer->ticket, part);
    http_escape(&path, device ? device : "");
    if (http_client_upgrade(peer->http, path.data, MIGRATION_PROTOCOL, NULL, ASK_MS * 2, out, &status,
                            &error) == 0)
        return 0;
    return explain(&error, status, err);
}

/* The other side may not know of the ticket yet. */
static int open_control(const struct peer *peer, const struct hv_deadline *deadline, struct stream **out,
                        struct hv_err *err)
{
    int64_t end = clock_mono_ms() + CONNECT_MS;
    for (;;) {
        if (open_part(peer, "control", NULL, out, err) == 0)
            return 0;
        if (err->kind != HV_ERR_KIND_NOT_FOUND || clock_mono_ms() >= end)
            return -1;
        if (deadline->cancelled && atomic_load(deadline->cancelled))
            return hv_fail(err, HV_ERR_KIND_CANCELLED, "It was cancelled.");
        pause_ms(20);
    }
}

/* ---- what became of it ---- */

/* Asks the other agent once. */
static enum hv_offer ask(const struct peer *peer)
{
    char *path AUTO_FREE = xasprintf("/v1/migrate?ticket=%s&part=status", peer->ticket);
    struct http_call call = {.path = path, .timeout_ms = ASK_MS, .body_max = 4096};
    struct http_reply reply AUTO_HTTP_REPLY = HTTP_REPLY_INIT;
    struct http_error error;
    struct json_error bad;
    const char *state = "";
    if (http_client_call(peer->http, &call, &reply, &error) < 0 || reply.status != 200)
        return HV_OFFER_UNKNOWN;
    json_t *json AUTO_JSON = json_parse(reply.body.data, reply.body.len, &bad);
    if (!json_get_string(json, "state", &state))
        return HV_OFFER_UNKNOWN;
    if (streq(state, "done"))
        return HV_OFFER_TAKEN;
    return streq(state, "failed") || streq(state, "unknown") ? HV_OFFER_REFUSED : HV_OFFER_UNKNOWN;
}

struct settling {
    struct agent *agent;
    char uuid[UUID_TEXT_SIZE];
};

/* Until it is known, however long that takes, or somebody has ended the domain. */
static void *settle_thread(void *arg)
{
    struct settling *s = arg;
    struct agent *agent = s->agent;
    for (;;) {
        AUTO_STR const char *offer = agent->driver->offered(agent->state, s->uuid);
        struct json_error bad;
        json_t *json AUTO_JSON = offer ? json_parse(offer, strlen(offer), &bad) : NULL;
        const char *ticket, *to, *address;
        int64_t port;
        struct hv_err err;
        if (!json)
            break;
        if (!json_get_string(json, "ticket", &ticket) || !json_get_string(json, "to", &to) ||
            !json_get_string(json, "address", &address) || !json_get_int(json, "port", &port)) {
            log_error("send", "the record of an offered domain says too little", "domain", s->uuid);
            break;
        }
        struct peer peer = {.agent = agent, .ticket = ticket, .http = peer_connect(agent, to, address, port)};
        enum hv_offer now = ask(&peer);
        http_client_free(peer.http);
        if (now != HV_OFFER_UNKNOWN) {
            log_info("send", "it is known now what became of an offered domain", "domain", s->uuid, "taken",
                     now == HV_OFFER_TAKEN ? "yes" : "no");
            if (agent->driver->settle(agent->state, s->uuid, to, now == HV_OFFER_TAKEN, &err) < 0)
                log_error("send", "an offered domain cannot be settled", "domain", s->uuid, "error",
                          err.text);
            break;
        }
        pause_ms(1000);
    }
    free(s);
    return NULL;
}

static void settle_later(struct agent *agent, const char *uuid)
{
    struct settling *s = xcalloc(1, sizeof(*s));
    pthread_t thread;
    s->agent = agent;
    snprintf(s->uuid, sizeof(s->uuid), "%s", uuid);
    if (pthread_create(&thread, NULL, settle_thread, s) == 0) {
        pthread_detach(thread);
        return;
    }
    log_error("send", "a thread cannot be started; the domain stands still until the next start", "domain",
              uuid);
    free(s);
}

void send_settle_all(struct agent *agent)
{
    struct domain_info *infos;
    size_t count;
    if (agent->driver->list(agent->state, &infos, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        AUTO_STR const char *offer = agent->driver->offered(agent->state, infos[i].uuid);
        if (offer)
            settle_later(agent, infos[i].uuid);
        domain_info_done(&infos[i]);
    }
    free(infos);
}

/* An operation of before a restart: a thread asks already. */
static int await_settled(struct agent *agent, struct agent_op *op, const char *uuid, struct hv_err *err)
{
    for (;;) {
        AUTO_STR const char *offer = agent->driver->offered(agent->state, uuid);
        struct domain_info info;
        if (!offer) {
            if (agent->driver->info(agent->state, uuid, &info, err) < 0)
                return hv_fail(err, HV_ERR_KIND_INTERNAL, "The domain ended while it was being sent.");
            bool moved = info.end_reason == END_REASON_MIGRATED;
            domain_info_done(&info);
            return moved ? 0
                         : hv_fail(err, HV_ERR_KIND_INTERNAL,
                                   "The host's agent was restarted while the domain was being sent; it was "
                                   "not sent.");
        }
        if (atomic_load(&op->cancel))
            return hv_fail(
                err, HV_ERR_KIND_UNREACHABLE,
                "It is not known whether the other host runs the domain; here it stands still until it is.");
        pause_ms(100);
    }
}

/* ---- sending ---- */

struct sending {
    struct agent *agent;
    struct agent_op *op;
    struct peer peer;
    struct migration_talk talk;
};

static void sending_done(struct sending *s)
{
    migration_talk_done(&s->talk);
    http_client_free(s->peer.http);
}

static int carry(void *ctx, const char *device, int fd, struct hv_err *err)
{
    struct sending *s = ctx;
    struct stream *stream;
    if (open_part(&s->peer, device ? "disk" : "memory", device, &stream, err) < 0) {
        close(fd);
        return -1;
    }
    if (streams_carry(s->agent, stream, fd, NULL, 0) == 0)
        return 0;
    return hv_fail(err, HV_ERR_KIND_IN_USE, "The host carries too many streams at once.");
}

static void report(void *ctx, double fraction)
{
    struct sending *s = ctx;
    agent_op_progress(s->agent, s->op, fraction);
}

static enum hv_offer hand_over(void *ctx, struct hv_err *err)
{
    struct sending *s = ctx;
    json_t *answer AUTO_JSON = NULL;
    bool refused = false, running = false;
    failpoint("migrate-source:offered");
    if (migration_say(&s->talk, json_pack("{s:b}", "go", 1), err) == 0 &&
        migration_hear(&s->talk, RUN_MS, NULL, &answer, &refused, err) == 0 &&
        json_get_bool(answer, "running", &running) && running) {
        failpoint("migrate-source:taken");
        return HV_OFFER_TAKEN;
    }
    if (refused)
        return HV_OFFER_REFUSED;
    int64_t begin = clock_mono_ms();
    for (;;) {
        enum hv_offer now = ask(&s->peer);
        if (now == HV_OFFER_REFUSED)
            hv_fail(err, HV_ERR_KIND_UNREACHABLE,
                    "The connection to the other host was lost; the domain goes on here.");
        if (now != HV_OFFER_UNKNOWN)
            return now;
        int64_t passed = clock_mono_ms() - begin;
        if ((passed > PATIENCE_MS && atomic_load(&s->op->cancel)) ||
            clock_mono_ms() > s->op->deadline.mono_ms) {
            hv_fail(
                err, HV_ERR_KIND_UNREACHABLE,
                "It is not known whether the other host runs the domain; here it stands still until it is.");
            return HV_OFFER_UNKNOWN;
        }
        pause_ms(ASK_PAUSE_MS);
    }
}

/* Says what comes, and waits until the other side is ready for it. */
static int introduce(struct sending *s, const char *uuid, struct hv_err *err)
{
    struct save_header header AUTO_SAVE_HEADER = {.state_bytes = 0};
    struct buf bytes AUTO_BUF = BUF_INIT;
    json_t *answer AUTO_JSON = NULL;
    bool refused, ready = false;
    if (s->agent->driver->describe(s->agent->state, uuid, &header, err) < 0 ||
        save_header_format(&header, &bytes, err) < 0)
        return -1;
    char *text AUTO_FREE = base64_encode(bytes.data, bytes.len);
    if (migration_say(&s->talk, json_pack("{s:s}", "header", text), err) < 0 ||
        migration_hear(&s->talk, READY_MS, &s->op->deadline, &answer, &refused, err) < 0)
        return -1;
    if (json_get_bool(answer, "ready", &ready) && ready)
        return 0;
    return hv_fail(err, HV_ERR_KIND_INTERNAL, "The other host's agent says what cannot be understood.");
}

/* The simulator's disks are read by the driver itself. */
static int open_mirrored(struct agent *agent, const struct domain_config *config,
                         const struct hv_domain_send_args *args, struct disk_chain *chains,
                         struct hv_err *err)
{
    for (size_t i = 0; i < args->mirror_count; i++) {
        const struct domain_disk *found = NULL;
        for (size_t k = 0; k < config->disks_count; k++)
            if (streq(config->disks[k].device, args->mirror[i]) &&
                config->disks[k].source == DISK_SOURCE_DISK)
                found = &config->disks[k];
        if (!found)
            return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The domain has no disk %s.", args->mirror[i]);
        if (agent->driver == &hv_sim_driver) {
            struct domain_disk plain = *found;
            plain.read_only = true;
            if (disks_open(agent, &plain, &chains[i], err) < 0)
                return -1;
        }
    }
    return 0;
}

static int send_now(struct sending *s, const struct hv_domain_send_args *args,
                    const struct disk_chain *chains, struct hv_domain_send_result *result, struct hv_err *err)
{
    struct agent *agent = s->agent;
    if (open_control(&s->peer, &s->op->deadline, &s->talk.stream, err) < 0)
        return -1;
    failpoint("migrate-source:connected");
    if (introduce(s, args->domain, err) < 0) {
        migration_say_error(&s->talk, err);
        return -1;
    }
    failpoint("migrate-source:ready");
    char *offer AUTO_FREE = NULL;
    json_t *peer AUTO_JSON = json_pack("{s:s, s:s, s:s, s:I}", "ticket", args->ticket, "to", args->to,
                                       "address", args->address, "port", (json_int_t)args->port);
    struct buf text = BUF_INIT;
    json_write(&text, peer);
    offer = buf_take(&text);
    struct hv_send send = {.mirror = args->mirror,
                           .mirror_count = args->mirror_count,
                           .chains = chains,
                           .peer = offer,
                           .carry = carry,
                           .hand_over = hand_over,
                           .progress = report,
                           .ctx = s};
    enum hv_offer became = HV_OFFER_REFUSED;
    struct hv_sent sent = {0};
    if (agent->driver->send(agent->state, args->domain, args->to, &send, &s->op->deadline, &became, &sent,
                            err) < 0) {
        if (became == HV_OFFER_UNKNOWN)
            settle_later(agent, args->domain);
        else
            migration_say_error(&s->talk, err);
        return -1;
    }
    result->stopped_us = sent.stopped_us;
    result->downtime_us = sent.downtime_us;
    log_info("send", "a domain went to another host", "domain", args->domain, "to", args->to, "stopped_us",
             LOG_INT(sent.stopped_us), "device_model_us", LOG_INT(sent.downtime_us));
    return 0;
}

int agent_domain_send(struct agent *agent, struct agent_op *op, const struct hv_domain_send_args *args,
                      struct hv_domain_send_result *result, struct hv_err *err)
{
    struct domain_config config;
    if (!(agent->driver->capabilities(agent->state) & DRIVER_CAN_MIGRATE))
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "This host's driver (%s) cannot send domains.",
                       agent->driver->name);
    AUTO_STR const char *offer = agent->driver->offered(agent->state, args->domain);
    if (offer)
        return await_settled(agent, op, args->domain, err);
    if (streq(args->to, agent->host_uuid))
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The domain is on that host already.");
    if (agent->driver->config(agent->state, args->domain, &config, NULL) < 0)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain does not run on this host.");
    struct disk_chain *chains AUTO_FREE = xcalloc(args->mirror_count + 1, sizeof(*chains));
    CLEANUP(sending_done)
    struct sending s = {.agent = agent,
                        .op = op,
                        .peer = {.agent = agent,
                                 .ticket = args->ticket,
                                 .http = peer_connect(agent, args->to, args->address, args->port)}};
    int outcome = open_mirrored(agent, &config, args, chains, err);
    domain_config_done(&config);
    if (outcome == 0)
        outcome = send_now(&s, args, chains, result, err);
    for (size_t i = 0; i < args->mirror_count; i++)
        disk_chain_done(&chains[i]);
    return outcome;
}
