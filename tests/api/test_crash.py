"""kill -9 of poold and of agents, at random moments and at random failpoints, under random load from several clients. Each
client keeps a model of what was acknowledged; whatever a crash cuts off may be done or not, never anything else. After
each blow a client compares what it owns with its model, and from time to time everything stands still and what is
always true is checked of all objects, disks and simulated guests:

 - no acknowledged write is lost, and nothing has a value that nobody gave it;
 - a VM is on at most one host, and a disk is written by at most one running VM;
 - no task is pending, and current_operations are empty;
 - no reference dangles, and both sides of each relation agree;
 - disks on storage and rows agree: nothing is left of what was interrupted.

CORRAL_CRASH_KILLS=1000 makes a long run; CORRAL_CRASH_SEED repeats one's choices (not its timing).
"""
import http.client
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import types
import unittest

from pool import NULL, Failure, Late, TestPool, description, until, xenapi
from vms import MIB, record

KILLS = int(os.environ.get("CORRAL_CRASH_KILLS", "50"))
SEED = int(os.environ.get("CORRAL_CRASH_SEED", str(random.randrange(10**6))))
CLIENTS = 5
VMS_EACH = 2
LOST = (OSError, http.client.HTTPException)
LIVE = ("Running", "Paused")
# Fields that may name what is gone: they tell where something came from.
HISTORY = {"VM.last_booted_record"}
CHECK_EVERY = 10  # blows
# An agent that dies, or whose server does, ends calls with these; the work may be done all the same.
UNSURE = ("INTERNAL_ERROR", "HOST_OFFLINE", "HOST_NOT_LIVE", "CANNOT_CONTACT_HOST", "TASK_CANCELLED", "SERVER_ERROR")


class Lost(AssertionError):
    """What was acknowledged is not there, or what nobody asked for is."""


class Owned:
    """A VM of one client: for each property the values that it may have."""

    def __init__(self, ref):
        self.ref = ref
        self.may = {"there": {True}, "power": {"Halted"}, "description": {""}, "key": {None}}

    def sure(self, what, value):
        self.may[what] = {value}

    def maybe(self, what, *values):
        self.may[what] = self.may[what] | set(values)

    def is_sure(self):
        return all(len(v) == 1 for v in self.may.values())


