"""Mistakes in the daemons' command lines: named in one sentence, with the exit code of the manual pages, and before
anything is made. And state folders that a server cannot begin with."""
import os
import subprocess
import tempfile
import unittest

from pool import TestPool, program

POOLD = (
    ([], "--state DIR is needed"),
    (["--state", "{}", "--nosuch"], "there is no option --nosuch"),
    (["--state", "{}", "--state", "x"], "--state is given twice"),
    (["--state", "{}", "extra"], '"extra" is not an option'),
    (["--state", "{}", "--port", "1k"], "--port wants a number from 0 to 65535"),
    (["--state", "{}", "--nbd-port", "70000"], "--nbd-port wants a number from 0 to 65535"),
    (["--state", "{}", "--session-idle", "0"], "--session-idle wants a number from 1"),
    (["--state", "{}", "--listen", "localhost"], "--listen is a numeric address, not 'localhost'"),
    (["--state", "{}", "--listen", "300.1.1.1"], "--listen is a numeric address, not '300.1.1.1'"),
    (["--state", "{}", "--log-level", "loud"], "--log-level is error, warn, info or debug"),
    (["--state", "{}", "--fetch-allow", "10/8"], "'10/8' is no network"),
    (["--state", "{}", "--pam-dir", "/nonexistent/pam"], "/nonexistent/pam: No such file"),
    (["--state", "{}", "--noted-sum", "0" * 64], "--noted-sum goes with --verify-audit"),
    (["--state", "{}", "--verify-audit"], "audit.log: No such file"),
)
HOSTD = (
    ([], "--state DIR is needed"),
    (["--state", "{}", "--nosuch"], "there is no option --nosuch"),
    (["--state", "{}", "--driver", "vmware"], "--driver is qemu or sim, not 'vmware'"),
    (["--state", "{}", "--reserve-memory", "1G"], "--reserve-memory wants a number from 0"),
    (["--state", "{}", "--guest-uids", "-1"], "--guest-uids wants a number from 0"),
    (["--state", "{}", "--log-level", "loud"], "--log-level is not one of"),
)


class CommandLines(unittest.TestCase):
    def refused(self, name, cases):
        for arguments, words in cases:
            with self.subTest(program=name, arguments=arguments), tempfile.TemporaryDirectory() as folder:
                state = os.path.join(folder, "state")
                run = subprocess.run([program(name), *(a.format(state) for a in arguments)], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
                self.assertEqual(run.returncode, 2, run.stdout)
                self.assertIn(words, run.stdout)
                self.assertEqual(len(run.stdout.splitlines()), 1, run.stdout)
                self.assertEqual(os.listdir(folder), [])

    def test_poold(self):
        self.refused("poold", POOLD)

    def test_hostd(self):
        self.refused("hostd", HOSTD)

    def test_a_state_folder_that_is_of_no_use(self):
        with tempfile.TemporaryDirectory() as folder:
            if os.geteuid() == 0:  # whom permissions do not bind
                os.chown(folder, 65534, 65534)
                who = ["setpriv", "--reuid", "1", "--regid", "1", "--clear-groups"]
            else:
                os.chmod(folder, 0o500)
                who = []
            run = subprocess.run([*who, program("poold"), "--state", folder, "--port", "0"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
            self.assertEqual(run.returncode, 1, run.stdout)
            self.assertRegex(run.stdout, r"the state folder cannot be used folder=\S+ cause=\"Permission denied\" own_uid=\d+ "
                                         r"folder_uid=\d+")

    def test_files_that_are_lost_or_damaged(self):
        """No new pool begins where there was one, and what is damaged is named."""
        with TestPool() as pool:
            pool.stop()
            for name, content, code, words in (
                    ("pool.db", None, 3, "pool.db is gone or empty, and"),
                    ("pool.db", "", 3, "pool.db is gone or empty, and"),
                    ("pki/ca.pem", None, 1, "ca.pem is missing, but other certificates of the pool are there"),
                    ("pki/server.pem", "junk", 1, "pki/server.pem and"),
                    ("standing.json", "{", 1, "standing.json")):
                with self.subTest(name=name, content=content):
                    path = os.path.join(pool.state, name)
                    kept = path + ".kept" if os.path.exists(path) else None
                    if kept:
                        os.rename(path, kept)
                    if content is not None:
                        with open(path, "w", encoding="ascii") as file:
                            file.write(content)
                    with self.assertRaises(AssertionError) as caught:
                        pool.start()
                    self.assertIn(f"poold ended with {code}:", str(caught.exception))
                    self.assertIn(words, str(caught.exception))
                    if content is None:
                        self.assertFalse(os.path.exists(path))
                    else:
                        os.unlink(path)
                    if kept:
                        os.rename(kept, path)
            pool.start()
            pool.login()

    def test_version(self):
        for name in ("poold", "hostd"):
            told = subprocess.run([program(name), "--version"], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
            self.assertRegex(told.stdout, rf"^{name} \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
