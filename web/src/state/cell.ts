// A value that components can watch: the whole of the page's state management.
import { useEffect, useReducer } from "preact/hooks";

export class Cell<T> {
  #value: T;
  #changes = 0;
  readonly #watchers = new Set<() => void>();

  constructor(initial: T) {
    this.#value = initial;
  }

  get value(): T {
    return this.#value;
  }

  /** Rises with each change. */
  get changes(): number {
    return this.#changes;
  }

  set(value: T): void {
    if (!Object.is(value, this.#value)) {
      this.#value = value;
      this.touch();
    }
  }

  update(change: (value: T) => T): void {
    this.set(change(this.#value));
  }

  /** Tells the watchers though the value is the same object. */
  touch(): void {
    this.#changes++;
    for (const watcher of [...this.#watchers]) {
      watcher();
    }
  }

  /** Calls `watcher` after each change, until the returned function is called. */
  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }
}

/** The value of a cell; the component renders again when it changes. */
export function useCell<T>(cell: Cell<T>): T {
  const [, again] = useReducer<number, void>((n) => n + 1, 0);
  const shown = cell.changes;
  useEffect(() => {
    const stop = cell.watch(() => again());
    // It may have changed after it was rendered and before it is watched.
    if (cell.changes !== shown) {
      again();
    }
    return stop;
  }, [cell]);
  return cell.value;
}