class Client:
    """Makes, changes, runs and destroys VMs of its own."""

    def __init__(self, harness, number):
        self.harness, self.pool = harness, harness.pool
        self.rng = random.Random(SEED * 100 + number)
        self.name = f"client {number}"
        self.api = None
        self.owned = []
        self.calls = self.cut = self.refused = self.compared = 0

    def connect(self):
        api = xenapi.Pool(f"http://127.0.0.1:{self.pool.http_port}", self.pool.ca, 120)
        api.login("root", self.pool.password, self.name)
        self.api = api

    def call(self, method, *params):
        self.calls += 1
        return self.api.call(method, self.api.session, *params)

    # ---- one change ----

    def change(self, vm, what, new, method, *params):
        """A call that sets a property. Acknowledged: it has the new value; refused before anything was done: the old
        one; cut off: either."""
        old = vm.may[what]
        vm.maybe(what, new)
        try:
            self.call(method, vm.ref, *params)
        except Failure as failure:
            self.refused += 1
            if failure.code not in UNSURE:
                vm.may[what] = old
            return False
        vm.sure(what, new)
        return True

    def make(self):
        name = f"{self.name} {self.rng.random()}"
        ref = self.call("VM.create", {**record(name), "affinity": NULL})
        self.owned.append(Owned(ref))
        vdi = self.call("VDI.create", {"SR": self.harness.sr, "virtual_size": MIB, "type": "user", "sharable": False,
                                       "read_only": False, "other_config": {}, "name_label": name})
        self.call("VBD.create", {"VM": ref, "VDI": vdi, "userdevice": "0", "bootable": False, "mode": "RW", "type": "Disk",
                                 "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "",
                                 "qos_algorithm_params": {}})

    def destroy(self, vm):
        if vm.may["power"] != {"Halted"}:
            self.change(vm, "power", "Halted", "VM.hard_shutdown")
            return
        disks = [self.call("VBD.get_VDI", vbd) for vbd in self.call("VM.get_VBDs", vm.ref)]
        if self.change(vm, "there", False, "VM.destroy"):
            self.owned.remove(vm)
            for vdi in disks:
                self.call("VDI.destroy", vdi)

    def snapshot(self, vm):
        name = f"{self.name} {self.rng.random()}"
        try:
            taken = self.call("VM.snapshot", vm.ref, name)
            disks = [self.call("VBD.get_VDI", vbd) for vbd in self.call("VM.get_VBDs", taken)]
            self.call("VM.destroy", taken)
            for vdi in disks:
                self.call("VDI.destroy", vdi)
        except Failure:
            self.refused += 1

    def plug(self, vm):
        for vbd in self.call("VM.get_VBDs", vm.ref):
            attached = self.call("VBD.get_currently_attached", vbd)
            try:
                self.call("VBD.unplug" if attached else "VBD.plug", vbd)
            except Failure:
                self.refused += 1

    def step(self):
        if len(self.owned) < VMS_EACH:
            self.make()
            return
        vm = self.rng.choice(self.owned)
        power = next(iter(vm.may["power"]))
        text = str(self.rng.random())
        power_calls = {"Halted": [("Running", "VM.start", False, False)],
                       "Running": [("Halted", "VM.hard_shutdown"), ("Paused", "VM.pause"), ("Suspended", "VM.suspend"),
                                   ("Halted", "VM.clean_shutdown")],
                       "Paused": [("Running", "VM.unpause"), ("Halted", "VM.hard_shutdown")],
                       "Suspended": [("Running", "VM.resume", False, False), ("Halted", "VM.hard_shutdown")]}
        what = self.rng.random()
        if what < 0.25:
            self.change(vm, "description", text, "VM.set_name_description", text)
        elif what < 0.4:
            if vm.may["key"] == {None}:
                self.change(vm, "key", text, "VM.add_to_other_config", "key", text)
            else:
                self.change(vm, "key", None, "VM.remove_from_other_config", "key")
        elif what < 0.8:
            new, method, *more = self.rng.choice(power_calls[power])
            self.change(vm, "power", new, method, *more)
        elif what < 0.87:
            self.snapshot(vm)
        elif what < 0.93:
            self.plug(vm)
        elif power == "Running":
            self.migrate(vm)
        else:
            self.destroy(vm)

    def migrate(self, vm):
        here = self.call("VM.get_resident_on", vm.ref)
        other = next(h for h in self.harness.hosts if h != here)
        self.change(vm, "power", "Running", "VM.pool_migrate", other, {})

    # ---- comparing ----

    def compare(self):
        """All that was cut off is decided now: no task of ours is left."""
        if not self.compared or not all(vm.is_sure() for vm in self.owned):
            self.settle()
        found = self.call("VM.get_all_records")
        for vm in list(self.owned):
            now = found.get(vm.ref)
            seen = {"there": now is not None}
            if now:
                seen.update(power=now["power_state"], description=now["name_description"], key=now["other_config"].get("key"))
            for what, value in seen.items():
                if value not in vm.may[what]:
                    raise Lost(f"{self.name}, {vm.ref}: {what} is {value!r}, and may be {vm.may[what]}")
                vm.sure(what, value)
            if not now:
                self.owned.remove(vm)
        self.compared += 1

    def settle(self):
        until("the hosts are live and no task is pending", self.settled, 120, 0.05)

    def settled(self):
        tasks = self.call("task.get_all_records").values()
        return self.pool.live_hosts(self.api) == len(self.harness.hosts) and not any(
            t["status"] in ("pending", "cancelling") and t["name_label"].startswith(("Async.", "VM.", "VBD.", "VDI."))
            for t in tasks)

    def work(self):
        while not self.harness.over.is_set():
            try:
                if not self.harness.up.wait(1):
                    continue
                if not self.api:
                    self.connect()
                    self.compare()
                if self.harness.still.is_set():
                    self.harness.rest(self)
                    continue
                self.step()
                if any(not vm.is_sure() for vm in self.owned):
                    self.compare()
            except LOST:
                self.cut += 1
                self.api = None
                time.sleep(0.02)  # poold is being started
            except Failure as failure:
                # A session, an object of a call that was cut off, an agent that is away.
                if failure.code not in (*UNSURE, "SESSION_INVALID", "HANDLE_INVALID", "OTHER_OPERATION_IN_PROGRESS",
                                        "VM_BAD_POWER_STATE", "SR_NO_PBDS", "VDI_IN_USE", "HOST_IS_SLAVE", "SR_BACKEND_FAILURE",
                                        "NO_HOSTS_AVAILABLE"):
                    raise
                self.refused += 1
                if failure.code == "SESSION_INVALID":
                    self.api = None


