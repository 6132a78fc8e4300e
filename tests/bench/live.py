"""What is done to a running guest: disks and NICs plugged in (at most 50 ms each), how long a snapshot of a 10 GiB disk
stops it (at most 200 ms), and what live migration adds to the pause that is QEMU's own (at most 5 ms)."""

import os
import re
import subprocess
import time

from common import LONG, Bench, Pool, Report, build_folder, median, percentile, timed
from start import ByHand, Monitor, device_models, reap

GIB = 1 << 30
ROUNDS = 12 if LONG else 4
# A boot sector that writes the sector after it through the firmware, prints a dot on the serial line, and again.
SECTOR = bytes.fromhex("31c0 8ed8 8ec0 b80103 bb007e b90200 ba8000 cd13 baf803 b02e ee ebea").ljust(510, b"\0") + b"\x55\xaa"


def writing_vm(pool, name, size):
    """A VM whose guest does nothing but write to its disk, every cluster of which has its place in the file."""
    vm, (vdi,) = pool.vm(name, 1, 1, size)
    path = pool.file_of(vdi)
    sector = pool.bench.dir / "sector"
    sector.write_bytes(SECTOR)
    owner = os.stat(path)
    for argv in (["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, str(size)],
                 ["qemu-io", "-c", f"write -q -s {sector} 0 512", path]):  # fmt: skip
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    os.chown(path, owner.st_uid, owner.st_gid)
    pool.client("VM.start", vm, False, False)
    return vm, vdi


def serial_log(pool, vm):
    """What the guest prints."""
    pid = device_models(pool.hosts[0].folder)[pool.client("VM.get_uuid", vm)]
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        if re.search(r"serial.*log|console.*log", target):
            return target
    raise SystemExit("the guest has no serial log")


class Watch:
    """Looks every half millisecond whether the guest has gone on."""

    def __init__(self, path):
        self.path = path

    def longest_gap(self, call=None):
        """Milliseconds, from a while before the call until a while after it."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            self._follow(write)
        os.close(write)
        time.sleep(0.3)
        if call:
            call()
        time.sleep(0.3)
        os.kill(child, 15)
        with os.fdopen(read, "r") as result:
            gap = float(result.read())
        os.waitpid(child, 0)
        return gap

    def _follow(self, out):
        import signal  # noqa: PLC0415  (in the child alone)

        done = []
        signal.signal(signal.SIGTERM, lambda *_: done.append(1))
        last = os.stat(self.path).st_size
        changed = time.monotonic()
        gap = 0.0
        while not done:
            size = os.stat(self.path).st_size
            now = time.monotonic()
            if size != last:
                gap = max(gap, now - changed)
                last, changed = size, now
            time.sleep(0.0005)
        gap = max(gap, time.monotonic() - changed)
        os.write(out, str(1000 * gap).encode())
        os._exit(0)


def plugs(report, pool):
    """Each plugged into a guest that runs; the guest's own driver is not waited for."""
    took = {"VBD.plug": [], "VIF.plug": []}
    for number in range(ROUNDS // 2):
        vm, _ = pool.vm(f"plug {number}", 1, 0)
        pool.client("VM.start", vm, False, False)
        for _ in range(6):
            vbd = pool.vbd(vm, pool.disk())
            took["VBD.plug"].append(timed(pool.client, "VBD.plug", vbd))
        for device in range(4):
            vif = pool.vif(vm, device)
            took["VIF.plug"].append(timed(pool.client, "VIF.plug", vif))
        pool.client("VM.hard_shutdown", vm)
    for what, values in took.items():
        report.row(what, median(values), "ms", at_most=50)
        report.row(f"{what}, 90 of 100 within", percentile(values, 0.9), "ms")


def until_writing(watch):
    deadline = time.monotonic() + 60
    while os.stat(watch.path).st_size < 100:
        if time.monotonic() > deadline:
            raise SystemExit("the guest does not write")
        time.sleep(0.05)


class SnapshotsByHand:
    """The same guest on a copy of its disk, under a QEMU that nobody manages; it stands still between the rounds."""

    def __init__(self, by_hand):
        self.dir = by_hand.dir
        self.pid = by_hand.spawn()
        self.monitor = Monitor(self.dir / "qmp0")
        self.node = self.monitor("query-block")[0]["inserted"]["node-name"]
        self.watch = Watch(self.dir / "serial.log")
        until_writing(self.watch)
        self.monitor("stop")
        self.layers = 0

    def snapshot(self):
        """Nothing but what it takes: an empty image, opened and put on top."""
        name = f"hand{self.layers}"
        path = self.dir / name
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(10 * GIB)], check=True, stdin=subprocess.DEVNULL)
        self.monitor("blockdev-add", **{"driver": "qcow2", "node-name": name, "backing": None,
                                        "file": {"driver": "file", "filename": str(path)}})  # fmt: skip
        self.monitor("blockdev-snapshot", node=self.node, overlay=name)
        self.node = name
        self.layers += 1

    def longest_pause(self):
        self.monitor("cont")
        gap = self.watch.longest_gap(self.snapshot)
        self.monitor("stop")
        return gap

    def end(self):
        self.monitor.__exit__()
        reap(self.pid)


