#!/usr/bin/env python3
"""How much of the API there is: counts messages by tier and by what they do, from the description and from what the
tests called. Usage: coverage.py [--calls FOLDER] [--list]

A message works when it is built and a test called it with success; the logs of calls in FOLDER say so (see
--call-log of poold). Others that are built count as untried. Without logs everything that is built is untried."""

import argparse
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "openapi" / "gen"))

from description import Description  # noqa: E402

# What a message can be, in the order of the columns.
STATES = {
    "works": "built, and called with success by a test",
    "untried": "built, but no test called it with success",
    "not built": "answers NOT_IMPLEMENTED",
    "removed": "answers MESSAGE_REMOVED, as it has to",
    "internal": "between members of a pool only",
}
GENERIC_WITH_FLAG = {"CREATE", "DESTROY", "CUSTOM"}


def is_built(message):
    return bool({"HANDLER", "GENERIC"} & message.flags) or message.kind not in GENERIC_WITH_FLAG


def state_of(name, message, called):
    if "removed" in message.lifecycle:
        return "removed"
    if "POOL_INTERNAL" in message.flags:
        return "internal"
    if not is_built(message):
        return "not built"
    return "works" if name in called else "untried"


def read_calls(folder):
    """Names in the logs; None when there is no log."""
    files = [f for f in Path(folder).iterdir() if f.is_file()] if Path(folder).is_dir() else []
    if not files:
        return None
    return {line for file in files for line in file.read_text(encoding="ascii").splitlines()}


def states_by_tier(description, called):
    """tier -> state -> names."""
    table = {tier: {state: [] for state in STATES} for tier in (1, 2, 3)}
    for cls in description.classes.values():
        for message in cls.messages.values():
            name = f"{cls.name}.{message.name}"
            table[description.tiers[cls.name, message.name]][state_of(name, message, called)].append(name)
    return table


def print_table(table):
    rows = [(f"tier {tier}", states) for tier, states in table.items()]
    rows.append(("all", {s: [n for states in table.values() for n in states[s]] for s in STATES}))
    print(f"{'':8}{'messages':>10}" + "".join(f"{s:>11}" for s in STATES))
    for title, states in rows:
        total = sum(map(len, states.values()))
        print(f"{title:8}{total:>10}" + "".join(f"{len(states[s]):>11}" for s in STATES))


def print_names(title, names):
    if not names:
        return
    print(f"\n{title}:")
    by_class = {}
    for name in names:
        by_class.setdefault(name.split(".")[0], []).append(name.split(".")[1])
    for cls, messages in by_class.items():
        line = f"  {cls}:"
        for message in messages:
            if len(line) + len(message) > 110:
                print(line)
                line = "   "
            line += " " + message
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", default=str(ROOT / "build" / "test" / "calls"), help="folder of the logs of calls")
    parser.add_argument("--list", action="store_true", help="also name what is not built, of all tiers")
    args = parser.parse_args()
    called = read_calls(args.calls)
    table = states_by_tier(Description(ROOT / "openapi"), called or set())
    print("Messages of the API")
    print_table(table)
    for state, meaning in STATES.items():
        print(f"  {state:<10} {meaning}")
    if called is None:
        print(f"\nNo test has run yet (no logs in {args.calls}): nothing counts as working.")
    for tier in (1, 2, 3):
        if called is not None:
            print_names(f"Built but untried, tier {tier}", table[tier]["untried"])
        if tier == 1 or args.list:
            print_names(f"Not built, tier {tier}", table[tier]["not built"])


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader such as head may have seen enough
    main()
