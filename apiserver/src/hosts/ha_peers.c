/* A thread a host: asks its agent for a sign of life, acknowledges the last one that arrived, and takes over
 * what it reads of the others' slots. */
#include "ha_internal.h"

#include "../handlers/alert.h"
#include "hosts.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BEAT_MIN_MS 2000
#define BEAT_MAX_MS 10000

/* With the lock held. */
static struct ha_peer *find_uuid(struct ha *ha, const char *uuid)
{
    for (size_t i = 0; i < ha->peer_count; i++)
        if (streq(ha->peers[i]->uuid, uuid))
            return ha->peers[i];
    return NULL;
}

static struct ha_peer *ha_peer_of(struct ha *ha, struct ref host)
{
    for (size_t i = 0; i < ha->peer_count; i++)
        if (ref_eq(ha->peers[i]->host, host))
            return ha->peers[i];
    return NULL;
}

/* With the lock held: what `by` has read in a slot, asked at `begun`. */
static void take_slot(struct ha_peer *peer, const struct ha_slot *slot, struct ref by, int64_t begun,
                      int64_t now)
{
    int64_t grace = peer->ha->settings.lease_ms + peer->ha->settings.margin_ms;
    if (begun < peer->since_ms)
        return;
    bool news = !peer->seen || slot->sequence != peer->sequence;
    peer->seen = true;
    peer->sequence = slot->sequence;
    peer->off = slot->state == HA_SLOT_STATE_OFF;
    peer->ended |= slot->state == HA_SLOT_STATE_FENCED;
    if (news && slot->state == HA_SLOT_STATE_ALIVE) {
        peer->last_sign_ms = now;
        peer->silent = false;
    } else if (begun > peer->last_sign_ms + grace && !peer->off) {
        peer->silent = true;
        peer->silent_by = by;
    }
}

/* The loss of the heartbeat disk is told once, with its end. */
static bool note_disk(struct ha_peer *peer, const char *error)
{
    bool lost = *error, news = lost != peer->disk_lost;
    peer->disk_lost = lost;
    return news && lost;
}

static void tell_lost(struct tx *tx, void *arg)
{
    const struct ha_peer *peer = arg;
    alert_add(tx, ALERT_HA_STATEFILE_LOST, CLS_HOST, peer->uuid,
              "The host does not reach the heartbeat disk");
}

static void take(struct ha_peer *peer, const struct hv_ha_beat_result *r, const struct str_set *hosts,
                 int64_t begun)
{
    struct ha *ha = peer->ha;
    pthread_mutex_lock(&ha->lock);
    int64_t now = clock_mono_ms();
    if (begun >= peer->since_ms) {
        peer->answers = true;
        peer->state = r->state;
        peer->ended |= r->state == HA_STATE_FENCED && r->gone;
        snprintf(peer->instance, sizeof(peer->instance), "%s", r->instance);
        bool sign = r->state == HA_STATE_ARMED && r->stamp > 0;
        peer->stamp = sign ? r->stamp : 0;
        if (sign) {
            peer->last_sign_ms = now;
            peer->silent = false;
        }
    }
    for (size_t i = 0; r->reads && i < r->slots_count && i < hosts->count; i++) {
        struct ha_peer *other = find_uuid(ha, hosts->items[i]);
        if (other && (other != peer || r->slots[i].state != HA_SLOT_STATE_FENCED))
            take_slot(other, &r->slots[i], peer->host, begun, now);
    }
    bool lost = note_disk(peer, r->error);
    pthread_mutex_unlock(&ha->lock);
    if (lost) {
        log_warn("ha", "a host does not reach the heartbeat disk", "host", peer->uuid, "cause", r->error);
        server_insist(ha->server, tell_lost, peer);
    }
}

