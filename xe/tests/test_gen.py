"""The generator of xe's tables refuses what it cannot know: each case breaks a copy of the description
in one place and expects the sentence that says so."""

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(sys.argv.pop(1) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])

# (file, text to replace, replacement, what must be said)
CASES = {
    "a class twice": ("sr.toml", 'class = "sr"', 'class = "vm"', "class vm is described twice"),
    "a command twice": ("other.toml", "[commands.console]", "[commands.vm-start]", "command vm-start is described twice"),
    "a generated command twice": ("other.toml", "[commands.console]", "[commands.vm-list]", "vm-list is described twice"),
    "a field twice": ("vif.toml", "MTU = {", "MAC = {", "vif.toml"),
    "an unknown class": ("vif.toml", 'api = "VIF"', 'api = "NIC"', "unknown class NIC"),
    "an unknown selector": ("other.toml", 'selector = "vm"', 'selector = "vdi"', "unknown class vdi in selector"),
    "an unknown field": ("vif.toml", 'from = "network"', 'from = "lan"', "class VIF has no field lan"),
    "a path through no reference": ("vif.toml", 'from = "network.name_label"', 'from = "MTU.name_label"', "is not a reference"),
    "an unknown format": ("vm.toml", 'texts = "power-state"', 'texts = "power"', "unknown format power"),
    "an unknown special": ("vbd.toml", 'special = "vdi-name"', 'special = "vdi"', "unknown format vdi"),
    "an unknown access": ("vif.toml", 'device = { access = "RO" }', 'device = { access = "WO" }', "unknown access 'WO'"),
    "writing what cannot be written": ("vif.toml", 'device = { access = "RO" }', 'device = { access = "RW" }',
                                       "no message VIF.set_device"),
    "an unknown column": ("vif.toml", '"vm-uuid", "device"', '"vm-uuid", "devise"', "devise is not one of its fields"),
    "an unknown key": ("vif.toml", 'class = "vif"', 'class = "vif"\ncolour = "red"', "unknown keys ['colour']"),
    "an unknown kind": ("vif.toml", '"param-clear"]', '"param-wipe"]', "unknown command kind param-wipe"),
    "an unknown message": ("vif.toml", 'call = "VIF.move"', 'call = "VIF.shift"', "the model has no message VIF.shift"),
    "too few arguments": ("vif.toml", 'args = ["uuid", "network-uuid"]', 'args = ["uuid"]', "takes 2 parameters, not 1"),
    "an argument of no parameter": ("vif.toml", 'args = ["uuid", "network-uuid"]', 'args = ["uuid", "net"]',
                                    "net is not one of its parameters"),
    "a record without a needed member": ("pbd.toml", '"host=host-uuid", ', "", "PBD.create needs host"),
    "the selected object without a selector": ("vif.toml", 'args = ["uuid", "network-uuid"]', 'args = ["@", "network-uuid"]',
                                               "there is no selector"),
    "a call and a handler": ("vif.toml", 'call = "VIF.move"', 'call = "VIF.move"\nhandler = "vif_move"',
                             "both a call and a handler"),
    "a member of nothing": ("vif.toml", 'call = "VIF.move"', 'call = "VIF.move"\nmember = "VM"', "gives no object"),
    "words about an unknown parameter": ("vif.toml", 'call = "VIF.move"', 'call = "VIF.move"\nsays = "{net}"',
                                         "net is not one of its parameters"),
    "a switch to another signature": ("vif.toml", '"VIF.unplug_force"', '"VIF.move"', "does not take the parameters"),
    "no help": ("vif.toml", 'help = "Moves a network card to another network."', 'help = ""', "no help sentence"),
    "an unknown error": ("errors.toml", "UUID_INVALID =", "UUID_WRONG =", "UUID_WRONG is not declared"),
}  # fmt: skip


sys.path.insert(0, str(ROOT / "openapi" / "gen"))
import xe_gen  # noqa: E402

MODEL = xe_gen.Description(ROOT / "openapi")


class Refusals(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="xe-gen-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def run_generator(self, root, out):
        command = [sys.executable, "-B", str(ROOT / "openapi" / "gen" / "xe_gen.py"), str(root), str(out)]
        return subprocess.run(command, capture_output=True, text=True)

    def test_the_description_as_it_is(self):
        once, again = self.folder / "once", self.folder / "again"
        for out in (once, again):
            r = self.run_generator(ROOT / "openapi", out)
            self.assertEqual((r.returncode, r.stderr), (0, ""))
        for name in ("xe_tables.c", "xe_handlers.h", "xe_commands.mdoc"):
            self.assertEqual((once / name).read_bytes(), (again / name).read_bytes(), name)

    def test_how_many_commands_work(self):
        """Counted for people; what is not built has no road to the server, or one that is not built there."""
        x = xe_gen.XeDescription(ROOT / "openapi")
        missing = {}

        def on_server(call, name):
            message = x.message(call, name)
            return message.kind not in ("CREATE", "DESTROY", "CUSTOM") or {"HANDLER", "GENERIC", "INLINE"} & message.flags

        for name, c in x.commands.items():
            self.assertTrue(xe_gen.example(c).startswith(f"xe {name}") or c["example"], name)
            call = c["call"] or c.get("needs")
            if call and not on_server(call, name):
                missing[name] = f"the server does not know {call} yet"
            elif not xe_gen.is_built(c):
                missing[name] = "is not built in xe"
        print(f"{len(x.commands) - len(missing)} of {len(x.commands)} commands of xe work; the others:")
        for name, why in sorted(missing.items()):
            print(f"    {name}: {why}")
        self.assertLess(len(missing), 25)

    def test_a_refusal_is_one_sentence(self):
        root = self.folder / "openapi"
        shutil.copytree(ROOT / "openapi", root, ignore=shutil.ignore_patterns("__pycache__", "src", "include"))
        path = root / "xe" / "vif.toml"
        path.write_text(path.read_text().replace('api = "VIF"', 'api = "NIC"'))
        r = self.run_generator(root, self.folder / "out")
        self.assertEqual(r.returncode, 1)
        self.assertRegex(r.stderr, r"^openapi: xe/vif.toml: unknown class NIC; [^\n]*\n$")
        self.assertFalse((self.folder / "out").exists())

    def test_refusals(self):
        shutil.copytree(ROOT / "openapi" / "xe", self.folder / "xe")
        xe_gen.Description, original = lambda root: MODEL, xe_gen.Description
        self.addCleanup(setattr, xe_gen, "Description", original)
        for title, (name, old, new, said) in CASES.items():
            with self.subTest(title):
                path = self.folder / "xe" / name
                text = path.read_text()
                self.assertIn(old, text)
                path.write_text(text.replace(old, new, 1))
                with self.assertRaises(xe_gen.DescriptionError) as refused:
                    xe_gen.XeDescription(self.folder)
                path.write_text(text)
                self.assertIn(said, str(refused.exception))


if __name__ == "__main__":
    unittest.main()
