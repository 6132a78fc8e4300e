/* How domains end: the guest powered off, rebooted or crashed, and the device model is gone. All on the
 * loop's thread. */
#include "internal.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <io/kept.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#define QUIT_MS 5000
#define LOG_TAIL 800
#define KILLED_HINT " When memory runs out the kernel does that, and says so in its log (xe host-dmesg)."

/* Of reboots only those are heard of that the device model leaves to us. */
static enum end_action action_for(const struct qemu_domain *d, enum end_reason reason)
{
    const struct domain_config *config = &d->record.config;
    switch (reason) {
    case END_REASON_GUEST_REBOOT:
        return d->must_reboot || config->on_reboot == END_ACTION_RESTART ? END_ACTION_RESTART
                                                                         : END_ACTION_DESTROY;
    case END_REASON_GUEST_SHUTDOWN:
        return config->on_shutdown;
    case END_REASON_GUEST_CRASH:
        return config->on_crash;
    default:
        return END_ACTION_DESTROY;
    }
}

static void quit(struct qemu_domain *d, enum end_reason reason)
{
    d->pending = reason;
    if (d->qmp)
        qmp_send(d->qmp, "quit", NULL);
    loop_timer_set(d->driver->loop, &d->kill_timer, clock_mono_ms() + QUIT_MS);
}

static void note(struct qemu_domain *d, const char *text)
{
    char *all = d->end_note ? xasprintf("%s %s", d->end_note, text) : xstrdup(text);
    free(d->end_note);
    d->end_note = all;
}

/* A guest that ends as soon as it has started would do so for ever. */
static bool bounces(struct qemu_domain *d)
{
    int64_t least = d->driver->env.min_uptime_s;
    pthread_mutex_lock(&d->lock);
    int64_t uptime = clock_unix_seconds() - d->info.boot_time;
    pthread_mutex_unlock(&d->lock);
    if (least <= 0 || uptime >= least || uptime < 0)
        return false;
    char *text AUTO_FREE = xasprintf("It had run for %d seconds only, and is not started again before %d.",
                                     (int)uptime, (int)least);
    note(d, text);
    return true;
}

static void restart(struct qemu_domain *d)
{
    if (domain_boots_anew(d)) {
        domain_reboot(d);
        return;
    }
    if (!d->qmp)
        return;
    qmp_send(d->qmp, "system_reset", NULL);
    qmp_send(d->qmp, "cont", NULL);
}

static char *describe(struct qemu_domain *d, enum end_reason reason, bool known, int status);

static void preserve(struct qemu_domain *d, enum end_reason reason)
{
    char *text AUTO_FREE = describe(d, reason, false, 0);
    pthread_mutex_lock(&d->lock);
    str_assign(&d->info.end_text, text);
    d->info.state = reason == END_REASON_GUEST_CRASH ? DOMAIN_STATE_CRASHED : DOMAIN_STATE_SHUTDOWN;
    d->info.end_reason = reason;
    d->info.end_time = clock_unix_seconds();
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    domain_publish(d, false);
}

struct move {
    struct qemu_domain *d;
    const char *to;
};

static void moved_on_loop(void *arg)
{
    const struct move *m = arg;
    struct qemu_domain *d = m->d;
    pthread_mutex_lock(&d->lock);
    str_assign(&d->info.moved_to, m->to);
    bool dead = d->dead;
    pthread_mutex_unlock(&d->lock);
    if (!dead)
        quit(d, END_REASON_MIGRATED);
}

void domain_moved(struct qemu_domain *d, const char *to)
{
    struct move m = {d, to};
    loop_call(d->driver->loop, moved_on_loop, &m);
}

char *domain_offer_host(const char *offer)
{
    struct json_error error;
    json_t *json AUTO_JSON = offer ? json_parse(offer, strlen(offer), &error) : NULL;
    const char *to = "";
    json_get_string(json, "to", &to);
    return xstrdup(to);
}

static void act(struct qemu_domain *d, enum end_reason reason)
{
    pthread_mutex_lock(&d->lock);
    bool leaving = d->leaving;
    enum end_action action = action_for(d, reason);
    pthread_mutex_unlock(&d->lock);
    bool again = action == END_ACTION_RESTART && reason != END_REASON_GUEST_REBOOT;
    if (leaving || action == END_ACTION_DESTROY || (again && bounces(d)))
        quit(d, reason);
    else if (action == END_ACTION_RESTART)
        restart(d);
    else
        preserve(d, reason);
}

static void dumped(struct qemu_domain *d, const char *text)
{
    d->dumping = false;
    if (d->dead)
        return;
    note(d, text);
    if (d->pending == END_REASON_NONE)
        act(d, END_REASON_GUEST_CRASH);
}

void domain_guest_ended(struct qemu_domain *d, enum end_reason reason)
{
    if (d->pending != END_REASON_NONE || d->dumping)
        return; /* SHUTDOWN after GUEST_PANICKED and the like */
    pthread_mutex_lock(&d->lock);
    bool dump = reason == END_REASON_GUEST_CRASH && d->record.config.coredump && !d->leaving;
    pthread_mutex_unlock(&d->lock);
    log_info("qemu", "a guest ended", "domain", d->uuid, "reason", end_reason_name(reason));
    d->dumping = dump;
    if (dump)
        domain_dump(d, dumped);
    else
        act(d, reason);
}

