"""VMs that go to other hosts while they run, disks that move under them, on simulated guests: rows, disks, errors,
cancelling, and poold killed in the middle."""
import http.client
import os
import sys
import unittest

from pool import NULL, TestPool, until
from vms import VmCase

BOOT = ["--sim-boot-ms", "50"]


def setUpModule():
    VmCase.open_pool(hosts=3, host_options=BOOT)


class MigrateCase(VmCase):
    def setUp(self):
        try:
            self.pool.client().request("GET", "/", b"", {})
        except OSError:  # a test before this one failed while the server was down
            self.pool.kill()
            self.pool.start()
            VmCase.api = self.pool.login()
        super().setUp()  # self.sr: of the first host alone
        self.first, self.second, self.third = self.api.host.get_all()[:3]
        self.shared_path = self.sr_path + "-shared"
        self.shared = self.api.SR.create(self.first, {"location": self.shared_path}, 0, "shared", "", "file", "", True, {})

    def local_of(self, host, name):
        path = f"{self.sr_path}-{name}"
        return self.api.SR.create(host, {"location": path}, 0, name, "", "file", "", False, {}), path

    def running(self, words="", sr=None, path=None, content=b"one"):
        """A running VM on the first host, with a disk on the shared SR (or another)."""
        vm = self.make(words)
        self.sr, self.sr_path = sr or self.shared, path or self.shared_path
        vdi = self.disk(content)
        self.drive(vm, vdi)
        self.nic(vm)
        self.api.VM.start_on(vm, self.first, False, False)
        return vm, vdi

    def interrupted(self, failpoint, method, *params):
        """poold dies there in the call; its task after the restart."""
        self.pool.restart(failpoint=failpoint)
        VmCase.api = self.api = self.pool.login()
        before = set(self.api.task.get_all())
        try:
            self.api.call("Async." + method, self.api.session, *params)
        except (OSError, http.client.HTTPException):
            pass  # it was dead before it could answer
        until("poold dies", lambda: not self.pool.poold.running, 60)
        self.pool.kill()
        self.pool.start()
        VmCase.api = self.api = self.pool.login()
        task = next(ref for ref, record in self.api.task.get_all_records().items()
                    if ref not in before and record["name_label"] in (method, "Async." + method))
        until("the task is over", lambda: self.api.task.get_status(task) not in ("pending", "cancelling"), 60)
        return self.api.task.get_record(task)

    def dest(self, host):
        return self.api.host.migrate_receive(host, self.network, {})

    def bytes_in(self, vdi, path, size=3):
        uuid = self.api.VDI.get_uuid(vdi)
        name = next(f for f in os.listdir(path) if f.startswith(uuid))
        with open(os.path.join(path, name), "rb") as file:
            return file.read(size)

    def disks_in(self, path):
        return sorted(f for f in os.listdir(path) if not f.startswith("."))

    def nothing_left(self, *vms):
        for vm in vms:
            self.assertEqual(self.api.VM.get_current_operations(vm), {})
        self.assertEqual([r["name_label"] for r in self.api.VDI.get_all_records().values()
                          if "mirror_vm" in r["sm_config"]], [])


