"""What the benchmarks share: processes that end, a JSON-RPC client, and the report."""

import contextlib
import json
import os
import platform
import shutil
import ssl
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path


class Bench:
    """A folder and processes that live as long as the benchmark."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="corral-bench-"))
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def spawn(self, argv, log):
        with open(self.dir / log, "w") as out:
            process = subprocess.Popen(list(map(str, argv)), stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def port(self, path, process, log, seconds=30):
        """The number that a daemon writes once it answers."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                return int(Path(path).read_text())
            if process.poll() is not None:
                break
            time.sleep(0.02)
        raise SystemExit(f"{path} did not appear; its log says:\n" + (self.dir / log).read_text()[-2000:])


class Client:
    """JSON-RPC 2.0 with a session of the superuser."""

    def __init__(self, url, state):
        self.url = url + "/jsonrpc"
        self.context = ssl.create_default_context(cafile=str(state / "pki/ca.pem")) if url.startswith("https") else None
        self.session = self.raw("session.login_with_password", "root", (state / "admin-password").read_text().strip(),
                                "1.0", "bench")  # fmt: skip

    def raw(self, method, *params):
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, context=self.context) as answer:
            reply = json.load(answer)
        if "error" in reply:
            raise SystemExit(f"{method}: {reply['error']}")
        return reply["result"]

    def __call__(self, method, *params):
        return self.raw(method, self.session, *params)


VM_RECORD = {
    "name_label": "bench", "user_version": 1, "is_a_template": False, "affinity": "OpaqueRef:NULL",
    "memory_static_max": 64 << 20, "memory_dynamic_max": 64 << 20, "memory_dynamic_min": 64 << 20,
    "memory_static_min": 0, "VCPUs_params": {}, "VCPUs_max": 1, "VCPUs_at_startup": 1,
    "actions_after_shutdown": "destroy", "actions_after_reboot": "restart", "actions_after_crash": "destroy",
    "PV_bootloader": "", "PV_kernel": "", "PV_ramdisk": "", "PV_args": "", "PV_bootloader_args": "",
    "PV_legacy_args": "", "HVM_boot_policy": "BIOS order", "HVM_boot_params": {}, "platform": {}, "PCI_bus": "",
    "other_config": {}, "recommendations": "",
}  # fmt: skip


def machine():
    """Where a number comes from."""
    commit = "unknown"  # without git, or in a tree that is no clone
    if shutil.which("git"):
        commit = subprocess.run(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
                                capture_output=True, text=True, check=False).stdout.strip() or commit  # fmt: skip
    return {"cpus": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release(), "commit": commit}


def median(values):
    return statistics.median(values)


def report(name, rows, goal):
    """rows: (what, ours, peer, unit, ratio). Prints a table and one line of JSON."""
    print(f"{name}: {goal}")
    for what, ours, peer, unit, ratio in rows:
        print(f"  {what:34} {ours:12.1f} {unit}, the limit {peer:12.1f} {unit}: ratio {ratio:.2f}")
    print(json.dumps({"bench": name, "on": machine(), "rows": [
        {"what": w, "ours": o, "limit": p, "unit": u, "ratio": round(r, 3)} for w, o, p, u, r in rows]}))  # fmt: skip
