"""Several hundred clients that do not go on: with half a request, or with an answer that they never read. Others are
served meanwhile, the server's memory stays within a bound, and all comes back when they are gone. That slow ones are
ended in time, readers too, is tried by base/tests/test_http_server.c, with times that a test can wait for."""
import json
import os
import socket
import unittest

from pool import TestPool, until
from test_events import vm_record

MANY = 250
MORE = 700         # of those whose memory would be the largest
BOUND = 192 << 20   # 128 MiB of unfinished bodies, and the connections themselves
POOL = API = None


def setUpModule():
    """Freed memory goes back at once, so that what is resident is what is used."""
    global POOL, API
    before = os.environ.get("ASAN_OPTIONS")
    os.environ["ASAN_OPTIONS"] = ":".join([*([before] if before else []), "quarantine_size_mb=4"])
    try:
        POOL = TestPool(hosts=1)
    finally:
        if before is None:
            del os.environ["ASAN_OPTIONS"]
        else:
            os.environ["ASAN_OPTIONS"] = before
    unittest.addModuleCleanup(POOL.close)
    API = POOL.login()


def resident():
    with open(f"/proc/{POOL.poold.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors():
    return len(os.listdir(f"/proc/{POOL.poold.pid}/fd"))


def post(path, body, length=None):
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path, length or len(body), body)


class Stuck(unittest.TestCase):
    def crowd(self, request, count):
        """Connections with this request, whose answers nobody reads."""
        sockets = []
        for _ in range(count):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(60)
            self.addCleanup(sock.close)
            sock.connect(("127.0.0.1", POOL.http_port))
            try:
                sock.sendall(request)
            except (BrokenPipeError, ConnectionResetError):
                pass  # one too many, and told so
            sockets.append(sock)
        return sockets

    def suffers(self, what, request, count=MANY, change=None):
        before, open_before, peak = resident(), descriptors(), 0
        sockets = self.crowd(request, count)
        for at in range(5):  # it works on what came
            if change:
                change(at)
            network = API.network.get_all()[0]  # any
            API.network.set_name_description(network, f"{what} {at}")
            self.assertEqual(API.network.get_name_description(network), f"{what} {at}")
            peak = max(peak, resident() - before)
        self.assertLess(peak, BOUND, f"{what}: {peak >> 20} MiB for {count} clients")
        for sock in sockets:
            sock.close()
        until(f"{what}: descriptors come back", lambda: descriptors() < open_before + 20, 60)

    def test_all_kinds(self):
        host, = API.host.get_all()
        sr = API.SR.create(host, {"location": os.path.join(POOL.folder, "disks")}, 0, "disks", "", "file", "", False, {})
        vdi = API.VDI.create({"SR": sr, "virtual_size": 64 << 20, "type": "user", "sharable": False, "read_only": False,
                              "other_config": {}, "name_label": "disk"})
        vms = [API.VM.create({**vm_record(f"vm {i}"), "other_config": {"long": "x" * 12000}}) for i in range(100)]
        session = API.session.encode()
        login = b"Authorization: Bearer %s\r\nCookie: session_id=%s\r\n" % (session, session)
        call = json.dumps({"jsonrpc": "2.0", "method": "VM.get_all_records", "params": [API.session], "id": 1}).encode()
        xml = (b"<?xml version='1.0'?><methodCall><methodName>VM.get_all_records</methodName><params><param><value>%s</value>"
               b"</param></params></methodCall>" % session)

        def get(path):
            return b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (path.encode(), login)
        self.suffers("half a head", b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Le", MORE)
        self.suffers("half a body", post(b"/jsonrpc", b"[" * 270000, 300000), MORE)
        self.suffers("records", post(b"/jsonrpc", call))
        self.suffers("records as XML", post(b"/", xml))
        self.suffers("records over REST", get("/api/v1/vms"), MANY // 5)
        self.suffers("events", get("/api/v1/events"), MANY, lambda at: API.VM.set_name_description(vms[at], "y" * 50000))
        self.suffers("a disk", get(f"/export_raw_vdi?vdi={vdi}"))
        self.suffers("the database", get("/pool/xmldbdump"))


if __name__ == "__main__":
    unittest.main()