class PoolMigrate(MigrateCase):
    def test_there_and_back(self):
        vm, vdi = self.running()
        before = self.api.VM.get_record(vm)
        started = self.api.VM_metrics.get_start_time(before["metrics"])
        self.assertIn("pool_migrate", before["allowed_operations"])
        self.assertIn("migrate_send", before["allowed_operations"])
        self.api.VM.pool_migrate(vm, self.second, {"live": "true"})
        after = self.api.VM.get_record(vm)
        self.assertEqual((after["power_state"], after["resident_on"]), ("Running", self.second))
        self.assertIn(vm, self.api.host.get_resident_VMs(self.second))
        self.assertNotIn(vm, self.api.host.get_resident_VMs(self.first))
        self.assertEqual(self.api.VM_metrics.get_start_time(after["metrics"]), started, "it was not started anew")
        self.assertTrue(all(self.api.VBD.get_currently_attached(v) for v in after["VBDs"]))
        self.assertTrue(all(self.api.VIF.get_currently_attached(v) for v in after["VIFs"]))
        self.assertEqual(self.disk_of(vm), vdi, "a disk that both hosts see stays what it is")
        self.assertEqual(len(after["consoles"]), 2)
        address = self.api.host.get_address(self.second)
        for console in after["consoles"]:
            self.assertIn(address, self.api.console.get_location(console))
        self.assertEqual(self.alerts(vm), ["VM_MIGRATED", "VM_STARTED"])
        self.api.VM.pool_migrate(vm, self.first, {})
        self.assertEqual(self.api.VM.get_resident_on(vm), self.first)
        self.api.VM.pool_migrate(vm, self.first, {})  # it is there
        until("the guest is up", lambda: "clean_reboot" in self.api.VM.get_allowed_operations(vm))
        self.api.VM.clean_reboot(vm)
        self.api.VM.clean_shutdown(vm)
        self.nothing_left(vm)

    def test_what_is_refused(self):
        vm, _ = self.running()
        self.fails("HANDLE_INVALID", ["host", NULL], "VM.pool_migrate", vm, NULL, {})
        halted = self.make()
        self.fails("VM_BAD_POWER_STATE", [halted, "running", "halted"], "VM.pool_migrate", halted, self.second, {})
        self.api.VM.set_blocked_operations(vm, {"pool_migrate": "because"})
        self.fails("OPERATION_BLOCKED", [vm, "because"], "VM.pool_migrate", vm, self.second, {})
        self.api.VM.set_blocked_operations(vm, {})
        self.api.host.disable(self.second)
        self.fails("HOST_DISABLED", [self.second], "VM.pool_migrate", vm, self.second, {})
        self.api.host.enable(self.second)
        local, path = self.local_of(self.first, "own")
        alone, _ = self.running(sr=local, path=path)
        self.fails("VM_REQUIRES_SR", [alone, local], "VM.pool_migrate", alone, self.second, {})
        self.assertEqual(self.api.VM.get_resident_on(vm), self.first)
        self.nothing_left(vm, alone)

    def test_a_failure_leaves_it_where_it_was(self):
        for words in ("sim.migrate_fails", "sim.receive_fails"):
            with self.subTest(words):
                vm, _ = self.running(words)
                self.fails("VM_MIGRATE_FAILED", None, "VM.pool_migrate", vm, self.second, {})
                self.assertEqual((self.state(vm), self.api.VM.get_resident_on(vm)), ("Running", self.first))
                self.nothing_left(vm)
                self.api.VM.clean_shutdown(vm)

    def test_progress_and_cancel(self):
        vm, _ = self.running("sim.migrate_ms=60000")
        task = self.api.call("Async.VM.pool_migrate", self.api.session, vm, self.second, {})
        until("it makes progress", lambda: float(self.api.task.get_progress(task)) > 0, 60)
        self.assertEqual(list(self.api.VM.get_current_operations(vm).values()), ["pool_migrate"])
        self.assertNotIn("suspend", self.api.VM.get_allowed_operations(vm))
        self.api.task.cancel(task)
        self.task_ends(task, "cancelled")
        self.assertEqual((self.state(vm), self.api.VM.get_resident_on(vm)), ("Running", self.first))
        self.nothing_left(vm)

    def test_a_hard_shutdown_goes_first(self):
        vm, _ = self.running("sim.migrate_ms=60000")
        task = self.api.call("Async.VM.pool_migrate", self.api.session, vm, self.second, {})
        until("it goes on", lambda: float(self.api.task.get_progress(task)) > 0, 60)
        self.api.VM.hard_shutdown(vm)
        self.assertEqual(self.state(vm), "Halted")
        until("the move is over", lambda: self.api.task.get_status(task) not in ("pending", "cancelling"), 60)
        self.nothing_left(vm)


    def test_a_host_that_dies_before_the_vm_is_its_own_does_not_have_it(self):
        vm, _ = self.running()
        agent = self.pool.agent(self.api.host.get_uuid(self.second))
        agent.kill()
        agent.start("hostd.port", failpoint="start:recorded")
        task = self.api.call("Async.VM.pool_migrate", self.api.session, vm, self.second, {})
        until("the agent dies", lambda: not agent.running)
        agent.kill()
        agent.start("hostd.port")
        until("the task is over", lambda: self.api.task.get_status(task) != "pending", 60)
        self.assertEqual(self.api.task.get_status(task), "failure")
        self.assertEqual((self.api.VM.get_resident_on(vm), self.api.VM.get_power_state(vm)), (self.first, "Running"))
        self.assertNotIn(self.api.VM.get_uuid(vm), os.listdir(os.path.join(agent.folder, "run")))
        self.nothing_left(vm)


