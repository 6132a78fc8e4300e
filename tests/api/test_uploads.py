"""Disks over REST: parts of them by Range, and uploads in parts by tus 1.0 that go on where they broke, whoever died."""
import base64
import hashlib
import os
import socket
import subprocess
import unittest

from pool import Failure, module_pool, program, until
from test_rest import API, NO_SUCH, Rest
from test_transfer import pattern
from test_vm import simulated

MIB = 1 << 20
BYTES = "application/offset+octet-stream"
POOL = None


def setUpModule():
    global POOL
    POOL = module_pool(hosts=1)


def sha256(data):
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


class UploadTest(unittest.TestCase):
    def setUp(self):
        self.log_in()
        self.path = os.path.join(POOL.folder, self.id().rpartition(".")[2])
        self.sr = self.api.SR.create(self.api.host.get_all()[0], {"location": self.path}, 0, self.id(), "", "file", "", False, {})
        self.vdi, self.uuid = self.make_vdi()

    def make_vdi(self, size=4 * MIB):
        vdi = self.api.VDI.create({"SR": self.sr, "virtual_size": size, "type": "user", "sharable": False, "read_only": False, "other_config": {}})
        return vdi, self.api.VDI.get_uuid(vdi)

    def log_in(self):
        self.api = POOL.login()
        self.rest = Rest(POOL, self.api.session)

    def raw(self, method, path, body=None, headers=None):
        status, head, answer = POOL.http(method, API + path, body, {**self.rest.headers, **(headers or {})})
        return status, {k.lower(): v for k, v in head.items()}, answer

    def content(self):
        status, _, body = self.raw("GET", f"/vdis/{self.uuid}/content")
        self.assertEqual(status, 200, body[:500])
        return body

    def make(self, length, query="", **headers):
        status, head, answer = self.raw("POST", f"/vdis/{self.uuid}/uploads{query}",
                                        headers={"Tus-Resumable": "1.0.0", "Upload-Length": str(length), **headers})
        self.assertEqual(status, 201, answer)
        self.assertTrue(head["location"].startswith(f"{API}/vdis/{self.uuid}/uploads/"), head)
        self.assertEqual(head["tus-resumable"], "1.0.0")
        self.assertTrue(head["upload-expires"].endswith("GMT"), head)
        return head["location"].removeprefix(API)

    def patch(self, at, offset, data, **headers):
        return self.raw("PATCH", at, data, {"Tus-Resumable": "1.0.0", "Upload-Offset": str(offset), "Content-Type": BYTES, **headers})

    def offset(self, at):
        status, head, body = self.raw("HEAD", at, headers={"Tus-Resumable": "1.0.0"})
        self.assertEqual((status, body), (200, b""))
        self.assertEqual(head["cache-control"], "no-store")
        return int(head["upload-offset"])

    def begin(self, at, offset, length, data):
        """Sends less than it says, and leaves the connection open."""
        sock = POOL.connect()
        self.addCleanup(sock.close)
        sock.sendall((f"PATCH {API}{at} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.api.session}\r\nTus-Resumable: 1.0.0\r\n"
                      f"Upload-Offset: {offset}\r\nContent-Type: {BYTES}\r\nContent-Length: {length}\r\n\r\n").encode() + data)
        return sock

    def marked(self):
        return self.api.VDI.get_current_operations(self.vdi) != {}


