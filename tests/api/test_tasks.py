"""Tasks: Async calls, tasks that clients make, cancelling and clearing away."""
import json
import signal
import sys
import threading
import time
import unittest

from pool import NULL, Failure, TestPool, module_pool, until
from test_events import network_record, vm_record

POOL = API = None


def setUpModule():
    global POOL, API
    POOL = module_pool()
    API = POOL.login()


def asynchronously(method, *params):
    return API.call("Async." + method, API.session, *params)


def end(task, limit_s=20):
    until("end of a task", lambda: API.task.get_status(task) not in ("pending", "cancelling"), limit_s)
    return API.task.get_record(task)


class Async(unittest.TestCase):
    def test_success(self):
        task = asynchronously("VM.create", vm_record("made later"))
        self.assertRegex(task, "^OpaqueRef:")
        record = end(task)
        self.assertEqual((record["status"], record["progress"], record["error_info"], record["name_label"]),
                         ("success", 1.0, [], "Async.VM.create"))
        self.assertEqual((record["type"], record["allowed_operations"], record["current_operations"]), ("<none/>", [], {}))
        self.assertGreaterEqual(record["finished"], record["created"])
        vm = API.VM.get_by_name_label("made later")[0]
        self.assertEqual(record["result"], f"<value>{vm}</value>")
        task2 = asynchronously("VM.destroy", vm)
        self.assertEqual(end(task2)["result"], "<value></value>")
        API.task.destroy(task)
        API.task.destroy(task2)
        with self.assertRaises(Failure) as caught:
            API.task.get_status(task)
        self.assertEqual((caught.exception.code, caught.exception.params), ("HANDLE_INVALID", ["task", task]))

    def test_failure(self):
        task = asynchronously("VM.start", NULL, False, False)
        record = end(task)
        self.assertEqual((record["status"], record["progress"], record["error_info"], record["result"]),
                         ("failure", 1.0, ["HANDLE_INVALID", "VM", NULL], ""))
        API.task.destroy(task)

    def test_what_comes_back_at_once(self):
        for params, code in (((), "MESSAGE_PARAMETER_COUNT_MISMATCH"), ((NULL, 1, 2), "INTERNAL_ERROR"),
                             (("x", False, False), "HANDLE_INVALID")):
            with self.assertRaises(Failure) as caught:
                asynchronously("VM.start", *params)
            self.assertEqual(caught.exception.code, code)
        self.assertEqual([t for t in API.task.get_all_records().values() if t["status"] == "pending"], [])

    def test_returns_at_once(self):
        started = time.monotonic()
        tasks = [asynchronously("VM.create", vm_record("one of many")) for _ in range(50)]
        self.assertLess(time.monotonic() - started, 10)
        for task in tasks:
            self.assertEqual(end(task)["status"], "success")
            API.task.destroy(task)
        for vm in API.VM.get_by_name_label("one of many"):
            API.VM.destroy(vm)

    def test_session_of_a_task(self):
        task = asynchronously("VM.start", NULL, False, False)
        self.assertEqual(end(task)["session"] if "session" in API.task.get_record(task) else API.session, API.session)
        API.task.destroy(task)

    def test_synchronous_calls_leave_no_row(self):
        before = set(API.task.get_all())
        token = API.call("event.from", API.session, ["task"], "", 0.0)["token"]
        vm = API.VM.create(vm_record("x"))
        API.VM.destroy(vm)
        with self.assertRaises(Failure):
            API.VM.start(NULL, False, False)
        self.assertEqual(set(API.task.get_all()), before)
        # Made and gone since the token: not told.
        self.assertEqual(API.call("event.from", API.session, ["task"], token, 0.0)["events"], [])

    def test_a_subscriber_sees_the_end(self):
        task = asynchronously("VM.create", vm_record("watched"))
        token, last = "", None
        deadline = time.monotonic() + 20
        while last != "success" and time.monotonic() < deadline:
            answer = API.call("event.from", API.session, ["task/" + task], token, 5.0)
            token = answer["token"]
            for event in answer["events"]:
                last = event["snapshot"]["status"]
        self.assertEqual(last, "success")
        API.task.destroy(task)


