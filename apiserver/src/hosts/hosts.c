/* One entry a host: the connection that handlers share, and a thread that waits for the agent's events.
 *
 * The thread is driven by levels, not edges: whatever the event, it lists the host's domains and puts the
 * rows right (reconcile.c), so a lost or repeated event does no harm. */
#include "hosts.h"

#include "../certificates.h"
#include "../front.h"
#include "../gate/task.h"
#include "../handlers/storage.h"
#include "../members/members.h"
#include "../server.h"
#include "balance.h"
#include "devices.h"
#include "facts.h"
#include "guests.h"
#include "ha.h"
#include "interfaces.h"
#include "reconcile.h"
#include "recover.h"
#include "system.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <ctype.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define WAIT_MS 10000       /* of one long poll; also the period of looking without an event */
#define INTERFACES_MS 10000 /* how old what is known of cables may be */
#define LEFTOVERS_MS 10000  /* how long after one try to remove disks that nobody wants comes the next */
#define PROBE_MS 3000
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 5000
#define TELL_FIRST_MS 5000 /* an agent may be silent for so long without anybody being told */
#define TELL_MIN_MS 10000  /* from the first line about an agent's silence to the second */
#define TELL_MAX_MS 3600000
#define DEAD_AFTER_MS 15000 /* without an answer: the host is not live */
#define LEAVING_MS 15000    /* so long a machine may take to end after it was asked to */
#define RECHECK_MS 300      /* when a domain's row was busy with an operation */
#define CONNECTS_MAX 64     /* hosts that are looked at for the first time at once: each has its deadlines */

struct host_entry {
    struct hosts *hosts;
    struct ref ref;
    char uuid[UUID_TEXT_SIZE];
    struct hv_host *agent; /* guarded by hosts->lock */
    pthread_t thread;
    bool settled; /* asked once, with or without an answer; guarded by hosts->lock */
    bool live;    /* its row may say so */
    int64_t last_answer_ms;
    int64_t agent_start_time;      /* what it said last; 0: nothing yet */
    int64_t interfaces_ms;         /* when its interfaces were looked at */
    int64_t leftovers_ms;          /* when disks that nobody wants were last swept */
    bool facts_are_new;            /* the agent said so */
    _Atomic int64_t leaving_until; /* clock_mono_ms: its machine was asked to end; 0: it was not */
    struct reconcile reconcile;
    char boot_begun[64];            /* the boot whose VMs this process has begun to bring up */
    int64_t silent_since_ms;        /* 0: it answers */
    int64_t tell_ms, tell_pause_ms; /* when its silence is told of again */
};

struct hosts {
    struct server *server;
    char *ca_file, *cert_file, *key_file;
    pthread_mutex_t refresh; /* one adds hosts at a time; taken before lock */
    pthread_mutex_t lock;    /* guards what follows */
    pthread_cond_t changed, turn;
    struct host_entry **entries; /* by ref */
    size_t count;
    size_t lent;              /* agents that callers have of hosts_get */
    unsigned connecting;      /* at most CONNECTS_MAX */
    struct hv_host **retired; /* connections to former addresses, and stand-ins; closed with the rest */
    size_t retired_count;
    bool stop;
    struct hosts *real; /* these are stand-ins for them; NULL: they are real themselves */
    void (*asked)(void *arg, const char *host_uuid);
    void *asked_arg;
};

static bool stopping(struct hosts *h)
{
    pthread_mutex_lock(&h->lock);
    bool stop = h->stop;
    pthread_mutex_unlock(&h->lock);
    return stop;
}

/* Sleeps that long, or until the end is near. */
static void pause_for(struct hosts *h, int64_t ms)
{
    struct timespec when;
    int64_t until = clock_mono_ms() + ms;
    when.tv_sec = until / 1000;
    when.tv_nsec = until % 1000 * 1000000;
    pthread_mutex_lock(&h->lock);
    while (!h->stop && clock_mono_ms() < until)
        pthread_cond_timedwait(&h->changed, &h->lock, &when);
    pthread_mutex_unlock(&h->lock);
}

