/* Operations on a running domain. Each is one or two QMP commands and, where the guest has to do something,
 * a wait for the event that says so. */
#include "internal.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#define BUTTON_AGAIN_MS 10000 /* a guest that is still booting misses the button */
#define QUIT_MS 3000

static enum domain_state state_now(struct qemu_domain *d)
{
    pthread_mutex_lock(&d->lock);
    enum domain_state state = d->info.state;
    pthread_mutex_unlock(&d->lock);
    return state;
}

static struct qemu_domain *find_in(struct hv_driver_state *state, const char *uuid, enum domain_state wanted,
                                   const char *what, struct hv_err *err)
{
    struct qemu_domain *d = domain_find(state, uuid, err);
    enum domain_state now = d ? state_now(d) : DOMAIN_STATE_GONE;
    if (!d || now == wanted)
        return d;
    hv_fail(err, now == DOMAIN_STATE_GONE ? HV_ERR_KIND_NOT_FOUND : HV_ERR_KIND_BAD_STATE,
            "The domain is %s; only one that is %s can be %s.", domain_state_name(now),
            domain_state_name(wanted), what);
    domain_unref(d);
    return NULL;
}

int domain_wait_state(struct qemu_domain *d, enum domain_state wanted, const struct hv_deadline *deadline,
                      struct hv_err *err)
{
    int outcome = 0;
    pthread_mutex_lock(&d->lock);
    while (outcome == 0 && !d->dead && d->info.state != wanted)
        outcome = domain_wait(d, deadline, err);
    if (outcome == 0 && d->dead)
        outcome = hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The domain ended meanwhile.");
    pthread_mutex_unlock(&d->lock);
    return outcome;
}

int qemu_pause(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
               struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = find_in(state, uuid, DOMAIN_STATE_RUNNING, "paused", err);
    if (!d || domain_command(d, "stop", NULL, deadline, NULL, err) < 0)
        return -1;
    return domain_wait_state(d, DOMAIN_STATE_PAUSED, deadline, err);
}

int qemu_unpause(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                 struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = find_in(state, uuid, DOMAIN_STATE_PAUSED, "unpaused", err);
    if (!d || domain_command(d, "cont", NULL, deadline, NULL, err) < 0)
        return -1;
    return domain_wait_state(d, DOMAIN_STATE_RUNNING, deadline, err);
}

/* As if the keys were pressed together for a moment. */
static json_t *sysrq_keys(char key)
{
    const char name[] = {key, '\0'};
    return json_pack("{s:[{s:s, s:s}, {s:s, s:s}, {s:s, s:s}]}", "keys", "type", "qcode", "data", "alt",
                     "type", "qcode", "data", "sysrq", "type", "qcode", "data", name);
}

int qemu_trigger(struct hv_driver_state *state, const char *uuid, enum domain_signal signal, char key,
                 const struct hv_deadline *deadline, struct hv_err *err)
{
    static const char *const commands[] = {[DOMAIN_SIGNAL_NMI] = "inject-nmi",
                                           [DOMAIN_SIGNAL_POWER] = "system_powerdown",
                                           [DOMAIN_SIGNAL_WAKEUP] = "system_wakeup",
                                           [DOMAIN_SIGNAL_SYSRQ] = "send-key"};
    struct qemu_domain *d AUTO_DOMAIN = find_in(state, uuid, DOMAIN_STATE_RUNNING, "given a signal", err);
    if (!d)
        return -1;
    json_t *arguments = signal == DOMAIN_SIGNAL_SYSRQ ? sysrq_keys(key) : NULL;
    return domain_command(d, commands[signal], arguments, deadline, NULL, err);
}

/* ---- asking the guest ---- */

struct guest_request {
    struct qemu_domain *d;
    const char *mode;
    bool sent;
};

static void request_on_loop(void *arg)
{
    struct guest_request *request = arg;
    struct qemu_domain *d = request->d;
    pthread_mutex_lock(&d->lock);
    d->guest_refused = false;
    pthread_mutex_unlock(&d->lock);
    request->sent = d->qga && qga_request_shutdown(d->qga, request->mode);
}

