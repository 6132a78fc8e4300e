// The session: log in, log out, and what ends it. The handle lives in memory and in sessionStorage (it
// ends with the tab), never in an address or in storage that outlives the tab. When the server ends the
// session the page stays as it is, with what was typed into it, until the same user logs in over it or leaves.
import { Client } from "../api/client.js";
import { isSessionError, sentenceOf, type ApiError } from "../api/errors.js";
import { Cell } from "./cell.js";

export interface SignedIn {
  client: Client;
  user: string;
}

/** Why there is a log-in though someone had been logged in. */
export interface EndReason {
  sentence: string;
  error?: unknown;
}

const KEY = "corral.session";

export const session = new Cell<SignedIn | null>(restore());
export const endReason = new Cell<EndReason | null>(null);
/** Set while the page waits for its user to log in again. */
export const interrupted = new Cell<EndReason | null>(null);

function restore(): SignedIn | null {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null") as { ref?: unknown; user?: unknown } | null;
    if (typeof kept?.ref === "string" && typeof kept.user === "string") {
      return { client: new Client(kept.ref, renewed), user: kept.user };
    }
  } catch {
    // storage forbidden or spoilt: the user logs in again
  }
  return null;
}

function keep(signedIn: SignedIn | null): void {
  try {
    if (signedIn) {
      sessionStorage.setItem(KEY, JSON.stringify({ ref: signedIn.client.session, user: signedIn.user }));
    } else {
      sessionStorage.removeItem(KEY);
    }
  } catch {
    // without storage the session lives as long as this page
  }
}

export async function logIn(user: string, password: string): Promise<void> {
  const ref = await Client.login(user, password);
  const before = session.value;
  if (before?.user === user) {
    before.client.session = ref;
    keep(before);
    interrupted.set(null);
    return;
  }
  const signedIn = { client: new Client(ref, renewed), user };
  keep(signedIn);
  endReason.set(null);
  session.set(signedIn);
}

/** What a client whose session has ended waits for. */
function renewed(client: Client, ended: ApiError): Promise<void> {
  return new Promise((resolve, reject) => {
    if (session.value?.client !== client) {
      reject(ended);
      return;
    }
    keep(null);
    if (!interrupted.value) {
      interrupted.set({ sentence: sentenceOf(ended), error: ended });
    }
    const stop = interrupted.watch(() => {
      stop();
      if (session.value?.client === client) {
        resolve();
      } else {
        reject(ended);
      }
    });
  });
}

/** Gives up the page as it was left when its session ended: to the log-in page. */
export function leave(): void {
  endReason.set(interrupted.value);
  session.set(null);
  interrupted.set(null);
}

export async function logOut(): Promise<void> {
  const client = session.value?.client;
  keep(null);
  session.set(null);
  endReason.set({ sentence: "You have logged out." });
  try {
    await client?.logout();
  } catch (e) {
    if (!isSessionError(e)) {
      endReason.set({ sentence: `You are logged out here, but the server was not told: ${sentenceOf(e)}`, error: e });
    }
  }
}

/** The calls of the present session. Throws when there is none. */
export function client(): Client {
  if (!session.value) {
    throw new Error("Not logged in.");
  }
  return session.value.client;
}