/* It changes with the host's address. */
static struct hv_host *agent_of(struct host_entry *e)
{
    pthread_mutex_lock(&e->hosts->lock);
    struct hv_host *agent = e->agent;
    pthread_mutex_unlock(&e->hosts->lock);
    return agent;
}

static void settled(struct host_entry *e)
{
    pthread_mutex_lock(&e->hosts->lock);
    e->settled = true;
    pthread_cond_broadcast(&e->hosts->changed);
    pthread_mutex_unlock(&e->hosts->lock);
}

/* Its own certificate, and the server's when it is the coordinator. `shown` NULL: not known. */
static void note_certificates(struct tx *tx, struct server *server, struct ref host,
                              const struct host_facts *facts, const char *shown)
{
    const struct pool_row *pool = pool_row(tx_get(tx, CLASS_pool, server->pool_ref));
    if (*facts->certificate)
        certificates_of_host(tx, host, CERTIFICATE_TYPE_HOST_INTERNAL, facts->certificate);
    if (shown && pool && ref_eq(pool->master, host))
        certificates_of_host(tx, host, CERTIFICATE_TYPE_HOST, shown);
}

static void record_live(struct host_entry *e, bool live, const struct host_facts *facts)
{
    struct server *server = e->hosts->server;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_FREE char *shown = facts ? front_certificate(server, &err) : NULL;
    struct tx *tx = store_begin(server->store);
    if (!tx_get(tx, CLASS_host, e->ref)) {
        tx_abort(tx);
        return;
    }
    if (facts) {
        host_rows_update(tx, e->ref, facts);
        note_certificates(tx, server, e->ref, facts, shown);
    }
    host_rows_live(tx, e->ref, live, facts ? facts->memory_free_bytes : 0);
    if (server_commit(tx, &err) < 0)
        log_warn("hosts", "the state of a host could not be recorded", "host", e->uuid);
    e->live = live;
}

static const char *label_of(const struct host_entry *e, const struct snapshot *snap)
{
    const struct host_row *row = host_row(snapshot_get(snap, CLASS_host, e->ref));
    return row ? row->name_label : "";
}

/* The silence of an agent is told of when it is more than a start of the daemons takes, then ever more
 * rarely: a host may be away for days. That certificates are refused is told of at once: waiting changes
 * nothing. */
static void tell_silence(struct host_entry *e, const struct hv_err *cause)
{
    int64_t now = clock_mono_ms();
    bool first = e->tell_ms == 0;
    if (!e->silent_since_ms)
        e->silent_since_ms = now;
    if (first ? cause->kind != HV_ERR_KIND_DENIED && now - e->silent_since_ms < TELL_FIRST_MS
              : now < e->tell_ms)
        return;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(e->hosts->server->store);
    e->tell_pause_ms = first ? TELL_MIN_MS : 2 * e->tell_pause_ms;
    if (e->tell_pause_ms > TELL_MAX_MS)
        e->tell_pause_ms = TELL_MAX_MS;
    e->tell_ms = now + e->tell_pause_ms;
    log_warn(
        "hosts",
        first ? "the agent of a host does not answer; guests there may go on: look at hostd on that machine"
              : "the agent of a host still does not answer",
        "host", e->uuid, "name", label_of(e, snap), "seconds", LOG_INT((now - e->silent_since_ms) / 1000),
        "cause", cause->text);
}

static void tell_answer(struct host_entry *e, const struct host_facts *facts)
{
    int64_t silent_ms = e->silent_since_ms ? clock_mono_ms() - e->silent_since_ms : 0;
    e->silent_since_ms = e->tell_ms = 0;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(e->hosts->server->store);
    log_info("hosts", "the agent answers", "host", e->uuid, "name", label_of(e, snap), "accelerator",
             accelerator_name(facts->accelerator), silent_ms ? "silent_seconds" : NULL,
             LOG_INT(silent_ms / 1000));
}