static bool ask_agent(struct qemu_domain *d, const char *mode)
{
    struct guest_request request = {.d = d, .mode = mode};
    loop_call(d->driver->loop, request_on_loop, &request);
    return request.sent;
}

static void set_leaving(struct qemu_domain *d, bool leaving)
{
    pthread_mutex_lock(&d->lock);
    d->leaving = leaving;
    pthread_mutex_unlock(&d->lock);
}

static bool refused(struct qemu_domain *d)
{
    pthread_mutex_lock(&d->lock);
    bool refused_now = d->guest_refused;
    pthread_mutex_unlock(&d->lock);
    return refused_now;
}

/* With d->lock held: does an agent answer that did not at `before` answers? */
static bool agent_came(const struct qemu_domain *d, int64_t before)
{
    return d->guest_answers != before && d->info.guest.live;
}

/* Until the domain is released. The power button is pressed when the agent did not take the request, and
 * again from time to time; a guest that is still booting is asked when its agent comes. */
static int wait_power_off(struct qemu_domain *d, bool agent, const struct hv_deadline *deadline,
                          struct hv_err *err)
{
    bool pressed = false;
    int64_t answers = 0;
    for (int outcome = 0;;) {
        int64_t step = clock_mono_ms() + (agent && !pressed ? 2 * BUTTON_AGAIN_MS : BUTTON_AGAIN_MS);
        if (!agent || pressed || refused(d)) {
            pressed = true;
            if (domain_command(d, "system_powerdown", NULL, deadline, NULL, err) < 0 &&
                state_now(d) != DOMAIN_STATE_GONE)
                log_debug("qemu", "the power button could not be pressed", "domain", d->uuid);
        }
        pthread_mutex_lock(&d->lock);
        struct hv_deadline slice = *deadline;
        slice.mono_ms = step < deadline->mono_ms ? step : deadline->mono_ms;
        while ((outcome = d->dead ? 0 : domain_wait(d, &slice, err)) == 0 && !d->dead)
            if (agent ? !pressed && d->guest_refused : agent_came(d, answers))
                break;
        bool dead = d->dead, came = !agent && agent_came(d, answers);
        answers = d->guest_answers;
        pthread_mutex_unlock(&d->lock);
        if (dead)
            return 0;
        if (came && ask_agent(d, "powerdown")) {
            agent = true;
            pressed = false;
            continue;
        }
        if (outcome < 0 && err->kind == HV_ERR_KIND_CANCELLED)
            return -1;
        if (clock_mono_ms() >= deadline->mono_ms)
            return hv_fail(err, HV_ERR_KIND_GUEST, "The guest did not power off in time.");
        if (outcome < 0)
            pressed = true; /* a slice is over */
    }
}

int qemu_shutdown(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                  struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = find_in(state, uuid, DOMAIN_STATE_RUNNING, "shut down", err);
    if (!d)
        return -1;
    set_leaving(d, true);
    bool asked = ask_agent(d, "powerdown");
    failpoint("shutdown:asked");
    if (wait_power_off(d, asked, deadline, err) == 0)
        return 0;
    set_leaving(d, false);
    return -1;
}

/* A reboot that the pool asked for happens also when reboots of the guest's own accord end the domain. */
static int allow_reset(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err)
{
    pthread_mutex_lock(&d->lock);
    bool usual = d->record.config.on_reboot == END_ACTION_RESTART;
    pthread_mutex_unlock(&d->lock);
    return usual
               ? 0
               : domain_command(d, "set-action", json_pack("{s:s}", "reboot", "reset"), deadline, NULL, err);
}

