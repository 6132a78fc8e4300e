#!/usr/bin/env python3
"""Networks of guests on bridges. All of it, pool and guests, runs in a network namespace of its own."""
import os
import subprocess
import sys
import unittest

from installation import Installation
from waiting import until

TEMPLATE = "Corral tiny Linux"


def ip(*words):
    return subprocess.run(["ip", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)


def nft(*words):
    return subprocess.run(["nft", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True).stdout


def ping(address):
    """A command whose status tells whether an answer came; what is lost on the way is sent again."""
    return f"for n in 1 2 3 4 5 6 7 8 9 10; do ping -c 1 -w 3 {address} && break; done"


class NetworkTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.site = Installation()
        cls.addClassCleanup(cls.site.close)

    def setUp(self):
        self.pool = self.site.pool()

    def guest(self, name, network):
        """A VM with one card, on this network."""
        uuid = self.site.xe("vm-install", f"template={TEMPLATE}", f"new-name-label={name}")
        self.addCleanup(self.site.xe, "vm-uninstall", f"uuid={uuid}", "force=true")
        vm = self.pool.VM.get_by_uuid(uuid)
        for vif in self.pool.VM.get_VIFs(vm):
            self.pool.VIF.destroy(vif)
        self.pool.VIF.create({"device": "0", "network": network, "VM": vm, "MAC": "", "MTU": 1500, "other_config": {},
                              "qos_algorithm_type": "", "qos_algorithm_params": {}})
        return vm

    def reaches(self, serial, address, does=True):
        """The guest gets an answer, or none; what it remembers of neighbours is forgotten first."""
        serial.run("ip neigh flush dev eth0")
        code, out = serial.run(ping(address) if does else f"ping -c 1 -w 2 {address}")
        self.assertEqual(code == 0, does, out)

    def shell(self, vm, address):
        serial = self.site.serial(self.pool, vm)
        serial.login()
        code, out = serial.run(f"ip link set eth0 up && ip addr add {address}/24 dev eth0")
        self.assertEqual(code, 0, out)
        return serial

    def test_guests_of_one_network_reach_each_other(self):
        uuid = self.site.xe("network-create", "name-label=inside")
        network = self.pool.network.get_by_uuid(uuid)
        bridge = self.pool.network.get_bridge(network)
        one, two = self.guest("one", network), self.guest("two", network)
        self.assertNotEqual(ip("link", "show", "dev", bridge).returncode, 0)
        for vm in (one, two):
            self.pool.VM.start(vm, False, False)
        first, second = self.shell(one, "192.0.2.1"), self.shell(two, "192.0.2.2")
        code, out = first.run(ping("192.0.2.2"))
        self.assertEqual(code, 0, out)
        # The host has no address there, and no way in from there.
        self.assertNotIn("inet", ip("addr", "show", "dev", bridge).stdout)

        # A guest that slept is on the network again when it wakes up.
        self.pool.VM.suspend(two)
        self.pool.VM.resume(two, False, False)
        code, out = first.run("ping -c 1 -w 30 192.0.2.2")
        self.assertEqual(code, 0, out)

        # A card that comes later.
        vif = self.pool.VM.get_VIFs(two)[0]
        self.pool.VIF.unplug(vif)
        code, out = first.run("ping -c 1 -w 2 192.0.2.2")
        self.assertNotEqual(code, 0, out)
        self.pool.VIF.plug(vif)
        second = self.site.serial(self.pool, two)
        second.send("\n")
        second.expect("# ")
        code, out = second.run("ip link set eth0 up && ip addr add 192.0.2.2/24 dev eth0")
        self.assertEqual(code, 0, out)
        code, out = first.run("ping -c 1 -w 30 192.0.2.2")
        self.assertEqual(code, 0, out)

        # Locked to its address it reaches others only as itself; and all this while it runs.
        card = self.pool.VM.get_VIFs(one)[0]
        self.pool.VIF.set_ipv4_allowed(card, ["192.0.2.1"])
        self.pool.VIF.set_locking_mode(card, "locked")
        self.reaches(first, "192.0.2.2")
        code, out = first.run("ip addr del 192.0.2.1/24 dev eth0 && ip addr add 192.0.2.9/24 dev eth0")
        self.assertEqual(code, 0, out)
        self.reaches(first, "192.0.2.2", False)
        self.assertIn("ctap", nft("list", "tables"))
        self.pool.VIF.add_ipv4_allowed(card, "192.0.2.9")
        self.reaches(first, "192.0.2.2")
        code, out = first.run("ip link set eth0 down && ip link set eth0 address 02:00:00:00:00:99 && ip link set eth0 up")
        self.assertEqual(code, 0, out)
        self.reaches(first, "192.0.2.2", False)
        self.pool.VIF.set_locking_mode(card, "unlocked")
        self.reaches(first, "192.0.2.2")
        self.pool.VIF.set_locking_mode(card, "disabled")
        self.reaches(first, "192.0.2.2", False)
        self.pool.VIF.set_locking_mode(card, "unlocked")

        # On another network it reaches nobody, until it is back.
        elsewhere = self.pool.network.get_by_uuid(self.site.xe("network-create", "name-label=elsewhere"))
        self.pool.VIF.move(card, elsewhere)
        self.reaches(first, "192.0.2.2", False)
        self.pool.VIF.move(card, network)
        self.reaches(first, "192.0.2.2")
        self.pool.network.destroy(elsewhere)
        self.pool.VIF.set_locking_mode(card, "locked")

        for vm in (one, two):
            self.pool.VM.hard_shutdown(vm)
            for vif in self.pool.VM.get_VIFs(vm):
                self.pool.VIF.destroy(vif)
        until("the rules of the taps go", lambda: "ctap" not in nft("list", "tables"))
        self.site.xe("network-destroy", f"uuid={uuid}")
        self.assertNotEqual(ip("link", "show", "dev", bridge).returncode, 0)

    def test_a_bridge_of_the_host(self):
        network = self.pool.network.create({"name_label": "outside", "name_description": "", "MTU": 1500, "bridge": "br7",
                                            "managed": False, "other_config": {}, "tags": []})
        vm = self.guest("bridged", network)
        run = self.site.xe("vm-start", "vm=bridged", check=False)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("cannot reach the network", run.stdout + run.stderr)
        self.assertEqual(self.pool.VM.get_power_state(vm), "Halted")
        for words in ("link add br7 type bridge", "addr add 198.51.100.1/24 dev br7", "link set br7 up"):
            self.assertEqual(ip(*words.split()).returncode, 0, words)
        self.pool.VM.start(vm, False, False)
        serial = self.shell(vm, "198.51.100.2")
        code, out = serial.run("ping -c 1 -w 30 198.51.100.1")
        self.assertEqual(code, 0, out)

        # A device of the host: its end of a pair that leads to another namespace, as a container's is.
        far = subprocess.Popen(["unshare", "--net", "sleep", "600"], stdin=subprocess.DEVNULL)
        self.addCleanup(far.wait)
        self.addCleanup(far.kill)
        until("the other namespace", lambda: os.readlink(f"/proc/{far.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        pair = ip("link", "add", "eth7", "type", "veth", "peer", "name", "eth0", "netns", str(far.pid))
        self.assertEqual(pair.returncode, 0, pair.stdout)
        for words in ("addr add 198.51.100.3/24 dev eth0", "link set eth0 up"):
            subprocess.run(["nsenter", "-t", str(far.pid), "-n", "ip", *words.split()], check=True)
        host = self.pool.host.get_all()[0]
        self.pool.PIF.scan(host)
        pif = next(p for p in self.pool.host.get_PIFs(host) if self.pool.PIF.get_device(p) == "eth7")
        self.pool.PIF.plug(pif)
        self.assertIn("xenbr7", ip("link", "show", "dev", "eth7").stdout)
        self.pool.VIF.move(self.pool.VM.get_VIFs(vm)[0], self.pool.PIF.get_network(pif))
        self.reaches(serial, "198.51.100.1", False)
        self.reaches(serial, "198.51.100.3")
        failure = self.site.xe("pif-unplug", f"uuid={self.pool.PIF.get_uuid(pif)}", check=False)
        self.assertNotEqual(failure.returncode, 0)
        # An address for the host itself, over the bridge by now.
        self.pool.PIF.reconfigure_ip(pif, "Static", "198.51.100.4", "255.255.255.0", "", "")
        self.assertIn("198.51.100.4/24", ip("addr", "show", "dev", "xenbr7").stdout)
        self.assertIn("eth7", self.site.xe("pif-list"))
        self.pool.VM.hard_shutdown(vm)
        self.pool.PIF.unplug(pif)
        self.assertNotEqual(ip("link", "show", "dev", "xenbr7").returncode, 0)
        self.assertEqual(ip("link", "show", "dev", "br7").returncode, 0)


if __name__ == "__main__":
    if os.environ.get("CORRAL_TEST_NETNS") != "own":
        os.environ["CORRAL_TEST_NETNS"] = "own"
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh",
                              sys.executable, "-B", *sys.argv])
    unittest.main()
