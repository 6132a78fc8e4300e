"""Uploads and downloads of disks: bytes, formats, tasks, and everything that goes wrong on the way."""
import hashlib
import json
import os
import shutil
import subprocess
import unittest

from pool import NULL, Failure, TestPool, disk_files, module_pool, program, until

MIB = 1 << 20
POOL = None


def setUpModule():
    global POOL
    POOL = module_pool(hosts=1)


def pattern(size, seed=b"x"):
    """Bytes that do not repeat."""
    out, block = bytearray(), hashlib.sha256(seed).digest()
    while len(out) < size:
        out += block * 64
        block = hashlib.sha256(block).digest()
    return bytes(out[:size])


class TransferTest(unittest.TestCase):
    def setUp(self):
        self.api = POOL.login()
        self.host = self.api.host.get_all()[0]
        self.path = os.path.join(POOL.folder, self.id().rpartition(".")[2])
        self.sr = self.api.SR.create(self.host, {"location": self.path}, 0, self.id(), "", "file", "", False, {})
        self.vdi = self.create_vdi()

    def create_vdi(self, size=4 * MIB, **fields):
        return self.api.VDI.create({"SR": self.sr, "virtual_size": size, "type": "user", "sharable": False,
                                    "read_only": False, "other_config": {}, **fields})

    def request(self, method, query, body=None, headers=None):
        path = "/import_raw_vdi?" if method == "PUT" else "/export_raw_vdi?"
        headers = {"Cookie": f"session_id={self.api.session}"} if headers is None else headers
        return POOL.http(method, path + query, body, headers)

    def upload(self, body, query="", vdi=None, **options):
        status, _, answer = self.request("PUT", f"vdi={vdi or self.vdi}{query}", body, **options)
        return status, answer

    def download(self, query="", vdi=None, **options):
        status, headers, body = self.request("GET", f"vdi={vdi or self.vdi}{query}", **options)
        return status, headers, body

    def content(self, vdi=None):
        status, _, body = self.download(vdi=vdi)
        self.assertEqual(status, 200)
        return body

    def task(self):
        return self.api.task.create("transfer", "")

    def untouched(self, before):
        self.assertEqual(self.content(), before)
        self.assertEqual(self.api.VDI.get_current_operations(self.vdi), {})
        self.assertEqual(len(disk_files(self.path)), len(self.api.SR.get_VDIs(self.sr)), disk_files(self.path))