def snapshots(report, pool):
    vm, vdi = writing_vm(pool, "snapshots", 10 * GIB)
    watch = Watch(serial_log(pool, vm))
    until_writing(watch)
    pool.client("VM.pause", vm)
    pid = device_models(pool.hosts[0].folder)[pool.client("VM.get_uuid", vm)]
    by_hand = SnapshotsByHand(ByHand(pool.bench.dir / "snapshots", pid, pool.file_of(vdi)))
    paused, quiet, hand, whole = [], [], [], []
    for number in range(ROUNDS):
        pool.client("VM.unpause", vm)
        quiet.append(watch.longest_gap(lambda: time.sleep(0.2)))
        paused.append(watch.longest_gap(lambda n=number: whole.append(timed(pool.client, "VM.snapshot", vm, f"s{n}"))))
        pool.client("VM.pause", vm)
        hand.append(by_hand.longest_pause())
    by_hand.end()
    report.row("longest pause, snapshot of a 10 GiB disk", median(paused), "ms", median(hand), "bare QMP",
               median(a / b for a, b in zip(paused, hand)), at_most=200)  # fmt: skip
    report.row("  the worst of all rounds", max(paused), "ms", max(hand), "bare QMP")
    report.row("  without a snapshot", median(quiet), "ms")
    report.row("VM.snapshot of it, the call", median(whole), "ms")
    pool.client("VM.hard_shutdown", vm)


def migrate_by_hand(source, target):
    """Milliseconds from the guest's stop in one device model until it goes on in the other, both with nobody between."""
    road = source.dir / "road"
    first, second = source.spawn(), target.spawn("-incoming", "defer")
    try:
        with Monitor(source.dir / "qmp0") as here, Monitor(target.dir / "qmp0") as there:
            time.sleep(0.5)  # it writes
            there("migrate-incoming", uri=f"unix:{road}")
            here("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            here("migrate", uri=f"unix:{road}")
            return 1000 * (there.wait_for("RESUME") - here.wait_for("STOP"))
    finally:
        reap(first)
        reap(second)
        road.unlink(missing_ok=True)


def migrations(report, pool):
    """To the other host and back; hostd tells how long the guest stood still."""
    pool.add_host("qemu")
    vm, vdi = writing_vm(pool, "migrations", GIB // 16)
    home = next(n for n in range(2) if pool.host(n) == pool.client("VM.get_resident_on", vm))
    pid = device_models(pool.hosts[home].folder)[pool.client("VM.get_uuid", vm)]
    source, target = (ByHand(pool.bench.dir / name, pid, pool.file_of(vdi)) for name in ("source", "target"))
    target.files = [(number, next(how for n, how in source.files if n == number) if how[0] == "file" else how)
                    for number, how in target.files]  # fmt: skip
    ours, qemu, hand = [], [], []
    for number in range(ROUNDS):
        log = pool.hosts[home].log
        before = len(log.read_text(encoding="utf-8"))
        pool.client("VM.pool_migrate", vm, pool.host(1 - home), {"live": "true"})
        home = 1 - home
        line = re.search(r"went to another host.* stopped_us=(\d+) device_model_us=(\d+)",
                         log.read_text(encoding="utf-8")[before:])  # fmt: skip
        if not line:
            raise SystemExit(f"migration {number}: hostd does not tell how long the guest stood still")
        ours.append(int(line[1]) / 1000)
        qemu.append(int(line[2]) / 1000)
        hand.append(migrate_by_hand(source, target))
    pool.client("VM.hard_shutdown", vm)
    report.row("migration, the guest stood still", median(ours), "ms", median(hand), "two QEMUs by hand")
    report.row("  added by us", median(a - b for a, b in zip(ours, hand)), "ms", at_most=5)
    report.row("  what the source's QEMU calls its downtime", median(qemu), "ms")


def main():
    build = build_folder(__doc__)
    with Bench() as bench:
        report = Report("live", "what is done to a running guest")
        pool = Pool(bench, build, hosts=1, log_level="info")
        plugs(report, pool)
        snapshots(report, pool)
        report.done()
    with Bench() as bench:
        report = Report("migrate", "live migration between two agents of this machine, disk on a shared repository")
        pool = Pool(bench, build, hosts=1, log_level="info")
        migrations(report, pool)
        report.done()


if __name__ == "__main__":
    main()
