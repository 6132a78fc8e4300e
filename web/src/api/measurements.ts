// What the server measured of a VM or a host: the rows of /rrd_updates, and the archives of /vm_rrd for a VM
// that does not run. Numbers arrive as text, "NaN" where nothing is known.
import type { Client } from "./client.js";

export interface Subject {
  kind: "vm" | "host";
  uuid: string;
  /** /rrd_updates tells of running VMs only. */
  live: boolean;
}

/** Values at even distances, the oldest first; NaN where nothing is known. */
export interface Measured {
  /** Seconds between two rows. */
  step: number;
  /** Unix time of the last row. */
  end: number;
  rows: number;
  sources: ReadonlyMap<string, readonly number[]>;
}

interface Updates {
  meta: { step: string; end: string; legend: string[] };
  data: { t: string; values: string[] }[];
}

interface Archives {
  lastupdate: string;
  ds: { name: string }[];
  rra: { cf: string; pdp_per_row: string; database: string[][] }[];
}

const BASE_STEP = 5;

function known(text: string | undefined): number {
  const n = Number(text);
  return text !== undefined && Number.isFinite(n) ? n : NaN;
}

/** The rows of one object, as many as asked for; null when the answer has none of it. */
export function readUpdates(answer: unknown, subject: Subject, rows: number): Measured | null {
  const { meta, data } = answer as Updates;
  const prefix = `AVERAGE:${subject.kind}:${subject.uuid}:`;
  const step = Number(meta.step);
  const end = Number(meta.end);
  const sources = new Map<string, number[]>();
  meta.legend.forEach((entry, column) => {
    if (!entry.startsWith(prefix)) {
      return;
    }
    const values = new Array<number>(rows).fill(NaN);
    for (const row of data) {
      const at = rows - 1 - (end - Number(row.t)) / step;
      if (Number.isInteger(at) && at >= 0 && at < rows) {
        values[at] = known(row.values[column]);
      }
    }
    sources.set(entry.slice(prefix.length), values);
  });
  return sources.size > 0 ? { step, end, rows, sources } : null;
}

/** The archive with this step out of all that the server keeps of an object. */
export function readArchives(answer: unknown, step: number, rows: number): Measured | null {
  const { lastupdate, ds, rra } = answer as Archives;
  const archive = rra.find((a) => a.cf === "AVERAGE" && Number(a.pdp_per_row) * BASE_STEP === step);
  if (!archive || ds.length === 0) {
    return null;
  }
  const kept = archive.database.slice(-rows);
  const missing = new Array<number>(rows - kept.length).fill(NaN);
  return {
    step, rows, end: Math.floor(Number(lastupdate) / step) * step,
    sources: new Map(ds.map(({ name }, column) => [name, [...missing, ...kept.map((row) => known(row[column]))]])),
  };
}

/** The old rows with the new ones after them, as many as there were. */
export function joined(old: Measured, fresh: Measured): Measured {
  const moved = (fresh.end - old.end) / old.step;
  const unknown = new Array<number>(old.rows).fill(NaN);
  const sources = new Map<string, readonly number[]>();
  for (const name of new Set([...old.sources.keys(), ...fresh.sources.keys()])) {
    const before = old.sources.get(name) ?? unknown;
    const after = fresh.sources.get(name) ?? unknown;
    sources.set(name, unknown.map((_, i) => {
      const value = after[i] ?? NaN;
      return Number.isNaN(value) ? before[i + moved] ?? NaN : value;
    }));
  }
  return { step: old.step, end: fresh.end, rows: old.rows, sources };
}

/** What is known now. With `old`, only what came since is asked for. Null: nothing was ever measured. */
export async function measure(
  client: Client, subject: Subject, step: number, rows: number, old: Measured | null, signal: AbortSignal): Promise<Measured | null> {
  if (!subject.live) {
    const all = await client.getJson("/vm_rrd", { uuid: subject.uuid, json: "true" }, signal);
    return all && readArchives(all, step, rows);
  }
  const query = {
    json: "true", cf: "AVERAGE", interval: String(step), start: String(old ? old.end : -(rows - 1) * step),
    // A host's own rows come beside those of VMs: one that does not exist leaves the VMs out.
    ...(subject.kind === "vm" ? { vm_uuid: subject.uuid } : { host: "true", vm_uuid: "none" }),
  };
  const answer = await client.getJson("/rrd_updates", query, signal);
  const fresh = answer && readUpdates(answer, subject, rows);
  if (!old || !fresh) {
    return fresh;
  }
  // After a long pause the server answers from a coarser archive: all is asked for again.
  return fresh.step === old.step ? joined(old, fresh) : await measure(client, subject, step, rows, null, signal);
}
