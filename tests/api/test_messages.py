"""Messages (alerts): made by clients and by the server, told by events, chosen by time, filter and object."""
import os
import sys
import time
import unittest

from pool import NULL, Late, failure_of, module_pool, until
from test_events import events, network_record, vm_record

POOL = API = None
NO_UUID = "4e5e3a36-2a2d-4c6a-8b4e-000000000000"


def setUpModule():
    global POOL, API
    POOL = module_pool(hosts=1)
    API = POOL.login()


def stamp(seconds):
    return time.strftime("%Y%m%dT%H:%M:%SZ", time.gmtime(seconds))


class Messages(unittest.TestCase):
    def setUp(self):
        self.pool_uuid = API.pool.get_uuid(API.pool.get_all()[0])
        self.vm = API.VM.create(vm_record("alerted"))
        self.vm_uuid = API.VM.get_uuid(self.vm)

    def tearDown(self):
        API.VM.destroy(self.vm)
        API.message.destroy_all({})

    def make(self, name="NAME", priority=3, cls="VM", uuid=None, body="body"):
        return API.message.create(name, priority, cls, uuid or self.vm_uuid, body)

    def test_a_record_from_every_side(self):
        before = int(time.time())
        ref = self.make(body="line\nline \u00e9 <&>")
        record = API.message.get_record(ref)
        self.assertEqual(list(record), ["uuid", "name", "priority", "cls", "obj_uuid", "timestamp", "body"])
        self.assertEqual({k: record[k] for k in ("name", "priority", "cls", "obj_uuid", "body")},
                         {"name": "NAME", "priority": 3, "cls": "VM", "obj_uuid": self.vm_uuid, "body": "line\nline \u00e9 <&>"})
        self.assertGreaterEqual(record["timestamp"], stamp(before))
        self.assertEqual(API.message.get_by_uuid(record["uuid"]), ref)
        self.assertEqual(API.message.get_all(), [ref])
        self.assertEqual(API.message.get_all_records(), {ref: record})
        for expr, fits in (("true", True), ("false", False), ('field "name" = "NAME"', True), ('field "cls" = "VM"', True),
                           ('field "priority" = "3" and not field "name" = "x"', True), ('field "obj_uuid" = "x"', False),
                           (f'field "_ref" = "{ref}"', True)):
            self.assertEqual(API.message.get_all_records_where(expr), {ref: record} if fits else {}, expr)
        self.assertEqual(failure_of(API, "message.get_all_records_where", 'field "x" = "y"')[0], "INVALID_VALUE")
        for since, fits in ((before - 5, True), (before + 60, False)):
            wanted = {ref: record} if fits else {}
            self.assertEqual(API.message.get("VM", self.vm_uuid, stamp(since)), wanted)
            self.assertEqual(API.message.get_since(stamp(since)), wanted)
        self.assertEqual(API.message.get("Host", self.vm_uuid, stamp(0)), {})
        self.assertEqual(API.message.get("VM", NO_UUID, stamp(0)), {})

    def test_errors(self):
        for cls in ("VM", "Host", "SR", "Pool", "VMPP", "VMSS", "PVS_proxy", "VDI", "Certificate"):
            self.assertEqual(failure_of(API, "message.create", "N", 1, cls, NO_UUID, ""), ("UUID_INVALID", [cls, NO_UUID]))
        self.assertEqual(failure_of(API, "message.create", "N", 1, "network", NO_UUID, "")[0], "INTERNAL_ERROR")
        self.assertEqual(failure_of(API, "message.create", "N", 1, "Host", self.vm_uuid, ""), ("UUID_INVALID", ["Host", self.vm_uuid]))
        self.assertEqual(failure_of(API, "message.get_record", NULL), ("HANDLE_INVALID", ["message", NULL]))
        self.assertEqual(failure_of(API, "message.destroy", NULL), ("HANDLE_INVALID", ["message", NULL]))
        self.assertEqual(failure_of(API, "message.get_by_uuid", NO_UUID), ("UUID_INVALID", ["message", NO_UUID]))
        ref = self.make()
        self.assertEqual(failure_of(API, "message.destroy_many", [ref, NULL]), ("HANDLE_INVALID", ["message", NULL]))
        self.assertEqual(API.message.get_all(), [ref])
        for bad in ({"before": "yesterday"}, {"priority": "high"}, {"name": "x"}, {"": ""}):
            self.assertEqual(failure_of(API, "message.destroy_all", bad)[0], "INVALID_VALUE", bad)
        self.assertEqual(API.message.get_all(), [ref])
        self.assertEqual(failure_of(API, "event.inject", "message", ref), ("HANDLE_INVALID", ["message", ref]))

    def test_events_are_add_and_del(self):
        token = events(API, ["message"])["token"]
        kept, gone = self.make("KEPT"), self.make("GONE")
        answer = events(API, ["Message"], token)
        self.assertEqual([(e["class"], e["operation"], e["ref"], e["snapshot"]["name"]) for e in answer["events"]],
                         [("message", "add", kept, "KEPT"), ("message", "add", gone, "GONE")])
        token = answer["token"]
        API.message.destroy(gone)
        network = API.network.create(network_record("first in line"))
        answer = events(API, ["message", "network"], token)
        self.assertEqual([(e["operation"], e["ref"]) for e in answer["events"]], [("del", gone), ("add", network)])
        API.network.destroy(network)

    def test_destroying_many(self):
        refs = [self.make(str(i), i + 1) for i in range(5)]
        API.message.destroy_many(refs[:2])
        self.assertEqual(set(API.message.get_all()), set(refs[2:]))
        now = int(time.time())
        for filters, left in (({"priority": "1"}, 3), ({"before": stamp(now - 3600)}, 3), ({"after": stamp(now + 3600)}, 3),
                              ({"priority": "3", "before": stamp(now + 60)}, 2), ({"after": stamp(now - 3600), "priority": "4"}, 1),
                              ({}, 0)):
            API.message.destroy_all(filters)
            self.assertEqual(len(API.message.get_all()), left, filters)
        task = API.call("Async.message.destroy_many", API.session, [self.make()])
        until("the messages are gone", lambda: API.task.get_status(task) == "success")
        self.assertEqual(API.message.get_all(), [])
        API.task.destroy(task)

    def test_messages_outlive_what_they_are_about(self):
        vm = API.VM.create(vm_record("short"))
        ref = self.make(uuid=API.VM.get_uuid(vm))
        API.VM.destroy(vm)
        self.assertIn(ref, API.message.get_all())


