/* The conversation with a guest's agent (qga.h): one question at a time, each with a deadline. A round is
 * a sync, which throws away whatever was left in the channel, then the questions; rounds repeat often until
 * the guest has an address and seldom afterwards. */
#include "qga.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define REPLY_MS 5000
#define ROUND_EAGER_MS 2000
#define ROUND_CALM_MS 30000
#define EAGER_ROUNDS 60
#define FREEZE_MS 10000
#define THAW_AGAIN_MS 2000

static const char *const questions[] = {"guest-info", "guest-get-osinfo", "guest-get-host-name",
                                        "guest-get-fsinfo", "guest-network-get-interfaces"};
enum step { STEP_IDLE, STEP_SYNC, STEP_QUESTION, STEP_REQUEST, STEP_FREEZE, STEP_FROZEN, STEP_THAW };
/* What is to happen to the guest's file systems at the next turn. */
enum order { ORDER_NONE, ORDER_FREEZE, ORDER_THAW };

struct qga {
    struct loop *loop;
    const struct domain_config *config;
    struct qga_callbacks callbacks;
    int fd; /* -1: not connected */
    struct loop_source *source;
    struct loop_timer timer; /* of the reply while a question is open, of the next round otherwise */
    bool open;               /* the guest has the port open */
    enum step step;
    size_t question;
    int64_t sync_id;
    struct buf in;
    size_t round_bytes;
    int rounds;
    struct guest_info known, next; /* next is being collected */
    char *request;                 /* mode of a shutdown that waits for its turn */
    enum order order;
};

static void begin_round(struct qga *qga);
static void next_question(struct qga *qga);
static void ready(void *arg, uint32_t events);

static void cut_off(struct qga *qga, const char *why)
{
    if (qga->fd < 0)
        return;
    log_info("guest", "the channel of a guest's agent was closed", "domain", qga->config->uuid, "reason",
             why);
    loop_remove(qga->source);
    qga->source = NULL;
    close(qga->fd);
    qga->fd = -1;
    loop_timer_cancel(qga->loop, &qga->timer);
    qga->step = STEP_IDLE;
    if (qga->order != ORDER_NONE)
        qga->order = ORDER_THAW;
    buf_done(&qga->in);
    qga->callbacks.lost(qga->callbacks.arg);
}

static void publish(struct qga *qga, bool live)
{
    struct guest_info *known = &qga->known;
    int64_t updated = known->updated;
    bool changed = known->live != live;
    if (live) {
        qga->next.live = true;
        known->live = true;
        qga->next.updated = updated; /* the time alone is no change */
        changed = changed || !wire_equal(&guest_info_desc, known, &qga->next);
        guest_info_done(known);
        guest_info_copy(known, &qga->next);
        known->updated = clock_unix_seconds();
    } else {
        known->live = false;
    }
    qga->callbacks.info(qga->callbacks.arg, known, changed);
}

static void wait_round(struct qga *qga)
{
    bool eager = qga->open && qga->known.addresses_count == 0 && qga->rounds < EAGER_ROUNDS;
    qga->step = STEP_IDLE;
    loop_timer_set(qga->loop, &qga->timer, clock_mono_ms() + (eager ? ROUND_EAGER_MS : ROUND_CALM_MS));
}

/* False: the channel is gone. What does not fit into the socket at once is not worth waiting for. */
static bool send_line(struct qga *qga, const char *line, size_t len)
{
    ssize_t n = send(qga->fd, line, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n == (ssize_t)len) {
        loop_timer_set(qga->loop, &qga->timer, clock_mono_ms() + REPLY_MS);
        return true;
    }
    cut_off(qga, "it takes no more bytes");
    return false;
}

static void ask(struct qga *qga)
{
    struct buf line AUTO_BUF = BUF_INIT;
    qga->step = STEP_QUESTION;
    buf_printf(&line, "{\"execute\":\"%s\"}\n", questions[qga->question]);
    send_line(qga, line.data, line.len);
}

static void send_request(struct qga *qga)
{
    struct buf line AUTO_BUF = BUF_INIT;
    qga->step = STEP_REQUEST;
    buf_printf(&line, "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"%s\"}}\n", qga->request);
    free(TAKE_PTR(qga->request));
    send_line(qga, line.data, line.len);
}

/* ---- file systems that stand still ---- */

static void send_order(struct qga *qga)
{
    static const char freeze[] = "{\"execute\":\"guest-fsfreeze-freeze\"}\n";
    static const char thaw[] = "{\"execute\":\"guest-fsfreeze-thaw\"}\n";
    bool freezes = qga->order == ORDER_FREEZE;
    qga->step = freezes ? STEP_FREEZE : STEP_THAW;
    if (send_line(qga, freezes ? freeze : thaw, (freezes ? sizeof(freeze) : sizeof(thaw)) - 1) && freezes)
        loop_timer_set(qga->loop, &qga->timer, clock_mono_ms() + FREEZE_MS);
}

