"""Changed-block tracking as backup tools use it: with the simulator, where a guest runs, and with real images of a
host that could run QEMU (no guest is started there). What changed is compared with what the test wrote."""
import base64
import os
import shutil
import struct
import subprocess
import sys
import unittest
import uuid

from pool import TestPool, until
from vms import MIB, VmCase

BLOCK = 65536
SIZE = 4 * MIB


def blocks(text):
    """Numbers of the blocks in a bitmap: the first is the highest bit of the first byte."""
    data = base64.b64decode(text, validate=True)
    return {i for i in range(len(data) * 8) if data[i // 8] & 0x80 >> i % 8}


def apply_delta(vhd, disk):
    """Reads a differencing VHD by its specification and writes what it holds into the parent's bytes: the uuids of child and
    parent, the numbers of the blocks of 64 KiB that were there."""
    footer, header = vhd[:512], vhd[512:1536]
    assert vhd[-512:] == footer and footer[:8] == b"conectix" and header[:8] == b"cxsparse"
    for part, at in ((footer, 64), (header, 36)):
        assert ~sum(part[:at] + part[at + 4:]) & 0xFFFFFFFF == int.from_bytes(part[at:at + 4], "big")
    assert int.from_bytes(footer[60:64], "big") == 4 and int.from_bytes(footer[48:56], "big") == len(disk)
    table, = struct.unpack(">Q", header[16:24])
    entries, size = struct.unpack(">II", header[28:36])
    touched = set()
    for i in range(entries):
        sector, = struct.unpack(">I", vhd[table + 4 * i:table + 4 * i + 4])
        if sector == 0xFFFFFFFF:
            continue
        at = sector * 512
        for s in range(size // 512):
            if vhd[at + s // 8] & 0x80 >> s % 8:
                offset = i * size + s * 512
                disk[offset:offset + 512] = vhd[at + 512 + s * 512:at + 1024 + s * 512]
                touched.add(offset // BLOCK)
    parent = header[64:64 + 80].decode("utf-16-be").rstrip("\0")
    uuids = [str(uuid.UUID(bytes=bytes(u))) for u in (footer[68:84], header[40:56])]
    assert parent == uuids[1] + ".vhd"
    return uuids, touched


class Backups:
    """What holds for both kinds of host; `put` writes as a guest would."""

    def changed(self, old, new):
        return blocks(self.api.VDI.list_changed_blocks(old, new))

    def snapshot(self, vdi):
        snapshot = self.api.VDI.snapshot(vdi)
        self.assertTrue(self.api.VDI.get_cbt_enabled(snapshot))
        return snapshot

    def test_a_chain_of_backups(self):
        vdi = self.disk(size=SIZE)
        self.put(vdi, 0, b"full")
        self.api.VDI.enable_cbt(vdi)
        self.api.VDI.enable_cbt(vdi)
        self.assertTrue(self.api.VDI.get_cbt_enabled(vdi))
        first = self.snapshot(vdi)
        self.put(vdi, 3, b"one")
        self.put(vdi, 63, b"end")
        second = self.snapshot(vdi)
        self.assertEqual(self.changed(first, second), {3, 63})
        self.assertEqual(self.changed(first, first), set())
        self.put(vdi, 4, b"two")
        self.assertEqual(self.changed(second, vdi), {4})
        third = self.snapshot(vdi)
        self.assertEqual(self.changed(second, third), {4})
        self.assertEqual(self.changed(first, third), {3, 4, 63})
        # The data of a snapshot goes, and what it says stays.
        self.api.VDI.data_destroy(first)
        self.api.VDI.data_destroy(first)
        row = self.api.VDI.get_record(first)
        self.assertEqual((row["type"], row["cbt_enabled"], row["missing"]), ("cbt_metadata", True, False))
        self.assertEqual(self.changed(first, third), {3, 4, 63})
        self.api.SR.scan(self.sr)
        self.assertFalse(self.api.VDI.get_missing(first))
        self.api.VDI.update(first)
        # A snapshot in the middle goes altogether.
        self.api.VDI.destroy(second)
        self.assertEqual(self.changed(first, third), {3, 4, 63})
        # What cannot be told, in the words that clients know.
        unrelated = ["", "Failed to calculate changed blocks for given VDIs. "
                     "[opterr=Source and target VDI are unrelated]", ""]
        self.fails("SR_BACKEND_FAILURE_460", unrelated, "VDI.list_changed_blocks", third, first)
        self.fails("SR_BACKEND_FAILURE_460", unrelated, "VDI.list_changed_blocks", vdi, third)
        self.api.VDI.disable_cbt(vdi)
        self.api.VDI.disable_cbt(vdi)
        self.fails("SR_BACKEND_FAILURE_460", None, "VDI.list_changed_blocks", third, vdi)
        plain = self.api.VDI.snapshot(vdi)
        self.assertFalse(self.api.VDI.get_cbt_enabled(plain))
        self.fails("VDI_NO_CBT_METADATA", [plain], "VDI.data_destroy", plain)
        for ref in (first, third, plain, vdi):
            self.api.VDI.destroy(ref)
        until("nothing is left", lambda: not self.disks_on_storage(), 60)

    def test_what_is_refused(self):
        vdi = self.disk(size=SIZE)
        self.api.VDI.enable_cbt(vdi)
        snapshot = self.snapshot(vdi)
        self.fails("OPERATION_NOT_ALLOWED", None, "VDI.enable_cbt", snapshot)
        self.fails("OPERATION_NOT_ALLOWED", None, "VDI.data_destroy", vdi)
        for operation in ("enable_cbt", "disable_cbt"):
            self.assertIn(operation, self.api.VDI.get_allowed_operations(vdi))
        self.assertIn("data_destroy", self.api.VDI.get_allowed_operations(snapshot))
        self.assertIn("vdi_enable_cbt", self.api.SR.get_allowed_operations(self.sr))
        vm = self.make()
        vbd = self.drive(vm, snapshot, mode="RO")
        self.fails("VDI_IN_USE", [snapshot, "data_destroy"], "VDI.data_destroy", snapshot)
        self.api.VBD.destroy(vbd)
        self.api.VDI.data_destroy(snapshot)
        self.fails("VDI_INCOMPATIBLE_TYPE", [snapshot, "cbt_metadata"], "VDI.clone", snapshot, {})
        self.fails("VDI_INCOMPATIBLE_TYPE", [snapshot, "cbt_metadata"], "VBD.create", {
            "VM": vm, "VDI": snapshot, "userdevice": "autodetect", "bootable": False, "mode": "RO", "type": "Disk",
            "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "",
            "qos_algorithm_params": {}})
        clone = self.api.VDI.clone(vdi)
        self.assertFalse(self.api.VDI.get_cbt_enabled(clone))
        for ref in (clone, snapshot, vdi):
            self.api.VDI.destroy(ref)


class Simulated(Backups, VmCase):
    @classmethod
    def setUpClass(cls):
        cls.pool = TestPool(hosts=1, host_options=["--sim-boot-ms", "50"])
        cls.api = cls.pool.login()

    @classmethod
    def tearDownClass(cls):
        cls.pool.close()

    def put(self, vdi, block, content):
        with open(self.path(vdi), "r+b") as file:
            file.seek(block * BLOCK)
            file.write(content)

    def test_a_vm_that_runs(self):
        vm, vdi = self.with_disk()
        self.start(vm)
        self.api.VDI.enable_cbt(vdi)
        snapshots = []
        for block in (5, 7):
            self.put(vdi, block, b"x")
            snapshots.append(self.keep(self.api.VM.snapshot(vm, "backup")))
        disks = [self.disk_of(s) for s in snapshots]
        self.assertEqual(self.changed(*disks), {7})
        self.fails("VDI_IN_USE", [vdi, "list_changed_blocks"], "VDI.list_changed_blocks", disks[0], vdi)
        # A clone of it is tracked no more than any other.
        copy = self.keep(self.api.VM.clone(snapshots[0], "copy"))
        self.assertFalse(self.api.VDI.get_cbt_enabled(self.disk_of(copy)))
        # The snapshots go, without their disks; then the data.
        for snapshot, disk in zip(snapshots, disks):
            self.api.VM.destroy(snapshot)
            self.vms.remove(snapshot)
            self.api.VDI.data_destroy(disk)
        self.assertEqual(self.changed(*disks), {7})
        self.assertEqual(self.api.VDI.get_VBDs(disks[0]), [])


@unittest.skipUnless(shutil.which("qemu-io") and os.access("/usr/bin/qemu-system-x86_64", os.X_OK), "no QEMU here")
class Images(Backups, VmCase):
    @classmethod
    def setUpClass(cls):
        cls.pool = TestPool(hosts=1, host_options=["--driver", "qemu"])
        cls.api = cls.pool.login()

    @classmethod
    def tearDownClass(cls):
        cls.pool.close()

    def write(self, vdi, content):
        if content:
            self.put(vdi, 0, content)

    def put(self, vdi, block, content):
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -P {content[0]} {block * BLOCK} 4k", self.path(vdi)],
                       check=True, stdout=subprocess.DEVNULL)

    def exported(self, vdi):
        status, _, body = self.pool.http("GET", f"/export_raw_vdi?session_id={self.api.session}&vdi={vdi}&format=raw",
                                         timeout_s=120)
        self.assertEqual(status, 200)
        return body

    def delta(self, vdi, base, fmt="vhd"):
        return self.pool.http("GET", f"/export_raw_vdi?session_id={self.api.session}&vdi={vdi}&base={base}&format={fmt}",
                              timeout_s=120)

    def test_differences_as_a_file(self):
        vdi = self.disk(size=SIZE + MIB)  # not a whole number of the file's blocks
        self.put(vdi, 0, b"full")
        self.put(vdi, 70, b"last")
        first = self.api.VDI.snapshot(vdi)
        self.put(vdi, 1, b"one")
        self.put(vdi, 79, b"end")
        self.api.VDI.enable_cbt(vdi)
        second = self.api.VDI.snapshot(vdi)
        self.put(vdi, 40, b"two")
        self.put(vdi, 41, bytes(1))  # changed, though it holds what it held
        # By what was noted, and where nothing was, by comparing.
        for new, old, changed in ((second, first, {1, 79}), (vdi, second, {40, 41}), (second, second, set())):
            status, headers, body = self.delta(new, old)
            self.assertEqual((status, headers["Content-Type"]), (200, "application/vhd"), body[:200])
            before, after = bytearray(self.exported(old)), self.exported(new)
            uuids, touched = apply_delta(body, before)
            self.assertEqual((uuids, touched), ([self.api.VDI.get_uuid(new), self.api.VDI.get_uuid(old)], changed))
            self.assertEqual(bytes(before), after)
        self.assertIn("VALUE_NOT_SUPPORTED", self.delta(second, first, "raw")[2].decode())
        self.assertIn("HANDLE_INVALID", self.delta(second, "nonsense")[2].decode())

    def bases(self):
        return [f for f in os.listdir(self.sr_path) if f.startswith("base-")]

    def test_images_are_merged_when_snapshots_go(self):
        vdi = self.disk(size=SIZE)
        snapshots = []
        for i in range(3):
            self.put(vdi, i, b"abc"[i:i + 1])
            snapshots.append(self.api.VDI.snapshot(vdi))
        self.put(vdi, 9, b"z")
        before = self.exported(vdi)
        first = self.exported(snapshots[0])
        self.assertEqual(len(self.bases()), 3)
        self.api.VDI.destroy(snapshots[1])
        until("two are merged", lambda: len(self.bases()) == 2, 60)
        self.assertEqual(self.exported(vdi), before)
        self.assertEqual(self.exported(snapshots[0]), first)
        self.api.VDI.destroy(snapshots[0])
        self.api.VDI.destroy(snapshots[2])
        until("all are merged", lambda: not self.bases(), 60)
        self.assertEqual(self.exported(vdi), before)
        self.assertEqual(before[9 * BLOCK], ord("z"))


if __name__ == "__main__":
    sys.exit(unittest.main())
