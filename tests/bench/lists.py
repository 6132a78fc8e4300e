"""Whole lists: VM.get_all_records of 100, 1,000 and 20,000 VMs to the last byte, first and again, and again after 1 % of
them changed; at most 100 ms for 20,000 over TLS. The limit is a bare libmicrohttpd server that sends the same bytes.
And `xe vm-list` of 512 VMs from the start of the process to its end, at most 30 ms; completion of a VM's name, at most
50 ms; and what the start of xe alone takes, at most 5 ms."""

import json
import os
import socket
import ssl
import subprocess
import time
import urllib.parse

import peer_libvirt
from common import LONG, Bench, Pool, Report, build_folder, cpu_us, median, timed

ROUNDS = 15 if LONG else 7
SIZES = (100, 1000, 20000)


class Fetch:
    """Posts one request on a connection that stays open and reads the answer to its last byte, as fast as a client may:
    into one buffer, looked at by nobody."""

    def __init__(self, url, context):
        where = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((where.hostname, where.port))
        if where.scheme == "https":
            self.socket = context.wrap_socket(self.socket, server_hostname=where.hostname)
        self.buffer = bytearray(1 << 20)

    def __call__(self, path, body, kind="application/json"):
        self.socket.sendall(f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                            + body)  # fmt: skip
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.socket.recv(16384)
            if not more:
                raise SystemExit("the server closed the connection")
            head += more
        head, _, rest = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(head.decode())
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        left = int(fields[b"content-length"]) - len(rest)
        size = left + len(rest)
        while left:
            got = self.socket.recv_into(self.buffer, min(left, len(self.buffer)))
            if got == 0:
                raise SystemExit("the server closed the connection")
            left -= got
        return size


def change(pool, count):
    """One of a hundred VMs."""
    vms = pool.client("VM.get_all")[: max(1, count // 100)]
    for number, vm in enumerate(vms):
        pool.client("VM.set_name_description", vm, f"changed {number} {time.monotonic_ns()}")


def measure(report, bench, build, count):
    pool = Pool(bench, build, name=f"state{count}")
    pool.fill(count)
    pool.start()
    body = json.dumps({"jsonrpc": "2.0", "method": "VM.get_all_records", "params": [pool.client.session], "id": 1}).encode()
    context = ssl.create_default_context(cafile=str(pool.state / "pki/ca.pem"))
    fetch, plain = Fetch(pool.tls, context), Fetch(pool.plain, context)
    first = timed(fetch, "/jsonrpc", body)
    answer = bench.dir / "answer"
    answer.write_bytes(pool.client.post("/jsonrpc", body))
    port = bench.dir / f"bare{count}"
    bare = bench.spawn([build / "tests/bench/bench_echo", port, os.cpu_count(), "--answer", answer,
                        pool.state / "pki/server.pem", pool.state / "pki/server.key"], "echo.log")  # fmt: skip
    bare_fetch = Fetch(f"https://127.0.0.1:{bench.port(port, bare, 'echo.log')}", context)
    again, changed, limit, no_tls, cost = [], [], [], [], []
    for _ in range(ROUNDS):
        used = cpu_us(pool.poold.pid)
        again.append(timed(fetch, "/jsonrpc", body))
        cost.append((cpu_us(pool.poold.pid) - used) / 1000)
        limit.append(timed(bare_fetch, "/", body))
        no_tls.append(timed(plain, "/jsonrpc", body))
    for _ in range(ROUNDS // 2):
        change(pool, count)
        changed.append(timed(fetch, "/jsonrpc", body))
    size = answer.stat().st_size / (1 << 20)
    goal = {"at_most": 100} if count == 20000 else {}
    report.row(f"{count} VMs, {size:.1f} MiB, TLS", median(again), "ms", median(limit), "bare server",
               median(a / b for a, b in zip(again, limit)), curve="TLS", plot="lists", x=count, x_is="VMs", **goal)  # fmt: skip
    report.row("  processor time of the server", median(cost), "ms")
    report.row("  the first time", first, "ms")
    report.row("  after 1 % changed", median(changed), "ms", curve="after 1 % changed", plot="lists", x=count, x_is="VMs")
    report.row("  without TLS", median(no_tls), "ms", curve="plain", plot="lists", x=count, x_is="VMs")
    if count == 1000:
        beside_libvirt(report, bench, count, again)
    pool.stop()


def beside_libvirt(report, bench, count, ours):
    if not peer_libvirt.installed():
        report.note("libvirt is not installed: not measured beside it")
        return
    libvirt = peer_libvirt.Libvirt(bench, "libvirt-lists")
    libvirt.define(count)
    theirs = libvirt.list_ms(count, ROUNDS)
    report.row("  beside libvirt's list with descriptions", median(ours), "ms", median(theirs), "libvirt",
               median(a / b for a, b in zip(ours, theirs)))  # fmt: skip
    libvirt.end()


def xe(report, bench, build):
    pool = Pool(bench, build, name="state512")
    pool.fill(512)
    pool.start()
    where = urllib.parse.urlsplit(pool.tls)
    settings = os.environ | {"XE_SERVER": where.hostname, "XE_PORT": str(where.port), "XE_USER": "root",
                             "XE_PASSWORD_FILE": str(pool.state / "admin-password"),
                             "XE_CA": str(pool.state / "pki/ca.pem")}  # fmt: skip
    took, bare, completed, theirs = [], [], [], []
    libvirt = None
    if peer_libvirt.installed():
        libvirt = peer_libvirt.Libvirt(bench)
        libvirt.define(512)
    for _ in range(ROUNDS):
        if libvirt:
            theirs.append(timed(libvirt, "list", "--all"))
        for times, argv in ((took, ["vm-list"]), (completed, ["--complete", "--", "vm-start", "vm="]), (bare, ["--version"])):
            begun = time.monotonic()
            run = subprocess.run([build / "bin/xe", *argv], env=settings, capture_output=True, text=True, check=False)
            times.append(1000 * (time.monotonic() - begun))
            wanted = 512 if times is took else len(argv) > 1
            if run.returncode != 0 or (times is not bare and len(run.stdout.splitlines()) < wanted):
                raise SystemExit(f"xe {argv}: {run.returncode}: {run.stdout[-500:]}{run.stderr}")
    report.row("start of xe (--version)", median(bare), "ms", at_most=5)
    report.row("xe vm-list, 512 VMs", median(took), "ms", median(bare), "xe --version", at_most=30)
    if libvirt:
        report.row("  beside virsh list --all", median(took), "ms", median(theirs), "virsh",
                   median(a / b for a, b in zip(took, theirs)))  # fmt: skip
    else:
        report.note("libvirt is not installed: not measured beside it")
    report.row("completion of a VM's name, 512 VMs", median(completed), "ms", median(bare), "xe --version", at_most=50)
    pool.stop()


def main():
    build = build_folder(__doc__)
    with Bench() as bench:
        report = Report("lists", "whole lists to the last byte; a bare server sends the same bytes")
        for count in SIZES:
            measure(report, bench, build, count)
        xe(report, bench, build)
        report.done()


if __name__ == "__main__":
    main()
