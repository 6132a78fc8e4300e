"""Writes the command tables of xe from openapi/xe/ and the data model.

usage: xe_gen.py OPENAPI_DIR OUT_DIR      (xe_tables.c, xe_handlers.h, xe_commands.mdoc)

Every name in openapi/xe/ is checked against the model: a field that does not exist, a call with
the wrong parameters or a name used twice ends with a DescriptionError that says where."""

import json
import re
import sys
from pathlib import Path

from description import Description, DescriptionError, load_toml

ACCESS = {"RO": "", "RW": "", "SRO": "SET", "SRW": "SET", "MRO": "MAP", "MRW": "MAP"}
TAGS = {"RO": " ( RO)", "RW": " ( RW)", "SRO": " (SRO)", "SRW": " (SRW)", "MRO": " (MRO)", "MRW": " (MRW)"}
SPECIALS = {
    "sr-host": "XE_SR_HOST", "vdi-name": "XE_VDI_NAME", "resolution": "XE_RESOLUTION", "duplex": "XE_DUPLEX",
    "vcpu-use": "XE_VCPU_USE", "attachable": "XE_ATTACHABLE", "variant-active": "XE_VARIANT_ACTIVE",
    "withheld": "XE_WITHHELD",
}  # fmt: skip
SCALARS = {
    "TYPE_STRING": "XE_STRING", "TYPE_INT": "XE_INT", "TYPE_FLOAT": "XE_FLOAT", "TYPE_BOOL": "XE_BOOL",
    "TYPE_DATETIME": "XE_DATETIME", "TYPE_ENUM": "XE_ENUM", "TYPE_REF": "XE_REF", "TYPE_VOID": "XE_VOID",
    "TYPE_RECORD": "XE_RECORD",
}  # fmt: skip
EMPTY = {"XE_STRING": '""', "XE_INT": "0", "XE_FLOAT": "0.0", "XE_BOOL": "false", "XE_ENUM": '""',
         "XE_DATETIME": '"19700101T00:00:00Z"', "XE_REF": '"OpaqueRef:NULL"'}  # fmt: skip
GENERATED = {
    "list": ("XE_LIST", "Lists {many}."),
    "param-list": ("XE_PARAM_LIST", "Shows all fields of {one}."),
    "param-get": ("XE_PARAM_GET", "Prints one field of {one}."),
    "param-set": ("XE_PARAM_SET", "Changes fields of {one}."),
    "param-add": ("XE_PARAM_ADD", "Adds to a set or map of {one}."),
    "param-remove": ("XE_PARAM_REMOVE", "Removes from a set or map of {one}."),
    "param-clear": ("XE_PARAM_CLEAR", "Empties a field of {one}."),
}
CLASS_KEYS = {
    "class", "api", "one", "many", "columns", "filters", "generate", "standard_list", "record", "fields", "commands",
}  # fmt: skip
FIELD_KEYS = {
    "access", "from", "texts", "joined", "expensive", "hidden", "deprecated", "any_case", "call", "source", "on", "kib",
    "whole", "special", "set", "add", "remove", "put",
}  # fmt: skip
COMMAND_KEYS = {
    "help", "required", "optional", "selector", "standard", "hidden", "example", "call", "args", "switch", "handler",
    "templates", "local", "async", "forced", "message", "says", "shown", "member", "upload", "download", "file", "needs", "any",
}  # fmt: skip
FLAGS = {
    "standard": "XE_STANDARD", "hidden": "XE_CMD_HIDDEN", "templates": "XE_TEMPLATES", "local": "XE_LOCAL", "async": "XE_ASYNC",
    "any": "XE_ANY", "message": "XE_MESSAGE", "upload": "XE_UPLOAD",
}  # fmt: skip
DANGEROUS = "This operation is extremely dangerous and may cause data loss."
SELECTORS = ("vm", "host", "sr")
NOT_CLASSES = ("texts", "errors", "other")


def quote(text):
    return "NULL" if text is None else json.dumps(text)


def ident(name):
    return re.sub(r"\W", "_", name)


