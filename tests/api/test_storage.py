"""SR, PBD, VDI and VBD through the API, on the folders of a simulated host."""
import hashlib
import os
import re
import signal
import subprocess
import unittest

from pool import NULL, Failure, Late, TestPool, disk_files, module_pool, until

MIB = 1 << 20
POOL = None


def setUpModule():
    global POOL
    POOL = module_pool(hosts=1)


class StorageTest(unittest.TestCase):
    def setUp(self):
        self.api = POOL.login()
        self.host = self.api.host.get_all()[0]
        self.path = os.path.join(POOL.folder, self.id().rpartition(".")[2])
        self.isos = self.path + "-iso"
        os.mkdir(self.isos)
        self.sr = self.create_sr("file", self.path)

    def create_sr(self, kind, path, host=None, shared=False):
        return self.api.SR.create(self.host if host is None else host, {"location": path}, 0, self.id(), "", kind, "",
                                  shared, {})

    def create_vdi(self, size=10 * MIB, sr=None, **fields):
        return self.api.VDI.create({"SR": sr or self.sr, "virtual_size": size, "type": "user", "sharable": False,
                                    "read_only": False, "other_config": {}, "name_label": "disk", **fields})

    def create_vm(self):
        return self.api.VM.create({
            "name_label": "vm", "name_description": "", "user_version": 1, "is_a_template": False, "affinity": NULL,
            "memory_static_max": 64 * MIB, "memory_dynamic_max": 64 * MIB, "memory_dynamic_min": 64 * MIB,
            "memory_static_min": 0, "VCPUs_params": {}, "VCPUs_max": 1, "VCPUs_at_startup": 1,
            "actions_after_shutdown": "destroy", "actions_after_reboot": "restart", "actions_after_crash": "destroy",
            "PV_bootloader": "", "PV_kernel": "", "PV_ramdisk": "", "PV_args": "", "PV_bootloader_args": "",
            "PV_legacy_args": "", "HVM_boot_policy": "BIOS order", "HVM_boot_params": {}, "platform": {},
            "PCI_bus": "", "other_config": {}, "recommendations": ""})

    def create_vbd(self, vm, vdi, device="autodetect", kind="Disk"):
        return self.api.VBD.create({
            "VM": vm, "VDI": vdi, "userdevice": device, "bootable": False, "mode": "RO" if kind == "CD" else "RW",
            "type": kind, "unpluggable": True, "empty": vdi == NULL, "other_config": {}, "qos_algorithm_type": "",
            "qos_algorithm_params": {}})

    def refuses(self, code, call, *arguments):
        with self.assertRaises(Failure) as caught:
            call(*arguments)
        self.assertEqual(caught.exception.code, code, caught.exception)
        return caught.exception.params

    def files(self, path=None):
        return disk_files(path or self.path)

    def file_of(self, vdi):
        """The simulator may keep a qcow2 disk as raw."""
        uuid = self.api.VDI.get_uuid(vdi)
        return next(name for name in self.files() if os.path.splitext(name)[0] == uuid)

    def image(self, name, size=MIB):
        with open(os.path.join(self.isos, name), "wb") as file:
            file.truncate(size)


