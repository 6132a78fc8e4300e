"""Disaster recovery: copies of a pool's database on its storage, read by another pool, which takes the VMs over when
the first one is lost."""
import glob
import os
import subprocess
import threading
import unittest

from pool import NULL, Failure, TestPool, program, until

MIB = 1024 * 1024


def refused(case, code, call, *params):
    with case.assertRaises(Failure) as caught:
        call(*params)
    case.assertEqual(caught.exception.code, code, caught.exception)
    return caught.exception.params


def new_vm(api, name, sr, **fields):
    record = {"name_label": name, "name_description": "kept", "user_version": 1, "is_a_template": False,
              "affinity": NULL, "memory_static_max": 128 * MIB, "memory_dynamic_max": 128 * MIB,
              "memory_dynamic_min": 128 * MIB, "memory_static_min": 64 * MIB, "VCPUs_params": {}, "VCPUs_max": 1,
              "VCPUs_at_startup": 1, "actions_after_shutdown": "destroy", "actions_after_reboot": "restart",
              "actions_after_crash": "restart", "PV_bootloader": "", "PV_kernel": "", "PV_ramdisk": "", "PV_args": "",
              "PV_bootloader_args": "", "PV_legacy_args": "", "HVM_boot_policy": "BIOS order",
              "HVM_boot_params": {"order": "c"}, "platform": {}, "PCI_bus": "", "other_config": {"mac_seed": "m"},
              "recommendations": "", **fields}
    vm = api.VM.create(record)
    disk = api.VDI.create({"name_label": name + " disk", "name_description": "of " + name, "SR": sr,
                           "virtual_size": 4 * MIB, "type": "user", "sharable": False, "read_only": False,
                           "other_config": {}})
    api.VBD.create({"VM": vm, "VDI": disk, "userdevice": "0", "bootable": True, "mode": "RW", "type": "Disk",
                    "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "",
                    "qos_algorithm_params": {}})
    api.VIF.create({"VM": vm, "network": api.network.get_all()[0], "device": "0", "MAC": "", "MTU": 1500,
                    "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}})
    return vm, disk


class Replication(unittest.TestCase):
    """One pool that is lost, and one that recovers: in this order, on the same storage."""

    def setUp(self):
        self.first = TestPool(hosts=1)
        self.addCleanup(self.first.close, check=False)
        self.api = self.first.login()
        self.host = self.api.host.get_all()[0]
        self.path = os.path.join(self.first.folder, "shared")
        self.config = {"location": self.path}
        self.sr = self.api.SR.create(self.host, self.config, 0, "store", "", "file", "", False, {})
        self.sr_uuid = self.api.SR.get_uuid(self.sr)

    def refuse(self):
        api, params = self.api, {}
        iso = os.path.join(self.first.folder, "isos")
        os.mkdir(iso)
        iso_sr = api.SR.create(self.host, {"location": iso}, 0, "isos", "", "iso", "iso", False, {})
        refused(self, "SR_OPERATION_NOT_SUPPORTED", api.SR.assert_supports_database_replication, iso_sr)
        refused(self, "SR_OPERATION_NOT_SUPPORTED", api.SR.enable_database_replication, iso_sr)
        refused(self, "HANDLE_INVALID", api.SR.enable_database_replication, NULL)
        bare = api.SR.introduce("6a3b4c5d-9999-4000-8000-000000000001", "bare", "", "file", "", True, params)
        refused(self, "SR_HAS_NO_PBDS", api.SR.assert_supports_database_replication, bare)
        refused(self, "SR_HAS_NO_PBDS", api.pool.enable_redo_log, bare)
        api.SR.forget(bare)
        _, disk = new_vm(api, "plain", self.sr)
        self.assertEqual(api.VDI.read_database_pool_uuid(disk), "")
        refused(self, "VDI_INCOMPATIBLE_TYPE", api.VDI.open_database, disk)
        self.read_while_it_is_written(disk)

    def read_while_it_is_written(self, disk):
        """As copies of the database are, at any moment: a reader waits until that is over."""
        sock, found = self.first.connect(), []
        self.addCleanup(sock.close)
        sock.sendall((f"PUT /import_raw_vdi?vdi={disk}&session_id={self.api.session} HTTP/1.1\r\nHost: x\r\n"
                      f"Content-Length: {2 * MIB}\r\n\r\n").encode() + bytes(MIB))
        agent = self.first.hosts[0]

        def busy():
            return [line for line in agent.log().splitlines() if "call=disk_export" in line and "kind=in_use" in line]
        reader = threading.Thread(
            target=lambda: found.append(self.first.again(self.api).VDI.read_database_pool_uuid(disk)))
        until("the agent writes what takes the disk's place", self.is_written)
        reader.start()
        until("the reader has met it", busy)
        self.assertEqual(found, [])
        sock.sendall(bytes(MIB))
        reader.join(60)
        self.assertEqual(found, [""])

    def replicate(self):
        """The VDI with the copy."""
        api = self.api
        api.SR.assert_supports_database_replication(self.sr)
        api.SR.enable_database_replication(self.sr)
        api.SR.enable_database_replication(self.sr)  # it is on already
        pool = api.pool.get_all()[0]
        (vdi,) = api.pool.get_metadata_VDIs(pool)
        record = api.VDI.get_record(vdi)
        self.assertEqual((record["type"], record["SR"], record["metadata_of_pool"], record["metadata_latest"]),
                         ("metadata", self.sr, pool, True))
        self.assertEqual(api.VDI.read_database_pool_uuid(vdi), api.pool.get_uuid(pool))
        params = refused(self, "VDI_CONTAINS_METADATA_OF_THIS_POOL", api.VDI.open_database, vdi)
        self.assertEqual(params, [vdi, pool])
        api.pool.enable_redo_log(self.sr)
        self.assertTrue(api.pool.get_redo_log_enabled(pool))
        log = api.pool.get_redo_log_vdi(pool)
        self.assertEqual(api.VDI.get_type(log), "redo_log")
        refused(self, "REDO_LOG_IS_ENABLED", api.pool.enable_redo_log, self.sr)
        self.assertEqual(api.VDI.read_database_pool_uuid(log), api.pool.get_uuid(pool))
        api.pool.disable_redo_log()
        self.assertEqual((api.pool.get_redo_log_enabled(pool), api.pool.get_redo_log_vdi(pool)), (False, NULL))
        refused(self, "HANDLE_INVALID", api.VDI.get_uuid, log)
        api.pool.disable_redo_log()
        self.switch_off_while_it_is_written(pool)
        return vdi

    def switch_off_while_it_is_written(self, pool):
        """A disk that a copy is on its way to is removed when the copy is there, whatever the moment."""
        api = self.api
        large = [f"large{i}" for i in range(4)]
        for key in large:
            api.pool.add_to_other_config(pool, key, "x" * (MIB // 4))
        api.pool.enable_redo_log(self.sr)
        log = api.VDI.get_uuid(api.pool.get_redo_log_vdi(pool))
        before = self.files_of(log)
        self.assertTrue(before)
        api.pool.set_name_description(pool, "changed")
        until("a copy is on its way", lambda: self.is_written() or self.files_of(log) != before)
        api.pool.disable_redo_log()
        self.assertFalse(self.files_of(log))
        for key in large:
            api.pool.remove_from_other_config(pool, key)

    def is_written(self):
        """The agent has a file that is to take a disk's place."""
        return bool(glob.glob(os.path.join(self.path, ".corral-tmp-*")))

    def files_of(self, disk):
        return {(entry.name, entry.inode()) for entry in os.scandir(self.path) if disk in entry.name}

    def make_vms(self):
        """Changes after the copy was switched on: they have to get there by themselves."""
        api = self.api
        alone, _ = new_vm(api, "alone", self.sr, tags=["t"])
        api.VM.snapshot(alone, "before")
        appliance = api.VM_appliance.create({"name_label": "shop", "name_description": "two"})
        for name in ("web", "db"):
            vm, _ = new_vm(api, name, self.sr)
            api.VM.set_appliance(vm, appliance)
            api.VM.set_order(vm, 7)
        api.VM.start(alone, False, False)
        self.uuids = {name: api.VM.get_uuid(api.VM.get_by_name_label(name)[0]) for name in ("alone", "web", "db")}
        self.appliance_uuid = api.VM_appliance.get_uuid(appliance)
        api.VM_appliance.set_name_description(appliance, "the last change")

    def copied(self, disk, text):
        """The disk, under its name, holds the text: a copy on its way has another name."""
        for path in glob.glob(os.path.join(self.path, disk + "*")):
            with open(path, "rb") as file:
                if text in file.read():
                    return True
        return False

    def db(self, api, vdi):
        """An API of the database on the disk."""
        session = api.VDI.open_database(vdi)
        self.assertNotEqual(session, api.session)

        class Reader:
            def __getattr__(self, cls):
                class Class:
                    def __getattr__(self, message):
                        return lambda *params: api.call(f"{cls}.{message}", session, *params)
                return Class()
        return Reader(), session

    def test_a_pool_is_lost_and_its_vms_live_on(self):
        self.refuse()
        vdi_uuid = self.api.VDI.get_uuid(self.replicate())
        self.make_vms()
        until("the copy is up to date", lambda: self.copied(vdi_uuid, b"the last change"), 60)
        # A server that was killed goes on where it was.
        self.first.restart(crash=True)
        api = self.api = self.first.login()
        api.VM.set_name_description(api.VM.get_by_name_label("plain")[0], "after the crash")
        until("the copy is up to date again", lambda: self.copied(vdi_uuid, b"after the crash"), 90)
        pool_uuid = self.api.pool.get_uuid(self.api.pool.get_all()[0])
        for daemon in [self.first.poold, *self.first.hosts]:
            daemon.kill()
        with TestPool(hosts=1) as second:
            self.recover(second, vdi_uuid, pool_uuid)

    def recover(self, second, vdi_uuid, pool_uuid):
        api = second.login()
        other = "6a3b4c5d-9999-4000-8000-000000000002"
        refused(self, "UUID_INVALID", api.DR_task.create, "file", self.config, [self.sr_uuid, other])
        refused(self, "SR_UNKNOWN_DRIVER", api.DR_task.create, "floppy", self.config, [])
        self.assertEqual(api.SR.get_all_records().get(self.sr), None)
        task = api.DR_task.create("file", self.config, [self.sr_uuid])
        (sr,) = api.DR_task.get_introduced_SRs(task)
        self.assertEqual((api.SR.get_uuid(sr), api.SR.get_introduced_by(sr)), (self.sr_uuid, task))
        vdi = api.VDI.get_by_uuid(vdi_uuid)
        self.assertEqual(api.VDI.get_type(vdi), "metadata")
        self.assertEqual(api.VDI.read_database_pool_uuid(vdi), pool_uuid)
        self.read_only(api, vdi)
        db, session = self.db(api, vdi)
        # One VM.
        alone = db.VM.get_by_uuid(self.uuids["alone"])
        db.VM.assert_can_be_recovered(alone, api.session)
        self.assertEqual(db.VM.get_SRs_required_for_recovery(alone, api.session), [])
        refused(self, "SESSION_INVALID", db.VM.recover, alone, "OpaqueRef:6a3b4c5d-9999-4000-8000-000000000003", False)
        refused(self, "OPERATION_NOT_ALLOWED", db.VM.recover, alone, session, False)
        db.VM.recover(alone, api.session, False)
        vm = api.VM.get_by_uuid(self.uuids["alone"])
        record = api.VM.get_record(vm)
        self.assertEqual((record["power_state"], record["tags"], record["version"], record["name_description"]),
                         ("Halted", ["t"], 1, "kept"))
        self.assertEqual([api.VM.get_name_label(s) for s in record["snapshots"]], ["before"])
        disk = api.VBD.get_VDI(record["VBDs"][0])
        self.assertEqual(api.VDI.get_name_label(disk), "alone disk")
        self.assertEqual(len(record["VIFs"]), 1)
        api.VM.start(vm, False, False)
        refused(self, "VM_TO_IMPORT_IS_NOT_NEWER_VERSION", db.VM.recover, alone, api.session, False)
        refused(self, "VM_BAD_POWER_STATE", db.VM.recover, alone, api.session, True)
        api.VM.hard_shutdown(vm)
        api.VM.set_name_description(vm, "changed")
        db.VM.recover(alone, api.session, True)
        vm = api.VM.get_by_uuid(self.uuids["alone"])
        self.assertEqual(api.VM.get_name_description(vm), "kept")
        # An appliance.
        web = db.VM.get_by_uuid(self.uuids["web"])
        shop = db.VM_appliance.get_by_uuid(self.appliance_uuid)
        refused(self, "VM_IS_PART_OF_AN_APPLIANCE", db.VM.recover, web, api.session, False)
        (pbd,) = api.SR.get_PBDs(sr)
        api.PBD.unplug(pbd)
        (needed,) = db.VM_appliance.get_SRs_required_for_recovery(shop, api.session)
        self.assertEqual(db.SR.get_uuid(needed), self.sr_uuid)
        refused(self, "VM_REQUIRES_SR", db.VM_appliance.assert_can_be_recovered, shop, api.session)
        refused(self, "VM_REQUIRES_SR", db.VM_appliance.recover, shop, api.session, False)
        api.PBD.plug(pbd)
        db.VM_appliance.assert_can_be_recovered(shop, api.session)
        db.VM_appliance.recover(shop, api.session, False)
        here = api.VM_appliance.get_by_uuid(self.appliance_uuid)
        self.assertEqual(api.VM_appliance.get_name_label(here), "shop")
        self.assertEqual({api.VM.get_uuid(v) for v in api.VM_appliance.get_VMs(here)},
                         {self.uuids["web"], self.uuids["db"]})
        self.assertEqual({int(api.VM.get_order(v)) for v in api.VM_appliance.get_VMs(here)}, {7})
        api.call("session.logout", session)
        refused(self, "SESSION_INVALID", db.VM.get_all)
        self.commands(second, api, vdi_uuid)
        # What is used stays; what is not goes.
        api.DR_task.destroy(task)
        self.assertEqual(api.SR.get_introduced_by(sr), NULL)
        vm = api.VM.get_by_uuid(self.uuids["alone"])
        api.VM.start(vm, False, False)
        api.VM.hard_shutdown(vm)
        empty = os.path.join(second.folder, "empty")
        host = api.host.get_all()[0]
        spare = api.SR.create(host, {"location": empty}, 0, "spare", "", "file", "", False, {})
        spare_uuid = api.SR.get_uuid(spare)
        api.PBD.unplug(api.SR.get_PBDs(spare)[0])
        api.SR.forget(spare)
        task = api.DR_task.create("file", {"location": empty}, [spare_uuid])
        spare = api.SR.get_by_uuid(spare_uuid)
        api.DR_task.destroy(task)
        refused(self, "HANDLE_INVALID", api.SR.get_uuid, spare)

    def read_only(self, api, vdi):
        db, session = self.db(api, vdi)
        names = {r["name_label"] for r in db.VM.get_all_records().values()}
        self.assertTrue({"alone", "web", "db", "plain"} <= names, names)
        alone = db.VM.get_by_uuid(self.uuids["alone"])
        for call in (lambda: db.VM.set_name_label(alone, "x"), lambda: db.VM.add_tags(alone, "x"),
                     lambda: db.VM.start(alone, False, False), lambda: db.VM.destroy(alone),
                     lambda: db.SR.scan(self.sr), lambda: db.VDI.open_database(vdi),
                     getattr(db, "event").get_current_id):
            refused(self, "OPERATION_NOT_ALLOWED", call)
        self.assertEqual(db.secret.get_all(), [])
        self.assertEqual(db.subject.get_all(), [])
        refused(self, "HANDLE_INVALID", api.VM.get_uuid, alone)
        api.call("session.logout", session)
        refused(self, "SESSION_INVALID", db.VM.get_all)
        sessions = [api.VDI.open_database(vdi) for _ in range(8)]
        refused(self, "TOO_BUSY", api.VDI.open_database, vdi)
        for one in sessions:
            api.call("session.logout", one)

    def commands(self, second, api, vdi_uuid):
        if not program("xe"):
            return
        vm = api.VM.get_by_uuid(self.uuids["alone"])
        api.VM.destroy(vm)
        path = os.path.join(second.state, "poold.sock")
        for words in (["vm-assert-can-be-recovered", f"uuid={self.uuids['alone']}", f"database:vdi-uuid={vdi_uuid}"],
                      ["vm-recover", f"uuid={self.uuids['alone']}", f"database:vdi-uuid={vdi_uuid}"],
                      ["appliance-assert-can-be-recovered", f"uuid={self.appliance_uuid}",
                       f"database:vdi-uuid={vdi_uuid}"]):
            run = subprocess.run([program("xe"), "-s", path, *words], capture_output=True, timeout=120, check=False)
            self.assertEqual((run.returncode, run.stderr), (0, b""), words)
        self.assertEqual(api.VM.get_name_label(api.VM.get_by_uuid(self.uuids["alone"])), "alone")


if __name__ == "__main__":
    unittest.main()
