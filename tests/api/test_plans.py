"""Plans: what they say is what the call then says, and planning changes nothing: no row, no file, no word to an agent."""
import hashlib
import os
import random
import re
import sqlite3
import threading
import unittest

from pool import NULL, module_pool, until
from test_rest import API, NO_SUCH, Rest
from vms import MIB, record

SEED = os.environ.get("CORRAL_PLANS_SEED", "1")
# What the server asks agents by itself.
OWN_CALLS = {"events_wait", "operation_get", "operation_list", "host_facts", "host_stats", "host_interfaces", "domain_list", "domain_stats"}
# Tables with rows that change by themselves.
RESTLESS = {"_meta", "_tombstone", "task", "session", "host_metrics", "PIF_metrics", "VM_metrics", "VM_guest_metrics"}
REFERENCE = re.compile(r"^The uuid of an? (\w+), or null\.$")
CLASSES = {}  # collection of each class


def setUpModule():
    Plans.pool = module_pool(hosts=2, host_options=("--sim-boot-ms", "50"),
                             options=["--rate-limit", "100000", "--rate-burst", "100000"])
    Plans.api = Plans.pool.login()
    Plans.rest = Rest(Plans.pool, Plans.api.session)
    Plans.described = Plans.rest.get("/openapi.json")
    for path in Plans.described["paths"]:
        collection = re.fullmatch(API + r"/(\w+)/\{uuid\}", path)
        if collection:
            shown = Plans.described["paths"][path].get("get", {}).get("operationId", "").partition("_")[2]
            CLASSES[shown] = collection[1]


