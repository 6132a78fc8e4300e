"""REST: resources, actions, problems, pages, versions, keys of repeated requests, and the stream of events."""
import base64
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import unittest
import urllib.parse

from pool import TestPool, program, until

API = "/api/v1"
NULL = "OpaqueRef:NULL"
NO_SUCH = "00000000-0000-4000-8000-000000000000"


class Rest:
    """One client: `token` None asks nothing of who it is."""

    def __init__(self, pool, token=None):
        self.pool = pool
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def request(self, method, path, body=None, headers=None, timeout_s=60, **query):
        if query:
            path += "?" + urllib.parse.urlencode(query)
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        status, head, answer = self.pool.http(method, API + path, data, {**self.headers, **(headers or {})}, timeout_s)
        return status, {k.lower(): v for k, v in head.items()}, json.loads(answer) if answer else None

    def ok(self, status, method, path, body=None, headers=None, **query):
        got, head, answer = self.request(method, path, body, headers, **query)
        assert got == status, f"{method} {path}: {got} {answer}"
        return head, answer

    def get(self, path, **query):
        return self.ok(200, "GET", path, **query)[1]


class RestTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pool = TestPool(hosts=1)
        cls.addClassCleanup(cls.pool.close)
        cls.api = cls.pool.login()
        cls.rest = Rest(cls.pool, cls.api.session)

    def vm(self, name):
        """A simulated guest. What is not said has the value of a fresh row."""
        size = 64 << 20
        head, made = self.rest.ok(201, "POST", "/vms", {
            "name_label": name, "memory_static_max": size, "memory_dynamic_max": size, "memory_dynamic_min": size,
            "memory_static_min": 0, "VCPUs_max": 1, "VCPUs_at_startup": 1, "PV_kernel": "vmlinuz", "actions_after_reboot": "restart"})
        self.assertEqual(head["location"], f"{API}/vms/{made['uuid']}")
        self.assertEqual((made["power_state"], made["affinity"], made["actions_after_shutdown"]), ("Halted", None, "destroy"))
        self.addCleanup(lambda: self.rest.request("DELETE", f"/vms/{made['uuid']}"))
        return made["uuid"]

    def problem(self, status, code, method, path, body=None, headers=None, **query):
        got, head, answer = self.rest.request(method, path, body, headers, **query)
        self.assertEqual(got, status, answer)
        self.assertEqual(head["content-type"], "application/problem+json")
        self.assertEqual((answer["status"], answer.get("code")), (status, code), answer)
        self.assertTrue(answer["detail"] and answer["title"] and answer["instance"].startswith("/api/v1"), answer)
        return answer

    # ---- who asks ----

    def test_sessions(self):
        nobody = Rest(self.pool)
        status, head, answer = nobody.request("GET", "/vms")
        self.assertEqual((status, answer["code"]), (401, "SESSION_AUTHENTICATION_FAILED"))
        self.assertIn("Bearer", head["www-authenticate"])
        self.assertEqual(nobody.request("POST", "/sessions", {"user": "root", "password": "wrong"})[0], 401)
        self.assertEqual(nobody.request("POST", "/sessions", {"user": "root"})[0], 422)
        _, made = nobody.ok(201, "POST", "/sessions", {"user": "root", "password": self.pool.password})
        mine = Rest(self.pool, made["token"])
        self.assertEqual(mine.get("/session"), {"user": "root", "role": "pool-admin", "is_superuser": True})
        self.assertEqual(self.pool.again(self.api).call("VM.get_all", made["token"]), self.api.VM.get_all())
        self.assertEqual(mine.request("DELETE", "/session")[0], 204)
        self.assertEqual(mine.request("GET", "/vms")[2]["code"], "SESSION_INVALID")
        status, _, _ = nobody.request("GET", "/hosts", headers=self.pool.basic())
        self.assertEqual(status, 200)

    def test_roles(self):
        """The verdicts are the gate's, also for several fields at once."""
        role = self.api.role.get_by_name_label("vm-operator")[0]
        password = "correct horse battery"
        user = self.api.user.create_with_password("rosa", "Rosa", password, [role])
        self.addCleanup(lambda: self.api.user.destroy(user))
        uuid = self.vm("guarded")
        _, made = Rest(self.pool).ok(201, "POST", "/sessions", {"user": "rosa", "password": password})
        rosa = Rest(self.pool, made["token"])
        self.assertEqual(rosa.get("/session")["role"], "vm-operator")
        for method, path, body in (("PATCH", f"/vms/{uuid}", {"name_label": "hers"}), ("DELETE", f"/vms/{uuid}", None),
                                   ("PATCH", f"/vms/{uuid}", {"tags": ["t"], "name_label": "hers"}),
                                   ("POST", "/networks", {"name_label": "hers"}),
                                   ("PATCH", f"/vms/{uuid}", {"other_config": {"pci": "0/0000:00:00.0"}})):
            status, _, answer = rosa.request(method, path, body)
            self.assertEqual((status, answer["code"]), (403, "RBAC_PERMISSION_DENIED"), (path, body))
        self.assertEqual(self.rest.get(f"/vms/{uuid}")["tags"], [])
        rosa.ok(200, "POST", f"/vms/{uuid}/actions/start", {"start_paused": True, "force": False}, wait="60s")
        rosa.ok(200, "POST", f"/vms/{uuid}/actions/hard_shutdown", {}, wait="60s")

    def test_api_tokens(self):
        """A token acts as its maker, with its role at most, until it is revoked; its text is nowhere."""
        role = self.api.role.get_by_name_label("vm-operator")[0]
        password = "correct horse battery"
        user = self.api.user.create_with_password("tom", "Tom", password, [role])
        _, session = Rest(self.pool).ok(201, "POST", "/sessions", {"user": "tom", "password": password})
        tom = Rest(self.pool, session["token"])
        status, _, answer = tom.request("POST", "/tokens", {"name": "t", "role": "pool-admin"})
        self.assertEqual((status, answer["code"]), (403, "RBAC_PERMISSION_DENIED"))
        for body in ({}, {"name": ""}, {"name": "x" * 65}, {"name": "t", "days": 0}, {"name": "t", "role": "king"}, {"name": "t", "more": 1}):
            self.assertEqual(tom.request("POST", "/tokens", body)[0], 422, body)
        # A plan tells all reasons, and makes nothing.
        for body, reasons in (({"name": "viewer", "role": "read-only"}, []), ({"name": "", "role": "king", "days": 0}, ["INVALID_VALUE"] * 3),
                              ({"name": "t", "role": "pool-admin", "days": 9999}, ["INVALID_VALUE", "RBAC_PERMISSION_DENIED"])):
            told = tom.ok(200, "POST", "/tokens?plan=true", body)[1]
            self.assertEqual((sorted(r["code"] for r in told["reasons"]), told["possible"], told["apply"]), (reasons, not reasons, None))
            self.assertIn(body["role"], told["steps"][0]["do"])
        self.assertEqual(tom.get("/tokens")["items"], [])
        head, made = tom.ok(201, "POST", "/tokens", {"name": "viewer", "role": "read-only", "days": 2})
        self.assertEqual(head["location"], f"{API}/tokens/{made['uuid']}")
        viewer = Rest(self.pool, made["token"])
        self.assertEqual(viewer.get("/session"), {"user": "tom", "role": "read-only", "is_superuser": False})
        self.assertEqual(viewer.request("POST", "/tokens", {"name": "child"})[0], 409)
        self.assertEqual(viewer.get("/tokens")["items"], [])
        uuid = self.vm("not for viewers")
        self.assertEqual(viewer.request("POST", f"/vms/{uuid}/actions/start", {}, wait="60s")[2]["code"], "RBAC_PERMISSION_DENIED")
        self.assertEqual(self.pool.http("GET", "/metrics", None, viewer.headers)[0], 200)
        with open(os.path.join(self.pool.state, "audit.log")) as f:
            self.assertIn("tom (token viewer)", f.read())
        shown = [t for t in tom.get("/tokens")["items"] if t["uuid"] == made["uuid"]]
        self.assertEqual([set(t) for t in shown], [set(made) - {"token"}])
        self.assertTrue(shown[0]["last_used"])
        _, full = tom.ok(201, "POST", "/tokens", {"name": "as strong"})
        strong = Rest(self.pool, full["token"])
        self.assertEqual(strong.get("/session")["role"], "vm-operator")
        for wrong in (made["token"][:-1], made["token"] + "x", "corral-" + made["uuid"] + "-", "corral-x"):
            self.assertEqual(Rest(self.pool, wrong).request("GET", "/session")[0], 401, wrong)
        self.assertEqual(self.pool.http("GET", f"{API}/session?session_id={made['token']}")[0], 401)
        # Revoked, and a token whose maker has lost the rights: at once.
        self.assertIn("'viewer'", tom.ok(200, "DELETE", f"/tokens/{made['uuid']}?plan=true")[1]["steps"][0]["do"])
        self.assertEqual(tom.request("DELETE", f"/tokens/{NO_SUCH}?plan=true")[2]["code"], "UUID_INVALID")
        for method, path in (("DELETE", "/session"), ("POST", "/sessions")):
            self.assertEqual(tom.request(method, path + "?plan=true", {"user": "tom", "password": password})[0], 400, "it has no plan, and is not done")
        self.assertEqual(viewer.request("GET", "/session")[0], 200)
        tom.ok(204, "DELETE", f"/tokens/{made['uuid']}")
        self.assertEqual(viewer.request("GET", "/session")[0], 401)
        self.assertEqual(tom.request("DELETE", f"/tokens/{made['uuid']}")[2]["code"], "UUID_INVALID")
        admin = next(t for t in self.rest.get("/tokens")["items"] if t["uuid"] == full["uuid"])
        self.assertEqual((admin["user"], admin["name"]), ("tom", "as strong"))
        subject = next(s for s, r in self.api.subject.get_all_records().items()
                       if r["subject_identifier"] == "local:" + self.api.user.get_uuid(user))
        self.api.subject.remove_from_roles(subject, role)
        until("the end of the rights", lambda: strong.request("GET", "/session")[0] == 401)
        self.api.user.destroy(user)
        secrets = [t["token"].removeprefix(f"corral-{t['uuid']}-").encode() for t in (made, full)]
        self.assertEqual([len(s) for s in secrets], [43, 43])
        for name in ("pool.db", "pool.db-wal", "audit.log"):
            with open(os.path.join(self.pool.state, name), "rb") as f:
                kept = f.read()
            self.assertFalse(any(s in kept for s in secrets), name)
        self.assertFalse(any(t.decode() in self.pool.poold.log() for t in secrets))
        self.assertNotIn(b"api_token", self.pool.http("GET", "/pool/xmldbdump", None, self.pool.basic())[2])

    # ---- reading ----

    def test_record_as_the_xenapi_has_it(self):
        host = self.api.host.get_all()[0]
        record = self.api.host.get_record(host)
        shown = self.rest.get(f"/hosts/{record['uuid']}")
        self.assertEqual(set(shown), set(record))
        for name in ("uuid", "name_label", "hostname", "enabled", "cpu_info", "software_version"):
            self.assertEqual(shown[name], record[name], name)
        metrics = self.api.host_metrics.get_record(record["metrics"])
        self.assertEqual(shown["metrics"], metrics["uuid"])
        self.assertRegex(self.rest.get(f"/host-metrics/{metrics['uuid']}")["last_updated"],
                         r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual(shown["suspend_image_sr"], None)

    def test_fields_filter_sort_pages(self):
        names = {f"page {i:02}" for i in range(7)}
        for i, name in enumerate(sorted(names)):
            self.api.network.create({"name_label": name, "name_description": "", "MTU": 1500 + i % 3, "other_config": {"n": str(i)},
                                     "tags": ["odd"] if i % 2 else ["even", "page"], "bridge": "", "managed": True})
        self.addCleanup(lambda: [self.api.network.destroy(n) for n, r in self.api.network.get_all_records().items()
                                 if r["name_label"] in names])
        query = dict(filter='name_label ~ "page *"', fields="name_label,MTU", sort="-MTU,name_label")
        whole = self.rest.get("/networks", **query)
        self.assertEqual((whole["total"], whole["next"]), (7, None))
        self.assertEqual([set(i) for i in whole["items"]], [{"name_label", "MTU"}] * 7)
        self.assertEqual([i["MTU"] for i in whole["items"]], [1502, 1502, 1501, 1501, 1500, 1500, 1500])
        paged, cursor, pages = [], None, 0
        while cursor or not pages:
            page = self.rest.get("/networks", limit=3, **query, **({"cursor": cursor} if cursor else {}))
            paged += page["items"]
            cursor, pages = page["next"], pages + 1
        self.assertEqual((paged, pages), (whole["items"], 3))
        for text, count in (("MTU > 1500 and tags = odd", 2), ("tags = page", 4), ("other_config.n >= 5", 2),
                            ('name_label ~ "PAGE 0[12]"', 2), ("not tags = odd and MTU = 1500", 2)):
            self.assertEqual(self.rest.get("/networks", filter=f'name_label ~ "page *" and ({text})')["total"], count, text)

    def test_bad_questions(self):
        for path, query, says in (
                ("/vms", {"filter": "colour = red"}, "no field colour"), ("/vms", {"filter": "name_label ="}, "a value"),
                ("/vms", {"fields": "uuid,nothing"}, "no field 'nothing'"), ("/vms", {"sort": "tags"}, "one value"),
                ("/vms", {"limit": "0"}, "from 1 to"), ("/vms", {"limit": "x"}, "from 1 to"),
                ("/vms", {"cursor": "nonsense"}, "take the value of 'next'"), ("/events", {"classes": "nothing"}, "names of lists")):
            self.assertIn(says, self.problem(400, None, "GET", path, **query)["detail"])

    def test_nothing_there(self):
        self.problem(404, None, "GET", "/nothing")
        self.problem(404, None, "GET", "/vms/not-a-uuid")
        self.problem(404, "UUID_INVALID", "GET", f"/vms/{NO_SUCH}")
        self.problem(404, "UUID_INVALID", "POST", f"/vms/{NO_SUCH}/actions/start", {})
        self.problem(404, None, "POST", f"/vms/{NO_SUCH}/actions/fly", {})
        self.assertIn("in front of /actions", self.problem(404, None, "POST", "/vms/actions/start", {})["detail"])
        self.assertIn("GET", self.problem(405, None, "PUT", "/vms", {})["detail"])
        self.problem(405, None, "POST", "/hosts", {})
        self.problem(400, None, "POST", "/networks", b"{")
        self.problem(400, None, "POST", "/networks", b"[]")

    def test_description(self):
        document = Rest(self.pool).get("/openapi.json")
        self.assertEqual(document["openapi"], "3.1.0")
        self.assertIn("/api/v1/vms/{uuid}/actions/start", document["paths"])

    # ---- versions ----

    def test_versions(self):
        head, made = self.rest.ok(201, "POST", "/networks", {"name_label": "versions", "other_config": {"a": "1"}})
        path = head["location"].removeprefix(API)
        self.assertEqual(path, f"/networks/{made['uuid']}")
        head, shown = self.rest.ok(200, "GET", path)
        self.assertEqual(shown, made)
        tag = head["etag"]
        self.assertEqual(self.rest.request("GET", path, headers={"If-None-Match": tag})[0], 304)
        head, changed = self.rest.ok(200, "PATCH", path, {"name_description": "new", "other_config": {"b": "2", "a": None}},
                                     {"If-Match": tag})
        self.assertEqual((changed["name_description"], changed["other_config"]), ("new", {"b": "2"}))
        self.assertNotEqual(head["etag"], tag)
        self.problem(412, None, "PATCH", path, {"name_description": "late"}, {"If-Match": tag})
        self.problem(412, None, "DELETE", path, None, {"If-Match": tag})
        self.assertEqual(self.rest.get(path)["name_description"], "new")
        self.assertEqual(self.rest.request("DELETE", path, headers={"If-Match": head["etag"]})[0], 204)
        self.problem(404, "UUID_INVALID", "GET", path)

    def test_patch_is_one_change(self):
        uuid = self.vm("patched")
        before = self.rest.get(f"/vms/{uuid}")
        for body, code in (({"name_label": "x", "nothing": 1}, "INVALID_VALUE"), ({"name_label": "x", "uuid": "y"}, "INVALID_VALUE"),
                           ({"name_label": "x", "user_version": "1"}, "INVALID_VALUE"), ({"name_label": "x", "tags": "t"}, "INVALID_VALUE"),
                           ({"name_label": "x", "blocked_operations": {"fly": "no"}}, "INVALID_VALUE")):
            self.problem(422, code, "PATCH", f"/vms/{uuid}", body)
        self.problem(404, "UUID_INVALID", "PATCH", f"/vms/{uuid}", {"name_label": "x", "affinity": NO_SUCH})
        self.assertEqual(self.rest.get(f"/vms/{uuid}"), before)
        host = self.rest.get("/hosts")["items"][0]["uuid"]
        _, after = self.rest.ok(200, "PATCH", f"/vms/{uuid}", {"name_label": "x", "affinity": host, "VCPUs_max": 4, "tags": ["b", "a"]})
        self.assertEqual((after["name_label"], after["affinity"], after["VCPUs_max"], after["tags"]), ("x", host, 4, ["a", "b"]))
        # A setter with a meaning of its own is put back when a later one is refused.
        answer = self.rest.request("PATCH", f"/vms/{uuid}", {"VCPUs_max": 8, "VCPUs_at_startup": 100})
        self.assertGreaterEqual(answer[0], 400, answer)
        self.assertEqual(self.rest.get(f"/vms/{uuid}")["VCPUs_max"], 4)

    # ---- actions ----

    def test_life(self):
        uuid = self.vm("life")
        head, task = self.rest.ok(202, "POST", f"/vms/{uuid}/actions/start", )
        self.assertEqual(head["location"], f"{API}/tasks/{task['uuid']}")
        until("started", lambda: self.rest.get(f"/tasks/{task['uuid']}")["status"] == "success")
        vm = self.rest.get(f"/vms/{uuid}")
        self.assertEqual(vm["power_state"], "Running")
        self.assertEqual(vm["resident_on"], self.rest.get("/hosts")["items"][0]["uuid"])
        refused = self.problem(409, "VM_BAD_POWER_STATE", "POST", f"/vms/{uuid}/actions/start",
                               wait="30s")
        self.assertEqual(refused["params"][0], uuid)
        self.assertIn(uuid, refused["detail"])
        _, answer = self.rest.ok(200, "POST", f"/vms/{uuid}/actions/hard_shutdown", wait=30)
        self.assertEqual(answer, {"result": None})
        self.assertEqual(self.rest.get(f"/vms/{uuid}")["power_state"], "Halted")
        _, answer = self.rest.ok(200, "POST", f"/vms/{uuid}/actions/get_possible_hosts", wait=30)
        self.assertEqual(answer["result"], [self.rest.get("/hosts")["items"][0]["uuid"]])
        self.assertIn("missing", self.problem(422, "INVALID_VALUE", "POST", f"/vms/{uuid}/actions/clone", {})["detail"])
        self.problem(422, "INVALID_VALUE", "POST", f"/vms/{uuid}/actions/start", {"start_paused": 0, "force": False, "x": 1})
        self.problem(400, None, "POST", f"/vms/{uuid}/actions/start", wait="soon")

    def test_repeated_request(self):
        key = {"Idempotency-Key": "made once"}
        first = self.rest.ok(201, "POST", "/networks", {"name_label": "once"}, key)
        again = self.rest.ok(201, "POST", "/networks", {"name_label": "once"}, key)
        self.assertEqual(first[1]["uuid"], again[1]["uuid"])
        self.problem(422, None, "POST", "/networks", {"name_label": "other"}, key)
        self.pool.restart()
        type(self).api = self.pool.login()
        type(self).rest = Rest(self.pool, self.api.session)
        again = self.rest.ok(201, "POST", "/networks", {"name_label": "once"}, key)
        self.assertEqual(first[1]["uuid"], again[1]["uuid"])
        self.assertEqual(self.rest.get("/networks", filter="name_label = once")["total"], 1)
        self.problem(400, None, "POST", "/networks", {"name_label": "once"}, {"Idempotency-Key": "k" * 256})

    # ---- plans ----

    def test_plans(self):
        """A plan changes nothing; applied it does what it told, or refuses when the world is another one."""
        uuid, host = self.vm("planned"), self.rest.get("/hosts", fields="uuid")["items"][0]["uuid"]
        path = f"/vms/{uuid}"

        def plan(method, path, body=None):
            status, head, answer = self.rest.request(method, path + "?plan=true", body)
            self.assertEqual((status, head["content-type"]), (200, "application/vnd.corral.plan+json"), answer)
            self.assertEqual(answer["possible"], not answer["reasons"])
            return answer
        tag = self.rest.ok(200, "GET", path)[0]["etag"]
        start = plan("POST", f"{path}/actions/start", {})
        self.assertTrue(start["possible"] and start["whole"], start)
        self.assertEqual((start["where"]["host"]["uuid"], start["where"]["why"]), (host, "It is the only host that can take it."))
        self.assertTrue(start["where"]["hosts"][0]["fits"])
        self.assertGreaterEqual(start["needs"]["memory"]["least"], 64 << 20)
        self.assertIn("Starts the VM.", [s["do"] for s in start["steps"]])
        self.assertEqual(self.rest.ok(200, "GET", path)[0]["etag"], tag, "nothing was changed")
        # Every reason at once: the state, the template, a host that is off.
        shutdown = plan("POST", f"{path}/actions/clean_shutdown", {})
        self.assertEqual([r["code"] for r in shutdown["reasons"]], ["VM_BAD_POWER_STATE"])
        self.assertEqual((shutdown["apply"], shutdown["reasons"][0]["params"][0]), (None, uuid))
        self.rest.ok(200, "PATCH", path, {"memory_static_max": 1 << 50, "memory_dynamic_max": 1 << 50, "memory_dynamic_min": 1 << 50})
        big = plan("POST", f"{path}/actions/start", {})
        self.assertIn("HOST_NOT_ENOUGH_FREE_MEMORY", [r["code"] for r in big["reasons"]])
        self.assertIsNone(big["where"]["host"])
        self.rest.ok(200, "PATCH", path, {"memory_dynamic_min": 64 << 20, "memory_dynamic_max": 64 << 20, "memory_static_max": 64 << 20})
        # The first plan rests on a VM that was another one.
        self.assertIn(uuid, self.problem(412, None, "POST", start["apply"].removeprefix(API), {})["detail"])
        self.problem(404, None, "POST", start["apply"].removeprefix(API), {})
        start = plan("POST", f"{path}/actions/start", {})
        self.assertEqual(self.rest.ok(200, "POST", start["apply"].removeprefix(API), {}, wait="60s")[1], {"result": None})
        self.assertEqual(self.rest.get(path)["resident_on"], host)
        evacuation = plan("POST", f"/hosts/{host}/actions/evacuate", {})
        self.assertIn("CANNOT_EVACUATE_HOST", [r["code"] for r in evacuation["reasons"]])
        self.assertIn(uuid, [r["object"]["uuid"] for r in evacuation["reasons"] if "object" in r])
        snapshot = plan("POST", f"{path}/actions/snapshot", {"new_name": "s"})
        self.assertIn("Records the VM as snapshot 's'.", [s["do"] for s in snapshot["steps"]])
        self.assertFalse(plan("DELETE", path)["possible"])
        stop = plan("POST", f"{path}/actions/hard_shutdown", {})
        self.rest.ok(200, "POST", stop["apply"].removeprefix(API), {}, wait="60s")
        self.assertEqual(self.rest.get(path)["power_state"], "Halted")
        # Fields, constructors, destructors.
        patch = plan("PATCH", path, {"name_label": "other", "tags": ["t"]})
        self.assertEqual([(s["from"], s["to"]) for s in patch["steps"]], [("planned", "other"), ([], ["t"])])
        self.assertEqual(self.rest.ok(200, "POST", patch["apply"].removeprefix(API), {})[1]["name_label"], "other")
        # What a disk needs, and what its repository has left.
        location = os.path.join(self.pool.folder, "planned")
        self.rest.ok(200, "POST", "/apply", {"srs": {"planned": {"type": "file", "device_config": {"location": location}}}})
        sr = self.rest.get("/srs", filter="name_label = planned")["items"][0]["uuid"]
        disk = plan("POST", "/vdis", {"SR": sr, "virtual_size": 5 << 20, "name_label": "d", "type": "user", "sharable": False,
                                      "read_only": False, "other_config": {}})
        self.assertEqual([(s["sr"], s["bytes"], s["free"] > 0) for s in disk["needs"]["space"]], [(sr, 5 << 20, True)])
        self.assertIn("Makes disk 'd'", disk["steps"][0]["do"])
        _, made = self.rest.ok(201, "POST", disk["apply"].removeprefix(API), {}, wait="60s")
        larger = plan("POST", f"/vdis/{made['uuid']}/actions/resize", {"size": 8 << 20})
        self.assertEqual([(s["sr"], s["bytes"]) for s in larger["needs"]["space"]], [(sr, 3 << 20)])
        network = plan("POST", "/networks", {"name_label": "planned"})
        self.assertEqual((network["possible"], network["whole"]), (True, True))
        self.assertEqual([(s["do"], s["object"]["name"]) for s in network["steps"]], [("Makes a network.", "planned")])
        self.assertEqual(self.rest.get("/networks", filter="name_label = planned")["total"], 0)
        _, made = self.rest.ok(201, "POST", network["apply"].removeprefix(API), {})
        gone = plan("DELETE", f"/networks/{made['uuid']}")
        self.rest.ok(204, "POST", gone["apply"].removeprefix(API), {})
        self.problem(400, None, "POST", f"{path}/actions/start", {}, plan="perhaps")
        self.problem(404, None, "POST", f"/plans/{NO_SUCH}/apply", {})

    def test_plans_tell_every_reason(self):
        """What keeps a VM from starting: each alone, then all of it at once."""
        uuid = self.vm("hopeless")
        path, mine = f"/vms/{uuid}", self.api.VM.get_by_uuid(uuid)
        [host] = self.api.host.get_all()
        number = itertools.count()

        def patch(fields, back):
            self.rest.ok(200, "PATCH", path, fields)
            return lambda: self.rest.ok(200, "PATCH", path, back)

        def drive(vdi, device, cd=False):
            return self.api.VBD.create({"VM": mine, "VDI": vdi, "userdevice": device, "bootable": False, "mode": "RO" if cd else "RW",
                                        "type": "CD" if cd else "Disk", "unpluggable": True, "empty": False, "other_config": {},
                                        "qos_algorithm_type": "", "qos_algorithm_params": {}})

        def repository(name, content="", make=True):
            place = os.path.join(self.pool.folder, f"hopeless-{name}-{next(number)}")
            if content == "iso":
                os.makedirs(place)
                with open(os.path.join(place, "cd.iso"), "wb") as f:
                    f.write(bytes(1 << 16))
            kind = "iso" if content else "file"
            sr = self.api.SR.create(host, {"location": place, **({"legacy_mode": "true"} if content else {})}, 0, name, "", kind, content, False, {})
            if not make:
                self.api.SR.scan(sr)
                return sr, self.api.SR.get_VDIs(sr)[0]
            return sr, self.api.VDI.create({"SR": sr, "virtual_size": 1 << 20, "type": "user", "sharable": False, "read_only": False, "other_config": {}})

        def absent(name, device, cd=False):
            """A disk on an SR that its host has not attached."""
            sr, vdi = repository(name, "iso" if cd else "", not cd)
            vbd, [pbd] = drive(vdi, device, cd), self.api.SR.get_PBDs(sr)
            self.api.PBD.unplug(pbd)

            def undo():
                self.api.PBD.plug(pbd)
                self.api.VBD.destroy(vbd)
            return undo

        def awaited():
            """A disk that is being filled."""
            vdi = repository("filled")[1]
            vbd, at = drive(vdi, "2"), f"/vdis/{self.api.VDI.get_uuid(vdi)}/uploads"
            location = self.rest.ok(201, "POST", at, headers={"Upload-Length": "9"})[0]["location"].removeprefix(API)

            def undo():
                self.rest.ok(204, "DELETE", location)
                self.api.VBD.destroy(vbd)
            return undo

        def off():
            self.api.host.disable(host)
            return lambda: self.api.host.enable(host)

        def memory(size):
            return {"memory_dynamic_min": size, "memory_dynamic_max": size, "memory_static_max": size}

        rows = ((lambda: patch({"blocked_operations": {"start": "NOT_TODAY"}}, {"blocked_operations": {"start": None}}), ["OPERATION_BLOCKED"]),
                (lambda: patch(dict(reversed(memory(1 << 50).items())), memory(64 << 20)), ["HOST_NOT_ENOUGH_FREE_MEMORY"]),
                (lambda: patch({"VCPUs_max": 254}, {"VCPUs_max": 1}), ["HOST_NOT_ENOUGH_PCPUS"]),
                (lambda: patch({"hardware_platform_version": 99}, {"hardware_platform_version": 0}),
                 ["VM_HOST_INCOMPATIBLE_VIRTUAL_HARDWARE_PLATFORM_VERSION"]),
                (lambda: patch({"platform": {"nic_type": "none of these"}}, {"platform": {"nic_type": None}}), ["VALUE_NOT_SUPPORTED"]),
                (lambda: absent("one", "0"), ["VM_REQUIRES_SR"]), (lambda: absent("another", "1"), ["VM_REQUIRES_SR"]),
                (lambda: absent("library", "3", cd=True), ["VM_REQUIRES_SR"]), (awaited, ["VDI_IN_USE"]), (off, ["HOST_DISABLED"]))

        def reasons(action="start", body=None):
            _, told = self.rest.ok(200, "POST", f"{path}/actions/{action}?plan=true", body or {})
            self.assertEqual(told["possible"], not told["reasons"])
            for reason in told["reasons"]:
                self.assertTrue(reason["message"], reason)
            return sorted(r["code"] for r in told["reasons"])
        self.assertEqual(reasons(), [])
        undos = []
        for make, codes in rows:
            undo = make()
            with self.subTest(codes=codes):
                self.assertEqual(reasons(), codes)
            undo()
        self.assertEqual(reasons(), [])
        for i, (make, codes) in enumerate(rows):
            undos.append(make())
            with self.subTest(of_rows=i):
                self.assertEqual(reasons(), sorted(code for _, c in rows[:i + 1] for code in c))
        elsewhere = sorted(code for _, codes in rows for code in codes if code != "OPERATION_BLOCKED")
        self.assertEqual(reasons("start_on", {"host": self.api.host.get_uuid(host)}), elsewhere)
        for undo in reversed(undos):
            undo()
        self.assertEqual(reasons(), [])

    def test_plans_of_others_tell_every_reason(self):
        """Objects that are in several situations at once: their plans list all of them, and the call the first."""
        uuid = self.vm("many")
        path, mine = f"/vms/{uuid}", self.api.VM.get_by_uuid(uuid)
        [host] = self.api.host.get_all()

        def repository(name, kind, content, files=()):
            place = os.path.join(self.pool.folder, f"many-{name}")
            os.makedirs(place)
            for file in files:
                with open(os.path.join(place, file), "wb") as f:
                    f.write(bytes(1 << 16))
            more = {"legacy_mode": "true"} if kind == "iso" else {}
            return self.api.SR.create(host, {"location": place, **more}, 0, name, "", kind, content, False, {})
        sr, library = repository("disks", "file", "user"), repository("isos", "iso", "iso", ["cd.iso"])
        self.api.SR.scan(library)
        iso = self.api.SR.get_VDIs(library)[0]
        disks = [self.api.VDI.create({"SR": sr, "virtual_size": 1 << 20, "type": "user", "sharable": False, "read_only": False,
                                      "other_config": {}}) for _ in "ab"]
        drive = {"VM": mine, "bootable": False, "mode": "RW", "type": "Disk", "unpluggable": True, "empty": False, "other_config": {},
                 "qos_algorithm_type": "", "qos_algorithm_params": {}}
        vbds = [self.api.VBD.create({**drive, "VDI": vdi, "userdevice": str(i)}) for i, vdi in enumerate(disks)]
        fixed = self.api.VBD.create({**drive, "VDI": NULL, "empty": True, "type": "CD", "mode": "RO", "userdevice": "3", "unpluggable": False})
        network = self.api.network.create({"name_label": "many", "other_config": {}})
        vif = self.api.VIF.create({"device": "0", "network": network, "VM": mine, "MAC": "", "MTU": 1500, "other_config": {},
                                   "qos_algorithm_type": "", "qos_algorithm_params": {}})
        [pbd] = self.api.SR.get_PBDs(sr)

        def at(collection, ref):
            return f"/{collection}/{getattr(self.api, CLASSES[collection]).get_uuid(ref)}"
        CLASSES = {"vdis": "VDI", "vbds": "VBD", "vifs": "VIF", "srs": "SR", "pbds": "PBD", "networks": "network", "hosts": "host",
                   "pools": "pool"}
        name = {ref: at(c, ref).split("/")[-1] for c, ref in (("vdis", disks[0]), ("vdis", iso), ("srs", sr), ("networks", network))}

        def reasons(method, where, body=None):
            told = self.rest.ok(200, method, where + "?plan=true", body)[1]
            self.assertEqual((told["possible"], told["id"] is not None), (not told["reasons"],) * 2)
            self.assertTrue(all(r["message"] or r["code"].startswith("SR_BACKEND") for r in told["reasons"]), told["reasons"])
            return sorted(r["code"] for r in told["reasons"])

        def check(rows):
            for method, where, body, codes in rows:
                with self.subTest(where=where, method=method, body=body):
                    self.assertEqual(reasons(method, where, body), sorted(codes))
        action = "POST"
        plug = {"VM": uuid, "VDI": name[iso], "mode": "RW", "type": "Floppy", "userdevice": "1", "qos_algorithm_type": "mine"}
        check((
            # Halted.
            (action, at("vbds", vbds[0]) + "/actions/plug", {}, ["VM_BAD_POWER_STATE"]),
            (action, at("vbds", fixed) + "/actions/unplug", {}, ["VBD_NOT_UNPLUGGABLE", "VM_BAD_POWER_STATE", "OPERATION_NOT_ALLOWED"]),
            (action, at("vbds", vbds[0]) + "/actions/insert", {"vdi": name[iso]}, ["VBD_NOT_REMOVABLE_MEDIA"]),
            (action, at("vdis", iso) + "/actions/resize", {"size": 1}, ["SR_OPERATION_NOT_SUPPORTED", "SR_BACKEND_FAILURE_79"]),
            (action, at("vdis", iso) + "/actions/copy", {"sr": name[sr], "base_vdi": name[iso]}, ["SR_OPERATION_NOT_SUPPORTED", "NOT_IMPLEMENTED"]),
            (action, "/vbds", plug, ["VALUE_NOT_SUPPORTED", "VALUE_NOT_SUPPORTED", "VDI_READONLY", "DEVICE_ALREADY_EXISTS"]),
            (action, "/vifs", {"VM": uuid, "network": name[network], "device": "0", "MAC": "no"}, ["DEVICE_ALREADY_EXISTS", "MAC_INVALID"]),
            (action, "/vdis", {"SR": name[sr], "virtual_size": -1, "type": "user", "sm_config": {"type": "vmdk"}},
             ["VALUE_NOT_SUPPORTED", "SR_BACKEND_FAILURE_79"]),
            (action, "/networks", {"name_label": "n", "bridge": "xapi-and-far-too-long"}, ["INVALID_VALUE"]),
            (action, "/srs", {"host": NO_SUCH, "type": "none", "physical_size": "much", "unheard": 1}, ["INVALID_VALUE"] * 5 + ["UUID_INVALID"]),
            ("DELETE", at("srs", sr), None, ["SR_HAS_PBD", "SR_NOT_EMPTY"]),
            ("DELETE", at("networks", network), None, ["NETWORK_CONTAINS_VIF"]),
            ("DELETE", at("pbds", pbd), None, ["OPERATION_NOT_ALLOWED"]),
            (action, at("hosts", host) + "/actions/power_on", {}, ["HOST_IS_LIVE", "HOST_POWER_ON_MODE_DISABLED"]),
            (action, "/pools/actions/enable_ha", {"heartbeat_srs": [name[sr]], "configuration": {"timeout": "x"}},
             ["INVALID_VALUE", "HA_TOO_FEW_HOSTS", "CANNOT_CREATE_STATE_FILE"]),
        ))
        self.rest.ok(200, "POST", f"{path}/actions/start", {}, wait="60s")
        check((
            (action, at("vbds", vbds[0]) + "/actions/plug", {}, ["DEVICE_ALREADY_ATTACHED"]),
            (action, at("vdis", disks[0]) + "/actions/resize", {"size": 1}, ["VDI_IN_USE", "SR_BACKEND_FAILURE_79"]),
            ("DELETE", at("vdis", disks[0]), None, ["VDI_IN_USE"]),
            (action, at("pbds", pbd) + "/actions/unplug", {}, ["VDI_IN_USE", "VDI_IN_USE"]),
            (action, at("vifs", vif) + "/actions/unplug", {}, []),
        ))
        # The first of them is what the call says.
        self.problem(409, "VDI_IN_USE", "POST", at("vdis", disks[0]) + "/actions/resize", {"size": 1}, wait="60s")
        self.rest.ok(200, "POST", f"{path}/actions/hard_shutdown", {}, wait="60s")
        self.api.PBD.unplug(pbd)
        check(((action, at("vdis", disks[0]) + "/actions/copy", {"sr": name[sr]}, ["SR_HAS_NO_PBDS"]),
               (action, at("srs", sr) + "/actions/scan", {}, ["SR_HAS_NO_PBDS"]),
               (action, f"{path}/actions/copy", {"new_name": "c", "sr": name[sr]}, ["SR_HAS_NO_PBDS"])))
        self.rest.ok(200, "PATCH", path, {"blocked_operations": {"pool_migrate": "STAY"}, "platform": {"nomigrate": "true"}})
        check(((action, f"{path}/actions/pool_migrate", {"host": self.api.host.get_uuid(host), "options": {}},
                ["OPERATION_BLOCKED", "VM_BAD_POWER_STATE", "VM_IS_IMMOBILE", "VM_REQUIRES_SR"]),))

    # ---- desired state ----

    def test_desired_state(self):
        """A document is applied, to the same end however often; what exists is one, too."""
        location = os.path.join(self.pool.folder, "desired")
        size, wish = 64 << 20, {"memory": 64 << 20, "vcpus": 1, "kernel": "vmlinuz", "running": True}
        document = {"networks": {"net d": {"mtu": 1400, "tags": ["t"], "description": "ours"}},
                    "srs": {"disks d": {"type": "file", "device_config": {"location": location}}},
                    "vms": {"vm d": {**wish, "other_config": {"owner": "ann"}, "disks": [{"device": "0", "sr": "disks d", "size": size}],
                                     "nics": [{"device": "0", "network": "net d"}],
                                     "cloud_init": {"hostname": "d1", "ssh_keys": "ssh-rsa A\nssh-rsa B: c"}}}}
        for wrong, where in (({"hosts": {}}, "hosts"), ({"vms": []}, "vms"), ({"vms": {"a": {"colour": "red"}}}, "vms.a.colour"),
                             ({"vms": {"a": {"memory": "1"}}}, "vms.a.memory"), ({"vms": {"a": {"disks": [{}]}}}, "vms.a.disks[0]"),
                             ({"vms": {"a": {"nics": [{"device": "0"}, {"device": "0"}]}}}, "vms.a.nics[1]"),
                             ({"vms": {"a": {"cloud_init": {"hostname": "a\nb"}}}}, "vms.a.cloud_init.hostname"),
                             ({"vms": {"a": {"cloud_init": {"name": "a"}}}}, "vms.a.cloud_init.name")):
            self.assertEqual(self.problem(422, "INVALID_VALUE", "POST", "/apply", wrong)["params"][0], where)

        def plan(document):
            return self.rest.ok(200, "POST", "/apply", document, plan="true")[1]
        told = plan(document)
        self.assertEqual((len(told["steps"]), told["reasons"]), (7, []), told)
        self.assertEqual(self.rest.get("/networks", filter='name_label = "net d"')["total"], 0)
        _, done = self.rest.ok(200, "POST", "/apply", document)
        self.addCleanup(lambda: self.rest.request("POST", f"/vms/{vm['uuid']}/actions/hard_shutdown", wait="60s"))
        vm = self.rest.get("/vms", filter='name_label = "vm d"')["items"][0]
        self.assertEqual((vm["power_state"], vm["other_config"]["owner"], len(vm["VBDs"]), len(vm["VIFs"])), ("Running", "ann", 1, 1))
        self.assertEqual(set(told["steps"]) - set(done["steps"]), set())
        self.assertEqual(self.rest.get(f"/tasks/{done['task']}")["status"], "success")
        self.assertEqual(plan(document), {"steps": [], "reasons": []})
        self.assertEqual(self.rest.ok(200, "POST", "/apply", document)[1]["steps"], [])
        # What there is, as a document, changes nothing either.
        state = self.rest.get("/state")
        self.assertEqual(state["networks"]["net d"], {"mtu": 1400, "tags": ["t"], "description": "ours"})
        self.assertEqual(state["vms"]["vm d"]["disks"][0]["sr"], "disks d")
        self.assertEqual(state["vms"]["vm d"]["cloud_init"], document["vms"]["vm d"]["cloud_init"])
        self.assertEqual(plan(state), {"steps": [], "reasons": []})
        # What loses data is refused, and nothing else of the document is done.
        changed = json.loads(json.dumps(document))
        changed["vms"]["vm d"]["disks"][0]["size"] = size // 2
        changed["networks"]["net d"]["description"] = "new"
        self.assertIn("lose data", self.problem(409, "OPERATION_NOT_ALLOWED", "POST", "/apply", changed)["detail"])
        self.assertEqual(self.rest.get("/state")["networks"]["net d"]["description"], "ours")
        changed["vms"]["vm d"].update(disks=[], running=False)
        self.assertEqual(len(self.rest.ok(200, "POST", "/apply", changed)[1]["steps"]), 2)
        self.assertEqual(self.rest.get(f"/vms/{vm['uuid']}")["power_state"], "Halted")
        # A disk without its drive is where an apply was cut short: the next one goes on with it.
        vbd = self.rest.get(f"/vms/{vm['uuid']}")["VBDs"][0]
        self.rest.ok(204, "DELETE", f"/vbds/{vbd}")
        again = {"vms": {"vm d": {"vcpus": 2, "disks": [{"device": "0", "sr": "disks d", "size": size}]}}}
        self.assertEqual([s.split()[0] for s in plan(again)["steps"]], ["Sets", "Sets", "Gives"])
        # And from the command line, in YAML.
        path = os.path.join(self.pool.folder, "pool.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write('vms:\n  "vm d":  # ours\n    vcpus: 2\n    disks:\n    - {device: "0", sr: disks d, size: %d}\n' % size)

        def xe(*words, code=0):
            run = subprocess.run([program("xe"), "-s", "127.0.0.1", "-p", str(self.pool.port), "--ca", self.pool.ca, "-u", "root",
                                  "-pw", self.pool.password, *words], text=True, stdin=subprocess.DEVNULL, check=False,
                                 capture_output=True, timeout=120)
            self.assertEqual(run.returncode, code, run.stderr)
            return run.stdout
        self.assertEqual(xe("diff", "-f", path).splitlines(), plan(again)["steps"])
        self.assertEqual(len(xe("apply", "-f", path).splitlines()), 3)
        self.assertEqual(xe("diff", f"file={path}"), "")
        with open(path, "w", encoding="utf-8") as f:
            f.write(xe("export-state"))
        self.assertEqual(xe("diff", "-f", path), "")
        with open(path, "w", encoding="utf-8") as f:
            f.write("vms: &a {}\n")
        xe("apply", "-f", path, code=1)
        # The way back: refused while it would lose data, else what was is again, and what was made is gone.
        lost = self.rest.ok(200, "POST", "/undo", plan="true")[1]
        self.assertIn("A disk was added", lost["reasons"][0]["why"])
        self.problem(409, "OPERATION_NOT_ALLOWED", "POST", "/undo")
        self.rest.ok(200, "POST", "/apply", {
            "networks": {"net d": {"description": "again"}, "net e": {}},
            "vms": {"vm d": {"vcpus": 3, "nics": [{"device": "0", "network": "net d"}, {"device": "1", "network": "net e"}]}}})
        self.assertEqual(len(xe("undo", "plan=true").splitlines()), 5)
        self.assertEqual(len(xe("undo").splitlines()), 5)
        after = self.rest.get("/state")
        self.assertEqual((after["networks"]["net d"]["description"], "net e" in after["networks"]), ("new", False))
        self.assertEqual((after["vms"]["vm d"]["vcpus"], len(after["vms"]["vm d"]["nics"])), (2, 1))
        self.problem(409, None, "POST", "/undo")
        # What was made goes where nothing is lost: a halted VM without disks, its network, an SR without disks.
        self.rest.ok(200, "POST", "/apply", {
            "networks": {"net f": {}},
            "srs": {"disks f": {"type": "file", "device_config": {"location": os.path.join(self.pool.folder, "made")}}},
            "vms": {"vm f": {**wish, "nics": [{"device": "0", "network": "net f"}]}}})
        self.assertIn("It was made, and runs", self.rest.ok(200, "POST", "/undo", plan="true")[1]["reasons"][0]["why"])
        vm_f = self.rest.get("/vms", filter='name_label = "vm f"')["items"][0]["uuid"]
        self.rest.ok(200, "POST", f"/vms/{vm_f}/actions/hard_shutdown", wait="60s")
        told = self.rest.ok(200, "POST", "/undo", plan="true")[1]
        self.assertEqual(sorted(s.split()[0] for s in told["steps"]), ["Forgets", "Removes", "Removes", "Unplugs"], told)
        self.assertEqual(len(self.rest.ok(200, "POST", "/undo")[1]["steps"]), 4)
        after = self.rest.get("/state")
        self.assertEqual(("vm f" in after["vms"], "disks f" in after["srs"], "net f" in after["networks"]), (False, False, False))

    def test_apply_is_a_task(self):
        """A document that takes long: who asks may leave it, whoever waits is told the same, and cancelling stops it between two steps."""
        agent, wish = self.pool.hosts[0], {"memory": 64 << 20, "vcpus": 1, "kernel": "vmlinuz", "running": True}
        path = os.path.join(self.pool.folder, "long.json")
        xe = [program("xe"), "-s", "127.0.0.1", "-p", str(self.pool.port), "--ca", self.pool.ca, "-u", "root", "-pw", self.pool.password]
        basic = {"Authorization": "Basic " + base64.b64encode(f"root:{self.pool.password}".encode()).decode()}

        def document(name):
            return {"vms": {f"{name} {n}": wish for n in "ab"}}

        def running():
            return self.rest.get("/tasks", filter="status = pending and name_label = apply")["items"]

        def at_a_host():
            """A step of it waits for the host."""
            return self.rest.get("/tasks", filter="status = pending and name_label = VM.start")["items"]

        def ended(uuid):
            return until("the task ends", lambda: (self.rest.get(f"/tasks/{uuid}")["status"]).replace("pending", ""))
        self.addCleanup(agent.signal, signal.SIGCONT)
        for name, headers, end in (("cancelled", None, "cancelled"), ("left", basic, "success")):
            with self.subTest(name):
                agent.signal(signal.SIGSTOP)
                _, task = self.rest.ok(202, "POST", "/apply", document(name), headers, wait="0")
                until("it waits for the host", at_a_host)
                self.problem(409, None, "POST", "/apply", document("other"))
                self.assertEqual(running()[0]["uuid"], task["uuid"])
                if end == "cancelled":
                    self.rest.ok(200, "POST", f"/tasks/{task['uuid']}/actions/cancel", {}, wait="60s")
                agent.signal(signal.SIGCONT)
                self.assertEqual(ended(task["uuid"]), end)
                left = self.rest.ok(200, "POST", "/apply", document(name), plan="true")[1]["steps"]
                self.assertEqual(bool(left), end == "cancelled", left)
        # The command follows the task, or leaves it.
        for more, name in (([], "followed"), (["--async"], "detached")):
            with self.subTest(name):
                with open(path, "w", encoding="utf-8") as f:
                    json.dump(document(name), f)
                agent.signal(signal.SIGSTOP)
                with subprocess.Popen([*xe, "apply", "-f", path, *more], stdout=subprocess.PIPE, text=True) as command:
                    until("it waits for the host", at_a_host)
                    agent.signal(signal.SIGCONT)
                    lines = command.communicate(timeout=120)[0].splitlines()
                self.assertEqual(command.returncode, 0)
                if more:
                    self.assertEqual(ended(lines[0]), "success")
                else:
                    self.assertEqual(sum(line.startswith("Starts") for line in lines), 2, lines)
        self.problem(400, None, "POST", "/apply", document("other"), wait="soon")

    # ---- watching over the server ----

    def test_metrics(self):
        self.assertEqual(self.pool.http("GET", "/metrics")[0], 401)
        self.assertEqual(self.pool.http("GET", "/healthz")[::2], (200, b'{"status":"ok"}'))
        uuid = self.vm('with "quotes" and \\')
        self.rest.ok(200, "POST", f"/vms/{uuid}/actions/start", wait="60s")
        self.addCleanup(lambda: self.rest.request("POST", f"/vms/{uuid}/actions/hard_shutdown", wait="60s"))

        def page():
            status, head, body = self.pool.http("GET", "/metrics", headers=self.rest.headers)
            self.assertEqual((status, head["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
            return body.decode()
        label = f'uuid="{uuid}",name="with \\"quotes\\" and \\\\"'
        until("measurements", lambda: f'corral_vm_cpu_total{{{label},device="0"}} ' in page(), 60)
        text = page()
        text = page()
        self.assertIn(f"corral_vm_running{{{label}}} 1\n", text)
        self.assertIn("\n# TYPE corral_host_memory_bytes gauge\n", text)
        seen, kinds = set(), 0
        for line in text.splitlines():  # each metric's lines stand together, behind its one TYPE
            if line.startswith("# TYPE "):
                metric = line.split()[2]
                self.assertNotIn(metric, seen)
                seen.add(metric)
                kinds += 1
            else:
                self.assertRegex(line, rf"^{metric}({{[^}}]*}})? -?[0-9.e+-]+$")
        self.assertGreater(kinds, 20)

    # ---- events ----

    def stream(self, query="", headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.pool.http_port, timeout=60)
        self.addCleanup(connection.close)
        connection.request("GET", f"{API}/events{query}", headers={**self.rest.headers, **(headers or {})})
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.getheader("Content-Type")), (200, "text/event-stream"))
        return Stream(answer)

    def test_events(self):
        stream = self.stream("?classes=networks")
        stream.started.wait(30)
        _, made = self.rest.ok(201, "POST", "/networks", {"name_label": "told"})
        added = stream.wait_for(lambda e: e.get("uuid") == made["uuid"])
        self.assertEqual((added["class"], added["operation"], added["object"]["name_label"]), ("networks", "add", "told"))
        token = stream.wait_token()
        self.pool.restart()
        type(self).api = self.pool.login()
        type(self).rest = Rest(self.pool, self.api.session)
        self.rest.ok(200, "PATCH", f"/networks/{made['uuid']}", {"name_label": "told again"})
        again = self.stream("?classes=networks", {"Last-Event-ID": token})
        changed = again.wait_for(lambda e: e.get("uuid") == made["uuid"])
        self.assertEqual((changed["operation"], changed["object"]["name_label"]), ("mod", "told again"))
        self.rest.request("DELETE", f"/networks/{made['uuid']}")
        gone = again.wait_for(lambda e: e.get("operation") == "del")
        self.assertEqual(gone["ref"], added["ref"])
        everything = self.stream("?from=start&classes=hosts,pools")
        everything.wait_for(lambda e: e["class"] == "hosts")
        everything.wait_for(lambda e: e["class"] == "pools")


class RateTest(unittest.TestCase):
    def test_too_many(self):
        """Each has a bucket of its own; who is refused is told for how long."""
        with TestPool(options=["--rate-limit", "1", "--rate-burst", "5"]) as pool:
            api = pool.login()
            rest = Rest(pool, api.session)
            _, made = rest.ok(201, "POST", "/tokens", {"name": "busy"})
            token = Rest(pool, made["token"])

            def refused(client, path):
                status, head, answer = client.request("GET", path)
                if status == 429:
                    self.assertEqual((answer["title"], head["content-type"]), ("Too Many Requests", "application/problem+json"))
                    self.assertTrue(1 <= int(head["retry-after"]) <= 5, head)
                return status == 429
            until("a refusal", lambda: refused(rest, "/session"), step_s=0)
            self.assertFalse(refused(token, "/session"))
            until("a refusal of the token", lambda: refused(token, "/session"), step_s=0)
            until("a refusal of the address", lambda: refused(Rest(pool, "corral-nobody"), "/session"), step_s=0)
            until("new permits", lambda: not refused(rest, "/session"))

    def test_the_other_doors(self):
        """Calls count for their address, REST does not; and what was applied can be taken back after a restart."""
        with TestPool(options=["--call-limit", "1", "--call-burst", "20"]) as pool:
            rest = Rest(pool, pool.login().session)
            rest.ok(200, "POST", "/apply", {"networks": {"net r": {}}})
            pool.restart(crash=True)
            rest = Rest(pool, pool.login().session)
            self.assertEqual(rest.ok(200, "POST", "/undo")[1]["steps"], ["Removes network net r."])
            call = json.dumps({"jsonrpc": "2.0", "method": "session.get_this_host", "params": ["x", "x"], "id": 1})

            def refused():
                status, head, _ = pool.http("POST", "/jsonrpc", call)
                self.assertIn(status, (200, 429))
                if status == 429:
                    self.assertTrue(1 <= int(head["Retry-After"]) <= 20, head)
                return status == 429
            until("a refusal", refused, step_s=0)
            self.assertEqual(rest.request("GET", "/session")[0], 200)
            self.assertEqual(pool.http("GET", "/healthz")[0], 200)
            until("new permits", lambda: not refused())


class Stream:
    """Reads server-sent events in a thread."""

    def __init__(self, answer):
        self.answer = answer
        self.events = []
        self.token = None
        self.started = threading.Event()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        kind, data, token = None, None, None
        try:
            for line in self.answer:
                line = line.decode().rstrip("\n")
                self.started.set()
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    data = json.loads(value)
                elif name == "id":
                    token = value
                elif not line:
                    if kind == "change":
                        self.events.append(data)
                    if token:
                        self.token = token
                    kind = data = token = None
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            pass

    def wait_for(self, fits):
        return until("an event", lambda: next((e for e in self.events if fits(e)), None))

    def wait_token(self):
        return until("a token", lambda: self.token)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