class Clients(unittest.TestCase):
    """Tasks of clients' own."""

    def test_life(self):
        task = API.task.create("label", "description")
        record = API.task.get_record(task)
        self.assertEqual((record["name_label"], record["name_description"], record["status"], record["progress"]),
                         ("label", "description", "pending", 0.0))
        self.assertEqual((record["result"], record["error_info"], record["finished"]), ("", [], "19700101T00:00:00Z"))
        API.task.set_progress(task, 0.5)
        self.assertEqual(API.task.get_progress(task), 0.5)
        API.task.set_error_info(task, ["Z", "A", "A"])
        self.assertEqual(API.task.get_error_info(task), ["Z", "A", "A"])
        API.task.set_result(task, "<value>x</value>")
        API.task.set_status(task, "success")
        record = API.task.get_record(task)
        self.assertEqual((record["status"], record["result"]), ("success", "<value>x</value>"))
        self.assertNotEqual(record["finished"], "19700101T00:00:00Z")
        API.task.destroy(task)

    def test_other_config(self):
        task = API.task.create("x", "")
        API.task.add_to_other_config(task, "k", "v")
        with self.assertRaises(Failure) as caught:
            API.task.add_to_other_config(task, "k", "w")
        self.assertEqual(caught.exception.code, "MAP_DUPLICATE_KEY")
        API.task.set_other_config(task, {"a": "b"})
        API.task.remove_from_other_config(task, "a")
        API.task.remove_from_other_config(task, "a")
        self.assertEqual(API.task.get_other_config(task), {})
        API.task.destroy(task)

    def test_tasks_that_are_gone(self):
        task = API.task.create("x", "")
        API.task.destroy(task)
        for method, *params in (("destroy",), ("cancel",), ("set_progress", 0.5), ("set_status", "success"),
                                ("add_to_other_config", "a", "b"), ("remove_from_other_config", "a"), ("set_other_config", {})):
            with self.assertRaises(Failure) as caught:
                API.call(f"task.{method}", API.session, task, *params)
            self.assertEqual((caught.exception.code, caught.exception.params), ("HANDLE_INVALID", ["task", task]), method)

    def test_cancel_of_one_that_nobody_works_on(self):
        task = API.task.create("x", "")
        API.task.cancel(task)
        API.task.set_status(task, "success")
        API.task.cancel(task)
        self.assertEqual(API.task.get_status(task), "success")
        API.task.destroy(task)

    def test_they_outlive_the_server(self):
        with TestPool() as pool:
            api = pool.login()
            task = api.task.create("x", "")
            pool.restart(crash=True)
            api = pool.login()
            self.assertEqual(api.task.get_status(task), "pending")
            api.task.set_result(task, "<value>x</value>")  # the same user, another session
            api.task.set_status(task, "success")
            pool.restart(crash=True)
            record = pool.login().task.get_record(task)
            self.assertEqual((record["status"], record["progress"], record["result"]), ("success", 1.0, "<value>x</value>"))


