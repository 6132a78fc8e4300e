"""The description, read and checked: classes, fields, messages, enums, errors.

Everything that a generator output relies on is verified here, once; a mistake ends with
DescriptionError, which names the file and what would be right."""

import json
import re
import tomllib
from dataclasses import dataclass, field as dc_field
from pathlib import Path

MODES = {"RW": "FIELD_RW", "StaticRO": "FIELD_STATIC_RO", "DynamicRO": "FIELD_DYNAMIC_RO"}
SCALARS = {
    "void": ("TYPE_VOID", "REP_VOID"),
    "string": ("TYPE_STRING", "REP_STRING"),
    "secretstring": ("TYPE_STRING", "REP_STRING"),
    "int": ("TYPE_INT", "REP_INT"),
    "float": ("TYPE_FLOAT", "REP_FLOAT"),
    "bool": ("TYPE_BOOL", "REP_BOOL"),
    "datetime": ("TYPE_DATETIME", "REP_INT"),
}
NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")
LIFECYCLE_KEYS = {"prototyped", "published", "deprecated", "removed"}


class DescriptionError(Exception):
    """The description is wrong; the text says where and what would be right."""


@dataclass
class Type:
    """A type of the API: its text is its identity."""

    text: str
    kind: str
    rep: str
    enum: str | None = None
    cls: str | None = None
    key: "Type | None" = None
    item: "Type | None" = None


@dataclass
class Field:
    name: str
    type: Type
    mode: str
    doc: str
    default: object = None
    has_default: bool = False
    runtime: bool = False
    internal: bool = False
    inverse: str | None = None
    derived: bool = False
    role: str | None = None
    key_roles: dict = dc_field(default_factory=dict)
    lifecycle: dict = dc_field(default_factory=dict)
    secret: bool = False
    db_name: str = ""


@dataclass
class Param:
    name: str
    type: Type
    optional: bool = False
    default: object = None


@dataclass
class Message:
    name: str
    kind: str
    doc: str
    role: str
    params: list
    result: Type
    errors: list = dc_field(default_factory=list)
    flags: set = dc_field(default_factory=set)
    key_roles: dict = dc_field(default_factory=dict)
    field: Field | None = None
    lifecycle: dict = dc_field(default_factory=dict)
    operation: tuple | None = None  # (parameter index, enum name, value)


@dataclass
class Class:
    name: str
    doc: str
    database: bool
    persist: bool
    lazy: bool
    events: bool
    get_all: bool
    lifecycle: dict
    constructor_role: str | None
    constructor: str | None
    read_role: str
    accessors: bool
    fields: dict
    messages: dict = dc_field(default_factory=dict)

    @property
    def collection(self):
        """Its name in REST paths: VM_appliance is vm-appliances. None: it has no list there."""
        if not self.database or not self.get_all or "uuid" not in self.fields or "removed" in self.lifecycle:
            return None
        word = self.name.lower().replace("_", "-")
        if word.endswith("y"):
            return word[:-1] + "ies"
        if word.endswith("ch"):
            return word + "es"
        return word if word.endswith("s") else word + "s"


def load_toml(path):
    try:
        with open(path, "rb") as f:
            return tomllib.load(f)
    except tomllib.TOMLDecodeError as e:
        raise DescriptionError(f"{path.name}: {e}") from e


