"""xe against a fake server: certificates, passwords, sessions, transfers, interrupts, the console.

usage: test_transport.py XE"""

import io
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import termios
import threading
import time
import unittest
from pathlib import Path

from fake_server import PASSWORD, FakeServer, WebServer, free_port, make_ca, make_server_cert

XE = sys.argv.pop(1)
VDI = "00000041-0000-4000-8000-000000000000"


def has(text, *parts):
    return all(p in text for p in parts)


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = Path(tempfile.mkdtemp(prefix="xe-transport-"))
        cls.ca, cls.other_ca = make_ca(cls.shared, "ca"), make_ca(cls.shared, "other")
        cls.cert = make_server_cert(cls.shared, "server", cls.ca)
        cls.new_cert = make_server_cert(cls.shared, "anew", cls.ca)
        cls.odd_cert = make_server_cert(cls.shared, "odd", cls.ca, "DNS:elsewhere.example")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared)

    def setUp(self):
        self.home = Path(tempfile.mkdtemp(prefix="xe-home-"))
        self.addCleanup(shutil.rmtree, self.home)
        self.password = self.home / "password"
        self.password.write_text(PASSWORD + "\n")

    def serve(self, cert=None, port=0):
        server = FakeServer(cert, port)
        self.addCleanup(server.close)
        return server

    def env(self):
        keep = {k: v for k, v in os.environ.items() if not k.startswith("XE_") and k != "XDG_CONFIG_HOME"}
        return dict(keep, HOME=str(self.home))

    def words(self, server, *args):
        return [XE, "-s", "127.0.0.1", "-p", str(server.port), "-u", "root", "-pwf", str(self.password), *args]

    def xe(self, server, *args, **kw):
        return subprocess.run(self.words(server, *args), env=self.env(), capture_output=True, text=True, timeout=60, **kw)

    def until(self, happened, seconds=60):
        end = time.monotonic() + seconds
        while not happened():
            self.assertLess(time.monotonic(), end, "it did not happen")
            time.sleep(0.01)

    def start(self, server, *args, **kw):
        p = subprocess.Popen(self.words(server, *args), env=self.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, **kw)  # fmt: skip
        self.addCleanup(lambda: p.poll() is None and p.kill())
        return p


class Trust(Base):
    def test_the_pools_ca(self):
        server = self.serve(self.cert)
        r = self.xe(server, "--ca", str(self.ca[0]), "vm-list", "--minimal", "params=name-label", "power-state=running")
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, "web\\, two \\\\ 2,Control domain on node1\n", ""))
        self.assertEqual(server.calls, ["session.login_with_password", "VM.get_all_records", "session.logout"])
        self.assertFalse((self.home / ".config").exists())

    def test_another_ca_is_refused_before_anything_is_sent(self):
        server = self.serve(self.cert)
        r = self.xe(server, "--ca", str(self.other_ca[0]), "vm-list")
        self.assertEqual((r.returncode, r.stdout, server.calls), (3, "", []))
        self.assertIn("is not accepted", r.stderr)

    def test_a_ca_file_without_a_certificate_is_named(self):
        server = self.serve(self.cert)
        r = self.xe(server, "--ca", "/etc/hostname", "vm-list")
        self.assertEqual((r.returncode, r.stdout, server.calls), (3, "", []))
        self.assertEqual(r.stderr, "xe: /etc/hostname, named by --ca or XE_CA, has no certificate in PEM form\n")

    def test_a_certificate_of_another_name_is_refused(self):
        server = self.serve(self.odd_cert)
        r = self.xe(server, "--ca", str(self.ca[0]), "vm-list")
        self.assertEqual((r.returncode, server.calls), (3, []))

    def test_first_use_then_change(self):
        server = self.serve(self.cert)
        r = self.xe(server, "vm-list", "--minimal")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertTrue(has(r.stderr, "first contact", "sha256 fingerprint", "known_hosts"), r.stderr)
        known = self.home / ".config/corral/known_hosts"
        self.assertEqual(known.stat().st_mode & 0o777, 0o600)
        self.assertIn(f"127.0.0.1 {server.port} ", known.read_text())
        r = self.xe(server, "vm-list", "--minimal")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        server.close()
        impostor = FakeServer(self.new_cert, server.port)
        try:
            r = self.xe(impostor, "vm-list")
            self.assertEqual((r.returncode, r.stdout, impostor.calls), (3, "", []))
            self.assertTrue(has(r.stderr, "another certificate", "kept:", "shown:", str(known)), r.stderr)
        finally:
            impostor.close()
            server.close = lambda: None

    def test_plain_http_on_loopback_only(self):
        server = self.serve()
        self.assertEqual(self.xe(server, "--nossl", "host-list", "--minimal").returncode, 0)
        r = subprocess.run([XE, "-s", "192.0.2.1", "--nossl", "host-list"], env=self.env(), capture_output=True, text=True)
        self.assertEqual(r.returncode, 1)
        self.assertIn("loopback", r.stderr)

    def test_no_server(self):
        server = self.serve(self.cert)
        server.port = free_port()
        r = self.xe(server, "--ca", str(self.ca[0]), "vm-list")
        self.assertEqual(r.returncode, 3)
        self.assertIn("cannot connect to 127.0.0.1", r.stderr)


