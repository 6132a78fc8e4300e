"""Counts the instructions of the server's hot paths with callgrind, and compares them with instructions.json: repeatable on a
loaded machine, where seconds are not. More than a twentieth above the file fails. The file is for the compiler that it names;
with another one this skips. After a change that is meant to cost more, or saves much:

    CORRAL_PATHS_RENEW=1 ctest --test-dir build/test -R '^hot_paths$'

and commit the file."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FILE = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.05
TIMES = 100  # as in paths.c
SKIPPED = 77


def total(path):
    with open(path, encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("totals:"))


def count(program):
    """Instructions of one turn, by path. Callgrind writes a file at each call of next_path: two a path."""
    with tempfile.TemporaryDirectory(prefix="corral-paths-") as folder:
        out = Path(folder) / "out"
        names = subprocess.run(
            ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=next_path",
             program, Path(folder) / "pool.db"],
            check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()  # fmt: skip
        return {name: round(total(f"{out}.{2 * i + 2}") / TIMES) for i, name in enumerate(names)}


def main():
    program, compiler = sys.argv[1:]
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"compiler": compiler, "paths": {}}
    renew = os.environ.get("CORRAL_PATHS_RENEW") == "1"
    if not shutil.which("valgrind"):
        print("skipped: there is no valgrind")
        sys.exit(SKIPPED)
    if compiler != known["compiler"] and not renew:
        print(f"skipped: the file is for {known['compiler']}, and this is {compiler}")
        sys.exit(SKIPPED)
    found = count(program)
    wrong = set(found) != set(known["paths"])
    for name, instructions in found.items():
        before = known["paths"].get(name, instructions)
        above = instructions / before - 1
        wrong |= above > TOLERANCE
        print(f"{name:40} {instructions:9}, the file {before:9}, {above:+.1%}{' TOO MANY' if above > TOLERANCE else ''}")
    if renew:
        FILE.write_text(json.dumps({"compiler": compiler, "paths": found}, indent=4) + "\n", encoding="utf-8")
        print(f"{FILE} was written anew")
    elif wrong:
        sys.exit("These are not the paths of the file, or one takes more than it: find out why, or renew it (see compare.py).")


if __name__ == "__main__":
    main()