class Repositories(StorageTest):
    def test_kinds(self):
        self.assertEqual(self.api.SR.get_supported_types(), ["file", "iso"])
        features = {sm["type"]: sm["features"] for sm in self.api.SM.get_all_records().values()}
        self.assertEqual(features["file"]["VDI_RESIZE"], 1)
        self.assertNotIn("VDI_CREATE", features["iso"])

    def test_create(self):
        record = self.api.SR.get_record(self.sr)
        self.assertEqual((record["type"], record["content_type"], record["shared"]), ("file", "user", False))
        self.assertGreater(record["physical_size"], record["physical_utilisation"])
        for operation in ("scan", "update", "vdi_create", "vdi_destroy", "vdi_resize", "vdi_clone", "vdi_snapshot", "vdi_introduce",
                          "plug", "unplug", "pbd_create", "pbd_destroy"):
            self.assertIn(operation, record["allowed_operations"])
        for operation in ("forget", "destroy", "vdi_set_on_boot"):
            self.assertNotIn(operation, record["allowed_operations"])
        pbd = self.api.PBD.get_record(record["PBDs"][0])
        self.assertEqual((pbd["host"], pbd["currently_attached"]), (self.host, True))
        self.assertEqual(pbd["device_config"], {"location": self.path})
        self.assertNotIn("attach_wanted", pbd)

    def test_create_anywhere(self):
        sr = self.create_sr("file", self.path + "-2", host=NULL)
        self.assertTrue(self.api.PBD.get_currently_attached(self.api.SR.get_PBDs(sr)[0]))

    def test_create_that_fails_leaves_nothing(self):
        srs, pbds = self.api.SR.get_all(), self.api.PBD.get_all()
        self.refuses("SR_UNKNOWN_DRIVER", self.create_sr, "lvm", "/dev/null")
        for location in ("", "relative", "/proc/self/no/such", self.path + "/../..//x\n"):
            with self.assertRaises(Failure) as caught:
                self.create_sr("file", location)
            self.assertTrue(caught.exception.code.startswith("SR_BACKEND_FAILURE"), caught.exception)
            self.assertEqual(len(caught.exception.params), 3)
        self.assertEqual(self.api.SR.get_all(), srs)
        self.assertEqual(self.api.PBD.get_all(), pbds)

    def test_iso_library(self):
        self.image("debian.iso")
        self.image("other.iso", 2 * MIB)
        sr = self.create_sr("iso", self.isos)
        self.assertEqual(self.api.SR.get_content_type(sr), "iso")
        vdis = {v["name_label"]: v for v in map(self.api.VDI.get_record, self.api.SR.get_VDIs(sr))}
        self.assertEqual(sorted(vdis), ["debian.iso", "other.iso"])
        iso = vdis["debian.iso"]
        self.assertNotIn("vdi_create", self.api.SR.get_allowed_operations(sr))
        self.assertEqual(sorted(iso["allowed_operations"]), ["forget", "update"])
        self.assertEqual((iso["location"], iso["read_only"], iso["virtual_size"]), ("debian.iso", True, MIB))
        os.unlink(os.path.join(self.isos, "debian.iso"))
        self.image("third.iso")
        self.api.SR.scan(sr)
        names = [self.api.VDI.get_name_label(v) for v in self.api.SR.get_VDIs(sr)]
        self.assertEqual(sorted(names), ["other.iso", "third.iso"])
        self.refuses("SR_OPERATION_NOT_SUPPORTED", lambda: self.create_vdi(sr=sr))
        self.refuses("SR_OPERATION_NOT_SUPPORTED", self.api.VDI.destroy, self.api.SR.get_VDIs(sr)[0])

    def test_scan_of_a_directory(self):
        known, lost = self.create_vdi(), self.create_vdi()
        os.unlink(os.path.join(self.path, self.file_of(lost)))
        name = "0f0f0f0f-0000-4000-8000-00000000abcd"
        with open(os.path.join(self.path, name + ".raw"), "wb") as file:
            file.truncate(3 * MIB)
        self.api.SR.scan(self.sr)
        self.assertEqual([self.api.VDI.get_missing(v) for v in (known, lost)], [False, True])
        found = self.api.VDI.get_record(self.api.VDI.get_by_uuid(name))
        self.assertEqual((found["SR"], found["virtual_size"], found["managed"]), (self.sr, 3 * MIB, True))
        self.assertEqual(self.api.SR.get_virtual_allocation(self.sr), 23 * MIB)

    def test_unplug_forget_introduce_plug(self):
        vdi = self.create_vdi()
        uuid, sr_uuid = self.api.VDI.get_uuid(vdi), self.api.SR.get_uuid(self.sr)
        pbd = self.api.SR.get_PBDs(self.sr)[0]
        self.refuses("SR_HAS_PBD", self.api.SR.forget, self.sr)
        self.refuses("OPERATION_NOT_ALLOWED", self.api.PBD.destroy, pbd)
        self.refuses("OPERATION_NOT_ALLOWED", self.api.PBD.set_device_config, pbd, {})
        self.api.PBD.unplug(pbd)
        self.api.PBD.unplug(pbd)
        self.refuses("SR_HAS_NO_PBDS", self.create_vdi)
        self.refuses("SR_HAS_NO_PBDS", self.api.VDI.destroy, vdi)
        self.api.SR.forget(self.sr)
        self.refuses("UUID_INVALID", self.api.VDI.get_by_uuid, uuid)
        self.refuses("HANDLE_INVALID", self.api.PBD.get_record, pbd)
        self.assertEqual(len(self.files()), 1)

        self.sr = self.api.SR.introduce(sr_uuid, "again", "", "file", "user", False, {})
        self.refuses("SR_UUID_EXISTS", self.api.SR.introduce, sr_uuid, "twice", "", "file", "user", False, {})
        record = {"host": self.host, "SR": self.sr, "device_config": {"location": self.path}, "other_config": {}}
        pbd = self.api.PBD.create(record)
        self.refuses("PBD_EXISTS", self.api.PBD.create, record)
        self.assertFalse(self.api.PBD.get_currently_attached(pbd))
        self.api.PBD.plug(pbd)
        self.api.PBD.plug(pbd)
        self.assertEqual(self.api.VDI.get_SR(self.api.VDI.get_by_uuid(uuid)), self.sr)

    def test_destroy(self):
        vdi, pbd = self.create_vdi(), self.api.SR.get_PBDs(self.sr)[0]
        self.refuses("SR_HAS_PBD", self.api.SR.destroy, self.sr)
        self.api.PBD.unplug(pbd)
        self.refuses("SR_NOT_EMPTY", self.api.SR.destroy, self.sr)
        self.api.VDI.forget(vdi)
        self.refuses("SR_NOT_EMPTY", self.api.SR.destroy, self.sr)  # as its host says
        self.assertEqual(len(self.files()), 1)
        self.api.PBD.plug(pbd)
        self.api.VDI.destroy(self.api.SR.get_VDIs(self.sr)[0])
        self.api.PBD.unplug(pbd)
        self.assertIn("destroy", self.api.SR.get_allowed_operations(self.sr))
        self.api.SR.destroy(self.sr)
        self.refuses("HANDLE_INVALID", self.api.SR.get_record, self.sr)
        self.refuses("HANDLE_INVALID", self.api.PBD.get_record, pbd)
        self.assertFalse(os.path.exists(self.path))

    def introduce(self, uuid):
        """An SR of this uuid over the same folder, with its PBD."""
        sr = self.api.SR.introduce(uuid, "other", "", "file", "user", False, {})
        return sr, self.api.PBD.create({"host": self.host, "SR": sr, "device_config": {"location": self.path}})

    def test_a_folder_is_one_repository(self):
        self.create_vdi()
        uuid = self.api.SR.get_uuid(self.sr)
        other, pbd = self.introduce("5a5a5a5a-0000-4000-8000-00000000abcd")
        with self.assertRaises(Failure) as caught:
            self.api.PBD.plug(pbd)
        self.assertEqual(caught.exception.code, "SR_BACKEND_FAILURE")
        self.assertIn(uuid, caught.exception.params[1])
        self.api.SR.forget(other)
        with self.assertRaises(Failure) as caught:
            self.create_sr("file", self.path)
        self.assertEqual(caught.exception.code, "SR_BACKEND_FAILURE")
        self.assertEqual(self.api.PBD.get_currently_attached(self.api.SR.get_PBDs(self.sr)[0]), True)

    def test_a_file_system_that_is_not_mounted_is_no_repository(self):
        """What is seen is then the empty folder to mount it on: nothing is written there, no disk is taken for gone."""
        vdi, pbd = self.create_vdi(), self.api.SR.get_PBDs(self.sr)[0]
        self.api.PBD.unplug(pbd)
        os.rename(self.path, self.path + ".away")
        os.mkdir(self.path, 0o700)
        self.assertIn("mounted", self.refuses("SR_BACKEND_FAILURE", self.api.PBD.plug, pbd)[1])
        self.assertEqual(os.listdir(self.path), [])
        self.assertEqual((self.api.PBD.get_currently_attached(pbd), self.api.VDI.get_missing(vdi)), (False, False))
        os.rmdir(self.path)
        os.rename(self.path + ".away", self.path)
        self.api.PBD.plug(pbd)
        self.assertEqual((self.api.PBD.get_currently_attached(pbd), self.api.VDI.get_missing(vdi)), (True, False))

    def test_probe(self):
        def probe(kind, location):
            return (self.api.SR.probe(self.host, {"location": location}, kind, {}),
                    self.api.SR.probe_ext(self.host, {"location": location}, kind))
        self.create_vdi()
        xml, found = probe("file", self.path)
        self.assertIn(f"<UUID>{self.api.SR.get_uuid(self.sr)}</UUID>", xml)
        self.assertEqual(len(found), 1)
        self.assertEqual((found[0]["configuration"], found[0]["complete"], found[0]["extra_info"]),
                         ({"location": self.path}, True, {"disks": "1"}))
        self.assertEqual((found[0]["sr"]["uuid"], found[0]["sr"]["health"]), (self.api.SR.get_uuid(self.sr), "healthy"))
        self.assertGreater(found[0]["sr"]["total_space"], found[0]["sr"]["free_space"])
        empty = self.path + ".empty"
        os.mkdir(empty, 0o700)
        xml, found = probe("file", empty)
        self.assertTrue(xml.endswith("<SRlist></SRlist>\n"), xml)
        self.assertNotIn("sr", found[0])
        self.assertEqual(os.listdir(empty), [])
        self.image("probed.iso")
        xml, found = probe("iso", self.isos)
        self.assertNotIn("UUID", xml)
        self.assertNotIn("uuid", found[0]["sr"])
        self.refuses("SR_UNKNOWN_DRIVER", probe, "lvm", self.path)
        self.refuses("SR_BACKEND_FAILURE", probe, "file", self.path + "/nowhere")
        self.refuses("SR_BACKEND_FAILURE", probe, "file", "relative")

    def test_an_iso_library_is_forgotten_not_destroyed(self):
        self.image("a.iso")
        sr = self.create_sr("iso", self.isos)
        self.api.PBD.unplug(self.api.SR.get_PBDs(sr)[0])
        self.refuses("SR_OPERATION_NOT_SUPPORTED", self.api.SR.destroy, sr)
        self.api.VDI.forget(self.api.SR.get_VDIs(sr)[0])
        self.refuses("SR_OPERATION_NOT_SUPPORTED", self.api.SR.destroy, sr)
        self.api.SR.forget(sr)
        self.assertEqual(self.files(self.isos), ["a.iso"])

    def test_async_has_the_result_in_its_task(self):
        task = self.api.call("Async.SR.scan", self.api.session, self.sr)
        until("the task ends", lambda: self.api.task.get_status(task) != "pending")
        self.assertEqual(self.api.task.get_status(task), "success")
        self.assertEqual(self.api.SR.get_current_operations(self.sr), {})


