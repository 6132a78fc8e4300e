#!/usr/bin/env python3
"""The tests of tests/api/test_faults.py on real QEMU: hostd, poold and the device model are killed at the places that
operations pass, one after the other; and a host that was rebooted. All of it runs in a network namespace of its own:
whatever is in there afterwards was left by a guest."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "api"))

import test_faults as faults  # noqa: E402
from pool import NULL, Failure, Late, TestPool, until  # noqa: E402
from vms import MIB, VmCase  # noqa: E402

IMAGES = os.environ.get("CORRAL_TEST_IMAGES", os.path.join(ROOT, "build", "images"))


def setUpModule():
    VmCase.pool = TestPool(hosts=1, host_options=["--driver", "qemu", "--images", IMAGES, "--min-uptime", "0"])
    VmCase.api = VmCase.pool.login()


def tearDownModule():
    if VmCase.pool:
        kill_guests()  # a running one outlives its agent
        VmCase.pool.close()


def device_models():
    """Pids of the host's device models, by the folders of its domains."""
    run = os.path.join(VmCase.pool.hosts[0].folder, "run")
    for name in os.listdir(run):
        try:
            with open(os.path.join(run, name, "pid"), encoding="ascii") as file:
                pid = int(file.read().split()[0])
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                if "qemu-system" in file.read():
                    yield pid
        except (OSError, IndexError):
            continue  # it has none yet, or not any more


def processes():
    """Command lines of the device models and their helpers in this network namespace."""
    mine = os.readlink("/proc/self/ns/net")
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            if os.readlink(f"/proc/{pid}/ns/net") == mine:
                found.append(os.path.basename(words[0]).decode(errors="replace"))
        except OSError:
            continue
    return [name for name in found if name.startswith(("qemu", "swtpm", "corral-launch"))]


