"""What a VM's firmware keeps (UEFI variables, a TPM), how VMs boot, and what hardware can be asked for."""
import base64
import io
import os
import struct
import tarfile
import unittest

from pool import NULL, until
from vms import VmCase

SECURE_VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"


def setUpModule():
    VmCase.open_pool()


def variables(**ascii):
    """NVRAM:EFI-variables with these variables of the global vendor; db and dbx are image security's."""
    vendor, security = (bytes.fromhex(text) for text in ("61dfe48bca93d211aa0d00e098032b8c", "cbb219d73a3d9645a3bcdad00e67656f"))
    body = b""
    for name, data in ascii.items():
        guid = security if name in ("db", "dbx") else vendor
        name = name.encode("utf-16-le")
        body += struct.pack("<Q", len(name)) + name + struct.pack("<Q", len(data)) + data
        body += guid + struct.pack("<I", 7) + bytes(16) + bytes(32)
    return base64.b64encode(b"VARS" + struct.pack("<IQQ", 1, len(ascii), len(body)) + body).decode()


def update(secret):
    """An authenticated update of keys with one certificate, signed by nobody."""
    time = bytes.fromhex("e807010203040500") + bytes(8)
    certificate = struct.pack("<IHH", 24, 0x0200, 0x0ef1) + bytes.fromhex("9dd2af4adf68ee498aa9347d375665a7")
    signature = bytes(16) + secret
    lists = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072") + struct.pack("<III", 28 + len(signature), 0, len(signature))
    return time + certificate + lists + signature


