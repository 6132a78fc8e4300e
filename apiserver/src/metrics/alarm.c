/* See alarm.h. */
#include "alarm.h"

#include <base/mem.h>
#include <ctype.h>
#include <libxml/parser.h>
#include <math.h>

#define PERIOD_S 60
#define INHIBIT_S 3600
#define PRIORITY 3
#define VALUE_MAX 256

void alarm_rules_done(struct alarm_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++) {
        free(rules->items[i].name);
        free(rules->items[i].variable);
    }
    free(rules->items);
    *rules = (struct alarm_rules){0};
}

/* ---- reading ---- */

static void write_escaped(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '&')
            buf_add_str(out, "&amp;");
        else if (*text == '<')
            buf_add_str(out, "&lt;");
        else if (*text == '"')
            buf_add_str(out, "&quot;");
        else
            buf_add_char(out, *text);
    }
}

static bool number(const char *text, double *out)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        return false;
    *out = value;
    return true;
}

/* One child of <variable>. False: the variable is not for us. */
static bool read_setting(struct alarm_rule *rule, const char *tag, const char *value, bool *has_level)
{
    double n = 0;
    if (streq(tag, "name")) {
        free(rule->name);
        rule->name = xstrdup(value);
        return *value != '\0';
    }
    if (streq(tag, "alarm_trigger_sense")) {
        rule->low = streq(value, "low");
        return rule->low || streq(value, "high");
    }
    if (streq(tag, "rrd_regex"))
        return false;
    if (streq(tag, "alarm_trigger_level"))
        return *has_level = number(value, &rule->level);
    if (streq(tag, "alarm_trigger_period"))
        return number(value, &rule->period_s) && rule->period_s >= 0;
    if (streq(tag, "alarm_auto_inhibit_period"))
        return number(value, &rule->inhibit_s) && rule->inhibit_s >= 0;
    if (streq(tag, "alarm_priority")) {
        bool ok = number(value, &n) && n >= 1 && n <= 5;
        rule->priority = ok ? (int64_t)n : PRIORITY;
        return ok;
    }
    return true; /* consolidation_fn and what else there may be */
}

static bool names_sense(xmlNode *variable)
{
    for (xmlNode *node = variable->children; node; node = node->next)
        if (node->type == XML_ELEMENT_NODE && streq((const char *)node->name, "alarm_trigger_sense"))
            return true;
    return false;
}

static bool read_variable(xmlNode *variable, struct alarm_rule *rule)
{
    struct buf text = BUF_INIT;
    bool ok = true, has_level = false;
    *rule = (struct alarm_rule){.period_s = PERIOD_S, .inhibit_s = INHIBIT_S, .priority = PRIORITY};
    buf_add_str(&text, "<variable>\n");
    for (xmlNode *node = variable->children; ok && node; node = node->next) {
        if (node->type != XML_ELEMENT_NODE)
            continue;
        xmlChar *value = xmlGetNoNsProp(node, (const xmlChar *)"value");
        ok = value && strlen((const char *)value) <= VALUE_MAX &&
             read_setting(rule, (const char *)node->name, (const char *)value, &has_level);
        buf_printf(&text, "\t<%s value=\"", (const char *)node->name);
        write_escaped(&text, value ? (const char *)value : "");
        buf_add_str(&text, "\"/>\n");
        xmlFree(value);
    }
    buf_add_str(&text, "</variable>\n");
    rule->variable = buf_take(&text);
    if (rule->name && streq(rule->name, "memory_free_kib") && !names_sense(variable))
        rule->low = true;
    return ok && rule->name && has_level;
}

static void read_config(xmlDoc *doc, struct alarm_rules *out)
{
    xmlNode *root = xmlDocGetRootElement(doc);
    if (doc->intSubset || !root || !streq((const char *)root->name, "config"))
        return;
    for (xmlNode *node = root->children; node && out->count < ALARM_RULES_MAX; node = node->next) {
        if (node->type != XML_ELEMENT_NODE || !streq((const char *)node->name, "variable"))
            continue;
        out->items = xreallocarray(out->items, out->count + 1, sizeof(*out->items));
        struct alarm_rule *rule = &out->items[out->count];
        if (read_variable(node, rule)) {
            out->count++;
        } else {
            free(rule->name);
            free(rule->variable);
        }
    }
}

void alarm_parse(const char *xml, struct alarm_rules *out)
{
    size_t len = strlen(xml);
    *out = (struct alarm_rules){0};
    if (len == 0 || len > ALARM_CONFIG_MAX)
        return;
    xmlDoc *doc =
        xmlReadMemory(xml, (int)len, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (!doc)
        return;
    read_config(doc, out);
    xmlFreeDoc(doc);
}

/* ---- values ---- */

static bool ends_with(const char *name, const char *tail)
{
    size_t len = strlen(name), n = strlen(tail);
    return len >= n && streq(name + len - n, tail);
}

static bool is_processor(const char *name)
{
    if (strncmp(name, "cpu", 3) != 0 || !name[3])
        return false;
    for (name += 3; isdigit((unsigned char)*name); name++)
        ;
    return *name == '\0';
}

static bool is_network(const char *name)
{
    bool interface = strncmp(name, "vif_", 4) == 0 || strncmp(name, "pif_", 4) == 0;
    return interface && strncmp(name, "pif_aggr_", 9) != 0 &&
           (ends_with(name, "_rx") || ends_with(name, "_tx"));
}

static bool is_disk(const char *name)
{
    return strncmp(name, "vbd_", 4) == 0 && !strstr(name, "_iops_") &&
           (ends_with(name, "_read") || ends_with(name, "_write"));
}

double alarm_value(const struct alarm_rule *rule, const struct rrd *rrd)
{
    static const struct {
        const char *name;
        bool (*takes)(const char *source);
        bool mean;
    } sums[] = {{"cpu_usage", is_processor, true},
                {"network_usage", is_network, false},
                {"disk_usage", is_disk, false}};
    for (size_t i = 0; i < ARRAY_LEN(sums); i++) {
        if (!streq(rule->name, sums[i].name))
            continue;
        double sum = 0;
        size_t count = 0;
        for (size_t k = 0; k < rrd->count; k++) {
            double value = sums[i].takes(rrd->sources[k].name) ? rrd_latest(rrd, &rrd->sources[k]) : NAN;
            sum += isnan(value) ? 0 : value;
            count += !isnan(value);
        }
        if (count == 0)
            return NAN;
        return sums[i].mean ? sum / (double)count : sum;
    }
    const struct rrd_source *source = rrd_find(rrd, rule->name);
    return source ? rrd_latest(rrd, source) : NAN;
}

bool alarm_look(struct alarm_rule *rule, double value, double now)
{
    bool beyond = rule->low ? value < rule->level : value > rule->level; /* false for NaN */
    if (!beyond) {
        rule->since = 0;
        return false;
    }
    if (rule->since <= 0 || rule->since > now)
        rule->since = now;
    if (rule->quiet_until > now + rule->inhibit_s) /* the clock was put back */
        rule->quiet_until = 0;
    if (now < rule->since + rule->period_s || now < rule->quiet_until)
        return false;
    rule->quiet_until = now + rule->inhibit_s;
    rule->since = 0;
    return true;
}

void alarm_body(const struct alarm_rule *rule, double value, struct buf *out)
{
    buf_printf(out, "value: %f\nconfig:\n%s", value, rule->variable);
}
