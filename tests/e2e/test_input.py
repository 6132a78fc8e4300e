#!/usr/bin/env python3
"""Bad input on real QEMU: the tables of tests/api/test_bad_input.py against the agent that starts real guests, and what
QEMU itself is told when a text is odd and allowed."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "api"))

import test_bad_input as bad  # noqa: E402
import test_killed as killed  # noqa: E402
from pool import Failure, TestPool, until  # noqa: E402
from vms import VmCase  # noqa: E402

KERNEL = os.path.join(os.environ.get("CORRAL_TEST_IMAGES", os.path.join(ROOT, "build", "images")), "tiny.vmlinuz")


IMAGES = None


def setUpModule():
    global IMAGES
    IMAGES = tempfile.mkdtemp(prefix="corral-images-")
    unittest.addModuleCleanup(shutil.rmtree, IMAGES)
    fill(IMAGES)
    VmCase.pool = TestPool(hosts=1, host_options=["--driver", "qemu", "--images", IMAGES])
    unittest.addModuleCleanup(VmCase.pool.close)
    VmCase.api = VmCase.pool.login()


def fill(folder):
    """The host's kernels: one, and what only looks like one."""
    shutil.copy(KERNEL, os.path.join(folder, "vmlinuz"))
    os.symlink("vmlinuz", os.path.join(folder, "inside"))
    os.symlink("/etc/passwd", os.path.join(folder, "out"))
    os.symlink("../pki/host.key", os.path.join(folder, "up"))
    os.symlink("/proc/self/environ", os.path.join(folder, "magic"))
    os.symlink("loop", os.path.join(folder, "loop"))
    os.mkdir(os.path.join(folder, "folder"))
    os.mkfifo(os.path.join(folder, "pipe"))


def open_files(pid):
    """What the descriptors of a process name, but for those that it closes meanwhile."""
    names = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    return names


