"""poold is killed in the middle of calls, at places that a failpoint names (base/failpoint.h), and started
again: what was interrupted is put right against what the agents say, and nothing is left over."""
import os
import signal
import socket
import struct
import sys
import tempfile
import threading
import unittest

from failpoints import Points
from pool import NULL, Failure, module_pool, until
from test_events import vm_record
from test_vm import simulated

MIB = 1 << 20
POOL = SR = FOLDER = None
BUSY = ("VM", "VDI", "VBD", "VIF", "SR", "host", "pool", "network")


def setUpModule():
    global POOL, SR, FOLDER
    POOL = module_pool(hosts=1, host_options=["--sim-boot-ms", "50"])
    FOLDER = os.path.join(POOL.folder, "disks")
    api = POOL.login()
    SR = api.SR.create(api.host.get_all()[0], {"location": FOLDER}, 0, "disks", "", "file", "", False, {})


def wait_dead():
    until("poold dies at its failpoint", lambda: not POOL.poold.running, 60)
    POOL.kill()


def ensure_running():
    """After a test that failed, too: the next one shall not fail for it."""
    try:
        POOL.client().request("GET", "/", b"", {})
    except OSError:
        POOL.kill()
        POOL.start()


class Case(unittest.TestCase):
    def setUp(self):
        ensure_running()
        self.api = POOL.login()

    def tearDown(self):
        ensure_running()
        api = POOL.login()
        for vm, record in api.VM.get_all_records().items():
            if record["is_control_domain"] or record["is_default_template"]:
                continue
            if record["power_state"] != "Halted":
                api.VM.hard_shutdown(vm)
            api.VM.destroy(vm)
        for vdi in api.VDI.get_all():
            api.VDI.destroy(vdi)
        for task in api.task.get_all():
            api.task.destroy(task)

    def make_vdi(self, size=4 * MIB):
        return self.api.VDI.create({"SR": SR, "virtual_size": size, "type": "user", "sharable": False, "read_only": False,
                                    "other_config": {}, "name_label": "disk"})

    def make_vm(self, words="", running=False, disk=False):
        vm = self.api.VM.create(simulated("vm", words) if words or running else vm_record("vm"))
        if disk:
            self.api.VBD.create({"VM": vm, "VDI": self.make_vdi(), "userdevice": "0", "bootable": False, "mode": "RW",
                                 "type": "Disk", "unpluggable": True, "empty": False, "other_config": {},
                                 "qos_algorithm_type": "", "qos_algorithm_params": {}})
        if running:
            self.api.VM.start(vm, False, False)
        return vm

    def interrupted(self, failpoint, method, *params):
        """The call, during which poold dies at the failpoint; poold is back afterwards. The record of its task."""
        POOL.restart(failpoint=failpoint)
        self.api = POOL.login()
        token = self.api.call("event.from", self.api.session, ["task"], "", 0.0)["token"]
        before = set(self.api.task.get_all())
        try:
            task = self.api.call("Async." + method, self.api.session, *params)
        except OSError:  # it died before the answer had left
            task = None
        wait_dead()
        POOL.start()
        self.api = POOL.login()
        self.settled()
        if not task:
            task, = [t for t, r in self.api.task.get_all_records().items() if r["name_label"] == "Async." + method and t not in before]
        events = self.api.call("event.from", self.api.session, ["task/" + task], token, 0.0)["events"]
        record = self.api.task.get_record(task)
        self.assertEqual([e["snapshot"]["status"] for e in events], [record["status"]], "a token from before is good")
        self.assertEqual((record["progress"], record["allowed_operations"], record["current_operations"]), (1.0, [], {}))
        self.assertNotEqual(record["finished"], "19700101T00:00:00Z")
        return record

    def settled(self):
        """What is always true once the server answers and its hosts do."""
        tasks = self.api.task.get_all_records()
        self.assertEqual([t["name_label"] for t in tasks.values() if t["status"] == "pending"], [])
        for name in BUSY:
            for ref, record in getattr(self.api, name).get_all_records().items():
                self.assertEqual(record["current_operations"], {}, f"{name} {ref}")
        rows = {v["uuid"] for v in self.api.VDI.get_all_records().values() if v["SR"] == SR}
        files = {name.partition(".")[0] for name in os.listdir(FOLDER) if len(name.partition(".")[0]) == 36}
        self.assertEqual(rows, files, "disks and rows agree")
        for vm, record in self.api.VM.get_all_records().items():
            if record["is_control_domain"]:
                continue
            self.assertEqual(record["power_state"] in ("Running", "Paused"), record["resident_on"] != NULL)
            expected = {"Halted": "start", "Running": "hard_shutdown", "Paused": "unpause"}[record["power_state"]]
            if not record["is_a_template"]:
                self.assertIn(expected, record["allowed_operations"], vm)

    def succeeds(self, record, result="<value></value>"):
        self.assertEqual((record["status"], record["error_info"]), ("success", []))
        self.assertEqual(record["result"], result)

    def fails(self, record, text):
        self.assertEqual((record["status"], record["result"]), ("failure", ""))
        self.assertEqual(record["error_info"][0], "INTERNAL_ERROR")
        self.assertIn(text, record["error_info"][1])
        self.assertIn("interrupted by a restart", record["error_info"][1])