def flat(t):
    """(scalar, shape, class) of an API type as xe sees it; maps count by their values."""
    shape = "XE_ONE"
    if t.kind == "TYPE_OPTION":
        t = t.item
    if t.kind == "TYPE_SET":
        t, shape = t.item, "XE_SET"
    elif t.kind == "TYPE_MAP":
        t, shape = t.item, "XE_MAP"
    return SCALARS.get(t.kind, "XE_RECORD"), shape, t.cls if t.kind == "TYPE_REF" else None


class XeDescription:
    """openapi/xe/ read and checked. `fields` and `commands` are plain dicts, ready to be written."""

    def __init__(self, root):
        root = Path(root)
        self.model = Description(root)
        self.texts = load_toml(root / "xe" / "texts.toml")
        self.sentences = load_toml(root / "xe" / "errors.toml")
        for code in self.sentences:
            if code not in self.model.errors:
                raise DescriptionError(f"xe/errors.toml: {code} is not declared in errors.toml")
        self.classes, self.commands = {}, {}
        raws = [(p.name, load_toml(p)) for p in sorted((root / "xe").glob("*.toml")) if p.stem not in NOT_CLASSES]
        for where, raw in raws:
            self._class(where, raw)
        for where, raw in raws:
            self._share_record(where, raw)
        for where, raw in raws:
            self._generated(self.classes[raw["class"]])
            self._commands(where, raw)
        self._commands("other.toml", load_toml(root / "xe" / "other.toml"))

    def api_class(self, name, where):
        if name not in self.model.classes:
            raise DescriptionError(f"xe/{where}: unknown class {name}; model.toml lists those that exist")
        return self.model.classes[name]

    def message(self, text, where):
        cls, _, name = text.partition(".")
        c = self.api_class(cls, where)
        if name not in c.messages:
            raise DescriptionError(f"xe/{where}: the model has no message {text}")
        return c.messages[name]

    # ---- classes and fields ----

    def _class(self, where, raw):
        if set(raw) - CLASS_KEYS:
            raise DescriptionError(f"xe/{where}: unknown keys {sorted(set(raw) - CLASS_KEYS)}")
        name = raw.get("class")
        if name in self.classes:
            raise DescriptionError(f"xe/{where}: class {name} is described twice")
        api = self.api_class(raw.get("api"), where)
        fields = {n: self._field(f"{where}, field {n}", api, n, f) for n, f in raw.get("fields", {}).items()}
        for kind in raw["generate"]:
            if kind not in GENERATED:
                raise DescriptionError(f"xe/{where}: unknown command kind {kind}; kinds are {', '.join(GENERATED)}")
        self.classes[name] = dict(name=name, api=api, raw=raw, fields=fields, record=raw.get("record", name), where=where)

    def _share_record(self, where, raw):
        c = self.classes[raw["class"]]
        if "record" in raw:
            if raw["record"] not in self.classes:
                raise DescriptionError(f"xe/{where}: unknown class {raw['record']} in record")
            other = self.classes[raw["record"]]
            if raw.get("fields") or other["api"] is not c["api"]:
                raise DescriptionError(f"xe/{where}: record {raw['record']} is of another API class, or fields stand here too")
            c["fields"] = other["fields"]
        for n in list(raw["columns"]) + list(raw.get("filters", {})):
            if n not in c["fields"]:
                raise DescriptionError(f"xe/{where}: column or filter {n} is not one of its fields")

    def _path(self, where, api, path):
        """Follows "VM.name_label" from `api`: (hops, member, type)."""
        *steps, last = path.split(".")
        hops = []
        for step in steps:
            t = self._member(where, api, step).type
            target = t.cls or (t.item and t.item.cls)
            if not target:
                raise DescriptionError(f"xe/{where}: {api.name}.{step} is not a reference, so {path} leads nowhere")
            hops.append((step, target))
            api = self.model.classes[target]
        return hops, last, self._member(where, api, last).type

    def _member(self, where, api, name):
        if name not in api.fields or api.fields[name].internal:
            raise DescriptionError(f"xe/{where}: class {api.name} has no field {name}")
        return api.fields[name]

    def _field(self, where, api, name, raw):
        if set(raw) - FIELD_KEYS:
            raise DescriptionError(f"xe/{where}: unknown keys {sorted(set(raw) - FIELD_KEYS)}")
        access = raw.get("access")
        if access not in ACCESS:
            raise DescriptionError(f"xe/{where}: unknown access {access!r}; it is one of {', '.join(ACCESS)}")
        texts = raw.get("texts")
        if texts and texts not in self.texts:
            raise DescriptionError(f"xe/{where}: unknown format {texts}; texts.toml lists those that exist")
        if raw.get("special") and raw["special"] not in SPECIALS:
            raise DescriptionError(f"xe/{where}: unknown format {raw['special']}; specials are {', '.join(SPECIALS)}")
        f = dict(name=name, raw=raw, hops=[], member=None, call_self=False, on_cls=None, set_type=None)
        if "call" in raw:
            m = self.message(raw["call"], where)
            if len([p for p in m.params if not p.optional]) > 1:
                raise DescriptionError(f"xe/{where}: {raw['call']} needs more than the object")
            f["type"], f["shape"], f["cls"] = flat(m.result)
            f["call_self"] = bool(m.params)
        elif "source" in raw:
            f["type"], f["shape"], f["cls"] = "XE_FLOAT", "XE_ONE", None
            if "on" in raw:
                f["on_cls"] = self._member(where, api, raw["on"]).type.cls
        elif raw.get("special") in ("attachable", "withheld"):
            f["type"], f["shape"], f["cls"] = "XE_STRING", "XE_ONE", None
        else:
            hops, member, t = self._path(where, api, raw.get("from", name.replace("-", "_")))
            f["hops"], f["member"] = hops, member
            f["type"], f["shape"], f["cls"] = flat(t)
        f["messages"] = self._setters(where, api, access, f, raw)
        return f

    def _setters(self, where, api, access, f, raw):
        m = {k: raw.get(k) for k in ("set", "add", "remove", "put")}
        simple = f["member"] and not f["hops"]
        member = f["member"]
        has = lambda n: n in api.messages
        if access == "RW" and "set" not in raw and simple:
            m["set"] = f"{api.name}.set_{member}"
        if access == "SRW" and simple and has(f"add_{member}"):
            m["add"], m["remove"] = m["add"] or f"{api.name}.add_{member}", m["remove"] or f"{api.name}.remove_{member}"
        if access == "MRW" and simple and has(f"add_to_{member}"):
            m["add"], m["remove"] = f"{api.name}.add_to_{member}", f"{api.name}.remove_from_{member}"
        m["whole"] = None
        if f["shape"] != "XE_ONE":
            m["whole"] = m.pop("set") or (f"{api.name}.set_{member}" if simple and has(f"set_{member}") else None)
            m["set"] = m["whole"] if raw.get("set") or access == "RW" else None
            if access in ("SRO", "MRO", "RO") and not raw.get("set"):
                m["whole"] = None
        for k, text in m.items():
            if text:
                message = self.message(text, f"{where}, {k}")
                if k == "set":
                    f["set_type"] = flat(message.params[1].type)[0]
        if access in ("RW", "SRW", "MRW") and not any(m.values()):
            raise DescriptionError(f"xe/{where}: access {access}, but no message changes it")
        return m

    # ---- commands ----

    def _add(self, where, command):
        if command["name"] in self.commands:
            raise DescriptionError(f"xe/{where}: command {command['name']} is described twice")
        self.commands[command["name"]] = command

    def _generated(self, c):
        raw, fields = c["raw"], c["fields"]
        shown = [n for n, f in fields.items() if not f["raw"].get("hidden")]
        contains = [n + ":contains" for n in shown if fields[n]["raw"]["access"] in ("SRO", "SRW")]
        changed = [n + (":" if f["shape"] == "XE_MAP" else "") for n, f in fields.items() if n in shown and self._settable(f)]
        params = {
            "list": ([], ["params"] + shown + contains),
            "param-list": (["uuid"], []),
            "param-get": (["uuid", "param-name"], ["param-key"]),
            "param-set": (["uuid"], changed),
            "param-add": (["uuid", "param-name"], ["param-key"]),
            "param-remove": (["uuid", "param-name", "param-key"], []),
            "param-clear": (["uuid", "param-name"], []),
        }
        for kind in raw["generate"]:
            generated, sentence = GENERATED[kind]
            required, optional = params[kind]
            self._add(c["where"], dict(
                name=f"{c['name']}-{kind}", help=sentence.format(one=raw["one"], many=raw["many"]), example=None,
                required=required, optional=optional, generated=generated, cls=c, selector=None, handler=None, call=None, move=None,
                args=[], switch=None, result=("XE_VOID", "XE_ONE", None),
                flags=["XE_STANDARD"] if kind == "list" and raw.get("standard_list") else []))  # fmt: skip

    @staticmethod
    def _settable(f):
        m = f["messages"]
        if f["shape"] == "XE_MAP":
            return bool(m["add"] or m["put"] or m["whole"])
        return bool(m["set"])

    def _commands(self, where, raw):
        for name, d in raw.get("commands", {}).items():
            self._add(where, self._command(f"{where}, command {name}", name, d))

    def _command(self, where, name, d):
        if set(d) - COMMAND_KEYS:
            raise DescriptionError(f"xe/{where}: unknown keys {sorted(set(d) - COMMAND_KEYS)}")
        if not d.get("help"):
            raise DescriptionError(f"xe/{where}: no help sentence")
        if len({"call", "handler", "upload", "download", "needs"} & set(d)) > 1:
            raise DescriptionError(f"xe/{where}: both a call and a handler, or more than one way to do it")
        selector = d.get("selector")
        if selector and selector not in SELECTORS:
            raise DescriptionError(f"xe/{where}: unknown class {selector} in selector; it is one of {', '.join(SELECTORS)}")
        required, optional = d.get("required", []), d.get("optional", [])
        if len(set(required + optional)) != len(required + optional):
            raise DescriptionError(f"xe/{where}: a parameter is listed twice")
        c = dict(
            name=name, help=d["help"], example=d.get("example"), required=required, optional=optional, generated=None,
            cls=None, selector=self.classes[selector] if selector else None, handler=d.get("handler"),
            call=d.get("call"), args=[], switch=None, result=("XE_VOID", "XE_ONE", None), flags=[],
            says=d.get("says"), shown=d.get("shown"), member=None, move=d.get("upload") or d.get("download"), file=d.get("file"),
            needs=d.get("needs"), forced=DANGEROUS if d.get("forced") is True else d.get("forced"),
        )  # fmt: skip
        for key, flag in FLAGS.items():
            if d.get(key):
                c["flags"].append(flag)
        if c["shown"] and c["shown"] not in self.texts:
            raise DescriptionError(f"xe/{where}: unknown format {c['shown']}; texts.toml lists those that exist")
        for param in re.findall(r"\{([\w-]+)\}", c["says"] or ""):
            self._known(where, c, param)
        if c["call"]:
            self._call(where, c, d)
        if c["move"]:
            self._known(where, c, c["file"])
        if c["needs"]:
            self.message(c["needs"], where)
        return c

    def _call(self, where, c, d):
        m = self.message(c["call"], where)
        if "ASYNC" in m.flags:
            c["flags"].append("XE_ASYNC")
        c["result"] = flat(m.result)
        if "member" in d:
            if c["result"][:2] != ("XE_REF", "XE_ONE"):
                raise DescriptionError(f"xe/{where}: {c['call']} gives no object that could have a member")
            t = self._member(where, self.model.classes[c["result"][2]], d["member"]).type
            if t.kind != "TYPE_REF":
                raise DescriptionError(f"xe/{where}: member {d['member']} is no reference")
            c["member"] = (d["member"], t.cls)
        members = [a for a in d.get("args", []) if re.match(r"\w+=", a)]
        if members:
            c["args"] = self._members(where, c, m, d["args"])
        else:
            c["args"] = [self._arg(where, c, a, p.type, p) for a, p in zip(d.get("args", []), m.params)]
            needed = len([p for p in m.params if not p.optional])
            if not needed <= len(d.get("args", [])) <= len(m.params):
                raise DescriptionError(f"xe/{where}: {c['call']} takes {len(m.params)} parameters, not {len(d.get('args', []))}")
        if "switch" in d:
            ((param, other),) = d["switch"].items()
            if len(self.message(other, where).params) != len(m.params):
                raise DescriptionError(f"xe/{where}: {other} does not take the parameters of {c['call']}")
            c["switch"] = (param, other)
            self._known(where, c, param)

    def _members(self, where, c, m, args):
        t = m.params[0].type
        if len(m.params) != 1 or t.kind != "TYPE_RECORD":
            raise DescriptionError(f"xe/{where}: {c['call']} does not take a record")
        api, out = self.model.classes[t.cls], []
        for a in args:
            member, _, source = a.partition("=")
            f = self._member(where, api, member)
            out.append(dict(self._arg(where, c, source, f.type, f if f.has_default else None), member=member, optional=False))
        for f in api.fields.values():
            if f.mode in ("RW", "StaticRO") and not f.internal and not f.has_default and f.name not in [o["member"] for o in out]:
                raise DescriptionError(f"xe/{where}: {c['call']} needs {f.name}, which has no default")
        return out

    def _known(self, where, c, param):
        names = [p.rstrip(":") for p in c["required"] + c["optional"]]
        if param not in names:
            raise DescriptionError(f"xe/{where}: {param} is not one of its parameters")

    def _arg(self, where, c, text, t, default):
        typ, shape, cls = flat(t)
        a = dict(member=None, type=typ, shape=shape, cls=cls, param=None, or_coordinator=False, optional=False, json=None)
        if text == "@":
            if not c["selector"]:
                raise DescriptionError(f"xe/{where}: @ stands for the selected object, but there is no selector")
            return dict(a, source="XE_ARG_SELECTED")
        if text == "$pool":
            return dict(a, source="XE_ARG_POOL")
        if text == "$coordinator":
            return dict(a, source="XE_ARG_COORDINATOR")
        if re.match(r'[\[{"\d]|true$|false$', text):
            return dict(a, source="XE_ARG_CONST", json=text)
        if text.startswith("bytes "):
            text, a["type"] = text[6:], "XE_BYTES"
        if text.endswith(" or $coordinator"):
            text, a["or_coordinator"] = text[: -len(" or $coordinator")], True
        self._known(where, c, text)
        a["json"] = {"XE_SET": "[]", "XE_MAP": "{}"}.get(shape) or EMPTY.get(typ)
        if default is not None:
            if getattr(default, "optional", False) or getattr(default, "has_default", False):
                a["json"] = json.dumps(default.default)
            a["optional"] = getattr(default, "optional", False)
        return dict(a, source="XE_ARG_PARAM", param=text)