class Disks(StorageTest):
    def test_create_and_destroy(self):
        vdi = self.create_vdi(5 * MIB + 1, tags=["a"], other_config={"k": "v"})
        record = self.api.VDI.get_record(vdi)
        self.assertEqual(record["virtual_size"], 5 * MIB + 512)
        self.assertEqual((record["location"], record["managed"], record["missing"]), (record["uuid"], True, False))
        self.assertEqual((record["tags"], record["other_config"]), (["a"], {"k": "v"}))
        self.assertEqual(self.files(), [self.file_of(vdi)])
        self.assertEqual(self.api.SR.get_virtual_allocation(self.sr), 5 * MIB + 512)
        for operation in ("destroy", "resize", "copy", "clone", "forget", "update"):
            self.assertIn(operation, record["allowed_operations"])
        self.assertIn("snapshot", record["allowed_operations"])
        self.api.VDI.destroy(vdi)
        self.refuses("HANDLE_INVALID", self.api.VDI.get_record, vdi)
        self.assertEqual(self.files(), [])
        self.assertEqual(self.api.SR.get_virtual_allocation(self.sr), 0)

    def test_formats(self):
        raw = self.create_vdi(sm_config={"type": "raw"})
        self.assertEqual(self.files(), [self.api.VDI.get_uuid(raw) + ".raw"])
        self.refuses("VALUE_NOT_SUPPORTED", lambda: self.create_vdi(sm_config={"type": "vhd"}))

    def test_sizes(self):
        for size in (0, -1, (64 << 40) + 1, (1 << 63) - 1):
            self.refuses("SR_BACKEND_FAILURE_79", self.create_vdi, size)
        vdi = self.create_vdi(1)
        self.assertEqual(self.api.VDI.get_virtual_size(vdi), 512)
        self.assertEqual(len(self.files()), 1)

    def test_resize(self):
        vdi = self.create_vdi()
        self.api.VDI.resize(vdi, 20 * MIB)
        self.assertEqual(self.api.VDI.get_virtual_size(vdi), 20 * MIB)
        self.refuses("SR_BACKEND_FAILURE_79", self.api.VDI.resize, vdi, 10 * MIB)
        self.api.VDI.resize(vdi, 20 * MIB)
        self.assertEqual(self.api.SR.get_virtual_allocation(self.sr), 20 * MIB)

    def test_copy_and_clone(self):
        vdi = self.create_vdi(name_label="first")
        other = self.create_sr("file", self.path + "-other")
        copies = [self.api.VDI.copy(vdi, NULL), self.api.VDI.copy(vdi, other), self.api.VDI.clone(vdi)]
        self.assertEqual([self.api.VDI.get_SR(c) for c in copies], [self.sr, other, self.sr])
        self.assertEqual({self.api.VDI.get_name_label(c) for c in copies}, {"first"})
        self.assertEqual(len(self.files()), 3)
        self.assertEqual(len(self.files(self.path + "-other")), 1)
        self.refuses("NOT_IMPLEMENTED", self.api.VDI.copy, vdi, NULL, copies[0])

    def test_forget_and_introduce(self):
        vdi = self.create_vdi()
        uuid = self.api.VDI.get_uuid(vdi)
        self.api.VDI.forget(vdi)
        self.assertEqual(len(self.files()), 1)
        introduce = lambda uuid, location: self.api.VDI.introduce(
            uuid, "back", "", self.sr, "user", False, False, {}, location, {}, {})
        self.refuses("VDI_LOCATION_MISSING", introduce, "", "0f0f0f0f-0000-4000-8000-00000000ffff")
        self.refuses("UUID_INVALID", introduce, "", "../../etc/passwd")
        again = introduce(uuid, uuid)
        self.assertEqual(self.api.VDI.get_virtual_size(again), 10 * MIB)
        self.refuses("LOCATION_NOT_UNIQUE", introduce, uuid, uuid)

    def test_content_and_rows_of_other_layers(self):
        vdi = self.create_vdi(MIB)
        with open(os.path.join(self.path, self.file_of(vdi)), "r+b") as file:
            file.write(b"something")
        with open(os.path.join(self.path, self.file_of(vdi)), "rb") as file:
            wanted = hashlib.md5(file.read()).hexdigest()
        self.assertEqual(self.api.VDI.checksum(vdi), wanted)
        self.assertEqual(self.api.VDI.get_nbd_info(vdi), [])
        self.refuses("MESSAGE_DEPRECATED", self.api.VDI.force_unlock, vdi)
        row = self.api.VDI.pool_introduce("", "theirs", "text", self.sr, "metadata", False, True, {"a": "b"}, "lun-7", {},
                                          {"c": "d"}, True, 5 * MIB, 3, NULL, True, "20200101T00:00:00Z", vdi, True)
        record = self.api.VDI.get_record(row)
        self.assertEqual([record[k] for k in ("name_label", "type", "read_only", "location", "virtual_size", "cbt_enabled",
                                              "snapshot_of", "sm_config")],
                         ["theirs", "metadata", True, "lun-7", 5 * MIB, True, vdi, {"c": "d"}])
        self.refuses("LOCATION_NOT_UNIQUE", self.api.VDI.pool_introduce, "", "again", "", self.sr, "user", False, False, {},
                     "lun-7")
        self.refuses("UUID_INVALID", self.api.VDI.pool_introduce, record["uuid"], "again", "", self.sr, "user", False,
                     False, {}, "lun-8")
        self.refuses("OPERATION_NOT_ALLOWED", self.api.VDI.enable_cbt, row)
        self.api.VDI.forget(row)
        self.api.VDI.destroy(vdi)

    def test_many_at_once(self):
        tasks = [self.api.call("Async.VDI.create", self.api.session, {
            "SR": self.sr, "virtual_size": MIB, "type": "user", "sharable": False, "read_only": False,
            "other_config": {}}) for _ in range(20)]
        scan = self.api.call("Async.SR.scan", self.api.session, self.sr)
        for task in tasks + [scan]:
            until("a task ends", lambda: self.api.task.get_status(task) != "pending")
            self.assertEqual(self.api.task.get_status(task), "success", self.api.task.get_error_info(task))
        self.assertEqual(len(self.api.SR.get_VDIs(self.sr)), 20)
        self.assertEqual(self.api.SR.get_virtual_allocation(self.sr), 20 * MIB)
        self.assertEqual(len(self.files()), 20)


