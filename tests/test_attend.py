"""What a test leaves running ends with it, its answer stays, and what ends by itself is left to do so."""
import os
import subprocess
import sys
import time
import unittest

ATTEND = sys.argv.pop()


def attend(script, *arguments):
    """Of a shell script."""
    return subprocess.run([ATTEND, "sh", "-c", script, "sh", *arguments], capture_output=True, text=True, timeout=60)


class Attend(unittest.TestCase):
    def test_exit_status(self):
        for status in [0, 1, 77]:
            done = attend(f"exit {status}")
            self.assertEqual((done.returncode, done.stderr), (status, ""))

    def test_signal(self):
        done = attend("kill -SEGV $$")
        self.assertEqual((done.returncode, done.stderr), (128 + 11, "attend: the test was ended by signal 11\n"))

    def test_arguments_and_output(self):
        self.assertEqual(attend('echo "$1|$2"', "a b", "").stdout, "a b|\n")

    def test_no_program(self):
        done = subprocess.run([ATTEND, "/nonexistent"], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (125, "attend: cannot start the test: No such file or directory\n"))

    def test_what_is_left_ends(self):
        """Also in a session of its own, behind a parent that is gone, and deaf to requests."""
        done = attend("setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & wait' >&- 2>&- & sleep 0.3; echo $!; exit 3")
        self.assertEqual(done.returncode, 3)
        self.assertEqual(done.stderr.count("attend: ended what the test has left running"), 2, done.stderr)
        self.assertIn(" sleep 1000", done.stderr)
        self.assertFalse(os.path.exists(f"/proc/{done.stdout.strip()}"))

    def test_what_ends_by_itself_may(self):
        before = time.monotonic()
        done = attend("sleep 0.5 >&- 2>&- & exit 0")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertGreaterEqual(time.monotonic() - before, 0.4)


if __name__ == "__main__":
    unittest.main()
