/* Bridges and taps, in a network namespace of each test's own. */
#include "fixture.h"

Test(network, an_internal_bridge_is_made_once, .init = own_namespace)
{
    struct network_bridge bridge = internal("xapi0");
    cr_assert_eq(network_bridge_ensure(&bridge, &error), 0, "%s", error.text);
    cr_assert_eq(network_bridge_ensure(&bridge, &error), 0, "%s", error.text);
    struct network_interface now = find("xapi0");
    cr_expect_eq(now.mtu, 1400);
    cr_expect_not(now.physical);
    cr_expect_str_eq(now.address, "");
    cr_expect_eq(ip("-6 addr show dev xapi0 scope link"), 0);
    struct network_bridge stranger = bridge;
    stranger.owner = OTHER;
    expect(NETWORK_CONFLICT, network_bridge_ensure(&stranger, &error));
    cr_expect_eq(network_bridge_remove("xapi0", OTHER, &error), 0);
    cr_expect_neq(if_nametoindex("xapi0"), 0);
    cr_expect_eq(network_bridge_remove("xapi0", OWNER, &error), 0, "%s", error.text);
    cr_expect_eq(network_bridge_remove("xapi0", OWNER, &error), 0);
    cr_expect_eq(if_nametoindex("xapi0"), 0);
}

Test(network, a_bridge_of_the_host_is_used_and_left_alone, .init = own_namespace)
{
    struct network_bridge bridge = internal("br0");
    bridge.managed = false;
    expect(NETWORK_NO_DEVICE, network_bridge_ensure(&bridge, &error));
    cr_assert_eq(ip("link add br0 mtu 1300 type bridge"), 0);
    cr_assert_eq(network_bridge_ensure(&bridge, &error), 0, "%s", error.text);
    cr_expect_eq(find("br0").mtu, 1300);
    bridge.managed = true;
    expect(NETWORK_CONFLICT, network_bridge_ensure(&bridge, &error));
    cr_expect_eq(network_bridge_remove("br0", OWNER, &error), 0);
    cr_expect_neq(if_nametoindex("br0"), 0);
    cr_assert_eq(ip("link add dummy0 type veth peer name dummy1"), 0);
    bridge.name = "dummy0";
    expect(NETWORK_CONFLICT, network_bridge_ensure(&bridge, &error));
}

Test(network, an_uplink_joins_unless_the_host_lives_on_it, .init = own_namespace)
{
    struct network_bridge bridge = internal("xenbr0");
    bridge.uplink = "eth9";
    expect(NETWORK_NO_DEVICE, network_bridge_ensure(&bridge, &error));
    cr_expect_eq(if_nametoindex("xenbr0"), 0);
    cr_assert_eq(ip("link add eth9 type veth peer name peer9"), 0);
    cr_assert_eq(network_bridge_ensure(&bridge, &error), 0, "%s", error.text);
    cr_assert_eq(network_bridge_ensure(&bridge, &error), 0, "%s", error.text);
    cr_expect_eq(ip("link show dev eth9 master xenbr0"), 0);
    struct network_bridge second = internal("xenbr1");
    second.uplink = "eth9";
    expect(NETWORK_CONFLICT, network_bridge_ensure(&second, &error));
    cr_expect_eq(network_bridge_remove("xenbr0", OWNER, &error), 0, "%s", error.text);
    cr_expect_neq(if_nametoindex("eth9"), 0);
    cr_assert_eq(ip("addr add 192.0.2.5/24 dev eth9"), 0);
    cr_expect_str_eq(find("eth9").address, "192.0.2.5/24");
    expect(NETWORK_CONFLICT, network_bridge_ensure(&second, &error));
    cr_expect_eq(if_nametoindex("xenbr1"), 0);
}

