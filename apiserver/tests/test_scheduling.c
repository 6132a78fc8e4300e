/* VM.VCPUs_params. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <model/errors.h>
#include <plan/scheduling.h>

Test(scheduling, table)
{
    static const struct {
        const char *key, *value;
        bool ok;
        int weight, cap;
        const char *mask;
    } table[] = {
        {"weight", "512", true, 512, 0, ""},
        {"weight", "0", false, 0, 0, ""},
        {"weight", "65536", false, 0, 0, ""},
        {"weight", "a", false, 0, 0, ""},
        {"weight", "1 ", false, 0, 0, ""},
        {"cap", "150", true, 0, 150, ""},
        {"cap", "-1", false, 0, 0, ""},
        {"cap", "25501", false, 0, 0, ""},
        {"mask", "0,2-5", true, 0, 0, "0,2-5"},
        {"mask", "0, 1", true, 0, 0, "0,1"},
        {"mask", "", true, 0, 0, ""},
        {"mask", "1-", false, 0, 0, ""},
        {"mask", "3-1", false, 0, 0, ""},
        {"mask", "0,,1", false, 0, 0, ""},
        {"mask", "0,", false, 0, 0, ""},
        {"mask", "all", false, 0, 0, ""},
        {"mask", "1024", false, 0, 0, ""},
        {"mask", "0\n1", false, 0, 0, ""},
        {"mask", "-1", false, 0, 0, ""},
        {"other", "x", true, 0, 0, ""},
        {"cap", "99999999999999999999", false, 0, 0, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        struct domain_config config AUTO_DOMAIN_CONFIG;
        const struct str_map *params = NULL;
        domain_config_init(&config);
        str_map_put(&params, table[i].key, table[i].value);
        int rc = plan_scheduling(params, &config, &err);
        str_map_unref(params);
        cr_expect_eq(rc, table[i].ok ? 0 : -1, "row %zu", i);
        if (!table[i].ok) {
            cr_expect_str_eq(err.code, "VALUE_NOT_SUPPORTED");
            continue;
        }
        cr_expect_eq(config.cpu_weight, table[i].weight, "row %zu", i);
        cr_expect_eq(config.cpu_cap_percent, table[i].cap, "row %zu", i);
        cr_expect_str_eq(config.cpu_mask, table[i].mask, "row %zu", i);
    }
}
