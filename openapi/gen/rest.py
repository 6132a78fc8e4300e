#!/usr/bin/env python3
"""Writes openapi.json (OpenAPI 3.1) and contract.txt from the description, or checks that both are up to date.

Usage: rest.py [--check] DESCRIPTION

contract.txt lists what clients rely on, a line each. Lines may be added; one that vanishes or changes would break
clients, so it is refused until `version` in rest.toml has a new first number."""

import json
import sys
from pathlib import Path

from description import Description, DescriptionError

PREFIX = "/api/v1"
PLAN_TYPE = "application/vnd.corral.plan+json"
LEFT_OUT = {"NO_SESSION", "HIDDEN", "POOL_INTERNAL"}


def is_public(field):
    return not field.internal and not field.secret and "removed" not in field.lifecycle


def is_offered(message):
    """Mirrors message_of in apiserver/src/rest/target.c, for what is built."""
    if message.flags & LEFT_OUT or "removed" in message.lifecycle:
        return False
    return bool({"HANDLER", "GENERIC"} & message.flags) or message.kind not in ("CREATE", "DESTROY", "CUSTOM")


def schema(t):
    """A type of the API as JSON Schema."""
    simple = {
        "TYPE_STRING": {"type": "string"},
        "TYPE_INT": {"type": "integer", "format": "int64"},
        "TYPE_FLOAT": {"type": ["number", "null"], "format": "double"},
        "TYPE_BOOL": {"type": "boolean"},
        "TYPE_DATETIME": {"type": "string", "format": "date-time"},
        "TYPE_VOID": {"type": "null"},
    }
    if t.kind in simple:
        return dict(simple[t.kind])
    if t.kind == "TYPE_ENUM":
        return {"$ref": f"#/components/schemas/enum_{t.enum}"}
    if t.kind == "TYPE_REF":
        return {"type": ["string", "null"], "description": f"The uuid of a {t.cls}, or null."}
    if t.kind == "TYPE_RECORD":
        return {"$ref": f"#/components/schemas/{t.cls}"}
    if t.kind == "TYPE_SET":
        return {"type": "array", "items": schema(t.item)}
    if t.kind == "TYPE_MAP":
        made = {"type": "object", "additionalProperties": schema(t.item)}
        if t.key.kind == "TYPE_ENUM":
            made["propertyNames"] = schema(t.key)
        return made
    return {"anyOf": [schema(t.item), {"type": "null"}]}


def described(t, doc):
    made = schema(t)
    if "$ref" in made:
        return {"allOf": [made], "description": doc}
    return {**made, "description": doc}


def body(ref_or_schema, required=True):
    return {"required": required, "content": {"application/json": {"schema": ref_or_schema}}}


