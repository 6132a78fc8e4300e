"""Users, subjects and roles: who may log in, and what they may do then, through every door."""
import base64
import glob
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import types
import unittest

import thin
from pool import NULL, Failure, TestPool, description, module_pool, program, until
from test_events import vm_record

POOL = API = None
ROLES = ["read-only", "vm-operator", "vm-admin", "vm-power-admin", "pool-operator", "pool-admin"]
PASSWORD = "a long enough word"
ACTIONS = description().http_actions


def setUpModule():
    global POOL, API
    POOL = module_pool(hosts=1)
    API = POOL.login()


def role(name, api=None):
    api = api or API
    return api.call("role.get_by_name_label", api.session, name)[0]


def make_user(name, *roles, api=None, password=PASSWORD):
    api = api or API
    return api.call("user.create_with_password", api.session, name, "Mr " + name, password, [role(r, api) for r in roles])


def subject_of(name, api=None):
    api = api or API
    sid = api.call("auth.get_subject_identifier", api.session, name)
    [(ref, record)] = [(r, s) for r, s in api.subject.get_all_records().items() if s["subject_identifier"] == sid]
    return ref, record


def login(name, password=PASSWORD, pool=None):
    client = (pool or POOL).client()
    client.login(name, password, "users")
    return client


class Case(unittest.TestCase):
    def refused(self, code, method, *args, api=None):
        api = api or API
        with self.assertRaises(Failure) as caught:
            api.call(method, api.session, *args)
        self.assertEqual(caught.exception.code, code, caught.exception.params)
        return caught.exception.params

    def no_login(self, code, name, password=PASSWORD, pool=None):
        with self.assertRaises(Failure) as caught:
            login(name, password, pool)
        self.assertEqual(caught.exception.code, code, caught.exception.params)
        return caught.exception.params


class Roles(Case):
    def test_rows(self):
        records = API.role.get_all_records()
        whole = {r["name_label"]: r for r in records.values() if r["subroles"]}
        self.assertEqual(sorted(whole), sorted([*ROLES, "client-cert"]))
        self.assertEqual([n for n, r in whole.items() if r["is_internal"]], ["client-cert"])
        sizes = [len(whole[name]["subroles"]) for name in ROLES]
        self.assertEqual(sizes, sorted(set(sizes)))
        self.assertGreater(len(records), 2000)
        names = [r["name_label"] for r in records.values()]
        self.assertEqual(len(names), len(set(names)))
        for name in ("vm.start", "vm.add_to_other_config/key:pci", "http/get_export", "task.destroy/any"):
            self.assertIn(name, names)
        self.assertNotIn("host.add_to_license_params", [n for n in names if n != n.lower() and "/key:" not in n])

    def test_permissions_of_roles(self):
        for ref, record in [(role(n), API.call("role.get_record", API.session, role(n))) for n in ROLES]:
            below = API.call("role.get_permissions", API.session, ref)
            names = API.call("role.get_permissions_name_label", API.session, ref)
            self.assertEqual(sorted(below), sorted(record["subroles"]))
            self.assertEqual(len(names), len(below))
        start = role("vm.start")
        self.assertEqual(API.call("role.get_permissions_name_label", API.session, start), ["vm.start"])
        by_ref = API.call("role.get_by_permission", API.session, start)
        by_name = API.call("role.get_by_permission_name_label", API.session, "vm.start")
        self.assertEqual(by_ref, by_name)
        self.assertEqual(sorted(API.call("role.get_name_label", API.session, r) for r in by_ref), sorted(ROLES[1:]))
        self.assertEqual(API.call("role.get_by_permission_name_label", API.session, "no.such"), [])
        self.refused("HANDLE_INVALID", "role.get_permissions", NULL)

    def test_they_are_the_same_everywhere_and_after_a_restart(self):
        with TestPool() as pool:
            api = pool.login()
            self.assertEqual({r: x["uuid"] for r, x in api.role.get_all_records().items()},
                             {r: x["uuid"] for r, x in API.role.get_all_records().items()})
            token = api.call("event.from", api.session, ["role"], "", 1.0)["token"]
            pool.restart()
            api = pool.login()
            self.assertEqual(api.call("event.from", api.session, ["role"], token, 0.1)["events"], [])