/* The machine was asked to end, and this is still the agent of before: what it says is soon over. After a
 * while the machine has evidently not done what it was asked. */
static bool leaving(struct host_entry *e, const struct host_facts *facts)
{
    int64_t until = atomic_load(&e->leaving_until);
    bool same = facts->agent_start_time == e->agent_start_time;
    e->agent_start_time = facts->agent_start_time;
    if (until && same && clock_mono_ms() < until)
        return true;
    atomic_store(&e->leaving_until, 0);
    return false;
}

/* The agent answers again: what it is, its storage, its domains. False: it stopped answering meanwhile. */
static bool connected(struct host_entry *e)
{
    struct hv_host_facts_args args;
    struct hv_host_facts_result result;
    struct hv_err err;
    struct hv_op op = {.timeout_ms = 5000};
    hv_host_facts_args_init(&args);
    if (hv_host_facts(agent_of(e), &op, &args, &result, &err) < 0) {
        tell_silence(e, &err);
        if (err.kind == HV_ERR_KIND_SUPERSEDED)
            members_step_down(e->hosts->server);
        return false;
    }
    tell_answer(e, &result.facts);
    bool ok = recovery_look(e->hosts->server, e->ref, agent_of(e)) >= 0;
    ha_host_connected(e->hosts->server, e->ref, agent_of(e));
    storage_host_connected(e->hosts->server, e->ref, agent_of(e));
    ok = ok && reconcile_host(e->hosts->server, e->ref, agent_of(e), &e->reconcile) >= 0;
    interfaces_connected(e->hosts->server, e->ref, agent_of(e));
    system_connected(e->hosts->server, e->ref, agent_of(e), &result.facts.system);
    devices_connected(e->hosts->server, e->ref, agent_of(e));
    e->interfaces_ms = e->leftovers_ms = clock_mono_ms();
    bool stays = !leaving(e, &result.facts);
    record_live(e, stays, &result.facts);
    if (ok && stays)
        guests_host_connected(e->hosts->server, e->ref, result.facts.boot_id, e->boot_begun);
    hv_host_facts_result_done(&result);
    if (ok)
        recovery_finish(e->hosts->server, e->ref);
    return ok;
}

/* Waits for the next event. 1: something happened or the time is over; 0: the agent does not answer. */
static int wait_event(struct host_entry *e, const char **cursor, int64_t wait_ms)
{
    struct hv_events_wait_args args;
    struct hv_events_wait_result result;
    struct hv_err err;
    struct hv_op op = {.timeout_ms = wait_ms + 5000};
    hv_events_wait_args_init(&args);
    str_assign(&args.cursor, *cursor);
    args.wait_ms = wait_ms;
    int rc = hv_events_wait(agent_of(e), &op, &args, &result, &err);
    hv_events_wait_args_done(&args);
    if (rc < 0) {
        if (!stopping(e->hosts))
            tell_silence(e, &err);
        if (err.kind == HV_ERR_KIND_SUPERSEDED)
            members_step_down(e->hosts->server);
        return 0;
    }
    str_assign(cursor, result.cursor);
    bool lost = result.lost;
    for (size_t i = 0; i < result.events_count; i++)
        if (result.events[i].kind == EVENT_KIND_HOST_CHANGED)
            e->facts_are_new = true;
    hv_events_wait_result_done(&result);
    /* Another agent than before, perhaps on a machine that was booted meanwhile: all is looked at anew. */
    if (lost)
        log_info("hosts", "the agent was started anew", "host", e->uuid);
    return !lost;
}

