"""kill -9 of hostd and of poold at every place that an operation on a VM passes (base/failpoint.h), each in turn: at its
own places, and while the other stands still at one of its. Afterwards the operation is done or not done, the task
says which, a repeat works, nothing is marked and nothing is left over.

The places are found by doing each operation once. CORRAL_FAULTS=all tries all of them; otherwise a sample that takes
CORRAL_FAULTS_SECONDS (30; all: no end). CORRAL_FAULTS_SEED (1) decides the order, the same in each run. CORRAL_FAULTS_OPERATIONS
is a pattern of the operations that are tried: "VM.(start|pause)$"; CORRAL_FAULTS_PART=2/3 tries the second of three parts,
which have no case in common. The end says how many cases there are, how many ran, and how many were right."""
import collections
import hashlib
import os
import re
import signal
import sys
import threading
import time
import unittest

from failpoints import Points, covers, listed, wait_stopped
from pool import NULL, ROOT, Failure, until
from vms import MIB, VmCase

BUSY = ("VM", "VDI", "VBD", "VIF", "SR", "host")
ALL = os.environ.get("CORRAL_FAULTS") == "all"
SECONDS = float(os.environ.get("CORRAL_FAULTS_SECONDS", "inf" if ALL else "30"))
SEED = int(os.environ.get("CORRAL_FAULTS_SEED", "1"))
OPERATIONS = os.environ.get("CORRAL_FAULTS_OPERATIONS", "")
PART, PARTS = map(int, os.environ.get("CORRAL_FAULTS_PART", "1/1").split("/"))
assert 1 <= PART <= PARTS, "CORRAL_FAULTS_PART is i/n, with i from 1 to n"
ROUND = 8  # cases of an operation, before the next one has its turn
# What goes on beside an operation: a place of these is nobody's in particular.
BESIDE = ("agent-asked:domain_forget", "agent-called:domain_forget", "agent-answered:domain_forget", "agent-begun:domain_forget",
          "agent-done:domain_forget", "store:written", "store:durable", "events:look", "events:next")
# Places that other tests kill at: where one says so.
ELSEWHERE = {
    "migrate-source:": ("tests/api/test_migrate.py", "hv/tests/migrate_test.c"),
    "migrate-destination:": ("tests/api/test_migrate.py", "hv/tests/migrate_test.c"),
    "agent-left-pool:": ("tests/api/test_pool_members.py",),
    "copy-written:": ("tests/api/test_pool_members.py",),
    "join-step:": ("tests/api/test_pool_members.py",),
    "eject-step:": ("tests/api/test_pool_members.py",),
    "send-away:": ("tests/api/test_migrate.py",),
    "standing-decided:": ("tests/api/test_pool_members.py",),
    "events:": ("apiserver/tests/gate/test_events.c",),
    "ha-step:": ("tests/api/test_ha.py",),
    "watchdog:": ("hv/ha/tests/ha_test.c",),
    "anew:": ("tests/e2e/test_boot.py",),
    "heir-has-copy:": ("tests/api/test_pool_members.py",),
    "restore-": ("tests/api/test_restore.py",),
    "database-": ("tests/api/test_restore.py",),
    "upload-": ("tests/api/test_uploads.py",),
    "merge-begun:": ("hv/storage/tests/test_merge.c", "hv/tests/merge_test.c"),
    "merge-live:": ("hv/tests/merge_test.c",),
    "merge-written:": ("hv/storage/tests/test_merge.c", "hv/tests/merge_test.c"),
}
# Of every change: test_crash.py, which kills at the N-th place of all.
COUNTED = {"store:written", "store:durable"}
# Places of real device models, which tests/e2e/test_killed.py passes.
REAL = {"start:prepared", "start:spawned", "start:up", "save:begun", "save:written", "snapshot:added", "snapshot:switched",
        "layer:made", "layer:linked", "layer:renamed", "plug-disk:slot", "plug-disk:made", "plug-nic:slot", "plug-nic:made",
        "unplug:gone", "unplug:dropped", "medium:out", "medium:in", "vcpus:plugged", "balloon:asked", "reset:sent",
        "shutdown:asked", "end:process-gone"}


def setUpModule():
    VmCase.open_pool(host_options=["--sim-boot-ms", "20"])


