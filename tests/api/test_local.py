"""The socket of this machine's root: who may ask there, and what happens to it when poold starts and stops."""
import http.client
import json
import os
import socket
import subprocess
import sys
import unittest
import xmlrpc.client

from pool import NULL, ROOT, TestPool, program


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("local", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Transport(xmlrpc.client.Transport):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def make_connection(self, host):
        if not self._connection[1]:
            self._connection = host, Connection(self.path)
        return self._connection[1]


class Local(unittest.TestCase):
    def test_any_login_succeeds(self):
        with TestPool() as pool:
            path = os.path.join(pool.state, "poold.sock")
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            with xmlrpc.client.ServerProxy("http://local/RPC2", Transport(path)) as local:
                for user, password in (("root", ""), ("root", "wrong"), ("nobody at all", "x")):
                    session = local.session.login_with_password(user, password)["Value"]
                    record = local.session.get_record(session, session)["Value"]
                    self.assertIs(record["is_local_superuser"], True)
                    self.assertEqual(local.pool.get_all(session)["Status"], "Success")
                    self.assertEqual(local.session.logout(session)["Value"], "")
                self.assertEqual(local.pool.get_all(NULL)["ErrorDescription"], ["SESSION_INVALID", NULL])
            # The network's doors are no wider for that.
            status, text = pool.rpc({"jsonrpc": "2.0", "method": "session.login_with_password", "params": ["root", ""], "id": 1})
            self.assertEqual((status, json.loads(text)["error"]["message"]), (200, "SESSION_AUTHENTICATION_FAILED"))

    def test_xe_needs_no_password(self):
        with TestPool() as pool:
            path = os.path.join(pool.state, "poold.sock")
            env = {"PATH": os.environ["PATH"], "HOME": pool.folder}
            for words, more in ((["-s", path], {}), ([], {"XE_SERVER": path})):
                run = subprocess.run([program("xe"), *words, "pool-list", "params=uuid"], env={**env, **more}, text=True,
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
                self.assertEqual((run.returncode, run.stderr), (0, ""))
                self.assertIn(pool.login().pool.get_all_records().popitem()[1]["uuid"], run.stdout)
            run = subprocess.run([program("xe"), "-s", path + "x", "pool-list"], env=env, text=True, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
            self.assertEqual(run.returncode, 3)
            self.assertIn(f"no server answers on the socket {path}x", run.stderr)

    def test_xe_finds_the_socket_of_an_installed_server(self):
        """/run/corral/poold.sock, in a file system of the test's own."""
        if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
            self.skipTest("no file systems can be mounted here")
        with TestPool() as pool:
            path = os.path.join(pool.state, "poold.sock")
            script = 'mount -t tmpfs none /run && mkdir /run/corral && ln -s "$0" /run/corral/poold.sock && exec "$@"'
            for words, code in (([], 0), (["-p", "1"], 3), (["-s", "127.0.0.1", "-p", "1"], 3)):
                run = subprocess.run(["unshare", "--mount", "sh", "-c", script, path, program("xe"), *words, "pool-list", "params=uuid"],
                                     env={"PATH": os.environ["PATH"], "HOME": pool.folder}, text=True, timeout=60,
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
                self.assertEqual(run.returncode, code, run.stderr)
                self.assertEqual(pool.login().pool.get_all_records().popitem()[1]["uuid"] in run.stdout, code == 0)

    def test_the_entry_script_needs_no_password(self):
        """The first password's file goes when the password is changed."""
        with TestPool() as pool:
            api = pool.login()
            api.call("session.change_password", api.session, pool.password, "another one")
            self.assertFalse(os.path.exists(os.path.join(pool.state, "admin-password")))
            token = os.path.join(pool.folder, "token")
            for words in (["answers"], ["summary"], ["token", token]):
                run = subprocess.run([sys.executable, "-B", os.path.join(ROOT, "scripts", "pool.py"), "--state", pool.state, *words],
                                     text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
                self.assertEqual(run.returncode, 0, run.stdout)
            self.assertEqual(os.stat(token).st_mode & 0o777, 0o600)

    def test_static_files_and_errors_as_elsewhere(self):
        with TestPool() as pool:
            local = Connection(os.path.join(pool.state, "poold.sock"))
            for method, path, status in (("GET", "/", 404), ("DELETE", "/", 501), ("PUT", "/nope", 403)):
                local.request(method, path)
                answer = local.getresponse()
                self.assertEqual(answer.status, status)
                answer.read()
            local.close()

    def test_life_of_the_socket(self):
        with TestPool() as pool:
            path = os.path.join(pool.state, "poold.sock")
            pool.restart(crash=True)  # what a killed one left is replaced
            self.assertTrue(os.path.exists(path))
            pool.stop()
            self.assertFalse(os.path.exists(path))
            pool.start()

    def test_another_place_or_none(self):
        with TestPool() as pool:
            elsewhere = os.path.join(pool.folder, "s")
            pool.stop()
            with open(os.path.join(pool.folder, "file"), "w", encoding="ascii"):
                pass
            pool.poold.arguments += ["--socket", elsewhere]
            pool.start()
            self.assertTrue(os.path.exists(elsewhere))
            self.assertFalse(os.path.exists(os.path.join(pool.state, "poold.sock")))
            # Neither a file nor a living server's socket is taken away.
            for path, text in ((elsewhere, "another process listens"), (os.path.join(pool.folder, "file"), "no socket"),
                               ("/tmp/" + "x" * 200, "at most 107 bytes")):
                state = os.path.join(pool.folder, "second")
                run = subprocess.run([program("poold"), "--state", state, "--port", "0", "--socket", path], text=True, timeout=60,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
                self.assertEqual(run.returncode, 1, run.stdout)
                self.assertIn(text, run.stdout)
            pool.stop()
            pool.poold.arguments[-1] = "none"
            pool.start()
            self.assertFalse(os.path.exists(elsewhere))


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
