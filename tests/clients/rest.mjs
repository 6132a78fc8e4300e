// Every operation of /api/v1/openapi.json, called through a client that npm's openapi-client-axios makes from it, with
// values of every kind: right, wrong in type, missing, too much, at the limits, of objects that are there and of ones
// that are not. What is wanted: the description is a good one, no answer is a 5xx, none is outside the description.
//
//   URL, TOKEN, SEED (a number), ROUNDS, ONLY (part of an operationId; default: all)
import assert from "node:assert/strict";
import { get } from "node:http";
import { Validator } from "@seriousme/openapi-schema-validator";
import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { OpenAPIClientAxios } from "openapi-client-axios";

const { URL: url, TOKEN: token, SEED: seed = "1", ROUNDS: rounds = "2", ONLY: only = "" } = process.env;
const NO_SUCH = "00000000-0000-4000-8000-000000000000";

const BYTES = "application/offset+octet-stream";

// These would end the session or the agent that the others need: they are only planned.
const PLANNED = new Set(["log_out", "host.shutdown_agent", "host.restart_agent", "host.shutdown", "host.reboot", "pool.eject",
  "host.declare_dead", "host.destroy", "delete_host", "host.power_on", "host.enable_external_auth", "pool.enable_external_auth",
  "pool.join", "pool.join_force", "pool.designate_new_master", "pool.emergency_transition_to_master",
  "pool.emergency_reset_master", "pool.recover_slaves", "host.emergency_ha_disable", "pool.enable_ha", "pool.disable_ha",
  "pool.set_https_only", "host.set_https_only", "pool.rotate_secret", "host.reset_server_certificate",
  "host.install_server_certificate", "host.refresh_server_certificate", "host.emergency_reset_server_certificate",
  "delete_task", "task.cancel"]);

let state = Number(seed) >>> 0;
/** A number from 0 to n-1; repeatable (mulberry32). */
function random(n) {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % n;
}
const pick = (list) => list[random(list.length)];

const api = new OpenAPIClientAxios({
  definition: `${url}/api/v1/openapi.json`,
  axiosConfigDefaults: { baseURL: url, headers: { Authorization: `Bearer ${token}` }, validateStatus: () => true, timeout: 60_000 },
});
const client = await api.init();
const document = api.document;

const validity = await new Validator().validate(structuredClone(document));
assert.ok(validity.valid, JSON.stringify(validity.errors));

const ajv = new Ajv({ strict: false, allErrors: false });
addFormats(ajv);
ajv.addFormat("int64", true);
ajv.addFormat("double", true);
ajv.addSchema({ $id: "doc", components: document.components });
const fits = new Map();
/** Why the value does not fit the schema of the document; null when it does. */
function misfit(schema, value) {
  const key = JSON.stringify(schema);
  if (!fits.has(key)) {
    fits.set(key, ajv.compile(JSON.parse(key.replaceAll('"#/components', '"doc#/components'))));
  }
  const check = fits.get(key);
  return check(value) ? null : ajv.errorsText(check.errors);
}

const resolve = (x) => (x?.$ref ? x.$ref.split("/").slice(1).reduce((at, part) => at[part], document) : x);

const TEXTS = ["", "x", "a\nb", "a,b=c", "-x", "é☃", "x".repeat(300), "OpaqueRef:NULL", "../../etc", "%s%n"];
const INTEGERS = [0, 1, -1, 4, 2 ** 31, -(2 ** 53) + 1, 2 ** 53 - 1, 1 << 20];
let uuids = [];

/** A value that the schema allows. */
function valueOf(schema) {
  const s = resolve(schema);
  if (s.allOf) return valueOf(s.allOf[0]);
  if (s.anyOf) return valueOf(pick(s.anyOf));
  if (s.enum) return pick(s.enum);
  const type = Array.isArray(s.type) ? s.type[0] : s.type;
  switch (type) {
    case "boolean": return random(2) === 0;
    case "integer": return pick(INTEGERS);
    case "number": return pick([0, 0.5, -1, 1e300]);
    case "null": return null;
    case "array": return Array.from({ length: random(3) }, () => valueOf(s.items));
    case "object": {
      if (typeof s.additionalProperties === "object") {
        return Object.fromEntries(Array.from({ length: random(3) }, (_, i) =>
          [s.propertyNames && random(8) ? valueOf(s.propertyNames) : `k${i}`, valueOf(s.additionalProperties)]));
      }
      return objectOf(s);
    }
    default:
      if (Array.isArray(s.type)) return pick([null, NO_SUCH, ...uuids.slice(0, 4)]); // a reference
      if (s.format === "date-time") return "2026-01-31T12:00:00Z";
      return pick([...TEXTS, ...uuids]);
  }
}

function objectOf(s) {
  const names = Object.keys(s.properties ?? {});
  const chosen = names.filter((name) => s.required?.includes(name) || random(3) === 0);
  return Object.fromEntries(chosen.map((name) => [name, valueOf(s.properties[name])]));
}

/** One wrong in some way. */
function spoilt(s) {
  const made = objectOf(s);
  const names = Object.keys(s.properties ?? {});
  switch (random(3)) {
    case 0:
      return { ...made, no_such_member: 1 };
    case 1:
      for (const name of s.required ?? []) delete made[name];
      return made;
    default:
      return names.length ? { ...made, [pick(names)]: pick([17, "text", [], {}, null, [[1]], true]) } : { no_such_member: null };
  }
}