class Faults(VmCase):
    SETTINGS = {}  # of each VM
    LOW, HIGH = 32 * MIB, 64 * MIB
    VICTIMS = {"poold": ("hostd",), "hostd": ("poold",)}  # while the key stands still
    UP_S = 60
    LEAST = 10  # cases of a sample, however slow the machine is
    WITH_GUEST = set()  # operations that a guest takes part in: those that boot one come together

    def setUp(self):
        super().setUp()
        self.vm, self.vdi = self.with_disk(VCPUs_max=2, **self.SETTINGS)
        self.api.VM.set_memory_dynamic_range(self.vm, self.LOW, self.HIGH)
        self.api.VM.set_suspend_SR(self.vm, self.sr)
        self.drive_0, = self.api.VM.get_VBDs(self.vm)
        self.spare = self.drive(self.vm, self.disk(b"two"))
        self.card = self.nic(self.vm, "1")
        self.medium = self.disk(b"cd ")
        self.reader = self.drive(self.vm, NULL, "CD")
        self.add_bridged()
        self.other_sr = self.api.SR.create(self.host, {"location": self.sr_path + "-other"}, 0, "other", "", "file", "",
                                           False, {})
        self.points = {}
        for name in ("poold", "hostd"):
            self.points[name] = Points(os.path.join(self.pool.folder, f"points-{name}"))
            self.process(name).stop()
        for name in ("poold", "hostd"):
            self.launch(name)
        self.ready()

    def add_bridged(self):
        self.networks = [self.api.network.create({"name_label": f"net {n}", "name_description": "", "MTU": 1500,
                                                  "other_config": {}, "bridge": "", "managed": True, "tags": []})
                         for n in range(2)]
        self.bridged = self.nic(self.vm, "2")
        self.api.VIF.move(self.bridged, self.networks[0])

    # ---- the daemons ----

    def process(self, name):
        return self.pool.poold if name == "poold" else self.pool.hosts[0]

    def launch(self, name):
        if name == "poold":
            self.pool.close_clients()
            self.pool.port = self.points[name].start(self.pool.poold, "poold.port")
            self.pool.http_port = int(self.pool.read("poold.http"))
            VmCase.api = self.api = self.pool.login()
        else:
            self.points[name].start(self.pool.hosts[0], "hostd.port")

    def ready(self):
        until("the host is live and answers", self.answers, 60)

    def answers(self):
        try:
            return self.pool.live_hosts(self.api) == 1 and self.api.SR.scan(self.sr) is not None
        except Failure:
            return False

    # ---- the states that operations begin in; each gives the object and further arguments ----

    def halted(self, *arguments):
        if self.state(self.vm) != "Halted":
            self.api.VM.hard_shutdown(self.vm)
        return self.vm, *arguments

    def running(self, *arguments):
        state = self.state(self.vm)
        if state == "Suspended":
            self.api.VM.resume(self.vm, False, False)
        elif state == "Paused":
            self.api.VM.unpause(self.vm)
        elif state == "Halted":
            self.start(self.vm)
        until("the guest is up", self.up, self.UP_S)
        return self.vm, *arguments

    def up(self):
        metrics = self.api.VM.get_guest_metrics(self.vm)
        return metrics != NULL and self.api.VM_guest_metrics.get_live(metrics)

    def paused(self):
        self.running()
        self.api.VM.pause(self.vm)
        return (self.vm,)

    def suspended(self, *arguments):
        self.running()
        self.api.VM.suspend(self.vm)
        return self.vm, *arguments

    def device(self, cls, plugged):
        self.running()
        device = self.spare if cls == "VBD" else self.card
        if self.api.call(f"{cls}.get_currently_attached", self.api.session, device) != plugged:
            self.api.call(f"{cls}.{'plug' if plugged else 'unplug'}", self.api.session, device)
        return (device,)

    def reader_with(self, medium):
        self.running()
        if self.api.VBD.get_empty(self.reader) == bool(medium):
            return self.reader, *medium
        if medium:
            self.api.VBD.eject(self.reader)
        else:
            self.api.VBD.insert(self.reader, self.medium)
        return self.reader, *medium

    def elsewhere(self):
        self.running()
        return self.bridged, self.networks[self.api.VIF.get_network(self.bridged) == self.networks[0]]

    def other_count(self):
        self.running()
        return self.vm, 3 - int(self.api.VM_metrics.get_VCPUs_number(self.api.VM.get_metrics(self.vm)))

    def other_range(self):
        """From all to the least or back: a guest that was started with the least cannot have more."""
        self.running()
        if int(self.api.VM.get_boot_record(self.vm)["memory_dynamic_max"]) < self.HIGH:
            self.halted()
            self.api.VM.set_memory_dynamic_range(self.vm, self.LOW, self.HIGH)
            self.running()
        return self.vm, self.LOW, self.LOW + self.HIGH - int(self.api.VM.get_memory_dynamic_max(self.vm))

    def second(self):
        """A VM of its own, for what leaves nothing of it."""
        vm = self.make(**{**self.SETTINGS, "name_label": "fault"})
        self.vms.remove(vm)
        self.drive(vm, self.disk(b"one"))
        return (vm,)

    def with_snapshot(self):
        vm, = self.second()
        return (self.api.VM.snapshot(vm, "fault"),)

    def to_provision(self):
        vm = self.make(name_label="fault", is_a_template=True)
        self.vms.remove(vm)
        self.api.VM.add_to_other_config(vm, "disks", '<provision><disk device="1" size="1048576" sr="'
                                        f'{self.api.SR.get_uuid(self.sr)}" bootable="false" type="system"/></provision>')
        return (self.api.VM.clone(vm, "fault"),)

    def to_move(self):
        vm, = self.second()
        self.start(vm)
        return self.disk_of(vm), self.other_sr, {}

    def size(self):
        self.halted()
        return self.vdi, int(self.api.VDI.get_virtual_size(self.vdi)) + MIB

    TABLE = {
        # In an order that boots a guest seldom.
        "VM.start": lambda self: self.halted(False, False),
        "VM.pause": running,
        "VM.unpause": paused,
        "VM.set_memory_dynamic_range": other_range,
        "VM.set_VCPUs_number_live": other_count,
        "VBD.plug": lambda self: self.device("VBD", False),
        "VBD.unplug": lambda self: self.device("VBD", True),
        "VBD.insert": lambda self: self.reader_with((self.medium,)),
        "VBD.eject": lambda self: self.reader_with(()),
        "VIF.plug": lambda self: self.device("VIF", False),
        "VIF.unplug": lambda self: self.device("VIF", True),
        "VIF.move": elsewhere,
        "VM.snapshot": lambda self: self.running("fault"),
        "VM.checkpoint": lambda self: self.running("fault"),
        "VM.suspend": running,
        "VM.resume": lambda self: self.suspended(False, False),
        "VM.clean_reboot": running,
        "VM.hard_reboot": running,
        "VM.clean_shutdown": running,
        "VM.clone": lambda self: self.halted("fault"),
        "VM.copy": lambda self: self.halted("fault", self.sr),
        "VDI.resize": size,
        "VM.revert": with_snapshot,
        "VM.provision": to_provision,
        "VM.destroy": second,
        "VM.hard_shutdown": running,
        "VDI.pool_migrate": to_move,
    }

    # ---- the blow ----

    def begin(self, message):
        """Brings about the state that it needs, and nothing else goes on."""
        arguments = self.TABLE[message](self)
        until("nothing else goes on", self.quiet, 60)
        return arguments

    def do(self, message):
        """Once, without harm; the places it passes."""
        arguments = self.begin(message)
        for points in self.points.values():
            points.forget()
        self.api.call(message, self.api.session, *arguments)
        reached = {name: [p for p in points.reached() if p not in BESIDE] for name, points in self.points.items()}
        self.clear()
        return reached

    def quiet(self):
        return not any(t["status"] == "pending" for t in self.api.task.get_all_records().values())

    def strike(self, victim):
        self.process(victim).kill()

    def restore(self, victim):
        self.launch(victim)

    def call(self, message, arguments):
        """On a thread of its own: a daemon that stands still does not answer."""
        api = self.pool.again(self.api)

        def run():
            try:
                api.call("Async." + message, api.session, *arguments)
            except OSError:
                pass  # poold died before it answered
        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def blow(self, message, at, order, place, victim):
        """Runs the call while the daemon `at` comes to a place. None: it did not; else the record of the task once all
        is up again."""
        arguments = self.begin(message)
        before = set(self.api.task.get_all())
        self.points[at].arm(order, place)
        self.ask_again = time.monotonic() + 1
        thread = self.call(message, arguments)
        until(f"{message} comes to {place}", lambda: self.points[at].hit or self.ended(message, before), 90, 0.05)
        missed = self.points[at].disarm()
        if not missed and order == "stop":
            wait_stopped(self.process(at))
            self.strike(victim)
            self.process(at).signal(signal.SIGCONT)
        elif not missed:
            until(f"{at} dies at {place}", lambda: not self.process(at).running, 60)
            self.process(at).kill()
        thread.join(90)
        self.assertFalse(thread.is_alive(), "the call returns")
        if not missed:
            self.restore(victim)
        self.ready()
        task = until("the task is known", lambda: self.task(message, before), 60)
        until("the task ends", lambda: self.api.task.get_status(task) not in ("pending", "cancelling"), 90)
        record = self.api.task.get_record(task)
        self.api.task.destroy(task)
        return None if missed else record

    def task(self, message, before):
        return next((t for t, r in self.api.task.get_all_records().items()
                     if t not in before and r["name_label"] == "Async." + message), None)

    def ended(self, message, before):
        """Has its task ended? Asked now and then, by a client that does not wait long: the server may stand still."""
        if time.monotonic() < self.ask_again:
            return False
        self.ask_again = time.monotonic() + 1
        client = self.pool.again(self.api, 2)
        try:
            return any(t not in before and r["name_label"] == "Async." + message and r["status"] not in ("pending", "cancelling")
                       for t, r in client.task.get_all_records().items())
        except OSError:
            return False  # it stands still, or is dead: what was waited for has come
        finally:
            client.close()
            self.pool.clients.remove(client)

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
        until("the agent has ended all", lambda: not self.agent_busy(), 60)
        self.nothing_left()

    def nothing_left(self):
        """Simulated guests have nothing of the machine's."""

    def disks_agree(self):
        rows = {r["uuid"] for r in self.api.VDI.get_all_records().values() if r["SR"] == self.sr}
        files = {name.partition(".")[0] for name in self.disks_on_storage() if not name.startswith("base-")}
        hidden = [name for name in os.listdir(self.sr_path) if name.startswith(".") and name != ".corral-sr"]
        return rows == files and not hidden

    def agrees(self):
        vm = self.api.VM.get_record(self.vm)
        live = vm["power_state"] in ("Running", "Paused")
        runs = [name for name in os.listdir(os.path.join(self.pool.hosts[0].folder, "run")) if not name.startswith(".")]
        others = {self.api.VM.get_uuid(v) for v in self.api.VM.get_by_name_label("fault")
                  if self.api.VM.get_power_state(v) == "Running"}
        right = live == (vm["resident_on"] != NULL) and set(runs) == others | ({vm["uuid"]} if live else set())
        return vm if right else None

    def agent_busy(self):
        """Operations that the agent has written down as not ended."""
        return [record for record in self.pool.hosts[0].operations() if record["state"] not in ("done", "failed")]

    def clear(self):
        """Removes what the operation has made."""
        for vm in self.api.VM.get_by_name_label("fault"):
            if self.api.VM.get_power_state(vm) != "Halted" and not self.api.VM.get_is_a_snapshot(vm):
                self.api.VM.hard_shutdown(vm)
            self.api.VM.destroy(vm)
        kept = {self.vdi, self.medium, self.api.VBD.get_VDI(self.spare), self.api.VM.get_suspend_VDI(self.vm)}
        for vdi in {*self.api.SR.get_VDIs(self.sr), *self.api.SR.get_VDIs(self.other_sr)} - kept:
            self.api.VDI.destroy(vdi)

    # ---- the tests ----

    def cases(self, passed):
        """(message, where, order, place, victim) of this part. In rounds, so that whatever is tried before the end is some of
        each operation: a few cases of one, then of the next; what one leaves running the next goes on with."""
        lists = []
        for message in sorted(passed, key=self.WITH_GUEST.__contains__):
            reached = passed[message]
            every = [(message, at, "kill", p, at) for at in reached for p in reached[at]]
            every += [(message, at, "stop", p, victim) for at in reached for p in reached[at] for victim in self.VICTIMS[at]]
            lists.append(sorted(filter(in_part, every), key=number))
        size = ROUND if ALL else 1
        return [case for begin in range(0, max(map(len, lists), default=0), size) for each in lists for case in each[begin:begin + size]]

    def test_every_place(self):
        passed = {message: self.do(message) for message in self.TABLE if re.match(OPERATIONS, message)}
        if not OPERATIONS:
            self.all_are_somewhere({p for reached in passed.values() for places in reached.values() for p in places})
        self.try_cases(passed)
        self.halted()
        self.do("VM.clean_shutdown")

    def try_cases(self, passed):
        cases = self.cases(passed)
        print(f"faults: seed {SEED}, part {PART} of {PARTS}: {len(cases)} cases of {len(passed)} operations", file=sys.stderr)
        end = time.monotonic() + SECONDS
        tally = collections.defaultdict(collections.Counter)  # by operation and what became of the case
        for tried, case in enumerate(cases):
            if time.monotonic() >= end and tried >= self.LEAST:
                break
            tally[case[0]]["wrong"] += 1  # until it is known better
            with self.subTest(" ".join(case)):
                tally[case[0]][self.try_case(case)] += 1
                tally[case[0]]["wrong"] -= 1
        missed, tried = self.report(cases, tally)
        self.assertLess(missed, max(3, tried / 4))

    def try_case(self, case):
        """right, or that its place was missed."""
        begin = time.monotonic()
        try:
            record = self.blow(*case)
            if record:
                self.check(record)
            self.clear()
            self.do(case[0])  # a repeat works
        except BaseException as error:
            print(f"faults: seed {SEED}: {' '.join(case)}: {error}", file=sys.stderr)
            print(self.pool.hosts[0].log()[-3000:], file=sys.stderr)
            raise
        if ALL:
            came_to = (record["status"], record["error_info"]) if record else "missed its place"
            print(f"{' '.join(case)}: {came_to} {time.monotonic() - begin:.1f} s", file=sys.stderr)
        return "right" if record else "missed"

    def report(self, cases, tally):
        """How many missed their place, and how many ran."""
        of = collections.Counter(case[0] for case in cases)
        for message in of if ALL else ():
            counts = tally[message]
            print(f"faults: {message:32} {of[message]:4} cases, {counts.total():4} ran: {counts['right']:4} right, "
                  f"{counts['wrong']} wrong, {counts['missed']} missed their place", file=sys.stderr)
        total = sum(tally.values(), collections.Counter())
        print(f"faults: seed {SEED}, part {PART} of {PARTS}: {len(cases)} cases of {len(of)} operations, {total.total()} ran: "
              f"{total['right']} right, {total['wrong']} wrong, {total['missed']} missed their place", file=sys.stderr)
        return total["missed"], total.total()

    def all_are_somewhere(self, reached):
        self.assertEqual(nobodys({*listed("poold"), *listed("hostd")}, reached), [])