class Downloads(UploadTest):
    def test_parts(self):
        size = 2 * MIB
        self.vdi, self.uuid = self.make_vdi(size)
        data = pattern(size, b"parts")
        at = self.make(size)
        self.assertEqual(self.patch(at, 0, data)[0], 204)
        path = f"/vdis/{self.uuid}/content"
        status, head, body = self.raw("GET", path)
        self.assertEqual((status, body == data, head["accept-ranges"], head["content-type"]), (200, True, "bytes", "application/octet-stream"))
        etag = head["etag"]
        rows = (("bytes=0-0", 0, 1), ("bytes=0-99", 0, 100), (f"bytes={MIB}-", MIB, MIB), ("bytes=-512", size - 512, 512),
                (f"bytes=1000-{10 * MIB}", 1000, size - 1000), (f"bytes=0-{size - 1}", 0, size), (f"bytes=-{10 * MIB}", 0, size))
        for text, first, count in rows:
            for method in ("GET", "HEAD"):
                with self.subTest(range=text, method=method):
                    status, head, body = self.raw(method, path, headers={"Range": text})
                    self.assertEqual(status, 206)
                    self.assertEqual(head["content-range"], f"bytes {first}-{first + count - 1}/{size}")
                    self.assertEqual((head["content-length"], head["etag"]), (str(count), etag))
                    self.assertEqual(body, data[first:first + count] if method == "GET" else b"")
        for text in (f"bytes={size}-", "bytes=-0"):
            for method in ("GET", "HEAD"):
                status, head, _ = self.raw(method, path, headers={"Range": text})
                self.assertEqual((status, head.get("content-range")), (416, f"bytes */{size}"), (text, method))
        for headers in ({"Range": "lines=1-2"}, {"Range": "bytes=0-1,4-5"}, {"Range": "bytes=0-1", "If-Range": '"another"'}):
            status, head, body = self.raw("GET", path, headers=headers)
            self.assertEqual((status, len(body), "content-range" in head), (200, size, False), headers)
        self.assertEqual(self.raw("GET", path, headers={"Range": "bytes=0-1", "If-Range": etag})[0], 206)
        # Another content is another version, also after a restart; the same content is not.
        self.assertEqual(self.raw("HEAD", path)[1]["etag"], etag)
        at = self.make(1)
        self.assertEqual(self.patch(at, 0, b"!")[0], 204)
        status, head, body = self.raw("GET", path, headers={"Range": "bytes=0-3", "If-Range": etag})
        self.assertEqual((status, body[:2]), (200, b"!\0"))
        self.assertNotEqual(head["etag"], etag)
        self.assertEqual(self.api.VDI.get_current_operations(self.vdi), {})

    def test_refused(self):
        for path, status, code in ((f"/vdis/{NO_SUCH}/content", 404, "HANDLE_INVALID"),
                                   (f"/vdis/{self.uuid}/content?format=tar", 422, "VALUE_NOT_SUPPORTED")):
            got, _, answer = self.rest.request("GET", path)
            self.assertEqual((got, answer["code"]), (status, code))
        self.assertEqual(self.raw("PUT", f"/vdis/{self.uuid}/content", b"x")[0], 405)
        self.assertEqual(POOL.http("GET", f"{API}/vdis/{self.uuid}/content")[0], 401)