Test(network, tagged_uplinks_come_and_go_with_their_bridge, .init = own_namespace)
{
    struct network_bridge five = internal("xapi5"), six = internal("xapi6");
    five.uplink = six.uplink = "eth9";
    five.vlan = 5;
    six.vlan = 4094;
    six.owner = OTHER;
    cr_assert_eq(ip("link add eth9 type veth peer name peer9"), 0);
    if (ip("link add link eth9 name probe type vlan id 1") != 0)
        cr_skip_test("this kernel has no tagged interfaces");
    cr_assert_eq(ip("addr add 192.0.2.5/24 dev eth9"), 0); /* tags leave the host's own frames alone */
    cr_assert_eq(network_bridge_ensure(&five, &error), 0, "%s", error.text);
    cr_assert_eq(network_bridge_ensure(&five, &error), 0, "%s", error.text);
    cr_assert_eq(network_bridge_ensure(&six, &error), 0, "%s", error.text);
    cr_expect_neq(if_nametoindex("eth9.5"), 0);
    cr_expect_neq(if_nametoindex("eth9.4094"), 0);
    cr_expect_eq(network_bridge_remove("xapi5", OWNER, &error), 0, "%s", error.text);
    cr_expect_eq(if_nametoindex("eth9.5"), 0);
    cr_expect_neq(if_nametoindex("eth9.4094"), 0);
    six.vlan = 4095;
    expect(NETWORK_BAD_NAME, network_bridge_ensure(&six, &error));
}

/* A frame with its virtio header. */
static void exchange(int from, int to)
{
    unsigned char frame[10 + 60] = {0}, seen[2048];
    memset(frame + 10, 0xff, 6); /* to everybody */
    memcpy(frame + 16, "\x02\0\0\0\0\x01", 6);
    memcpy(frame + 22, "\x88\xb5", 2); /* an EtherType for experiments */
    memcpy(frame + 24, "hello", 5);
    cr_assert_eq(write(from, frame, sizeof(frame)), (ssize_t)sizeof(frame));
    for (;;) {
        struct pollfd p = {.fd = to, .events = POLLIN};
        cr_assert_eq(poll(&p, 1, 10000), 1, "the frame did not arrive");
        ssize_t n = read(to, seen, sizeof(seen));
        if (n == (ssize_t)sizeof(frame) && memcmp(seen + 24, "hello", 5) == 0)
            return;
    }
}

Test(network, taps_of_one_bridge_hear_each_other, .init = own_namespace)
{
    struct network_bridge bridge = internal("xapi0");
    int a, b;
    const struct network_card first = card(0, "02:00:00:00:00:01"), second = card(1, "02:00:00:00:00:02");
    expect(NETWORK_NO_DEVICE, network_tap_open("xapi0", &first, &a, &error));
    cr_assert_eq(network_bridge_ensure(&bridge, &error), 0, "%s", error.text);
    cr_assert_eq(network_tap_open("xapi0", &first, &a, &error), 0, "%s", error.text);
    cr_assert_eq(network_tap_open("xapi0", &second, &b, &error), 0, "%s", error.text);
    exchange(a, b);
    exchange(b, a);
    expect(NETWORK_CONFLICT, network_bridge_remove("xapi0", OWNER, &error));
    cr_expect_eq(find(tap_name()).mtu, 1400);
    close(a);
    close(b);
    cr_expect_str_eq(tap_name(), "");
    cr_expect_eq(network_bridge_remove("xapi0", OWNER, &error), 0, "%s", error.text);
}

Test(network, names, .init = own_namespace)
{
    static const char *const bad[] = {"", "a name", "sixteen-letters-", "a/b", "..", "x%d", "\"", "a\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct network_bridge bridge = internal(bad[i]);
        const struct network_card any = card(0, "02:00:00:00:00:01");
        int fd;
        expect(NETWORK_BAD_NAME, network_bridge_ensure(&bridge, &error));
        expect(NETWORK_BAD_NAME, network_tap_open(bad[i], &any, &fd, &error));
        expect(NETWORK_BAD_NAME, network_bridge_remove(bad[i], OWNER, &error));
    }
}

Test(network, who_may_not_is_told, .init = own_namespace)
{
    struct network_bridge bridge = internal("xapi0");
    cr_expect(network_allowed(&error), "%s", error.text);
    cr_assert_eq(setuid(65534), 0);
    cr_expect_not(network_allowed(&error));
    cr_expect_eq(error.kind, NETWORK_NOT_ALLOWED);
    expect(NETWORK_NOT_ALLOWED, network_bridge_ensure(&bridge, &error));
}
