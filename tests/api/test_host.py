"""What one asks of hosts and of the pool as a whole."""
import http.client
import os
import shutil
import socket
import ssl
import stat
import subprocess
import time
import unittest

from pool import NULL, Failure, TestPool, module_pool, until
from test_events import vm_record

POOL = None
GONE = "OpaqueRef:00000000-0000-4000-8000-000000000000"


def setUpModule():
    global POOL
    POOL = module_pool(hosts=1)


def open_ports(pid):
    """Addresses on which a process takes connections or datagrams, as "protocol address:port" in the kernel's words."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass  # closed meanwhile
    found = set()
    for protocol, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07"), ("raw", "07"), ("raw6", "07")):
        with open(f"/proc/net/{protocol}", encoding="ascii") as file:
            for line in list(file)[1:]:
                fields = line.split()
                if fields[3] == state and f"socket:[{fields[9]}]" in inodes:
                    found.add(f"{protocol} {fields[1]}")
    return found


class Ports(unittest.TestCase):
    def test_one_each(self):
        """TLS alone, on the address that was asked for; plain HTTP is loopback's, because the tests ask for it."""
        loopback = "tcp 0100007F"
        host = POOL.hosts[0]
        with open(os.path.join(host.folder, "hostd.port"), encoding="ascii") as file:
            port = int(file.read())
        self.assertEqual(open_ports(POOL.poold.pid),
                         {f"{loopback}:{POOL.port:04X}", f"{loopback}:{POOL.http_port:04X}"})
        self.assertEqual(open_ports(host.pid), {f"{loopback}:{port:04X}"})


