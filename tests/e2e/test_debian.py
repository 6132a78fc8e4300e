#!/usr/bin/env python3
"""A real Debian, made on this machine by guest/build-debian, from its own disk: by BIOS, by UEFI and by its own kernel;
its agent, its data, and the content of its disk over suspend, resume, snapshot, revert and clone."""
import fcntl
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest

from installation import BUILD, ROOT, Installation
from waiting import until

IMAGES = os.environ.get("CORRAL_TEST_IMAGES", "")
NULL = "OpaqueRef:NULL"
SIZE = 2 << 30
# What apt says when no mirror answers.
NO_MIRROR = re.compile(r"Failed to fetch|Could not (?:connect|resolve|handshake)|Temporary failure resolving|"
                       r"Unable to connect|Connection (?:failed|timed out|refused)|Network is unreachable")


def debian_image(kind="debian", size=SIZE, *more):
    """Path of a qcow2 image, made once for this recipe; `more`: options of guest/build-debian."""
    recipe = hashlib.sha256()
    parts = [os.path.join(ROOT, "guest", name) for name in ("build-debian", "corral-guest.c")]
    for part in [*parts, *more]:
        if os.path.isabs(part):
            with open(part, "rb") as file:
                recipe.update(file.read())
        else:
            recipe.update(part.encode())
    path = os.path.join(IMAGES, f"{kind}-{recipe.hexdigest()[:16]}.qcow2")
    os.makedirs(IMAGES, exist_ok=True)
    with open(os.path.join(IMAGES, f".{kind}.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(path):
            return path
        for name in os.listdir(IMAGES):
            if name.startswith(f"{kind}-"):  # of another recipe, or of a run that was ended
                os.unlink(os.path.join(IMAGES, name))
        raw = os.path.join(IMAGES, f"{kind}-new.raw")
        run = subprocess.run([os.path.join(ROOT, "guest", "build-debian"), "--open-console", "--size", str(size),
                              "--tool", os.path.join(BUILD, "bin", "corral-guest"), *more, raw],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             timeout=1800, check=False)
        if run.returncode != 0 and NO_MIRROR.search(run.stdout):
            words = "no Debian mirror answers, so no Debian guest is made and NOTHING of this test was tried"
            print(f"SKIPPED: {words}\n{run.stdout}", file=sys.stderr)
            raise unittest.SkipTest(words)
        if run.returncode != 0:
            raise AssertionError(f"build-debian: exit code {run.returncode}\n{run.stdout}")
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path + ".new"], check=True, timeout=300)
        os.unlink(raw)
        os.rename(path + ".new", path)
    return path


class DebianTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        image = debian_image()
        cls.site = Installation()
        cls.addClassCleanup(cls.site.close)
        cls.pool = cls.site.pool()
        cls.disk = cls.import_disk(cls.pool, image, SIZE)

    @classmethod
    def import_disk(cls, pool, image, size):
        repository = pool.pool.get_default_SR(pool.pool.get_all()[0])
        disk = pool.VDI.create({
            "name_label": "debian", "name_description": "", "SR": repository, "virtual_size": size, "type": "user",
            "sharable": False, "read_only": False, "other_config": {}, "xenstore_data": {}, "sm_config": {}, "tags": []})
        cls.site.xe("vdi-import", f"uuid={pool.VDI.get_uuid(disk)}", f"filename={image}", "format=qcow2", limit_s=600)
        return disk

    def setUp(self):
        self.pool = self.site.pool()

    def machine(self, disk=None):
        uuid = self.site.xe("vm-install", "template=Other install media", "new-name-label=debian")
        self.addCleanup(lambda: self.site.xe("vm-uninstall", f"uuid={uuid}", "force=true"))
        self.site.xe("vm-memory-limits-set", f"uuid={uuid}", "static-min=0", "dynamic-min=512MiB",
                     "dynamic-max=512MiB", "static-max=512MiB")
        vm = self.pool.VM.get_by_uuid(uuid)
        self.pool.VBD.create({
            "VM": vm, "VDI": disk or self.disk, "userdevice": "0", "bootable": True, "mode": "RW", "type": "Disk",
            "empty": False, "unpluggable": True, "other_config": {}, "qos_algorithm_type": "",
            "qos_algorithm_params": {}})
        for vif in self.pool.VM.get_VIFs(vm):
            self.pool.VIF.destroy(vif)
        network = next(ref for ref, record in self.pool.network.get_all_records().items()
                       if record["other_config"].get("corral:kind") == "user")
        self.pool.VIF.create({"device": "0", "network": network, "VM": vm, "MAC": "", "MTU": 1500, "other_config": {},
                              "qos_algorithm_type": "", "qos_algorithm_params": {}})
        return uuid, vm

    def log_in(self, vm, name="debian", limit_s=400):
        serial = self.site.serial(self.pool, vm)
        serial.expect(f"{name} login:", limit_s)
        serial.send("root\n")
        serial.expect("# ", 120)
        # No colours, no bracketed paste, a prompt that ends as the helper expects.
        serial.send("bind 'set enable-bracketed-paste off'; stty columns 500; PS1='# '\n")
        serial.expect("# ")
        serial.run("true")
        return serial

    def good(self, serial, command, limit_s=120):
        status, output = serial.run(command, limit_s)
        self.assertEqual(status, 0, f"{command}: {output}")
        return output

    def again(self, vm):
        """The serial line of a guest that goes on."""
        serial = self.site.serial(self.pool, vm)
        serial.send("\n")
        serial.expect("# ", 120)
        return serial

    def test_by_bios_by_uefi_and_by_its_own_kernel(self):
        uuid, vm = self.machine()
        self.site.xe("vm-start", f"uuid={uuid}")
        serial = self.log_in(vm)
        self.good(serial, "! test -d /sys/firmware/efi")

        def metrics():
            ref = self.pool.VM.get_guest_metrics(vm)
            record = {} if ref == NULL else self.pool.VM_guest_metrics.get_record(ref)
            return record if record.get("networks", {}).get("0/ip") and record.get("os_version", {}).get("name") else None
        record = until("the agent's word", metrics, 240)
        self.assertIn("Debian GNU/Linux 12", record["os_version"]["name"])
        self.assertEqual((record["os_version"]["distro"], record["os_version"]["major"]), ("debian", "12"))
        self.assertIn("ext4 vda3", record["disks"]["/"])
        self.good(serial, "corral-guest write from debian")
        until("the guest's data", lambda: self.pool.VM.get_xenstore_data(vm).get("vm-data/from") == "debian", 60)

        # A file and its checksum; both in a snapshot whose file systems were frozen.
        self.good(serial, "dd if=/dev/urandom of=/root/file bs=1M count=4 status=none && sha256sum /root/file >/root/sum")
        self.pool.VM.add_to_other_config(vm, "corral:quiesce", "required")
        snapshot = self.pool.VM.snapshot(vm, "with the file")
        self.assertEqual(self.pool.VM.get_snapshot_info(snapshot)["disk-snapshot-type"], "quiesced")
        self.good(serial, "echo changed >>/root/file && sync && ! sha256sum -c /root/sum")
        self.good(serial, "sha256sum /root/file >/root/later")

        self.site.xe("vm-suspend", f"uuid={uuid}", limit_s=300)
        self.site.xe("vm-resume", f"uuid={uuid}", limit_s=300)
        serial = self.again(vm)
        self.good(serial, "sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum -c /root/later")
        self.site.xe("vm-shutdown", f"uuid={uuid}", limit_s=300)

        # Back to the snapshot; clones of that, started in the two other ways at once, have the file as it was.
        self.site.xe("snapshot-revert", f"snapshot-uuid={self.pool.VM.get_uuid(snapshot)}", limit_s=300)
        by_uefi, by_kernel = self.clone(uuid, "by uefi"), self.clone(uuid, "by its kernel")
        self.pool.VM.set_HVM_boot_params(by_uefi[1], {"order": "cd", "firmware": "uefi"})
        self.pool.VM.set_PV_bootloader(by_kernel[1], "pygrub")
        self.pool.VM.set_PV_args(by_kernel[1], "words=ours")
        for clone_uuid, _ in (by_uefi, by_kernel):
            self.site.xe("vm-start", f"uuid={clone_uuid}", limit_s=300)
        for (clone_uuid, clone), check in ((by_kernel, "grep -w words=ours /proc/cmdline"),
                                           (by_uefi, "test -d /sys/firmware/efi && ! grep words= /proc/cmdline")):
            serial = self.log_in(clone)
            self.good(serial, check)
            self.good(serial, "sha256sum -c /root/sum && ! test -e /root/later")
            self.site.xe("vm-shutdown", f"uuid={clone_uuid}", limit_s=300)

    def clone(self, uuid, name):
        clone = self.site.xe("vm-clone", f"uuid={uuid}", f"new-name-label={name}")
        self.addCleanup(lambda: self.site.xe("vm-uninstall", f"uuid={clone}", "force=true"))
        return clone, self.pool.VM.get_by_uuid(clone)

    @unittest.skipUnless(os.environ.get("CORRAL_CREATE_IMAGE"), "cloud-init is tried by './corral test --long' alone")
    def test_cloud_init_sets_a_guest_up_as_it_was_asked_to(self):
        """A template with cloud-init in it, as a cloud image is: its VM has the name, user, key and address that xe was told."""
        key, role = os.path.join(self.site.folder, "cloud.pub"), os.path.join(ROOT, "tests", "e2e", "cloud-role")
        with open(key, "w", encoding="ascii") as file:
            file.write("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHx cloud\n")
        image = debian_image("cloud", 3 << 30, "--include", "cloud-init,sudo,openssh-server", "--role", role)
        uuid, _ = self.machine(self.import_disk(self.pool, image, 3 << 30))
        self.site.xe("vm-param-set", f"uuid={uuid}", "is-a-template=true", "name-label=Debian cloud")
        self.addCleanup(self.site.xe, "template-param-set", f"uuid={uuid}", "is-a-template=false")
        uuid = self.site.xe("vm-install", "template=Debian cloud", "new-name-label=web1", "cloud-init-hostname=web1",
                            "cloud-init-user=ann", f"cloud-init-ssh-key={key}", "cloud-init-ip=10.0.2.88/24,10.0.2.2",
                            limit_s=600)
        self.addCleanup(lambda: self.site.xe("vm-uninstall", f"uuid={uuid}", "force=true"))
        vm = self.pool.VM.get_by_uuid(uuid)
        self.site.xe("vm-start", f"uuid={uuid}")
        serial = self.log_in(vm, "web1", 1800)
        self.good(serial, "cloud-init status --wait >/dev/null", 900)
        self.assertEqual(self.good(serial, "hostname; id -un ann; sudo -l -U ann 2>/dev/null | grep -c NOPASSWD").split(), ["web1", "ann", "1"])
        self.assertIn("AAAAIHx cloud", self.good(serial, "cat /home/ann/.ssh/authorized_keys"))
        self.assertEqual(self.good(serial, "grep ^ann: /etc/shadow | cut -d: -f2")[:1], "!")
        self.assertIn("10.0.2.88/24", self.good(serial, "ip -br -4 addr show eth0"))
        self.assertIn("via 10.0.2.2", self.good(serial, "ip route show default"))
        self.assertEqual(self.good(serial, "cloud-init query v1.instance_id 2>/dev/null || cloud-init query instance_id"), uuid)
        self.site.xe("vm-shutdown", f"uuid={uuid}", limit_s=300)

    # ---- images that xe makes ----

    def numbers(self):
        return len(self.pool.VM.get_all()), len(self.pool.VDI.get_all())

    def test_an_image_that_is_interrupted_leaves_nothing(self):
        folder, before = tempfile.mkdtemp(dir=self.site.folder), self.numbers()

        def installing():
            return any(name.startswith("mmdebstrap.") and "gpghome" not in name
                       for _, names, _ in os.walk(folder) for name in names)
        run = subprocess.Popen(["xe", "vm-create-image", "hostname=broken"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, env={**self.site.environment(), "TMPDIR": folder})
        try:
            until("the release is being installed", lambda: run.poll() is not None or installing(), 120)
            run.send_signal(signal.SIGINT)
            said, _ = run.communicate(timeout=120)
        finally:
            run.kill()
            run.wait()
        self.assertEqual((run.returncode, said), (130, "Interrupted.\n"))
        self.assertEqual((os.listdir(folder), self.numbers()), ([], before))

    @unittest.skipUnless(os.environ.get("CORRAL_CREATE_IMAGE"), "a whole image is made by './corral test --long' alone")
    def test_an_image_made_by_xe_is_what_was_asked_for(self):
        key, role = (os.path.join(self.site.folder, name) for name in ("key.pub", "role"))
        with open(key, "w", encoding="ascii") as file:
            file.write("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHx test\n")
        with open(role, "w", encoding="ascii") as file:
            file.write('#!/bin/sh\nset -eu\nchroot "$1" passwd -d root\necho web >"$1/etc/role"\n')
        repository = next(sr for sr in self.pool.SR.get_all_records().values() if sr["type"] == "file")
        uuid = self.site.xe("vm-create-image", "hostname=made1", "suite=bookworm", "size=3GiB", "memory=512MiB", "vcpus=2",
                            "ip=10.0.2.77/24,10.0.2.2", f"ssh-key={key}", f"role={role}", f"sr={repository['uuid']}",
                            limit_s=1800)
        self.addCleanup(lambda: self.site.xe("vm-uninstall", f"uuid={uuid}", "force=true"))
        vm = self.pool.VM.get_by_uuid(uuid)
        self.site.xe("vm-start", f"uuid={uuid}")
        serial = self.log_in(vm, "made1")
        self.assertEqual(self.good(serial, "hostname; cat /etc/role; nproc").split(), ["made1", "web", "2"])
        self.assertIn("10.0.2.77/24", self.good(serial, "ip -br -4 addr show eth0"))
        self.assertIn("AAAAIHx test", self.good(serial, "cat /root/.ssh/authorized_keys"))
        self.assertEqual(self.good(serial, "lsblk -b -d -n -o SIZE /dev/vda").strip(), str(3 << 30))
        memory = int(self.good(serial, "grep MemTotal /proc/meminfo").split()[1])
        self.assertTrue(400 << 10 < memory < 512 << 10, memory)


if __name__ == "__main__":
    unittest.main(verbosity=2)