class Crowd(unittest.TestCase):
    def test_many_writers_at_once(self):
        """Synchronous and asynchronous calls from many connections: no task is left pending, no mark is left."""
        failures = []

        def work(seed):
            api = POOL.again(API)
            try:
                for n in range(10):
                    vm = api.VM.create(vm_record(f"crowd {seed}"))
                    tasks = [api.call("Async.VM.destroy", api.session, vm) for _ in range(3)]
                    for task in tasks:
                        until("end", lambda t=task: api.task.get_status(t) != "pending")
                    states = sorted(api.task.get_status(t) for t in tasks)
                    assert states == ["failure", "failure", "success"], states
                    for task in tasks:
                        api.task.destroy(task)
            except Exception as failure:  # noqa: BLE001 - reported below
                failures.append(failure)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual([t for t in API.task.get_all_records().values() if t["status"] == "pending"], [])
        for record in API.VM.get_all_records().values():
            self.assertEqual(record["current_operations"], {})

    def test_network_of_one_name(self):
        """The same row from many connections: every add of a key succeeds once."""
        network = API.network.create(network_record("contended"))
        results = []

        def add(api, key):
            try:
                api.network.add_to_other_config(network, key, "x")
                results.append(key)
            except Failure as failure:
                results.append(failure.code)
        for round_number in range(5):
            results.clear()
            threads = [threading.Thread(target=add, args=(POOL.again(API), f"key {round_number}")) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(sorted(results), ["MAP_DUPLICATE_KEY"] * 7 + [f"key {round_number}"])
        API.network.destroy(network)


class OnHosts(unittest.TestCase):
    """Calls that take time, on a simulated host."""

    @classmethod
    def setUpClass(cls):
        cls.pool = TestPool(hosts=1, host_options=["--sim-boot-ms", "50"])
        cls.api = cls.pool.login()

    @classmethod
    def tearDownClass(cls):
        cls.pool.close()

    def make(self, words="sim.ignore_shutdown"):
        vm = self.api.VM.create({**vm_record("vm"), "PV_kernel": "vmlinuz", "PV_args": words, "HVM_boot_policy": ""})
        self.api.VM.start(vm, False, False)
        return vm

    def call(self, method, *params, headers=None):
        """With headers: (status of the answer, result or error)."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": [self.api.session, *params]})
        _, _, answer = self.pool.http("POST", "/jsonrpc", body, {"Content-Type": "application/json", **(headers or {})}, 60)
        answer = json.loads(answer)
        if "error" in answer:
            raise Failure(method, answer["error"]["message"], answer["error"]["data"])
        return answer["result"]

    def asynchronously(self, method, *params):
        return self.api.call("Async." + method, self.api.session, *params)

    def ends(self, task):
        until("end of a task", lambda: self.api.task.get_status(task) != "pending")
        return self.api.task.get_record(task)

    def marked(self, vm, operation):
        until(operation, lambda: operation in self.api.VM.get_current_operations(vm).values())
        return {v: k for k, v in self.api.VM.get_current_operations(vm).items()}[operation]

    def test_a_synchronous_call_has_a_task_while_it_runs(self):
        vm, other = self.make(), self.pool.again(self.api)
        failed = []

        def shut_down():
            try:
                other.VM.clean_shutdown(vm)
            except Failure as failure:
                failed.append(failure.params)
        thread = threading.Thread(target=shut_down)
        thread.start()
        task = self.marked(vm, "clean_shutdown")
        record = self.api.task.get_record(task)
        self.assertEqual((record["name_label"], record["status"], record["type"], record["result"], record["error_info"]),
                         ("VM.clean_shutdown", "pending", "<none/>", "", []))
        self.assertEqual((record["allowed_operations"], record["backtrace"], record["finished"]),
                         (["cancel"], "()", "19700101T00:00:00Z"))
        self.assertEqual(record["resident_on"], self.api.host.get_all()[0])
        self.api.task.cancel(task)
        thread.join(30)
        self.assertEqual(failed, [[task]])
        self.assertNotIn(task, self.api.task.get_all())
        self.assertEqual(self.api.VM.get_power_state(vm), "Running")
        self.api.VM.hard_shutdown(vm)

    def test_cancel(self):
        vm = self.make()
        task = self.asynchronously("VM.clean_shutdown", vm)
        self.marked(vm, "clean_shutdown")
        self.api.task.cancel(task)
        record = self.ends(task)
        self.assertEqual((record["status"], record["error_info"], record["current_operations"], record["progress"]),
                         ("cancelled", ["TASK_CANCELLED", task], {}, 1.0))
        self.assertEqual(record["backtrace"], "(((process poold)(filename VM.clean_shutdown)(line 0)))")
        self.assertEqual(self.api.VM.get_current_operations(vm), {})
        self.api.task.cancel(task)
        self.api.VM.hard_shutdown(vm)

    def test_cancel_shows(self):
        """The event of a cancelled task has its operation, named by a call that has no task of its own."""
        vm = self.make()
        task = self.asynchronously("VM.clean_shutdown", vm)
        self.marked(vm, "clean_shutdown")
        self.pool.hosts[0].signal(signal.SIGSTOP)  # so that it cannot end at once
        try:
            self.api.task.cancel(task)
            operations = self.api.task.get_current_operations(task)
            self.assertEqual(list(operations.values()), ["cancel"])
            self.assertTrue(list(operations)[0].startswith("OpaqueRef:"))
        finally:
            self.pool.hosts[0].signal(signal.SIGCONT)
        self.assertEqual(self.ends(task)["status"], "cancelled")
        self.api.VM.hard_shutdown(vm)

    def test_destroy_of_one_that_runs(self):
        vm = self.make()
        task = self.asynchronously("VM.clean_shutdown", vm)
        self.marked(vm, "clean_shutdown")
        self.api.task.destroy(task)
        self.assertEqual(self.api.task.get_current_operations(task), {"task": "destroy"})
        self.api.VM.hard_shutdown(vm)
        until("it goes", lambda: task not in self.api.task.get_all())

    def test_hard_shutdown_waits_for_what_it_cancels(self):
        vm = self.make()
        task = self.asynchronously("VM.clean_shutdown", vm)
        self.marked(vm, "clean_shutdown")
        self.api.VM.hard_shutdown(vm)
        self.assertEqual(self.api.task.get_status(task), "cancelled")
        self.assertEqual((self.api.VM.get_power_state(vm), self.api.VM.get_current_operations(vm)), ("Halted", {}))

    def test_many_wait_without_threads(self):
        vm = self.make()
        first = self.asynchronously("VM.clean_shutdown", vm)
        self.marked(vm, "clean_shutdown")
        threads = self.pool.poold.threads()
        waiting = [self.asynchronously("VM.pause", vm) for _ in range(200)]
        self.assertEqual({self.api.task.get_status(t) for t in waiting}, {"pending"})
        self.assertEqual(self.api.host.get_all(), self.api.host.get_all(), "others are served")
        self.assertLess(self.pool.poold.threads(), threads + 100)
        for task in waiting[1:]:
            self.api.task.cancel(task)
        self.assertEqual({self.ends(t)["status"] for t in waiting[1:]}, {"cancelled"})
        self.assertEqual(self.api.task.get_status(waiting[0]), "pending")
        self.api.task.cancel(first)
        self.assertEqual(self.ends(waiting[0])["status"], "success")
        self.assertEqual(self.api.VM.get_power_state(vm), "Paused")
        for task in waiting:
            self.api.task.destroy(task)
        self.api.VM.hard_shutdown(vm)

    def test_headers(self):
        vm = self.api.VM.create(vm_record("vm"))
        parent = self.api.task.create("parent", "")
        child = self.call("Async.VM.clone", vm, "child", headers={
            "subtask-of": parent, "User-Agent": "tester/1", "X-Request-Id": "r1", "Cookie": "secret=1", "X-Secret": "s"})
        record = self.ends(child)
        self.assertEqual((record["status"], record["subtask_of"]), ("success", parent))
        self.assertEqual(record["other_config"], {"http:user-agent": "tester/1", "http:x-request-id": "r1"})
        self.assertEqual(self.api.task.get_subtasks(parent), [child])
        own = self.api.task.create("own", "")
        copy = self.call("VM.clone", vm, "adopting", headers={"task-id": own})
        self.assertEqual(self.api.VM.get_name_label(copy), "adopting")
        self.assertEqual(self.api.task.get_status(own), "pending", "whose task it is says what becomes of it")
        self.assertEqual(self.call("InternalAsync.VM.clone", vm, "completing", headers={"task-id": own}), own)
        record = self.ends(own)
        self.assertEqual((record["status"], record["name_label"]), ("success", "own"))
        self.assertEqual(record["result"], f"<value>{self.api.VM.get_by_name_label('completing')[0]}</value>")
        with self.assertRaises(Failure) as caught:
            self.call("VM.clone", vm, "x", headers={"task-id": "OpaqueRef:11111111-2222-4333-8444-555555555555"})
        self.assertEqual(caught.exception.code, "HANDLE_INVALID")

    def test_results_of_all_kinds(self):
        vm = self.api.VM.create(vm_record("a <b> & c"))
        host = self.api.host.get_all()[0]
        for method, params, result in (
                ("VM.get_possible_hosts", [vm], f"<value><array><data><value>{host}</value></data></array></value>"),
                ("VM.assert_can_boot_here", [vm, host], "<value></value>"),
                ("VM.compute_memory_overhead", [vm], r"re:<value>\d+</value>")):
            record = self.ends(self.asynchronously(method, *params))
            self.assertEqual(record["status"], "success", (method, record["error_info"]))
            if result.startswith("re:"):
                self.assertRegex(record["result"], "^" + result[3:] + "$")
            else:
                self.assertEqual(record["result"], result, method)


class Waiting(unittest.TestCase):
    def test_no_longer_than_the_option_says(self):
        with TestPool(hosts=1, host_options=["--sim-boot-ms", "50"], options=["--operation-wait", "0"]) as pool:
            api = pool.login()
            vm = api.VM.create({**vm_record("vm"), "PV_kernel": "vmlinuz", "PV_args": "sim.ignore_shutdown", "HVM_boot_policy": ""})
            api.VM.start(vm, False, False)
            task = api.call("Async.VM.clean_shutdown", api.session, vm)
            until("it runs", lambda: api.VM.get_current_operations(vm))
            with self.assertRaises(Failure) as caught:
                api.VM.pause(vm)
            self.assertEqual((caught.exception.code, caught.exception.params),
                             ("OTHER_OPERATION_IN_PROGRESS", ["VM", vm, "clean_shutdown", task]))
            api.VM.hard_shutdown(vm)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
