"""What the benchmarks share: processes that end, pools, a JSON-RPC client, and the report."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import platform
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

NULL = "OpaqueRef:NULL"
MIB = 1 << 20
LONG = os.environ.get("CORRAL_BENCH_LONG") == "1"


class Bench:
    """A folder and processes that live as long as the benchmark."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="corral-bench-"))
        self.processes = []
        os.chmod(self.dir, 0o755)  # device models run as another user

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            end(process)
        shutil.rmtree(self.dir, ignore_errors=True)

    def spawn(self, argv, log, **options):
        with open(self.dir / log, "a", encoding="utf-8") as out:
            process = subprocess.Popen(list(map(str, argv)), stdout=out, stderr=out, stdin=subprocess.DEVNULL, **options)
        self.processes.append(process)
        return process

    def port(self, path, process, log, seconds=60):
        """The number that a daemon writes once it answers."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                return int(Path(path).read_text(encoding="ascii"))
            if process.poll() is not None:
                break
            time.sleep(0.001)
        raise SystemExit(f"{path} did not appear; its log says:\n" + (self.dir / log).read_text(encoding="utf-8")[-2000:])


def end(process):
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Failure(Exception):
    """The pool refused a call: the error's words."""


class Client:
    """JSON-RPC 2.0 on a connection that stays open, with a session of the superuser. Not for several threads."""

    def __init__(self, url, state, session=None):
        self.url = url
        self.state = state
        where = urllib.parse.urlsplit(url)
        if where.scheme == "https":
            context = ssl.create_default_context(cafile=str(state / "pki/ca.pem"))
            self.connection = http.client.HTTPSConnection(where.hostname, where.port, timeout=600, context=context)
        else:
            self.connection = http.client.HTTPConnection(where.hostname, where.port, timeout=600)
        self.session = session or self.raw("session.login_with_password", "root",
                                           (state / "admin-password").read_text(encoding="ascii").strip(), "1.0", "bench")  # fmt: skip

    def again(self):
        """Another connection with the same session."""
        return Client(self.url, self.state, self.session)

    def post(self, path, body, headers=None):
        for fresh in (False, True):
            try:
                self.connection.request("POST", path, body, headers or {"Content-Type": "application/json"})
                return self.connection.getresponse().read()
            except (ConnectionError, ssl.SSLError, http.client.RemoteDisconnected):  # it was idle for too long
                self.connection.close()
                if fresh:
                    raise
        raise AssertionError("not reached")

    def raw(self, method, *params):
        reply = json.loads(self.post("/jsonrpc", json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})))
        if "error" in reply:
            raise Failure(f"{method}: {reply['error']}")
        return reply["result"]

    def __call__(self, method, *params):
        return self.raw(method, self.session, *params)