class Agent(unittest.TestCase):
    """Both ends of the hop between server and agent."""

    def ask(self, host, certificate=None, version=None):
        """An order to the agent; the status, or None when it does not come to that."""
        context = ssl.create_default_context(cafile=POOL.ca)
        context.check_hostname = False
        if version:
            context.maximum_version = version
        if certificate:
            context.load_cert_chain(*certificate)
        with open(os.path.join(host.folder, "hostd.port"), encoding="ascii") as file:
            connection = http.client.HTTPSConnection("127.0.0.1", int(file.read()), timeout=60, context=context)
        try:
            connection.request("POST", "/v1/call/domain_list", b"{}", {"Content-Type": "application/json"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    @unittest.skipUnless(shutil.which("openssl"), "there is no openssl here")
    def test_only_the_pools_server_gives_orders(self):
        host, folder = POOL.hosts[0], os.path.join(POOL.folder, "strangers")
        os.mkdir(folder)

        def made(name, *arguments):
            certificate, key = os.path.join(folder, name + ".pem"), os.path.join(folder, name + ".key")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days",
                            "2", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return certificate, key

        def pki(state, name):
            return os.path.join(state, "pki", name + ".pem"), os.path.join(state, "pki", name + ".key")
        server = pki(POOL.state, "poold")
        same_name = made("poold", "-subj", "/CN=poold", "-addext", "subjectAltName=DNS:poold.corral.internal", "-addext",
                         "extendedKeyUsage=clientAuth")
        refused = {"nobody": {}, "made by somebody else, of the right name": {"certificate": same_name},
                   "of a host": {"certificate": pki(host.folder, "host")}, "of the page": {"certificate": pki(POOL.state, "server")},
                   "of the server, with old TLS": {"certificate": server, "version": ssl.TLSVersion.TLSv1_1}}
        for what, how in refused.items():
            with self.subTest(what):
                self.assertIn(self.ask(host, **how), (None, 403))
        self.assertNotIn(self.ask(host, server), (None, 401, 403), "the server itself is heard")

    def test_only_the_pools_agent_is_believed(self):
        """Something else where the agent was hears no order."""
        with TestPool(hosts=2) as pool:
            api = pool.login()
            until("both are live", lambda: pool.live_hosts(api) == 2, 60)
            first, other = pool.hosts
            with open(os.path.join(first.folder, "hostd.port"), encoding="ascii") as file:
                port = int(file.read())
            first.stop()
            # Another agent of the same pool, with a certificate that is right but for the name.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(os.path.join(other.folder, "pki", "host.pem"), os.path.join(other.folder, "pki", "host.key"))
            with socket.create_server(("127.0.0.1", port)) as listener:
                listener.settimeout(60)
                connection, _ = listener.accept()
                try:
                    with context.wrap_socket(connection, server_side=True) as secure:
                        said = secure.recv(1)
                except OSError:
                    said = b""
                self.assertEqual(said, b"", "the server spoke to an impostor")


class Rights(unittest.TestCase):
    @unittest.skipIf(os.environ.get("CORRAL_TEST_UNCONFINED"), "the daemons were told not to")
    def test_daemons_limit_themselves(self):
        """No new privileges, and a filter of system calls, in each thread."""
        for daemon in (POOL.poold, *POOL.hosts):
            for task in os.listdir(f"/proc/{daemon.pid}/task"):
                try:
                    with open(f"/proc/{daemon.pid}/task/{task}/status", encoding="ascii") as file:
                        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file)
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it has ended meanwhile
                with self.subTest(daemon.name, thread=fields["Name"]):
                    self.assertEqual((fields["NoNewPrivs"], fields["Seccomp"]), ("1", "2"))

    def test_files_are_the_daemon_s_own(self):
        """Nobody else reads or writes them, but for certificates and the numbers of ports; sockets ask who connects."""
        for daemon, open_to_all in ((POOL.poold, {"poold.port", "poold.http"}), (POOL.hosts[0], {"hostd.port"})):
            for folder, folders, files in os.walk(daemon.folder):
                folders[:] = [name for name in folders if name != "system"]  # the simulator's machine, as machines are
                for name in (*folders, *files):
                    path = os.path.join(folder, name)
                    try:
                        found = os.lstat(path)
                    except FileNotFoundError:
                        continue  # it was replaced meanwhile
                    if name not in open_to_all and not name.endswith(".pem") and not stat.S_ISSOCK(found.st_mode):
                        self.assertEqual((stat.S_IMODE(found.st_mode) & 0o077, found.st_uid), (0, os.getuid()), path)


class HostTest(unittest.TestCase):
    def setUp(self):
        self.api = POOL.login()
        self.host = self.api.host.get_all()[0]
        self.pool = self.api.pool.get_all()[0]

    def refused(self, error, call, *args):
        with self.assertRaises(Failure) as caught:
            call(*args)
        self.assertEqual([caught.exception.code, *caught.exception.params], error)

    def test_the_server_s_certificate(self):
        pem = self.api.host.get_server_certificate(self.host)
        self.assertEqual(ssl.PEM_cert_to_DER_cert(pem[:pem.index("-----END CERTIFICATE-----") + 25] + "\n"),
                         ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", POOL.port))))

    def test_editions(self):
        self.assertEqual(self.api.host.get_edition(self.host), "free")
        self.assertEqual(self.api.host.get_editions(self.host), ["free"])
        self.assertEqual(self.api.pool.get_license_state(self.pool), {"edition": "free", "expiry": "never"})
        self.api.host.apply_edition(self.host, "free")
        self.api.pool.apply_edition(self.pool, "free")
        self.refused(["INVALID_EDITION", "gold"], self.api.host.apply_edition, self.host, "gold", True)
        self.refused(["INVALID_EDITION", "gold"], self.api.pool.apply_edition, self.pool, "gold")

    def test_plugins_and_extensions(self):
        self.refused(["XENAPI_MISSING_PLUGIN", "echo"], self.api.host.call_plugin, self.host, "echo", "main", {"a": "b"})
        self.refused(["MESSAGE_METHOD_UNKNOWN", "Test.test"], self.api.host.call_extension, self.host, "Test.test")
        self.assertIs(self.api.host.has_extension(self.host, "Test.test"), False)
        self.assertIs(self.api.pool.has_extension(self.pool, "Test.test"), False)

    def test_small_questions(self):
        self.assertIn("VM.start", self.api.host.list_methods())
        self.assertIs(self.api.host.is_in_emergency_mode(), False)
        self.assertGreaterEqual(self.api.host.compute_memory_overhead(self.host), 0)
        told = time.strptime(self.api.host.get_server_localtime(self.host), "%Y%m%dT%H:%M:%SZ")
        self.assertLess(abs(time.mktime(told) - time.time()), 300)
        self.api.pool.sync_database()

    def test_no_such_object(self):
        for call, args in ((self.api.host.get_server_certificate, []), (self.api.host.apply_edition, ["free"]),
                           (self.api.host.call_plugin, ["a", "b", {}]), (self.api.host.has_extension, ["x"]),
                           (self.api.host.compute_memory_overhead, []), (self.api.host.declare_dead, [])):
            self.refused(["HANDLE_INVALID", "host", GONE], call, GONE, *args)
        self.refused(["HANDLE_INVALID", "pool", GONE], self.api.pool.apply_edition, GONE, "free")

    def test_a_dead_host_keeps_no_vm(self):
        with TestPool(hosts=2) as pool:
            api = pool.login()
            by_uuid = {pool.read(f"../host{n}/pki/host-uuid"): n for n in (1, 2)}
            host = api.host.get_all()[0]
            left = next(h for h in api.host.get_all() if h != host)
            vm = api.VM.create({**vm_record("stranded"), "PV_kernel": "vmlinuz", "HVM_boot_policy": ""})
            api.VM.start_on(vm, host, False, False)
            self.refused(["HOST_IS_LIVE", host], api.host.declare_dead, host)
            pool.hosts[by_uuid[api.host.get_uuid(host)] - 1].kill()
            until("the host is lost", lambda: not api.host_metrics.get_live(api.host.get_metrics(host)), 60)
            self.assertEqual(api.VM.get_power_state(vm), "Running")
            api.host.declare_dead(host)
            self.assertIn(f"{api.host.get_uuid(host)} ({api.host.get_name_label(host)})",
                          next(line for line in pool.poold.log().split("\n") if "declared dead" in line))
            record = api.VM.get_record(vm)
            self.assertEqual((record["power_state"], record["resident_on"]), ("Halted", NULL))
            api.VM.start_on(vm, left, False, False)
            self.assertEqual(api.VM.get_resident_on(vm), left)


if __name__ == "__main__":
    unittest.main()