class OtherKinds(StorageTest):
    """What repositories of other kinds can do."""

    def test_what_no_repository_here_can(self):
        api, pool = self.api, self.api.pool.get_all()[0]
        vdi = self.create_vdi()
        snapshot = api.VDI.snapshot(vdi)
        for code, call, *params in (
                ("SR_OPERATION_NOT_SUPPORTED", api.host.enable_local_storage_caching, self.host, self.sr),
                ("HANDLE_INVALID", api.host.enable_local_storage_caching, NULL, self.sr),
                ("HANDLE_INVALID", api.host.disable_local_storage_caching, NULL),
                ("HOSTS_FAILED_TO_ENABLE_CACHING", api.pool.enable_local_storage_caching, pool),
                ("SR_OPERATION_NOT_SUPPORTED", api.LVHD.enable_thin_provisioning, self.host, self.sr, 0, 0),
                ("SR_OPERATION_NOT_SUPPORTED", api.VDI.generate_config, self.host, vdi),
                ("UNIMPLEMENTED_IN_SM_BACKEND", api.VDI.revert, snapshot),
                ("OPERATION_NOT_ALLOWED", api.VDI.revert, vdi),
                ("MESSAGE_DEPRECATED", api.SR.make, self.host, {}, 0, "", "", "file", ""),
                ("HANDLE_INVALID", api.crashdump.destroy, NULL),
                ("HANDLE_INVALID", api.host_crashdump.destroy, NULL),
                ("HANDLE_INVALID", api.host_crashdump.upload, NULL, "http://x", {}),
                ("HANDLE_INVALID", api.host.sm_dp_destroy, NULL, "dp", False),
                ("OPERATION_NOT_ALLOWED", api.pool.set_uefi_certificates, pool, "")):
            with self.subTest(call=code):
                self.refuses(code, call, *params)
        api.host.disable_local_storage_caching(self.host)
        api.pool.disable_local_storage_caching(pool)
        api.host.sm_dp_destroy(self.host, "dp", False)
        self.assertEqual(api.host.get_local_cache_sr(self.host), NULL)

    def test_sizes_that_somebody_says(self):
        api = self.api
        for field in ("physical_size", "virtual_allocation", "physical_utilisation"):
            getattr(api.SR, f"set_{field}")(self.sr, 4321)
            self.assertEqual(int(getattr(api.SR, f"get_{field}")(self.sr)), 4321)
            self.refuses("HANDLE_INVALID", getattr(api.SR, f"set_{field}"), NULL, 1)
        api.SR.scan(self.sr)
        self.assertEqual(int(api.SR.get_virtual_allocation(self.sr)), 0)
        self.assertNotEqual(int(api.SR.get_physical_size(self.sr)), 4321)

    def test_metadata_of_a_snapshot(self):
        vm, other = self.create_vm(), self.create_vm()
        self.refuses("HANDLE_INVALID", self.api.VM.update_snapshot_metadata, vm, NULL, "20250319T04:16:24Z", "")
        self.api.VM.update_snapshot_metadata(vm, other, "20250319T04:16:24Z", "id")
        record = self.api.VM.get_record(vm)
        self.assertEqual((record["is_a_snapshot"], record["snapshot_of"], record["snapshot_time"],
                          record["transportable_snapshot_id"]), (True, other, "20250319T04:16:24Z", "id"))


