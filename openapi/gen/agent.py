#!/usr/bin/env python3
"""Generator of the calls between the server and the agents.

Reads openapi/agent/*.toml (openapi/agent/README.md says what may stand there), refuses what is not
right with file, name and reason, and writes C for both sides:

    agent.py --in DIR --out DIR

    hv/types.h, hv/calls.h, hv/client_calls.h   headers
    types.c                                     descriptors for hv/wire/codec.c
    agent_handlers.h, agent_handlers.c          the agent's prototypes and dispatch table
"""

import argparse
import pathlib
import re
import sys
import tomllib

SCALARS = {"string": "const char *", "uuid": "const char *", "uuid?": "const char *", "int": "int64_t ",
           "bool": "bool ", "float": "double ", "map": "const struct str_map *"}
KINDS = {"read": "HV_CALL_READ", "operation": "HV_CALL_OPERATION", "stream": "HV_CALL_STREAM"}
QUEUES = {"none": "HV_QUEUE_NONE", "domain": "HV_QUEUE_DOMAIN", "sr": "HV_QUEUE_SR", "host": "HV_QUEUE_HOST",
          "data": "HV_QUEUE_DATA"}
KEYWORDS = set("""auto break case char const continue default do double else enum extern float for goto if
inline int long register restrict return short signed sizeof static struct switch typedef union unsigned void
volatile while bool true false""".split())
NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
FIELD_KEYS = {"name", "type", "doc", "default", "min", "max", "text"}
STRING_MAX = 4096
LIST_MAX = 1024
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


class Refusal(Exception):
    """A description that cannot be used, with where and why."""


def refuse(where, why):
    raise Refusal(f"{where}: {why}")


def check_name(where, name):
    if not isinstance(name, str) or not NAME.match(name) or name in KEYWORDS:
        refuse(where, f"{name!r} is not a usable name")


def check_keys(where, table, allowed, needed):
    for key in table:
        if key not in allowed:
            refuse(where, f"unknown key {key!r}")
    for key in needed:
        if key not in table:
            refuse(where, f"key {key!r} is missing")
    if not isinstance(table.get("doc"), str) or not table["doc"].strip():
        refuse(where, "it has no doc sentence")


class Field:
    def __init__(self, where, table, model):
        check_keys(where, table, FIELD_KEYS, ["name", "type", "doc"])
        check_name(where, table["name"])
        self.name, self.type, self.doc = table["name"], table["type"], table["doc"]
        self.where = f"{where}.{self.name}"
        if not isinstance(self.type, str):
            refuse(self.where, "type is not a string")
        self.is_list = self.type.startswith("[") and self.type.endswith("]")
        self.item = self.type[1:-1] if self.is_list else self.type
        if self.item not in SCALARS and self.item not in model.enums and self.item not in model.struct_names:
            refuse(self.where, f"unknown type {self.item!r}")
        if self.is_list and (self.item in SCALARS and self.item != "string" or self.item in model.enums):
            refuse(self.where, f"a list of {self.item} is not supported")
        self.text = table.get("text", False)
        self.optional = "default" in table
        self.default = table.get("default")
        self.check_limits(table)
        if self.optional:
            self.check_default(model)

    def check_limits(self, table):
        for key in ("min", "max"):
            if key in table and (not isinstance(table[key], int) or isinstance(table[key], bool)):
                refuse(self.where, f"{key} is not a whole number")
        if "min" in table and self.type != "int":
            refuse(self.where, "min is for type int only")
        if "max" in table and not (self.is_list or self.type in ("int", "string")):
            refuse(self.where, f"max means nothing for {self.type}")
        if "text" in table and self.type not in ("string", "map"):
            refuse(self.where, "text is for types string and map only")
        if self.type == "int":
            self.min, self.max = table.get("min", INT_MIN), table.get("max", INT_MAX)
        else:
            self.min, self.max = 0, table.get("max", LIST_MAX if self.is_list else STRING_MAX)
        if self.min > self.max:
            refuse(self.where, "min is above max")

    def check_default(self, model):
        value = self.default
        if self.is_list:
            good = value == []
        elif self.item == "map" or self.item in model.struct_names:
            good = value == {}
        elif self.item in model.enums:
            good = value in model.enums[self.item]["values"]
        elif self.type == "int":
            good = isinstance(value, int) and not isinstance(value, bool) and self.min <= value <= self.max
        elif self.type == "bool":
            good = isinstance(value, bool)
        elif self.type == "float":
            good = isinstance(value, float)
        elif self.type == "uuid":
            good = False
        elif self.type == "uuid?":
            good = value == ""
        else:
            good = isinstance(value, str) and len(value.encode()) <= self.max
        if not good:
            refuse(self.where, f"default {value!r} does not fit type {self.type}")


