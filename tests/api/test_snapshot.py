"""Snapshots, checkpoints, revert, clones and copies of VMs, on simulated guests."""
import os
import sys
import threading
import unittest

from pool import NULL, Failure, TestPool, until
from vms import VmCase

EPOCH = "19700101T00:00:00Z"


def setUpModule():
    VmCase.open_pool()


class Snapshots(VmCase):
    def test_of_a_halted_and_of_a_running_vm(self):
        vm, vdi = self.with_disk(b"one", tags=["kept"], name_description="text")
        cd = self.drive(vm, NULL, "CD")
        for state in ("Halted", "Running"):
            with self.subTest(state=state):
                if state == "Running":
                    self.start(vm)
                before = self.api.VM.get_record(vm)
                snapshot = self.keep(self.api.VM.snapshot(vm, "snap " + state))
                record = self.api.VM.get_record(snapshot)
                self.assertTrue(record["is_a_snapshot"] and record["is_a_template"])
                self.assertEqual(record["name_label"], "snap " + state)
                self.assertEqual((record["snapshot_of"], record["power_state"]), (vm, "Halted"))
                self.assertEqual(record["snapshot_info"], {"power-state-at-snapshot": state,
                                                           "disk-snapshot-type": "crash_consistent"})
                self.assertNotEqual(record["snapshot_time"], EPOCH)
                self.assertIn(before["uuid"], record["snapshot_metadata"])
                for field in ("other_config", "tags", "name_description", "memory_static_max", "PV_kernel"):
                    self.assertEqual(record[field], before[field], field)
                self.assertEqual((record["resident_on"], record["domid"]), (NULL, "-1" if isinstance(
                    record["domid"], str) else -1))
                # The snapshot stands between the VM and what was before it.
                self.assertEqual(record["parent"], before["parent"])
                after = self.api.VM.get_record(vm)
                self.assertEqual((after["parent"], after["power_state"]), (snapshot, state))
                self.assertIn(snapshot, after["snapshots"])
                self.assertIn(vm, self.api.VM.get_children(snapshot))
                self.assertEqual(sorted(record["allowed_operations"]),
                                 sorted({"clone", "copy", "destroy", "revert"} |
                                        ({"export", "metadata_export"} & set(record["allowed_operations"]))))
                # Its disk is a snapshot of the VM's, its MAC the VM's own, its empty drive empty.
                copy = self.api.VDI.get_record(self.disk_of(snapshot))
                self.assertEqual((copy["is_a_snapshot"], copy["snapshot_of"], copy["name_label"]), (True, vdi, "disk"))
                self.assertIn(self.disk_of(snapshot), self.api.VDI.get_snapshots(vdi))
                self.assertEqual(self.read(self.disk_of(snapshot)), b"one")
                macs = [{self.api.VIF.get_MAC(v) for v in self.api.VM.get_VIFs(x)} for x in (vm, snapshot)]
                self.assertEqual(macs[0], macs[1])
                self.assertEqual(len(record["VBDs"]), 2)
        self.assertEqual(self.alerts(vm), ["VM_SNAPSHOTTED", "VM_SNAPSHOTTED", "VM_STARTED"])
        self.assertTrue(self.api.VBD.get_empty(cd))
        # What is written later is the VM's alone.
        self.write(vdi, b"two")
        self.assertEqual(self.read(self.disk_of(self.api.VM.get_parent(vm))), b"one")

    def test_disks_can_be_left_out(self):
        vm, vdi = self.with_disk()
        other = self.disk(b"big")
        self.drive(vm, other)
        snapshot = self.keep(self.api.VM.snapshot(vm, "partial", [other]))
        self.assertEqual(len(self.api.VM.get_VBDs(snapshot)), 1)
        self.assertEqual(self.api.VDI.get_snapshot_of(self.disk_of(snapshot)), vdi)
        # Revert leaves the disk that the snapshot does not have with the VM, as it is.
        self.write(other, b"new")
        self.api.VM.revert(snapshot)
        self.assertEqual(self.disk_of(vm, "1"), other)
        self.assertEqual(self.read(other), b"new")

    def test_the_tree_closes_when_a_snapshot_goes(self):
        vm, _ = self.with_disk()
        first, second, third = (self.keep(self.api.VM.snapshot(vm, n)) for n in "abc")
        self.assertEqual(self.api.VM.get_parent(third), second)
        self.api.VM.destroy(second)
        self.assertEqual(self.api.VM.get_parent(third), first)
        self.api.VM.destroy(third)
        self.assertEqual(self.api.VM.get_parent(vm), first)

    def test_what_a_snapshot_refuses(self):
        vm, _ = self.with_disk()
        snapshot = self.keep(self.api.VM.snapshot(vm, "snap"))
        self.fails("VM_IS_SNAPSHOT", [snapshot, "start"], "VM.start", snapshot, False, False)
        self.fails("REVERT_ONLY_ALLOWED_ON_SNAPSHOT", [], "VM.revert", vm)
        self.fails("VM_IS_SNAPSHOT", [snapshot, "snapshot"], "VM.snapshot", snapshot, "of a snapshot", [])
        self.api.VM.add_to_blocked_operations(vm, "snapshot", "no room")
        self.fails("OPERATION_BLOCKED", [vm, "no room"], "VM.snapshot", vm, "blocked", [])
        self.fails("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", None, "VM.snapshot_with_quiesce", vm, "quiet")
        self.destroy(vm)
        self.fails("HANDLE_INVALID", None, "VM.revert", snapshot)

    def test_nothing_stays_when_it_fails(self):
        vm, vdi = self.with_disk(words="sim.snapshot_fails")
        self.start(vm)
        before, vdis = self.disks_on_storage(), self.api.VDI.get_all()
        with self.assertRaises(Failure):
            self.api.VM.snapshot(vm, "in vain", [])
        with self.assertRaises(Failure):
            self.api.VM.checkpoint(vm, "in vain")
        self.assertEqual(self.disks_on_storage(), before)
        self.assertEqual(sorted(self.api.VDI.get_all()), sorted(vdis))
        self.assertEqual((self.state(vm), self.api.VM.get_snapshots(vm)), ("Running", []))
        self.assertEqual(self.api.VM.get_current_operations(vm), {})

    def test_cancelled(self):
        vm, _ = self.with_disk(words="sim.snapshot_ms=60000")
        self.api.VM.set_suspend_SR(vm, self.sr)
        self.start(vm)
        before = self.disks_on_storage()
        task = self.api.call("Async.VM.checkpoint", self.api.session, vm, "slow")
        until("it goes on", lambda: self.api.task.get_progress(task) > 0)
        self.assertEqual(list(self.api.VM.get_current_operations(vm).values()), ["checkpoint"])
        self.api.task.cancel(task)
        self.task_ends(task, "cancelled")
        self.assertEqual((self.disks_on_storage(), self.state(vm)), (before, "Running"))

    def test_kill_9_of_the_server_leaves_no_disks(self):
        with TestPool(hosts=1, host_options=["--sim-boot-ms", "50"]) as pool:
            case = VmCase()
            case.pool, case.api = pool, pool.login()
            case.id = lambda: "x.kill"
            case.setUp()
            vm, _ = case.with_disk(words="sim.snapshot_ms=60000")
            case.api.VM.set_suspend_SR(vm, case.sr)
            case.start(vm)
            before, path = case.disks_on_storage(), case.sr_path
            task = case.api.call("Async.VM.checkpoint", case.api.session, vm, "slow")
            until("it goes on", lambda: case.api.task.get_progress(task) > 0)
            pool.restart(crash=True)
            case.api = pool.login()
            until("no disk is left over", lambda: case.disks_on_storage() == before)
            self.assertEqual((case.state(vm), case.api.VM.get_current_operations(vm)), ("Running", {}))
            self.assertEqual(len(os.listdir(path)) >= 1, True)