class Drives(StorageTest):
    def setUp(self):
        super().setUp()
        self.image("one.iso")
        self.image("two.iso")
        self.library = self.create_sr("iso", self.isos)
        self.one, self.two = (v for _, v in sorted(
            (self.api.VDI.get_name_label(v), v) for v in self.api.SR.get_VDIs(self.library)))
        self.vm = self.create_vm()

    def test_devices(self):
        vdi = self.create_vdi()
        first = self.create_vbd(self.vm, vdi, "xvda")
        self.assertEqual(self.api.VBD.get_userdevice(first), "0")
        self.refuses("DEVICE_ALREADY_EXISTS", self.create_vbd, self.vm, vdi, "hda")
        self.refuses("INVALID_DEVICE", self.create_vbd, self.vm, vdi, "sda1")
        second = self.create_vbd(self.vm, vdi)
        self.assertEqual(self.api.VBD.get_userdevice(second), "1")
        self.assertEqual(self.api.VM.get_allowed_VBD_devices(self.vm)[:10], [str(n) for n in range(2, 12)])
        self.assertEqual(sorted(self.api.VM.get_VBDs(self.vm)), sorted([first, second]))
        self.api.VBD.destroy(first)
        self.assertEqual(self.api.VDI.get_VBDs(vdi), [second])

    def test_modes(self):
        self.refuses("VBD_NOT_REMOVABLE_MEDIA", self.create_vbd, self.vm, NULL)
        drive = self.create_vbd(self.vm, NULL, "3", "CD")
        self.refuses("VBD_CDS_MUST_BE_READONLY", self.api.VBD.set_mode, drive, "RW")
        self.refuses("VDI_READONLY", self.create_vbd, self.vm, self.one)
        disk = self.create_vbd(self.vm, self.create_vdi())
        self.api.VBD.set_mode(disk, "RO")
        self.assertEqual(self.api.VBD.get_mode(disk), "RO")

    def test_media_of_a_halted_vm(self):
        drive = self.create_vbd(self.vm, NULL, "3", "CD")
        self.refuses("VBD_IS_EMPTY", self.api.VBD.eject, drive)
        self.api.VBD.insert(drive, self.one)
        self.assertEqual((self.api.VBD.get_VDI(drive), self.api.VBD.get_empty(drive)), (self.one, False))
        self.refuses("VBD_NOT_EMPTY", self.api.VBD.insert, drive, self.two)
        self.api.VBD.eject(drive)
        self.assertEqual((self.api.VBD.get_VDI(drive), self.api.VBD.get_empty(drive)), (NULL, True))
        disk = self.create_vbd(self.vm, self.create_vdi())
        self.refuses("VBD_NOT_REMOVABLE_MEDIA", self.api.VBD.eject, disk)

    def test_a_running_vm(self):
        vdi = self.create_vdi()
        disk = self.create_vbd(self.vm, vdi, "0")
        drive = self.create_vbd(self.vm, self.one, "3", "CD")
        self.api.VM.start(self.vm, False, False)
        self.refuses("VDI_IN_USE", self.api.VDI.destroy, vdi)
        self.refuses("VDI_IN_USE", self.api.VDI.resize, vdi, 20 * MIB)
        self.refuses("VDI_IN_USE", self.api.PBD.unplug, self.api.SR.get_PBDs(self.sr)[0])
        self.refuses("OPERATION_NOT_ALLOWED", self.api.VBD.destroy, disk)
        self.refuses("VM_BAD_POWER_STATE", self.api.VBD.set_mode, disk, "RO")
        self.assertNotIn("destroy", self.api.VDI.get_allowed_operations(vdi))
        self.api.VBD.eject(drive)
        self.assertTrue(self.api.VBD.get_empty(drive))
        self.api.VBD.insert(drive, self.two)
        self.assertEqual(self.api.VBD.get_VDI(drive), self.two)
        self.api.VM.hard_shutdown(self.vm)
        self.assertIn("destroy", self.api.VDI.get_allowed_operations(vdi))
        self.api.VDI.destroy(vdi)
        self.refuses("HANDLE_INVALID", self.api.VBD.get_record, disk)