/* The end of what the device model wrote, without control characters. */
static char *last_words(struct qemu_domain *d)
{
    size_t len;
    char *text = rundir_tail(&d->dir, "qemu.log", LOG_TAIL, &len);
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)text[i] < 0x20 && text[i] != '\n') || (unsigned char)text[i] >= 0x7f)
            text[i] = '?';
    while (len > 0 && text[len - 1] == '\n')
        text[--len] = '\0';
    return text;
}

static char *describe_plainly(struct qemu_domain *d, enum end_reason reason, bool known, int status)
{
    switch (reason) {
    case END_REASON_ASKED:
        return xstrdup("It was ended on request.");
    case END_REASON_GUEST_SHUTDOWN:
        return xstrdup("The guest powered off.");
    case END_REASON_GUEST_REBOOT:
        return xstrdup(d->record.anew ? "The guest rebooted."
                                      : "The guest rebooted, and its configuration says to end it then.");
    case END_REASON_GUEST_CRASH:
        return xstrdup("The guest's kernel panicked.");
    case END_REASON_MIGRATED:
        return xstrdup("Another host has taken it over.");
    default:
        break;
    }
    char *words AUTO_FREE = last_words(d);
    const char *between = *words ? " It said: " : "";
    if (known && WIFSIGNALED(status))
        return xasprintf("The device model was killed by signal %d (%s).%s%s%s", WTERMSIG(status),
                         sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?",
                         WTERMSIG(status) == SIGKILL ? KILLED_HINT : "", between, words);
    if (known && WIFEXITED(status))
        return xasprintf("The device model ended with code %d.%s%s", WEXITSTATUS(status), between, words);
    return xasprintf("The device model ended.%s%s%s", *words ? "" : KILLED_HINT, between, words);
}

static char *describe(struct qemu_domain *d, enum end_reason reason, bool known, int status)
{
    char *text = describe_plainly(d, reason, known, status);
    if (!d->end_note)
        return text;
    char *more = xasprintf("%s %s", text, d->end_note);
    free(text);
    return more;
}

void domain_let_go(struct qemu_domain *d)
{
    struct loop *loop = d->driver->loop;
    loop_remove(TAKE_PTR(d->process_source));
    loop_timer_cancel(loop, &d->reconnect);
    loop_timer_cancel(loop, &d->kill_timer);
    loop_timer_cancel(loop, &d->rearm_timer);
    loop_timer_cancel(loop, &d->watch_timer);
    loop_timer_cancel(loop, &d->anew_timer);
    serial_close(d);
    qga_free(TAKE_PTR(d->qga));
    domain_data_close(d);
    pthread_mutex_lock(&d->lock);
    struct qmp *qmp = TAKE_PTR(d->qmp);
    pthread_mutex_unlock(&d->lock);
    qmp_close(qmp);
}

static void fill_info(struct qemu_domain *d, enum end_reason reason, const char *text)
{
    d->info.state = DOMAIN_STATE_GONE;
    d->info.pid = 0;
    d->info.domid = -1;
    d->info.end_reason = reason;
    d->info.end_time = clock_unix_seconds();
    str_assign(&d->info.end_text, text);
    d->info.guest.live = false;
}

void domain_end(struct qemu_domain *d, enum end_reason reason, const char *text)
{
    struct domain_info info AUTO_DOMAIN_INFO;
    char mark[KEPT_MARK_SIZE];
    log_info("qemu", "a domain ended", "domain", d->uuid, "reason", end_reason_name(reason), "text", text,
             NULL);
    failpoint("end:process-gone");
    tpm_end(d);
    kept_mark(d->driver->state_dir, d->uuid, mark);
    pthread_mutex_lock(&d->lock);
    bool starting = d->starting, leaving = d->leaving;
    str_assign(&d->info.kept_mark, mark);
    scheduling_remove(d->driver, d->uuid);
    serial_keep(d);
    rundir_remove(d->driver->state_dir, d->uuid, &d->dir);
    fill_info(d, reason, text);
    domain_info_copy(&info, &d->info);
    if (d->proc.pidfd >= 0)
        close(d->proc.pidfd);
    d->proc = (struct proc){-1, -1};
    pthread_mutex_unlock(&d->lock);
    failpoint("end:folder-gone");
    /* On disk before anyone can see it, so that it is not told twice differently. */
    if (!starting && !leaving && ended_write(d->driver->state_dir, &info) < 0)
        log_error("qemu", "the end of a domain could not be written down", "domain", d->uuid, "error",
                  strerror(errno));
    if (starting || leaving)
        domain_table_remove(d->driver, d);
    pthread_mutex_lock(&d->lock);
    d->dead = true;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    if (!starting)
        domain_publish(d, false);
}

void domain_process_ended(struct qemu_domain *d)
{
    int status = 0;
    bool known = d->is_child && waitpid(d->proc.pid, &status, WNOHANG) == d->proc.pid;
    domain_let_go(d);
    if (domain_goes_on(d)) {
        domain_unref(d);
        return;
    }
    pthread_mutex_lock(&d->lock);
    d->killed = known && WIFSIGNALED(status);
    enum end_reason reason = d->leaving                      ? END_REASON_ASKED
                             : d->pending != END_REASON_NONE ? d->pending
                             : d->record.offer ? END_REASON_MIGRATED /* as far as is known here */
                                               : END_REASON_DEVICE_MODEL_DIED;
    if (reason == END_REASON_MIGRATED && d->record.offer) {
        char *to AUTO_FREE = domain_offer_host(d->record.offer);
        str_assign(&d->info.moved_to, to);
    }
    pthread_mutex_unlock(&d->lock);
    char *text AUTO_FREE = describe(d, reason, known, status);
    domain_end(d, reason, text);
    domain_unref(d);
}
