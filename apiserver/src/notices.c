/* Two rounds on a timer, run by workers. Alerts about certificates follow from the rows, so a restart tells
 * nothing twice; failed logins are counted in memory, by source and name, the busiest ones by name. */
#include "notices.h"

#include "handlers/alert.h"
#include "hosts/renewal.h"
#include "own_certificates.h"
#include "timers.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>
#include <base/xml.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define LOGINS_MS (3600 * 1000LL)
#define CERTIFICATES_MS LOGINS_MS
#define DAY_S 86400
#define CLOCK_APART_US (60 * 1000000LL)
#define OFFENDERS_MAX 10
#define USER_MAX 128

struct offender {
    char peer[48], user[USER_MAX + 1];
    int64_t count, last; /* Unix seconds */
};

struct notices {
    struct server *server;
    pthread_mutex_t lock; /* guards what follows */
    struct offender offenders[OFFENDERS_MAX];
    size_t offender_count;
    int64_t failed, unnamed; /* logins: all, and those of offenders that have no room */
};

/* ---- certificates ---- */

/* Names of a type's alerts begin alike, so those that are out of date are known by them. */
static const struct certificate_alerts {
    const char *prefix, *subject;
    struct {
        const char *name;
        int64_t priority;
    } expired, in_7, in_14, in_30;
} alerts_of[] = {
    [CERTIFICATE_TYPE_HOST] = {"HOST_SERVER_CERTIFICATE_EXPIR",
                               "The TLS server certificate",
                               {ALERT_HOST_SERVER_CERTIFICATE_EXPIRED},
                               {ALERT_HOST_SERVER_CERTIFICATE_EXPIRING_07},
                               {ALERT_HOST_SERVER_CERTIFICATE_EXPIRING_14},
                               {ALERT_HOST_SERVER_CERTIFICATE_EXPIRING_30}},
    [CERTIFICATE_TYPE_HOST_INTERNAL] = {"HOST_INTERNAL_CERTIFICATE_EXPIR",
                                        "The TLS server certificate for internal communications",
                                        {ALERT_HOST_INTERNAL_CERTIFICATE_EXPIRED},
                                        {ALERT_HOST_INTERNAL_CERTIFICATE_EXPIRING_07},
                                        {ALERT_HOST_INTERNAL_CERTIFICATE_EXPIRING_14},
                                        {ALERT_HOST_INTERNAL_CERTIFICATE_EXPIRING_30}},
    [CERTIFICATE_TYPE_CA] = {"POOL_CA_CERTIFICATE_EXPIR",
                             "The trusted TLS server certificate",
                             {ALERT_POOL_CA_CERTIFICATE_EXPIRED},
                             {ALERT_POOL_CA_CERTIFICATE_EXPIRING_07},
                             {ALERT_POOL_CA_CERTIFICATE_EXPIRING_14},
                             {ALERT_POOL_CA_CERTIFICATE_EXPIRING_30}},
    [CERTIFICATE_TYPE_PINNED] = {"POOL_PINNED_CERTIFICATE_EXPIR",
                                 "The pinned TLS server certificate",
                                 {ALERT_POOL_PINNED_CERTIFICATE_EXPIRED},
                                 {ALERT_POOL_PINNED_CERTIFICATE_EXPIRING_07},
                                 {ALERT_POOL_PINNED_CERTIFICATE_EXPIRING_14},
                                 {ALERT_POOL_PINNED_CERTIFICATE_EXPIRING_30}},
};

/* The alerts of one certificate that there are. */
struct old_alerts {
    const char *prefix, *obj_uuid, *name, *body;
    bool there; /* just what is due */
    struct ref *outdated;
    size_t count;
};

static bool sort_alert(const struct row *row, void *arg)
{
    struct old_alerts *old = arg;
    const struct message_row *message = message_row(row);
    if (!streq(message->obj_uuid, old->obj_uuid) ||
        strncmp(message->name, old->prefix, strlen(old->prefix)) != 0)
        return true;
    if (!old->there && streq(message->name, old->name) && streq(message->body, old->body)) {
        old->there = true;
        return true;
    }
    old->outdated = xreallocarray(old->outdated, old->count + 1, sizeof(*old->outdated));
    old->outdated[old->count++] = row->ref;
    return true;
}

struct certificate_look {
    struct tx *tx;
    int64_t now;
};