class Model:
    def __init__(self):
        self.enums, self.structs, self.calls = {}, {}, {}
        self.struct_names = set()

    def load(self, folder):
        files = sorted(pathlib.Path(folder).glob("*.toml"))
        if not files:
            refuse(folder, "no description found")
        tables = []
        for file in files:
            try:
                data = tomllib.loads(file.read_text(encoding="utf-8"))
            except tomllib.TOMLDecodeError as error:
                refuse(file.name, f"not TOML: {error}")
            for key in data:
                if key not in ("enum", "struct", "call"):
                    refuse(file.name, f"unknown table {key!r}")
            tables.append((file.name, data))
        for name, data in tables:
            for table in data.get("enum", []):
                self.add_enum(name, table)
        for name, data in tables:
            for table in data.get("struct", []):
                check_name(name, table.get("name"))
                if table["name"] in self.struct_names or table["name"] in self.enums:
                    refuse(f"{name}: {table['name']}", "this name is used twice")
                self.struct_names.add(table["name"])
        for name, data in tables:
            for table in data.get("struct", []):
                where = f"{name}: {table['name']}"
                check_keys(where, table, {"name", "doc", "fields"}, ["fields"])
                self.structs[table["name"]] = (table, self.fields(where, table["fields"]))
        self.order_structs()
        for name, data in tables:
            for table in data.get("call", []):
                self.add_call(name, table)
        return self

    def add_enum(self, file, table):
        check_name(file, table.get("name"))
        where = f"{file}: {table['name']}"
        check_keys(where, table, {"name", "doc", "values"}, ["values"])
        if table["name"] in self.enums:
            refuse(where, "this name is used twice")
        values = table["values"]
        if not values or len(set(values)) != len(values):
            refuse(where, "its values are missing or not distinct")
        for value in values:
            if not NAME.match(value):
                refuse(where, f"{value!r} is not a usable value")
        self.enums[table["name"]] = table

    def fields(self, where, tables):
        fields = [Field(where, table, self) for table in tables]
        seen = set()
        for field in fields:
            for name in [field.name] + ([field.name + "_count"] if field.is_list else []):
                if name in seen:
                    refuse(field.where, "this name is used twice")
                seen.add(name)
        return fields

    def order_structs(self):
        """Members before owners; a struct inside itself is refused."""
        done, path, order = set(), [], []

        def visit(name):
            if name in done:
                return
            if name in path:
                refuse(name, "the struct contains itself: " + " > ".join(path + [name]))
            path.append(name)
            for field in self.structs[name][1]:
                if field.item in self.struct_names:
                    visit(field.item)
            path.pop()
            done.add(name)
            order.append(name)

        for name in self.structs:
            visit(name)
        self.order = order

    def add_call(self, file, table):
        check_name(file, table.get("name"))
        where = f"{file}: {table['name']}"
        check_keys(where, table, {"name", "doc", "kind", "queue", "key", "timeout_ms", "args", "result", "errors"},
                   ["kind", "args", "result"])
        if table["name"] in self.calls:
            refuse(where, "this name is used twice")
        if table["kind"] not in KINDS:
            refuse(where, f"unknown kind {table['kind']!r}")
        changes = table["kind"] != "read"
        if changes and ("queue" not in table or "key" not in table or "timeout_ms" not in table):
            refuse(where, "an operation needs queue, key and timeout_ms")
        if not changes and ("queue" in table or "key" in table):
            refuse(where, "a read has no queue and no key")
        if changes and table["queue"] not in QUEUES:
            refuse(where, f"unknown queue {table['queue']!r}")
        timeout = table.get("timeout_ms", 10000)
        if not isinstance(timeout, int) or timeout <= 0:
            refuse(where, "timeout_ms is not a positive number")
        for error in table.get("errors", []):
            if error not in self.enums.get("hv_err_kind", {"values": []})["values"]:
                refuse(where, f"unknown error {error!r}")
        args, result = self.fields(where, table["args"]), self.fields(where, table["result"])
        if changes:
            self.check_key(where, table["key"], args)
        self.calls[table["name"]] = dict(table, args=args, result=result, timeout_ms=timeout)

    def check_key(self, where, key, fields):
        parts = key.split(".")
        for part in parts[:-1]:
            field = next((f for f in fields if f.name == part and f.item in self.struct_names and not f.is_list), None)
            if field is None:
                refuse(where, f"key {key!r} names no argument")
            fields = self.structs[field.item][1]
        field = next((f for f in fields if f.name == parts[-1]), None)
        if field is None or field.type not in ("uuid", "uuid?"):
            refuse(where, f"key {key!r} names no uuid")


