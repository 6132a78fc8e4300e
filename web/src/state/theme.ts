// Light or dark: what the system prefers, unless the user chose. The choice is all that this page keeps
// in storage that outlives the tab.
import { Cell } from "./cell.js";

export type Theme = "auto" | "light" | "dark";
const KEY = "corral.theme";

export function storedTheme(): Theme {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : "auto";
  } catch {
    return "auto";
  }
}

const systemDark = window.matchMedia("(prefers-color-scheme: dark)");

export function effective(theme: Theme): "light" | "dark" {
  return theme === "auto" ? (systemDark.matches ? "dark" : "light") : theme;
}

/** Puts the theme on the document; the style sheets do the rest. */
export function applyTheme(theme: Theme): void {
  document.documentElement.dataset.theme = effective(theme);
}

export const theme = new Cell<Theme>(storedTheme());

export function chooseTheme(chosen: Theme): void {
  try {
    if (chosen === "auto") {
      localStorage.removeItem(KEY);
    } else {
      localStorage.setItem(KEY, chosen);
    }
  } catch {
    // without storage the choice lasts as long as the page
  }
  applyTheme(chosen);
  theme.set(chosen);
}

systemDark.addEventListener("change", () => {
  applyTheme(theme.value);
  theme.touch();
});
