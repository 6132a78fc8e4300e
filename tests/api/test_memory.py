"""Memory and processors of VMs on one host: shared between dynamic_min and dynamic_max, scheduling, what is refused."""
import json
import os
import sys
import threading
import unittest

from pool import Failure, until
from vms import MIB, VmCase

HOST_MIB = 2048
KEPT_MIB = 48
ROOM_MIB = HOST_MIB - KEPT_MIB


def setUpModule():
    VmCase.open_pool(host_options=["--sim-boot-ms", "50", "--sim-memory", str(HOST_MIB),
                                   "--reserve-memory", str(KEPT_MIB)])


class Case(VmCase):
    def vm(self, least, most, words=""):
        return self.make(words, memory_static_max=most * MIB, memory_dynamic_max=most * MIB,
                         memory_dynamic_min=least * MIB)

    def running(self, least, most, words=""):
        vm = self.vm(least, most, words)
        self.up(vm)
        return vm

    def has(self, vm):
        """What the guest keeps, as its agent says. MiB."""
        return int(self.api.VM_metrics.get_memory_actual(self.api.VM.get_metrics(vm))) // MIB

    def cost(self, *vms):
        """What they cost the host beside their memory. MiB."""
        return sum(int(self.api.VM.get_memory_overhead(vm)) for vm in vms) // MIB

    def free(self):
        return int(self.api.host.compute_free_memory(self.host)) // MIB

    def alike(self, one, other):
        """They have the same part, but for what rounding left: who is asked while another start still claims its
        part, and who is asked once it runs, may be 1 MiB apart, and nobody is asked again for so little."""
        self.assertAlmostEqual(self.has(one), self.has(other), delta=1)

    def domain(self, vm):
        """The record of its domain on the host."""
        path = os.path.join(self.pool.hosts[0].folder, "run", self.api.VM.get_uuid(vm), "config.json")
        with open(path, encoding="utf-8") as file:
            return json.load(file)["config"]


