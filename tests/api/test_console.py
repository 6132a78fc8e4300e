"""Consoles by CONNECT and by web socket, who may open them, how many, when they end; pictures of screens."""
import os
import socket
import ssl
import struct
import subprocess
import sys
import unittest

from pool import TestPool, module_pool, program, until
from test_users import login, make_user
from test_vm import simulated

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
from websocket import WebSocket  # noqa: E402

POOL = API = VM = None
LIMIT_S = 20


def setUpModule():
    global POOL, API, VM
    POOL = module_pool(hosts=1, host_options=["--sim-boot-ms", "50"])
    API = POOL.login()
    VM = API.VM.create(simulated("screen"))
    API.VM.start(VM, False, False)


def console(protocol, vm=None):
    return next(c for c in API.VM.get_consoles(vm or VM) if API.console.get_protocol(c) == protocol)


class Tunnel:
    """What classic clients do: CONNECT in HTTP/1.0, then bare bytes."""

    def __init__(self, query, tls=False, headers=(), method="CONNECT", version="1.0"):
        raw = socket.create_connection(("127.0.0.1", POOL.port if tls else POOL.http_port), LIMIT_S)
        self.sock = ssl.create_default_context(cafile=POOL.ca).wrap_socket(raw, server_hostname="127.0.0.1") if tls else raw
        lines = [f"{method} /console?{query} HTTP/{version}", *headers, "", ""]
        self.sock.sendall("\r\n".join(lines).encode())
        self.head, self.rest = b"", b""
        while b"\r\n\r\n" not in self.head:
            data = self.sock.recv(4096)
            if not data:
                break
            self.head += data
        self.head, _, self.rest = self.head.partition(b"\r\n\r\n")
        self.lines = self.head.decode().split("\r\n")
        self.status = int(self.lines[0].split(" ")[1])

    def read_until(self, wanted):
        self.sock.settimeout(LIMIT_S)
        while wanted not in self.rest:
            data = self.sock.recv(4096)
            if not data:
                raise ConnectionError(f"closed after {self.rest!r}")
            self.rest += data
        return self.rest

    def ended(self):
        """True once the server has closed it."""
        self.sock.settimeout(LIMIT_S)
        try:
            while self.sock.recv(4096):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return False
        return True

    def close(self):
        self.sock.close()


def status_of(query, **more):
    tunnel = Tunnel(query, **more)
    tunnel.close()
    return tunnel.status


def session():
    return f"&session_id={API.session}"