class LocalUsers(Case):
    def test_life_of_a_user(self):
        ref = make_user("anna", "vm-admin")
        self.assertEqual(API.call("user.get_record", API.session, ref)["short_name"], "anna")
        _, subject = subject_of("anna")
        self.assertEqual(subject["roles"], [role("vm-admin")])
        self.assertEqual(subject["other_config"]["subject-name"], "anna")
        anna = login("anna")
        record = anna.call("session.get_record", anna.session, anna.session)
        self.assertEqual((record["auth_user_name"], record["auth_user_sid"], record["is_local_superuser"], record["pool"],
                          record["this_user"], record["originator"]),
                         ("anna", subject["subject_identifier"], False, False, NULL, "users"))
        self.assertEqual(record["subject"], subject_of("anna")[0])
        self.assertEqual(record["rbac_permissions"],
                         anna.call("role.get_permissions_name_label", anna.session, role("vm-admin")))
        self.assertEqual(anna.call("subject.get_permissions_name_label", anna.session, record["subject"]),
                         record["rbac_permissions"])
        self.assertIn(subject["subject_identifier"], API.call("session.get_all_subject_identifiers", API.session))
        API.call("user.destroy", API.session, ref)
        self.refused("SESSION_INVALID", "VM.get_all", api=anna)
        self.assertEqual(API.call("session.get_all_subject_identifiers", API.session), [])
        self.refused("HANDLE_INVALID", "user.get_record", ref)
        self.assertNotIn(subject["subject_identifier"],
                         [s["subject_identifier"] for s in API.subject.get_all_records().values()])

    def test_names_and_passwords_that_cannot_be(self):
        for name in ("", "root", "-x", "a b", "a/b", "a:b", "a\nb", "x" * 256, "a'b"):
            self.refused("INVALID_VALUE", "user.create_with_password", name, "", PASSWORD, [])
        self.refused("CHANGE_PASSWORD_REJECTED", "user.create_with_password", "beate", "", "", [])
        self.refused("ROLE_NOT_FOUND", "user.create_with_password", "beate", "", PASSWORD, [role("vm.start")])
        self.refused("ROLE_NOT_FOUND", "user.create_with_password", "beate", "", PASSWORD, [role("client-cert")])
        ref = make_user("beate")
        self.refused("SUBJECT_ALREADY_EXISTS", "user.create_with_password", "beate", "", PASSWORD, [])
        API.call("user.destroy", API.session, ref)

    def test_without_a_password_nobody_gets_in(self):
        ref = API.call("user.create", API.session, {"short_name": "carla", "fullname": "C", "other_config": {}})
        API.call("subject.add_to_roles", API.session, subject_of("carla")[0], role("pool-admin"))
        self.no_login("SESSION_AUTHENTICATION_FAILED", "carla", "")
        API.call("user.set_password", API.session, ref, PASSWORD)
        until("the brake lets go", lambda: login("carla"), 60)
        API.call("user.destroy", API.session, ref)

    def test_without_a_role_nobody_gets_in(self):
        ref = make_user("dora")
        params = self.no_login("RBAC_PERMISSION_DENIED", "dora")
        self.assertEqual(params[0], "session.login_with_password")
        API.call("subject.destroy", API.session, subject_of("dora")[0])
        self.assertEqual(self.no_login("SESSION_AUTHORIZATION_FAILED", "dora")[0], "dora")
        sid = API.call("auth.get_subject_identifier", API.session, "dora")
        again = API.call("subject.create", API.session, {"subject_identifier": sid, "other_config": {"subject-name": "dora"}})
        self.refused("SUBJECT_ALREADY_EXISTS", "subject.create", {"subject_identifier": sid, "other_config": {}})
        API.call("subject.add_to_roles", API.session, again, role("read-only"))
        login("dora").VM.get_all()
        API.call("user.destroy", API.session, ref)

    def test_changes_of_roles_hold_at_once(self):
        ref = make_user("emma", "read-only")
        subject, _ = subject_of("emma")
        emma = login("emma")
        pool = API.pool.get_all()[0]
        change = ("pool.set_name_description", pool, "by emma")
        self.refused("RBAC_PERMISSION_DENIED", *change, api=emma)
        self.refused("ROLE_NOT_FOUND", "subject.add_to_roles", subject, NULL)
        self.refused("ROLE_ALREADY_EXISTS", "subject.add_to_roles", subject, role("read-only"))
        self.refused("ROLE_NOT_FOUND", "subject.remove_from_roles", subject, role("pool-admin"))
        API.call("subject.add_to_roles", API.session, subject, role("pool-operator"))
        emma.call(change[0], emma.session, *change[1:])
        self.assertIn("pool.set_name_description",
                      emma.call("session.get_rbac_permissions", emma.session, emma.session))
        API.call("subject.remove_from_roles", API.session, subject, role("pool-operator"))
        self.refused("RBAC_PERMISSION_DENIED", *change, api=emma)
        API.call("subject.remove_from_roles", API.session, subject, role("read-only"))
        self.refused("SESSION_INVALID", "VM.get_all", api=emma)
        API.call("user.destroy", API.session, ref)

    def test_passwords_are_changed_by_user_and_administrator(self):
        ref = make_user("frida", "read-only")
        frida = login("frida")
        self.refused("SESSION_AUTHENTICATION_FAILED", "session.change_password", "wrong", "new", api=frida)
        self.refused("CHANGE_PASSWORD_REJECTED", "session.change_password", PASSWORD, "", api=frida)
        frida.call("session.change_password", frida.session, PASSWORD, "new word")
        frida.VM.get_all()
        login("frida", "new word")
        self.refused("RBAC_PERMISSION_DENIED", "user.set_password", ref, "x", api=frida)
        API.call("user.set_password", API.session, ref, "newest word")
        self.refused("SESSION_INVALID", "VM.get_all", api=frida)
        login("frida", "newest word")
        self.no_login("SESSION_AUTHENTICATION_FAILED", "frida", "new word")
        login("root", POOL.password)
        API.call("user.destroy", API.session, ref)

    def test_logout_by_identifier(self):
        ref = make_user("gerda", "read-only")
        one, two = login("gerda"), login("gerda")
        sid = subject_of("gerda")[1]["subject_identifier"]
        API.call("session.logout_subject_identifier", API.session, sid)
        for client in (one, two):
            self.refused("SESSION_INVALID", "VM.get_all", api=client)
        API.VM.get_all()
        API.call("user.destroy", API.session, ref)

    def test_nothing_shows_a_password(self):
        canary = "canary-5d41402abc4b"
        ref = make_user("hanna", "pool-admin", password=canary)
        hanna = login("hanna", canary)
        hanna.call("session.change_password", hanna.session, canary, canary + "2")
        API.call("user.set_password", API.session, ref, canary + "3")
        seen = json.dumps([API.user.get_all_records(), API.subject.get_all_records(), API.task.get_all_records(),
                           API.call("event.from", API.session, ["*"], "", 1.0)])
        for text in (seen, POOL.poold.log(), POOL.read("audit.log")):
            self.assertNotIn("canary", text)
            self.assertNotIn("scrypt", text)
        self.refused("INVALID_VALUE", "user.get_all_records_where", 'field "password_hash" = "x"')
        API.call("user.destroy", API.session, ref)

    def test_questions_about_people(self):
        ref = make_user("ida", "read-only")
        sid = API.call("auth.get_subject_identifier", API.session, "ida")
        known = API.call("auth.get_subject_information_from_identifier", API.session, sid)
        self.assertEqual((known["subject-name"], known["subject-displayname"], known["subject-is-group"]),
                         ("ida", "Mr ida", "false"))
        self.assertEqual(API.call("auth.get_group_membership", API.session, sid), [])
        self.refused("AUTH_IS_DISABLED", "auth.get_subject_identifier", "nobody")
        self.refused("AUTH_IS_DISABLED", "auth.get_subject_information_from_identifier", "pam-user:nobody")
        API.call("user.destroy", API.session, ref)


