/* The main thread: follows the pool's row, judges hosts, starts VMs again, keeps the plan up to date.
 * Whatever it does follows from rows and signs of now, so a server that ends in the middle goes on at its
 * next start. */
#include "ha_internal.h"

#include "../gate/session.h"
#include "../members/members.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <model/errors.h>
#include <stdlib.h>
#include <time.h>

#define IDLE_MS 1000
#define TICK_MAX_MS 1000

bool ha_stopping(struct ha *ha)
{
    pthread_mutex_lock(&ha->lock);
    bool stop = ha->stop;
    pthread_mutex_unlock(&ha->lock);
    return stop;
}

static void pause_for(struct ha *ha, int64_t ms)
{
    int64_t until = clock_mono_ms() + ms;
    struct timespec when = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
    pthread_mutex_lock(&ha->lock);
    if (!ha->stop)
        pthread_cond_timedwait(&ha->changed, &ha->lock, &when);
    pthread_mutex_unlock(&ha->lock);
}

static void look(struct ha *ha, const struct snapshot *snap, const struct ha_disk *disk)
{
    ha_peers_follow(ha, snap, disk);
    for (size_t i = 0; i < ha->peer_count && !ha_stopping(ha); i++)
        ha_judge(ha->peers[i]);
    ha_restart(ha);
    AUTO_SNAPSHOT struct snapshot *now = store_snapshot(ha->server->store);
    if (snapshot_generation(now) != ha->planned)
        ha_plan_update(ha->server);
    ha->planned = snapshot_generation(now);
}

static void *run(void *arg)
{
    struct ha *ha = arg;
    while (!ha_stopping(ha)) {
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(ha->server->store);
        const struct pool_row *pool = ha_pool(snap);
        struct ha_disk disk;
        struct ha_settings settings;
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        bool on = pool && pool->ha_enabled &&
                  ha_settings_read(pool->ha_configuration, &settings, &err) == 0 &&
                  ha_disk_of(snap, ha->server, &disk);
        if (on) {
            pthread_mutex_lock(&ha->lock);
            ha->settings = settings;
            pthread_mutex_unlock(&ha->lock);
            look(ha, snap, &disk);
        } else {
            ha_peers_end(ha);
        }
        int64_t tick = on ? settings.interval_ms / 2 : IDLE_MS;
        pause_for(ha, tick < TICK_MAX_MS ? tick : TICK_MAX_MS);
    }
    ha_peers_end(ha);
    return NULL;
}

struct ha *ha_new(struct server *server)
{
    struct ha *ha = xcalloc(1, sizeof(*ha));
    pthread_condattr_t attr;
    ha->server = server;
    pthread_mutex_init(&ha->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&ha->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (!members_is_member(server)) {
        if (pthread_create(&ha->thread, NULL, run, ha) != 0)
            abort();
        ha->has_thread = true;
    }
    return ha;
}

void ha_stop(struct ha *ha)
{
    if (!ha)
        return;
    pthread_mutex_lock(&ha->lock);
    ha->stop = true;
    pthread_cond_broadcast(&ha->changed);
    pthread_mutex_unlock(&ha->lock);
    if (ha->has_thread)
        pthread_join(ha->thread, NULL);
}

void ha_free(struct ha *ha)
{
    if (!ha)
        return;
    ha_restart_end(ha);
    pthread_cond_destroy(&ha->changed);
    pthread_mutex_destroy(&ha->lock);
    free(ha->peers);
    free(ha);
}

void ha_wake(struct ha *ha)
{
    if (!ha)
        return;
    pthread_mutex_lock(&ha->lock);
    pthread_cond_broadcast(&ha->changed);
    pthread_mutex_unlock(&ha->lock);
}

void ha_prevent(struct ha *ha, int64_t seconds)
{
    if (!ha)
        return;
    pthread_mutex_lock(&ha->lock);
    ha->prevent_until_ms = clock_mono_ms() + seconds * 1000;
    pthread_mutex_unlock(&ha->lock);
}

bool ha_is_own(const struct ha *ha, const struct session *session)
{
    if (!ha || !session)
        return false;
    struct ha *open = (struct ha *)ha;
    pthread_mutex_lock(&open->lock);
    bool own = open->session == session;
    pthread_mutex_unlock(&open->lock);
    return own;
}

int ha_change_begin(struct ha *ha, bool enabling, struct api_err *err)
{
    if (!ha)
        return fail_internal(err, "Hosts are not watched in this process.");
    pthread_mutex_lock(&ha->lock);
    bool on = ha->enabling, off = ha->disabling;
    if (!on && !off) {
        ha->enabling = enabling;
        ha->disabling = !enabling;
    }
    pthread_mutex_unlock(&ha->lock);
    return on ? err_ha_enable_in_progress(err) : off ? err_ha_disable_in_progress(err) : 0;
}

void ha_change_end(struct ha *ha)
{
    pthread_mutex_lock(&ha->lock);
    ha->enabling = ha->disabling = false;
    pthread_cond_broadcast(&ha->changed);
    pthread_mutex_unlock(&ha->lock);
}

void ha_row_off(struct pool_row *pool)
{
    pool->ha_enabled = pool->ha_overcommitted = false;
    pool->ha_plan_exists_for = 0;
    str_set_assign(&pool->ha_statefiles, NULL);
    str_map_assign(&pool->ha_configuration, NULL);
    str_assign(&pool->ha_cluster_stack, "");
}

/* ---- settings ---- */

static int read_ms(const struct str_map *map, const char *key, int64_t unit, int64_t least, int64_t *out,
                   struct api_err *err)
{
    const char *text = str_map_get(map, key);
    char *end;
    if (!text)
        return 0;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text || *end || n > 3600000 / unit || n * unit < least)
        return err_invalid_value(err, key, text);
    *out = n * unit;
    return 0;
}

int ha_settings_read(const struct str_map *map, struct ha_settings *s, struct api_err *err)
{
    int64_t lease = 30000, interval = 0, margin = 0, agent = 0, restart = 0;
    if (read_ms(map, "timeout", 1000, 1000, &lease, err) < 0 ||
        read_ms(map, "lease_ms", 1, 100, &lease, err) < 0 ||
        read_ms(map, "interval_ms", 1, 10, &interval, err) < 0 ||
        read_ms(map, "margin_ms", 1, 100, &margin, err) < 0 ||
        read_ms(map, "agent_ms", 1, 100, &agent, err) < 0 ||
        read_ms(map, "restart_ms", 1, 10, &restart, err) < 0)
        return -1;
    interval = interval ? interval : lease / 6;
    if (interval * 2 > lease)
        return err_invalid_value(err, "interval_ms", "a lease holds at least two intervals");
    *s = (struct ha_settings){.interval_ms = interval,
                              .lease_ms = lease,
                              .margin_ms = margin ? margin : lease / 3,
                              .agent_ms = agent ? agent : 2 * lease,
                              .restart_ms = restart ? restart : 5000};
    return 0;
}