class Harness:
    def __init__(self, pool):
        self.pool = pool
        api = pool.login()
        self.hosts = api.host.get_all()
        self.disks = os.path.join(pool.folder, "shared")
        self.sr = api.SR.create(self.hosts[0], {"location": self.disks}, 0, "shared", "", "file", "", True, {})
        self.up, self.over, self.still = threading.Event(), threading.Event(), threading.Event()
        self.resting = threading.Semaphore(0)
        self.go = threading.Event()
        self.failures = []
        self.clients = [Client(self, n) for n in range(CLIENTS)]
        self.rng = random.Random(SEED)
        self.model = description()
        self.kills = {"poold": 0, "hostd": 0}
        self.up.set()

    # ---- load ----

    def run(self, client):
        try:
            client.work()
        except BaseException as failure:  # told by the main thread
            self.failures.append(f"{client.name}: {failure!r}")
            self.over.set()

    def begin(self):
        self.threads = [threading.Thread(target=self.run, args=(c,), daemon=True) for c in self.clients]
        for thread in self.threads:
            thread.start()

    def rest(self, client):
        client.compare()
        self.resting.release()
        self.go.wait()

    def everyone_rests(self):
        """Waits until each client has compared and stands still; False when one has failed."""
        self.go.clear()
        self.still.set()
        for _ in self.clients:
            while not self.resting.acquire(timeout=0.5):
                if self.over.is_set():
                    return False
        return True

    def everyone_goes_on(self):
        self.still.clear()
        self.go.set()

    # ---- blows ----

    def wanted_place(self):
        """A place by its number: at the so-many-th failpoint that is passed, whichever it is; or none."""
        return f"*:{int(self.rng.expovariate(1 / 40)) + 1}" if self.rng.random() < 0.7 else None

    def start(self, daemon, port_file):
        place = self.wanted_place()
        try:
            return daemon.start(port_file, failpoint=place)
        except AssertionError:
            if not place or daemon.running:
                raise
            return None  # it met its failpoint before it was up

    def blow(self, daemon, port_file):
        """Waits for its failpoint for a while, then kills it anyhow, and starts it again."""
        end = time.monotonic() + self.rng.uniform(0.1, 1.0)
        while daemon.running and time.monotonic() < end and not self.over.is_set():
            time.sleep(0.01)
        self.kills["poold" if daemon is self.pool.poold else "hostd"] += 1
        daemon.kill()
        while True:
            port = self.start(daemon, port_file)
            if port:
                return port
            daemon.kill()
            self.kills["poold" if daemon is self.pool.poold else "hostd"] += 1

    def blow_poold(self):
        self.up.clear()
        self.pool.port = self.blow(self.pool.poold, "poold.port")
        self.pool.http_port = int(self.pool.read("poold.http"))
        self.up.set()

    def once(self):
        if self.rng.random() < 0.6:
            self.blow_poold()
        else:
            self.blow(self.rng.choice(self.pool.hosts), "hostd.port")

    def disarm(self):
        """Daemons without a failpoint: those with one could die while all is checked."""
        self.up.clear()
        for daemon, file in ((self.pool.poold, "poold.port"), *((h, "hostd.port") for h in self.pool.hosts)):
            daemon.kill()
            port = daemon.start(file)
            if daemon is self.pool.poold:
                self.pool.port, self.pool.http_port = port, int(self.pool.read("poold.http"))
        self.up.set()

    # ---- what is always true ----

    def check(self):
        api = self.pool.login()
        until("the hosts are live", lambda: self.pool.live_hosts(api) == len(self.hosts), 60)
        until("no task is left", lambda: not list(self.wrong_tasks(self.records(api))), 60, 0.1)
        self.scan(api)
        try:
            until("nothing is wrong", lambda: not self.wrong(api), 30, 0.1)
        except Late:
            raise Lost("\n".join(self.wrong(api)[:20])) from None
        api.logout()

    def scan(self, api):
        """What could not be removed while an agent was away goes at the next scan; a disk that nobody wrote down would
        be found by it."""
        known = set(api.VDI.get_all())

        def scanned():
            try:
                return api.SR.scan(self.sr) is not None
            except Failure as failure:
                if failure.code not in UNSURE and failure.code != "SR_NO_PBDS":
                    raise
                return False
        until("the repository can be scanned", scanned, 60, 0.1)
        found = set(api.VDI.get_all()) - known
        if found:
            raise Lost(f"disks that nobody wrote down: {found}")

    def records(self, api):
        found = {}
        for cls in self.model.classes.values():
            if "get_all_records" in cls.messages and cls.name not in ("session", "role", "event"):
                try:
                    found[cls.name] = api.call(f"{cls.name}.get_all_records", api.session)
                except Failure as failure:
                    if failure.code not in ("NOT_IMPLEMENTED", "MESSAGE_REMOVED"):
                        raise
        return found

    def wrong(self, api):
        found = self.records(api)
        return [*self.wrong_tasks(found), *self.wrong_references(found), *self.wrong_places(found), *self.wrong_disks(found)]

    def wrong_tasks(self, found):
        for ref, task in found["task"].items():
            if task["status"] in ("pending", "cancelling"):
                yield f"task {ref} {task['name_label']} is {task['status']}"
        for cls, records in found.items():
            for ref, row in records.items():
                if row.get("current_operations") and cls != "task":
                    yield f"{cls} {ref} is marked: {row['current_operations']}"

    def wrong_references(self, found):
        for cls, records in found.items():
            for field in self.model.classes[cls].fields.values():
                target = field.type.cls if field.type.kind == "TYPE_REF" else field.type.item.cls if (
                    field.type.kind == "TYPE_SET" and field.type.item.kind == "TYPE_REF") else None
                if target not in found or f"{cls}.{field.name}" in HISTORY:
                    continue
                for ref, row in records.items():
                    value = row.get(field.name, NULL)
                    for other in value if isinstance(value, list) else [value]:
                        if other == NULL:
                            continue
                        if other not in found[target]:
                            yield f"{cls}.{field.name} of {ref} names {other}, which is no {target}"
                        elif field.inverse:
                            back = found[target][other][field.inverse]
                            if ref not in (back if isinstance(back, list) else [back]):
                                yield f"{cls}.{field.name} of {ref} names {other}, whose {field.inverse} does not name it"

    def running_at(self, host):
        """Domains that an agent keeps, by its folder."""
        folder = os.path.join(host.folder, "run")
        return {name for name in os.listdir(folder) if re.fullmatch("[0-9a-f-]{36}", name)} if os.path.isdir(folder) else set()

    def wrong_places(self, found):
        at = [self.running_at(host) for host in self.pool.hosts]
        for uuid in at[0] & at[1]:
            yield f"VM {uuid} is on two hosts"
        writers = {}
        for ref, vm in found["VM"].items():
            if vm["is_control_domain"] or vm["is_a_template"]:
                continue
            live = vm["power_state"] in LIVE
            if live != (vm["resident_on"] != NULL) or live != any(vm["uuid"] in names for names in at):
                yield f"VM {ref} is {vm['power_state']}, resident on {vm['resident_on']}, kept by {[vm['uuid'] in n for n in at]}"
            for vbd in vm["VBDs"] if live else ():
                row = found["VBD"][vbd]
                if row["currently_attached"] and row["mode"] == "RW":
                    writers.setdefault(row["VDI"], []).append(ref)
        for vdi, vms in writers.items():
            if len(vms) > 1:
                yield f"VDI {vdi} is written by {vms}"

    def wrong_disks(self, found):
        rows = {r["uuid"] for r in found["VDI"].values() if r["SR"] == self.sr}
        files = {name.partition(".")[0] for name in os.listdir(self.disks)}
        files = {name for name in files if re.fullmatch("[0-9a-f-]{36}", name)}
        for uuid in rows - files:
            yield f"VDI {uuid} has no disk"
        for uuid in files - rows:
            yield f"disk {uuid} has no VDI"
        suspended = {v["suspend_VDI"] for v in found["VM"].values() if v["suspend_VDI"] != NULL}
        for ref, vdi in found["VDI"].items():
            if vdi["type"] == "suspend" and ref not in suspended:
                yield f"VDI {ref} is the state of no VM"
        for ref, vm in found["VM"].items():
            if (vm["power_state"] == "Suspended") != (vm["suspend_VDI"] != NULL) and not vm["is_a_snapshot"]:
                yield f"VM {ref} is {vm['power_state']} with state {vm['suspend_VDI']}"