class Doors(Case):
    """The same verdict at the doors that are no messages."""

    DOORS = {  # action -> what to ask for, so that somebody who may hears of something else
        "post_join_tokens": "", "post_why": "", "post_console_tokens": "", "get_audit_log": "?since=9", "get_export_raw_vdi": "?vdi=x",
        "put_import_raw_vdi": "?vdi=x", "connect_console_ws": "?uuid=x", "put_blob": "?uuid=x", "rrd_updates": "?start=0",
        "vm_rrd": "?uuid=x", "get_vm_rrds": "?uuid=x", "host_rrd": "", "get_host_rrds": "", "sr_rrd": "?uuid=x",
        "rrd": "?uuid=x&is_host=false", "get_vncsnapshot": "?uuid=x", "get_export": "?uuid=x",
        "get_export_metadata": "?uuid=x", "put_import": "?sr_id=x", "put_import_metadata": "",
    }

    @classmethod
    def setUpClass(cls):
        cls.users = [make_user("door-" + name, name) for name in ROLES]
        cls.sessions = {name: login("door-" + name) for name in ROLES}

    @classmethod
    def tearDownClass(cls):
        for user in cls.users:
            API.call("user.destroy", API.session, user)

    def test_every_role_at_every_door(self):
        """What openapi/http.toml says is what happens."""
        for name, query in self.DOORS.items():
            action = ACTIONS[name]
            body = {"GET": None, "POST": b"{}", "PUT": b""}[action["method"]]
            upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                       "Sec-WebSocket-Key": base64.b64encode(b"x" * 16).decode()} if name == "connect_console_ws" else {}
            ask = lambda headers: POOL.http(action["method"], action["uri"] + query, body, {**headers, **upgrade})[::2]
            with self.subTest(door=name, role="nobody"):
                self.assertEqual(ask({})[0], 401)
            for at, role_name in enumerate(ROLES):
                status, text = ask({"Cookie": "session_id=" + self.sessions[role_name].session})
                with self.subTest(door=name, role=role_name):
                    self.assertNotEqual(status, 401, text)
                    denied = b"RBAC_PERMISSION_DENIED" in text
                    self.assertEqual((denied, status == 403), (at < ROLES.index(action["role"]),) * 2, (status, text))
                    if denied:
                        self.assertIn(b"http/" + name.encode(), text)

    def test_keys_of_maps_that_need_more(self):
        """One key, the whole map, REST and the command line: the same verdict, and nothing has changed after a no."""
        vm = API.VM.create(vm_record("guarded"))
        uuid = API.VM.get_uuid(vm)
        self.addCleanup(API.VM.destroy, vm)
        # The map's own role is vm-admin: it is needed for a key that has none.
        for field, key, needed in (("other_config", "pci", "pool-admin"), ("platform", "hvm_serial", "pool-admin"),
                                   ("other_config", "XenCenter.CustomFields.x", "vm-operator"), ("other_config", "free", "vm-admin")):
            get, put = getattr(API.VM, "get_" + field), getattr(API.VM, "set_" + field)
            before = get(vm)
            for role_name in ROLES:
                api = self.sessions[role_name]
                allowed = ROLES.index(role_name) >= ROLES.index(needed)

                def message(name, *args, api=api):
                    try:
                        api.call(f"VM.{name}_{field}", api.session, vm, *args)
                        return True
                    except Failure as failure:
                        self.assertEqual(failure.code, "RBAC_PERMISSION_DENIED")
                        return False

                def rest(value, api=api):
                    status, _, text = POOL.http("PATCH", f"/api/v1/vms/{uuid}", json.dumps({field: {key: value}}).encode(),
                                                {"Authorization": "Bearer " + api.session, "Content-Type": "application/merge-patch+json"})
                    self.assertIn(status, (200, 403), text)
                    return status == 200

                def line(role_name=role_name):
                    outcome = thin.ThinClient(POOL, "door-" + role_name, PASSWORD).run(
                        "vm-param-set", f"uuid={uuid}", f"{field.replace('_', '-')}:{key}=v")
                    self.assertEqual(outcome.code != 0, "RBAC_PERMISSION_DENIED" in outcome.err or "role" in outcome.err, outcome.err)
                    return outcome.code == 0
                doors = {"add": lambda: message("add_to", key, "v"), "set": lambda: message("set", {**before, key: "v"}),
                         "rest": lambda: rest("v"), "line": line}
                for door, enter in doors.items() if key == "pci" else list(doors.items())[:3]:
                    with self.subTest(field=field, key=key, role=role_name, door=door):
                        self.assertEqual(enter(), allowed)
                        self.assertEqual(get(vm), {**before, key: "v"} if allowed else before)
                    put(vm, {**before, key: "v"})
                    with self.subTest(field=field, key=key, role=role_name, door=door, what="away"):
                        gone = rest(None) if door == "rest" else message("set", before) if door == "set" else message("remove_from", key)
                        self.assertEqual(gone, allowed)
                    put(vm, before)

    def test_ways_to_say_who_one_is(self):
        session = self.sessions["pool-operator"].session
        basic = POOL.basic("door-pool-operator", PASSWORD)
        secret = POOL.read("pool-secret")
        for title, path, headers, status in (
                ("nothing", "", {}, 401),
                ("cookie", "", {"Cookie": f"a=b; session_id={session}"}, 200),
                ("query", "?session_id=" + session, {}, 200),
                ("bearer", "", {"Authorization": "Bearer " + session}, 200),
                ("basic", "", basic, 200),
                ("basic without colon", "", {"Authorization": "Basic " + base64.b64encode(b"root").decode()}, 401),
                ("basic, no base64", "", {"Authorization": "Basic %%%"}, 401),
                ("wrong session", "?session_id=OpaqueRef:NULL", {}, 401),
                ("wrong session, right password", "?session_id=x", basic, 401),
                ("secret", "", {"Cookie": "pool_secret=" + secret}, 200),
                ("wrong secret", "", {"Cookie": "pool_secret=" + secret[:-1]}, 401),
                ("empty secret", "", {"Cookie": "pool_secret="}, 401)):
            with self.subTest(title):
                got, answered, _ = POOL.http("GET", "/audit_log" + path, None, headers)
                self.assertEqual(got, status)
                if status == 401:
                    self.assertEqual(answered["WWW-Authenticate"], 'Basic realm="get_audit_log"')

    def test_a_temporary_session_is_gone_afterwards(self):
        sid = subject_of("door-vm-admin")[1]["subject_identifier"]
        API.call("session.logout_subject_identifier", API.session, sid)
        self.assertEqual(POOL.http("GET", "/audit_log", None, POOL.basic("door-vm-admin", PASSWORD))[0], 200)
        until("its session has ended", lambda: sid not in API.call("session.get_all_subject_identifiers", API.session))
        type(self).sessions["vm-admin"] = login("door-vm-admin")

    def test_a_refusal_fails_the_clients_task(self):
        for headers, code in (({}, "SESSION_AUTHENTICATION_FAILED"),
                              ({"Cookie": "session_id=" + self.sessions["read-only"].session}, "RBAC_PERMISSION_DENIED")):
            owner = self.sessions["read-only"]
            task = owner.call("task.create", owner.session, "upload", "")
            POOL.http("PUT", f"/import_raw_vdi?vdi=x&task_id={task}", b"", headers)
            until("the task has failed", lambda t=task: API.call("task.get_status", API.session, t) == "failure")
            self.assertEqual(API.call("task.get_error_info", API.session, task)[0], code)
            API.call("task.destroy", API.session, task)

    def test_tasks_belong_to_users(self):
        """All sessions of the one who made it may act on a task; others with the role; nobody else."""
        maker, stranger = self.sessions["vm-admin"], self.sessions["vm-power-admin"]
        task = maker.call("task.create", maker.session, "mine", "")
        self.refused("RBAC_PERMISSION_DENIED", "task.cancel", task, api=stranger)
        POOL.http("PUT", f"/rrd?uuid=x&task_id={task}", b"", {"Cookie": "session_id=" + stranger.session})
        self.assertEqual(API.call("task.get_status", API.session, task), "pending")
        again = login("door-vm-admin")
        again.call("task.set_progress", again.session, task, 0.5)
        self.sessions["pool-operator"].call("task.destroy", self.sessions["pool-operator"].session, task)

    def test_what_shows_a_session_is_no_key_to_it(self):
        """A uuid or reference in a record is not what the login answered."""
        task = API.call("task.create", API.session, "mine", "")
        shown = API.call("session.get_by_uuid", API.session, API.call("session.get_uuid", API.session, API.session))
        self.assertNotIn(shown, (API.session, NULL))
        with self.assertRaises(Failure) as caught:
            API.call("VM.get_all", shown)
        self.assertEqual(caught.exception.code, "SESSION_INVALID")
        self.assertIn(task, API.call("session.get_record", API.session, API.session)["tasks"])
        self.assertEqual(API.call("session.get_uuid", API.session, API.session),
                         API.call("session.get_uuid", API.session, shown))
        API.call("task.destroy", API.session, task)