def taps():
    """What the taps say whose they are."""
    out = subprocess.run(["ip", "-json", "link", "show"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60)
    return sorted(link.get("ifalias", link["ifname"]) for link in json.loads(out.stdout) if link["ifname"].startswith("ctap"))


def mounts():
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        return [line for line in file if VmCase.pool.folder in line]


def write(path, content):
    """Into a disk, as a guest would."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content.ljust(512, b"\0"))
        file.flush()
        subprocess.run(["qemu-io", "-f", "qcow2" if path.endswith("qcow2") else "raw", "-c", f"write -s {file.name} 0 512", path],
                       check=True, stdout=subprocess.DEVNULL, timeout=60)


def kill_guests():
    for pid in list(device_models()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@unittest.skipUnless("CORRAL_FAULTS" in os.environ, "minutes of guests that boot: CORRAL_FAULTS=sample, or =all")
class Killed(faults.Faults):
    SETTINGS = {"PV_kernel": "tiny.vmlinuz", "PV_ramdisk": "tiny.initrd", "PV_args": "console=ttyS0 quiet no_timer_check",
                "memory_static_max": 256 * MIB, "memory_dynamic_max": 256 * MIB, "memory_dynamic_min": 256 * MIB}
    LOW, HIGH = 192 * MIB, 256 * MIB
    VICTIMS = {"poold": ("hostd", "qemu"), "hostd": ("poold", "qemu")}
    UP_S = 180
    LEAST = 4
    TABLE = {message: prepare for message, prepare in faults.Faults.TABLE.items()
             if message not in ("VM.provision", "VM.destroy")}  # which no device model hears of
    # What a guest's kernel takes part in; all the rest is tried with one that its firmware leaves idle.
    WITH_GUEST = {"VM.set_memory_dynamic_range", "VM.set_VCPUs_number_live", "VBD.plug", "VBD.unplug", "VIF.plug", "VIF.unplug",
                  "VM.clean_reboot", "VM.clean_shutdown"}
    booting = True

    def setUp(self):
        super().setUp()
        self.api.VM.set_HVM_boot_policy(self.vm, "BIOS order")

    def begin(self, message):
        booting = message in self.WITH_GUEST
        if booting != self.booting:
            self.halted()
            self.api.VM.set_PV_kernel(self.vm, self.SETTINGS["PV_kernel"] if booting else "")
            self.booting = booting
        return super().begin(message)

    def up(self):
        return super().up() if self.booting else self.state(self.vm) == "Running"

    def blow(self, message, at, order, place, victim):
        self.victim = victim
        return super().blow(message, at, order, place, victim)

    def check(self, record):
        if self.victim == "qemu":
            self.assertNotEqual(record["error_info"][:1], ["INTERNAL_ERROR"], "its guest's end has a code of its own")
        super().check(record)

    def strike(self, victim):
        if victim == "qemu":
            kill_guests()
        else:
            super().strike(victim)

    def restore(self, victim):
        if victim != "qemu":
            super().restore(victim)

    def do(self, message):
        """A guest that boots has no agent yet, and it is known that it boots a moment after it does."""
        if message != "VM.clean_reboot":
            return super().do(message)

        def accepted():
            try:
                return super(Killed, self).do(message)
            except Failure as failure:
                if failure.code != "VM_LACKS_FEATURE":
                    raise
                return None
        reached = until("the guest reboots", accepted, self.UP_S, 1)
        with contextlib.suppress(Late):
            until("the guest boots", lambda: not self.up(), 10)
        return reached

    def write(self, vdi, content):
        write(self.path(vdi), content)

    def read(self, vdi, size=3):
        """What a guest would read of it, through its images; none of them can be opened while it is merged."""
        out = os.path.join(self.pool.folder, "read")

        def done():
            run = subprocess.run(["qemu-img", "dd", "-U", "-O", "raw", "bs=512", "count=1", f"if={self.path(vdi)}", f"of={out}"],
                                 check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
            return run.returncode == 0
        until("the disk can be read", done, 60)
        with open(out, "rb") as file:
            return file.read(size)

    def other_count(self):
        """Under software emulation processors only come."""
        if int(self.api.VM.get_VCPUs_at_startup(self.vm)) == 2:
            self.halted()
            self.api.VM.set_VCPUs_at_startup(self.vm, 1)
        self.running()
        return self.vm, 2

    TABLE = {**TABLE, "VM.set_VCPUs_number_live": other_count}

    def nothing_left(self):
        """Of the device models that ended."""
        def live():
            return [vm for vm in self.api.VM.get_all_records().values()
                    if vm["power_state"] in ("Running", "Paused") and not vm["is_control_domain"]]
        until("only live VMs have processes", lambda: len(processes()) == len(live()), 60)
        until("only live VMs have taps", lambda: taps() == sorted(self.cards(live())), 60)
        self.assertEqual(mounts(), [])

    def cards(self, vms):
        """The taps that these VMs have to have."""
        for vm in vms:
            for vif in map(self.api.VIF.get_record, vm["VIFs"]):
                if vif["currently_attached"] and vif["network"] != self.network:
                    yield f"corral:{vm['uuid']}:{vif['device']}"

    def all_are_somewhere(self, reached):
        self.assertEqual(faults.REAL - reached, set(), "no operation here passes these")

    def disks_agree(self):
        """Images that snapshots leave below are merged away in time."""
        rows = {r["uuid"] for r in self.api.VDI.get_all_records().values() if r["SR"] == self.sr}
        names = [name for name in os.listdir(self.sr_path) if name != ".corral-sr"]
        return rows == {name.partition(".")[0] for name in names if not name.startswith("base-")}


class Rebooted(VmCase):
    def write(self, vdi, content):
        write(self.path(vdi), content)

    def test_the_host_was_rebooted(self):
        """All its processes ended, and what lived in its run folder is gone: VMs come back as their policy says."""
        pool, = self.api.pool.get_all()
        self.api.pool.add_to_other_config(pool, "auto_poweron", "true")
        self.addCleanup(lambda: VmCase.api.pool.remove_from_other_config(pool, "auto_poweron"))
        back, stays = (self.make(**{**Killed.SETTINGS, "name_label": name}) for name in ("back", "stays"))
        self.api.VM.add_to_other_config(back, "auto_poweron", "true")
        vdi = self.disk(b"one")
        self.drive(back, vdi)
        for vm in (back, stays):
            self.start(vm)
        before = set(device_models())
        self.assertEqual(len(before), 2)
        host = self.pool.hosts[0]
        host.kill()
        self.pool.kill()
        kill_guests()
        shutil.rmtree(os.path.join(host.folder, "run"))
        self.pool.start()
        VmCase.api = self.api = self.pool.login()
        host.start("hostd.port")
        until("the host is live", lambda: self.pool.live_hosts(self.api) == 1, 90)
        until("the other is known to be off", lambda: self.state(stays) == "Halted", 90)
        self.assertEqual(self.api.VM.get_resident_on(stays), NULL)
        until("the one comes back", lambda: set(device_models()) - before and self.state(back) == "Running", 90)
        self.assertEqual(len(set(device_models()) - before), 1)
        until("nothing is under way", lambda: not self.api.VM.get_current_operations(back), 60)
        self.start(stays)


if __name__ == "__main__":
    if os.environ.get("CORRAL_TEST_NETNS") != "own":
        os.environ["CORRAL_TEST_NETNS"] = "own"
        subprocess.run([os.path.join(ROOT, "guest", "build-tiny"), IMAGES], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, timeout=600)
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh",
                              sys.executable, "-B", *sys.argv])
    unittest.main(verbosity=2)
