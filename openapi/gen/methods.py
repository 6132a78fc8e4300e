"""Writes <model/args.h> (argument structs of custom messages) and methods.c (the method table)."""

from cgen import BANNER, Constants, c_type, ident, state_flag, string
from rows import type_index

ROLE = lambda role: "ROLE_" + role.upper().replace("-", "_")
ARGS_OF_KIND = {
    "CREATE": ("args_create", {"args": "record"}),
    "DESTROY": ("args_self", {}),
    "GET_RECORD": ("args_self", {}),
    "GETTER": ("args_self", {}),
    "GET_BY_UUID": ("args_text", {"uuid": "text"}),
    "GET_BY_NAME_LABEL": ("args_text", {"label": "text"}),
    "GET_ALL_WHERE": ("args_text", {"expr": "text"}),
    "GET_ALL_RECORDS_WHERE": ("args_text", {"expr": "text"}),
    "SETTER": ("args_value", {}),
    "ADD": ("args_pair", {}),
    "REMOVE": ("args_pair", {}),
}


def args_struct(c, m):
    """Name of the C struct that holds the decoded arguments; None when there are none."""
    if not m.params:
        return None
    if m.kind == "CUSTOM":
        return f"{c.name.lower()}_{m.name}_args"
    return ARGS_OF_KIND[m.kind][0]


def member(m, p, n):
    """The member of the arguments struct that holds parameter number n."""
    if m.kind == "CUSTOM":
        return ident(p.name)
    if m.kind in ARGS_OF_KIND and n > 0 and m.kind != "CREATE":
        return ["self", "key" if m.kind in ("ADD", "REMOVE") else "value", "value"][n]
    name = ARGS_OF_KIND[m.kind][1].get(p.name, p.name)
    return "self" if name not in ("text", "record") else name


def header(d):
    out = [BANNER, "#pragma once\n#include <model/method.h>\n#include <model/rows.h>\n"]
    for c in d.classes.values():
        for m in c.messages.values():
            if m.kind != "CUSTOM" or not m.params:
                continue
            out.append(f"struct {args_struct(c, m)} {{")
            out.extend(f"    {c_type(p.type)}{ident(p.name)};" for p in m.params)
            out.append("};")
    return "\n".join(out) + "\n"


def method_names(d):
    """(wire name, class, message) in table order."""
    for c in d.classes.values():
        for m in c.messages.values():
            yield f"{c.name}.{m.name}", c, m


def fnv(text):
    h = 2166136261
    for b in text.encode():
        h = ((h ^ b) * 16777619) & 0xFFFFFFFF
    return h


def _hash_table(names):
    size = 1
    while size < 4 * len(names):
        size *= 2
    table = [0xFFFF] * size
    for i, name in enumerate(names):
        for spelling in (name, name.replace(".", "_", 1)):
            at = fnv(spelling) & (size - 1)
            while table[at] != 0xFFFF:
                at = (at + 1) & (size - 1)
            table[at] = i
    lines = [f"const uint32_t model_method_hash_size = {size};", f"const uint16_t model_method_hash[{size}] = {{"]
    for at in range(0, size, 20):
        lines.append("    " + ", ".join(str(x) for x in table[at : at + 20]) + ",")
    return lines + ["};"]


def _params(c, m, index, constants, at):
    lines = []
    for n, p in enumerate(m.params):
        parts = [
            f".name = {string(p.name)}",
            f".type = &model_types[{index[p.type.text]}]",
            f".offset = offsetof(struct {args_struct(c, m)}, {member(m, p, n)})",
        ]
        if p.optional:
            parts.append(".optional = true")
            cell = constants.cell(p.type, p.default)
            if cell:
                parts.append(f".initial = {cell}")
        elif p.type.rep == "REP_STRING":
            parts.append('.initial = {.str = ""}')
        lines.append(f"    {{{', '.join(parts)}}}, /* {at + n}: {c.name}.{m.name} */")
    return lines


def source(d):
    index = type_index(d)
    constants = Constants(d)
    params, keys, rows, names = [], [], [], []
    for i, (name, c, m) in enumerate(method_names(d)):
        names.append(name)
        flags = [f"METHOD_{f}" for f in sorted(m.flags)] + state_flag(m.lifecycle, "METHOD")
        parts = [
            f".name = {string(name)}",
            f".doc = {string(m.doc)}",
            f".cls = CLASS_{c.name}",
            f".kind = METHOD_{m.kind}",
            f".flags = {' | '.join(flags) or '0'}",
            f".role = {ROLE(m.role)}",
            f".result = &model_types[{index[m.result.text]}]",
            f".index = {i}",
            f".operation_param = {m.operation[0] if m.operation else -1}",
        ]
        if m.operation:
            parts.append(f".operation = {d.enums[m.operation[1]].index(m.operation[2])}")
        if m.params:
            parts += [
                f".params = &params[{len(params)}]",
                f".param_count = {len(m.params)}",
                f".required_count = {sum(not p.optional for p in m.params)}",
                f".args_size = sizeof(struct {args_struct(c, m)})",
            ]
            params += _params(c, m, index, constants, len(params))
        if m.field:
            parts.append(f".field = FIELD_{c.name}_{m.field.name}")
        if m.key_roles:
            parts += [f".key_roles = &key_roles[{len(keys)}]", f".key_role_count = {len(m.key_roles)}"]
            keys += [f"    {{{string(k)}, {ROLE(r)}}}," for k, r in m.key_roles.items()]
        rows.append(f"    {{{', '.join(parts)}}},")
    out = [BANNER, "#include <model/args.h>\n", f"extern const struct type model_types[{len(d.types)}];\n"]
    out += constants.lines
    out += ["static const struct param_desc params[] = {", *params, "};"]
    out += ["static const struct key_role key_roles[] = {", *keys, "};"]
    out += [f"const uint16_t model_method_count = {len(rows)};"]
    out += [f"const struct method_desc model_methods[{len(rows)}] = {{", *rows, "};"]
    out += _hash_table(names)
    return "\n".join(out) + "\n"
