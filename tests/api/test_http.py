"""The doors that are no messages: static files, join tokens, console tokens; and what never gets out."""
import http.client
import io
import json
import os
import resource
import shutil
import socket
import ssl
import sys
import tarfile
import tempfile
import threading
import time
import unittest
import xml.etree.ElementTree

from pool import NULL, Failure, TestPool, module_pool, until
from test_jsonrpc import read_all

POOL = API = WEB = None
PAGE = b"<!doctype html><title>x</title>"


def setUpModule():
    global POOL, API, WEB
    WEB = tempfile.mkdtemp(prefix="corral-web-")
    unittest.addModuleCleanup(shutil.rmtree, WEB)
    files = {"index.html": PAGE, "app.js": b"1", "sub/style.css": b"a{}", "sub/deep/er/x.svg": b"<svg/>", "docs/index.html": b"folder", ".hidden": b"no",
             "odd name.txt": b"odd", "console.css": b"b{}"}
    for name, data in files.items():
        os.makedirs(os.path.dirname(os.path.join(WEB, name)), exist_ok=True)
        with open(os.path.join(WEB, name), "wb") as file:
            file.write(data)
    POOL = module_pool(options=["--web", WEB])
    API = POOL.login()


def raw(request):
    with POOL.connect() as sock:
        sock.sendall(request)
        return read_all(sock)


