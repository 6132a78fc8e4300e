#!/usr/bin/env python3
"""build-debian refuses what is wrong before it does anything."""
import os
import subprocess
import tempfile
import unittest

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "build-debian")


class RecipeTest(unittest.TestCase):
    def test_what_is_wrong_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            image = os.path.join(folder, "image")
            for arguments, words in (
                    ([], "IMAGE is missing"),
                    ([image, "more"], "one IMAGE expected"),
                    (["--format", image], "unknown option"),
                    (["--suite"], "needs a value"),
                    (["--suite", "-x", image], "no name of a Debian release"),
                    (["--suite", "a/../b", image], "no name of a Debian release"),
                    (["--hostname", "a b", image], "no host name"),
                    (["--hostname", "a\nb", image], "line break"),
                    (["--hostname", "-a", image], "no host name"),
                    (["--size", "big", image], "no size"),
                    (["--size", "100M", image], "too small"),
                    (["--ip", "10.0.0.300/24", image], "ADDRESS/BITS"),
                    (["--ip", "10.0.0.3", image], "ADDRESS/BITS"),
                    (["--ip", "10.0.0.3/24,10.0.0.1,$(reboot)", image], "ADDRESS/BITS"),
                    (["--include", "a;b", image], "list of packages"),
                    (["--mirror", "nowhere", image], "address of an archive"),
                    (["--ssh-key", "/nonexistent", image], "cannot be read")):
                with self.subTest(arguments=arguments):
                    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60,
                                          check=False)
                    self.assertEqual(done.returncode, 1, done.stdout)
                    self.assertIn(words, done.stderr)
            self.assertEqual(os.listdir(folder), [])

    def test_help(self):
        done = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, timeout=60, check=True)
        self.assertIn("--hostname", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
