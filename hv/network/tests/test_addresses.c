/* The host's own addresses, and bonds. */
#include "fixture.h"

#include <linux/if_bonding.h>

static void with_devices(void)
{
    own_namespace();
    cr_assert_eq(ip("link add eth8 type veth peer name peer8"), 0);
    cr_assert_eq(ip("link add eth9 type veth peer name peer9"), 0);
    cr_assert_eq(ip("link set peer8 up"), 0);
    cr_assert_eq(ip("link set peer9 up"), 0);
}

static const char *const first[] = {"192.0.2.5/24", "2001:db8::5/64"}, *const second[] = {"198.51.100.5/25"};

static int set(const char *device, const char *const *wanted, size_t count, const char *const *former,
               size_t former_count, const char *gateway)
{
    const struct network_addresses addresses = {.wanted = wanted,
                                                .wanted_count = count,
                                                .former = former,
                                                .former_count = former_count,
                                                .gateway = gateway,
                                                .gateway6 = ""};
    return network_addresses_set(device, &addresses, &error);
}

Test(addresses, are_given_and_taken, .init = with_devices)
{
    cr_assert_eq(set("eth8", first, 2, NULL, 0, "192.0.2.1"), 0, "%s", error.text);
    cr_assert_eq(set("eth8", first, 2, NULL, 0, "192.0.2.1"), 0, "%s", error.text);
    struct network_interface now = find("eth8");
    cr_expect_str_eq(now.address, "192.0.2.5/24");
    cr_expect_str_eq(now.gateway, "192.0.2.1");
    cr_expect_not(now.leased);
    cr_expect_eq(now.count6, 1);
    cr_expect_str_eq(now.addresses6[0], "2001:db8::5/64");
    cr_expect(now.up && now.carrier);
    /* Others are the host's own, and stay. */
    expect(NETWORK_CONFLICT, set("eth8", second, 1, NULL, 0, ""));
    cr_assert_eq(set("eth8", second, 1, first, 2, ""), 0, "%s", error.text);
    now = find("eth8");
    cr_expect_str_eq(now.address, "198.51.100.5/25");
    cr_expect_str_eq(now.gateway, "");
    cr_expect_eq(now.count6, 0);
    cr_assert_eq(set("eth8", NULL, 0, second, 1, ""), 0, "%s", error.text);
    cr_expect_str_eq(find("eth8").address, "");
    static const char *const bad[] = {"192.0.2.5", "x/24", "192.0.2.5/99"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        expect(NETWORK_BAD_NAME, set("eth8", &bad[i], 1, NULL, 0, ""));
    expect(NETWORK_BAD_NAME, set("eth8", first, 1, NULL, 0, "everywhere"));
    expect(NETWORK_NO_DEVICE, set("eth7", first, 1, NULL, 0, ""));
}

Test(addresses, go_along_to_the_bridge_with_their_routes, .init = with_devices)
{
    struct network_bridge bridge = internal("xenbr8");
    bridge.uplink = "eth8";
    cr_assert_eq(set("eth8", first, 2, NULL, 0, "192.0.2.1"), 0, "%s", error.text);
    cr_assert_eq(ip("route add 203.0.113.0/24 via 192.0.2.2 dev eth8"), 0);
    expect(NETWORK_CONFLICT, network_bridge_ensure(&bridge, &error));
    cr_expect_eq(if_nametoindex("xenbr8"), 0);
    cr_expect_str_eq(find("eth8").master, "");
    bridge.addresses = first;
    bridge.address_count = 2;
    cr_assert_eq(network_bridge_ensure(&bridge, &error), 0, "%s", error.text);
    cr_assert_eq(network_bridge_ensure(&bridge, &error), 0, "%s", error.text);
    struct network_interface now = find("eth8");
    cr_expect_str_eq(now.master, "xenbr8");
    cr_expect(now.master_is_bridge && now.master_is_ours);
    cr_expect_str_eq(now.address, "192.0.2.5/24");
    cr_expect_str_eq(now.gateway, "192.0.2.1");
    cr_expect_str_eq(find("xenbr8").address, "192.0.2.5/24");
    cr_expect_eq(ip("route get 203.0.113.9 oif xenbr8"), 0);
    /* They are changed where they are. */
    cr_assert_eq(set("eth8", second, 1, first, 2, ""), 0, "%s", error.text);
    cr_expect_str_eq(find("xenbr8").address, "198.51.100.5/25");
    expect(NETWORK_CONFLICT, network_link_set("eth8", false, &error));
}

Test(addresses, a_bridge_of_the_hosts_own_is_seen_behind_its_port, .init = with_devices)
{
    cr_assert_eq(ip("link add br0 type bridge"), 0);
    cr_assert_eq(ip("link set eth8 master br0"), 0);
    cr_assert_eq(ip("link set br0 up"), 0);
    cr_assert_eq(ip("addr add 192.0.2.5/24 dev br0"), 0);
    struct network_interface now = find("eth8");
    cr_expect_str_eq(now.master, "br0");
    cr_expect(now.master_is_bridge);
    cr_expect_not(now.master_is_ours);
    cr_expect_str_eq(now.address, "192.0.2.5/24");
    expect(NETWORK_CONFLICT, set("eth8", first, 1, NULL, 0, ""));
}

Test(addresses, what_a_dhcp_client_got_is_known, .init = with_devices)
{
    cr_assert_eq(ip("addr add 192.0.2.5/24 dev eth8 valid_lft 3600 preferred_lft 3600"), 0);
    cr_expect(find("eth8").leased);
}

Test(addresses, an_interface_is_switched_off_unless_the_host_lives_on_it, .init = with_devices)
{
    cr_assert_eq(network_link_set("eth8", true, &error), 0, "%s", error.text);
    cr_expect(find("eth8").up);
    cr_assert_eq(network_link_set("eth8", false, &error), 0, "%s", error.text);
    cr_expect_not(find("eth8").up);
    cr_assert_eq(set("eth8", first, 1, NULL, 0, ""), 0, "%s", error.text);
    expect(NETWORK_CONFLICT, network_link_set("eth8", false, &error));
    expect(NETWORK_NO_DEVICE, network_link_set("eth7", false, &error));
}

Test(addresses, receive_offload_is_switched, .init = with_devices)
{
    cr_expect_eq(network_gro_set("eth8", false, &error), 0, "%s", error.text);
    cr_expect_eq(network_gro_set("eth8", true, &error), 0, "%s", error.text);
    expect(NETWORK_NO_DEVICE, network_gro_set("eth7", true, &error));
}

/* ---- bonds ---- */

static struct network_bond bond_of(const char *const *members, size_t count)
{
    return (struct network_bond){.name = "bond0",
                                 .owner = OWNER,
                                 .members = members,
                                 .member_count = count,
                                 .mode = NETWORK_BOND_BALANCE_SLB,
                                 .mac = ""};
}

static int options_with(enum network_bond_mode mode, const char *key, const char *value,
                        struct network_bond_options *out)
{
    struct network_bond bond = bond_of(NULL, 0);
    const struct str_map *map = NULL;
    if (key)
        str_map_put(&map, key, value);
    bond.mode = mode;
    bond.properties = map;
    int rc = network_bond_options(&bond, out, &error);
    str_map_unref(map);
    return rc;
}

Test(bonds, options_of_each_mode)
{
    struct network_bond_options o;
    cr_assert_eq(options_with(NETWORK_BOND_BALANCE_SLB, NULL, NULL, &o), 0);
    cr_expect(o.mode == BOND_MODE_XOR && o.hash_policy == 5 && o.miimon_ms == 100 && o.use_carrier == 1);
    cr_assert_eq(options_with(NETWORK_BOND_ACTIVE_BACKUP, "downdelay", "200", &o), 0);
    cr_expect(o.mode == BOND_MODE_ACTIVEBACKUP && o.down_delay_ms == 200);
    cr_assert_eq(options_with(NETWORK_BOND_LACP, NULL, NULL, &o), 0);
    cr_expect(o.mode == BOND_MODE_8023AD && o.hash_policy == BOND_XMIT_POLICY_LAYER34 && !o.lacp_fast);
    cr_assert_eq(options_with(NETWORK_BOND_LACP, "hashing_algorithm", "src_mac", &o), 0);
    cr_expect_eq(o.hash_policy, 5);
    cr_assert_eq(options_with(NETWORK_BOND_LACP, "lacp-time", "fast", &o), 0);
    cr_expect(o.lacp_fast);
    static const char *const bad[][2] = {{"hashing_algorithm", "md5"}, {"miimon", "-1"},
                                         {"miimon", "9999999"},        {"updelay", "1s"},
                                         {"use_carrier", "2"},         {"lacp-time", "never"}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        expect(NETWORK_BAD_NAME, options_with(NETWORK_BOND_LACP, bad[i][0], bad[i][1], &o));
}

Test(bonds, are_made_where_the_kernel_has_them, .init = with_devices)
{
    static const char *const members[] = {"eth8", "eth9"};
    struct network_bond bond = bond_of(members, 2);
    if (ip("link add probe type bond") != 0) {
        expect(NETWORK_NOT_ALLOWED, network_bond_ensure(&bond, &error));
        cr_expect(strstr(error.text, "no bonds"), "%s", error.text);
        cr_expect_str_eq(find("eth8").master, "");
        cr_expect_eq(network_bond_remove("bond0", OWNER, &error), 0);
        cr_skip_test("this kernel has no bonds: only the refusal was tried");
    }
    cr_assert_eq(network_bond_ensure(&bond, &error), 0, "%s", error.text);
    cr_assert_eq(network_bond_ensure(&bond, &error), 0, "%s", error.text);
    cr_expect_str_eq(find("eth8").master, "bond0");
    cr_expect_str_eq(find("eth9").master, "bond0");
    cr_expect(find("bond0").bond);
    cr_expect_eq(network_bond_remove("bond0", OTHER, &error), 0);
    cr_expect_neq(if_nametoindex("bond0"), 0);
    cr_expect_eq(network_bond_remove("bond0", OWNER, &error), 0, "%s", error.text);
    cr_expect_str_eq(find("eth8").master, "");
}

Test(bonds, an_interface_that_the_host_lives_on_is_no_member, .init = with_devices)
{
    static const char *const members[] = {"eth8", "eth9"};
    struct network_bond bond = bond_of(members, 2);
    cr_assert_eq(ip("addr add 192.0.2.5/24 dev eth9"), 0);
    expect(NETWORK_CONFLICT, network_bond_ensure(&bond, &error));
    cr_expect_str_eq(find("eth9").address, "192.0.2.5/24");
}