class Members(Case):
    """Sessions of members of the pool, and on one host alone."""

    def test_the_secret_opens_sessions(self):
        secret = POOL.read("pool-secret")
        for method, args, pool in (("session.slave_login", [NULL, secret], True), ("session.slave_local_login", [secret], False),
                                   ("session.slave_local_login_with_password", ["root", POOL.password], False)):
            session = API.call(method, *args)
            record = API.call("session.get_record", session, session)
            self.assertEqual((record["pool"], record["is_local_superuser"]), (pool, True), method)
            API.call("session.local_logout", session)
            if pool:
                API.call("VM.get_all", session)
                API.call("session.logout", session)
            with self.assertRaises(Failure) as caught:
                API.call("VM.get_all", session)
            self.assertEqual(caught.exception.code, "SESSION_INVALID")

    def test_wrong_ones_do_not(self):
        ref = make_user("jana", "pool-admin")
        client = POOL.client()
        for method, args in (("session.slave_login", [NULL, ""]), ("session.slave_local_login", ["wrong"]),
                             ("session.slave_local_login_with_password", ["jana", PASSWORD])):
            with self.assertRaises(Failure) as caught:
                client.call(method, *args)
            self.assertEqual(caught.exception.code, "SESSION_AUTHENTICATION_FAILED", method)
        API.call("user.destroy", API.session, ref)

    def test_no_session_from_a_file(self):
        self.refused("COULD_NOT_IMPORT_DATABASE", "session.create_from_db_file", "/etc/passwd")


