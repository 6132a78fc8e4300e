"""Scale: many VMs with ten objects each. Memory, size of the database, cold start; and how long reads, durable changes and
starts take (99 of 100, the median of rounds) beside those of a pool with 100 VMs, at most twice as long. Starts are on a
simulated host. The whole size, 100,000 VMs and 1,000,000 objects in 4 GiB and started in 5 s, is measured with --long. Then
the hosts: the same calls while 2,500 of them say every 5 s how they are doing. They are simulated by one process (agents.c)
that answers over as many TLS connections as real ones would, and shares the processors with the server."""

import json
import signal
import subprocess
import time
from pathlib import Path

from common import LONG, MIB, Bench, Pool, Report, build_folder, cpu_us, median, memory_kib, percentile, timed, until
from restart import first_answer

SIZES = (100, 1000, 10000, 100000) if LONG else (100, 1000, 10000)
HOSTS = 2500
PERIOD_S = 5
WATCHED_S = 30
ROUNDS = 5
CALLS = 400
STARTS = 60


def latencies(pool, vm):
    read, change, start = [], [], []
    for number in range(CALLS):
        read.append(timed(pool.client, "VM.get_record", vm))
        change.append(timed(pool.client, "VM.set_name_description", vm, f"change {number}"))
    for _ in range(STARTS):
        start.append(timed(pool.client, "VM.start", vm, False, False))
        pool.client("VM.hard_shutdown", vm)
    return {"VM.get_record": read, "a durable change": change, "VM.start (simulated)": start}


def rounds(pool, vm):
    """The 99th of 100 of each call in several rounds: one look aside of the machine is the worst of a few hundred calls."""
    found = [latencies(pool, vm) for _ in range(ROUNDS)]
    return {what: median([percentile(one[what], 0.99) for one in found]) for what in found[0]}


def measure(bench, build, count):
    pool = Pool(bench, build, hosts=1, driver="sim", name=f"state{count}")
    small = {f"memory_{edge}": 16 * MIB for edge in ("static_max", "dynamic_max", "dynamic_min")}
    vm, _ = pool.vm("started", 1, 1, MIB, **small)
    begun = time.monotonic()
    objects = pool.fill(count)
    filled = time.monotonic() - begun
    pool.argv[pool.argv.index("--port") + 1] = pool.tls.rpartition(":")[2]
    first_answer(pool)
    pool.stop()
    cold = first_answer(pool)
    pool.tls = f"https://127.0.0.1:{(pool.state / 'poold.port').read_text(encoding='ascii').strip()}"
    pool.client = type(pool.client)(pool.tls, pool.state)
    pool.until_live()
    result = {"objects": objects, "fill": filled, "cold": cold, "rss": memory_kib(pool.poold.pid) / 1024,
              "disk": sum(f.stat().st_size for f in pool.state.glob("pool.db*")) / MIB, "slow": rounds(pool, vm)}  # fmt: skip
    pool.client("VM.get_all_records")
    result["rss_read"] = memory_kib(pool.poold.pid) / 1024
    pool.stop()
    return result


# ---- many hosts ----


class Agents:
    """The process that plays the agents of all hosts but one."""

    def __init__(self, bench, build, pool):
        self.log = bench.dir / "agents.log"
        ready, pki = bench.dir / "agents.port", pool.state / "pki"
        names, key, request, cert = (bench.dir / f"agents.{what}" for what in ("names", "key", "csr", "pem"))
        names.write_text("subjectAltName=DNS:*.host.corral.internal\nextendedKeyUsage=serverAuth\n", encoding="ascii")
        for arguments in (("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=agents",
                           "-keyout", key, "-out", request),
                          ("x509", "-req", "-in", request, "-CA", pki / "ca.pem", "-CAkey", pki / "ca.key", "-CAcreateserial",
                           "-days", "2", "-extfile", names, "-out", cert)):  # fmt: skip
            subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
        self.process = bench.spawn([build / "tests/bench/bench_agents", pki / "ca.pem", cert, key, ready], self.log.name)
        self.port = bench.port(ready, self.process, self.log.name)

    def since_before(self):
        """What they have counted since this was asked last."""
        lines = len(self.log.read_text(encoding="ascii").splitlines())
        self.process.send_signal(signal.SIGUSR1)
        found = until(lambda: self.log.read_text(encoding="ascii").splitlines()[lines:], "the simulated agents count nothing")
        return json.loads(found[0])