def comment(text, indent=""):
    words, lines, line = text.split(), [], ""
    for word in words:
        if line and len(line) + len(word) + len(indent) > 104:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    lines.append(line)
    return f"{indent}/* " + f"\n{indent} * ".join(lines).replace("*/", "* /") + " */"


def c_string(text):
    out = []
    for byte in text.encode():
        char = chr(byte)
        out.append(char if 0x20 <= byte < 0x7f and char not in '"\\?' else f"\\{byte:03o}")
    return '"' + "".join(out) + '"'


def c_member(field):
    if field.is_list:
        kind = "const char **" if field.item == "string" else f"struct {field.item} *"
        return f"{kind}{field.name};\n    size_t {field.name}_count;"
    if field.item in SCALARS:
        return f"{SCALARS[field.item]}{field.name};"
    return ("enum " if field.item in MODEL.enums else "struct ") + f"{field.item} {field.name};"


def constant(enum, value):
    return f"{enum}_{value}".upper()


def write_struct(out, tag, doc, fields):
    out.append(comment(doc))
    out.append(f"struct {tag} {{")
    for field in fields:
        out.append(comment(field.doc, "    "))
        out.append("    " + c_member(field))
    if not fields:
        out.append("    char nothing; /* C has no empty struct */")
    out.append("};")
    out.append(f"extern const struct wire_struct {tag}_desc;")
    out.append(f"/* Every member at its default; for optional and required ones alike. */\n"
               f"static inline void {tag}_init(struct {tag} *value)\n{{\n    wire_init(&{tag}_desc, value);\n}}")
    out.append(f"/* Frees what it holds and leaves it zeroed; a zeroed one is allowed. */\n"
               f"static inline void {tag}_done(struct {tag} *value)\n{{\n    wire_done(&{tag}_desc, value);\n}}")
    out.append(f"/* `to` is uninitialised. */\n"
               f"static inline void {tag}_copy(struct {tag} *to, const struct {tag} *from)\n"
               f"{{\n    wire_copy(&{tag}_desc, to, from);\n}}")
    for field in fields:
        if field.is_list and field.item != "string":
            out.append(f"/* Appends an initialised item; pointers to earlier ones become invalid. */\n"
                       f"static inline struct {field.item} *{tag}_add_{field.name}(struct {tag} *value)\n"
                       f"{{\n    return wire_list_add(&{field.item}_desc, (void **)&value->{field.name}, "
                       f"&value->{field.name}_count);\n}}")
        elif field.is_list:
            out.append(f"static inline void {tag}_add_{field.name}(struct {tag} *value, const char *item)\n"
                       f"{{\n    wire_strings_add(&value->{field.name}, &value->{field.name}_count, item);\n}}")
    out.append("")


def types_header(model):
    out = ["/* Generated from openapi/agent/ by openapi/gen/agent.py; never edit. */", "#pragma once",
           "#include <hv/wire.h>", "#include <stdbool.h>", "#include <stdint.h>", ""]
    for name, table in model.enums.items():
        out.append(comment(table["doc"]))
        out.append(f"enum {name} {{")
        out += [f"    {constant(name, value)}," for value in table["values"]]
        out.append("};")
        out.append(f"#define {name.upper()}_COUNT {len(table['values'])}")
        out.append(f"extern const struct wire_enum {name}_desc;")
        out.append(f"/* Its word; \"?\" for a value out of range. */\n"
                   f"static inline const char *{name}_name(enum {name} value)\n"
                   f"{{\n    return wire_enum_name(&{name}_desc, (int)value);\n}}")
        out.append("")
    for name in model.order:
        table, fields = model.structs[name]
        write_struct(out, name, table["doc"], fields)
    return "\n".join(out)


