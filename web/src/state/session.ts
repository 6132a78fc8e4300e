// The session: log in, log out, and what ends it. The handle lives in memory and in sessionStorage (it
// ends with the tab), never in an address or in storage that outlives the tab.
import { Client } from "../api/client.js";
import { isSessionError, sentenceOf } from "../api/errors.js";
import { Cell } from "./cell.js";

export interface SignedIn {
  client: Client;
  user: string;
}

/** Why the log-in page is shown though someone had been logged in. */
export interface EndReason {
  sentence: string;
  error?: unknown;
}

const KEY = "corral.session";

export const session = new Cell<SignedIn | null>(restore());
export const endReason = new Cell<EndReason | null>(null);

function restore(): SignedIn | null {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null") as { ref?: unknown; user?: unknown } | null;
    if (typeof kept?.ref === "string" && typeof kept.user === "string") {
      return { client: new Client(kept.ref), user: kept.user };
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
  const client = await Client.login(user, password);
  const signedIn = { client, user };
  keep(signedIn);
  endReason.set(null);
  session.set(signedIn);
}

export async function logOut(): Promise<void> {
  const client = session.value?.client;
  keep(null);
  session.set(null);
  endReason.set({ sentence: "You have logged out." });
  try {
    await client?.call("session.logout");
  } catch (e) {
    if (!isSessionError(e)) {
      endReason.set({ sentence: `You are logged out here, but the server was not told: ${sentenceOf(e)}`, error: e });
    }
  }
}

/** Ends the session in the page because the server no longer knows it. */
export function sessionLost(e: unknown): void {
  keep(null);
  session.set(null);
  endReason.set({ sentence: sentenceOf(e), error: e });
}

/** The calls of the present session. Throws when there is none. */
export function client(): Client {
  if (!session.value) {
    throw new Error("Not logged in.");
  }
  return session.value.client;
}
