// How the theme is chosen and put on the document; without the parts that make a page, because
// theme-early.ts runs this before there is one.
export type Theme = "auto" | "light" | "dark";
export const THEME_KEY = "corral.theme";
export const systemDark = window.matchMedia("(prefers-color-scheme: dark)");

export function storedTheme(): Theme {
  try {
    const kept = localStorage.getItem(THEME_KEY);
    return kept === "light" || kept === "dark" ? kept : "auto";
  } catch {
    return "auto";
  }
}

export function effective(theme: Theme): "light" | "dark" {
  return theme === "auto" ? (systemDark.matches ? "dark" : "light") : theme;
}

/** Puts the theme on the document; the style sheets do the rest. */
export function applyTheme(theme: Theme): void {
  document.documentElement.dataset.theme = effective(theme);
}