static void tell_certificate(const char *alert, const struct certificate_row *c, const struct host_row *host)
{
    char when[PKI_VALIDITY_SIZE];
    pki_validity(c->not_before, c->not_after, when);
    log_warn("notices", "a certificate ends soon or has ended: docs/administration.md says what to do",
             "alert", alert, "host", host ? host->uuid : "", "name", host ? host->name_label : c->name,
             "validity", when);
}

static bool look_at_certificate(const struct row *row, void *arg)
{
    const struct certificate_look *look = arg;
    const struct certificate_row *c = certificate_row(row);
    const struct certificate_alerts *alerts = &alerts_of[c->type];
    const struct host_row *host = host_row(tx_get(look->tx, CLASS_host, c->host));
    bool of_host = c->type == CERTIFICATE_TYPE_HOST || c->type == CERTIFICATE_TYPE_HOST_INTERNAL;
    int64_t left = c->not_after - look->now;
    struct old_alerts old = {.prefix = alerts->prefix, .name = "", .body = ""};
    int64_t priority = 0;
    char date[RFC3339_SIZE];
    if (of_host && !host)
        return true;
    const struct {
        int64_t days;
        const char *name;
        int64_t priority;
    } steps[] = {{0, alerts->expired.name, alerts->expired.priority},
                 {7, alerts->in_7.name, alerts->in_7.priority},
                 {14, alerts->in_14.name, alerts->in_14.priority},
                 {30, alerts->in_30.name, alerts->in_30.priority}};
    for (size_t i = 0; i < ARRAY_LEN(steps) && !priority; i++)
        if (left <= steps[i].days * DAY_S) {
            old.name = steps[i].name;
            priority = steps[i].priority;
        }
    AUTO_FREE char *body =
        xasprintf("<body><message>%s %s</message><date>%s</date></body>", alerts->subject,
                  left <= 0 ? "has expired." : "is expiring soon.", rfc3339_format(c->not_after, date));
    old.obj_uuid = of_host ? host->uuid : c->uuid;
    old.body = body;
    tx_each(look->tx, CLASS_message, sort_alert, &old);
    for (size_t i = 0; i < old.count; i++)
        tx_delete(look->tx, CLASS_message, old.outdated[i]);
    free(old.outdated);
    if (priority && !old.there) {
        tell_certificate(old.name, c, host);
        alert_add(look->tx, old.name, priority, of_host ? CLS_HOST : CLS_CERTIFICATE, old.obj_uuid, body);
    }
    return true;
}

void notices_certificates(struct tx *tx, int64_t now)
{
    struct certificate_look look = {tx, now};
    tx_each(tx, CLASS_Certificate, look_at_certificate, &look);
}

static void certificates_round(void *arg)
{
    struct notices *n = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    own_certificates_look(n->server->state_dir);
    renewal_look(n->server);
    struct tx *tx = store_begin(n->server->store);
    notices_certificates(tx, clock_unix_seconds());
    if (server_commit(tx, &err) < 0)
        log_error("notices", "that certificates end soon could not be recorded", "error", err.code);
}

/* ---- logins ---- */

/* With the lock held. Whoever tried least makes room for others, so one that insists is named. */
static struct offender *offender_of(struct notices *n, const char *peer, const char *user)
{
    struct offender *least = n->offenders;
    for (size_t i = 0; i < n->offender_count; i++) {
        struct offender *o = &n->offenders[i];
        if (streq(o->peer, peer) && streq(o->user, user))
            return o;
        if (o->count < least->count)
            least = o;
    }
    if (n->offender_count < OFFENDERS_MAX)
        least = &n->offenders[n->offender_count++];
    n->unnamed += least->count;
    *least = (struct offender){0};
    snprintf(least->peer, sizeof(least->peer), "%s", peer);
    snprintf(least->user, sizeof(least->user), "%s", user);
    return least;
}

void notices_login_failed(struct notices *n, const char *peer, const char *user)
{
    if (!n)
        return;
    char name[USER_MAX + 1];
    snprintf(name, sizeof(name), "%s", user);
    while (*name && !utf8_valid(name, strlen(name)))
        name[strlen(name) - 1] = '\0'; /* cut within a character */
    pthread_mutex_lock(&n->lock);
    struct offender *o = offender_of(n, peer, name);
    o->count++;
    o->last = clock_unix_seconds();
    n->failed++;
    pthread_mutex_unlock(&n->lock);
}

