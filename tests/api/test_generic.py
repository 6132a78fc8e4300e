"""The messages that follow from fields: every one of every class, and what changes of fields mean."""
import sys
import unittest

from pool import NULL, Failure, TestPool, description, module_pool
from coverage import is_built
from test_events import network_record, vm_record

POOL = API = MODEL = None
NO_UUID = "4e5e3a36-2a2d-4c6a-8b4e-000000000000"


def setUpModule():
    global POOL, API, MODEL
    MODEL = description()
    POOL = module_pool(hosts=1)
    API = POOL.login()
    vm = API.VM.create({**vm_record("one"), "tags": ["b", "a"], "other_config": {"k": "v"}})
    template = API.VM.create({**vm_record("template"), "is_a_template": True})
    network = API.network.get_all()[0]
    for owner in (vm, template):
        API.VIF.create({"device": "0", "network": network, "VM": owner, "MAC": "", "MTU": 1500, "other_config": {},
                        "qos_algorithm_type": "", "qos_algorithm_params": {}})
    API.message.create("NAME", 3, "VM", API.VM.get_uuid(vm), "body")
    API.task.create("a task", "with words")


def database_classes():
    return [c for c in MODEL.classes.values() if c.database and c.accessors and "removed" not in c.lifecycle]


def code_of(call, *params):
    try:
        return API.call(call, API.session, *params), None
    except Failure as failure:
        return failure.code, failure.params


class Reads(unittest.TestCase):
    def test_lists_of_every_class(self):
        for cls in database_classes():
            if not cls.get_all:
                continue
            refs = API.call(f"{cls.name}.get_all", API.session)
            records = API.call(f"{cls.name}.get_all_records", API.session)
            self.assertEqual(sorted(refs), sorted(records), cls.name)
            self.assertEqual(API.call(f"{cls.name}.get_all_where", API.session, "true"), refs)
            self.assertEqual(API.call(f"{cls.name}.get_all_records_where", API.session, "true"), records)
            self.assertEqual(API.call(f"{cls.name}.get_all_where", API.session, "false"), [])
            self.assertEqual(API.call(f"{cls.name}.get_all_records_where", API.session, "false"), {})

    def test_every_record_and_getter(self):
        """Each field of the description, in its order, and the getter says the same."""
        seen = 0
        for cls in database_classes():
            public = [f.name for f in cls.fields.values() if not f.internal]
            refs = API.call(f"{cls.name}.get_all", API.session) if cls.get_all else []
            for ref in refs[:2]:
                record = API.call(f"{cls.name}.get_record", API.session, ref)
                self.assertEqual(list(record), public, cls.name)
                for name in public:
                    if "removed" in cls.fields[name].lifecycle:
                        self.assertEqual(code_of(f"{cls.name}.get_{name}", ref), ("MESSAGE_REMOVED", []))
                        continue
                    self.assertEqual(API.call(f"{cls.name}.get_{name}", API.session, ref), record[name], f"{cls.name}.{name}")
                    seen += 1
                if "uuid" in record:
                    self.assertEqual(API.call(f"{cls.name}.get_by_uuid", API.session, record["uuid"]), ref)
                if "get_by_name_label" in cls.messages:
                    self.assertIn(ref, API.call(f"{cls.name}.get_by_name_label", API.session, record["name_label"]))
        self.assertGreater(seen, 150)

    def test_nonsense_to_every_read(self):
        for cls in database_classes():
            for name, message in cls.messages.items():
                if "removed" in message.lifecycle:
                    continue
                if message.kind in ("GET_RECORD", "GETTER"):
                    self.assertEqual(code_of(f"{cls.name}.{name}", NULL), ("HANDLE_INVALID", [cls.name, NULL]), name)
                elif message.kind == "GET_BY_UUID":
                    self.assertEqual(code_of(f"{cls.name}.{name}", NO_UUID), ("UUID_INVALID", [cls.name, NO_UUID]))
                elif message.kind == "GET_BY_NAME_LABEL":
                    self.assertEqual(code_of(f"{cls.name}.{name}", "no such name"), ([], None))
                elif message.kind in ("GET_ALL_WHERE", "GET_ALL_RECORDS_WHERE"):
                    self.assertEqual(code_of(f"{cls.name}.{name}", "field \"nonsense\" = \"x\"")[0], "INVALID_VALUE")

    def test_filters(self):
        def found(expr):
            return {r["name_label"] for r in API.VM.get_all_records_where(expr).values() if not r["is_control_domain"]}
        one = API.VM.get_by_name_label("one")[0]
        self.assertEqual(found('field "is_a_template" = "true"'), {"template"})
        self.assertEqual(found('not field "is_a_template" = "true"'), {"one"})
        self.assertEqual(found('field "name__label" = "one"'), {"one"})
        self.assertEqual(found('field "name_label" = "one"'), {"one"})
        self.assertEqual(found(f'field "_ref" = "{one}"'), {"one"})
        self.assertEqual(found('field "VCPUs__max" = "1" and field "power_state" = "Halted"'), {"one", "template"})
        self.assertEqual(found('field "power_state" = "halted"'), set())
        self.assertEqual(found("field \"tags\" = \"('a' 'b')\""), {"one"})
        self.assertEqual(found('field "tags" = "()"'), {"template"})
        self.assertEqual(found('field "blocked_operations" = "()"'), {"one", "template"})
        self.assertEqual(found('"x" = "x"'), {"one", "template"})
        self.assertEqual(found('(field "name__label" = "one" or field "name__label" = "template") and true'), {"one", "template"})
        for bad in ("", "x", "field", 'field "x"', '"x"', '"x" =', '= "x"', '"x" = "y', "true true", "(true", "true)", "and",
                    "not", "true and", "true or", 'field name__label = "x"', "'x' = 'x'", "(" * 100 + "true" + ")" * 100,
                    "not " * 100 + "true", "true\x01", "TRUE", "truefalse", "x" * 70000):
            self.assertEqual(code_of("VM.get_all_records_where", bad)[0], "INVALID_VALUE", bad[:50])
        self.assertEqual(found(" or ".join(["true"] * 8000)), {"one", "template"})
        self.assertEqual(found("not " * 62 + "true"), {"one", "template"})


