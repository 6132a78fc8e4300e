// JSON-RPC 2.0 over POST /jsonrpc, typed by the table of calls in types.ts.
import { ApiError, ConnectionError, isSessionError } from "./errors.js";
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

/** The calls of one user. When the session ends under them they wait for the next one, and are then made again. */
export class Client {
  /**
   * @param session what calls are made in now; `renew` may put another in its place.
   * @param renew told that the session is over; resolves when there is a new one, rejects when there will be none.
   */
  constructor(public session: Ref<"session">, readonly renew: (client: Client, ended: ApiError) => Promise<void>) {}

  static async login(user: string, password: string): Promise<Ref<"session">> {
    return String(await rpc("session.login_with_password", [user, password, "1.0", "corral-web"]));
  }

  async call<M extends Method>(
    method: M, ...args: Parameters<Methods[M]>): Promise<ReturnType<Methods[M]>> {
    return await this.#inSession((session) => rpc(method, [session, ...args])) as ReturnType<Methods[M]>;
  }

  async callWith<M extends Method>(
    options: CallOptions, method: M, ...args: Parameters<Methods[M]>): Promise<ReturnType<Methods[M]>> {
    return await this.#inSession((session) => rpc(method, [session, ...args], options)) as ReturnType<Methods[M]>;
  }

  /** Starts the call as a task and answers the task at once. */
  async start<M extends Method>(method: M, ...args: Parameters<Methods[M]>): Promise<Ref<"task">> {
    return await this.#inSession((session) => rpc(`Async.${method}`, [session, ...args])) as Ref<"task">;
  }

  /** Ends the session. One that is over already is none to be renewed for this. */
  async logout(): Promise<void> {
    await rpc("session.logout", [this.session]);
  }

  /** A call that is refused for its session was not carried out: it is made again in the next one. */
  async #inSession<T>(make: (session: Ref<"session">) => Promise<T>): Promise<T> {
    for (;;) {
      const used = this.session;
      try {
        return await make(used);
      } catch (e) {
        if (!isSessionError(e)) {
          throw e;
        }
        if (this.session === used) {
          await this.renew(this, e);
        }
      }
    }
  }

  /** A token for one web socket to this console: single use, short-lived. */
  async consoleToken(console: Ref<"console">): Promise<string> {
    return this.#inSession(async (session) => {
      const { body, response, text } = await door(session, "/api/v1/console-tokens", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ console }),
      });
      if (response.ok && typeof body.token === "string") {
        return body.token;
      }
      throw refusal(body, response, text);
    });
  }

  /** The JSON of one of the server's other doors; null when it says that there is nothing (404). */
  async getJson(path: string, query: Record<string, string>, signal: AbortSignal): Promise<Record<string, unknown> | null> {
    return this.#inSession(async (session) => {
      const { body, response, text } = await door(session, `${path}?${new URLSearchParams(query).toString()}`, { signal });
      if (response.status === 404) {
        return null;
      }
      if (response.ok) {
        return body;
      }
      throw refusal(body, response, text);
    });
  }

  /** The beginning of a download; the bytes come by its body. */
  async download(path: string, query: Record<string, string>): Promise<Response> {
    return this.#inSession(async (session) => {
      const response = await request(session, `${path}?${new URLSearchParams(query).toString()}`, {});
      if (response.ok) {
        return response;
      }
      const text = await response.text();
      throw refusal(parse(text), response, text);
    });
  }
}

/** One request beside the RPC. The session goes in a header: an address is kept in too many places. */
async function request(session: string, path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(path, {
      ...init, headers: { ...init.headers, Authorization: `Bearer ${session}` }, cache: "no-store", credentials: "omit",
    });
  } catch {
    throw new ConnectionError("The server cannot be reached.");
  }
}

/** The object in the text; an empty one when it has none: whoever needs some reports the status. */
function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

/** A request whose answer is short. */
async function door(session: string, path: string, init: RequestInit): Promise<{ body: Record<string, unknown>; response: Response; text: string }> {
  const response = await request(session, path, init);
  let text: string;
  try {
    text = await response.text();
  } catch {
    throw new ConnectionError("The server cannot be reached.");
  }
  return { body: parse(text), response, text };
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
