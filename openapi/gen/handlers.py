"""Writes handlers.h (one prototype for each custom message that has a handler) and the table that
maps a method to its handler, for apiserver."""

from cgen import BANNER, MEMBERS, c_type
from methods import args_struct, method_names


def _prototype(c, m):
    args = "struct call *call"
    if m.kind == "CREATE":
        args += f", const struct {c.name.lower()}_row *record"
    elif m.params:
        args += f", const struct {args_struct(c, m)} *args"
    if m.result.kind != "TYPE_VOID":
        args += f", {c_type(m.result)}*result"
    return f"int handle_{c.name.lower()}_{m.name}({args}, struct api_err *err)"


def _handled(d):
    return [(i, c, m) for i, (_, c, m) in enumerate(method_names(d)) if "HANDLER" in m.flags]


def header(d):
    out = [BANNER, "#pragma once\n#include <model/args.h>\n#include <model/error.h>\n\nstruct call;\n"]
    for _, c, m in _handled(d):
        out.append(f"/* {c.name}.{m.name}: {m.doc} */" if m.doc else f"/* {c.name}.{m.name} */")
        out.append(_prototype(c, m) + ";")
    out.append("\n/* Runs a method that has METHOD_HANDLER. The result is the caller's. */")
    out.append("typedef int handler_fn(struct call *call, const void *args, union cell *result, struct api_err *err);")
    out.append("extern handler_fn *const handler_table[];")
    return "\n".join(out) + "\n"


def source(d):
    out = [BANNER, '#include "handlers.h"\n']
    table = {}
    for i, c, m in _handled(d):
        name = f"run_{c.name.lower()}_{m.name}"
        table[i] = name
        call = "call"
        if m.kind == "CREATE":
            call += f", {c.name.lower()}_row(((const struct args_create *)args)->record)"
        elif m.params:
            call += ", args"
        body = []
        if m.result.kind == "TYPE_VOID":
            body.append("    (void)result;")
        elif m.result.rep == "REP_ENUM":
            body.append(f"    enum {m.result.enum} value = 0;")
            call += ", &value"
        elif m.result.rep == "REP_JSON":
            body.append("    json_t *value = NULL;")
            call += ", &value"
        else:
            call += f", &result->{MEMBERS[m.result.rep]}"
        if not m.params:
            body.append("    (void)args;")
        out.append(
            f"static int {name}(struct call *call, const void *args, union cell *result, struct api_err *err)\n{{"
        )
        out += body
        run = f"handle_{c.name.lower()}_{m.name}({call}, err)"
        if m.result.rep in ("REP_ENUM", "REP_JSON"):
            out.append(f"    int rc = {run};")
            out.append(f"    result->{MEMBERS[m.result.rep]} = value;")
            out.append("    return rc;\n}")
        else:
            out.append(f"    return {run};\n}}")
    total = sum(1 for _ in method_names(d))
    out.append(f"handler_fn *const handler_table[{total}] = {{")
    out += [f"    [{i}] = {name}," for i, name in table.items()]
    out.append("};")
    return "\n".join(out) + "\n"
