"""Calls that set what an object is, by their own rules: sizes and boot of a VM, an SR and how hosts reach it, a host that
is gone."""
import os
import sys
import unittest

from pool import failure_of, module_pool, until
from test_events import vm_record

MIB = 1 << 20
POOL = API = None


def setUpModule():
    global POOL, API
    POOL = module_pool(hosts=2)
    API = POOL.login()


class OfAVm(unittest.TestCase):
    def setUp(self):
        self.vm = API.VM.create(vm_record("sized"))

    def tearDown(self):
        API.VM.destroy(self.vm)

    def memory(self):
        record = API.VM.get_record(self.vm)
        return [int(record[f"memory_{name}"]) // MIB for name in ("static_min", "dynamic_min", "dynamic_max", "static_max")]

    def test_memory(self):
        for call, *sizes, after in (("set_memory_limits", 16, 64, 32, 48, [16, 32, 48, 64]),
                                    ("set_memory_dynamic_range", 40, 56, [16, 40, 56, 64]),
                                    ("set_memory_static_range", 32, 128, [32, 40, 56, 128]),
                                    ("set_memory_dynamic_max", 120, [32, 40, 120, 128]),
                                    ("set_memory_dynamic_min", 32, [32, 32, 120, 128]),
                                    ("set_memory_static_max", 256, [32, 32, 120, 256]),
                                    ("set_memory_static_min", 24, [24, 32, 120, 256]),
                                    ("set_memory", 200, [24, 200, 200, 200])):
            API.call(f"VM.{call}", API.session, self.vm, *[size * MIB for size in sizes])
            self.assertEqual(self.memory(), after, call)
        before = self.memory()
        for call, *sizes in (("set_memory_limits", 64, 16, 32, 48), ("set_memory_dynamic_range", 8, 56),
                             ("set_memory_static_max", 1), ("set_memory_dynamic_min", 300)):
            code, _ = failure_of(API, f"VM.{call}", self.vm, *[size * MIB for size in sizes])
            self.assertIn(code, ("MEMORY_CONSTRAINT_VIOLATION", "MEMORY_CONSTRAINT_VIOLATION_ORDER"), call)
        self.assertEqual(self.memory(), before)

    def test_processors(self):
        API.VM.set_VCPUs_max(self.vm, 4)
        API.VM.set_VCPUs_at_startup(self.vm, 3)
        record = API.VM.get_record(self.vm)
        self.assertEqual((record["VCPUs_max"], record["VCPUs_at_startup"]), (4, 3))
        for call, count in (("set_VCPUs_max", 2), ("set_VCPUs_max", 0), ("set_VCPUs_at_startup", 5), ("set_VCPUs_at_startup", 0)):
            self.assertIn(failure_of(API, f"VM.{call}", self.vm, count)[0], ("INVALID_VALUE", "VALUE_NOT_SUPPORTED"), (call, count))

    def test_boot(self):
        API.VM.set_domain_type(self.vm, "hvm")
        self.assertEqual(API.VM.get_domain_type(self.vm), "hvm")
        API.VM.set_HVM_boot_policy(self.vm, "BIOS order")
        self.assertEqual(API.VM.get_HVM_boot_policy(self.vm), "BIOS order")
        for host in API.host.get_all():
            API.VM.assert_can_boot_here(self.vm, host)
        API.VM.power_state_reset(self.vm)
        self.assertEqual(API.VM.get_power_state(self.vm), "Halted")


class OfARepository(unittest.TestCase):
    def test_repository(self):
        host, other = API.host.get_all()
        path = os.path.join(POOL.folder, "disks")
        sr = API.SR.create(host, {"location": path}, 0, "disks", "", "file", "", False, {})
        self.assertEqual(API.SR.get_live_hosts(sr), [host])
        vdi = API.VDI.create({"SR": sr, "virtual_size": MIB, "type": "user", "sharable": False, "read_only": False,
                              "other_config": {}, "name_label": "disk"})
        API.VDI.update(vdi)
        API.SR.update(sr)
        API.VDI.destroy(vdi)
        API.SR.set_shared(sr, True)
        self.assertTrue(API.SR.get_shared(sr))
        pbd = API.PBD.create({"host": other, "SR": sr, "device_config": {"location": "/nowhere"}, "other_config": {}})
        API.PBD.set_device_config(pbd, {"location": path})
        self.assertEqual(API.PBD.get_device_config(pbd), {"location": path})
        API.PBD.destroy(pbd)
        self.assertEqual(len(API.SR.get_PBDs(sr)), 1)
        for plugged in API.SR.get_PBDs(sr):
            API.PBD.unplug(plugged)
        API.SR.forget(sr)


class OfAHost(unittest.TestCase):
    def test_what_it_tells_and_records(self):
        host = API.host.get_all()[0]
        self.assertRegex(API.host.get_servertime(host), r"^\d{8}T\d{2}:\d{2}:\d{2}Z$")
        source = until("there are data sources", lambda: API.host.get_data_sources(host))[0]["name_label"]
        API.host.record_data_source(host, source)
        API.host.forget_data_source_archives(host, source)


class ZHost(unittest.TestCase):
    def test_a_host_that_is_gone(self):
        coordinator = API.pool.get_master(API.pool.get_all()[0])
        self.assertEqual(failure_of(API, "host.destroy", coordinator), ("HOST_CANNOT_DESTROY_SELF", [coordinator]))
        host = next(h for h in API.host.get_all() if h != coordinator)
        self.assertEqual(failure_of(API, "host.destroy", host), ("HOST_IS_LIVE", [host]))
        uuid = API.host.get_uuid(host)
        for daemon in POOL.hosts:
            daemon.stop()
        metrics = API.host.get_metrics(host)
        until("the host is seen to be away", lambda: not API.host_metrics.get_live(metrics), 60)
        API.host.destroy(host)
        self.assertEqual(failure_of(API, "host.get_by_uuid", uuid), ("UUID_INVALID", ["host", uuid]))


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
