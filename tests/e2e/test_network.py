#!/usr/bin/env python3
"""Networks of guests on bridges. All of it, pool and guests, runs in a network namespace of its own."""
import os
import subprocess
import sys
import unittest

from installation import Installation

TEMPLATE = "Corral tiny Linux"


def ip(*words):
    return subprocess.run(["ip", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)


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
        code, out = first.run("ping -c 1 -w 30 192.0.2.2", 60)
        self.assertEqual(code, 0, out)
        # The host has no address there, and no way in from there.
        self.assertNotIn("inet", ip("addr", "show", "dev", bridge).stdout)

        # A guest that slept is on the network again when it wakes up.
        self.pool.VM.suspend(two)
        self.pool.VM.resume(two, False, False)
        code, out = first.run("ping -c 1 -w 30 192.0.2.2", 60)
        self.assertEqual(code, 0, out)

        # A card that comes later.
        vif = self.pool.VM.get_VIFs(two)[0]
        self.pool.VIF.unplug(vif)
        code, out = first.run("ping -c 1 -w 2 192.0.2.2", 60)
        self.assertNotEqual(code, 0, out)
        self.pool.VIF.plug(vif)
        second = self.site.serial(self.pool, two)
        second.send("\n")
        second.expect("# ")
        code, out = second.run("ip link set eth0 up && ip addr add 192.0.2.2/24 dev eth0")
        self.assertEqual(code, 0, out)
        code, out = first.run("ping -c 1 -w 30 192.0.2.2", 60)
        self.assertEqual(code, 0, out)

        for vm in (one, two):
            self.pool.VM.hard_shutdown(vm)
            for vif in self.pool.VM.get_VIFs(vm):
                self.pool.VIF.destroy(vif)
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
        code, out = serial.run("ping -c 1 -w 30 198.51.100.1", 60)
        self.assertEqual(code, 0, out)
        self.pool.VM.hard_shutdown(vm)
        self.assertEqual(ip("link", "show", "dev", "br7").returncode, 0)


if __name__ == "__main__":
    if os.environ.get("CORRAL_TEST_NETNS") != "own":
        os.environ["CORRAL_TEST_NETNS"] = "own"
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh",
                              sys.executable, "-B", *sys.argv])
    unittest.main()
