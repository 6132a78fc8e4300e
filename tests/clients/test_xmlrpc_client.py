"""Python's own XML-RPC client: what it reads is what JSON-RPC says, for every class and message that reads."""
import os
import sys
import unittest
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "api"))

from pool import NULL, TestPool, description, until  # noqa: E402
from test_vm import simulated  # noqa: E402

POOL = API = MODEL = None


class Xml:
    """As XenServer's own Python binding: a session in front, Failure out of a struct."""

    class Failure(Exception):
        pass

    def __init__(self, url):
        self.proxy = xmlrpc.client.ServerProxy(url, allow_none=True)
        self.session = None

    def raw(self, method, *params):
        answer = getattr(self.proxy, method)(*params)
        if answer["Status"] == "Success":
            return answer["Value"]
        raise self.Failure(answer["ErrorDescription"])

    def call(self, method, *params):
        return self.raw(method, self.session, *params)


def setUpModule():
    global POOL, API, MODEL
    MODEL = description()
    POOL = TestPool(hosts=1, host_options=["--sim-boot-ms", "50"])
    API = POOL.login()


def tearDownModule():
    POOL.close()


def as_text(value):
    """A value that JSON-RPC gave, in the form that XML-RPC gives: integers are text, dates have a type."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return [as_text(item) for item in value]
    if isinstance(value, dict):
        return {key: as_text(item) for key, item in value.items()}
    return value


def plain(value):
    if isinstance(value, xmlrpc.client.DateTime):
        return str(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


class Case(unittest.TestCase):
    def setUp(self):
        self.xml = Xml(f"http://127.0.0.1:{POOL.http_port}/RPC2")
        self.addCleanup(self.xml.proxy("close"))
        self.xml.session = self.xml.raw("session.login_with_password", "root", POOL.password, "1.0", "xmlrpc")

    def fails(self, method, *params):
        with self.assertRaises(Xml.Failure) as caught:
            self.xml.raw(method, *params)
        return caught.exception.args[0]


class Sessions(Case):
    def test_log_in_and_out(self):
        for more in ([], ["1.0"], ["1.0", "here"]):
            session = self.xml.raw("session.login_with_password", "root", POOL.password, *more)
            self.assertRegex(session, "^OpaqueRef:[0-9a-f-]{36}$")
            self.assertEqual(self.xml.raw("session.logout", session), "")
            self.assertEqual(self.fails("VM.get_all", session), ["SESSION_INVALID", session])

    def test_wrong_password(self):
        self.assertEqual(self.fails("session.login_with_password", "root", "wrong")[:2],
                         ["SESSION_AUTHENTICATION_FAILED", "root"])

    def test_every_path_that_is_no_door(self):
        for path in ("/", "/RPC2", "/RPC2/", "/xmlrpc", "/anything/else"):
            with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{POOL.http_port}{path}") as proxy:
                self.assertEqual(proxy.VM.get_all(self.xml.session)["Status"], "Success", path)

    def test_over_tls(self):
        import ssl
        context = ssl.create_default_context(cafile=POOL.ca)
        with xmlrpc.client.ServerProxy(f"https://localhost:{POOL.port}", context=context) as proxy:
            self.assertEqual(proxy.VM.get_all(self.xml.session)["Status"], "Success")


class Reads(Case):
    def setUp(self):
        super().setUp()
        self.vm = API.VM.create(simulated("reads & <more>", name_description="\ttab, \"quotes\", ä\U0001f600",
                                          other_config={"k&": "<v>"}, tags=["b", "a"]))
        self.addCleanup(API.VM.destroy, self.vm)

    def test_system(self):
        methods = self.xml.proxy.system.listMethods()
        self.assertEqual(len(methods), len(set(methods)))
        for name in ("VM.start", "session.login_with_password", "event.from", "VM_metrics.get_all_records"):
            self.assertIn(name, methods)
        self.assertEqual(getattr(self.xml.proxy, "system.isAlive:x")("still here"),
                         {"Status": "Success", "Value": "still here"})

    def test_records_of_every_class(self):
        seen = 0
        for cls in MODEL.classes.values():
            if "get_all_records" not in cls.messages or "removed" in cls.messages["get_all_records"].lifecycle:
                continue
            records = API.call(f"{cls.name}.get_all_records", API.session)
            got = self.xml.call(f"{cls.name}.get_all_records")
            self.assertEqual(sorted(got), sorted(records), cls.name)
            for ref, record in records.items():
                if cls.name in ("task", "session"):
                    continue  # of these very calls
                self.assert_same(got[ref], record, f"{cls.name} {ref}")
                seen += 1
        self.assertGreaterEqual(seen, 10)

    def assert_same(self, xml, json, where):
        """Floats keep all their digits; every other value has one text."""
        if isinstance(json, dict):
            self.assertEqual(sorted(xml), sorted(json), where)
            for key, value in json.items():
                self.assert_same(xml[key], value, f"{where}.{key}")
        elif isinstance(json, float):
            self.assertIsInstance(xml, float, where)
            self.assertAlmostEqual(xml, json, delta=abs(json) * 1e-15, msg=where)
        else:
            self.assertEqual(plain(xml), as_text(json), where)

    def test_every_getter_of_a_vm(self):
        record = self.xml.call("VM.get_record", self.vm)
        self.assertEqual(record["name_description"], "\ttab, \"quotes\", ä\U0001f600")
        self.assertIs(record["is_a_template"], False)
        self.assertEqual(record["memory_static_max"], str(API.VM.get_memory_static_max(self.vm)))
        self.assertIsInstance(record["HVM_shadow_multiplier"], float)
        for field in record:
            if "removed" in MODEL.classes["VM"].fields[field].lifecycle:
                self.assertEqual(self.fails(f"VM.get_{field}", self.xml.session, self.vm), ["MESSAGE_REMOVED"], field)
            else:
                self.assertEqual(self.xml.call(f"VM.get_{field}", self.vm), record[field], field)
        date = self.xml.call("VM_metrics.get_start_time", record["metrics"]) if record["metrics"] != NULL else None
        for name in ("VM.get_snapshot_time", "VM_get_snapshot_time"):
            self.assertIsInstance(self.xml.call(name, self.vm), xmlrpc.client.DateTime)
        self.assertTrue(date is None or isinstance(date, xmlrpc.client.DateTime))

    def test_by_name_uuid_and_filter(self):
        uuid = self.xml.call("VM.get_uuid", self.vm)
        self.assertEqual(self.xml.call("VM.get_by_uuid", uuid), self.vm)
        self.assertEqual(self.xml.call("VM.get_by_name_label", "reads & <more>"), [self.vm])
        self.assertEqual(self.xml.call("VM.get_by_name_label", "none"), [])
        self.assertEqual(list(self.xml.call("VM.get_all_records_where", f'field "uuid" = "{uuid}"')), [self.vm])


class Writes(Case):
    def test_values_of_every_kind_go_in(self):
        """Also as this client sends them: whole numbers as <int>, which only fit into 32 bits, or as text."""
        record = {"name_label": "n", "name_description": "", "other_config": {"a": "b"}, "tags": [], "MTU": "1400"}
        network = self.xml.call("network.create", record)
        for method, value, get in (("set_MTU", 1450, "1450"), ("set_MTU", "1460", "1460"),
                                   ("set_name_label", "a<b>&\"'\n\t", "a<b>&\"'\n\t"),
                                   ("set_tags", ["y", "x"], ["x", "y"]), ("set_tags", [], []),
                                   ("set_other_config", {"k<": "v>", "": "e"}, {"k<": "v>", "": "e"}),
                                   ("set_other_config", {}, {}),
                                   ("set_default_locking_mode", "DISABLED", "disabled")):
            self.assertEqual(self.xml.call(f"network.{method}", network, value), "", (method, value))
            field = method[4:]
            got = self.xml.call(f"network.get_{field}", network)
            self.assertEqual(sorted(got) if isinstance(got, list) else got, get, (method, value))
        self.xml.call("network.destroy", network)

    def test_a_record_that_was_read_can_be_given_to_a_constructor(self):
        made = self.xml.call("VM.create", {key: str(value) if isinstance(value, int) and not isinstance(value, bool) else value
                                           for key, value in simulated("first").items()})
        record = self.xml.call("VM.get_record", made)
        record["name_label"] = "second"
        again = self.xml.call("VM.create", record)
        second = self.xml.call("VM.get_record", again)
        self.assertNotEqual(second["uuid"], record["uuid"])
        self.assertEqual(second["memory_static_max"], record["memory_static_max"])
        for vm in (made, again):
            self.xml.call("VM.destroy", vm)

    def test_dates_in_every_form(self):
        pool = self.xml.call("pool.get_all")[0]
        uuid = self.xml.call("pool.get_uuid", pool)
        self.xml.call("message.create", "NAME", "3", "Pool", uuid, "a < b & c")
        for date in (xmlrpc.client.DateTime("20200101T00:00:00"), xmlrpc.client.DateTime("20200101T00:00:00Z"),
                     "20200101T00:00:00Z", "2020-01-01T00:00:00Z", "20200101T02:00:00+02:00"):
            found = self.xml.call("message.get", "Pool", uuid, date)
            self.assertEqual([m["body"] for m in found.values() if m["name"] == "NAME"], ["a < b & c"], date)
        for ref, message in self.xml.call("message.get_all_records").items():
            if message["name"] == "NAME":
                self.xml.call("message.destroy", ref)

    def test_wrong_types(self):
        network = self.xml.call("network.get_all")[0]
        vm = self.xml.call("VM.create", {key: str(value) if isinstance(value, int) and not isinstance(value, bool) else value
                                         for key, value in simulated("wrong").items()})
        for method, params, text in (("VM.set_is_a_template", [vm, "true"], "Expected bool, got 'true'"),
                                     ("VM.set_is_a_template", [vm, 1], "Expected bool, got 'an integer'"),
                                     ("network.set_MTU", [network, "many"], "Expected int, got 'many'"),
                                     ("network.set_MTU", [network, True], "Expected int, got 'true'"),
                                     ("network.set_tags", [network, "x"], "Expected string set, got 'x'"),
                                     ("network.set_other_config", [network, []], None),
                                     ("network.set_name_label", [network, {}], "Expected string, got 'a struct'")):
            code, said = self.fails(method, self.xml.session, *params)
            self.assertEqual(code, "INTERNAL_ERROR", method)
            if text:
                self.assertEqual(said, text)
        self.xml.call("VM.destroy", vm)


class Tasks(Case):
    def test_async(self):
        vm = API.VM.create(simulated("async"))
        self.addCleanup(API.VM.destroy, vm)

        def result(task):
            until("end of the task", lambda: self.xml.call("task.get_status", task) != "pending")
            record = self.xml.call("task.get_record", task)
            self.xml.call("task.destroy", task)
            return record
        done = result(self.xml.call("Async.VM.clone", vm, "a copy"))
        self.assertEqual((done["status"], done["progress"]), ("success", 1.0))
        self.assertRegex(done["result"], "^<value>OpaqueRef:[0-9a-f-]{36}</value>$")
        self.assertIsInstance(done["created"], xmlrpc.client.DateTime)
        copy = done["result"][7:-8]
        done = result(self.xml.call("Async.VM.destroy", copy))
        self.assertEqual((done["status"], done["result"]), ("success", "<value></value>"))
        done = result(self.xml.call("Async.VM.start", copy, False, False))
        self.assertEqual((done["status"], done["error_info"]), ("failure", ["HANDLE_INVALID", "VM", copy]))
        self.assertEqual(self.fails("Async.VM.start", self.xml.session), ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.start", "3", "0"])
        self.assertEqual(self.fails("Async.VM.get_all", self.xml.session),
                         ["Fault", "No async mode for this operation (rpc: VM.get_all)"])


class Events(Case):
    def test_event_from(self):
        first = self.xml.call("event.from", ["*"], "", 0.0)
        self.assertEqual(sorted(first), ["events", "token", "valid_ref_counts"])
        self.assertRegex(first["token"], r"^\d{20},\d{20}$")
        counts = first["valid_ref_counts"]
        self.assertTrue(all(isinstance(count, int) for count in counts.values()), counts)
        self.assertEqual((counts["pool"], counts["host"]), (1, 1))
        for event in first["events"]:
            self.assertEqual(sorted(event), ["class", "id", "operation", "ref", "snapshot", "timestamp"])
            self.assertEqual((event["operation"], event["timestamp"]), ("add", "0.0"))
            self.assertRegex(event["id"], r"^\d+$")
        pool = [event for event in first["events"] if event["class"] == "pool"]
        self.assertEqual([event["snapshot"]["name_label"] for event in pool], [self.xml.call("pool.get_name_label", pool[0]["ref"])])

    def test_changes_and_deletions(self):
        token = self.xml.call("event.from", ["network"], "", 0.0)["token"]
        network = self.xml.call("network.create", {"name_label": "e", "name_description": "", "other_config": {}, "tags": [],
                                                   "MTU": "1500"})
        answer = self.xml.call("event.from", ["Network"], token, 30.0)
        self.assertEqual([(e["operation"], e["ref"], e["snapshot"]["name_label"]) for e in answer["events"]],
                         [("add", network, "e")])
        self.xml.call("network.destroy", network)
        answer = self.xml.call("event.from", [f"network/{network}"], answer["token"], "30")
        self.assertEqual([(e["operation"], e["ref"], "snapshot" in e) for e in answer["events"]], [("del", network, False)])

    def test_inject_and_time_out(self):
        pool = self.xml.call("pool.get_all")[0]
        token = self.xml.call("event.inject", "pool", pool)
        answer = self.xml.call("event.from", ["pool"], token, 30)
        self.assertEqual([e["ref"] for e in answer["events"]], [pool])
        self.assertEqual(self.xml.call("event.from", ["VMPP"], answer["token"], 0.1)["events"], [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
