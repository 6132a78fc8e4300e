"""A pool of real daemons for a test: poold and any number of `hostd --driver sim`, on loopback, with free
ports, in a folder of its own. Everything that was started is ended by its process id and the folder removed,
also when the test fails; what a sanitizer wrote, or an exit code other than 0, fails the test.

    with TestPool(hosts=2) as pool:
        api = pool.login()
        api.VM.get_all()

A module whose tests share one says `POOL = module_pool(hosts=2)` in setUpModule.
"""
import atexit
import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CORRAL_TEST_BUILD", os.path.join(ROOT, "build", "test"))
sys.path.insert(0, os.path.join(ROOT, "scripts"))
sys.path.insert(0, os.path.join(ROOT, "openapi", "gen"))

import xenapi  # noqa: E402
from xenapi import Failure  # noqa: E402


def call_log():
    """Options that make poold note the messages that succeed, for `./corral coverage`: a file a test program, begun
    anew by each run of it."""
    folder = os.environ.get("CORRAL_CALL_LOGS")
    if not folder:
        return []
    path = os.path.join(folder, os.path.splitext(os.path.basename(sys.argv[0]))[0])
    if not call_log.begun:
        os.makedirs(folder, exist_ok=True)
        with open(path, "w", encoding="ascii"):
            call_log.begun = True
    return ["--call-log", path]


call_log.begun = False

COMPLAINTS = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|Assertion")
NULL = "OpaqueRef:NULL"


class Late(AssertionError):
    """Something did not happen in time."""


def until(what, check, limit_s=60.0, step_s=0.02):
    """Calls check() until it returns something true, which is the result."""
    end = time.monotonic() + limit_s
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() >= end:
            raise Late(f"{what}: not within {limit_s:g} s")
        time.sleep(step_s)


def program(name):
    """Path of a built program, None when it is not built."""
    path = os.path.join(BUILD, "bin", name)
    return path if os.access(path, os.X_OK) else None


class Daemon:
    """One process with its own log. `stop` asks it to end and checks how it ended."""

    def __init__(self, name, folder, arguments, prefix=()):
        self.name = name
        self.folder = folder
        self.arguments = arguments
        self.prefix = list(prefix)
        self.log_path = folder + ".log"
        self.process = None
        atexit.register(self.kill)

    def start(self, port_file, extra=(), limit_s=60.0, failpoint=None, points=None):
        """Starts and waits until it noted its port; returns the port. It dies at the failpoint, or looks for those that are
        armed in the folder of `points` (failpoints.py)."""
        path = os.path.join(self.folder, port_file)
        if os.path.exists(path):
            os.unlink(path)
        env = dict(os.environ)
        env.setdefault("TSAN_OPTIONS", "exitcode=66")
        if failpoint:
            env["CORRAL_FAILPOINT"] = failpoint
        if points:
            env["CORRAL_FAILPOINTS"] = points
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.prefix + self.arguments + list(extra), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=env)
        return int(until(f"{self.name} answers", lambda: self._read_port(path), limit_s))

    def _read_port(self, path):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log()[-4000:]}")
        try:
            with open(path, encoding="ascii") as file:
                return file.read().strip()
        except FileNotFoundError:
            return None

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """As a crash: nothing is checked."""
        if self.running:
            self.process.kill()
        if self.process:
            self.process.wait()
        self.process = None

    def stop(self, limit_s=30.0):
        if not self.process:
            return
        if self.running:
            self.process.terminate()
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            stacks = self.stacks()
            self.kill()
            raise AssertionError(f"{self.name} does not stop:\n{stacks}\n{self.log()[-3000:]}") from None
        self.process = None
        if code != 0:
            raise AssertionError(f"{self.name} ended with {code}:\n{self.log()[-8000:]}")

    def operations(self):
        """What an agent's journal says of each operation that it knows."""
        folder, latest = os.path.join(self.folder, "operations"), {}
        for name in sorted(os.listdir(folder), key=lambda name: int(name.partition(".")[0])):
            with contextlib.suppress(FileNotFoundError), open(os.path.join(folder, name), encoding="utf-8") as file:
                for line in file.read().split("\n")[:-1]:  # behind the last newline is what is being written
                    record = json.loads(line)
                    latest[record["id"]] = record
        return list(latest.values())

    def stacks(self):
        """Where its threads stand, for a person."""
        if not shutil.which("gdb"):
            return ""
        run = subprocess.run(["gdb", "-p", str(self.pid), "-batch", "-ex", "thread apply all bt 12"], text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        return run.stdout[-12000:]

    def complaints(self):
        return [f"{self.name}: {line.strip()}" for line in self.log().splitlines() if COMPLAINTS.search(line)]

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))


