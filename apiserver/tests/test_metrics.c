/* What agents measure as data sources, their descriptions, and the limits of alarms. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <math.h>
#include <metrics/alarm.h>
#include <metrics/describe.h>
#include <metrics/samples.h>

#define VM_UUID "11111111-1111-4111-8111-111111111111"
#define SR_UUID "22222222-2222-4222-8222-222222222222"

static void domain(struct domain_stats *d, int64_t time_s, int64_t k)
{
    domain_stats_init(d);
    str_assign(&d->uuid, VM_UUID);
    d->time_us = time_s * 1000000;
    d->domid = 1;
    d->guest_memory_bytes = 1 << 28;
    d->guest_free_bytes = 1 << 20;
    struct vcpu_stats *vcpu = domain_stats_add_vcpus(d);
    vcpu->busy_ns = 2000000000 * k;
    vcpu->wait_ns = 500000000 * k;
    struct disk_stats *disk = domain_stats_add_disks(d);
    str_assign(&disk->device, "xvda");
    str_assign(&disk->sr, SR_UUID);
    disk->read_bytes = 1000 * k;
    disk->read_ops = 10 * k;
    disk->read_ns = 40000000 * k;
    disk->write_ops = 30 * k;
    disk->write_ns = 60000000 * k;
}

static double value(const struct samples *s, const char *name)
{
    const struct rrd_sample *sample = samples_find(s, name);
    cr_assert_not_null(sample, "%s", name);
    return sample->value;
}

Test(samples, of_a_domain)
{
    struct domain_stats first, second;
    struct domain_look look = {0};
    struct samples s = {0};
    struct io_count moved[1];
    int64_t run_ns;
    domain(&first, 100, 1);
    domain(&second, 105, 2);
    samples_of_domain(&s, &first, &look, moved, &run_ns);
    cr_assert_eq(run_ns, 0);
    cr_assert_eq(moved[0].read_ops, 0);
    cr_assert_eq(value(&s, "vbd_xvda_latency"), 0);
    samples_done(&s);
    samples_of_domain(&s, &second, &look, moved, &run_ns);
    cr_assert_eq(run_ns, 2500000000);
    cr_assert_eq(moved[0].read_ops, 10);
    cr_assert_eq(value(&s, "cpu0"), 4);
    cr_assert_eq(value(&s, "cpu_usage"), 4);
    cr_assert_eq(value(&s, "memory_internal_free"), 1024);
    cr_assert_eq(value(&s, "vbd_xvda_read"), 2000);
    cr_assert_eq(value(&s, "vbd_xvda_iops_total"), 80);
    cr_assert_float_eq(value(&s, "vbd_xvda_read_latency"), 4000, 1e-9);
    cr_assert_float_eq(value(&s, "vbd_xvda_write_latency"), 2000, 1e-9);
    cr_assert_float_eq(value(&s, "vbd_xvda_latency"), 2500, 1e-9);
    cr_assert_float_eq(value(&s, "vbd_xvda_iowait"), 0.02, 1e-9);
    cr_assert_float_eq(value(&s, "runstate_blocked"), 100, 1e-9); /* 105 s less 4 s and 1 s */
    cr_assert_not(samples_find(&s, "runnable_any")->standard);
    samples_done(&s);
    /* Another domain of the same VM: its counters began anew, and nothing is said to have moved. */
    second.domid = 2;
    second.disks[0].read_ops = 1;
    samples_of_domain(&s, &second, &look, moved, &run_ns);
    cr_assert_eq(moved[0].read_ops, 0);
    cr_assert_eq(run_ns, 0);
    samples_done(&s);
    domain_stats_done(&first);
    domain_stats_done(&second);
    domain_look_done(&look);
}

