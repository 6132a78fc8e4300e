#!/usr/bin/env python3
"""Which branches of the server's core the tests take: gate, rules, the store's commit path, tasks. Usage:
branches.py BUILD [--json FILE] [--list] [--file PATTERN]

BUILD is a folder built with CORRAL_BRANCHES, in which tests have run: gcov reads what they left beside the objects. A
branch is one way out of a condition: `a && b` has four. Not counted are lines with assert(), whose second way ends
the program, and those that say in a comment (there or above) `branch: ` why a test cannot take the other way (few,
counted apart). The exit code is 1 when a part is below its goal."""

import argparse
import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOAL = 95.0
PARTS = {
    "gate": "apiserver/src/gate/{gate,decode,roles,work,park,generic,answer,system,commits}.c",
    "rules": "apiserver/src/rules/*.c",
    "store commits": "db/src/{tx,relate,commit,batch,snapshot,version,sqlite_write}.c",
    "tasks": "apiserver/src/gate/task.c",
}
LEFT_OUT = re.compile(r"\bassert\(")
EXCUSED = re.compile(r"\bbranch: ")


def sources(pattern):
    """The files of one {a,b} or * pattern below the root."""
    found = re.fullmatch(r"(.*)\{(.*)\}(.*)", pattern)
    names = [found[1] + name + found[3] for name in found[2].split(",")] if found else [pattern]
    paths = sorted(path for name in names for path in ROOT.glob(name))
    if len(paths) < len(names):
        sys.exit(f"branches: {pattern} names a file that does not exist")
    return paths


class File:
    """Branches of one source: taken, all, and the lines where some were never taken."""

    def __init__(self, path, lines):
        self.name = str(path.relative_to(ROOT))
        self.taken = self.all = self.excused = 0
        self.missed = {}
        text = path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            number, counts = line["line_number"], [branch["count"] for branch in line["branches"]]
            source = text[number - 1]
            if not counts or LEFT_OUT.search(source):
                continue
            above = text[number - 2].strip() if number > 1 else ""
            if EXCUSED.search(source) or (above.startswith("/*") and EXCUSED.search(above)):
                self.excused += counts.count(0)
                continue
            self.all += len(counts)
            self.taken += len(counts) - counts.count(0)
            if 0 in counts:
                self.missed[number] = (counts, source.strip())

    @property
    def percent(self):
        return percent(self.taken, self.all)


def percent(taken, whole):
    return 100.0 * taken / whole if whole else 100.0


def read(build, path):
    """gcov's account of a source, which is compiled once. A test's crash may have left nothing."""
    name = f"{path.name}.gcda"
    data = [found for found in build.glob(f"**/{path.relative_to(ROOT).parts[0]}.dir/**/{name}")
            if str(path.relative_to(ROOT).parent).endswith(found.parent.name)]
    if len(data) != 1:
        sys.exit(f"branches: {len(data)} accounts of {path.relative_to(ROOT)} in {build}: was it built with "
                 "CORRAL_BRANCHES, and have tests run?")
    answer = subprocess.run(["gcov", "--json-format", "--stdout", "--branch-probabilities", str(data[0])],
                            check=True, capture_output=True, cwd=build).stdout
    for account in json.loads(answer)["files"]:
        if Path(account["file"]).name == path.name:
            return account["lines"]
    sys.exit(f"branches: gcov says nothing of {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--list", action="store_true", help="name the lines with branches that were not taken")
    parser.add_argument("--file", default="*", help="with --list: only files that match")
    args = parser.parse_args()
    rc, figures = 0, {}
    print(f"{'branches taken':44} {'taken':>7} {'of':>6} {'%':>7}")
    for part, pattern in PARTS.items():
        files = [File(path, read(args.build.resolve(), path)) for path in sources(pattern)]
        taken, whole = sum(file.taken for file in files), sum(file.all for file in files)
        excused = sum(file.excused for file in files)
        rc |= percent(taken, whole) < GOAL
        print(f"{part:44} {taken:7} {whole:6} {percent(taken, whole):7.1f}" +
              (f"  ({excused} excused)" if excused else "") + ("  below the goal" * (percent(taken, whole) < GOAL)))
        for file in files:
            print(f"  {file.name:42} {file.taken:7} {file.all:6} {file.percent:7.1f}")
        if args.list:
            for file in (file for file in files if fnmatch.fnmatch(file.name, f"*{args.file}*")):
                for number, (counts, source) in sorted(file.missed.items()):
                    ways = "".join("-+"[count > 0] for count in counts)
                    print(f"{file.name}:{number}: {ways} {source}")
        figures[part] = {"taken": taken, "of": whole, "excused": excused, "goal_percent": GOAL,
                         "files": {file.name: {"taken": file.taken, "of": file.all,
                                               "missed_lines": sorted(file.missed)} for file in files}}
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return int(rc)


if __name__ == "__main__":
    sys.exit(main())