class Session(Base):
    def test_wrong_password(self):
        server = self.serve()
        self.password.write_text("wrong")
        r = self.xe(server, "--nossl", "vm-list")
        self.assertEqual((r.returncode, r.stdout), (1, ""))
        self.assertEqual(r.stderr, "Authentication failed\nFor usage run: 'xe help'\n")

    def test_no_password_and_nobody_to_ask(self):
        server = self.serve()
        words = [w for w in self.words(server, "--nossl", "vm-list") if w not in ("-pwf", str(self.password))]
        r = subprocess.run(words, env=self.env(), capture_output=True, text=True, stdin=subprocess.DEVNULL)
        self.assertEqual((r.returncode, server.calls), (1, []))
        self.assertIn("no password", r.stderr)

    def test_the_session_ends_also_after_an_error(self):
        server = self.serve()
        server.failures["VM.get_all_records"] = ["INTERNAL_ERROR", "boom"]
        r = self.xe(server, "--nossl", "vm-list")
        self.assertEqual(r.returncode, 1)
        self.assertIn("INTERNAL_ERROR", r.stderr)
        self.assertEqual(server.calls[-1], "session.logout")

    def test_debug_tells_no_secret(self):
        server = self.serve()
        r = self.xe(server, "--nossl", "--debug", "vm-list", "--minimal")
        self.assertEqual(r.returncode, 0)
        self.assertIn("VM.get_all_records: status 200", r.stderr)
        for secret in (PASSWORD, "session-secret"):
            self.assertNotIn(secret, r.stderr + r.stdout)

    def test_the_password_is_not_in_the_process_list(self):
        server = self.serve()
        words = [XE, "-s", "127.0.0.1", "-p", str(server.port), "-u", "root", "-pw", PASSWORD, "--nossl", "event-wait",
                 "class=vm", "name-label=none"]  # fmt: skip
        p = subprocess.Popen(words, env=self.env(), stderr=subprocess.PIPE)
        try:
            server.wait_for("event.from")
            self.assertNotIn(PASSWORD.encode(), Path(f"/proc/{p.pid}/cmdline").read_bytes())
        finally:
            p.send_signal(signal.SIGINT)
            self.assertEqual(p.wait(20), 130)
            p.stderr.close()

    def test_garbage_is_not_taken_for_an_answer(self):
        server = self.serve()
        for status, body in ((500, b"oops"), (200, b"not json"), (200, b'{"jsonrpc":"2.0","id":1}'), (200, b"[" * 100000)):
            server.raw_answer = (status, body)
            r = self.xe(server, "--nossl", "vm-list")
            self.assertEqual((r.returncode, r.stdout), (3, ""), body[:20])
            self.assertIn("did not answer session.login_with_password as a XenAPI server does", r.stderr)

    def test_a_server_that_goes_away_in_the_middle(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def serve():
                while True:
                    try:
                        connection, _ = listener.accept()
                    except OSError:
                        return
                    with connection:
                        connection.recv(4096)
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            threading.Thread(target=serve, daemon=True).start()
            port = listener.getsockname()[1]
            r = subprocess.run([XE, "-s", "127.0.0.1", "-p", str(port), "-u", "root", "-pw", PASSWORD, "--nossl", "vm-list"], text=True,
                               env=self.env(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60)  # fmt: skip
            listener.shutdown(socket.SHUT_RDWR)
        self.assertEqual((r.returncode, r.stdout), (3, ""))
        self.assertRegex(r.stderr, rf"^xe: 127.0.0.1 port {port}: [^\n]+\n$")

    def test_a_session_that_ended_meanwhile(self):
        server = self.serve()
        server.failures["VM.get_all_records"] = ["SESSION_INVALID", "OpaqueRef:session-secret"]
        r = self.xe(server, "--nossl", "vm-list")
        self.assertEqual((r.returncode, r.stdout), (1, ""))
        self.assertRegex(r.stderr, r"\A[^\n]+ \(SESSION_INVALID\)\n")

    def test_refusals_of_rest(self):
        """A problem with a code is the API's error, as of any call; others are told in their words."""
        server = self.serve()
        for status, problem, said in (
                (403, {"code": "RBAC_PERMISSION_DENIED", "params": ["pool.x", "no"], "title": "t", "detail": "d"}, r"\A[^\n]+ \(RBAC_PERMISSION_DENIED\)\n.*pool\.x"),
                (401, {"code": "SESSION_INVALID", "params": ["r"]}, r"\A[^\n]+ \(SESSION_INVALID\)\n"),
                (429, {"title": "Too Many Requests", "detail": "Later."}, r"\AError: the server refused /api/v1/join-tokens with HTTP status 429: Later\.\n\Z"),
                (503, {"title": "Busy"}, r"\AError: [^\n]+ 503: Busy\n\Z"), (500, [], r"\AError: [^\n]+ 500\n\Z")):
            server.problem = (status, problem)
            r = self.xe(server, "--nossl", "host-join-token")
            self.assertEqual((r.returncode, r.stdout), (1, ""))
            self.assertRegex(r.stderr, "(?s)" + said)

    def test_a_session_of_the_server_alone(self):
        """What works without a coordinator logs in without one."""
        server = self.serve()
        r = self.xe(server, "--nossl", "host-is-in-emergency-mode")
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, "false\n", ""))
        self.assertEqual(server.calls, ["session.slave_local_login_with_password", "host.is_in_emergency_mode", "session.local_logout"])

    def test_join_token(self):
        server = self.serve()
        r = self.xe(server, "--nossl", "host-join-token")
        self.assertEqual((r.returncode, r.stdout), (0, "t.f\n"))
        self.assertIn("join-tokens Bearer OpaqueRef:session-secret", server.calls)

    def test_control_characters_do_not_reach_a_terminal(self):
        server = self.serve()
        server.tables["VM"] = {"OpaqueRef:x": {"uuid": "u", "name_label": "a\x1b]0;b\x07\x9b2Jc\r\n", "is_a_template": False}}
        self.assertEqual(self.xe(server, "--nossl", "vm-list", "--minimal", "params=name-label").stdout, "a\x1b]0;b\x07\x9b2Jc\n\n")
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        r = subprocess.run(self.words(server, "--nossl", "vm-list", "--minimal", "params=name-label"), env=self.env(), stdout=slave)
        os.close(slave)
        self.assertEqual((r.returncode, os.read(master, 999)), (0, rb"a\x1b]0;b\x07\xc2\x9b2Jc\x0d" + b"\r\n\r\n"))

    def test_a_reader_that_has_seen_enough(self):
        server = self.serve()
        reader, writer = os.pipe()
        os.close(reader)
        r = subprocess.run(self.words(server, "--nossl", "vm-list"), env=self.env(), stdout=writer, stderr=subprocess.PIPE, timeout=60)
        os.close(writer)
        self.assertEqual((r.returncode, r.stderr), (1, b""), "head has what it wanted")
        self.assertEqual(server.calls[-1], "session.logout")

    def many(self, server):
        server.tables["VM"] = {f"OpaqueRef:{i}": {"uuid": f"uuid-{i}", "name_label": "x" * 2000, "is_a_template": False} for i in range(150)}
        return ("--nossl", "vm-list", "params=uuid,name-label")

    def test_a_terminal_that_takes_no_more(self):
        """Stopped by Ctrl-S, or its window gone to sleep: Ctrl-C still ends xe, and the session with it."""
        server = self.serve()
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        p = subprocess.Popen(self.words(server, *self.many(server)), env=self.env(), stdout=slave, stderr=subprocess.PIPE)
        self.addCleanup(lambda: p.poll() is None and p.kill())
        os.close(slave)
        self.assertTrue(select.select([master], [], [], 60)[0], "it prints")
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=60)
        self.assertEqual((p.returncode, server.calls[-1]), (130, "session.logout"))

    def test_a_slow_reader_of_a_pipe_that_does_not_block(self):
        server = self.serve()
        words = self.words(server, *self.many(server))
        whole = subprocess.run(words, env=self.env(), capture_output=True, timeout=60).stdout
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        p = subprocess.Popen(words, env=self.env(), stdout=writer)
        os.close(writer)
        got = b""
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while piece := pipe.read(1 << 20 if got else 1):
                got += piece
        self.assertEqual((p.wait(60), len(whole) > 250_000, got == whole), (0, True, True))

    def test_a_full_disk_behind_stdout_is_an_error(self):
        server = self.serve()
        with open("/dev/full", "w") as full:
            r = subprocess.run(self.words(server, "--nossl", "vm-list"), env=self.env(), stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(r.returncode, 1)


class Transfers(Base):
    def test_upload(self):
        server = self.serve(self.cert)
        image = self.home / "disk.raw"
        image.write_bytes(os.urandom(3 << 20))
        r = self.xe(server, "--ca", str(self.ca[0]), "vdi-import", f"uuid={VDI}", f"filename={image}")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertEqual(server.uploaded, image.read_bytes())
        self.assertEqual(server.cookies, ["session_id=OpaqueRef:session-secret"])
        self.assertIn("task.destroy", server.calls)

    def test_upload_of_nothing(self):
        server = self.serve()
        r = self.xe(server, "--nossl", "vdi-import", f"uuid={VDI}", f"filename={self.home / 'none'}")
        self.assertEqual(r.returncode, 1)
        self.assertIn("No such file", r.stderr)
        self.assertEqual([c for c in server.calls if c == "PUT"], [])

    def test_download(self):
        server = self.serve()
        server.download = os.urandom(1 << 20)
        image = self.home / "out.raw"
        r = self.xe(server, "--nossl", "vdi-export", f"uuid={VDI}", f"filename={image}")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertEqual(image.read_bytes(), server.download)
        r = self.xe(server, "--nossl", "vdi-export", f"uuid={VDI}", f"filename={image}")
        self.assertEqual(r.returncode, 1)
        self.assertIn("exists already", r.stderr)
        self.assertEqual(list(self.home.glob("*.partial")), [])

    def test_a_download_goes_on(self):
        """However it ended: killed, interrupted, or its server gone; never with parts of another content."""
        server, image = self.serve(), self.home / "out.raw"
        partial, note = self.home / "out.raw.partial", self.home / "out.raw.partial.of"
        server.download = os.urandom(1 << 20)
        command = ("--nossl", "vdi-export", f"uuid={VDI}", f"filename={image}")
        for end, code, said in ((signal.SIGKILL, -9, ""), (signal.SIGINT, 130, "Interrupted: the same command goes on.\n")):
            server.hold_at = (partial.stat().st_size if partial.exists() else 0) + 100_000
            p = self.start(server, *command, "--resume")
            self.until(lambda: partial.exists() and partial.stat().st_size == server.hold_at)
            other = self.xe(server, *command, "--resume")
            self.assertEqual((other.returncode, other.stderr), (1, f"Error: another xe writes {partial}\n"))
            p.send_signal(end)
            self.assertEqual(p.communicate(timeout=60)[1].decode(), said)
            self.assertEqual((p.returncode, partial.read_bytes()), (code, server.download[:server.hold_at]))
        server.hold_at, server.etag = None, '"2"'
        r = self.xe(server, *command, "--resume")
        self.assertEqual((r.returncode, has(r.stderr, "has changed", "resume=anew")), (1, True), r.stderr)
        self.assertEqual(partial.stat().st_size, 200_000)
        server.etag = '"1"'
        r = self.xe(server, *command, "--resume")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertEqual(image.read_bytes(), server.download)
        self.assertEqual(server.ranges, [("bytes=0-", None), ("bytes=100000-", '"1"'), ("bytes=200000-", '"1"'), ("bytes=200000-", '"1"')])
        self.assertEqual((partial.exists(), note.exists()), (False, False))
        # All has come, but not its end; then what is no part of this disk.
        for there, how, asked in (((server.download, True), "resume=true", f"bytes={1 << 20}-"), ((b"of another", False), "resume=true", "bytes=0-"),
                                  ((b"x", True), "resume=anew", "bytes=0-")):
            image.unlink()
            partial.write_bytes(there[0])
            note.write_text(f"/api/v1/vdis/{VDI if there[1] else 'other'}/content\n\"1\"\n")
            r = self.xe(server, *command, how)
            self.assertEqual((r.returncode, r.stderr, server.ranges[-1][0]), (0, "", asked))
            self.assertEqual((image.read_bytes() == server.download, partial.exists(), note.exists()), (True, False, False))
        self.assertEqual(self.xe(server, *command, "--resume").stderr, f"Error: {image} exists already\n")
        for words in (["format=vhd", "--resume"], ["base=" + VDI, "--resume"], ["resume=perhaps"]):
            self.assertEqual(self.xe(server, *command[:-1], f"filename={self.home}/new", *words).returncode, 1, words)
        self.assertEqual(self.xe(server, *command[:-1], "filename=-", "--resume").returncode, 1)

    def test_an_ova_at_an_address(self):
        """Fetched by xe; what would be made of it is all that is asked for here."""
        ovf = (Path(__file__).parent / "fuzz/corpus/ovf/vmware.ovf").read_bytes()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            info = tarfile.TarInfo("web.ovf")
            info.size = len(ovf)
            tar.addfile(info, io.BytesIO(ovf))
        file = self.home / "web.ova"
        file.write_bytes(packed.getvalue())
        server = self.serve()
        told = self.xe(server, "--nossl", "vm-import", f"filename={file}", "dry-run=true")
        self.assertEqual((told.returncode, "web & more" in told.stdout), (0, True), told.stderr)
        plain, safe = WebServer(), WebServer(self.cert)
        for web in (plain, safe):
            self.addCleanup(web.close)
            web.answers = {"/web.ova?v=1": (200, packed.getvalue()), "/away.OVA": (302, "/web.ova?v=1"), "/loop.ova": (307, "/loop.ova"),
                           "/up.ova": (301, safe.at("/web.ova?v=1")), "/down.ova": (301, plain.at("/web.ova?v=1")), "/text.ova": (200, b"no archive")}
        env = dict(self.env(), SSL_CERT_FILE=str(self.ca[0]), TMPDIR=str(self.home))
        refused = "Error: "
        for url, said in ((plain.at("/web.ova?v=1"), ""), (plain.at("/away.OVA#x"), ""), (plain.at("/up.ova"), ""), (safe.at("/away.OVA"), ""),
                          (plain.at("/loop.ova"), "leads on and on"), (safe.at("/down.ova"), "where xe does not go"), (plain.at("/none.ova"), "HTTP status 404"),
                          (plain.at("/text.ova"), "is no OVA archive"), (f"http://127.0.0.1:{free_port()}/x.ova", "127.0.0.1"),
                          ("http://a:b@localhost/x.ova", "without a user"), ("ftp://localhost/x.ova", "begins with http")):
            with self.subTest(url=url):
                r = subprocess.run(self.words(server, "--nossl", "vm-import", f"url={url}", "dry-run=true"), env=env, capture_output=True, text=True, timeout=60)
                if said:
                    self.assertEqual((r.returncode, r.stdout, has(r.stderr, refused, said)), (1, "", True), r.stderr)
                else:
                    self.assertEqual((r.returncode, r.stdout, r.stderr), (0, told.stdout, told.stderr))
        self.assertEqual(list(self.home.glob("xe-image*")), [])

    def test_ctrl_c_cancels_the_task(self):
        server = self.serve()
        server.hold_uploads = True
        image = self.home / "disk.raw"
        with open(image, "wb") as f:
            f.truncate(1 << 30)
        p = self.start(server, "--nossl", "vdi-import", f"uuid={VDI}", f"filename={image}")
        server.wait_for("PUT")
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=30)
        self.assertEqual((p.returncode, out), (130, b""))
        self.assertEqual(err, b"Cancelled.\n")
        self.assertIn("task.cancel", server.calls)
        self.assertIn("task.destroy", server.calls)
        self.assertEqual(server.calls[-1], "session.logout")