class MigrateSend(MigrateCase):
    def test_with_its_local_disk(self):
        here, here_path = self.local_of(self.first, "here")
        there, there_path = self.local_of(self.second, "there")
        vm, vdi = self.running(sr=here, path=here_path, content=b"abc")
        self.api.VDI.set_name_label(vdi, "data")
        arguments = (vm, self.dest(self.second), True, {vdi: there}, {}, {}, {})
        self.api.VM.assert_can_migrate(*arguments)
        self.assertEqual(self.api.VM.migrate_send(*arguments), vm)
        self.assertEqual((self.state(vm), self.api.VM.get_resident_on(vm)), ("Running", self.second))
        moved = self.disk_of(vm)
        record = self.api.VDI.get_record(moved)
        self.assertEqual((record["SR"], record["name_label"]), (there, "data"))
        self.assertEqual(self.bytes_in(moved, there_path), b"abc")
        self.fails("HANDLE_INVALID", None, "VDI.get_record", vdi)
        self.assertEqual(self.disks_in(here_path), [])
        self.nothing_left(vm)
        self.api.VM.hard_shutdown(vm)
        self.start(vm)
        self.assertEqual(self.api.VM.get_resident_on(vm), self.second)

    def test_checks(self):
        here, here_path = self.local_of(self.first, "here")
        vm, vdi = self.running(sr=here, path=here_path)
        dest = self.dest(self.second)
        self.assertEqual(dest["host"], self.second)
        self.assertIn("session_id=", dest["SM"])
        self.fails("VDI_NOT_IN_MAP", [vdi], "VM.assert_can_migrate", vm, dest, True, {}, {}, {}, {})
        self.fails("VM_REQUIRES_SR", [vm, here], "VM.assert_can_migrate", vm, dest, True, {vdi: here}, {}, {}, {})
        self.fails("VM_BAD_POWER_STATE", None, "VM.assert_can_migrate", vm, dest, False, {vdi: self.shared}, {}, {}, {})
        self.fails("VM_BAD_POWER_STATE", [vm, "halted", "running"], "VM.migrate_send", vm,
                   {**dest, "host": "OpaqueRef:elsewhere"}, True, {}, {}, {}, {})
        self.fails("HANDLE_INVALID", None, "host.migrate_receive", NULL, self.network, {})
        self.api.VM.assert_can_migrate(vm, dest, True, {vdi: self.shared}, {}, {}, {})
        self.api.VM.assert_can_migrate_sender(vm, dest, True, {vdi: self.shared}, {}, {}, {})
        self.assertEqual(self.api.VM.get_resident_on(vm), self.first)

    def test_at_rest(self):
        here, here_path = self.local_of(self.first, "here")
        vm = self.make()
        self.sr, self.sr_path = here, here_path
        vdi = self.disk(b"xyz")
        self.drive(vm, vdi)
        self.api.VM.migrate_send(vm, self.dest(self.second), False, {vdi: self.shared}, {}, {}, {})
        self.assertEqual(self.bytes_in(self.disk_of(vm), self.shared_path), b"xyz")
        self.assertEqual(self.disks_in(here_path), [])
        self.nothing_left(vm)

    def test_a_failure_leaves_no_disk(self):
        here, here_path = self.local_of(self.first, "here")
        there, there_path = self.local_of(self.second, "there")
        vm, vdi = self.running("sim.migrate_fails", sr=here, path=here_path)
        self.fails("VM_MIGRATE_FAILED", None, "VM.migrate_send", vm, self.dest(self.second), True, {vdi: there}, {}, {}, {})
        self.assertEqual((self.disk_of(vm), self.disks_in(there_path)), (vdi, []))
        self.nothing_left(vm)


