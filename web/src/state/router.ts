// Where the user is: the part of the address after "#". Nothing secret is ever put there.
import { Cell } from "./cell.js";

export interface Route {
  page: string;
  /** The parts after the page, decoded. */
  rest: string[];
}

function parse(hash: string): Route {
  const parts = hash.replace(/^#?\/?/, "").split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { page: parts[0] || "vms", rest: parts.slice(1) };
}

export const route = new Cell<Route>(parse(location.hash));
window.addEventListener("hashchange", () => route.set(parse(location.hash)));

export function href(...parts: string[]): string {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

export function go(...parts: string[]): void {
  location.hash = href(...parts);
}

/** Goes there without a new entry in the history: for tabs and redirects. */
export function replace(...parts: string[]): void {
  history.replaceState(null, "", href(...parts));
  route.set(parse(location.hash));
}
