// Light or dark: what the system prefers, unless the user chose. The choice is all that this page keeps
// in storage that outlives the tab.
import { Cell } from "./cell.js";
import { applyTheme, storedTheme, systemDark, THEME_KEY, type Theme } from "./theme-rules.js";

export { effective, type Theme } from "./theme-rules.js";

export const theme = new Cell<Theme>(storedTheme());

export function chooseTheme(chosen: Theme): void {
  try {
    if (chosen === "auto") {
      localStorage.removeItem(THEME_KEY);
    } else {
      localStorage.setItem(THEME_KEY, chosen);
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
