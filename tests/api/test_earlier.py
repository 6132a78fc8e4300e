"""Databases that earlier versions have left (keep_earlier.py), opened by this one: every object is there, and says what it said."""
import json
import os
import sqlite3
import sys
import tempfile
import unittest

from keep_earlier import FOLDER, records
from pool import TestPool

# What each version says of itself.
OWN = {"SM": {"capabilities", "features", "name_description", "version"}, "VM": {"memory_overhead"}}


def read(file):
    with open(os.path.join(FOLDER, file), encoding="utf-8") as text:
        return text.read()


class Earlier(unittest.TestCase):
    maxDiff = None

    def open(self, name, folder):
        """A pool on what `name` has left."""
        state = os.path.join(folder, "state")
        with TestPool(state=state) as made:  # its keys
            made.stop()
        for file in os.listdir(state):
            if file.startswith("pool.db"):
                os.unlink(os.path.join(state, file))
        database = sqlite3.connect(os.path.join(state, "pool.db"))
        database.executescript(read(name + ".sql"))
        database.close()
        return TestPool(state=state)

    @staticmethod
    def stored(name):
        """What its API said of each object, without what no column of its tables had: class, reference, fields."""
        database = sqlite3.connect(":memory:")
        database.executescript(read(name + ".sql"))
        for cls, rows in json.loads(read(name + ".json")).items():
            columns = {column[1] for column in database.execute(f'PRAGMA table_info("{cls}")')} - OWN.get(cls, set())
            for ref, row in rows.items() if columns else ():
                yield cls, ref, {field: value for field, value in row.items() if field in columns}
        database.close()

    def check(self, name, now):
        for cls, ref, fields in self.stored(name):
            with self.subTest(database=name, cls=cls, object=fields.get("name_label") or ref):
                self.assertIn(ref, now[cls])
                self.assertEqual({field: now[cls][ref].get(field) for field in fields}, fields)

    def test_each(self):
        names = sorted(file.removesuffix(".sql") for file in os.listdir(FOLDER) if file.endswith(".sql"))
        self.assertTrue(names)
        for name in names:
            with tempfile.TemporaryDirectory() as folder, self.open(name, folder) as pool:
                api = pool.login()
                self.check(name, json.loads(json.dumps(records(api), default=str)))
                vm, = api.VM.get_by_name_label("halted")
                api.VM.set_name_description(vm, "changed")
                pool.restart()
                api = pool.login()
                self.assertEqual(api.VM.get_name_description(vm), "changed")


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