def key_archive(**members):
    """The value of set_custom_uefi_certificates: NAME.auth of each."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"./{name}.auth")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return base64.b64encode(out.getvalue()).decode()


class Firmware(VmCase):
    def uefi(self, **more):
        return self.make(PV_kernel="", HVM_boot_policy="BIOS order",
                         HVM_boot_params={"order": "cd", "firmware": "uefi"}, **more)

    def tpm(self, vm, is_unique=False):
        return self.api.VTPM.create(vm, is_unique)

    def on_host(self, vm, what):
        return os.path.join(self.pool.folder, "host1", "nvram", f"{self.api.VM.get_uuid(vm)}.{what}")

    def write_tpm(self, vm, content):
        """As its guest would."""
        folder = self.on_host(vm, "tpm")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "tpm2-00.permall"), "wb") as file:
            file.write(content)

    def contents(self):
        """Of all TPMs, sorted."""
        return sorted(base64.b64decode(s["value"]) for s in self.api.secret.get_all_records().values())

    def kept_nowhere(self, vm):
        uuid = self.api.VM.get_uuid(vm)
        until("the host keeps nothing", lambda: not [f for f in os.listdir(os.path.dirname(self.on_host(vm, "fd")))
                                                      if f.startswith(uuid)])


class Tpms(Firmware):
    def test_rows(self):
        vm = self.make()
        self.assertIn("create_vtpm", self.api.VM.get_allowed_operations(vm))
        tpm = self.tpm(vm, True)
        record = self.api.VTPM.get_record(tpm)
        self.assertEqual((record["VM"], record["is_unique"], record["is_protected"], record["persistence_backend"]),
                         (vm, True, False, "xapi"))
        self.assertEqual(self.api.VM.get_VTPMs(vm), [tpm])
        self.fails("VTPM_MAX_AMOUNT_REACHED", ["1"], "VTPM.create", vm, False)
        self.fails("HANDLE_INVALID", None, "VTPM.create", NULL, False)
        self.start(vm)
        self.fails("VM_BAD_POWER_STATE", [vm, "halted", "running"], "VTPM.destroy", tpm)
        self.api.VM.hard_shutdown(vm)
        self.api.VTPM.destroy(tpm)
        self.fails("HANDLE_INVALID", ["VTPM", tpm], "VTPM.get_record", tpm)
        self.start(vm)
        self.fails("VM_BAD_POWER_STATE", [vm, "halted", "running"], "VTPM.create", vm, False)
        self.assertEqual(self.contents(), [])

    def test_contents_outlive_every_kind_of_end(self):
        for number, end in enumerate(("hard_shutdown", "clean_shutdown", "suspend")):
            vm = self.make()
            self.tpm(vm)
            self.api.VM.set_suspend_SR(vm, self.sr)
            self.up(vm)
            self.write_tpm(vm, b"state %d" % number)
            getattr(self.api.VM, end)(vm)
            self.assertEqual(self.contents(), [b"state %d" % number], end)
            self.kept_nowhere(vm)
            if end == "suspend":
                self.api.VM.resume(vm, False, False)
            else:
                self.start(vm)
            with open(os.path.join(self.on_host(vm, "tpm"), "tpm2-00.permall"), "rb") as file:
                self.assertEqual(file.read(), b"state %d" % number)
            self.destroy(vm)
            self.assertEqual(self.contents(), [])

    def test_contents_outlive_an_end_by_itself_and_a_server_that_died(self):
        vm = self.make("sim.poweroff_ms=1500")
        self.tpm(vm)
        self.api.VM.start(vm, True, False)
        self.write_tpm(vm, b"last words")
        self.api.VM.unpause(vm)
        until("it ended", lambda: self.state(vm) == "Halted", 60)
        self.assertEqual(self.contents(), [b"last words"])
        self.kept_nowhere(vm)
        other = self.make("sim.poweroff_ms=1500")
        self.tpm(other)
        self.api.VM.start(other, True, False)
        self.write_tpm(other, b"unheard")
        self.api.VM.unpause(other)
        self.pool.kill()
        self.pool.start()
        VmCase.api = self.pool.login()
        until("its end is noticed", lambda: self.api.VM.get_power_state(other) == "Halted", 60)
        self.assertEqual(self.contents(), [b"last words", b"unheard"])

    def test_copies(self):
        vm, unique = self.make(), self.make()
        self.tpm(vm)
        self.tpm(unique, True)
        for each, content in ((vm, b"common"), (unique, b"unique")):
            self.up(each)
            self.write_tpm(each, content)
        snapshots = [self.keep(self.api.VM.snapshot(each, "s")) for each in (vm, unique)]
        self.assertEqual(self.contents(), [b"common"] * 2 + [b"unique"] * 2, "a snapshot is the same VM")
        for each in (vm, unique):
            self.api.VM.hard_shutdown(each)
        clones = [self.keep(self.api.VM.clone(each, "c")) for each in (vm, unique)]
        self.assertEqual(self.contents(), [b""] + [b"common"] * 3 + [b"unique"] * 2)
        self.assertEqual([len(self.api.VM.get_VTPMs(clone)) for clone in clones], [1, 1])
        self.up(vm)
        self.write_tpm(vm, b"changed")
        self.api.VM.hard_shutdown(vm)
        self.assertIn(b"changed", self.contents())
        self.api.VM.revert(snapshots[0])
        self.assertEqual(self.contents(), [b""] + [b"common"] * 3 + [b"unique"] * 2)
        self.assertEqual(len(self.api.VM.get_VTPMs(vm)), 1)

    def metadata(self, method, path, body=None):
        return self.pool.http(method, path, body, {"Cookie": f"session_id={self.api.session}"}, 60)

    def test_in_an_archive(self):
        vm, unique = self.make(), self.make()
        self.tpm(vm)
        self.tpm(unique, True)
        for each, content in ((vm, b"kept in a file"), (unique, b"never copied")):
            self.up(each)
            self.write_tpm(each, content)
            self.api.VM.hard_shutdown(each)
        files = [self.metadata("GET", f"/export_metadata?ref={each}")[2] for each in (vm, unique)]
        text = base64.b64encode(b"kept in a file")
        self.assertIn(text, files[0])
        self.assertNotIn(base64.b64encode(b"never copied"), files[1])
        self.assertNotIn(text, self.metadata("GET", f"/export_metadata?ref={vm}&excluded_device_types=vtpm")[2])
        known = set(self.api.VM.get_all())
        for file in files:
            task = self.api.task.create("import", "")
            self.assertEqual(self.metadata("PUT", f"/import_metadata?task_id={task}", file)[0], 200)
            until("the import", lambda t=task: self.api.task.get_status(t) != "pending")
            self.assertEqual(self.api.task.get_status(task), "success", self.api.task.get_error_info(task))
        made = [self.keep(ref) for ref in set(self.api.VM.get_all()) - known]
        self.assertEqual([len(self.api.VM.get_VTPMs(ref)) for ref in made], [1, 1])
        self.assertEqual(self.contents(), [b"", b"kept in a file", b"kept in a file", b"never copied"])
        task = self.api.task.create("import", "")
        self.metadata("PUT", f"/import_metadata?task_id={task}", files[0].replace(text, b"!" * len(text)))
        until("the refusal", lambda: self.api.task.get_status(task) == "failure")
        self.assertEqual(self.api.task.get_error_info(task)[:2], ["INVALID_VALUE", "contents"])


class Variables(Firmware):
    def test_given_and_taken(self):
        vm = self.uefi()
        self.api.VM.set_NVRAM(vm, {"EFI-variables": variables(Lang=b"eng")})
        self.start(vm)
        with open(self.on_host(vm, "vars"), "r+", encoding="ascii") as file:
            self.assertEqual(file.read(), variables(Lang=b"eng"))
            file.seek(0)
            file.truncate()
            file.write(variables(Lang=b"deu"))
        clone_source = self.keep(self.api.VM.snapshot(vm, "s"))
        self.assertEqual(self.api.VM.get_NVRAM(clone_source), {"EFI-variables": variables(Lang=b"deu")})
        self.api.VM.hard_shutdown(vm)
        self.assertEqual(self.api.VM.get_NVRAM(vm), {"EFI-variables": variables(Lang=b"deu")})
        self.kept_nowhere(vm)
        self.api.VM.set_NVRAM(vm, {})
        self.api.VM.revert(clone_source)
        self.assertEqual(self.api.VM.get_NVRAM(vm), {"EFI-variables": variables(Lang=b"deu")})

    @unittest.skipUnless(os.path.exists(SECURE_VARIABLES), "package ovmf")
    def test_secure_boot_modes(self):
        vm = self.uefi(platform={"secureboot": "true"})
        ready = lambda: self.api.VM.get_secureboot_readiness(vm)
        self.assertEqual(ready(), "first_boot")
        self.assertEqual(self.api.VM.set_uefi_mode(vm, "setup"), "setup")
        self.assertEqual(ready(), "setup_mode")
        self.api.VM.set_NVRAM(vm, {"EFI-variables": variables(Lang=b"eng")})
        self.assertEqual(self.api.VM.set_uefi_mode(vm, "user"), "user")
        self.assertEqual(ready(), "ready")
        text = base64.b64decode(self.api.VM.get_NVRAM(vm)["EFI-variables"])
        self.assertIn("Lang".encode("utf-16-le"), text)
        self.api.VM.set_NVRAM(vm, {"EFI-variables": variables(PK=b"x", KEK=b"x")})
        self.assertEqual(ready(), "certs_incomplete")
        pool = self.api.pool.get_all()[0]
        self.assertEqual(self.api.pool.get_guest_secureboot_readiness(pool), "ready")
        self.fails("OPERATION_NOT_ALLOWED", None, "VM.set_uefi_mode", self.make(), "user")
        self.start(vm)
        self.fails("VM_BAD_POWER_STATE", [vm, "halted", "running"], "VM.set_uefi_mode", vm, "user")

    @unittest.skipUnless(os.path.exists(SECURE_VARIABLES), "package ovmf")
    def test_newer_keys_at_a_start(self):
        vm, pool = self.uefi(platform={"secureboot": "true"}), self.api.pool.get_all()[0]
        mark = lambda on: self.api.VM.update_secureboot_certificates_on_boot(vm, on)
        state = lambda: self.api.VM.get_secureboot_certificates_state(vm)

        def keys():
            return base64.b64decode(self.api.VM.get_NVRAM(vm)["EFI-variables"])

        def run(**old):
            """A run that begins with these keys; what it was given."""
            self.api.VM.set_NVRAM(vm, {"EFI-variables": variables(**old)})
            self.start(vm)
            self.api.VM.hard_shutdown(vm)
            return keys()
        longer = b"forbidden" * 4096  # a guest has added to it
        old = {"PK": b"old-pk", "KEK": b"old-kek", "Lang": b"eng"}
        self.assertIn(b"old-pk", run(**old))
        self.assertEqual(state(), "update_available")
        mark(True)
        self.assertEqual(state(), "update_on_boot")
        mark(False)
        self.assertEqual(state(), "update_available")
        mark(True)
        given = run(**old)
        self.assertNotIn(b"old-", given)
        self.assertIn("Lang".encode("utf-16-le"), given)
        self.assertEqual((state(), self.api.VM.get_secureboot_readiness(vm)), ("ok", "ready"))
        self.start(vm)  # those of the host: nothing is newer
        self.api.VM.hard_shutdown(vm)
        self.assertEqual((state(), keys()), ("ok", given))
        self.api.pool.set_auto_update_vm_secureboot_certificates(pool, True)
        self.addCleanup(self.api.pool.set_auto_update_vm_secureboot_certificates, pool, False)
        self.assertNotIn(b"old-", run(**old))
        self.assertEqual(state(), "ok")
        self.assertIn(b"eng", run(Lang=b"eng"))  # in set-up mode: it has no keys, and gets none
        self.assertEqual(self.api.VM.get_secureboot_readiness(vm), "setup_mode")
        mark(True)
        self.assertIn(longer, run(**old, dbx=longer))
        self.fails("OPERATION_NOT_ALLOWED", None, "VM.update_secureboot_certificates_on_boot", self.make(), True)


    def test_keys_of_the_pools_own(self):
        """They take the shipped ones' place wherever VMs get keys, until they are taken away."""
        pool = self.api.pool.get_all()[0]
        own = key_archive(PK=update(b"own-pk"), KEK=update(b"own-kek"), db=update(b"own-db"))
        for value, why in (("?", "no tar archive"), (base64.b64encode(b"text").decode(), "no tar archive"),
                           ("A" * (256 << 10) + "A", "longer than"), (key_archive(), "not all of"),
                           (key_archive(PK=update(b"x"), KEK=update(b"x")), "not all of"),
                           (key_archive(PK=update(b"x"), KEK=update(b"x"), db=update(b"x")[:-1]), "no authenticated update"),
                           (key_archive(PK=update(b"x"), KEK=update(b"x"), db=b""), "no authenticated update"),
                           (key_archive(**{f"other{n}": b"x" for n in range(17)}), "more members")):
            params = self.fails("INVALID_VALUE", None, "pool.set_custom_uefi_certificates", pool, value)
            self.assertEqual(params[0], "value")
            self.assertIn(why, params[1])
        self.api.pool.set_custom_uefi_certificates(pool, own)
        self.addCleanup(self.api.pool.set_custom_uefi_certificates, pool, "")
        self.assertEqual((self.api.pool.get_custom_uefi_certificates(pool), self.api.pool.get_uefi_certificates(pool)),
                         (own, own))
        self.assertEqual(self.api.pool.get_guest_secureboot_readiness(pool), "ready_no_dbx")

        def keys(vm):
            text = base64.b64decode(self.api.VM.get_NVRAM(vm).get("EFI-variables", ""))
            return [name for name in (b"own-pk", b"own-kek", b"own-db", b"old-pk") if name in text]
        first, renewed = (self.uefi(platform={"secureboot": "true"}) for _ in range(2))
        self.start(first)
        self.api.VM.hard_shutdown(first)
        self.assertEqual(keys(first), [b"own-pk", b"own-kek", b"own-db"])
        self.assertEqual(self.api.VM.get_secureboot_readiness(first), "ready_no_dbx")
        self.api.VM.set_NVRAM(renewed, {"EFI-variables": variables(PK=b"old-pk", KEK=b"x", db=b"x")})
        self.api.VM.update_secureboot_certificates_on_boot(renewed, True)
        self.start(renewed)
        self.api.VM.hard_shutdown(renewed)
        self.assertEqual(keys(renewed), [b"own-pk", b"own-kek", b"own-db"])
        self.api.VM.set_uefi_mode(first, "setup")
        self.assertEqual(keys(first), [])
        self.assertEqual(self.api.VM.set_uefi_mode(first, "user"), "user")
        self.assertEqual(keys(first), [b"own-pk", b"own-kek", b"own-db"])
        self.api.pool.set_custom_uefi_certificates(pool, "")
        self.assertEqual(self.api.pool.get_uefi_certificates(pool), "")
        later = self.uefi(platform={"secureboot": "true"})
        self.start(later)
        self.api.VM.hard_shutdown(later)
        self.assertEqual(keys(later), [])


