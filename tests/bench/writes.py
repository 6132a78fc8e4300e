"""Durable changes: VM.set_name_description by 1, 8 and 32 clients, each of whom waits for its answer, against raw SQLite,
one row a transaction with synchronous=FULL, on the same file system in turns. At least 0.9 of it with one client, 5
times with 32. The goals are for SQLite with a write-ahead log, which syncs once for a transaction; its rollback journal,
what it does unless it is told otherwise, stands beside them. A bare HTTP server that commits the same change to raw SQLite stands beside one client. Then once more
with 2 ms more for each sync (slow_sync.c, preloaded into all three), as on a disk that is slower than this machine's. The
store alone, without HTTP, is what `./corral bench store` measures."""

import json
import os
import re
import sqlite3
import subprocess
import sys

from common import LONG, Bench, Pool, Report, build_folder, median

ROUNDS = 7 if LONG else 5
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


def load(url, script, clients, path="/jsonrpc"):
    out = subprocess.run(["wrk", "-t1", f"-c{clients}", f"-d{SECONDS}s", "--latency", "-s", str(script), url + path],
                         capture_output=True, text=True, check=True).stdout  # fmt: skip
    if "Non-2xx" in out or "FAILED" in out:
        raise SystemExit(out[-1000:])
    slow, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), float(slow) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def make_table(path, refs, journal="WAL"):
    """Rows about as large as those of VMs."""
    for file in path.parent.glob(path.name + "*"):
        file.unlink()
    db = sqlite3.connect(path, isolation_level=None)
    for word in (f"journal_mode={journal}", "synchronous=FULL", "cache_size=-32768"):
        db.execute(f"PRAGMA {word}")
    db.execute("CREATE TABLE VM (ref TEXT PRIMARY KEY, generation INTEGER, description TEXT, record TEXT) WITHOUT ROWID")
    for ref in refs:
        db.execute("INSERT INTO VM VALUES (?, 0, '', ?)", (ref, "x" * 1500))
    db.close()


RAW = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for word in ("synchronous=OFF", "cache_size=-32768"):
    db.execute(f"PRAGMA {word}")
db.execute(f"PRAGMA journal_mode={sys.argv[3]}")
for _ in range(100):  # the log gets its full length: a sync of a file that grows takes longer
    db.execute("UPDATE VM SET generation = generation + 1")
db.execute("PRAGMA synchronous=FULL")
refs = [row[0] for row in db.execute("SELECT ref FROM VM")]
begun, done = time.monotonic(), 0
while time.monotonic() < begun + float(sys.argv[2]):
    db.execute("UPDATE VM SET description = ?, generation = ? WHERE ref = ?", (f"change {done}", done, refs[done % len(refs)]))
    done += 1
print(done / (time.monotonic() - begun))
"""


def raw(path, environment, journal="WAL"):
    """Changes a second of one row a transaction, in a process of its own."""
    out = subprocess.run([sys.executable, "-c", RAW, path, str(SECONDS), journal], env=environment, capture_output=True, text=True,
                         check=True).stdout  # fmt: skip
    return float(out)


class Disk:
    """A pool, a bare server and a raw database, all on one kind of disk."""

    def __init__(self, bench, build, words, sync_us):
        self.words = words
        self.environment = dict(os.environ)
        if sync_us:
            self.environment |= {"LD_PRELOAD": str(build / "tests/bench/bench_slow_sync.so"), "SLOW_SYNC_US": str(sync_us)}
        folder = bench.dir / f"{sync_us}us"
        folder.mkdir()
        self.pool = Pool(bench, build, name=f"state-{sync_us}", environment=self.environment)
        vms = [self.pool.vm(f"written {number}")[0] for number in range(VMS)]
        self.script = folder / "load.lua"
        self.script.write_text(SCRIPT % (",".join(map(json.dumps, vms)), self.pool.client.session, VMS), encoding="ascii")
        self.raw_path = folder / "raw.db"
        make_table(self.raw_path, vms)
        self.rollback_path = folder / "rollback.db"
        make_table(self.rollback_path, vms, "DELETE")
        bare_path = folder / "bare.db"
        make_table(bare_path, vms)
        port = folder / "bare.port"
        bare = bench.spawn([build / "tests/bench/bench_echo", port, os.cpu_count(), "--commit", bare_path], "bare.log",
                           env=self.environment)  # fmt: skip
        self.bare_url = f"http://127.0.0.1:{bench.port(port, bare, 'bare.log')}"

    def measure(self, report, clients, goals):
        """`goals`: clients to the least ratio."""
        load(self.pool.plain, self.script, 32)  # for its log, too
        ours, slow, limit, rollback, bare = {n: [] for n in clients}, {n: [] for n in clients}, [], [], []
        for _ in range(ROUNDS):
            limit.append(raw(self.raw_path, self.environment))
            rollback.append(raw(self.rollback_path, self.environment, "DELETE"))
            bare.append(load(self.bare_url, self.script, 1, "/")[0])
            for number in clients:
                rate, late = load(self.pool.plain, self.script, number)
                ours[number].append(rate)
                slow[number].append(late)
        report.row(f"{self.words}bare server that commits, 1 client", median(bare), "/s", median(limit), "raw SQLite",
                   median(a / b for a, b in zip(bare, limit)))  # fmt: skip
        for number in clients:
            report.row(f"{self.words}changes by {number} clients", median(ours[number]), "/s", median(limit), "raw SQLite",
                       median(a / b for a, b in zip(ours[number], limit)), at_least=goals.get(number), of="ratio",
                       curve=f"{self.words}changes", plot="writes", x=number, x_is="clients")  # fmt: skip
            report.row("  99 of 100 answered within", median(slow[number]), "ms")
            report.row("  beside SQLite with its rollback journal", median(ours[number]), "/s", median(rollback),
                       "raw SQLite", median(a / b for a, b in zip(ours[number], rollback)))  # fmt: skip
            if number == 1:
                report.row("  beside the bare server that commits", median(ours[1]), "/s", median(bare), "bare server",
                           median(a / b for a, b in zip(ours[1], bare)))  # fmt: skip


def main():
    build = build_folder(__doc__)
    with Bench() as bench:
        report = Report("writes", "durable changes through the API, against raw SQLite with synchronous=FULL")
        Disk(bench, build, "", 0).measure(report, (1, 8, 32), {1: 0.9, 32: 5})
        Disk(bench, build, "2 ms a sync: ", 2000).measure(report, (1, 32), {1: 0.9, 32: 5})
        report.done()


if __name__ == "__main__":
    main()
