"""Restart of poold with 10,000 VMs (100,000 objects): from the start of the process to the first answer to a client, after
an orderly end and after kill -9 in the middle of changes; at most 1 s."""

import http.client
import json
import ssl
import time

from common import LONG, Bench, Pool, Report, build_folder, median, memory_kib

ROUNDS = 9 if LONG else 3
VMS = 10000


def first_answer(pool):
    """Seconds from the start of the process until it has answered over TLS."""
    for file in ("poold.port", "poold.http"):
        (pool.state / file).unlink(missing_ok=True)
    begun = time.monotonic()
    log = f"{pool.state.name}.log"
    pool.poold = pool.bench.spawn(pool.argv, log)
    port = pool.bench.port(pool.state / "poold.port", pool.poold, log)
    context = ssl.create_default_context(cafile=str(pool.state / "pki/ca.pem"))
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
    connection.request("POST", "/jsonrpc", json.dumps({"jsonrpc": "2.0", "method": "pool.get_all", "params": ["OpaqueRef:NULL"], "id": 1}))
    answer = connection.getresponse().read()
    took = time.monotonic() - begun
    if b"SESSION_INVALID" not in answer:
        raise SystemExit(answer)
    return took


def measure(pool, kill):
    took = []
    for _ in range(ROUNDS):
        if kill:
            for number in range(20):  # the log has something to be replayed
                pool.client("VM.set_name_description", pool.known, f"before the end, {number}")
        pool.stop(kill)
        took.append(first_answer(pool))
        pool.tls = f"https://127.0.0.1:{(pool.state / 'poold.port').read_text(encoding='ascii').strip()}"
        pool.client = type(pool.client)(pool.tls, pool.state)
        if kill and pool.client("VM.get_name_description", pool.known) != "before the end, 19":
            raise SystemExit("a change that was acknowledged is lost")
    return took


def main():
    build = build_folder(__doc__)
    with Bench() as bench:
        report = Report("restart", "restart of poold, until the first answer")
        pool = Pool(bench, build)
        pool.known, _ = pool.vm("known")
        objects = pool.fill(VMS)
        pool.start()
        ordered, killed = measure(pool, False), measure(pool, True)
        report.row(f"{VMS} VMs, {objects} objects, in order", 1000 * median(ordered), "ms", at_most=1000)
        report.row("the same after kill -9", 1000 * median(killed), "ms", at_most=1000)
        report.row("resident memory then", memory_kib(pool.poold.pid) / 1024, "MiB")
        report.row("the database", sum(f.stat().st_size for f in pool.state.glob("pool.db*")) / (1 << 20), "MiB")
        report.done()


if __name__ == "__main__":
    main()
