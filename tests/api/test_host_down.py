"""A host goes down and comes up again: what becomes of its VMs."""
import os
import shutil
import subprocess
import sys
import unittest

from pool import NULL, program, until
from vms import VmCase


def setUpModule():
    VmCase.open_pool()


class Case(VmCase):
    def setUp(self):
        super().setUp()
        self.pool_row = self.api.pool.get_all()[0]
        self.api.pool.set_other_config(self.pool_row, {"auto_poweron": "true"})

    def vm(self, words="", order=0, **other):
        vm = self.make(words, other_config={k.replace("__", ":"): v for k, v in other.items()}, order=order)
        self.api.VM.set_suspend_SR(vm, self.sr)
        return vm

    def plugin(self, fn):
        return self.api.host.call_plugin(self.host, "guests", fn, {})

    def boot_anew(self, both=True):
        """As if the machine lost power: every process ends, and what lives in memory only is gone."""
        host = self.pool.hosts[0]
        host.kill()
        if both:
            self.pool.kill()
        shutil.rmtree(os.path.join(host.folder, "run"))
        host.start("hostd.port")
        if both:
            self.pool.start()
            VmCase.api = self.api = self.pool.login()
        until("the host is live", lambda: self.pool.live_hosts(self.api) == 1)

    def states(self, *vms):
        return [self.state(v) for v in vms]


class Silent(Case):
    def test_a_host_that_is_down_when_the_server_starts(self):
        """Its row says that it lives, from before: it is found out all the same."""
        host = self.pool.hosts[0]
        host.kill()
        self.pool.kill()
        self.pool.start()
        VmCase.api = self.api = self.pool.login()
        try:
            until("the host is not live", lambda: self.pool.live_hosts(self.api) == 0, 90)
        finally:
            host.start("hostd.port")
            until("the host is live", lambda: self.pool.live_hosts(self.api) == 1)


class Down(Case):
    def test_each_as_its_policy_says(self):
        plain = self.vm()
        saved = self.vm(corral__on_host_down="suspend")
        stubborn = self.vm("sim.ignore_shutdown", corral__on_host_down="hard_shutdown")
        left = self.vm(corral__on_host_down="leave")
        unsaved = self.vm("sim.suspend_fails", corral__on_host_down="suspend")
        for vm in (plain, saved, stubborn, left, unsaved):
            self.up(vm)
        self.assertIn("suspended or shut down, 0 failed", self.plugin("down"))
        self.assertEqual(self.states(plain, saved, stubborn, left, unsaved),
                         ["Halted", "Suspended", "Halted", "Running", "Halted"])
        self.assertIn("started or resumed", self.plugin("up"))
        self.assertEqual(self.states(plain, saved), ["Halted", "Running"])

    def test_the_pools_policy(self):
        self.api.pool.set_other_config(self.pool_row, {"corral:on_host_down": "suspend"})
        vm, other = self.vm(), self.vm(corral__on_host_down="shutdown")
        self.up(vm)
        self.up(other)
        self.plugin("down")
        self.assertEqual(self.states(vm, other), ["Suspended", "Halted"])
        # Who suspended it by hand brings it back by hand.
        self.api.VM.resume(vm, False, False)
        self.up(other)
        self.api.VM.suspend(vm)
        self.plugin("up")
        self.assertEqual(self.state(vm), "Suspended")

    def test_order(self):
        vms = [self.vm(order=n) for n in (0, 1, 2)]
        for vm in vms:
            self.up(vm)
        self.plugin("down")
        uuids = [self.api.VM.get_uuid(v) for v in vms]
        ended = [m["obj_uuid"] for m in sorted(self.api.message.get_all_records().values(), key=lambda m: m["timestamp"])
                 if m["name"] == "VM_SHUTDOWN" and m["obj_uuid"] in uuids]
        self.assertEqual(sorted(ended), sorted(uuids))

    def test_refusals(self):
        self.fails("XENAPI_MISSING_PLUGIN", ["sideways"], "host.call_plugin", self.host, "guests", "sideways", {})
        self.fails("XENAPI_MISSING_PLUGIN", ["other"], "host.call_plugin", self.host, "other", "down", {})
        self.fails("HANDLE_INVALID", None, "host.call_plugin", NULL, "guests", "down", {})

    def test_cancelling(self):
        vm = self.vm("sim.ignore_shutdown")
        self.up(vm)
        task = self.api.call("Async.host.call_plugin", self.api.session, self.host, "guests", "down", {})
        until("it is asked", lambda: self.api.VM.get_current_operations(vm))
        self.api.task.cancel(task)
        self.task_ends(task, "cancelled")
        self.assertEqual(self.state(vm), "Running")

    def test_the_command(self):
        xe = program("xe")
        if not xe:
            self.skipTest("xe is not built")
        vm = self.vm(corral__on_host_down="suspend")
        self.up(vm)

        def run(command):
            return subprocess.run([xe, "--nossl", "-s", "127.0.0.1", "-p", str(self.pool.http_port), "-u", "root", "-pw",
                                   self.pool.password, command], text=True, capture_output=True, timeout=120, check=True).stdout
        self.assertIn("1 VMs suspended or shut down, 0 failed", run("host-guests-down"))
        self.assertEqual(self.state(vm), "Suspended")
        self.assertIn("1 VMs started or resumed, 0 failed", run("host-guests-up"))
        self.assertEqual(self.state(vm), "Running")


class Up(Case):
    def test_after_a_loss_of_power(self):
        first = self.vm(auto_poweron="true", order=1)
        second = self.vm(auto_poweron="true", order=2)
        manual = self.vm()
        off = self.vm(auto_poweron="true")
        saved = self.vm(corral__on_host_down="suspend")
        for vm in (first, second, manual, saved):
            self.up(vm)
        self.plugin("down")
        self.assertEqual(self.states(first, second, manual, off, saved), ["Halted"] * 4 + ["Suspended"])
        self.start(manual)  # it runs when the power goes
        self.boot_anew()
        until("all are back", lambda: self.states(first, second, off, saved) == ["Running"] * 4, 60)
        self.assertEqual(self.state(manual), "Halted")
        domids = [int(self.api.VM.get_domid(v)) for v in (off, first, second)]
        self.assertEqual(domids, sorted(domids), "in their order")
        # The agent alone is started anew: no boot.
        self.api.VM.hard_shutdown(off)
        host = self.pool.hosts[0]
        host.kill()
        host.start("hostd.port")
        until("the host answers", lambda: "start" in self.api.VM.get_allowed_operations(off) and
              self.state(first) == "Running" and self.pool.live_hosts(self.api) == 1, 30)
        self.start(manual)
        self.assertEqual(self.state(off), "Halted")
        # Nor is poold's.
        self.pool.restart(crash=True)
        VmCase.api = self.api = self.pool.login()
        self.assertEqual(self.states(off, first, manual), ["Halted", "Running", "Running"])

    def test_only_where_the_pool_says_so(self):
        self.api.pool.set_other_config(self.pool_row, {})
        vm, saved = self.vm(auto_poweron="true"), self.vm(corral__on_host_down="suspend")
        self.up(saved)
        self.plugin("down")
        self.boot_anew(both=False)
        until("what was saved is back", lambda: self.state(saved) == "Running", 60)
        self.assertEqual(self.state(vm), "Halted")


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