/* What is true on the host, into the rows. How much has to be looked at again soon; -1: no answer. */
static int look(struct host_entry *e)
{
    struct server *server = e->hosts->server;
    int running = recovery_look(server, e->ref, agent_of(e));
    if (running < 0)
        return -1;
    int busy = reconcile_host(server, e->ref, agent_of(e), &e->reconcile);
    if (busy >= 0)
        balance_host(server, e->ref, agent_of(e));
    return busy < 0 ? -1 : running + busy + recovery_finish(server, e->ref);
}

/* Cables are told by nobody: they are looked at now and then. */
static void look_at_interfaces(struct host_entry *e)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (clock_mono_ms() - e->interfaces_ms < INTERFACES_MS)
        return;
    e->interfaces_ms = clock_mono_ms();
    if (interfaces_look(e->hosts->server, e->ref, agent_of(e), false, &err) < 0)
        log_debug("hosts", "the interfaces of a host were not looked at", "host", e->uuid);
}

/* What could not be removed at its time: nobody tells that it can be now. */
static void look_at_leftovers(struct host_entry *e)
{
    if (clock_mono_ms() - e->leftovers_ms < LEFTOVERS_MS)
        return;
    storage_sweep_host(e->hosts->server, e->ref);
    e->leftovers_ms = clock_mono_ms();
}

/* What the agent has changed by itself. */
static void look_at_facts(struct host_entry *e)
{
    struct hv_host_facts_args args;
    struct hv_host_facts_result result;
    struct hv_err err;
    struct hv_op op = {.timeout_ms = 5000};
    if (!e->facts_are_new)
        return;
    hv_host_facts_args_init(&args);
    if (hv_host_facts(agent_of(e), &op, &args, &result, &err) < 0) {
        log_warn("hosts", "what is new of a host is not known yet", "host", e->uuid, "cause", err.text);
        return;
    }
    e->facts_are_new = false;
    record_live(e, true, &result.facts);
    hv_host_facts_result_done(&result);
}

/* Follows one connection until it breaks. */
static void follow(struct host_entry *e)
{
    AUTO_STR const char *cursor = str_new("");
    int64_t wait_ms = 0; /* the first answer gives the cursor; what happened before is found by reconciling */
    while (!stopping(e->hosts)) {
        if (!wait_event(e, &cursor, wait_ms))
            return;
        e->last_answer_ms = clock_mono_ms();
        int busy = look(e);
        if (busy < 0 || atomic_load(&e->leaving_until))
            return;
        look_at_facts(e);
        look_at_interfaces(e);
        look_at_leftovers(e);
        wait_ms = busy > 0 ? RECHECK_MS : WAIT_MS;
    }
}

/* Its row may have gone: then nobody is there to be looked at. */
static bool exists(const struct host_entry *e)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(e->hosts->server->store);
    return snapshot_get(snap, CLASS_host, e->ref) != NULL;
}

/* When thousands of hosts are to be connected to, they take turns: all at once, none would be done in time,
 * and all would try again. */
static bool connect_in_turn(struct host_entry *e)
{
    struct hosts *h = e->hosts;
    pthread_mutex_lock(&h->lock);
    while (!h->stop && h->connecting >= CONNECTS_MAX)
        pthread_cond_wait(&h->turn, &h->lock);
    h->connecting++;
    bool stop = h->stop;
    pthread_mutex_unlock(&h->lock);
    bool ok = !stop && connected(e);
    pthread_mutex_lock(&h->lock);
    h->connecting--;
    pthread_cond_signal(&h->turn);
    pthread_mutex_unlock(&h->lock);
    return ok;
}

/* After it was asked once more, and did not answer: the silence alone may be this process's, which stood
 * still. */
static void note_down(struct host_entry *e)
{
    int64_t silent_ms = clock_mono_ms() - e->last_answer_ms;
    if (!e->live || silent_ms <= DEAD_AFTER_MS)
        return;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(e->hosts->server->store);
    log_warn("hosts", "a host counts as down from now on", "host", e->uuid, "name", label_of(e, snap),
             "unanswered_seconds", LOG_INT(silent_ms / 1000));
    record_live(e, false, NULL);
}