class Hardware(Firmware):
    def test_what_cannot_be_had_is_refused_before_anything_changed(self):
        hvm = {"PV_kernel": "", "HVM_boot_policy": "BIOS order"}
        uefi = {**hvm, "HVM_boot_params": {"firmware": "uefi"}}
        cases = [
            ({**hvm, "HVM_boot_params": {"firmware": "coreboot"}}, "HVM_boot_params:firmware"),
            ({"PV_kernel": "/boot/vmlinuz"}, "PV_kernel"),
            ({"PV_kernel": "../vmlinuz"}, "PV_kernel"),
            ({"PV_ramdisk": "a/b"}, "PV_ramdisk"),
            ({"PV_kernel": "", "domain_type": "pvh"}, "domain_type"),
            ({"PV_kernel": "", "domain_type": "pv_in_pvh"}, "domain_type"),
            ({"PV_kernel": "", "domain_type": "pv"}, "domain_type"),
            ({"platform": {"apic": "false"}}, "platform:apic"),
            ({"platform": {"acpi": "maybe"}}, "platform:acpi"),
            ({**uefi, "platform": {"acpi": "false"}}, "platform:acpi"),
            ({**uefi, "platform": {"pae": "0"}}, "platform:pae"),
            ({**uefi, "platform": {"secureboot": "perhaps"}}, "platform:secureboot"),
            ({"platform": {"vga": "qxl"}}, "platform:vga"),
            ({"platform": {"videoram": "4k"}}, "platform:videoram"),
            ({"platform": {"videoram": "99999999999999999999"}}, "platform:videoram"),
            ({"platform": {"timeoffset": "soon"}}, "platform:timeoffset"),
            ({"platform": {"nic_type": "ne2000"}}, "platform:nic_type"),
            ({"platform": {"disk_type": "scsi"}}, "platform:disk_type"),
            ({"PV_bootloader": "pygrub", "PV_bootloader_args": "x" * 10000}, "PV_bootloader_args"),
        ]
        for settings, field in cases:
            vm = self.make(**settings)
            params = self.fails("VALUE_NOT_SUPPORTED", None, "VM.start", vm, False, False)
            self.assertEqual(params[0], field, settings)
            self.assertEqual(self.state(vm), "Halted")
            self.destroy(vm)
        vm = self.make(platform={"cores-per-socket": "2"})
        self.fails("VCPU_MAX_NOT_CORES_PER_SOCKET_MULTIPLE", ["1", "2"], "VM.start", vm, False, False)
        vm = self.make(PV_bootloader="grub")
        self.fails("UNKNOWN_BOOTLOADER", [vm, "grub"], "VM.start", vm, False, False)

    def test_what_can_be_had_starts(self):
        for platform in ({"acpi": "1", "apic": "true", "pae": "true", "nx": "1", "hpet": "true", "viridian": "true",
                          "vga": "std", "videoram": "8", "usb": "true", "usb_tablet": "true", "timeoffset": "-3600",
                          "device-model": "qemu-upstream-compat", "parallel": "none", "serial": "pty"},
                         {"vga": "cirrus", "hpet": "false", "pae": "false", "nic_type": "e1000", "cores-per-socket": "1"}):
            vm = self.make(platform=platform)
            self.start(vm)
            self.assertEqual(self.state(vm), "Running")
            self.api.VM.hard_shutdown(vm)

    def test_boot_policy_and_domain_type_say_the_same(self):
        vm = self.make()
        self.api.VM.set_HVM_boot_policy(vm, "BIOS order")
        self.assertEqual(self.api.VM.get_domain_type(vm), "hvm")
        self.api.VM.set_HVM_boot_policy(vm, "")
        self.assertEqual(self.api.VM.get_domain_type(vm), "pv")
        self.api.VM.set_domain_type(vm, "hvm")
        self.assertEqual(self.api.VM.get_HVM_boot_policy(vm), "BIOS order")


if __name__ == "__main__":
    unittest.main(verbosity=2)
