"""VM.start, until QEMU runs the guest, against the very same QEMU started by hand: the arguments of the domain's
own process, with descriptors of the same kinds at the same numbers. In turns, medians. Goal: at most 1.3 of by hand."""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import time
import urllib.request
from pathlib import Path

from common import VM_RECORD, Bench, Client, median, report

ROUNDS = 15


class ByHand:
    """Starts the command line of a running device model again, with files and sockets of its own."""

    def __init__(self, folder, pid, disk):
        self.dir = folder
        self.argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        self.files = []  # (number, how to open)
        for n, arg in enumerate(self.argv):
            number = re.search(r"\bfd=(\d+)", arg)
            if number and self.argv[n - 1] == "-chardev":
                self.files.append((int(number[1]), ("socket", re.search(r"id=(\w+)", arg)[1])))
            elif number and "log" in arg:
                self.files.append((int(number[1]), ("log", self.dir / "serial.log")))
            elif number:
                self.files.append((int(number[1]), ("file", disk)))

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

    def start(self):
        """Seconds from the start of the process until it says that the guest runs."""
        log = os.open(self.dir / "by-hand.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        opened = [(self._open(*how), number) for number, how in self.files]
        # First out of the way of each other, then to their places.
        actions = [(os.POSIX_SPAWN_DUP2, fd, 100 + i) for i, (fd, _) in enumerate(opened)]
        actions += [(os.POSIX_SPAWN_DUP2, 100 + i, number) for i, (_, number) in enumerate(opened)]
        actions = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2), *actions]
        begun = time.monotonic()
        pid = os.posix_spawn(self.argv[0], self.argv, os.environ, file_actions=actions)
        for fd, _ in opened:
            os.close(fd)
        os.close(log)
        try:
            self._wait_running()
            return time.monotonic() - begun
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _wait_running(self):
        qmp = socket.socket(socket.AF_UNIX)
        qmp.settimeout(30)
        qmp.connect(str(self.dir / "qmp0"))
        with qmp, qmp.makefile("rwb", buffering=0) as stream:
            stream.readline()
            for command in ("qmp_capabilities", "query-status"):
                stream.write(json.dumps({"execute": command}).encode())
                while True:
                    reply = json.loads(stream.readline())
                    if "return" in reply:
                        break
            if reply["return"]["status"] != "running":
                raise SystemExit(f"by hand: the guest is {reply['return']['status']}")


def make_pool(bench, build):
    state = bench.dir / "state"
    poold = bench.spawn([build / "bin/poold", "--state", state, "--port", 0, "--log-level", "warn"], "poold.log")
    url = f"https://127.0.0.1:{bench.port(state / 'poold.port', poold, 'poold.log')}"
    client = Client(url, state)
    request = urllib.request.Request(url + "/api/v1/join-tokens", b"", {"Authorization": f"Bearer {client.session}"})
    with urllib.request.urlopen(request, context=client.context) as answer:
        (bench.dir / "token").write_text(json.load(answer)["token"])
    hostd = bench.spawn([build / "bin/hostd", "--state", bench.dir / "host", "--join", url, "--token-file",
                         bench.dir / "token", "--log-level", "warn"], "hostd.log")  # fmt: skip
    bench.port(bench.dir / "host/hostd.port", hostd, "hostd.log")
    deadline = time.monotonic() + 30
    while not any(m["live"] for m in client("host_metrics.get_all_records").values()):
        if time.monotonic() > deadline:
            raise SystemExit("the host never came up:\n" + (bench.dir / "hostd.log").read_text()[-2000:])
        time.sleep(0.05)
    return client


def make_vm(client, folder, name):
    host = client("host.get_all")[0]
    if not client("SR.get_by_name_label", "bench"):
        client("SR.create", host, {"location": str(folder / "sr")}, 0, "bench", "", "file", "user", False, {})
    sr = client("SR.get_by_name_label", "bench")[0]
    vm = client("VM.create", VM_RECORD | {"name_label": name})
    vdi = client("VDI.create", {"name_label": name, "name_description": "", "SR": sr, "virtual_size": 64 << 20,
                                "type": "user", "sharable": False, "read_only": False, "other_config": {},
                                "xenstore_data": {}, "sm_config": {}, "tags": []})  # fmt: skip
    client("VBD.create", {"VM": vm, "VDI": vdi, "userdevice": "0", "bootable": True, "mode": "RW", "type": "Disk",
                          "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "",
                          "qos_algorithm_params": {}, "device": "", "currently_attached": False})  # fmt: skip
    client("VIF.create", {"VM": vm, "network": client("network.get_all")[0], "device": "0", "MAC": "", "MTU": 1500,
                          "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {},
                          "locking_mode": "network_default", "ipv4_allowed": [], "ipv6_allowed": [],
                          "currently_attached": False})  # fmt: skip
    return vm, client("VDI.get_uuid", vdi)


def device_model(folder):
    for path in folder.glob("host/run/*/pid"):
        return int(path.read_text().split()[0])
    raise SystemExit("there is no running device model")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True, help="build folder with bin/poold and bin/hostd")
    args = parser.parse_args()
    with Bench() as bench:
        os.chmod(bench.dir, 0o755)
        client = make_pool(bench, args.build)
        vm, disk = make_vm(client, bench.dir, "one")
        client("VM.start", vm, False, False)
        copy = bench.dir / "disk.qcow2"
        shutil.copy(bench.dir / f"sr/{disk}.qcow2", copy)
        by_hand = ByHand(bench.dir, device_model(bench.dir), copy)
        client("VM.hard_shutdown", vm)
        ours, hand = [], []
        for _ in range(ROUNDS):
            begun = time.monotonic()
            client("VM.start", vm, False, False)
            ours.append(1000 * (time.monotonic() - begun))
            client("VM.hard_shutdown", vm)
            hand.append(1000 * by_hand.start())
        report("start", [("VM.start, 1 disk, 1 NIC", median(ours), median(hand), "ms", median(a / b for a, b in zip(ours, hand)))],
               "VM.start until QEMU runs the guest, against the same QEMU by hand (goal: 1.3)")  # fmt: skip


if __name__ == "__main__":
    main()
