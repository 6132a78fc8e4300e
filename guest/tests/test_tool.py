#!/usr/bin/env python3
"""corral-guest against a made-up pool on a unix socket: what it asks, what it prints, how it ends; also when the
pool says nothing, or nonsense."""
import json
import os
import socket
import subprocess
import tempfile
import threading
import unittest

TOOL = os.environ.get("CORRAL_GUEST", "corral-guest")


class Port:
    """Answers each line with what `answer(request)` gives: an object (the id is added), bytes, or None."""

    def __init__(self, path, answer):
        self.answer = answer
        self.seen = []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen(4)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            with peer, peer.makefile("rwb") as stream:
                try:
                    for line in stream:
                        self.one(stream, line)
                except OSError:
                    pass

    def one(self, stream, line):
        if line == b"\n":
            return
        request = json.loads(line)
        self.seen.append(request)
        answer = self.answer(request)
        if isinstance(answer, dict):
            answer = json.dumps({"id": request["id"], **answer}).encode() + b"\n"
        if answer:
            stream.write(answer)
            stream.flush()

    def close(self):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join(10)


class ToolTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "port")

    def run_tool(self, answer, *arguments, text=None):
        port = Port(self.path, answer)
        try:
            done = subprocess.run([TOOL, "--port", self.path, *arguments], input=text, capture_output=True, text=True,
                                  timeout=60, check=False)
        finally:
            port.close()
            os.unlink(self.path)
        return done, [{k: v for k, v in request.items() if k != "id"} for request in port.seen]

    def test_commands(self):
        listed = {"version": 3, "data": {"vm-data/a": "x\n\"y\" ä €", "vm-data/b/c": ""}}
        read, write, ls = (lambda key, **more: {"op": "read", "key": key, **more},
                           lambda key, value: {"op": "write", "key": key, "value": value},
                           lambda prefix: {"op": "list", "prefix": prefix})
        for arguments, text, answer, asked, code, printed in (
                (["read", "a"], None, {"value": "x\ty\\ \u20ac \U0001f600"}, read("vm-data/a"), 0, "x\ty\\ € 😀\n"),
                (["read", "vm-data/a"], None, {"value": ""}, read("vm-data/a"), 0, "\n"),
                (["read", "a"], None, {"error": "not_found", "text": "there is no such key"}, read("vm-data/a"), 1, ""),
                (["write", "a", "b \"c\"\n"], None, {}, write("vm-data/a", "b \"c\"\n"), 0, ""),
                (["write", "a", "-"], "from\nstdin", {}, write("vm-data/a", "from\nstdin"), 0, ""),
                (["write", "a", "x"], None, {"error": "quota", "text": "too large"}, write("vm-data/a", "x"), 3, ""),
                (["rm", "a"], None, {"removed": 1}, {"op": "remove", "key": "vm-data/a"}, 0, ""),
                (["ls"], None, listed, ls("vm-data/"), 0, "vm-data/a\nvm-data/b/c\n"),
                (["ls", "b"], None, listed, ls("vm-data/b"), 0, "vm-data/a\nvm-data/b/c\n"),
                (["dump"], None, listed, ls("vm-data/"), 0,
                 "vm-data/a = \"x\\u000a\\\"y\\\" ä €\"\nvm-data/b/c = \"\"\n"),
                (["ls"], None, {"version": 1}, ls("vm-data/"), 3, "")):
            with self.subTest(arguments=arguments):
                done, seen = self.run_tool(lambda _, answer=answer: answer, *arguments, text=text)
                self.assertEqual((done.returncode, done.stdout, seen), (code, printed, [asked]), done.stderr)

    def test_answers_to_others_and_noise_are_passed_over(self):
        def answer(request):
            return (b'{"id":1,"value":"not mine"}\nnoise\n{}\n\n[1,2\n' +
                    json.dumps({"value": "mine", "id": request["id"]}).encode() + b"\n")
        done, _ = self.run_tool(answer, "read", "a")
        self.assertEqual((done.returncode, done.stdout), (0, "mine\n"), done.stderr)

    def test_nobody_answers(self):
        done, seen = self.run_tool(lambda _: b"", "read", "a")
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertIn("does not answer", done.stderr)
        self.assertEqual(len(seen), 2)  # it tries again once

    def test_wrong_use(self):
        for arguments in ([], ["format"], ["read"], ["read", "a", "b"], ["write", "a"]):
            with self.subTest(arguments=arguments):
                done = subprocess.run([TOOL, *arguments], capture_output=True, text=True, timeout=60, check=False)
                self.assertEqual(done.returncode, 2)
                self.assertIn("Usage", done.stderr)
        done = subprocess.run([TOOL, "--help"], capture_output=True, text=True, timeout=60, check=True)
        self.assertIn("watch", done.stdout)

    def test_watch_prints_what_changes(self):
        states = [{"a": "1"}, {"a": "1"}, {"a": "2", "b": "x"}, {"b": "x"}]
        turn = {"n": 0}

        def answer(request):
            at = min(turn["n"], len(states) - 1)
            if request["op"] == "version":
                return {"version": at, "protocol": 1}
            turn["n"] += 1
            return {"version": at, "data": {"vm-data/" + k: v for k, v in states[at].items()}}

        port = Port(self.path, answer)
        self.addCleanup(port.close)
        with subprocess.Popen([TOOL, "--port", self.path, "watch"], stdout=subprocess.PIPE, text=True) as tool:
            lines = sorted(tool.stdout.readline() for _ in range(3))
            tool.kill()
        self.assertEqual(lines, ['vm-data/a = "2"\n', "vm-data/a gone\n", 'vm-data/b = "x"\n'])


if __name__ == "__main__":
    unittest.main(verbosity=2)
