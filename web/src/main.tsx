// Starts the page.
import { render } from "preact";
import { App } from "./app.js";
import { startLive } from "./state/live.js";

const root = document.getElementById("app");
if (root) {
  startLive();
  render(<App />, root);
}
