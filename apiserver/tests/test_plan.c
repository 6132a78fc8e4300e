/* Plans: the disks that a template wants, and MAC addresses. */
#include "plan/mac.h"
#include "plan/provision.h"

#include <base/mem.h>
#include <criterion/criterion.h>
#include <model/errors.h>

Test(provision, disks_are_read)
{
    AUTO_PROVISION struct provision p;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const char *xml =
        "<provision><disk device=\"0\" size=\"8589934592\" sr=\"s\" bootable=\"true\" type=\"system\"/>"
        " <disk device=\"xvdb\" size=\"1\" sr=\"\" type=\"user\"/></provision>";
    cr_assert_eq(provision_parse(xml, &p, &err), 0);
    cr_assert_eq(p.count, 2);
    cr_assert_eq(p.disks[0].number, 0);
    cr_assert_eq(p.disks[0].size, 8589934592);
    cr_assert(p.disks[0].bootable);
    cr_assert_eq(p.disks[0].type, VDI_TYPE_SYSTEM);
    cr_assert_eq(p.disks[1].number, 1);
    cr_assert_str_eq(p.disks[1].device, "xvdb");
    cr_assert_not(p.disks[1].bootable);
    cr_assert_eq(p.disks[1].type, VDI_TYPE_USER);
}

Test(provision, no_text_is_no_disk)
{
    AUTO_PROVISION struct provision p;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    cr_assert_eq(provision_parse("", &p, &err), 0);
    cr_assert_eq(p.count, 0);
}

static const char *const refused[] = {
    "<provision>",
    "<other/>",
    "<provision><disc device=\"0\" size=\"1\"/></provision>",
    "<provision><disk device=\"0\"/></provision>",
    "<provision><disk device=\"0\" size=\"-1\"/></provision>",
    "<provision><disk device=\"0\" size=\"0\"/></provision>",
    "<provision><disk device=\"0\" size=\"1x\"/></provision>",
    "<provision><disk device=\"0\" size=\"99999999999999999999\"/></provision>",
    "<provision><disk device=\"0\" size=\"1\" type=\"floppy\"/></provision>",
    "<provision><disk device=\"\" size=\"1\"/></provision>",
    "<provision><disk device=\"../x\" size=\"1\"/></provision>",
    "<provision><disk device=\"255\" size=\"1\"/></provision>",
    "<provision><disk device=\"1\" size=\"1\"/><disk device=\"xvdb\" size=\"1\"/></provision>",
    ("<!DOCTYPE provision [<!ENTITY a \"aaaaaaaaaa\">]><provision><disk device=\"0\" size=\"1\" "
     "sr=\"&a;\"/></provision>"),
    "<!DOCTYPE provision SYSTEM \"file:///etc/passwd\"><provision/>",
};

Test(provision, anything_else_is_refused)
{
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct provision p;
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        cr_expect_lt(provision_parse(refused[i], &p, &err), 0, "%s", refused[i]);
        cr_expect_str_eq(err.code, "INVALID_VALUE", "%s", refused[i]);
        cr_expect_str_eq(err.params[0], "other_config:disks");
    }
}

Test(provision, too_many_disks_are_refused)
{
    struct provision p;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_FREE char *xml = xstrdup("<provision>");
    for (int i = 0; i < 65; i++) {
        char *more = xasprintf("%s<disk device=\"%d\" size=\"1\"/>", xml, i);
        free(xml);
        xml = more;
    }
    char *all = xasprintf("%s</provision>", xml);
    free(xml);
    xml = all;
    cr_assert_lt(provision_parse(xml, &p, &err), 0);
}

Test(mac, the_same_seed_gives_the_same_address)
{
    char a[MAC_TEXT_SIZE], b[MAC_TEXT_SIZE], c[MAC_TEXT_SIZE], parsed[MAC_TEXT_SIZE];
    mac_from_seed("seed", "0", a);
    mac_from_seed("seed", "0", b);
    mac_from_seed("seed", "1", c);
    cr_assert_str_eq(a, b);
    cr_assert_str_neq(a, c);
    cr_assert(mac_parse(a, parsed));
    cr_assert(strchr("26ae", a[1]), "%s is not a local unicast address", a);
}

Test(mac, only_unicast_addresses_are_accepted)
{
    static const char *const bad[] = {"",
                                      "00:00:00:00:00:00",
                                      "01:00:5e:00:00:01",
                                      "ff:ff:ff:ff:ff:ff",
                                      "00:16:3e:00:00",
                                      "00:16:3e:00:00:0g",
                                      "00-16-3e-00-00-01",
                                      "00:16:3e:00:00:01 ",
                                      "00:16:3e:00:00:01,x"};
    char out[MAC_TEXT_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_expect_not(mac_parse(bad[i], out), "%s", bad[i]);
    cr_assert(mac_parse("00:16:3E:AA:bb:01", out));
    cr_assert_str_eq(out, "00:16:3e:aa:bb:01");
}
