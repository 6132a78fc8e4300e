"""Instructions that the server takes for its hot paths, as callgrind counts them: repeatable on a machine that does other
work, where seconds are not. Each is compared with instructions.json; more than a tenth above it fails. After a change
that is meant: CORRAL_BENCH_RENEW=1 ./corral bench instructions, and commit the file."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from common import Bench, Client, Pool, Report, build_folder

FILE = Path(__file__).with_suffix(".json")
TOLERANCE = 0.10
VMS = 200


class Counter:
    """Counts the instructions of a process that valgrind runs."""

    def __init__(self, pid, out):
        self.pid, self.out, self.dumps = pid, out, 0

    def tell(self, *words):
        subprocess.run(["vgdb", f"--pid={self.pid}", *words], check=True, capture_output=True, stdin=subprocess.DEVNULL)

    def count(self, run):
        self.tell("zero")
        run()
        self.tell("dump")
        self.dumps += 1
        with open(f"{self.out}.{self.dumps}", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("totals:"))


def xml_call(client, method, *params):
    values = "".join(f"<param><value><string>{p}</string></value></param>" for p in (client.session, *params))
    body = f"<?xml version='1.0'?><methodCall><methodName>{method}</methodName><params>{values}</params></methodCall>"
    answer = client.post("/", body, {"Content-Type": "text/xml"})
    if b"Success" not in answer:
        raise SystemExit(answer)


def paths(client, vm, password):
    """(what, how often, what of it is counted, the call)."""
    number = iter(range(1 << 30))

    def login():
        client.raw("session.logout", client.raw("session.login_with_password", "root", password, "1.0", "bench"))

    return [
        ("VM.get_power_state, JSON-RPC", 200, 1, lambda: client("VM.get_power_state", vm)),
        ("VM.get_power_state, XML-RPC", 200, 1, lambda: xml_call(client, "VM.get_power_state", vm)),
        ("VM.get_record, JSON-RPC", 200, 1, lambda: client("VM.get_record", vm)),
        ("VM.get_record, XML-RPC", 200, 1, lambda: xml_call(client, "VM.get_record", vm)),
        ("VM.get_all_records, each VM", 5, VMS, lambda: client("VM.get_all_records")),
        ("VM.set_name_description, durable", 100, 1, lambda: client("VM.set_name_description", vm, f"{next(number)}")),
        ("VM.clone and VM.destroy, no disks", 30, 1, lambda: client("VM.destroy", client("VM.clone", vm, "copy"))),
        ("login and logout", 5, 1, login),
    ]


def measure(bench, build):
    """Instructions by path."""
    pool = Pool(bench, build)
    vm, _ = pool.vm("measured")
    pool.fill(VMS - 1)
    out = bench.dir / "callgrind"
    pool.argv = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}", *pool.argv]
    pool.start(seconds=600)
    counter = Counter(pool.poold.pid, out)
    client = Client(pool.plain, pool.state)
    password = (pool.state / "admin-password").read_text(encoding="ascii").strip()
    counter.tell("instrumentation", "on")
    found = {}
    for what, times, part, call in paths(client, vm, password):

        def run(times=times, call=call):
            for _ in range(times):
                call()

        call()  # what is made once
        call()
        found[what] = counter.count(run) / times / part
    pool.stop()
    return found


def main():
    build = build_folder(__doc__)
    known = {}
    with contextlib.suppress(FileNotFoundError):
        known = json.loads(FILE.read_text(encoding="utf-8"))
    with Bench() as bench:
        report = Report("instructions", "instructions of the server for a call, as callgrind counts them")
        found = measure(bench, build)
    for what, count in found.items():
        report.row(what, count / 1000, "k", known.get(what, count) / 1000, "the file", at_most=1 + TOLERANCE, of="ratio")
    report.done()
    if os.environ.get("CORRAL_BENCH_RENEW") == "1":
        FILE.write_text(json.dumps({what: round(count) for what, count in found.items()}, indent=4) + "\n", encoding="utf-8")
        print(f"{FILE} was written anew")
    elif set(known) != set(found) or any(row["met"] is False for row in report.rows):
        sys.exit("The figures are not those of the file: find out why, or renew it (see instructions.py).")


if __name__ == "__main__":
    main()
