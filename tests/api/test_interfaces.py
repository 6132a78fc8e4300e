"""Interfaces of hosts (PIF), VLANs, bonds, the management interface: rows and checks, with simulated hosts."""
import threading
import unittest

from pool import NULL, Failure, module_pool
from vms import record

POOL = API = None
MISSING = "OpaqueRef:00000000-0000-0000-0000-000000000001"


def setUpModule():
    global POOL, API
    POOL = module_pool(hosts=2)
    API = POOL.login()


class Case(unittest.TestCase):
    def fails(self, code, params, name, *args):
        with self.assertRaises(Failure) as caught:
            API.call(name, API.session, *args)
        self.assertEqual(caught.exception.code, code, caught.exception)
        if params is not None:
            self.assertEqual(list(caught.exception.params), params)

    def network(self, name="n", **more):
        ref = API.network.create({"name_label": name, "name_description": "", "MTU": 1500, "other_config": {},
                                  "bridge": "", "managed": True, "tags": [], **more})
        self.addCleanup(self.drop, API.network.destroy, ref)
        return ref

    @staticmethod
    def drop(destroy, ref):
        try:
            destroy(ref)
        except Failure as failure:
            if failure.code != "HANDLE_INVALID":
                raise

    def pif(self, device, host=None, vlan=-1):
        host = host or HOSTS()[0]
        found = [p for p, r in API.PIF.get_all_records().items()
                 if r["host"] == host and r["device"] == device and r["VLAN"] == vlan]
        self.assertEqual(len(found), 1, f"{device} {vlan}")
        return found[0]


def HOSTS():
    return [API.pool.get_master(API.pool.get_all()[0])] + \
        [h for h in API.host.get_all() if h != API.pool.get_master(API.pool.get_all()[0])]


