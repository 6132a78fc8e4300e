"""Durable changes: VM.set_name_description by 1, 8 and 32 clients, each of whom waits for its answer, against raw SQLite,
one row a transaction with synchronous=FULL, on the same file system in turns. At least 0.9 of it with one client, 5
times with 32. The store alone, without HTTP, is what `./corral bench store` measures."""

import json
import re
import sqlite3
import subprocess
import time

from common import LONG, Bench, Pool, Report, build_folder, median

ROUNDS = 7 if LONG else 3
SECONDS = 2 if LONG else 1
VMS = 64
SCRIPT = """local vms = {%s}
local count = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  count = count + 1
  return wrk.format(nil, nil, nil, string.format(
    '{"jsonrpc":"2.0","method":"VM.set_name_description","params":["%s","%%s","change %%d of many"],"id":1}',
    vms[count %% %d + 1], count))
end
response = function(status, headers, body)
  if string.find(body, '"error"') then print("FAILED " .. body) end
end
"""


def load(url, script, clients):
    out = subprocess.run(["wrk", "-t1", f"-c{clients}", f"-d{SECONDS}s", "--latency", "-s", str(script), url + "/jsonrpc"],
                         capture_output=True, text=True, check=True).stdout  # fmt: skip
    if "Non-2xx" in out or "FAILED" in out:
        raise SystemExit(out[-1000:])
    slow, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), float(slow) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def raw(folder):
    """Changes a second of a row about as large."""
    path = folder / "raw.db"
    for file in folder.glob("raw.db*"):
        file.unlink()
    db = sqlite3.connect(path, isolation_level=None)
    for word in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-32768"):
        db.execute(f"PRAGMA {word}")
    db.execute("CREATE TABLE VM (ref TEXT PRIMARY KEY, generation INTEGER, description TEXT, record TEXT) WITHOUT ROWID")
    for number in range(VMS):
        db.execute("INSERT INTO VM VALUES (?, 0, '', ?)", (str(number), "x" * 1500))
    begun, done = time.monotonic(), 0
    while time.monotonic() < begun + SECONDS:
        db.execute("UPDATE VM SET description = ?, generation = ? WHERE ref = ?", (f"change {done}", done, str(done % VMS)))
        done += 1
    rate = done / (time.monotonic() - begun)
    db.close()
    return rate


def main():
    build = build_folder(__doc__)
    with Bench() as bench:
        report = Report("writes", "durable changes through the API, against raw SQLite with synchronous=FULL")
        pool = Pool(bench, build)
        vms = [pool.vm(f"written {number}")[0] for number in range(VMS)]
        script = bench.dir / "load.lua"
        script.write_text(SCRIPT % (",".join(map(json.dumps, vms)), pool.client.session, VMS), encoding="ascii")
        ours, slow, limit = {1: [], 8: [], 32: []}, {1: [], 8: [], 32: []}, []
        for _ in range(ROUNDS):
            limit.append(raw(bench.dir))
            for clients in ours:
                rate, late = load(pool.plain, script, clients)
                ours[clients].append(rate)
                slow[clients].append(late)
        for clients, goal in ((1, 0.9), (8, None), (32, 5)):
            report.row(f"changes by {clients} clients", median(ours[clients]), "/s", median(limit), "raw SQLite",
                       median(a / b for a, b in zip(ours[clients], limit)), at_least=goal, of="ratio", curve="changes",
                       plot="writes", x=clients, x_is="clients")  # fmt: skip
            report.row("  99 of 100 answered within", median(slow[clients]), "ms")
        report.done()


if __name__ == "__main__":
    main()
