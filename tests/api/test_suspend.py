"""Suspend and resume, on simulated guests: rows, disks, errors, crashes of either daemon in the middle."""
import sys
import unittest

from pool import NULL, Failure, TestPool, until
from vms import VmCase

BOOT = ["--sim-boot-ms", "50"]


def setUpModule():
    VmCase.open_pool(host_options=BOOT)


class Suspend(VmCase):
    def running(self, words="", **more):
        vm, vdi = self.with_disk(b"one", words, **more)
        self.api.VM.set_suspend_SR(vm, self.sr)
        self.start(vm)
        return vm, vdi

    def test_there_and_back(self):
        vm, _ = self.running()
        self.api.VM.suspend(vm)
        record = self.api.VM.get_record(vm)
        self.assertEqual((record["power_state"], record["resident_on"], int(record["domid"]), record["consoles"]),
                         ("Suspended", NULL, -1, []))
        image = self.api.VDI.get_record(record["suspend_VDI"])
        self.assertEqual((image["type"], image["SR"], image["name_label"]), ("suspend", self.sr, "Suspend image"))
        self.assertGreaterEqual(int(image["virtual_size"]), 64 << 20)
        # Devices stay attached: nobody else gets the disk.
        self.assertTrue(all(self.api.VBD.get_currently_attached(v) for v in record["VBDs"]))
        self.assertTrue(all(self.api.VIF.get_currently_attached(v) for v in record["VIFs"]))
        self.fails("VDI_IN_USE", None, "VDI.destroy", self.disk_of(vm))
        for operation in ("resume", "resume_on", "hard_shutdown", "checkpoint", "destroy"):
            self.assertIn(operation, record["allowed_operations"])
        for operation in ("start", "suspend", "unpause", "clean_shutdown"):
            self.assertNotIn(operation, record["allowed_operations"])
        self.fails("VM_BAD_POWER_STATE", [vm, "halted", "suspended"], "VM.start", vm, False, False)
        self.api.VM.resume(vm, False, False)
        after = self.api.VM.get_record(vm)
        self.assertEqual((after["power_state"], after["resident_on"], after["suspend_VDI"]),
                         ("Running", self.host, NULL))
        self.assertEqual(len(after["consoles"]), 2)
        self.fails("HANDLE_INVALID", None, "VDI.get_record", record["suspend_VDI"])
        self.assertEqual(len(self.disks_on_storage()), 1)
        self.assertEqual(self.alerts(vm), ["VM_RESUMED", "VM_STARTED", "VM_SUSPENDED"])

    def test_resume_on_a_host_and_paused(self):
        vm, _ = self.running()
        self.api.VM.suspend(vm)
        self.fails("HANDLE_INVALID", None, "VM.resume_on", vm, NULL, False, False)
        self.api.VM.resume_on(vm, self.host, True, False)
        self.assertEqual(self.state(vm), "Paused")
        self.api.VM.unpause(vm)

    def test_hard_shutdown_destroys_the_memory(self):
        vm, _ = self.running()
        self.api.VM.suspend(vm)
        image = self.api.VM.get_suspend_VDI(vm)
        self.api.VM.hard_shutdown(vm)
        record = self.api.VM.get_record(vm)
        self.assertEqual((record["power_state"], record["suspend_VDI"]), ("Halted", NULL))
        self.assertFalse(any(self.api.VBD.get_currently_attached(v) for v in record["VBDs"]))
        self.fails("HANDLE_INVALID", None, "VDI.get_record", image)
        self.assertEqual(len(self.disks_on_storage()), 1)
        self.start(vm)

    def test_where_the_memory_goes(self):
        vm, _ = self.with_disk()
        self.start(vm)
        pool = self.api.pool.get_all()[0]
        self.fails("VM_NO_SUSPEND_SR", [vm], "VM.suspend", vm)
        self.assertEqual(self.state(vm), "Running")
        self.api.pool.set_suspend_image_SR(pool, self.sr)
        try:
            self.api.VM.suspend(vm)
        finally:
            self.api.pool.set_suspend_image_SR(pool, NULL)
        self.assertEqual(self.api.VDI.get_SR(self.api.VM.get_suspend_VDI(vm)), self.sr)

    def test_memory_that_is_gone(self):
        vm, _ = self.running()
        self.api.VM.suspend(vm)
        image = self.api.VM.get_suspend_VDI(vm)
        self.api.VM.set_suspend_VDI(vm, NULL)
        self.fails("VM_HAS_NO_SUSPEND_VDI", [vm], "VM.resume", vm, False, False)
        self.api.VM.set_suspend_VDI(vm, image)
        self.api.VM.resume(vm, False, False)

    def test_settings_may_change_meanwhile(self):
        vm, _ = self.running(VCPUs_max=2)
        self.api.VM.suspend(vm)
        added = self.drive(vm, self.disk(b"new"))
        self.api.VM.resume(vm, False, False)
        self.assertFalse(self.api.VBD.get_currently_attached(added))

    def test_a_failure_leaves_it_running(self):
        vm, _ = self.running("sim.suspend_fails")
        with self.assertRaises(Failure):
            self.api.VM.suspend(vm)
        record = self.api.VM.get_record(vm)
        self.assertEqual((record["power_state"], record["suspend_VDI"], record["current_operations"]),
                         ("Running", NULL, {}))
        self.assertEqual(len(self.disks_on_storage()), 1)

    def test_a_resume_that_fails_can_be_tried_again(self):
        vm, _ = self.running("sim.resume_fails")
        self.api.VM.suspend(vm)
        with self.assertRaises(Failure):
            self.api.VM.resume(vm, False, False)
        self.assertEqual(self.state(vm), "Suspended")
        self.assertNotEqual(self.api.VM.get_suspend_VDI(vm), NULL)
        self.assertEqual(len(self.disks_on_storage()), 2)

    def test_cancelled(self):
        vm, _ = self.running("sim.suspend_ms=60000")
        task = self.api.call("Async.VM.suspend", self.api.session, vm)
        until("it goes on", lambda: self.api.task.get_progress(task) > 0)
        self.assertEqual(list(self.api.VM.get_current_operations(vm).values()), ["suspend"])
        self.api.task.cancel(task)
        self.task_ends(task, "cancelled")
        self.assertEqual((self.state(vm), self.api.VM.get_suspend_VDI(vm)), ("Running", NULL))
        self.assertEqual(len(self.disks_on_storage()), 1)

    def test_a_hard_shutdown_overtakes_it(self):
        vm, _ = self.running("sim.suspend_ms=60000")
        task = self.api.call("Async.VM.suspend", self.api.session, vm)
        until("it goes on", lambda: self.api.task.get_progress(task) > 0)
        self.api.VM.hard_shutdown(vm)
        until("the task ends", lambda: self.api.task.get_status(task) != "pending")
        self.assertEqual((self.state(vm), self.api.VM.get_suspend_VDI(vm)), ("Halted", NULL))
        self.assertEqual(self.api.VM.get_current_operations(vm), {})
        until("the image goes", lambda: len(self.disks_on_storage()) == 1)