NOT_BEGUN = "before anything was done"


class Power(Case):
    def test_start_before_the_agent_is_asked(self):
        for failpoint in ("marked:VM.start", "agent-called:domain_start"):
            vm = self.make_vm(running=False, words="console=hvc0")
            self.fails(self.interrupted(failpoint, "VM.start", vm, False, False), NOT_BEGUN)
            self.assertEqual(self.api.VM.get_power_state(vm), "Halted")
            self.api.VM.start(vm, False, False)
            self.api.VM.hard_shutdown(vm)

    def test_start_that_the_agent_did(self):
        for failpoint in ("agent-answered:domain_start", "handled:VM.start"):
            vm = self.make_vm(words="console=hvc0")
            self.succeeds(self.interrupted(failpoint, "VM.start", vm, False, False))
            self.assertEqual(self.api.VM.get_power_state(vm), "Running")
            self.assertEqual(self.alerts(vm), ["VM_STARTED"])
            self.assertNotEqual(self.api.VM.get_last_booted_record(vm), "")
            self.fails_state(vm)

    def alerts(self, vm):
        uuid = self.api.VM.get_uuid(vm)
        return sorted(m["name"] for m in self.api.message.get_all_records().values() if m["obj_uuid"] == uuid)

    def fails_state(self, vm):
        with self.assertRaises(Failure) as caught:
            self.api.VM.start(vm, False, False)
        self.assertEqual(caught.exception.code, "VM_BAD_POWER_STATE")

    def test_clean_shutdown(self):
        vm = self.make_vm(running=True)
        self.succeeds(self.interrupted("agent-answered:domain_shutdown", "VM.clean_shutdown", vm))
        self.assertEqual(self.api.VM.get_power_state(vm), "Halted")
        self.assertEqual(self.alerts(vm), ["VM_SHUTDOWN", "VM_STARTED"])
        self.api.VM.start(vm, False, False)
        self.fails(self.interrupted("agent-called:domain_shutdown", "VM.clean_shutdown", vm), NOT_BEGUN)
        self.assertEqual(self.api.VM.get_power_state(vm), "Running")

    def test_destroy(self):
        vm = self.make_vm()
        self.fails(self.interrupted("marked:VM.destroy", "VM.destroy", vm), NOT_BEGUN)
        self.assertIn(vm, self.api.VM.get_all())
        self.succeeds(self.interrupted("handled:VM.destroy", "VM.destroy", vm))
        self.assertNotIn(vm, self.api.VM.get_all())

    def test_suspend(self):
        vm = self.make_vm(running=True)
        self.api.VM.set_suspend_SR(vm, SR)
        record = self.interrupted_suspend("agent-answered:domain_suspend", vm)
        self.succeeds(record)
        self.assertEqual(self.api.VM.get_power_state(vm), "Suspended")
        self.api.VM.resume(vm, False, False)

    def interrupted_suspend(self, failpoint, vm):
        settled, self.settled = self.settled, lambda: None
        try:
            return self.interrupted(failpoint, "VM.suspend", vm)
        finally:
            self.settled = settled


