/* Each object with limits has an entry: its rules and since when they are beyond. Entries of objects that
 * have none any more go with the next round; changed limits begin anew. */
#include "alarms.h"

#include "../handlers/alert.h"
#include "../server.h"
#include "alarm.h"
#include <base/log.h>
#include <base/mem.h>
#include <math.h>

#define CONFIG_KEY "perfmon"

struct entry {
    struct entry *next;
    struct ref object;
    const char *config; /* counted */
    struct alarm_rules rules;
    unsigned round; /* the last that found it */
};

struct alarms {
    struct entry *entries;
    unsigned round;
};

struct alarms *alarms_new(void)
{
    return xcalloc(1, sizeof(struct alarms));
}

static void entry_free(struct entry *e)
{
    str_unref(e->config);
    alarm_rules_done(&e->rules);
    free(e);
}

void alarms_free(struct alarms *alarms)
{
    if (!alarms)
        return;
    while (alarms->entries) {
        struct entry *e = alarms->entries;
        alarms->entries = e->next;
        entry_free(e);
    }
    free(alarms);
}

static struct entry *entry_of(struct alarms *alarms, struct ref object, const char *config)
{
    struct entry *e = alarms->entries;
    while (e && !ref_eq(e->object, object))
        e = e->next;
    if (!e) {
        e = xcalloc(1, sizeof(*e));
        e->object = object;
        e->next = alarms->entries;
        alarms->entries = e;
    }
    if (!e->config || !str_eq(e->config, config)) {
        str_unref(e->config);
        e->config = str_ref(config);
        alarm_rules_done(&e->rules);
        alarm_parse(config, &e->rules);
    }
    e->round = alarms->round;
    return e;
}

static void drop_old(struct alarms *alarms)
{
    for (struct entry **at = &alarms->entries; *at;) {
        struct entry *e = *at;
        if (e->round == alarms->round) {
            at = &e->next;
            continue;
        }
        *at = e->next;
        entry_free(e);
    }
}

struct visit {
    struct alarms *alarms;
    struct server *server;
    struct meters *meters;
    double now;
};

static void tell(struct visit *v, const struct alarm_rule *rule, double value, enum cls cls, const char *uuid)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_BUF struct buf body = BUF_INIT;
    alarm_body(rule, value, &body);
    struct tx *tx = store_begin(v->server->store);
    alert_add(tx, "ALARM", rule->priority, cls, uuid, body.data);
    if (server_commit(tx, &err) < 0)
        log_error("metrics", "an alarm could not be recorded", "object", uuid, "limit", rule->name);
}

/* The values are read under the lock, the messages written without it. */
static void look(struct visit *v, struct ref object, const char *config, enum meter_kind kind,
                 const char *uuid)
{
    double fired[ALARM_RULES_MAX];
    struct entry *e = entry_of(v->alarms, object, config);
    meters_read_lock(v->meters);
    const struct meter *meter = meters_find(v->meters, kind, uuid);
    for (size_t i = 0; i < e->rules.count; i++) {
        double value = meter ? alarm_value(&e->rules.items[i], meter->rrd) : NAN;
        fired[i] = alarm_look(&e->rules.items[i], value, v->now) ? value : NAN;
    }
    meters_unlock(v->meters);
    for (size_t i = 0; i < e->rules.count; i++)
        if (!isnan(fired[i]))
            tell(v, &e->rules.items[i], fired[i], kind == METER_VM ? CLS_VM : CLS_HOST, uuid);
}

static bool visit_vm(const struct row *row, void *arg)
{
    const struct vm_row *vm = vm_row(row);
    const char *config = str_map_get(vm->other_config, CONFIG_KEY);
    if (config && vm->power_state == VM_POWER_STATE_RUNNING)
        look(arg, row->ref, config, METER_VM, vm->uuid);
    return true;
}

static bool visit_host(const struct row *row, void *arg)
{
    const struct host_row *host = host_row(row);
    const char *config = str_map_get(host->other_config, CONFIG_KEY);
    if (config)
        look(arg, row->ref, config, METER_HOST, host->uuid);
    return true;
}

void alarms_round(struct alarms *alarms, struct server *server, struct meters *meters, double now)
{
    struct visit v = {.alarms = alarms, .server = server, .meters = meters, .now = now};
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    alarms->round++;
    snapshot_each(snap, CLASS_VM, visit_vm, &v);
    snapshot_each(snap, CLASS_host, visit_host, &v);
    drop_old(alarms);
}
