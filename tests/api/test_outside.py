"""What a machine does to daemons and to what is theirs: a clock that jumps, no descriptors, standing still for longer than
anybody waits, a copy of a host with its identity, a repository that is read-only or goes, a disk that somebody deletes,
copies of copies. Calls fail in words, nothing runs twice or is lost, and all goes on when it is over."""
import mmap
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from failpoints import Points
from pool import BUILD, Failure, TestPool, disk_files, until
from test_disk_full import Tmpfs
from vms import MIB, VmCase, record

STILL_S = float(os.environ.get("CORRAL_STILL_SECONDS", "40"))  # longer than a host that says nothing counts as live
DAY = 86400


def setUpModule():
    VmCase.open_pool(hosts=1)


class Case(VmCase):
    def setUp(self):
        super().setUp()
        self.agent = self.pool.hosts[0]
        until("the host is live", lambda: self.pool.live_hosts(self.api) == 1)

    def right(self):
        """What is always true: no task is pending, nothing is marked, disks and rows agree."""
        until("no task is left", lambda: not any(t["status"] in ("pending", "cancelling")
                                                 for t in self.api.task.get_all_records().values()), 60)
        for cls in ("VM", "VDI", "VBD", "SR", "host"):
            marked = [r for r in getattr(self.api, cls).get_all_records().values() if r["current_operations"]]
            self.assertEqual(marked, [])
        rows = {r["uuid"] for r in self.api.VDI.get_all_records().values() if r["SR"] == self.sr}
        until("disks and rows agree", lambda: rows == {f.partition(".")[0] for f in disk_files(self.sr_path)}, 60)

    def refusal(self, call, *arguments):
        """The code of a failure, or the kind of a connection's end."""
        try:
            call(*arguments)
        except Failure as failure:
            return failure.code
        except OSError as error:
            return type(error).__name__
        return None


class Descriptors(Case):
    """Nothing more can be opened: who is connected goes on, what needs a descriptor fails in words."""

    def limited(self, daemon, spare):
        """With so many descriptors to go; the limit of before."""
        used = max(int(fd) for fd in os.listdir(f"/proc/{daemon.pid}/fd")) + 1
        return resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + spare, resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)[1]))

    def test_the_server_has_none(self):
        running, _ = self.with_disk()
        self.up(running)
        halted, _ = self.with_disk()
        before = self.limited(self.pool.poold, 0)
        try:
            with socket.socket() as refused:
                refused.settimeout(2)
                refused.connect(("127.0.0.1", self.pool.http_port))  # by the system; the server does not come to it
                refused.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                try:
                    answer = refused.recv(100)
                except OSError:
                    answer = b""
                self.assertNotIn(b"200", answer, "there is one to go")
                for number in range(3):
                    self.api.VM.set_name_description(running, str(number))
                    self.assertEqual(self.api.VM.get_name_description(running), str(number))
                    self.refusal(self.api.VM.start, halted, False, False)
                    self.refusal(self.api.VM.snapshot, running, "with none")
                self.assertEqual(self.state(running), "Running")
        finally:
            resource.prlimit(self.pool.poold.pid, resource.RLIMIT_NOFILE, before)
        # libmicrohttpd takes in others again when one that it has ends. The server's own limit of connections keeps it from that,
        # unless its descriptors are taken away like this.
        self.pool.close_clients()
        VmCase.api = self.pool.login()
        self.assertEqual(self.pool.http("GET", "/healthz")[0], 200)
        until("the host is live", lambda: self.pool.live_hosts(self.api) == 1, 60)
        self.after(running, halted)

    def test_the_agent_has_none(self):
        running, _ = self.with_disk()
        self.up(running)
        halted, _ = self.with_disk()
        before = self.limited(self.agent, 0)
        try:
            codes = {self.refusal(call, *arguments) for _ in range(3) for call, arguments in (
                (self.api.VM.start, (halted, False, False)), (self.api.VM.snapshot, (running, "with none")),
                (self.api.VDI.create, ({"SR": self.sr, "virtual_size": MIB, "type": "user", "sharable": False, "read_only": False,
                                        "other_config": {}, "name_label": "with none"},)))}
            self.assertNotIn("TimeoutError", codes)
            self.assertTrue(any(codes), "something needs a descriptor")
            self.assertEqual(self.state(running), "Running")
        finally:
            resource.prlimit(self.agent.pid, resource.RLIMIT_NOFILE, before)
        until("the host is live", lambda: self.pool.live_hosts(self.api) == 1, 60)
        self.after(running, halted)

    def after(self, running, halted):
        for vm in self.api.VM.get_by_name_label("with none"):
            self.api.VM.destroy(vm)
        if self.state(halted) == "Halted":
            self.up(halted)
        self.api.VM.hard_shutdown(running)
        self.api.VM.hard_shutdown(halted)
        self.api.SR.scan(self.sr)
        self.right()


