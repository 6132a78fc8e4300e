// A table that sorts by its columns, lets rows be chosen, and draws only the rows that can be seen once
// there are many. On a narrow screen the style sheet turns each row into a card;
// the roles keep it a table for screen readers.
import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { collator } from "./format.js";
import { Icon } from "./icons.js";

export interface Column<T> {
  id: string;
  label: string;
  render: (row: T) => ComponentChildren;
  /** What the column is sorted by; without it the column does not sort. */
  sort?: (row: T) => string | number;
  /** "num" puts it to the right, "main" is the row's title on a narrow screen, "wide" is dropped there. */
  class?: string;
}

export interface Selection {
  chosen: ReadonlySet<string>;
  set: (chosen: Set<string>) => void;
}

interface TableProps<T> {
  label: string;
  columns: readonly Column<T>[];
  rows: readonly T[];
  keyOf: (row: T) => string;
  nameOf: (row: T) => string;
  sortedBy: string;
  open?: (row: T) => void;
  selection?: Selection;
  rowClass?: (row: T) => string;
  /** The key of the row that was looked for: it is marked and brought into sight. */
  marked?: string | undefined;
}

const DRAW_ALL_BELOW = 120;
const OVERSCAN = 12;

/** The rows to draw of `count`: those in the window and some around. */
function useVisible(count: number, body: { current: HTMLTableSectionElement | null }) {
  const [range, setRange] = useState({ from: 0, to: DRAW_ALL_BELOW, rowHeight: 44 });
  useEffect(() => {
    if (count <= DRAW_ALL_BELOW) {
      return undefined;
    }
    let frame = 0;
    const measure = () => {
      frame = 0;
      const table = body.current;
      if (!table) {
        return;
      }
      const row = table.querySelector<HTMLElement>("tr[data-row]");
      const rowHeight = row?.getBoundingClientRect().height || 44;
      const top = -table.getBoundingClientRect().top;
      const from = Math.max(0, Math.min(count, Math.floor(top / rowHeight)) - OVERSCAN);
      const to = Math.min(count, Math.max(0, Math.ceil((top + window.innerHeight) / rowHeight)) + OVERSCAN);
      setRange((r) => (r.from === from && r.to === to && r.rowHeight === rowHeight ? r : { from, to, rowHeight }));
    };
    const soon = () => {
      if (frame === 0) {
        frame = requestAnimationFrame(measure);
      }
    };
    measure();
    document.addEventListener("scroll", soon, true);
    window.addEventListener("resize", soon);
    return () => {
      cancelAnimationFrame(frame);
      document.removeEventListener("scroll", soon, true);
      window.removeEventListener("resize", soon);
    };
  }, [count]);
  return count <= DRAW_ALL_BELOW ? { from: 0, to: count, rowHeight: range.rowHeight } : range;
}