static int wait_reset(struct qemu_domain *d, int64_t before, const struct hv_deadline *deadline,
                      struct hv_err *err)
{
    int outcome = 0;
    pthread_mutex_lock(&d->lock);
    while (outcome == 0 && !d->dead && d->resets == before && !d->guest_refused)
        outcome = domain_wait(d, deadline, err);
    if (outcome < 0 && err->kind == HV_ERR_KIND_DEADLINE)
        hv_fail(err, HV_ERR_KIND_GUEST, "The guest did not reboot in time.");
    if (outcome == 0 && d->dead)
        outcome = hv_fail(err, HV_ERR_KIND_GUEST, "The domain ended instead of rebooting.");
    else if (outcome == 0 && d->resets == before)
        outcome = hv_fail(err, HV_ERR_KIND_GUEST, "The guest's agent refused to reboot.");
    pthread_mutex_unlock(&d->lock);
    return outcome;
}

static void set_must_reboot(struct qemu_domain *d, bool must)
{
    pthread_mutex_lock(&d->lock);
    d->must_reboot = must;
    pthread_mutex_unlock(&d->lock);
}

static int64_t resets_now(struct qemu_domain *d)
{
    pthread_mutex_lock(&d->lock);
    int64_t resets = d->resets;
    pthread_mutex_unlock(&d->lock);
    return resets;
}

int qemu_reboot(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = find_in(state, uuid, DOMAIN_STATE_RUNNING, "rebooted", err);
    bool anew = d && domain_boots_anew(d);
    if (!d || (!anew && allow_reset(d, deadline, err) < 0))
        return -1;
    int64_t before = resets_now(d);
    set_must_reboot(d, anew);
    int outcome =
        ask_agent(d, "reboot")
            ? wait_reset(d, before, deadline, err)
            : hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                      "No agent answers in the guest, and the power button can only power off: a clean "
                      "reboot is not possible.");
    set_must_reboot(d, false);
    if (anew)
        return outcome == 0 ? domain_replace(d, deadline, err) : -1;
    domain_rearm_reboot(d);
    return outcome;
}

static void reboot_on_loop(void *arg)
{
    domain_reboot(arg);
}

int qemu_reset(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
               struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, err);
    if (!d)
        return -1;
    if (state_now(d) == DOMAIN_STATE_GONE)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain does not run on this host.");
    if (domain_boots_anew(d)) {
        loop_call(state->loop, reboot_on_loop, d);
        failpoint("reset:sent");
        return domain_replace(d, deadline, err);
    }
    if (allow_reset(d, deadline, err) < 0)
        return -1;
    pthread_mutex_lock(&d->lock);
    d->guest_refused = false;
    int64_t before = d->resets;
    pthread_mutex_unlock(&d->lock);
    int outcome = domain_command(d, "system_reset", NULL, deadline, NULL, err);
    failpoint("reset:sent");
    if (outcome == 0)
        outcome = wait_reset(d, before, deadline, err);
    domain_rearm_reboot(d);
    if (outcome < 0)
        return -1;
    if (state_now(d) == DOMAIN_STATE_RUNNING)
        return 0;
    if (domain_command(d, "cont", NULL, deadline, NULL, err) < 0)
        return -1;
    return domain_wait_state(d, DOMAIN_STATE_RUNNING, deadline, err);
}

int qemu_destroy(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                 struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, NULL);
    if (!d)
        return 0;
    struct hv_deadline gentle = *deadline;
    gentle.mono_ms = clock_mono_ms() + QUIT_MS;
    gentle.cancelled = NULL;
    set_leaving(d, true);
    failpoint("end:decided");
    if (state_now(d) != DOMAIN_STATE_GONE) {
        /* quit writes what the device model still holds; one that does not listen is killed. */
        domain_command(d, "quit", NULL, &gentle, NULL, NULL);
        pthread_mutex_lock(&d->lock);
        while (!d->dead && domain_wait(d, &gentle, NULL) == 0)
            ;
        bool dead = d->dead;
        pthread_mutex_unlock(&d->lock);
        if (!dead)
            domain_kill(d);
    }
    pthread_mutex_lock(&d->lock);
    bool dead = d->dead;
    pthread_mutex_unlock(&d->lock);
    if (!dead)
        return hv_fail(err, HV_ERR_KIND_DEVICE_MODEL,
                       "The device model does not end, even killed: the host's kernel holds it.");
    ended_remove(state->state_dir, uuid);
    domain_table_remove(state, d);
    return 0;
}