class Changes(unittest.TestCase):
    def setUp(self):
        self.network = API.network.create(network_record("changes"))

    def tearDown(self):
        API.network.destroy(self.network)

    def test_set(self):
        API.network.set_name_label(self.network, "x")
        self.assertEqual(API.network.get_name_label(self.network), "x")
        self.assertEqual(API.network.get_by_name_label("x"), [self.network])
        API.network.set_name_label(self.network, "x")
        API.network.set_MTU(self.network, 9000)
        self.assertEqual(API.network.get_MTU(self.network), 9000)

    def test_maps(self):
        other = [API, "network.add_to_other_config"]
        API.network.add_to_other_config(self.network, "a", "1")
        self.assertEqual(code_of(other[1], self.network, "a", "2"),
                         ("MAP_DUPLICATE_KEY", ["network", "other_config", self.network, "a"]))
        self.assertEqual(code_of(other[1], self.network, "a", "1")[0], "MAP_DUPLICATE_KEY")
        API.network.add_to_other_config(self.network, "", "")
        self.assertEqual(API.network.get_other_config(self.network), {"": "", "a": "1"})
        API.network.remove_from_other_config(self.network, "a")
        API.network.remove_from_other_config(self.network, "a")
        API.network.remove_from_other_config(self.network, "never there")
        self.assertEqual(API.network.get_other_config(self.network), {"": ""})
        API.network.set_other_config(self.network, {"z": "1", "b": "2"})
        self.assertEqual(API.network.get_other_config(self.network), {"b": "2", "z": "1"})
        API.network.set_other_config(self.network, {})
        self.assertEqual(API.network.get_other_config(self.network), {})

    def test_sets(self):
        API.network.add_tags(self.network, "x")
        API.network.add_tags(self.network, "x")
        self.assertEqual(API.network.get_tags(self.network), ["x"])
        API.network.remove_tags(self.network, "y")
        API.network.remove_tags(self.network, "x")
        API.network.remove_tags(self.network, "x")
        self.assertEqual(API.network.get_tags(self.network), [])
        API.network.set_tags(self.network, ["b", "a", "b", ""])
        self.assertEqual(sorted(API.network.get_tags(self.network)), ["", "a", "b"])

    def test_a_map_keyed_by_an_enum(self):
        vm = API.VM.create(vm_record("blocked"))
        API.VM.add_to_blocked_operations(vm, "start", "because")
        self.assertEqual(API.VM.get_blocked_operations(vm), {"start": "because"})
        self.assertNotIn("start", API.VM.get_allowed_operations(vm))
        self.assertEqual(code_of("VM.add_to_blocked_operations", vm, "START", "x")[0], "MAP_DUPLICATE_KEY")
        self.assertEqual(code_of("VM.add_to_blocked_operations", vm, "nonsense", "x")[0], "INTERNAL_ERROR")
        self.assertEqual(code_of("VM.set_blocked_operations", vm, {"nonsense": "x"})[0], "INTERNAL_ERROR")
        self.assertEqual(code_of("VM.start", vm, False, False), ("OPERATION_BLOCKED", [vm, "because"]))
        API.VM.remove_from_blocked_operations(vm, "start")
        self.assertIn("start", API.VM.get_allowed_operations(vm))
        API.VM.destroy(vm)

    def test_references_have_to_name_something(self):
        pool = API.pool.get_all()[0]
        for bad in ("OpaqueRef:" + NO_UUID, self.network):
            self.assertEqual(code_of("pool.set_default_SR", pool, bad), ("HANDLE_INVALID", ["SR", bad]))
        API.pool.set_default_SR(pool, NULL)
        API.pool.set_default_SR(pool, "")
        self.assertEqual(API.pool.get_default_SR(pool), NULL)

    def test_of_objects_that_are_gone(self):
        gone = API.network.create(network_record("gone"))
        API.network.destroy(gone)
        for call, *params in (("get_record",), ("get_name_label",), ("set_name_label", "x"), ("add_tags", "x"), ("remove_tags", "x"),
                              ("set_other_config", {}), ("add_to_other_config", "a", "b"), ("remove_from_other_config", "a"),
                              ("destroy",)):
            self.assertEqual(code_of(f"network.{call}", gone, *params), ("HANDLE_INVALID", ["network", gone]), call)

    def test_a_refused_change_changes_nothing(self):
        before = API.call("event.from", API.session, ["*"], "", 0.0)
        code_of("network.set_name_label", NULL, "x")
        code_of("network.add_to_other_config", self.network, "a", 1)
        code_of("VM.create", {"name_label": "x"})
        code_of("VIF.create", {"device": "0", "network": NULL, "VM": NULL, "MAC": "", "MTU": 1500, "other_config": {},
                               "qos_algorithm_type": "", "qos_algorithm_params": {}})
        after = API.call("event.from", API.session, ["*"], before["token"], 0.0)
        self.assertEqual([e for e in after["events"] if e["class"] not in ("task", "host", "host_metrics")], [])