def answer(doc, ref_or_schema=None, headers=()):
    made = {"description": doc}
    if ref_or_schema:
        made["content"] = {"application/json": {"schema": ref_or_schema}}
    if headers:
        made["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return made


def ref(kind, name):
    return {"$ref": f"#/components/{kind}/{name}"}


class Writer:
    def __init__(self, description):
        self.d = description
        self.paths = {}
        self.schemas = {}
        self.tags = []

    # ---- plans ----

    def planned(self, responses):
        """The answers of a change, with that of ?plan=true."""
        made = {code: dict(r) for code, r in responses.items()}
        plain = made.setdefault("200", {"description": "The plan, with plan=true."})
        if "$ref" not in plain:
            plain["content"] = {**plain.get("content", {}), PLAN_TYPE: {"schema": ref("schemas", "Plan")}}
        return made

    def add_plans(self):
        text = {"type": "string"}
        obj = {"type": ["object", "null"], "properties": {"class": text, "uuid": text, "name": text}}
        step = {"type": "object", "required": ["do", "object"],
                "properties": {"do": {**text, "description": "A sentence."}, "object": {**obj, "description": "What it is about."},
                               "from": {"description": "The value now, of a field that is set."}, "to": {"description": "The value then."}}}  # fmt: skip
        reason = {"type": "object", "required": ["code", "params", "message", "change"],
                  "properties": {"code": text, "params": {"type": "array", "items": text}, "message": text,
                                 "change": {**text, "description": "What would change it."}, "object": obj}}  # fmt: skip
        number = {"type": "integer", "format": "int64"}
        space = {"type": "object", "properties": {"sr": text, "bytes": number, "free": number}}
        needs = {"type": "object", "properties": {"memory": {"type": ["object", "null"], "properties": {"least": number, "most": number}},
                                                  "space": {"type": "array", "items": space}}}  # fmt: skip
        verdict = {"type": "object", "properties": {"host": obj, "fits": {"type": "boolean"}, "code": {"type": ["string", "null"]},
                                                    "why": text, "free_memory": number}}  # fmt: skip
        where = {"type": ["object", "null"], "properties": {"host": obj, "why": text, "hosts": {"type": "array", "items": verdict}}}
        shown = {"action": {**text, "description": "The message."},
                 "possible": {"type": "boolean", "description": "No reason against it is known."},
                 "whole": {"type": "boolean", "description": "All that the server would check was checked, and the steps are known one by one; else the message's meaning is told."},
                 "steps": {"type": "array", "items": step}, "reasons": {"type": "array", "items": reason},
                 "where": {**where, "description": "Where a VM would run."}, "needs": needs,
                 "asks": {**obj, "description": "The host whose agent is asked next, and may refuse what the server cannot know; null: none was got to."},
                 "id": {"type": ["string", "null"]}, "apply": {"type": ["string", "null"], "description": "POST there does it; null: it is not possible, or the request itself has to be sent (of tokens and uploads)."},
                 "expires": {"type": ["string", "null"]}}  # fmt: skip
        self.schemas["Plan"] = {"type": "object", "description": "What a change would do.", "required": list(shown), "properties": shown}
        self.tags.insert(2, {"name": "plans", "description": "What changes would do."})
        result = {"type": ["object", "null"]}
        self.operation("post", f"{PREFIX}/plans/{{uuid}}/apply", "plans", "apply_plan", "Does what was planned, or refuses because something has changed.",
                       "that the change needs",
                       self.planned({"200": answer("It was done.", result), "201": answer("It was made.", result), "202": ref("responses", "Task"), "204": answer("It is gone.")}),
                       parameters=[ref("parameters", n) for n in ("uuid", "wait", "plan", "IdempotencyKey")])  # fmt: skip

    # ---- desired state ----

    def add_desired(self):
        text, number = {"type": "string"}, {"type": "integer", "format": "int64", "minimum": 0}
        texts, pairs, flag = {"type": "array", "items": text}, {"type": "object", "additionalProperties": text}, {"type": "boolean"}
        thing = lambda **p: {"type": "object", "properties": p, "additionalProperties": False}
        device = {**text, "description": "Its number, as text."}
        disk = {**thing(device=device, name=text, sr={**text, "description": "The SR's name."}, size=number), "required": ["device"]}
        nic = {**thing(device=device, network={**text, "description": "The network's name."}, mac=text), "required": ["device"]}
        cloud = {**thing(hostname=text, user=text, ssh_keys={**text, "description": "Public keys, one a line."}, user_data=text, network_config=text,
                         address={**text, "description": "ADDRESS/BITS[,GATEWAY[,DNS]]"}), "description": "What its cloud-init is told."}  # fmt: skip
        common = {"description": text, "tags": texts}
        named = lambda **p: {"type": "object", "additionalProperties": thing(**common, **p)}
        self.schemas["State"] = {**thing(
            networks=named(mtu=number, other_config=pairs),
            srs=named(type=text, content_type=text, shared=flag, device_config=pairs, other_config=pairs),
            vms=named(template=text, memory=number, vcpus=number, running=flag, kernel=text, ramdisk=text, kernel_args=text,
                      other_config=pairs, disks={"type": "array", "items": disk}, nics={"type": "array", "items": nic}, cloud_init=cloud)),
            "description": "Networks, SRs and VMs by name. What is not named is left alone."}  # fmt: skip
        reason = {"type": "object", "required": ["object", "why"], "properties": {"object": text, "why": text}}
        done = {"type": "object", "required": ["steps"],
                "properties": {"steps": {**texts, "description": "What was done, or would be."},
                               "task": {"type": ["string", "null"]}, "reasons": {"type": "array", "items": reason}}}  # fmt: skip
        tag = "state"
        self.tags.insert(3, {"name": tag, "description": "The pool as a document."})
        self.operation("post", f"{PREFIX}/apply", tag, "apply_state", "Brings the pool to what the document says.", "that each step needs",
                       {"200": answer("It is so; or, with plan=true, what would be done.", done), "202": ref("responses", "Task")},
                       parameters=[ref("parameters", "wait"), ref("parameters", "plan")], requestBody=body(ref("schemas", "State")))  # fmt: skip
        self.operation("post", f"{PREFIX}/undo", tag, "undo_apply", "Takes the last applied document back, where that loses no data.",
                       "that each step needs", {"200": answer("It is; or, with plan=true, what would be done.", done), "202": ref("responses", "Task")},
                       parameters=[ref("parameters", "wait"), ref("parameters", "plan")])  # fmt: skip
        self.operation("get", f"{PREFIX}/state", tag, "get_state", "The document of what there is.", "read-only",
                       {"200": answer("The document.", ref("schemas", "State"))})  # fmt: skip

    # ---- schemas ----

    def add_schemas(self):
        for name, values in self.d.enums.items():
            self.schemas[f"enum_{name}"] = {"type": "string", "enum": list(values)}
        for c in self.d.classes.values():
            fields = {f.name: f for f in c.fields.values() if is_public(f)}
            if not fields:
                continue
            properties = {n: described(f.type, f.doc) for n, f in fields.items()}
            self.schemas[c.name] = {"type": "object", "description": c.doc, "properties": properties}
        self.schemas["Problem"] = {
            "type": "object",
            "description": "What went wrong (RFC 9457).",
            "required": ["type", "title", "status", "detail", "instance"],
            "properties": {
                "type": {"type": "string", "description": "Where the error code is explained."},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string", "description": "A sentence: what was wrong and what would be right."},
                "instance": {"type": "string", "description": "The path that was asked."},
                "code": {"type": "string", "description": "The error code of the XenAPI, where one applies."},
                "params": {"type": "array", "items": {"type": "string"}, "description": "Its parameters; objects by uuid."},
            },
        }

    def page(self, c):
        return {
            "type": "object",
            "required": ["items", "total", "next"],
            "properties": {
                "items": {"type": "array", "items": ref("schemas", c.name)},
                "total": {"type": "integer", "description": "How many fit the filter, on all pages."},
                "next": {"type": ["string", "null"], "description": "The cursor of the next page; null on the last one."},
            },
        }

    def settable(self, c):
        """Fields that PATCH takes: those with a setter that is offered."""
        out = {}
        for f in c.fields.values():
            m = c.messages.get(f"set_{f.name}")
            if not f.internal and "removed" not in f.lifecycle and m and is_offered(m) and len(m.params) == 2:
                out[f.name] = described(m.params[1].type, f.doc)
        return out

    def constructor_body(self, c, m):
        if m.kind != "CREATE":
            return self.params_body(m, 0)
        fields = [f for f in c.fields.values() if not f.internal and f.mode != "DynamicRO"]
        return {
            "type": "object",
            "properties": {f.name: described(f.type, f.doc) for f in fields},
            "additionalProperties": False,
        }

    def params_body(self, m, start):
        params = m.params[start:]
        required = [p.name for p in params if not p.optional and p.type.kind not in ("TYPE_BOOL", "TYPE_MAP")]
        made = {
            "type": "object",
            "properties": {p.name: schema(p.type) for p in params},
            "additionalProperties": False,
        }
        if required:
            made["required"] = required
        return made

    # ---- operations ----

    def operation(self, method, path, tag, name, doc, role, responses, **more):
        entry = {"operationId": name, "tags": [tag], "summary": doc, "description": f"Needs the role {role} or a stronger one."}
        entry.update(more)
        problem = ref("responses", "Problem")
        entry["responses"] = {**responses, "4XX": problem, "5XX": problem}
        self.paths.setdefault(path, {})[method] = entry

    def add_class(self, c):
        if not c.collection or not any(is_offered(m) for m in c.messages.values()):
            return
        many = f"{PREFIX}/{c.collection}"
        one = f"{many}/{{uuid}}"
        self.tags.append({"name": c.collection, "description": c.doc})
        read = c.messages["get_all_records"]
        lists = [ref("parameters", n) for n in ("filter", "fields", "sort", "limit", "cursor")]
        self.operation("get", many, c.collection, f"list_{c.name}", f"A page of the list of class {c.name}.", read.role,
                       {"200": answer("The page.", self.page(c))}, parameters=lists)  # fmt: skip
        self.operation("get", one, c.collection, f"get_{c.name}", f"One {c.name}.", read.role,
                       {"200": answer("The object.", ref("schemas", c.name), ["ETag"]), "304": answer("It is in the version that If-None-Match names.")},
                       parameters=[ref("parameters", n) for n in ("uuid", "fields", "IfNoneMatch")])  # fmt: skip
        self.add_changes(c, many, one)
        for m in c.messages.values():
            self.add_action(c, m, many, one)

    def add_changes(self, c, many, one):
        create, destroy, fields = c.messages.get("create"), c.messages.get("destroy"), self.settable(c)
        changing = ["wait", "plan", "IdempotencyKey"]
        if create and is_offered(create):
            wanted = self.constructor_body(c, create)
            self.operation("post", many, c.collection, f"create_{c.name}", create.doc, create.role,
                           self.planned({"201": answer("It was made.", ref("schemas", c.name), ["Location", "ETag"]), "202": ref("responses", "Task")}),
                           parameters=[ref("parameters", n) for n in changing],
                           requestBody=body(wanted, bool(wanted.get("required"))))  # fmt: skip
        if fields:
            self.operation("patch", one, c.collection, f"patch_{c.name}", "Sets fields, all or none; null removes a key of a map.",
                           "that each field's setter needs",
                           self.planned({"200": answer("The object now.", ref("schemas", c.name), ["ETag"])}),
                           parameters=[ref("parameters", n) for n in ("uuid", "IfMatch", "plan")],
                           requestBody=body({"type": "object", "properties": fields, "additionalProperties": False}))  # fmt: skip
        if destroy and is_offered(destroy):
            self.operation("delete", one, c.collection, f"delete_{c.name}", destroy.doc, destroy.role,
                           self.planned({"204": answer("It is gone."), "202": ref("responses", "Task")}),
                           parameters=[ref("parameters", n) for n in ("uuid", "IfMatch", *changing)])  # fmt: skip

    def add_action(self, c, m, many, one):
        field = c.fields.get(m.name.removeprefix("set_"))
        sets = m.name.startswith("set_") and len(m.params) == 2 and field and is_public(field)
        if m.kind != "CUSTOM" or m.name in ("create", "destroy") or sets or not is_offered(m):
            return
        about_one = bool(m.params) and m.params[0].type.kind == "TYPE_REF" and m.params[0].type.cls == c.name
        path = f"{one if about_one else many}/actions/{m.name}"
        wanted = self.params_body(m, 1 if about_one else 0)
        parameters = ["uuid", "IfMatch"] if about_one else []
        result = {"type": "object", "required": ["result"], "properties": {"result": schema(m.result)}}
        responses = self.planned({"200": answer("It was done.", result)})
        parameters.append("plan")
        if "ASYNC" in m.flags:
            parameters += ["wait", "IdempotencyKey"]
            responses["202"] = ref("responses", "Task")
        self.operation("post", path, c.collection, f"{c.name}.{m.name}", m.doc, m.role, responses,
                       parameters=[ref("parameters", n) for n in parameters],
                       requestBody=body(wanted, bool(wanted.get("required"))))  # fmt: skip
        if m.errors:
            self.paths[path]["post"]["x-errors"] = m.errors

    def add_fixed(self):
        login = {
            "type": "object",
            "required": ["user", "password"],
            "properties": {"user": {"type": "string"}, "password": {"type": "string"},
                           "originator": {"type": "string", "description": "The name of the program that logs in."}},
        }  # fmt: skip
        token = {"type": "object", "required": ["token"], "properties": {"token": {"type": "string"}}}
        me = {"type": "object", "required": ["user", "role", "is_superuser"],
              "properties": {"user": {"type": "string"}, "role": {"type": "string"}, "is_superuser": {"type": "boolean"}}}  # fmt: skip
        tag = "sessions"
        self.tags.insert(0, {"name": tag, "description": "Logging in and out."})
        self.operation("post", f"{PREFIX}/sessions", tag, "log_in", "Logs in; the token goes into Authorization: Bearer.", "none",
                       {"201": answer("The token.", token, ["Location"])}, requestBody=body(login), security=[])  # fmt: skip
        self.operation("get", f"{PREFIX}/session", tag, "whoami", "Who this is.", "read-only", {"200": answer("You.", me)})
        self.operation("delete", f"{PREFIX}/session", tag, "log_out", "Ends the session.", "read-only", {"204": answer("It is over.")})
        self.add_tokens()
        self.add_plans()
        self.add_desired()
        self.add_bytes()
        self.tags.insert(4, {"name": "events", "description": "What changes."})
        stream = {"description": "Server-sent events: change, token (its id resumes the stream), lost, error.",
                  "content": {"text/event-stream": {"schema": {"type": "string"}}}}  # fmt: skip
        self.operation("get", f"{PREFIX}/events", "events", "events", "What changes, as it happens.", "read-only", {"200": stream},
                       parameters=[ref("parameters", n) for n in ("classes", "from", "LastEventID")])  # fmt: skip

    def add_tokens(self):
        text, moment = {"type": "string"}, {"type": "string", "format": "date-time"}
        shown = {"uuid": {"type": "string", "format": "uuid"}, "name": text, "role": text, "user": {**text, "description": "Its maker."},
                 "created": moment, "expires": moment, "last_used": {"type": ["string", "null"], "description": "To the minute; null: never."}}  # fmt: skip
        self.schemas["ApiToken"] = {"type": "object", "description": "What a program shows instead of a password.",
                                    "required": list(shown), "properties": shown}  # fmt: skip
        made = {"allOf": [ref("schemas", "ApiToken")], "type": "object", "required": ["token"],
                "properties": {"token": {**text, "description": "For Authorization: Bearer; told only now."}}}  # fmt: skip
        wish = {"type": "object", "required": ["name"], "additionalProperties": False,
                "properties": {"name": {**text, "minLength": 1, "maxLength": 64, "description": "What uses it."},
                               "role": {**text, "description": "At most so much; the maker's role unless said."},
                               "days": {"type": "integer", "minimum": 1, "maximum": 3650, "default": 90}}}  # fmt: skip
        tag = "tokens"
        self.tags.insert(1, {"name": tag, "description": "API tokens."})
        page = {"type": "object", "required": ["items"], "properties": {"items": {"type": "array", "items": ref("schemas", "ApiToken")}}}
        self.operation("get", f"{PREFIX}/tokens", tag, "list_tokens", "One's own tokens; a pool-admin's list has all.", "read-only",
                       {"200": answer("The tokens.", page)})  # fmt: skip
        self.operation("post", f"{PREFIX}/tokens", tag, "make_token", "Makes a token that acts as its maker.", "read-only",
                       self.planned({"201": answer("It was made.", made, ["Location"])}), requestBody=body(wish), parameters=[ref("parameters", "plan")])  # fmt: skip
        self.operation("delete", f"{PREFIX}/tokens/{{uuid}}", tag, "revoke_token", "Ends a token.", "read-only",
                       self.planned({"204": answer("It is gone.")}), parameters=[ref("parameters", n) for n in ("uuid", "plan")])  # fmt: skip

    def add_bytes(self):
        """The content of disks: downloads in parts, uploads by tus."""
        role = "vm-admin"
        text, moment, number = {"type": "string"}, {"type": "string", "format": "date-time"}, {"type": "integer", "minimum": 0}
        tag = self.d.classes["VDI"].collection
        content, uploads = f"{PREFIX}/{tag}/{{uuid}}/content", f"{PREFIX}/{tag}/{{uuid}}/uploads"
        one = f"{uploads}/{{upload}}"
        params = lambda *names: [ref("parameters", n) for n in names]
        header = lambda *names: {n: {"$ref": f"#/components/headers/{n}"} for n in names}
        raw = {"application/octet-stream": {}, "application/x-qemu-disk": {}, "application/vhd": {}}
        parts = {"200": {"description": "All of it.", "headers": header("ETag", "Accept-Ranges"), "content": raw},
                 "206": {"description": "The part that Range asked for.", "headers": header("ETag", "Content-Range"), "content": {"application/octet-stream": {}}}}  # fmt: skip
        self.operation("get", content, tag, "download_VDI", "The content of a disk; in raw form any part of it.", role, parts,
                       parameters=params("uuid", "format", "Range", "IfRange"))  # fmt: skip
        heads = {k: {n: v for n, v in r.items() if n != "content"} for k, r in parts.items()}
        self.operation("head", content, tag, "look_at_VDI_content", "Size and version of the content.", role, heads,
                       parameters=params("uuid", "format", "Range", "IfRange"))  # fmt: skip
        shown = {"uuid": {**text, "format": "uuid"}, "location": {**text, "description": "Its path."}, "offset": {**number, "description": "So many bytes count."},
                 "length": number, "finished": {"type": "boolean", "description": "The disk holds it."}, "expires": moment,
                 "metadata": {**text, "description": "Upload-Metadata, as it was given."}}  # fmt: skip
        self.schemas["Upload"] = {"type": "object", "description": "A disk that is sent in parts.", "required": list(shown), "properties": shown}
        page = {"type": "object", "required": ["items"], "properties": {"items": {"type": "array", "items": ref("schemas", "Upload")}}}
        told = {"description": "So far it is.", "headers": header("Upload-Offset", "Upload-Length", "Upload-Expires", "Upload-Metadata")}
        self.operation("get", uploads, tag, "list_uploads", "The upload that a disk has: at most one.", role, {"200": answer("It, or none.", page)},
                       parameters=params("uuid"))  # fmt: skip
        self.operation("post", uploads, tag, "make_upload", "Begins an upload by tus 1.0; nothing else may use the disk until it ends.", role,
                       self.planned({"201": {"description": "Location is where the bytes go.", "headers": header("Location", "Upload-Offset", "Upload-Expires")}}),
                       parameters=params("uuid", "upload_format", "plan", "TusResumable", "UploadLength", "UploadMetadata", "ReprDigest"))  # fmt: skip
        self.operation("get", one, tag, "get_upload", "How far an upload is.", role,
                       {"200": {**told, "content": {"application/json": {"schema": ref("schemas", "Upload")}}}}, parameters=params("uuid", "upload"))  # fmt: skip
        self.operation("head", one, tag, "look_at_upload", "How far an upload is, in Upload-Offset.", role, {"200": told},
                       parameters=params("uuid", "upload", "TusResumable"))  # fmt: skip
        self.operation("patch", one, tag, "write_upload", "Bytes of an upload, from Upload-Offset on; with the last one the disk is made.", role, self.planned({"204": told}),
                       parameters=params("uuid", "upload", "plan", "TusResumable", "UploadOffset", "UploadChecksum", "ContentDigest"),
                       requestBody={"required": True, "content": {"application/offset+octet-stream": {}}})  # fmt: skip
        self.operation("delete", one, tag, "end_upload", "Ends an upload; the disk stays as it was.", role, self.planned({"204": answer("It is gone.")}),
                       parameters=params("uuid", "upload", "plan", "TusResumable"))  # fmt: skip

    # ---- the whole ----

    def parameters(self):
        q = lambda name, doc, sch: {"name": name, "in": "query", "description": doc, "schema": sch}
        h = lambda name, doc: {"name": name, "in": "header", "description": doc, "schema": {"type": "string"}}
        text = {"type": "string"}
        return {
            "uuid": {"name": "uuid", "in": "path", "required": True, "description": "The object.", "schema": {"type": "string", "format": "uuid"}},
            "filter": q("filter", 'Which ones, as in: power_state = Running and name_label ~ "web*".', text),
            "fields": q("fields", "Only these fields, with commas between.", text),
            "sort": q("sort", "By these fields, with commas between; - in front turns the order round.", text),
            "limit": q("limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": 100000, "default": 100}),
            "cursor": q("cursor", "Go on behind this place: next of the page before.", text),
            "wait": q("wait", "Seconds to wait for the end; then the task is the answer. Actions: 0 unless said.", {"type": "string", "pattern": "^[0-9]+s?$"}),
            "plan": q("plan", "true: nothing is done; the answer is what would be.", {"type": "boolean", "default": False}),
            "classes": q("classes", "Of these lists only, with commas between.", text),
            "from": q("from", "now, or start: first everything that there is.", {"type": "string", "enum": ["now", "start"]}),
            "IfMatch": h("If-Match", "Only if the object is still in the version with this ETag."),
            "IfNoneMatch": h("If-None-Match", "304 if it is still in the version with this ETag."),
            "IdempotencyKey": h("Idempotency-Key", "A repeat with the same key does nothing new and gets the same answer."),
            "upload": {"name": "upload", "in": "path", "required": True, "description": "The upload.", "schema": {"type": "string", "format": "uuid"}},
            "format": q("format", "The form of the bytes.", {"type": "string", "enum": ["raw", "vhd", "qcow2"], "default": "raw"}),
            "upload_format": q("format", "The form of the bytes.", {"type": "string", "enum": ["raw", "vhd", "qcow2", "vmdk"], "default": "raw"}),
            "Range": h("Range", "bytes=FIRST-LAST, bytes=FIRST- or bytes=-COUNT, of the raw form."),
            "IfRange": h("If-Range", "The ETag of the content that the range is of: of another one all comes."),
            "TusResumable": h("Tus-Resumable", "The version of tus: 1.0.0."),
            "UploadLength": h("Upload-Length", "How many bytes it will have."),
            "UploadOffset": h("Upload-Offset", "Where these bytes stand: what counts so far."),
            "UploadMetadata": h("Upload-Metadata", "Keys with values in base64, with commas between; only kept."),
            "UploadChecksum": h("Upload-Checksum", "sha1 or sha256 and the digest of these bytes in base64: none counts that has another."),
            "ContentDigest": h("Content-Digest", "The same as in RFC 9530: sha-256=:<base64>:"),
            "ReprDigest": h("Repr-Digest", "sha-256=:<base64>: of all bytes (RFC 9530): an upload that has another ends."),
            "LastEventID": h("Last-Event-ID", "Go on behind this id."),
        }  # fmt: skip

    def document(self):
        self.add_schemas()
        self.add_fixed()
        for c in self.d.classes.values():
            self.add_class(c)
        problem = {"description": "It was not done.", "content": {"application/problem+json": {"schema": ref("schemas", "Problem")}}}
        header = lambda doc: {"description": doc, "schema": {"type": "string"}}
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Corral",
                "version": self.d.rest["version"],
                "description": "Pools of hosts and their virtual machines. docs/rest.md tells how it is used.",
                "license": {"name": self.d.rest["license"], "identifier": self.d.rest["license"]},
            },
            "servers": [{"url": "/", "description": "The server that this was read from."}],
            "security": [{"token": []}, {"password": []}],
            "tags": self.tags,
            "paths": self.paths,
            "components": {
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}, "password": {"type": "http", "scheme": "basic"}},
                "parameters": self.parameters(),
                "headers": {"ETag": header("The version of the object."), "Location": header("Where it is."),
                            "Accept-Ranges": header("bytes, or none."), "Content-Range": header("Which part it is."), "Upload-Offset": header("So many bytes count."),
                            "Upload-Length": header("So many there will be."), "Upload-Expires": header("Kept until then."),
                            "Upload-Metadata": header("As it was given.")},
                "responses": {"Problem": problem, "Task": answer("It goes on: the task tells how far.", ref("schemas", "task"), ["Location"])},
                "schemas": self.schemas,
                "x-errors": {
                    code: {"status": self.d.status(code), "params": e["params"], "description": e["doc"]}
                    for code, e in self.d.errors.items()
                },
            },
        }  # fmt: skip


