"""What a VM and its guest share: xenstore_data both ways, the guest's word in VM_guest_metrics, snapshots with the
guest's file systems frozen; on simulated guests."""
import unittest

from pool import NULL, Failure, until
from vms import VmCase


def setUpModule():
    VmCase.open_pool()


class GuestCase(VmCase):
    def data(self, vm):
        return self.api.VM.get_xenstore_data(vm)

    def has(self, vm, key, value):
        until(f"{key} = {value}", lambda: self.data(vm).get(key) == value, 60)

    def refused(self, code, call, *arguments):
        with self.assertRaises(Failure) as caught:
            call(*arguments)
        self.assertEqual(caught.exception.code, code)
        return caught.exception.params


class Data(GuestCase):
    def test_guest_and_pool_see_what_the_other_writes(self):
        vm = self.make("sim.data", xenstore_data={"vm-data/first": "1", "FIST/x": "kept"})
        token = getattr(self.api.event, "from")(["vm"], "", 0)["token"]
        self.start(vm)
        self.has(vm, "vm-data/sim/booted", "yes")
        # The guest's write is an event.
        answer = getattr(self.api.event, "from")(["vm"], token, 30)
        self.assertIn(vm, [event["ref"] for event in answer["events"]])
        self.api.VM.add_to_xenstore_data(vm, "vm-data/sim/ask", "question")
        self.has(vm, "vm-data/sim/answer", "question")
        self.assertEqual(self.data(vm)["FIST/x"], "kept")
        self.assertEqual(self.refused("MAP_DUPLICATE_KEY", self.api.VM.add_to_xenstore_data, vm, "vm-data/sim/ask",
                                      "again"), ["VM", "xenstore_data", vm, "vm-data/sim/ask"])
        self.api.VM.remove_from_xenstore_data(vm, "vm-data/sim/ask")
        self.api.VM.remove_from_xenstore_data(vm, "vm-data/absent")
        until("removed", lambda: "vm-data/sim/ask" not in self.data(vm))
        # Replacing all: what the guest wrote goes, and it writes again.
        self.api.VM.set_xenstore_data(vm, {"vm-data/sim/ask": "third"})
        self.has(vm, "vm-data/sim/answer", "third")
        self.assertNotIn("FIST/x", self.data(vm))
        # A halted VM keeps it all.
        self.api.VM.hard_shutdown(vm)
        before = self.data(vm)
        self.api.VM.add_to_xenstore_data(vm, "vm-data/later", "x")
        self.assertEqual(self.data(vm), {**before, "vm-data/later": "x"})

    def test_the_data_survives_both_daemons_and_a_suspend(self):
        vm = self.make("sim.data")
        self.start(vm)
        self.has(vm, "vm-data/sim/booted", "yes")
        self.pool.hosts[0].kill()
        self.pool.restart(crash=True)
        VmCase.api = self.pool.login()
        self.pool.hosts[0].start("hostd.port")
        until("the host is back", lambda: self.pool.live_hosts(self.api) == 1, 60)
        self.api.VM.add_to_xenstore_data(vm, "vm-data/sim/ask", "after")
        self.has(vm, "vm-data/sim/answer", "after")
        self.api.VM.set_suspend_SR(vm, self.sr)
        self.api.VM.suspend(vm)
        self.api.VM.remove_from_xenstore_data(vm, "vm-data/sim/ask")
        self.api.VM.add_to_xenstore_data(vm, "vm-data/sim/ask", "while suspended")
        self.api.VM.resume(vm, False, False)
        self.api.VM.add_to_xenstore_data(vm, "vm-data/wake", "1")
        self.has(vm, "vm-data/sim/answer", "while suspended")

    def test_what_a_guest_cannot_have_is_refused(self):
        vm = self.make()
        big = {f"vm-data/k{i}": "v" * 4000 for i in range(20)}
        for value in ({"vm-data/odd key": "x"}, {"vm-data/": "x"}, {"vm-data/x": "v" * 5000}, big,
                      {f"vm-data/{i}": "" for i in range(300)}):
            with self.subTest(keys=len(value)):
                self.assertEqual(self.refused("INVALID_VALUE", self.api.VM.set_xenstore_data, vm, value)[0],
                                 "xenstore_data")
        self.assertEqual(self.data(vm), {})


class Metrics(GuestCase):
    def test_the_guest_says_what_it_has(self):
        vm = self.make()
        self.start(vm)
        guest = until("the guest's word", lambda: self.api.VM.get_guest_metrics(vm).replace(NULL, ""))
        record = self.api.VM_guest_metrics.get_record(guest)
        self.assertEqual(record["disks"], {"/": "simfs - 1073741824 25%"})
        self.assertTrue(record["live"])


class Quiesce(GuestCase):
    def kind(self, vm, way):
        self.api.VM.remove_from_other_config(vm, "corral:quiesce")
        self.api.VM.add_to_other_config(vm, "corral:quiesce", way)
        snapshot = self.keep(self.api.VM.snapshot(vm, way))
        return self.api.VM.get_snapshot_info(snapshot)["disk-snapshot-type"]

    def running(self, words):
        vm, _ = self.with_disk(b"one", words=words)
        self.start(vm)
        until("the guest is up", lambda: self.api.VM.get_guest_metrics(vm) != NULL or "sim.no_agent" in words)
        return vm

    def test_file_systems_freeze_when_asked_and_possible(self):
        vm = self.running("")
        self.assertEqual(self.kind(vm, "off"), "crash_consistent")
        self.assertEqual(self.kind(vm, "try"), "quiesced")
        self.assertEqual(self.kind(vm, "required"), "quiesced")
        self.assertEqual(self.refused("VALUE_NOT_SUPPORTED", self.kind, vm, "perhaps")[0],
                         "other_config:corral:quiesce")
        # At rest there is nothing to freeze.
        self.api.VM.hard_shutdown(vm)
        self.assertEqual(self.kind(vm, "required"), "crash_consistent")

    def test_a_guest_that_cannot_is_told_apart(self):
        for words in ("sim.no_agent", "sim.no_freeze", "sim.thaws"):
            with self.subTest(words=words):
                vm = self.running(words)
                self.assertEqual(self.kind(vm, "try"), "crash_consistent")
                before = (len(self.api.VM.get_snapshots(vm)), len(self.api.VDI.get_all()))
                self.assertEqual(self.refused("VM_SNAPSHOT_WITH_QUIESCE_FAILED", self.kind, vm, "required"), [vm])
                until("nothing of it is left", lambda: (len(self.api.VM.get_snapshots(vm)),
                                                        len(self.api.VDI.get_all())) == before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