Test(samples, of_a_host)
{
    struct host_stats stats;
    struct host_look look = {.time_us = 100000000};
    struct samples s = {0};
    host_stats_init(&stats);
    stats.time_us = 105000000;
    stats.cpu_busy_ns = 6000000000;
    host_stats_add_cpus(&stats)->busy_ns = 4000000000;
    host_stats_add_cpus(&stats)->busy_ns = 2000000000;
    struct pif_stats *pif = host_stats_add_pifs(&stats);
    str_assign(&pif->device, "eth0");
    pif->rx_bytes = 5;
    pif = host_stats_add_pifs(&stats);
    str_assign(&pif->device, "eth1");
    pif->rx_bytes = 7;
    look.run_ns = 8000000000;
    host_look_sr(&look, SR_UUID)->io =
        (struct io_count){.read_bytes = 3 << 20, .read_ops = 4, .read_ns = 8000000};
    cr_assert_eq(host_look_sr(&look, SR_UUID), &look.srs[0]);
    samples_of_host(&s, &stats, &look);
    cr_assert_eq(value(&s, "cpu1"), 2);
    cr_assert_eq(value(&s, "cpu_avg"), 3);
    cr_assert_eq(value(&s, "pif_eth1_rx"), 7);
    cr_assert_eq(value(&s, "pif_aggr_rx"), 12);
    cr_assert_eq(value(&s, "hostload"), 4);
    cr_assert_eq(value(&s, "io_throughput_read_22222222"), 3);
    cr_assert_eq(value(&s, "read_latency_22222222"), 2);
    samples_done(&s);
    samples_of_host(&s, &stats, &look);
    cr_assert_eq(value(&s, "read_latency_22222222"), 0); /* nothing moved since */
    samples_done(&s);
    host_stats_done(&stats);
    host_look_done(&look);
}

