// One graph of lines over time. The values at a moment are read with the pointer or, since the drawing is a slider
// from moment to moment, with the arrow keys; a table says the same to who cannot see it.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Graph } from "../state/graphs.js";
import { Card } from "./basics.js";
import { momentText, tickText, timeTicks, valueText, valueTicks } from "./scale.js";

const HEIGHT = 190;
const EDGE = { left: 74, right: 12, top: 10, bottom: 24 };
/** More lines than can be told apart are hidden at first, but for the first. */
const SHOWN_AT_FIRST = 8;
const COLOURS = 8;

interface ChartProps {
  graph: Graph;
  step: number;
  end: number;
  rows: number;
  /** The moment that is read, in unix time; the same in all graphs beside each other. */
  at: number | null;
  setAt: (at: number | null) => void;
}

function useWidth() {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry?.contentRect.width ?? 0)));
    if (box.current) {
      observer.observe(box.current);
    }
    return () => observer.disconnect();
  }, []);
  return { box, width };
}

/** The drawing of a line: it breaks where nothing is known, and a value alone is a dot. */
export function linePath(values: readonly number[], x: (i: number) => number, y: (v: number) => number): string {
  let path = "";
  let pen = false;
  values.forEach((value, i) => {
    if (Number.isNaN(value)) {
      pen = false;
      return;
    }
    const point = `${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    path += pen ? `L${point}` : `M${point}h0`;
    pen = true;
  });
  return path;
}

function lineClass(i: number): string {
  return `line c${i % COLOURS}${i >= COLOURS ? " dashed" : ""}`;
}

export function Chart({ graph, step, end, rows, at, setAt }: ChartProps) {
  const { box, width } = useWidth();
  const [chosen, setChosen] = useState<ReadonlyMap<string, boolean>>(new Map());
  const [asTable, setAsTable] = useState(false);
  const { lines, unit, title } = graph;
  const isShown = (name: string, i: number) => chosen.get(name) ?? (lines.length <= SHOWN_AT_FIRST || i === 0);
  const shown = lines.map((line, i) => ({ line, i })).filter(({ line, i }) => isShown(line.name, i));

  const start = end - (rows - 1) * step;
  const wide = Math.max(0, width - EDGE.left - EDGE.right);
  const high = HEIGHT - EDGE.top - EDGE.bottom;
  const largest = shown.reduce((top, { line }) => line.values.reduce((m, v) => (v > m ? v : m), top), 0);
  const ticks = valueTicks(unit, largest);
  const top = ticks[ticks.length - 1] ?? 1;
  const x = (i: number) => EDGE.left + (i / (rows - 1)) * wide;
  const y = (v: number) => EDGE.top + high - (Math.min(v, top) / top) * high;
  const empty = !shown.some(({ line }) => line.values.some((v) => !Number.isNaN(v)));

  // A moment that has moved out of the graph meanwhile is read as the oldest that is there.
  const index = at === null ? null : Math.max(0, Math.min(rows - 1, Math.round((at - start) / step)));
  const moment = start + (index ?? rows - 1) * step;
  const point = (e: PointerEvent & { currentTarget: SVGSVGElement }) => {
    const share = (e.clientX - e.currentTarget.getBoundingClientRect().left - EDGE.left) / Math.max(1, wide);
    setAt(start + Math.round(Math.max(0, Math.min(1, share)) * (rows - 1)) * step);
  };
  const key = (e: KeyboardEvent) => {
    const from = index ?? rows - 1;
    const moves: Record<string, number> = {
      ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1, PageDown: from - 10, PageUp: from + 10, Home: 0, End: rows - 1,
    };
    const to = moves[e.key];
    if (to !== undefined) {
      e.preventDefault();
      setAt(start + Math.max(0, Math.min(rows - 1, to)) * step);
    } else if (e.key === "Escape") {
      setAt(null);
    }
  };
  const valueAt = (values: readonly number[], i: number) => valueText(unit, values[i] ?? NaN);
  const sentence = `${momentText(moment, step)}: ${shown.map(({ line }) => `${line.label} ${valueAt(line.values, index ?? rows - 1)}`).join(", ")}`;

  return (
    <Card title={title} actions={<time class="faint chart-moment" dateTime={new Date(moment * 1000).toISOString()}>{momentText(moment, step)}</time>}>
      <div class="chart" ref={box}>
        {width > 0 && (
          <svg width={width} height={HEIGHT} viewBox={`0 0 ${width} ${HEIGHT}`} role="slider" tabIndex={0} aria-label={`${title}: moment`}
            aria-valuemin={0} aria-valuemax={rows - 1} aria-valuenow={index ?? rows - 1} aria-valuetext={empty ? "No data" : sentence}
            onPointerMove={point} onPointerDown={point} onPointerLeave={() => setAt(null)} onKeyDown={key} onBlur={() => setAt(null)}>
            {ticks.map((tick) => (
              <g key={tick}>
                <line class="grid-line" x1={EDGE.left} x2={EDGE.left + wide} y1={y(tick)} y2={y(tick)} />
                <text class="axis" x={EDGE.left - 8} y={y(tick) + 4} text-anchor="end">{valueText(unit, tick)}</text>
              </g>
            ))}
            {timeTicks(start, end, Math.max(2, Math.floor(wide / 72))).map((tick) => {
              const middle = EDGE.left + ((tick - start) / (end - start)) * wide;
              return (
                <g key={tick}>
                  <line class="grid-line" x1={middle} x2={middle} y1={EDGE.top + high} y2={EDGE.top + high + 4} />
                  <text class="axis" x={Math.min(middle, width - 28)} y={HEIGHT - 6} text-anchor="middle">{tickText(tick, step)}</text>
                </g>
              );
            })}
            {shown.map(({ line, i }) => <path key={line.name} class={lineClass(i)} d={linePath(line.values, x, y)} />)}
            {index !== null && (
              <g aria-hidden="true">
                <line class="cross" x1={x(index)} x2={x(index)} y1={EDGE.top} y2={EDGE.top + high} />
                {shown.map(({ line, i }) => Number.isNaN(line.values[index] ?? NaN) ? null
                  : <circle key={line.name} class={lineClass(i)} cx={x(index)} cy={y(line.values[index] ?? 0)} r="3" />)}
              </g>
            )}
            {empty && <text class="no-data" x={EDGE.left + wide / 2} y={EDGE.top + high / 2} text-anchor="middle">{lines.length > 0 && shown.length === 0 ? "All lines are hidden" : "No data in this time"}</text>}
          </svg>
        )}
      </div>
      {lines.length > 0 && (
        <ul class="legend" aria-label={`Lines of ${title}`}>
          {lines.map((line, i) => (
            <li key={line.name}>
              <button type="button" aria-pressed={isShown(line.name, i)}
                onClick={() => setChosen(new Map(chosen).set(line.name, !isShown(line.name, i)))}>
                <svg class="swatch" width="18" height="10" aria-hidden="true"><line class={lineClass(i)} x1="1" x2="17" y1="5" y2="5" /></svg>
                <span>{line.label}</span> <b>{valueAt(line.values, index ?? rows - 1)}</b>
              </button>
            </li>
          ))}
        </ul>
      )}
      <details class="chart-table" onToggle={(e) => setAsTable(e.currentTarget.open)}>
        <summary>As a table</summary>
        {asTable && (
          <div class="scroll" tabIndex={0} role="region" aria-label={`${title} as a table`}>
            <table aria-label={title}>
              <thead><tr><th scope="col">Time</th>{shown.map(({ line }) => <th key={line.name} scope="col">{line.label}</th>)}</tr></thead>
              <tbody>
                {Array.from({ length: rows }, (_, n) => rows - 1 - n).map((i) => (
                  <tr key={start + i * step}>
                    <th scope="row">{momentText(start + i * step, step)}</th>
                    {shown.map(({ line }) => <td key={line.name}>{valueAt(line.values, i)}</td>)}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </details>
    </Card>
  );
}
