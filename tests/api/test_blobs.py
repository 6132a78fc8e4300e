"""Blobs: binary data kept with an object, through messages and through /blob."""
import os
import sys
import unittest

from pool import NULL, TestPool, failure_of, module_pool, until
from test_events import network_record, vm_record

POOL = API = None
NEVER = "19700101T00:00:00Z"


def setUpModule():
    global POOL, API
    POOL = module_pool(hosts=1)
    API = POOL.login()


def door(method, what, body=None, session=True, headers=None, pool=None):
    pool = pool or POOL
    path = f"/blob?{what}" + (f"&session_id={API.session}" if session is True else "")
    status, got, data = pool.http(method, path, body, headers or {})
    return status, {k.lower(): v for k, v in got.items()}, data


def files(pool=None):
    return sorted(os.listdir(os.path.join((pool or POOL).state, "blobs")))


class Owners(unittest.TestCase):
    def test_every_class_that_owns_some(self):
        vm = API.VM.create(vm_record("owner"))
        sr = API.SR.introduce("4e5e3a36-2a2d-4c6a-8b4e-000000000001", "s", "", "file", "user", False, {})
        network = API.network.create(network_record("owner"))
        for cls, owner in (("VM", vm), ("SR", sr), ("network", network), ("host", API.host.get_all()[0]),
                           ("pool", API.pool.get_all()[0])):
            call = f"{cls}.create_new_blob"
            blob = API.call(call, API.session, owner, "notes", "text/plain")
            public = API.call(call, API.session, owner, "picture", "", True)
            self.assertEqual(API.call(f"{cls}.get_blobs", API.session, owner), {"notes": blob, "picture": public})
            record = API.blob.get_record(blob)
            self.assertEqual({k: v for k, v in record.items() if k != "uuid"},
                             {"name_label": "", "name_description": "", "size": 0, "public": False, "last_updated": NEVER,
                              "mime_type": "text/plain"})
            self.assertEqual((API.blob.get_mime_type(public), API.blob.get_public(public)), ("application/octet-stream", True))
            self.assertEqual(failure_of(API, call, owner, "notes", "x"), ("MAP_DUPLICATE_KEY", [cls, "blobs", owner, "notes"]))
            self.assertEqual(failure_of(API, call, NULL, "notes", "x"), ("HANDLE_INVALID", [cls, NULL]))
            API.blob.destroy(public)
            self.assertEqual(API.call(f"{cls}.get_blobs", API.session, owner), {"notes": blob})
            self.assertEqual(failure_of(API, "blob.destroy", public), ("HANDLE_INVALID", ["blob", public]))
        left = set(API.blob.get_all())
        for destroy, cls, owner in ((API.VM.destroy, "VM", vm), (API.SR.forget, "SR", sr), (API.network.destroy, "network", network)):
            blob = API.call(f"{cls}.get_blobs", API.session, owner)["notes"]
            destroy(owner)
            left.discard(blob)
            self.assertEqual(set(API.blob.get_all()), left, cls)

    def test_a_clone_has_none(self):
        vm = API.VM.create(vm_record("owner"))
        API.VM.create_new_blob(vm, "a", "")
        clone = API.VM.clone(vm, "clone")
        self.assertEqual(API.VM.get_blobs(clone), {})
        API.VM.destroy(clone)
        self.assertEqual(list(API.VM.get_blobs(vm)), ["a"])
        API.VM.destroy(vm)


