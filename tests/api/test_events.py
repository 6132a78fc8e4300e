"""event.from and event.inject: what a subscriber is told, and that it is never told too little."""
import os
import random
import sys
import threading
import time
import unittest

from pool import NULL, Failure, TestPool, module_pool, until

POOL = API = None


def setUpModule():
    global POOL, API
    POOL = module_pool()
    API = POOL.login()


def events(api, classes, token="", timeout=0.0):
    return api.call("event.from", api.session, classes, token, timeout)


def network_record(name):
    return {"name_label": name, "name_description": "", "other_config": {}}


class Events(unittest.TestCase):
    def setUp(self):
        self.api = API
        self.made = []

    def tearDown(self):
        for ref in self.made:
            try:
                self.api.network.destroy(ref)
            except Failure:
                pass

    def make(self, name="n"):
        ref = self.api.network.create(network_record(name))
        self.made.append(ref)
        return ref

    def token(self, classes=("network",)):
        return events(self.api, list(classes))["token"]

    def test_first_answer_tells_everything(self):
        answer = events(self.api, ["*"])
        self.assertEqual(sorted(answer), ["events", "token", "valid_ref_counts"])
        seen = {e["ref"]: e for e in answer["events"]}
        for cls in ("pool", "network", "SM"):
            for ref, record in getattr(self.api, cls).get_all_records().items():
                event = seen[ref]
                self.assertEqual((event["operation"], event["class"], event["snapshot"]), ("add", cls.lower(), record))
                self.assertEqual(event["timestamp"], "0.0")
                self.assertIsInstance(event["id"], str)
        self.assertNotIn("session", {e["class"] for e in answer["events"]})
        self.assertEqual(answer["valid_ref_counts"]["pool"], 1)
        self.assertEqual(answer["valid_ref_counts"]["network"], len(self.api.network.get_all()))

    def test_key_order_of_an_event(self):
        event = events(self.api, ["pool"])["events"][0]
        self.assertEqual(list(event), ["id", "timestamp", "class", "operation", "ref", "snapshot"])

    def test_token_form(self):
        token = self.token()
        self.assertRegex(token, r"^\d{20},\d{20}$")
        later = self.make() and self.token()
        self.assertGreater(later, token)

    def test_bad_tokens(self):
        good = self.token()
        for bad in ("x", "1", "1,1", good[:-1], good + "0", good.replace(",", ";"), " " + good[1:], "-" + good[1:], good[:21],
                    "9" * 20 + "," + "9" * 20, "٠" * 20 + ",1", good + "\n"):
            with self.assertRaises(Failure) as caught:
                events(self.api, ["network"], bad)
            self.assertEqual((caught.exception.code, caught.exception.params), ("EVENT_FROM_TOKEN_PARSE_FAILURE", [bad]))

    def test_token_of_the_future_is_harmless(self):
        self.assertEqual(events(self.api, ["network"], "0" * 12 + "9" * 8 + "," + "0" * 20)["events"], [])

    def test_add_mod_del(self):
        token = self.token()
        ref = self.make("a")
        answer = events(self.api, ["network"], token)
        self.assertEqual([(e["operation"], e["ref"]) for e in answer["events"]], [("add", ref)])
        self.api.network.set_name_label(ref, "b")
        answer = events(self.api, ["network"], answer["token"])
        self.assertEqual([(e["operation"], e["ref"], e["snapshot"]["name_label"]) for e in answer["events"]],
                         [("mod", ref, "b")])
        self.api.network.destroy(ref)
        answer = events(self.api, ["network"], answer["token"])
        self.assertEqual([(e["operation"], e["ref"]) for e in answer["events"]], [("del", ref)])
        self.assertNotIn("snapshot", answer["events"][0])
        self.assertEqual(events(self.api, ["network"], answer["token"])["events"], [])

    def test_coalescing(self):
        token = self.token()
        changed = self.make("changed")
        gone = self.make("gone")
        self.api.network.set_name_label(changed, "1")
        self.api.network.set_name_label(changed, "2")
        self.api.network.destroy(gone)
        answer = events(self.api, ["network"], token)
        self.assertEqual([(e["operation"], e["ref"], e["snapshot"]["name_label"]) for e in answer["events"]],
                         [("add", changed, "2")])
        token = answer["token"]
        self.api.network.set_name_label(changed, "3")
        self.api.network.destroy(changed)
        answer = events(self.api, ["network"], token)
        self.assertEqual([(e["operation"], e["ref"]) for e in answer["events"]], [("del", changed)])

    def test_order_messages_adds_mods_dels(self):
        old = self.make("old")
        going = self.make("going")
        token = self.token(["network", "message"])
        self.api.network.destroy(going)
        self.api.network.set_name_label(old, "new name")
        new = self.make("new")
        pool = self.api.pool.get_all_records()
        message = self.api.message.create("X", 5, "Pool", next(iter(pool.values()))["uuid"], "body")
        answer = events(self.api, ["network", "message"], token)
        self.assertEqual([(e["operation"], e["ref"]) for e in answer["events"]],
                         [("add", message), ("add", new), ("mod", old), ("del", going)])
        self.api.message.destroy(message)
        answer = events(self.api, ["message"], answer["token"])
        self.assertEqual([(e["operation"], e["ref"]) for e in answer["events"]], [("del", message)])

    def test_linked_changes(self):
        network = self.make()
        vm = self.api.VM.create(vm_record("linked"))
        token = self.token(["VM", "network", "VIF"])
        vif = self.api.VIF.create({"device": "0", "network": network, "VM": vm, "MAC": "", "MTU": 1500, "other_config": {},
                                   "qos_algorithm_type": "", "qos_algorithm_params": {}})
        got = {(e["class"], e["operation"], e["ref"]) for e in events(self.api, ["VM", "network", "VIF"], token)["events"]}
        self.assertEqual(got, {("vif", "add", vif), ("vm", "mod", vm), ("network", "mod", network)})
        token = self.token(["VM", "network", "VIF"])
        self.api.VIF.destroy(vif)
        got = {(e["class"], e["operation"], e["ref"]) for e in events(self.api, ["VM", "network", "VIF"], token)["events"]}
        self.assertEqual(got, {("vif", "del", vif), ("vm", "mod", vm), ("network", "mod", network)})
        self.api.VM.destroy(vm)

    def test_subscriptions(self):
        one, two = self.make("one"), self.make("two")
        token = self.token()
        self.api.network.set_name_label(one, "1")
        self.api.network.set_name_label(two, "2")
        for classes, wanted in ((["NETWORK"], {one, two}), (["Network/" + one], {one}), (["network/" + two], {two}),
                                (["network/" + one, "network/" + two], {one, two}), (["*"], {one, two}),
                                (["pool", "network/" + one], {one}), (["network/" + one, "network"], {one, two}),
                                (["nosuch"], set()), (["nosuch/" + one], set()), (["pool/" + one], set()), ([], set()),
                                (["VMPP", "crashdump"], set()), (["network/x"], set()), (["network/" + NULL], set())):
            got = {e["ref"] for e in events(self.api, classes, token)["events"] if e["class"] == "network"}
            self.assertEqual(got, wanted, classes)

    def test_bad_subscriptions(self):
        for bad in ("", "/", "/x", "VM/", "VM/a/b", "*/"):
            with self.assertRaises(Failure) as caught:
                events(self.api, [bad])
            self.assertEqual((caught.exception.code, caught.exception.params), ("EVENT_SUBSCRIPTION_PARSE_FAILURE", [bad]))

    def test_secret_classes_are_not_told(self):
        for cls in ("session", "secret", "user", "event"):
            self.assertEqual(events(self.api, [cls])["events"], [])

    def test_timeouts(self):
        token = self.token()
        for timeout in (0, 0.0, 0.4, 1):
            started = time.monotonic()
            answer = events(self.api, ["network"], token, timeout)
            took = time.monotonic() - started
            self.assertEqual(answer["events"], [])
            self.assertGreaterEqual(answer["token"], token)
            self.assertGreaterEqual(took, timeout - 0.01)

    def test_a_change_wakes(self):
        token = self.token()
        for timeout in (3000.0, -1.0, 1e300):
            got = []
            other = POOL.again(self.api)
            thread = threading.Thread(target=lambda t=timeout: got.append(events(other, ["network"], token, t)))
            thread.start()
            until("a waiting subscriber", lambda: waiting(POOL) or time.sleep(0.2) or True)
            ref = self.make()
            thread.join(60)
            self.assertEqual([e["ref"] for e in got[0]["events"]], [ref])
            token = got[0]["token"]

    def test_other_classes_do_not_wake(self):
        token = self.token(["VM"])
        done = threading.Event()
        other = POOL.again(self.api)
        thread = threading.Thread(target=lambda: (events(other, ["VM"], token, 3000.0), done.set()))
        thread.start()
        for _ in range(20):
            self.make()
        self.assertFalse(done.is_set())
        vm = self.api.VM.create(vm_record("wakes"))
        thread.join(60)
        self.assertTrue(done.is_set())
        self.api.VM.destroy(vm)

    def test_several_at_once_in_one_session(self):
        token = self.token()
        got = []
        threads = []
        for _ in range(5):
            other = POOL.again(self.api)
            threads.append(threading.Thread(target=lambda c=other: got.append(events(c, ["network"], token, 20.0))))
            threads[-1].start()
        time.sleep(0.2)
        ref = self.make()
        for thread in threads:
            thread.join(60)
        self.assertEqual([[e["ref"] for e in answer["events"]] for answer in got], [[ref]] * 5)

    def test_inject(self):
        pool = self.api.pool.get_all()[0]
        token = self.api.event.inject("pool", pool)
        answer = events(self.api, ["pool"], token)
        self.assertEqual([(e["operation"], e["ref"]) for e in answer["events"]], [("mod", pool)])
        for cls, ref in (("Pool", pool), ("pool", NULL), ("VM", pool), ("nosuch", pool), ("pool", "x"), ("event", pool)):
            with self.assertRaises(Failure) as caught:
                self.api.event.inject(cls, ref)
            self.assertEqual((caught.exception.code, caught.exception.params), ("HANDLE_INVALID", [cls, ref]))

    def test_logout_wakes(self):
        for _ in range(5):
            leaving = POOL.login()
            token = self.token()
            failures = []

            def wait(client):
                try:
                    events(client, ["network"], token, 60.0)
                except Failure as failure:
                    failures.append((failure.code, failure.params))
            threads = [threading.Thread(target=wait, args=(POOL.again(leaving),)) for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(random.random() / 5)
            gone = leaving.session
            leaving.logout()
            for thread in threads:
                thread.join(60)
                self.assertFalse(thread.is_alive())
            self.assertEqual(failures, [("SESSION_INVALID", [gone])] * 4)

    def test_logout_among_changes_wakes(self):
        """A subscriber that is just being looked at when its session ends must not fall asleep again."""
        stop = threading.Event()
        writer = POOL.again(self.api)
        ref = self.make()

        def write():
            while not stop.is_set():
                writer.network.set_name_label(ref, str(random.random()))
        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(8):
                leaving = POOL.login()
                clients = [POOL.again(leaving) for _ in range(6)]
                ended = []

                def wait(client):
                    try:
                        # One object that never changes, in a class that changes all the time.
                        events(client, ["network/" + NULL[:10] + "4e5e3a36-2a2d-4c6a-8b4e-000000000000"],
                               "0" * 19 + "1," + "0" * 20, 60.0)
                    except Failure as failure:
                        ended.append(failure.code)
                threads = [threading.Thread(target=wait, args=(c,)) for c in clients]
                for waiter in threads:
                    waiter.start()
                time.sleep(0.05)
                leaving.logout()
                for waiter in threads:
                    waiter.join(60)
                    self.assertFalse(waiter.is_alive(), "a subscriber sleeps on after its session ended")
                self.assertEqual(ended, ["SESSION_INVALID"] * 6)
        finally:
            stop.set()
            thread.join()

    def test_subscriber_that_goes_away(self):
        token = self.token()
        import json
        for _ in range(20):
            with POOL.connect() as sock:
                body = json.dumps({"jsonrpc": "2.0", "method": "event.from", "id": 1,
                                   "params": [self.api.session, ["network"], token, 3600.0]}).encode()
                sock.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        self.make()
        self.assertEqual(len(events(self.api, ["network"], token)["events"]), 1)


class Batching(unittest.TestCase):
    """Answers to one session leave some time apart; the first after a pause leaves at once."""

    def count_answers(self, classes, change, changes=30):
        """How many answers tell of a quick row of changes."""
        api = POOL.login()
        token = events(api, classes)["token"]
        done = threading.Event()

        def write():
            writer = POOL.again(API)
            for i in range(changes):
                change(writer, i)
            done.set()
        thread = threading.Thread(target=write)
        thread.start()
        answers = 0
        started = time.monotonic()
        while True:
            over = done.is_set()
            answer = events(api, classes, token, 0.5)
            token = answer["token"]
            answers += bool(answer["events"])
            if over and not answer["events"]:
                break
        took = time.monotonic() - started
        thread.join()
        api.logout()
        return answers, took

    def test_a_stream_of_changes_comes_in_batches(self):
        network = API.network.create(network_record("batched"))
        answers, took = self.count_answers([f"network/{network}"],
                                           lambda w, i: w.network.set_name_description(network, str(i)))
        API.network.destroy(network)
        self.assertLessEqual(answers, took / 0.05 + 2)
        self.assertGreaterEqual(answers, 1)

    def test_tasks_are_told_at_once(self):
        """Two changes shortly after another, told one by one although the window of the first is open."""
        api = POOL.login()
        token = events(api, ["task"])["token"]
        other = POOL.again(api)
        for i in range(5):
            got = []
            thread = threading.Thread(target=lambda t=token: got.append(events(other, ["task"], t, 20.0)))
            thread.start()
            task = API.task.create(str(i), "")
            thread.join()
            self.assertEqual([e["ref"] for e in got[0]["events"]], [task])
            token = got[0]["token"]
            API.task.destroy(task)
            token = events(api, ["task"], token, 5.0)["token"]

    def test_forms_of_the_timeout(self):
        token = events(API, ["network"])["token"]
        for timeout in (0, 0.0, "0", "0.0", 0.01, "0.01"):
            self.assertEqual(events(API, ["network"], token, timeout)["events"], [], timeout)
        for bad in ("", "x", None, [], {}, True, "1 "):
            with self.assertRaises(Failure) as caught:
                events(API, ["network"], token, bad)
            self.assertEqual(caught.exception.code, "INTERNAL_ERROR", bad)


class Legacy(unittest.TestCase):
    """event.register, unregister and next."""

    def setUp(self):
        self.api = POOL.login()
        self.made = []

    def tearDown(self):
        self.api.logout()
        for ref in self.made:
            API.network.destroy(ref)

    def make(self, name):
        self.made.append(API.network.create(network_record(name)))
        return self.made[-1]

    def assert_not_registered(self):
        with self.assertRaises(Failure) as caught:
            self.api.event.next()
        self.assertEqual((caught.exception.code, caught.exception.params), ("SESSION_NOT_REGISTERED", [self.api.session]))

    def test_unregistered(self):
        self.assert_not_registered()
        self.api.event.unregister(["*"])
        self.api.event.register([])
        self.assert_not_registered()

    def test_next_tells_what_happened_since(self):
        first = self.make("before")
        self.api.event.register(["Network"])
        second = self.make("second")
        API.network.set_name_label(first, "changed")
        gone = API.network.create(network_record("gone"))
        API.network.destroy(gone)
        got = self.api.event.next()
        self.assertEqual([(e["operation"], e["ref"]) for e in got], [("add", second), ("mod", first)])
        self.assertEqual(list(got[0]), ["id", "timestamp", "class", "operation", "ref", "snapshot"])
        self.assertEqual({e["class"] for e in got}, {"network"})
        self.assertRegex(got[0]["timestamp"], r"^\d{10}\.$")
        self.assertEqual(got[1]["snapshot"], API.network.get_record(first))
        API.network.destroy(self.made.pop())
        more = self.api.event.next()
        self.assertEqual([(e["operation"], e["ref"]) for e in more], [("del", second)])
        self.assertNotIn("snapshot", more[0])
        ids = [int(e["id"]) for e in got + more]
        self.assertEqual(ids, list(range(ids[0], ids[0] + 3)))

    def test_next_waits(self):
        self.api.event.register(["network", "pool/" + NULL])
        self.api.event.unregister(["POOL/" + NULL])
        got = []
        other = POOL.again(self.api)
        thread = threading.Thread(target=lambda: got.extend(other.event.next()))
        thread.start()
        API.VM.destroy(API.VM.create(vm_record("not told")))
        ref = self.make("told")
        thread.join(60)
        self.assertEqual([e["ref"] for e in got], [ref])

    def test_a_class_registered_while_it_waits(self):
        self.api.event.register(["VM"])
        got = []
        other = POOL.again(self.api)
        thread = threading.Thread(target=lambda: got.extend(other.event.next()))
        thread.start()
        self.api.event.register(["network"])
        ref = self.make("told")
        thread.join(60)
        self.assertEqual([e["ref"] for e in got], [ref])

    def test_unregistering_ends_the_wait(self):
        self.api.event.register(["*", "VM"])
        self.api.event.unregister(["*"])
        codes = []

        def wait():
            try:
                POOL.again(self.api).event.next()
            except Failure as failure:
                codes.append(failure.code)
        thread = threading.Thread(target=wait)
        thread.start()
        self.make("not told")
        self.assertEqual(codes, [])
        self.api.event.unregister(["vm"])
        thread.join(60)
        self.assertEqual(codes, ["SESSION_NOT_REGISTERED"])
        self.assert_not_registered()

    def test_logout_ends_the_wait(self):
        leaving = POOL.login()
        leaving.event.register(["VM"])
        codes = []

        def wait(client):
            try:
                client.event.next()
            except Failure as failure:
                codes.append(failure.code)
        thread = threading.Thread(target=wait, args=(POOL.again(leaving),))
        thread.start()
        leaving.logout()
        thread.join(60)
        self.assertEqual(codes, ["SESSION_INVALID"])

    def test_bad_words(self):
        for call in (self.api.event.register, self.api.event.unregister):
            for bad in ("", "a/b/c", "VM/"):
                with self.assertRaises(Failure) as caught:
                    call(["VM", bad])
                self.assertEqual((caught.exception.code, caught.exception.params), ("EVENT_SUBSCRIPTION_PARSE_FAILURE", [bad]))
        self.assert_not_registered()
        with self.assertRaises(Failure) as caught:
            self.api.event.register([f"class{i}" for i in range(5000)])
        self.assertEqual(caught.exception.code, "INVALID_VALUE")


class XmlRpc(unittest.TestCase):
    """The bytes of the other codec: numbers are text, but for the tagged ones of valid_ref_counts."""

    def call(self, method, params):
        body = f"<methodCall><methodName>{method}</methodName><params>{params}</params></methodCall>"
        status, _, answer = POOL.http("POST", "/", body.encode(), {"Content-Type": "text/xml"})
        self.assertEqual(status, 200)
        return answer.decode()

    def test_bytes_of_from(self):
        ref = API.network.create(network_record("<xml> & co"))
        text = self.call("event.from", f"<param><value>{API.session}</value></param><param><value><array><data>"
                         f"<value>network/{ref}</value></data></array></value></param><param><value/></param>"
                         "<param><value><double>0.0</double></value></param>")
        self.assertRegex(text, r"<member><name>events</name><value><array><data><value><struct><member><name>id</name>"
                         r"<value>\d+</value></member><member><name>timestamp</name><value>0.0</value></member>"
                         r"<member><name>class</name><value>network</value></member><member><name>operation</name>"
                         r"<value>add</value></member><member><name>ref</name><value>" + ref + r"</value></member>"
                         r"<member><name>snapshot</name><value><struct><member><name>uuid</name>")
        self.assertIn("<member><name>name_label</name><value>&lt;xml&gt; &amp; co</value></member>", text)
        count = len(API.network.get_all())
        self.assertIn(f"<member><name>network</name><value><i4>{count}</i4></value></member>", text)
        self.assertRegex(text, r"<member><name>token</name><value>\d{20},\d{20}</value></member></struct></value>")
        token = text.split("<name>token</name><value>")[1].split("<")[0]
        API.network.destroy(ref)
        for timeout in ("<int>0</int>", "<i4>0</i4>", "0", "<string>0.0</string>", "<double>0</double>"):
            text = self.call("event.from", f"<param><value>{API.session}</value></param><param><value><array><data>"
                             f"<value>network</value></data></array></value></param><param><value>{token}</value></param>"
                             f"<param><value>{timeout}</value></param>")
            self.assertIn(f"<name>operation</name><value>del</value></member><member><name>ref</name><value>{ref}</value>"
                          "</member></struct></value></data></array></value></member>", text, timeout)

    def test_bytes_of_next(self):
        api = POOL.login()
        api.event.register(["network"])
        ref = API.network.create(network_record("n"))
        text = self.call("event.next", f"<param><value>{api.session}</value></param>")
        self.assertRegex(text, r"<name>Value</name><value><array><data><value><struct><member><name>id</name><value>\d+"
                         r"</value></member><member><name>timestamp</name><value>\d{10}\.</value></member>")
        self.assertIn("</struct></value></data></array></value>", text)
        API.network.destroy(ref)
        api.logout()


class Heartbeat(unittest.TestCase):
    def test_the_pool_is_touched_in_memory_only(self):
        with TestPool(options=["--event-heartbeat", "1"]) as pool:
            api = pool.login()
            ref = api.pool.get_all()[0]
            token = events(api, ["pool"])["token"]
            before = os.stat(os.path.join(pool.state, "pool.db-wal")).st_mtime_ns
            for _ in range(2):
                answer = events(api, ["pool"], token, 30.0)
                self.assertEqual([(e["operation"], e["ref"]) for e in answer["events"]], [("mod", ref)])
                token = answer["token"]
            self.assertEqual(os.stat(os.path.join(pool.state, "pool.db-wal")).st_mtime_ns, before)


class Many(unittest.TestCase):
    def test_200_subscribers_cost_no_thread(self):
        network = API.network.get_all()[0]
        token = events(API, ["network"])["token"]
        API.network.set_name_label(network, API.network.get_name_label(network) + ".")  # the worker pool has its thread
        token = events(API, ["network"], token)["token"]
        import json
        before = POOL.poold.threads()
        socks = []
        body = json.dumps({"jsonrpc": "2.0", "method": "event.from", "id": 1,
                           "params": [API.session, ["network"], token, 60.0]}).encode()
        for _ in range(200):
            sock = POOL.connect()
            sock.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            socks.append(sock)
        self.assertEqual(API.VM.get_all(), [])
        self.assertLessEqual(POOL.poold.threads(), before + 1)
        API.network.set_name_label(network, "told to all")
        for sock in socks:
            data = b""
            while b'"token"' not in data:
                more = sock.recv(65536)
                self.assertTrue(more)
                data += more
            self.assertIn(b"told to all", data)
            sock.close()


class Restart(unittest.TestCase):
    """Tokens outlive the server."""

    def test_tokens_across_restarts(self):
        with TestPool() as pool:
            for crash in (False, True):
                api = pool.login()
                kept, changed, gone = (api.network.create(network_record(n)) for n in ("kept", "changed", "gone"))
                token = events(api, ["network"])["token"]
                api.network.set_name_label(changed, "later")
                api.network.destroy(gone)
                new = api.network.create(network_record("new"))
                pool.restart(crash)
                api = pool.login()
                answer = events(api, ["network"], token)
                got = {(e["operation"], e["ref"]) for e in answer["events"] if e["ref"] in (kept, changed, gone, new)}
                # What is kept in memory only begins anew, so `kept` may count as modified.
                self.assertEqual(got - {("mod", kept)}, {("add", new), ("mod", changed), ("del", gone)})
                self.assertGreater(answer["token"], token)
                last = api.network.create(network_record("last"))
                answer = events(api, ["network"], answer["token"])
                self.assertEqual([(e["operation"], e["ref"]) for e in answer["events"]], [("add", last)])

    def test_kill_9_misses_no_delete(self):
        """A random history, killed at random: what the subscriber has is what there is."""
        rng = random.Random(7)
        with TestPool() as pool:
            known = {}
            token = ""
            for _ in range(4):
                api = pool.login()
                stop = threading.Event()
                writer = pool.login()

                def write():
                    mine = []
                    try:
                        while not stop.is_set():
                            what = rng.random()
                            if what < 0.4 or not mine:
                                mine.append(writer.network.create(network_record(str(what))))
                            elif what < 0.7:
                                writer.network.set_name_description(rng.choice(mine), str(what))
                            else:
                                writer.network.destroy(mine.pop(rng.randrange(len(mine))))
                    except (OSError, Failure, ValueError, Exception):  # noqa: BLE001 - the server is killed under it
                        return
                thread = threading.Thread(target=write)
                thread.start()
                end = time.monotonic() + 0.7
                while time.monotonic() < end:
                    answer = events(api, ["network"], token, 0.2)
                    apply(known, answer)
                    token = answer["token"]
                pool.kill()
                stop.set()
                thread.join()
                pool.start()
            api = pool.login()
            answer = events(api, ["network"], token)
            apply(known, answer)
            self.assertEqual(known, api.network.get_all_records())


class Model(unittest.TestCase):
    """The state rebuilt from events is the state that get_all_records shows."""

    CLASSES = ["VM", "VIF", "network", "pool", "message", "VM_metrics"]

    def test_random_load(self):
        stop = threading.Event()
        failures = []

        def write(seed):
            rng = random.Random(seed)
            api = POOL.again(API)
            vms, networks = [], []
            try:
                while not stop.is_set():
                    what = rng.randrange(8)
                    if what == 0 or not vms:
                        vms.append(api.VM.create(vm_record(f"vm {rng.random()}")))
                    elif what == 1 or not networks:
                        networks.append(api.network.create(network_record("n")))
                    elif what == 2:
                        api.VM.set_name_label(rng.choice(vms), str(rng.random()))
                    elif what == 3:
                        api.VM.add_to_other_config(rng.choice(vms), str(rng.random()), "x")
                    elif what in (4, 5):
                        devices = api.VM.get_allowed_VIF_devices(vms[-1])
                        if devices:
                            api.VIF.create({"device": devices[0], "network": rng.choice(networks), "VM": vms[-1], "MAC": "",
                                            "MTU": 1500, "other_config": {}, "qos_algorithm_type": "",
                                            "qos_algorithm_params": {}})
                    elif what == 6 and len(vms) > 3:
                        api.VM.destroy(vms.pop(rng.randrange(len(vms))))
                    elif what == 7 and len(networks) > 3:
                        for vif in api.network.get_VIFs(networks[0]):
                            api.VIF.destroy(vif)
                        api.network.destroy(networks.pop(0))
                for vm in vms:
                    api.VM.destroy(vm)
                for network in networks:
                    api.network.destroy(network)
            except Exception as failure:  # noqa: BLE001 - reported by the main thread
                failures.append(failure)

        threads = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        known, token = {}, ""
        reader = POOL.again(API)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            answer = events(reader, self.CLASSES, token, 1.0)
            apply(known, answer)
            token = answer["token"]
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        apply(known, events(reader, self.CLASSES, token))
        wanted = {}
        for cls in self.CLASSES:
            wanted.update(getattr(reader, cls).get_all_records())
        self.maxDiff = 3000
        self.assertEqual(known, wanted)


def apply(known, answer):
    for event in answer["events"]:
        if event["operation"] == "del":
            known.pop(event["ref"], None)
        else:
            known[event["ref"]] = event["snapshot"]


def waiting(pool):
    return "event" in pool.poold.log()[-100:]


def vm_record(name):
    return {"name_label": name, "name_description": "", "user_version": 1, "is_a_template": False, "affinity": NULL,
            "memory_static_max": 2**28, "memory_dynamic_max": 2**28, "memory_dynamic_min": 2**28, "memory_static_min": 0,
            "VCPUs_params": {}, "VCPUs_max": 1, "VCPUs_at_startup": 1, "actions_after_shutdown": "destroy",
            "actions_after_reboot": "restart", "actions_after_crash": "destroy", "PV_bootloader": "", "PV_kernel": "",
            "PV_ramdisk": "", "PV_args": "", "PV_bootloader_args": "", "PV_legacy_args": "", "HVM_boot_policy": "BIOS order",
            "HVM_boot_params": {"order": "cd"}, "platform": {}, "PCI_bus": "", "other_config": {}, "recommendations": ""}


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
