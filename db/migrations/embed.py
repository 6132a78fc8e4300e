"""Writes the migrations of this folder as a C table: embed.py FOLDER OUTPUT."""

import pathlib
import re
import sys


def literal(text):
    lines = []
    for line in text.splitlines():
        escaped = line.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'        "{escaped}\\n"')
    return "\n".join(lines) or '        ""'


def main(folder, output):
    steps = []
    for path in sorted(pathlib.Path(folder).glob("*.sql")):
        match = re.fullmatch(r"(\d{4})-[\w-]+\.sql", path.name)
        if not match:
            sys.exit(f"{path}: the name must be NNNN-what.sql")
        steps.append((int(match[1]), path.read_text(encoding="utf-8")))
    versions = [version for version, _ in steps]
    if len(set(versions)) != len(versions):
        sys.exit(f"{folder}: two migrations lead to the same version")
    out = ["/* Written from db/migrations. Changes belong there. */", '#include "engine.h"', ""]
    out.append("const struct migration store_migrations[] = {")
    out += [f"    {{{version},\n{literal(sql)}}}," for version, sql in steps]
    out += ["    {0, \"\"},", "};", f"const size_t store_migration_count = {len(steps)};", ""]
    pathlib.Path(output).write_text("\n".join(out), encoding="utf-8")


main(*sys.argv[1:])
