"""Memory of hostd: at most 20 MiB, and 100 KiB more a running VM. With the simulator, whose guests live in hostd
itself (so the figure is an upper bound of what hostd keeps), and with real device models."""

from common import LONG, MIB, Bench, Pool, Report, build_folder, memory_kib

SIMULATED = 1000 if LONG else 300
REAL = 16 if LONG else 6


def measure(report, build, driver, count):
    with Bench() as bench:
        # Simulated guests need room of a host that need not have it.
        room = ["--sim-memory", 1024 * count] if driver == "sim" else []
        pool = Pool(bench, build, hosts=1, driver=driver, host_options=room)
        vms = []
        small = {f"memory_{edge}": 16 * MIB for edge in ("static_max", "dynamic_max", "dynamic_min")}
        for number in range(count):
            vms.append(pool.vm(f"guest {number}", 1, 1, MIB, **small)[0])
        first, rest = vms[:2], vms[2:]
        for vm in first:  # what is made once
            pool.client("VM.start", vm, False, False)
        pid = pool.hosts[0].pid
        empty = memory_kib(pid)
        for vm in rest:
            pool.client("VM.start", vm, False, False)
        full = memory_kib(pid)
        name = "simulated" if driver == "sim" else "QEMU"
        report.row(f"hostd, {name}, 2 VMs run", empty / 1024, "MiB", at_most=20)
        report.row(f"  of it its own, not from files", memory_kib(pid, "RssAnon") / 1024, "MiB")
        report.row(f"hostd, {name}, each VM more (of {count})", (full - empty) / len(rest), "KiB", at_most=100)
        for vm in vms:
            pool.client("VM.hard_shutdown", vm)


def main():
    build = build_folder(__doc__)
    report = Report("hostd", "resident memory of hostd")
    measure(report, build, "sim", SIMULATED)
    measure(report, build, "qemu", REAL)
    report.done()


if __name__ == "__main__":
    main()