def matrix_module():
    found = glob.glob("/usr/lib/*/pam_wrapper/pam_matrix.so")
    return found[0] if found else None


@unittest.skipUnless(matrix_module(), "libpam-wrapper is not installed")
class Directory(Case):
    """The machine's users through PAM, here with a list of passwords of the test's own. `daemon` and `games` are
    users that every Debian has, each in a group of its name."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="corral-pam-")
        with open(cls.folder + "/passwords", "w", encoding="ascii") as file:
            for user in ("daemon", "games", "root", "karla"):
                file.write(f"{user}:pam {user}:corral\n")
        cls.service = cls.folder + "/corral"
        cls.pool = TestPool(hosts=1, options=["--pam-dir", cls.folder])
        cls.api = cls.pool.login()
        cls.ref = cls.api.pool.get_all()[0]

    @classmethod
    def tearDownClass(cls):
        cls.pool.close()
        for name in os.listdir(cls.folder):
            os.unlink(os.path.join(cls.folder, name))
        os.rmdir(cls.folder)

    def write_service(self):
        module = matrix_module()
        with open(self.service, "w", encoding="ascii") as file:
            for kind in ("auth", "account", "password", "session"):
                file.write(f"{kind} required {module} passdb={self.folder}/passwords\n")

    def enable(self, auth_type="PAM"):
        self.api.call("pool.enable_external_auth", self.api.session, self.ref, {}, "machine", auth_type)

    def add(self, sid, *roles):
        ref = self.api.call("subject.create", self.api.session, {"subject_identifier": sid, "other_config": {}})
        for name in roles:
            self.api.call("subject.add_to_roles", self.api.session, ref, role(name, self.api))
        return ref

    def test_whole_life(self):
        api, pool = self.api, self.pool
        refused = lambda *args: self.refused(*args, api=api)
        self.no_login("SESSION_AUTHENTICATION_FAILED", "daemon", "pam daemon", pool)

        refused("AUTH_UNKNOWN_TYPE", "pool.enable_external_auth", self.ref, {}, "x", "AD")
        words = refused("POOL_AUTH_ENABLE_FAILED", "pool.enable_external_auth", self.ref, {}, "x", "PAM")
        self.assertIn("service file", words[1])
        self.write_service()
        self.enable()
        refused("POOL_AUTH_ALREADY_ENABLED", "pool.enable_external_auth", self.ref, {}, "x", "PAM")
        host = api.host.get_all()[0]
        self.assertEqual(api.call("host.get_external_auth_type", api.session, host), "PAM")
        self.assertEqual(api.call("host.get_external_auth_service_name", api.session, host), "machine")
        refused("AUTH_ALREADY_ENABLED", "host.enable_external_auth", host, {}, "x", "PAM")

        # In PAM, but nobody allowed them in.
        self.assertEqual(self.no_login("SESSION_AUTHORIZATION_FAILED", "games", "pam games", pool)[0], "games")
        # A subject without a role.
        sid = api.call("auth.get_subject_identifier", api.session, "games")
        self.assertEqual(sid, "pam-user:games")
        subject = self.add(sid)
        self.no_login("RBAC_PERMISSION_DENIED", "games", "pam games", pool)
        api.call("subject.add_to_roles", api.session, subject, role("vm-operator", api))
        games = login("games", "pam games", pool)
        self.refused("RBAC_PERMISSION_DENIED", "pool.set_name_label", self.ref, "x", api=games)
        record = games.call("session.get_record", games.session, games.session)
        self.assertEqual((record["auth_user_sid"], record["is_local_superuser"]), (sid, False))
        # The directory keeps this password, not this server.
        self.refused("RBAC_PERMISSION_DENIED", "session.change_password", "pam games", "x", api=games)

        # By group, and the stronger of two roles counts.
        group = self.add("pam-group:daemon", "read-only")
        daemon = login("daemon", "pam daemon", pool)
        self.assertEqual(daemon.call("session.get_subject", daemon.session, daemon.session), group)
        self.refused("RBAC_PERMISSION_DENIED", "pool.set_name_description", self.ref, "x", api=daemon)
        self.add("pam-user:daemon", "pool-operator")
        daemon = login("daemon", "pam daemon", pool)
        daemon.call("pool.set_name_description", daemon.session, self.ref, "by daemon")
        self.assertIn("pam-group:daemon", api.call("auth.get_group_membership", api.session, "pam-user:daemon"))
        known = api.call("auth.get_subject_information_from_identifier", api.session, "pam-group:daemon")
        self.assertEqual(known["subject-is-group"], "true")
        refused("SUBJECT_CANNOT_BE_RESOLVED", "auth.get_subject_identifier", "no-such-user")
        refused("SUBJECT_CANNOT_BE_RESOLVED", "auth.get_subject_information_from_identifier", "pam-user:no-such-user")

        # A right password is remembered for a while, as long as the pool wants that.
        passwords = os.path.join(self.folder, "passwords")
        with open(passwords, encoding="ascii") as file:
            text = file.read()
        with open(passwords, "w", encoding="ascii") as file:
            file.write("".join(line for line in text.splitlines(True) if not line.startswith("games:")))
        login("games", "pam games", pool)
        self.no_login("SESSION_AUTHENTICATION_FAILED", "games", "pam game", pool)
        for call, good, bad in (("pool.set_ext_auth_cache_expiry", 600, 0), ("pool.set_ext_auth_cache_size", 2, 0)):
            refused("INVALID_VALUE", call, self.ref, bad)
            api.call(call, api.session, self.ref, good)
        self.no_login("SESSION_AUTHENTICATION_FAILED", "games", "pam games", pool)
        with open(passwords, "w", encoding="ascii") as file:
            file.write(text)
        api.call("pool.set_ext_auth_cache_enabled", api.session, self.ref, False)
        login("games", "pam games", pool)
        host_ref = api.host.get_all()[0]
        self.assertEqual(refused("AUTH_SET_LDAPS_FAILED", "pool.external_auth_set_ldaps", self.ref, True, False)[0],
                         host_ref)
        refused("AUTH_SET_LDAPS_FAILED", "host.external_auth_set_ldaps", host_ref, True, False)
        for call in ("pool.set_local_auth_max_threads", "pool.set_ext_auth_max_threads"):
            for bad in (0, 65):
                refused("INVALID_VALUE", call, self.ref, bad)
            for good in (3, 1):
                api.call(call, api.session, self.ref, good)
        login("games", "pam games", pool)

        # Names that are known here are not looked for outside.
        self.no_login("SESSION_AUTHENTICATION_FAILED", "root", "pam root", pool)
        user = make_user("karla", "read-only", api=api)
        self.no_login("SESSION_AUTHENTICATION_FAILED", "karla", "pam karla", pool)
        api.call("user.destroy", api.session, user)

        # A subject that goes takes its sessions along.
        api.call("subject.destroy", api.session, subject)
        self.refused("SESSION_INVALID", "VM.get_all", api=games)

        # Hosts that come later are connected too.
        pool.add_host()
        self.assertEqual({r["external_auth_type"] for r in api.host.get_all_records().values()}, {"PAM"})

        # Off: nobody from outside stays.
        api.call("pool.disable_external_auth", api.session, self.ref, {})
        self.refused("SESSION_INVALID", "VM.get_all", api=daemon)
        self.no_login("SESSION_AUTHENTICATION_FAILED", "daemon", "pam daemon", pool)
        api.VM.get_all()
        self.assertNotIn("pam daemon", pool.poold.log() + pool.read("audit.log"))


class LocalRoot(Case):
    """Over the unix socket the machine's root needs no password, at no door."""

    def connect(self, timeout_s=30):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        connection.connect(os.path.join(POOL.state, "poold.sock"))
        return connection

    def test_the_classic_command_line(self):
        words = thin.ThinClient(types.SimpleNamespace(connect=self.connect, password="null"))
        outcome = words.run("pool-list", "params=uuid", "--minimal")
        self.assertEqual((outcome.code, outcome.out.strip(), outcome.err),
                         (0, API.pool.get_record(API.pool.get_all()[0])["uuid"], ""))

    def test_http_requests(self):
        for head, status in (("", b" 200 "), ("Cookie: session_id=OpaqueRef:NULL\r\n", b" 401 ")):
            with self.connect() as connection:
                connection.sendall(f"GET /audit_log?since=9 HTTP/1.0\r\n{head}\r\n".encode())
                self.assertIn(status, connection.recv(100).splitlines()[0])


