// The axes of a graph: round values from zero up, moments that people round to, and how both are written.
import type { Unit } from "../state/graphs.js";
import { bytes } from "./format.js";

/** Values for lines across the graph, from 0 to the top of the graph. */
export function valueTicks(unit: Unit, largest: number): number[] {
  if (unit === "share") {
    return [0, 0.25, 0.5, 0.75, 1];
  }
  // Steps are powers of two, so that sizes are round in KiB, MiB, GiB.
  const step = 2 ** Math.max(0, Math.ceil(Math.log2(Math.max(largest, 1) / 4)));
  const count = Math.max(1, Math.ceil(largest / step));
  return Array.from({ length: count + 1 }, (_, i) => i * step);
}

export function valueText(unit: Unit, value: number): string {
  if (Number.isNaN(value)) {
    return "–";
  }
  if (unit === "share") {
    const percent = value * 100;
    return `${percent > 0 && percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
  }
  return unit === "bytes" ? bytes(Math.round(value)) : `${bytes(Math.round(value))}/s`;
}

interface Pace {
  seconds: number;
  /** The first moment of this pace at or after `date`, by the clock of who looks. */
  next: (date: Date) => Date;
}

function minutes(n: number): Pace {
  return {
    seconds: n * 60,
    next: (date) => {
      const at = new Date(date);
      at.setSeconds(0, 0);
      at.setMinutes(Math.floor(at.getMinutes() / n) * n);
      while (at < date) {
        at.setMinutes(at.getMinutes() + n);
      }
      return at;
    },
  };
}

function days(n: number): Pace {
  return {
    seconds: n * 86400,
    next: (date) => {
      const at = new Date(date);
      at.setHours(0, 0, 0, 0);
      while (at < date) {
        at.setDate(at.getDate() + n);
      }
      return at;
    },
  };
}

function months(n: number): Pace {
  return {
    seconds: n * 30 * 86400,
    next: (date) => {
      const at = new Date(date.getFullYear(), date.getMonth() - (date.getMonth() % n), 1);
      while (at < date) {
        at.setMonth(at.getMonth() + n);
      }
      return at;
    },
  };
}

const PACES: readonly Pace[] = [minutes(1), minutes(2), minutes(5), minutes(10), minutes(30), days(1), days(2), months(1), months(2), months(3)];

/** Moments between two unix times for marks below the graph, at most `most` of them. */
export function timeTicks(from: number, to: number, most: number): number[] {
  const pace = PACES.find((p) => (to - from) / p.seconds <= most) ?? PACES[PACES.length - 1];
  const ticks: number[] = [];
  for (let at = pace?.next(new Date(from * 1000)); pace && at && at.getTime() <= to * 1000; at = pace.next(new Date(at.getTime() + 1000))) {
    ticks.push(at.getTime() / 1000);
  }
  return ticks;
}

/** A moment below the graph: as short as the distance between rows allows. */
export function tickText(time: number, step: number): string {
  const date = new Date(time * 1000);
  return step < 3600 ? date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" })
    : step < 86400 ? date.toLocaleDateString(undefined, { weekday: "short", day: "numeric" })
      : date.toLocaleDateString(undefined, { month: "short" });
}

/** A moment in full. */
export function momentText(time: number, step: number): string {
  const date = new Date(time * 1000);
  return step < 60 ? date.toLocaleTimeString()
    : step < 86400 ? date.toLocaleString(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" })
      : date.toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "long", year: "numeric" });
}
