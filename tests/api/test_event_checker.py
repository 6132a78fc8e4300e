"""Proof of events: subscribers that check every answer against what they know, during random load, restarts, kill -9
and slow reading. What an answer may say follows from the state at its token alone:

 - `add` of what was not there, `mod` and `del` of what was: no gap, no missed delete;
 - one event an object, of changes after the token asked for and up to the one given: no duplicate per token;
 - as many objects as valid_ref_counts says; messages, adds, mods, dels in this order;
 - in the end the state put together from events is what get_all_records shows.

CORRAL_CHECK_SECONDS=600 makes the load last longer than the few seconds of a usual run; CORRAL_CHECK_SEED repeats one.
"""
import http.client
import json
import os
import random
import sys
import threading
import time
import unittest
import xmlrpc.client

from pool import Failure, TestPool, description, until, xenapi
from test_events import network_record, vm_record

SECONDS = float(os.environ.get("CORRAL_CHECK_SECONDS", "10"))
SEED = int(os.environ.get("CORRAL_CHECK_SEED", str(random.randrange(10**6))))
CLASSES = ["VM", "VM_metrics", "VIF", "network", "blob", "message", "task", "pool", "secret", "VM_appliance"]
GROUPS = ["add", "mod", "del"]
LOST = (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError)


class Wrong(AssertionError):
    """An answer that cannot be true."""


# ---- codecs: each gives call(method, *params) ----

class Json:
    def __init__(self, pool):
        # Not one of the pool's: those are closed under their users when it stops.
        self.api = xenapi.Pool(f"http://127.0.0.1:{pool.http_port}", pool.ca, 30)

    def call(self, method, *params):
        try:
            return self.api.call(method, *params)
        except Failure as failure:
            if failure.code == "HTTP" and failure.params[0] == 503:
                raise OSError("the server is stopping") from None
            raise

    def close(self):
        self.api.close()


class Xml:
    def __init__(self, pool):
        self.proxy = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{pool.http_port}/", allow_none=True)

    def call(self, method, *params):
        answer = getattr(self.proxy, method)(*params)
        if answer["Status"] != "Success":
            code, *rest = answer["ErrorDescription"]
            raise Failure(method, code, rest)
        return answer["Value"]

    def close(self):
        self.proxy("close")()