class Still(Case):
    """A process that stands still for longer than others wait, and then goes on as if nothing had been."""

    def test_the_agent(self):
        running, _ = self.with_disk()
        self.up(running)
        halted, _ = self.with_disk()
        domid = self.api.VM.get_domid(running)
        self.agent.signal(signal.SIGSTOP)
        try:
            end = time.monotonic() + STILL_S
            task = self.api.call("Async.VM.start", self.api.session, halted, False, False)
            until("the host is known to be away", lambda: self.pool.live_hosts(self.api) == 0, 120)
            self.assertIn(self.refusal(self.api.VM.hard_shutdown, running), ("HOST_OFFLINE", "HOST_NOT_LIVE", "CANNOT_CONTACT_HOST"))
            until("minutes pass", lambda: time.monotonic() > end, STILL_S + 60, 0.5)
            self.assertEqual(self.state(running), "Running", "nobody has said that it ended")
        finally:
            self.agent.signal(signal.SIGCONT)
        until("the host is live", lambda: self.pool.live_hosts(self.api) == 1, 60)
        until("the task ends", lambda: self.api.task.get_status(task) != "pending", 120)
        self.assertEqual((self.state(running), self.api.VM.get_domid(running)), ("Running", domid))
        runs = set(os.listdir(os.path.join(self.agent.folder, "run")))
        until("what runs is what its row says",
              lambda: (self.state(halted) == "Running") == (self.api.VM.get_uuid(halted) in set(os.listdir(os.path.join(self.agent.folder, "run")))), 60)
        self.assertIn(self.api.VM.get_uuid(running), runs)
        self.api.VM.hard_shutdown(running)
        self.right()

    def test_the_server(self):
        vm, _ = self.with_disk()
        self.up(vm)
        domid = self.api.VM.get_domid(vm)
        token = self.api.call("event.from", self.api.session, ["vm", "host_metrics"], "", 0.0)["token"]
        self.pool.poold.signal(signal.SIGSTOP)
        try:
            end = time.monotonic() + STILL_S
            until("minutes pass", lambda: time.monotonic() > end, STILL_S + 60, 0.5)
        finally:
            self.pool.poold.signal(signal.SIGCONT)
        self.assertEqual((self.state(vm), self.api.VM.get_domid(vm)), ("Running", domid))
        for number in range(20):  # meanwhile it looks at its hosts
            self.api.VM.set_name_description(vm, str(number))
            self.assertEqual(self.pool.live_hosts(self.api), 1, "it was the server that stood still")
            self.api.VM.pause(vm)
            self.api.VM.unpause(vm)
        events = self.api.call("event.from", self.api.session, ["vm", "host_metrics"], token, 0.0)["events"]
        self.assertIn("19", [e["snapshot"]["name_description"] for e in events if e["ref"] == vm])
        self.assertNotIn(False, [e["snapshot"]["live"] for e in events if e["class"] == "host_metrics"])
        self.api.VM.hard_shutdown(vm)
        self.right()


