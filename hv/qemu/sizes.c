/* Processors and memory of a running domain. */
#include "internal.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <stdio.h>

#define MIB (INT64_C(1) << 20)
#define ASK_AGAIN_MS 5000

/* ---- processors ----
 * The places for processors are in one order, and the first `vcpus` of them are filled: what is plugged in
 * goes to the first free one, what is taken away is the last. So a number alone says which there are. */

static void set_count(struct rundir_record *record, void *arg)
{
    record->config.vcpus = *(const int64_t *)arg;
}

static int write_count(struct qemu_domain *d, int64_t count, struct hv_err *err)
{
    if (domain_change(d, set_count, &count, err) < 0)
        return -1;
    pthread_mutex_lock(&d->lock);
    bool is_new = d->info.vcpus != count;
    d->info.vcpus = count;
    pthread_mutex_unlock(&d->lock);
    if (is_new)
        domain_publish(d, false);
    return 0;
}

/* The places, last first as QEMU tells them. The caller decrefs. */
static json_t *query_places(struct qemu_domain *d, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    json_t *places = NULL;
    if (domain_command(d, "query-hotpluggable-cpus", NULL, &soon, &places, err) < 0)
        return NULL;
    if (json_is_array(places) && json_array_size(places) > 0)
        return places;
    json_decref(places);
    hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The device model does not say where processors can go.");
    return NULL;
}

static int64_t count_filled(const json_t *places)
{
    int64_t count = 0;
    for (size_t i = 0; i < json_array_size(places); i++)
        count += json_object_get(json_array_get(places, i), "qom-path") != NULL;
    return count;
}

static int add_one(struct qemu_domain *d, const json_t *places, int64_t number,
                   const struct hv_deadline *deadline, struct hv_err *err)
{
    const json_t *place = json_array_get(places, json_array_size(places) - 1 - (size_t)number);
    const char *type;
    char id[24];
    if (!place || !json_get_string(place, "type", &type) || json_object_get(place, "qom-path"))
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The domain has no place for another processor.");
    json_t *device = json_deep_copy(json_object_get(place, "props"));
    snprintf(id, sizeof(id), "cpu%d", (int)number);
    json_object_set_new(device, "driver", json_string(type));
    json_object_set_new(device, "id", json_string(id));
    return domain_command(d, "device_add", device, deadline, NULL, err);
}

/* The last processor's object; NULL: it is gone already. */
static const char *path_of(const json_t *places, int64_t number)
{
    const char *path = NULL;
    json_get_string(json_array_get(places, json_array_size(places) - 1 - (size_t)number), "qom-path", &path);
    return path;
}

static int remove_one(struct qemu_domain *d, int64_t number, const struct hv_deadline *deadline,
                      struct hv_err *err)
{
    int64_t limit = domain_guest_limit(deadline);
    for (;;) {
        json_t *places AUTO_JSON = query_places(d, err);
        struct hv_deadline soon = domain_soon();
        if (!places)
            return -1;
        const char *path = path_of(places, number);
        if (!path)
            return 0;
        struct hv_err refusal = {0};
        if (domain_command(d, "device_del", json_pack("{s:s}", "id", path), &soon, NULL, &refusal) < 0)
            log_debug("qemu", "a processor is not asked to go", "domain", d->uuid, "why", refusal.text);
        pthread_mutex_lock(&d->lock);
        int64_t before = d->device_news, again = clock_mono_ms() + ASK_AGAIN_MS;
        struct hv_deadline slice = *deadline;
        slice.mono_ms = again < limit ? again : limit;
        struct hv_err why = {0};
        int waited = 0;
        while (waited == 0 && !d->dead && d->device_news == before)
            waited = domain_wait(d, &slice, &why);
        pthread_mutex_unlock(&d->lock);
        if (waited < 0 && why.kind == HV_ERR_KIND_CANCELLED)
            return hv_fail(err, HV_ERR_KIND_CANCELLED, "It was cancelled.");
        if (clock_mono_ms() >= limit)
            return hv_fail(err, HV_ERR_KIND_GUEST, "The guest did not let go of a processor in time.");
    }
}

int qemu_set_vcpus(struct hv_driver_state *state, const char *uuid, int64_t vcpus,
                   const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    json_t *places AUTO_JSON = d ? query_places(d, err) : NULL;
    if (!places)
        return -1;
    int64_t count = count_filled(places);
    int outcome = 0;
    /* QEMU 7.2's TCG frees what other threads still look at when a processor goes: the whole domain may die.
     */
    if (count > vcpus && state->accelerator == ACCELERATOR_TCG)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "Under software emulation no processor can be taken from a running domain.");
    for (; outcome == 0 && count < vcpus; count += outcome == 0)
        outcome = add_one(d, places, count, deadline, err);
    for (; outcome == 0 && count > vcpus; count -= outcome == 0)
        outcome = remove_one(d, count - 1, deadline, err);
    /* New processors begin where the device model may run, not where the others do. */
    if (outcome == 0)
        outcome = domain_schedule(d, deadline, err);
    failpoint("vcpus:plugged");
    return write_count(d, count, outcome == 0 ? err : NULL) < 0 ? -1 : outcome;
}

/* ---- memory ---- */

static void set_target(struct rundir_record *record, void *arg)
{
    record->memory_target_bytes = *(const int64_t *)arg;
}

int domain_balloon(struct qemu_domain *d, int64_t memory_bytes, const struct hv_deadline *deadline,
                   struct hv_err *err)
{
    int64_t target = memory_bytes / MIB * MIB;
    json_t *arguments = json_pack("{s:I}", "value", (json_int_t)target);
    if (domain_command(d, "balloon", arguments, deadline, NULL, err) < 0)
        return -1;
    failpoint("balloon:asked");
    if (domain_change(d, set_target, &target, err) < 0)
        return -1;
    pthread_mutex_lock(&d->lock);
    d->info.memory_target_bytes = target;
    pthread_mutex_unlock(&d->lock);
    return 0;
}

int qemu_set_memory(struct hv_driver_state *state, const char *uuid, int64_t memory_bytes,
                    const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    if (!d || domain_balloon(d, memory_bytes, deadline, err) < 0)
        return -1;
    domain_publish(d, false);
    return 0;
}