class DiskMove(MigrateCase):
    def test_under_the_guest(self):
        here, here_path = self.local_of(self.first, "here")
        vm, vdi = self.running(content=b"abc")
        self.assertIn("mirror", self.api.VDI.get_allowed_operations(vdi))
        moved = self.api.VDI.pool_migrate(vdi, here, {})
        self.assertEqual(self.disk_of(vm), moved)
        self.assertEqual(self.bytes_in(moved, here_path), b"abc")
        self.assertEqual(self.disks_in(self.shared_path), [])
        self.fails("HANDLE_INVALID", None, "VDI.get_record", vdi)
        self.assertEqual(self.state(vm), "Running")
        self.assertEqual(self.api.VDI.pool_migrate(moved, here, {}), moved)  # it is there
        self.nothing_left(vm)

    def test_what_is_refused(self):
        elsewhere, _ = self.local_of(self.second, "elsewhere")
        vm, vdi = self.running()
        self.fails("VM_REQUIRES_SR", [vm, elsewhere], "VDI.pool_migrate", vdi, elsewhere, {})
        self.api.VM.hard_shutdown(vm)
        self.fails("VDI_NEEDS_VM_FOR_MIGRATE", [vdi], "VDI.pool_migrate", vdi, self.shared, {})
        self.nothing_left(vm)


class Evacuate(MigrateCase):
    def test_all_go(self):
        vms = [self.running()[0] for _ in range(3)]
        self.addCleanup(self.api.host.enable, self.first)
        self.api.host.disable(self.first)
        self.api.host.evacuate(self.first, NULL, 2)
        self.assertEqual([self.state(vm) for vm in vms], ["Running"] * 3)
        self.assertNotIn(self.first, [self.api.VM.get_resident_on(vm) for vm in vms])
        self.nothing_left(*vms)

    def test_one_that_cannot(self):
        here, here_path = self.local_of(self.first, "here")
        vm, _ = self.running(sr=here, path=here_path)
        params = self.fails("CANNOT_EVACUATE_HOST", None, "host.evacuate", self.first, NULL, 0)
        self.assertIn("VM_REQUIRES_SR", params[0])
        self.assertEqual(self.api.VM.get_resident_on(vm), self.first)
        self.fails("HANDLE_INVALID", None, "host.evacuate", NULL, NULL, 0)


class Restart(MigrateCase):
    """poold dies in the middle."""

    def one_host_has_it(self, vm):
        until("nothing runs on it", lambda: not self.api.VM.get_current_operations(vm), 60)
        return self.api.VM.get_resident_on(vm)

    def test_a_vm_on_its_way(self):
        here, here_path = self.local_of(self.first, "here")
        there, there_path = self.local_of(self.second, "there")
        for failpoint, goes in (("marked:VM.migrate_send", False), ("agent-called:domain_send", False),
                                ("agent-answered:domain_send", True), ("handled:VM.migrate_send", True)):
            with self.subTest(failpoint):
                vm, vdi = self.running(sr=here, path=here_path, content=b"abc")
                record = self.interrupted(failpoint, "VM.migrate_send", vm, self.dest(self.second), True, {vdi: there}, {},
                                          {}, {})
                self.assertEqual(record["status"], "success" if goes else "failure", record)
                where = until("it is known where it runs", lambda: (self.one_host_has_it(vm) == (
                    self.second if goes else self.first)) and self.one_host_has_it(vm), 60)
                self.assertEqual(self.state(vm), "Running")
                now = self.disk_of(vm)
                self.assertEqual(now == vdi, not goes)
                self.assertEqual(self.bytes_in(now, there_path if goes else here_path), b"abc")
                until("the other disk goes", lambda: len(self.disks_in(here_path)) + len(self.disks_in(there_path)) == 1, 60)
                self.assertEqual(where, self.second if goes else self.first)
                self.nothing_left(vm)
                self.destroy(vm)
                self.api.VDI.destroy(now)

    def test_a_disk_on_its_way(self):
        here, here_path = self.local_of(self.first, "here")
        for failpoint, goes in (("agent-called:disk_move", False), ("agent-answered:disk_move", True)):
            with self.subTest(failpoint):
                vm, vdi = self.running(content=b"abc")
                record = self.interrupted(failpoint, "VDI.pool_migrate", vdi, here, {})
                self.assertEqual(record["status"], "success" if goes else "failure", record)
                now = self.disk_of(vm)
                self.assertEqual(self.api.VDI.get_SR(now), here if goes else self.shared)
                self.assertEqual(self.bytes_in(now, here_path if goes else self.shared_path), b"abc")
                until("the other disk goes",
                      lambda: len(self.disks_in(here_path)) + len(self.disks_in(self.shared_path)) == 1, 60)
                self.nothing_left(vm)
                self.destroy(vm)
                self.api.VDI.destroy(now)


