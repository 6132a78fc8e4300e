"""Writes <model/errors.h> (a constructor for each error code), errors.c and <model/alerts.h>."""

from cgen import BANNER, constant, ident, string


def _params(e):
    names, used = [], {"err"}
    for p in e["params"]:
        name = ident(p.lower().replace("-", "_"))
        if not name[0].isalpha():
            name = "p_" + name
        while name in used:
            name += "_"
        used.add(name)
        names.append(name)
    return names


def header(d):
    out = [BANNER, "#pragma once\n#include <model/error.h>\n"]
    for i, (code, e) in enumerate(d.errors.items()):
        names = _params(e)
        args = "".join(f", const char *{n}" for n in names)
        out.append(f"#define ERROR_{code} (&model_errors[{i}])")
        out.append(f"static inline int err_{code.lower()}(struct api_err *err{args})\n{{")
        if names:
            out.append(f"    const char *const params[] = {{{', '.join(names)}}};")
            out.append(f"    return api_err_set(err, ERROR_{code}, params, {len(names)});\n}}")
        else:
            out.append(f"    return api_err_set(err, ERROR_{code}, NULL, 0);\n}}")
    return "\n".join(out) + "\n"


def source(d):
    out = [BANNER, "#include <model/errors.h>\n"]
    for i, e in enumerate(d.errors.values()):
        if e["params"]:
            out.append(f"static const char *const params_{i}[] = {{{', '.join(string(p) for p in e['params'])}}};")
    out.append(f"const uint16_t model_error_count = {len(d.errors)};")
    out.append(f"const struct error_desc model_errors[{len(d.errors)}] = {{")
    for i, (code, e) in enumerate(d.errors.items()):
        parts = [f".code = {string(code)}", f".doc = {string(e.get('doc', ''))}",
                 f".status = {d.status(code)}"]  # fmt: skip
        if e["params"]:
            parts += [f".params = params_{i}", f".param_count = {len(e['params'])}"]
        out.append(f"    {{{', '.join(parts)}}},")
    out.append("};")
    return "\n".join(out) + "\n"


def alerts(d):
    out = [BANNER, "#pragma once\n"]
    for name, priority in d.alerts.items():
        out.append(f"#define {constant('alert', name)} {string(name)}, {priority}")
    return "\n".join(out) + "\n"
