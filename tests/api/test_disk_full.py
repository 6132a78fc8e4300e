"""A full disk under the database: a change fails with words, nothing of it is there, and the service resumes.

The state lies on a small tmpfs; without the right to mount one the test is skipped."""
import ctypes
import os
import subprocess
import sys
import tempfile
import threading
import unittest

from pool import Failure, TestPool, until
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


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