class Input(bad.BadInput):
    # These say nothing of QEMU beyond what they say with simulated guests.
    test_what_is_only_words = test_arguments_of_a_kernel = test_cards = test_data_of_a_guest = test_names_of_media = None
    test_limits_of_drives = test_places_of_disks = None

    def start(self, vm):
        """Before its first instruction: the words are what counts."""
        self.api.VM.start(vm, True, False)

    def process(self, vm):
        uuid = self.api.VM.get_uuid(vm)
        with open(os.path.join(self.pool.hosts[0].folder, "run", uuid, "pid"), encoding="ascii") as file:
            return int(file.read().split()[0])

    def arguments(self, vm):
        with open(f"/proc/{self.process(vm)}/cmdline", "rb") as file:
            return file.read().decode().split("\0")[:-1]

    def test_a_guest_s_process_has_only_what_is_its_own(self):
        """Open files are its disk, its logs and devices that all may open; no connection of a daemon, and nothing of the
        guest beside it."""
        (vm, disk), (other, _) = self.with_disk(PV_kernel="vmlinuz"), self.with_disk(PV_kernel="vmlinuz")
        self.start(other)
        self.start(vm)
        run = os.path.join(self.pool.hosts[0].folder, "run", self.api.VM.get_uuid(vm))
        own = {os.path.realpath(path) for path in (self.path(disk), *(os.path.join(run, n) for n in os.listdir(run)))}
        devices = {f"/dev/{name}" for name in ("null", "kvm", "urandom", "net/tun")}
        own.add(os.path.realpath(os.path.join(IMAGES, "vmlinuz")))
        found = open_files(self.process(vm))
        sockets = {name for name in found if name.startswith("socket:")}
        self.assertIn(os.path.realpath(self.path(disk)), found)
        self.assertEqual({name for name in found - sockets - own - devices
                          if not name.startswith(("pipe:", "anon_inode:", "/memfd:"))}, set())
        inodes = set()
        for table in ("tcp", "tcp6", "udp", "udp6"):
            with open(f"/proc/net/{table}", encoding="ascii") as file:
                inodes |= {f"socket:[{line.split()[9]}]" for line in file.readlines()[1:]}
        self.assertEqual(sockets & inodes, set())
        for daemon in (self.pool.poold, *self.pool.hosts):
            self.assertEqual(sockets & open_files(daemon.pid), set(), daemon.name)
        for each in (vm, other):
            self.destroy(each)

    def test_odd_words_are_one_argument_each(self):
        shapes = set()
        for value in bad.NASTY:
            with self.subTest(value=value[:20]):
                words = value if all(" " <= c <= "~" for c in value) and len(value) < 2000 else "plain"
                vm = self.make(words, name_label=value, name_description=value, platform={"unknown": value, value: "x"},
                               VCPUs_params={"unknown": value}, other_config={"mac_seed": value, value: value},
                               recommendations=value)
                self.start(vm)
                arguments = self.arguments(vm)
                self.assertEqual(arguments[arguments.index("-append") + 1], words)
                # Which options there are depends on nothing of it.
                shapes.add(tuple(a for a, before in zip(arguments, [""] + arguments) if a.startswith("-") and before != "-append"))
                self.assertEqual(len([a for a in arguments if len(a) > 2100]), 0)
                self.destroy(vm)
        self.assertEqual(len(shapes), 1, shapes)

    @unittest.skipUnless(os.environ.get("CORRAL_FAULTS") == "all", "./corral test --long takes that many snapshots")
    def test_snapshots_of_a_running_disk_have_an_end(self):
        """The one too many is refused before anything changed; the VM goes on, and one snapshot less lets it have another."""
        vm, vdi = self.with_disk(PV_kernel="vmlinuz")
        self.start(vm)
        taken = []
        with self.assertRaises(Failure) as caught:
            while len(taken) < 100:
                before, files = self.api.VM.get_record(vm), self.disks_on_storage()
                taken.append(self.keep(self.api.VM.snapshot(vm, f"snapshot {len(taken)}")))
        self.assertEqual((len(taken), caught.exception.code), (49, "SR_BACKEND_FAILURE_109"))
        self.assertIn("50 deep", caught.exception.params[1])
        self.unchanged("VM", vm, before)
        self.assertEqual(self.disks_on_storage(), files)
        self.assertEqual(self.api.VM.get_power_state(vm), "Paused")
        self.api.VM.unpause(vm)
        for snapshot in taken:
            disk, = [self.api.VBD.get_VDI(vbd) for vbd in self.api.VM.get_VBDs(snapshot)]
            self.destroy(snapshot)
            self.api.VDI.destroy(disk)
        until("there is room again", lambda: self.snapshot_again(vm), 120)
        self.api.VM.hard_shutdown(vm)
        self.assertEqual(self.read(vdi), b"one")

    def snapshot_again(self, vm):
        try:
            self.keep(self.api.VM.snapshot(vm, "again"))
        except Failure as failure:
            if failure.code != "SR_BACKEND_FAILURE_109":
                raise
            return False
        return True

    def write(self, vdi, content):
        killed.write(self.path(vdi), content)

    def read(self, vdi, size=3):
        out = os.path.join(self.pool.folder, "read")
        subprocess.run(["qemu-img", "dd", "-O", "raw", "bs=512", "count=1", f"if={self.path(vdi)}", f"of={out}"], check=True,
                       stdout=subprocess.DEVNULL, timeout=60)
        with open(out, "rb") as file:
            return file.read(size)

    def test_kernels_outside_their_folder(self):
        vm = self.make(PV_kernel="inside")
        self.start(vm)
        self.api.VM.hard_shutdown(vm)
        for field in ("PV_kernel", "PV_ramdisk"):
            for name in ("out", "up", "magic", "loop", "folder", "pipe", "missing"):
                with self.subTest(field=field, name=name):
                    vm = self.make(**{field: name})
                    before = self.api.VM.get_record(vm)
                    with self.assertRaises(Failure) as caught:
                        self.start(vm)
                    self.assertEqual((caught.exception.code, caught.exception.params[:2]), ("VALUE_NOT_SUPPORTED", [field, name]))
                    self.assertIn("the host has no such file in its folder of images", caught.exception.params[2])
                    self.unchanged("VM", vm, before)
                    self.destroy(vm)
        run = os.path.join(self.pool.hosts[0].folder, "run")
        self.assertEqual([name for name in os.listdir(run) if not name.startswith(".")], [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