class OfTheChecker(unittest.TestCase):
    """It notices each thing that must not be."""

    def harness(self, disks=(), domains=((), ())):
        """A pool's folders, with what they would hold."""
        folder = tempfile.mkdtemp(prefix="corral-crash-")
        self.addCleanup(shutil.rmtree, folder)
        harness = object.__new__(Harness)
        harness.model, harness.sr, harness.disks = description(), "sr", os.path.join(folder, "shared")
        harness.pool = types.SimpleNamespace(hosts=[types.SimpleNamespace(folder=os.path.join(folder, str(n))) for n in (1, 2)])
        for path in (*(f"shared/{uuid}.raw" for uuid in disks), *(f"{n + 1}/run/{u}" for n in (0, 1) for u in domains[n])):
            os.makedirs(os.path.join(folder, path), exist_ok=True)
        os.makedirs(harness.disks, exist_ok=True)
        return harness

    UUID = "01234567-0123-0123-0123-0123456789ab"
    VM = {"uuid": UUID, "is_control_domain": False, "is_a_template": False, "is_a_snapshot": False, "power_state": "Running",
          "resident_on": "host", "VBDs": ["vbd"], "suspend_VDI": NULL}
    VBD = {"currently_attached": True, "mode": "RW", "VDI": "vdi", "VM": "vm"}
    VDI = {"uuid": UUID, "SR": "sr", "type": "user", "VBDs": ["vbd"]}

    def found(self, **more):
        return {"task": {}, "VM": {"vm": self.VM}, "VBD": {"vbd": self.VBD}, "VDI": {"vdi": self.VDI}, **more}

    def test_good(self):
        harness, found = self.harness([self.UUID], ([self.UUID], [])), self.found()
        for check in (harness.wrong_tasks, harness.wrong_references, harness.wrong_places, harness.wrong_disks):
            self.assertEqual(list(check(found)), [])

    def test_bad(self):
        uuid = self.UUID
        here, there = ([uuid], []), ([uuid], [uuid])
        for check, words, found, disks, domains in (
                ("tasks", "is pending", self.found(task={"t": {"status": "pending", "name_label": ""}}), (), here),
                ("tasks", "is marked", self.found(SR={"sr": {"current_operations": {"t": "scan"}}}), (), here),
                ("references", "which is no VDI", self.found(VDI={}), (), here),
                ("references", "does not name it", self.found(VDI={"vdi": {**self.VDI, "VBDs": []}}), (), here),
                ("places", "is on two hosts", self.found(), (), there),
                ("places", "resident on host, kept by [False, False]", self.found(), (), ([], [])),
                ("places", "is Halted", self.found(VM={"vm": {**self.VM, "power_state": "Halted"}}), (), here),
                ("places", "is written by", self.found(VM={"vm": self.VM, "other": self.VM}), (), here),
                ("disks", "has no disk", self.found(), (), here), ("disks", "has no VDI", self.found(VDI={}), [uuid], here),
                ("disks", "state of no VM", self.found(VDI={"vdi": {**self.VDI, "type": "suspend"}}), [uuid], here),
                ("disks", "Suspended with state", self.found(VM={"vm": {**self.VM, "power_state": "Suspended"}}), [uuid], here)):
            with self.subTest(words):
                told = list(getattr(self.harness(disks, domains), "wrong_" + check)(found))
                self.assertTrue(any(words in line for line in told), told)

    def test_what_was_acknowledged(self):
        client = Client(types.SimpleNamespace(pool=None), 1)
        client.settle = lambda: None
        record = {"power_state": "Halted", "name_description": "", "other_config": {}}
        for what, now, may, wrong in (
                ("as it was", record, {}, False), ("lost", None, {}, True), ("gone as asked", None, {"there": {True, False}}, False),
                ("an old value", record, {"description": {"new"}}, True), ("cut off", record, {"description": {"new", ""}}, False),
                ("a key too many", {**record, "other_config": {"key": "1"}}, {}, True), ("runs", {**record, "power_state": "Running"}, {}, True)):
            with self.subTest(what):
                vm = Owned("vm")
                vm.may.update(may)
                client.owned = [vm]
                client.call = lambda method, now=now: {"vm": now} if now else {}
                if wrong:
                    self.assertRaises(Lost, client.compare)
                else:
                    client.compare()