def live(pool):
    return sum(m["live"] for m in pool.client("host_metrics.get_all_records").values())


def reports(pool, agents, meanwhile):
    """What `meanwhile` returns, beside what the hosts cost and how they were asked during it."""
    agents.since_before()
    begun, server, theirs = time.monotonic(), cpu_us(pool.poold.pid), cpu_us(agents.process.pid)
    found = meanwhile()
    of_one = (time.monotonic() - begun) * 1e4  # microseconds of a percent
    return found, {"server": (cpu_us(pool.poold.pid) - server) / of_one, "agents": (cpu_us(agents.process.pid) - theirs) / of_one,
                   **agents.since_before()}  # fmt: skip


def calls_for_a_while(pool, vm):
    begun, calls = time.monotonic(), latencies(pool, vm)
    while time.monotonic() - begun < WATCHED_S:
        for what, values in latencies(pool, vm).items():
            calls[what] += values
    return calls


def many_hosts(bench, build, report):
    pool = Pool(bench, build, hosts=1, driver="sim", name="hosts")
    small = {f"memory_{edge}": 16 * MIB for edge in ("static_max", "dynamic_max", "dynamic_min")}
    vm, _ = pool.vm("started", 1, 1, MIB, **small)
    few = calls_for_a_while(pool, vm)  # as many: the worst of a few calls is no 99th of 100
    agents = Agents(bench, build, pool)
    pool.fill(1000, HOSTS, "127.0.0.1", agents.port)
    begun = time.monotonic()
    pool.start()
    until(lambda: live(pool) == HOSTS + 1, "the simulated hosts do not all come up", 300)
    report.row(f"{HOSTS} hosts, all live after", time.monotonic() - begun, "s", hosts=HOSTS)
    time.sleep(2 * PERIOD_S)  # each was asked, and has its archives
    _, found = reports(pool, agents, lambda: time.sleep(WATCHED_S))
    report.row("  that have reported meanwhile", found["hosts"], "", at_least=HOSTS)
    report.row("  processor time of the server, of one", found["server"], "%")
    report.row("  that of the simulated agents", found["agents"], "%")
    report.row("  from one report to the next, half", found["half_ms"], "ms")
    report.row("  the same, 99 of 100", found["p99_ms"], "ms", at_most=1.2 * 1000 * PERIOD_S)
    calls, found = reports(pool, agents, lambda: calls_for_a_while(pool, vm))
    report.row("  the same while clients call", found["p99_ms"], "ms", at_most=1.2 * 1000 * PERIOD_S)
    report.row("  memory of the server", memory_kib(pool.poold.pid) / 1024, "MiB")
    report.row("  its threads", sum(1 for _ in Path(f"/proc/{pool.poold.pid}/task").iterdir()), "")
    for what, values in calls.items():
        report.row(f"  {what}, 99 of 100", percentile(values, 0.99), "ms", percentile(few[what], 0.99), "with 1 host",
                   **({"at_most": 2, "of": "ratio"} if what.startswith("VM.start") else {}))  # fmt: skip
    pool.stop()


def main():
    build = build_folder(__doc__)
    with Bench() as bench:
        report = Report("scale", "by the number of VMs, ten objects each; the host is simulated")
        least = None
        for count in SIZES:
            found = measure(bench, build, count)
            least = least or found
            million = count == 100000
            curve = {"x": count, "x_is": "VMs"}
            report.row(f"{count} VMs, {found['objects']} objects: memory", found["rss"], "MiB", curve="memory", plot="memory",
                       **curve, **({"at_most": 4096} if million else {}))  # fmt: skip
            report.row("  when all records were read once", found["rss_read"], "MiB")
            report.row("  the database", found["disk"], "MiB")
            report.row("  cold start, to the first answer", found["cold"], "s", curve="cold start", plot="start", **curve,
                       **({"at_most": 5} if million else {}))  # fmt: skip
            for what, slow in found["slow"].items():
                report.row(f"  {what}, 99 of 100", slow, "ms", least["slow"][what], f"with {SIZES[0]}", curve=what,
                           plot="latency", at_most=2, of="ratio", **curve)  # fmt: skip
        many_hosts(bench, build, report)
        report.done()


if __name__ == "__main__":
    main()