class AuditLog(Case):
    def lines(self, since=""):
        status, _, body = POOL.http("GET", f"/audit_log?since={since}", None, POOL.basic())
        self.assertEqual(status, 200)
        return body.decode().splitlines()

    def test_changes_refusals_and_logins(self):
        ref = make_user("lena", "read-only")
        lena = login("lena")
        pool = API.pool.get_all()[0]
        self.refused("RBAC_PERMISSION_DENIED", "pool.set_name_label", pool, "secret word", api=lena)
        API.call("pool.set_name_description", API.session, pool, "secret word")
        API.call("pool.add_to_other_config", API.session, pool, "key-1", "secret word")
        lena.call("session.logout", lena.session)
        API.call("user.destroy", API.session, ref)
        lines = self.lines()
        text = "\n".join(lines)
        for line in lines:
            self.assertRegex(line, r"^\[\d{8}T\d\d:\d\d:\d\d\.\d{3}Z\|info\|[^|]+\|[^|]+\|[^|]+\|audit\] \('trackid=")
        self.assertRegex(text, r"'lena' 'DENIED' 'ERROR:RBAC_PERMISSION_DENIED' 'API' 'pool.set_name_label' "
                               rf"\(\('self' '[^']*' '[^']+' '{pool}'\)\)\)")
        self.assertRegex(text, r"'LOCAL_SUPERUSER' 'root' 'ALLOWED' 'OK' 'API' 'pool.set_name_description'")
        self.assertRegex(text, r"'pool.add_to_other_config' .*\('key' 'key-1' '' ''\)")
        self.assertRegex(text, r"'lena' 'ALLOWED' 'OK' 'API' 'session.login_with_password'")
        self.assertRegex(text, r"'lena' 'ALLOWED' 'OK' 'API' 'session.logout'")
        self.assertNotIn("secret word", text)
        self.assertNotIn("VM.get_all", text)

    def verify(self, folder, *more):
        run = subprocess.run([program("poold"), "--state", folder, "--verify-audit", *more], text=True, check=False,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return run.returncode, run.stdout

    def test_sums(self):
        """The lines are chained, over a restart too; whoever changes one is found out."""
        API.pool.set_name_description(API.pool.get_all()[0], "before")
        status, _, body = POOL.http("GET", "/audit_log?sums=true", None, POOL.basic())
        self.assertEqual(status, 200)
        noted = body.decode().splitlines()[-1].rpartition(" #")[2]
        self.assertRegex(noted, "^[0-9a-f]{64}$")
        code, told = self.verify(POOL.state, "--noted-sum", noted)
        self.assertEqual((code, told.splitlines()[-1]), (0, "unbroken"), told)
        lines = POOL.read("audit.log").splitlines(keepends=True)
        middle = len(lines) // 2
        changed = [*lines[:middle], lines[middle].replace("'root'", "'toor'", 1).replace("2", "3", 1), *lines[middle + 1:]]
        for what, parts, more, expected, words in (
                ("whole", [lines], (), 0, "unbroken"), ("in parts", [lines[middle:], lines[:middle]], (), 0, "unbroken"),
                ("older parts are gone", [lines[middle:]], (), 0, "older parts were dropped"),
                ("changed", [changed], (), 1, f"audit.log, line {middle + 1}: it, or lines before it"),
                ("one dropped", [lines[:middle] + lines[middle + 1:]], (), 1, f"audit.log, line {middle + 1}:"),
                ("a part dropped", [lines[-1:], lines[:middle]], (), 1, "audit.log, line 1:"),
                ("one added", [[*lines[:middle], "made up\n", *lines[middle:]]], (), 1, "it has no sum"),
                ("cut off", [lines[:2]], ("--noted-sum", noted), 1, "is not among them"),
                ("none", [], (), 2, "audit.log: No such file")):
            with self.subTest(what), tempfile.TemporaryDirectory() as folder:
                for n, part in enumerate(parts):
                    with open(f"{folder}/audit.log" + (f".{n}" if n else ""), "w", encoding="utf-8") as file:
                        file.writelines(line if line.endswith("\n") else line + "\n" for line in part)
                code, told = self.verify(folder, *more)
                self.assertEqual(code, expected, told)
                self.assertIn(words, told)

    def test_sums_go_on_after_a_restart(self):
        with TestPool() as pool:
            pool.login()
            pool.restart()
            pool.login()
            pool.stop()
            with open(f"{pool.state}/audit.log", "a", encoding="ascii") as file:
                file.write("[cut off by a power cut")
            pool.start()
            pool.login()
            code, told = self.verify(pool.state)
            self.assertEqual(code, 1)
            self.assertEqual(told.count("it has no sum, or was cut"), 1, told)
            self.assertNotIn("changed or are missing", told)

    def test_refused_logins(self):
        self.no_login("SESSION_AUTHENTICATION_FAILED", "no-one' 'x", "wrong")
        self.assertTrue(any("'no-one\\' \\'x' 'DENIED' 'ERROR:SESSION_AUTHENTICATION_FAILED'" in line for line in self.lines()))

    def test_since(self):
        lines = self.lines()
        stamp = lines[-1][1:].split("|")[0]
        later = self.lines(stamp)
        self.assertIn(lines[-1], later)
        self.assertTrue(all(line[1:].split("|")[0] >= stamp for line in later))
        self.assertEqual(self.lines("99991231T00:00:00Z"), [])


@unittest.skipUnless(program("xe"), "xe is not built")
class CommandLine(Case):
    """The same with xe."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="corral-xe-")
        cls.write("root", POOL.password)
        cls.write("word", PASSWORD)
        cls.write("other", "another word")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def write(cls, name, text):
        with open(os.open(f"{cls.folder}/{name}", os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text + "\n")

    def xe(self, *words, user="root", secret="root", code=0):
        run = subprocess.run([program("xe"), "-s", "127.0.0.1", "-p", str(POOL.port), "--ca", POOL.ca, "-u", user,
                              "-pwf", f"{self.folder}/{secret}", *words],
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
                             env={**os.environ, "HOME": self.folder})
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        return run.stdout.strip() if code == 0 else run.stderr.strip()

    def test_people(self):
        uuid = self.xe("user-create", "name=maria", "full-name=Maria M.", "role-name=read-only",
                       f"password-file={self.folder}/word")
        self.assertEqual(self.xe("user-list", "name=maria", "--minimal"), uuid)
        self.assertEqual(self.xe("user-param-get", f"uuid={uuid}", "param-name=full-name"), "Maria M.")
        sid = API.call("auth.get_subject_identifier", API.session, "maria")
        subject = self.xe("subject-list", f"subject-identifier={sid}", "--minimal")
        self.assertEqual(self.xe("subject-param-get", f"uuid={subject}", "param-name=roles"), "read-only")
        self.assertIn("pool-operator", self.xe("pool-param-set", "name-description=x", "uuid=" + self.xe("pool-list", "--minimal"),
                                               user="maria", secret="word", code=1))
        self.xe("subject-role-add", f"uuid={subject}", "role-name=pool-operator")
        self.xe("pool-param-set", "name-description=x", "uuid=" + self.xe("pool-list", "--minimal"), user="maria", secret="word")
        role = self.xe("role-list", "name=read-only", "--minimal")
        self.xe("subject-role-remove", f"uuid={subject}", f"role-uuid={role}")
        self.assertEqual(self.xe("subject-param-get", f"uuid={subject}", "param-name=roles"), "pool-operator")
        self.assertIn("no role", self.xe("subject-role-add", f"uuid={subject}", "role-name=emperor", code=1))
        self.xe("user-password-change", f"old={PASSWORD}", "new=another word", user="maria", secret="word")
        self.xe("vm-list", user="maria", secret="other")
        self.xe("user-password-reset", f"uuid={uuid}", f"password-file={self.folder}/word")
        self.xe("vm-list", user="maria", secret="word")
        self.xe("subject-remove", f"subject-uuid={subject}")
        self.xe("subject-add", "subject-name=maria")
        self.assertIn("password-file", self.xe("user-create", "name=nina", code=1))
        self.xe("user-destroy", f"uuid={uuid}")
        self.assertEqual(self.xe("user-list", "name=maria", "--minimal"), "")

    def test_roles_are_listed_without_permissions(self):
        self.assertEqual(len(self.xe("role-list", "--minimal").split(",")), 7)

    def test_audit_log(self):
        target = self.folder + "/audit"
        self.xe("audit-log-get", "filename=" + target)
        with open(target, encoding="utf-8") as file:
            self.assertIn("|audit] (", file.read())
        self.xe("audit-log-get", "filename=" + target + "2", "since=99990101T00:00:00Z")
        self.assertEqual(os.path.getsize(target + "2"), 0)
        self.xe("audit-log-get", "filename=" + target + "3", "since=a&b", code=1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