def nobodys(places, reached):
    """Those of a program's failpoints that no operation here passes, and at which no other test kills: each is a mistake."""
    return sorted(place for place in places - REAL - COUNTED
                  if not any(covers(place, r) for r in reached) and not any(
                      names(file, place) for start, files in ELSEWHERE.items() if place.startswith(start) for file in files))


def names(path, place):
    """Does a test say the place, whole, or with its last part in a table?"""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        text = file.read()
    start, _, detail = place.removesuffix("*").partition(":")
    return place in text or f"{start}:" in text and f'"{detail}"' in text or place == f"{start}:*" and f"{start}:" in text


class OfTheList(unittest.TestCase):
    """A new failpoint at which nobody kills is noticed."""

    def test_whose_a_place_is(self):
        for place, reached, expected in (
                ("start:recorded", {"start:recorded"}, []), ("start:recorded", {"start:prepared"}, ["start:recorded"]),
                ("handled:*", {"handled:VM.start"}, []), ("handled:*", {"marked:VM.start"}, ["handled:*"]),
                ("new:place", set(), ["new:place"]), ("store:written", set(), []), ("join-step:noted", set(), []),
                ("join-step:new", set(), ["join-step:new"]), ("ha-step:failed", set(), []), ("ha-step:live", set(), ["ha-step:live"])):
            with self.subTest(place, reached=reached):
                self.assertEqual(nobodys({place}, reached), expected)


def number(case):
    """Its place in the order: by chance, and the same in each run."""
    return int.from_bytes(hashlib.sha256(" ".join((str(SEED), *case)).encode()).digest(), "big")


def in_part(case):
    return number(case) % PARTS == PART - 1


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