class Rows(Case):
    def test_each_device_is_a_PIF_of_a_network(self):
        for host in HOSTS():
            pifs = {r["device"]: r for r in (API.PIF.get_record(p) for p in API.host.get_PIFs(host)) if r["physical"]}
            self.assertEqual(sorted(pifs), ["eth0", "eth1", "eth2"])
            first, second = pifs["eth0"], pifs["eth1"]
            self.assertEqual((first["management"], second["management"]), (True, False))
            self.assertEqual(API.host.get_management_interface(host), self.pif("eth0", host))
            self.assertEqual(first["ip_configuration_mode"], "Static")
            self.assertRegex(first["IP"], r"^192\.0\.2\.\d+$")
            self.assertEqual((first["netmask"], first["gateway"], first["DNS"]),
                             ("255.255.255.0", "192.0.2.254", "192.0.2.253"))
            self.assertEqual((second["ip_configuration_mode"], second["IP"]), ("None", ""))
            for record in (first, second):
                self.assertEqual((record["VLAN"], record["currently_attached"], record["managed"], record["MTU"]),
                                 (-1, True, True, 1500))
                self.assertRegex(record["MAC"], "^02(:[0-9a-f]{2}){5}$")
                metrics = API.PIF_metrics.get_record(record["metrics"])
                self.assertEqual((metrics["carrier"], metrics["speed"], metrics["duplex"]), (True, 1000, True))
            network = API.network.get_record(first["network"])
            self.assertEqual((network["name_label"], network["bridge"], network["managed"]),
                             ("Pool-wide network associated with eth0", "xenbr0", True))
            self.assertEqual(len(network["PIFs"]), 2)  # one a host
        self.fails("HANDLE_INVALID", None, "host.get_management_interface", MISSING)
        self.fails("NETWORK_CONTAINS_PIF", None, "network.destroy", API.PIF.get_network(self.pif("eth0")))

    def test_forgotten_and_found_again(self):
        pif = self.pif("eth1")
        record = API.PIF.get_record(pif)
        host, mac = record["host"], record["MAC"]
        before = API.PIF.get_all()
        API.PIF.scan(host)
        self.assertEqual(API.PIF.get_all(), before)
        self.fails("PIF_IS_MANAGEMENT_INTERFACE", None, "PIF.forget", self.pif("eth0"))
        API.PIF.forget(pif)
        self.assertNotIn(pif, API.PIF.get_all())
        self.assertNotIn(record["metrics"], API.PIF_metrics.get_all())
        self.fails("MAC_INVALID", ["nonsense"], "PIF.introduce", host, "nonsense", "eth1", True)
        self.fails("MAC_DOES_NOT_EXIST", ["02:00:00:00:00:99"], "PIF.introduce", host, "02:00:00:00:00:99", "", True)
        self.fails("COULD_NOT_FIND_NETWORK_INTERFACE_WITH_SPECIFIED_DEVICE_NAME_AND_MAC_ADDRESS", ["eth7", mac],
                   "PIF.introduce", host, mac, "eth7", True)
        new = API.PIF.introduce(host, mac.upper(), "eth1", False)
        self.assertFalse(API.PIF.get_managed(new))
        self.assertFalse(API.network.get_managed(API.PIF.get_network(new)))
        self.fails("DUPLICATE_PIF_DEVICE_NAME", ["eth1"], "PIF.introduce", host, mac, "eth1", True)
        self.fails("PIF_UNMANAGED", [new], "PIF.unplug", new)
        network = API.PIF.get_network(new)
        API.PIF.forget(new)
        API.network.destroy(network)
        API.PIF.scan(host)
        again = API.PIF.get_record(self.pif("eth1"))
        self.assertEqual((again["MAC"], again["network"], again["managed"]), (mac, record["network"], True))
        self.fails("HANDLE_INVALID", None, "PIF.scan", MISSING)

    def test_a_look_that_was_overtaken_changes_nothing(self):
        """What a host said before an interface changed is no news after it."""
        pif, host, over = self.pif("eth1"), HOSTS()[0], threading.Event()

        def scan(api):
            while not over.is_set():
                api.PIF.scan(host)
        threads = [threading.Thread(target=scan, args=(POOL.again(API),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(40):
                API.PIF.unplug(pif)
                self.assertFalse(API.PIF.get_currently_attached(pif))
                API.PIF.plug(pif)
                self.assertTrue(API.PIF.get_currently_attached(pif))
        finally:
            over.set()
            for thread in threads:
                thread.join(60)

    def test_up_and_down(self):
        pif = self.pif("eth1")
        API.PIF.unplug(pif)
        self.assertFalse(API.PIF.get_currently_attached(pif))
        API.PIF.scan(HOSTS()[0])
        self.assertFalse(API.PIF.get_currently_attached(pif))
        self.assertFalse(API.PIF_metrics.get_carrier(API.PIF.get_metrics(pif)))
        API.PIF.plug(pif)
        self.assertTrue(API.PIF.get_currently_attached(pif))
        API.PIF.plug(self.pif("eth0"))  # the host's own: it is up
        API.PIF.set_disallow_unplug(pif, True)
        self.fails("PIF_DOES_NOT_ALLOW_UNPLUG", [pif], "PIF.unplug", pif)
        API.PIF.set_disallow_unplug(pif, False)
        management = self.pif("eth0")
        self.fails("PIF_IS_MANAGEMENT_INTERFACE", [management], "PIF.unplug", management)

    def test_addresses(self):
        pif, management = self.pif("eth1"), self.pif("eth0")
        for args, code, param in (
                (("Static", "192.0.2.999", "255.255.255.0", "", ""), "INVALID_IP_ADDRESS_SPECIFIED", "IP"),
                (("Static", "192.0.2.9", "255.0.255.0", "", ""), "INVALID_IP_ADDRESS_SPECIFIED", "netmask"),
                (("Static", "192.0.2.9", "255.255.255.0", "x", ""), "INVALID_IP_ADDRESS_SPECIFIED", "gateway"),
                (("Static", "192.0.2.9", "255.255.255.0", "", "192.0.2.1,x"), "INVALID_IP_ADDRESS_SPECIFIED", "DNS")):
            self.fails(code, [param], "PIF.reconfigure_ip", pif, *args)
        self.fails("PIF_CONFIGURATION_ERROR", None, "PIF.reconfigure_ip", pif, "DHCP", "", "", "", "")
        API.PIF.reconfigure_ip(pif, "Static", "198.51.100.7", "255.255.255.128", "198.51.100.1", "198.51.100.2")
        API.PIF.reconfigure_ipv6(pif, "Static", "2001:db8::7/64", "2001:db8::1", "")
        self.fails("INVALID_CIDR_ADDRESS_SPECIFIED", ["IPv6"], "PIF.reconfigure_ipv6", pif, "Static", "2001:db8::7", "", "")
        API.PIF.scan(HOSTS()[0])
        record = API.PIF.get_record(pif)
        self.assertEqual((record["ip_configuration_mode"], record["IP"], record["netmask"], record["gateway"], record["DNS"]),
                         ("Static", "198.51.100.7", "255.255.255.128", "198.51.100.1", "198.51.100.2"))
        self.assertEqual((record["ipv6_configuration_mode"], record["IPv6"], record["ipv6_gateway"]),
                         ("Static", ["2001:db8::7/64"], "2001:db8::1"))
        API.PIF.reconfigure_ipv6(pif, "None", "", "", "")
        API.PIF.reconfigure_ip(pif, "Static", "198.51.100.8", "255.255.255.0", "", "")
        self.assertEqual(API.PIF.get_IP(pif), "198.51.100.8")
        API.PIF.reconfigure_ip(pif, "None", "", "", "", "")
        API.PIF.scan(HOSTS()[0])
        record = API.PIF.get_record(pif)
        self.assertEqual((record["ip_configuration_mode"], record["IP"], record["IPv6"]), ("None", "", []))
        # What the host was set up with by others is not touched.
        now = API.PIF.get_record(management)
        API.PIF.reconfigure_ip(management, "Static", now["IP"], now["netmask"], now["gateway"], now["DNS"])
        self.fails("PIF_CONFIGURATION_ERROR", None, "PIF.reconfigure_ip", management, "Static", "192.0.2.77",
                   "255.255.255.0", "", "")
        self.fails("PIF_IS_MANAGEMENT_INTERFACE", [management], "PIF.reconfigure_ip", management, "None", "", "", "", "")
        self.assertEqual(API.PIF.get_record(management), now)

    def test_settings(self):
        pif = self.pif("eth1")
        API.PIF.set_property(pif, "gro", "off")
        self.assertEqual(API.PIF.get_properties(pif), {"gro": "off"})
        API.PIF.set_property(pif, "gro", "on")
        self.fails("INVALID_VALUE", ["properties", "gro = maybe"], "PIF.set_property", pif, "gro", "maybe")
        API.PIF.set_primary_address_type(pif, "IPv6")
        self.assertEqual(API.PIF.get_primary_address_type(pif), "IPv6")
        API.PIF.set_primary_address_type(pif, "IPv4")
        management = self.pif("eth0")
        self.fails("PIF_IS_MANAGEMENT_INTERFACE", [management], "PIF.set_primary_address_type", management, "IPv6")

    def test_rows_made_by_hand(self):
        host, network = HOSTS()[0], self.network()
        pif = API.PIF.db_introduce("eth7", network, host, "02:00:00:00:00:07", 9000, -1, True, "None", "", "", "", "",
                                   NULL, NULL, False, {"a": "b"})
        record = API.PIF.get_record(pif)
        self.assertEqual((record["device"], record["MTU"], record["other_config"], record["currently_attached"]),
                         ("eth7", 9000, {"a": "b"}, False))
        API.PIF.scan(host)  # such a device is not there
        self.fails("PIF_CONFIGURATION_ERROR", None, "PIF.plug", pif)
        self.assertFalse(API.PIF.get_currently_attached(pif))
        API.PIF.db_forget(pif)
        self.assertNotIn(pif, API.PIF.get_all())
        self.fails("HANDLE_INVALID", None, "PIF.db_forget", pif)

    def test_rows_of_a_joining_host(self):
        host = HOSTS()[0]
        network = API.network.pool_introduce("theirs", "of old", 9000, {"a": "b"}, "xapi77", True, ["nbd"])
        self.addCleanup(self.drop, API.network.destroy, network)
        record = API.network.get_record(network)
        self.assertEqual([record[k] for k in ("name_label", "name_description", "MTU", "other_config", "bridge", "managed", "purpose")],
                         ["theirs", "of old", 9000, {"a": "b"}, "xapi77", True, ["nbd"]])
        self.fails("INVALID_VALUE", ["bridge", "x" * 16], "network.pool_introduce", "", "", 0, {}, "x" * 16, True, [])
        tagged = API.PIF.pool_introduce("eth7", network, host, "02:00:00:00:00:07", 9000, -1, True, "None", "", "", "",
                                        "", NULL, NULL, False, {})
        untagged = API.PIF.pool_introduce("eth7", self.network(), host, "02:00:00:00:00:07", 9000, 5, False, "None", "",
                                          "", "", "", NULL, NULL, False, {})
        vlan = API.VLAN.pool_introduce(tagged, untagged, 5, {"c": "d"})
        self.addCleanup(self.drop, API.PIF.db_forget, tagged)
        self.addCleanup(self.drop, API.VLAN.destroy, vlan)
        record = API.VLAN.get_record(vlan)
        self.assertEqual((record["tagged_PIF"], record["untagged_PIF"], record["tag"], record["other_config"]),
                         (tagged, untagged, 5, {"c": "d"}))
        self.assertEqual(API.PIF.get_VLAN_master_of(untagged), vlan)
        self.fails("VLAN_TAG_INVALID", ["4095"], "VLAN.pool_introduce", tagged, untagged, 4095, {})
        self.fails("HANDLE_INVALID", ["PIF", MISSING], "VLAN.pool_introduce", tagged, MISSING, 5, {})
        API.VLAN.destroy(vlan)
        API.PIF.db_forget(tagged)


class Vlans(Case):
    def test_one_host(self):
        tagged, network, other = self.pif("eth1"), self.network("v5"), self.network("v6")
        for tag in (-1, 4095):
            self.fails("VLAN_TAG_INVALID", [str(tag)], "VLAN.create", tagged, tag, network)
        vlan = API.VLAN.create(tagged, 5, network)
        record = API.VLAN.get_record(vlan)
        pif = record["untagged_PIF"]
        self.assertEqual((record["tagged_PIF"], record["tag"]), (tagged, 5))
        untagged = API.PIF.get_record(pif)
        self.assertEqual((untagged["device"], untagged["VLAN"], untagged["VLAN_master_of"], untagged["network"],
                          untagged["physical"], untagged["currently_attached"]), ("eth1", 5, vlan, network, False, True))
        self.assertEqual(untagged["metrics"], API.PIF.get_metrics(tagged))
        self.assertEqual(API.PIF.get_VLAN_slave_of(tagged), [vlan])
        self.fails("PIF_VLAN_EXISTS", [pif], "VLAN.create", tagged, 5, other)
        self.fails("NETWORK_ALREADY_CONNECTED", [network, pif], "VLAN.create", tagged, 6, network)
        self.fails("PIF_IS_VLAN", [pif], "VLAN.create", pif, 6, other)
        self.fails("PIF_VLAN_STILL_EXISTS", [tagged], "PIF.forget", tagged)
        self.fails("CANNOT_CHANGE_PIF_PROPERTIES", [pif], "PIF.set_property", pif, "gro", "on")
        self.fails("NETWORK_CONTAINS_PIF", None, "network.destroy", network)
        API.PIF.unplug(pif)
        API.PIF.plug(pif)
        API.VLAN.destroy(vlan)
        self.assertEqual(API.PIF.get_VLAN_slave_of(tagged), [])
        self.assertNotIn(pif, API.PIF.get_all())
        self.assertIn(API.PIF.get_metrics(tagged), API.PIF_metrics.get_all())
        self.fails("HANDLE_INVALID", None, "VLAN.destroy", vlan)

    def test_older_messages(self):
        host, network = HOSTS()[0], self.network("v7")
        self.fails("PIF_DEVICE_NOT_FOUND", [], "PIF.create_VLAN", "eth9", network, host, 7)
        pif = API.PIF.create_VLAN("eth1", network, host, 7)
        self.assertEqual(API.PIF.get_VLAN(pif), 7)
        tagged = self.pif("eth1")
        self.fails("PIF_IS_PHYSICAL", [tagged], "PIF.destroy", tagged)
        API.PIF.destroy(pif)
        self.assertNotIn(pif, API.PIF.get_all())

    def test_every_host(self):
        network = self.network("v8")
        pifs = API.pool.create_VLAN_from_PIF(self.pif("eth1"), network, 8)
        self.assertEqual(len(pifs), 2)
        self.assertEqual(sorted(API.PIF.get_host(p) for p in pifs), sorted(HOSTS()))
        other = self.network("v8b")
        self.fails("PIF_VLAN_EXISTS", None, "pool.create_VLAN_from_PIF", self.pif("eth1"), other, 8)
        self.fails("VLAN_TAG_INVALID", ["9999"], "pool.create_VLAN_from_PIF", self.pif("eth1"), other, 9999)
        for pif in pifs:
            API.VLAN.destroy(API.PIF.get_VLAN_master_of(pif))
        self.fails("PIF_DEVICE_NOT_FOUND", [], "pool.create_VLAN", "eth9", network, 8)
        # All or none: the second host has one already.
        lone = API.VLAN.create(self.pif("eth1", HOSTS()[1]), 8, other)
        self.fails("PIF_VLAN_EXISTS", None, "pool.create_VLAN", "eth1", network, 8)
        self.assertEqual(API.VLAN.get_all(), [lone])
        API.VLAN.destroy(lone)
        pifs = API.pool.create_VLAN("eth1", network, 8)
        self.assertEqual(len(pifs), 2)
        for pif in pifs:
            API.PIF.destroy(pif)


class Tunnels(Case):
    def test_life(self):
        network = self.network("far")
        one, two = (self.pif("eth0", host) for host in HOSTS())
        tunnel = API.tunnel.create(one, network, "vxlan")
        record = API.tunnel.get_record(tunnel)
        self.assertEqual((record["transport_PIF"], record["protocol"], record["status"]["active"]), (one, "vxlan", "true"))
        access = record["access_PIF"]
        inner = API.PIF.get_record(access)
        self.assertRegex(inner["device"], "^tunnel[0-9]+$")
        self.assertEqual((inner["network"], inner["host"], inner["physical"], inner["VLAN"], inner["currently_attached"],
                          inner["tunnel_access_PIF_of"]), (network, HOSTS()[0], False, -1, True, [tunnel]))
        self.assertEqual(API.PIF.get_tunnel_transport_PIF_of(one), [tunnel])
        self.fails("NETWORK_ALREADY_CONNECTED", [network, access], "tunnel.create", one, network, "vxlan")
        self.fails("IS_TUNNEL_ACCESS_PIF", [access], "tunnel.create", access, self.network(), "vxlan")
        self.fails("IS_TUNNEL_ACCESS_PIF", [access], "VLAN.create", access, 5, self.network())
        self.fails("PIF_TUNNEL_STILL_EXISTS", [one], "PIF.forget", one)
        self.fails("NETWORK_INCOMPATIBLE_WITH_TUNNEL", [network], "tunnel.create", two, network)  # GRE
        API.PIF.unplug(access)
        API.PIF.plug(access)
        other = API.tunnel.create(two, network, "vxlan")
        self.assertEqual(API.tunnel.get_status(other)["key"], record["status"]["key"])
        API.network.attach(network, HOSTS()[1])
        for made in (tunnel, other):
            API.tunnel.destroy(made)
        self.assertEqual((API.tunnel.get_all(), API.network.get_PIFs(network)), ([], []))
        self.assertIn(API.PIF.get_metrics(one), API.PIF_metrics.get_all())
        self.fails("HANDLE_INVALID", ["tunnel", tunnel], "tunnel.destroy", tunnel)

    def test_what_is_refused(self):
        bare, network = self.pif("eth2"), self.network()
        self.fails("TRANSPORT_PIF_NOT_CONFIGURED", [bare], "tunnel.create", bare, network, "vxlan")
        lan = API.PIF.get_network(self.pif("eth1"))
        self.fails("NETWORK_ALREADY_CONNECTED", None, "tunnel.create", self.pif("eth0"), lan, "vxlan")
        # An address that the host does not have: it refuses, and nothing is left.
        before = API.PIF.get_all_records()
        wrong = API.PIF.db_introduce("eth7", self.network(), HOSTS()[0], "02:00:00:00:00:07", 1500, -1, True, "Static",
                                     "203.0.113.9", "255.255.255.0", "", "", NULL, NULL, False, {})
        self.fails("PIF_CONFIGURATION_ERROR", None, "tunnel.create", wrong, network, "vxlan")
        API.PIF.db_forget(wrong)
        self.assertEqual((API.PIF.get_all_records(), API.tunnel.get_all()), (before, []))


class Bonds(Case):
    def test_what_is_refused(self):
        host, network = HOSTS()[0], self.network("bonded")
        eth0, eth1, eth2 = (self.pif(f"eth{n}") for n in range(3))
        eth7 = API.PIF.db_introduce("eth7", self.network("n7"), host, "02:00:00:00:00:07", 1500, -1, True, "None", "",
                                    "", "", "", NULL, NULL, False, {})
        vlan = API.VLAN.create(eth1, 5, self.network("v"))
        self.fails("PIF_BOND_NEEDS_MORE_MEMBERS", [], "Bond.create", network, [eth1], "", "balance-slb", {})
        self.fails("PIF_CANNOT_BOND_CROSS_HOST", [], "Bond.create", network, [eth1, self.pif("eth1", HOSTS()[1])], "",
                   "balance-slb", {})
        self.fails("MAC_INVALID", ["x"], "Bond.create", network, [eth1, eth2], "x", "balance-slb", {})
        self.fails("INVALID_VALUE", ["hashing_algorithm", "src_mac"], "Bond.create", network, [eth1, eth2], "",
                   "active-backup", {"hashing_algorithm": "src_mac"})
        self.fails("PIF_IS_VLAN", None, "Bond.create", network, [eth1, API.VLAN.get_untagged_PIF(vlan)], "", "lacp", {})
        # The host lives on eth0, and has no eth7: it refuses, and nothing is left of the bond.
        for members in ([eth0, eth1], [eth1, eth7]):
            before = API.PIF.get_all_records()
            self.fails("PIF_CONFIGURATION_ERROR", None, "Bond.create", network, members, "", "balance-slb", {})
            self.assertEqual(API.Bond.get_all(), [])
            self.assertEqual(API.PIF.get_all_records(), before)
        API.VLAN.destroy(vlan)
        API.PIF.db_forget(eth7)

    def test_life(self):
        network = self.network("bonded")
        eth1, eth2 = self.pif("eth1"), self.pif("eth2")
        vlan = API.VLAN.create(eth1, 5, self.network("v"))
        API.PIF.reconfigure_ip(eth1, "Static", "198.51.100.9", "255.255.255.0", "", "")
        self.fails("PIF_CONFIGURATION_ERROR", None, "Bond.create", network, [eth1, eth2], "", "lacp", {})
        API.PIF.reconfigure_ip(eth1, "None", "", "", "", "")
        bond = API.Bond.create(network, [eth1, eth2], "", "lacp", {"miimon": "50"})
        record = API.Bond.get_record(bond)
        self.assertEqual((record["mode"], record["primary_slave"], sorted(record["slaves"])), ("lacp", eth1, sorted([eth1, eth2])))
        self.assertEqual(record["properties"], {"miimon": "50", "hashing_algorithm": "tcpudp_ports"})
        master = API.PIF.get_record(record["master"])
        self.assertEqual((master["device"], master["physical"], master["MAC"], master["network"], master["bond_master_of"],
                          master["currently_attached"]), ("bond0", False, API.PIF.get_MAC(eth1), network, [bond], True))
        self.assertEqual([API.PIF.get_bond_slave_of(p) for p in (eth1, eth2)], [bond, bond])
        self.assertEqual(API.VLAN.get_tagged_PIF(vlan), record["master"])
        self.assertEqual(API.PIF.get_device(API.VLAN.get_untagged_PIF(vlan)), "bond0")
        self.fails("PIF_ALREADY_BONDED", [eth1], "PIF.forget", eth1)
        self.fails("CANNOT_PLUG_BOND_SLAVE", [eth1], "PIF.plug", eth1)
        self.fails("CANNOT_ADD_VLAN_TO_BOND_SLAVE", [eth1], "VLAN.create", eth1, 6, self.network("w"))
        self.fails("PIF_IS_NOT_PHYSICAL", [record["master"]], "Bond.create", network, [record["master"], self.pif("eth0")], "", "lacp", {})
        API.network.attach(network, HOSTS()[0])
        API.Bond.set_property(bond, "hashing_algorithm", "src_mac")
        self.fails("INVALID_VALUE", ["colour", "red"], "Bond.set_property", bond, "colour", "red")
        API.Bond.set_mode(bond, "active-backup")
        self.assertEqual((API.Bond.get_mode(bond), API.Bond.get_properties(bond)), ("active-backup", {"miimon": "50"}))
        API.PIF.scan(HOSTS()[0])
        self.assertFalse(API.PIF.get_currently_attached(eth1))
        API.PIF.reconfigure_ip(record["master"], "Static", "198.51.100.9", "255.255.255.0", "", "")
        API.PIF.reconfigure_ip(record["master"], "None", "", "", "", "")
        API.Bond.destroy(bond)
        self.assertNotIn(record["master"], API.PIF.get_all())
        self.assertEqual([API.PIF.get_bond_slave_of(p) for p in (eth1, eth2)], [NULL, NULL])
        self.assertEqual((API.VLAN.get_tagged_PIF(vlan), API.PIF.get_currently_attached(eth2)), (eth1, True))
        API.VLAN.destroy(vlan)
        self.fails("HANDLE_INVALID", None, "Bond.destroy", bond)


class WhereManaged(Case):
    def test_it_moves_to_where_the_agent_answers(self):
        host, eth0, eth1 = HOSTS()[1], self.pif("eth0", HOSTS()[1]), self.pif("eth1", HOSTS()[1])
        self.fails("PIF_HAS_NO_NETWORK_CONFIGURATION", [eth1], "host.management_reconfigure", eth1)
        API.host.management_reconfigure(eth0)  # it is that one
        API.PIF.reconfigure_ip(eth1, "Static", "127.0.0.1", "255.0.0.0", "", "")
        API.host.management_reconfigure(eth1)
        self.assertEqual(API.host.get_management_interface(host), eth1)
        self.assertFalse(API.PIF.get_management(eth0))
        self.assertEqual(API.host.get_address(host), "127.0.0.1")
        API.PIF.scan(host)  # the new connection works
        self.assertEqual(API.host.get_management_interface(host), eth1)
        self.fails("PIF_IS_MANAGEMENT_INTERFACE", [eth1], "PIF.unplug", eth1)
        self.fails("PIF_NOT_PRESENT", None, "pool.management_reconfigure", self.network())
        self.fails("PIF_DEVICE_NOT_FOUND", [], "host.local_management_reconfigure", "eth9")
        API.host.local_management_reconfigure("eth0")  # of the coordinator, which has it there
        API.host.local_management_reconfigure("xenbr0")
        mine = self.pif("eth1")
        API.PIF.reconfigure_ip(mine, "Static", "127.0.0.1", "255.0.0.0", "", "")
        API.pool.management_reconfigure(API.PIF.get_network(mine))
        self.assertEqual(API.host.get_management_interface(HOSTS()[0]), mine)


class Trunks(Case):
    def test_tags_of_a_card(self):
        lan, host = API.PIF.get_network(self.pif("eth2")), HOSTS()[0]
        tagged = self.network("tagged")
        vlan = API.VLAN.create(self.pif("eth2"), 9, tagged)
        vm = API.VM.create(record("trunk"))
        vif = API.VIF.create({"device": "0", "network": lan, "VM": vm, "MAC": "", "MTU": 1500, "other_config": {},
                              "qos_algorithm_type": "", "qos_algorithm_params": {}})
        API.VIF.set_trunks(vif, [10, 0])
        API.VM.start_on(vm, host, False, False)
        API.VIF.add_trunks(vif, 20)
        API.VIF.add_trunks(vif, 20)
        API.VIF.remove_trunks(vif, 0)
        API.VIF.remove_trunks(vif, 7)
        self.assertEqual(sorted(API.VIF.get_trunks(vif)), [10, 20])
        for tag in (-1, 4095):
            self.fails("VLAN_TAG_INVALID", [str(tag)], "VIF.add_trunks", vif, tag)
        self.fails("NETWORK_INCOMPATIBLE_WITH_TRUNKS", [tagged], "VIF.move", vif, tagged)
        API.VIF.set_trunks(vif, [])
        API.VIF.move(vif, tagged)
        self.fails("NETWORK_INCOMPATIBLE_WITH_TRUNKS", [tagged], "VIF.set_trunks", vif, [5])
        self.assertEqual(API.VIF.get_trunks(vif), [])
        self.fails("HANDLE_INVALID", ["VIF", MISSING], "VIF.set_trunks", MISSING, [])
        API.VM.hard_shutdown(vm)
        API.VM.destroy(vm)
        API.VLAN.destroy(vlan)


class Networks(Case):
    def test_purposes(self):
        network = self.network()
        API.network.add_purpose(network, "nbd")
        API.network.add_purpose(network, "nbd")
        self.assertEqual(API.network.get_purpose(network), ["nbd"])
        self.fails("NETWORK_INCOMPATIBLE_PURPOSES", ["insecure_nbd", "nbd"], "network.add_purpose", network, "insecure_nbd")
        API.network.remove_purpose(network, "insecure_nbd")
        API.network.remove_purpose(network, "nbd")
        self.assertEqual(API.network.get_purpose(network), [])

    def test_attach(self):
        host, inside = HOSTS()[0], self.network("inside")
        API.network.attach(inside, host)
        API.network.attach(API.PIF.get_network(self.pif("eth1")), host)
        lone = self.network("one host")
        vlan = API.VLAN.create(self.pif("eth1"), 9, lone)
        API.network.attach(lone, host)
        self.fails("HOST_CANNOT_ATTACH_NETWORK", [HOSTS()[1], lone], "network.attach", lone, HOSTS()[1])
        # A VM with a card there runs on that host alone.
        vm = API.VM.create(record("placed"))
        vif = API.VIF.create({"device": "0", "network": lone, "VM": vm, "MAC": "", "MTU": 1500, "other_config": {},
                              "qos_algorithm_type": "", "qos_algorithm_params": {}})
        self.assertEqual(API.VM.get_possible_hosts(vm), [host])
        self.fails("VM_REQUIRES_NETWORK", [vm, lone], "VM.assert_can_boot_here", vm, HOSTS()[1])
        API.network.attach_for_vm(host, vm)
        API.VM.start_on(vm, host, False, False)
        self.fails("VIF_IN_USE", [lone, vif], "VLAN.destroy", vlan)
        self.fails("VIF_IN_USE", [lone, vif], "PIF.unplug", API.VLAN.get_untagged_PIF(vlan))
        API.network.detach_for_vm(host, vm)
        API.VM.hard_shutdown(vm)
        API.VM.destroy(vm)
        API.VLAN.destroy(vlan)
        API.network.attach(lone, HOSTS()[1])


if __name__ == "__main__":
    unittest.main()
