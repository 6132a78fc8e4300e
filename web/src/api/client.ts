// JSON-RPC 2.0 over POST /jsonrpc, typed by the table of calls in types.ts.
import { ApiError, ConnectionError } from "./errors.js";
import type { Method, Methods, Ref } from "./types.js";

interface RpcAnswer {
  result?: unknown;
  error?: { code: number; message: string; data?: unknown } | string[];
}

export interface CallOptions {
  /** Ends the call early. */
  signal?: AbortSignal;
  /** Without an answer after this time the call counts as lost. Default 60 s. */
  timeoutMs?: number;
}

let nextId = 1;

function apiError(error: NonNullable<RpcAnswer["error"]>): ApiError {
  if (Array.isArray(error)) {
    return ApiError.fromList(error.map(String));
  }
  return new ApiError(error.message, Array.isArray(error.data) ? error.data.map(String) : []);
}

/** One call, parameters as they go on the wire. Throws ApiError or ConnectionError. */
export async function rpc(method: string, params: readonly unknown[], options: CallOptions = {}): Promise<unknown> {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), options.timeoutMs ?? 60_000);
  const stop = () => limit.abort();
  options.signal?.addEventListener("abort", stop);
  if (options.signal?.aborted) {
    stop();
  }
  let response: Response;
  let text: string;
  try {
    response = await fetch("/jsonrpc", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", method, params, id: nextId++ }),
      cache: "no-store",
      credentials: "omit",
      signal: limit.signal,
    });
    text = await response.text();
  } catch {
    throw new ConnectionError(limit.signal.aborted && !options.signal?.aborted
      ? "The server did not answer in time."
      : "The server cannot be reached.");
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", stop);
  }
  let answer: RpcAnswer | null = null;
  try {
    answer = JSON.parse(text) as RpcAnswer | null;
  } catch {
    // no JSON: reported below with the status
  }
  if (answer !== null && typeof answer === "object") {
    if (answer.error) {
      throw apiError(answer.error);
    }
    if ("result" in answer && response.ok) {
      return answer.result;
    }
  }
  throw new ConnectionError(
    `The server answered ${response.status} ${response.statusText}`.trim() +
    (text.trim() === "" ? "." : `: ${text.trim().slice(0, 300)}`), response.status);
}

/** The calls of one session. */
export class Client {
  constructor(readonly session: Ref<"session">) {}

  static async login(user: string, password: string): Promise<Client> {
    const ref = await rpc("session.login_with_password", [user, password, "1.0", "corral-web"]);
    return new Client(String(ref));
  }

  async call<M extends Method>(
    method: M, ...args: Parameters<Methods[M]>): Promise<ReturnType<Methods[M]>> {
    return await rpc(method, [this.session, ...args]) as ReturnType<Methods[M]>;
  }

  async callWith<M extends Method>(
    options: CallOptions, method: M, ...args: Parameters<Methods[M]>): Promise<ReturnType<Methods[M]>> {
    return await rpc(method, [this.session, ...args], options) as ReturnType<Methods[M]>;
  }

  /** Starts the call as a task and answers the task at once. */
  async start<M extends Method>(method: M, ...args: Parameters<Methods[M]>): Promise<Ref<"task">> {
    return await rpc(`Async.${method}`, [this.session, ...args]) as Ref<"task">;
  }

  /** A token for one web socket to this console: single use, short-lived. */
  async consoleToken(console: Ref<"console">): Promise<string> {
    const { body, response, text } = await this.#door("/api/v1/console-tokens", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ console }),
    });
    if (response.ok && typeof body.token === "string") {
      return body.token;
    }
    throw refusal(body, response, text);
  }

  /** The JSON of one of the server's other doors; null when it says that there is nothing (404). */
  async getJson(path: string, query: Record<string, string>, signal: AbortSignal): Promise<Record<string, unknown> | null> {
    const { body, response, text } = await this.#door(`${path}?${new URLSearchParams(query).toString()}`, { signal });
    if (response.status === 404) {
      return null;
    }
    if (response.ok) {
      return body;
    }
    throw refusal(body, response, text);
  }

  /** One request beside the RPC. The session goes in a header: an address is kept in too many places. */
  async #door(path: string, init: RequestInit): Promise<{ body: Record<string, unknown>; response: Response; text: string }> {
    let response: Response;
    let text: string;
    try {
      response = await fetch(path, {
        ...init, headers: { ...init.headers, Authorization: `Bearer ${this.session}` }, cache: "no-store", credentials: "omit",
      });
      text = await response.text();
    } catch {
      throw new ConnectionError("The server cannot be reached.");
    }
    let body: Record<string, unknown> = {};
    try {
      body = JSON.parse(text) as Record<string, unknown>;
    } catch {
      // no JSON: whoever needs some reports the status
    }
    return { body, response, text };
  }
}

/** The error of a REST answer: problem+json, with the API's code and parameters when it has them. */
function refusal(body: Record<string, unknown>, response: Response, text: string): Error {
  const params = body.params ?? body.data;
  if (typeof body.code === "string") {
    return new ApiError(body.code, Array.isArray(params) ? params.map(String) : []);
  }
  if (response.status === 401) {
    return new ApiError("SESSION_INVALID", []);
  }
  const said = [body.title, body.detail].filter((part) => typeof part === "string").join(": ");
  return new ConnectionError(said !== "" ? said
    : `The server answered ${response.status} ${response.statusText}`.trim() +
      (text.trim() === "" ? "." : `: ${text.trim().slice(0, 300)}`), response.status);
}

/** The ref in a task's result, which is the XML-RPC form of the value. */
export function refOfResult(result: string): string | null {
  return /OpaqueRef:[0-9A-Za-z-]+/.exec(result)?.[0] ?? null;
}
