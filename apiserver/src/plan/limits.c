/* VBD.qos_algorithm_type and _params -> what a disk may do in a second. There is one way, "throttle", with
 * the keys iops (requests) and kbps (KiB). "ionice" of other servers orders processes of the host, which
 * disks do not have here. */
#include "domain.h"

#include <base/mem.h>
#include <errno.h>
#include <model/errors.h>
#include <stdlib.h>

#define LIMIT_MAX 1000000000

static bool read_number(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || n > LIMIT_MAX)
        return false;
    *out = n;
    return true;
}

int plan_limits(const char *type, const struct str_map *params, struct disk_limits *out, struct api_err *err)
{
    struct disk_limits limits = {.max_iops = 0};
    if (*type && !streq(type, PLAN_THROTTLE))
        return err_value_not_supported(err, "qos_algorithm_type", type,
                                       "disks are limited by throttle alone, with iops and kbps");
    for (size_t i = 0; *type && params && i < params->count; i++) {
        const struct str_pair *pair = &params->pairs[i];
        int64_t *number = streq(pair->key, "iops")   ? &limits.max_iops
                          : streq(pair->key, "kbps") ? &limits.max_kbytes
                                                     : NULL;
        if (!number)
            return err_value_not_supported(err, "qos_algorithm_params", pair->key,
                                           "the keys are iops and kbps");
        if (!read_number(pair->value, number))
            return err_value_not_supported(err, "qos_algorithm_params", pair->value,
                                           "it is a number from 0 (no limit) to 1000000000");
    }
    *out = limits;
    return 0;
}
