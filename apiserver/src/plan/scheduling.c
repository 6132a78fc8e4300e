/* Values are those that clients of XenServer write: numbers as text, a mask with blanks now and then. */
#include "scheduling.h"

#include "../server.h"
#include <base/mem.h>
#include <errno.h>
#include <model/errors.h>
#include <stdlib.h>

#define WEIGHT_MAX 65535
#define CAP_MAX 25500

static int number(const struct str_map *params, const char *key, int64_t min, int64_t max, const char *rule,
                  int64_t *out, struct api_err *err)
{
    const char *text = str_map_get(params, key);
    char *end;
    *out = 0;
    if (!text || !*text)
        return 0;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || *end || value < min || value > max) {
        AUTO_STR const char *field = str_newf("VCPUs_params:%s", key);
        return err_value_not_supported(err, field, text, rule);
    }
    *out = value;
    return 0;
}

int plan_scheduling(const struct str_map *params, struct domain_config *config, struct api_err *err)
{
    const char *text = str_map_get(params, "mask");
    bool processors[HV_CPUS_MAX];
    if (number(params, "weight", 1, WEIGHT_MAX, "it is 1 to 65535, 256 being the usual", &config->cpu_weight,
               err) < 0 ||
        number(params, "cap", 0, CAP_MAX, "it is a percentage of one processor, 0 to 25500",
               &config->cpu_cap_percent, err) < 0)
        return -1;
    AUTO_FREE char *mask = xstrdup(text ? text : "");
    size_t len = 0;
    for (const char *p = mask; *p; p++)
        if (*p != ' ')
            mask[len++] = *p;
    mask[len] = '\0';
    if (len > 1024 || !hv_cpu_mask_parse(mask, processors, HV_CPUS_MAX))
        return err_value_not_supported(err, "VCPUs_params:mask", text,
                                       "it is a list of the host's processors like 0,2-5");
    str_assign(&config->cpu_mask, mask);
    return 0;
}