Test(samples, descriptions)
{
    const struct {
        enum meter_kind kind;
        const char *name, *unit, *sentence;
    } table[] = {
        {METER_VM, "cpu12", "(fraction)", "Use of virtual processor 12"},
        {METER_HOST, "cpu0", "(fraction)", "Use of processor 0"},
        {METER_VM, "vbd_xvda_iops_read", "requests/s", "Read requests on disk xvda"},
        {METER_VM, "vbd_xvda_read", "B/s", "Read from disk xvda"},
        {METER_VM, "vif_3_rx_errors", "err/s", "Receive errors of virtual interface 3"},
        {METER_HOST, "pif_aggr_rx", "B/s", "Received by all interfaces"},
        {METER_HOST, "read_latency_22222222", "ms", "Mean time of a read request on SR 22222222"},
        {METER_SR, "size", "B", "Size of the storage"},
        {METER_SR, "cpu0", "", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char sentence[DESCRIPTION_SIZE];
        cr_assert_str_eq(describe_source(table[i].kind, table[i].name, sentence), table[i].unit, "%s",
                         table[i].name);
        cr_assert_str_eq(sentence, table[i].sentence);
    }
}

/* ---- alarms ---- */

#define V(inside) "<variable>" inside "</variable>"
#define NAME(n) "<name value=\"" n "\"/>"
#define LEVEL(l) "<alarm_trigger_level value=\"" l "\"/>"

Test(alarm, configurations)
{
    const struct {
        const char *xml;
        size_t rules;
    } table[] = {
        {"<config>" V(NAME("cpu_usage") LEVEL("0.5")) "</config>", 1},
        {"<config>" V(NAME("cpu_usage") LEVEL("0.5")) V(NAME("disk_usage") LEVEL("1e6")) "</config>", 2},
        {"<config>" V(NAME("a")) V(LEVEL("1")) V(NAME("b") LEVEL("x")) V(NAME("c") LEVEL("nan")) "</config>",
         0},
        {"<config>" V(NAME("a") LEVEL("1") "<rrd_regex value=\"(a*)*\"/>") "</config>", 0},
        {"<config>" V(NAME("a") LEVEL("1") "<alarm_trigger_sense value=\"sideways\"/>") "</config>", 0},
        {"<config>" V(NAME("a") LEVEL("1") "<alarm_trigger_period value=\"-1\"/>") "</config>", 0},
        {"<config>" V(NAME("a") LEVEL("1") "<alarm_priority value=\"9\"/>") "</config>", 0},
        {"<config>" V(NAME("a") LEVEL("1") "<consolidation_fn value=\"sum\"/>") "</config>", 1},
        {"<config><other/></config>", 0},
        {"<!DOCTYPE config [<!ENTITY a \"x\">]><config>" V(NAME("&a;") LEVEL("1")) "</config>", 0},
        {"<config>", 0},
        {"", 0},
        {"hello", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct alarm_rules rules;
        alarm_parse(table[i].xml, &rules);
        cr_assert_eq(rules.count, table[i].rules, "%s: %zu", table[i].xml, rules.count);
        alarm_rules_done(&rules);
    }
}

Test(alarm, defaults_and_body)
{
    struct alarm_rules rules;
    AUTO_BUF struct buf body = BUF_INIT;
    alarm_parse("<config>" V(NAME("cpu_usage") LEVEL("0.95")) V(NAME("memory_free_kib") LEVEL("100")) V(
                    NAME("memory_free_kib") LEVEL("100") "<alarm_trigger_sense value=\"high\"/>") "</config>",
                &rules);
    cr_assert_eq(rules.count, 3);
    cr_assert_eq(rules.items[0].period_s, 60);
    cr_assert_eq(rules.items[0].inhibit_s, 3600);
    cr_assert_eq(rules.items[0].priority, 3);
    cr_assert_not(rules.items[0].low);
    cr_assert(rules.items[1].low);
    cr_assert_not(rules.items[2].low);
    alarm_body(&rules.items[0], 0.9625, &body);
    cr_assert_str_eq(body.data, "value: 0.962500\nconfig:\n<variable>\n\t<name value=\"cpu_usage\"/>\n"
                                "\t<alarm_trigger_level value=\"0.95\"/>\n</variable>\n");
    alarm_rules_done(&rules);
}

Test(alarm, when_it_is_told)
{
    const struct {
        double now, value;
        bool told;
    } table[] = {{0, 0.9, false},    {30, 0.9, false},   {60, 0.9, true},    {65, 0.9, false},
                 {200, 0.9, false},  {3660, 0.9, true},  {3665, 0.1, false}, {8000, 0.9, false},
                 {8030, NAN, false}, {8059, 0.9, false}, {8060, 0.9, false}, {8119, 0.9, true}};
    struct alarm_rules rules;
    alarm_parse("<config>" V(NAME("x") LEVEL("0.5")) "</config>", &rules);
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        cr_assert_eq(alarm_look(&rules.items[0], table[i].value, 1e9 + table[i].now), table[i].told, "%zu",
                     i);
    alarm_rules_done(&rules);
}

Test(alarm, what_is_looked_at)
{
    const struct {
        const char *name;
        double value;
    } table[] = {
        {"cpu_usage", 0.3}, {"network_usage", 30}, {"disk_usage", 7}, {"memory", 9}, {"nothing", NAN}};
    const struct {
        const char *name;
        double value;
    } sources[] = {{"cpu0", 0.2},        {"cpu1", 0.4},         {"cpu_usage", 0.9},
                   {"vif_0_rx", 10},     {"vif_0_tx", 20},      {"vif_0_rx_errors", 99},
                   {"vbd_xvda_read", 3}, {"vbd_xvda_write", 4}, {"vbd_xvda_iops_read", 99},
                   {"pif_aggr_rx", 99},  {"memory", 9}};
    struct rrd *rrd = rrd_new(1e9);
    struct samples s = {0};
    for (size_t i = 0; i < ARRAY_LEN(sources); i++)
        samples_add(&s, true, RRD_GAUGE, INFINITY, sources[i].value, "%s", sources[i].name);
    rrd_update(rrd, 1e9 + 5, s.items, s.count);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct alarm_rule rule = {.name = (char *)(uintptr_t)table[i].name};
        double got = alarm_value(&rule, rrd);
        if (isnan(table[i].value))
            cr_assert(isnan(got), "%s", table[i].name);
        else
            cr_assert_float_eq(got, table[i].value, 1e-6, "%s: %g", table[i].name, got);
    }
    samples_done(&s);
    rrd_free(rrd);
}