class Uploads(UploadTest):
    def test_in_parts(self):
        length = 3 * MIB + 100
        data = pattern(length, b"tus")
        digest = f"sha-256=:{sha256(data)}:"
        at = self.make(length, **{"Upload-Metadata": "filename ZGlzay5yYXc=", "Repr-Digest": digest})
        self.assertEqual(self.offset(at), 0)
        status, head, _ = self.patch(at, 0, data[:MIB])
        self.assertEqual((status, head["upload-offset"], head["tus-resumable"]), (204, str(MIB), "1.0.0"))
        status, head, _ = self.raw("HEAD", at)
        self.assertEqual((head["upload-offset"], head["upload-length"], head["upload-metadata"]), (str(MIB), str(length), "filename ZGlzay5yYXc="))
        [item] = self.rest.get(f"/vdis/{self.uuid}/uploads")["items"]
        self.assertEqual((item["location"], item["offset"], item["length"], item["finished"]), (API + at, MIB, length, False))
        # Bytes in the wrong place, with a wrong digest, or too many.
        for offset, body, headers, status in ((0, b"x", {}, 409), (MIB + 1, b"x", {}, 409),
                                              (MIB, b"x" * 5000, {"Upload-Checksum": f"sha256 {sha256(b'y')}"}, 460),
                                              (MIB, b"x" * 5000, {"Content-Digest": f"sha-256=:{sha256(b'y')}:"}, 460),
                                              (MIB, bytes(length), {}, 422), (MIB, b"x", {"Tus-Resumable": "2.0.0"}, 412),
                                              (MIB, b"x", {"Content-Type": "text/plain"}, 415), (MIB, b"x", {"Upload-Offset": "-1"}, 400),
                                              (MIB, b"x", {"Upload-Checksum": "crc32 AAAA"}, 400)):
            with self.subTest(offset=offset, headers=headers):
                self.assertEqual(self.patch(at, offset, body, **headers)[0], status)
                self.assertEqual(self.offset(at), MIB)
        part = data[MIB:2 * MIB]
        sha1 = base64.b64encode(hashlib.sha1(part).digest()).decode()
        self.assertEqual(self.patch(at, MIB, part, **{"Upload-Checksum": f"sha1 {sha1}"})[0], 204)
        # Chunked, as by a client that does not know how much follows.
        self.assertEqual(self.patch(at, 2 * MIB, iter([data[2 * MIB:3 * MIB]]))[0], 204)
        self.assertEqual(self.patch(at, 3 * MIB, data[3 * MIB:])[1]["upload-offset"], str(length))
        self.assertEqual(self.content(), data + bytes(4 * MIB - length))
        # Who did not hear of the end asks, or sends nothing.
        self.assertEqual(self.offset(at), length)
        self.assertEqual(self.patch(at, length, b"")[0], 204)
        self.assertEqual(os.listdir(self.path), [f for f in os.listdir(self.path) if not f.startswith("upload-")])

    def test_data_that_is_not_what_was_said(self):
        before = self.content()
        data = pattern(MIB)
        for query, headers in (("", {"Repr-Digest": f"sha-256=:{sha256(b'y')}:"}), ("?format=vhd", {})):
            at = self.make(MIB, query, **headers)
            status, _, answer = self.patch(at, 0, data)
            self.assertEqual((status, b"IMPORT_ERROR" in answer), (422, True), answer)
            self.assertEqual(self.raw("HEAD", at)[0], 404)
            self.assertEqual(self.content(), before)
            until("its bytes go", lambda: not [f for f in os.listdir(self.path) if f.startswith("upload-")])

    def test_nothing_else_while_it_is_open(self):
        vm = self.api.VM.create(simulated("waits for its disk"))
        self.api.VBD.create({"VM": vm, "VDI": self.vdi, "userdevice": "0", "bootable": True, "mode": "RW", "type": "Disk", "unpluggable": True,
                             "empty": False, "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}})
        at = self.make(4 * MIB)
        self.assertEqual(self.api.VDI.get_allowed_operations(self.vdi), [])
        for call, *args in (("VM.start", vm, False, False), ("VDI.destroy", self.vdi), ("VDI.clone", self.vdi, {}), ("VDI.snapshot", self.vdi, {}),
                            ("VDI.copy", self.vdi, self.sr, "OpaqueRef:NULL", "OpaqueRef:NULL"), ("VDI.resize", self.vdi, 8 * MIB)):
            with self.subTest(call=call), self.assertRaises(Failure) as refused:
                self.api.call(call, self.api.session, *args)
            self.assertEqual(refused.exception.code, "VDI_IN_USE")
        self.assertEqual(self.rest.request("GET", f"/vdis/{self.uuid}/content")[2]["code"], "VDI_IN_USE")
        self.assertEqual(self.rest.request("POST", f"/vdis/{self.uuid}/uploads", headers={"Upload-Length": "1"})[2]["code"], "VDI_IN_USE")
        self.assertEqual(self.patch(at, 0, pattern(MIB))[0], 204)
        self.assertEqual(self.raw("DELETE", at)[0], 204)
        self.assertEqual([self.raw(method, at)[0] for method in ("HEAD", "DELETE")], [404, 404])
        until("its bytes go", lambda: not [f for f in os.listdir(self.path) if f.startswith("upload-")])
        self.assertEqual(self.content(), bytes(4 * MIB))
        self.api.VM.start(vm, False, False)
        self.assertEqual(self.rest.request("POST", f"/vdis/{self.uuid}/uploads", headers={"Upload-Length": "1"})[2]["code"], "VDI_IN_USE")
        self.api.VM.hard_shutdown(vm)

    def test_plans(self):
        """They tell the steps, or every reason against it, and do nothing; the request itself is what does it."""
        path = f"/vdis/{self.uuid}/uploads"

        def plan(method, where, body=None, **headers):
            status, head, told = self.rest.request(method, where, body, headers, plan="true")
            self.assertEqual((status, head["content-type"]), (200, "application/vnd.corral.plan+json"), told)
            self.assertEqual((told["possible"], told["apply"]), (not told["reasons"], None))
            return [s["do"] for s in told["steps"]], [(r["code"], r["params"][0]) for r in told["reasons"]], told["needs"]["space"]
        steps, reasons, space = plan("POST", path, **{"Upload-Length": "1000"})
        self.assertEqual((len(steps), reasons, [(s["sr"], s["bytes"]) for s in space]), (2, [], [(self.api.SR.get_uuid(self.sr), 1000)]))
        self.assertEqual(self.rest.get(path), {"items": []})
        at = self.make(1000)
        piece = {"Content-Type": BYTES}
        self.assertEqual(plan("PATCH", at, b"x" * 10, **piece, **{"Upload-Offset": "0"}), (["Takes bytes from 0 on; 1000 are missing."], [], []))
        self.assertEqual(len(plan("PATCH", at, bytes(1000), **piece, **{"Upload-Offset": "0"})[0]), 2)
        self.assertEqual(plan("PATCH", at, b"x" * 600, **piece, **{"Upload-Offset": "500"})[1],
                         [("INVALID_VALUE", "Upload-Offset"), ("INVALID_VALUE", "Content-Length")])
        self.assertEqual(plan("DELETE", at)[0], ["Forgets the bytes that have come; the disk stays as it is."])
        self.assertEqual(self.offset(at), 0)
        self.assertEqual(plan("POST", path, **{"Upload-Length": str(5 * MIB)})[1], [("VALUE_NOT_SUPPORTED", "Upload-Length"), ("VDI_IN_USE", self.uuid)])
        self.assertEqual(self.raw("DELETE", at)[0], 204)
        for method, where in (("PATCH", at), ("DELETE", at), ("POST", f"/vdis/{NO_SUCH}/uploads")):
            headers = {**piece, "Upload-Offset": "0", "Upload-Length": "1"}
            self.assertEqual(self.rest.request(method, where, None, headers, plan="true")[0], 404, method)

    def test_who_and_how(self):
        path = f"/vdis/{self.uuid}/uploads"
        for headers, status in (({}, 400), ({"Upload-Length": "x"}, 400), ({"Upload-Length": "0"}, 422), ({"Upload-Length": str(4 * MIB + 1)}, 422),
                                ({"Upload-Length": "9" * 18}, 422), ({"Upload-Length": "9" * 30}, 400), ({"Upload-Length": "1", "Tus-Resumable": "0.2"}, 412),
                                ({"Upload-Length": "1", "Upload-Metadata": "x" * 1025}, 400), ({"Upload-Length": "1", "Repr-Digest": "md5"}, 400)):
            self.assertEqual(self.raw("POST", path, headers=headers)[0], status, headers)
        self.assertEqual(self.rest.get(path), {"items": []})
        for method, bad in (("POST", f"/vdis/{NO_SUCH}/uploads"), ("GET", f"/vdis/{NO_SUCH}/uploads"), ("HEAD", f"{path}/{NO_SUCH}"),
                            ("PATCH", f"{path}/{NO_SUCH}"), ("DELETE", f"{path}/{NO_SUCH}"), ("GET", f"{path}/x")):
            self.assertEqual(self.raw(method, bad, b"x" if method == "PATCH" else None,
                                      {"Upload-Length": "1", "Upload-Offset": "0", "Content-Type": BYTES} if method != "DELETE" else {})[0], 404, bad)
        head = self.raw("OPTIONS", path)[1]
        self.assertEqual((head["tus-version"], head["tus-extension"]), ("1.0.0", "creation,checksum,expiration,termination"))
        user = self.api.user.create_with_password("upsy", "", "correct horse battery", [self.api.role.get_by_name_label("vm-operator")[0]])
        self.addCleanup(lambda: self.api.user.destroy(user))
        _, made = Rest(POOL).ok(201, "POST", "/sessions", {"user": "upsy", "password": "correct horse battery"})
        for method, where in (("POST", path), ("GET", path), ("GET", f"/vdis/{self.uuid}/content")):
            status, _, answer = Rest(POOL, made["token"]).request(method, where, headers={"Upload-Length": "1"})
            self.assertEqual((status, answer["code"]), (403, "RBAC_PERMISSION_DENIED"))


@unittest.skipUnless(program("xe"), "no xe")
class Xe(UploadTest):
    def xe(self, filename, *more, command="vdi-import"):
        run = subprocess.run([program("xe"), "-s", os.path.join(POOL.state, "poold.sock"), command, f"uuid={self.uuid}", f"filename={filename}",
                              *more], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
                             env={"PATH": os.environ["PATH"], "HOME": POOL.folder})
        return run.returncode, run.stderr

    def test_the_same_command_goes_on(self):
        file = os.path.join(POOL.folder, "resumed.raw")
        data = pattern(3 * MIB, b"xe")
        with open(file, "wb") as f:
            f.write(data)
        seconds, rest = divmod(os.stat(file).st_mtime_ns, 10 ** 9)
        note = {"Upload-Metadata": "modified " + base64.b64encode(f"{seconds}.{rest:09d}".encode()).decode()}
        at = self.make(len(data), **note)
        self.assertEqual(self.patch(at, 0, b"!" + data[1:MIB])[0], 204)  # one byte tells that it went on
        self.assertEqual(self.xe(file, "--resume"), (0, ""))
        self.assertEqual(self.content(), b"!" + data[1:] + bytes(MIB))
        self.assertEqual(self.xe(file, "--resume"), (0, ""))
        self.assertEqual(self.content(), data + bytes(MIB))
        # An upload of another file, or of the same before it changed.
        self.make(len(data), **{"Upload-Metadata": "modified eA=="})
        status, why = self.xe(file, "--resume")
        self.assertEqual((status, "resume=anew" in why), (1, True), why)
        self.assertEqual(self.xe(file, "resume=anew"), (0, ""))
        self.assertEqual(self.content(), data + bytes(MIB))
        # Refusals come with their reason.
        with open(file, "ab") as f:
            f.write(bytes(2 * MIB))
        status, why = self.xe(file, "--resume")
        self.assertEqual((status, "the disk takes" in why), (1, True), why)
        for words in (("resume=perhaps",), ("--resume", "format=vdi")):
            self.assertEqual(self.xe(file, *words)[0], 1, words)
        self.assertEqual(self.xe("-", "--resume")[0], 1)


    def test_a_download_goes_on(self):
        data = pattern(4 * MIB, b"down")
        self.assertEqual(self.patch(self.make(len(data)), 0, data)[0], 204)
        file = os.path.join(POOL.folder, "taken.raw")
        path = f"/vdis/{self.uuid}/content"

        def leave(count):  # what a killed xe leaves
            with open(file + ".partial", "wb") as f, open(file + ".partial.of", "w", encoding="utf-8") as note:
                f.write(b"!" + data[1:count])
                note.write(f"{API}{path}\n{self.raw('HEAD', path)[1]['etag']}\n")

        def taken():
            with open(file, "rb") as f:
                content = f.read()
            os.unlink(file)
            return content

        for count in (MIB + 1, len(data)):
            leave(count)
            self.assertEqual(self.xe(file, "--resume", command="vdi-export"), (0, ""))
            self.assertEqual(taken(), b"!" + data[1:])
        self.assertEqual(self.xe(file, "--resume", command="vdi-export"), (0, ""))
        self.assertEqual(taken(), data)
        leave(MIB)
        self.assertEqual(self.patch(self.make(1), 0, b"?")[0], 204)
        status, why = self.xe(file, "--resume", command="vdi-export")
        self.assertEqual((status, "has changed" in why and "vdi-snapshot" in why), (1, True), why)
        self.assertEqual(self.xe(file, "resume=anew", command="vdi-export"), (0, ""))
        self.assertEqual(taken(), b"?" + bytes(len(data) - 1))
        for words in (("format=vhd",), ("format=qcow2",), ("format=vhd", f"base={self.uuid}")):
            with self.subTest(words):  # no bytes are asked for, and no file is begun
                status, why = self.xe(file, "--resume", *words, command="vdi-export")
                self.assertEqual((status, "Export it as raw" in why), (1, True), why)
                self.assertEqual([name for name in os.listdir(POOL.folder) if name.startswith(os.path.basename(file))], [])
        self.make(MIB)  # being filled: the API's reason is told
        self.assertRegex(self.xe(file, "--resume", command="vdi-export")[1], r"\(VDI_IN_USE\)")


class Broken(UploadTest):
    """Each time the bytes go on where they stood, and the disk is what was sent."""

    def finish(self, at, data):
        at_most = self.offset(at)
        self.assertEqual(self.patch(at, at_most, data[at_most:])[0], 204)
        self.assertEqual(self.content(), data)
        return at_most

    def test_connection_and_daemons(self):
        data = pattern(4 * MIB, b"broken")
        host = POOL.hosts[0]

        def lose_connection(sock):
            sock.shutdown(socket.SHUT_RDWR)

        def lose_poold(_sock):
            POOL.kill()
            POOL.start()
            self.log_in()

        def lose_hostd(sock):
            host.kill()
            host.start("hostd.port")
            lose_connection(sock)

        for lose in (lose_connection, lose_poold, lose_hostd):
            with self.subTest(lose=lose.__name__):
                at = self.make(len(data))
                self.assertEqual(self.patch(at, 0, data[:MIB])[0], 204)
                sock = self.begin(at, MIB, len(data) - MIB, data[MIB:2 * MIB])
                until("the bytes are taken", self.marked)
                lose(sock)
                until("the server has noticed", lambda: not self.marked())
                until("an agent answers", lambda: self.raw("HEAD", at)[0] == 200, 60)
                self.assertGreaterEqual(self.finish(at, data), MIB)

    def test_a_client_that_comes_again_does_not_wait_for_itself(self):
        data = pattern(4 * MIB, b"again")
        at = self.make(len(data))
        self.begin(at, 0, len(data), data[:MIB])  # stays open, as over a network that is gone
        until("the bytes are taken", self.marked)
        status = 409
        while status == 409:  # what of the first connection counts changes until that has ended
            offset = self.offset(at)
            status = self.patch(at, offset, data[offset:])[0]
        self.assertEqual(status, 204)
        self.assertEqual(self.content(), data)
        at = self.make(len(data))
        self.begin(at, 0, len(data), data[:MIB])
        until("the bytes are taken", self.marked)
        self.assertEqual(self.raw("DELETE", at)[0], 204)
        self.assertFalse(self.marked())

    def test_poold_dies_at_the_end(self):
        """Who hears that all bytes count, hears that the disk is whole."""
        for place in ("upload-finishing", "upload-finished"):
            with self.subTest(place=place):
                data = pattern(4 * MIB, place.encode())
                POOL.restart(failpoint=place)
                self.log_in()
                until("an agent answers", lambda: self.raw("HEAD", f"/vdis/{self.uuid}/content")[0] == 200, 60)
                at = self.make(len(data))
                self.begin(at, 0, len(data), data)
                until("poold dies", lambda: not POOL.poold.running, 60)
                POOL.kill()
                POOL.start()
                self.log_in()
                until("an agent answers", lambda: self.raw("HEAD", at)[0] == 200, 60)
                offset = self.offset(at)
                self.assertEqual(offset, len(data) if place == "upload-finished" else len(data) - 1)
                self.assertEqual(self.patch(at, offset, data[offset:])[0], 204)
                self.assertEqual(self.content(), data)

    def test_abandoned(self):
        arguments = POOL.poold.arguments
        at = self.make(MIB)
        self.assertEqual(self.patch(at, 0, b"some")[0], 204)
        POOL.stop()
        arguments += ["--upload-keep", "1"]
        try:
            POOL.start()
            self.log_in()
            until("an agent answers", lambda: self.raw("HEAD", at)[0] == 200, 60)
            self.assertEqual(self.offset(at), 4)
            self.assertEqual(self.patch(at, 4, b"more")[0], 204)  # kept for a second from now on

            def gone():
                POOL.restart()  # looks for leftovers once a host answers
                self.log_in()
                until("an agent answers", lambda: POOL.live_hosts(self.api), 60)
                return self.raw("HEAD", at)[0] == 404

            until("it ends by itself", gone, 60)
            until("its bytes go", lambda: not [f for f in os.listdir(self.path) if f.startswith("upload-")])
            self.assertEqual(self.content(), bytes(4 * MIB))
        finally:
            POOL.stop()
            del arguments[-2:]
            POOL.start()


if __name__ == "__main__":
    unittest.main()