static int by_count(const void *a, const void *b)
{
    const struct offender *x = a, *y = b;
    return x->count < y->count ? 1 : x->count > y->count ? -1 : 0;
}

static void write_element(struct buf *out, const char *tag, const char *text)
{
    if (!*text)
        return;
    buf_printf(out, "<%s>", tag);
    xml_write_text(out, text);
    buf_printf(out, "</%s>", tag);
}

/* With the lock held. */
static void write_logins(struct notices *n, struct buf *body)
{
    qsort(n->offenders, n->offender_count, sizeof(*n->offenders), by_count);
    buf_printf(body, "<body><total>%" PRId64 "</total>", n->failed);
    for (size_t i = 0; i < n->offender_count; i++) {
        const struct offender *o = &n->offenders[i];
        char date[RFC3339_SIZE];
        buf_add_str(body, "<known>");
        write_element(body, "username", o->user);
        write_element(body, "ip", o->peer);
        buf_printf(body, "<number>%" PRId64 "</number><date>%s</date></known>", o->count,
                   rfc3339_format(o->last, date));
    }
    if (n->unnamed)
        buf_printf(body, "<unknown>%" PRId64 "</unknown>", n->unnamed);
    buf_add_str(body, "</body>");
    memset(n->offenders, 0, sizeof(n->offenders));
    n->offender_count = 0;
    n->failed = n->unnamed = 0;
}

void notices_tell_logins(struct notices *n)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_BUF struct buf body = BUF_INIT;
    pthread_mutex_lock(&n->lock);
    if (n->failed)
        write_logins(n, &body);
    pthread_mutex_unlock(&n->lock);
    if (!body.len)
        return;
    struct tx *tx = store_begin(n->server->store);
    const struct pool_row *pool = pool_row(tx_get(tx, CLASS_pool, n->server->pool_ref));
    alert_add(tx, ALERT_FAILED_LOGIN_ATTEMPTS, CLS_POOL, pool->uuid, body.data);
    if (server_commit(tx, &err) < 0)
        log_error("notices", "that logins failed could not be recorded", "error", err.code);
}

static void logins_round(void *arg)
{
    notices_tell_logins(arg);
}

/* ---- clocks ---- */

struct clock_notice {
    const char *host_uuid;
    int64_t apart_us;
};

static void tell_clock(struct tx *tx, void *arg)
{
    const struct clock_notice *notice = arg;
    const struct host_row *host = host_row(tx_by_uuid(tx, CLASS_host, notice->host_uuid));
    if (!host)
        return;
    AUTO_FREE char *body =
        xasprintf("The clock of host '%s' is %" PRId64 " seconds from that of the pool's coordinator",
                  host->name_label, notice->apart_us / 1000000);
    alert_add(tx, ALERT_HOST_CLOCK_SKEW_DETECTED, CLS_HOST, host->uuid, body);
}

void notices_clock(struct server *server, const char *host_uuid, int64_t apart_us, bool *told)
{
    struct clock_notice notice = {host_uuid, apart_us < 0 ? -apart_us : apart_us};
    if (notice.apart_us < CLOCK_APART_US / 2)
        *told = false;
    if (notice.apart_us < CLOCK_APART_US || *told)
        return;
    *told = true;
    log_warn("notices", "the clock of a host is wrong, or the server's", "host", host_uuid, "seconds",
             LOG_INT(notice.apart_us / 1000000));
    server_insist(server, tell_clock, &notice);
}

/* ---- rounds ---- */

static void hand_over(struct notices *n, void (*fn)(void *arg))
{
    if (worker_submit(n->server->workers, fn, n) < 0)
        log_warn("notices", "a look is left out: all workers are busy");
}

static void logins_due(void *arg)
{
    hand_over(arg, logins_round);
}

static void certificates_due(void *arg)
{
    hand_over(arg, certificates_round);
}

struct notices *notices_new(struct server *server)
{
    struct notices *n = xcalloc(1, sizeof(*n));
    n->server = server;
    pthread_mutex_init(&n->lock, NULL);
    hand_over(n, certificates_round);
    timers_every(server->timers, CERTIFICATES_MS, certificates_due, n);
    timers_every(server->timers, LOGINS_MS, logins_due, n);
    return n;
}

void notices_free(struct notices *n)
{
    if (!n)
        return;
    pthread_mutex_destroy(&n->lock);
    free(n);
}