def call_structs(model):
    for name, call in model.calls.items():
        yield f"hv_{name}_args", f"Arguments of {name}.", call["args"]
        yield f"hv_{name}_result", f"Result of {name}.", call["result"]


def calls_header(model):
    out = ["/* Generated from openapi/agent/ by openapi/gen/agent.py; never edit. */", "#pragma once",
           "#include <hv/types.h>", "",
           "/* read: changes nothing. operation: carries an id, queued and remembered. stream: the same with bytes. */",
           "enum hv_call_kind { HV_CALL_READ, HV_CALL_OPERATION, HV_CALL_STREAM };",
           "/* Whose operations run one after another. */",
           "enum hv_queue { HV_QUEUE_NONE, HV_QUEUE_DOMAIN, HV_QUEUE_SR, HV_QUEUE_HOST, HV_QUEUE_DATA };", "",
           "enum hv_call_id {"]
    out += [f"    HV_CALL_{name.upper()}," for name in model.calls]
    out += ["};", f"#define HV_CALL_COUNT {len(model.calls)}", "",
            "struct hv_call_desc {",
            "    const char *name;",
            "    enum hv_call_kind kind;",
            "    enum hv_queue queue;",
            "    int64_t timeout_ms;",
            "    uint32_t key_offset; /* of the key, an rc string, in the arguments; operations and streams only */",
            "    const struct wire_struct *args, *result;",
            "};",
            "extern const struct hv_call_desc hv_calls[HV_CALL_COUNT];",
            "/* NULL: no such call. */",
            "const struct hv_call_desc *hv_call_find(const char *name);", ""]
    for tag, doc, fields in call_structs(model):
        write_struct(out, tag, doc, fields)
    return "\n".join(out)


def client_header(model):
    out = ["/* Generated from openapi/agent/ by openapi/gen/agent.py; never edit. Included by <hv/client.h>. */",
           "#pragma once", ""]
    for name, call in model.calls.items():
        if call["kind"] == "stream":
            continue
        errors = " Errors: " + ", ".join(call["errors"]) + "." if call.get("errors") else ""
        out.append(comment(call["doc"] + errors))
        out.append(f"static inline int hv_{name}(struct hv_host *host, const struct hv_op *op,\n"
                   f"    const struct hv_{name}_args *args, struct hv_{name}_result *result, struct hv_err *err)\n"
                   f"{{\n    return hv_call(host, HV_CALL_{name.upper()}, op, args, result, err);\n}}\n")
    return "\n".join(out)


def field_row(tag, field):
    at = f".offset = offsetof(struct {tag}, {field.name})"
    parts = [f".name = {c_string(field.name)}", at]
    if field.is_list:
        parts.append(f".count_offset = offsetof(struct {tag}, {field.name}_count)")
    if field.item in SCALARS:
        kind = {"uuid?": "UUID_OPTIONAL"}.get(field.item, field.item.upper())
        kind = "STRINGS" if field.is_list else kind
        parts.append(f".kind = WIRE_{kind}")
    elif field.item in MODEL.enums:
        parts += [".kind = WIRE_ENUM", f".en = &{field.item}_desc"]
    else:
        parts += [".kind = " + ("WIRE_LIST" if field.is_list else "WIRE_STRUCT"), f".st = &{field.item}_desc"]
    if field.type == "int":
        low = "INT64_MIN" if field.min == INT_MIN else f"INT64_C({field.min})"
        parts += [f".min = {low}", f".max = INT64_C({field.max})"]
    elif field.is_list or field.type in ("string", "uuid", "uuid?"):
        parts.append(f".max = {field.max}")
    if field.text:
        parts.append(".text = true")
    if field.optional:
        parts.append(".optional = true")
        if field.item in MODEL.enums:
            parts.append(f".initial.i = {constant(field.item, field.default)}")
        elif field.type == "int":
            parts.append(f".initial.i = INT64_C({field.default})")
        elif field.type == "bool":
            parts.append(f".initial.i = {int(field.default)}")
        elif field.type == "float":
            parts.append(f".initial.d = {field.default!r}")
        elif field.type == "string" and field.default:
            parts.append(f".initial.s = {c_string(field.default)}")
    return "    {" + ", ".join(parts) + "},"


