"""Life of VMs on simulated hosts: power, concurrency, crashes of every daemon, placement, consoles."""
import json
import os
import struct
import sys
import threading
import time
import unittest

from pool import NULL, Failure, TestPool, module_pool, until
from test_events import vm_record

POOL = API = None
BOOT = ["--sim-boot-ms", "100"]


def setUpModule():
    global POOL, API
    POOL = module_pool(hosts=1, host_options=BOOT)
    API = POOL.login()


def simulated(name, words="", **more):
    """A VM whose guest behaves as the words say (hv/sim)."""
    return {**vm_record(name), "PV_kernel": "vmlinuz", "PV_args": words, "HVM_boot_policy": "", **more}


class Case(unittest.TestCase):
    def setUp(self):
        self.api = API
        self.vms = []

    def tearDown(self):
        for vm in self.vms:
            destroy(self.api, vm)

    def make(self, words="", **more):
        vm = self.api.VM.create(simulated(self.id().split(".")[-1], words, **more))
        self.vms.append(vm)
        return vm

    def state(self, vm):
        return self.api.VM.get_power_state(vm)

    def fails(self, code, params, method, *arguments):
        with self.assertRaises(Failure) as caught:
            self.api.call(method, self.api.session, *arguments)
        self.assertEqual(caught.exception.code, code, caught.exception)
        if params is not None:
            self.assertEqual(caught.exception.params, params)
        return caught.exception.params


def destroy(api, vm):
    def gone():
        try:
            record = api.VM.get_record(vm)
            if record["power_state"] != "Halted":
                api.VM.hard_shutdown(vm)
            api.VM.destroy(vm)
        except Failure as failure:
            if failure.code == "HANDLE_INVALID":
                return True
            if failure.code not in ("VM_BAD_POWER_STATE", "OTHER_OPERATION_IN_PROGRESS"):
                raise
            return False
        return True
    until("end of a VM", gone)