class Reverts(VmCase):
    def test_disks_and_settings_come_back(self):
        vm, vdi = self.with_disk(b"one")
        mac = self.api.VIF.get_MAC(self.api.VM.get_VIFs(vm)[0])
        snapshot = self.keep(self.api.VM.snapshot(vm, "snap"))
        older = self.api.VDI.snapshot(vdi)
        for running in (False, True):
            with self.subTest(running=running):
                current = self.disk_of(vm)
                self.write(current, b"two")
                self.api.VM.set_name_label(vm, "changed")
                self.api.VM.set_name_label(snapshot, "renamed")
                self.api.VM.set_memory_limits(vm, 0, 32 << 20, 32 << 20, 32 << 20)
                self.api.VIF.destroy(self.api.VM.get_VIFs(vm)[0])
                if running:
                    self.start(vm)
                self.api.VM.revert(snapshot)
                record = self.api.VM.get_record(vm)
                self.assertEqual((record["name_label"], record["power_state"]), (self.id().rpartition(".")[2], "Halted"))
                self.assertEqual((record["parent"], record["is_a_snapshot"], record["is_a_template"]),
                                 (snapshot, False, False))
                self.assertEqual(int(record["memory_static_max"]), 64 << 20)
                self.assertEqual(self.read(self.disk_of(vm)), b"one")
                self.assertEqual(self.api.VIF.get_MAC(record["VIFs"][0]), mac)
                # The old disk is gone; its snapshots belong to its successor.
                self.fails("HANDLE_INVALID", None, "VDI.get_record", current)
                self.assertEqual({self.api.VDI.get_snapshot_of(s) for s in (self.disk_of(snapshot), older)},
                                 {self.disk_of(vm)})
                self.assertEqual(len(self.disks_on_storage()), 3)
        self.assertEqual(self.alerts(vm).count("VM_SNAPSHOT_REVERTED"), 2)
        self.start(vm)

    def test_a_failure_leaves_the_vm_as_it_is(self):
        vm, vdi = self.with_disk(b"one")
        snapshot = self.keep(self.api.VM.snapshot(vm, "snap"))
        self.write(vdi, b"two")
        os.rename(self.path(self.disk_of(snapshot)), self.sr_path + ".away")
        self.start(vm)
        with self.assertRaises(Failure):
            self.api.VM.revert(snapshot)
        self.assertEqual((self.state(vm), self.disk_of(vm)), ("Running", vdi))
        self.assertEqual(self.api.VM.get_current_operations(vm), {})
        self.assertEqual(self.api.VM.get_current_operations(snapshot), {})


