"""kill -9 of hostd just before and just after it does an operation on a VM, by one table (base/failpoint.h); poold's turn is
in test_restart.py. Afterwards the operation is done or not done, the task says which, nothing is left over, and the
VM can be used."""
import os
import sys
import unittest

from pool import NULL, Failure, TestPool, has_hostd, until
from vms import MIB, VmCase

BUSY = ("VM", "VDI", "VBD", "VIF", "SR", "host")


def setUpModule():
    if not has_hostd():
        raise unittest.SkipTest("hostd is not built")
    VmCase.pool = TestPool(hosts=1, host_options=["--sim-boot-ms", "50"])
    VmCase.api = VmCase.pool.login()


def tearDownModule():
    if VmCase.pool:
        VmCase.pool.close()


class Faults(VmCase):
    def setUp(self):
        super().setUp()
        self.vm, self.vdi = self.with_disk()
        self.api.VM.set_suspend_SR(self.vm, self.sr)
        self.spare = self.drive(self.vm, self.disk(b"two"))
        self.card = self.nic(self.vm, "1")
        self.made = set()

    # ---- the states that operations begin in ----

    def halted(self):
        if self.state(self.vm) != "Halted":
            self.api.VM.hard_shutdown(self.vm)

    def running(self):
        if self.state(self.vm) == "Suspended":
            self.api.VM.resume(self.vm, False, False)
        if self.state(self.vm) == "Paused":
            self.api.VM.unpause(self.vm)
        if self.state(self.vm) == "Halted":
            self.start(self.vm)
        until("the guest is up", lambda: "clean_reboot" in self.api.VM.get_allowed_operations(self.vm))

    def paused(self):
        self.running()
        self.api.VM.pause(self.vm)

    def suspended(self):
        self.running()
        self.api.VM.suspend(self.vm)

    def unplugged(self):
        self.running()
        for cls, device in (("VBD", self.spare), ("VIF", self.card)):
            if self.api.call(f"{cls}.get_currently_attached", self.api.session, device):
                self.api.call(f"{cls}.unplug", self.api.session, device)

    def plugged(self):
        self.running()
        for cls, device in (("VBD", self.spare), ("VIF", self.card)):
            if not self.api.call(f"{cls}.get_currently_attached", self.api.session, device):
                self.api.call(f"{cls}.plug", self.api.session, device)

    # message, further arguments (names of attributes in <>), the state before, the agent's call
    TABLE = (
        ("VM.start", (False, False), halted, "domain_start"),
        ("VM.pause", (), running, "domain_pause"),
        ("VM.unpause", (), paused, "domain_unpause"),
        ("VM.clean_shutdown", (), running, "domain_shutdown"),
        ("VM.hard_shutdown", (), running, "domain_hard_shutdown"),
        ("VM.clean_reboot", (), running, "domain_reboot"),
        ("VM.hard_reboot", (), running, "domain_hard_reboot"),
        ("VM.suspend", (), running, "domain_suspend"),
        ("VM.resume", (False, False), suspended, "domain_resume"),
        ("VM.snapshot", ("fault",), running, "domain_snapshot"),
        ("VM.checkpoint", ("fault",), running, "domain_snapshot"),
        ("VM.clone", ("fault",), halted, "disk_clone"),
        ("VM.copy", ("fault", "<sr>"), halted, "disk_copy"),
        ("VBD.plug", (), unplugged, "disk_plug"),
        ("VBD.unplug", (), plugged, "disk_unplug"),
        ("VIF.plug", (), unplugged, "nic_plug"),
        ("VIF.unplug", (), plugged, "nic_unplug"),
        ("VDI.resize", (2 * MIB,), halted, "disk_resize"),
    )

    def object_of(self, message):
        return {"VM": self.vm, "VBD": self.spare, "VIF": self.card, "VDI": self.vdi}[message.partition(".")[0]]

    # ---- the blow ----

    def restart(self, daemon, failpoint=None):
        """Starts a daemon anew, to die at the failpoint."""
        if failpoint:
            os.environ["CORRAL_FAILPOINT"] = failpoint
        try:
            if daemon == "poold":
                self.pool.start()
            else:
                self.pool.hosts[0].start("hostd.port")
        finally:
            os.environ.pop("CORRAL_FAILPOINT", None)
        if daemon == "poold":
            VmCase.api = self.api = self.pool.login()
        until("the host is live and answers", self.answers, 60)

    def answers(self):
        try:
            return self.pool.live_hosts(self.api) == 1 and self.api.SR.scan(self.sr) is not None
        except Failure:
            return False

    def blow(self, daemon, failpoint, message, arguments):
        """Runs the call while the daemon dies; returns the record of its task once all is up again."""
        if daemon == "poold":
            self.pool.stop()
        else:
            self.pool.hosts[0].stop()
        self.restart(daemon, failpoint)
        before = set(self.api.task.get_all())
        arguments = [getattr(self, a[1:-1]) if isinstance(a, str) and a.startswith("<") else a for a in arguments]
        try:
            self.api.call("Async." + message, self.api.session, self.object_of(message), *arguments)
        except OSError:
            self.assertEqual(daemon, "poold")
        process = self.pool.poold if daemon == "poold" else self.pool.hosts[0]
        until(f"{daemon} dies at {failpoint}", lambda: not process.running, 60)
        process.kill()
        self.restart(daemon)
        task = until("the task is known", lambda: next((t for t, r in self.api.task.get_all_records().items()
                                                        if t not in before and r["name_label"] == "Async." + message), None), 60)
        until("the task ends", lambda: self.api.task.get_status(task) not in ("pending", "cancelling"), 90)
        record = self.api.task.get_record(task)
        self.api.task.destroy(task)
        return record

    # ---- what is always true ----

    def check(self, record):
        self.assertIn(record["status"], ("success", "failure"), record)
        if record["status"] == "failure":
            self.assertTrue(record["error_info"][0], record)
        for name in BUSY:
            until(f"no {name} is marked", lambda n=name: not any(
                r["current_operations"] for r in getattr(self.api, n).get_all_records().values()), 60)
        until("disks and rows agree", self.disks_agree, 60)
        vm = until("state and residence agree", self.agrees, 60)
        self.assertTrue(vm["allowed_operations"])
        self.assertEqual(self.read(self.vdi), b"one")

    def disks_agree(self):
        rows = {r["uuid"] for r in self.api.VDI.get_all_records().values() if r["SR"] == self.sr}
        files = {name.partition(".")[0] for name in self.disks_on_storage() if not name.startswith("base-")}
        return rows == files

    def agrees(self):
        vm = self.api.VM.get_record(self.vm)
        live = vm["power_state"] in ("Running", "Paused")
        folder = os.path.join(self.pool.hosts[0].folder, "run", vm["uuid"])
        return vm if live == (vm["resident_on"] != NULL) == os.path.isdir(folder) else None

    def clear(self):
        """Removes what the operation has made."""
        for vm in self.api.VM.get_by_name_label("fault"):
            disks = [self.api.VBD.get_VDI(v) for v in self.api.VM.get_VBDs(vm)]
            state = self.api.VM.get_suspend_VDI(vm)
            self.api.VM.destroy(vm)
            for vdi in {*disks, state} - {NULL}:
                try:
                    self.api.VDI.destroy(vdi)
                except Failure as failure:
                    if failure.code != "HANDLE_INVALID":
                        raise

    def run_table(self, rows):
        for daemon, point, (message, arguments, prepare, call) in rows:
            failpoint = f"{point}:{message if point in ('marked', 'handled') else call}"
            with self.subTest(f"{message} {daemon} {failpoint}"):
                prepare(self)
                record = self.blow(daemon, failpoint, message, arguments)
                self.check(record)
                self.clear()
        # It can be used as if nothing had happened.
        self.halted()
        self.running()
        self.api.VM.clean_shutdown(self.vm)

    def test_the_agent_dies(self):
        """Before it does anything, and with all done but not noted."""
        self.run_table([("hostd", point, row) for row in self.TABLE for point in ("agent-begun", "agent-done")])


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