class Power(Case):
    def test_start_and_what_changes_with_it(self):
        vm = self.make()
        halted = self.api.VM.get_record(vm)
        self.assertEqual((halted["resident_on"], halted["domid"], halted["consoles"]), (NULL, -1, []))
        self.api.VM.start(vm, False, False)
        record = self.api.VM.get_record(vm)
        self.assertEqual((record["power_state"], record["resident_on"]), ("Running", self.api.host.get_all()[0]))
        self.assertGreater(record["domid"], 0)
        self.assertEqual(record["current_operations"], {})
        self.assertIn("hard_shutdown", record["allowed_operations"])
        self.assertNotIn("start", record["allowed_operations"])
        consoles = [self.api.console.get_record(c) for c in record["consoles"]]
        self.assertEqual(sorted(c["protocol"] for c in consoles), ["rfb", "vt100"])
        for console in consoles:
            self.assertEqual(console["VM"], vm)
            self.assertRegex(console["location"], r"^https://.*/console\?uuid=" + console["uuid"])
        metrics = self.api.VM_metrics.get_record(record["metrics"])
        self.assertGreater(metrics["start_time"], "2020")
        guest = until("the guest's word", lambda: self.api.VM.get_guest_metrics(vm).replace(NULL, ""))
        self.assertTrue(until("os", lambda: self.api.VM_guest_metrics.get_os_version(guest))["name"])
        self.api.VM.hard_shutdown(vm)
        after = self.api.VM.get_record(vm)
        for field in ("power_state", "resident_on", "domid", "consoles", "allowed_operations", "guest_metrics",
                      "scheduled_to_be_resident_on"):
            self.assertEqual(after[field], halted[field], field)
        self.fails("HANDLE_INVALID", None, "console.get_record", consoles[0]["uuid"] and record["consoles"][0])
        names = [m["name"] for m in self.api.message.get("VM", record["uuid"], "19700101T00:00:00Z").values()]
        self.assertEqual(sorted(names), ["VM_SHUTDOWN", "VM_STARTED"])

    def test_paused(self):
        vm = self.make()
        self.api.VM.start(vm, True, False)
        self.assertEqual(self.state(vm), "Paused")
        self.api.VM.unpause(vm)
        self.assertEqual(self.state(vm), "Running")
        self.api.VM.pause(vm)
        self.assertEqual(self.state(vm), "Paused")
        self.fails("VM_BAD_POWER_STATE", [vm, "running", "paused"], "VM.pause", vm)
        self.fails("VM_BAD_POWER_STATE", [vm, "running", "paused"], "VM.clean_shutdown", vm)
        self.api.VM.hard_shutdown(vm)
        self.assertEqual(self.state(vm), "Halted")

    def test_a_device_model_is_not_replaced_in_place(self):
        vm = self.make()
        self.fails("VM_BAD_POWER_STATE", [vm, "running", "halted"], "VM.restart_device_models", vm)
        self.fails("HANDLE_INVALID", None, "VM.restart_device_models", NULL)
        self.api.VM.start(vm, False, False)
        self.fails("OPERATION_NOT_ALLOWED", None, "VM.restart_device_models", vm)

    def test_signals_of_hardware(self):
        vm = self.make()
        calls = [("send_trigger", "nmi"), ("send_trigger", "power"), ("send_trigger", "s3resume"), ("send_sysrq", "h"),
                 ("s3_resume",)]
        for method, *words in calls:
            self.fails("VM_BAD_POWER_STATE", [vm, "running", "halted"], f"VM.{method}", vm, *words)
            self.fails("HANDLE_INVALID", None, f"VM.{method}", NULL, *words)
        self.api.VM.start(vm, False, False)
        for method, *words in calls:
            getattr(self.api.VM, method)(vm, *words)
        self.assertIn("signal=sysrq key=h", POOL.hosts[0].log())
        for method, word in (("send_trigger", "bang"), ("send_trigger", ""), ("send_sysrq", ""), ("send_sysrq", "hh"),
                             ("send_sysrq", "H"), ("send_sysrq", "\n")):
            self.fails("VALUE_NOT_SUPPORTED", None, f"VM.{method}", vm, word)

    def test_refusals_of_each_state(self):
        vm = self.make()
        for method in ("unpause", "pause", "clean_shutdown", "hard_shutdown", "clean_reboot", "hard_reboot"):
            params = self.fails("VM_BAD_POWER_STATE", None, f"VM.{method}", vm)
            self.assertEqual((params[0], params[2]), (vm, "halted"))
        self.api.VM.start(vm, False, False)
        self.fails("VM_BAD_POWER_STATE", [vm, "halted", "running"], "VM.start", vm, False, False)
        self.fails("VM_BAD_POWER_STATE", [vm, "halted, suspended", "running"], "VM.destroy", vm)
        self.fails("VM_BAD_POWER_STATE", None, "VM.clone", vm, "x")

    def test_clean_shutdown_and_reboot(self):
        vm = self.make()
        self.api.VM.start(vm, False, False)
        until("the guest is up", lambda: self.api.VM.get_guest_metrics(vm) != NULL)
        domid = self.api.VM.get_domid(vm)
        self.api.VM.clean_reboot(vm)
        self.assertEqual(self.state(vm), "Running")
        self.api.VM.hard_reboot(vm)
        self.assertEqual((self.state(vm), self.api.VM.get_domid(vm)), ("Running", domid))
        self.api.VM.clean_shutdown(vm)
        self.assertEqual(self.state(vm), "Halted")
        self.api.VM.start(vm, False, False)
        self.api.VM.shutdown(vm)
        self.assertEqual(self.state(vm), "Halted")

    def test_the_guest_ends_by_itself(self):
        for words, name in (("sim.poweroff_ms=50", "VM_SHUTDOWN"), ("sim.crash_ms=50", "VM_CRASHED")):
            vm = self.make(words)
            uuid = self.api.VM.get_uuid(vm)
            self.api.VM.start(vm, False, False)
            until("Halted", lambda v=vm: self.state(v) == "Halted")
            messages = self.api.message.get("VM", uuid, "19700101T00:00:00Z").values()
            self.assertEqual(sorted(m["name"] for m in messages), sorted(["VM_STARTED", name]))

    def test_the_guest_reboots_by_itself(self):
        vm = self.make("sim.reboot_ms=100")
        uuid = self.api.VM.get_uuid(vm)
        self.api.VM.start(vm, False, False)
        until("message of the reboot", lambda: "VM_REBOOTED" in
              [m["name"] for m in self.api.message.get("VM", uuid, "19700101T00:00:00Z").values()])
        self.assertEqual(self.state(vm), "Running")

    def test_start_that_fails(self):
        vm = self.make("sim.start_fails")
        self.fails("FAILED_TO_START_EMULATOR", None, "VM.start", vm, False, False)
        record = self.api.VM.get_record(vm)
        self.assertEqual((record["power_state"], record["resident_on"], record["current_operations"], record["consoles"]),
                         ("Halted", NULL, {}, []))

    def test_start_on(self):
        vm, host = self.make(), self.api.host.get_all()[0]
        self.fails("HANDLE_INVALID", ["host", NULL], "VM.start_on", vm, NULL, False, False)
        self.api.VM.start_on(vm, host, False, False)
        self.assertEqual(self.api.VM.get_resident_on(vm), host)

    def test_what_may_not_be(self):
        control = next(r for r, v in self.api.VM.get_all_records().items() if v["is_control_domain"])
        for method in ("clean_shutdown", "hard_shutdown", "hard_reboot", "pause"):
            with self.assertRaises(Failure):
                self.api.call(f"VM.{method}", self.api.session, control)
        with self.assertRaises(Failure):
            self.api.VM.destroy(control)
        self.assertEqual(self.state(control), "Running")
        template = self.make(is_a_template=True)
        self.fails("VM_IS_TEMPLATE", [template, "start"], "VM.start", template, False, False)

    def test_a_guest_that_boots_again_is_not_live(self):
        """Its agent does not answer until it is up: clean_reboot is not offered, and what it said last stays."""
        vm = self.make("sim.again_ms=600000")
        self.api.VM.start(vm, False, False)
        until("up", lambda: "clean_reboot" in self.api.VM.get_allowed_operations(vm))
        metrics = self.api.VM.get_guest_metrics(vm)
        self.assertTrue(self.api.VM_guest_metrics.get_live(metrics))
        self.api.VM.clean_reboot(vm)
        until("it boots", lambda: not self.api.VM_guest_metrics.get_live(metrics))
        self.assertNotIn("clean_reboot", self.api.VM.get_allowed_operations(vm))
        self.assertIn("clean_shutdown", self.api.VM.get_allowed_operations(vm), "by its power button")
        self.assertTrue(self.api.VM_guest_metrics.get_os_version(metrics))
        self.fails("VM_LACKS_FEATURE", [vm], "VM.clean_reboot", vm)

    def test_operation_blocked(self):
        vm = self.make()
        self.api.VM.add_to_blocked_operations(vm, "start", "VM_LOCKED")
        self.fails("OPERATION_BLOCKED", [vm, "VM_LOCKED"], "VM.start", vm, False, False)
        self.api.VM.remove_from_blocked_operations(vm, "start")
        self.api.VM.start(vm, False, False)

    def test_power_state_reset_does_not_lie(self):
        vm = self.make()
        self.api.VM.start(vm, False, False)
        with self.assertRaises(Failure):
            self.api.VM.power_state_reset(vm)
        self.assertEqual(self.state(vm), "Running")

    def test_a_disabled_host_takes_no_vm(self):
        vm, host = self.make(), self.api.host.get_all()[0]
        self.api.host.disable(host)
        try:
            self.fails("HOST_DISABLED", [host], "VM.start", vm, False, False)
        finally:
            self.api.host.enable(host)
        self.api.VM.start(vm, False, False)

    def test_too_much_memory(self):
        size = 2**50
        vm = self.make(memory_static_max=size, memory_dynamic_max=size, memory_dynamic_min=size)
        params = self.fails("HOST_NOT_ENOUGH_FREE_MEMORY", None, "VM.start", vm, False, False)
        self.assertEqual(int(params[0]), size + int(self.api.VM.get_memory_overhead(vm)), "with what it costs its host")

    def test_memory_is_counted_for_starts_at_the_same_time(self):
        host = self.api.host.get_all()[0]
        left = self.api.host.compute_free_memory(host)
        size = left * 6 // 10 // 4096 * 4096
        vms = [self.make(memory_static_max=size, memory_dynamic_max=size, memory_dynamic_min=size) for _ in range(4)]
        tasks = [self.api.call("Async.VM.start", self.api.session, vm, False, False) for vm in vms]
        for task in tasks:
            until("end of a start", lambda t=task: self.api.task.get_status(t) != "pending")
        states = sorted(self.state(vm) for vm in vms)
        self.assertEqual(states, ["Halted", "Halted", "Halted", "Running"], [self.api.task.get_error_info(t) for t in tasks])
        for task in tasks:
            self.api.task.destroy(task)


