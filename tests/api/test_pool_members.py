"""A pool of several servers: joining, who leads, taking over, leaving."""
import http.client
import json
import os
import random
import socket
import ssl
import struct
import tempfile
import unittest
import uuid

from pool import NULL, Failure, TestPool, until
from test_events import vm_record
from test_rest import Rest
from test_restore import dump_of, network, put


def answer_of(call, *args):
    """The code and parameters of the refusal, None when there is none, or the text of a lost connection."""
    try:
        call(*args)
    except Failure as failure:
        return [failure.code, *failure.params]
    except (OSError, ValueError) as error:
        return [type(error).__name__]
    return None


def login_answer(pool):
    """What a login over TLS says now: None, it works."""
    client = pool.client()
    try:
        return answer_of(client.login, "root", PASSWORD)
    finally:
        client.close()
        pool.clients.remove(client)


def where(pool):
    return f"127.0.0.1:{pool.port}"


PASSWORD = "correct horse"


def fixed_port():
    """One that servers keep over restarts, out of the range from which the system gives ports to others."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def make_pool():
    """With the password that all have: a pool's first one is in a file that a member does not get."""
    folder = tempfile.mkdtemp(prefix="corral-members-")
    os.mkdir(os.path.join(folder, "state"), 0o700)
    with open(os.path.join(folder, "state", "admin-password"), "w", encoding="ascii") as file:
        file.write(PASSWORD + "\n")
    pool = TestPool(hosts=0, folder=folder)
    pool.stop()
    for option in ("--port", "--http"):
        pool.poold.arguments[pool.poold.arguments.index(option) + 1] = str(fixed_port())
    pool.start()
    pool.add_host()
    return pool


def agent_port(pool):
    """Of its first host, which keeps it."""
    with open(os.path.join(pool.hosts[0].folder, "hostd.port"), encoding="ascii") as file:
        return int(file.read())


def furnish(pool):
    """What a host brings along: a repository, a disk, a network, a halted VM with both."""
    api = pool.login()
    host = api.host.get_all()[0]
    path = os.path.join(pool.folder, "sr")
    os.mkdir(path)
    sr = api.SR.create(host, {"location": path}, 0, "brought", "", "file", "user", False, {})
    network = api.network.create({"name_label": "brought", "name_description": "", "MTU": 1500, "other_config": {},
                                  "bridge": "", "managed": True, "tags": []})
    vm = api.VM.create({**vm_record("brought"), "PV_kernel": "vmlinuz", "HVM_boot_policy": ""})
    vdi = api.VDI.create({"name_label": "disk", "name_description": "", "SR": sr, "virtual_size": 16 << 20,
                          "type": "user", "sharable": False, "read_only": False, "other_config": {}, "xenstore_data": {},
                          "sm_config": {}, "tags": []})
    api.VBD.create({"VM": vm, "VDI": vdi, "userdevice": "0", "bootable": False, "mode": "RW", "type": "Disk",
                    "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "",
                    "qos_algorithm_params": {}})
    api.VIF.create({"device": "0", "network": network, "VM": vm, "MAC": "", "MTU": 1500, "other_config": {},
                    "qos_algorithm_type": "", "qos_algorithm_params": {}})
    return {"host": api.host.get_uuid(host), "vm": vm, "vm_uuid": api.VM.get_uuid(vm), "sr": sr, "vdi": vdi}


class PoolMembersTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.one, self.two = make_pool(), make_pool()
        self.addCleanup(self.two.close)
        self.addCleanup(self.one.close)
        self.brought = furnish(self.two)

    def leads(self, pool, limit_s=90):
        until("the server leads", lambda: login_answer(pool) is None, limit_s, 0.1)
        return pool.login()

    def follows(self, pool, leader, limit_s=90):
        wanted = ["HOST_IS_SLAVE", where(leader)]
        until("the server is a member", lambda: login_answer(pool) == wanted, limit_s, 0.1)

    def join(self):
        api = self.two.login()
        api.pool.join(where(self.one), "root", PASSWORD)
        self.follows(self.two, self.one)
        api = self.one.login()
        until("both hosts are live", lambda: TestPool.live_hosts(api) == 2, 90)
        return api

    def test_life(self):
        two = self.two.login()
        self.refusals(two)
        api = self.join()
        self.assertEqual(self.files_with(PASSWORD), {"admin-password"})
        self.what_was_brought(api)
        api = self.restored(api)
        self.a_member_alone()
        api = self.another_leads(api)
        api = self.taken_over(api)
        self.ejected(api)

    def refusals(self, two):
        self.assertEqual(answer_of(two.pool.join, where(self.one), "root", "wrong")[0], "SESSION_AUTHENTICATION_FAILED")
        self.assertEqual(answer_of(two.pool.join, where(self.two), "root", PASSWORD),
                         ["OPERATION_NOT_ALLOWED", "Host cannot become slave of itself"])
        self.assertEqual(answer_of(two.pool.join, "127.0.0.1:1", "root", PASSWORD), ["JOINING_HOST_CONNECTION_FAILED"])
        self.assertEqual(answer_of(two.pool.join, "a b", "root", PASSWORD), ["INVALID_VALUE", "master_address", "a b"])
        two.VM.start(self.brought["vm"], False, False)
        self.assertEqual(answer_of(two.pool.join_force, where(self.one), "root", PASSWORD),
                         ["JOINING_HOST_CANNOT_HAVE_RUNNING_VMS"])
        two.VM.hard_shutdown(self.brought["vm"])
        two.SR.set_shared(self.brought["sr"], True)
        self.assertEqual(answer_of(two.pool.join, where(self.one), "root", PASSWORD),
                         ["JOINING_HOST_CANNOT_CONTAIN_SHARED_SRS"])
        two.SR.set_shared(self.brought["sr"], False)
        one = self.one.login()
        self.assertEqual(len(one.host.get_all()), 1)
        self.assertIs(one.pool.is_slave(one.host.get_all()[0]), False)

    def files_with(self, secret):
        """Names of files of either pool, logs and databases as well, that hold it."""
        found = set()
        for pool in (self.one, self.two):
            for folder, _, names in os.walk(pool.folder):
                for name in names:
                    path = os.path.join(folder, name)
                    if os.path.isfile(path):
                        with open(path, "rb") as file:
                            if secret.encode() in file.read():
                                found.add(name)
        return found

    def what_was_brought(self, api):
        host = api.host.get_by_uuid(self.brought["host"])
        vm = api.VM.get_by_uuid(self.brought["vm_uuid"])
        self.assertEqual(vm, self.brought["vm"])
        record = api.SR.get_record(self.brought["sr"])
        self.assertEqual((record["name_label"], record["VDIs"]), ("brought", [self.brought["vdi"]]))
        pbd, = record["PBDs"]
        self.assertEqual(api.PBD.get_host(pbd), host)
        until("the repository is attached", lambda: api.PBD.get_currently_attached(pbd), 60)
        api.VM.start(vm, False, False)
        self.assertEqual(api.VM.get_resident_on(vm), host)
        api.VM.hard_shutdown(vm)
        # The network that every pool begins with is one again.
        names = [n["name_label"] for n in api.network.get_all_records().values()]
        self.assertEqual(names.count("User-mode network (NAT)"), 1)
        self.assertIn("brought", names)
        self.assertIs(api.pool.is_slave(host), True)

    def a_member_alone(self):
        client = self.two.client()
        session = client.call("session.slave_local_login_with_password", "root", PASSWORD)
        self.assertIs(client.call("pool.is_slave", session, NULL), True)
        self.assertIs(client.call("host.is_in_emergency_mode", session), False)
        self.assertEqual(answer_of(client.call, "VM.get_all", session), ["HOST_IS_SLAVE", where(self.one)])
        client.call("pool.emergency_reset_master", session, where(self.one))
        client.call("session.local_logout", session)
        # At its other doors as well, whoever asks; and the pool's own are for its servers alone.
        for method, path in (("POST", "/api/v1/join-tokens"), ("GET", "/pool/xmldbdump"), ("GET", "/api/v1/pool/secret")):
            status, _, body = self.two.http(method, path, b"" if method == "POST" else None, self.two.basic())
            self.assertEqual((status, json.loads(body)["error"]), (403, "HOST_IS_SLAVE"), path)
        wrong = {"Cookie": "pool_secret=" + "0" * 43}
        for pool, status in ((self.one, 401), (self.two, 403)):
            self.assertEqual(pool.http("GET", "/api/v1/pool/copy?host=x")[0], status)
            self.assertEqual(pool.http("POST", "/api/v1/pool/members", b'{"action":"standing"}')[0], status)
        for pool in (self.one, self.two):
            self.assertEqual(pool.http("GET", "/api/v1/pool/copy?host=x", headers=wrong)[0], 401)

    def restored(self, api):
        """A database that is written back reaches the members as well, though it counts its changes from one again."""
        dump = dump_of(self.one, api)
        later = network(api, "later")
        until("the member has a copy", lambda: self.has_copy(self.two, later), 60, 0.2)
        self.assertEqual(put(self.one, api, dump), [])
        until("the member has the restored one", lambda: not self.has_copy(self.two, later), 90, 0.2)
        api = self.leads(self.one)
        self.assertEqual(api.network.get_by_name_label("later"), [])
        # Whatever number a member has from the database of before, what it has is not what there is now.
        secret = {"Cookie": "pool_secret=" + self.one.read("pool-secret")}
        path = f"/api/v1/pool/copy?host={self.brought['host']}&since=1000000000"
        header = json.loads(self.one.http("GET", path, headers=secret)[2].split(b"\n", 1)[0])
        self.assertEqual(header["files"][-1]["name"], "pool.db")
        until("both hosts are live", lambda: TestPool.live_hosts(api) == 2, 90)
        return api

    def another_leads(self, api):
        host = api.host.get_by_uuid(self.brought["host"])
        first = next(h for h in api.host.get_all() if h != host)
        self.assertEqual(answer_of(api.pool.eject, first)[0], "INTERNAL_ERROR")
        last = [api.secret.create({"value": str(n), "other_config": {}}) for n in range(20)][-1]
        Rest(self.one, api.session).ok(200, "POST", "/apply", {"networks": {"taken back": {}}})
        api.pool.designate_new_master(host)
        new = self.leads(self.two)
        self.assertEqual(len(new.network.get_by_name_label("taken back")), 1)
        Rest(self.two, new.session).ok(200, "POST", "/undo")
        self.assertEqual(new.network.get_by_name_label("taken back"), [], "the new coordinator knows the way back")
        self.assertEqual(new.secret.get_value(last), "19")
        pool, = new.pool.get_all()
        self.assertEqual(new.pool.get_master(pool), host)
        self.follows(self.one, self.two)
        until("both hosts are live", lambda: TestPool.live_hosts(new) == 2, 90)
        new.pool.designate_new_master(host)  # it leads already
        self.assertEqual(new.pool.recover_slaves(), [first])
        told = [m["obj_uuid"] for m in new.message.get_all_records().values() if m["name"] == "POOL_MASTER_TRANSITION"]
        self.assertEqual(told, [self.brought["host"]])
        return new

    def taken_over(self, api):
        """The coordinator is lost; the other server takes over, and the first finds that out by itself."""
        kept = api.secret.create({"value": "kept", "other_config": {}})
        until("the member has a copy", lambda: self.has_copy(self.one, kept), 60, 0.2)
        self.two.kill()
        client = self.one.client()
        session = client.call("session.slave_local_login_with_password", "root", PASSWORD)
        client.call("pool.emergency_transition_to_master", session)
        new = self.leads(self.one)
        self.assertEqual(new.secret.get_value(kept), "kept")
        self.two.start()
        self.follows(self.two, self.one)
        until("both hosts are live", lambda: TestPool.live_hosts(new) == 2, 90)
        return new

    @staticmethod
    def has_copy(pool, ref):
        with open(os.path.join(pool.state, "standing.json"), encoding="utf-8") as file:
            data = json.load(file)["data"]
        with open(os.path.join(pool.state, data, "pool.db"), "rb") as file:
            return ref.encode() in file.read()

    def ejected(self, api):
        host = api.host.get_by_uuid(self.brought["host"])
        vm = self.brought["vm"]
        api.VM.start(vm, False, False)
        self.assertEqual(answer_of(api.pool.eject, host)[0], "OPERATION_NOT_ALLOWED")
        api.VM.hard_shutdown(vm)
        api.pool.eject(host)
        self.assertEqual(len(api.host.get_all()), 1)
        self.assertEqual(answer_of(api.SR.get_uuid, self.brought["sr"])[0], "HANDLE_INVALID")
        folder = os.path.join(self.two.state)
        fresh = until("the ejected server has a pool of its own", lambda: self.fresh_password(folder), 90, 0.2)
        client = self.two.client()
        until("it answers", lambda: answer_of(client.login, "root", fresh) is None, 60, 0.2)
        until("its host is live", lambda: TestPool.live_hosts(client) == 1, 90)
        self.assertEqual([h["uuid"] for h in client.host.get_all_records().values()], [self.brought["host"]])
        self.assertEqual(client.VM.get_all_records_where('field "is_control_domain"="false"'), {})
        client.pool.join_force(where(self.one), "root", PASSWORD)
        self.follows(self.two, self.one)
        until("it is back", lambda: TestPool.live_hosts(api) == 2, 90)

    # ---- killed on the way ----

    def start_to_die(self, pool, failpoint):
        """Starts the server anew so that it ends there as if killed."""
        pool.restart(failpoint=failpoint)
        return self.leads(pool)

    def dies(self, pool, call, *args):
        """The call does not come back, or only just; then the server is started again."""
        answer_of(call, *args)
        process = pool.poold.process
        until("the server is killed", lambda: process.poll() is not None, 60)
        self.assertEqual(process.returncode, -9)
        pool.close_clients()
        pool.start()

    def test_killed_on_the_way(self):
        for step in ("noted", "agent-prepared", "rows-brought", "copied"):
            with self.subTest(join=step):
                two = self.start_to_die(self.two, "join-step:" + step)
                self.dies(self.two, two.pool.join, where(self.one), "root", PASSWORD)
                two, one = self.leads(self.two), self.leads(self.one)
                self.assertEqual(two.VM.get_name_label(self.brought["vm"]), "brought")
                until("its host is live", lambda: TestPool.live_hosts(two) == 1, 60)
                until("the other pool has forgotten it", lambda: len(one.host.get_all()) == 1, 60)
                self.assertEqual(one.VM.get_by_name_label("brought"), [])
                self.assertEqual(one.SR.get_by_name_label("brought"), [])
        with self.subTest(join="decided"):
            two = self.start_to_die(self.two, "standing-decided:member")
            self.dies(self.two, two.pool.join, where(self.one), "root", PASSWORD)
            self.follows(self.two, self.one)
            one = self.leads(self.one)
            until("both hosts are live", lambda: TestPool.live_hosts(one) == 2, 90)
        host = one.host.get_by_uuid(self.brought["host"])
        with self.subTest(designate="decided"):
            one = self.start_to_die(self.one, "standing-decided:member")
            last = one.secret.create({"value": "last", "other_config": {}})
            self.dies(self.one, one.pool.designate_new_master, host)
            two = self.leads(self.two)
            self.assertEqual(two.secret.get_value(last), "last")
            self.follows(self.one, self.two)
        first = next(h for h in two.host.get_all() if h != host)
        with self.subTest(designate="the heir"):
            self.one.restart(failpoint="heir-has-copy:")
            self.follows(self.one, self.two)
            process = self.one.poold.process
            last = two.secret.create({"value": "later", "other_config": {}})
            two.pool.designate_new_master(first)
            until("the heir is killed", lambda: process.poll() is not None, 90)
            self.one.start()
            one = self.leads(self.one)
            self.assertEqual(one.secret.get_value(last), "later")
            self.follows(self.two, self.one)
        until("both hosts are live", lambda: TestPool.live_hosts(one) == 2, 90)
        with self.subTest(eject="before"):
            one = self.start_to_die(self.one, "eject-step:unplugged")
            until("both hosts are live", lambda: TestPool.live_hosts(one) == 2, 90)
            self.dies(self.one, one.pool.eject, host)
            one = self.leads(self.one)
            self.assertEqual(len(one.host.get_all()), 2)
        with self.subTest(eject="after"):
            one = self.start_to_die(self.one, "eject-step:deleted")
            until("both hosts are live", lambda: TestPool.live_hosts(one) == 2, 90)
            self.dies(self.one, one.pool.eject, host)
            one = self.leads(self.one)
            self.assertEqual(len(one.host.get_all()), 1)
            until("the ejected server has a pool of its own", lambda: self.fresh_password(self.two.state), 90, 0.2)

    @staticmethod
    def agent_to_die(agent, failpoint):
        agent.stop()
        agent.start("hostd.port", failpoint=failpoint)

    def killed(self, daemon):
        until(f"{daemon.name} is killed", lambda: not daemon.running, 90)
        self.assertEqual(daemon.process.returncode, -9)
        daemon.kill()

    def test_an_agent_killed_between_two_pools(self):
        """Its keys of the pool before are aside: those of the next one are taken at its next start."""
        agent = self.two.hosts[0]
        self.agent_to_die(agent, "agent-left-pool:next")
        two = self.leads(self.two)
        until("its host is live", lambda: TestPool.live_hosts(two) == 1, 60)
        two.pool.join(where(self.one), "root", PASSWORD)
        self.killed(agent)
        agent.start("hostd.port")
        self.follows(self.two, self.one)
        api = self.leads(self.one)
        until("both hosts are live", lambda: TestPool.live_hosts(api) == 2, 90)
        api.VM.start(self.brought["vm"], False, False)
        self.assertEqual(api.VM.get_resident_on(self.brought["vm"]), api.host.get_by_uuid(self.brought["host"]))

    def test_an_agent_killed_while_it_leaves(self):
        """A host without a server of its own belongs to no pool then, and may join one."""
        api, agent = self.one.login(), self.one.add_host()
        with open(os.path.join(agent.folder, "pki", "host-uuid"), encoding="ascii") as file:
            host = api.host.get_by_uuid(file.read().strip())
        self.agent_to_die(agent, "agent-left-pool:none")
        until("both hosts are live", lambda: TestPool.live_hosts(api) == 2, 90)
        api.pool.eject(host)
        self.killed(agent)
        self.assertEqual(len(api.host.get_all()), 1)
        with self.assertRaisesRegex(AssertionError, "The host belongs to no pool yet"):
            agent.start("hostd.port")
        token = agent.folder + ".token"
        with open(token, "w", encoding="ascii") as file:
            file.write(self.one.join_token() + "\n")
        agent.start("hostd.port", ["--join", f"https://127.0.0.1:{self.one.port}", "--token-file", token])
        until("it is back", lambda: TestPool.live_hosts(api) == 2, 90)

    def test_a_member_killed_while_it_takes_a_copy(self):
        """It has the copy of before, whole, and leads from there when it must; else it takes the next."""
        api = self.join()
        before = api.secret.create({"value": "before", "other_config": {}})
        until("the member has a copy", lambda: self.has_copy(self.two, before), 60, 0.2)
        for lost in (False, True):
            self.two.restart(failpoint="copy-written:pool.db")
            after = api.secret.create({"value": f"after {lost}", "other_config": {}})
            self.killed(self.two.poold)
            self.assertFalse(self.has_copy(self.two, after))
            if lost:
                self.one.kill()
            self.two.start()
            if not lost:
                until("the member has a copy", lambda: self.has_copy(self.two, after), 60, 0.2)
        client = self.two.client()
        session = client.call("session.slave_local_login_with_password", "root", PASSWORD)
        client.call("pool.emergency_transition_to_master", session)
        new = self.leads(self.two)
        self.assertEqual(new.secret.get_value(before), "before")
        self.assertEqual(answer_of(new.secret.get_value, after)[0], "HANDLE_INVALID")
        until("both hosts are live", lambda: TestPool.live_hosts(new) == 2, 90)

    # ---- an agent that cannot change its pool at once ----

    def agent_asked(self, pool, call, arguments):
        """What a host's agent answers its server."""
        pki = os.path.join(pool.state, "pki")
        context = ssl.create_default_context(cafile=pool.ca)
        context.check_hostname = False  # it is named by its host's uuid
        context.load_cert_chain(os.path.join(pki, "poold.pem"), os.path.join(pki, "poold.key"))
        connection = http.client.HTTPSConnection("127.0.0.1", agent_port(pool), timeout=60, context=context)
        body = {"op": str(uuid.uuid4()), "term": 1, "timeout_ms": 60000, "wait_ms": 60000, "args": arguments}
        try:
            connection.request("POST", f"/v1/call/{call}", json.dumps(body), {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def test_an_agent_that_is_not_let_in_says_so(self):
        """Not that its server is no longer its server: that would end the change of pool."""
        status, _, token = self.one.http("POST", "/api/v1/join-tokens", b"", self.one.basic(password=PASSWORD))
        self.assertEqual(status, 201)
        word, _, root = json.loads(token)["token"].rpartition(".")
        answer = self.agent_asked(self.two, "pool_prepare", {"address": "127.0.0.1", "port": self.one.port,
                                                             "token": "x" * len(word) + "." + root})
        self.assertIn("did not accept the host", answer["error"]["text"])
        self.assertEqual(answer["error"]["kind"], "bad_state")

    def test_broken_handshakes_do_not_end_a_change_of_pool(self):
        """The joined server tells its agent to change, which is not up yet: who has its port resets connections."""
        two = self.start_to_die(self.two, "standing-decided:member")
        agent, port = self.two.hosts[0], agent_port(self.two)
        answer_of(two.pool.join, where(self.one), "root", PASSWORD)
        until("the server is killed", lambda: not self.two.poold.running, 60)
        agent.kill()
        self.two.kill()
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(60)
            self.two.start()
            for _ in range(3):
                connection, _address = listener.accept()
                connection.recv(1)  # of the handshake
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
        agent.start("hostd.port")
        api = self.leads(self.one)
        until("both hosts are live", lambda: TestPool.live_hosts(api) == 2, 90)

    @staticmethod
    def fresh_password(folder):
        """Of the pool that began last: its first password is in its folder."""
        for name in os.listdir(folder):
            path = os.path.join(folder, name, "admin-password")
            if name.startswith("pool-") and os.path.exists(path):
                with open(path, encoding="ascii") as file:
                    return file.read().strip()
        return None


if __name__ == "__main__":
    unittest.main()
