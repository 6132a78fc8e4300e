// The test double of the server: the built page, JSON-RPC, console tokens and console sockets, with the
// same answers and the same security headers as the real one. In memory; one instance a test.
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { serveScreen, serveSerial } from "./consoles.mjs";
import { rrdUpdates, vmRrd } from "./measurements.mjs";
import { ApiFailure, Model } from "./model.mjs";
import { Operations } from "./operations.mjs";
import { seed } from "./seed.mjs";

export const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; " +
  "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; " +
  "require-trusted-types-for 'script'; trusted-types 'none'";

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain" };
const DESCRIPTION = join(dirname(fileURLToPath(import.meta.url)), "../../../openapi/openapi.json");
const USER = "root";
export const PASSWORD = "apple-tree";

export class FakeServer {
  sessions = new Map();
  tokens = new Map();
  sockets = new Set();
  polls = new Set();
  keys = [];
  requests = [];
  /** While true every request is cut off, as by a server that is not there. */
  down = false;

  /** `clock` tells the time of measurements, in milliseconds. */
  constructor({ page, stepMs = 25, empty = false, clock = Date.now }) {
    this.page = page;
    this.clock = clock;
    this.model = new Model();
    this.operations = new Operations(this.model, stepMs);
    this.refs = empty ? { pool: this.model.create("pool", { name_label: "Orchard" }) } : seed(this.model, this.operations);
    this.http = createServer((request, response) => {
      this.#serve(request, response).catch((e) => {
        response.writeHead(500).end(String(e));
      });
    });
    this.webSockets = new WebSocketServer({ noServer: true, handleProtocols: () => "binary" });
    this.http.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
  }

  async listen(port = 0) {
    await new Promise((resolve) => this.http.listen(port, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.http.address().port}`;
    return this;
  }

  async close() {
    for (const stop of this.polls) stop.abort();
    for (const socket of this.sockets) socket.terminate();
    this.http.closeAllConnections();
    await new Promise((resolve) => this.http.close(resolve));
  }

  /** The server goes away, and every connection with it. */
  goDown() {
    this.down = true;
    this.http.closeAllConnections();
  }

  async #serve(request, response) {
    if (this.down) {
      request.socket.destroy();
      return;
    }
    const url = new URL(request.url, "http://fake");
    this.requests.push({ method: request.method, url: request.url });
    response.setHeader("Content-Security-Policy", POLICY);
    response.setHeader("X-Content-Type-Options", "nosniff");
    response.setHeader("Referrer-Policy", "no-referrer");
    if (request.method === "POST" && url.pathname === "/jsonrpc") {
      await this.#rpc(request, response);
    } else if (request.method === "POST" && url.pathname === "/api/v1/console-tokens") {
      await this.#consoleToken(request, response);
    } else if (request.method === "GET" && ["/rrd_updates", "/vm_rrd"].includes(url.pathname)) {
      this.#measurements(request, url, response);
    } else if (request.method === "GET" && url.pathname === "/export") {
      this.#export(request, url, response);
    } else if (request.method === "GET" && url.pathname === "/api/v1/openapi.json") {
      response.writeHead(200, { "Content-Type": "application/json" }).end(await readFile(DESCRIPTION));
    } else if (request.method === "GET") {
      await this.#file(url.pathname, response);
    } else {
      response.writeHead(405).end();
    }
  }

  async #file(path, response) {
    const name = normalize(decodeURIComponent(path.endsWith("/") ? `${path}index.html` : path));
    try {
      const body = await readFile(join(this.page, name));
      response.writeHead(200, { "Content-Type": TYPES[extname(name)] ?? "application/octet-stream" }).end(body);
    } catch {
      response.writeHead(404, { "Content-Type": "text/plain" }).end("not found");
    }
  }

  async #body(request) {
    const parts = [];
    for await (const part of request) parts.push(part);
    return JSON.parse(Buffer.concat(parts).toString("utf8"));
  }

  async #rpc(request, response) {
    const { method, params, id } = await this.#body(request);
    const stop = new AbortController();
    this.polls.add(stop);
    response.on("close", () => stop.abort());
    let answer;
    try {
      answer = { jsonrpc: "2.0", result: (await this.#dispatch(method, params, stop.signal)) ?? "", id };
    } catch (e) {
      const failure = e instanceof ApiFailure ? e : new ApiFailure("INTERNAL_ERROR", String(e.stack ?? e));
      answer = { jsonrpc: "2.0", error: { code: 1, message: failure.code, data: failure.params }, id };
    }
    this.polls.delete(stop);
    if (!response.destroyed) {
      response.writeHead(200, { "Content-Type": "application/json", "Cache-Control": "no-cache, no-store" }).end(JSON.stringify(answer));
    }
  }

  async #dispatch(method, params, stop) {
    if (method === "session.login_with_password") {
      const [user, password] = params;
      if (user !== USER || password !== PASSWORD) {
        throw new ApiFailure("SESSION_AUTHENTICATION_FAILED", user, "Authentication failure");
      }
      const ref = `OpaqueRef:${randomUUID()}`;
      this.sessions.set(ref, user);
      return ref;
    }
    const [session, ...rest] = params;
    if (!this.sessions.has(session)) {
      throw new ApiFailure("SESSION_INVALID", session);
    }
    if (method === "session.logout") {
      this.sessions.delete(session);
      for (const stop of this.polls) stop.abort();
      return "";
    }
    if (method === "event.from") {
      const result = await this.model.eventFrom(rest[0], rest[1], rest[2], stop);
      if (!this.sessions.has(session)) {
        throw new ApiFailure("SESSION_INVALID", session);
      }
      return result;
    }
    return method.startsWith("Async.")
      ? this.operations.start(method.slice("Async.".length), rest)
      : await this.operations.call(method, rest, null);
  }

  /** Ends all sessions, as an administrator may. */
  endSessions() {
    this.sessions.clear();
    for (const stop of this.polls) stop.abort();
  }

  #sessionOf(request) {
    return /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
  }

  #measurements(request, url, response) {
    if (!this.sessions.has(this.#sessionOf(request))) {
      response.writeHead(401).end("no session");
      return;
    }
    const now = Math.floor(this.clock() / 1000);
    const answer = url.pathname === "/vm_rrd" ? vmRrd(this.model, url.searchParams.get("uuid"), now) : rrdUpdates(this.model, url.searchParams, now);
    if (answer) {
      response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(answer));
    } else {
      response.writeHead(404).end("nothing was measured of it yet");
    }
  }

  /** An archive in two parts; between them the task is cancelled or fails when a test wants that. */
  #export(request, url, response) {
    if (!this.sessions.has(this.#sessionOf(request))) {
      response.writeHead(401).end("no session");
      return;
    }
    const task = url.searchParams.get("task_id");
    const [ref] = this.model.find("VM", (vm) => vm.uuid === url.searchParams.get("uuid"));
    response.writeHead(200, { "Content-Type": "application/octet-stream" });
    response.write(`ova.xml of ${this.model.get("VM", ref).name_label}, `);
    if (this.failExport) {
      this.model.update(task, { status: "failure", error_info: this.failExport });
      setImmediate(() => response.destroy());
      return;
    }
    this.model.update(task, { status: "success", progress: 1 });
    response.end("complete");
  }

  async #consoleToken(request, response) {
    const session = this.#sessionOf(request);
    const { console } = await this.#body(request);
    if (!this.sessions.has(session)) {
      response.writeHead(401, { "Content-Type": "application/problem+json" }).end(JSON.stringify({ title: "Not logged in", code: "SESSION_INVALID", params: [session ?? ""] }));
      return;
    }
    if (this.model.rows.get(console)?.cls !== "console") {
      response.writeHead(404, { "Content-Type": "application/problem+json" }).end(JSON.stringify({ title: "No such console", code: "HANDLE_INVALID", params: ["console", console] }));
      return;
    }
    const token = randomUUID();
    this.tokens.set(token, console);
    response.writeHead(201, { "Content-Type": "application/json" }).end(JSON.stringify({ token, expires: new Date(Date.now() + 30_000).toISOString() }));
  }

  #upgrade(request, socket, head) {
    const url = new URL(request.url, "http://fake");
    this.requests.push({ method: "UPGRADE", url: request.url });
    const token = url.searchParams.get("token") ?? "";
    const ref = this.tokens.get(token);
    this.tokens.delete(token);
    const row = this.model.rows.get(ref);
    if (url.pathname !== "/console" || !row || this.down) {
      socket.end("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n");
      return;
    }
    this.webSockets.handleUpgrade(request, socket, head, (ws) => {
      this.sockets.add(ws);
      ws.on("close", () => this.sockets.delete(ws));
      const name = this.model.get("VM", row.record.VM).name_label;
      if (row.record.protocol === "vt100") {
        serveSerial(ws, name);
      } else {
        serveScreen(ws, (key) => this.keys.push(key));
      }
    });
  }
}
