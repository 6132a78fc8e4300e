"""Debian packages, without building any: what is installed is in one package each, what is needed is what
../scripts/packages.sh says, and the scripts are well formed."""
import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from test_install import BUILD, UNITS, run

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
DEBIAN = os.path.join(HERE, "debian")
SCRIPTS = [path for path in glob.glob(DEBIAN + "/*.p*") if re.search(r"\.(pre|post)(inst|rm)$", path)]


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def paragraphs():
    """debian/control: fields of the source, and of each package by its name."""
    found = {}
    for paragraph in read(DEBIAN, "control").split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): *((?:.*\n?)(?:[ \t].*\n?)*)", paragraph, re.M))
        found[fields.get("Package", "source").strip()] = fields
    return found


def names(field):
    """The packages of a list of dependencies, but for what debhelper fills in."""
    words = (word.split() for word in re.sub(r"\(.*?\)", "", field).split(","))
    return {word[0] for word in words if word and not word[0].startswith(("${", "debhelper", "dh-sequence-"))}


def needs(kind):
    return {line.split("|")[2] for line in read("scripts/packages.sh").splitlines() if line.startswith(kind + "|")}


def shipped():
    """(package, what) of each line of debian/*.install."""
    for path in sorted(glob.glob(DEBIAN + "/*.install")):
        for line in read(path).splitlines():
            yield os.path.basename(path)[:-len(".install")], line.split()[0]


