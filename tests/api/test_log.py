"""The server's log as it is read at night: what happened, to what, and nothing that hides it."""
import re
import unittest

from pool import TestPool, failure_of, until
from test_vm import simulated


class Log(unittest.TestCase):
    def lines(self, pool, part):
        return [line for line in pool.poold.log().splitlines() if part in line]

    def test_a_call_names_its_object_and_why_it_failed(self):
        with TestPool(hosts=1) as pool:
            api = pool.login()
            vm = api.VM.create(simulated("web 1"))
            uuid = api.VM.get_uuid(vm)
            api.VM.start(vm, False, False)
            self.assertEqual(failure_of(api, "VM.start", vm, False, False)[0], "VM_BAD_POWER_STATE")
            done, refused = until("both are logged", lambda: self.pair(pool, "message=VM.start"))
            self.assertIn(f'object={uuid} name="web 1"', done)
            self.assertIn(f'details="{vm}, halted, running" object={uuid} name="web 1"', refused)

            api.VM.set_name_description(vm, "front")
            self.assertIn(f"object={uuid}", self.lines(pool, "message=VM.set_name_description")[0])

    def pair(self, pool, part):
        found = self.lines(pool, part)
        return found if len(found) == 2 else None

    def test_no_session_and_no_secret_is_in_it(self):
        with TestPool() as pool:
            api = pool.login()
            ended = pool.login()
            session = ended.session
            ended.call("session.logout", session)
            self.assertEqual(failure_of(ended, "VM.get_all")[0], "SESSION_INVALID")
            self.assertEqual(failure_of(ended, "VM.create", simulated("x"))[0], "SESSION_INVALID")
            old = pool.password
            api.call("session.change_password", api.session, old, "quite another one")
            log = pool.poold.log()
            for secret in (str(session), str(api.session), old, "quite another one"):
                self.assertNotIn(secret, log)

    def test_a_guest_that_its_disk_has_paused_is_told_of_with_disk_and_storage(self):
        with TestPool(hosts=1) as pool:
            api = pool.login()
            sr = api.SR.create(api.host.get_all()[0], {"location": f"{pool.folder}/sr"}, 0, "Small", "", "file", "", False, {})
            vdi = api.VDI.create({"name_label": "data", "SR": sr, "virtual_size": 1 << 20, "type": "user", "sharable": False,
                                  "read_only": False, "other_config": {}})
            vm = api.VM.create(simulated("web 1", "sim.disk_full_ms=1"))
            api.VBD.create({"VM": vm, "VDI": vdi, "userdevice": "0", "bootable": False, "mode": "RW", "type": "Disk", "empty": False,
                            "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}})
            api.VM.start(vm, False, False)
            until("it is paused", lambda: api.VM.get_power_state(vm) == "Paused")
            told = [m for m in api.message.get_all_records().values() if m["name"] == "VM_PAUSED_BY_DISK"]
            self.assertEqual([(m["cls"], m["obj_uuid"], int(m["priority"])) for m in told], [("VM", api.VM.get_uuid(vm), 2)])
            uuid = api.VDI.get_uuid(vdi)
            self.assertEqual(told[0]["body"], f"VM 'web 1' was paused: its disk 'data' ({uuid}, in SR 'Small') cannot be written: "
                             "No space left on device. When that is mended, 'xe vm-unpause' lets it go on.")
            self.assertEqual(len(self.lines(pool, "paused because a disk failed")), 1)
            api.VM.unpause(vm)
            self.assertEqual(api.VM.get_power_state(vm), "Running")
            api.VM.pause(vm)
            self.assertEqual(len(self.lines(pool, "paused because a disk failed")), 1, "asked for, so not told of")

    def test_a_silent_host_is_told_of_by_name_and_not_at_every_try(self):
        with TestPool(hosts=1) as pool:
            api = pool.login()
            host = api.host.get_all()[0]
            uuid, name = api.host.get_uuid(host), api.host.get_name_label(host)
            self.assertEqual(self.lines(pool, "does not answer"), [], "a host that joins and starts is no news")
            pool.hosts[0].kill()
            down = until("the host counts as down", lambda: self.lines(pool, "counts as down"))
            self.assertIn(f"host={uuid} name={name}", down[0])
            silent = self.lines(pool, "does not answer")
            # The clock that is asked for is the host's, not the server's.
            self.assertEqual(failure_of(api, "host.get_servertime", host)[0], "HOST_OFFLINE")
            self.assertIn(f"host={uuid} name={name}", silent[0])
            self.assertIn("look at hostd", silent[0])
            self.assertLessEqual(len(silent), 3, silent)
            pool.hosts[0].start("hostd.port")
            until("the agent answers, and how long it did not", lambda: [
                line for line in self.lines(pool, "the agent answers") if re.search(r"silent_seconds=\d\d", line)])


if __name__ == "__main__":
    unittest.main(verbosity=2)