class Plans(unittest.TestCase):
    pool = api = rest = described = None

    # ---- looking ----

    def plan(self, method, path, body=None):
        status, _, told = self.rest.request(method, path, body, plan="true")
        self.assertEqual(status, 200, (method, path, body, told))
        self.assertEqual(told["possible"], not told["reasons"])
        return told

    def call(self, method, path, body=None):
        """(code, params) of the refusal; None: it was done."""
        status, _, answer = self.rest.request(method, path, body, wait="30")
        if status == 202:
            self.fail(f"{method} {path} {body} takes too long")
        return None if status < 300 else (answer.get("code", status), answer.get("params", answer.get("detail")))

    def rows(self):
        """Every row on disk, but for those that change by themselves."""
        with sqlite3.connect(f"file:{os.path.join(self.pool.state, 'pool.db')}?mode=ro", uri=True) as base:
            tables = [name for name, in base.execute("select name from sqlite_master where type = 'table'")]
            return {name: sorted(map(repr, base.execute(f'select * from "{name}"'))) for name in tables if name not in RESTLESS}

    def files(self):
        found = {}
        for folder, _, names in os.walk(self.pool.state):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not re.search(r"pool\.db|/rrd|audit|trail", path):
                    with open(path, "rb") as file:
                        found[path] = hashlib.sha256(file.read()).hexdigest()
        return found

    def agent_calls(self):
        return sorted((host.name, name) for host in self.pool.hosts
                      for name in re.findall(r"debug http: called call=(\w+)", host.log()) if name not in OWN_CALLS)

    def connections(self):
        """How often agents were reached: each time they are asked what they have."""
        return self.pool.poold.log().count("the agent answers")

    def world(self):
        return {"rows": self.rows(), "files": self.files(), "agents": (self.connections(), self.agent_calls())}

    def assert_same(self, before, after):
        for what in before:
            if what == "agents":
                if before[what][0] == after[what][0]:
                    self.assertEqual(before[what][1], after[what][1])
                continue
            for name in sorted(set(before[what]) | set(after[what])):
                self.assertEqual(before[what].get(name), after[what].get(name), name)

    # ---- things to plan with ----

    def vm(self, name, **more):
        ref = self.api.VM.create(record(name, **more))
        return ref, self.api.VM.get_uuid(ref)

    def furnish(self):
        """Something of every class that can be had."""
        api, host = self.api, self.api.host.get_all()[0]
        for each in api.host.get_all():
            api.host.enable(each)
        number = len(api.VM.get_all())
        place = os.path.join(self.pool.folder, f"disks-{number}")
        sr = api.SR.create(host, {"location": place}, 0, f"disks {number}", "", "file", "user", False, {})
        vdis = [api.VDI.create({"SR": sr, "virtual_size": MIB, "type": "user", "sharable": False, "read_only": False, "other_config": {}})
                for _ in range(3)]
        network = api.network.create({"name_label": f"net {number}", "other_config": {}})
        drive = {"bootable": False, "mode": "RW", "type": "Disk", "unpluggable": True, "empty": False, "other_config": {},
                 "qos_algorithm_type": "", "qos_algorithm_params": {}}
        vms = [self.vm(f"vm {number} {i}")[0] for i in range(4)]
        for vm, vdi in zip(vms, vdis):
            api.VBD.create({**drive, "VM": vm, "VDI": vdi, "userdevice": "0"})
            api.VIF.create({"device": "0", "network": network, "VM": vm, "MAC": "", "MTU": 1500, "other_config": {},
                            "qos_algorithm_type": "", "qos_algorithm_params": {}})
        api.VM.start(vms[0], False, False)
        api.VM.start(vms[1], True, False)
        api.VM.snapshot(vms[2], "snap")
        api.VM.set_is_a_template(vms[3], True)
        pif = next(ref for ref, pif in api.PIF.get_all_records().items() if pif["physical"] and pif["host"] == host)
        api.pool.create_VLAN_from_PIF(pif, network, 100 + number)
        api.VM_appliance.create({"name_label": "app", "name_description": ""})
        api.VMSS.create({"name_label": "sched", "name_description": "", "enabled": True, "type": "snapshot", "retained_snapshots": 1,
                         "frequency": "daily", "schedule": {"hour": "1", "min": "0"}})
        api.secret.create({"value": "s", "other_config": {}})
        api.message.create("note", 3, "VM", api.VM.get_uuid(vms[0]), "x")
        api.VTPM.create(vms[2], False)
        api.user.create({"short_name": f"user{number}", "fullname": "", "other_config": {}})
        api.subject.create({"subject_identifier": f"sid-{number}", "other_config": {}})
        api.blob.create("text/plain", False)
        api.task.create("mine", "")
        until("the guest is up", lambda: "clean_shutdown" in api.VM.get_allowed_operations(vms[0]))
        token = ""
        while True:
            seen = api.call("event.from", api.session, ["*"], token, 1.0)
            if token and not self.changes(seen):
                break
            token = seen["token"]

    @staticmethod
    def changes(seen):
        """Events of what does not change by itself."""
        return [e for e in seen["events"] if e["class"] not in {name.lower() for name in RESTLESS}]

    def uuids(self, collection):
        status, _, answer = self.rest.request("GET", f"/{collection}", fields="uuid", limit="50")
        return [item["uuid"] for item in answer["items"]] if status == 200 else []

    def follow(self, schema):
        while "$ref" in schema:
            schema = self.described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema

    def value(self, chance, schema, good):
        """One that the type allows; not good: perhaps none that makes sense, or of another type."""
        schema = self.follow(schema)
        if not good and chance.random() < 0.3:
            return chance.choice([None, -1, 1 << 62, "", "no such thing", NO_SUCH, [], {}, [7], {"a": 1}, True, 0.5])
        named = REFERENCE.match(schema.get("description", ""))
        if named:
            there = self.uuids(CLASSES.get(named[1], "vms"))
            return chance.choice(there) if there else None
        kind = schema.get("type")
        kind = kind[0] if isinstance(kind, list) else kind
        if "enum" in schema:
            return chance.choice(schema["enum"])
        if kind == "array":
            return [self.value(chance, schema["items"], good) for _ in range(chance.choice([0, 1, 2]))]
        if kind == "object" and "properties" in schema:
            return self.body(chance, schema, good)
        if kind == "object":
            return {chance.choice(["a", "b"]): self.value(chance, schema["additionalProperties"], good)} if chance.random() < 0.4 \
                and isinstance(schema.get("additionalProperties"), dict) else {}
        if kind == "boolean":
            return chance.random() < 0.5
        if kind in ("integer", "number"):
            return chance.choice([0, 1, 2, 7, 1500, 16 * MIB, 64 * MIB])
        return chance.choice(["", "0", "1", "a", "a name", "00:16:3e:00:00:01", "20260101T00:00:00Z"])

    def body(self, chance, schema, good):
        schema, made = self.follow(schema), {}
        needed = set(schema.get("required", ()))
        for name, of in schema.get("properties", {}).items():
            if name in needed and (good or chance.random() < 0.95) or chance.random() < 0.2:
                made[name] = self.value(chance, of, good)
        if not good and chance.random() < 0.1:
            made["unheard-of"] = 1
        return made

    def wishes(self, chance, good):
        """(method, path, body) for each operation that has a plan, about objects that are there now."""
        for path, methods in sorted(self.described["paths"].items()):
            for method, operation in sorted(methods.items()):
                if {"$ref": "#/components/parameters/plan"} not in operation.get("parameters", []) or \
                        re.search(r"/(uploads|tokens|sessions?|content|plans|apply|undo)(/|$)", path):
                    continue
                where = path.removeprefix(API)
                if "{uuid}" in where:
                    there = self.uuids(where.split("/")[1])
                    if not there:
                        continue
                    where = where.replace("{uuid}", chance.choice(there))
                content = operation.get("requestBody", {}).get("content", {})
                schema = next(iter(content.values()), {}).get("schema")
                if method == "patch":
                    names = sorted(self.follow(schema)["properties"])
                    for name in names:
                        yield "PATCH", where, {name: self.value(chance, schema["properties"][name], good)}
                    yield "PATCH", where, {name: self.value(chance, schema["properties"][name], good) for name in chance.sample(names, min(3, len(names)))}
                else:
                    yield method.upper(), where, self.body(chance, schema, good) if schema else None

    # ---- what a plan tells ----

    def codes(self, method, path, body=None):
        return [r["code"] for r in self.plan(method, path, body)["reasons"]]

    def test_a_field_that_marks_an_operation(self):
        """Setting it by PATCH is refused as its setter is."""
        ref, uuid = self.vm("fields")
        self.api.VM.start(ref, True, False)
        body = {"NVRAM": {"a": "b"}, "name_label": "other"}
        told = self.plan("PATCH", f"/vms/{uuid}", body)["reasons"]
        self.assertEqual([(r["code"], r["params"]) for r in told], [self.call("PATCH", f"/vms/{uuid}", body)])
        self.assertEqual(told[0]["code"], "VM_BAD_POWER_STATE")
        self.assertEqual(self.api.VM.get_name_label(ref), "fields")
        self.api.VM.hard_shutdown(ref)
        self.assertEqual(self.codes("PATCH", f"/vms/{uuid}", body), [])
        self.assertIsNone(self.call("PATCH", f"/vms/{uuid}", body))

    def test_each_field_of_a_patch(self):
        """All that is wrong with them; each finds what those before it have set."""
        _, uuid = self.vm("patch")
        body = {"VCPUs_max": 300, "memory_static_max": 1, "no_such": 1, "uuid": "x", "tags": 5}
        self.assertEqual(sorted(self.codes("PATCH", f"/vms/{uuid}", body)),
                         ["INVALID_VALUE"] * 3 + ["MEMORY_CONSTRAINT_VIOLATION", "VALUE_NOT_SUPPORTED"])
        together = {"VCPUs_max": 4, "VCPUs_at_startup": 3}
        self.assertEqual(self.codes("PATCH", f"/vms/{uuid}", {"VCPUs_at_startup": 3}), ["VALUE_NOT_SUPPORTED"])
        told = self.plan("PATCH", f"/vms/{uuid}", together)
        self.assertEqual((told["reasons"], told["whole"], [(s["from"], s["to"]) for s in told["steps"]]), ([], True, [(1, 4), (1, 3)]))
        self.assertEqual(self.rest.ok(200, "POST", told["apply"].removeprefix(API), {})[1]["VCPUs_at_startup"], 3)

    def test_a_wrong_parameter_is_not_all(self):
        """Beside it stand the role and the rules, which need no parameters."""
        ref, uuid = self.vm("halted")
        self.assertEqual(self.codes("POST", f"/vms/{uuid}/actions/checkpoint", {"name": "x"}),
                         ["INVALID_VALUE", "INVALID_VALUE", "VM_BAD_POWER_STATE"])
        made = self.rest.ok(201, "POST", "/tokens", {"name": "viewer", "role": "read-only"})[1]
        viewer = Rest(self.pool, made["token"])
        told = viewer.ok(200, "POST", f"/vms/{uuid}/actions/checkpoint", {"name": "x"}, plan="true")[1]
        self.assertEqual([r["code"] for r in told["reasons"]], ["INVALID_VALUE", "INVALID_VALUE", "RBAC_PERMISSION_DENIED", "VM_BAD_POWER_STATE"])
        told = viewer.ok(200, "PATCH", f"/vms/{uuid}", {"name_label": "x"}, plan="true")[1]
        self.assertEqual([r["code"] for r in told["reasons"]], ["RBAC_PERMISSION_DENIED"])
        self.api.VM.destroy(ref)

    def test_steps_are_what_changes(self):
        """Rows made, changed and deleted; a plan is void when one of them has changed meanwhile."""
        ref, uuid = self.vm("steps")
        told = self.plan("POST", f"/vms/{uuid}/actions/set_memory_limits",
                         {"static_min": 0, "static_max": 128 * MIB, "dynamic_min": 32 * MIB, "dynamic_max": 64 * MIB})
        self.assertEqual({s["do"]: (s["from"], s["to"]) for s in told["steps"]},
                         {"Sets memory_static_max.": (64 * MIB, 128 * MIB), "Sets memory_dynamic_min.": (64 * MIB, 32 * MIB),
                          "Sets memory_target.": (0, 64 * MIB)})
        self.assertTrue(told["whole"] and told["asks"] is None)
        self.api.VM.set_name_label(ref, "other")
        self.assertEqual(self.rest.request("POST", told["apply"].removeprefix(API), {})[0], 412)
        secret = self.api.secret.get_uuid(self.api.secret.create({"value": "canary", "other_config": {}}))
        self.assertEqual([(s["do"], s["object"]["uuid"]) for s in self.plan("DELETE", f"/secrets/{secret}")["steps"]],
                         [("Removes it.", secret)])

    def test_where_an_agent_decides(self):
        """The plan names the host that is asked."""
        host = self.api.host.get_all()[-1]
        pif = next(uuid for uuid in self.uuids("pifs") if self.rest.get(f"/pifs/{uuid}")["host"] == self.api.host.get_uuid(host)
                   and self.rest.get(f"/pifs/{uuid}")["physical"])
        told = self.plan("POST", "/pifs/actions/scan", {"host": self.api.host.get_uuid(host)})
        self.assertEqual((told["possible"], told["whole"], told["asks"]["uuid"]), (True, False, self.api.host.get_uuid(host)))
        network = self.api.network.get_uuid(self.api.network.create({"name_label": "tagged", "other_config": {}}))
        body = {"tagged_PIF": pif, "tag": 4095, "network": network}
        told = self.plan("POST", "/vlans", body)["reasons"]
        self.assertEqual([(r["code"], r["params"]) for r in told], [self.call("POST", "/vlans", body)])
        self.assertEqual(told[0]["code"], "VLAN_TAG_INVALID")

    def test_an_agent_that_is_away(self):
        """What the server knows of agents is a reason: the handler hears in its rehearsal what it would hear."""
        host = self.pool.hosts[1]
        ref = next(r for r in self.api.host.get_all() if self.pool.agent(self.api.host.get_uuid(r)) is host)
        uuid = self.api.host.get_uuid(ref)
        host.kill()
        until("the host is down", lambda: not self.api.host_metrics.get_live(self.api.host.get_metrics(ref)))
        told = self.plan("POST", "/pifs/actions/scan", {"host": uuid})
        self.assertEqual(([(r["code"], r["params"]) for r in told["reasons"]], told["asks"]), ([("HOST_OFFLINE", [uuid])], None))
        self.assertEqual(self.call("POST", "/pifs/actions/scan", {"host": uuid}), ("HOST_OFFLINE", [uuid]))
        host.start("hostd.port")
        until("the host is up", lambda: self.api.host_metrics.get_live(self.api.host.get_metrics(ref)))
        self.assertEqual(self.plan("POST", "/pifs/actions/scan", {"host": uuid})["asks"]["uuid"], uuid)

    def test_every_reason_of_a_bond_and_a_vlan(self):
        """All that is in the way; the call says the first."""
        one, other = (self.api.host.get_uuid(host) for host in self.api.host.get_all())
        nics = {host: sorted(uuid for uuid in self.uuids("pifs") if (pif := self.rest.get(f"/pifs/{uuid}"))["physical"] and pif["host"] == host)
                for host in (one, other)}
        network = self.api.network.get_uuid(self.api.network.create({"name_label": "bonded", "other_config": {}}))
        taken = self.rest.get(f"/pifs/{nics[one][0]}")["network"]
        rows = (
            ("/bonds", {"network": network, "members": [], "MAC": "no", "properties": {"miimon": "x", "what": "1"}},
             ["PIF_BOND_NEEDS_MORE_MEMBERS", "MAC_INVALID", "INVALID_VALUE", "INVALID_VALUE"]),
            ("/bonds", {"network": taken, "members": [nics[one][0], nics[other][0]], "MAC": "no"},
             ["PIF_CANNOT_BOND_CROSS_HOST", "MAC_INVALID", "NETWORK_ALREADY_CONNECTED"]),
            ("/vlans", {"tagged_PIF": nics[one][0], "tag": 5000, "network": taken}, ["VLAN_TAG_INVALID", "NETWORK_ALREADY_CONNECTED"]),
        )
        for path, body, codes in rows:
            with self.subTest(path=path, codes=codes):
                told = self.plan("POST", path, body)["reasons"]
                self.assertEqual(sorted(r["code"] for r in told), sorted(codes))
                self.assertEqual(self.call("POST", path, body), (told[0]["code"], told[0]["params"]))

    def test_who_is_logged_in_stays_so(self):
        """A plan that takes a user's role or account away closes no session; the change does."""
        subject_of = lambda: next(ref for ref, s in self.api.subject.get_all_records().items() if s["other_config"]["subject-name"] == "ann")
        role = next(ref for ref, role in self.api.role.get_all_records().items() if role["name_label"] == "vm-admin")
        user = self.api.user.create_with_password("ann", "", "secret word", [role])
        token = self.rest.ok(201, "POST", "/sessions", {"user": "ann", "password": "secret word"})[1]["token"]
        ann = Rest(self.pool, token)
        subject, role_uuid = self.api.subject.get_uuid(subject_of()), self.api.role.get_uuid(role)
        for method, path, body in (("DELETE", f"/users/{self.api.user.get_uuid(user)}", None), ("DELETE", f"/subjects/{subject}", None),
                                   ("POST", f"/subjects/{subject}/actions/remove_from_roles", {"role": role_uuid})):
            told = self.plan(method, path, body)
            self.assertTrue(told["possible"] and told["whole"], told)
            self.assertEqual(ann.request("GET", "/session")[0], 200)
        self.assertIsNone(self.call("DELETE", f"/users/{self.api.user.get_uuid(user)}"))
        self.assertEqual(ann.request("GET", "/session")[0], 401)

    def test_beside_changes(self):
        """Many plan while others change the same objects: each change is done, no plan leaves anything."""
        ref, uuid = self.vm("busy")
        networks, failures = self.rest.get("/networks", fields="uuid")["total"], []

        def plans(name):
            for i in range(60):
                for method, path, body in (("PATCH", f"/vms/{uuid}", {"name_description": f"{name} {i}", "VCPUs_max": 2 + i % 7}),
                                           ("POST", "/networks", {"name_label": f"{name} {i}"}), ("DELETE", f"/vms/{uuid}", None)):
                    status, _, told = self.rest.request(method, path, body, plan="true")
                    if status != 200 or not told["possible"] or not told["whole"]:
                        failures.append((method, path, body, told))

        def changes(name):
            for i in range(120):
                status, _, told = self.rest.request("PATCH", f"/vms/{uuid}", {"name_label": f"{name} {i}"})
                if status != 200:
                    failures.append(told)
        threads = [threading.Thread(target=of, args=(f"{of.__name__} {i}",)) for i in range(3) for of in (plans, changes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        now = self.rest.get(f"/vms/{uuid}")
        self.assertEqual((now["name_description"], now["VCPUs_max"], now["name_label"].endswith(" 119")), ("", 1, True))
        self.assertEqual(self.rest.get("/networks", fields="uuid")["total"], networks)
        self.api.VM.destroy(ref)

    # ---- all of them ----

    def test_x_planning_changes_nothing(self):
        """Every change of the API, with sensible and with senseless arguments: rows, files and agents hear nothing of it."""
        self.furnish()
        before, count, possible = self.world(), 0, 0
        for good in (True, False):
            chance = random.Random(f"{SEED} {good}")
            token = self.api.call("event.from", self.api.session, ["*"], "", 0.0)["token"]
            for method, path, body in self.wishes(chance, good):
                status, _, told = self.rest.request(method, path, body, plan="true")
                self.assertIn(status, (200, 404, 403, 405, 422), (method, path, body, told))
                count += 1
                possible += status == 200 and told["possible"]
                seen = self.api.call("event.from", self.api.session, ["*"], token, 0.0)
                token = seen["token"]
                self.assertEqual(self.changes(seen), [], (method, path, body))
        self.assert_same(before, self.world())
        self.assertGreater(count, 900)
        self.assertGreater(possible, 250)
        print(f"{count} plans, {possible} possible", flush=True)

    def test_y_the_call_says_what_the_plan_said(self):
        """What is refused is refused for one of the plan's reasons; what is known to pass passes."""
        wrong, counts, kinds = [], {"refused": 0, "done": 0, "open": 0}, {"refused": set(), "done": set()}
        for round_ in range(2):
            self.furnish()
            chance = random.Random(f"{SEED} calls {round_}")
            for method, path, body in self.wishes(chance, bool(round_)):
                status, _, told = self.rest.request(method, path, body, plan="true")
                if status != 200 or self.ends_the_test(method, path, body):
                    continue
                if told["possible"] and (told["asks"] or not told["whole"]):
                    counts["open"] += 1
                    continue
                said = self.call(method, path, body)
                reasons = [(r["code"], r["params"]) for r in told["reasons"]]
                verdict = "done" if told["possible"] else "refused"
                counts[verdict] += 1
                if not {"INVALID_VALUE", "UUID_INVALID"} & {code for code, _ in reasons}:
                    kinds[verdict].add((told["action"], *(body if method == "PATCH" and len(body) == 1 else ())))
                if (said is None) != told["possible"] or (said and said not in reasons):
                    wrong.append((method, path, body, "plan:", reasons, "call:", said))
        print(counts, {verdict: len(of) for verdict, of in kinds.items()}, flush=True)
        for each in wrong:
            print(*each, flush=True)
        self.assertEqual(len(wrong), 0)
        self.assertGreater(len(kinds["refused"]), 90)
        self.assertGreater(len(kinds["done"]), 150)

    @staticmethod
    def ends_the_test(method, path, body):
        """What takes the test's own session, host or server away."""
        return "https_only" in path or "https_only" in (body or {}) or bool(re.search(r"actions/(shutdown_agent|restart_agent|eject|join|join_force|reboot|shutdown)$", path) and
                    re.match(r"/(hosts|pools)/", path)) or (method == "DELETE" and re.match(r"/(hosts|pools|subjects|users)/", path))


if __name__ == "__main__":
    unittest.main()