def shape(s):
    """A schema as one word, for the contract."""
    if "$ref" in s:
        return s["$ref"].rsplit("/", 1)[1]
    if "allOf" in s:
        return shape(s["allOf"][0])
    if "anyOf" in s:
        return "|".join(shape(x) for x in s["anyOf"])
    kind = s["type"] if isinstance(s["type"], str) else "|".join(s["type"])
    if kind == "array":
        return f"[{shape(s['items'])}]"
    if kind == "object" and isinstance(s.get("additionalProperties"), dict):
        return f"{{{shape(s['additionalProperties'])}}}"
    return kind


def contract(document):
    """What a client relies on: operations, what they may be given and must be given, what they show."""
    lines = set()
    for path, methods in document["paths"].items():
        for method, op in methods.items():
            name = f"{method.upper()} {path}"
            lines.add(name)
            given = op.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            optional = set(given.get("properties", {})) - set(given.get("required", []))
            lines |= {f"{name} takes {p}: {shape(s)}" for p, s in given.get("properties", {}).items()}
            lines |= {f"{name} can do without {p}" for p in optional}
            result = op["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
            if "result" in result.get("properties", {}):
                lines.add(f"{name} gives {shape(result['properties']['result'])}")
    for name, s in document["components"]["schemas"].items():
        lines |= {f"{name} shows {p}: {shape(v)}" for p, v in s.get("properties", {}).items()}
        lines |= {f"{name} knows {v}" for v in s.get("enum", [])}
    return sorted(lines)


def texts(root):
    document = Writer(Description(root)).document()
    version = document["info"]["version"]
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n", f"version {version}\n" + "\n".join(contract(document)) + "\n"


def broken(old, new):
    """Lines of the old contract that the new one does not keep, when the first number of the version is the same."""
    old_lines, new_lines = old.splitlines(), set(new.splitlines())
    major = lambda text: text.split("\n", 1)[0].removeprefix("version ").split(".")[0]
    return [] if major(old) != major(new) else [x for x in old_lines[1:] if x not in new_lines]


def main(argv):
    options = [a for a in argv[1:] if a.startswith("--")]
    if len(argv) - len(options) != 2 or set(options) - {"--check"}:
        print(__doc__, file=sys.stderr)
        return 2
    root = Path([a for a in argv[1:] if not a.startswith("--")][0])
    try:
        made = dict(zip((root / "openapi.json", root / "contract.txt"), texts(root)))
    except DescriptionError as e:
        print(f"rest.py: {e}", file=sys.stderr)
        return 1
    kept = root / "contract.txt"
    lost = broken(kept.read_text(), made[kept]) if kept.exists() else []
    if lost:
        print("rest.py: clients rely on this, and it is gone:\n  " + "\n  ".join(lost[:40]), file=sys.stderr)
        print("Bring it back; or step the first number of `version` in rest.toml.", file=sys.stderr)
        return 1
    stale = [p for p, text in made.items() if not p.exists() or p.read_text() != text]
    if "--check" in options:
        for p in stale:
            print(f"rest.py: {p.name} is not what the description says; run openapi/gen/rest.py openapi", file=sys.stderr)
        return 1 if stale else 0
    for p in stale:
        p.write_text(made[p])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
