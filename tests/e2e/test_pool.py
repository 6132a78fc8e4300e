#!/usr/bin/env python3
"""A pool with real guests, from 'corral up' to the last file: as a person uses it, through xe, the
API and the serial line; and what is left when its processes are killed."""
import json
import os
import signal
import unittest

from installation import Failure, Installation, alive
from waiting import until

TEMPLATE = "Corral tiny Linux"


class PoolTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.site = Installation()
        cls.addClassCleanup(cls.site.close)

    def setUp(self):
        self.pool = self.site.pool()

    def install(self, name):
        uuid = self.site.xe("vm-install", f"template={TEMPLATE}", f"new-name-label={name}")
        self.addCleanup(self.remove, uuid)
        return uuid, self.pool.VM.get_by_uuid(uuid)

    def remove(self, uuid):
        pool = self.site.pool()
        if uuid in [vm["uuid"] for vm in pool.VM.get_all_records().values()]:
            self.site.xe("vm-uninstall", f"uuid={uuid}", "force=true")

    def state_of(self, vm):
        return self.pool.VM.get_power_state(vm)

    def test_guest_from_install_to_uninstall(self):
        files = self.files()
        uuid, vm = self.install("first")
        self.assertEqual(self.state_of(vm), "Halted")
        self.site.xe("vm-start", "vm=first")
        self.assertEqual(self.state_of(vm), "Running")
        self.site.serial(self.pool, vm).login()

        def guest_metrics():
            ref = self.pool.VM.get_guest_metrics(vm)
            if ref == "OpaqueRef:NULL":
                return None
            metrics = self.pool.VM_guest_metrics.get_record(ref)
            return metrics if metrics["networks"].get("0/ip") and metrics["os_version"].get("name") else None
        metrics = until("guest metrics with OS and address", guest_metrics, 60)
        self.assertTrue(metrics["networks"]["0/ip"].startswith("10.0.2."), metrics["networks"])
        self.assertIn("Corral tiny Linux", metrics["os_version"]["name"])

        self.site.xe("vm-shutdown", "vm=first")
        self.assertEqual(self.state_of(vm), "Halted")
        self.assertIsNone(self.site.device_model(uuid))
        self.site.xe("vm-uninstall", "vm=first", "force=true")
        self.assertEqual(self.files(), files)
        self.assertNotIn(uuid, [record["uuid"] for record in self.pool.VM.get_all_records().values()])

    def test_a_guest_is_measured_and_seen(self):
        """Load in the guest shows in the measurements, its disk's traffic too, and its screen is a picture."""
        uuid, vm = self.install("measured")
        self.site.xe("vm-start", f"uuid={uuid}")
        serial = self.site.serial(self.pool, vm)
        serial.login()
        serial.run("(while :; do echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda of=/dev/null bs=64k count=64; done) "
                   ">/dev/null 2>&1 & true")

        def value(name):
            try:
                return self.pool.VM.query_data_source(vm, name)
            except Failure:
                return 0
        until("a busy processor", lambda: value("cpu0") > 0.2, 90)
        for name in ("cpu_usage", "memory", "vbd_xvda_iops_read", "vbd_xvda_latency"):
            self.assertIn(name, [source["name_label"] for source in self.pool.VM.get_data_sources(vm)])
        self.assertLessEqual(value("cpu0"), 1)
        self.assertEqual(value("memory"), int(self.pool.VM.get_memory_static_max(vm)))

        def bytes_read():
            rows = json.loads(self.site.get(self.pool, f"/vm_rrd?uuid={uuid}&json=true"))
            column = [source["name"] for source in rows["ds"]].index("vbd_xvda_read")
            return sum(5 * float(row[column]) for row in rows["rra"][0]["database"] if row[column] != "NaN")
        until("the disk's traffic", lambda: bytes_read() > 1 << 20, 60)
        picture = self.site.get(self.pool, f"/vncsnapshot?uuid={uuid}")
        self.assertEqual(picture[:3] + picture[-2:], b"\xff\xd8\xff\xff\xd9")
        self.assertGreater(len(picture), 1000)

    def files(self):
        """Disks in the repository, and folders of live guests."""
        found = []
        for top in ("sr", "hosts/1/run"):
            for folder, _, names in os.walk(os.path.join(self.site.state, top)):
                found += [os.path.join(folder, name) for name in names]
        return sorted(found)

    def survives(self, name, kill):
        """A guest goes on while `kill` ends daemons; after the next 'up' it is still ours."""
        uuid, vm = self.install(name)
        self.site.xe("vm-start", f"uuid={uuid}")
        serial = self.site.serial(self.pool, vm)
        serial.login()
        serial.run("echo still here >/tmp/mark")
        device_model = self.site.device_model(uuid)
        kill()
        self.assertTrue(alive(device_model))
        self.site.up()
        self.pool = self.site.pool()
        vm = self.pool.VM.get_by_uuid(uuid)
        self.assertEqual(self.state_of(vm), "Running")
        self.assertEqual(self.site.device_model(uuid), device_model)
        serial = self.site.serial(self.pool, vm)
        serial.send("\n")
        serial.expect("# ")
        self.assertEqual(serial.run("cat /tmp/mark"), (0, "still here"))
        self.site.xe("vm-shutdown", f"uuid={uuid}")
        self.assertEqual(self.state_of(vm), "Halted")
        self.assertFalse(alive(device_model))

    def test_guest_survives_killed_agent(self):
        self.survives("agent-killed", lambda: self.site.kill("hostd-1"))

    def test_guest_survives_killed_server(self):
        self.survives("server-killed", lambda: self.site.kill("poold"))

    def test_guest_survives_killed_agent_and_server(self):
        def both():
            self.site.kill("hostd-1")
            self.site.kill("poold")
        self.survives("both-killed", both)

    def test_guest_survives_down_and_up(self):
        self.survives("down-up", lambda: self.site.corral("down"))

    def test_killed_device_model_means_halted_and_a_message(self):
        uuid, vm = self.install("doomed")
        self.site.xe("vm-start", f"uuid={uuid}")
        os.kill(self.site.device_model(uuid), signal.SIGKILL)
        until("Halted", lambda: self.state_of(vm) == "Halted", 1.0, step_s=0.01)

        def message():
            return [each for each in self.pool.message.get_all_records().values() if each["obj_uuid"] == uuid]
        told = until("a message about the VM", message, 1.0)
        self.assertTrue(any("kill" in each["body"].lower() or "signal" in each["body"].lower() for each in told), told)

    def test_status_names_a_host_that_does_not_answer(self):
        (host,) = self.pool.host.get_all_records().values()
        self.site.kill("hostd-1")
        def status():
            told = self.site.corral("status", check=False)
            return told if "0 of 1 hosts live" in told else None
        told = until("the host counts as down", status, 60)
        self.assertIn(f"does not answer: host {host['name_label']} ({host['uuid']})", told)
        self.assertIn("log/poold.log, or xe host-doctor", told)
        self.site.up()

    def test_second_up_changes_nothing(self):
        daemons = [self.site.daemon(name) for name in ("poold", "hostd-1")]
        self.assertIn("Nothing was changed", self.site.up())
        self.assertEqual([self.site.daemon(name) for name in ("poold", "hostd-1")], daemons)

    def test_two_installations_side_by_side(self):
        other = Installation("--driver", "sim")
        self.addCleanup(other.close)
        self.assertNotEqual(other.port, self.site.port)
        mine = {each["uuid"] for each in self.pool.pool.get_all_records().values()}
        theirs = {each["uuid"] for each in other.pool().pool.get_all_records().values()}
        self.assertFalse(mine & theirs)

    def test_down_with_guests_stops_them(self):
        other = Installation()
        self.addCleanup(other.close)
        uuid = other.xe("vm-install", f"template={TEMPLATE}", "new-name-label=guest")
        other.xe("vm-start", "vm=guest")
        pool = other.pool()
        other.serial(pool, pool.VM.get_by_uuid(uuid)).expect("login:")
        other.corral("down", "--guests")
        self.assertIsNone(other.device_model(uuid))


if __name__ == "__main__":
    unittest.main(verbosity=2)