const failures = [];
let calls = 0;
const uploads = []; // made here, [disk, upload]

/** An upload of the disk that is there, if it takes one. */
async function uploadOf(uuid) {
  if (random(4) === 0) return NO_SUCH;
  const made = await client.make_upload({ uuid, "Upload-Length": "7" });
  if (made.status !== 201) return NO_SUCH;
  const upload = made.headers.location.split("/").at(-1);
  uploads.push([uuid, upload]);
  return upload;
}

async function call(op, round) {
  if (op.operationId === "events") return listen();
  const parameters = (op.parameters ?? []).map(resolve);
  const values = {};
  const list = op.tags[0];
  const page = await client.get(`/api/v1/${list}?limit=5&fields=uuid`).catch(() => null);
  const own = page?.data?.items?.map((item) => item.uuid) ?? [];
  for (const p of parameters) {
    if (p.name === "uuid") values.uuid = own.length && random(4) ? pick(own) : NO_SUCH;
    else if (p.name === "upload") values.upload = await uploadOf(values.uuid);
    else if (p.name === "Upload-Length") values["Upload-Length"] = pick(["1048576", "0", "x", "1"]);
    else if (p.name === "Upload-Offset") values["Upload-Offset"] = pick(["0", "7", ""]);
    else if (p.name === "Range") values.Range = pick(["bytes=0-9", "bytes=-1", "bytes=9999999999-", "x"]);
    else if (p.name === "wait") values.wait = "20s";
    else if (p.name === "If-Match" && random(6) === 0) values["If-Match"] = '"1"';
    else if (p.name === "limit" && random(2)) values.limit = pick([1, 3, 0, 100000]);
    else if (["filter", "fields", "sort", "cursor"].includes(p.name) && random(4) === 0) {
      values[p.name] = pick(["uuid", "uuid = null", "uuid,uuid", "-uuid", "", "(", "nothing", '"']);
    }
  }
  const schema = resolve(op.requestBody?.content?.["application/json"]?.schema);
  const bytes = op.requestBody?.content?.[BYTES];
  const body = bytes ? "x".repeat(pick([0, 6, 7, 8])) : schema ? (round % 2 ? spoilt(schema) : objectOf(schema)) : undefined;
  const config = bytes ? { headers: { "Content-Type": BYTES } } : undefined;
  if (PLANNED.has(op.operationId)) {
    await ask(op, { ...values, plan: "true" }, body);
    return;
  }
  await ask(op, values, body, config);
  for (const [uuid, upload] of uploads.splice(0)) await client.end_upload({ uuid, upload }); // others want the disk
  if (round === 0 && parameters.some((p) => p.name === "plan")) await ask(op, { ...values, plan: "true" }, body, config);
}

/** The stream of events has no end: its head is what there is to look at. */
async function listen() {
  calls++;
  const told = await new Promise((resolve, reject) => {
    const request = get(`${url}/api/v1/events`, { headers: { Authorization: `Bearer ${token}` }, timeout: 60_000 }, (answer) => {
      resolve(`${answer.statusCode} ${String(answer.headers["content-type"]).split(";")[0]}`);
      answer.destroy();
    });
    request.on("error", reject).on("timeout", () => request.destroy(new Error("no answer")));
  });
  if (told !== "200 text/event-stream") failures.push(`events: ${told}`);
}

/** One request, and whether its answer is described. */
async function ask(op, values, body, config) {
  const answer = await client[op.operationId](values, body, config);
  calls++;
  const told = `${op.operationId} ${JSON.stringify(values)} ${JSON.stringify(body)?.slice(0, 300)} -> ${answer.status} ${JSON.stringify(answer.data)?.slice(0, 400)}`;
  if (answer.status >= 500) {
    failures.push(`a 5xx: ${told}`);
    return;
  }
  if (op.method === "head") return; // has no body
  const described = resolve(op.responses[answer.status] ?? op.responses[`${Math.floor(answer.status / 100)}XX`]);
  if (!described) {
    failures.push(`not described: ${told}`);
    return;
  }
  const type = String(answer.headers["content-type"] ?? "").split(";")[0];
  const content = described.content?.[type];
  if (described.content && !content) {
    failures.push(`content type ${type}: ${told}`);
    return;
  }
  const why = content?.schema ? misfit(content.schema, answer.data) : null;
  if (why) failures.push(`${why}: ${told}`);
}

const operations = api.getOperations().filter((op) => op.operationId.includes(only));
uuids = (await client.get("/api/v1/networks?fields=uuid")).data.items.map((item) => item.uuid);
for (let round = 0; round < Number(rounds); round++) {
  for (const op of operations) {
    try {
      await call(op, round);
    } catch (error) { // no answer at all: the server is gone
      failures.push(`${op.operationId}: ${error.message}`);
      round = Number(rounds);
      break;
    }
  }
}
console.log(JSON.stringify({ operations: operations.length, calls, failures: failures.slice(0, 60), failed: failures.length }));
process.exit(failures.length ? 1 : 0);