class Description:
    """The whole description. `classes` is in the order of model.toml."""

    def __init__(self, root):
        root = Path(root)
        head = load_toml(root / "model.toml")
        self.schema_version = head["schema_version"]
        self.api_version = head["api_version"]
        self.roles = list(reversed(head["roles"])) + ["internal"]  # weakest first
        self.enums = load_toml(root / "enums.toml")
        self.errors = dict(sorted(load_toml(root / "errors.toml").items()))  # error_find searches in this order
        self.alerts = load_toml(root / "alerts.toml")
        self.http_actions = load_toml(root / "http.toml")
        self.rest = load_toml(root / "rest.toml")
        self.types = {}
        self._check_enums()
        self._check_errors()
        self._check_http()
        self._check_rest()
        names = head["classes"]
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise DescriptionError(f"model.toml: classes listed twice: {', '.join(twice)}")
        files = {p.stem for p in (root / "classes").glob("*.toml")}
        if files != set(names):
            odd = sorted(files ^ set(names))
            raise DescriptionError(f"model.toml: its list and the files of classes/ differ in {', '.join(odd)}")
        self.class_names = names
        raw = {n: load_toml(root / "classes" / f"{n}.toml") for n in names}
        self.classes = {n: self._class(n, raw[n]) for n in names}
        self._relations()
        for n in names:
            self._messages(self.classes[n], raw[n].get("messages", {}))
            self._rehearsed(self.classes[n], raw[n].get("rehearsed", []))
        self.tiers = self._tiers(load_toml(root / "tiers.toml"))
        for name in head.get("client_cert", []):
            c, _, m = name.partition(".")
            if c not in self.classes or m not in self.classes[c].messages:
                raise DescriptionError(f"model.toml: client_cert: there is no message {name}")
            self.classes[c].messages[m].flags.add("CLIENT_CERT")

    def _tiers(self, raw):
        """(class, message) -> 1, 2 or 3."""
        tiers = {(c.name, m): 3 for c in self.classes.values() for m in c.messages}
        for key, classes in raw.items():
            if key not in ("tier1", "tier2"):
                raise DescriptionError(f"tiers.toml: unknown table {key}; tier1 and tier2 list messages, all others are tier 3")
            for cls, names in classes.items():
                for name in names:
                    if tiers.get((cls, name)) != 3:
                        what = "is listed twice" if (cls, name) in tiers else "does not exist"
                        raise DescriptionError(f"tiers.toml: {cls}.{name} {what}")
                    tiers[cls, name] = int(key[-1])
        return tiers

    # ---- enums, errors, types ----

    def _check_enums(self):
        for name, values in self.enums.items():
            if len({v.lower() for v in values}) != len(values):
                raise DescriptionError(f"enums.toml: {name} has a value twice (case does not tell values apart)")
            if len(values) > 64:
                raise DescriptionError(f"enums.toml: {name} has {len(values)} values; a set of them holds 64")

    def _check_errors(self):
        for code, e in self.errors.items():
            if not re.fullmatch(r"[A-Z][A-Z0-9_]*", code):
                raise DescriptionError(f"errors.toml: {code} is not an error code (capitals, digits and _)")
            self._doc(e, f"errors.toml: {code}")
            if set(e) - {"params", "doc"}:
                raise DescriptionError(f"errors.toml: {code} has unknown keys {sorted(set(e) - {'params', 'doc'})}")
            if len(e["params"]) > 8:
                raise DescriptionError(f"errors.toml: {code} has more than 8 parameters")

    def _check_http(self):
        for name, a in self.http_actions.items():
            where = f"http.toml: {name}"
            if not re.fullmatch(r"\w+(/\w+)?", name):
                raise DescriptionError(f"{where}: not a name of an action")
            self._doc(a, where)
            if set(a) - {"method", "uri", "role", "open", "doc"} or "method" not in a or "uri" not in a:
                raise DescriptionError(f"{where}: an action has method, uri, doc and either role or open")
            if a.get("open", False) == ("role" in a):
                raise DescriptionError(f"{where}: say its role, or open = true when anybody may")
            if "role" in a:
                self._role(a["role"], where)

    def _check_rest(self):
        for code, status in self.rest["status"].items():
            if code not in self.errors:
                raise DescriptionError(f"rest.toml: undeclared error {code}; errors.toml lists those that exist")
            if not isinstance(status, int) or not 400 <= status <= 599:
                raise DescriptionError(f"rest.toml: status of {code} is {status!r}; it is a number from 400 to 599")

    def status(self, code):
        """The HTTP status of an error code in REST."""
        return self.rest["status"].get(code, 409)

    def type(self, text, where):
        text = text.strip()
        if text in self.types:
            return self.types[text]
        t = self._parse_type(text, where)
        self.types[text] = t
        return t

    def _parse_type(self, text, where):
        if text in SCALARS:
            kind, rep = SCALARS[text]
            return Type(text, kind, rep)
        m = re.fullmatch(r"enum (\w+)", text)
        if m:
            if m[1] not in self.enums:
                raise DescriptionError(f"{where}: unknown enum {m[1]}; enums.toml lists those that exist")
            return Type(text, "TYPE_ENUM", "REP_ENUM", enum=m[1])
        if text.endswith(" set"):
            item = self.type(text[:-4], where)
            rep = {"REP_STRING": "REP_STR_SET", "REP_REF": "REP_REF_SET", "REP_ENUM": "REP_ENUM_SET"}.get(item.rep)
            if item.kind == "TYPE_INT":
                rep = "REP_STR_SET"
            return Type(text, "TYPE_SET", rep or "REP_JSON", item=item)
        if text.endswith(" option"):
            return Type(text, "TYPE_OPTION", "REP_JSON", item=self.type(text[:-7], where))
        m = re.fullmatch(r"\((.+?) -> (.+)\) map", text)
        if m:
            key, item = self.type(m[1], where), self.type(m[2], where)
            simple = {"REP_STRING", "REP_INT", "REP_FLOAT", "REP_BOOL", "REP_ENUM", "REP_REF"}
            rep = "REP_STR_MAP" if item.rep in simple else "REP_JSON"
            return Type(text, "TYPE_MAP", rep, key=key, item=item)
        m = re.fullmatch(r"(\w+) (ref|record)", text)
        if m:
            if m[1] not in self.class_names:
                raise DescriptionError(f"{where}: unknown class {m[1]} in type '{text}'")
            if m[2] == "ref":
                return Type(text, "TYPE_REF", "REP_REF", cls=m[1])
            return Type(text, "TYPE_RECORD", "REP_JSON", cls=m[1])
        raise DescriptionError(
            f"{where}: unknown type '{text}'; types are string, int, float, bool, datetime, 'enum E', 'C ref', "
            "'C record', 'T set', 'T option', '(K -> V) map'"
        )

    def check_default(self, t, value, where):
        bad = DescriptionError(f"{where}: default {value!r} does not fit type {t.text}")
        if t.kind == "TYPE_BOOL" and not isinstance(value, bool):
            raise bad
        if t.kind == "TYPE_INT" and (isinstance(value, bool) or not isinstance(value, int)):
            raise bad
        if t.kind == "TYPE_FLOAT" and not isinstance(value, (int, float)):
            raise bad
        if t.kind in ("TYPE_STRING", "TYPE_DATETIME", "TYPE_REF", "TYPE_ENUM") and not isinstance(value, str):
            raise bad
        if t.kind == "TYPE_ENUM" and value.lower() not in [v.lower() for v in self.enums[t.enum]]:
            raise bad
        if t.kind == "TYPE_REF" and value != "OpaqueRef:NULL":
            raise bad
        if t.kind == "TYPE_SET":
            if not isinstance(value, list):
                raise bad
            for v in value:
                self.check_default(t.item, v, where)
        if t.kind == "TYPE_MAP" and not isinstance(value, dict):
            raise bad

    def _doc(self, raw, where):
        """The sentence that people read about a class, field, message or error."""
        doc = raw.get("doc")
        if not isinstance(doc, str) or not doc.strip() or "\n" in doc:
            raise DescriptionError(f"{where}: no doc; say on one line what it means to an operator")
        return doc

    def _role(self, role, where):
        if role is None:
            raise DescriptionError(f"{where}: no role; say one of {', '.join(self.roles)}")
        if role not in self.roles:
            raise DescriptionError(f"{where}: unknown role {role}; roles are {', '.join(self.roles)}")
        return role

    def _lifecycle(self, d, where):
        if set(d) - LIFECYCLE_KEYS:
            raise DescriptionError(f"{where}: unknown lifecycle states {sorted(set(d) - LIFECYCLE_KEYS)}")
        return d

    # ---- classes and fields ----

    def _class(self, name, raw):
        where = f"classes/{name}.toml"
        known = {
            "name", "doc", "lifecycle", "database", "persist", "lazy", "events", "get_all", "constructor_role",
            "constructor", "read_role", "fields", "messages", "accessors", "rehearsed",
        }  # fmt: skip
        if set(raw) - known:
            raise DescriptionError(f"{where}: unknown keys {sorted(set(raw) - known)}")
        if raw.get("name") != name:
            raise DescriptionError(f"{where}: its name says {raw.get('name')!r}")
        c = Class(
            name=name,
            doc=self._doc(raw, where),
            database=raw["database"],
            persist=raw.get("persist", False),
            lazy=raw.get("lazy", False),
            events=raw.get("events", False),
            get_all=raw.get("get_all", False),
            lifecycle=self._lifecycle(raw["lifecycle"], where),
            constructor_role=raw.get("constructor_role"),
            constructor=raw.get("constructor"),
            read_role=self._role(raw.get("read_role", "read-only"), where),
            accessors=raw.get("accessors", True),
            fields={},
        )
        if c.constructor not in (None, "generic", "handler"):
            raise DescriptionError(f"{where}: constructor is {c.constructor!r}; it is 'generic', 'handler' or absent")
        if c.constructor_role:
            self._role(c.constructor_role, where)
        elif c.constructor:
            raise DescriptionError(f"{where}: constructor without constructor_role")
        for n, f in raw.get("fields", {}).items():
            c.fields[n] = self._field(c, n, f)
        return c

    def _field(self, c, name, raw):
        where = f"classes/{c.name}.toml, field {name}"
        known = {
            "type", "mode", "default", "runtime", "internal", "inverse", "role", "key_roles", "lifecycle", "doc",
            "effect", "secret", "db",
        }  # fmt: skip
        if set(raw) - known:
            raise DescriptionError(f"{where}: unknown keys {sorted(set(raw) - known)}")
        if not NAME.match(name):
            raise DescriptionError(f"{where}: not a name")
        if raw.get("mode") not in MODES:
            raise DescriptionError(f"{where}: mode is {raw.get('mode')!r}; modes are {', '.join(MODES)}")
        t = self.type(raw["type"], where)
        if c.database and t.rep == "REP_JSON" and t.kind != "TYPE_MAP":
            raise DescriptionError(f"{where}: type '{t.text}' cannot be kept in a row")
        f = Field(
            name=name,
            type=t,
            mode=raw["mode"],
            doc=self._doc(raw, where),
            default=raw.get("default"),
            has_default="default" in raw,
            runtime=raw.get("runtime", False) or not c.persist,
            internal=raw.get("internal", False),
            inverse=raw.get("inverse"),
            key_roles=raw.get("key_roles", {}),
            lifecycle=self._lifecycle(raw.get("lifecycle", c.lifecycle), where),
            secret=raw.get("secret", False),
            db_name=raw.get("db", name),
        )
        if f.has_default:
            self.check_default(t, f.default, where)
        if f.mode == "RW" and not f.internal:
            f.role = self._role(raw.get("role"), where)
        elif "role" in raw:
            raise DescriptionError(f"{where}: a role, but no generated setter (mode {f.mode})")
        for r in f.key_roles.values():
            self._role(r, where)
        return f

    def _relations(self):
        for c in self.classes.values():
            for f in c.fields.values():
                if not f.inverse:
                    continue
                where = f"classes/{c.name}.toml, field {f.name}"
                target = f.type.cls or (f.type.item and f.type.item.cls)
                if not target or f.inverse not in self.classes[target].fields:
                    raise DescriptionError(f"{where}: inverse {f.inverse} is not a field of {target}")
                other = self.classes[target].fields[f.inverse]
                back = other.type.cls or (other.type.item and other.type.item.cls)
                if other.inverse != f.name or back != c.name:
                    raise DescriptionError(f"{where}: {target}.{f.inverse} does not name it as its inverse")
                if f.type.kind == "TYPE_SET" and other.type.kind == "TYPE_REF":
                    f.derived = True

    # ---- messages ----

    def _messages(self, c, raw):
        for m in self._generated(c):
            self._add(c, m)
        for name, d in raw.items():
            custom = self._custom(c, name, d)
            if d.get("replaces"):
                self._replace(c, custom)
            else:
                self._add(c, custom)

    def _rehearsed(self, c, names):
        """Messages whose handlers reach nothing but rows and agents: a plan runs them, and nothing comes of it."""
        for name in names:
            where = f"classes/{c.name}.toml, rehearsed {name}"
            m = c.messages.get(name)
            if not m or "HANDLER" not in m.flags:
                raise DescriptionError(f"{where}: no such message with a handler")
            if "REHEARSED" in m.flags:
                raise DescriptionError(f"{where}: twice")
            m.flags.add("REHEARSED")

    def _add(self, c, m):
        if m.name in c.messages:
            raise DescriptionError(f"classes/{c.name}.toml: message {m.name} exists already (generated for a field?)")
        c.messages[m.name] = m

    def _replace(self, c, m):
        """A listed message takes the place of the one that follows from a field: setting it means more."""
        old = c.messages.get(m.name)
        where = f"classes/{c.name}.toml, message {m.name}"
        if not old or old.kind not in ("SETTER", "ADD", "REMOVE"):
            raise DescriptionError(f"{where}: replaces nothing: no change to a field has this name")
        if [(p.name, p.type.text) for p in old.params] != [(p.name, p.type.text) for p in m.params]:
            raise DescriptionError(f"{where}: its parameters are not those of the message that it replaces")
        if old.role != m.role:
            raise DescriptionError(f"{where}: its role is not that of the field")
        c.messages[m.name] = m

    def _generated(self, c):
        if not c.database or not c.accessors:
            return
        t = lambda text: self.type(text, f"classes/{c.name}.toml")
        self_param = Param("self", t(f"{c.name} ref"))
        read = dict(role=c.read_role, lifecycle=c.lifecycle)
        yield Message("get_record", "GET_RECORD", f"The whole record of one {c.name}.", params=[self_param],
                      result=t(f"{c.name} record"), **read)  # fmt: skip
        if "uuid" in c.fields:
            yield Message("get_by_uuid", "GET_BY_UUID", f"The {c.name} with this uuid.",
                          params=[Param("uuid", t("string"))], result=t(f"{c.name} ref"), **read)  # fmt: skip
        if "name_label" in c.fields and c.fields["name_label"].db_name == "name__label":
            yield Message("get_by_name_label", "GET_BY_NAME_LABEL", f"Every {c.name} with this name.",
                          params=[Param("label", t("string"))], result=t(f"{c.name} ref set"), **read)  # fmt: skip
        if c.constructor_role:
            flags = {"ASYNC"} | {"generic": {"GENERIC"}, "handler": {"HANDLER"}, None: set()}[c.constructor]
            yield Message("create", "CREATE", f"Makes a {c.name} from a record.", role=c.constructor_role,
                          params=[Param("args", t(f"{c.name} record"))], result=t(f"{c.name} ref"),
                          flags=flags, lifecycle=c.lifecycle)  # fmt: skip
            yield Message("destroy", "DESTROY", f"Destroys a {c.name}.", role=c.constructor_role,
                          params=[self_param], result=t("void"), flags=set(flags), lifecycle=c.lifecycle,
                          operation=self._destroy_operation(c))  # fmt: skip
        if c.get_all:
            yield Message("get_all", "GET_ALL", f"Every {c.name}.", params=[], result=t(f"{c.name} ref set"), **read)
            records = t(f"({c.name} ref -> {c.name} record) map")
            expr = Param("expr", t("string"))
            yield Message("get_all_where", "GET_ALL_WHERE", f"Every {c.name} that fits the expression.", params=[expr],
                          result=t(f"{c.name} ref set"), flags={"HIDDEN"}, **read)  # fmt: skip
            yield Message("get_all_records_where", "GET_ALL_RECORDS_WHERE",
                          f"The record of every {c.name} that fits the expression.", params=[expr], result=records,
                          flags={"HIDDEN"}, **read)  # fmt: skip
            yield Message("get_all_records", "GET_ALL_RECORDS", f"The record of every {c.name}.", params=[],
                          result=records, **read)  # fmt: skip
        for f in c.fields.values():
            if f.internal:
                continue
            common = dict(field=f, lifecycle=f.lifecycle)
            getter_role = "pool-operator" if c.read_role != "read-only" and f.name in ("uuid", "value") else "read-only"
            yield Message(f"get_{f.name}", "GETTER", f"{c.name}'s {f.name}.", role=getter_role, params=[self_param],
                          result=f.type, **common)  # fmt: skip
            if f.mode != "RW":
                continue
            value = Param("value", f.type)
            secret = {"SECRET_ARGS"} if f.secret else set()
            yield Message(f"set_{f.name}", "SETTER", f"Sets {c.name}'s {f.name}.", role=f.role,
                          params=[self_param, value], result=t("void"), key_roles=f.key_roles, flags=secret, **common)  # fmt: skip
            if f.type.kind == "TYPE_MAP":
                pair = [self_param, Param("key", f.type.key), Param("value", f.type.item)]
                yield Message(f"add_to_{f.name}", "ADD", f"Adds a key to {c.name}'s {f.name}.", role=f.role, params=pair,
                              result=t("void"), key_roles=f.key_roles, **common)  # fmt: skip
                yield Message(f"remove_from_{f.name}", "REMOVE", f"Removes a key from {c.name}'s {f.name}.", role=f.role,
                              params=pair[:2], result=t("void"), key_roles=f.key_roles, **common)  # fmt: skip
            elif f.type.kind == "TYPE_SET":
                member = [self_param, Param("value", f.type.item)]
                yield Message(f"add_{f.name}", "ADD", f"Adds a member to {c.name}'s {f.name}.", role=f.role,
                              params=member, result=t("void"), **common)  # fmt: skip
                yield Message(f"remove_{f.name}", "REMOVE", f"Removes a member from {c.name}'s {f.name}.", role=f.role,
                              params=member, result=t("void"), **common)  # fmt: skip

    def _destroy_operation(self, c):
        """A handler that destroys objects of a class with operations runs as operation destroy."""
        allowed = c.fields.get("allowed_operations")
        if c.constructor != "handler" or not allowed or "destroy" not in self.enums[allowed.type.item.enum]:
            return None
        return 0, allowed.type.item.enum, "destroy"

    def _custom(self, c, name, d):
        where = f"classes/{c.name}.toml, message {name}"
        known = {
            "doc", "role", "params", "result", "errors", "async", "session", "hidden", "pool_internal", "secret_args",
            "operations", "key_roles", "lifecycle", "handler", "inline", "operation", "generic", "replaces",
        }  # fmt: skip
        if set(d) - known:
            raise DescriptionError(f"{where}: unknown keys {sorted(set(d) - known)}")
        params = [self._param(p, where) for p in d.get("params", [])]
        names = [p.name for p in params]
        if len(set(names)) != len(names):
            raise DescriptionError(f"{where}: two parameters have one name")
        if any(a.optional and not b.optional for a, b in zip(params, params[1:])):
            raise DescriptionError(f"{where}: only trailing parameters may have a default")
        for code in d.get("errors", []):
            if code not in self.errors:
                raise DescriptionError(f"{where}: undeclared error {code}; errors.toml lists those that exist")
        flags = set()
        for key, flag in (("async", "ASYNC"), ("hidden", "HIDDEN"), ("pool_internal", "POOL_INTERNAL"),
                          ("secret_args", "SECRET_ARGS"), ("handler", "HANDLER"), ("inline", "INLINE")):  # fmt: skip
            if d.get(key):
                flags.add(flag)
        if not d.get("session", True):
            flags.add("NO_SESSION")
        m = Message(name, "CUSTOM", self._doc(d, where), self._role(d.get("role"), where), params,
                    self.type(d.get("result", "void"), where), d.get("errors", []), flags, d.get("key_roles", {}),
                    None, self._lifecycle(d.get("lifecycle", c.lifecycle), where))  # fmt: skip
        for r in m.key_roles.values():
            self._role(r, where)
        if d.get("generic"):
            self._make_generic(c, m, where)
        if "operation" in d:
            m.operation = self._operation(d["operation"], params, where)
        return m

    def _make_generic(self, c, m, where):
        """A listed message that only sets, adds or removes is served by the generic code all the same."""
        prefixes = {"set_": "SETTER", "add_to_": "ADD", "remove_from_": "REMOVE", "add_": "ADD", "remove_": "REMOVE"}
        for prefix, kind in prefixes.items():
            f = c.fields.get(m.name.removeprefix(prefix)) if m.name.startswith(prefix) else None
            if not f:
                continue
            if f.derived:
                raise DescriptionError(f"{where}: {f.name} follows from the other side of its relation")
            m.kind, m.field = kind, f
            f.key_roles.update(m.key_roles)
            m.key_roles = f.key_roles  # one table for all doors to the map
            return
        raise DescriptionError(f"{where}: generic, but its name is not that of a change to a field")

    def _operation(self, text, params, where):
        """'vm: start' marks operation start on the object that parameter vm names."""
        m = re.fullmatch(r"(\w+): (\w+)", text)
        names = [p.name for p in params]
        if not m or m[1] not in names:
            raise DescriptionError(f"{where}: operation is {text!r}; it reads 'parameter: operation'")
        index = names.index(m[1])
        cls = self.classes[params[index].type.cls]
        enum = cls.fields["allowed_operations"].type.item.enum
        if m[2] not in self.enums[enum]:
            raise DescriptionError(f"{where}: {m[2]} is not one of enum {enum}")
        return index, enum, m[2]

    def _param(self, text, where):
        m = re.fullmatch(r"(\w+): ([^=]+?)(?: = (.*))?", text)
        if not m:
            raise DescriptionError(f"{where}: parameter {text!r}; one reads 'name: type' or 'name: type = default'")
        t = self.type(m[2], where)
        if m[3] is None:
            return Param(m[1], t)
        try:
            default = json.loads(m[3])
        except json.JSONDecodeError as e:
            raise DescriptionError(f"{where}: default of {m[1]} is not JSON: {e}") from e
        self.check_default(t, default, where)
        return Param(m[1], t, True, default)