# ---- writing ----


def example(c):
    """The command's own example, or one that names what it needs."""
    words = [f"{p}={'FIELD' if p == 'param-name' else p.rpartition('-')[2].upper()}" for p in c["required"]]
    if c["selector"]:
        words.insert(0, f"{c['selector']['name']}=NAME")
    if c["generated"] == "XE_PARAM_SET":
        words.append("FIELD=VALUE")
    return c["example"] or " ".join(["xe", c["name"], *words])


def is_built(c):
    return bool(c["generated"] or c["handler"] or c["call"] or c["move"])


class Writer:
    def __init__(self, x):
        self.x, self.out, self.lists = x, [], {}

    def list(self, items):
        """A NULL-ended array of strings, written once for equal lists."""
        key = tuple(items)
        if key not in self.lists:
            self.lists[key] = f"list_{len(self.lists)}"
            self.out.append(f"static const char *const {self.lists[key]}[] = {{{', '.join([quote(i) for i in key] + ['NULL'])}}};")
        return self.lists[key]

    def tables(self):
        x, w = self.x, self.out.append
        w("/* Generated from openapi/xe/ by xe_gen.py; do not edit. */")
        w('#include "table.h"\n#include "xe_handlers.h"\n')
        for name, rows in x.texts.items():
            w(f"static const struct xe_text texts_{ident(name)}_rows[] = {{")
            for wire, shown in rows.items():
                w(f"    {{{quote(wire)}, {quote(shown)}}},")
            w(f"}};\nstatic const struct xe_texts texts_{ident(name)} = {{texts_{ident(name)}_rows, {len(rows)}}};")
        for c in x.classes.values():
            if c["record"] == c["name"]:
                self.fields(c)
        for c in x.classes.values():
            self.klass(c)
        w("const struct xe_class *const xe_classes[] = {")
        w("    " + ", ".join(f"&class_{ident(n)}" for n in x.classes) + f"}};\nconst size_t xe_class_count = {len(x.classes)};\n")
        self.commands()
        self.errors()
        named = [n for n, c in x.model.classes.items() if "name_label" in c.fields]
        w(f"const char *const xe_named_api_classes[] = {{{', '.join(map(quote, named))}, NULL}};")
        return "\n".join(self.out) + "\n"

    def fields(self, c):
        w, name = self.out.append, ident(c["name"])
        for i, f in enumerate(c["fields"].values()):
            if f["hops"]:
                rows = ", ".join(f"{{{quote(a)}, {quote(b)}}}" for a, b in f["hops"])
                w(f"static const struct xe_hop hops_{name}_{i}[] = {{{rows}}};")
        w(f"static const struct xe_field fields_{name}[] = {{")
        for i, f in enumerate(c["fields"].values()):
            w(self.field(name, i, f))
        w("};")

    def field(self, owner, i, f):
        raw, m = f["raw"], f["messages"]
        flags = ["XE_ACCESS_" + ACCESS[raw["access"]]] if ACCESS[raw["access"]] else []
        for key, flag in (("expensive", "XE_EXPENSIVE"), ("hidden", "XE_HIDDEN"), ("deprecated", "XE_DEPRECATED"),
                          ("any_case", "XE_ANY_CASE"), ("kib", "XE_KIB"), ("whole", "XE_WHOLE")):  # fmt: skip
            if raw.get(key):
                flags.append(flag)
        tag = TAGS[raw["access"]] + (" [DEPRECATED]" if raw.get("deprecated") else "")
        parts = [f".name = {quote(f['name'])}", f".tag = {quote(tag)}", f".flags = {' | '.join(flags) or '0'}",
                 f".type = {f['type']}", f".shape = {f['shape']}", f".joined = {quote(raw.get('joined', '; '))}"]  # fmt: skip
        if raw.get("special"):
            parts.append(f".special = {SPECIALS[raw['special']]}")
        if f["hops"]:
            parts.append(f".hops = hops_{owner}_{i}, .hop_count = {len(f['hops'])}")
        if raw.get("texts"):
            parts.append(f".texts = &texts_{ident(raw['texts'])}")
        for key, value in (("from", f["member"]), ("cls", f["cls"]), ("call", raw.get("call")), ("source", raw.get("source")),
                           ("on", raw.get("on")), ("on_cls", f["on_cls"]), *m.items()):  # fmt: skip
            if value:
                parts.append(f".{key} = {quote(value)}")
        if f["call_self"]:
            parts.append(".call_self = true")
        if f["set_type"]:
            parts.append(f".set_type = {f['set_type']}")
        return f"    {{{', '.join(parts)}}},"

    def klass(self, c):
        w, name, raw = self.out.append, ident(c["name"]), c["raw"]
        order = list(c["fields"])
        columns = sorted(order.index(n) for n in raw["columns"])
        w(f"static const uint16_t columns_{name}[] = {{{', '.join(map(str, columns))}}};")
        filters = raw.get("filters", {})
        if filters:
            rows = ", ".join(f"{{{quote(k)}, {quote(v)}}}" for k, v in filters.items())
            w(f"static const struct xe_text filters_{name}[] = {{{rows}}};")
        where = "get_all_records_where" in c["api"].messages
        w(f"static const struct xe_class class_{name} = {{{quote(c['name'])}, {quote(c['api'].name)}, {quote(raw['one'])}, "
          f"{quote(raw['many'])}, fields_{ident(c['record'])}, {len(order)}, columns_{name}, {len(columns)}, "
          f"{'filters_' + name if filters else 'NULL'}, {len(filters)}, {'true' if where else 'false'}}};")  # fmt: skip

    def commands(self):
        rows = []
        for name in sorted(self.x.commands, key=lambda n: n.encode()):
            c = self.x.commands[name]
            if c["args"]:
                self.out.append(f"static const struct xe_arg args_{ident(name)}[] = {{")
                self.out += [self.arg(a) for a in c["args"]]
                self.out.append("};")
            parts = [f".name = {quote(name)}", f".help = {quote(c['help'])}", f".example = {quote(example(c))}",
                     f".required = {self.list(c['required'])}", f".optional = {self.list(c['optional'])}",
                     f".flags = {' | '.join(c['flags']) or '0'}"]  # fmt: skip
            if c["generated"]:
                parts.append(f".generated = {c['generated']}, .cls = &class_{ident(c['cls']['name'])}")
            if c["selector"]:
                parts.append(f".selector = &class_{ident(c['selector']['name'])}")
            if c["handler"]:
                parts.append(f".handler = xe_cmd_{c['handler']}")
            if c["call"]:
                typ, shape, cls = c["result"]
                parts.append(f".call = {quote(c['call'])}, .result_type = {typ}, .result_shape = {shape}, .result_cls = {quote(cls)}")
            if c["args"]:
                parts.append(f".args = args_{ident(name)}, .arg_count = {len(c['args'])}")
            if c["switch"]:
                parts.append(f".switch_param = {quote(c['switch'][0])}, .switch_call = {quote(c['switch'][1])}")
            for key in ("forced", "says", "move", "file"):
                if c.get(key):
                    parts.append(f".{key} = {quote(c[key])}")
            if c.get("shown"):
                parts.append(f".shown = &texts_{ident(c['shown'])}")
            if c.get("member"):
                parts.append(".member = {{{}, {}}}".format(*map(quote, c["member"])))
            rows.append(f"    {{{', '.join(parts)}}},")
        self.out.append("const struct xe_command xe_commands[] = {")
        self.out += rows
        self.out.append(f"}};\nconst size_t xe_command_count = {len(rows)};\n")

    def arg(self, a):
        parts = [f".member = {quote(a['member'])}", f".source = {a['source']}", f".type = {a['type']}", f".shape = {a['shape']}",
                 f".cls = {quote(a['cls'])}", f".param = {quote(a['param'])}", f".json = {quote(a['json'])}"]  # fmt: skip
        for key in ("or_coordinator", "optional"):
            if a[key]:
                parts.append(f".{key} = true")
        return f"    {{{', '.join(parts)}}},"

    def errors(self):
        w, rows = self.out.append, []
        docs = {code: e.get("doc") or None for code, e in self.x.model.errors.items()}
        for code in sorted(set(docs) | set(self.x.sentences)):
            sentence = self.x.sentences.get(code) or docs.get(code)
            params = self.x.model.errors.get(code, {}).get("params", [])
            rows.append(f"    {{{quote(code)}, {quote(sentence)}, {self.list(params)}}},")
        w("const struct xe_error_text xe_error_texts[] = {")
        self.out += rows
        w(f"}};\nconst size_t xe_error_text_count = {len(rows)};\n")