class StillRunning(Case):
    """The agent goes on while poold is away."""

    def kill_during(self, method, *params):
        task = self.api.call("Async." + method, self.api.session, *params)
        until("the agent is at it", lambda: self.agent_operations() == 1)
        POOL.kill()
        POOL.start()
        self.api = POOL.login()
        return task

    def shutdown_that_hangs(self, words):
        vm = self.make_vm(words, running=True)
        task = self.kill_during("VM.clean_shutdown", vm)
        record = self.api.task.get_record(task)
        self.assertEqual((record["status"], record["allowed_operations"]), ("pending", ["cancel"]))
        self.assertEqual(self.api.VM.get_current_operations(vm), {task: "clean_shutdown"})
        return vm, task

    def end(self, task):
        until("the task ends", lambda: self.api.task.get_status(task) != "pending")
        self.settled()
        return self.api.task.get_record(task)

    def test_it_is_watched_to_its_end(self):
        vm, task = self.shutdown_that_hangs("sim.ignore_shutdown sim.poweroff_ms=8000")
        self.succeeds(self.end(task))
        self.assertEqual(self.api.VM.get_power_state(vm), "Halted")

    def test_it_can_be_cancelled(self):
        vm, task = self.shutdown_that_hangs("sim.ignore_shutdown")
        self.api.task.cancel(task)
        record = self.end(task)
        self.assertEqual((record["status"], record["error_info"]), ("cancelled", ["TASK_CANCELLED", task]))
        self.assertEqual(self.api.VM.get_power_state(vm), "Running")

    def test_a_hard_shutdown_overrules_it(self):
        vm, task = self.shutdown_that_hangs("sim.ignore_shutdown")
        self.api.VM.hard_shutdown(vm)
        self.assertEqual(self.end(task)["status"], "cancelled")
        self.assertEqual(self.api.VM.get_power_state(vm), "Halted")

    def test_a_host_that_is_silent(self):
        """Nothing is decided until it answers; who does not want to wait cancels."""
        vm = self.make_vm("sim.ignore_shutdown", running=True)
        other = self.make_vm("sim.ignore_shutdown", running=True)
        host = POOL.hosts[0]
        tasks = [self.api.call("Async.VM.clean_shutdown", self.api.session, v) for v in (vm, other)]
        until("both run", lambda: all(self.api.VM.get_current_operations(v) for v in (vm, other)))
        until("the agent is at both", lambda: self.agent_operations() == 2)
        host.signal(signal.SIGSTOP)
        try:
            POOL.kill()
            POOL.start()
            self.api = POOL.login()
            for v, task in zip((vm, other), tasks):
                self.assertEqual(self.api.task.get_status(task), "pending")
                self.assertEqual(self.api.VM.get_current_operations(v), {task: "clean_shutdown"})
            self.api.task.cancel(tasks[0])
            until("it is given up", lambda: self.api.task.get_status(tasks[0]) == "cancelled", 60)
            self.assertEqual(self.api.VM.get_current_operations(vm), {})
        finally:
            host.signal(signal.SIGCONT)
        until("the host is live", lambda: POOL.live_hosts(self.api) == 1)
        self.api.VM.hard_shutdown(other)
        self.assertEqual(self.end(tasks[1])["status"], "cancelled")
        self.api.VM.hard_shutdown(vm)

    @staticmethod
    def agent_operations():
        """How many clean shutdowns the agent has begun and not ended, as its journal says."""
        return sum(record["call"] == "domain_shutdown" and record["state"] not in ("done", "failed")
                   for record in POOL.hosts[0].operations())


