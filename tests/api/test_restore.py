"""The database written back from a dump: what is refused, what a restored pool has, and poold killed on the way, when it
has to be the old database or the new one."""
import os
import re
import signal
import unittest

from failpoints import Points
from pool import NULL, Failure, TestPool, until
from test_events import vm_record
from test_vm import simulated

HOST = ["--sim-boot-ms", "50"]


def dump_of(pool, api):
    status, _, body = pool.http("GET", "/pool/xmldbdump", None, {"Cookie": f"session_id={api.session}"})
    assert status == 200, body
    return body


def put(pool, api, body, dry=False):
    """Sends it with a task and waits for that: its error_info."""
    task = api.task.create("restore", "")
    status, _, answer = pool.http("PUT", f"/pool/xmldbdump?dry_run={str(dry).lower()}&task_id={task}", body,
                                  {"Cookie": f"session_id={api.session}"})
    assert status == 200, (status, answer)
    until("the task ends", lambda: api.task.get_status(task) != "pending", 60)
    return api.task.get_error_info(task)


def names(api, cls="network"):
    return sorted(r["name_label"] for r in getattr(api, cls).get_all_records().values())


def network(api, name):
    return api.network.create({"name_label": name, "name_description": "a\tb\n 'c' \"<&>", "MTU": 1500,
                               "other_config": {"k'\\": "v\n\r"}, "tags": ["one", "two three"]})


class Case(unittest.TestCase):
    def starts_anew(self, pool, api):
        """Waits for it; a client with a new session, the old one is not known any more."""
        def back():
            try:
                client = pool.client()
                client.call("pool.get_all", api.session)
            except Failure as failure:
                return failure.code == "SESSION_INVALID"
            except OSError:
                pass
            return False
        until("poold starts anew", back, 60, 0.1)
        return pool.login()


