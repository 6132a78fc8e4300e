"""Writes <model/rows.h> (enums and row structs) and model.c (types, enums, fields, classes)."""

from cgen import BANNER, Constants, c_type, constant, ident, state_flag, string


def header(d):
    out = [BANNER, "#pragma once\n#include <assert.h>\n#include <jansson.h>\n#include <model/model.h>\n"]
    for name, values in d.enums.items():
        out.append(f"enum {ident(name)} {{")
        out.extend(f"    {constant(name, v)}," for v in values)
        out.append("};")
        out.append(f"extern const struct enum_desc model_enum_{name};\n")
    for i, c in enumerate(d.classes.values()):
        low = c.name.lower()
        out.append(f"#define CLASS_{c.name} (&model_classes[{i}])")
        if not c.fields:
            continue
        out.append(f"extern const struct field_desc model_fields_{low}[{len(c.fields)}];")
        out.extend(f"#define FIELD_{c.name}_{f.name} (&model_fields_{low}[{n}])" for n, f in enumerate(c.fields.values()))
        if not c.database:
            continue
        out.append(f"struct {low}_row {{\n    struct row row;")
        out.extend(f"    {c_type(f.type)}{ident(f.name)};" for f in c.fields.values())
        out.append("};")
        out.append(
            f"static inline const struct {low}_row *{low}_row(const struct row *row)\n{{\n"
            f"    assert(!row || row->cls == CLASS_{c.name});\n    return (const struct {low}_row *)row;\n}}\n"
            f"static inline struct {low}_row *{low}_row_mut(struct row *row)\n{{\n"
            f"    assert(!row || row->cls == CLASS_{c.name});\n    return (struct {low}_row *)row;\n}}\n"
        )
    return "\n".join(out) + "\n"


def type_index(d):
    return {text: i for i, text in enumerate(d.types)}


def _types(d, index):
    out = [f"const struct type model_types[{len(d.types)}] = {{"]
    classes = {n: i for i, n in enumerate(d.classes)}
    for t in d.types.values():
        parts = [f".kind = {t.kind}", f".rep = {t.rep}", f".name = {string(t.text)}"]
        if t.enum:
            parts.append(f".en = &model_enum_{t.enum}")
        if t.cls:
            parts.append(f".cls = &model_classes[{classes[t.cls]}]")
        for side in ("key", "item"):
            if getattr(t, side):
                parts.append(f".{side} = &model_types[{index[getattr(t, side).text]}]")
        out.append(f"    {{{', '.join(parts)}}},")
    out.append("};\n")
    return out


def _enums(d):
    out = []
    for name, values in d.enums.items():
        out.append(f"static const char *const values_{name}[] = {{{', '.join(string(v) for v in values)}}};")
        out.append(
            f"const struct enum_desc model_enum_{name} = "
            f"{{.name = {string(name)}, .values = values_{name}, .count = {len(values)}}};"
        )
    return out


def _inverse(d, f, cls):
    if not f.inverse:
        return []
    target = f.type.cls or f.type.item.cls
    n = list(d.classes[target].fields).index(f.inverse)
    return [f".inverse = &model_fields_{target.lower()}[{n}]"]


def _field_flags(c, f):
    flags = []
    if c.persist and not f.runtime and not f.derived:
        flags.append("FIELD_PERSIST")
    for condition, flag in ((f.internal, "FIELD_INTERNAL"), (f.has_default, "FIELD_HAS_DEFAULT"),
                            (f.derived, "FIELD_DERIVED"), (f.secret, "FIELD_SECRET")):  # fmt: skip
        if condition:
            flags.append(flag)
    return flags + state_flag(f.lifecycle, "FIELD")


def _fields(d, c, index, constants):
    out = [f"const struct field_desc model_fields_{c.name.lower()}[{len(c.fields)}] = {{"]
    for n, f in enumerate(c.fields.values()):
        parts = [
            f".name = {string(f.name)}",
            f".db_name = {string(f.db_name)}",
            f".doc = {string(f.doc)}",
            f".type = &model_types[{index[f.type.text]}]",
            f".index = {n}",
            f".qualifier = { {'RW': 'FIELD_RW', 'StaticRO': 'FIELD_STATIC_RO', 'DynamicRO': 'FIELD_DYNAMIC_RO'}[f.mode]}",
            f".flags = {' | '.join(_field_flags(c, f)) or '0'}",
            f".cls = CLASS_{c.name}",
        ]
        if c.database:
            parts.append(f".offset = offsetof(struct {c.name.lower()}_row, {ident(f.name)})")
        cell = constants.cell(f.type, f.default) if c.database else None
        if cell:
            parts.append(f".initial = {cell}")
        parts += _inverse(d, f, c)
        out.append(f"    {{{', '.join(parts)}}},")
    out.append("};\n")
    return out


def _class_flags(c):
    flags = []
    if c.persist:
        flags.append("CLASS_PERSIST")
        if any(f.runtime for f in c.fields.values()):
            flags.append("CLASS_RUNTIME")
        if c.lazy:
            flags.append("CLASS_LAZY")
    if c.events:
        flags.append("CLASS_EVENTS")
    if c.get_all:
        flags.append("CLASS_GET_ALL")
    return flags + state_flag(c.lifecycle, "CLASS")


def _classes(d):
    out = [f"const uint16_t model_class_count = {len(d.classes)};"]
    out.append(f"const int model_schema_version = {d.schema_version};")
    out.append(f"const struct class_desc model_classes[{len(d.classes)}] = {{")
    for i, c in enumerate(d.classes.values()):
        parts = [
            f".name = {string(c.name)}",
            f".lower_name = {string(c.name.lower())}",
            f".doc = {string(c.doc)}",
            f".index = {i}",
            f".flags = {' | '.join(_class_flags(c)) or '0'}",
        ]
        if c.collection:
            parts.append(f".collection = {string(c.collection)}")
        if c.fields:
            parts += [f".field_count = {len(c.fields)}", f".fields = model_fields_{c.name.lower()}"]
        if c.database:
            parts.append(f".row_size = sizeof(struct {c.name.lower()}_row)")
            if "uuid" in c.fields:
                parts.append(f".uuid = FIELD_{c.name}_uuid")
            if "name_label" in c.fields:
                parts.append(f".name_label = FIELD_{c.name}_name_label")
        out.append(f"    {{{', '.join(parts)}}},")
    out.append("};")
    return out


def source(d):
    index = type_index(d)
    constants = Constants(d)
    fields = []
    for c in d.classes.values():
        if c.fields:
            fields += _fields(d, c, index, constants)
    out = [BANNER, "#include <model/rows.h>\n", f"extern const struct type model_types[{len(d.types)}];\n"]
    return "\n".join(out + constants.lines + _enums(d) + _types(d, index) + fields + _classes(d)) + "\n"
