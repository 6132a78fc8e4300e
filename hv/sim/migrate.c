/* Simulated domains that go to other hosts, and disks that move: what a real device model does, with as
 * little as there is to send. A guest's memory is in the header that the agents exchange, so the stream of
 * the memory is one byte; a disk's is its content, answered by one byte when it is written. */
#include "sim.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE (1u << 20)

/* ---- going ---- */

int sim_describe(struct hv_driver_state *sim, const char *uuid, struct save_header *header,
                 struct hv_err *err)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    if (d) {
        int64_t up_at = d->up_at;
        bool running = d->info.state == DOMAIN_STATE_RUNNING;
        if (running)
            d->up_at -= clock_mono_ms(); /* as if it was held: what is left of the boot */
        sim_fill_header(d, header);
        d->up_at = up_at;
        header->config.start_paused = !running;
    }
    pthread_mutex_unlock(&sim->lock);
    return d ? 0 : -1;
}

static int lost(struct hv_err *err)
{
    return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The connection to the other host was lost.");
}

static int write_piece(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int send_disk(const struct hv_send *send, size_t i, const struct hv_deadline *deadline,
                     struct hv_err *err)
{
    int pair[2];
    if (send->chains[i].count == 0)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The disk %s has nothing to send.", send->mirror[i]);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "No socket for a disk: %s", strerror(errno));
    int ours AUTO_CLOSE = pair[0], file = send->chains[i].nodes[0].fd;
    if (send->carry(send->ctx, send->mirror[i], pair[1], err) < 0)
        return -1;
    char *piece AUTO_FREE = xmalloc(PIECE), size_text[24];
    off_t size = lseek(file, 0, SEEK_END);
    /* Its length first: an end of the stream may come too early. */
    snprintf(size_text, sizeof(size_text), "%020lld\n", (long long)size);
    if (write_piece(ours, size_text, 21) < 0)
        return lost(err);
    for (off_t at = 0; at < size;) {
        if (deadline->cancelled && atomic_load(deadline->cancelled))
            return hv_fail(err, HV_ERR_KIND_CANCELLED, "It was cancelled.");
        ssize_t n = pread(file, piece, PIECE, at);
        if (n <= 0)
            return hv_fail(err, HV_ERR_KIND_IO, "A disk cannot be read: %s",
                           n ? strerror(errno) : "it is shorter now");
        if (write_piece(ours, piece, (size_t)n) < 0)
            return lost(err);
        at += n;
    }
    char answer;
    return recv(ours, &answer, 1, 0) == 1 ? 0 : lost(err);
}

static int send_memory(const struct hv_send *send, struct hv_err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "No socket for the domain's memory: %s", strerror(errno));
    int ours AUTO_CLOSE = pair[0];
    char answer;
    if (send->carry(send->ctx, NULL, pair[1], err) < 0)
        return -1;
    if (write_piece(ours, "M", 1) < 0 || recv(ours, &answer, 1, 0) != 1)
        return lost(err);
    return 0;
}

static int transfer(struct hv_driver_state *sim, const char *uuid, const struct hv_send *send,
                    const struct hv_deadline *deadline, struct hv_err *err)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    int64_t ms = d ? sim_word(d, "sim.migrate_ms") : 0;
    bool fails = d && sim_word(d, "sim.migrate_fails") >= 0;
    pthread_mutex_unlock(&sim->lock);
    struct hv_save watch = {.progress = send->progress, .ctx = send->ctx};
    if (!d || sim_take_time(sim, uuid, ms, &watch, deadline, err) < 0)
        return -1;
    if (fails)
        return hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The domain could not be sent: its arguments say so.");
    sim_hold(sim, uuid, true);
    failpoint("migrate-source:stopped");
    for (size_t i = 0; i < send->mirror_count; i++)
        if (send_disk(send, i, deadline, err) < 0)
            return -1;
    failpoint("migrate-source:mirrored");
    return send_memory(send, err);
}

static int set_offer(struct hv_driver_state *sim, const char *uuid, const char *offer, struct hv_err *err)
{
    int outcome = -1;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    if (d) {
        str_unref(d->record.offer);
        d->record.offer = offer ? str_new(offer) : NULL;
        outcome = sim_write_down(d, err);
    }
    pthread_mutex_unlock(&sim->lock);
    return outcome;
}

struct moved {
    struct hv_driver_state *sim;
    const char *uuid, *to;
};

static void moved_on_loop(void *arg)
{
    const struct moved *m = arg;
    pthread_mutex_lock(&m->sim->lock);
    struct sim_domain *d = sim_find_live(m->sim, m->uuid, NULL);
    if (d) {
        str_assign(&d->info.moved_to, m->to);
        sim_end(d, END_REASON_MIGRATED, "Another host has taken it over.");
    }
    pthread_mutex_unlock(&m->sim->lock);
}

