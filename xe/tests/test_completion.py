"""Completion for bash, asked as readline would. usage: test_completion.py XE"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from fake_server import PASSWORD, FakeServer

XE = Path(sys.argv.pop(1))
SCRIPT = Path(__file__).resolve().parents[1] / "completion" / "xe.bash"
ASK = r"""
source "$1"
COMP_LINE=$2 COMP_POINT=${#2}
IFS=$' \t\n=' read -ra COMP_WORDS <<<"$2"
[[ $2 == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_xe
printf '%s\n' "${COMPREPLY[@]}"
"""


class Completion(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer()
        self.addCleanup(self.server.close)
        folder = tempfile.TemporaryDirectory(prefix="xe-completion-")
        self.addCleanup(folder.cleanup)
        home = Path(folder.name)
        (home / ".xe").write_text(f"port={self.server.port}\nnossl=true\npassword={PASSWORD}\n")
        (home / ".xe").chmod(0o600)
        self.env = {"HOME": str(home), "PATH": f"{XE.parent}:{os.environ['PATH']}"}

    def ask(self, line):
        r = subprocess.run(["bash", "-c", ASK, "-", str(SCRIPT), line], env=self.env, capture_output=True, text=True, timeout=60)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        return r.stdout.split("\n")[:-1]

    def complete(self, *words):
        r = subprocess.run([XE, "--complete", "--", *words], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           timeout=60)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        return r.stdout.split("\n")[:-1]

    def test_what_is_offered(self):
        vms = ["00000061-0000-4000-8000-000000000000", "00000062-0000-4000-8000-000000000000", "00000063-0000-4000-8000-000000000000"]
        for words, expected in (
            (["vm-st"], ["vm-start"]),
            (["help", "vm-inst"], ["vm-install"]),
            (["-s", "127.0.0.1", "vm-st"], ["vm-start"]),
            (["vm-start", "pau"], ["paused="]),
            (["vm-start", "paused="], ["paused=true", "paused=false"]),
            (["vm-start", "vm=we"], ["vm=web1", "vm=web, two \\ 2", "vm=web1"]),
            (["template-list", "uuid="], ["uuid=00000064-0000-4000-8000-000000000000"]),
            (["snapshot-uninstall", "uuid="], ["uuid=00000065-0000-4000-8000-000000000000"]),
            (["vm-list", "uuid=0000006"], ["uuid=" + uuid for uuid in vms]),
            (["vm-install", "sr-uuid=00000022"], ["sr-uuid=00000022-0000-4000-8000-000000000000"]),
            (["vm-list", "power-state=h"], ["power-state=halted"]),
            (["vm-list", "params=uuid,name-l"], ["params=uuid,name-label"]),
            (["vm-list", "--w"], ["--where=", "--watch"]),
            (["vm-list", "--columns=name-label,power"], ["--columns=name-label,power-state"]),
            (["vm-start", "--a"], ["--async"]),
            (["sr-create", "device-c"], ["device-config:"]),
            (["why", "vm=Tiny", "op="], []),
            (["no-such-command", "x"], []), (["vm-list", "-s"], []), (["vm-list", "server="], []), ([], []), (["\udcff"], []),
        ):
            with self.subTest(words=words):
                self.assertEqual(self.complete(*words), expected)

    def test_a_server_that_is_not_known_or_not_there_is_no_trouble(self):
        self.assertEqual(self.complete("-p", "1", "vm-start", "vm="), [])
        (Path(self.env["HOME"]) / ".xe").write_text("")
        self.assertEqual(self.complete("vm-start", "vm="), [])
        self.assertFalse((Path(self.env["HOME"]) / ".config").exists())

    def test_time(self):
        took = []
        for _ in range(5):
            start = time.monotonic()
            self.complete("vm-start", "vm=")
            took.append(time.monotonic() - start)
        print(f"completion of a VM's name: {min(took) * 1000:.0f} ms (this build, with a server in Python)")

    def test_other_shells(self):
        """Their scripts are at least such scripts."""
        for shell in ("zsh", "fish"):
            script = SCRIPT.with_name(f"xe.{shell}")
            if not shutil.which(shell):
                print(f"{script.name} was not read: {shell} is not installed")
                continue
            subprocess.run([shell, "-n", script], check=True)

    def test_commands(self):
        self.assertEqual(self.ask("xe vm-st"), ["vm-start "])
        self.assertIn("vm-install ", self.ask("xe help vm-i"))

    def test_parameters(self):
        self.assertEqual(self.ask("xe vm-install new-"), ["new-name-label="])
        self.assertIn("vm=", self.ask("xe vm-start "))
        self.assertIn("device-config:", self.ask("xe sr-create d"))

    def test_values(self):
        self.assertEqual(self.ask("xe vm-start vm=web1"), ["web1 "] * 2)
        self.assertEqual(self.ask("xe vm-start vm=web,"), [r"web\,\ two\ \\\ 2 "])
        self.assertEqual(self.ask("xe sr-scan uuid=00000022"), ["00000022-0000-4000-8000-000000000000 "])
        self.assertEqual(self.ask("xe vm-param-get uuid=x param-name=power"), ["power-state "])

    def test_a_name_is_never_run(self):
        self.server.tables["VM"]["OpaqueRef:vm1"]["name_label"] = "$(touch $HOME/ran)`touch $HOME/ran`"
        self.assertEqual(self.ask("xe vm-start vm=$"), [r"\$\(touch\ \$HOME/ran\)\`touch\ \$HOME/ran\` "])
        self.assertFalse((Path(self.env["HOME"]) / "ran").exists())


if __name__ == "__main__":
    unittest.main()
