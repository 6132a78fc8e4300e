"""Values that no honest client sends, in every field that reaches the agent or the device model: each is refused with
its XenAPI error before anything changed, or means nothing but itself."""
import glob
import json
import os
import shutil
import sys
import tempfile
import unittest

from vms import MIB, VmCase

LONG = "x" * 10000
# What could end a line, an option, a list, a quotation, a format or a path; and what is too long.
NASTY = ("a\nb", "a,b", "a=b", "-device", "a\"b", "a'b", "%n%s", "../a", "a/b", "a;b", "$(id)", "a\\b", "a\x7fb", LONG)


def setUpModule():
    images = tempfile.mkdtemp(prefix="corral-images-")
    unittest.addModuleCleanup(shutil.rmtree, images)
    with open(os.path.join(images, "vmlinuz"), "wb"):
        pass  # the one that the host has
    VmCase.open_pool(host_options=("--sim-boot-ms", "50", "--images", images))


class BadInput(VmCase):
    def config(self, vm):
        """What the agent keeps of a running VM."""
        path, = glob.glob(os.path.join(self.pool.folder, "host1", "run", self.api.VM.get_uuid(vm), "config.json"))
        with open(path, encoding="utf-8") as file:
            return json.load(file)["config"]

    def unchanged(self, cls, ref, before):
        now = self.api.call(f"{cls}.get_record", self.api.session, ref)
        ignore = ("allowed_operations",)
        self.assertEqual({k: v for k, v in now.items() if k not in ignore},
                         {k: v for k, v in before.items() if k not in ignore})

    def refused(self, code, message, cls, ref, *arguments):
        """With that error, and the object is as it was."""
        before = self.api.call(f"{cls}.get_record", self.api.session, ref)
        params = self.fails(code, None, message, *arguments)
        self.unchanged(cls, ref, before)
        return params

    def starts(self, vm):
        self.start(vm)
        config = self.config(vm)
        self.api.VM.hard_shutdown(vm)
        return config

    # ---- what a start refuses ----

    # field (a key of a map behind a colon), its values, further settings
    START = (
        ("PV_kernel", (*NASTY, "/etc/passwd", "..", ".hidden", "a b", "missing"), {}),
        ("PV_ramdisk", (*NASTY, "/etc/passwd", "..", "-", "missing"), {}),
        ("other_config:corral:install-kernel", ("../a", "missing"), {"PV_kernel": ""}),
        ("other_config:corral:install-ramdisk", ("../a", "missing"), {"other_config": {"corral:install-kernel": "vmlinuz"}}),
        ("PV_args", ("a\nb", "a\rb", "a\x7fb", "a\tb", LONG), {}),
        ("PV_args", ("a\nb",), {"PV_kernel": "", "PV_bootloader": "pygrub"}),
        ("PV_bootloader_args", ("a\nb", LONG), {"PV_kernel": "", "PV_bootloader": "pygrub"}),
        ("HVM_boot_params:order", (*NASTY, "cc", "x", "c,d", "cdnc"), {"PV_kernel": ""}),
        ("HVM_boot_params:firmware", NASTY, {"PV_kernel": ""}),
        ("platform:secureboot", NASTY, {"PV_kernel": "", "HVM_boot_params": {"firmware": "uefi"}}),
        *((f"platform:{key}", NASTY, {}) for key in
          ("acpi", "pae", "nx", "hpet", "viridian", "usb", "usb_tablet", "nested-virt", "apic", "vga", "disk_type", "nic_type")),
        *((f"platform:{key}", (*NASTY, "1.5", "0x10", "9" * 30, "-9" + "9" * 30, "1 ", "1\n"), {}) for key in
          ("videoram", "timeoffset", "cores-per-socket")),
        ("VCPUs_params:mask", (*NASTY, "1-", "-1", "0,,1", "5-2", "999999", "0-99999999999999999999"), {}),
        ("VCPUs_params:weight", (*NASTY, "0", "-1", "1e3", "70000", "9" * 30), {}),
        ("VCPUs_params:cap", (*NASTY, "-1", "9" * 30), {}),
    )

    def test_what_a_start_refuses(self):
        for field, values, settings in self.START:
            name, _, key = field.partition(":")
            vm = self.make(**settings)
            for value in values:
                with self.subTest(field=field, value=value[:20]):
                    setting = {**getattr(self.api.VM, f"get_{name}")(vm), key: value} if key else value
                    getattr(self.api.VM, f"set_{name}")(vm, setting)
                    params = self.refused("VALUE_NOT_SUPPORTED", "VM.start", "VM", vm, vm, False, False)
                    self.assertIn(params[0], (field, "VM"))
                    if value == "missing":
                        self.assertEqual(params[1], "missing")
                        self.assertIn("the host has no such file in its folder of images", params[2])
            self.destroy(vm)
        run = os.path.join(self.pool.folder, "host1", "run")
        self.assertEqual([name for name in os.listdir(run) if not name.startswith(".")], [])

    def test_more_devices_than_a_machine_has(self):
        vm, vdi = self.with_disk()
        for _ in range(64):
            self.drive(vm, vdi)
        self.refused("VALUE_NOT_SUPPORTED", "VM.start", "VM", vm, vm, False, False)

    # ---- what means nothing but itself ----

    def test_what_is_only_words(self):
        """Names, descriptions, maps that nobody reads: any text; the guest starts, and options are not made of it."""
        for value in NASTY:
            with self.subTest(value=value[:20]):
                vm, vdi = self.with_disk(name_label=value, name_description=value,
                                         platform={"unknown": value, value: "x"}, VCPUs_params={"unknown": value},
                                         other_config={"mac_seed": value, "corral:quiesce": value, "auto_poweron": value,
                                                       "base_template_name": value, value: value},
                                         recommendations=value)
                self.api.VDI.set_name_label(vdi, value)
                config = self.starts(vm)
                self.assertFalse(any(ord(c) < 32 or ord(c) == 127 for c in config["name"]), config["name"][:50])
                self.assertLessEqual(len(config["name"]), 255)
                self.assertEqual(self.api.VM.get_name_label(vm), value)
                copy = self.keep(self.api.VM.clone(vm, value))
                self.assertEqual(self.api.VM.get_name_label(copy), value)
                for each in (copy, vm):
                    self.destroy(each)

    def test_arguments_of_a_kernel(self):
        """They are one argument, whatever is in them."""
        vm = self.make()
        for value in (v for v in NASTY if v not in ("a\nb", "a\x7fb", LONG)):
            with self.subTest(value=value[:20]):
                self.api.VM.set_PV_args(vm, value)
                self.assertEqual(self.starts(vm)["cmdline"], value)

    # ---- devices ----

    NUMBERS = (*NASTY, "", "-1", "+1", " 1", "1 ", "01", "1.0", "0x1", "256", "99999999999999999999")

    def test_numbers_of_devices(self):
        vm, vdi = self.with_disk()
        for value in self.NUMBERS:
            with self.subTest(value=value[:20]):
                self.refused("INVALID_DEVICE", "VBD.create", "VM", vm, self.drive_record(vm, vdi, value))
                self.refused("INVALID_DEVICE", "VIF.create", "VM", vm, self.nic_record(vm, value))
        for value in ("xvd", "xvdA", "sd1", "hdzzzz", "xvda1"):
            self.refused("INVALID_DEVICE", "VBD.create", "VM", vm, self.drive_record(vm, vdi, value))
        self.refused("DEVICE_ALREADY_EXISTS", "VBD.create", "VM", vm, self.drive_record(vm, vdi, "0"))
        self.refused("DEVICE_ALREADY_EXISTS", "VBD.create", "VM", vm, self.drive_record(vm, vdi, "xvda"))
        self.refused("DEVICE_ALREADY_EXISTS", "VIF.create", "VM", vm, self.nic_record(vm, "0"))
        vbd, vif = self.api.VM.get_VBDs(vm)[0], self.api.VM.get_VIFs(vm)[0]
        self.assertEqual(self.api.VBD.get_userdevice(vbd), "0")
        for message, device in (("VBD.plug", vbd), ("VBD.unplug", vbd), ("VIF.plug", vif), ("VIF.unplug", vif)):
            params = self.refused("VM_BAD_POWER_STATE", message, "VM", vm, device)
            self.assertEqual(params, [vm, "running", "halted"])

    def drive_record(self, vm, vdi, device):
        return {"VM": vm, "VDI": vdi, "userdevice": device, "bootable": False, "mode": "RW", "type": "Disk",
                "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "",
                "qos_algorithm_params": {}}

    def nic_record(self, vm, device, **more):
        return {"device": device, "network": self.network, "VM": vm, "MAC": "", "MTU": 1500, "other_config": {},
                "qos_algorithm_type": "", "qos_algorithm_params": {}, **more}

    def test_cards(self):
        vm = self.make()
        for mac in (*NASTY, "00:16:3e:00:00", "00:16:3e:00:00:0g", "00163e000001", "01:00:5e:00:00:01", "00:00:00:00:00:00",
                    "00:16:3e:00:00:01,script=x", "00:16:3e:00:00:01\n"):
            with self.subTest(mac=mac[:20]):
                self.refused("MAC_INVALID", "VIF.create", "VM", vm, self.nic_record(vm, "0", MAC=mac))
        vif = self.nic(vm, qos_algorithm_type="ratelimit")
        for rate in (*NASTY, "-1", "0", "9" * 30, "1 "):  # as ever, what is no number limits nothing
            with self.subTest(rate=rate[:20]):
                self.api.VIF.set_qos_algorithm_params(vif, {"kbps": rate, rate: rate})
                limit = self.starts(vm)["nics"][0].get("rate_kbytes", 0)
                self.assertIn(limit, (0, 100000000))
        for address in (*NASTY, "192.0.2.1/24", "::1"):
            self.refused("INVALID_IP_ADDRESS_SPECIFIED", "VIF.set_ipv4_allowed", "VIF", vif, vif, [address])
        for address in (*NASTY, "192.0.2.1", "fe80::1%eth0"):
            self.refused("INVALID_IP_ADDRESS_SPECIFIED", "VIF.set_ipv6_allowed", "VIF", vif, vif, [address])

    def test_limits_of_drives(self):
        vm, _ = self.with_disk()
        vbd, = self.api.VM.get_VBDs(vm)
        for value in (v for v in NASTY):
            self.refused("VALUE_NOT_SUPPORTED", "VBD.set_qos_algorithm_type", "VBD", vbd, vbd, value)
        self.api.VBD.set_qos_algorithm_type(vbd, "throttle")
        for value in (*NASTY, "-1", "", "9" * 30):
            for params in ({"iops": value}, {"kbps": value}, {value or "-": "1"}):
                self.refused("VALUE_NOT_SUPPORTED", "VBD.set_qos_algorithm_params", "VBD", vbd, vbd, params)

    # ---- numbers ----

    def test_memory_and_processors(self):
        top = 2 ** 63 - 1
        for low, dyn_low, dyn_high, high in ((0, 2, 1, 4), (2, 1, 3, 4), (0, 1, 5, 4), (0, 0, 0, 0), (5, 5, 5, 4), (-1, -1, -1, -1),
                                             (0, -1, 1, 1), (0, top // MIB + 1, 1, 1)):
            vm = self.make(memory_static_min=low * MIB, memory_dynamic_min=dyn_low * MIB, memory_dynamic_max=dyn_high * MIB,
                           memory_static_max=high * MIB) if dyn_low * MIB <= top else None
            if vm:
                self.refused("MEMORY_CONSTRAINT_VIOLATION", "VM.start", "VM", vm, vm, False, False)
        vm = self.make(memory_static_min=top, memory_dynamic_min=top, memory_dynamic_max=top, memory_static_max=top)
        self.refused("HOST_NOT_ENOUGH_FREE_MEMORY", "VM.start", "VM", vm, vm, False, False)
        for at_start, most, code in ((0, 1, "VALUE_NOT_SUPPORTED"), (2, 1, "VALUE_NOT_SUPPORTED"), (-1, -1, "VALUE_NOT_SUPPORTED"),
                                     (1, 2 ** 40, "HOST_NOT_ENOUGH_PCPUS"), (top, top, "HOST_NOT_ENOUGH_PCPUS")):
            vm = self.make(VCPUs_at_startup=at_start, VCPUs_max=most)
            self.refused(code, "VM.start", "VM", vm, vm, False, False)
        vm, vdi = self.with_disk()
        for ranges in ((-1, 1, 1, 1), (2, 1, 1, 1), (0, 2, 1, 4), (0, 1, 5, 4), (top, 0, 0, 0)):
            self.refused("MEMORY_CONSTRAINT_VIOLATION", "VM.set_memory_limits", "VM", vm, vm, *ranges)
        for count in (-1, 0, 2, top, -top - 1):
            self.refused("VALUE_NOT_SUPPORTED", "VM.set_VCPUs_at_startup", "VM", vm, vm, count)
        for size in (-1, 0, -top - 1):
            self.refused("SR_BACKEND_FAILURE_79", "VDI.resize", "VDI", vdi, vdi, size)

    # ---- the guest's data, disks and media ----

    def test_data_of_a_guest(self):
        vm = self.make()
        self.up(vm)
        for key in ("a\nb", "a,b", "a=b", "a\"b", "%n", "a//b", "/a", "a/", "", LONG):
            with self.subTest(key=key[:20]):
                self.refused("INVALID_VALUE", "VM.add_to_xenstore_data", "VM", vm, vm, f"vm-data/{key}", "x")
        for value in ("a\x01b", LONG):
            self.refused("INVALID_VALUE", "VM.add_to_xenstore_data", "VM", vm, vm, "vm-data/key", value)
        for value in ("a\nb", "a,b", "a=b", "-device", "a\"b", "%n%s"):
            self.api.VM.set_xenstore_data(vm, {"vm-data/key": value, "other": LONG})
            self.assertEqual(self.api.VM.get_xenstore_data(vm), {"vm-data/key": value, "other": LONG})

    def test_names_of_media(self):
        """A CD is what its file is called; names that lead elsewhere are not listed."""
        folder = os.path.join(self.pool.folder, self.id().rpartition(".")[2])
        os.mkdir(folder)
        good = ("a,b.iso", "a=b.iso", "-device.iso", "a\"b'.iso", "%n%s.iso", "a b;$(id).iso")
        for name in (*good, "a\nb.iso"):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(b"\0" * 4096)
        os.symlink("/etc/passwd", os.path.join(folder, "link.iso"))
        library = self.api.SR.create(self.host, {"location": folder, "legacy_mode": "true"}, 0, "isos", "", "iso", "iso", False, {})
        listed = {self.api.VDI.get_name_label(v): v for v in self.api.SR.get_VDIs(library)}
        self.assertEqual(sorted(listed), sorted(good))
        vm = self.make()
        drive = self.drive(vm, listed[good[0]], "CD")
        for name in good[1:]:
            self.assertTrue(self.starts(vm)["disks"][0]["iso"])
            self.start(vm)
            self.api.VBD.eject(drive)
            self.api.VBD.insert(drive, listed[name])
            self.assertEqual(self.config(vm)["disks"][0]["iso"], name)
            self.api.VM.hard_shutdown(vm)

    def test_places_of_disks(self):
        before = set(self.api.SR.get_all())
        for location in ("", "relative", "../up", LONG, "/x/../../etc", "/a\nb"):
            with self.subTest(location=location[:20]):
                self.fails("SR_BACKEND_FAILURE", None, "SR.create", self.host, {"location": location}, 0, "bad", "", "file", "", False, {})
        self.assertEqual(set(self.api.SR.get_all()), before)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
