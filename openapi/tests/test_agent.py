#!/usr/bin/env python3
"""What openapi/gen/agent.py refuses, and that the published description passes."""

import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "gen"))
import agent  # noqa: E402

GOOD = '''
[[enum]]
name = "hv_err_kind"
doc = "Kinds."
values = ["none", "exists"]

[[struct]]
name = "thing"
doc = "A thing."
fields = [{ name = "uuid", type = "uuid", doc = "Who." }, { name = "size", type = "int", default = 1, doc = "How big." }]

[[call]]
name = "thing_make"
kind = "operation"
queue = "domain"
key = "thing.uuid"
timeout_ms = 1000
doc = "Makes one."
args = [{ name = "thing", type = "thing", doc = "What." }]
result = []
errors = ["exists"]
'''


def load(text):
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "a.toml").write_text(text, encoding="utf-8")
        return agent.Model().load(folder)


REFUSALS = [
    ("an unknown type", 'type = "thing"', 'type = "thong"', "unknown type 'thong'"),
    ("a list of numbers", 'type = "int", default = 1', 'type = "[int]"', "not supported"),
    ("a field twice", 'name = "size"', 'name = "uuid"', "used twice"),
    ("an enum value twice", '["none", "exists"]', '["none", "none"]', "not distinct"),
    ("an undeclared error", 'errors = ["exists"]', 'errors = ["explodes"]', "unknown error"),
    ("an unknown kind", 'kind = "operation"', 'kind = "wish"', "unknown kind"),
    ("an unknown queue", 'queue = "domain"', 'queue = "post"', "unknown queue"),
    ("an operation without key", 'key = "thing.uuid"\n', "", "needs queue, key"),
    ("a key that is no argument", 'key = "thing.uuid"', 'key = "thong.uuid"', "names no argument"),
    ("a key that is no uuid", 'key = "thing.uuid"', 'key = "thing.size"', "names no uuid"),
    ("a default of another type", "default = 1", 'default = "1"', "does not fit"),
    ("a default out of range", "default = 1", "default = 1, max = 0", "does not fit"),
    ("an unknown key of a field", "default = 1", "defualt = 1", "unknown key"),
    ("a missing doc", 'doc = "A thing."', 'doc = " "', "no doc"),
    ("a C keyword", 'name = "size"', 'name = "register"', "not a usable name"),
    ("min above max", "default = 1", "min = 3, max = 2", "min is above max"),
    ("an unknown table", "[[struct]]", "[[strict]]", "unknown table"),
    ("no time limit", "timeout_ms = 1000", "timeout_ms = 0", "not a positive"),
]


class Refusals(unittest.TestCase):
    def test_the_good_one_passes(self):
        self.assertIn("thing_make", load(GOOD).calls)

    def test_each_fault_is_refused(self):
        for title, old, new, reason in REFUSALS:
            with self.subTest(title):
                self.assertIn(old, GOOD)
                with self.assertRaises(agent.Refusal) as caught:
                    load(GOOD.replace(old, new, 1))
                self.assertIn(reason, str(caught.exception))

    def test_a_name_twice_is_refused(self):
        for kind in ("enum", "struct", "call"):
            part = GOOD[GOOD.index(f"[[{kind}]]"):]
            end = part.find("\n[[")
            with self.subTest(kind), self.assertRaises(agent.Refusal) as caught:
                load(GOOD + "\n" + (part if end < 0 else part[:end]))
            self.assertIn("used twice", str(caught.exception))

    def test_a_struct_inside_itself_is_refused(self):
        with self.assertRaises(agent.Refusal) as caught:
            load(GOOD.replace('type = "int", default = 1', 'type = "thing"'))
        self.assertIn("contains itself", str(caught.exception))


class Published(unittest.TestCase):
    def test_it_passes_and_is_written_the_same_twice(self):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            for out in (one, two):
                agent.generate(agent.Model().load(HERE.parent / "agent"), out)
            for file in sorted(pathlib.Path(one).rglob("*.[ch]")):
                twin = pathlib.Path(two, file.relative_to(one))
                self.assertEqual(file.read_text(), twin.read_text())


if __name__ == "__main__":
    unittest.main()
