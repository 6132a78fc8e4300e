#!/usr/bin/env python3
"""Guests that are started by the kernel on their own disk: partitions and file systems of every kind, menus of
GRUB, extlinux and the Boot Loader Specification; and by firmware that trusts the pool's own keys."""
import glob
import os
import shutil
import subprocess
import unittest

import securekeys
from installation import Failure, Installation, alive
from waiting import until

IMAGES = os.environ.get("CORRAL_TEST_IMAGES", "")
LONG = os.environ.get("CORRAL_FAULTS") == "all"
MIB = 1 << 20
ARGUMENTS = "console=ttyS0"

GRUB = f"""set default="1"
menuentry 'No kernel' {{
\tlinux /boot/nothing
}}
menuentry 'Tiny' --class linux $menuentry_id_option 'tiny' {{
\tlinux\t/boot/vmlinuz {ARGUMENTS} menu=grub
\tinitrd\t/boot/initrd
}}
"""
EXTLINUX = f"""DEFAULT tiny
LABEL tiny
  LINUX /boot/vmlinuz
  INITRD /boot/initrd
  APPEND {ARGUMENTS} menu=extlinux
"""
BLS = f"""title Tiny
linux /boot/vmlinuz
initrd /boot/initrd
options {ARGUMENTS} menu=bls
"""


def run(*command, **more):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **more)


def make_tree(folder, menu, text):
    """The files of a small system."""
    os.makedirs(os.path.join(folder, "boot"))
    for source, name in (("tiny.vmlinuz", "vmlinuz"), ("tiny.initrd", "initrd")):
        shutil.copy(os.path.join(IMAGES, source), os.path.join(folder, "boot", name))
    path = os.path.join(folder, menu)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def xfs_description(folder):
    """What mkfs.xfs makes files from (a prototype file)."""
    def entries(at):
        lines = []
        for name in sorted(os.listdir(at)):
            path = os.path.join(at, name)
            if os.path.isdir(path):
                lines += [f"{name} d--755 0 0", *entries(path), "$"]
            else:
                lines.append(f"{name} ---644 0 0 {path}")
        return lines
    return "\n".join(["/stand/diskboot", "0 0", "d--755 0 0", *entries(folder), "$", ""])


def make_file_system(kind, tree, path):
    size = 320 * MIB if kind == "xfs" else 160 * MIB
    with open(path, "wb") as file:
        file.truncate(size)
    if kind == "ext4":
        run("mke2fs", "-q", "-t", "ext4", "-d", tree, path)
    elif kind == "btrfs":
        run("mkfs.btrfs", "-q", "--rootdir", tree, path)
    else:
        with open(path + ".proto", "w", encoding="ascii") as file:
            file.write(xfs_description(tree))
        run("mkfs.xfs", "-q", "-p", path + ".proto", path)
    return size


def make_disk(path, label, kind, tree):
    """A raw disk with a partition that is empty and one with the file system; `label`: dos, gpt or none."""
    part = path + ".part"
    size = make_file_system(kind, tree, part)
    if not label:
        os.rename(part, path)
        return
    with open(path, "wb") as file:
        file.truncate(size + 4 * MIB)
    table = f"label: {label}\nstart=2048, size=2048, type={'83' if label == 'dos' else 'linux'}\n" \
            f"start=4096, size={size // 512}, type={'83' if label == 'dos' else 'linux'}\n"
    run("sfdisk", "-q", path, input=table.encode())
    run("dd", f"if={part}", f"of={path}", "bs=1M", "seek=2", "conv=notrunc,sparse", "status=none")
    os.unlink(part)


class BootTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.site = Installation()
        cls.addClassCleanup(cls.site.close)

    def setUp(self):
        self.pool = self.site.pool()
        self.repository = self.pool.pool.get_default_SR(self.pool.pool.get_all()[0])

    def machine(self, name, disk, **settings):
        """A VM with this disk, uninstalled at the end."""
        uuid = self.site.xe("vm-install", "template=Other install media", f"new-name-label={name}")
        self.addCleanup(lambda: self.site.xe("vm-uninstall", f"uuid={uuid}", "force=true"))
        vm = self.pool.VM.get_by_uuid(uuid)
        for vif in self.pool.VM.get_VIFs(vm):
            self.pool.VIF.destroy(vif)
        for field, value in settings.items():
            getattr(self.pool.VM, f"set_{field}")(vm, value)
        if disk:
            self.attach(vm, name, disk)
        return uuid, vm

    def attach(self, vm, name, disk, device="0"):
        """A copy of the raw disk."""
        image = disk + ".qcow2"
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, image)
        vdi = self.pool.VDI.create({
            "name_label": name, "name_description": "", "SR": self.repository,
            "virtual_size": os.path.getsize(disk), "type": "user", "sharable": False, "read_only": False,
            "other_config": {}, "xenstore_data": {}, "sm_config": {}, "tags": []})
        self.site.xe("vdi-import", f"uuid={self.pool.VDI.get_uuid(vdi)}", f"filename={image}", "format=qcow2")
        self.pool.VBD.create({"VM": vm, "VDI": vdi, "userdevice": device, "bootable": True, "mode": "RW",
                              "type": "Disk", "empty": False, "unpluggable": True, "other_config": {},
                              "qos_algorithm_type": "", "qos_algorithm_params": {}})
        os.unlink(image)

    def disk(self, name, label, kind, menu, text):
        tree = os.path.join(self.site.folder, name + ".tree")
        path = os.path.join(self.site.folder, name + ".raw")
        make_tree(tree, menu, text)
        make_disk(path, label, kind, tree)
        shutil.rmtree(tree)
        self.addCleanup(os.unlink, path)
        return path

    def test_own_kernels(self):
        cases = (("dos-xfs", "dos", "xfs", "boot/extlinux/extlinux.conf", EXTLINUX, "menu=extlinux"),
                 ("whole-btrfs", None, "btrfs", "boot/loader/entries/tiny-1.conf", BLS, "menu=bls"))
        for name, label, kind, menu, text, mark in cases:
            with self.subTest(name=name):
                uuid, vm = self.machine(name, self.disk(name, label, kind, menu, text), PV_bootloader="pygrub",
                                        PV_args="more=words")
                # Over a snapshot, so that what is read has images below it.
                self.pool.VM.snapshot(vm, name + " before")
                self.site.xe("vm-start", f"uuid={uuid}")
                serial = self.site.serial(self.pool, vm)
                serial.expect(f"{mark} more=words", 200)
                self.site.xe("vm-shutdown", f"uuid={uuid}", "force=true")

    def test_a_reboot_takes_the_new_kernel(self):
        """What a guest writes into its boot menu holds from its next reboot on, as after an upgrade: whether it reboots by
        itself or the pool resets it, and whatever its agent was doing when it died."""
        points = os.path.join(self.site.folder, "points")
        os.mkdir(points)
        os.environ["CORRAL_FAILPOINTS"] = points
        self.addCleanup(os.environ.pop, "CORRAL_FAILPOINTS")
        self.kill_agent()
        self.site.up()
        uuid, vm = self.machine("upgraded", self.disk("upgraded", "gpt", "ext4", "boot/grub/grub.cfg", GRUB),
                                PV_bootloader="pygrub")
        self.site.xe("vm-start", f"uuid={uuid}")
        domid, mark = self.pool.VM.get_domid(vm), "grub"
        ways = ["inside", "anew:cleared"]
        if LONG:
            ways += ["anew:noted", "anew:ended", "start:spawned", "start:up", "away", "reset"]
        for number, way in enumerate(ways):
            with self.subTest(way=way):
                shell = self.boots_with(uuid, vm, f"menu={mark}")
                last, mark = mark, f"new{number}"
                # The guest's agent may be asking for its file systems, which makes one busy for a moment.
                code, said = shell.run(f"mkdir -p /disk && mount /dev/vda2 /disk && sed -i s/menu={last}/menu={mark}/ "
                                       "/disk/boot/grub/grub.cfg && mount -o remount,ro /disk && umount -l /disk && sync")
                self.assertEqual(code, 0, said)
                self.reboot(way, points, uuid, vm, shell)
        self.boots_with(uuid, vm, f"menu={mark}")
        self.assertEqual((self.pool.VM.get_power_state(vm), self.pool.VM.get_domid(vm)), ("Running", domid))
        self.site.xe("vm-shutdown", f"uuid={uuid}", "force=true")
        self.assertIsNone(self.site.device_model(uuid))

    def boots_with(self, uuid, vm, word):
        """The shell of a guest that was started with this as its last argument."""
        until("the device model", lambda: self.site.device_model(uuid), 120)
        shell = self.site.serial(self.pool, vm)
        shell.expect(f"{word}\r\n", 200)  # what was said before the reboot comes first
        shell.login(200)
        self.assertTrue(shell.run("cat /proc/cmdline")[1].endswith(word))
        return shell

    def kill_agent(self):
        self.site.kill("hostd-1")

    def reboot(self, way, points, uuid, vm, shell):
        before = self.site.device_model(uuid)
        if way == "reset":
            self.pool.VM.hard_reboot(vm)
        elif way == "away":
            log, = glob.glob(os.path.join(self.site.state, "**", "run", uuid, "serial.log"), recursive=True)
            shell.send("sleep 3; reboot -f\n")
            self.kill_agent()

            def restarts():
                with open(log, encoding="utf-8", errors="replace") as file:
                    return "reboot: Restarting system" in file.read().rpartition("sleep 3")[2]
            until("the guest's reboot", restarts, 120)
            self.assertEqual(self.site.device_model(uuid), before)
            self.site.up()
        elif way == "inside":
            shell.send("reboot -f\n")
        else:
            agent = self.site.daemon("hostd-1")
            with open(os.path.join(points, "armed"), "w", encoding="ascii") as file:
                file.write(f"kill {way}")
            shell.send("reboot -f\n")
            until(f"the agent's end at {way}", lambda: not alive(agent), 120)
            self.site.up()
        until("another device model", lambda: self.site.device_model(uuid) not in (None, before), 120)

    def test_what_cannot_be_found_is_said(self):
        empty = os.path.join(self.site.folder, "empty.raw")
        with open(empty, "wb") as file:
            file.truncate(8 * MIB)
        self.addCleanup(os.unlink, empty)
        cases = [("no-disk", None, {}, "no disk"), ("empty", empty, {}, "no partition with a file system")]
        menuless = self.disk("menuless", "gpt", "ext4", "etc/nothing", "")
        cases += [("menuless", menuless, {}, "No boot menu")]
        dead = self.disk("dead", None, "ext4", "boot/grub/grub.cfg", GRUB)
        cases += [("entry", dead, {"PV_bootloader_args": "Windows"}, 'no entry "Windows"'),
                  ("kernel", dead, {"PV_bootloader_args": "0"}, "/boot/nothing on loop0 cannot be read")]
        for name, disk, settings, words in cases:
            with self.subTest(name=name):
                _, vm = self.machine(name, disk, PV_bootloader="pygrub", **settings)
                with self.assertRaises(Failure) as caught:
                    self.pool.VM.start(vm, False, False)
                self.assertEqual((caught.exception.code, caught.exception.params[0]), ("BOOTLOADER_FAILED", vm))
                self.assertIn(words, caught.exception.params[1])
                self.assertEqual(self.pool.VM.get_power_state(vm), "Halted")

    @unittest.skipIf(securekeys.MISSING, f"this machine lacks {securekeys.MISSING}")
    def test_firmware_that_trusts_the_keys_of_the_pool(self):
        """A VM tries three disks in turn: it refuses the program that nobody signed and the one that a stranger signed, and
        starts the third, signed by the owner of the pool."""
        folder = os.path.join(self.site.folder, "keys")
        keys = securekeys.Keys(folder)
        keys.make("stranger")
        pool, = self.pool.pool.get_all()
        self.pool.pool.set_custom_uefi_certificates(pool, keys.archive())
        self.addCleanup(self.pool.pool.set_custom_uefi_certificates, pool, "")
        uuid, vm = self.machine("keys", None, HVM_boot_params={"order": "c", "firmware": "uefi"})
        for device, signer in enumerate((None, "stranger", "db")):
            program, disk = (os.path.join(folder, f"program{device}{end}") for end in ("", ".raw"))
            securekeys.make_program(program, f"signed by {signer} and running")
            if signer:
                keys.sign(signer, program)
            securekeys.make_disk(disk, program)
            self.attach(vm, f"signed by {signer}", disk, str(device))
        self.pool.VM.set_platform(vm, {**self.pool.VM.get_platform(vm), "secureboot": "true"})
        self.site.xe("vm-start", f"uuid={uuid}")
        before = self.site.serial(self.pool, vm).expect("signed by db and running", 200)
        self.site.xe("vm-shutdown", f"uuid={uuid}", "force=true")
        self.assertEqual((before.count("Access Denied"), before.count("and running")), (2, 0), before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
