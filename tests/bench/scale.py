"""Scale: many VMs with ten objects each. Memory, size of the database, cold start; and how long reads, durable changes and
starts take (99 of 100) beside those of a pool with 100 VMs, at most twice as long. Starts are on a simulated host. The
whole size, 100,000 VMs and 1,000,000 objects in 4 GiB and started in 5 s, is measured with --long."""

import time

from common import LONG, MIB, Bench, Pool, Report, build_folder, memory_kib, percentile, timed
from restart import first_answer

SIZES = (100, 1000, 10000, 100000) if LONG else (100, 1000, 10000)
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
              "disk": sum(f.stat().st_size for f in pool.state.glob("pool.db*")) / MIB, "calls": latencies(pool, vm)}  # fmt: skip
    pool.client("VM.get_all_records")
    result["rss_read"] = memory_kib(pool.poold.pid) / 1024
    pool.stop()
    return result


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
            for what, values in found["calls"].items():
                report.row(f"  {what}, 99 of 100", percentile(values, 0.99), "ms", percentile(least["calls"][what], 0.99),
                           f"with {SIZES[0]}", curve=what, plot="latency", at_most=2, of="ratio", **curve)  # fmt: skip
        report.done()


if __name__ == "__main__":
    main()
