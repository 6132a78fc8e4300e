"""A small XenAPI client: JSON-RPC 2.0 over HTTPS with the pool's own CA, or over the server's unix socket, where
root needs no password. Standard library only."""
import base64
import http.client
import json
import socket
import ssl
import urllib.parse


class Failure(Exception):
    """The pool refused a call: `code`, then its parameters."""

    def __init__(self, method, code, params):
        super().__init__(f"{method}: {code}{': ' if params else ''}{', '.join(map(str, params))}")
        self.code = code
        self.params = params


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout_s):
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Pool:
    """One pool, by its URL or as unix:PATH, and one session. Not for several threads. Call pool.VM.get_all() and the like:
    the session is put in front of the arguments."""

    def __init__(self, url, ca, timeout_s=60):
        self.url = urllib.parse.urlsplit(url)
        self.timeout_s = timeout_s
        self.session = None
        self._id = 0
        self._connection = None
        if self.url.scheme == "https":
            self._context = ssl.create_default_context(cafile=ca)

    def __getattr__(self, name):
        return _Class(self, name)

    def _connect(self):
        if self.url.scheme == "unix":
            return _UnixConnection(self.url.path, self.timeout_s)
        if self.url.scheme == "https":
            return http.client.HTTPSConnection(self.url.hostname, self.url.port, timeout=self.timeout_s,
                                               context=self._context)
        return http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=self.timeout_s)

    def request(self, method, path, body=None, headers=None):
        """One HTTP request; returns (status, bytes). A connection that the server closed
        between two requests is made anew, once."""
        for attempt in (0, 1):
            fresh = self._connection is None
            if fresh:
                self._connection = self._connect()
            try:
                self._connection.request(method, path, body, headers or {})
                answer = self._connection.getresponse()
                return answer.status, answer.read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
                self.close()
                if fresh or attempt:
                    raise
            except Exception:
                self.close()
                raise
        raise AssertionError("not reached")

    def call(self, method, *params):
        self._id += 1
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": self._id})
        status, answer = self.request("POST", "/jsonrpc", body.encode(), {"Content-Type": "application/json"})
        if status != 200:
            raise Failure(method, "HTTP", [status, answer[:200].decode("utf-8", "replace")])
        message = json.loads(answer)
        if message.get("error"):
            error = message["error"]
            raise Failure(method, error["message"], error.get("data") or [])
        return message["result"]

    def login(self, user, password, originator="corral"):
        self.session = self.call("session.login_with_password", user, password, "1.0", originator)

    def logout(self):
        if self.session:
            self.call("session.logout", self.session)
            self.session = None

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def post(self, path, body, user, password):
        """A resource of /api/v1 by HTTP Basic; returns the decoded answer."""
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        status, answer = self.request("POST", path, json.dumps(body).encode(), {
            "Content-Type": "application/json", "Authorization": f"Basic {credentials}"})
        if status not in (200, 201):
            raise Failure(path, "HTTP", [status, answer[:200].decode("utf-8", "replace")])
        return json.loads(answer)


class _Class:
    def __init__(self, pool, name):
        self._pool = pool
        self._name = name

    def __getattr__(self, message):
        return lambda *params: self._pool.call(f"{self._name}.{message}", self._pool.session, *params)
