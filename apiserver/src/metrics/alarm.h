/* Limits on measurements, as XenAPI clients write them into other_config:perfmon of VMs and hosts:
 *
 *     <config><variable>
 *       <name value="cpu_usage"/>                     or network_usage, disk_usage, a data source's own name
 *       <alarm_trigger_level value="0.8"/>
 *       <alarm_trigger_period value="60"/>            seconds beyond the level; 60 when not given
 *       <alarm_auto_inhibit_period value="3600"/>     seconds of silence afterwards; 3600
 *       <alarm_trigger_sense value="high"/>           or low; high, but low for memory_free_kib
 *       <alarm_priority value="3"/>                   of the message; 3
 *     </variable></config>
 *
 * cpu_usage is the mean of all processors, network_usage and disk_usage are the sums of what all interfaces
 * and disks move in a second. Own regular expressions (rrd_regex) are not evaluated: such a variable is left
 * out. Pure. */
#pragma once
#include "../rrd/rrd.h"
#include <base/buf.h>

#define ALARM_CONFIG_MAX 65536
#define ALARM_RULES_MAX 64

struct alarm_rule {
    char *name;
    char *variable; /* the XML again, for the message */
    double level, period_s, inhibit_s;
    bool low; /* below the level, not above it */
    int64_t priority;
    /* Since when it is beyond the level, and until when nothing is told; 0: not. Unix seconds. */
    double since, quiet_until;
};
struct alarm_rules {
    struct alarm_rule *items;
    size_t count;
};

/* Rules that cannot be understood are left out; text that is no such XML has none. */
void alarm_parse(const char *xml, struct alarm_rules *out);
void alarm_rules_done(struct alarm_rules *rules);
/* The value now; NaN: unknown. */
double alarm_value(const struct alarm_rule *rule, const struct rrd *rrd);
/* Looks at a value: true when it is time to tell. */
bool alarm_look(struct alarm_rule *rule, double value, double now);
/* Body of the message ALARM. */
void alarm_body(const struct alarm_rule *rule, double value, struct buf *out);