class Bytes(TransferTest):
    def test_there_and_back(self):
        data = pattern(4 * MIB)
        self.assertEqual(self.upload(data), (200, b""))
        status, headers, body = self.download()
        self.assertEqual((status, headers["Content-Type"]), (200, "application/octet-stream"))
        self.assertEqual(body, data)
        self.assertGreater(self.api.VDI.get_physical_utilisation(self.vdi), 3 * MIB)

    def test_a_smaller_image_ends_in_zeros(self):
        data = pattern(MIB + 100)
        self.assertEqual(self.upload(data)[0], 200)
        self.assertEqual(self.content(), data + bytes(3 * MIB - 100))

    def test_by_uuid_and_into_a_raw_disk(self):
        vdi = self.create_vdi(sm_config={"type": "raw"})
        data = pattern(4 * MIB, b"raw")
        self.assertEqual(self.upload(data, vdi=self.api.VDI.get_uuid(vdi))[0], 200)
        self.assertEqual(self.content(vdi), data)

    def test_longer_than_a_window(self):
        vdi = self.create_vdi(64 * MIB)
        data = pattern(40 * MIB, b"long")
        self.assertEqual(self.upload(data, vdi=vdi)[0], 200)
        body = self.content(vdi)
        self.assertEqual(hashlib.sha256(body[:len(data)]).digest(), hashlib.sha256(data).digest())
        self.assertEqual(len(body), 64 * MIB)

    def test_chunked_body(self):
        data = pattern(2 * MIB)
        blocks = (data[i:i + 100000] for i in range(0, len(data), 100000))
        task = self.task()
        self.assertEqual(self.upload(blocks, f"&task_id={task}")[0], 404)
        self.assertEqual(self.api.task.get_error_info(task), ["IMPORT_ERROR_CANNOT_HANDLE_CHUNKED"])
        self.untouched(bytes(4 * MIB))

    def test_the_answer_comes_before_the_body(self):
        for tls in (False, True):
            task, data = self.task(), pattern(4 * MIB, b"early%d" % tls)
            sock = POOL.connect(tls=tls)
            self.addCleanup(sock.close)
            sock.sendall((f"PUT /import_raw_vdi/?vdi={self.vdi}&task_id={task} HTTP/1.1\r\nHost: x\r\n"
                          f"Cookie: session_id={self.api.session}\r\nContent-Length: {4 * MIB}\r\n\r\n").encode())
            head = sock.recv(4096)
            self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"), head)
            self.assertIn(f"task-id: {task}".encode(), head)
            sock.sendall(data)
            self.assertEqual(sock.recv(4096), b"")
            self.assertEqual(self.api.task.get_status(task), "success")
            self.assertEqual(self.content(), data)

    def test_an_empty_body_asks_whether_one_may(self):
        data = pattern(4 * MIB)
        self.assertEqual(self.upload(data)[0], 200)
        for query in (f"vdi={self.vdi}", f"sr_id={self.sr}", f"vdi={self.vdi}&format=vhd"):
            self.assertEqual(self.request("PUT", query, b"")[0], 200)
        self.assertEqual(self.request("PUT", "vdi=OpaqueRef:x", b"")[0], 404)
        self.untouched(data)

    def test_a_length_that_nobody_means(self):
        data, task = pattern(3 * MIB), self.task()
        sock = POOL.connect()
        sock.sendall((f"PUT /import_raw_vdi?vdi={self.vdi}&task_id={task} HTTP/1.1\r\nHost: x\r\n"
                      f"Cookie: session_id={self.api.session}\r\nContent-Length: {1 << 50}\r\n\r\n").encode())
        self.assertIn(b"200 OK", sock.recv(4096))
        sock.sendall(data)
        sock.close()
        until("the task ends", lambda: self.api.task.get_status(task) != "pending")
        self.assertEqual(self.api.task.get_error_info(task), [])
        self.assertEqual(self.content(), data + bytes(MIB))
        # Who only asks declares it, too, and must not be in the way of what comes next.
        sock = POOL.connect()
        self.addCleanup(sock.close)
        sock.sendall((f"PUT /import_raw_vdi?vdi={self.vdi} HTTP/1.1\r\nHost: x\r\n"
                      f"Cookie: session_id={self.api.session}\r\nContent-Length: {1 << 50}\r\n\r\n").encode())
        self.assertIn(b"200 OK", sock.recv(4096))
        self.assertEqual(self.api.VDI.get_current_operations(self.vdi), {})
        self.assertEqual(self.upload(bytes(MIB))[0], 200)
        self.assertEqual(self.content(), bytes(4 * MIB))

    def test_an_upload_that_makes_its_disk(self):
        data, task = pattern(3 * MIB), self.task()
        for key, value in (("sr_id", self.sr), ("sr_uuid", self.api.SR.get_uuid(self.sr))):
            self.assertEqual(self.request("PUT", f"{key}={value}&task_id={task}", data)[0], 200)
            vdi = self.api.task.get_result(task).replace("<value>", "").replace("</value>", "")
            self.assertEqual(self.api.VDI.get_virtual_size(vdi), 3 * MIB)
            self.assertEqual(self.content(vdi), data)
            self.assertEqual(self.api.VDI.get_current_operations(vdi), {})
            task = self.task()
        disks = self.api.SR.get_VDIs(self.sr)
        self.assertEqual(len(disks), 3)
        self.assertEqual(self.request("PUT", f"sr_id={self.sr}&format=qcow2", data)[0], 404)
        # Nothing stays of one that broke off.
        sock = POOL.connect()
        sock.sendall((f"PUT /import_raw_vdi?sr_id={self.sr}&task_id={task} HTTP/1.1\r\nHost: x\r\n"
                      f"Cookie: session_id={self.api.session}\r\nContent-Length: {4 * MIB}\r\n\r\n").encode() + data)
        self.assertIn(b"200 OK", sock.recv(4096))
        sock.close()
        until("the task ends", lambda: self.api.task.get_status(task) != "pending")
        self.assertEqual(self.api.task.get_error_info(task), ["IMPORT_ERROR_PREMATURE_EOF"])
        self.assertEqual(self.api.SR.get_VDIs(self.sr), disks)
        self.assertEqual(len(disk_files(self.path)), 3)

    @unittest.skipUnless(shutil.which("qemu-img"), "no qemu-img")
    def test_vhd(self):
        raw, vhd = os.path.join(POOL.folder, "b.raw"), os.path.join(POOL.folder, "b.vhd")
        data = pattern(2 * MIB, b"vhd")
        for subformat in ("fixed", "dynamic"):
            with open(raw, "wb") as file:
                file.write(data)
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o",
                            f"subformat={subformat},force_size=on", raw, vhd], check=True)
            with open(vhd, "rb") as file:
                self.assertEqual(self.upload(file.read(), "&format=vhd")[0], 200)
            self.assertEqual(self.content(), data + bytes(2 * MIB))
        status, headers, body = self.download("&format=vhd")
        self.assertEqual((status, headers["Content-Type"], body[:8]), (200, "application/vhd", b"conectix"))
        with open(vhd, "wb") as file:
            file.write(body)
        subprocess.run(["qemu-img", "convert", "-f", "vpc", "-O", "raw", vhd, raw], check=True)
        with open(raw, "rb") as file:
            self.assertEqual(file.read(), data + bytes(2 * MIB))

    @unittest.skipUnless(shutil.which("qemu-img"), "no qemu-img")
    def test_vmdk(self):
        raw, vmdk = os.path.join(POOL.folder, "c.raw"), os.path.join(POOL.folder, "c.vmdk")
        data = pattern(2 * MIB, b"vmdk")
        with open(raw, "wb") as file:
            file.write(data)
        for subformat in ("monolithicSparse", "streamOptimized"):
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}", raw, vmdk], check=True)
            with open(vmdk, "rb") as file:
                self.assertEqual(self.upload(file.read(), "&format=vmdk")[0], 200)
            self.assertEqual(self.content(), data + bytes(2 * MIB))
            self.assertEqual(self.upload(bytes(4 * MIB))[0], 200)
        self.assertEqual(self.download("&format=vmdk")[0], 404, "they are taken, not made")

    @unittest.skipUnless(shutil.which("qemu-img"), "no qemu-img")
    def test_qcow2(self):
        raw, qcow2 = os.path.join(POOL.folder, "a.raw"), os.path.join(POOL.folder, "a.qcow2")
        data = pattern(2 * MIB, b"qcow2")
        with open(raw, "wb") as file:
            file.write(data)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2], check=True)
        with open(qcow2, "rb") as file:
            self.assertEqual(self.upload(file.read(), "&format=qcow2")[0], 200)
        self.assertEqual(self.content()[:2 * MIB], data)
        status, _, body = self.download("&format=qcow2")
        self.assertEqual((status, body[:4]), (200, b"QFI\xfb"))
        with open(qcow2, "wb") as file:
            file.write(body)
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", qcow2, raw], check=True)
        with open(raw, "rb") as file:
            self.assertEqual(file.read()[:2 * MIB], data)

    def test_download_of_an_iso(self):
        folder = self.path + "-iso"
        os.mkdir(folder)
        data = pattern(MIB, b"iso")
        with open(os.path.join(folder, "a.iso"), "wb") as file:
            file.write(data)
        sr = self.api.SR.create(self.host, {"location": folder}, 0, "isos", "", "iso", "iso", False, {})
        iso = self.api.SR.get_VDIs(sr)[0]
        self.assertEqual(self.content(iso), data)
        self.assertEqual(self.upload(data, vdi=iso)[0], 409)
        with open(os.path.join(folder, "a.iso"), "rb") as file:
            self.assertEqual(file.read(), data)


