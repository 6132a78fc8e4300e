"""A whole pool in a folder of its own, run by the entry script from the build under test."""
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CORRAL_TEST_BUILD", os.path.join(ROOT, "build", "release"))
sys.path.insert(0, os.path.join(ROOT, "scripts"))

from waiting import Screen, until  # noqa: E402
from websocket import WebSocket  # noqa: E402
from xenapi import Failure, Pool  # noqa: E402,F401

COMPLAINTS = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error:")


class Installation:
    """Made by 'corral up'; `close` takes it down with its guests and leaves nothing."""

    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix="corral-e2e-")
        # The server's user must reach the state folder in it.
        os.chmod(self.folder, 0o711)
        self.state = os.path.join(self.folder, "state")
        self.options = options
        self.connections = []
        try:
            self.up("--port", "0", *options)
        except BaseException:
            self.close()
            raise

    def corral(self, command, *options, check=True):
        """Runs the entry script; returns what it printed."""
        run = subprocess.run([os.path.join(ROOT, "corral"), command, "--state", self.state, *options],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, timeout=300, check=False)
        if check and run.returncode != 0:
            raise AssertionError(f"corral {command}: exit code {run.returncode}\n{run.stdout}{self.log_ends()}")
        return run.stdout

    def up(self, *options):
        return self.corral("up", "--build", BUILD, *options)

    def log_ends(self):
        text = ""
        for name in sorted(os.listdir(os.path.join(self.state, "log"))) if os.path.isdir(self.state) else []:
            with open(os.path.join(self.state, "log", name), encoding="utf-8", errors="replace") as log:
                text += f"--- {name}\n" + "".join(log.readlines()[-15:])
        return text

    def read(self, name):
        with open(os.path.join(self.state, name), encoding="utf-8") as file:
            return file.read().strip()

    @property
    def port(self):
        return int(self.read("poold.port"))

    def pool(self):
        """A new logged-in API client."""
        pool = Pool(f"https://127.0.0.1:{self.port}", os.path.join(self.state, "pki", "ca.pem"))
        pool.login("root", self.read("admin-password"))
        self.connections.append(pool)
        return pool

    def environment(self):
        """What 'eval "$(corral env)"' gives a shell."""
        wanted = ["PATH", "XE_SERVER", "XE_PORT", "XE_USER", "XE_PASSWORD_FILE", "XE_CA"]
        script = self.corral("env") + "\nenv -0"
        out = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, check=True).stdout.decode()
        settings = dict(item.split("=", 1) for item in out.split("\0") if "=" in item)
        return {**os.environ, **{name: settings[name] for name in wanted}, "HOME": self.folder}

    def xe(self, *arguments, check=True, limit_s=120):
        run = subprocess.run(["xe", *arguments], env=self.environment(), stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit_s, check=False)
        if check and run.returncode != 0:
            raise AssertionError(f"xe {' '.join(arguments)}: exit code {run.returncode}: {run.stdout}{run.stderr}"
                                 f"\n{self.log_ends()}")
        return run.stdout.strip() if check else run

    def serial(self, pool, vm):
        """A guest's serial line, through the server."""
        for console in pool.VM.get_consoles(vm):
            record = pool.console.get_record(console)
            if record["protocol"] == "vt100":
                path = f"/console?uuid={record['uuid']}&session_id={pool.session}"
                socket = WebSocket("127.0.0.1", self.port, path, os.path.join(self.state, "pki", "ca.pem"))
                self.connections.append(socket)
                return Screen(socket.receive, socket.send)
        raise AssertionError("the VM has no serial console")

    def get(self, pool, path):
        """The body of one download with the session of `pool`."""
        context = ssl.create_default_context(cafile=os.path.join(self.state, "pki", "ca.pem"))
        url = f"https://127.0.0.1:{self.port}{path}&session_id={pool.session}"
        with urllib.request.urlopen(url, context=context, timeout=60) as answer:
            return answer.read()

    def daemon(self, name):
        """Pid of a daemon by the entry script's pid file."""
        return int(self.read(f"run/{name}.pid").split()[0])

    def kill(self, name, sig=signal.SIGKILL):
        pid = self.daemon(name)
        os.kill(pid, sig)
        until(f"end of {name}", lambda: not alive(pid))

    def device_model(self, uuid):
        """Pid of the QEMU of a VM, None when there is none."""
        for pid, arguments in processes():
            if b"qemu-system" in arguments[0] and uuid.encode() in b" ".join(arguments):
                return pid
        return None

    def complaints(self):
        """What sanitizers wrote to the daemons' logs."""
        found = []
        folder = os.path.join(self.state, "log")
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as log:
                found += [f"{name}: {line.strip()}" for line in log if COMPLAINTS.search(line)]
        return found

    def close(self):
        for connection in self.connections:
            connection.close()
        out = self.corral("down", "--guests", check=False)
        if "does not run" in out or "FAILED" in out:
            self.corral("down", check=False)
        # What a failed test left behind: only processes that name this installation's folder.
        for pid, arguments in processes():
            if self.state.encode() in b" ".join(arguments) and pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        complaints = self.complaints()
        shutil.rmtree(self.folder, ignore_errors=True)
        if complaints:
            raise AssertionError("sanitizers complain:\n" + "\n".join(complaints))


def processes():
    """(pid, arguments) of each process that has arguments."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    arguments = file.read().split(b"\0")
            except OSError:
                continue
            if arguments[0]:
                yield int(name), arguments


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