class Clock(unittest.TestCase):
    """Of the server, of a host, or of both; a day forwards and back, while a guest runs."""

    def test_jumps(self):
        with tempfile.TemporaryDirectory(prefix="corral-clock-") as folder:
            clocks = {}
            for name in ("poold", "hostd"):
                with open(os.path.join(folder, name), "w+b") as file:
                    file.truncate(8)
                    clocks[name] = mmap.mmap(file.fileno(), 8)
            with TestPool(hosts=1) as pool:
                pool.stop()
                pool.hosts[0].stop()
                self.preloaded(folder, "poold", pool.start)
                self.preloaded(folder, "hostd", lambda: pool.hosts[0].start("hostd.port"))
                self.jump_about(pool, clocks)

    @staticmethod
    def preloaded(folder, name, start):
        more = {"LD_PRELOAD": os.path.join(BUILD, "tests", "api", "libclock_jump.so"), "CORRAL_CLOCK_JUMP": os.path.join(folder, name),
                "ASAN_OPTIONS": "verify_asan_link_order=0"}
        os.environ.update(more)
        try:
            start()
        finally:
            for key in more:
                del os.environ[key]

    def jump_about(self, pool, clocks):
        api = pool.login()
        until("the host is live", lambda: pool.live_hosts(api) == 1, 60)
        VmCase.pool, VmCase.api, kept = pool, api, (VmCase.pool, VmCase.api)
        case = VmCase("setUp")
        case.id = lambda: "test_outside.Clock.test_jumps"
        try:
            case.setUp()
            vm, _ = case.with_disk()
            vdi = case.disk()
            case.up(vm)
            domid, token = api.VM.get_domid(vm), api.call("event.from", api.session, ["vm"], "", 0.0)["token"]
            for server, host in ((DAY, 0), (DAY, DAY), (0, DAY), (-DAY, 0), (-DAY, -DAY), (0, 0)):
                with self.subTest(server=server, host=host):
                    struct.pack_into("q", clocks["poold"], 0, server)
                    struct.pack_into("q", clocks["hostd"], 0, host)
                    now = time.strptime(api.host.get_servertime(api.host.get_all()[0]), "%Y%m%dT%H:%M:%SZ")
                    self.assertLess(abs(time.mktime(now) - time.mktime(time.gmtime()) - host), 120, "it is the clock of the host")
                    token = self.as_ever(pool, api, vm, vdi, token)
                    self.assertEqual((api.VM.get_power_state(vm), api.VM.get_domid(vm)), ("Running", domid))
            api.VM.hard_shutdown(vm)
        finally:
            case.tearDown()
            VmCase.pool, VmCase.api = kept

    def as_ever(self, pool, api, vm, vdi, token):
        """A task, work of the agent, a login, and an event, with the session of before."""
        text = str(time.monotonic())
        task = api.call("Async.VDI.clone", api.session, vdi, {})
        until("the task ends", lambda: api.task.get_status(task) != "pending", 60)
        self.assertEqual(api.task.get_status(task), "success", api.task.get_error_info(task))
        api.VM.set_name_description(vm, text)
        api.VM.pause(vm)
        api.VM.unpause(vm)
        answer = api.call("event.from", api.session, ["vm"], token, 5.0)
        self.assertIn(text, [e["snapshot"]["name_description"] for e in answer["events"] if e["ref"] == vm])
        pool.login(tls=True).logout()
        until("the host is live", lambda: pool.live_hosts(api) == 1, 60)
        return answer["token"]


class Twins(Case):
    """A machine that was cloned with its agent's folder: the pool knows one address, and asks there alone."""

    def test_two_agents_with_one_identity(self):
        folder = os.path.join(self.pool.folder, "twin")
        self.agent.stop()
        shutil.copytree(self.agent.folder, folder, ignore=shutil.ignore_patterns("*.sock"))
        self.agent.start("hostd.port")
        with open(os.path.join(folder, "pki", "listen"), "w", encoding="ascii") as file:
            file.write("127.0.0.1:0\n")
        arguments = [folder if a == self.agent.folder else a for a in self.agent.arguments]
        twin = type(self.agent)("twin", folder, arguments)
        before = self.api.host.get_record(self.host)
        try:
            twin.start("hostd.port")
            until("the host is live", lambda: self.pool.live_hosts(self.api) == 1, 60)
            vm, _ = self.with_disk()
            self.up(vm)
            uuid = self.api.VM.get_uuid(vm)
            self.assertIn(uuid, os.listdir(os.path.join(self.agent.folder, "run")))
            self.pool.restart(crash=True)
            VmCase.api = self.api = self.pool.login()
            until("the host is live", lambda: self.pool.live_hosts(self.api) == 1, 60)
            self.assertEqual(self.state(vm), "Running")
            run = os.path.join(folder, "run")
            self.assertNotIn(uuid, os.listdir(run) if os.path.isdir(run) else [])
            self.assertEqual(len(self.api.host.get_all()), 1)
            self.assertEqual(self.api.host.get_address(self.host), before["address"])
            self.api.VM.hard_shutdown(vm)
            self.right()
        finally:
            twin.stop()