class TestPool:
    """See the head of the file. `options` go to poold; plain HTTP on loopback is always open too."""

    __test__ = False

    def __init__(self, hosts=0, options=(), folder=None, host_options=(), state=None):
        self.folder = folder or tempfile.mkdtemp(prefix="corral-api-")
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.state = state or os.path.join(self.folder, "state")
        self.clients = []
        self.hosts = []
        self.host_options = list(host_options)
        if "--event-heartbeat" not in options:
            options = [*options, "--event-heartbeat", "0"]  # no event that a test did not make
        if os.environ.get("CORRAL_TEST_UNCONFINED"):  # a build that writes files of its own: coverage, TSan's reports
            options = [*options, "--unconfined"]
        binary = program("poold")
        if not binary:
            raise AssertionError(f"no poold in {BUILD}: set CORRAL_TEST_BUILD to a build folder")
        self.poold = Daemon("poold", self.state, [binary, "--state", self.state, "--port", "0", "--http", "0",
                                                  "--log-level", "debug", *call_log(), *options])
        try:
            self.start()
            for _ in range(hosts):
                self.add_host()
        except BaseException:
            self.close(check=False)
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            sys.stderr.write(f"--- end of poold's log\n{self.poold.log()[-3000:]}\n")
            for host in self.hosts:
                sys.stderr.write(f"--- end of {host.name}'s log\n{host.log()[-2000:]}\n")
        self.close(check=kind is None)

    def keep_logs(self):
        """The daemons' whole logs, where CORRAL_TEST_LOGS says."""
        folder = os.environ.get("CORRAL_TEST_LOGS")
        for daemon in (self.poold, *self.hosts) if folder else ():
            shutil.copy(daemon.log_path, os.path.join(folder, f"{os.path.basename(self.folder)}-{daemon.name}.log"))

    # ---- poold ----

    def start(self, failpoint=None, points=None):
        self.port = self.poold.start("poold.port", failpoint=failpoint, points=points)
        self.http_port = int(self.read("poold.http"))

    def stop(self):
        self.close_clients()
        self.poold.stop()

    def kill(self):
        self.close_clients()
        self.poold.kill()

    def restart(self, crash=False, failpoint=None, points=None):
        """Ends poold, in order or as a crash, and starts it again."""
        if crash:
            self.kill()
        else:
            self.stop()
        self.start(failpoint, points)

    def restart_on(self, port):
        """Restarts it on the HTTPS port that it had, for clients that keep the address."""
        self.stop()
        at = self.poold.arguments.index("--port") + 1
        self.poold.arguments[at] = str(port)
        self.start()

    def close_clients(self):
        for client in self.clients:
            client.close()
        self.clients = []

    def close(self, check=True):
        try:
            self.close_clients()
            for daemon in [self.poold, *self.hosts]:
                if check:
                    daemon.stop()
                else:
                    daemon.kill()
            found = sum((d.complaints() for d in [self.poold, *self.hosts]), [])
            if found and check:
                raise AssertionError("\n".join(found) + "\n" + self.poold.log()[-6000:])
        finally:
            for daemon in [self.poold, *self.hosts]:
                daemon.kill()
            self.keep_logs()
            shutil.rmtree(self.folder, ignore_errors=True)

    def read(self, name):
        with open(os.path.join(self.state, name), encoding="utf-8") as file:
            return file.read().strip()

    @property
    def password(self):
        return self.read("admin-password")

    @property
    def ca(self):
        return os.path.join(self.state, "pki", "ca.pem")

    # ---- clients ----

    def client(self, tls=False, timeout_s=60):
        """A client without a session."""
        url = f"https://127.0.0.1:{self.port}" if tls else f"http://127.0.0.1:{self.http_port}"
        client = xenapi.Pool(url, self.ca, timeout_s)
        self.clients.append(client)
        return client

    def login(self, tls=False, timeout_s=60, originator="test"):
        client = self.client(tls, timeout_s)
        client.login("root", self.password, originator)
        return client

    def again(self, client, timeout_s=60):
        """Another connection with the same session: for another thread."""
        other = self.client(False, timeout_s)
        other.session = client.session
        return other

    def http(self, method, path, body=None, headers=None, timeout_s=30, source=None):
        """One plain HTTP request on a connection of its own: (status, headers, body)."""
        source = (source, 0) if source else None
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=timeout_s, source_address=source)
        try:
            try:
                connection.request(method, path, body, headers or {})
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server had seen enough of the body: its answer came before
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def rpc(self, message, timeout_s=30, source=None):
        """Posts to /jsonrpc: (status, text). `message` is bytes, text or something for JSON."""
        if not isinstance(message, (bytes, str)):
            message = json.dumps(message)
        if isinstance(message, str):
            message = message.encode()
        status, _, body = self.http("POST", "/jsonrpc", message, {"Content-Type": "application/json"}, timeout_s, source)
        return status, body.decode("utf-8")

    def connect(self, timeout_s=30, tls=False):
        """A bare socket to the plain port, or one with TLS."""
        if not tls:
            return socket.create_connection(("127.0.0.1", self.http_port), timeout_s)
        context = ssl.create_default_context(cafile=self.ca)
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout_s),
                                   server_hostname="127.0.0.1")

    def basic(self, user="root", password=None):
        text = f"{user}:{self.password if password is None else password}"
        return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}

    # ---- hosts ----

    def join_token(self):
        status, _, body = self.http("POST", "/api/v1/join-tokens", b"", self.basic())
        if status != 201:
            raise AssertionError(f"no join token: {status} {body!r}")
        return json.loads(body)["token"]

    def add_host(self, prefix=(), listen="127.0.0.1", server="127.0.0.1"):
        """Starts a simulated host and joins it; waits until the pool sees it live. `prefix`: what the daemon is started
        with, such as another network; then the addresses by which they reach each other."""
        binary = program("hostd")
        if not binary:
            raise AssertionError(f"no hostd in {BUILD}")
        folder = os.path.join(self.folder, f"host{len(self.hosts) + 1}")
        os.mkdir(folder, 0o700)
        token_file = folder + ".token"
        with open(token_file, "w", encoding="ascii") as file:
            file.write(self.join_token() + "\n")
        host = Daemon(f"hostd {len(self.hosts) + 1}", folder,
                      [binary, "--state", folder, *([] if "--driver" in self.host_options else ["--driver", "sim"]),
                       "--log-level", "debug", "--listen", f"{listen}:0", *self.host_options], prefix)
        self.hosts.append(host)
        host.start("hostd.port", ["--join", f"https://{server}:{self.port}", "--token-file", token_file])
        client = self.login()
        try:
            wanted = len(self.hosts)
            until("the host is live", lambda: self.live_hosts(client) >= wanted)
        finally:
            client.logout()
        return host

    def agent(self, uuid):
        """The daemon of a host."""
        for daemon in self.hosts:
            with open(os.path.join(daemon.folder, "pki", "host-uuid"), encoding="ascii") as file:
                if file.read().strip() == uuid:
                    return daemon
        raise AssertionError(f"no agent has the uuid {uuid}")

    @staticmethod
    def live_hosts(client):
        return sum(m["live"] for m in client.host_metrics.get_all_records().values())


def module_pool(**settings):
    """For setUpModule: a TestPool that is closed when the module's tests are over, however they ended."""
    pool = TestPool(**settings)
    unittest.addModuleCleanup(pool.close)
    return pool


def failure_of(api, message, *params):
    """How a message fails with this client's session: (code, parameters), None when it succeeds."""
    try:
        api.call(message, api.session, *params)
    except Failure as failure:
        return failure.code, failure.params
    return None


def disk_files(path):
    """Names of the files in an SR's folder, without its mark."""
    return sorted(name for name in os.listdir(path) if name != ".corral-sr")


def description():
    """The description of the API, as the generator reads it."""
    from description import Description
    return Description(os.path.join(ROOT, "openapi"))