class Pool:
    """poold, and hosts on this machine. `client` speaks HTTPS; `plain` is the address of the open HTTP port."""

    def __init__(self, bench, build, hosts=0, driver="qemu", options=(), host_options=(), name="state", log_level="warn",
                 environment=None):  # fmt: skip
        self.bench, self.build = bench, build
        self.state = bench.dir / name
        self.log_level, self.environment = log_level, environment
        self.argv = [build / "bin/poold", "--state", self.state, "--port", 0, "--http", 0, "--log-level", log_level, *options]
        self.hosts = []
        self.start()
        for _ in range(hosts):
            self.add_host(driver, host_options)

    def start(self, seconds=60):
        """Seconds until the first answer are for the caller to measure: this returns when it listens."""
        for file in ("poold.port", "poold.http"):
            (self.state / file).unlink(missing_ok=True)
        log = f"{self.state.name}.log"
        self.poold = self.bench.spawn(self.argv, log, env=self.environment)
        self.tls = f"https://127.0.0.1:{self.bench.port(self.state / 'poold.port', self.poold, log, seconds)}"
        self.plain = f"http://127.0.0.1:{self.bench.port(self.state / 'poold.http', self.poold, log, seconds)}"
        self.client = Client(self.tls, self.state)

    def stop(self, kill=False):
        if kill:
            self.poold.kill()
            self.poold.wait()
        else:
            end(self.poold)

    def fill(self, vms, *hosts):
        """Makes VMs with ten objects each, below the server (fill.c); it has to be started again. Objects in all."""
        self.stop()
        return int(subprocess.run([self.build / "tests/bench/bench_fill", self.state / "pool.db", str(vms), *map(str, hosts)],
                                  check=True, capture_output=True, text=True).stdout)  # fmt: skip

    def add_host(self, driver, options=()):
        name = f"{self.state.name}-host{len(self.hosts)}"
        token = self.bench.dir / f"{name}.token"
        reply = self.client.post("/api/v1/join-tokens", b"", {"Authorization": f"Bearer {self.client.session}"})
        token.write_text(json.loads(reply)["token"], encoding="ascii")
        folder = self.bench.dir / name
        hostd = self.bench.spawn([self.build / "bin/hostd", "--state", folder, "--join", self.tls, "--token-file", token,
                                  "--driver", driver, "--log-level", self.log_level, *options], f"{name}.log")  # fmt: skip
        hostd.folder, hostd.log = folder, self.bench.dir / f"{name}.log"
        self.bench.port(folder / "hostd.port", hostd, f"{name}.log")
        self.hosts.append(hostd)
        self.until_live()
        return hostd

    def until_live(self):
        until(lambda: sum(m["live"] for m in self.client("host_metrics.get_all_records").values()) >= len(self.hosts),
              "the host never came up")  # fmt: skip

    # ---- what VMs are made of ----

    def host(self, number=0):
        """The reference of a host, in the order in which they were added."""
        uuid = (self.hosts[number].folder / "pki/host-uuid").read_text(encoding="ascii").strip()
        return self.client("host.get_by_uuid", uuid)

    def network(self):
        """The one that needs nothing of the machine."""
        return next(ref for ref, network in self.client("network.get_all_records").items()
                    if network["other_config"].get("corral:kind") == "user")  # fmt: skip

    def folder(self, name):
        """Where a repository has its disks."""
        return self.bench.dir / f"{self.state.name}-{name}"

    def repository(self, name="bench"):
        found = self.client("SR.get_by_name_label", name)
        return found[0] if found else self.client("SR.create", self.host(), {"location": str(self.folder(name))}, 0,
                                                  name, "", "file", "user", len(self.hosts) > 1, {})  # fmt: skip

    def vm(self, name="bench", disks=0, nics=0, size=64 * MIB, **more):
        """The VM and its disks."""
        vm = self.client("VM.create", VM_RECORD | {"name_label": name} | more)
        made = [self.disk(size) for _ in range(disks)]
        for vdi in made:
            self.vbd(vm, vdi)
        for number in range(nics):
            self.vif(vm, number)
        return vm, made

    def disk(self, size=64 * MIB):
        return self.client("VDI.create", {"name_label": "bench", "name_description": "", "SR": self.repository(),
                                          "virtual_size": size, "type": "user", "sharable": False, "read_only": False,
                                          "other_config": {}, "xenstore_data": {}, "sm_config": {}, "tags": []})  # fmt: skip

    def vbd(self, vm, vdi):
        return self.client("VBD.create", VBD_RECORD | {"VM": vm, "VDI": vdi})

    def vif(self, vm, number):
        return self.client("VIF.create", {"VM": vm, "network": self.network(), "device": str(number), "MAC": "", "MTU": 1500,
                                          "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {},
                                          "locking_mode": "network_default", "ipv4_allowed": [], "ipv6_allowed": [],
                                          "currently_attached": False})  # fmt: skip

    def file_of(self, vdi):
        return self.folder("bench") / f"{self.client('VDI.get_uuid', vdi)}.qcow2"


