"""Authenticated reads of one object against a bare libmicrohttpd + jansson server that answers with as many bytes, under
the same load (wrk), in turns; medians of several rounds, of the ratio as of the rates. Goal: at least 0.8 of the bare
server, session and role check included. Processor time a request is steadier on a machine that does other work. Then by
clients in Python, each a process with one connection, beside virDomainGetInfo of as many clients of libvirt."""

import json
import os
import re
import subprocess

import peer_libvirt
from common import LONG, Bench, Pool, Report, build_folder, cpu_us, median

ROUNDS = 7 if LONG else 3
SECONDS = 2 if LONG else 1
CONNECTIONS = (1, 8, 64, 1000)
SCRIPT = """wrk.method = "POST"
wrk.body = [[%s]]
wrk.headers["Content-Type"] = "%s"
"""


def load(url, script, connections, pid):
    """Requests a second, and microseconds of the server's processor time for one. A thousand connections take a while to be made, all the more with TLS."""
    seconds = SECONDS if connections < 1000 else 5 if url.startswith("https") else 2
    before = cpu_us(pid)
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url],
                         capture_output=True, text=True, check=True).stdout  # fmt: skip
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"{url} failed under load:\n{out}")
    used = cpu_us(pid) - before
    done = int(re.search(r"(\d+) requests in", out)[1])
    if done == 0:
        raise SystemExit(f"{url} answered nothing:\n{out}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), used / done


class Kind:
    """One request, as JSON-RPC or XML-RPC, and two bare servers that answer the same bytes."""

    def __init__(self, pool, method, form, vm):
        self.name = f"{method}, {form}"
        session = pool.client.session
        if form == "JSON-RPC":
            body = json.dumps({"jsonrpc": "2.0", "method": method, "params": [session, vm], "id": 1})
            self.path, content_type = "/jsonrpc", "application/json"
        else:
            body = (f"<?xml version='1.0'?><methodCall><methodName>{method}</methodName><params><param><value><string>{session}"
                    f"</string></value></param><param><value>{vm}</value></param></params></methodCall>")  # fmt: skip
            self.path, content_type = "/", "text/xml"
        bench = pool.bench
        name = self.name.replace(" ", "").replace(",", "-")
        self.script = bench.dir / f"{name}.lua"
        self.script.write_text(SCRIPT % (body, content_type), encoding="ascii")
        # The bare server parses JSON also when ours reads XML.
        self.bare_script = bench.dir / f"{name}-bare.lua"
        bare = json.dumps({"jsonrpc": "2.0", "method": method, "params": [session, vm], "id": 1})
        self.bare_script.write_text(SCRIPT % (bare, "application/json"), encoding="ascii")
        answer = bench.dir / f"{name}.answer"
        answer.write_bytes(pool.client.post(self.path, body, {"Content-Type": content_type}))
        echo = pool.build / "tests/bench/bench_echo"
        certificates = [pool.state / "pki/server.pem", pool.state / "pki/server.key"]
        self.peers, self.processes = [], []
        for secure in (False, True):
            file = bench.dir / f"{name}-{secure}.port"
            process = bench.spawn([echo, file, os.cpu_count(), "--answer", answer, *(certificates if secure else [])], "echo.log")
            self.processes.append(process)
            self.peers.append(f"{'https' if secure else 'http'}://127.0.0.1:{bench.port(file, process, 'echo.log')}")

    def measure(self, report, pool, secure, connections):
        ours, limit, cost, bare_cost = [], [], [], []
        url = pool.tls if secure else pool.plain
        for _ in range(ROUNDS):
            rate, us = load(url + self.path, self.script, connections, pool.poold.pid)
            bare_rate, bare_us = load(self.peers[secure] + "/", self.bare_script, connections, self.processes[secure].pid)
            ours.append(rate)
            limit.append(bare_rate)
            cost.append(us)
            bare_cost.append(bare_us)
        words = "TLS" if secure else "plain"
        report.row(f"{self.name}, {words}, {connections}", median(ours), "req/s", median(limit), "bare server",
                   median(a / b for a, b in zip(ours, limit)), at_least=0.8, of="ratio", curve=f"{self.name}, {words}",
                   plot="reads", x=connections, x_is="connections")  # fmt: skip
        report.row("  processor time of the server", median(cost), "us", median(bare_cost), "bare server",
                   median(a / b for a, b in zip(cost, bare_cost)))  # fmt: skip


# Reads a second of one connection: a request as it stands, again and again, each answer read as JSON.
CLIENT = """
import json, socket, sys, time
host, port, body, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), float(sys.argv[4])
wire = socket.create_connection((host, port))
wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
request = b"POST /jsonrpc HTTP/1.1\\r\\nHost: pool\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body)
begun, done = time.monotonic(), 0
while time.monotonic() < begun + seconds:
    wire.sendall(request)
    head, _, rest = wire.recv(65536).partition(b"\\r\\n\\r\\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\\r\\n", 1)[0])
    while len(rest) < length:
        rest += wire.recv(65536)
    json.loads(rest)["result"]
    done += 1
print(done / (time.monotonic() - begun))
"""


def rate_from_python(pool, vm, clients):
    body = json.dumps({"jsonrpc": "2.0", "method": "VM.get_power_state", "params": [pool.client.session, vm], "id": 1})
    host, port = pool.plain.removeprefix("http://").split(":")
    all_of_them = [subprocess.Popen([peer_libvirt.PYTHON, "-c", CLIENT, host, port, body, str(SECONDS)], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, text=True) for _ in range(clients)]  # fmt: skip
    rates = [float(process.communicate(timeout=120)[0]) for process in all_of_them]
    return sum(rates)


def beside_libvirt(report, pool, vm):
    if not peer_libvirt.installed():
        report.note("libvirt is not installed: not measured beside it")
        return
    libvirt = peer_libvirt.Libvirt(pool.bench)
    libvirt.define(1)
    for clients in (1, 8):
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(rate_from_python(pool, vm, clients))
            theirs.append(libvirt.info_rate("peer0", clients, SECONDS))
        report.row(f"VM.get_power_state from Python, plain, {clients}", median(ours), "req/s", median(theirs),
                   "virDomainGetInfo", median(a / b for a, b in zip(ours, theirs)))  # fmt: skip
    libvirt.end()


def main():
    build = build_folder(__doc__)
    with Bench() as bench:
        report = Report("reads", "authenticated reads of one object, by number of connections, against a bare server")
        pool = Pool(bench, build)
        vm, _ = pool.vm()
        first = Kind(pool, "VM.get_power_state", "JSON-RPC", vm)
        for secure in (False, True):
            for connections in CONNECTIONS:
                first.measure(report, pool, secure, connections)
        for method, form in (("VM.get_power_state", "XML-RPC"), ("VM.get_record", "JSON-RPC"), ("VM.get_record", "XML-RPC")):
            kind = Kind(pool, method, form, vm)
            for secure in (False, True):
                for connections in CONNECTIONS if LONG else (64,):
                    kind.measure(report, pool, secure, connections)
        beside_libvirt(report, pool, vm)
        report.done()


if __name__ == "__main__":
    main()
