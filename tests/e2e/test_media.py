#!/usr/bin/env python3
"""Guests that come on media: disk images in both formats through both firmwares, and the Debian
installer from CD and from its template, to its first screen."""
import functools
import glob
import http.server
import os
import subprocess
import sys
import tarfile
import threading
import unittest

import bootmedia
import preseed
from installation import ROOT, Installation
from waiting import until

IMAGES = os.environ.get("CORRAL_TEST_IMAGES", "")
INSTALLER = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"
ARGUMENTS = "console=ttyS0 quiet"
OVF = os.path.join(ROOT, "xe", "tests", "fuzz", "corpus", "ovf", "vmware.ovf")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class MediaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.site = Installation()
        cls.addClassCleanup(cls.site.close)
        cls.raw = os.path.join(cls.site.folder, "boot.raw")
        bootmedia.make_disk(cls.raw, os.path.join(IMAGES, "tiny.vmlinuz"), os.path.join(IMAGES, "tiny.initrd"),
                            ARGUMENTS)

    def setUp(self):
        self.pool = self.site.pool()
        self.repository = self.pool.pool.get_default_SR(self.pool.pool.get_all()[0])

    def machine(self, name):
        """A VM of the template for install media, uninstalled at the end."""
        uuid = self.site.xe("vm-install", "template=Other install media", f"new-name-label={name}")
        self.addCleanup(lambda: self.site.xe("vm-uninstall", f"uuid={uuid}", "force=true"))
        return uuid, self.pool.VM.get_by_uuid(uuid)

    def import_disk(self, path, form, size):
        """A new VDI of `size` bytes with the content of a file."""
        vdi = self.pool.VDI.create({
            "name_label": os.path.basename(path), "name_description": "", "SR": self.repository,
            "virtual_size": size, "type": "user", "sharable": False, "read_only": False,
            "other_config": {}, "xenstore_data": {}, "sm_config": {}, "tags": []})
        uuid = self.pool.VDI.get_uuid(vdi)
        self.site.xe("vdi-import", f"uuid={uuid}", f"filename={path}", f"format={form}")
        return vdi

    def attach(self, vm, vdi, device="0", kind="Disk", mode="RW"):
        self.pool.VBD.create({
            "VM": vm, "VDI": vdi, "userdevice": device, "bootable": True, "mode": mode, "type": kind,
            "empty": False, "unpluggable": True, "other_config": {}, "qos_algorithm_type": "",
            "qos_algorithm_params": {}})

    def boots_to_login(self, uuid, vm):
        self.site.xe("vm-start", f"uuid={uuid}")
        self.site.serial(self.pool, vm).login()
        self.site.xe("vm-shutdown", f"uuid={uuid}")
        self.assertEqual(self.pool.VM.get_power_state(vm), "Halted")

    def test_raw_image_boots_by_bios(self):
        uuid, vm = self.machine("raw-bios")
        self.attach(vm, self.import_disk(self.raw, "raw", os.path.getsize(self.raw)))
        self.boots_to_login(uuid, vm)

    def test_qcow2_image_boots_by_uefi(self):
        image = os.path.join(self.site.folder, "boot.qcow2")
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.raw, image], check=True)
        uuid, vm = self.machine("qcow2-uefi")
        self.pool.VM.set_HVM_boot_params(vm, {"order": "cd", "firmware": "uefi"})
        self.attach(vm, self.import_disk(image, "qcow2", os.path.getsize(self.raw)))
        self.boots_to_login(uuid, vm)

    def test_imported_disk_is_read_back_as_it_was(self):
        vdi = self.import_disk(self.raw, "raw", os.path.getsize(self.raw))
        out = os.path.join(self.site.folder, "back.raw")
        self.site.xe("vdi-export", f"uuid={self.pool.VDI.get_uuid(vdi)}", f"filename={out}", "format=raw")
        subprocess.run(["cmp", self.raw, out], check=True)
        self.pool.VDI.destroy(vdi)

    def installer_shows_its_first_screen(self, uuid, vm):
        self.site.xe("vm-start", f"uuid={uuid}")
        self.site.serial(self.pool, vm).expect("Select a language", 400)
        self.site.xe("vm-shutdown", f"uuid={uuid}", "force=true")
        self.assertEqual(self.pool.VM.get_power_state(vm), "Halted")

    def test_debian_installer_boots_from_cd(self):
        bootmedia.make_iso(os.path.join(self.site.state, "iso", "debian.iso"), os.path.join(INSTALLER, "linux"),
                           os.path.join(INSTALLER, "initrd.gz"), ARGUMENTS)
        uuid, vm = self.machine("installer-cd")
        library = next(ref for ref, sr in self.pool.SR.get_all_records().items() if sr["type"] == "iso")
        self.pool.SR.scan(library)
        self.assertIn("debian.iso", [self.pool.VDI.get_name_label(vdi) for vdi in self.pool.SR.get_VDIs(library)])
        self.site.xe("vm-cd-add", f"uuid={uuid}", "cd-name=debian.iso", "device=3")
        self.installer_shows_its_first_screen(uuid, vm)

    def test_debian_installer_boots_from_its_template(self):
        """Its kernel boots once, asked for its answers by the address that was given; then the VM is one like others."""
        uuid = self.site.xe("vm-install", "template=Debian 12 (installer)", "new-name-label=installer",
                            "preseed=http://192.0.2.1/preseed.cfg")
        self.addCleanup(lambda: self.site.xe("vm-uninstall", f"uuid={uuid}", "force=true"))
        vm = self.pool.VM.get_by_uuid(uuid)
        arguments = self.pool.VM.get_other_config(vm)["corral:install-arguments"].split()
        self.assertEqual(arguments[:4], ["auto=true", "priority=critical", "url=http://192.0.2.1/preseed.cfg",
                                         "console=ttyS0,115200n8"])
        self.assertEqual(len(self.pool.VM.get_VBDs(vm)), 1)
        # Without the address, to see it ask.
        self.pool.VM.remove_from_other_config(vm, "corral:install-arguments")
        self.pool.VM.add_to_other_config(vm, "corral:install-arguments", ARGUMENTS)
        self.site.xe("vm-start", f"uuid={uuid}")
        self.assertEqual([key for key in self.pool.VM.get_other_config(vm) if key.startswith("corral:install")], [])
        self.site.serial(self.pool, vm).expect("Select a language", 400)
        self.site.xe("vm-shutdown", f"uuid={uuid}", "force=true")
        self.assertEqual(self.pool.VM.get_power_state(vm), "Halted")

    @unittest.skipUnless(os.environ.get("CORRAL_CREATE_IMAGE"), "a whole installation is done by './corral test --long' alone")
    def test_debian_installs_itself_from_its_template(self):
        """From the first screen to a login in what was installed, with nobody at the keyboard."""
        missing = preseed.missing_parts()
        if missing:
            words = f"the Debian archive of this machine lacks parts of the installer ({', '.join(missing)}): NOTHING was tried"
            print("SKIPPED:", words, file=sys.stderr)
            self.skipTest(words)
        server = preseed.Server(preseed.answers())
        self.addCleanup(server.close)
        # What the guest calls the host's loopback.
        uuid = self.site.xe("vm-install", "template=Debian 12 (installer)", "new-name-label=installed",
                            f"preseed=http://10.0.2.2:{server.port}/preseed.cfg")
        self.addCleanup(lambda: self.site.xe("vm-uninstall", f"uuid={uuid}", "force=true"))
        vm = self.pool.VM.get_by_uuid(uuid)
        self.site.xe("vm-start", f"uuid={uuid}")
        until("the installer asks for its answers", lambda: server.asked, 1200, 1)
        # Its last step is a reboot, which leaves the VM halted.
        until("the installation's end", lambda: self.pool.VM.get_power_state(vm) == "Halted", 4 * 3600, 5)
        self.site.xe("vm-start", f"uuid={uuid}")
        serial = self.site.serial(self.pool, vm)
        serial.expect(f"{preseed.HOSTNAME} login:", 900)
        serial.send("root\n")
        serial.expect("Password:", 120)
        serial.send(preseed.PASSWORD + "\n")
        serial.expect("# ", 120)
        serial.send("bind 'set enable-bracketed-paste off'; stty columns 500; PS1='# '\n")
        serial.expect("# ")
        code, said = serial.run(". /etc/os-release; echo $ID-$VERSION_ID; findmnt -n -o FSTYPE /")
        self.assertEqual((code, said.split()), (0, ["debian-12", "ext4"]))
        self.site.xe("vm-shutdown", f"uuid={uuid}", limit_s=300)
        self.assertEqual(self.pool.VM.get_power_state(vm), "Halted")

    def test_ova_is_a_machine_with_its_disks(self):
        folder = os.path.join(self.site.folder, "ova")
        os.makedirs(folder)
        image, ova, back = (os.path.join(folder, name) for name in ("web-disk1.vmdk", "web.ova", "back.raw"))
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", self.raw, image],
                       check=True)
        with open(OVF, encoding="utf-8") as file:
            text = file.read().replace('ovf:capacity="3" ovf:capacityAllocationUnits="byte * 2^20"',
                                       f'ovf:capacity="{os.path.getsize(self.raw)}"').replace("1073741824", "4194304")
        with open(os.path.join(folder, "web.ovf"), "w", encoding="utf-8") as file:
            file.write(text)
        with tarfile.open(ova, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name in ("web.ovf", "web-disk1.vmdk"):
                tar.add(os.path.join(folder, name), name)
        uuid = self.site.xe("vm-import", f"filename={ova}")
        self.addCleanup(lambda: self.site.xe("vm-uninstall", f"uuid={uuid}", "force=true"))
        vm = self.pool.VM.get_record(self.pool.VM.get_by_uuid(uuid))
        self.assertEqual((vm["name_label"], vm["memory_static_max"], vm["VCPUs_max"], vm["HVM_boot_params"]["firmware"],
                          len(vm["VBDs"]), len(vm["VIFs"])), ("web & more", 256 << 20, 2, "uefi", 3, 1))
        disk = self.site.xe("vbd-list", f"vm-uuid={uuid}", "userdevice=0", "params=vdi-uuid", "--minimal")
        self.site.xe("vdi-export", f"uuid={disk}", f"filename={back}", "format=raw")
        subprocess.run(["cmp", self.raw, back], check=True)
        # The same from an address.
        serve = functools.partial(Quiet, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            far = self.site.xe("vm-import", f"url=http://127.0.0.1:{server.server_address[1]}/web.ova")
            server.shutdown()
        self.addCleanup(lambda: self.site.xe("vm-uninstall", f"uuid={far}", "force=true"))
        disk = self.site.xe("vbd-list", f"vm-uuid={far}", "userdevice=0", "params=vdi-uuid", "--minimal")
        os.unlink(back)
        self.site.xe("vdi-export", f"uuid={disk}", f"filename={back}", "format=raw")
        subprocess.run(["cmp", self.raw, back], check=True)
        # Written again, the disk inside is read by another program.
        again = os.path.join(folder, "again.ova")
        self.site.xe("vm-export", f"uuid={uuid}", f"filename={again}", "format=ova")
        with tarfile.open(again) as tar:
            self.assertEqual(tar.getnames(), ["vm.ovf", "disk0.vmdk", "disk1.vmdk"])
            tar.extract("disk0.vmdk", folder)
        os.unlink(back)
        subprocess.run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", os.path.join(folder, "disk0.vmdk"), back], check=True)
        subprocess.run(["cmp", self.raw, back], check=True)
        # What is cut off leaves neither machine nor disk.
        before = len(self.pool.VM.get_all()), len(self.pool.VDI.get_all())
        os.truncate(ova, os.path.getsize(image) // 2)
        run = self.site.xe("vm-import", f"filename={ova}", check=False)
        self.assertNotEqual(run.returncode, 0)
        self.assertEqual((len(self.pool.VM.get_all()), len(self.pool.VDI.get_all())), before)

    def test_refused_image_leaves_nothing(self):
        """A raw file is no qcow2, and a qcow2 that names a backing file would read it."""
        backed = os.path.join(self.site.folder, "backed.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", backed, "1M"],
                       check=True)
        before = sorted(glob.glob(os.path.join(self.site.state, "sr", "**"), recursive=True))
        for path in (self.raw, backed):
            with self.subTest(path=path):
                vdi = self.pool.VDI.create({
                    "name_label": "refused", "name_description": "", "SR": self.repository,
                    "virtual_size": os.path.getsize(self.raw), "type": "user", "sharable": False,
                    "read_only": False, "other_config": {}, "xenstore_data": {}, "sm_config": {}, "tags": []})
                run = self.site.xe("vdi-import", f"uuid={self.pool.VDI.get_uuid(vdi)}", f"filename={path}",
                                   "format=qcow2", check=False)
                self.assertNotEqual(run.returncode, 0)
                self.pool.VDI.destroy(vdi)
        until("no leftovers", lambda: sorted(
            glob.glob(os.path.join(self.site.state, "sr", "**"), recursive=True)) == before, 5)


if __name__ == "__main__":
    unittest.main(verbosity=2)
