"""Mistakes in the daemons' command lines: named in one sentence, with the exit code of the manual pages, and before
anything is made."""
import os
import subprocess
import tempfile
import unittest

from pool import program

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

    def test_version(self):
        for name in ("poold", "hostd"):
            told = subprocess.run([program(name), "--version"], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
            self.assertRegex(told.stdout, rf"^{name} \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