def until(condition, complaint, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(complaint)
        time.sleep(0.02)
    return found


def together(calls):
    """Runs them at once; their results."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as threads:
        return [f.result() for f in [threads.submit(call) for call in calls]]


def timed(call, *arguments):
    """Milliseconds."""
    begun = time.monotonic()
    call(*arguments)
    return 1000 * (time.monotonic() - begun)


VBD_RECORD = {
    "userdevice": "autodetect", "bootable": True, "mode": "RW", "type": "Disk", "unpluggable": True, "empty": False,
    "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}, "device": "", "currently_attached": False,
}  # fmt: skip

VM_RECORD = {
    "name_label": "bench", "user_version": 1, "is_a_template": False, "affinity": NULL,
    "memory_static_max": 64 << 20, "memory_dynamic_max": 64 << 20, "memory_dynamic_min": 64 << 20,
    "memory_static_min": 0, "VCPUs_params": {}, "VCPUs_max": 1, "VCPUs_at_startup": 1,
    "actions_after_shutdown": "destroy", "actions_after_reboot": "restart", "actions_after_crash": "destroy",
    "PV_bootloader": "", "PV_kernel": "", "PV_ramdisk": "", "PV_args": "", "PV_bootloader_args": "",
    "PV_legacy_args": "", "HVM_boot_policy": "BIOS order", "HVM_boot_params": {}, "platform": {}, "PCI_bus": "",
    "other_config": {}, "recommendations": "",
}  # fmt: skip


def memory_kib(pid, field="VmRSS"):
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise SystemExit(f"no {field} of process {pid}")


def cpu_us(pid):
    """Processor time that a process has used, in microseconds, with that of threads that have ended."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1000  # what clock_getcpuclockid(3) gives


def machine():
    """Where a number comes from."""
    commit = "unknown"  # without git, or in a tree that is no clone
    if shutil.which("git"):
        commit = subprocess.run(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
                                capture_output=True, text=True, check=False).stdout.strip() or commit  # fmt: skip
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
                  if line.startswith("model name")), "")  # fmt: skip
    return {"cpus": os.cpu_count(), "model": model, "machine": platform.machine(), "kernel": platform.release(),
            "load": round(os.getloadavg()[0], 1), "commit": commit}  # fmt: skip


def median(values):
    return statistics.median(values)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Report:
    """Rows of one benchmark: a table for people, then a line of JSON (also appended to $CORRAL_BENCH_JSON)."""

    def __init__(self, name, words):
        self.name, self.words, self.rows, self.notes = name, words, [], []
        print(f"{name}: {words}", flush=True)

    def row(self, what, ours, unit, peer=None, peer_name="", ratio=None, at_most=None, at_least=None, of="value", **more):
        """`peer`: what was measured beside it; `ratio` of both, by default of the two numbers. The goal is at_most or
        at_least, of "value" or "ratio". More members go to the JSON alone: `curve` and `x` make a point of a plot."""
        if peer is not None and ratio is None:
            ratio = ours / peer
        goal = at_most if at_most is not None else at_least
        judged = ratio if of == "ratio" else ours
        met = None if goal is None else judged <= goal if at_most is not None else judged >= goal
        line = f"  {what:44} {ours:11.1f} {unit:7}"
        if peer is not None:
            line += f" {peer_name or 'the limit'} {peer:11.1f}, ratio {ratio:5.2f}"
        if goal is not None:
            line += f"  goal: {'at most' if at_most is not None else 'at least'} {goal:g}"
            line += f" {'of it' if of == 'ratio' else unit}, {'met' if met else 'MISSED'}"
        print(line, flush=True)
        self.rows.append({"what": what, "ours": round(ours, 3), "unit": unit}
                         | ({} if peer is None else {"peer": round(peer, 3), "peer_name": peer_name or "limit",
                                                     "ratio": round(ratio, 3)})
                         | ({} if goal is None else {"goal": goal, "goal_is": "at most" if at_most is not None else "at least",
                                                     "goal_of": of, "met": met}) | more)  # fmt: skip

    def note(self, words):
        print(f"  {words}", flush=True)
        self.notes.append(words)

    def done(self):
        text = json.dumps({"bench": self.name, "on": machine(), "long": LONG, "rows": self.rows, "notes": self.notes})
        print(text, flush=True)
        if os.environ.get("CORRAL_BENCH_JSON"):
            with open(os.environ["CORRAL_BENCH_JSON"], "a", encoding="utf-8") as out:
                out.write(text + "\n")


def build_folder(words):
    """The only argument of each benchmark."""
    if len(sys.argv) != 3 or sys.argv[1] != "--build":
        raise SystemExit(f"{words}\nusage: {sys.argv[0]} --build FOLDER   (with bin/poold, built for speed)")
    return Path(sys.argv[2]).resolve()