class ToAnotherPool(MigrateCase):
    @classmethod
    def setUpClass(cls):
        cls.other = TestPool(hosts=1)
        cls.addClassCleanup(cls.other.close)
        cls.there = cls.other.login()
        cls.host_there, = cls.there.host.get_all()
        cls.path_there = os.path.join(cls.other.folder, "there")
        cls.sr_there = cls.there.SR.create(cls.host_there, {"location": cls.path_there}, 0, "there", "", "file", "", False, {})
        cls.network_there = next(ref for ref, network in cls.there.network.get_all_records().items()
                                 if network["other_config"].get("corral:kind") == "user")

    def setUp(self):
        super().setUp()
        self.vm = self.make(name_description="travels")
        self.vdi = self.disk(b"one", tags=["kept"])
        self.drive(self.vm, self.vdi)
        self.vif = self.nic(self.vm)
        self.to = self.there.host.migrate_receive(self.host_there, self.network_there, {})

    def arguments(self, to=None, vdis=None, vifs=None, **options):
        return [self.vm, self.to if to is None else to, False, {self.vdi: self.sr_there} if vdis is None else vdis,
                {self.vif: self.network_there} if vifs is None else vifs, options]

    def nothing_there(self):
        self.assertEqual(self.there.SR.get_VDIs(self.sr_there), [])
        self.assertEqual(self.disks_in(self.path_there), [])
        self.assertNotIn("travels", [r["name_description"] for r in self.there.VM.get_all_records().values()])
        self.assertNotIn("VM.migrate_send", [r["name_label"] for r in self.there.task.get_all_records().values()])
        self.assertEqual(self.api.VM.get_current_operations(self.vm), {})

    def test_refusals(self):
        away = {**self.to, "master": "https://127.0.0.1:1/"}
        pin = {**self.to, "corral:certificate": "0" * 64}
        for code, params, arguments in [
                ("VDI_NOT_IN_MAP", [self.vdi], self.arguments(vdis={})),
                ("VIF_NOT_IN_MAP", [self.vif], self.arguments(vifs={})),
                ("HANDLE_INVALID", ["SR", NULL], self.arguments(vdis={self.vdi: NULL})),
                ("HANDLE_INVALID", ["network", NULL], self.arguments(vifs={self.vif: NULL})),
                ("HANDLE_INVALID", ["host", "OpaqueRef:elsewhere"], self.arguments({**self.to, "host": "OpaqueRef:elsewhere"})),
                ("CANNOT_CONTACT_HOST", [self.host_there], self.arguments(away)),
                ("CANNOT_CONTACT_HOST", [self.host_there], self.arguments(pin)),
                ("SESSION_INVALID", None, self.arguments({**self.to, "session_id": NULL})),
                ("INVALID_VALUE", None, self.arguments({**self.to, "master": "http://127.0.0.1/"})),
                ("INVALID_VALUE", None, self.arguments({"host": self.host_there}))]:
            with self.subTest(code=code, params=params):
                self.fails(code, params, "VM.assert_can_migrate", *arguments, {})
        self.fails("VDI_NOT_IN_MAP", [self.vdi], "VM.migrate_send", *self.arguments(vdis={}), {})
        self.api.VM.assert_can_migrate(*self.arguments(), {})
        self.nothing_there()

    def test_nothing_is_left_of_a_failure(self):
        second = self.disk(b"two")
        self.drive(self.vm, second)
        path = self.path_there + "-isos"
        os.makedirs(path)
        isos = self.there.SR.create(self.host_there, {"location": path, "legacy_mode": "true"}, 0, "isos", "", "iso", "iso",
                                    False, {})
        self.fails("SR_OPERATION_NOT_SUPPORTED", None, "VM.migrate_send",
                   *self.arguments(vdis={self.vdi: self.sr_there, second: isos}), {})
        self.nothing_there()
        self.assertEqual(self.read(self.vdi), b"one")

    def test_what_stays_there_is_told(self):
        """This server dies in the middle: it cannot remove what it has made in the other pool, so it says what that is."""
        here = self.api.VM.get_uuid(self.vm)
        for failpoint, copy, disks, vms in (("send-away:disk", False, 1, 0), ("send-away:there", False, 1, 1),
                                            ("send-away:there", True, 1, 1)):
            with self.subTest(failpoint=failpoint, copy=copy):
                record = self.interrupted(failpoint, "VM.migrate_send",
                                          *self.arguments(**({"copy": "true"} if copy else {})), {})
                self.assertEqual(record["status"], "failure")
                code, words = record["error_info"][:2]
                self.assertEqual(code, "INTERNAL_ERROR")
                self.assertIn(self.to["master"], words)
                self.assertNotIn("Disks that it had made were removed", words)
                left = [(self.there.VDI, ref) for ref in self.there.SR.get_VDIs(self.sr_there)]
                left += [(self.there.VM, ref) for ref, r in self.there.VM.get_all_records().items()
                         if r["name_description"] == "travels"]
                self.assertEqual(len(left), disks + vms)
                for cls, ref in reversed(left):
                    self.assertIn(cls.get_uuid(ref), words)
                    cls.destroy(ref)
                self.assertEqual(here in words, vms == 1 and not copy)
                self.assertEqual(self.read(self.vdi), b"one")
                self.assertEqual(self.api.VM.get_current_operations(self.vm), {})

    def test_there_and_a_copy(self):
        before = self.api.VM.get_record(self.vm)
        card = self.api.VIF.get_record(self.vif)
        copy = self.api.VM.migrate_send(*self.arguments(copy="true"), {})
        self.assertEqual(self.api.VM.get_power_state(self.vm), "Halted")
        moved = self.api.VM.migrate_send(*self.arguments(), {})
        self.fails("HANDLE_INVALID", ["VM", self.vm], "VM.get_uuid", self.vm)
        self.fails("HANDLE_INVALID", ["VDI", self.vdi], "VDI.get_uuid", self.vdi)
        self.assertEqual(self.disks_in(self.sr_path), [])
        self.vms.remove(self.vm)
        self.assertNotEqual(self.there.VM.get_uuid(copy), before["uuid"])
        self.assertEqual(self.there.VM.get_uuid(moved), before["uuid"])
        for vm in (copy, moved):
            record = self.there.VM.get_record(vm)
            self.assertEqual([record[k] for k in ("name_label", "name_description", "memory_static_max", "affinity")],
                             [before["name_label"], "travels", before["memory_static_max"], self.host_there])
            vbd, = record["VBDs"]
            vdi = self.there.VBD.get_record(vbd)["VDI"]
            self.assertEqual((self.there.VDI.get_SR(vdi), self.there.VDI.get_tags(vdi)), (self.sr_there, ["kept"]))
            status, _, body = self.other.http("GET", f"/export_raw_vdi?session_id={self.there.session}&vdi={vdi}")
            self.assertEqual((status, body[:3]), (200, b"one"))
            vif = self.there.VIF.get_record(record["VIFs"][0])
            self.assertEqual((vif["network"], vif["device"]), (self.network_there, card["device"]))
            self.assertEqual(vif["MAC"] == card["MAC"], vm == moved)
            self.there.VM.start(vm, False, False)
            self.there.VM.hard_shutdown(vm)
            self.there.VM.destroy(vm)
            self.there.VDI.destroy(vdi)
        self.assertNotIn("VM.migrate_send", [r["name_label"] for r in self.there.task.get_all_records().values()])


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