class TwoHosts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pool = TestPool(hosts=2)
        cls.addClassCleanup(cls.pool.close)
        cls.api = cls.pool.login()
        cls.hosts = cls.api.host.get_all()

    def create(self, name, host, shared):
        path = os.path.join(self.pool.folder, name)
        return self.api.SR.create(host, {"location": path}, 0, name, "", "file", "", shared, {})

    def disk(self, sr):
        return self.api.VDI.create({"SR": sr, "virtual_size": MIB, "type": "user", "sharable": False, "read_only": False,
                                    "other_config": {}})

    def restart(self, host, failpoint=None):
        host.kill()
        host.start("hostd.port", failpoint=failpoint)

    def test_a_disk_that_a_host_makes_when_it_is_back_does_not_stay(self):
        """Agent and server die when the agent has written down that it makes a disk. While it is away the other host sees
        no disk, which says nothing: the agent goes on when it is back."""
        sr = self.create("late", self.hosts[0], True)
        for host in self.pool.hosts:
            self.restart(host, "agent-begun:disk_create")
        until("the hosts are live", lambda: self.pool.live_hosts(self.api) == 2)
        self.api.call("Async.VDI.create", self.api.session, {
            "SR": sr, "virtual_size": MIB, "type": "user", "sharable": False, "read_only": False, "other_config": {}})
        until("an agent is dead", lambda: not all(host.running for host in self.pool.hosts))
        self.pool.kill()
        self.pool.start()  # and it has looked at the other host before it serves
        type(self).api = self.api = self.pool.login()
        for host in self.pool.hosts:
            self.restart(host)
        until("the hosts are live", lambda: self.pool.live_hosts(self.api) == 2)
        until("there is no disk", lambda: not disk_files(os.path.join(self.pool.folder, "late")), 60)
        self.api.SR.scan(sr)
        self.assertEqual(self.api.SR.get_VDIs(sr), [])

    def test_a_shared_sr_outlives_a_host(self):
        sr = self.create("shared", self.hosts[0], True)
        pbds = [self.api.PBD.get_record(pbd) for pbd in self.api.SR.get_PBDs(sr)]
        self.assertEqual(sorted(pbd["host"] for pbd in pbds), sorted(self.hosts))
        self.assertTrue(all(pbd["currently_attached"] for pbd in pbds))
        local = self.create("local", self.hosts[1], False)
        other = self.create("other", self.hosts[0], False)
        vdi = self.disk(local)
        self.assertEqual(self.api.VDI.get_SR(self.api.VDI.copy(vdi, sr)), sr)
        with self.assertRaises(Failure) as caught:
            self.api.VDI.copy(vdi, other)
        self.assertEqual(caught.exception.code, "NOT_IMPLEMENTED")
        pbd = self.api.PBD.create({"host": self.hosts[0], "SR": local, "other_config": {}, "device_config": {
            "location": os.path.join(self.pool.folder, "local")}})
        with self.assertRaises(Failure) as caught:
            self.api.PBD.plug(pbd)
        self.assertEqual((caught.exception.code, caught.exception.params), ("SR_NOT_SHARABLE", [local, self.hosts[0]]))

        self.pool.hosts[0].stop()
        until("one host is dead", lambda: self.pool.live_hosts(self.api) == 1, 120)
        self.disk(sr)
        dead = next(h for h in self.hosts if not self.api.host_metrics.get_live(self.api.host.get_metrics(h)))
        gone = other if dead == self.hosts[0] else local
        with self.assertRaises(Failure) as caught:
            self.disk(gone)
        self.assertEqual((caught.exception.code, caught.exception.params), ("HOST_OFFLINE", [dead]))


