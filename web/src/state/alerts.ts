// Messages of the pool that came while the page was open and are bad enough to interrupt: a notice each,
// until it is read. All messages are in the drawer.
import type { Message } from "../api/types.js";
import { Cell } from "./cell.js";
import { session } from "./session.js";
import { store } from "./store.js";

/** 1 is the worst; from this on a message is only listed. */
const LISTED_FROM_PRIORITY = 4;
const SHOWN_AT_ONCE = 5;

export function isBad(message: Message): boolean {
  return message.priority < LISTED_FROM_PRIORITY;
}

/** "VM_STARTED" -> "VM started". */
export function messageTitle(message: Message): string {
  const words = message.name.toLowerCase().replaceAll("_", " ");
  return words.replace(/^(vm|sr|vdi|ha|pbd|vmpp)\b/, (w) => w.toUpperCase()).replace(/^./, (c) => c.toUpperCase());
}

/** The name of what the message is about, while it exists. */
export function messageSubject(message: Message): string {
  const cls = message.cls.toLowerCase();
  return cls === "vm" || cls === "host" || cls === "sr" || cls === "vdi"
    ? store.byUuid(cls, message.obj_uuid)?.[1].name_label ?? "" : "";
}

export const alerts = new Cell<readonly { ref: string; message: Message }[]>([]);

export function dismissAlert(ref: string): void {
  alerts.update((list) => list.filter((alert) => alert.ref !== ref));
}

store.onNew("message", (ref, message) => {
  if (isBad(message)) {
    alerts.update((list) => [...list, { ref, message }].slice(-SHOWN_AT_ONCE));
  }
});
session.watch(() => alerts.set([]));