class Bytes(unittest.TestCase):
    def setUp(self):
        self.blob = API.blob.create("image/png")
        self.uuid = API.blob.get_uuid(self.blob)

    def tearDown(self):
        if self.blob in API.blob.get_all():
            API.blob.destroy(self.blob)

    def test_there_and_back(self):
        for data in (b"", b"x", bytes(range(256)) * 3000, b"short again"):
            for what in (f"ref={self.blob}", f"uuid={self.uuid}"):
                self.assertEqual(door("PUT", what, data)[0], 200)
                status, headers, got = door("GET", what)
                self.assertEqual((status, got), (200, data))
                self.assertEqual(headers["content-type"], "image/png")
                self.assertEqual(headers["content-length"], str(len(data)))
                self.assertIn("sandbox", headers["content-security-policy"])
                self.assertEqual(headers["x-content-type-options"], "nosniff")
            self.assertEqual(API.blob.get_size(self.blob), len(data))
            self.assertNotEqual(API.blob.get_last_updated(self.blob), NEVER)
        self.assertIn(self.uuid, files())
        API.blob.destroy(self.blob)
        self.assertNotIn(self.uuid, files())
        self.assertEqual(door("GET", f"ref={self.blob}")[0], 404)

    def test_who_may(self):
        what = f"ref={self.blob}"
        self.assertEqual(door("PUT", what, b"secret", session=False)[0], 401)
        self.assertEqual(door("PUT", what, b"secret", session=False, headers=POOL.basic())[0], 200)
        self.assertEqual(door("GET", what, session=False)[0], 401)
        self.assertEqual(door("GET", "ref=x", session=False)[0], 401)
        self.assertEqual(door("GET", what, session=False, headers=POOL.basic(password="wrong"))[0], 401)
        API.blob.set_public(self.blob, True)
        self.assertEqual(door("GET", what, session=False)[2], b"secret")
        self.assertEqual(door("PUT", what, b"x", session=False)[0], 401)
        API.blob.set_public(self.blob, False)
        self.assertEqual(door("GET", what, session=False)[0], 401)

    def test_refusals(self):
        for what in (f"ref={NULL}", "ref=x", "ref=", "uuid=x", "uuid=../../pool.db", f"uuid={self.blob}", f"ref={self.uuid}"):
            self.assertEqual(door("GET", what)[0], 404, what)
            self.assertEqual(door("PUT", what, b"x")[0], 404, what)
        self.assertEqual(door("GET", "x=y")[0], 400)
        self.assertEqual(door("PUT", f"ref={self.blob}", iter([b"chunked"]), headers={"Transfer-Encoding": "chunked"})[0], 400)
        with POOL.connect() as sock:
            sock.sendall(f"PUT /blob?ref={self.blob}&session_id={API.session} HTTP/1.1\r\nHost: x\r\n"
                         f"Content-Length: {128 * 1024 * 1024 + 1}\r\n\r\n".encode())
            self.assertIn(b" 413 ", sock.recv(100))

    def test_an_upload_that_breaks_off_changes_nothing(self):
        door("PUT", f"ref={self.blob}", b"before")
        with POOL.connect() as sock:
            sock.sendall(f"PUT /blob?ref={self.blob}&session_id={API.session} HTTP/1.1\r\nHost: x\r\n"
                         f"Content-Length: 1000\r\n\r\n".encode() + b"half")
        until("nothing is left of the upload", lambda: not [f for f in files() if f.endswith(".part")])
        self.assertEqual(door("GET", f"ref={self.blob}")[2], b"before")
        self.assertEqual(API.blob.get_size(self.blob), 6)

    def test_a_type_that_is_no_header(self):
        blob = API.blob.create("text/plain\r\nX-Evil: 1")
        status, headers, _ = door("GET", f"ref={blob}")
        self.assertEqual((status, headers["content-type"]), (200, "application/octet-stream"))
        self.assertNotIn("x-evil", headers)
        API.blob.destroy(blob)

    def test_the_clients_task(self):
        task = API.task.create("upload", "")
        self.assertEqual(door("PUT", f"ref={self.blob}&task_id={task}", b"x")[0], 200)
        self.assertEqual(API.task.get_status(task), "success")
        API.task.destroy(task)
        self.assertEqual(door("PUT", f"ref={self.blob}&task_id={NULL}", b"x")[0], 404)


class Restart(unittest.TestCase):
    def test_bytes_survive_and_leftovers_do_not(self):
        with TestPool() as pool:
            api = pool.login()
            kept, gone = api.blob.create("x/y", True), api.network.create(network_record("n"))
            with_owner = api.network.create_new_blob(gone, "b", "x/y", True)
            owned_uuid, uuid = api.blob.get_uuid(with_owner), api.blob.get_uuid(kept)
            for ref in (kept, with_owner):
                status, _, _ = pool.http("PUT", f"/blob?ref={ref}&session_id={api.session}", b"bytes")
                self.assertEqual(status, 200)
            api.network.destroy(gone)
            folder = os.path.join(pool.state, "blobs")
            pool.kill()
            for name in (f"{uuid}.1.part", "4e5e3a36-2a2d-4c6a-8b4e-000000000009"):
                with open(os.path.join(folder, name), "w", encoding="ascii") as file:
                    file.write("left over")
            with open(os.path.join(folder, uuid), "a", encoding="ascii") as file:
                file.write(" more")
            pool.start()
            self.assertEqual(files(pool), [uuid])
            api = pool.login()
            self.assertEqual((api.blob.get_all(), api.blob.get_size(kept)), ([kept], 10))
            self.assertEqual(pool.http("GET", f"/blob?uuid={uuid}")[2], b"bytes more")
            self.assertNotIn(owned_uuid, files(pool))


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
