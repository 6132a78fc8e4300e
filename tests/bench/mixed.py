"""Mixed operations on simulated hosts: VM.start, hard_shutdown, VBD.create and plug, clone, snapshot, and the destroying
of what was made, by many clients, each with a VM of its own; every one durable when it is answered. At least 1,000 a second.
The hosts, their disks and guests are simulated, so what is measured is the server and its agents' protocol."""

import threading
import time
from pathlib import Path

from common import LONG, MIB, VBD_RECORD, Bench, Client, Pool, Report, build_folder, cpu_us, percentile

HOSTS = 2
CLIENTS = (1, 8, 32)
SECONDS = 10 if LONG else 3


def round_of(call, vm, vdi, took):
    """One after the other, as a client of automation would."""

    def timed(method, *arguments):
        begun = time.monotonic()
        result = call(method, *arguments)
        took.setdefault(method, []).append(1000 * (time.monotonic() - begun))
        return result

    timed("VM.start", vm, False, False)
    vbd = timed("VBD.create", VBD_RECORD | {"VM": vm, "VDI": vdi})
    timed("VBD.plug", vbd)
    taken = timed("VM.snapshot", vm, "snapshot")
    timed("VM.hard_shutdown", vm)
    timed("VBD.destroy", vbd)
    copy = timed("VM.clone", vm, "copy")
    timed("VM.destroy", copy)
    timed("VM.destroy", taken)


def client(url, state, session, vm, vdi, end, took):
    call = Client(url, Path(state), session)
    while time.monotonic() < end:
        round_of(call, vm, vdi, took)


def load(pool, machines):
    """Milliseconds of each operation by method."""
    end = time.monotonic() + SECONDS
    found = [{} for _ in machines]
    threading.excepthook = lambda args: failures.append(args.exc_value)
    failures = []
    threads = [threading.Thread(target=client, args=(pool.plain, pool.state, pool.client.session, vm, vdi, end, took))
               for (vm, vdi), took in zip(machines, found)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(failures[0])
    result = {}
    for took in found:
        for method, values in took.items():
            result.setdefault(method, []).extend(values)
    return result


def main():
    build = build_folder(__doc__)
    with Bench() as bench:
        report = Report("mixed", "mixed operations on simulated hosts, each durable when it is answered")
        pool = Pool(bench, build, hosts=HOSTS, driver="sim", host_options=["--sim-boot-ms", "0"])
        small = {f"memory_{edge}": 16 * MIB for edge in ("static_max", "dynamic_max", "dynamic_min")}
        machines = []
        for number in range(max(CLIENTS)):
            # Disks without contents: copying bytes is the storage's speed, not ours.
            vm, _ = pool.vm(f"mixed {number}", 0, 1, MIB, **small)
            machines.append((vm, pool.disk(MIB)))
        for clients in CLIENTS:
            used, begun = cpu_us(pool.poold.pid), time.monotonic()
            took = load(pool, machines[:clients])
            seconds = time.monotonic() - begun
            every = [value for values in took.values() for value in values]
            report.row(f"operations by {clients} clients", len(every) / seconds, "/s", curve="operations", plot="mixed", x=clients,
                       x_is="clients", **({"at_least": 1000} if clients == 32 else {}))  # fmt: skip
            report.row("  99 of 100 within", percentile(every, 0.99), "ms")
            report.row("  processor time of the server for one", (cpu_us(pool.poold.pid) - used) / len(every), "us")
        for method, values in sorted(took.items()):
            report.row(f"  {method}, half within", percentile(values, 0.5), "ms")
        report.done()


if __name__ == "__main__":
    main()
