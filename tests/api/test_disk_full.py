"""A disk under the database that is full or fails: a change fails with words, nothing of it is there, and the service
resumes.

A full disk is a small tmpfs; without the right to mount one that test is skipped. Single writes and syncs are refused
by a library that is loaded into poold (disk_faults.c)."""
import contextlib
import ctypes
import errno
import mmap
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
import xml.etree.ElementTree

from pool import BUILD, Failure, TestPool, program, until
from test_events import network_record, vm_record

SIZE = 24 * 1024 * 1024


class Tmpfs:
    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="corral-full-")

    def __enter__(self):
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"size={SIZE},mode=0700".encode()
        if libc.mount(b"corral", self.path.encode(), b"tmpfs", 0, options) != 0:
            error = os.strerror(ctypes.get_errno())
            os.rmdir(self.path)
            raise unittest.SkipTest(f"no tmpfs can be mounted here: {error}")
        return self.path

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=True)
        os.rmdir(self.path)


def fill(folder):
    """Takes all the space that is left."""
    path = os.path.join(folder, "filler")
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return path


class Full(unittest.TestCase):
    def test_a_change_fails_and_the_service_resumes(self):
        with Tmpfs() as folder, TestPool(state=os.path.join(folder, "state")) as pool:
            api = pool.login()
            network = api.network.create(network_record("before"))
            record = api.network.get_record(network)
            filler = fill(folder)
            codes = set()
            for n in range(40):
                try:
                    api.network.set_name_label(network, f"while full {n} " + "x" * 20000)
                    record = api.network.get_record(network)  # it still fitted
                except Failure as failure:
                    codes.add((failure.code, failure.params[0]))
                    self.assertEqual(api.network.get_record(network), record)
            self.assertEqual({c for c, _ in codes}, {"INTERNAL_ERROR"})
            self.assertIn("full", " ".join(text for _, text in codes))
            self.assertNotIn(folder, str(codes))
            self.assertEqual([pool.http("GET", path)[0] for path in ("/healthz", "/readyz")], [200, 503])
            # What needs no disk goes on.
            pool.login().logout()
            self.assertEqual(api.call("event.from", api.session, ["network"], "", 0.0)["valid_ref_counts"]["network"], 2)
            os.unlink(filler)
            api.network.set_name_label(network, "after")
            self.assertEqual(api.network.get_name_label(network), "after")
            self.assertEqual(pool.http("GET", "/readyz")[::2], (200, b'{"status":"ok"}'))
            pool.restart(crash=True)
            self.assertEqual(pool.login().network.get_name_label(network), "after")

    def test_no_mark_and_no_task_is_left(self):
        """Operations and tasks end though nothing can be written."""
        with Tmpfs() as folder, TestPool(state=os.path.join(folder, "state")) as pool:
            api = pool.login()
            vms = [api.VM.create(vm_record(f"vm{i} " + "x" * 5000)) for i in range(8)]
            filler = fill(folder)

            def work(seed):
                client = pool.again(api)
                for n in range(30):
                    for method, params in (("VM.set_name_label", [f"{n} " + "x" * 20000]), ("Async.VM.destroy", []),
                                           ("VM.destroy", []), ("VM.clone", ["c" * 20000])):
                        try:
                            client.call(method, client.session, vms[seed], *params)
                        except Failure:
                            pass
            threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            until("end of all tasks", lambda: not [t for t in api.task.get_all_records().values() if t["status"] == "pending"])
            for record in api.VM.get_all_records().values():
                self.assertEqual(record["current_operations"], {})
            os.unlink(filler)
            for vm in api.VM.get_all():
                api.VM.set_name_label(vm, "there again")
            pool.restart(crash=True)
            api = pool.login()
            self.assertEqual({r["name_label"] for r in api.VM.get_all_records().values()} - {"there again"}, set())


class Faults:
    """What the library does; see there."""
    WRITES, SYNCS = 1, 2

    def __init__(self, folder):
        self.path = os.path.join(folder, "faults")
        with open(self.path, "wb") as file:
            file.truncate(24)
        with open(self.path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 24)

    def arm(self, what, after, error, torn):
        struct.pack_into("6i", self.map, 0, 0, after, 1, error, torn, 0)
        struct.pack_into("i", self.map, 0, what)

    @property
    def hits(self):
        return struct.unpack_from("6i", self.map)[5]

    def environment(self):
        library = os.path.join(BUILD, "tests", "api", "libdisk_faults.so")
        return {"LD_PRELOAD": library, "CORRAL_DISK_FAULTS": self.path, "ASAN_OPTIONS": "verify_asan_link_order=0"}