class Slow:
    """JSON, read a little at a time."""

    def __init__(self, pool):
        self.pool = pool

    def call(self, method, *params):
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()
        with self.pool.connect() as sock:
            sock.sendall(b"POST /jsonrpc HTTP/1.0\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            data = b""
            while chunk := sock.recv(8192):
                data += chunk
                time.sleep(0.002)
        head, _, text = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.") or b" 200 " not in head.split(b"\r\n")[0] or not text:
            raise OSError("no answer")
        try:
            message = json.loads(text)
        except ValueError:
            raise OSError("half an answer") from None
        if message.get("error"):
            raise Failure(method, message["error"]["message"], message["error"]["data"])
        return message["result"]

    def close(self):
        pass


# ---- a pool that is restarted under its users ----

class Server:
    def __init__(self, pool):
        self.pool = pool
        self.up = threading.Event()
        self.up.set()
        self.over = threading.Event()
        self.failures = []

    def session(self, codec):
        """A codec with a session; waits while the server is away. None when all is over."""
        while not self.over.is_set():
            self.up.wait(1)
            user = codec(self.pool)
            try:
                return user, user.call("session.login_with_password", "root", self.pool.password, "1.0", "checker")
            except LOST:
                user.close()
                time.sleep(0.05)
            except Failure as failure:
                user.close()
                if failure.code not in ("INTERNAL_ERROR",):
                    raise
                time.sleep(0.05)
        return None, None

    def run(self, work):
        """A thread whose failures the test sees."""
        def guarded():
            try:
                work()
            except BaseException as failure:  # noqa: BLE001 - told by the main thread
                self.failures.append(failure)
                self.over.set()
        thread = threading.Thread(target=guarded)
        thread.start()
        return thread


# ---- subscribers ----

class Subscriber:
    """Knows the state at its token, and nothing else."""

    def __init__(self, server, codec, classes, seed, pause_s=0.0):
        self.server, self.codec, self.classes, self.pause_s = server, codec, classes, pause_s
        self.rng = random.Random(seed)
        self.user = self.session = None
        self.token, self.known = "", {}
        self.answers = self.events = self.lost = self.replays = 0

    def connect(self):
        if self.user:
            self.user.close()
        self.user, self.session = self.server.session(self.codec)

    def ask(self, token, timeout):
        started = time.monotonic()
        answer = self.user.call("event.from", self.session, self.classes, token, timeout)
        if not answer["events"] and time.monotonic() - started < timeout - 0.1:
            raise Wrong(f"nothing, and {timeout} s are not over")
        return answer

    @staticmethod
    def check_form(answer, token):
        number = int(token.split(",")[0]) if token else 0
        upto = int(answer["token"].split(",")[0])
        if answer["token"] < token:
            raise Wrong(f"token {answer['token']} after {token}")
        events = answer["events"]
        refs = [e["ref"] for e in events]
        if len(set(refs)) != len(refs):
            raise Wrong(f"an object twice: {sorted(r for r in refs if refs.count(r) > 1)}")
        order = [0 if e["class"] == "message" else 1 + GROUPS.index(e["operation"]) for e in events]
        if order != sorted(order):
            raise Wrong(f"order of events: {order}")
        for event in events:
            if not number < int(event["id"]) <= upto:
                raise Wrong(f"event {event['id']} between {number} and {upto}")
            if (event["operation"] == "del") == ("snapshot" in event):
                raise Wrong(f"{event['operation']} with or without its record")

    def apply(self, answer):
        for event in answer["events"]:
            there = event["ref"] in self.known
            if there != (event["operation"] != "add"):
                raise Wrong(f"{event['operation']} of {event['class']} {event['ref']}, which was {'' if there else 'not '}there")
            if event["operation"] == "del":
                del self.known[event["ref"]]
            else:
                self.known[event["ref"]] = (event["class"], event["snapshot"])
        for name in {c.lower() for c in self.classes}:
            count = sum(cls == name for cls, _ in self.known.values())
            if count != answer["valid_ref_counts"][name]:
                raise Wrong(f"{count} of {name} known, there are {answer['valid_ref_counts'][name]}")

    def replay(self, old):
        """From an earlier token: whatever changed since has to be in it, so the same state comes out."""
        token, known = old
        answer = self.ask(token, 0.0)
        self.check_form(answer, token)
        for event in answer["events"]:
            if (event["ref"] in known) != (event["operation"] != "add"):
                raise Wrong(f"replay: {event['operation']} of {event['class']} {event['ref']}")
        self.replays += 1
        self.token, self.known = token, dict(known)
        self.apply(answer)
        self.token = answer["token"]

    def step(self, timeout):
        answer = self.ask(self.token, timeout)
        self.check_form(answer, self.token)
        self.apply(answer)
        self.token = answer["token"]
        self.answers += 1
        self.events += len(answer["events"])
        return len(answer["events"])

    def follow(self):
        self.connect()
        old = ("", {})
        while not self.server.over.is_set() and self.user:
            try:
                what = self.rng.random()
                if what < 0.1 and old[0]:
                    self.replay(old)
                else:
                    self.step(self.rng.choice((0.0, 0.02, 0.3, 1.0)))
                if what > 0.7:
                    old = (self.token, dict(self.known))
                time.sleep(self.pause_s * self.rng.random())
            except LOST:
                self.connect()
            except Failure as failure:
                if failure.code == "EVENTS_LOST":  # told so: it starts anew
                    self.lost += 1
                    self.token, self.known, old = "", {}, ("", {})
                elif failure.code in ("SESSION_INVALID", "INTERNAL_ERROR"):
                    self.connect()
                else:
                    raise

    def catch_up(self):
        """After the load: nothing more comes, and the state is the pool's."""
        while self.step(0.0):
            pass
        wanted = {}
        names = {name.lower(): name for name in description().classes}
        for cls in (names[c.lower()] for c in self.classes):
            for ref, record in self.user.call(f"{cls}.get_all_records", self.session).items():
                wanted[ref] = (cls.lower(), record)
        return wanted


class Old:
    """event.register and event.next: reads the state, then follows. Events may repeat what was just read."""

    def __init__(self, server, classes):
        self.server, self.classes = server, classes
        self.user = self.session = None
        self.known, self.last_id, self.events = {}, None, 0
        self.marker = None

    def begin(self):
        if self.user:
            self.user.close()
        self.user, self.session = self.server.session(Json)
        if not self.user:
            return
        self.user.call("event.register", self.session, self.classes)
        self.known, self.last_id = {}, None
        for cls in self.classes:
            self.known.update(self.user.call(f"{cls}.get_all_records", self.session))

    def follow(self):
        self.begin()
        while self.user:
            try:
                for event in self.user.call("event.next", self.session):
                    if self.last_id is not None and int(event["id"]) != self.last_id + 1:
                        raise Wrong(f"event {event['id']} after {self.last_id}")
                    self.last_id = int(event["id"])
                    self.events += 1
                    if event["operation"] == "del":
                        self.known.pop(event["ref"], None)
                    else:
                        self.known[event["ref"]] = event["snapshot"]
                    if event["operation"] == "add" and event["snapshot"].get("name_label") == self.marker:
                        return
            except LOST:
                self.begin()
            except Failure as failure:
                if failure.code not in ("SESSION_INVALID", "INTERNAL_ERROR"):
                    raise
                self.begin()


# ---- load ----

class Writer:
    """Makes, changes and destroys objects of several classes. Owns what it made; after a restart it looks again."""

    def __init__(self, server, seed):
        self.server, self.rng = server, random.Random(seed)
        self.name = f"writer {seed}"
        self.calls = 0

    def call(self, method, *params):
        self.calls += 1
        return self.user.call(method, self.session, *params)

    def own(self, cls):
        """References of what this one made, a look at the names of all."""
        records = self.call(f"{cls}.get_all_records")
        return [r for r, record in records.items() if record.get("name_label", record.get("name")) == self.name]

    def pick(self, cls):
        if not self.mine[cls]:
            self.mine[cls].append(self.make(cls))
        return self.rng.choice(self.mine[cls])

    def make(self, cls):
        if cls == "VM":
            return self.call("VM.create", vm_record(self.name))
        if cls == "network":
            return self.call("network.create", network_record(self.name))
        if cls == "task":
            return self.call("task.create", self.name, "")
        if cls == "blob":
            ref = self.call("blob.create", "x/y")
            self.call("blob.set_name_label", ref, self.name)
            return ref
        vm = self.pick("VM")
        return self.call("message.create", self.name, 3, "VM", self.call("VM.get_uuid", vm), "body")

    def destroy(self, cls):
        if len(self.mine[cls]) < 3:
            return
        ref = self.mine[cls].pop(self.rng.randrange(len(self.mine[cls])))
        if cls == "network":
            for vif in self.call("network.get_VIFs", ref):
                self.call("VIF.destroy", vif)
        self.call(f"{cls}.destroy", ref)

    def add_vif(self):
        vm, network = self.pick("VM"), self.pick("network")
        free = self.call("VM.get_allowed_VIF_devices", vm)
        if free:
            self.call("VIF.create", {"device": free[0], "network": network, "VM": vm, "MAC": "", "MTU": 1500,
                                     "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}})

    def change(self):
        cls = self.rng.choice(("VM", "network", "blob", "task"))
        ref = self.pick(cls)
        text = str(self.rng.random())
        if cls == "task":
            self.call("task.set_progress", ref, self.rng.random())
        else:
            self.call(f"{cls}.set_name_description", ref, text)
            if cls == "VM":
                self.call("VM.set_other_config", ref, {text: text})

    def come_and_go(self):
        """Within the blink of an eye: most subscribers are never told."""
        cls = self.rng.choice(("VM", "network", "task", "blob"))
        self.call(f"{cls}.destroy", self.make(cls))

    def step(self):
        what = self.rng.random()
        if what < 0.25:
            cls = self.rng.choice(("VM", "network", "blob", "message", "task"))
            if len(self.mine[cls]) < 12:
                self.mine[cls].append(self.make(cls))
        elif what < 0.45:
            self.destroy(self.rng.choice(("VM", "network", "blob", "message", "task")))
        elif what < 0.55:
            self.add_vif()
        elif what < 0.65:
            self.come_and_go()
        elif what < 0.68:
            self.call("event.inject", "network", self.pick("network"))
        else:
            self.change()

    def begin(self):
        self.user, self.session = self.server.session(Json)
        if self.user:
            self.mine = {cls: self.own(cls) for cls in ("VM", "network", "blob", "message", "task")}

    def work(self):
        self.user = None
        while not self.server.over.is_set():
            try:
                if not self.user:
                    self.begin()
                else:
                    self.step()
            except LOST:
                self.user = None
            except Failure as failure:
                # What another call or a crash got at first: an object that is gone, a name that came back.
                if failure.code not in ("HANDLE_INVALID", "SESSION_INVALID", "INTERNAL_ERROR", "UUID_INVALID"):
                    raise
                self.user = None


def enough(subscribers, old):
    return all(s.answers > 3 and s.events > 20 for s in subscribers) and old.events > 20


class OfTheChecker(unittest.TestCase):
    """It notices each way in which an answer can be wrong."""

    def event(self, generation, operation, ref, cls="network"):
        event = {"id": str(generation), "timestamp": "0.0", "class": cls, "operation": operation, "ref": ref}
        return event if operation == "del" else {**event, "snapshot": {"uuid": ref}}

    def judge(self, events, count, token=20):
        """What a subscriber that knows a and b at generation 10 says."""
        subscriber = Subscriber(None, Json, ["network"], 0)
        subscriber.known = {ref: ("network", {}) for ref in "ab"}
        answer = {"events": events, "valid_ref_counts": {"network": count}, "token": f"{token:020},{token:020}"}
        subscriber.check_form(answer, f"{10:020},{10:020}")
        subscriber.apply(answer)

    def test_good_answers(self):
        e = self.event
        for events, count in (([], 2), ([e(11, "add", "c")], 3), ([e(20, "mod", "a")], 2), ([e(15, "del", "b")], 1),
                              ([e(18, "add", "c"), e(12, "mod", "a"), e(11, "del", "b")], 2)):
            self.judge(events, count)

    def test_bad_answers(self):
        e = self.event
        no_record = e(11, "add", "c")
        del no_record["snapshot"]
        for what, events, count, token in (
                ("a missed addition", [], 3, 20), ("a missed delete", [], 1, 20), ("an addition of what is there", [e(11, "add", "a")], 3, 20),
                ("a change of what is not there", [e(11, "mod", "c")], 2, 20), ("a delete of what is not there", [e(11, "del", "c")], 2, 20),
                ("an object twice", [e(11, "mod", "a"), e(12, "mod", "a")], 2, 20),
                ("added and deleted", [e(11, "add", "c"), e(12, "del", "c")], 2, 20),
                ("a change from before", [e(10, "mod", "a")], 2, 20), ("a change from later", [e(21, "mod", "a")], 2, 20),
                ("deletes before changes", [e(11, "del", "b"), e(12, "mod", "a")], 1, 20),
                ("messages behind others", [e(11, "add", "c"), e(12, "add", "m", "message")], 3, 20),
                ("a token that goes back", [], 2, 9), ("no record", [no_record], 3, 20)):
            with self.assertRaises(Wrong, msg=what):
                self.judge(events, count, token)


class Checker(unittest.TestCase):
    maxDiff = 4000

    def test_random_load_restarts_and_slow_readers(self):
        print(f"seed {SEED}, {SECONDS:g} s", file=sys.stderr)
        known = set(description().classes)
        classes = [c for c in CLASSES if c in known]
        rng = random.Random(SEED)
        with TestPool() as pool:
            server = Server(pool)
            subscribers = [Subscriber(server, Json, classes, SEED + 1), Subscriber(server, Json, classes, SEED + 2, 0.3),
                           Subscriber(server, Xml, classes, SEED + 3), Subscriber(server, Slow, classes, SEED + 4),
                           Subscriber(server, Json, ["task"], SEED + 5), Subscriber(server, Xml, ["vm", "ViF"], SEED + 6, 1.0)]
            old = Old(server, ["network", "blob"])
            old.marker = f"marker {SEED}"
            writers = [Writer(server, SEED + n) for n in range(3)]
            threads = [server.run(s.follow) for s in subscribers] + [server.run(w.work) for w in writers]
            old_thread = server.run(old.follow)
            rounds = max(3, int(SECONDS / 20))
            for n in range(rounds):
                server.over.wait(SECONDS / rounds)
                if server.over.is_set() or n == rounds - 1:
                    break
                server.up.clear()
                pool.restart(crash=n % 2 == 0 or rng.random() < 0.5)
                server.up.set()
            until("everyone was told enough", lambda: server.over.is_set() or enough(subscribers, old), 200)
            server.over.set()
            for thread in threads:
                thread.join(60)
                self.assertFalse(thread.is_alive())
            api = pool.login()
            marker = api.network.create(network_record(old.marker))
            old_thread.join(60)
            self.assertEqual([repr(f) for f in server.failures], [])
            self.assertFalse(old_thread.is_alive())
            server.over.clear()
            for subscriber in subscribers:
                subscriber.connect()
                wanted = subscriber.catch_up()
                self.assertEqual(subscriber.known, wanted)
            wanted = {**api.network.get_all_records(), **api.blob.get_all_records()}
            self.assertEqual(old.known, wanted)
            told = ", ".join(f"{s.codec.__name__} {s.answers}/{s.events}/{s.replays}/{s.lost}" for s in subscribers)
            print(f"{sum(w.calls for w in writers)} calls; answers/events/replays/lost: {told}; next: {old.events}",
                  file=sys.stderr)
            api.network.destroy(marker)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
