"""Schedules of snapshots: what they accept, and what they do to VMs."""
import unittest

from pool import NULL, Failure, module_pool
from test_events import vm_record

POOL = API = None


def setUpModule():
    global POOL, API
    POOL = module_pool(hosts=1)
    API = POOL.login()


def record(**more):
    return {"name_label": "nightly", "type": "snapshot", "frequency": "daily", "schedule": {"min": "0", "hour": "3"},
            "retained_snapshots": 2, "enabled": False, **more}


class VmssTest(unittest.TestCase):
    def refused(self, code, params, call, *args):
        with self.assertRaises(Failure) as caught:
            call(*args)
        self.assertEqual(caught.exception.code, code)
        if params is not None:
            self.assertEqual(caught.exception.params, params)

    def test_what_a_schedule_accepts(self):
        create, invalid = API.VMSS.create, "INVALID_VALUE"
        self.refused(invalid, ["retained_snapshots", "11"], create, record(retained_snapshots=11))
        self.refused(invalid, ["min", "7"], create, record(schedule={"min": "7"}))
        self.refused(invalid, ["schedule", "second"], create, record(schedule={"second": "7"}))
        self.refused("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", None, create, record(type="snapshot_with_quiesce"))
        vmss = create(record())
        self.refused("MAP_DUPLICATE_KEY", None, API.VMSS.add_to_schedule, vmss, "min", "15")
        self.refused(invalid, ["days", "Mo"], API.VMSS.add_to_schedule, vmss, "days", "Mo")
        API.VMSS.add_to_schedule(vmss, "days", "monday")
        API.VMSS.remove_from_schedule(vmss, "hour")
        API.VMSS.remove_from_schedule(vmss, "hour")
        self.assertEqual(API.VMSS.get_schedule(vmss), {"min": "0", "days": "monday"})
        API.VMSS.set_schedule(vmss, {"min": "45"})
        API.VMSS.set_frequency(vmss, "hourly")
        API.VMSS.set_type(vmss, "checkpoint")
        API.VMSS.set_retained_snapshots(vmss, 1)
        now = API.VMSS.get_record(vmss)
        self.assertEqual((now["schedule"], now["frequency"], now["type"], now["retained_snapshots"]),
                         ({"min": "45"}, "hourly", "checkpoint", 1))
        API.VMSS.destroy(vmss)
        self.refused("HANDLE_INVALID", ["VMSS", vmss], API.VMSS.set_type, vmss, "snapshot")
        self.refused("HANDLE_INVALID", ["VMSS", vmss], API.VMSS.snapshot_now, vmss)

    def test_snapshots_are_taken_and_old_ones_removed(self):
        sr = API.SR.create(API.host.get_all()[0], {"location": POOL.folder + "/sr"}, 0, "disks", "", "file", "", False, {})
        vmss, vm = API.VMSS.create(record(enabled=True)), API.VM.create(vm_record("kept"))
        vdi = API.VDI.create({"SR": sr, "virtual_size": 1 << 20, "type": "user", "sharable": False, "read_only": False,
                              "other_config": {}})
        API.VBD.create({"VM": vm, "VDI": vdi, "userdevice": "0", "bootable": True, "mode": "RW", "type": "Disk",
                        "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "",
                        "qos_algorithm_params": {}})
        API.VM.set_snapshot_schedule(vm, vmss)
        self.refused("VMSS_HAS_VM", [], API.VMSS.destroy, vmss)
        taken = []
        for _ in range(3):
            self.assertEqual(API.VMSS.snapshot_now(vmss), "1 snapshots taken, 0 failed")
            taken += [s for s in API.VM.get_snapshots(vm) if s not in taken]
        kept = API.VM.get_snapshots(vm)
        self.assertEqual(sorted(kept), sorted(taken[1:]))
        for snapshot in kept:
            now = API.VM.get_record(snapshot)
            self.assertTrue(now["is_vmss_snapshot"])
            self.assertTrue(now["name_label"].startswith("nightly "), now["name_label"])
        self.assertEqual(len(API.SR.get_VDIs(sr)), 3)
        by_hand = API.VM.snapshot(vm, "by hand")
        API.VMSS.snapshot_now(vmss)
        self.assertIn(by_hand, API.VM.get_snapshots(vm))
        self.assertGreater(API.VMSS.get_last_run_time(vmss), "2020")
        names = {m["name"] for m in API.message.get("VMSS", API.VMSS.get_uuid(vmss), "19700101T00:00:00Z").values()}
        self.assertEqual(names, {"VMSS_SNAPSHOT_SUCCEEDED"})
        API.VM.add_to_blocked_operations(vm, "snapshot", "no")
        self.assertEqual(API.VMSS.snapshot_now(vmss),
                         f"0 snapshots taken, 1 failed:\n{API.VM.get_uuid(vm)}: OPERATION_BLOCKED")
        API.VM.set_snapshot_schedule(vm, NULL)
        self.assertEqual(API.VMSS.snapshot_now(vmss), "0 snapshots taken, 0 failed")
        API.VMSS.destroy(vmss)


if __name__ == "__main__":
    unittest.main()