class Failing(unittest.TestCase):
    """One write or sync after the other is refused while a client counts; then the process is killed."""
    TABLE = [("full", Faults.WRITES, errno.ENOSPC, False), ("failing", Faults.WRITES, errno.EIO, False),
             ("torn", Faults.WRITES, errno.EIO, True), ("not synced", Faults.SYNCS, errno.EIO, False)]

    def test_nothing_acknowledged_is_lost(self):
        with tempfile.TemporaryDirectory(prefix="corral-faults-") as folder:
            faults = Faults(folder)
            os.environ.update(faults.environment())
            try:
                with TestPool() as pool:
                    self.api = pool.login()
                    self.network = self.api.network.create(network_record("0"))
                    self.count = 0
                    for name, what, error, torn in self.TABLE:
                        with self.subTest(name):
                            refused = sum(self.refuse(faults, what, after, error, torn) for after in (0, 1, 2, 3, 5, 8))
                            self.assertGreater(refused, 0, "no change was refused")
                            self.assertEqual(pool.http("GET", "/readyz")[0], 200)
                            pool.restart(crash=True)
                            self.api = pool.login()
                            self.check()
            finally:
                for key in faults.environment():
                    os.environ.pop(key, None)

    def check(self):
        self.assertEqual(self.api.network.get_name_label(self.network), str(self.count))

    def change(self):
        """False: refused, and then nothing has changed."""
        try:
            self.api.network.set_name_label(self.network, str(self.count + 1))
        except Failure as failure:
            self.assertEqual(failure.code, "INTERNAL_ERROR")
            self.check()
            return False
        self.count += 1
        self.check()
        return True

    def refuse(self, faults, what, after, error, torn):
        """Changes until a write was refused and the next one is done; how many changes were refused."""
        faults.arm(what, after, error, torn)
        refused = 0

        def done():
            nonlocal refused
            changed = self.change()
            refused += not changed
            return faults.hits > 0 and changed
        until("a refused write and a change after it", done, 60, 0)
        return refused


def found_of(path, *networks):
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return [int(db.execute("SELECT name_description FROM network WHERE _ref = ?", (network,)).fetchone()[0])
                for network in networks]


class Backup(unittest.TestCase):
    """Copies that are made while clients write: each is the pool as it was at one moment, not before it began."""

    def test_copies_while_clients_write(self):
        with TestPool() as pool:
            api = pool.login()
            first, second = (api.network.create(network_record(name)) for name in ("first", "second"))
            stop, written = threading.Event(), 0

            def write():
                nonlocal written
                own = pool.login()
                while not stop.is_set():
                    for network in (first, second):  # one after the other: first is never behind
                        own.network.set_name_description(network, str(written + 1))
                    written += 1

            writer = threading.Thread(target=write)
            writer.start()
            try:
                for number in range(6):
                    before = until("a write", lambda: written)
                    if number % 2:
                        found = self.dump(pool, first, second)
                    else:
                        copy = self.copy(pool, number)
                        found = found_of(copy, first, second)
                    self.assertIn(found[0] - found[1], (0, 1))
                    self.assertGreaterEqual(found[1], before)
            finally:
                stop.set()
                writer.join()
            pool.stop()
            shutil.copyfile(copy, os.path.join(pool.state, "pool.db"))
            pool.start()
            api = pool.login()
            self.assertEqual([int(api.network.get_name_description(network)) for network in (first, second)],
                             found_of(copy, first, second))
            self.assertIn("older copy", pool.poold.log())

    @staticmethod
    def copy(pool, number):
        """As `sqlite3 pool.db ".backup FILE"`."""
        path = os.path.join(pool.folder, f"copy-{number}.db")
        with contextlib.closing(sqlite3.connect(os.path.join(pool.state, "pool.db"))) as source:
            with contextlib.closing(sqlite3.connect(path)) as target:
                source.backup(target)
        return path

    @staticmethod
    def dump(pool, *networks):
        status, _, body = pool.http("GET", "/pool/xmldbdump", None, pool.basic())
        assert status == 200, status
        rows = {row.get("ref"): row for row in xml.etree.ElementTree.fromstring(body).iter("row")}
        return [int(rows[network].get("name__description")) for network in networks]