class OfTheServer(unittest.TestCase):
    """What the life of a VM leaves in the list."""

    def names(self, uuid):
        records = API.message.get("VM", uuid, stamp(0)).values()
        return sorted(r["name"] for r in records)

    def test_life_of_a_vm(self):
        sr = API.SR.create(API.host.get_all()[0], {"location": os.path.join(POOL.folder, "saved")}, 0, "saved", "", "file", "",
                           False, {})
        API.pool.set_suspend_image_SR(API.pool.get_all()[0], sr)
        vm = API.VM.create(vm_record("lively"))
        uuid = API.VM.get_uuid(vm)
        expected = []
        for step, name in ((lambda: API.VM.start(vm, False, False), "VM_STARTED"), (lambda: API.VM.pause(vm), "VM_PAUSED"),
                           (lambda: API.VM.unpause(vm), "VM_UNPAUSED"), (lambda: API.VM.hard_reboot(vm), "VM_REBOOTED"),
                           (lambda: API.VM.suspend(vm), "VM_SUSPENDED"), (lambda: API.VM.resume(vm, False, False), "VM_RESUMED"),
                           (lambda: API.VM.snapshot(vm, "s"), "VM_SNAPSHOTTED"), (lambda: API.VM.checkpoint(vm, "c"), "VM_CHECKPOINTED"),
                           (lambda: API.VM.hard_shutdown(vm), "VM_SHUTDOWN"),
                           (lambda: API.VM.revert(API.VM.get_by_name_label("s")[0]), "VM_SNAPSHOT_REVERTED")):
            step()
            expected = sorted([*expected, name])
            try:
                until(name, lambda: self.names(uuid) == expected)
            except Late:
                self.assertEqual(self.names(uuid), expected)
        for record in API.message.get("VM", uuid, stamp(0)).values():
            self.assertIn("lively", record["body"])
            self.assertEqual(record["priority"], 5)
        clone = API.VM.clone(vm, "twin")
        self.assertEqual(self.names(API.VM.get_uuid(clone)), ["VM_CLONED"])
        for ref in (vm, clone, *API.VM.get_snapshots(vm)):
            API.VM.destroy(ref)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
