"""VM.start, until QEMU runs the guest, against the very same QEMU started by hand: the arguments of the domain's own
process, with descriptors of the same kinds at the same numbers. In turns; medians, also of the ratio."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import peer_libvirt
from common import LONG, Bench, Pool, Report, build_folder, median, timed, together

ROUNDS = 31 if LONG else 11
GOAL = 1.3


class ByHand:
    """Starts the command line of a running device model again, with files and sockets of its own."""

    def __init__(self, folder, pid, disk):
        self.dir = folder
        folder.mkdir()
        self.argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        self.files = []  # (number, how to open)
        for n, arg in enumerate(self.argv):
            number = re.search(r"\bfd=(\d+)", arg)
            if number and self.argv[n - 1] == "-chardev":
                self.files.append((int(number[1]), ("socket", re.search(r"id=(\w+)", arg)[1])))
            elif number and "log" in arg:
                self.files.append((int(number[1]), ("log", self.dir / "serial.log")))
            elif number:
                copy = self.dir / f"disk{number[1]}"
                subprocess.run(["cp", "--sparse=always", disk, copy], check=True, stdin=subprocess.DEVNULL)
                self.files.append((int(number[1]), ("file", copy)))

    def _open(self, kind, what):
        if kind == "file":
            return os.open(what, os.O_RDWR)
        if kind == "log":
            return os.open(what, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # as QEMU expects to find it
        path = str(self.dir / what)
        if os.path.exists(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        return listener.detach()

    def spawn(self, *more):
        """The process, with further arguments."""
        log = os.open(self.dir / "by-hand.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        opened = [(self._open(*how), number) for number, how in self.files]
        # First out of the way of each other, then to their places.
        actions = [(os.POSIX_SPAWN_DUP2, fd, 300 + i) for i, (fd, _) in enumerate(opened)]
        actions += [(os.POSIX_SPAWN_DUP2, 300 + i, number) for i, (_, number) in enumerate(opened)]
        actions = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2), *actions]
        pid = os.posix_spawn(self.argv[0], [*self.argv, *more], os.environ, file_actions=actions)
        for fd, _ in opened:
            os.close(fd)
        os.close(log)
        return pid

    def start(self):
        """The process, when it has said that the guest runs."""
        pid = self.spawn()
        try:
            with Monitor(self.dir / "qmp0") as monitor:
                status = monitor("query-status")["status"]
            if status != "running":
                raise SystemExit(f"by hand: the guest is {status}")
        except BaseException:
            reap(pid)
            raise
        return pid


def reap(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


class Monitor:
    """QMP of a device model by hand."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.stream = self.socket.makefile("rwb", buffering=0)
        self.events = []
        self.stream.readline()
        self("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    def _read(self):
        line = self.stream.readline()
        if not line:
            raise SystemExit("the device model by hand has ended")
        return json.loads(line)

    def __call__(self, command, **arguments):
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while "event" in (reply := self._read()):
            self.events.append(reply)
        if "error" in reply:
            raise SystemExit(f"by hand: {command}: {reply['error']}")
        return reply["return"]

    def wait_for(self, name):
        """Seconds at which it happened, by the device model's clock."""
        while True:
            for number, event in enumerate(self.events):
                if event["event"] == name:
                    del self.events[: number + 1]
                    return event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6
            self.events.append(self._read())


def device_models(folder):
    """Process ids by the uuid of the domain."""
    return {path.parent.name: int(path.read_text(encoding="ascii").split()[0]) for path in folder.glob("run/*/pid")}


def copy_of(pool, vm, disk, name):
    """The same VM by hand, with copies of that disk; it runs when this is called, and not afterwards."""
    pid = device_models(pool.hosts[0].folder)[pool.client("VM.get_uuid", vm)]
    by_hand = ByHand(pool.bench.dir / name, pid, pool.file_of(disk))
    pool.client("VM.hard_shutdown", vm)
    return by_hand


def time_of_starts(by_hand):
    """Milliseconds until the last of them runs. None ends before, as with the server."""
    pids = []
    took = timed(lambda: pids.extend(together([h.start for h in by_hand])))
    for pid in pids:
        reap(pid)
    return took


def compare(report, pool, what, vm, by_hand):
    ours, hand = [], []
    for _ in range(ROUNDS):
        ours.append(timed(pool.client, "VM.start", vm, False, False))
        pool.client("VM.hard_shutdown", vm)
        hand.append(time_of_starts([by_hand]))
    report.row(what, median(ours), "ms", median(hand), "by hand", median(a / b for a, b in zip(ours, hand)),
               at_most=GOAL, of="ratio")  # fmt: skip


def beside_libvirt(report, pool, vm, disk):
    """libvirt with its own way of running the same guest, less what a virsh takes that does nothing."""
    if not peer_libvirt.installed():
        report.note("libvirt is not installed: not measured beside it")
        return
    libvirt = peer_libvirt.Libvirt(pool.bench)
    libvirt("define", libvirt.describe("peer", pool.file_of(disk), nic=True))
    nothing = median(timed(libvirt, "domstate", "peer") for _ in range(ROUNDS))
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(timed(pool.client, "VM.start", vm, False, False))
        pool.client("VM.hard_shutdown", vm)
        theirs.append(timed(libvirt, "start", "peer") - nothing)
        libvirt("destroy", "peer")
    report.row("1 disk, 1 NIC, beside libvirt", median(ours), "ms", median(theirs), "libvirt",
               median(a / b for a, b in zip(ours, theirs)))  # fmt: skip


def at_once(report, pool, count):
    """The time until the last of them runs."""
    vms, by_hand = [], []
    for number in range(count):
        vm, disks = pool.vm(f"many {number}", 1, 1)
        pool.client("VM.start", vm, False, False)
        vms.append(vm)
        by_hand.append(copy_of(pool, vm, disks[0], f"hand{number}"))
    clients = [pool.client.again() for _ in vms]
    ours, hand = [], []
    for _ in range(ROUNDS // 2):
        ours.append(timed(together, [lambda c=c, v=v: c("VM.start", v, False, False) for c, v in zip(clients, vms)]))
        together([lambda c=c, v=v: c("VM.hard_shutdown", v) for c, v in zip(clients, vms)])
        hand.append(time_of_starts(by_hand))
    report.row(f"{count} VM.start at once", median(ours), "ms", median(hand), "by hand",
               median(a / b for a, b in zip(ours, hand)), at_most=GOAL, of="ratio")  # fmt: skip


def main():
    build = build_folder(__doc__)
    with Bench() as bench:
        report = Report("start", "VM.start until QEMU runs the guest, against the same QEMU by hand")
        pool = Pool(bench, build, hosts=1)
        small, disks = pool.vm("small", 1, 1)
        pool.client("VM.start", small, False, False)
        small_hand = copy_of(pool, small, disks[0], "small")
        compare(report, pool, "1 disk, 1 NIC", small, small_hand)
        beside_libvirt(report, pool, small, disks[0])
        large, disks = pool.vm("large", 4, 2)
        pool.client("VM.start", large, False, False)
        large_hand = copy_of(pool, large, disks[0], "large")
        compare(report, pool, "4 disks, 2 NICs", large, large_hand)
        for number in range(998):
            pool.vm(f"defined {number}")
        compare(report, pool, "1 disk, 1 NIC, 1,000 VMs defined", small, small_hand)
        at_once(report, pool, 8)
        report.done()


if __name__ == "__main__":
    main()