class Network:
    """A network of its own for one daemon, with a cable to ours that can be pulled: what is on its way is dropped, and
    nobody hears that it is."""

    def __init__(self):
        self.name = f"corral-{os.getpid()}"
        self.ours, self.theirs = ("10.213.77.1", "10.213.77.2")

    def __enter__(self):
        ip("netns", "add", self.name)
        ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("address", "add", self.ours + "/30", "dev", self.cable)
        ip("link", "set", self.cable, "up")
        ip("-n", self.name, "address", "add", self.theirs + "/30", "dev", "eth0")
        ip("-n", self.name, "link", "set", "lo", "up")
        self.plug()
        return self

    def __exit__(self, *error):
        ip("link", "delete", self.cable)
        ip("netns", "delete", self.name)

    @property
    def cable(self):
        return f"cp{os.getpid()}"

    @property
    def prefix(self):
        return ["ip", "netns", "exec", self.name]

    def pull(self):
        ip("-n", self.name, "link", "set", "eth0", "down")

    def plug(self):
        ip("-n", self.name, "link", "set", "eth0", "up")


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, timeout=60)


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("ip"), "networks are made by root, with ip")
class Partition(unittest.TestCase):
    """Server and agent work, and no packet goes between them."""

    def live(self):
        return self.pool.live_hosts(self.api) == 1

    def test_in_the_middle_of_a_start(self):
        """The agent does what it was asked to while nobody hears of it; when the cable is back the task says what is true."""
        with Network() as network, TestPool(options=["--listen", network.ours]) as self.pool:
            self.pool.add_host(network.prefix, network.theirs, network.ours)
            agent = self.pool.hosts[0]
            points = Points(os.path.join(self.pool.folder, "points"))
            agent.stop()
            points.start(agent, "hostd.port")
            self.api = self.pool.login()
            until("the host is live", self.live, 60)
            vm, other = (self.api.VM.create(record(name)) for name in ("on its way", "too late"))
            points.arm("hold", "agent-asked:domain_start")
            task = self.api.call("Async.VM.start", self.api.session, vm, False, False)
            until("the agent is at it", lambda: points.held, 60)
            network.pull()
            points.release()
            until("the agent has done it", lambda: any(o["call"] == "domain_start" and o["state"] == "done" for o in agent.operations()), 60)
            until("the host counts as down", lambda: not self.live(), 90)
            self.assertEqual(self.api.task.get_status(task), "pending")
            with self.assertRaises(Failure) as caught:
                self.api.VM.start(other, False, False)
            self.assertEqual(caught.exception.code, "HOST_NOT_LIVE")
            network.plug()
            until("the host is live again", self.live, 60)
            until("it is told", lambda: self.api.task.get_status(task) != "pending", 60)
            self.assertEqual(self.api.task.get_status(task), "success", self.api.task.get_error_info(task))
            self.assertEqual(self.api.VM.get_power_state(vm), "Running")
            self.api.VM.start(other, False, False)
            for each in (vm, other):
                self.api.VM.hard_shutdown(each)
            self.assertEqual(self.api.VM.get_current_operations(vm), {})


