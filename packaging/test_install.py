"""An installed Corral: everything is in its place, and systemd's own tools find nothing wrong with its units, users and
folders. Those tools are asked when they are there."""
import glob
import os
import re
import shutil
import stat
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("CORRAL_TEST_BUILD", os.path.join(HERE, "..", "build", "test"))
UNITS = ("corral-poold.service", "corral-hostd.service", "corral-guests.service")
PARTS = ("server", "host")


def run(*argv, **more):
    done = subprocess.run(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=240,
                          stdin=subprocess.DEVNULL, **more)
    return done.returncode, done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dest = tempfile.mkdtemp(prefix="corral-install-")
        cls.addClassCleanup(shutil.rmtree, cls.dest, ignore_errors=True)
        code, said = run("cmake", "--install", BUILD, env={**os.environ, "DESTDIR": cls.dest})
        if code:
            raise AssertionError(said)
        [unit] = glob.glob(cls.dest + "/**/corral-poold.service", recursive=True)
        cls.prefix = unit[len(cls.dest):-len("/lib/systemd/system/corral-poold.service")]

    def path(self, name):
        return self.dest + self.prefix + "/" + name

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def test_everything_is_there(self):
        for name in ("sbin/poold", "sbin/hostd", "sbin/corral-setup", "sbin/corral-join", "bin/xe", "libexec/corral/corral-launch", "libexec/corral/corral-power"):
            self.assertTrue(os.stat(self.path(name)).st_mode & stat.S_IXUSR, name)
        for name in (*("lib/systemd/system/" + unit for unit in UNITS), *(f"lib/{kind}.d/corral-{part}.conf" for kind in ("sysusers", "tmpfiles") for part in PARTS),
                     *(f"share/man/man8/{page}.8" for page in ("poold", "hostd", "corral-setup", "corral-join")),
                     "share/corral/setup/pool.py"):
            self.assertTrue(self.read(name), name)

    def test_setup_finds_its_parts(self):
        script = self.read("sbin/corral-setup")
        self.assertNotIn("@CMAKE", script)
        for what in re.findall(r"^(?:setup|join)=(.*)$", script, re.M):
            self.assertTrue(os.path.exists(self.dest + what), what)

    def test_what_units_name_is_there(self):
        for unit in UNITS:
            text = self.read("lib/systemd/system/" + unit)
            self.assertNotIn("@CMAKE", text)
            command = re.findall(r"^ExecStart=-?(.*)$", text, re.M)[0]
            for word in command.split():
                if word.startswith(self.prefix + "/") and not word.endswith("/web"):
                    self.assertTrue(os.access(self.dest + word, os.X_OK), word)
            code, said = run(self.dest + command.split()[0], "--help")
            self.assertEqual(code, 0, said)
            for option in re.findall(r" (--[a-z-]+) ", command):
                self.assertIn(option, said)

    def test_manual_pages_know_every_option(self):
        for program in ("poold", "hostd"):
            code, said = run(self.path("sbin/" + program), "--help")
            self.assertEqual((code, said.splitlines()[0].count(program)), (0, 1), said)
            page = self.read(f"share/man/man8/{program}.8")
            options = set(re.findall(r"^ +-(-[a-z-]+)", said, re.M)) - {"-help"}
            self.assertGreater(len(options), 10)
            for option in sorted(options):
                self.assertRegex(page, rf"(?m)^\.It .*Fl {option}\b", f"{program}(8): its description")
                self.assertIn(f"Fl {option}", page.partition(".Sh DESCRIPTION")[0], f"{program}(8): its synopsis")

    def test_guests_outlive_the_agent(self):
        self.assertIn("\nKillMode=process\n", self.read("lib/systemd/system/corral-hostd.service"))

    def test_guests_outlive_a_restart_of_the_server(self):
        """What requires a unit is stopped and started with it: corral-guests, which brings guests down, must not be."""
        text = self.read("lib/systemd/system/corral-guests.service")
        self.assertNotRegex(text, r"(?m)^(Requires|Requisite|BindsTo|PartOf)=")
        self.assertIn("\nAfter=corral-poold.service corral-hostd.service\n", text)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_units_are_well_formed(self):
        folder = tempfile.mkdtemp(prefix="corral-units-")
        self.addCleanup(shutil.rmtree, folder)
        for unit in UNITS:
            with open(os.path.join(folder, unit), "w", encoding="utf-8") as file:
                file.write(self.read("lib/systemd/system/" + unit).replace(self.prefix + "/", f"{self.dest}{self.prefix}/"))
        code, said = run("systemd-analyze", "verify", "--man=no", *(os.path.join(folder, u) for u in UNITS))
        ours = [line for line in said.splitlines() if "corral" in line]
        self.assertEqual((code if ours else 0, ours), (0, []), said)

    @unittest.skipUnless(shutil.which("systemd-sysusers"), "systemd-sysusers is not installed")
    def test_users_and_folders_can_be_made(self):
        root = tempfile.mkdtemp(prefix="corral-root-")
        self.addCleanup(shutil.rmtree, root, ignore_errors=True)
        os.mkdir(os.path.join(root, "etc"))
        code, said = run("systemd-sysusers", "--root", root, *(self.path(f"lib/sysusers.d/corral-{part}.conf") for part in PARTS))
        self.assertEqual(code, 0, said)
        with open(os.path.join(root, "etc/passwd"), encoding="ascii") as file:
            ids = {line.split(":")[0]: line.split(":")[2:4] for line in file}
        self.assertEqual(sorted(ids), ["corral", "corral-qemu"])
        self.assertEqual(*ids["corral-qemu"])  # hostd takes the number for both
        with open(os.path.join(root, "etc/group"), encoding="ascii") as file:
            self.assertIn("corral-qemu", [line for line in file if line.startswith("kvm:")][0])
        code, said = run("systemd-tmpfiles", "--create", "--root", root,
                         *(self.path(f"lib/tmpfiles.d/corral-{part}.conf") for part in PARTS))
        self.assertEqual(code, 0, said)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(root, "var/lib/corral/host")).st_mode), 0o700)


if __name__ == "__main__":
    unittest.main()