class Disks(Case):
    def vdi_fields(self):
        return {"SR": SR, "virtual_size": 4 * MIB, "type": "user", "sharable": False, "read_only": False,
                "other_config": {}, "name_label": "made"}

    def test_create(self):
        for failpoint, text in (("agent-called:disk_create", "was not begun"), ("agent-answered:disk_create", "was done")):
            self.fails(self.interrupted(failpoint, "VDI.create", self.vdi_fields()), text)
            self.assertEqual(self.api.VDI.get_all(), [])
        record = self.interrupted("handled:VDI.create", "VDI.create", self.vdi_fields())
        vdi, = self.api.VDI.get_all()
        self.succeeds(record, f"<value>{vdi}</value>")
        self.assertEqual(self.api.VDI.get_name_label(vdi), "made")
        self.api.VDI.create(self.vdi_fields())

    def test_copy(self):
        source = self.make_vdi()
        self.fails(self.interrupted("agent-called:disk_copy", "VDI.copy", source, SR), NOT_BEGUN)
        self.assertEqual(self.api.VDI.get_all(), [source])
        for failpoint in ("agent-answered:disk_copy", "handled:VDI.copy"):
            before = set(self.api.VDI.get_all())
            record = self.interrupted(failpoint, "VDI.copy", source, SR)
            copy, = set(self.api.VDI.get_all()) - before
            self.succeeds(record, f"<value>{copy}</value>")
            self.assertEqual((self.api.VDI.get_name_label(copy), self.api.VDI.get_virtual_size(copy)), ("disk", 4 * MIB))
        self.api.VDI.copy(source, SR)

    def test_destroy(self):
        for failpoint, gone in (("agent-called:disk_destroy", False), ("agent-answered:disk_destroy", True),
                                ("handled:VDI.destroy", True)):
            vdi = self.make_vdi()
            record = self.interrupted(failpoint, "VDI.destroy", vdi)
            if gone:
                self.succeeds(record)
            else:
                self.fails(record, NOT_BEGUN)
            self.assertEqual(vdi in self.api.VDI.get_all(), not gone)

    def test_resize(self):
        vdi = self.make_vdi()
        self.succeeds(self.interrupted("agent-answered:disk_resize", "VDI.resize", vdi, 8 * MIB))
        self.assertEqual(self.api.VDI.get_virtual_size(vdi), 8 * MIB)

    def test_copy_of_a_vm(self):
        vm = self.make_vm(disk=True)
        for method, params, call in (("VM.copy", (vm, "copy", SR), "disk_copy"), ("VM.clone", (vm, "copy"), "disk_clone")):
            for failpoint in (f"agent-called:{call}", f"agent-answered:{call}"):
                self.fails(self.interrupted(failpoint, method, *params), "Disks that it had made were removed")
                self.assertEqual(self.api.VM.get_by_name_label("copy"), [])
                self.assertEqual(len(self.api.VDI.get_all()), 1)
            record = self.interrupted(f"handled:{method}", method, *params)
            copy, = self.api.VM.get_by_name_label("copy")
            self.succeeds(record, f"<value>{copy}</value>")
            disk = self.api.VBD.get_VDI(self.api.VM.get_VBDs(copy)[0])
            self.api.VM.destroy(copy)
            self.api.VDI.destroy(disk)

    def test_disks_of_a_template(self):
        """Disks that were recorded already go when the VM does not get them."""
        template = self.make_vm()
        self.api.VM.set_is_a_template(template, True)
        self.api.VM.add_to_other_config(template, "disks", "<provision>" + "".join(
            f'<disk device="{n}" size="{4 * MIB}" sr="{self.api.SR.get_uuid(SR)}" bootable="false" type="system"/>'
            for n in (0, 1)) + "</provision>")
        vm = self.api.VM.clone(template, "provisioned")
        self.fails(self.interrupted("made:VM.provision", "VM.provision", vm), "Disks that it had made were removed")
        self.assertEqual(self.api.VDI.get_all(), [])
        self.api.VM.provision(vm)
        self.assertEqual(len(self.api.VDI.get_all()), 2)


class Uploads(Case):
    def test_a_disk_that_an_upload_was_to_fill(self):
        task = self.api.task.create("upload", "")
        with POOL.connect() as connection:
            connection.sendall(f"PUT /import_raw_vdi?sr_id={SR}&task_id={task}&session_id={self.api.session} HTTP/1.1\r\n"
                               f"Host: x\r\nContent-Length: {8 * MIB}\r\n\r\n".encode() + b"x" * MIB)
            until("the disk is there", self.api.VDI.get_all)
            POOL.kill()
        POOL.start()
        self.api = POOL.login()
        self.settled()
        self.assertEqual(self.api.VDI.get_all(), [])
        self.fails(self.api.task.get_record(task), "Disks that it had made were removed")