class Checkpoints(VmCase):
    def test_of_a_running_vm_and_back(self):
        vm, vdi = self.with_disk(b"one")
        self.api.VM.set_suspend_SR(vm, self.sr)
        self.start(vm)
        checkpoint = self.keep(self.api.VM.checkpoint(vm, "check"))
        record = self.api.VM.get_record(checkpoint)
        self.assertEqual((record["power_state"], self.state(vm)), ("Suspended", "Running"))
        self.assertEqual(record["snapshot_info"]["power-state-at-snapshot"], "Running")
        image = self.api.VDI.get_record(record["suspend_VDI"])
        self.assertEqual((image["type"], image["SR"]), ("suspend", self.sr))
        self.assertIn("VM_CHECKPOINTED", self.alerts(vm))
        self.write(vdi, b"two")
        self.api.VM.revert(checkpoint)
        record = self.api.VM.get_record(vm)
        self.assertEqual((record["power_state"], record["resident_on"]), ("Suspended", NULL))
        self.assertNotIn(record["suspend_VDI"], (NULL, self.api.VM.get_suspend_VDI(checkpoint)))
        self.assertEqual(self.read(self.disk_of(vm)), b"one")
        self.api.VM.resume(vm, False, False)
        self.assertEqual((self.state(vm), self.api.VM.get_suspend_VDI(vm)), ("Running", NULL))
        self.fails("HANDLE_INVALID", None, "VDI.get_record", record["suspend_VDI"])
        # The checkpoint can be used again and again.
        self.api.VM.revert(checkpoint)
        self.api.VM.hard_shutdown(vm)
        self.assertEqual((self.state(vm), self.state(checkpoint)), ("Halted", "Suspended"))
        clone = self.keep(self.api.VM.clone(checkpoint, "from a checkpoint"))
        self.assertEqual(self.state(clone), "Suspended")
        self.api.VM.set_is_a_template(clone, False)
        self.api.VM.resume(clone, False, False)
        self.assertEqual(self.state(clone), "Running")

    def test_of_a_suspended_and_of_a_paused_vm(self):
        vm, _ = self.with_disk()
        self.api.VM.set_suspend_SR(vm, self.sr)
        self.start(vm)
        self.api.VM.pause(vm)
        self.assertIn("checkpoint", self.api.VM.get_allowed_operations(vm))
        paused = self.keep(self.api.VM.checkpoint(vm, "while it is paused"))
        self.assertEqual((self.state(paused), self.state(vm)), ("Suspended", "Paused"))
        self.assertNotEqual(self.api.VM.get_suspend_VDI(paused), NULL)
        self.api.VM.unpause(vm)
        self.api.VM.suspend(vm)
        checkpoint = self.keep(self.api.VM.checkpoint(vm, "check"))
        plain = self.keep(self.api.VM.snapshot(vm, "snap", []))
        self.assertEqual((self.state(checkpoint), self.state(plain), self.state(vm)),
                         ("Suspended", "Halted", "Suspended"))
        self.assertEqual(self.api.VM.get_suspend_VDI(plain), NULL)
        self.api.VM.hard_shutdown(checkpoint)
        self.assertEqual((self.state(checkpoint), self.api.VM.get_suspend_VDI(checkpoint)), ("Halted", NULL))
        self.api.VM.resume(vm, False, False)