static void *host_run(void *arg)
{
    struct host_entry *e = arg;
    int64_t retry_ms = RETRY_MIN_MS;
    while (!stopping(e->hosts) && exists(e)) {
        bool ok = connect_in_turn(e);
        settled(e);
        if (ok) {
            retry_ms = RETRY_MIN_MS;
            e->last_answer_ms = clock_mono_ms();
            follow(e);
        } else {
            recovery_unreachable(e->hosts->server, e->ref);
            note_down(e);
        }
        pause_for(e->hosts, retry_ms);
        retry_ms = 2 * retry_ms < RETRY_MAX_MS ? 2 * retry_ms : RETRY_MAX_MS;
    }
    return NULL;
}

/* ---- the set of hosts ---- */

/* Where the host's entry is or would be. */
static size_t place_locked(const struct hosts *h, struct ref ref)
{
    size_t first = 0, last = h->count;
    while (first < last) {
        size_t middle = (first + last) / 2;
        if (ref_cmp(h->entries[middle]->ref, ref) < 0)
            first = middle + 1;
        else
            last = middle;
    }
    return first;
}

static struct host_entry *find_locked(const struct hosts *h, struct ref ref)
{
    size_t at = place_locked(h, ref);
    return at < h->count && ref_eq(h->entries[at]->ref, ref) ? h->entries[at] : NULL;
}

static struct hv_host_address address_of(const struct hosts *h, const struct host_row *row,
                                         const char *address)
{
    return (struct hv_host_address){.host_uuid = row->uuid,
                                    .address = address,
                                    .port = (int)row->agent_port,
                                    .ca_file = h->ca_file,
                                    .cert_file = h->cert_file,
                                    .key_file = h->key_file,
                                    .term = members_term(h->server)};
}

static void add_host(struct hosts *h, const struct host_row *row)
{
    struct host_entry *e = xcalloc(1, sizeof(*e));
    struct hv_err err;
    const struct hv_host_address address = address_of(h, row, row->address);
    e->hosts = h;
    e->ref = row->row.ref;
    snprintf(e->uuid, sizeof(e->uuid), "%s", row->uuid);
    e->live = true; /* as a server before may have written: it has as long as any to answer */
    e->last_answer_ms = clock_mono_ms();
    if (hv_host_open(&address, &e->agent, &err) < 0) {
        log_error("hosts", "a host cannot be connected to", "host", row->uuid, "cause", err.text);
        free(e);
        return;
    }
    pthread_mutex_lock(&h->lock);
    size_t at = place_locked(h, e->ref);
    h->entries = xreallocarray(h->entries, h->count + 1, sizeof(*h->entries));
    memmove(h->entries + at + 1, h->entries + at, (h->count++ - at) * sizeof(*h->entries));
    h->entries[at] = e;
    pthread_mutex_unlock(&h->lock);
    if (pthread_create(&e->thread, NULL, host_run, e) != 0)
        abort();
}

static bool add_if_new(const struct row *row, void *arg)
{
    struct hosts *h = arg;
    pthread_mutex_lock(&h->lock);
    bool known = find_locked(h, row->ref) != NULL;
    pthread_mutex_unlock(&h->lock);
    if (!known && host_row(row)->agent_port)
        add_host(h, host_row(row));
    return true;
}

void hosts_refresh(struct hosts *h)
{
    pthread_mutex_lock(&h->refresh);
    if (!stopping(h)) {
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(h->server->store);
        snapshot_each(snap, CLASS_host, add_if_new, h);
    }
    pthread_mutex_unlock(&h->refresh);
}

static void wait_settled(struct hosts *h, int64_t deadline_ms)
{
    struct timespec when = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < h->count && clock_mono_ms() < deadline_ms;) {
        if (h->entries[i]->settled)
            i++;
        else
            pthread_cond_timedwait(&h->changed, &h->lock, &when);
    }
    pthread_mutex_unlock(&h->lock);
}