class Crash(unittest.TestCase):
    def test_random_blows_under_load(self):
        print(f"seed {SEED}, {KILLS} kills", file=sys.stderr)
        with TestPool(hosts=2, host_options=["--sim-boot-ms", "20"]) as pool:
            harness = Harness(pool)
            harness.begin()
            blows = 0
            while sum(harness.kills.values()) < KILLS and not harness.over.is_set():
                harness.once()
                blows += 1
                if blows % CHECK_EVERY == 0:
                    self.stand_still(harness)
            if not harness.over.is_set():
                self.stand_still(harness)
            harness.over.set()
            harness.everyone_goes_on()
            for thread in harness.threads:
                thread.join(60)
            self.assertEqual(harness.failures, [])
            places = {}
            for daemon in (pool.poold, *pool.hosts):
                for place in re.findall(r"^killed at failpoint (.*)$", daemon.log(), re.M):
                    places[place] = places.get(place, 0) + 1
            clients = harness.clients
            print(f"kills: {harness.kills}, {sum(places.values())} of them at {len(places)} different failpoints "
                  f"({', '.join(sorted(places))}); "
                  f"{sum(c.calls for c in clients)} calls, {sum(c.cut for c in clients)} cut off, "
                  f"{sum(c.refused for c in clients)} refused, compared {sum(c.compared for c in clients)} times; lost: 0", file=sys.stderr)

    def stand_still(self, harness):
        harness.disarm()
        if harness.everyone_rests():
            try:
                harness.check()
            finally:
                harness.everyone_goes_on()


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
