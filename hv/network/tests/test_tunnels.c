/* Tunnels as uplinks of bridges: what the kernel has is looked at with other programs. */
#include "fixture.h"

#include <base/proc.h>

static const char *const two[] = {"192.0.2.2", "192.0.2.3"}, *const one[] = {"192.0.2.3"};

static struct network_bridge tunnelled(const char *const *peers, size_t count)
{
    struct network_bridge b = internal("xapi1");
    b.uplink = "tunnel0";
    b.tunnel = (struct network_tunnel){
        .kind = NETWORK_TUNNEL_VXLAN, .key = 4711, .local = "192.0.2.1", .peers = peers, .peer_count = count};
    return b;
}

static char *peers(void)
{
    static const char *const argv[] = {"bridge", "fdb", "show", "dev", "tunnel0", NULL};
    const struct proc_spec spec = {.argv = argv};
    const struct proc_run_options options = {.timeout_ms = 20000, .capture_max = 65536};
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    cr_assert_eq(proc_run(&spec, &options, &result), 0, "the program bridge is missing");
    return xstrdup(result.out.data ? result.out.data : "");
}

static void start(void)
{
    own_namespace();
    ip("link set lo up");
    if (ip("link add probe type vxlan id 1 dstport 4789") != 0)
        cr_skip_test("the kernel has no VXLAN");
    cr_assert_eq(ip("link delete probe"), 0);
}

Test(tunnels, other_ends_come_and_go, .init = start)
{
    struct network_bridge both = tunnelled(two, 2), fewer = tunnelled(one, 1), none = tunnelled(NULL, 0);
    cr_assert_eq(network_bridge_ensure(&both, &error), 0, "%s", error.text);
    cr_assert_eq(network_bridge_ensure(&both, &error), 0, "%s", error.text);
    char *before AUTO_FREE = peers();
    cr_expect_not_null(strstr(before, "00:00:00:00:00:00 dst 192.0.2.2"), "%s", before);
    cr_expect_not_null(strstr(before, "00:00:00:00:00:00 dst 192.0.2.3"), "%s", before);
    cr_expect_str_eq(find("tunnel0").master, "xapi1");
    cr_assert_eq(network_bridge_ensure(&fewer, &error), 0, "%s", error.text);
    char *after AUTO_FREE = peers();
    cr_expect_null(strstr(after, "192.0.2.2"), "%s", after);
    cr_expect_not_null(strstr(after, "192.0.2.3"), "%s", after);
    cr_assert_eq(network_bridge_ensure(&none, &error), 0, "%s", error.text);
    char *alone AUTO_FREE = peers();
    cr_expect_null(strstr(alone, "192.0.2"), "%s", alone);
    cr_assert_eq(network_bridge_remove("xapi1", OWNER, &error), 0, "%s", error.text);
    cr_expect_eq(if_nametoindex("tunnel0"), 0);
    cr_expect_eq(if_nametoindex("xapi1"), 0);
}

Test(tunnels, what_is_refused_leaves_nothing, .init = start)
{
    static const char *const words[] = {"elsewhere"};
    struct network_bridge gre = tunnelled(two, 2), no_address = tunnelled(two, 2),
                          no_peer = tunnelled(words, 1), good = tunnelled(two, 2), other = good;
    gre.tunnel.kind = NETWORK_TUNNEL_GRE;
    no_address.tunnel.local = "here";
    expect(NETWORK_NOT_ALLOWED, network_bridge_ensure(&gre, &error));
    expect(NETWORK_BAD_NAME, network_bridge_ensure(&no_address, &error));
    expect(NETWORK_BAD_NAME, network_bridge_ensure(&no_peer, &error));
    cr_expect_eq(if_nametoindex("xapi1"), 0);
    cr_assert_eq(network_bridge_ensure(&good, &error), 0, "%s", error.text);
    other.tunnel.key = 5;
    expect(NETWORK_CONFLICT, network_bridge_ensure(&other, &error));
    other = good;
    other.owner = OTHER;
    other.name = "xapi2";
    expect(NETWORK_CONFLICT, network_bridge_ensure(&other, &error));
}
