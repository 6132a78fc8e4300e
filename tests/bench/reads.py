"""Authenticated reads of one object against a bare libmicrohttpd + jansson server, under the same load (wrk), in
turns; medians of several rounds, of the ratio as of the rates. Goal: at least 0.8 of the bare server, session and role check included."""

import argparse
import os
import re
import subprocess
from pathlib import Path

from common import VM_RECORD, Bench, Client, median, report

ROUNDS = 5
SECONDS = 2
SCRIPT = """wrk.method = "POST"
wrk.body = [[{"jsonrpc":"2.0","method":"VM.get_power_state","params":["%s","%s"],"id":1}]]
wrk.headers["Content-Type"] = "application/json"
"""


def load(url, script, connections):
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "-s", str(script), url + "/jsonrpc"],
                         capture_output=True, text=True, check=True).stdout  # fmt: skip
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"{url} failed under load:\n{out}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True, help="build folder with poold and bench_echo")
    args = parser.parse_args()
    with Bench() as bench:
        state = bench.dir / "state"
        poold = bench.spawn([args.build / "bin/poold", "--state", state, "--port", 0, "--http", 0,
                             "--log-level", "warn"], "poold.log")  # fmt: skip
        tls = f"https://127.0.0.1:{bench.port(state / 'poold.port', poold, 'poold.log')}"
        plain = f"http://127.0.0.1:{bench.port(state / 'poold.http', poold, 'poold.log')}"
        client = Client(tls, state)
        vm = client("VM.create", VM_RECORD)
        script = bench.dir / "load.lua"
        script.write_text(SCRIPT % (client.session, vm))
        echo = args.build / "tests/bench/bench_echo"
        threads = os.cpu_count()
        certificates = [state / "pki/server.pem", state / "pki/server.key"]
        echo_plain = bench.spawn([echo, bench.dir / "plain", threads], "echo.log")
        echo_tls = bench.spawn([echo, bench.dir / "tls", threads, *certificates], "echo-tls.log")
        peers = {
            plain: f"http://127.0.0.1:{bench.port(bench.dir / 'plain', echo_plain, 'echo.log')}",
            tls: f"https://127.0.0.1:{bench.port(bench.dir / 'tls', echo_tls, 'echo-tls.log')}",
        }
        rows = []
        for name, url in (("plain", plain), ("TLS", tls)):
            for connections in (1, 8, 64):
                ours, limit = [], []
                for _ in range(ROUNDS):
                    ours.append(load(url, script, connections))
                    limit.append(load(peers[url], script, connections))
                rows.append((f"VM.get_power_state, {name}, {connections} conn.", median(ours), median(limit), "req/s",
                             median(a / b for a, b in zip(ours, limit))))  # fmt: skip
        report("reads", rows, "authenticated reads of one object, against a bare server (goal: 0.8)")


if __name__ == "__main__":
    main()