class Crashes(unittest.TestCase):
    """The server dies while an agent saves or loads memory; the host's answer says what became of it."""

    def begin(self, pool, words):
        case = VmCase()
        case.pool, case.api = pool, pool.login()
        case.id = lambda: "x.crash"
        case.setUp()
        vm, _ = case.with_disk(words=words)
        case.api.VM.set_suspend_SR(vm, case.sr)
        case.start(vm)
        return case, vm

    def begun(self, case, method, *arguments):
        task = case.api.call("Async." + method, case.api.session, *arguments)
        until("it goes on", lambda: case.api.task.get_progress(task) > 0)

    def test_suspend_that_the_host_finishes(self):
        with TestPool(hosts=1, host_options=BOOT) as pool:
            case, vm = self.begin(pool, "sim.suspend_ms=3000")
            self.begun(case, "VM.suspend", vm)
            pool.restart(crash=True)
            case.api = pool.login()
            until("the VM is suspended", lambda: case.state(vm) == "Suspended")
            self.assertNotEqual(case.api.VM.get_suspend_VDI(vm), NULL)
            case.api.VM.resume(vm, False, False)
            self.assertEqual(case.state(vm), "Running")

    def test_resume_that_the_host_finishes(self):
        with TestPool(hosts=1, host_options=BOOT) as pool:
            case, vm = self.begin(pool, "sim.resume_ms=3000")
            case.api.VM.suspend(vm)
            self.begun(case, "VM.resume", vm, False, False)
            pool.restart(crash=True)
            case.api = pool.login()
            until("the VM runs", lambda: case.state(vm) == "Running")
            self.assertEqual(case.api.VM.get_suspend_VDI(vm), NULL)

    def test_the_agent_dies_in_a_suspend(self):
        with TestPool(hosts=1, host_options=BOOT) as pool:
            case, vm = self.begin(pool, "sim.suspend_ms=3000")
            self.begun(case, "VM.suspend", vm)
            host = pool.hosts[0]
            host.kill()
            host.start("hostd.port")

            def settled():
                record = case.api.VM.get_record(vm)
                if record["current_operations"]:
                    return False
                image = record["suspend_VDI"] != NULL
                return (record["power_state"], image) in (("Suspended", True), ("Running", False), ("Halted", False))
            until("rows and host agree", settled, 60)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