/* ---- guest's agent, consoles ---- */

static void refresh_on_loop(void *arg)
{
    struct qemu_domain *d = arg;
    if (d->qga)
        qga_refresh(d->qga);
}

int qemu_guest_refresh(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                       struct guest_info *guest, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = find_in(state, uuid, DOMAIN_STATE_RUNNING, "asked", err);
    if (!d)
        return -1;
    pthread_mutex_lock(&d->lock);
    bool has_agent = d->record.config.guest_agent;
    int64_t before = d->guest_answers;
    pthread_mutex_unlock(&d->lock);
    if (!has_agent)
        return hv_fail(err, HV_ERR_KIND_GUEST, "The domain has no channel to a guest's agent.");
    loop_call(state->loop, refresh_on_loop, d);
    int outcome = 0;
    pthread_mutex_lock(&d->lock);
    while (outcome == 0 && !d->dead && d->guest_answers == before)
        outcome = domain_wait(d, deadline, err);
    if (outcome == 0 && !d->info.guest.live)
        outcome = hv_fail(err, HV_ERR_KIND_GUEST, "No agent answers in the guest.");
    if (outcome == 0)
        guest_info_copy(guest, &d->info.guest);
    pthread_mutex_unlock(&d->lock);
    return outcome;
}

/* A VNC viewer is one end of a socket pair; the other goes to the device model. */
static int open_vnc(struct qemu_domain *d, int *fd, struct hv_err *err)
{
    static _Atomic unsigned serial;
    struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + 5000};
    char name[32];
    snprintf(name, sizeof(name), "viewer%u", atomic_fetch_add(&serial, 1));
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "No socket for the viewer: %s", strerror(errno));
    int ours AUTO_CLOSE = pair[0], theirs AUTO_CLOSE = pair[1];
    json_t *handle AUTO_JSON = json_pack("{s:s}", "fdname", name);
    json_t *client AUTO_JSON = json_pack("{s:s, s:s, s:b}", "protocol", "vnc", "fdname", name, "skipauth", 1);
    int outcome = domain_execute(d, "getfd", handle, theirs, &deadline, NULL, err);
    if (outcome == 0)
        outcome = domain_execute(d, "add_client", client, -1, &deadline, NULL, err);
    if (outcome == 0)
        *fd = TAKE_FD(ours);
    return outcome;
}

struct serial_request {
    struct qemu_domain *d;
    int fd, error;
};

static void attach_serial(void *arg)
{
    struct serial_request *request = arg;
    if (!request->d->serial)
        request->error = ENOTCONN;
    else if (fanout_attach(request->d->serial, &request->fd) < 0)
        request->error = errno;
}

int qemu_console_open(struct hv_driver_state *state, const char *uuid, enum console_kind kind, int *fd,
                      struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, err);
    if (!d)
        return -1;
    pthread_mutex_lock(&d->lock);
    bool there = kind == CONSOLE_VNC ? d->record.config.vnc : d->record.config.serial, dead = d->dead;
    pthread_mutex_unlock(&d->lock);
    if (dead)
        return hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain does not run.");
    if (!there)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain has no such console.");
    if (kind == CONSOLE_VNC)
        return open_vnc(d, fd, err);
    struct serial_request request = {.d = d, .fd = -1};
    loop_call(state->loop, attach_serial, &request);
    if (request.fd < 0)
        return hv_fail(err, request.error == EUSERS ? HV_ERR_KIND_IN_USE : HV_ERR_KIND_BAD_STATE,
                       request.error == EUSERS ? "The console has too many viewers."
                                               : "The console is closed.");
    *fd = request.fd;
    return 0;
}