class Connect(unittest.TestCase):
    def test_the_reply_and_the_terminal(self):
        for tls in (False, True):
            for name in ("uuid=" + API.console.get_uuid(console("vt100")), "ref=" + console("vt100")):
                tunnel = Tunnel(name + session(), tls)
                self.assertEqual(tunnel.lines[0], "HTTP/1.1 200 OK")
                self.assertEqual(dict(line.split(": ", 1) for line in tunnel.lines[1:]),
                                 {"Connection": "keep-alive", "Cache-Control": "no-cache, no-store"})
                tunnel.read_until(b"login:")
                tunnel.sock.sendall(b"hello\r")
                tunnel.read_until(b"hello")
                tunnel.close()

    def test_a_vm_stands_for_its_screen(self):
        for name in ("uuid=" + API.VM.get_uuid(VM), "ref=" + VM, "ref=" + console("rfb")):
            tunnel = Tunnel(name + session(), version="1.1", headers=["Host: x"])
            self.assertEqual(tunnel.status, 200)
            tunnel.read_until(b"RFB 003.008\n")
            tunnel.sock.sendall(b"RFB 003.008\n")
            self.assertTrue(tunnel.read_until(b"\n\1\1"))
            tunnel.close()

    def test_credentials(self):
        name = "ref=" + VM
        self.assertEqual(status_of(name), 401)
        self.assertEqual(status_of(name + "&session_id=OpaqueRef:nonsense"), 401)
        self.assertEqual(status_of(name, headers=["Cookie: session_id=" + API.session]), 200)
        self.assertEqual(status_of(name, headers=["Authorization: " + POOL.basic()["Authorization"]]), 200)
        self.assertEqual(status_of(name, headers=["Authorization: " + POOL.basic(password="wrong")["Authorization"]]), 401)

    def test_what_has_no_console(self):
        idle = API.VM.create(simulated("idle"))
        for name in ("ref=" + idle, "uuid=" + API.VM.get_uuid(idle), "uuid=00000000-0000-4000-8000-000000000000",
                     "ref=OpaqueRef:NULL", "uuid=", "", "ref=x"):
            self.assertEqual(status_of(name + session()), 404, name)
            self.assertEqual(POOL.http("GET", f"/vncsnapshot?{name}{session()}")[0], 404, name)
        API.VM.destroy(idle)
        dom0 = next(ref for ref, vm in API.VM.get_all_records().items() if vm["is_control_domain"])
        self.assertEqual(status_of("ref=" + dom0 + session()), 404)
        self.assertEqual(POOL.http("GET", f"/vncsnapshot?ref={console('vt100')}{session()}")[0], 404)

    def test_roles(self):
        """Consoles of VMs want vm-operator, those of a host's own system pool-admin."""
        dom0 = next(ref for ref, vm in API.VM.get_all_records().items() if vm["is_control_domain"])
        for role, guest, host in (("read-only", 403, 403), ("vm-operator", 200, 403), ("pool-operator", 200, 403),
                                  ("pool-admin", 200, 404)):
            user = make_user("viewer-" + role, role, api=API)
            mine = "&session_id=" + login("viewer-" + role, pool=POOL).session
            self.assertEqual((status_of("ref=" + VM + mine), status_of("ref=" + dom0 + mine)), (guest, host), role)
            self.assertEqual((POOL.http("GET", f"/vncsnapshot?ref={VM}{mine}")[0],
                              POOL.http("GET", f"/vncsnapshot?ref={dom0}{mine}")[0]), (guest, host), role)
            API.call("user.destroy", API.session, user)

    def test_a_host_that_is_gone(self):
        with TestPool(hosts=1) as pool:
            api = pool.login()
            vm = api.VM.create(simulated("x"))
            api.VM.start(vm, False, False)
            pool.hosts[0].kill()
            status, _, _ = pool.http("GET", f"/vncsnapshot?ref={vm}&session_id={api.session}")
            self.assertEqual(status, 500)
            run = subprocess.run([program("xe"), "-s", "127.0.0.1", "-p", str(pool.port), "--ca", pool.ca, "-u", "root",
                                  "-pw", pool.password, "console", "vm=x"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
            self.assertEqual(run.returncode, 1)
            self.assertIn("the VM's host does not answer", run.stdout)

    def test_one_at_a_time(self):
        pool = API.pool.get_all()[0]
        API.pool.set_limit_console_sessions(pool, True)
        try:
            first = Tunnel("ref=" + VM + session())
            self.assertEqual(first.status, 200)
            self.assertEqual(status_of("ref=" + VM + session()), 503)
            with self.assertRaisesRegex(ConnectionError, "503"):
                WebSocket("127.0.0.1", POOL.port, f"/console?ref={VM}{session()}", POOL.ca)
            other = Tunnel("ref=" + console("vt100") + session())
            self.assertEqual(other.status, 200)
            other.close()
            first.close()

            def again():
                tunnel = Tunnel("ref=" + VM + session())
                tunnel.close()
                return tunnel.status == 200
            until("the console is free again", again, LIMIT_S)
        finally:
            API.pool.set_limit_console_sessions(pool, False)

    def test_the_end_of_the_session_ends_it(self):
        leaving = POOL.login()
        tunnel = Tunnel(f"ref={console('vt100')}&session_id={leaving.session}")
        tunnel.read_until(b"login:")
        leaving.logout()
        self.assertTrue(tunnel.ended())
        tunnel.close()

    def test_the_end_of_the_vm_ends_it(self):
        vm = API.VM.create(simulated("short"))
        API.VM.start(vm, False, False)
        tunnel = Tunnel(f"ref={console('vt100', vm)}{session()}")
        tunnel.read_until(b"login:")
        API.VM.hard_shutdown(vm)
        self.assertTrue(tunnel.ended())
        tunnel.close()
        API.VM.destroy(vm)

    def test_a_temporary_session_ends_with_it(self):
        def sessions():
            return API.call("event.from", API.session, ["pool"], "", 0.0)["valid_ref_counts"]["session"]
        before = sessions()
        tunnel = Tunnel("ref=" + VM, headers=["Authorization: " + POOL.basic()["Authorization"]])
        tunnel.read_until(b"RFB")
        self.assertEqual(sessions(), before + 1)
        tunnel.close()
        until("its session ended", lambda: sessions() == before, LIMIT_S)


class WebSockets(unittest.TestCase):
    def test_binary_is_always_answered(self):
        for offered in ([], ["Sec-WebSocket-Protocol: binary"], ["Sec-WebSocket-Protocol: base64, binary"]):
            tunnel = Tunnel("ref=" + VM + session(), method="GET", version="1.1",
                            headers=["Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *offered])
            self.assertEqual(tunnel.lines[0], "HTTP/1.1 101 Switching Protocols")
            headers = dict(line.split(": ", 1) for line in tunnel.lines[1:])
            self.assertEqual(headers["Sec-WebSocket-Accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            self.assertEqual(headers["Sec-WebSocket-Protocol"], "binary")
            self.assertEqual(tunnel.read_until(b"RFB 003.008\n")[:2], b"\x82\x0c")
            tunnel.close()

    def test_without_an_upgrade(self):
        self.assertEqual(POOL.http("GET", f"/console?ref={VM}{session()}")[0], 426)


def jpeg_size(data):
    """Width and height from the frame header."""
    at = 2
    while data[at] == 0xFF and data[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + struct.unpack(">H", data[at + 2:at + 4])[0]
    height, width = struct.unpack(">HH", data[at + 5:at + 9])
    return width, height


class Pictures(unittest.TestCase):
    def test_the_screen(self):
        for name in ("ref=" + VM, "uuid=" + API.VM.get_uuid(VM), "uuid=" + API.console.get_uuid(console("rfb"))):
            status, headers, body = POOL.http("GET", f"/vncsnapshot?{name}{session()}")
            self.assertEqual((status, headers["Content-Type"]), (200, "image/jpeg"))
            self.assertRegex(headers["Content-Disposition"], r"^attachment; filename=")
            self.assertEqual(body[:2] + body[-2:], b"\xff\xd8\xff\xd9")
            self.assertEqual(jpeg_size(body), (160, 100))

    def test_who_may(self):
        self.assertEqual(POOL.http("GET", "/vncsnapshot?ref=" + VM)[0], 401)


if __name__ == "__main__":
    unittest.main(verbosity=2)