class Everything(unittest.TestCase):
    def value(self, t):
        if t.kind == "TYPE_REF":
            return NULL
        if t.kind == "TYPE_ENUM":
            return MODEL.enums[t.enum][0]
        return {"TYPE_STRING": "x", "TYPE_INT": 1, "TYPE_FLOAT": 0.0, "TYPE_BOOL": False, "TYPE_DATETIME": "20200101T00:00:00Z",
                "TYPE_SET": [], "TYPE_MAP": {}, "TYPE_RECORD": {}, "TYPE_OPTION": None, "TYPE_VOID": ""}[t.kind]

    def test_every_message_answers(self):
        """Plausible arguments that name nothing: a declared error or a value, never a crash, from both forms."""
        codes = {}
        known = set(MODEL.errors) | {"Fault"}
        for cls in MODEL.classes.values():
            for name, message in cls.messages.items():
                if (cls.name, name) in (("session", "logout"), ("session", "change_password"), ("host", "shutdown_agent")):
                    continue
                params = [self.value(p.type) for p in message.params]
                for form in ("", "Async."):
                    names = [] if "NO_SESSION" in message.flags else [API.session]
                    if not names and form == "":
                        continue  # logins: their own tests
                    try:
                        API.call(f"{form}{cls.name}.{name}", *names, *params)
                    except Failure as failure:
                        codes[failure.code] = codes.get(failure.code, 0) + 1
                        self.assertIn(failure.code, known, f"{form}{cls.name}.{name}")
                        self.assertNotEqual(failure.code, "MESSAGE_PARAMETER_COUNT_MISMATCH", name)
                        if failure.code == "NOT_IMPLEMENTED":
                            self.assertEqual(failure.params, [f"{cls.name}.{name}"])
                            self.assertFalse(is_built(message), f"{form}{cls.name}.{name} is built and says that it is not")
        self.assertGreater(codes["HANDLE_INVALID"], 500)
        self.assertEqual(len(API.pool.get_all()), 1)

    def test_every_message_counts_its_parameters(self):
        for cls in MODEL.classes.values():
            for name, message in cls.messages.items():
                if {"NO_SESSION", "POOL_INTERNAL"} & message.flags or "removed" in message.lifecycle:
                    continue
                required = sum(not p.optional for p in message.params)
                wrong = {required - 1} if required else set()
                if required == len(message.params):
                    wrong.add(required + 1)
                for count in wrong:
                    self.assertEqual(code_of(f"{cls.name}.{name}", *[None] * count),
                                     ("MESSAGE_PARAMETER_COUNT_MISMATCH", [f"{cls.name}.{name}", str(required), str(count)]))


class ZRestart(unittest.TestCase):
    def test_everything_is_the_same_after_a_restart(self):
        """Also allowed_operations, which are not on disk."""
        self.maxDiff = 2000
        pool = TestPool()
        with pool:
            api = pool.login()
            network = api.network.get_all()[0]
            api.VIF.create({"device": "3", "network": network, "VM": api.VM.create(vm_record("x")), "MAC": "", "MTU": 1500,
                            "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}})
            classes = [c.name for c in database_classes() if c.persist and c.get_all]
            for crash in (False, True):
                before = {c: api.call(f"{c}.get_all_records", api.session) for c in classes}
                pool.restart(crash)
                api = pool.login()
                for cls in classes:
                    self.assertEqual(api.call(f"{cls}.get_all_records", api.session), before[cls])


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