class Concurrency(Case):
    def test_two_starts(self):
        """One waits for the other inside the server and then finds the VM running."""
        vm = self.make()
        results = []

        def start(client):
            try:
                client.VM.start(vm, False, False)
                results.append("ok")
            except Failure as failure:
                results.append((failure.code, failure.params))
        threads = [threading.Thread(target=start, args=(POOL.again(self.api),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(map(str, results)), sorted(map(str, ["ok"] + [("VM_BAD_POWER_STATE", [vm, "halted", "running"])] * 3)))
        self.assertEqual(self.api.VM.get_current_operations(vm), {})

    def test_hard_shutdown_overtakes_clean_shutdown(self):
        vm = self.make("sim.ignore_shutdown")
        self.api.VM.start(vm, False, False)
        until("up", lambda: self.api.VM.get_guest_metrics(vm) != NULL)
        task = self.api.call("Async.VM.clean_shutdown", self.api.session, vm)
        until("the mark", lambda: "clean_shutdown" in self.api.VM.get_current_operations(vm).values())
        started = time.monotonic()
        self.api.VM.hard_shutdown(vm)
        self.assertLess(time.monotonic() - started, 10)
        self.assertEqual(self.state(vm), "Halted")
        until("end of the clean shutdown", lambda: self.api.task.get_status(task) == "cancelled")
        self.assertEqual(self.api.VM.get_current_operations(vm), {})
        self.api.task.destroy(task)

    def test_a_forced_operation_on_a_guest_that_ends_meanwhile(self):
        """Done, or refused because it is halted; at whatever moment."""
        vm = self.make("sim.poweroff_ms=60")
        for message in ("hard_reboot", "hard_shutdown"):
            for wait_ms in (0, 50):
                with self.subTest(message=message, wait_ms=wait_ms):
                    self.api.VM.start(vm, False, False)
                    time.sleep(wait_ms / 1000)
                    task = self.api.call(f"Async.VM.{message}", self.api.session, vm)
                    until("it ends", lambda: self.api.task.get_status(task) in ("success", "failure"), 60)
                    error = self.api.task.get_error_info(task)
                    self.assertIn(error[:1], ([], ["VM_BAD_POWER_STATE"], ["VM_HALTED"]), error)
                    self.api.task.destroy(task)
                    self.assertEqual(self.api.VM.get_current_operations(vm), {})
                    until("its end is known", lambda: self.state(vm) == "Halted", 60)

    def test_a_guest_that_ends_under_an_operation(self):
        """Its code says how, the state is right, and a repeat is refused by that."""
        for words, code in (("sim.crash_ms=1", "VM_CRASHED"), ("sim.poweroff_ms=1", "VM_HALTED")):
            with self.subTest(words):
                vm = self.make(f"sim.when_asked {words}")
                self.api.VM.start(vm, False, False)
                until("up", lambda v=vm: self.api.VM.get_guest_metrics(v) != NULL)
                self.fails(code, [vm], "VM.clean_reboot", vm)
                until("its end is known", lambda v=vm: self.state(v) == "Halted", 60)
                self.assertEqual(self.api.VM.get_current_operations(vm), {})
                self.fails("VM_BAD_POWER_STATE", [vm, "running", "halted"], "VM.clean_reboot", vm)

    def test_cancel_of_a_clean_shutdown(self):
        vm = self.make("sim.ignore_shutdown")
        self.api.VM.start(vm, False, False)
        until("up", lambda: self.api.VM.get_guest_metrics(vm) != NULL)
        task = self.api.call("Async.VM.clean_shutdown", self.api.session, vm)
        until("the mark", lambda: "clean_shutdown" in self.api.VM.get_current_operations(vm).values())
        record = self.api.task.get_record(task)
        self.assertEqual((record["status"], record["allowed_operations"]), ("pending", ["cancel"]))
        self.api.task.cancel(task)
        until("cancelled", lambda: self.api.task.get_status(task) == "cancelled")
        record = self.api.task.get_record(task)
        self.assertEqual((record["error_info"][0], record["allowed_operations"]), ("TASK_CANCELLED", []))
        self.assertEqual((self.state(vm), self.api.VM.get_current_operations(vm)), ("Running", {}))
        self.api.task.destroy(task)

    def test_a_second_operation_waits_and_can_be_cancelled(self):
        vm = self.make("sim.ignore_shutdown")
        self.api.VM.start(vm, False, False)
        until("up", lambda: self.api.VM.get_guest_metrics(vm) != NULL)
        first = self.api.call("Async.VM.clean_shutdown", self.api.session, vm)
        until("the mark", lambda: "clean_shutdown" in self.api.VM.get_current_operations(vm).values())
        second = self.api.call("Async.VM.pause", self.api.session, vm)
        time.sleep(0.5)
        self.assertEqual(self.api.task.get_status(second), "pending")
        self.api.task.cancel(second)
        until("cancelled", lambda: self.api.task.get_status(second) == "cancelled")
        self.api.task.cancel(first)
        until("cancelled", lambda: self.api.task.get_status(first) == "cancelled")
        self.assertEqual(self.state(vm), "Running")
        for task in (first, second):
            self.api.task.destroy(task)

    def test_random_operations(self):
        """Any order of calls from many sides: no crash, no mark left, rows that agree with each other."""
        import random
        vms = [self.make() for _ in range(4)]
        failures = []

        def work(seed):
            rng = random.Random(seed)
            api = POOL.again(self.api)
            methods = ["start", "hard_shutdown", "pause", "unpause", "hard_reboot", "clean_shutdown", "shutdown", "set_name_label",
                       "Async.start", "Async.hard_shutdown"]
            end = time.monotonic() + 6
            while time.monotonic() < end:
                method, vm = rng.choice(methods), rng.choice(vms)
                params = {"start": [False, False], "Async.start": [True, False], "set_name_label": [str(seed)]}.get(method, [])
                name = f"Async.VM.{method[6:]}" if method.startswith("Async.") else f"VM.{method}"
                try:
                    api.call(name, api.session, vm, *params)
                except Failure as failure:
                    if failure.code not in ("VM_BAD_POWER_STATE", "OTHER_OPERATION_IN_PROGRESS", "TASK_CANCELLED"):
                        failures.append((name, failure))
        threads = [threading.Thread(target=work, args=(i,)) for i in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until("all tasks end", lambda: not [t for t in self.api.task.get_all_records().values() if t["status"] == "pending"], 60)
        bad = [f for f in failures if f[1].code != "VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT"]
        state = [(r["power_state"], r["resident_on"], r["domid"]) for r in map(self.api.VM.get_record, vms)]
        self.assertEqual(bad[:3], [], f"{len(bad)} odd refusals; now: {state}")

        def agree():
            for vm in vms:
                r = self.api.VM.get_record(vm)
                runs = r["power_state"] in ("Running", "Paused")
                if r["current_operations"] or (r["resident_on"] != NULL) != runs or (r["domid"] > 0) != runs \
                        or len(r["consoles"]) != (2 if runs else 0):
                    return False
            return True
        until("rows agree", agree)
        for task in self.api.task.get_all():
            self.api.task.destroy(task)


class Crashes(unittest.TestCase):
    def running(self, api, words=""):
        vm = api.VM.create(simulated("crash", words))
        api.VM.start(vm, False, False)
        return vm

    def test_kill_9_of_poold(self):
        with TestPool(hosts=1, host_options=BOOT) as pool:
            api = pool.login()
            vm, idle = self.running(api), api.VM.create(simulated("idle"))
            until("the guest says what it can do", lambda: "clean_reboot" in api.VM.get_allowed_operations(vm))
            before = api.VM.get_record(vm)
            pool.restart(crash=True)
            api = pool.login()
            # True before the first request is served.
            after = api.VM.get_record(vm)
            for field in ("power_state", "resident_on", "domid", "consoles", "allowed_operations"):
                self.assertEqual(after[field], before[field], field)
            api.VM.hard_shutdown(vm)
            api.VM.start(idle, False, False)
            api.VM.hard_shutdown(idle)

    def test_kill_9_of_poold_during_operations(self):
        with TestPool(hosts=1, host_options=BOOT) as pool:
            for round_number in range(3):
                api = pool.login()
                vms = [api.VM.create(simulated(f"vm{i}")) for i in range(6)]
                for vm in vms[:3]:
                    api.VM.start(vm, False, False)
                for vm in vms[:3]:
                    api.call("Async.VM.hard_shutdown", api.session, vm)
                for vm in vms[3:]:
                    api.call("Async.VM.start", api.session, vm, False, False)
                time.sleep(0.02 * round_number)
                pool.restart(crash=True)
                api = pool.login()
                for record in api.VM.get_all_records().values():
                    self.assertEqual(record["current_operations"], {})
                for vm in vms:
                    def settled(v=vm):
                        state = api.VM.get_power_state(v)
                        api.VM.hard_shutdown(v) if state != "Halted" else api.VM.start(v, False, False)
                        return api.VM.get_power_state(v) != state
                    self.assertTrue(settled())
                    destroy(api, vm)

    def test_a_vm_that_ended_while_poold_was_away(self):
        with TestPool(hosts=1, host_options=BOOT) as pool:
            api = pool.login()
            vm = self.running(api, "sim.poweroff_ms=400")
            uuid = api.VM.get_uuid(vm)
            pool.kill()
            time.sleep(1)
            pool.start()
            api = pool.login()
            until("Halted", lambda: api.VM.get_power_state(vm) == "Halted")
            self.assertIn("VM_SHUTDOWN", [m["name"] for m in api.message.get("VM", uuid, "19700101T00:00:00Z").values()])

    def test_kill_9_of_hostd(self):
        with TestPool(hosts=1, host_options=BOOT) as pool:
            api = pool.login()
            vm = self.running(api)
            domid = api.VM.get_domid(vm)
            pool.hosts[0].kill()
            with self.assertRaises(Failure) as caught:
                api.VM.hard_shutdown(vm)
            self.assertIn(caught.exception.code, ("HOST_OFFLINE", "HOST_NOT_LIVE"))
            self.assertEqual(api.VM.get_current_operations(vm), {})
            pool.hosts[0].start("hostd.port")
            until("the host is back", lambda: attempt(lambda: api.VM.pause(vm)))
            self.assertEqual((api.VM.get_power_state(vm), api.VM.get_domid(vm)), ("Paused", domid))
            api.VM.hard_shutdown(vm)

    def test_both_at_once(self):
        with TestPool(hosts=1, host_options=BOOT) as pool:
            api = pool.login()
            vm = self.running(api)
            pool.hosts[0].kill()
            pool.kill()
            pool.start()
            pool.hosts[0].start("hostd.port")
            api = pool.login()
            self.assertEqual(api.VM.get_power_state(vm), "Running")
            until("the host is back", lambda: attempt(lambda: api.VM.hard_shutdown(vm)))
            self.assertEqual(api.VM.get_power_state(vm), "Halted")

    def test_a_host_that_stays_away_is_told(self):
        with TestPool(hosts=1, host_options=BOOT) as pool:
            api = pool.login()
            pool.hosts[0].kill()
            until("not live", lambda: pool.live_hosts(api) == 0)
            vm = api.VM.create(simulated("x"))
            with self.assertRaises(Failure) as caught:
                api.VM.start(vm, False, False)
            self.assertEqual(caught.exception.code, "HOST_NOT_LIVE")
            pool.hosts[0].start("hostd.port")
            until("live", lambda: pool.live_hosts(api) == 1)
            api.VM.start(vm, False, False)

    def test_sigterm_during_a_long_operation(self):
        with TestPool(hosts=1, host_options=BOOT) as pool:
            api = pool.login()
            vm = self.running(api, "sim.ignore_shutdown")
            until("up", lambda: api.VM.get_guest_metrics(vm) != NULL)
            api.call("Async.VM.clean_shutdown", api.session, vm)
            until("the mark", lambda: api.VM.get_current_operations(vm))
            started = time.monotonic()
            pool.restart()
            self.assertLess(time.monotonic() - started, 20)
            api = pool.login()
            self.assertEqual((api.VM.get_power_state(vm), api.VM.get_current_operations(vm)), ("Running", {}))


class Three(unittest.TestCase):
    def test_placement(self):
        with TestPool(hosts=3, host_options=BOOT) as pool:
            api = pool.login()
            hosts = api.host.get_all()
            self.assertEqual(len(hosts), 3)
            # Two fit on each host.
            size = int(api.host.compute_free_memory(hosts[0])) * 2 // 5
            vms = [api.VM.create(simulated(f"vm{i}", memory_static_max=size, memory_dynamic_max=size,
                                           memory_dynamic_min=size)) for i in range(6)]
            for vm in vms:
                api.VM.start(vm, False, False)
            homes = [api.VM.get_resident_on(vm) for vm in vms]
            self.assertEqual(sorted(homes.count(h) for h in hosts), [2, 2, 2], "the load is spread")
            for vm in vms:
                api.VM.hard_shutdown(vm)
                for name in ("dynamic_min", "dynamic_max", "static_max"):
                    api.call(f"VM.set_memory_{name}", api.session, vm, 64 << 20)
                api.VM.start(vm, False, False)
            # Affinity wins, a disabled host is left out, a named host is taken at its word.
            api.VM.hard_shutdown(vms[0])
            api.VM.set_affinity(vms[0], hosts[1])
            api.VM.start(vms[0], False, False)
            self.assertEqual(api.VM.get_resident_on(vms[0]), hosts[1])
            api.VM.hard_shutdown(vms[0])
            api.host.disable(hosts[1])
            self.assertEqual(sorted(api.VM.get_possible_hosts(vms[0])), sorted([hosts[0], hosts[2]]))
            api.VM.start(vms[0], False, False)
            self.assertIn(api.VM.get_resident_on(vms[0]), (hosts[0], hosts[2]))
            big = api.VM.create(simulated("big", memory_static_max=2**50, memory_dynamic_max=2**50, memory_dynamic_min=2**50))
            with self.assertRaises(Failure) as caught:
                api.VM.start(big, False, False)
            self.assertEqual((caught.exception.code, caught.exception.params[:0]), ("NO_HOSTS_AVAILABLE", []))
            for host in (hosts[0], hosts[2]):
                api.host.disable(host)
            last = api.VM.create(simulated("last"))
            with self.assertRaises(Failure) as caught:
                api.VM.start(last, False, False)
            self.assertEqual(caught.exception.code, "NO_HOSTS_AVAILABLE")
            for host, code in ((hosts[0], "HOST_DISABLED"), (hosts[1], "HOST_DISABLED")):
                with self.assertRaises(Failure) as caught:
                    api.VM.assert_can_boot_here(last, host)
                self.assertEqual((caught.exception.code, caught.exception.params), (code, [host]))
            # One host dies: its VMs say nothing else until somebody knows better; the others go on.
            dead = next(h for h in pool.hosts if h)
            dead.kill()
            for vm in vms:
                home = api.VM.get_resident_on(vm)
                if api.host.get_uuid(home) not in dead.log():
                    api.VM.hard_shutdown(vm)


class Consoles(Case):
    def open(self, path, headers=()):
        sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
        from websocket import WebSocket
        return WebSocket("127.0.0.1", POOL.port, path, POOL.ca, headers)

    def token(self, console, origin="https://127.0.0.1"):
        status, _, body = POOL.http("POST", "/api/v1/console-tokens", json.dumps({"console": console}).encode(),
                                    {"Authorization": f"Bearer {self.api.session}", "Origin": origin})
        self.assertEqual(status, 201, body)
        return json.loads(body)["token"]

    def console(self, vm, protocol="vt100"):
        return next(c for c in self.api.VM.get_consoles(vm) if self.api.console.get_protocol(c) == protocol)

    def running(self):
        vm = self.make()
        self.api.VM.start(vm, False, False)
        return vm

    def text_of(self, ws, wanted):
        data = b""
        end = time.monotonic() + 15
        while wanted not in data and time.monotonic() < end:
            piece = ws.receive(5)
            if piece == b"":
                break
            data += piece or b""
        return data

    def test_serial_and_screen_by_session(self):
        vm = self.running()
        uuid = self.api.VM.get_uuid(vm)
        serial = self.api.console.get_uuid(self.console(vm))
        ws = self.open(f"/console?uuid={serial}&session_id={self.api.session}")
        self.assertIn(b"simulated guest", self.text_of(ws, b"login:"))
        ws.send(b"hello")
        self.assertIn(b"hello", self.text_of(ws, b"hello"))
        ws.close()
        for path in (f"uuid={uuid}", f"ref={vm}", f"ref={self.console(vm, 'rfb')}"):
            ws = self.open(f"/console?{path}&session_id={self.api.session}")
            self.assertIn(b"RFB 003.", self.text_of(ws, b"RFB 003."))
            ws.close()

    def test_tokens(self):
        vm = self.running()
        console = self.console(vm)
        origin = ["Origin: https://127.0.0.1"]
        token = self.token(console)
        ws = self.open(f"/console?token={token}", origin)
        self.assertIn(b"simulated", self.text_of(ws, b"simulated"))
        ws.close()
        for bad, headers in ((token, origin), (self.token(console), []), (self.token(console), ["Origin: https://evil.example"]),
                             (self.token(console)[:-1], origin), ("", origin)):
            with self.assertRaises(ConnectionError):
                self.open(f"/console?token={bad}", headers)
        # A token that was shown to the wrong origin is used up.
        token = self.token(console)
        with self.assertRaises(ConnectionError):
            self.open(f"/console?token={token}", ["Origin: https://evil.example"])
        with self.assertRaises(ConnectionError):
            self.open(f"/console?token={token}", origin)

    def test_a_token_ends_with_its_session(self):
        vm = self.running()
        leaving = POOL.login()
        status, _, body = POOL.http("POST", "/api/v1/console-tokens", json.dumps({"console": self.console(vm)}).encode(),
                                    {"Authorization": f"Bearer {leaving.session}"})
        token = json.loads(body)["token"]
        leaving.logout()
        with self.assertRaises(ConnectionError):
            self.open(f"/console?token={token}")
        self.assertEqual(status, 201)

    def test_logout_closes_the_open_socket(self):
        vm = self.running()
        leaving = POOL.login()
        serial = self.api.console.get_uuid(self.console(vm))
        ws = self.open(f"/console?uuid={serial}&session_id={leaving.session}")
        self.text_of(ws, b"login:")
        leaving.logout()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if ws.receive(1) == b"":
                break
        else:
            self.fail("the console stays open after the logout")

    def test_a_token_expires(self):
        vm = self.running()
        token = self.token(self.console(vm), "")
        time.sleep(31)
        with self.assertRaises(ConnectionError):
            self.open(f"/console?token={token}")

    def test_a_session_made_for_a_console_ends_with_it(self):
        vm = self.running()

        def sessions():
            return self.api.call("event.from", self.api.session, ["pool"], "", 0.0)["valid_ref_counts"]["session"]
        before = sessions()
        credentials = POOL.basic()["Authorization"]
        ws = self.open(f"/console?ref={vm}", [f"Authorization: {credentials}"])
        self.assertIn(b"RFB", self.text_of(ws, b"RFB"))
        self.assertEqual(sessions(), before + 1)
        ws.close()
        until("end of the session", lambda: sessions() == before)

    def test_shutdown_closes_the_console(self):
        vm = self.running()
        serial = self.api.console.get_uuid(self.console(vm))
        ws = self.open(f"/console?uuid={serial}&session_id={self.api.session}")
        self.text_of(ws, b"login:")
        self.api.VM.hard_shutdown(vm)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if ws.receive(1) == b"":
                return
        self.fail("the console of a halted VM stays open")

    def test_frames_that_are_no_frames(self):
        vm = self.running()
        serial = self.api.console.get_uuid(self.console(vm))
        for junk in (b"\x82\xff" + b"\xff" * 8 + b"\0" * 4, b"\xff\xff", b"\x82\x05hello", b"\x03\x80" + b"\0" * 4,
                     b"\x89\xfe\x01\x00" + b"\0" * 4 + b"x" * 256, struct.pack(">BBQ", 0x82, 0xFF, 2**62)):
            ws = self.open(f"/console?uuid={serial}&session_id={self.api.session}")
            ws.sock.sendall(junk)
            ws.close()
        ws = self.open(f"/console?uuid={serial}&session_id={self.api.session}")
        self.assertIn(b"simulated", self.text_of(ws, b"simulated"))
        ws.close()

    def test_stop_with_open_consoles(self):
        with TestPool(hosts=1, host_options=BOOT) as pool:
            api = pool.login()
            vm = api.VM.create(simulated("x"))
            api.VM.start(vm, False, False)
            sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
            from websocket import WebSocket
            sockets = [WebSocket("127.0.0.1", pool.port, f"/console?ref={vm}&session_id={api.session}", pool.ca)
                       for _ in range(5)]
            started = time.monotonic()
            pool.poold.stop()
            self.assertLess(time.monotonic() - started, 15)
            for ws in sockets:
                ws.close()


def attempt(call):
    try:
        call()
        return True
    except Failure:
        return False


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
