"""Subscribers of event.from. 1,000 of them, each with a session and a VM of its own, at 1,000 changes a second in all: from
the moment when a change is asked for (its durable commit included) to its delivery, beside the time until the change's
own answer; and how much later than that answer, which says that it is committed: 99 of 100 at most 5 ms. 1,000 that all watch all VMs. And many that wait for what does not happen: their memory
(at most 500 MiB for 10,000), and what a change costs that none of them waits for."""

import json
import os
import resource
import subprocess
import time

from common import LONG, Bench, Pool, Report, build_folder, cpu_us, memory_kib, timed

SECONDS = 10 if LONG else 4
IDLE = int(os.environ.get("CORRAL_BENCH_IDLE", "10000"))
KEPT = 1024  # descriptors of a process that are no subscribers
RATES = (100, 300, 1000)


def sessions(pool, count):
    """One each; the server wants at most 500 of one originator."""
    password = (pool.state / "admin-password").read_text(encoding="ascii").strip()
    return [pool.client.raw("session.login_with_password", "root", password, "1.0", f"bench {number // 400}")
            for number in range(count)]  # fmt: skip


def command(pool, *words):
    port = pool.plain.rpartition(":")[2]
    return [pool.build / "tests/bench/bench_subscribe", port, *map(str, words)]


def text(tokens, vms):
    return "".join(f"{line}\n" for line in [*tokens, tokens[-1], *vms])


def steady(report, pool, tokens, vms, rate, kind):
    used = cpu_us(pool.poold.pid)
    count = len(tokens)
    out = json.loads(subprocess.run(command(pool, count, rate, SECONDS, 32, kind), input=text(tokens, vms[:count]), check=True,
                                    capture_output=True, text=True).stdout)  # fmt: skip
    cost = (cpu_us(pool.poold.pid) - used) / max(1, out["changes"])
    own = kind == "own"
    what = f"{count} subscribers, {'a VM each' if own else 'all VMs'}, {rate} changes/s"
    curve = {"plot": "events", "x": rate, "x_is": "changes a second"} if own else {}
    report.row(f"{what}: 99 of 100", out["p99_ms"], "ms", out["commit_p99_ms"], "the change's own answer",
               **({**curve, "curve": "99 of 100"} if own else {}))  # fmt: skip
    report.row("  half of them", out["p50_ms"], "ms", out["commit_p50_ms"], "the change's own answer",
               **({**curve, "curve": "half"} if own else {}))  # fmt: skip
    if own:
        report.row("  later than that answer, 99 of 100", out["after_p99_ms"], "ms", **({"at_most": 5} if rate == 1000 else {}))
    report.row("  bytes of answers for a delivery", out["bytes"] / max(1, out["deliveries"]), "B")
    report.row("  processor time of the server for a change", cost, "us")
    report.note(f"  {out['changes']} changes ({out['late']} asked for late), {out['deliveries']} deliveries in {out['answers']} "
                f"answers; the load generator used {100 * out['generator_cpu']:.0f} % of a processor")  # fmt: skip
    expected = out["changes"] * (1 if own else count)
    if out["deliveries"] < expected * 0.5:
        report.note(f"  {expected - out['deliveries']} deliveries were folded into others: a subscriber hears of the newest state")


def idle(report, pool, tokens, vms):
    """All wait in a few sessions; a change that is none of theirs."""
    before = memory_kib(pool.poold.pid)
    quiet = [timed(pool.client, "pool.set_name_description", pool.client("pool.get_all")[0], f"quiet {n}") for n in range(20)]
    shared = [tokens[n % len(tokens)] for n in range(IDLE)]
    waiting = subprocess.Popen(command(pool, IDLE, 0, 0, 0, "idle"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        waiting.stdin.write(text(shared, [vms[n % len(vms)] for n in range(IDLE)]))
        waiting.stdin.flush()
        if waiting.stdout.readline() != "waiting\n":
            raise SystemExit("the subscribers do not wait")
        time.sleep(0.5)
        grown = (memory_kib(pool.poold.pid) - before) / 1024
        report.row(f"{IDLE} idle subscribers, memory of the server", grown, "MiB", at_most=500 * IDLE / 10000)
        report.row("  each", 1024 * grown / IDLE, "KiB")
        used = cpu_us(pool.poold.pid)
        crowd = [timed(pool.client, "pool.set_name_description", pool.client("pool.get_all")[0], f"crowd {n}") for n in range(20)]
        report.row("  a change that none of them waits for", sorted(crowd)[10], "ms", sorted(quiet)[10], "without them")
        report.row("  processor time of the server for it", (cpu_us(pool.poold.pid) - used) / 40, "us")
    finally:
        waiting.kill()
        waiting.wait()


def main():
    build = build_folder(__doc__)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:  # a connection is a descriptor on both sides
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 65536), max(hard, 65536)))
    except (ValueError, OSError):
        if hard < IDLE + KEPT:
            raise SystemExit(f"{IDLE} subscribers need {IDLE + KEPT} descriptors (ulimit -Hn), there are {hard}") from None
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Bench() as bench:
        report = Report("events", "event.from, from the request for a change to its delivery")
        pool = Pool(bench, build)
        pool.fill(1000)
        pool.start()
        vms = pool.client("VM.get_all")[:1000]
        tokens = sessions(pool, 1000)
        for rate in RATES:
            steady(report, pool, tokens, vms, rate, "own")
        steady(report, pool, tokens, vms, 5, "all")
        idle(report, pool, tokens[:50], vms)
        report.done()


if __name__ == "__main__":
    main()
