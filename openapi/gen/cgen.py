"""Pieces of C text shared by the writers: names, literals, and the pool of constants."""

import re
from datetime import datetime, timezone

KEYWORDS = {"default", "enum", "register", "static", "struct", "switch", "union", "void", "volatile", "int", "float",
            "char", "long", "short", "signed", "unsigned", "return", "if", "else", "for", "while", "do", "break",
            "case", "const", "continue", "double", "extern", "goto", "inline", "restrict", "sizeof", "typedef", "auto",
            "bool"}  # fmt: skip

C_TYPES = {
    "REP_BOOL": "bool ",
    "REP_INT": "int64_t ",
    "REP_FLOAT": "double ",
    "REP_STRING": "const char *",
    "REP_REF": "struct ref ",
    "REP_STR_SET": "const struct str_set *",
    "REP_REF_SET": "const struct ref_set *",
    "REP_ENUM_SET": "uint64_t ",
    "REP_STR_MAP": "const struct str_map *",
    "REP_JSON": "json_t *",
}
MEMBERS = {
    "REP_BOOL": "b",
    "REP_INT": "i",
    "REP_FLOAT": "d",
    "REP_ENUM": "e",
    "REP_STRING": "str",
    "REP_REF": "ref",
    "REP_STR_SET": "str_set",
    "REP_REF_SET": "ref_set",
    "REP_ENUM_SET": "enum_set",
    "REP_STR_MAP": "str_map",
    "REP_JSON": "json",
}
BANNER = "/* Written by openapi/gen from the description in openapi/. Changes belong there. */\n"


def ident(name):
    name = re.sub(r"\W", "_", name)
    return name + "_" if name in KEYWORDS else name


def constant(*parts):
    """An upper-case C constant out of words of any case."""
    return "_".join(re.sub(r"\W", "_", p).upper() for p in parts if p != "")


def string(text):
    out = []
    for ch in text:
        if ch in '"\\':
            out.append("\\" + ch)
        elif ch == "\n":
            out.append("\\n")
        elif " " <= ch <= "~":
            out.append(ch)
        else:
            out.extend(f"\\{b:03o}" for b in ch.encode())
    return '"' + "".join(out) + '"'


def c_type(t):
    if t.rep == "REP_ENUM":
        return f"enum {ident(t.enum)} "
    return C_TYPES[t.rep]


def seconds(text):
    """Unix seconds of a default date, 'YYYY-MM-DDTHH:MM:SSZ'."""
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp())


class Constants:
    """Static strings, sets and maps that initial values point at; each distinct one once."""

    def __init__(self, description):
        self.description = description
        self.names = {}
        self.lines = []

    def _named(self, key, prefix, make):
        if key not in self.names:
            name = f"{prefix}{len(self.names)}"
            self.lines.append(make(name))
            self.names[key] = name
        return self.names[key]

    def str(self, text):
        if text == "":
            return '""'
        return self._named(("s", text), "str_", lambda n: f"STR_STATIC({n}, {string(text)});") + ".text"

    def scalar_text(self, t, value):
        """Canonical text of a scalar inside a set of ints or a map."""
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value)

    def cell(self, t, value):
        """A designated initialiser of `union cell`, or None for all-zero (0, "", empty, null)."""
        m = MEMBERS[t.rep] if t.rep in MEMBERS else None
        if t.rep == "REP_STRING":
            return f'{{.str = {self.str(value or "")}}}'
        if value is None or value == [] or value == {} or t.rep == "REP_JSON":
            return None
        if t.rep == "REP_BOOL":
            return "{.b = true}" if value else None
        if t.kind == "TYPE_DATETIME":
            return f"{{.i = {seconds(value)}}}" if seconds(value) else None
        if t.rep == "REP_INT":
            return f"{{.i = {value}}}" if value else None
        if t.rep == "REP_FLOAT":
            return f"{{.d = {float(value)!r}}}" if value else None
        if t.rep == "REP_ENUM":
            lower = [v.lower() for v in self.description.enums[t.enum]]
            index = lower.index(value.lower())
            return f"{{.e = {index}}}" if index else None
        if t.rep == "REP_REF":
            return None
        if t.rep == "REP_STR_SET":
            items = ", ".join(self.str(x) for x in sorted(self.scalar_text(t.item, v) for v in value))
            key = ("set", items)
            return f"{{.str_set = &{self._named(key, 'set_', lambda n: f'STR_SET_STATIC({n}, {items});')}}}"
        if t.rep == "REP_STR_MAP":
            pairs = ", ".join(
                f"{{{self.str(k)}, {self.str(self.scalar_text(t.item, value[k]))}}}" for k in sorted(value)
            )
            key = ("map", pairs)
            return f"{{.str_map = &{self._named(key, 'map_', lambda n: f'STR_MAP_STATIC({n}, {pairs});')}}}"
        raise AssertionError(f"no constant for a default of type {t.text} ({m})")


def state_flag(lifecycle, prefix):
    """The flag of an element that was removed or deprecated."""
    if "removed" in lifecycle:
        return [f"{prefix}_REMOVED"]
    if "deprecated" in lifecycle:
        return [f"{prefix}_DEPRECATED"]
    return []
