/* Data sources of VMs, hosts and SRs: what is measured of them, and whether it is kept. All three have the
 * same four messages. */
#include "../gate/answer.h"
#include "../metrics/describe.h"
#include "../metrics/metrics.h"
#include "../server.h"
#include <base/mem.h>
#include <float.h>
#include <handlers.h>
#include <math.h>
#include <model/errors.h>

/* The object that a message is about. */
struct subject {
    enum meter_kind kind;
    const char *uuid; /* borrowed from the call's snapshot */
};

static int unknown_source(const char *name, struct api_err *err)
{
    return err_invalid_value(err, "data_source", name);
}

/* ---- the list ---- */

static void put(struct answer *a, const struct class_desc *cls, const char *field, union cell cell)
{
    answer_key(a, field);
    answer_cell(a, field_find(cls, field)->type, &cell);
}

/* JSON has no form for "no limit": the largest number stands for it. */
static double limit(const struct answer *a, double value)
{
    if (a->form == ANSWER_XML || isfinite(value))
        return value;
    return value > 0 ? DBL_MAX : -DBL_MAX;
}

static void put_source(struct answer *a, const struct meter *meter, const struct rrd_sample *sample)
{
    const struct class_desc *cls = class_find("data_source");
    const struct rrd_source *kept = rrd_find(meter->rrd, sample->name);
    double latest = kept ? rrd_latest(meter->rrd, kept) : NAN;
    char sentence[DESCRIPTION_SIZE];
    const char *unit = describe_source(meter->kind, sample->name, sentence);
    AUTO_STR const char *name = str_new(sample->name), *description = str_new(sentence),
                        *units = str_new(unit);
    answer_open(a, ANSWER_MAP);
    put(a, cls, "name_label", (union cell){.str = name});
    put(a, cls, "name_description", (union cell){.str = description});
    put(a, cls, "enabled", (union cell){.b = kept != NULL});
    put(a, cls, "standard", (union cell){.b = sample->standard});
    put(a, cls, "units", (union cell){.str = units});
    put(a, cls, "min", (union cell){.d = limit(a, sample->min)});
    put(a, cls, "max", (union cell){.d = limit(a, sample->max)});
    put(a, cls, "value", (union cell){.d = isnan(latest) ? 0 : latest});
    answer_close(a);
}

static int list(struct call *call, struct subject subject)
{
    struct meters *meters = metrics_meters(call->server->metrics);
    struct answer a = answer_begin(call->form);
    answer_open(&a, ANSWER_LIST);
    meters_read_lock(meters);
    const struct meter *meter = meters_find(meters, subject.kind, subject.uuid);
    for (size_t i = 0; meter && i < meter->latest.count; i++)
        put_source(&a, meter, &meter->latest.items[i]);
    meters_unlock(meters);
    answer_close(&a);
    answer_give(&a, call);
    return 0;
}

/* ---- one source ---- */

/* A source that is measured but not kept has a value too, if it is not a rate. */
static int query(struct call *call, struct subject subject, const char *name, double *result,
                 struct api_err *err)
{
    struct meters *meters = metrics_meters(call->server->metrics);
    int rc = 0;
    meters_read_lock(meters);
    const struct meter *meter = meters_find(meters, subject.kind, subject.uuid);
    const struct rrd_source *kept = meter ? rrd_find(meter->rrd, name) : NULL;
    const struct rrd_sample *sample = meter ? samples_find(&meter->latest, name) : NULL;
    if (kept)
        *result = rrd_latest(meter->rrd, kept);
    else if (sample)
        *result = sample->kind == RRD_GAUGE ? sample->value : NAN;
    else
        rc = unknown_source(name, err);
    meters_unlock(meters);
    return rc;
}

static int record(struct call *call, struct subject subject, const char *name, struct api_err *err)
{
    struct meters *meters = metrics_meters(call->server->metrics);
    int rc = 0;
    meters_write_lock(meters);
    struct meter *meter = meters_find(meters, subject.kind, subject.uuid);
    const struct rrd_sample *sample = meter ? samples_find(&meter->latest, name) : NULL;
    if (!sample)
        rc = unknown_source(name, err);
    else if (!rrd_record(meter->rrd, sample))
        rc = fail_internal(err, "too many data sources are kept of this object");
    meters_unlock(meters);
    return rc;
}

/* A standard source begins anew with the next sample. */
static int forget(struct call *call, struct subject subject, const char *name, struct api_err *err)
{
    struct meters *meters = metrics_meters(call->server->metrics);
    meters_write_lock(meters);
    struct meter *meter = meters_find(meters, subject.kind, subject.uuid);
    bool known = meter && (rrd_forget(meter->rrd, name) || samples_find(&meter->latest, name));
    if (known)
        meter->dirty = true;
    meters_unlock(meters);
    return known ? 0 : unknown_source(name, err);
}

/* ---- VM ---- */

