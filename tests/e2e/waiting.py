"""Waits of the end-to-end tests: each has a deadline and says what it waited for."""
import os
import secrets
import select
import socket
import time


class Late(AssertionError):
    """Something did not happen in time."""


def until(what, check, limit_s=90.0, step_s=0.05):
    """Calls check() until it returns something true, which is the result."""
    end = time.monotonic() + limit_s
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() >= end:
            raise Late(f"{what}: not within {limit_s:g} s")
        time.sleep(step_s)


class Screen:
    """A byte stream from a guest's serial line: send text, wait for text.

    `receive(limit_s)` returns bytes, b"" at the end of the stream, None when the time is up."""

    def __init__(self, receive, send):
        self._receive = receive
        self._send = send
        self.text = ""
        self._seen = 0

    def send(self, text):
        self._send(text.encode())

    def expect(self, text, limit_s=120.0):
        """Waits for `text` behind what the last expect() found; returns what came before it."""
        end = time.monotonic() + limit_s
        while True:
            at = self.text.find(text, self._seen)
            if at >= 0:
                before = self.text[self._seen:at]
                self._seen = at + len(text)
                return before
            left = end - time.monotonic()
            data = self._receive(left) if left > 0 else None
            if data is None:
                raise Late(f"serial: no {text!r} within {limit_s:g} s; last: {self.text[-600:]!r}")
            if data == b"":
                raise Late(f"serial: ended before {text!r}; last: {self.text[-600:]!r}")
            self.text += data.decode("utf-8", "replace")

    def login(self, limit_s=180.0):
        """From the tiny guest's prompt to root's shell, with lines too wide to be wrapped."""
        self.expect("tiny login:", limit_s)
        self.send("root\n")
        self.expect("# ", limit_s)
        self.run("stty columns 500")

    def run(self, command, limit_s=120.0):
        """One shell command in the guest (root is logged in); returns (exit code, output)."""
        # The typed line holds do""ne and so is no match for done. The shell may show it twice, when
        # it was typed before the prompt: the output starts behind the last one. The mark is new
        # each time, since a console shows what was on it before.
        mark = secrets.token_hex(4)
        self.send(f'{command}; echo do""ne-{mark}-$?-\n')
        output = self.expect(f"done-{mark}-", limit_s)
        status = self.expect("-", limit_s)
        self.expect("# ", limit_s)
        output = output.replace("\r", "").rpartition(f"ne-{mark}-$?-\n")[2]
        return int(status), output.strip()


def descriptor_reader(fd):
    """`receive` for a pipe or socket."""
    def receive(limit_s):
        ready, _, _ = select.select([fd], [], [], limit_s)
        return os.read(fd if isinstance(fd, int) else fd.fileno(), 65536) if ready else None
    return receive


def connect_unix(path, limit_s=10.0):
    """A connected unix stream socket, as soon as somebody listens there."""
    def attempt():
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            return None
        return sock
    return until(f"connection to {path}", attempt, limit_s)