def handlers(x):
    names = sorted({c["handler"] for c in x.commands.values() if c["handler"]})
    lines = ["/* Generated from openapi/xe/ by xe_gen.py; do not edit. */", "#pragma once", '#include "table.h"', ""]
    lines += [f"int xe_cmd_{n}(struct xe_run_state *x, const struct xe_command *cmd);" for n in names]
    return "\n".join(lines) + "\n"


def mdoc(x):
    """The command list of xe(1)."""
    escape = lambda s: s.replace("\\", "\\e").replace("-", "\\-")
    lines = []
    for name in sorted(x.commands):
        c = x.commands[name]
        if "XE_CMD_HIDDEN" in c["flags"]:
            continue
        params = [f"{p.rstrip(':')}{':key' if p.endswith(':') else ''}=..." for p in c["required"]]
        lines.append(f".It Cm {escape(name)} {escape(' '.join(params))}".rstrip())
        built = "" if is_built(c) else " Not built yet."
        lines.append(escape(c["help"]) + built)
        optional = [p.rstrip(":") for p in c["optional"]]
        if optional and not c["generated"]:
            lines.append(f"Also takes {escape(', '.join(optional))}.")
        if c["selector"]:
            lines.append(f"Takes {escape(c['selector']['name'])} selectors.")
    return "\n".join(lines) + "\n"


def main(argv):
    root, out = Path(argv[1]), Path(argv[2])
    try:
        x = XeDescription(root)
    except DescriptionError as e:
        sys.exit(f"openapi: {e}")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (("xe_tables.c", Writer(x).tables()), ("xe_handlers.h", handlers(x)), ("xe_commands.mdoc", mdoc(x))):
        (out / name).write_text(text)


if __name__ == "__main__":
    main(sys.argv)