int sim_settle(struct hv_driver_state *sim, const char *uuid, const char *to, bool taken, struct hv_err *err)
{
    if (taken) {
        struct moved m = {sim, uuid, to};
        loop_call(sim->loop, moved_on_loop, &m);
        return 0;
    }
    if (set_offer(sim, uuid, NULL, err) < 0)
        return -1;
    sim_hold(sim, uuid, false);
    return 0;
}

const char *sim_offered(struct hv_driver_state *sim, const char *uuid)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_live(sim, uuid, NULL);
    const char *offer = d && d->record.offer ? str_ref(d->record.offer) : NULL;
    pthread_mutex_unlock(&sim->lock);
    return offer;
}

int sim_send(struct hv_driver_state *sim, const char *uuid, const char *to, const struct hv_send *send,
             const struct hv_deadline *deadline, enum hv_offer *offer, struct hv_sent *sent,
             struct hv_err *err)
{
    *offer = HV_OFFER_REFUSED;
    if (transfer(sim, uuid, send, deadline, err) < 0 || set_offer(sim, uuid, send->peer, err) < 0) {
        sim_hold(sim, uuid, false);
        return -1;
    }
    int64_t begin = clock_mono_us();
    *offer = send->hand_over(send->ctx, err);
    struct hv_err why;
    if (*offer == HV_OFFER_UNKNOWN)
        return -1;
    if (sim_settle(sim, uuid, to, *offer == HV_OFFER_TAKEN, &why) < 0)
        log_error("sim", "a domain that was offered cannot be settled", "domain", uuid, "error", why.text);
    sent->stopped_us = clock_mono_us() - begin;
    return *offer == HV_OFFER_TAKEN ? 0 : -1;
}

/* ---- coming ---- */

/* With the lock held. */
static struct sim_domain *find_coming(struct hv_driver_state *sim, const char *uuid, struct hv_err *err)
{
    for (struct sim_domain *d = sim->domains; d; d = d->next)
        if (streq(d->info.uuid, uuid) && d->starting && d->coming)
            return d;
    hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain does not come here.");
    return NULL;
}

int sim_receive(struct hv_driver_state *sim, const struct domain_config *config,
                const struct save_header *header, const char *const *mirror, size_t mirror_count,
                struct disk_chain *chains, const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)mirror, (void)mirror_count, (void)deadline;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_make(sim, config, true, err);
    if (d) {
        d->starting = true;
        d->coming = xcalloc(config->disks_count + 1, sizeof(*d->coming));
        memcpy(d->coming, chains, config->disks_count * sizeof(*chains));
        sim_restore(d, header);
        if (sim_word(d, "sim.receive_fails") >= 0 || sim_write_down(d, err) < 0) {
            hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The domain cannot come here: its arguments say so.");
            d = NULL;
        }
    } else {
        for (size_t i = 0; i < config->disks_count; i++)
            disk_chain_done(&chains[i]);
    }
    pthread_mutex_unlock(&sim->lock);
    if (!d)
        sim_receive_drop(sim, config->uuid);
    return d ? 0 : -1;
}

struct filling {
    int from, to;
};

static int read_exactly(int fd, char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = recv(fd, data, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static void *fill_thread(void *arg)
{
    struct filling *f = arg;
    char *piece AUTO_FREE = xmalloc(PIECE), size_text[22] = "";
    bool whole = read_exactly(f->from, size_text, 21) == 0;
    int64_t size = whole ? strtoll(size_text, NULL, 10) : 0;
    for (int64_t at = 0; whole && at < size;) {
        size_t len = size - at < PIECE ? (size_t)(size - at) : PIECE;
        whole = read_exactly(f->from, piece, len) == 0 && file_write_at(f->to, piece, len, at) == 0;
        at += (int64_t)len;
    }
    if (whole)
        write_piece(f->from, "D", 1);
    close(f->from);
    close(f->to);
    free(f);
    return NULL;
}

int sim_receive_disk(struct hv_driver_state *sim, const char *uuid, const char *device, int *fd,
                     struct hv_err *err)
{
    int pair[2], file = -1;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = find_coming(sim, uuid, err);
    for (size_t i = 0; d && i < d->record.config.disks_count; i++)
        if (streq(d->record.config.disks[i].device, device) && d->coming[i].count > 0)
            file = dup(d->coming[i].nodes[0].fd);
    pthread_mutex_unlock(&sim->lock);
    if (file < 0)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The disk %s is not expected here.", device);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        close(file);
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "No socket for a disk: %s", strerror(errno));
    }
    struct filling *f = xcalloc(1, sizeof(*f));
    *f = (struct filling){.from = pair[1], .to = file};
    pthread_t thread;
    if (pthread_create(&thread, NULL, fill_thread, f) != 0) {
        close(pair[0]);
        close(pair[1]);
        close(file);
        free(f);
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "No thread for a disk.");
    }
    pthread_detach(thread);
    *fd = pair[0];
    return 0;
}