class Console(Base):
    VM = "vm=00000062-0000-4000-8000-000000000000"

    def terminal(self, server):
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        before = termios.tcgetattr(slave)
        p = subprocess.Popen(self.words(server, "--nossl", "console", self.VM), env=self.env(), stdin=slave, stdout=slave,
                             stderr=subprocess.PIPE)  # fmt: skip
        self.addCleanup(p.stderr.close)
        self.addCleanup(lambda: p.poll() is None and p.kill())
        self.addCleanup(os.close, slave)
        return p, master, slave, before

    def read_until(self, master, wanted, seconds=20):
        got, end = b"", time.monotonic() + seconds
        while wanted not in got:
            left = end - time.monotonic()
            self.assertGreater(left, 0, got)
            if select.select([master], [], [], left)[0]:
                got += os.read(master, 4096)
        return got

    def test_typing_and_leaving(self):
        server = self.serve()
        p, master, slave, before = self.terminal(server)
        self.read_until(master, b"login: ")
        server.wait_for("pong")
        os.write(master, b"root\x03")
        self.read_until(master, b"<root\x03>")
        os.write(master, b"\x1d")
        self.assertEqual(p.wait(20), 0)
        self.assertEqual(termios.tcgetattr(slave), before)
        server.wait_for("close")
        err = p.stderr.read()
        self.assertTrue(has(err, b"press Ctrl-] to leave", b"Left the console."), err)
        self.assertEqual(server.cookies, ["session_id=OpaqueRef:session-secret"])
        self.assertIn("console /console?uuid=00000082-0000-4000-8000-000000000000", server.calls)

    def test_the_server_closes(self):
        server = self.serve()
        p, master, slave, before = self.terminal(server)
        self.read_until(master, b"login: ")
        os.write(master, b"q")
        self.assertEqual(p.wait(20), 0)
        self.assertEqual(termios.tcgetattr(slave), before)
        self.assertIn(b"closed by the server", p.stderr.read())

    def test_a_signal_restores_the_terminal(self):
        server = self.serve()
        p, master, slave, before = self.terminal(server)
        self.read_until(master, b"login: ")
        p.send_signal(signal.SIGTERM)
        self.assertEqual(p.wait(20), -signal.SIGTERM)
        self.assertEqual(termios.tcgetattr(slave), before)

    def test_a_pipe_ends_when_the_output_is_still(self):
        server = self.serve()
        r = self.xe(server, "--nossl", "console", self.VM, input="root\n")
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, "login: <root\n>", ""))


