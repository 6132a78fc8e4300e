// Runs before the page is drawn, so that a dark page does not flash white.
import { applyTheme, storedTheme } from "./state/theme-rules.js";

applyTheme(storedTheme());