class Repository(Case):
    def give_up(self, vm, vdi):
        """Before its folder goes."""
        self.destroy(vm)
        self.api.VDI.destroy(vdi)
        pbd, = self.api.SR.get_PBDs(self.sr)
        self.api.PBD.unplug(pbd)
        self.api.SR.forget(self.sr)

    def test_read_only(self):
        """Remounted so, as a system does with a file system that fails."""
        with Tmpfs() as folder:
            self.sr = self.api.SR.create(self.host, {"location": folder}, 0, "ro", "", "file", "", False, {})
            self.sr_path = folder
            vm, vdi = self.with_disk()
            remount(folder, "ro")
            try:
                for call, arguments in ((self.api.VDI.create, ({"SR": self.sr, "virtual_size": MIB, "type": "user", "sharable": False,
                                                                 "read_only": False, "other_config": {}, "name_label": "x"},)),
                                        (self.api.VDI.resize, (vdi, 2 * MIB)), (self.api.VDI.snapshot, (vdi,)),
                                        (self.api.VDI.copy, (vdi, self.sr)), (self.api.VDI.destroy, (vdi,)),
                                        (self.api.VM.snapshot, (vm, "x"))):
                    code = self.refusal(call, *arguments)
                    self.assertTrue(code and code.startswith("SR_BACKEND_FAILURE"), f"{call}: {code}")
                self.assertEqual(self.read(vdi), b"one")
                self.assertEqual(int(self.api.VDI.get_virtual_size(vdi)), MIB)
                self.right()
            finally:
                remount(folder, "rw")
            self.api.VDI.destroy(self.api.VDI.snapshot(vdi))
            self.up(vm)
            self.api.VM.hard_shutdown(vm)
            self.right()
            self.give_up(vm, vdi)

    def test_fails_in_the_middle_of_a_snapshot(self):
        """As a file system does that has met an error: read-only from one call to the next, of a VM that is off and of one
        that runs. Nothing is half made, and it works again afterwards."""
        points = Points(tempfile.mkdtemp(dir=self.pool.folder) + "/points")
        self.agent.stop()
        points.start(self.agent, "hostd.port")
        until("the host is live", lambda: self.pool.live_hosts(self.api) == 1)
        with Tmpfs() as folder:
            self.sr = self.api.SR.create(self.host, {"location": folder}, 0, "fails", "", "file", "", False, {})
            self.sr_path = folder
            vm, vdi = self.with_disk()
            for call in ("disk_clone", "domain_snapshot"):
                with self.subTest(call=call):
                    if call == "domain_snapshot":
                        self.up(vm)
                    points.arm("hold", "agent-asked:" + call)
                    task = self.api.call("Async.VM.snapshot", self.api.session, vm, "in the middle")
                    until("the agent is at it", lambda: points.held, 60)
                    remount(folder, "ro")
                    points.release()
                    until("it is told", lambda t=task: self.api.task.get_status(t) != "pending", 60)
                    remount(folder, "rw")
                    error = self.api.task.get_error_info(task)
                    self.assertTrue(error and error[0].startswith("SR_BACKEND_FAILURE"), error)
                    self.assertEqual(self.api.VM.get_snapshots(vm), [])
                    self.right()
                    snapshot = self.api.VM.snapshot(vm, "afterwards")
                    copies = [self.api.VBD.get_VDI(vbd) for vbd in self.api.VM.get_VBDs(snapshot)]
                    self.api.VM.destroy(snapshot)
                    for copy in copies:
                        self.api.VDI.destroy(copy)
                    self.right()
            self.assertEqual(self.state(vm), "Running")
            self.api.VM.hard_shutdown(vm)
            self.assertEqual(self.read(vdi), b"one")
            self.give_up(vm, vdi)

    def test_a_disk_that_somebody_deletes(self):
        vm, vdi = self.with_disk()
        os.unlink(self.path(vdi))
        for call, arguments in ((self.api.VM.start, (vm, False, False)), (self.api.VDI.snapshot, (vdi,)), (self.api.VDI.copy, (vdi, self.sr)),
                                (self.api.VDI.resize, (vdi, 2 * MIB)), (self.api.VM.snapshot, (vm, "x"))):
            code = self.refusal(call, *arguments)
            self.assertTrue(code and code not in ("INTERNAL_ERROR", "TimeoutError"), f"{call}: {code}")
        self.assertEqual(self.state(vm), "Halted")
        self.assertEqual(disk_files(self.sr_path), [], "nothing was made of nothing")
        self.api.SR.scan(self.sr)
        self.assertTrue(self.api.VDI.get_missing(vdi))
        self.destroy(vm)
        self.assertEqual(self.refusal(self.api.VDI.destroy, vdi), None, "its row can go")
        self.right()

    def test_under_a_guest(self):
        """It goes on with what it has open; ends, and then there is nothing to start."""
        vm, vdi = self.with_disk()
        self.up(vm)
        os.unlink(self.path(vdi))
        self.assertEqual(self.state(vm), "Running")
        self.assertIsNotNone(self.refusal(self.api.VM.snapshot, vm, "x"))
        self.api.VM.hard_shutdown(vm)
        self.assertEqual(self.state(vm), "Halted")
        self.assertNotIn(self.refusal(self.api.VM.start, vm, False, False), (None, "INTERNAL_ERROR", "TimeoutError"))
        self.destroy(vm)
        self.api.VDI.destroy(vdi)
        self.right()

    def test_copies_of_copies(self):
        """A chain of 30, and each has its own bytes, in whatever order they go."""
        chain = [self.disk(b"000")]
        for number in range(1, 31):
            copy = self.api.VDI.clone(chain[-1])
            self.write(copy, b"%03d" % number)
            chain.append(copy)
            chain.append(self.api.VDI.snapshot(copy))
        before = {vdi: self.content(vdi) for vdi in chain}
        self.assertEqual(sorted({content[:3] for content in before.values()}), [b"%03d" % n for n in range(31)])
        for vdi in chain[::3]:
            self.api.VDI.destroy(vdi)
            del before[vdi]
        self.assertEqual({vdi: self.content(vdi) for vdi in before}, before)
        for vdi in before:
            self.api.VDI.destroy(vdi)
        self.right()
        self.assertEqual(disk_files(self.sr_path), [])

    def content(self, vdi):
        status, _, body = self.pool.http("GET", f"/export_raw_vdi?vdi={vdi}", None, {"Cookie": f"session_id={self.api.session}"})
        self.assertEqual(status, 200)
        return body


def remount(folder, how):
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True, timeout=60)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