class Static(unittest.TestCase):
    def test_files(self):
        for path, body, kind in (("/", PAGE, "text/html; charset=utf-8"), ("/index.html", PAGE, "text/html; charset=utf-8"),
                                 ("/app.js", b"1", "text/javascript; charset=utf-8"), ("/sub/style.css", b"a{}",
                                                                                       "text/css; charset=utf-8"),
                                 ("/sub/deep/er/x.svg", b"<svg/>", "image/svg+xml"), ("/app.js?x=1", b"1",
                                                                                      "text/javascript; charset=utf-8"),
                                 ("/odd%20name.txt", b"odd", "text/plain; charset=utf-8")):
            status, headers, got = POOL.http("GET", path)
            self.assertEqual((status, got, headers["Content-Type"]), (200, body, kind), path)

    def test_a_folder_adds_its_index(self):
        for path in ("/docs", "/docs/", "/docs/index.html"):
            self.assertEqual(POOL.http("GET", path)[::2], (200, b"folder"), path)

    def test_error_pages(self):
        for method, path, status, title in (("GET", "/nope", 404, b"Not found"), ("PUT", "/nope", 403, b"Forbidden"),
                                            ("DELETE", "/", 501, b"Method not implemented"),
                                            ("POST", "/", 500, b"Internal error")):
            got, headers, body = POOL.http(method, path, b"" if method in ("PUT", "POST") else None)
            self.assertEqual((got, headers["Content-Type"], headers["Cache-Control"]), (status, "text/html", "no-cache, no-store"))
            self.assertTrue(body.startswith(b"<html><body><h1>HTTP %d %s</h1>" % (status, title)), body)
            self.assertEqual(headers["Connection"].lower(), "close" if status == 403 else "keep-alive", path)
        _, headers, body = POOL.http("PUT", "/api/nope", b"")
        self.assertEqual((headers["Content-Type"], list(json.loads(body))), ("application/json", ["error"]))

    def test_a_file_whose_name_begins_like_a_door(self):
        status, _, got = POOL.http("GET", "/console.css")
        self.assertEqual((status, got), (200, b"b{}"))

    def test_security_headers(self):
        _, headers, _ = POOL.http("GET", "/")
        policy = headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertIn("frame-ancestors 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertNotIn("*", policy)
        self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(headers["X-Frame-Options"], "DENY")
        self.assertEqual(headers["Referrer-Policy"], "no-referrer")

    def test_head_and_etag(self):
        status, headers, body = POOL.http("HEAD", "/app.js")
        self.assertEqual((status, body, headers["Content-Length"]), (200, b"", "1"))
        status, _, body = POOL.http("GET", "/app.js", headers={"If-None-Match": headers["ETag"]})
        self.assertEqual((status, body), (304, b""))
        self.assertEqual(POOL.http("GET", "/app.js", headers={"If-None-Match": '"x"'})[0], 200)

    def test_nothing_leads_out(self):
        for path in ("/../../../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2f..%2fetc%2fpasswd",
                     "/sub/../../etc/passwd", "//etc/passwd", "/etc/passwd", "/.hidden", "/%2ehidden", "/sub/../index.html",
                     "/sub/./style.css", "/./index.html", "/app.js/", "/app.js%00", "/%00", "/app.js%00.css", "/sub", "/sub/",
                     "/%2fetc%2fpasswd", "/..", "/.", "/%", "/%zz", "/APP.JS", "/pool.db", "/admin-password",
                     "/../state/admin-password", "/\\..\\..\\etc\\passwd", "/" + "a/" * 5000):
            answer = raw(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            status = answer.split(b" ")[1] if answer else b"cut"
            self.assertIn(status, (b"404", b"400", b"414", b"431", b"cut"), path)
            self.assertNotIn(b"root:", answer)
        answer = raw(b"GET /app.js\x00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertNotIn(b"root:", answer)

    def test_absolute_form_and_star(self):
        answer = raw(b"GET http://evil.example/app.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertIn(answer.split(b" ")[1], (b"200", b"400", b"404"))

    def test_other_methods(self):
        self.assertEqual(POOL.http("DELETE", "/app.js")[0], 501)
        self.assertEqual(POOL.http("PATCH", "/app.js", b"x")[0], 501)
        self.assertEqual(POOL.http("PUT", "/app.js", b"x")[0], 403)
        self.assertEqual(POOL.http("POST", "/", b"x")[0], 500)
        self.assertEqual(POOL.http("POST", "/app.js", b"x")[0], 500)

    def test_no_web_folder(self):
        with TestPool() as pool:
            self.assertEqual(pool.http("GET", "/")[0], 404)


class Listening(unittest.TestCase):
    def test_plain_http_is_for_loopback(self):
        address = own_address()
        if not address:
            self.skipTest("this machine has no address but loopback ones")
        with self.assertRaises(OSError):
            socket.create_connection((address, POOL.http_port), 2).close()

    def test_https_presents_the_pools_certificate(self):
        context = ssl.create_default_context(cafile=POOL.ca)
        with socket.create_connection(("127.0.0.1", POOL.port)) as sock:
            with context.wrap_socket(sock, server_hostname="localhost") as tls:
                self.assertIn(tls.version(), ("TLSv1.2", "TLSv1.3"))
        strangers = ssl.create_default_context()
        with socket.create_connection(("127.0.0.1", POOL.port)) as sock:
            with self.assertRaises(ssl.SSLError):
                strangers.wrap_socket(sock, server_hostname="localhost")

    def test_old_tls_is_refused(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        import warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", POOL.port)) as sock:
            with self.assertRaises((ssl.SSLError, OSError)):
                context.wrap_socket(sock, server_hostname="localhost")

    def test_plain_text_to_the_tls_port(self):
        with socket.create_connection(("127.0.0.1", POOL.port), 10) as sock:
            sock.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            self.assertFalse(read_all(sock).startswith(b"HTTP"))

    def test_idle_tls_handshakes_hold_nobody_up(self):
        idle = [socket.create_connection(("127.0.0.1", POOL.port), 10) for _ in range(200)]
        client = POOL.client(tls=True)
        client.session = API.session
        started = time.monotonic()
        client.VM.get_all()
        self.assertLess(time.monotonic() - started, 5)
        for sock in idle:
            sock.close()

    def test_hsts_on_tls_only(self):
        connection = http.client.HTTPSConnection("127.0.0.1", POOL.port,
                                                 context=ssl.create_default_context(cafile=POOL.ca))
        connection.request("GET", "/")
        self.assertIn("max-age", connection.getresponse().getheader("Strict-Transport-Security"))
        connection.close()
        self.assertNotIn("Strict-Transport-Security", POOL.http("GET", "/")[1])


class Many(unittest.TestCase):
    def test_idle_connections_hold_nobody_up(self):
        """More of them than the usual soft limit of descriptors; the limit is what a shell gives a daemon."""
        import resource
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 4096:
            self.skipTest("the hard limit of descriptors is too low")
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        try:
            with TestPool() as pool:
                api = pool.login()
                resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
                idle = [pool.connect() for _ in range(1500)]
                started = time.monotonic()
                other = pool.client(timeout_s=20)
                other.session = api.session
                self.assertEqual(other.VM.get_all(), [])
                api.network.set_name_description(api.network.get_all()[0], "still written")
                self.assertLess(time.monotonic() - started, 10)
                for sock in idle:
                    sock.close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Doors(unittest.TestCase):
    """Who may make tokens, and what is said to others."""

    def test_who_gets_a_join_token(self):
        bearer = {"Authorization": f"Bearer {API.session}"}
        for headers in (POOL.basic(), bearer, {"Cookie": f"session_id={API.session}"}):
            status, _, body = POOL.http("POST", "/api/v1/join-tokens", b"", headers)
            self.assertEqual(status, 201)
            token = json.loads(body)
            self.assertEqual(sorted(token), ["expires", "token"])
            self.assertRegex(token["token"], r"^[A-Za-z0-9_-]{24,}\.[0-9a-f]{64}$")
            self.assertRegex(token["expires"], r"^\d{8}T\d\d:\d\d:\d\dZ$")

    def test_who_does_not(self):
        for headers in ({}, {"Authorization": "Basic"}, {"Authorization": "Basic !!!"}, {"Authorization": "Basic cm9vdA=="},
                        {"Authorization": "Bearer x"}, {"Authorization": "Bearer " + NULL}, {"Authorization": "Digest x"},
                        {"Cookie": "session_id=x"}, {"Cookie": "session_id=" + NULL}, {"Authorization": ""},
                        {"Authorization": "Basic AHJvb3Q6eA=="}):
            for path in ("/api/v1/join-tokens", "/api/v1/console-tokens"):
                status, _, body = POOL.http("POST", path, b"{}", headers)
                self.assertEqual(status, 401, (headers, body))
                self.assertNotIn(b"token\"", body)

    def test_a_session_in_a_bad_credential_does_not_fall_back(self):
        """A wrong session is wrong, though a right password stands beside it."""
        status, _, _ = POOL.http("POST", "/api/v1/join-tokens", b"", {**POOL.basic(), "Cookie": "session_id=x"})
        self.assertEqual(status, 401)

    def test_basic_sessions_are_temporary(self):
        def count():
            return API.call("event.from", API.session, ["pool"], "", 0.0)["valid_ref_counts"]["session"]
        before = count()
        for _ in range(3):
            POOL.http("POST", "/api/v1/join-tokens", b"", POOL.basic())
        until("end of the sessions", lambda: count() == before)

    def test_join_with_a_wrong_token(self):
        facts = {"hostname": "x"}
        good = {"token": "x." + "0" * 64, "csr": "x", "address": "127.0.0.1", "port": 1, "facts": facts}
        status, _, body = POOL.http("POST", "/api/v1/hosts/join", json.dumps(good).encode())
        self.assertIn(status, (400, 403), body)
        self.assertEqual(API.host.get_all(), [])
        for change in ({"token": 1}, {"csr": None}, {"address": []}, {"port": 0}, {"port": 65536}, {"port": "1"}, {"facts": []},
                       {"token": None}, {"facts": None}):
            status, _, body = POOL.http("POST", "/api/v1/hosts/join", json.dumps({**good, **change}).encode())
            self.assertEqual(status, 400, (change, body))
        for body in (b"", b"{", b"[]", b"1", b"null", b"\xff", b"[" * 10000):
            self.assertEqual(POOL.http("POST", "/api/v1/hosts/join", body)[0], 400, body[:20])
        self.assertEqual(POOL.http("POST", "/api/v1/hosts/join", b" " * 65537)[0], 413)

    def test_join_needs_a_certificate_request(self):
        token = POOL.join_token()
        facts = join_facts()
        for csr in ("", "x", "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n", read(POOL.ca)):
            body = {"token": token, "csr": csr, "address": "127.0.0.1", "port": 1, "facts": facts}
            status, _, answer = POOL.http("POST", "/api/v1/hosts/join", json.dumps(body).encode())
            self.assertIn(status, (400, 403, 500), answer)
            self.assertNotIn(b"/pki", answer)
        self.assertEqual(API.host.get_all(), [])

    def test_console_tokens_name_a_console(self):
        headers = {"Authorization": f"Bearer {API.session}"}
        for body, status in (({"console": NULL}, 404), ({"console": "x"}, 404), ({}, 404), ({"console": 1}, 404),
                             ({"console": API.pool.get_all()[0]}, 404)):
            got, _, text = POOL.http("POST", "/api/v1/console-tokens", json.dumps(body).encode(), headers)
            self.assertEqual(got, status, text)
        for body in (b"", b"x", b"{"):
            self.assertEqual(POOL.http("POST", "/api/v1/console-tokens", body, headers)[0], 400)

    def test_console_without_web_socket(self):
        self.assertEqual(POOL.http("GET", "/console?uuid=x")[0], 426)

    def test_console_refusals(self):
        socket_headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                          "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        self.assertEqual(POOL.http("GET", "/console?uuid=x", headers=socket_headers)[0], 401)
        self.assertEqual(POOL.http("GET", "/console?token=x", headers=socket_headers)[0], 403)
        self.assertEqual(POOL.http("GET", "/console?token=", headers=socket_headers)[0], 403)
        for query in ("uuid=x", "ref=x", "ref=" + NULL, "", "uuid=" + API.pool.get_all_records()[API.pool.get_all()[0]]["uuid"]):
            status, _, _ = POOL.http("GET", f"/console?{query}&session_id={API.session}", headers=socket_headers)
            self.assertEqual(status, 404, query)
        for change in ({"Sec-WebSocket-Version": "8"}, {"Sec-WebSocket-Key": ""}, {"Sec-WebSocket-Key": "x" * 1000},
                       {"Upgrade": "h2c"}):
            status, _, _ = POOL.http("GET", "/console?uuid=x", headers={**socket_headers, **change})
            self.assertEqual(status, 426, change)


class Classic(unittest.TestCase):
    """Doors of the classic server."""

    def test_what_is_known_but_not_done(self):
        doors = (("GET", "/host_backup"), ("PUT", "/host_restore"),
                 ("PUT", "/pool_patch_upload"), ("GET", "/updates"), ("PUT", "/bundle"),
                 ("GET", "/wlb_report"), ("GET", "/repository/enabled"))
        for method, path in doors:
            with self.subTest(path):
                self.assertEqual(POOL.http(method, path)[0], 401)
                status, headers, body = POOL.http(method, path, None, {"Cookie": f"session_id={API.session}"})
                self.assertEqual((status, headers["Content-Type"].partition(";")[0]), (501, "text/html"), body)
        self.assertEqual(POOL.http("GET", "/update/x")[0], 501)

    def test_every_door(self):
        """What answers to whom: without a login, with one and no parameters, and by another method."""
        anonymous = {"/blob": 400}  # a public one needs no login
        # This pool has no host and no SR: archives of hosts and uploads to the default SR are not found.
        doors = {"GET": {"/vncsnapshot": 404, "/export": 404, "/export_metadata": 404, "/export_raw_vdi": 404, "/rrd_updates": 400,
                         "/vm_rrd": 400, "/vm_rrds": 400, "/host_rrd": 404, "/host_rrds": 404, "/sr_rrd": 400, "/blob": 400,
                         "/pool/xmldbdump": 200, "/host_logs_download": 200, "/system-status": 200, "/audit_log": 200,
                         "/host_backup": 501, "/updates": 501, "/repository": 501, "/repository/enabled": 501, "/host_updates": 501,
                         "/wlb_report": 501, "/wlb_diagnostics": 501},
                 "PUT": {"/import": 404, "/import_metadata": 200, "/import_raw_vdi": 404, "/blob": 400, "/host_restore": 501,
                         "/pool_patch_upload": 501, "/bundle": 501, "/pool/xmldbdump": 200}}
        session = {"Cookie": f"session_id={API.session}"}
        seen, bad = {}, []
        for method, paths in doors.items():
            for path, expected in paths.items():
                body = b"" if method == "PUT" else None
                stranger = POOL.http(method, path, body)[0]
                known = POOL.http(method, path, body, session)[0]
                trailing = POOL.http(method, path + "/", body, session)[0]
                seen[method, path] = (stranger, known)
                if stranger not in (401, anonymous.get(path)) or known != expected or trailing != expected:
                    bad.append((method, path, stranger, known, trailing, expected))
        self.assertEqual(bad, [])
        for method, path in seen:
            other = "PUT" if method == "GET" else "GET"
            if (other, path) not in seen and path != "/rrd":
                self.assertEqual(POOL.http(other, path, b"" if other == "PUT" else None, session)[0], 403 if other == "PUT" else 404, path)
            self.assertEqual(POOL.http("DELETE", path, None, session)[0], 501, path)

    def test_logs_of_hosts(self):
        status, headers, body = POOL.http("GET", "/host_logs_download", None, {"Cookie": f"session_id={API.session}"})
        self.assertEqual((status, headers["Content-Type"]), (200, "application/x-tar"))
        with tarfile.open(fileobj=io.BytesIO(body)) as bundle:
            for member in bundle.getnames():
                self.assertRegex(member, r"^[^/]+/hosts/[0-9a-f-]{36}/(agent|kernel)\.log$")

    def test_many_idle_connections(self):
        """They cost memory, not service: others are answered, and no descriptor stays."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limit[1]), limit[1]))
        count = min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
        before = self.descriptors()
        idle = []
        try:
            for i in range(count):
                idle.append(socket.create_connection(("127.0.0.1", POOL.http_port), timeout=60))
                if i % 2:
                    idle[-1].sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            for _ in range(20):
                self.assertEqual(len(API.pool.get_all()), 1)
                self.assertEqual(POOL.http("GET", "/index.html")[0], 200)
        finally:
            for one in idle:
                one.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        until("all are closed", lambda: self.descriptors() < before + 100, 90)

    @staticmethod
    def descriptors():
        return len(os.listdir(f"/proc/{POOL.poold.pid}/fd"))

    def test_the_database_as_xml(self):
        network = API.network.create({"name_label": "a<&\"b", "name_description": "", "MTU": 1500, "other_config": {"k": "v"},
                                      "tags": ["one", "two"]})
        status, headers, body = POOL.http("GET", "/pool/xmldbdump", None, {"Cookie": f"session_id={API.session}"})
        self.assertEqual((status, headers["Content-Type"]), (200, "text/xml"))
        tables = {t.get("name"): t for t in xml.etree.ElementTree.fromstring(body).findall("table")}
        row = [r for r in tables["network"] if r.get("ref") == network][0]
        self.assertEqual((row.get("name__label"), row.get("MTU"), row.get("other_config"), row.get("tags")),
                         ("a<&\"b", "1500", "(('k' 'v'))", "('one' 'two')"))
        self.assertNotIn("session", tables)
        self.assertNotIn(API.session.encode(), body)
        self.assertEqual(len(tables["pool"]), 1)
        API.network.destroy(network)


class Joining(unittest.TestCase):
    def test_a_token_is_good_once(self):
        from pool import Daemon, program
        with TestPool() as pool:
            token_file = os.path.join(pool.folder, "token")
            with open(token_file, "w", encoding="ascii") as file:
                file.write(pool.join_token())

            def hostd(name):
                folder = os.path.join(pool.folder, name)
                os.mkdir(folder)
                daemon = Daemon(name, folder, [program("hostd"), "--state", folder, "--driver", "sim", "--join",
                                               f"https://127.0.0.1:{pool.port}", "--token-file", token_file])
                pool.hosts.append(daemon)
                return daemon
            hostd("first").start("hostd.port")
            second = hostd("second")
            with self.assertRaises(AssertionError) as caught:
                second.start("hostd.port")
            self.assertIn("token", str(caught.exception))
            pool.hosts.remove(second)
            # The CA's fingerprint in the token is not this server's: the host turns away before it says anything.
            with open(token_file, "w", encoding="ascii") as file:
                file.write(pool.join_token()[:-64] + "0" * 64)
            third = hostd("third")
            with self.assertRaises(AssertionError):
                third.start("hostd.port")
            pool.hosts.remove(third)
            self.assertEqual(len(pool.login().host.get_all()), 1)

    def test_two_at_once_take_one_token(self):
        """A token is taken before anything is made from it."""
        with TestPool() as pool:
            token = pool.join_token()
            csr = certificate_request(pool.folder)
            body = json.dumps({"token": token, "csr": csr, "address": "127.0.0.1", "port": 9, "facts": join_facts()}).encode()
            statuses = []
            threads = [threading.Thread(target=lambda: statuses.append(pool.http("POST", "/api/v1/hosts/join", body)[0]))
                       for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(sorted(statuses), [200] + [403] * 7)
            self.assertEqual(len(pool.login().host.get_all()), 1)


class Secrets(unittest.TestCase):
    """Canaries that must be nowhere in the log."""

    def test_log(self):
        canaries = ["canary-wrong-password", "canary-secret-value"]
        login = threading.Thread(target=POOL.rpc, args=({"method": "session.login_with_password",
                                                         "params": ["root", canaries[0]], "id": 1},))
        login.start()
        try:
            API.call("secret.create", API.session, {"value": canaries[1], "other_config": {}})
        except Failure:
            pass
        for body in (b'{"method":"session.login_with_password","params":["root","canary-', json.dumps(
                {"method": "session.login_with_password", "params": ["root", {"a": canaries[0]}], "id": 1}).encode()):
            POOL.rpc(body)
        POOL.http("GET", f"/console?session_id={API.session}")
        login.join()
        token = POOL.join_token()
        log = POOL.poold.log()
        for canary in [*canaries, "canary-", POOL.password, API.session, token, token.split(".")[0]]:
            self.assertNotIn(canary, log)

    def test_command_line_and_environment(self):
        for name in ("cmdline", "environ"):
            with open(f"/proc/{POOL.poold.pid}/{name}", "rb") as file:
                self.assertNotIn(POOL.password.encode(), file.read())

    def test_the_database_keeps_no_session(self):
        """A copy of the file lets nobody in."""
        for name in os.listdir(POOL.state):
            if name.startswith("pool.db"):
                with open(os.path.join(POOL.state, name), "rb") as file:
                    data = file.read()
                self.assertNotIn(POOL.password.encode(), data)
                self.assertNotIn(API.session.removeprefix("OpaqueRef:").encode(), data)
                self.assertNotIn(bytes.fromhex(API.session.removeprefix("OpaqueRef:").replace("-", "")), data)


def join_facts():
    """What a host says of itself: every field that the agent's description asks for."""
    import tomllib
    from pool import ROOT
    with open(os.path.join(ROOT, "openapi", "agent", "host.toml"), "rb") as file:
        structs = tomllib.load(file)["struct"]
    fields = next(s["fields"] for s in structs if s["name"] == "host_facts")
    plain = {"string": "x", "int": 1, "float": 1.0, "bool": False, "accelerator": "sim"}
    return {f["name"]: plain.get(f["type"], []) for f in fields if "default" not in f}


def certificate_request(folder):
    import subprocess
    run = subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                          os.path.join(folder, "k"), "-subj", "/CN=x"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         text=True, check=True)
    return run.stdout


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def own_address():
    """An address of this machine that is not a loopback one; None when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
            address = sock.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") else address


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