class Sharing(Case):
    def test_what_the_host_keeps(self):
        control = self.api.host.get_control_domain(self.host)
        self.assertEqual(int(self.api.VM.get_memory_static_max(control)), KEPT_MIB * MIB)
        self.assertEqual(self.free(), ROOM_MIB)

    def test_a_start_takes_from_the_others_and_gives_back(self):
        first = self.running(200, 1200)
        self.assertEqual(self.has(first), 1200)
        self.assertEqual(self.free(), ROOM_MIB - 200 - self.cost(first), "as if it gave all that it can")
        second = self.running(200, 1200)
        self.alike(first, second)
        self.assertAlmostEqual(self.has(first), (ROOM_MIB - self.cost(first, second)) // 2, delta=1)
        self.assertEqual(int(self.api.VM.get_memory_target(second)) // MIB, self.has(second))
        third = self.running(200, 400)
        self.alike(first, second)
        shares = [self.has(v) for v in (first, second, third)]
        room = ROOM_MIB - self.cost(first, second, third)
        self.assertLessEqual(sum(shares), room)
        self.assertGreater(shares[2], 200)
        self.assertGreater(sum(shares), room - 3)
        self.api.VM.hard_shutdown(second)
        until("the memory is given back", lambda: (self.has(first), self.has(third)) == (1200, 400))

    def test_starts_at_once(self):
        vms = [self.vm(150, 1000) for _ in range(5)]
        failures = []

        def start(vm):
            try:
                self.pool.again(self.api).VM.start(vm, False, False)
            except Failure as failure:
                failures.append(failure)
        threads = [threading.Thread(target=start, args=(vm,)) for vm in vms]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        until("nobody has more than there is", lambda: sum(map(self.has, vms)) <= ROOM_MIB - self.cost(*vms))
        self.assertGreaterEqual(min(map(self.has, vms)), 150)

    def test_a_guest_that_does_not_give(self):
        stubborn = self.running(200, 1200, "sim.no_balloon")
        fixed = self.vm(1000, 1000)
        params = self.fails("HOST_NOT_ENOUGH_FREE_MEMORY", None, "VM.start", fixed, False, False)
        left = ROOM_MIB - 1200 - self.cost(stubborn)
        self.assertEqual([int(p) // MIB for p in params], [1000 + self.cost(fixed), left])
        self.assertFalse(self.api.VM.get_cooperative(stubborn))
        self.assertEqual(self.free(), left, "it is not counted on any more")
        self.fails("VM_MEMORY_TARGET_WAIT_TIMEOUT", None, "VM.wait_memory_target_live", stubborn)
        elastic = self.running(200, 1200)
        self.assertAlmostEqual(self.has(elastic), left - self.cost(elastic), delta=1)
        self.assertTrue(self.api.VM.get_cooperative(elastic))
        self.api.VM.wait_memory_target_live(elastic)

    def test_a_start_that_waits_for_memory_can_be_cancelled(self):
        self.running(200, 1900, "sim.no_balloon")
        vm = self.vm(1500, 1500)
        task = self.api.call("Async.VM.start", self.api.session, vm, False, False)
        until("it is under way", lambda: self.api.VM.get_current_operations(vm) or
              self.api.task.get_status(task) != "pending")
        self.api.task.cancel(task)
        self.task_ends(task, "cancelled")
        self.assertEqual(self.state(vm), "Halted")

    def test_a_range_that_is_changed(self):
        one, two = self.running(200, 900), self.running(200, 900)
        self.api.VM.set_memory_dynamic_range(one, 200 * MIB, 500 * MIB)
        until("it has less", lambda: self.has(one) == 500)
        self.api.VM.set_memory_dynamic_range(one, 200 * MIB, 900 * MIB)
        until("it has more", lambda: self.has(one) == 900)
        self.assertEqual(self.has(two), 900)

    def test_a_suspended_one_comes_back_with_what_it_had(self):
        sr = self.sr
        vm = self.running(200, 1200)
        self.api.VM.set_suspend_SR(vm, sr)
        other = self.running(200, 1200)
        had = self.has(vm)
        self.api.VM.suspend(vm)
        until("the other has all", lambda: self.has(other) == 1200)
        self.api.VM.resume(vm, False, False)
        self.assertEqual(self.state(vm), "Running")
        until("nobody has more than there is", lambda: self.has(vm) + self.has(other) <= ROOM_MIB - self.cost(vm, other))
        self.assertGreater(had, 200)

    def test_impossible_ranges(self):
        for static_min, low, high, static_max in ((0, 2, 1, 4), (2, 1, 3, 4), (0, 1, 5, 4), (0, 0, 0, 0), (5, 5, 5, 4)):
            vm = self.make(memory_static_min=static_min * MIB, memory_dynamic_min=low * MIB,
                           memory_dynamic_max=high * MIB, memory_static_max=static_max * MIB)
            self.fails("MEMORY_CONSTRAINT_VIOLATION", None, "VM.start", vm, False, False)
            self.assertEqual(self.state(vm), "Halted")
        vm = self.running(200, 400)
        for low, high in ((300, 200), (-1, 200), (200, 401)):
            self.fails("MEMORY_CONSTRAINT_VIOLATION", None, "VM.set_memory_dynamic_range", vm, low * MIB, high * MIB)
        self.assertEqual(self.has(vm), 400)


class Processors(Case):
    def test_weight_cap_and_mask(self):
        vm = self.make(VCPUs_params={"weight": "512", "cap": "50", "mask": "0"})
        self.up(vm)
        domain = self.domain(vm)
        self.assertEqual((domain["cpu_weight"], domain["cpu_cap_percent"], domain["cpu_mask"]), (512, 50, "0"))
        self.api.VM.add_to_VCPUs_params_live(vm, "weight", "128")
        self.api.VM.add_to_VCPUs_params_live(vm, "mask", "0,1")
        domain = self.domain(vm)
        self.assertEqual((domain["cpu_weight"], domain["cpu_cap_percent"], domain["cpu_mask"]), (128, 50, "0,1"))
        self.assertEqual(self.api.VM.get_VCPUs_params(vm), {"weight": "128", "cap": "50", "mask": "0,1"})
        self.fails("VALUE_NOT_SUPPORTED", None, "VM.add_to_VCPUs_params_live", vm, "weight", "0")
        self.assertEqual(self.api.VM.get_VCPUs_params(vm)["weight"], "128")
        halted = self.make()
        self.fails("VM_BAD_POWER_STATE", [halted, "running", "halted"], "VM.add_to_VCPUs_params_live", halted, "weight", "1")

    def test_impossible_numbers(self):
        for at_start, most in ((0, 1), (2, 1), (-1, 1)):
            vm = self.make(VCPUs_at_startup=at_start, VCPUs_max=most)
            self.fails("VALUE_NOT_SUPPORTED", None, "VM.start", vm, False, False)
        vm = self.make(VCPUs_max=2 ** 40)
        self.fails("HOST_NOT_ENOUGH_PCPUS", None, "VM.start", vm, False, False)
        for params in ({"mask": "a"}, {"weight": "70000"}, {"cap": "-1"}):
            vm = self.make(VCPUs_params=params)
            self.fails("VALUE_NOT_SUPPORTED", None, "VM.start", vm, False, False)
            self.assertEqual(self.state(vm), "Halted")


class Ends(Case):
    def dumps(self):
        folder = os.path.join(self.pool.hosts[0].folder, "crashdumps")
        return os.listdir(folder) if os.path.isdir(folder) else []

    def test_actions_after_a_crash(self):
        """A guest that crashes as soon as it runs is never started again: that would go on for ever."""
        for action, state, dumped in (("destroy", "Halted", False), ("restart", "Halted", False),
                                      ("rename_restart", "Halted", False), ("preserve", "Paused", False),
                                      ("coredump_and_destroy", "Halted", True), ("coredump_and_restart", "Halted", True)):
            with self.subTest(action):
                vm = self.make("sim.crash_ms=20", actions_after_crash=action)
                self.start(vm)
                until(f"it is {state}", lambda v=vm, s=state: self.state(v) == s and "VM_CRASHED" in self.alerts(v))
                uuid = self.api.VM.get_uuid(vm)
                self.assertEqual(any(uuid in name for name in self.dumps()), dumped)
                self.destroy(vm)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
