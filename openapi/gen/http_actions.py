"""Writes <model/http_actions.h> and http_actions.c: the requests over HTTP that are no messages."""

import re

from cgen import BANNER, string
from methods import ROLE


def header(d):
    out = [BANNER, "#pragma once\n#include <model/http.h>\n"]
    out += [
        f"#define ACTION_{re.sub('/', '_', name)} (&model_http_actions[{i}])" for i, name in enumerate(d.http_actions)
    ]
    return "\n".join(out) + "\n"


def source(d):
    out = [BANNER, "#include <model/http.h>\n"]
    out.append(f"const uint16_t model_http_action_count = {len(d.http_actions)};")
    out.append(f"const struct http_action model_http_actions[{len(d.http_actions)}] = {{")
    for name, a in d.http_actions.items():
        parts = [
            f".name = {string(name)}",
            f".permission = {string('http/' + name)}",
            f".method = {string(a['method'])}",
            f".uri = {string(a['uri'])}",
            f".doc = {string(a['doc'])}",
            f".role = {ROLE(a.get('role', 'read-only'))}",
        ]
        if a.get("open"):
            parts.append(".open = true")
        out.append(f"    {{{', '.join(parts)}}},")
    out.append("};")
    return "\n".join(out) + "\n"