class Doors(TransferTest):
    def code(self, answer):
        return json.loads(answer)["error"]

    def test_who_may(self):
        data = pattern(MIB)
        self.assertEqual(self.upload(data, headers={})[0], 401)
        self.assertEqual(self.upload(data, headers={"Cookie": "session_id=OpaqueRef:nothing"})[0], 401)
        self.assertEqual(self.upload(data, headers=POOL.basic("root", "wrong"))[0], 401)
        self.assertEqual(self.download(headers={})[0], 401)
        task = self.task()
        self.assertEqual(self.upload(data, f"&task_id={task}", headers={})[0], 401)
        self.assertEqual(self.api.task.get_error_info(task)[0], "SESSION_AUTHENTICATION_FAILED")
        self.untouched(bytes(4 * MIB))
        # The wrong one above may make this source wait.
        until("the right password", lambda: self.upload(data, headers=POOL.basic())[0] == 200)
        self.assertEqual(self.upload(data, f"&session_id={self.api.session}", headers={})[0], 200)
        bearer = {"Authorization": f"Bearer {self.api.session}"}
        self.assertEqual(self.download(headers=bearer)[0], 200)

    def test_what_is_refused(self):
        data = pattern(MIB)
        cases = [
            ("vdi=", 404, "HANDLE_INVALID"),
            ("vdi=OpaqueRef:NULL", 404, "HANDLE_INVALID"),
            ("vdi=../../etc/passwd", 404, "HANDLE_INVALID"),
            (f"vdi={self.sr}", 404, "HANDLE_INVALID"),
            (f"vdi={self.vdi}&format=vdi", 404, "VALUE_NOT_SUPPORTED"),
            (f"vdi={self.vdi}&format=", 404, "VALUE_NOT_SUPPORTED"),
            (f"vdi={self.vdi}&chunked=true", 501, "NOT_IMPLEMENTED"),
            (f"sr_id={self.vdi}", 404, "HANDLE_INVALID"),
            (f"vdi={self.vdi}&task_id={NULL}", 404, "HANDLE_INVALID"),
            (f"vdi={self.vdi}&task_id=x", 404, "HANDLE_INVALID"),
        ]
        for query, status, code in cases:
            with self.subTest(query):
                answer = self.request("PUT", query, data)
                self.assertEqual((answer[0], self.code(answer[2])), (status, code))
        self.assertEqual(self.request("GET", f"vdi={self.vdi}&format=vhd&chunked=true")[0], 501)
        self.assertEqual(self.request("GET", f"vdi={self.vdi}&base={self.vdi}")[0], 404)  # differences are a VHD
        self.untouched(bytes(4 * MIB))

    def test_read_only_disk(self):
        self.api.VDI.set_read_only(self.vdi, True)
        status, answer = self.upload(pattern(MIB))
        self.assertEqual((status, self.code(answer)), (409, "VDI_READONLY"))


