// Which graphs a VM and a host have, and which of what is measured each of them shows: tables of sources by name.
import { useEffect, useState } from "preact/hooks";
import { measure, type Measured, type Subject } from "../api/measurements.js";
import { client } from "./session.js";

export interface Span {
  id: string;
  label: string;
  /** Seconds between two rows, as the server keeps them. */
  step: number;
  rows: number;
  refreshMs: number;
}

export const SPANS: readonly [Span, ...Span[]] = [
  { id: "minutes", label: "10 minutes", step: 5, rows: 120, refreshMs: 5_000 },
  { id: "hours", label: "2 hours", step: 60, rows: 120, refreshMs: 30_000 },
  { id: "week", label: "Week", step: 3600, rows: 168, refreshMs: 60_000 },
  { id: "year", label: "Year", step: 86400, rows: 366, refreshMs: 60_000 },
];

export type Unit = "share" | "bytes" | "bytes/s";

export interface Line {
  name: string;
  label: string;
  values: readonly number[];
}

export interface Graph {
  id: string;
  title: string;
  unit: Unit;
  lines: Line[];
}

interface Source {
  /** Of the source's name; its groups are what `label` gets. */
  match: RegExp;
  label: (part: string, direction: string) => string;
  /** What one of the server's units is in ours. */
  times?: number;
}

interface GraphKind {
  id: string;
  title: string;
  unit: Unit;
  sources: readonly Source[];
}

const inOut = (direction: string) => (direction === "rx" ? "received" : "sent");
const readWrite = (direction: string) => (direction === "read" ? "read" : "written");

const VM_GRAPHS: readonly GraphKind[] = [
  {
    id: "cpu", title: "Processors", unit: "share", sources: [
      { match: /^cpu_usage$/, label: () => "All vCPUs" },
      { match: /^cpu(\d+)$/, label: (n) => `vCPU ${n}` },
    ],
  },
  {
    id: "memory", title: "Memory", unit: "bytes", sources: [
      { match: /^memory$/, label: () => "Given to the VM" },
      { match: /^memory_internal_free$/, label: () => "Free in the guest", times: 1024 },
    ],
  },
  { id: "network", title: "Network", unit: "bytes/s", sources: [{ match: /^vif_(\d+)_(rx|tx)$/, label: (n, way) => `NIC ${n} ${inOut(way)}` }] },
  { id: "disks", title: "Disks", unit: "bytes/s", sources: [{ match: /^vbd_([^_]+)_(read|write)$/, label: (device, way) => `${device} ${readWrite(way)}` }] },
];

const HOST_GRAPHS: readonly GraphKind[] = [
  {
    id: "cpu", title: "Processors", unit: "share", sources: [
      { match: /^cpu_avg$/, label: () => "All processors" },
      { match: /^cpu(\d+)$/, label: (n) => `Processor ${n}` },
    ],
  },
  {
    id: "memory", title: "Memory", unit: "bytes", sources: [
      { match: /^memory_total_kib$/, label: () => "In all", times: 1024 },
      { match: /^memory_free_kib$/, label: () => "Free", times: 1024 },
    ],
  },
  { id: "network", title: "Network", unit: "bytes/s", sources: [{ match: /^pif_(?!aggr_)(.+)_(rx|tx)$/, label: (device, way) => `${device} ${inOut(way)}` }] },
  {
    id: "disks", title: "Storage", unit: "bytes/s", sources: [
      { match: /^io_throughput_(?:read|write)_(.+)$/, label: (sr) => sr, times: 1024 * 1024 },
    ],
  },
];

/** The graphs of what was measured; each is there, with no lines when nothing of its kind was measured. */
export function graphsOf(kind: Subject["kind"], measured: Measured, srName: (uuidPrefix: string) => string): Graph[] {
  return (kind === "vm" ? VM_GRAPHS : HOST_GRAPHS).map(({ sources, ...graph }) => {
    const found: (Line & { order: number })[] = [];
    for (const [name, values] of measured.sources) {
      const order = sources.findIndex((source) => source.match.test(name));
      const source = sources[order];
      const [, part = "", direction = ""] = source?.match.exec(name) ?? [];
      if (source) {
        const times = source.times ?? 1;
        const way = /^io_throughput_(read|write)_/.exec(name)?.[1];
        found.push({
          name, order, label: way ? `${srName(part)} ${readWrite(way)}` : source.label(part, direction),
          values: times === 1 ? values : values.map((v) => v * times),
        });
      }
    }
    found.sort((a, b) => a.order - b.order || a.name.localeCompare(b.name, undefined, { numeric: true }));
    return { ...graph, lines: found.map(({ name, label, values }) => ({ name, label, values })) };
  });
}

export interface Watched {
  measured: Measured | null;
  /** False until the first answer. */
  asked: boolean;
  error: unknown;
}

const NOTHING: Watched = { measured: null, asked: false, error: null };

/** What is measured of the object, kept current while the component is there. */
export function useMeasured(subject: Subject, span: Span): Watched {
  const [watched, setWatched] = useState<Watched>(NOTHING);
  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let known: Measured | null = null;
    const turn = async () => {
      try {
        if (!document.hidden) {
          known = await measure(client(), subject, span.step, span.rows, known, stop.signal);
          if (!stop.signal.aborted) {
            setWatched({ measured: known, asked: true, error: null });
          }
        }
      } catch (error) {
        if (stop.signal.aborted) {
          return;
        }
        setWatched({ measured: known, asked: true, error });
      }
      if (!stop.signal.aborted) {
        timer = setTimeout(() => void turn(), span.refreshMs);
      }
    };
    setWatched(NOTHING);
    void turn();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [subject.kind, subject.uuid, subject.live, span.id]);
  return watched;
}