class Gone(unittest.TestCase):
    """The file is removed, or another takes its place: nothing is promised that goes with it, and no empty pool begins."""

    def test_while_the_server_is_off(self):
        for crash in (False, True):
            with self.subTest(crash=crash), TestPool() as pool:
                api = pool.login()
                network = api.network.create(network_record("there"))
                (pool.kill if crash else pool.stop)()
                path = os.path.join(pool.state, "pool.db")
                os.rename(path, path + ".away")
                for _ in range(2):
                    with self.assertRaisesRegex(AssertionError, "is gone or empty"):
                        pool.start()
                    self.assertEqual(pool.poold.process.wait(), 3)
                self.assertFalse(os.path.exists(path))
                os.rename(path + ".away", path)
                pool.start()
                self.assertEqual(pool.login().network.get_name_label(network), "there")

    def test_while_it_is_in_use(self):
        for name in ("pool.db", "pool.db-wal"):
            for by in (None, b"", b"other"):
                with self.subTest(name, by=by), TestPool() as pool:
                    api = pool.login()
                    network = api.network.create(network_record("0"))
                    path = os.path.join(pool.state, name)
                    os.rename(path, path + ".away")
                    if by is not None:
                        with open(path, "wb") as file:
                            file.write(by)
                    for number in (1, 2):
                        with self.assertRaises(Failure) as caught:
                            api.network.set_name_label(network, str(number))
                        self.assertEqual(caught.exception.code, "INTERNAL_ERROR")
                        self.assertEqual(api.network.get_name_label(network), "0")
                    self.assertEqual(pool.http("GET", "/readyz")[0], 503)
                    self.assertIn("while it was in use", pool.poold.log())
                    os.rename(path + ".away", path)
                    api.network.set_name_label(network, "3")
                    self.assertEqual(pool.http("GET", "/readyz")[0], 200)
                    pool.restart(crash=True)
                    self.assertEqual(pool.login().network.get_name_label(network), "3")


class Damaged(unittest.TestCase):
    """A file that is not what was written: the server says so and does not begin."""

    def test_pages_of_something_else(self):
        with TestPool() as pool:
            api = pool.login()
            for number in range(60):
                api.network.create(network_record(f"{number} " + "x" * 2000))
            networks = sorted(api.network.get_all())
            pool.stop()
            path = os.path.join(pool.state, "pool.db")
            with open(path, "r+b") as file:
                whole = file.read()
                for page in range(8, len(whole) // 4096, 3):
                    file.seek(page * 4096)
                    file.write(b"\x5a" * 2048)  # the first half: torn
            with self.assertRaisesRegex(AssertionError, r"page \d+ is damaged"):
                pool.start()
            self.assertEqual(pool.poold.process.wait(), 3)
            with open(path, "wb") as file:
                file.write(whole.replace(b"59 xxxx", b"59 xxXx"))  # one bit, inside of a name
            with self.assertRaisesRegex(AssertionError, r"page \d+ is damaged"):
                pool.start()
            self.assertEqual(pool.poold.process.wait(), 3)
            run = subprocess.run([program("poold"), "--state", pool.state, "--accept-database"], check=False,
                                 capture_output=True, text=True)
            self.assertEqual((run.returncode, run.stderr), (0, ""))
            pool.start()
            self.assertIn("59 xxXx", {record["name_label"][:7] for record in
                                      pool.login().network.get_all_records().values()})
            pool.stop()
            with open(path, "wb") as file:
                file.write(whole)
            pool.start()
            self.assertEqual(sorted(pool.login().network.get_all()), networks)

    def test_a_database_of_a_newer_version(self):
        """As an older program finds it, that was put in the place of a newer one: to start again would not help."""
        def set_version(path, number):
            with contextlib.closing(sqlite3.connect(path)) as database:
                [before] = database.execute("PRAGMA user_version").fetchone()
                database.execute(f"PRAGMA user_version = {number or before + 1}")
            subprocess.run([program("poold"), "--state", pool.state, "--accept-database"], check=True, stdout=subprocess.DEVNULL)
            return before

        with TestPool() as pool:
            pool.stop()
            path = os.path.join(pool.state, "pool.db")
            ours = set_version(path, None)
            with self.assertRaisesRegex(AssertionError, rf"newer version of Corral \(schema {ours + 1}, this is {ours}\)"):
                pool.start()
            self.assertEqual(pool.poold.process.wait(), 3)
            self.assertEqual(set_version(path, ours), ours + 1)
            pool.start()


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