export function DataTable<T>(props: TableProps<T>) {
  const { columns, rows, keyOf, selection } = props;
  const [sort, setSort] = useState({ by: props.sortedBy, down: false });
  const body = useRef<HTMLTableSectionElement>(null);
  const lastClicked = useRef<string | null>(null);

  const sorted = useMemo(() => {
    const value = columns.find((c) => c.id === sort.by)?.sort;
    const list = [...rows];
    if (value) {
      list.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        const order = typeof x === "number" && typeof y === "number" ? x - y : collator.compare(String(x), String(y));
        return (sort.down ? -order : order) || collator.compare(props.nameOf(a), props.nameOf(b));
      });
    }
    return list;
  }, [rows, sort]);
  const { from, to, rowHeight } = useVisible(sorted.length, body);

  useEffect(() => {
    const index = props.marked === undefined ? -1 : sorted.findIndex((row) => keyOf(row) === props.marked);
    // After the frame has gone to the top of the new page.
    const frame = index < 0 ? 0 : requestAnimationFrame(() => {
      const table = body.current;
      const row = [...table?.rows ?? []].find((r) => r.dataset.row === props.marked);
      if (row) {
        row.scrollIntoView({ block: "center" });
      } else if (table) {
        const main = table.closest(".main");
        main?.scrollBy(0, table.getBoundingClientRect().top + index * rowHeight - window.innerHeight / 2);
      }
    });
    return () => cancelAnimationFrame(frame);
  }, [props.marked, sorted.length > 0]);

  const chosenHere = selection ? sorted.filter((r) => selection.chosen.has(keyOf(r))).length : 0;
  const toggleAll = () => {
    selection?.set(chosenHere === sorted.length ? new Set() : new Set(sorted.map(keyOf)));
  };
  // With Shift the rows between the last choice and this one are chosen too.
  const toggle = (key: string, between: boolean) => {
    if (!selection) {
      return;
    }
    const next = new Set(selection.chosen);
    const anchor = between ? sorted.findIndex((r) => keyOf(r) === lastClicked.current) : -1;
    const at = sorted.findIndex((r) => keyOf(r) === key);
    if (anchor >= 0) {
      for (const row of sorted.slice(Math.min(anchor, at), Math.max(anchor, at) + 1)) {
        next.add(keyOf(row));
      }
    } else if (!next.delete(key)) {
      next.add(key);
    }
    lastClicked.current = key;
    selection.set(next);
  };

  const span = columns.length + (selection ? 1 : 0);
  return (
    <table class="data" role="table" aria-label={props.label} aria-rowcount={sorted.length + 1}>
      <thead role="rowgroup">
        <tr role="row">
          {selection && (
            <th class="pick" scope="col" role="columnheader">
              <input type="checkbox" aria-label="Choose all" checked={chosenHere > 0 && chosenHere === sorted.length}
                ref={(e) => { if (e) { e.indeterminate = chosenHere > 0 && chosenHere < sorted.length; } }}
                onChange={toggleAll} />
            </th>
          )}
          {columns.map((c) => (
            <th key={c.id} scope="col" role="columnheader" class={c.class}
              aria-sort={c.sort && sort.by === c.id ? (sort.down ? "descending" : "ascending") : undefined}>
              {c.sort
                ? (
                  <button type="button" class="sort"
                    onClick={() => setSort({ by: c.id, down: sort.by === c.id && !sort.down })}>
                    {c.label}
                    {sort.by === c.id && <span class={`sort-mark${sort.down ? " down" : ""}`}><Icon name="chevronDown" size={12} /></span>}
                  </button>
                )
                : <span class={c.label === "Actions" ? "hidden" : ""}>{c.label}</span>}
            </th>
          ))}
        </tr>
      </thead>
      <tbody ref={body} role="rowgroup">
        {from > 0 && <tr aria-hidden="true"><td colSpan={span} class="spacer" style={{ height: `${from * rowHeight}px` }} /></tr>}
        {sorted.slice(from, to).map((row, i) => {
          const key = keyOf(row);
          const chosen = selection?.chosen.has(key) ?? false;
          const open = props.open;
          return (
            <tr key={key} role="row" data-row={key} aria-rowindex={from + i + 2} aria-selected={selection ? chosen : undefined}
              class={`${open ? "opens" : ""}${chosen ? " chosen" : ""}${key === props.marked ? " marked" : ""} ${props.rowClass?.(row) ?? ""}`}
              onClick={open && ((e) => {
                if (!(e.target as Element).closest("a, button, input, label, select, .menu") &&
                    !window.getSelection()?.toString()) {
                  open(row);
                }
              })}>
              {selection && (
                <td class="pick" role="cell">
                  <input type="checkbox" aria-label={`Choose ${props.nameOf(row)}`} checked={chosen}
                    onClick={(e) => { e.preventDefault(); const shift = e.shiftKey; setTimeout(() => toggle(key, shift)); }} />
                </td>
              )}
              {columns.map((c) => <td key={c.id} role="cell" class={c.class} data-label={c.label}>{c.render(row)}</td>)}
            </tr>
          );
        })}
        {to < sorted.length && (
          <tr aria-hidden="true"><td colSpan={span} class="spacer" style={{ height: `${(sorted.length - to) * rowHeight}px` }} /></tr>
        )}
      </tbody>
    </table>
  );
}