static struct hosts *hosts_alloc(struct server *server)
{
    struct hosts *h = xcalloc(1, sizeof(*h));
    h->server = server;
    pthread_mutex_init(&h->refresh, NULL);
    pthread_mutex_init(&h->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&h->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_cond_init(&h->turn, NULL);
    return h;
}

struct hosts *hosts_new(struct server *server, int settle_ms)
{
    struct hosts *h = hosts_alloc(server);
    h->ca_file = xasprintf("%s/pki/ca.pem", server->state_dir);
    h->cert_file = xasprintf("%s/pki/poold.pem", server->state_dir);
    h->key_file = xasprintf("%s/pki/poold.key", server->state_dir);
    server->hosts = h; /* the threads of hosts undo what was interrupted: they look for agents themselves */
    hosts_refresh(h);
    wait_settled(h, clock_mono_ms() + settle_ms);
    return h;
}

void hosts_stop(struct hosts *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->refresh); /* no host is added any more */
    pthread_mutex_lock(&h->lock);
    h->stop = true;
    pthread_cond_broadcast(&h->changed);
    pthread_cond_broadcast(&h->turn);
    pthread_mutex_unlock(&h->lock);
    pthread_mutex_unlock(&h->refresh);
    for (size_t i = 0; i < h->count; i++)
        hv_host_interrupt(h->entries[i]->agent);
    for (size_t i = 0; i < h->retired_count; i++)
        hv_host_interrupt(h->retired[i]);
    for (size_t i = 0; i < h->count; i++)
        pthread_join(h->entries[i]->thread, NULL);
}

void hosts_free(struct hosts *h)
{
    if (!h)
        return;
    if (h->lent)
        log_error("hosts", "the connection to an agent was not given back", "of", "hosts_get");
    for (size_t i = 0; i < h->count; i++) {
        hv_host_close(h->entries[i]->agent);
        reconcile_done(&h->entries[i]->reconcile);
        free(h->entries[i]);
    }
    free(h->entries);
    for (size_t i = 0; i < h->retired_count; i++)
        hv_host_close(h->retired[i]);
    free(h->retired);
    pthread_cond_destroy(&h->changed);
    pthread_cond_destroy(&h->turn);
    pthread_mutex_destroy(&h->lock);
    pthread_mutex_destroy(&h->refresh);
    free(h->ca_file);
    free(h->cert_file);
    free(h->key_file);
    free(h);
}

struct hosts *hosts_stand_in(struct hosts *real, void (*asked)(void *arg, const char *host_uuid), void *arg)
{
    struct hosts *h = hosts_alloc(real->server);
    h->real = real;
    h->asked = asked;
    h->asked_arg = arg;
    return h;
}

/* Closed with the rest. With h->lock held. */
static void retire(struct hosts *h, struct hv_host *agent)
{
    h->retired = xreallocarray(h->retired, h->retired_count + 1, sizeof(*h->retired));
    h->retired[h->retired_count++] = agent;
}

static struct hv_host *stand_in(struct hosts *h, struct ref host, struct api_err *err)
{
    struct hv_host *agent = hosts_get(h->real, host, err);
    if (!agent)
        return NULL;
    struct hv_host *instead = hv_host_stand_in(hv_host_uuid(agent), h->asked, h->asked_arg);
    hosts_put(h->real, agent);
    pthread_mutex_lock(&h->lock);
    retire(h, instead);
    h->lent++;
    pthread_mutex_unlock(&h->lock);
    return instead;
}

struct hv_host *hosts_get(struct hosts *h, struct ref host, struct api_err *err)
{
    if (h->real)
        return stand_in(h, host, err);
    pthread_mutex_lock(&h->lock);
    struct host_entry *e = find_locked(h, host);
    struct hv_host *agent = e ? e->agent : NULL;
    h->lent += agent != NULL;
    pthread_mutex_unlock(&h->lock);
    if (!agent)
        fail_handle(err, CLASS_host, host);
    return agent;
}