int sim_receive_memory(struct hv_driver_state *sim, const char *uuid, int fd,
                       const struct hv_deadline *deadline, struct hv_err *err)
{
    char byte;
    (void)deadline;
    pthread_mutex_lock(&sim->lock);
    bool there = find_coming(sim, uuid, err) != NULL;
    pthread_mutex_unlock(&sim->lock);
    if (!there)
        return -1;
    return read_exactly(fd, &byte, 1) == 0 && write_piece(fd, "D", 1) == 0 ? 0 : lost(err);
}

int sim_receive_run(struct hv_driver_state *sim, const char *uuid, void (*runs)(void *ctx), void *ctx,
                    struct domain_info *info, struct hv_err *err)
{
    int outcome = -1;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = find_coming(sim, uuid, err);
    if (d) {
        for (size_t i = 0; i < d->record.config.disks_count; i++)
            disk_chain_done(&d->coming[i]);
        d->record.incoming = false;
        outcome = sim_write_down(d, err);
    }
    if (outcome == 0) {
        free(TAKE_PTR(d->coming));
        d->starting = false;
        domain_info_copy(info, &d->info);
    }
    pthread_mutex_unlock(&sim->lock);
    failpoint("migrate-destination:ours");
    if (outcome < 0) {
        sim_receive_drop(sim, uuid);
        return -1;
    }
    sim_go_on(sim, uuid);
    runs(ctx);
    if (sim->env.changed)
        sim->env.changed(sim->env.ctx, info, false);
    return 0;
}

void sim_receive_drop(struct hv_driver_state *sim, const char *uuid)
{
    pthread_mutex_lock(&sim->lock);
    bool there = find_coming(sim, uuid, NULL) != NULL;
    pthread_mutex_unlock(&sim->lock);
    if (there)
        sim_destroy(sim, uuid, NULL, NULL);
}

/* ---- disks that move on this host ---- */

static int copy(int from, int to, void (*progress)(void *ctx, double fraction), void *ctx,
                const struct hv_deadline *deadline, struct hv_err *err)
{
    char *piece AUTO_FREE = xmalloc(PIECE);
    off_t size = lseek(from, 0, SEEK_END);
    for (off_t at = 0; at < size;) {
        if (deadline->cancelled && atomic_load(deadline->cancelled))
            return hv_fail(err, HV_ERR_KIND_CANCELLED, "It was cancelled.");
        ssize_t n = pread(from, piece, PIECE, at);
        if (n <= 0 || file_write_at(to, piece, (size_t)n, at) < 0)
            return hv_fail(err, HV_ERR_KIND_IO, "The disk cannot be copied: %s", strerror(errno));
        at += n;
        progress(ctx, (double)at / (double)size);
    }
    return 0;
}

int sim_disk_move(struct hv_driver_state *sim, const char *uuid, const struct domain_disk *now,
                  struct disk_chain *chain, const struct disk_chain *from,
                  void (*progress)(void *ctx, double fraction), void *ctx, const struct hv_deadline *deadline,
                  struct hv_err *err)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    int64_t ms = d ? sim_word(d, "sim.migrate_ms") : 0;
    bool fails = d && sim_word(d, "sim.migrate_fails") >= 0;
    pthread_mutex_unlock(&sim->lock);
    struct hv_save watch = {.progress = progress, .ctx = ctx};
    int outcome = d ? sim_take_time(sim, uuid, ms, &watch, deadline, err) : -1;
    if (outcome == 0 && fails)
        outcome = hv_fail(err, HV_ERR_KIND_IO, "The disk could not be moved: its guest's arguments say so.");
    if (outcome == 0)
        outcome = copy(from->nodes[0].fd, chain->nodes[0].fd, progress, ctx, deadline, err);
    disk_chain_done(chain);
    failpoint("disk-move:alike");
    pthread_mutex_lock(&sim->lock);
    d = outcome == 0 ? sim_find_active(sim, uuid, err) : NULL;
    for (size_t i = 0; d && i < d->record.config.disks_count; i++) {
        struct domain_disk *disk = &d->record.config.disks[i];
        if (!streq(disk->device, now->device))
            continue;
        str_assign(&disk->sr, now->sr);
        str_assign(&disk->disk, now->disk);
    }
    outcome = d ? sim_write_down(d, err) : -1;
    pthread_mutex_unlock(&sim->lock);
    failpoint("disk-move:moved");
    return outcome;
}