def descriptor(out, tag, name, fields):
    if fields:
        out.append(f"static const struct wire_field {tag}_fields[] = {{")
        out += [field_row(tag, field) for field in fields]
        out.append("};")
    out.append(f"const struct wire_struct {tag}_desc = {{.name = {c_string(name)}, .size = sizeof(struct {tag}), "
               f".fields = {tag + '_fields' if fields else 'NULL'}, .field_count = {len(fields)}}};\n")


def types_source(model):
    out = ["/* Generated from openapi/agent/ by openapi/gen/agent.py; never edit. */",
           "#include <hv/calls.h>", "#include <stddef.h>", "#include <string.h>", ""]
    for name, table in model.enums.items():
        words = ", ".join(c_string(value) for value in table["values"])
        out.append(f"static const char *const {name}_words[] = {{{words}}};")
        out.append(f"const struct wire_enum {name}_desc = {{.name = {c_string(name)}, .words = {name}_words, "
                   f".count = {len(table['values'])}}};\n")
    for name in model.order:
        descriptor(out, name, name, model.structs[name][1])
    for tag, _, fields in call_structs(model):
        descriptor(out, tag, tag, fields)
    out.append("const struct hv_call_desc hv_calls[HV_CALL_COUNT] = {")
    for name, call in model.calls.items():
        key = f".key_offset = offsetof(struct hv_{name}_args, {call['key']}), " if "key" in call else ""
        out.append(f"    [HV_CALL_{name.upper()}] = {{.name = {c_string(name)}, .kind = {KINDS[call['kind']]}, "
                   f".queue = {QUEUES[call.get('queue', 'none')]}, .timeout_ms = {call['timeout_ms']}, {key}"
                   f".args = &hv_{name}_args_desc, .result = &hv_{name}_result_desc}},")
    out.append("};\n")
    out.append("const struct hv_call_desc *hv_call_find(const char *name)\n{\n"
               "    for (int i = 0; i < HV_CALL_COUNT; i++)\n"
               "        if (strcmp(hv_calls[i].name, name) == 0)\n"
               "            return &hv_calls[i];\n    return NULL;\n}\n")
    return "\n".join(out)


def handlers(model):
    head = ["/* Generated from openapi/agent/ by openapi/gen/agent.py; never edit.\n"
            " * One handler a call: fills `result`, which is initialised, or sets *err and returns -1. */",
            "#pragma once", "#include <hv/calls.h>", "#include <hv/err.h>", "",
            "struct agent;", "struct agent_op;", ""]
    body = ["/* Generated from openapi/agent/ by openapi/gen/agent.py; never edit. */",
            "#include <agent_handlers.h>", ""]
    rows = []
    for name, call in model.calls.items():
        if call["kind"] == "stream":
            continue
        head.append(comment(call["doc"]))
        head.append(f"int agent_{name}(struct agent *agent, struct agent_op *op, const struct hv_{name}_args *args,\n"
                    f"    struct hv_{name}_result *result, struct hv_err *err);")
        body.append(f"static int run_{name}(struct agent *agent, struct agent_op *op, const void *args, void *result,\n"
                    f"    struct hv_err *err)\n{{\n    return agent_{name}(agent, op, args, result, err);\n}}")
        rows.append(f"    [HV_CALL_{name.upper()}] = run_{name},")
    head += ["", "typedef int agent_handler_fn(struct agent *agent, struct agent_op *op, const void *args, void *result,",
             "    struct hv_err *err);",
             "/* NULL for streams. */",
             "extern agent_handler_fn *const agent_handlers[HV_CALL_COUNT];", ""]
    body.append("\nagent_handler_fn *const agent_handlers[HV_CALL_COUNT] = {\n" + "\n".join(rows) + "\n};\n")
    return "\n".join(head), "\n".join(body)


def generate(model, out):
    global MODEL
    MODEL = model
    head, body = handlers(model)
    files = {"hv/types.h": types_header(model), "hv/calls.h": calls_header(model),
             "hv/client_calls.h": client_header(model), "types.c": types_source(model),
             "agent_handlers.h": head, "agent_handlers.c": body}
    for name, text in files.items():
        path = pathlib.Path(out) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in", dest="source", required=True, help="folder of the description")
    parser.add_argument("--out", required=True, help="folder to write to")
    options = parser.parse_args()
    try:
        generate(Model().load(options.source), options.out)
    except Refusal as refusal:
        print(f"agent.py: {refusal}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