class Tasks(TransferTest):
    def test_a_clients_task_is_the_carrier(self):
        task = self.task()
        self.assertEqual(self.upload(pattern(MIB), f"&task_id={task}")[0], 200)
        record = self.api.task.get_record(task)
        self.assertEqual((record["status"], record["progress"]), ("success", 1.0))
        self.assertEqual(record["result"], f"<value>{self.vdi}</value>")

    def test_a_refusal_fails_the_task(self):
        task = self.task()
        self.assertEqual(self.upload(pattern(MIB), f"&task_id={task}&format=vdi")[0], 404)
        record = self.api.task.get_record(task)
        self.assertEqual((record["status"], record["error_info"][0]), ("failure", "VALUE_NOT_SUPPORTED"))


class Failures(TransferTest):
    def setUp(self):
        super().setUp()
        self.before = pattern(4 * MIB, b"before")
        self.assertEqual(self.upload(self.before)[0], 200)

    def fails(self, code, body, query=""):
        task = self.task()
        status, _ = self.upload(body, f"&task_id={task}{query}")
        self.assertEqual(status, 200)  # it leaves before the body is read
        record = self.api.task.get_record(task)
        self.assertEqual((record["status"], record["error_info"][0]), ("failure", code), record["error_info"])
        self.untouched(self.before)

    def test_more_than_the_disk_holds(self):
        self.fails("IMPORT_ERROR", pattern(5 * MIB))

    def test_not_what_it_says(self):
        self.fails("IMPORT_ERROR", pattern(MIB), "&format=qcow2")

    @unittest.skipUnless(shutil.which("qemu-img"), "no qemu-img")
    def test_an_image_that_refers_to_other_files(self):
        image = os.path.join(POOL.folder, "evil.qcow2")
        subprocess.run(["qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", image, "1M"],
                       check=True, stdout=subprocess.DEVNULL)
        with open(image, "rb") as file:
            self.fails("IMPORT_ERROR", file.read(), "&format=qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", image, "1M"], check=True)
        with open(image, "rb") as file:
            self.fails("IMPORT_ERROR", file.read(), "&format=vmdk")

    def test_a_raw_disk_that_looks_like_an_image(self):
        """A guest may write what it likes to its disk: a header that names another file and another size is bytes."""
        image = os.path.join(POOL.folder, "looks.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", image, "1G"], check=True)
        with open(image, "rb") as file:
            head = file.read()
        vdi = self.create_vdi(sm_config={"type": "raw"})
        data = head + pattern(4 * MIB - len(head), b"guest")
        self.assertEqual(self.upload(data, vdi=vdi)[0], 200)
        made = [self.api.VDI.snapshot(vdi), self.api.VDI.clone(vdi), self.api.VDI.copy(vdi, self.sr)]
        self.api.VDI.resize(vdi, 8 * MIB)
        self.api.SR.scan(self.sr)
        for each, size in [(vdi, 8 * MIB)] + [(other, 4 * MIB) for other in made]:
            self.assertEqual(int(self.api.VDI.get_virtual_size(each)), size)
            body = self.content(each)
            self.assertEqual((len(body), body[:len(data)] == data, any(body[len(data):])), (size, True, False))
        status, _, body = self.download("&format=vhd", vdi=vdi)
        self.assertEqual(status, 200)
        self.assertIn(head[:512], body)
        self.assertNotIn(b"root:x:0", body)

    @unittest.skipUnless(os.geteuid() == 0, "only root can mount a small file system")
    def test_a_full_repository(self):
        folder = self.path + "-small"
        os.mkdir(folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=755", "none", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        self.path = os.path.join(folder, "sr")
        self.sr = self.api.SR.create(self.host, {"location": self.path}, 0, self.id(), "", "file", "", False, {})
        self.vdi = self.create_vdi()
        self.assertEqual(self.upload(self.before[:3 * MIB])[0], 200)
        self.before = self.content()
        self.fails("SR_BACKEND_FAILURE_44", pattern(4 * MIB, b"after"))
        with self.assertRaises(Failure) as caught:
            self.api.VDI.copy(self.api.VDI.copy(self.vdi, NULL), NULL)
        self.assertEqual(caught.exception.code, "SR_BACKEND_FAILURE_44")
        self.untouched(self.before)
        self.api.PBD.unplug(self.api.SR.get_PBDs(self.sr)[0])

    def test_a_client_that_goes_away(self):
        task = self.task()
        sock = POOL.connect()
        sock.sendall((f"PUT /import_raw_vdi?vdi={self.vdi}&task_id={task} HTTP/1.1\r\nHost: x\r\n"
                      f"Cookie: session_id={self.api.session}\r\nContent-Length: {4 * MIB}\r\n\r\n").encode())
        sock.sendall(pattern(2 * MIB))
        until("the upload is noticed", lambda: self.api.VDI.get_current_operations(self.vdi))
        sock.close()
        until("the task fails", lambda: self.api.task.get_status(task) == "failure")
        self.assertEqual(self.api.task.get_error_info(task), ["IMPORT_ERROR_PREMATURE_EOF"])
        self.untouched(self.before)

    def test_cancel(self):
        task = self.task()
        sock = POOL.connect()
        self.addCleanup(sock.close)
        sock.sendall((f"PUT /import_raw_vdi?vdi={self.vdi}&task_id={task} HTTP/1.1\r\nHost: x\r\n"
                      f"Cookie: session_id={self.api.session}\r\nContent-Length: {4 * MIB}\r\n\r\n").encode())
        sock.sendall(pattern(2 * MIB))
        until("progress", lambda: 0.3 < self.api.task.get_progress(task) < 1)
        with self.assertRaises(Failure) as caught:
            self.api.PBD.unplug(self.api.SR.get_PBDs(self.sr)[0])
        self.assertTrue(caught.exception.code.startswith("SR_BACKEND_FAILURE"), caught.exception)
        self.api.task.cancel(task)
        until("the task ends", lambda: self.api.task.get_status(task) == "cancelled")
        self.assertEqual(self.api.task.get_error_info(task), ["TASK_CANCELLED", task])
        self.untouched(self.before)

    def test_a_download_that_nobody_reads_to_the_end(self):
        vdi = self.create_vdi(256 * MIB)
        sock = POOL.connect()
        sock.sendall((f"GET /export_raw_vdi?vdi={vdi} HTTP/1.1\r\nHost: x\r\n"
                      f"Cookie: session_id={self.api.session}\r\n\r\n").encode())
        self.assertIn(b"200", sock.recv(1000))
        sock.close()
        until("the mark goes", lambda: self.api.VDI.get_current_operations(vdi) == {})


class Stop(unittest.TestCase):
    """The server ends soon, however slow its clients are, and the disk is as before."""

    def test_during_transfers(self):
        with TestPool(hosts=1) as pool:
            api = pool.login()
            sr = api.SR.create(api.host.get_all()[0], {"location": pool.folder + "/sr"}, 0, "", "", "file", "", False, {})
            disks = [api.VDI.create({"SR": sr, "virtual_size": 256 * MIB, "type": "user", "sharable": False,
                                     "read_only": False, "other_config": {}}) for _ in range(2)]
            session = f"Cookie: session_id={api.session}\r\n\r\n"
            up, down = pool.connect(), pool.connect()
            up.sendall(f"PUT /import_raw_vdi?vdi={disks[0]} HTTP/1.1\r\nHost: x\r\nContent-Length: {256 * MIB}\r\n"
                       f"{session}".encode() + bytes(MIB))
            down.sendall(f"GET /export_raw_vdi?vdi={disks[1]} HTTP/1.1\r\nHost: x\r\n{session}".encode())
            for disk in disks:
                until("the transfer runs", lambda: api.VDI.get_current_operations(disk))
            pool.close_clients()
            pool.poold.stop(15)
            up.close()
            down.close()
            pool.start()
            api = pool.login()
            self.assertEqual([api.VDI.get_current_operations(disk) for disk in disks], [{}, {}])
            self.assertEqual(len(disk_files(pool.folder + "/sr")), 2)


class Guests(TransferTest):
    """VMs of older toolstacks, by xe."""

    def xe(self, *words):
        run = subprocess.run([program("xe"), "-s", "127.0.0.1", "-p", str(POOL.port), "-u", "root", "-pw", POOL.password, "--ca",
                              POOL.ca, *words], text=True, stdin=subprocess.DEVNULL, check=False, capture_output=True, timeout=120)
        return run.returncode, run.stdout, run.stderr

    def file(self, name, content):
        path = os.path.join(POOL.folder, name)
        with open(path, "wb") as f:
            f.write(content)
        return path

    def test_an_xl_file_and_a_libvirt_domain_become_vms(self):
        raw, sr = self.file("guest.raw", pattern(2 * MIB)), self.api.SR.get_uuid(self.sr)
        cow = os.path.join(POOL.folder, "guest.qcow2")
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, cow], check=True)
        taken = self.api.VDI.get_uuid(self.vdi)
        cfg = self.file("guest.cfg", f"name='xl guest'\ntype='hvm'\nmemory=64\nvif=['mac=00:16:3e:00:00:77']\nvnc=1\n"
                        f"disk=['{raw},raw,xvda,w','{cow},qcow2,xvdb,r','/nowhere,vmdk,xvdc,w']\n".encode())
        code, out, err = self.xe("vm-import-xl", f"file={cfg}", f"sr={sr}")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("Error: disk xvdc is vmdk, which is not read here", err)
        code, out, err = self.xe("vm-import-xl", f"file={cfg}", f"sr={sr}", f"vdi:xvdc={taken}")
        self.assertEqual((code, err), (0, "Not taken over: vnc = 1 (screens are reached through the pool, with its logins)\n"))
        vm = self.api.VM.get_record(self.api.VM.get_by_uuid(out.strip()))
        self.assertEqual((vm["name_label"], int(vm["memory_static_max"]), vm["HVM_boot_policy"]), ("xl guest", 64 * MIB, "BIOS order"))
        disks = {vbd["userdevice"]: vbd for vbd in map(self.api.VBD.get_record, vm["VBDs"])}
        self.assertEqual([(n, disks[n]["mode"]) for n in "012"], [("0", "RW"), ("1", "RO"), ("2", "RW")])
        for n in "01":
            self.assertEqual(self.content(disks[n]["VDI"]), pattern(2 * MIB))
        self.assertEqual(disks["2"]["VDI"], self.vdi)
        self.assertEqual([self.api.VIF.get_MAC(vif) for vif in vm["VIFs"]], ["00:16:3e:00:00:77"])
        self.starts(self.api.VM.get_by_uuid(out.strip()))
        xml = self.file("guest.xml", f"<domain><name>virt</name><memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type>hvm</type></os>"
                        f"<devices><disk type='file'><driver type='qcow2'/><source file='{cow}'/><target dev='vda'/></disk></devices>"
                        "</domain>".encode())
        code, out, err = self.xe("vm-import-libvirt", f"file={xml}", f"sr={sr}", "new-name-label=renamed")
        self.assertEqual((code, err), (0, ""))
        vm = self.api.VM.get_by_uuid(out.strip())
        self.assertEqual((self.api.VM.get_name_label(vm), self.api.VM.get_VCPUs_max(vm)), ("renamed", 2))
        self.starts(vm)

    def starts(self, vm):
        self.api.VM.start(vm, False, False)
        self.assertEqual(self.api.VM.get_power_state(vm), "Running")
        self.api.VM.hard_shutdown(vm)

    def test_what_was_made_goes_when_a_step_fails(self):
        raw = self.file("short.raw", pattern(MIB))
        cfg = self.file("broken.cfg", f"name='broken'\nmemory=64\nkernel='k'\ndisk=['{raw},raw,xvda,w']\nvif=['mac=zz']\n".encode())
        before = set(self.api.VDI.get_all())
        code, out, err = self.xe("vm-import-xl", f"file={cfg}", f"sr={self.api.SR.get_uuid(self.sr)}")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("MAC_INVALID", err)
        self.assertEqual(self.api.VM.get_by_name_label("broken"), [])
        self.assertEqual(set(self.api.VDI.get_all()), before)


if __name__ == "__main__":
    unittest.main()
