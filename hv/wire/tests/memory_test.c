/* Each allocation failing in turn while a struct is written, read and copied: words, or the end of the
 * process. */
#include <alloc_faults.h>
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <hv/calls.h>
#include <hv/domain.h>

#define U1 "11111111-1111-4111-8111-111111111111"

static int round_trip(void *arg)
{
    (void)arg;
    struct domain_config config, back, copy;
    struct json_error error = {0};
    char complaint[WIRE_COMPLAINT_SIZE] = "";
    domain_config_init(&config);
    str_assign(&config.uuid, U1);
    str_assign(&config.name, "a name");
    config.memory_bytes = 256 << 20;
    config.vcpus = 2;
    for (int i = 0; i < 3; i++)
        str_assign(&domain_config_add_disks(&config)->device, "xvda");
    str_assign(&domain_config_add_nics(&config)->mac, "52:54:00:12:34:56");
    AUTO_BUF struct buf text = BUF_INIT;
    wire_encode(&domain_config_desc, &config, &text);
    int rc = 0;
    AUTO_JSON json_t *json = json_parse(text.data, text.len, &error);
    if (!json || wire_decode(&domain_config_desc, json, &back, complaint) < 0) {
        rc = -1;
    } else {
        domain_config_copy(&copy, &back);
        rc = wire_equal(&domain_config_desc, &config, &copy) ? 0 : -1;
        domain_config_done(&copy);
        domain_config_done(&back);
    }
    domain_config_done(&config);
    return rc;
}

Test(memory, a_struct_that_travels, .timeout = 600)
{
    size_t told, ended;
    cr_assert_eq(round_trip(NULL), 0);
    cr_assert(alloc_faults_each(round_trip, NULL, NULL, &told, &ended));
    cr_assert_gt(ended, 10);
}
