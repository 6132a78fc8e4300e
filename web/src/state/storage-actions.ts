// What is done to storage repositories: made of the kinds that the server offers, connected to hosts, given up.
import type { SR } from "../api/types.js";
import { runJob, runTask, type Steps } from "./jobs.js";
import { store, type Store } from "./store.js";

export interface SrKind {
  type: string;
  label: string;
  description: string;
  fields: { key: string; label: string; hint: string; optional: boolean; secret: boolean }[];
  /** Whether one usually makes it for all hosts. */
  shared: boolean;
}

const FIELD_LABELS: Record<string, string> = {
  location: "Directory", server: "Server", serverpath: "Path on the server", device: "Device", target: "Target address", targetIQN: "Target IQN",
  SCSIid: "SCSI ID", LUNid: "LUN", port: "Port", username: "User", user: "User", password: "Password", chapuser: "CHAP user", chappassword: "CHAP password",
};
const ON_ONE_HOST = ["file", "dir", "ext", "lvm", "udev"];

/** The kinds of storage that the server can make, each with what it wants to be told. */
export function srKinds(data: Store): SrKind[] {
  return data.all("sm").filter(([, sm]) => sm.capabilities.includes("SR_CREATE")).map(([, sm]) => ({
    type: sm.type, label: sm.name_label || sm.type, description: sm.name_description, shared: !ON_ONE_HOST.includes(sm.type),
    fields: Object.entries(sm.configuration).map(([key, hint]) => ({
      key, hint, label: FIELD_LABELS[key] ?? key, optional: /optional|default/i.test(hint), secret: /passw|secret/i.test(key),
    })),
  })).sort((a, b) => a.label.localeCompare(b.label));
}

/** Whether a kind of storage can be wiped by the server; a library of discs, for one, cannot. */
export function canDestroy(data: Store, sr: SR): boolean {
  return data.all("sm").some(([, sm]) => sm.type === sr.type && sm.capabilities.includes("SR_DELETE"));
}

export interface NewSr {
  kind: SrKind;
  name: string;
  description: string;
  host: string;
  shared: boolean;
  config: Record<string, string>;
}

export function createSr(order: NewSr): Promise<boolean> {
  const config = Object.fromEntries(Object.entries(order.config).filter(([, value]) => value !== ""));
  return runTask("New storage", order.name, "SR.create", order.host, config, 0, order.name, order.description, order.kind.type,
    order.kind.type === "iso" ? "iso" : "user", order.shared, {});
}

async function disconnect(steps: Steps, sr: SR): Promise<void> {
  for (const ref of sr.PBDs) {
    const pbd = store.get("pbd", ref);
    if (pbd?.currently_attached) {
      steps.say(`Disconnecting ${store.get("host", pbd.host)?.name_label ?? "a host"}`);
      await steps.run("PBD.unplug", ref);
    }
  }
}

export function disconnectSr(sr: SR): Promise<boolean> {
  return runJob("Disconnect", sr.name_label, (steps) => disconnect(steps, sr));
}

export function connectSr(sr: SR): Promise<boolean> {
  return runJob("Connect", sr.name_label, async (steps) => {
    for (const ref of sr.PBDs) {
      const pbd = store.get("pbd", ref);
      if (pbd && !pbd.currently_attached) {
        steps.say(`Connecting ${store.get("host", pbd.host)?.name_label ?? "a host"}`);
        await steps.run("PBD.plug", ref);
      }
    }
  });
}

export function plugPbd(ref: string, on: boolean): Promise<boolean> {
  const host = store.get("host", store.get("pbd", ref)?.host)?.name_label ?? "";
  return runTask(on ? "Connect" : "Disconnect", host, on ? "PBD.plug" : "PBD.unplug", ref);
}

/** Forgets the SR, or wipes it; it is disconnected from all hosts first. */
export function removeSr(ref: string, sr: SR, wipe: boolean): Promise<boolean> {
  return runJob(wipe ? "Destroy storage" : "Forget storage", sr.name_label, async (steps) => {
    await disconnect(steps, sr);
    steps.say(wipe ? "Destroying it" : "Forgetting it");
    steps.hint("The storage is disconnected from its hosts; “Connect” brings it back.");
    await steps.run(wipe ? "SR.destroy" : "SR.forget", ref);
    steps.hint("");
  });
}