class Running(Case):
    def test_a_pool_in_use(self):
        with TestPool(hosts=1, host_options=HOST) as pool:
            api = pool.login()
            host = api.host.get_all()[0]
            sr = api.SR.create(host, {"location": os.path.join(pool.folder, "disks")}, 0, "disks", "", "file", "", False, {})
            runs, ends, goes = (api.VM.create(simulated(name, "")) for name in ("runs later", "ends later", "goes"))
            vdi = api.VDI.create({"SR": sr, "virtual_size": 4 << 20, "type": "user", "sharable": False, "read_only": False,
                                  "other_config": {}, "name_label": "disk"})
            secret = api.secret.create({"value": "canary", "other_config": {}})
            kept = network(api, "kept")
            api.VM.start(ends, False, False)
            before = {cls: getattr(api, cls).get_all_records() for cls in ("network", "VM", "VDI", "PBD", "role", "VIF")}
            dump = dump_of(pool, api)
            self.assertNotIn(b"password_hash", dump)

            # What came later.
            network(api, "later")
            api.network.destroy(kept)
            api.VM.set_name_label(runs, "renamed")
            api.VM.destroy(goes)
            api.secret.destroy(secret)
            api.VM.hard_shutdown(ends)
            api.VM.start(runs, False, False)
            token = api.call("event.from", api.session, ["network"], "", 0.0)["token"]
            now = names(api)

            self.refused(pool, api, dump)
            self.assertEqual(put(pool, api, dump, dry=True), [])
            self.assertEqual(names(api), now, "a dry run changes nothing")
            self.assertEqual([n for n in os.listdir(pool.state) if "incoming" in n or "offered" in n], [])

            self.assertEqual(put(pool, api, dump), [])
            with self.assertRaises(Failure) as caught:
                network(api, "too late")
            self.assertEqual(caught.exception.code, "HOST_STILL_BOOTING")
            api = self.starts_anew(pool, api)
            until("the host is live", lambda: pool.live_hosts(api) == 1, 60)
            state = {runs: "Running", ends: "Halted"}
            for vm, expected in state.items():
                until("the host was asked what runs", lambda vm=vm, expected=expected: api.VM.get_power_state(vm) == expected, 60)
            after = {cls: getattr(api, cls).get_all_records() for cls in before}
            for cls in ("network", "role", "PBD", "VIF", "VDI"):
                self.assertEqual(after[cls], before[cls], cls)
            self.assertEqual({r: v["name_label"] for r, v in after["VM"].items()}, {r: v["name_label"] for r, v in before["VM"].items()})
            self.assertEqual(api.secret.get_value(secret), "canary")
            self.assertEqual(api.VDI.get_name_label(vdi), "disk")
            with self.assertRaises(Failure) as caught:
                api.call("event.from", api.session, ["network"], token, 0.0)
            self.assertEqual(caught.exception.code, "EVENTS_LOST")
            self.assertIn("pool.db-replaced", os.listdir(pool.state))
            for vm in (runs, ends, goes):
                if api.VM.get_power_state(vm) != "Halted":
                    api.VM.hard_shutdown(vm)
            self.killed(pool, api)

    def refused(self, pool, api, dump):
        text = dump.decode()
        row = re.search(r"<row [^>]*/>", text[text.index('<table name="network">'):]).group()
        other_ref = re.sub(r'ref="[^"]*"', 'ref="OpaqueRef:11111111-2222-4333-8444-555555555555"', row)
        bad = {"": "IMPORT_ERROR_PREMATURE_EOF", "no dump": "COULD_NOT_IMPORT_DATABASE", text[:-20]: "COULD_NOT_IMPORT_DATABASE",
               re.sub(r'(schema_major_vsn" value=")\d+', r"\g<1>99999", text): "RESTORE_INCOMPATIBLE_VERSION",
               text.replace(row, re.sub(r'\buuid="[^"]*"', 'uuid="../../pki/ca.key"', row)): "COULD_NOT_IMPORT_DATABASE",
               text.replace(row, row + other_ref): "COULD_NOT_IMPORT_DATABASE"}
        for at, (body, code) in enumerate(bad.items()):
            self.assertEqual(put(pool, api, body.encode(), dry=at % 2 == 0)[0], code, body[:80])
        status = pool.http("PUT", "/pool/xmldbdump", dump)[0]
        self.assertEqual(status, 401)

    def killed(self, pool, api):
        """At each place: what is there afterwards is one of the two, whole."""
        old, old_names = dump_of(pool, api), names(api)
        points = Points(os.path.join(pool.folder, "points"))
        pool.restart(points=points.folder)
        for place, restored in (("restore-built:", False), ("restore-decided:", True), ("database-log-aside:", True),
                                ("database-aside:", True)):
            api = pool.login()
            added = network(api, place)
            points.arm("kill", place)
            try:
                put(pool, api, old)
            except (OSError, Failure):
                pass  # it died before the task was seen to end
            until("poold dies at its failpoint", lambda: not pool.poold.running, 60)
            self.assertEqual(pool.poold.process.returncode, -signal.SIGKILL)
            pool.kill()
            pool.start(points=points.folder)
            api = pool.login()
            self.assertEqual(names(api), old_names if restored else sorted([*old_names, place]), place)
            if not restored:
                api.network.destroy(added)
            self.assertEqual([n for n in os.listdir(pool.state) if "offered" in n], [])


class Fresh(Case):
    def test_another_machine(self):
        """A pool that was lost comes back on a machine that has begun one of its own."""
        with TestPool(hosts=2, host_options=HOST) as lost:
            api = lost.login()
            vm = api.VM.create(simulated("guest", ""))
            api.VM.start(vm, False, False)
            halted = api.VM.create(vm_record("halted"))
            pool_uuid = api.pool.get_uuid(api.pool.get_all()[0])
            master = api.pool.get_master(api.pool.get_all()[0])
            dump = dump_of(lost, api)
        with TestPool(hosts=1, host_options=HOST) as pool:
            api = pool.login()
            own = api.host.get_uuid(api.host.get_all()[0])
            self.assertEqual(put(pool, api, dump), [])
            api = self.starts_anew(pool, api)
            self.assertEqual(api.pool.get_uuid(api.pool.get_all()[0]), pool_uuid)
            self.assertEqual(api.host.get_all(), [master], "the other one is forgotten")
            self.assertEqual(api.host.get_uuid(master), own)
            until("the host is live", lambda: pool.live_hosts(api) == 1, 60)
            until("the guest does not run", lambda: api.VM.get_power_state(vm) == "Halted", 60)
            self.assertEqual(api.VM.get_resident_on(vm), NULL)
            api.VM.start(vm, False, False)
            self.assertEqual(api.VM.get_power_state(halted), "Halted")
            api.VM.hard_shutdown(vm)


if __name__ == "__main__":
    unittest.main()