class Crash(unittest.TestCase):
    def test_a_disk_that_a_killed_server_asked_for_does_not_stay(self):
        with TestPool(hosts=1) as pool:
            api = pool.login()
            path = os.path.join(pool.folder, "sr")
            sr = api.SR.create(api.host.get_all()[0], {"location": path}, 0, "", "", "file", "", False, {})
            record = {"SR": sr, "virtual_size": MIB, "type": "user", "sharable": False, "read_only": False,
                      "other_config": {}}
            kept = api.VDI.create(record)
            agent = pool.hosts[0]
            self.stop_when_asked(api, agent, record)
            pool.kill()
            agent.signal(signal.SIGCONT)
            pool.start()
            api = pool.login()
            until("only what is known stays", lambda: len(disk_files(path)) == 1)
            api.SR.scan(sr)
            self.assertEqual(api.SR.get_VDIs(sr), [kept])

    def stop_when_asked(self, api, agent, record):
        """The agent stands still and a request for a disk waits in its socket. Not at once if the server opened a
        connection for it, whose handshake a stopped agent does not answer."""
        for _ in range(10):
            agent.signal(signal.SIGSTOP)
            task = api.call("Async.VDI.create", api.session, record)
            try:
                until("the agent is asked", lambda: self.bytes_wait_for(agent.pid), 3)
                return
            except Late:
                agent.signal(signal.SIGCONT)
            until("the disk is made", lambda: api.task.get_status(task) != "pending")
            made = re.search("OpaqueRef:[0-9a-f-]+", api.task.get_result(task))
            if made:
                api.VDI.destroy(made[0])
        self.fail("the agent was never asked over a connection that stood")

    @staticmethod
    def bytes_wait_for(pid):
        """In the sockets of a stopped process."""
        out = subprocess.run(["ss", "-tnpH"], stdout=subprocess.PIPE, text=True, check=True).stdout
        return any(f"pid={pid}," in line and int(line.split()[1]) > 200 for line in out.splitlines())


if __name__ == "__main__":
    unittest.main()