/* Only what runs is measured. */
static int find_vm(struct call *call, struct ref ref, struct subject *out, struct api_err *err)
{
    const struct vm_row *vm = vm_row(snapshot_get(call->snapshot, CLASS_VM, ref));
    if (!vm)
        return fail_handle(err, CLASS_VM, ref);
    if (vm->power_state != VM_POWER_STATE_RUNNING && vm->power_state != VM_POWER_STATE_PAUSED)
        return err_vm_bad_power_state(err, REF_TEXT(ref), "running",
                                      vm->power_state == VM_POWER_STATE_SUSPENDED ? "suspended" : "halted");
    *out = (struct subject){METER_VM, vm->uuid};
    return 0;
}

int handle_vm_get_data_sources(struct call *call, const struct vm_get_data_sources_args *args,
                               json_t **result, struct api_err *err)
{
    struct subject subject = {0};
    (void)result;
    if (find_vm(call, args->self, &subject, err) < 0)
        return -1;
    return list(call, subject);
}

int handle_vm_query_data_source(struct call *call, const struct vm_query_data_source_args *args,
                                double *result, struct api_err *err)
{
    struct subject subject = {0};
    if (find_vm(call, args->self, &subject, err) < 0)
        return -1;
    return query(call, subject, args->data_source, result, err);
}

int handle_vm_record_data_source(struct call *call, const struct vm_record_data_source_args *args,
                                 struct api_err *err)
{
    struct subject subject = {0};
    if (find_vm(call, args->self, &subject, err) < 0)
        return -1;
    return record(call, subject, args->data_source, err);
}

int handle_vm_forget_data_source_archives(struct call *call,
                                          const struct vm_forget_data_source_archives_args *args,
                                          struct api_err *err)
{
    struct subject subject = {0};
    if (find_vm(call, args->self, &subject, err) < 0)
        return -1;
    return forget(call, subject, args->data_source, err);
}

/* ---- host ---- */

static int find_host(struct call *call, struct ref ref, struct subject *out, struct api_err *err)
{
    const struct host_row *host = host_row(snapshot_get(call->snapshot, CLASS_host, ref));
    if (!host)
        return fail_handle(err, CLASS_host, ref);
    *out = (struct subject){METER_HOST, host->uuid};
    return 0;
}

int handle_host_get_data_sources(struct call *call, const struct host_get_data_sources_args *args,
                                 json_t **result, struct api_err *err)
{
    struct subject subject = {0};
    (void)result;
    if (find_host(call, args->host, &subject, err) < 0)
        return -1;
    return list(call, subject);
}

int handle_host_query_data_source(struct call *call, const struct host_query_data_source_args *args,
                                  double *result, struct api_err *err)
{
    struct subject subject = {0};
    if (find_host(call, args->host, &subject, err) < 0)
        return -1;
    return query(call, subject, args->data_source, result, err);
}

int handle_host_record_data_source(struct call *call, const struct host_record_data_source_args *args,
                                   struct api_err *err)
{
    struct subject subject = {0};
    if (find_host(call, args->host, &subject, err) < 0)
        return -1;
    return record(call, subject, args->data_source, err);
}

int handle_host_forget_data_source_archives(struct call *call,
                                            const struct host_forget_data_source_archives_args *args,
                                            struct api_err *err)
{
    struct subject subject = {0};
    if (find_host(call, args->host, &subject, err) < 0)
        return -1;
    return forget(call, subject, args->data_source, err);
}

int handle_host_backup_rrds(struct call *call, const struct host_backup_rrds_args *args, struct api_err *err)
{
    struct subject subject = {0};
    if (find_host(call, args->host, &subject, err) < 0)
        return -1;
    if (!(args->delay >= 0 && args->delay <= 86400))
        return err_invalid_value(err, "delay", "0 to 86400 seconds");
    metrics_save_later(call->server->metrics, args->delay);
    return 0;
}

/* ---- SR ---- */

static int find_sr(struct call *call, struct ref ref, struct subject *out, struct api_err *err)
{
    const struct sr_row *sr = sr_row(snapshot_get(call->snapshot, CLASS_SR, ref));
    if (!sr)
        return fail_handle(err, CLASS_SR, ref);
    *out = (struct subject){METER_SR, sr->uuid};
    return 0;
}

int handle_sr_get_data_sources(struct call *call, const struct sr_get_data_sources_args *args,
                               json_t **result, struct api_err *err)
{
    struct subject subject = {0};
    (void)result;
    if (find_sr(call, args->sr, &subject, err) < 0)
        return -1;
    return list(call, subject);
}

int handle_sr_query_data_source(struct call *call, const struct sr_query_data_source_args *args,
                                double *result, struct api_err *err)
{
    struct subject subject = {0};
    if (find_sr(call, args->sr, &subject, err) < 0)
        return -1;
    return query(call, subject, args->data_source, result, err);
}

int handle_sr_record_data_source(struct call *call, const struct sr_record_data_source_args *args,
                                 struct api_err *err)
{
    struct subject subject = {0};
    if (find_sr(call, args->sr, &subject, err) < 0)
        return -1;
    return record(call, subject, args->data_source, err);
}

int handle_sr_forget_data_source_archives(struct call *call,
                                          const struct sr_forget_data_source_archives_args *args,
                                          struct api_err *err)
{
    struct subject subject = {0};
    if (find_sr(call, args->sr, &subject, err) < 0)
        return -1;
    return forget(call, subject, args->data_source, err);
}