class Files(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        dest = tempfile.mkdtemp(prefix="corral-debian-")
        cls.addClassCleanup(shutil.rmtree, dest, ignore_errors=True)
        code, said = run("cmake", "--install", BUILD, env={**os.environ, "DESTDIR": dest})
        if code:
            raise AssertionError(said)
        [program] = glob.glob(dest + "/**/sbin/poold", recursive=True)
        prefix = program[:-len("/sbin/poold")]
        cls.installed = {"usr" + os.path.join(folder, name)[len(prefix):] for folder, _, files in os.walk(prefix) for name in files}

    def test_each_installed_file_is_in_one_package(self):
        lines = list(shipped())
        for file in sorted(self.installed):
            with self.subTest(file):
                owners = [package for package, what in lines if file == what or file.startswith(what + "/")]
                self.assertEqual(len(owners), 1, owners)

    def test_packages_have_nothing_else(self):
        for package, what in shipped():
            with self.subTest(what):
                there = any(file == what or file.startswith(what + "/") for file in self.installed)
                # The page is left out of builds without it.
                self.assertTrue(there or what == "usr/share/corral/web" or os.path.exists(os.path.join(ROOT, what)), package)

    def test_each_unit_is_named_once_in_the_rules(self):
        rules = read(DEBIAN, "rules")
        for unit in UNITS:
            self.assertEqual(len(re.findall(rf"dh_installsystemd .*\b{unit}$", rules, re.M)), 1, unit)


class Needs(unittest.TestCase):
    def test_what_a_build_needs(self):
        # Compiler and headers are build-essential; npm is done before the package is built.
        self.assertEqual(names(paragraphs()["source"]["Build-Depends"]),
                         needs("build") - {"gcc", "libc6-dev", "npm", "ca-certificates"})

    def test_what_a_host_needs(self):
        host = paragraphs()["corral-host"]
        self.assertEqual(names(host["Depends"]) | names(host["Recommends"]), needs("run"))

    def test_what_makes_images(self):
        wanted = set(re.findall(r"apt-get install ([a-z0-9-]+)", read("guest/build-debian")))
        pairs = re.findall(r"^for (?:tool_needed|folder) in (.*); do", read("guest/build-debian"), re.M)
        wanted |= {pair.split(":")[1] for line in pairs for pair in line.split() if ":" in pair} - {"fakeroot", "uidmap"}
        self.assertGreater(len(wanted), 5)
        self.assertLessEqual(wanted - {"fakeroot", "uidmap"}, names(paragraphs()["corral-xe"]["Suggests"]))


class Text(unittest.TestCase):
    def test_one_version(self):
        [project] = re.findall(r"^project\(corral VERSION (\S+) ", read("CMakeLists.txt"), re.M)
        [listed] = re.findall(r"\Acorral \((\S+)\)", read(DEBIAN, "changelog"))
        self.assertEqual(project, listed)

    def test_scripts_are_well_formed(self):
        self.assertGreaterEqual(len(SCRIPTS), 5)
        own = [os.path.join(HERE, name) for name in ("corral-join.in", "corral-setup.in", "corral-power")]
        for path in SCRIPTS + own:
            self.assertEqual(run("sh", "-n", path), (0, ""), path)
        if shutil.which("shellcheck"):
            # guest_runs takes the place of a mark.
            self.assertEqual(run("shellcheck", "--exclude=SC2317", *SCRIPTS, *own), (0, ""))

    def test_scripts_are_given_their_parts(self):
        for path in SCRIPTS:
            self.assertIn("#DEBHELPER#", read(path), path)
            self.assertEqual("guest_runs;" in read(path), "#GUEST_RUNS#" in read(path), path)


class Scripts(unittest.TestCase):
    """The maintainer scripts, with a folder of the test's own in the place of /var/lib/corral."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="corral-scripts-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def make(self, *paths, text=""):
        for path in paths:
            os.makedirs(os.path.dirname(os.path.join(self.folder, path)), exist_ok=True)
            with open(os.path.join(self.folder, path), "w", encoding="ascii") as file:
                file.write(text)

    def script(self, name, *arguments):
        text = read(DEBIAN, name).replace("#GUEST_RUNS#", read(DEBIAN, "guest-runs"))
        return run("sh", "-c", text.replace("/var/lib/corral", self.folder), name, *arguments)

    def left(self):
        return sorted(os.listdir(self.folder)) if os.path.exists(self.folder) else None

    def test_a_pool_of_a_source_tree_is_not_installed_over(self):
        for name in ("corral-server.preinst", "corral-host.preinst"):
            self.assertEqual(self.script(name, "install"), (0, ""))
            self.make("corral.conf")
            code, said = self.script(name, "install")
            self.assertEqual((code, "./corral down" in said), (1, True), said)
            self.assertEqual(self.script(name, "upgrade", "0.0.9"), (0, ""))
            os.remove(self.folder + "/corral.conf")

    def test_removal_keeps_all(self):
        self.make("pool/pool.db", "host/pki/host-uuid", "sr/.corral-sr")
        for name in ("corral-server.postrm", "corral-host.postrm"):
            self.assertEqual(self.script(name, "remove"), (0, ""))
        self.assertEqual(self.left(), ["host", "pool", "sr"])

    def test_purge_takes_all_but_disks(self):
        self.make("pool/pool.db", "host/pki/host-uuid", "sr/.corral-sr", "iso/.corral-sr")
        self.assertEqual(self.script("corral-server.postrm", "purge"), (0, ""))
        self.assertEqual(self.left(), ["host", "iso", "sr"])
        self.make("sr/disk.qcow2")
        code, said = self.script("corral-host.postrm", "purge")
        self.assertEqual((code, said.count("is kept"), f"{self.folder}/sr" in said), (0, 1, True), said)
        self.assertEqual(self.left(), ["sr"])
        os.remove(self.folder + "/sr/disk.qcow2")
        self.assertEqual(self.script("corral-host.postrm", "purge"), (0, ""))
        self.assertIsNone(self.left())

    def test_purge_takes_nothing_that_a_guest_runs_on(self):
        with tempfile.TemporaryDirectory() as folder:
            program = folder + "/qemu-system-x86_64"
            shutil.copy(shutil.which("sleep"), program)
            with subprocess.Popen([program, "60"]) as process:
                self.make("pool/pool.db", "host/run/uuid/pid", text=f"{process.pid} 12345\n")
                for name in ("corral-server.postrm", "corral-host.postrm"):
                    code, said = self.script(name, "purge")
                    self.assertEqual((code, "guests still run" in said, self.left()), (0, True, ["host", "pool"]), said)
                process.kill()
        # Its number in the hands of a process that is no guest's keeps nothing.
        self.make("host/run/uuid/pid", text=f"{os.getpid()} 12345\n")
        for name in ("corral-server.postrm", "corral-host.postrm"):
            self.assertEqual(self.script(name, "purge"), (0, ""))
        self.assertIsNone(self.left())


class Refusals(unittest.TestCase):
    def test_corral_join(self):
        script = os.path.join(HERE, "corral-join.in")
        for arguments, words in (
                ([], "Usage: corral-join"),
                (["--frob", "https://a:8443", "x"], "unknown option --frob"),
                (["http://a:8443", "x"], "begins with https://"),
                (['https://a --driver sim', "x"], "no address"),
                (['https://a"', "x"], "no address"),
                (["--listen", "--state", "https://a:8443", "x"], "no address")):
            with self.subTest(arguments):
                code, said = run("sh", script, *arguments)
                self.assertEqual((code, words in said), (1, True), said)


if __name__ == "__main__":
    unittest.main()
