"""Who may only read changes nothing: every message of the API, with arguments that mean real objects, from a session
of role read-only. What the pool holds is the same afterwards, and each message did what its role says."""
import os
import sys
import unittest

from pool import NULL, Failure, description, until
from vms import VmCase

PASSWORD = "a long enough word"
# Sessions, passwords and tasks of one's own are everybody's; these two wait for events.
WAIT = {"event.next", "event.from"}
GONE = ("MESSAGE_METHOD_UNKNOWN", "MESSAGE_REMOVED")
# What changes by itself, and what each session brings with it.
RESTLESS = {"task", "session", "message", "role", "event", "VM_metrics", "VM_guest_metrics", "host_metrics", "PIF_metrics"}
WORDS = {"TYPE_STRING": "text", "TYPE_INT": 1, "TYPE_FLOAT": 0.5, "TYPE_BOOL": True, "TYPE_DATETIME": "20300101T00:00:00Z"}


def setUpModule():
    VmCase.open_pool()


class ReadOnly(VmCase):
    def setUp(self):
        super().setUp()
        self.model = description()
        running, _ = self.with_disk()
        self.start(running)
        halted, self.disk_of_halted = self.with_disk()
        self.api.VM.snapshot(halted, "taken")
        self.api.VMSS.create({"name_label": "nightly", "name_description": "", "enabled": False, "type": "snapshot",
                              "retained_snapshots": 1, "frequency": "daily", "schedule": {"hour": "1", "min": "0"}})
        self.api.secret.create({"value": "hidden", "other_config": {}})
        role = self.api.call("role.get_by_name_label", self.api.session, "read-only")
        self.api.call("user.create_with_password", self.api.session, "reader", "Mr Reader", PASSWORD, role)
        self.reader = self.pool.client()
        self.reader.login("reader", PASSWORD, "test")
        self.objects = {name: self.all_of(name) for name in self.model.classes}

    def all_of(self, name):
        try:
            return self.api.call(f"{name}.get_all", self.api.session)
        except Failure:
            return []

    def argument(self, param):
        kind = param.type.kind
        if kind in WORDS:
            return WORDS[kind]
        if kind == "TYPE_ENUM":
            return self.model.enums[param.type.enum][0]
        if kind in ("TYPE_REF", "TYPE_RECORD"):
            ref = (self.objects.get(param.type.cls) or [NULL])[-1]
            return ref if kind == "TYPE_REF" else self.record_of(param.type.cls, ref)
        return [] if kind == "TYPE_SET" else {}

    def record_of(self, cls, ref):
        return self.api.call(f"{cls}.get_record", self.api.session, ref) if ref != NULL else {}

    def state(self, vm=None):
        if vm:
            return super().state(vm)
        found = {}
        for name in self.model.classes:
            if name in RESTLESS:
                continue
            try:
                found[name] = self.api.call(f"{name}.get_all_records", self.api.session)
            except Failure:
                continue
        for record in found["host"].values():
            record.pop("software_version", None)
        for user in found.get("user", {}).values():
            user.pop("last_login", None)
        return found

    def files(self):
        return sorted(name for name in os.listdir(self.sr_path) if not name.startswith("."))

    def test_every_message(self):
        self.maxDiff = 6000
        before, disks = self.state(), self.files()
        allowed = refused = 0
        wrong = []
        for cls in self.model.classes.values():
            for name, message in cls.messages.items():
                full = f"{cls.name}.{name}"
                if full in WAIT or cls.name == "session":
                    continue
                arguments = [self.argument(p) for p in message.params]
                try:
                    self.reader.call(full, self.reader.session, *arguments)
                    code = ""
                except Failure as failure:
                    code = failure.code
                if message.role == "read-only":
                    allowed += code != "RBAC_PERMISSION_DENIED"
                elif code == "RBAC_PERMISSION_DENIED":
                    refused += 1
                elif code not in GONE:
                    wrong.append((full, message.role, code))
        self.assertEqual(wrong, [])
        until("nothing goes on", lambda: not any(t["status"] == "pending" and t["name_label"] != "text"
                                                    for t in self.api.task.get_all_records().values()), 60)
        after = self.state()
        self.assertEqual(after.keys(), before.keys())
        for name, records in before.items():
            self.assertEqual(after[name], records, name)
        self.assertEqual(self.files(), disks)
        self.assertGreater(allowed, 900)
        self.assertGreater(refused, 500)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