/* As base/secret.h writes it. */
static void plain_sha256(const char *text, char out[static SHA256_TEXT_SIZE])
{
    size_t len = 0;
    for (; *text && len < SHA256_TEXT_SIZE - 1; text++)
        if (*text != ':')
            out[len++] = (char)tolower((unsigned char)*text);
    out[len] = '\0';
}

struct hv_host *hosts_get_pinned(struct hosts *h, struct ref ref, const char *sha256, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(h->server->store);
    const struct host_row *row = host_row(snapshot_get(snap, CLASS_host, ref));
    char leaf[SHA256_TEXT_SIZE];
    struct hv_host *agent;
    struct hv_err cause;
    if (h->real)
        return stand_in(h, ref, err);
    if (!row) {
        fail_handle(err, CLASS_host, ref);
        return NULL;
    }
    plain_sha256(sha256, leaf);
    struct hv_host_address to = address_of(h, row, row->address);
    to.leaf_sha256 = leaf;
    if (hv_host_open(&to, &agent, &cause) < 0) {
        hosts_fail(err, ref, &cause);
        return NULL;
    }
    pthread_mutex_lock(&h->lock);
    retire(h, agent);
    h->lent++;
    pthread_mutex_unlock(&h->lock);
    return agent;
}

void hosts_leaving(struct hosts *h, struct ref host)
{
    pthread_mutex_lock(&h->lock);
    struct host_entry *e = find_locked(h, host);
    if (e)
        atomic_store(&e->leaving_until, clock_mono_ms() + LEAVING_MS);
    pthread_mutex_unlock(&h->lock);
}

void hosts_put(struct hosts *h, struct hv_host *agent)
{
    if (!agent)
        return;
    pthread_mutex_lock(&h->lock);
    h->lent--;
    pthread_mutex_unlock(&h->lock);
}

/* The agent is there, and it is the one with that certificate. */
static int answers(struct hv_host *agent, struct ref host, struct api_err *err)
{
    struct hv_host_facts_args args;
    struct hv_host_facts_result result;
    struct hv_err cause;
    const struct hv_op op = {.timeout_ms = PROBE_MS};
    hv_host_facts_args_init(&args);
    if (hv_host_facts(agent, &op, &args, &result, &cause) < 0) {
        log_info("hosts", "an agent does not answer at another address", "host", REF_TEXT(host), "cause",
                 cause.text);
        return hosts_fail(err, host, &cause);
    }
    hv_host_facts_result_done(&result);
    return 0;
}

int hosts_readdress(struct hosts *h, struct ref ref, const char *address, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(h->server->store);
    const struct host_row *row = host_row(snapshot_get(snap, CLASS_host, ref));
    struct hv_err cause;
    struct hv_host *agent;
    if (!row)
        return fail_handle(err, CLASS_host, ref);
    if (h->real) {
        h->asked(h->asked_arg, row->uuid);
        return err_host_offline(err, REF_TEXT(ref));
    }
    const struct hv_host_address to = address_of(h, row, address);
    if (hv_host_open(&to, &agent, &cause) < 0)
        return hosts_fail(err, ref, &cause);
    if (answers(agent, ref, err) < 0) {
        hv_host_close(agent);
        return -1;
    }
    pthread_mutex_lock(&h->lock);
    struct host_entry *e = find_locked(h, ref);
    struct hv_host *former = e ? e->agent : agent;
    if (e)
        e->agent = agent;
    retire(h, former); /* calls may still run over it */
    pthread_mutex_unlock(&h->lock);
    return e ? 0 : fail_handle(err, CLASS_host, ref);
}

/* ---- calls ---- */

static void report_progress(void *ctx, double fraction)
{
    struct hosts_op *op = ctx;
    if (!ref_is_null(op->call->task))
        task_progress(op->call->server, op->call->task,
                      op->progress_from + fraction * (op->progress_to - op->progress_from));
}

