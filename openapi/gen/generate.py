#!/usr/bin/env python3
"""Writes the C of the data model from the description. Usage: generate.py DESCRIPTION OUTPUT

A file is only touched when its text changes, so that nothing is rebuilt in vain."""

import sys
from pathlib import Path

import errors
import handlers
import http_actions
import methods
import rows
from description import Description, DescriptionError

OUTPUTS = {
    "include/model/rows.h": rows.header,
    "model.c": rows.source,
    "include/model/args.h": methods.header,
    "methods.c": methods.source,
    "include/model/errors.h": errors.header,
    "errors.c": errors.source,
    "include/model/alerts.h": errors.alerts,
    "include/model/http_actions.h": http_actions.header,
    "http_actions.c": http_actions.source,
    "handlers/handlers.h": handlers.header,
    "handlers/handlers.c": handlers.source,
}


def main(argv):
    if len(argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        description = Description(argv[1])
    except DescriptionError as e:
        print(f"generate.py: {e}", file=sys.stderr)
        return 1
    for name, write in OUTPUTS.items():
        path = Path(argv[2]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = write(description)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
