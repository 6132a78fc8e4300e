"""Tasks: Async calls, tasks that clients make, cancelling and clearing away."""
import sys
import threading
import time
import unittest

from pool import NULL, Failure, TestPool, until
from test_events import network_record, vm_record

POOL = API = None


def setUpModule():
    global POOL, API
    POOL = TestPool()
    API = POOL.login()


def tearDownModule():
    POOL.close()


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


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