/* What the agent is asked to do is on disk before it is asked: after a crash the next server asks for it. */
static int note_begin(void *ctx, struct hv_host *agent, const char *name, const char *key)
{
    struct hosts_op *op = ctx;
    struct server *server = op->call->server;
    if (ref_is_null(op->call->task))
        return 0;
    struct tx *tx = store_begin(server->store);
    const struct row *host = tx_by_uuid(tx, CLASS_host, hv_host_uuid(agent));
    task_note_agent(tx, op->call->task, host ? host->ref : REF_NULL, op->op.id, name, key);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    return server_commit(tx, &err);
}

void hosts_op_init(struct hosts_op *op, struct call *call, int64_t timeout_ms)
{
    *op = (struct hosts_op){.call = call, .progress_to = 1.0};
    uuid_format(ref_new(), op->id);
    op->op = (struct hv_op){.id = op->id,
                            .timeout_ms = timeout_ms,
                            .cancel = call->cancel,
                            .progress = report_progress,
                            .begin = note_begin,
                            .ctx = op};
}

void hosts_op_next(struct hosts_op *op)
{
    uuid_format(ref_new(), op->id);
}

int hosts_fail(struct api_err *err, struct ref host, const struct hv_err *cause)
{
    switch (cause->kind) {
    case HV_ERR_KIND_UNREACHABLE:
        return err_host_offline(err, REF_TEXT(host));
    case HV_ERR_KIND_CANCELLED:
        return err_task_cancelled(err, "");
    case HV_ERR_KIND_NO_SPACE: {
        const char *params[] = {"", cause->text, ""};
        return api_err_set_code(err, "SR_BACKEND_FAILURE_44", params, ARRAY_LEN(params));
    }
    case HV_ERR_KIND_IO:
    case HV_ERR_KIND_FORMAT: {
        const char *params[] = {"", cause->text, ""};
        return api_err_set_code(err, "SR_BACKEND_FAILURE", params, ARRAY_LEN(params));
    }
    case HV_ERR_KIND_UNSUPPORTED:
        return err_operation_not_allowed(err, cause->text);
    case HV_ERR_KIND_NONE:
    case HV_ERR_KIND_DEADLINE:
    case HV_ERR_KIND_NOT_FOUND:
    case HV_ERR_KIND_EXISTS:
    case HV_ERR_KIND_IN_USE:
    case HV_ERR_KIND_BAD_STATE:
    case HV_ERR_KIND_BAD_ARGUMENT:
    case HV_ERR_KIND_NO_MEMORY:
    case HV_ERR_KIND_GUEST:
    case HV_ERR_KIND_DEVICE_MODEL:
    case HV_ERR_KIND_CRASHED:
    case HV_ERR_KIND_HALTED:
    case HV_ERR_KIND_DENIED:
    case HV_ERR_KIND_SUPERSEDED:
    case HV_ERR_KIND_TOO_DEEP:
    case HV_ERR_KIND_NO_KERNEL:
    case HV_ERR_KIND_NO_RAMDISK:
    case HV_ERR_KIND_INTERNAL:
        break;
    }
    return fail_internal(err, "%s", cause->text);
}

int hosts_fail_vm(struct api_err *err, struct ref vm, struct ref host, const struct hv_err *cause)
{
    switch (cause->kind) {
    case HV_ERR_KIND_CRASHED:
        return err_vm_crashed(err, REF_TEXT(vm));
    case HV_ERR_KIND_HALTED:
        return err_vm_halted(err, REF_TEXT(vm));
    case HV_ERR_KIND_NOT_FOUND:
    case HV_ERR_KIND_BAD_STATE:
        return err_vm_bad_power_state(err, REF_TEXT(vm), "running", "halted");
    default:
        return hosts_fail(err, host, cause);
    }
}
