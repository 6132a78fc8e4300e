"""Completion for bash, asked as readline would. usage: test_completion.py XE"""

import os
import subprocess
import sys
import tempfile
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
