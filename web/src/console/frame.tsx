// What the serial console and the screen have in common: the bar above, the states around the picture,
// and connecting again when the VM comes back.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { VmView } from "../state/vms.js";
import { allowed, VM_ACTIONS } from "../state/vm-actions.js";
import { perform } from "../pages/vm-menu.js";
import { Button, Empty } from "../ui/basics.js";
import { ErrorText } from "../ui/error.js";
import type { IconName } from "../ui/icons.js";

export type LinkState =
  | { is: "connecting" }
  | { is: "open" }
  | { is: "closed"; error?: unknown };

const WORDS: Record<LinkState["is"], string> = { connecting: "Connecting…", open: "Connected", closed: "Disconnected" };

/** Full screen of one element, by the browser. */
export function useFullScreen() {
  const box = useRef<HTMLDivElement>(null);
  const [full, setFull] = useState(false);
  useEffect(() => {
    const changed = () => setFull(document.fullscreenElement !== null && document.fullscreenElement === box.current);
    document.addEventListener("fullscreenchange", changed);
    return () => document.removeEventListener("fullscreenchange", changed);
  }, []);
  const toggle = () => {
    if (document.fullscreenElement) {
      void document.exitFullscreen();
    } else {
      box.current?.requestFullscreen().catch(() => undefined);
    }
  };
  return { box, full, toggle };
}

export function NotRunning({ view, icon, what }: { view: VmView; icon: IconName; what: string }) {
  const start = VM_ACTIONS.find((a) => a.primaryIn.includes(view.state) && a.icon === "play");
  return (
    <Empty icon={icon} title={view.operation ? `${view.operation.words}…` : `The VM is ${view.state.toLowerCase()}`}>
      <p>{what} is here while the VM runs.</p>
      {start && !view.operation && (
        <Button kind="primary" icon="play" label={start.label} disabled={!allowed(view.vm, start)} onClick={() => perform(start, [view])} />
      )}
    </Empty>
  );
}

export function ConsoleFrame({ link, bar, children, box, connect, label, what }: {
  link: LinkState; bar: ComponentChildren; children: ComponentChildren; box: { current: HTMLDivElement | null };
  connect: () => void; label: string; what: string;
}) {
  // The guest gets every key, so one combination must lead out of it.
  const leave = (e: KeyboardEvent) => {
    if (e.ctrlKey && e.shiftKey && e.key.toUpperCase() === "L") {
      e.preventDefault();
      e.stopPropagation();
      box.current?.querySelector<HTMLElement>(".console-tools button:not(:disabled)")?.focus();
    }
  };
  return (
    <div class="console" ref={box} role="group" aria-label={`${label}. Control Shift L leaves it.`} onKeyDownCapture={leave}>
      <div class="console-bar">
        <span class={`link ${link.is}`} role="status"><span class="dot" aria-hidden="true" />{WORDS[link.is]}</span>
        <span class="faint wide-only">Ctrl+Shift+L leaves the {what}</span>
        <span class="console-tools">{bar}</span>
      </div>
      <div class="console-stage">
        {children}
        {link.is === "closed" && (
          <div class="console-cover">
            <div class="console-card">
              <h3>Disconnected</h3>
              {link.error ? <ErrorText error={link.error} /> : <p class="faint">The connection to the VM was closed.</p>}
              <Button kind="primary" icon="refresh" label="Connect again" onClick={connect} autoFocus />
            </div>
          </div>
        )}
      </div>
    </div>
  );
}