class Held(Case):
    """Work that stands still in the agent while it, or the server, is started anew."""

    def setUp(self):
        super().setUp()
        self.agent = POOL.hosts[0]
        self.points = Points(tempfile.mkdtemp(dir=POOL.folder) + "/points")
        self.agent.stop()
        self.port = int(self.points.start(self.agent, "hostd.port"))
        self.live()

    def tearDown(self):
        self.agent.stop()
        self.agent.start("hostd.port")
        self.api = POOL.login()
        self.live()
        super().tearDown()

    def live(self):
        until("the host is live", lambda: POOL.live_hosts(self.api) == 1, 60)

    def start_held(self, place):
        """A VM whose start stands still there, and the start's task."""
        vm = self.make_vm(words="console=hvc0")
        self.points.arm("hold", place)
        task = self.api.call("Async.VM.start", self.api.session, vm, False, False)
        until(f"it is at {place}", lambda: self.points.held, 60)
        return vm, task

    def goes_on(self, vm, task):
        """The agent is back, and the task says that the guest runs."""
        self.points.release()
        self.agent.start("hostd.port")
        until("it is told", lambda: self.api.task.get_status(task) != "pending", 60)
        self.assertEqual(self.api.task.get_status(task), "success", self.api.task.get_error_info(task))
        self.assertEqual(self.api.VM.get_power_state(vm), "Running")

    def test_an_agent_that_is_restarted_in_order_tells_what_became_of_it(self):
        vm, task = self.start_held("agent-done:domain_start")
        self.agent.stop()
        self.goes_on(vm, task)

    def test_handshakes_that_break_off_say_nothing_of_what_was_begun(self):
        """Somebody who resets every connection sits at the agent's address for a while, as an agent that dies does."""
        vm, task = self.start_held("agent-done:domain_start")
        self.agent.kill()
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            listener.settimeout(30)
            for _ in range(10):
                connection, _address = listener.accept()
                connection.recv(1)  # of the handshake
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
        self.goes_on(vm, task)

    def test_what_was_told_as_not_begun_never_begins(self):
        """A request of the server before that the agent reads when the next server has asked what became of it."""
        vm, task = self.start_held("agent-asked:domain_start")
        uuid = self.api.VM.get_uuid(vm)
        POOL.kill()
        POOL.start()
        self.api = POOL.login()
        until("it is told", lambda: self.api.task.get_status(task) == "failure", 60)
        self.fails(self.api.task.get_record(task), NOT_BEGUN)
        refused = "a request came too late"
        self.points.release()
        until("the agent has read it", lambda: refused in self.agent.log() or
              any(o["args"].get("config", {}).get("uuid") == uuid for o in self.agent.operations()), 60)
        self.assertIn(refused, self.agent.log())
        self.assertEqual(self.api.VM.get_power_state(vm), "Halted")
        self.api.VM.start(vm, False, False)
        self.assertEqual(self.api.VM.get_power_state(vm), "Running")


class Callers(Case):
    def test_a_synchronous_call(self):
        """Its task goes, its work is put right all the same, and who watched tasks hears of the end."""
        vdi = self.make_vdi()
        POOL.restart(failpoint="agent-answered:disk_resize")
        self.api = POOL.login()
        watcher = POOL.login()
        token = watcher.call("event.from", watcher.session, ["task"], "", 0.0)["token"]
        api = self.api

        def call():
            with self.assertRaises(Exception):
                api.VDI.resize(vdi, 8 * MIB)
        thread = threading.Thread(target=call)
        thread.start()
        wait_dead()
        thread.join()
        POOL.start()
        self.api = POOL.login()
        self.settled()
        self.assertEqual(self.api.task.get_all(), [])
        self.assertEqual(self.api.VDI.get_virtual_size(vdi), 8 * MIB)
        events = self.api.call("event.from", self.api.session, ["task"], token, 0.0)["events"]
        self.assertEqual([e["operation"] for e in events if e["operation"] != "del"], [])

    def test_a_call_that_waits(self):
        vm = self.make_vm("sim.ignore_shutdown", running=True)
        shutdown = self.api.call("Async.VM.clean_shutdown", self.api.session, vm)
        until("it runs", lambda: self.api.VM.get_current_operations(vm))
        waiting = self.api.call("Async.VM.pause", self.api.session, vm)
        POOL.restart(crash=True)
        self.api = POOL.login()
        self.fails(self.api.task.get_record(waiting), NOT_BEGUN)
        self.assertEqual(self.api.task.get_name_label(shutdown), "Async.VM.clean_shutdown")
        self.api.VM.hard_shutdown(vm)

    def test_finished_tasks_keep_their_result(self):
        vm = self.make_vm()
        task = self.api.call("Async.VM.clone", self.api.session, vm, "copy")
        until("it ends", lambda: self.api.task.get_status(task) == "success")
        before = self.api.task.get_record(task)
        for crash in (False, True):
            POOL.restart(crash=crash)
            self.api = POOL.login()
            self.assertEqual(self.api.task.get_record(task), before)
        self.api.task.destroy(task)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
