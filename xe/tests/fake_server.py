"""A XenAPI server for tests of xe's transport: JSON-RPC over HTTP or HTTPS, uploads, downloads and a
console web socket, on a free loopback port. It serves the records of fixture.json and notes what it is asked."""

import base64
import hashlib
import json
import socket
import ssl
import struct
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FIXTURE = Path(__file__).with_name("fixture.json")
PASSWORD = "pa55 wörd"


def make_ca(folder, name):
    """(certificate file, key file) of a fresh CA."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert,
         "-subj", f"/CN={name}", "-days", "2"], check=True, capture_output=True)  # fmt: skip
    return cert, key


def make_server_cert(folder, name, ca, san="DNS:localhost,IP:127.0.0.1"):
    """A file with certificate and key, signed by the CA."""
    key, csr, cert, ext = (folder / f"{name}.{e}" for e in ("key", "csr", "crt", "ext"))
    ext.write_text(f"subjectAltName={san}\nextendedKeyUsage=serverAuth\n")
    subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", csr,
                    "-subj", f"/CN={name}"], check=True, capture_output=True)  # fmt: skip
    subprocess.run(["openssl", "x509", "-req", "-in", csr, "-CA", ca[0], "-CAkey", ca[1], "-CAcreateserial", "-days", "2",
                    "-extfile", ext, "-out", cert], check=True, capture_output=True)  # fmt: skip
    both = folder / f"{name}.both"
    both.write_text(cert.read_text() + ca[0].read_text() + key.read_text())
    return both


class Failure(Exception):
    pass


class FakeServer:
    def __init__(self, cert=None, port=0):
        self.tables = json.loads(FIXTURE.read_text())
        self.calls, self.bodies, self.uploaded, self.cookies = [], [], b"", []
        self.failures = {}  # method -> [code, params...]
        self.raw_answer = None  # (status, body) for every call
        self.download = b""
        self.hold_uploads = False
        self.etag, self.ranges, self.hold_at = '"1"', [], None  # of a disk's content; what was asked of it; where it stalls
        self.problem = None  # (status, problem) for every request of REST
        self.changed = threading.Condition()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args):
                pass

            def do_POST(self):
                server.on_post(self)

            def do_PUT(self):
                server.on_put(self)

            def do_GET(self):
                server.on_get(self)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """A client that hangs up is part of the tests."""

        self.http = Server(("127.0.0.1", port), Handler)
        if cert:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def note(self, name):
        with self.changed:
            self.calls.append(name)
            self.changed.notify_all()

    def wait_for(self, name, seconds=20):
        with self.changed:
            assert self.changed.wait_for(lambda: name in self.calls, seconds), f"{name} was not called: {self.calls}"

    # ---- JSON-RPC ----

    def answer(self, h, status, body, kind="application/json"):
        h.send_response(status)
        h.send_header("Content-Type", kind)
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        h.wfile.write(body)

    def on_post(self, h):
        body = h.rfile.read(int(h.headers["Content-Length"]))
        self.bodies.append(body)
        if self.problem and h.path.startswith("/api/"):
            return self.answer(h, self.problem[0], json.dumps(self.problem[1]).encode(), "application/problem+json")
        if h.path == "/api/v1/join-tokens":
            self.note("join-tokens " + h.headers.get("Authorization", ""))
            return self.answer(h, 201, b'{"token":"t.f","expires":"20260101T00:00:00Z"}')
        if self.raw_answer:
            return self.answer(h, *self.raw_answer)
        request = json.loads(body)
        method, params = request["method"], request["params"]
        self.note(method)
        out = {"jsonrpc": "2.0"}
        try:
            out["result"] = self.call(method, params)
        except Failure as e:
            out["error"] = {"code": 1, "message": e.args[0][0], "data": e.args[0][1:]}
        out["id"] = request["id"]
        self.answer(h, 200, json.dumps(out).encode())

    def call(self, method, params):
        if method in self.failures:
            raise Failure(self.failures[method])
        if method in ("session.login_with_password", "session.slave_local_login_with_password"):
            if params[1] != PASSWORD:
                raise Failure(["SESSION_AUTHENTICATION_FAILED", params[0], "wrong"])
            return "OpaqueRef:session-secret"
        if params[0] != "OpaqueRef:session-secret":
            raise Failure(["SESSION_INVALID", params[0]])
        params = params[1:]
        if method in ("session.logout", "session.local_logout"):
            return ""
        if method == "host.is_in_emergency_mode":
            return False
        if method == "task.create":
            return self.task("pending")
        if method == "task.cancel":
            with self.changed:
                self.tables["task"][params[0]]["status"] = "cancelled"
                self.changed.notify_all()
            return ""
        if method.startswith("Async."):
            return self.task("success")
        if method == "event.from":
            return self.event_from(*params)
        cls, message = method.split(".")
        table = self.tables.get(cls, {})
        if message == "get_all_records":
            return table
        if message == "get_by_uuid":
            return next(r for r, record in table.items() if record["uuid"] == params[0])
        if message == "get_record":
            return table[params[0]]
        if message == "get_uuid":
            return table[params[0]]["uuid"]
        return ""

    def task(self, status):
        ref = f"OpaqueRef:task-{len(self.tables['task'])}"
        self.tables["task"][ref] = {"uuid": "u", "status": status, "result": "", "error_info": [], "progress": 0.5}
        return ref

    def event_from(self, classes, token, timeout):
        name = classes[0]
        if not name.startswith("task/"):
            with self.changed:
                self.changed.wait(timeout)
            return {"events": [], "token": "1", "valid_ref_counts": {}}
        record = self.tables["task"][name[5:]]
        with self.changed:
            self.changed.wait_for(lambda: record["status"] != "pending", timeout)
        return {"events": [{"ref": name[5:], "operation": "mod", "snapshot": record}], "token": "1"}

    # ---- streams ----

    def on_put(self, h):
        self.cookies.append(h.headers.get("Cookie", ""))
        left = int(h.headers["Content-Length"])
        task = h.path.split("task_id=")[1]
        self.note("PUT")
        if self.hold_uploads:
            h.rfile.read(1)
            with self.changed:
                self.changed.wait_for(lambda: self.tables["task"][task]["status"] == "cancelled", 30)
            h.close_connection = True
            return
        self.uploaded = h.rfile.read(left)
        self.tables["task"][task]["status"] = "success"
        self.answer(h, 200, b"")

    def on_get(self, h):
        self.cookies.append(h.headers.get("Cookie", ""))
        if h.path.startswith("/console"):
            return self.console(h)
        if h.path.endswith("/content"):
            return self.content(h)
        self.tables["task"][h.path.split("task_id=")[1]]["status"] = "success"
        self.answer(h, 200, self.download, "application/octet-stream")

    def content(self, h):
        """The rest of a disk from where the client says, as RFC 9110 has it."""
        asked, match = h.headers["Range"], h.headers.get("If-Range")
        self.ranges.append((asked, match))
        first, size = int(asked.removeprefix("bytes=").rstrip("-")), len(self.download)
        part = match in (None, self.etag)
        if part and first >= size:
            h.send_response(416)
            h.send_header("Content-Range", f"bytes */{size}")
            h.send_header("Content-Length", "0")
            return h.end_headers()
        h.send_response(206 if part else 200)
        h.send_header("ETag", self.etag)
        if part:
            h.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        data = self.download[first if part else 0:]
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        if self.hold_at is None:
            return h.wfile.write(data)
        h.wfile.write(data[:self.hold_at - first])
        h.rfile.read(1)  # until the client is gone
        h.close_connection = True

    def console(self, h):
        key = h.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        h.send_response_only(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Protocol", "binary"),
                            ("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key).digest()).decode())):  # fmt: skip
            h.send_header(name, value)
        h.end_headers()
        self.note("console " + h.path)
        h.close_connection = True
        frame = lambda op, data: h.wfile.write(bytes([0x80 | op, len(data)]) + data)
        frame(2, b"login: ")
        frame(9, b"ping")
        while True:
            head = h.rfile.read(2)
            if len(head) < 2:
                return
            assert head[1] & 0x80, "a client must mask"
            length = head[1] & 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", h.rfile.read(2))
            mask = h.rfile.read(4)
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(h.rfile.read(length)))
            self.note({2: "typed", 8: "close", 10: "pong"}[head[0] & 15])
            if head[0] & 15 == 8:
                return
            if head[0] & 15 == 2:
                if data == b"q":
                    frame(8, b"\x03\xe8")
                    return
                frame(2, b"<" + data + b">")


class WebServer:
    """Files, and addresses elsewhere: `answers` is path -> (status, bytes or Location)."""

    def __init__(self, cert=None):
        self.answers = {}
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                status, what = web.answers.get(self.path, (404, b"none"))
                self.send_response(status)
                if isinstance(what, str):
                    self.send_header("Location", what)
                    what = b""
                self.send_header("Content-Length", str(len(what)))
                self.end_headers()
                self.wfile.write(what)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.scheme = "https" if cert else "http"
        if cert:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def at(self, path):
        return f"{self.scheme}://127.0.0.1:{self.http.server_address[1]}{path}"

    def close(self):
        self.http.shutdown()
        self.http.server_close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