class Copies(VmCase):
    def test_what_a_copy_keeps_and_what_it_does_not(self):
        vm, vdi = self.with_disk(b"one", other_config={"mac_seed": "seed", "mine": "x"}, tags=["t"])
        self.nic(vm, "1", MAC="02:00:00:00:00:05")
        cd = self.drive(vm, NULL, "CD")
        self.api.VM.add_to_blocked_operations(vm, "destroy", "dear")
        self.api.VM.set_order(vm, 3)
        self.api.VM.set_start_delay(vm, 4)
        self.api.VM.set_suspend_SR(vm, self.sr)
        for full in (False, True):
            with self.subTest(full=full):
                copy = self.keep(self.api.VM.copy(vm, "copy", NULL) if full else self.api.VM.clone(vm, "copy"))
                old, new = self.api.VM.get_record(vm), self.api.VM.get_record(copy)
                for field in ("tags", "platform", "PV_kernel", "HVM_boot_params", "memory_static_max", "VCPUs_max",
                              "recommendations", "name_description"):
                    self.assertEqual(new[field], old[field], field)
                for field in ("uuid", "generation_id", "metrics"):
                    self.assertNotEqual(new[field], old[field], field)
                self.assertEqual(new["other_config"]["mine"], "x")
                self.assertNotEqual(new["other_config"]["mac_seed"], "seed")
                self.assertEqual((new["blocked_operations"], new["suspend_SR"], new["parent"]), ({}, NULL, NULL))
                self.assertEqual([int(new[f]) for f in ("order", "start_delay", "shutdown_delay")], [0, 0, 0])
                macs = {self.api.VIF.get_device(v): self.api.VIF.get_MAC(v) for v in new["VIFs"]}
                self.assertEqual(macs["1"], "02:00:00:00:00:05")
                self.assertNotIn(macs["0"], [self.api.VIF.get_MAC(v) for v in old["VIFs"]])
                self.assertNotEqual(self.disk_of(copy), vdi)
                self.assertFalse(self.api.VDI.get_is_a_snapshot(self.disk_of(copy)))
                self.assertEqual(self.read(self.disk_of(copy)), b"one")
        self.assertTrue(self.api.VBD.get_empty(cd))
        self.api.VM.remove_from_blocked_operations(vm, "destroy")

    def test_templates(self):
        vm, _ = self.with_disk()
        self.start(vm)
        self.fails("VM_BAD_POWER_STATE", [vm, "halted", "running"], "VM.set_is_a_template", vm, True)
        self.api.VM.hard_shutdown(vm)
        self.assertIn("make_into_template", self.api.VM.get_allowed_operations(vm))
        self.api.VM.set_is_a_template(vm, True)
        self.assertNotIn("make_into_template", self.api.VM.get_allowed_operations(vm))
        self.fails("VM_IS_TEMPLATE", [vm, "start"], "VM.start", vm, False, False)
        clone = self.keep(self.api.VM.clone(vm, "from a template"))
        record = self.api.VM.get_record(clone)
        self.assertTrue(record["is_a_template"])
        self.assertEqual(record["other_config"]["base_template_name"], self.api.VM.get_name_label(vm))
        self.api.VM.provision(clone)
        self.assertFalse(self.api.VM.get_is_a_template(clone))
        self.api.VM.set_is_a_template(vm, False)
        self.start(vm)

    def test_disks_alone(self):
        vm, vdi = self.with_disk(b"one")
        self.start(vm)
        snapshot, clone = self.api.VDI.snapshot(vdi), self.api.VDI.clone(vdi)
        record = self.api.VDI.get_record(snapshot)
        self.assertEqual((record["is_a_snapshot"], record["snapshot_of"]), (True, vdi))
        self.assertNotEqual(record["snapshot_time"], EPOCH)
        self.assertFalse(self.api.VDI.get_is_a_snapshot(clone))
        self.write(vdi, b"two")
        self.assertEqual((self.read(snapshot), self.read(clone)), (b"one", b"one"))
        self.api.VDI.set_sharable(clone, True)
        self.fails("VDI_IS_SHARABLE", [], "VDI.snapshot", clone)
        self.assertNotIn("snapshot", self.api.VDI.get_allowed_operations(clone))
        self.fails("VDI_IN_USE", [vdi, "copy"], "VDI.copy", vdi, self.sr)
        self.assertIn("snapshot", self.api.VDI.get_allowed_operations(vdi))

    def test_a_start_waits_for_a_copy_of_its_disk(self):
        vm, vdi = self.with_disk()
        errors = []

        def snapshot():
            try:
                self.pool.again(self.api).VDI.snapshot(vdi)
            except Failure as failure:
                errors.append(failure)
        thread = threading.Thread(target=snapshot)
        thread.start()
        self.start(vm)
        thread.join()
        self.assertEqual(errors, [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
