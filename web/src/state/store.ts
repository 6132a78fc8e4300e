// What the server has, kept current by events: a table of records for each class the page follows.
import { CLASS_NAMES, NULL_REF, type Classes, type ClassName, type ServerEvent } from "../api/types.js";
import { Cell, useCell } from "./cell.js";

type Tables = { [C in ClassName]: Map<string, Classes[C]> };

function emptyTables(): Tables {
  return Object.fromEntries(CLASS_NAMES.map((name) => [name, new Map()])) as unknown as Tables;
}

export class Store {
  readonly tables: Tables = emptyTables();
  /** What tasks work or worked on, by the name it had: a task's own record does not tell. */
  readonly taskSubjects = new Map<string, Set<string>>();
  /** Rises with each batch that changed something. */
  readonly generation = new Cell(0);
  /** False until the first complete picture has arrived. */
  readonly loaded = new Cell(false);

  readonly #newcomers = new Map<ClassName, (ref: string, record: never) => void>();

  /** Calls `watcher` for each object of the class that appears after the first picture. */
  onNew<C extends ClassName>(cls: C, watcher: (ref: string, record: Classes[C]) => void): void {
    this.#newcomers.set(cls, watcher);
  }

  get<C extends ClassName>(cls: C, ref: string | undefined): Classes[C] | undefined {
    return ref === undefined || ref === NULL_REF ? undefined : this.tables[cls].get(ref) as Classes[C] | undefined;
  }

  all<C extends ClassName>(cls: C): [ref: string, record: Classes[C]][] {
    return [...this.tables[cls]] as [string, Classes[C]][];
  }

  byUuid<C extends ClassName>(cls: C, uuid: string): [ref: string, record: Classes[C]] | undefined {
    for (const [ref, record] of this.tables[cls]) {
      if ((record as { uuid: string }).uuid === uuid) {
        return [ref, record as Classes[C]];
      }
    }
    return undefined;
  }

  /** The name of whatever the ref means, or a short form of the ref. */
  nameOf = (ref: string): string => {
    for (const cls of CLASS_NAMES) {
      const record = this.tables[cls].get(ref) as { name_label?: string } | undefined;
      if (record?.name_label) {
        return record.name_label;
      }
    }
    return ref.startsWith("OpaqueRef:") ? "" : ref;
  };

  /** Applies one batch of events. With `fresh` it is the whole picture: what it does not name is gone. */
  apply(events: readonly ServerEvent[], fresh: boolean): void {
    if (fresh) {
      this.#clear();
    }
    for (const event of events) {
      const table = this.tables[event.class as ClassName] as Map<string, unknown> | undefined;
      if (event.operation === "del") {
        table?.delete(event.ref);
        this.taskSubjects.delete(event.ref);
      } else if (event.snapshot !== undefined) {
        const isNew = !fresh && table?.has(event.ref) === false;
        table?.set(event.ref, event.snapshot);
        if (isNew) {
          this.#newcomers.get(event.class as ClassName)?.(event.ref, event.snapshot as never);
        }
        this.#noteSubject(event.snapshot as { name_label?: string; current_operations?: Record<string, string> });
      }
    }
    if (fresh) {
      this.loaded.set(true);
    }
    if (fresh || events.length > 0) {
      this.generation.update((n) => n + 1);
    }
  }

  reset(): void {
    this.#clear();
    this.loaded.set(false);
    this.generation.update((n) => n + 1);
  }

  #noteSubject(record: { name_label?: string; current_operations?: Record<string, string> }): void {
    for (const task of Object.keys(record.current_operations ?? {})) {
      const names = this.taskSubjects.get(task) ?? new Set();
      names.add(record.name_label ?? "");
      this.taskSubjects.set(task, names);
    }
  }

  #clear(): void {
    this.taskSubjects.clear();
    for (const name of CLASS_NAMES) {
      this.tables[name].clear();
    }
  }
}

export const store = new Store();

/** Makes the component follow the store. */
export function useStore(): Store {
  useCell(store.generation);
  return store;
}
