// The serial console: xterm.js over a web socket of raw bytes.
import "./adopted-style.js";
import { FitAddon } from "@xterm/addon-fit";
import { Terminal, type ITheme } from "@xterm/xterm";
import { useEffect, useRef, useState } from "preact/hooks";
import { useCell } from "../state/cell.js";
import { useStore } from "../state/store.js";
import { effective, theme } from "../state/theme.js";
import type { VmView } from "../state/vms.js";
import { Button } from "../ui/basics.js";
import { ConsoleFrame, NotRunning, useFullScreen, type LinkState } from "./frame.js";
import { closeSocket, consoleAddress, consoleOf } from "./socket.js";

const SCROLL_BACK_LINES = 10_000;
/** Guests draw for 80 columns when nobody tells them otherwise: the letters shrink before fewer fit. */
const COLUMNS = 80;
const LETTERS = { largest: 14, smallest: 7 };

const DARK: ITheme = {
  background: "#0d1117", foreground: "#d5dbe5", cursor: "#7aa2ff", cursorAccent: "#0d1117", selectionBackground: "#2f4d8a",
  black: "#1c2330", red: "#ff7b72", green: "#56d364", yellow: "#e3b341", blue: "#79a8ff", magenta: "#d2a8ff", cyan: "#56d4dd", white: "#c9d1d9",
  brightBlack: "#6e7a8c", brightRed: "#ffa198", brightGreen: "#7ee787", brightYellow: "#f2cc60", brightBlue: "#a5c4ff", brightMagenta: "#e2c5ff", brightCyan: "#8be9f0", brightWhite: "#f5f8fc",
};
const LIGHT: ITheme = {
  background: "#fbfcfd", foreground: "#1d2530", cursor: "#2f5bd7", cursorAccent: "#ffffff", selectionBackground: "#c7d7fb",
  black: "#1d2530", red: "#b3261e", green: "#1a7f37", yellow: "#8a6100", blue: "#2f5bd7", magenta: "#7d3ac1", cyan: "#0f7285", white: "#5a6575",
  brightBlack: "#6b7686", brightRed: "#cf3a30", brightGreen: "#238b46", brightYellow: "#9c7200", brightBlue: "#4470e8", brightMagenta: "#9351d8", brightCyan: "#168aa0", brightWhite: "#2b3442",
};

export function SerialTab({ view }: { view: VmView }) {
  const data = useStore();
  const console = consoleOf(data, view.ref, "vt100");
  const on = view.state === "Running" || view.state === "Paused";
  if (!on || console === null) {
    return <NotRunning view={view} icon="terminal" what="The serial console" />;
  }
  return <Serial key={console} console={console} name={view.vm.name_label} />;
}

function Serial({ console, name }: { console: string; name: string }) {
  const chosenTheme = useCell(theme);
  const host = useRef<HTMLDivElement>(null);
  const terminal = useRef<Terminal | null>(null);
  const socket = useRef<WebSocket | null>(null);
  const [link, setLink] = useState<LinkState>({ is: "connecting" });
  const { box, full, toggle } = useFullScreen();

  const send = (bytes: Uint8Array<ArrayBuffer>) => {
    if (socket.current?.readyState === WebSocket.OPEN) {
      socket.current.send(bytes);
    }
  };
  const paste = () => {
    navigator.clipboard.readText().then((text) => terminal.current?.paste(text), () => undefined)
      .finally(() => terminal.current?.focus());
  };
  const copy = () => {
    const text = terminal.current?.getSelection() ?? "";
    if (text !== "") {
      navigator.clipboard.writeText(text).catch(() => undefined);
    }
    terminal.current?.focus();
  };

  const connect = async (stillWanted: () => boolean) => {
    const former = socket.current;
    socket.current = null;
    closeSocket(former);
    setLink({ is: "connecting" });
    try {
      const address = await consoleAddress(console);
      if (!stillWanted()) {
        return;
      }
      const ws = new WebSocket(address, ["binary"]);
      ws.binaryType = "arraybuffer";
      socket.current = ws;
      ws.onopen = () => {
        // The server replays what it kept: what is on the screen would come twice.
        terminal.current?.reset();
        setLink({ is: "open" });
        terminal.current?.focus();
      };
      ws.onmessage = (e: MessageEvent<ArrayBuffer | string>) =>
        terminal.current?.write(typeof e.data === "string" ? e.data : new Uint8Array(e.data));
      ws.onclose = (e) => {
        if (socket.current === ws) {
          setLink({ is: "closed", ...(e.reason ? { error: new Error(e.reason) } : {}) });
        }
      };
    } catch (error) {
      if (stillWanted()) {
        setLink({ is: "closed", error });
      }
    }
  };
  const wanted = useRef(0);
  const reconnect = () => {
    const mine = ++wanted.current;
    void connect(() => wanted.current === mine);
  };

  useEffect(() => {
    if (!host.current) {
      return undefined;
    }
    const encoder = new TextEncoder();
    const term = new Terminal({
      scrollback: SCROLL_BACK_LINES, cursorBlink: true, fontSize: LETTERS.largest, minimumContrastRatio: 4.5,
      fontFamily: "ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace",
      theme: effective(theme.value) === "dark" ? DARK : LIGHT,
    });
    const fit = new FitAddon();
    term.loadAddon(fit);
    term.open(host.current);
    terminal.current = term;
    term.textarea?.setAttribute("aria-label", `Serial console of ${name}`);
    term.onData((text) => send(encoder.encode(text)));
    term.onBinary((text) => send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    term.attachCustomKeyEventHandler((e) => {
      if (e.type !== "keydown" || !e.ctrlKey || !e.shiftKey) {
        return true;
      }
      const key = e.key.toUpperCase();
      if (key === "C" || key === "V") {
        e.preventDefault();
        if (key === "C") copy();
        else paste();
        return false;
      }
      return true;
    });
    const fitAll = () => {
      for (let size = LETTERS.largest; size >= LETTERS.smallest; size--) {
        term.options.fontSize = size;
        if ((fit.proposeDimensions()?.cols ?? 0) >= COLUMNS) {
          break;
        }
      }
      fit.fit();
    };
    fitAll();
    const watch = new ResizeObserver(() => requestAnimationFrame(() => { if (terminal.current === term) fitAll(); }));
    watch.observe(host.current);
    reconnect();
    return () => {
      wanted.current++;
      watch.disconnect();
      const ws = socket.current;
      socket.current = null;
      closeSocket(ws);
      terminal.current = null;
      term.dispose();
    };
  }, [console]);

  useEffect(() => {
    if (terminal.current) {
      terminal.current.options.theme = effective(chosenTheme) === "dark" ? DARK : LIGHT;
    }
  }, [effective(chosenTheme)]);

  return (
    <ConsoleFrame label={`Serial console of ${name}`} what="console" link={link} box={box} connect={reconnect} bar={
      <>
        <Button kind="quiet" label="Copy" title="Ctrl+Shift+C" onClick={copy} />
        <Button kind="quiet" label="Paste" title="Ctrl+Shift+V" onClick={paste} />
        <Button kind="quiet" label="Clear" onClick={() => { terminal.current?.clear(); terminal.current?.focus(); }} />
        <Button kind="quiet" icon="refresh" iconOnly label="Connect again" onClick={reconnect} />
        <Button kind="quiet" icon="expand" iconOnly label={full ? "Leave full screen" : "Full screen"} onClick={toggle} />
      </>
    }>
      <div class="terminal-host" ref={host} />
    </ConsoleFrame>
  );
}
