/* What nobody tells: what a domain's firmware has written down, and whether its guest has virtio drivers. The
 * drivers are seen at the balloon, which no firmware touches: its driver sets a bit when it has taken the
 * device into use (virtio 1.1, 2.1, DRIVER_OK). Questions become rarer, and end with a yes. */
#include "internal.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <io/kept.h>

#define WATCH_MS 5000
#define ASK_FIRST_MS 5000
#define ASK_MOST_MS 60000
#define BALLOON "/machine/peripheral/balloon0/virtio-backend"

static bool driver_is_there(const json_t *status)
{
    const json_t *words = json_object_get(json_object_get(status, "status"), "statuses");
    size_t i;
    json_t *word;
    json_array_foreach((json_t *)(uintptr_t)words, i, word)
    {
        const char *text = json_string_value(word);
        if (text && strstr(text, "DRIVER_OK"))
            return true;
    }
    return false;
}

static void *ask(void *arg)
{
    struct qemu_domain *d = arg;
    struct hv_deadline soon = domain_soon();
    json_t *status AUTO_JSON = NULL;
    json_t *arguments = json_pack("{s:s}", "path", BALLOON);
    if (domain_command(d, "x-query-virtio-status", arguments, &soon, &status, NULL) == 0 &&
        driver_is_there(status)) {
        pthread_mutex_lock(&d->lock);
        d->info.virtio = true;
        pthread_mutex_unlock(&d->lock);
        domain_publish(d, false);
    }
    domain_unref(d);
    return NULL;
}

static bool look_at_kept(struct qemu_domain *d)
{
    char mark[KEPT_MARK_SIZE];
    const struct domain_config *config = &d->record.config;
    if (config->firmware != FIRMWARE_UEFI && !config->tpm)
        return false;
    kept_mark(d->driver->state_dir, d->uuid, mark);
    pthread_mutex_lock(&d->lock);
    bool is_new = !d->info.kept_mark || !streq(d->info.kept_mark, mark);
    if (is_new)
        str_assign(&d->info.kept_mark, mark);
    pthread_mutex_unlock(&d->lock);
    return is_new;
}

static void fire(void *arg)
{
    struct qemu_domain *d = arg;
    int64_t now = clock_mono_ms();
    pthread_mutex_lock(&d->lock);
    bool knows = d->info.virtio || d->info.state != DOMAIN_STATE_RUNNING || !d->qmp;
    pthread_mutex_unlock(&d->lock);
    if (look_at_kept(d))
        domain_publish(d, false);
    d->watch_ms -= WATCH_MS;
    if (!knows && d->watch_ms <= 0) {
        d->watch_step_ms = d->watch_step_ms * 2 < ASK_MOST_MS ? d->watch_step_ms * 2 : ASK_MOST_MS;
        d->watch_ms = d->watch_step_ms;
        domain_run_apart(d, ask);
    }
    loop_timer_set(d->driver->loop, &d->watch_timer, now + WATCH_MS);
}

void domain_watch_again(struct qemu_domain *d)
{
    d->watch_step_ms = ASK_FIRST_MS / 2;
    d->watch_ms = 0;
}

void domain_watch(struct qemu_domain *d)
{
    d->watch_timer = (struct loop_timer){.fire = fire, .arg = d};
    domain_watch_again(d);
    look_at_kept(d);
    loop_timer_set(d->driver->loop, &d->watch_timer, clock_mono_ms() + WATCH_MS);
}