/* What a host counts as: its slot order is that of all rows. */
static void beat(struct ha_peer *peer)
{
    struct ha *ha = peer->ha;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(ha->server->store);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ha_disk disk;
    struct hv_ha_beat_args args;
    struct hv_ha_beat_result result;
    struct hv_err cause;
    struct hv_host *agent = hosts_get(ha->server->hosts, peer->host, &err);
    if (!agent)
        return;
    hv_ha_beat_args_init(&args);
    pthread_mutex_lock(&ha->lock);
    int64_t timeout = 4 * ha->settings.interval_ms;
    str_assign(&args.instance, peer->instance);
    args.stamp = peer->stamp;
    int64_t begun = clock_mono_ms();
    pthread_mutex_unlock(&ha->lock);
    timeout = timeout < BEAT_MIN_MS ? BEAT_MIN_MS : timeout > BEAT_MAX_MS ? BEAT_MAX_MS : timeout;
    const struct hv_op op = {.timeout_ms = timeout};
    int rc = hv_ha_beat(agent, &op, &args, &result, &cause);
    hv_ha_beat_args_done(&args);
    hosts_put(ha->server->hosts, agent);
    if (rc == 0 && ha_disk_of(snap, ha->server, &disk) &&
        (result.state == HA_STATE_OFF || streq(result.generation, disk.disk))) {
        take(peer, &result, disk.hosts, begun);
    } else {
        pthread_mutex_lock(&ha->lock);
        peer->answers = false;
        pthread_mutex_unlock(&ha->lock);
    }
    if (rc == 0)
        hv_ha_beat_result_done(&result);
}

static void pause_peer(struct ha_peer *peer)
{
    struct ha *ha = peer->ha;
    pthread_mutex_lock(&ha->lock);
    int64_t until = clock_mono_ms() + ha->settings.interval_ms;
    struct timespec when = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
    while (!ha->stop && !atomic_load(&peer->stop) && clock_mono_ms() < until)
        pthread_cond_timedwait(&ha->changed, &ha->lock, &when);
    pthread_mutex_unlock(&ha->lock);
}

static void *run(void *arg)
{
    struct ha_peer *peer = arg;
    while (!ha_stopping(peer->ha) && !atomic_load(&peer->stop)) {
        beat(peer);
        pause_peer(peer);
    }
    return NULL;
}

/* ---- the set ---- */

static void begin(struct ha *ha, const struct host_row *host)
{
    struct ha_peer *peer = xcalloc(1, sizeof(*peer));
    peer->ha = ha;
    peer->host = host->row.ref;
    snprintf(peer->uuid, sizeof(peer->uuid), "%s", host->uuid);
    peer->since_ms = peer->last_sign_ms = clock_mono_ms();
    pthread_mutex_lock(&ha->lock);
    ha->peers = xreallocarray(ha->peers, ha->peer_count + 1, sizeof(struct ha_peer *));
    ha->peers[ha->peer_count++] = peer;
    pthread_mutex_unlock(&ha->lock);
    if (pthread_create(&peer->thread, NULL, run, peer) != 0)
        abort();
}

static void end(struct ha *ha, size_t index)
{
    struct ha_peer *peer = ha->peers[index];
    pthread_mutex_lock(&ha->lock);
    ha->peers[index] = ha->peers[--ha->peer_count];
    atomic_store(&peer->stop, true);
    pthread_cond_broadcast(&ha->changed);
    pthread_mutex_unlock(&ha->lock);
    pthread_join(peer->thread, NULL);
    ref_set_unref(peer->best_effort);
    free(peer);
}

void ha_peers_end(struct ha *ha)
{
    while (ha->peer_count)
        end(ha, 0);
}

static bool takes_part(const struct host_row *host)
{
    return host && host->ha_statefiles && host->ha_statefiles->count;
}

void ha_peers_follow(struct ha *ha, const struct snapshot *snap, const struct ha_disk *disk)
{
    for (size_t i = 0; i < ha->peer_count;)
        if (takes_part(host_row(snapshot_get(snap, CLASS_host, ha->peers[i]->host))))
            i++;
        else
            end(ha, i);
    for (size_t i = 0; i < disk->hosts->count; i++) {
        const struct host_row *host = host_row(snapshot_by_uuid(snap, CLASS_host, disk->hosts->items[i]));
        if (takes_part(host) && !ha_peer_of(ha, host->row.ref))
            begin(ha, host);
    }
}