class Screen(Base):
    """xe vnc: a viewer at a local socket or port. The fake server echoes what it gets, as for a console."""

    VM = Console.VM

    def viewer(self, *words):
        server = self.serve()
        p = subprocess.Popen(self.words(server, "--nossl", "vnc", self.VM, *words), env=self.env(), stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stderr.close)
        self.addCleanup(lambda: p.poll() is None and p.kill())
        return server, p, p.stdout.readline().strip()

    def speak(self, connection):
        connection.settimeout(20)
        got = b""
        while b"login: " not in got:
            got += connection.recv(99)
        connection.sendall(b"root")
        while b"<root>" not in got:
            got += connection.recv(99)

    def test_a_socket_for_one_viewer_after_the_other(self):
        path = self.home / "screen.sock"
        server, p, told = self.viewer(f"listen={path}")
        self.assertEqual(told, str(path))
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(told)
                self.speak(connection)
        self.assertIn("console /console?uuid=00000081-0000-4000-8000-000000000000", server.calls)
        p.send_signal(signal.SIGINT)
        self.assertEqual((p.wait(20), p.stderr.read()), (0, ""))
        self.assertFalse(path.exists())

    def test_a_port_for_one_viewer_alone(self):
        _, p, told = self.viewer("once=true")
        host, port = told.split(":")
        self.assertEqual(host, "127.0.0.1")
        with socket.create_connection((host, int(port))) as connection:
            self.speak(connection)
        self.assertEqual((p.wait(20), p.stderr.read()), (0, ""))

    def test_no_such_place(self):
        for where in ("here", "70000", "-1", "/proc/nowhere/x"):
            r = self.xe(self.serve(), "--nossl", "vnc", self.VM, f"listen={where}")
            self.assertEqual((r.returncode, r.stdout), (1, ""), where)


if __name__ == "__main__":
    unittest.main()