/* Sure to be thawed. */
static void thawed(struct qga *qga)
{
    bool told = qga->order != ORDER_NONE;
    qga->order = ORDER_NONE;
    if (told)
        qga->callbacks.frozen(qga->callbacks.arg, false);
}

/* Whatever became of the freeze, a thaw is due. */
static void thaw_next(struct qga *qga, int64_t wait_ms)
{
    qga->order = ORDER_THAW;
    qga->step = STEP_IDLE;
    if (wait_ms > 0)
        loop_timer_set(qga->loop, &qga->timer, clock_mono_ms() + wait_ms);
    else
        begin_round(qga);
}

static void take_order_answer(struct qga *qga, const json_t *message)
{
    bool good = json_is_integer(json_object_get(message, "return"));
    if (qga->step == STEP_FREEZE && good) {
        qga->step = STEP_FROZEN;
        loop_timer_set(qga->loop, &qga->timer, clock_mono_ms() + QGA_FROZEN_MS);
        qga->callbacks.frozen(qga->callbacks.arg, true);
    } else if (qga->step == STEP_FREEZE) {
        thaw_next(qga, 0); /* it may have frozen some */
    } else if (good) {
        thawed(qga);
        begin_round(qga);
    } else {
        thaw_next(qga, THAW_AGAIN_MS);
    }
}

bool qga_freeze(struct qga *qga)
{
    if (!qga->open || qga->fd < 0 || !qga->known.live || qga->order != ORDER_NONE)
        return false;
    qga->order = ORDER_FREEZE;
    if (qga->step == STEP_IDLE)
        begin_round(qga);
    return true;
}

void qga_thaw(struct qga *qga)
{
    bool asked = qga->step == STEP_FREEZE || qga->step == STEP_THAW;
    if (qga->order == ORDER_FREEZE && !asked && qga->step != STEP_FROZEN) {
        thawed(qga); /* its turn never came */
        return;
    }
    qga->order = ORDER_THAW;
    if (qga->step == STEP_FROZEN || qga->step == STEP_IDLE)
        thaw_next(qga, 0);
}

static void next_question(struct qga *qga)
{
    if (qga->order != ORDER_NONE) {
        send_order(qga);
        return;
    }
    if (qga->request) {
        send_request(qga);
        return;
    }
    if (qga->question < ARRAY_LEN(questions)) {
        ask(qga);
        return;
    }
    publish(qga, true);
    if (qga->fd >= 0)
        wait_round(qga);
}

static void begin_round(struct qga *qga)
{
    if (qga->fd < 0 || !qga->open) {
        qga->step = STEP_IDLE;
        return;
    }
    struct buf line AUTO_BUF = BUF_INIT;
    qga->step = STEP_SYNC;
    qga->question = 0;
    qga->round_bytes = 0;
    qga->rounds++;
    qga->sync_id = (qga->sync_id + 1) % 1000000 + (clock_mono_us() % 1000) * 1000000;
    guest_info_done(&qga->next);
    guest_info_init(&qga->next);
    buf_printf(&line, "\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%lld}}\n",
               (long long)qga->sync_id);
    send_line(qga, line.data, line.len);
}

static void no_reply(struct qga *qga)
{
    if (qga->step == STEP_REQUEST) {
        /* A shutdown under way says nothing: silence is consent. The next round finds out. */
        wait_round(qga);
        return;
    }
    if (qga->request) {
        free(TAKE_PTR(qga->request));
        qga->callbacks.refused(qga->callbacks.arg);
    }
    thawed(qga); /* a freeze that was waiting is not asked for */
    publish(qga, false);
    wait_round(qga);
}

static void fire(void *arg)
{
    struct qga *qga = arg;
    if (qga->step == STEP_IDLE)
        begin_round(qga);
    else if (qga->step == STEP_FROZEN || qga->step == STEP_FREEZE || qga->order == ORDER_THAW)
        thaw_next(qga, qga->step == STEP_FROZEN || qga->step == STEP_FREEZE ? 0 : THAW_AGAIN_MS);
    else
        no_reply(qga);
}

static void take_answer(struct qga *qga, const json_t *message)
{
    const json_t *reply = json_object_get(message, "return");
    if (reply && qga->question == 4)
        qga_read_interfaces(reply, qga->config, &qga->next);
    else if (reply && qga->question == 3)
        qga_read_filesystems(reply, &qga->next);
    else if (reply)
        qga_read_osinfo(reply, &qga->next);
    qga->question++;
    next_question(qga);
}

