// Web sockets to a VM's consoles: which console, and the address with its one-time token.
import type { Console } from "../api/types.js";
import { client } from "../state/session.js";
import type { Store } from "../state/store.js";

/** The console of this protocol ("vt100" serial, "rfb" screen) that the VM has now. */
export function consoleOf(store: Store, vm: string, protocol: Console["protocol"]): string | null {
  return store.all("console").find(([, c]) => c.VM === vm && c.protocol === protocol)?.[0] ?? null;
}

/** Closes the socket; one that is still connecting a moment later, or the browser would complain of it. */
export function closeSocket(socket: WebSocket | null): void {
  if (socket?.readyState === WebSocket.CONNECTING) {
    socket.onmessage = null;
    socket.onclose = null;
    socket.onopen = () => socket.close();
  } else {
    socket?.close();
  }
}

/** The address of a socket to it. The token in it serves once and for a short time; it is not the session. */
export async function consoleAddress(console: string): Promise<string> {
  const token = await client().consoleToken(console);
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return `${scheme}//${location.host}/console?token=${encodeURIComponent(token)}`;
}
