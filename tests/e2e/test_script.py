#!/usr/bin/env python3
"""The entry script without a pool: its refusals, its stages, and its care with processes."""
import os
import signal
import subprocess
import tempfile
import unittest

from installation import ROOT, alive
from waiting import until

CORRAL = os.path.join(ROOT, "corral")


def corral(*arguments, **environment):
    return subprocess.run([CORRAL, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
                          env={**os.environ, **environment})


class Options(unittest.TestCase):
    def test_refusals_name_what_was_wrong(self):
        for arguments, words in (
                (["frob"], "unknown command 'frob'"),
                (["up", "--frob"], "unknown option '--frob'"),
                (["up", "--guests"], "unknown option '--guests'"),
                (["up", "--port"], "--port needs a value"),
                (["up", "--port", "seven"], "--port needs a port"),
                (["up", "--port=65536"], "--port needs a port"),
                (["up", "--http", "0x10"], "--http needs a port"),
                (["up", "--hosts", "0"], "--hosts needs a number"),
                (["up", "--port", "1", "--port=2"], "--port is given twice"),
                (["up", "--build", "/nonexistent", "--state", "/tmp/not-to-be-made"], "there is no poold in its folder bin"),
                (["up", "--driver", "xen"], "--driver is qemu or sim"),
                (["down", "--", "x"], "takes no further arguments"),
                (["down", "x"], "takes no further arguments"),
                (["fuzz", "--jobs", "0"], "--jobs needs a number from 1 to 1024"),
                (["package", "--version", "1_0"], "--version needs a version"),
                (["bench", "no-such"], "there is none named 'no-such'"),
                (["status", "--state", "/nonexistent/state"], "there is no pool in /nonexistent/state"),
                (["down", "--state", "/nonexistent/state"], "there is no pool in /nonexistent/state"),
                (["env", "--state", "/nonexistent/state"], "there is no pool in /nonexistent/state")):
            with self.subTest(arguments=arguments):
                run = corral(*arguments)
                self.assertEqual(run.returncode, 2, run.stdout)
                self.assertIn(words, run.stdout)
        self.assertFalse(os.path.exists("/tmp/not-to-be-made"))

    def test_each_command_has_help(self):
        for command in ("up", "down", "status", "env", "doctor", "test", "bench", "coverage", "fuzz", "package"):
            with self.subTest(command=command):
                run = corral(command, "--help")
                self.assertEqual(run.returncode, 0)
                self.assertIn(f"corral {command}", run.stdout)

    def test_a_folder_that_is_no_pool_is_left_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            with open(os.path.join(folder, "precious"), "w", encoding="ascii"):
                pass
            run = corral("up", "--state", folder, "--build", folder)
            self.assertNotEqual(run.returncode, 0)
            self.assertIn("not a pool's folder", run.stdout)
            self.assertEqual(os.listdir(folder), ["precious"])

    def test_missing_packages_are_named_and_not_installed_without_rights(self):
        # A PATH on which nothing of what the build needs is found, nor sudo.
        with tempfile.TemporaryDirectory() as folder:
            for tool in ("bash", "dirname", "readlink", "realpath", "dpkg-query", "mkdir", "chmod", "find",
                         "mv", "cat", "grep", "flock", "sed", "tail", "cut", "xargs", "env", "wc", "apt-get"):
                path = subprocess.run(["which", tool], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
                os.symlink(path, os.path.join(folder, tool))
            with open(os.path.join(folder, "id"), "w", encoding="ascii") as fake:
                fake.write("#!/bin/sh\necho 1000\n")
            os.chmod(os.path.join(folder, "id"), 0o755)
            run = corral("up", "--state", os.path.join(folder, "state"), PATH=folder)
            self.assertEqual(run.returncode, 2, run.stdout)
            self.assertIn("qemu-system-x86", run.stdout)
            self.assertIn("As root: apt-get install", run.stdout)


class Daemons(unittest.TestCase):
    """The functions of scripts/daemons.sh, on processes of this test."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.state = folder.name
        os.mkdir(os.path.join(self.state, "run"))
        os.mkdir(os.path.join(self.state, "log"))

    def bash(self, script, check=True):
        run = subprocess.run(["bash", "-euo", "pipefail", "-c",
                              f'corral_program=corral; state={self.state}\n'
                              f'. "{ROOT}/scripts/say.sh"; . "{ROOT}/scripts/daemons.sh"\n{script}'],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             timeout=60, check=False)
        if check:
            self.assertEqual(run.returncode, 0, run.stdout)
        return run

    def start(self, command):
        self.bash(f"daemon_start it {command}")
        with open(os.path.join(self.state, "run", "it.pid"), encoding="ascii") as file:
            pid = int(file.read().split()[0])
        self.addCleanup(lambda: alive(pid) and os.kill(pid, signal.SIGKILL))
        return pid

    def test_started_runs_in_a_session_of_its_own_and_stops(self):
        pid = self.start("sleep 600")
        until("its session", lambda: os.getsid(pid) == pid)  # the process is there a moment before
        self.assertEqual(self.bash("daemon_pid it").stdout.strip(), str(pid))
        self.bash("daemon_stop it 10")
        self.assertFalse(alive(pid))
        self.assertNotEqual(self.bash("daemon_pid it", check=False).returncode, 0)

    def test_other_process_with_the_same_pid_is_never_ended(self):
        pid = self.start("sleep 600")
        path = os.path.join(self.state, "run", "it.pid")
        with open(path, encoding="ascii") as file:
            number, started, boot = file.read().split()
        for content in (f"{number} {int(started) - 1} {boot}", f"{number} {started} another-boot", f"{number}", ""):
            with self.subTest(content=content):
                with open(path, "w", encoding="ascii") as file:
                    file.write(content + "\n")
                self.assertNotEqual(self.bash("daemon_pid it", check=False).returncode, 0)
                self.bash("daemon_stop it 1")
                self.assertTrue(alive(pid))

    def test_deaf_daemon_is_killed_after_its_time(self):
        pid = self.start("bash -c 'trap \"\" TERM; echo deaf; while :; do sleep 1; done'")
        with open(os.path.join(self.state, "log", "it.log"), encoding="ascii") as log:
            until("the trap", log.read)
        self.assertIn("killed", self.bash("daemon_stop it 1").stdout)
        self.assertFalse(alive(pid))

    def test_daemon_that_ends_instead_of_answering_shows_its_last_words(self):
        run = self.bash("daemon_start it sh -c 'echo no database; exit 1' && daemon_wait it /nonexistent 20",
                        check=False)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("no database", run.stdout)

    def test_failed_stage_shows_the_end_of_its_log(self):
        run = self.bash('f() { echo building; echo broken; false; echo never; }\n'
                        'stage building "$state/log/x.log" f', check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn("broken", run.stdout)
        self.assertNotIn("never", run.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