static void handle_message(struct qga *qga, const json_t *message)
{
    int64_t id;
    switch (qga->step) {
    case STEP_SYNC:
        if (json_get_int(message, "return", &id) && id == qga->sync_id)
            next_question(qga);
        return; /* anything else is older than the sync */
    case STEP_QUESTION:
        take_answer(qga, message);
        return;
    case STEP_REQUEST:
        if (json_object_get(message, "error"))
            qga->callbacks.refused(qga->callbacks.arg);
        wait_round(qga);
        return;
    case STEP_FREEZE:
    case STEP_THAW:
        take_order_answer(qga, message);
        return;
    case STEP_FROZEN:
    case STEP_IDLE:
        return; /* nobody asked */
    }
}

static void handle_line(struct qga *qga, const char *line, size_t len)
{
    /* The delimiter of guest-sync-delimited: all before it is old. */
    const char *mark = len ? memrchr(line, 0xff, len) : NULL;
    if (mark) {
        len -= (size_t)(mark + 1 - line);
        line = mark + 1;
    }
    struct json_error error;
    json_t *message AUTO_JSON = json_parse(line, len, &error);
    if (json_is_object(message))
        handle_message(qga, message);
}

static void ready(void *arg, uint32_t events)
{
    struct qga *qga = arg;
    (void)events;
    ssize_t n = recv(qga->fd, buf_reserve(&qga->in, 16384), 16384, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        cut_off(qga, n == 0 ? "it ended" : strerror(errno));
        return;
    }
    buf_advance(&qga->in, (size_t)n);
    qga->round_bytes += (size_t)n;
    char *end;
    while (qga->fd >= 0 && qga->in.len > 0 && (end = memchr(qga->in.data, '\n', qga->in.len))) {
        size_t len = (size_t)(end - qga->in.data);
        char *line AUTO_FREE = xmalloc(len + 1);
        memcpy(line, qga->in.data, len);
        buf_consume(&qga->in, len + 1);
        handle_line(qga, line, len);
    }
    if (qga->fd >= 0 && (qga->in.len > QGA_LINE_MAX || qga->round_bytes > QGA_ROUND_MAX))
        cut_off(qga, "it says too much");
}

struct qga *qga_new(struct loop *loop, const struct domain_config *config,
                    const struct qga_callbacks *callbacks)
{
    struct qga *qga = xcalloc(1, sizeof(*qga));
    *qga = (struct qga){.loop = loop, .config = config, .callbacks = *callbacks, .fd = -1};
    qga->timer = (struct loop_timer){.fire = fire, .arg = qga};
    guest_info_init(&qga->known);
    guest_info_init(&qga->next);
    return qga;
}

void qga_free(struct qga *qga)
{
    if (!qga)
        return;
    loop_timer_cancel(qga->loop, &qga->timer);
    loop_remove(qga->source);
    if (qga->fd >= 0)
        close(qga->fd);
    buf_done(&qga->in);
    guest_info_done(&qga->known);
    guest_info_done(&qga->next);
    free(qga->request);
    free(qga);
}

void qga_connected(struct qga *qga, int fd)
{
    qga->fd = fd;
    qga->source = loop_add(qga->loop, fd, EPOLLIN, ready, qga);
    if (!qga->source) {
        cut_off(qga, strerror(errno));
        return;
    }
    begin_round(qga);
}

bool qga_is_connected(const struct qga *qga)
{
    return qga->fd >= 0;
}

void qga_port(struct qga *qga, bool open)
{
    if (qga->open == open)
        return;
    qga->open = open;
    qga->rounds = 0;
    if (open) {
        begin_round(qga);
        return;
    }
    loop_timer_cancel(qga->loop, &qga->timer);
    qga->step = STEP_IDLE;
    if (qga->order != ORDER_NONE)
        qga->order = ORDER_THAW; /* the first thing when it is open again: its agent may have died frozen */
    if (qga->request) {
        free(TAKE_PTR(qga->request));
        qga->callbacks.refused(qga->callbacks.arg);
    }
    publish(qga, false);
}

void qga_refresh(struct qga *qga)
{
    if (qga->step == STEP_IDLE && qga->open && qga->fd >= 0)
        begin_round(qga);
    else if (qga->step == STEP_IDLE)
        publish(qga, false);
    else if (qga->order != ORDER_NONE)
        qga->callbacks.info(qga->callbacks.arg, &qga->known, false);
}

bool qga_request_shutdown(struct qga *qga, const char *mode)
{
    if (!qga->open || qga->fd < 0)
        return false;
    free(qga->request);
    qga->request = xstrdup(mode);
    if (qga->order == ORDER_NONE && (qga->step == STEP_IDLE || qga->step == STEP_REQUEST)) {
        if (qga->known.live)
            send_request(qga);
        else
            begin_round(qga); /* it goes out once the agent has answered that */
    }
    return qga->fd >= 0;
}
