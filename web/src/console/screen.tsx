// The screen: noVNC over a web socket of RFB.
import RFB from "@novnc/novnc";
import { useEffect, useRef, useState } from "preact/hooks";
import { useStore } from "../state/store.js";
import type { VmView } from "../state/vms.js";
import { Button } from "../ui/basics.js";
import { ConsoleFrame, NotRunning, useFullScreen, type LinkState } from "./frame.js";
import { consoleAddress, consoleOf } from "./socket.js";

export function ScreenTab({ view }: { view: VmView }) {
  const data = useStore();
  const console = consoleOf(data, view.ref, "rfb");
  const on = view.state === "Running" || view.state === "Paused";
  if (!on || console === null) {
    return <NotRunning view={view} icon="monitor" what="The screen" />;
  }
  return <Screen key={console} console={console} name={view.vm.name_label} />;
}

/** Ends the connection; one that is still being made as soon as it stands, or the browser would complain. */
function release(rfb: RFB | null, connected: boolean): void {
  if (connected) {
    rfb?.disconnect();
  } else {
    rfb?.addEventListener("connect", () => rfb.disconnect());
  }
}

function Screen({ console, name }: { console: string; name: string }) {
  const host = useRef<HTMLDivElement>(null);
  const rfb = useRef<RFB | null>(null);
  const wanted = useRef(0);
  const connected = useRef(false);
  const [link, setLink] = useState<LinkState>({ is: "connecting" });
  const [scaled, setScaled] = useState(true);
  const { box, full, toggle } = useFullScreen();

  const connect = async () => {
    const mine = ++wanted.current;
    release(rfb.current, connected.current);
    rfb.current = null;
    connected.current = false;
    setLink({ is: "connecting" });
    try {
      const address = await consoleAddress(console);
      if (mine !== wanted.current || !host.current) {
        return;
      }
      host.current.replaceChildren();
      const made = new RFB(host.current, address, { shared: true, wsProtocols: ["binary"] });
      made.scaleViewport = scaled;
      made.background = "transparent";
      made.addEventListener("connect", () => {
        if (mine === wanted.current) {
          connected.current = true;
          setLink({ is: "open" });
          made.focus();
        }
      });
      made.addEventListener("disconnect", (e) => {
        if (mine === wanted.current) {
          rfb.current = null;
          setLink({ is: "closed", ...(e.detail.clean ? {} : { error: new Error("The connection to the screen broke.") }) });
        }
      });
      made.addEventListener("securityfailure", (e) => {
        if (mine === wanted.current) {
          setLink({ is: "closed", error: new Error(e.detail.reason ?? "The screen refused the connection.") });
        }
      });
      rfb.current = made;
    } catch (error) {
      if (mine === wanted.current) {
        setLink({ is: "closed", error });
      }
    }
  };

  useEffect(() => {
    void connect();
    return () => {
      wanted.current++;
      release(rfb.current, connected.current);
      rfb.current = null;
    };
  }, [console]);

  useEffect(() => {
    if (rfb.current) {
      rfb.current.scaleViewport = scaled;
    }
  }, [scaled]);

  const pasteText = () => {
    navigator.clipboard.readText().then((text) => rfb.current?.clipboardPasteFrom(text), () => undefined)
      .finally(() => rfb.current?.focus());
  };

  return (
    <ConsoleFrame label={`Screen of ${name}`} what="screen" link={link} box={box} connect={() => void connect()} bar={
      <>
        <Button kind="quiet" icon="keyboard" label="Ctrl+Alt+Del" disabled={link.is !== "open"}
          onClick={() => { rfb.current?.sendCtrlAltDel(); rfb.current?.focus(); }} />
        <Button kind="quiet" icon="paste" iconOnly label="Give the clipboard to the guest" disabled={link.is !== "open"} onClick={pasteText} />
        <Button kind="quiet" icon="fit" iconOnly label={scaled ? "Show in its own size" : "Fit into the window"} aria-pressed={scaled}
          onClick={() => setScaled(!scaled)} />
        <Button kind="quiet" icon="refresh" iconOnly label="Connect again" onClick={() => void connect()} />
        <Button kind="quiet" icon="expand" iconOnly label={full ? "Leave full screen" : "Full screen"} onClick={toggle} />
      </>
    }>
      <div class={`screen-host${scaled ? "" : " scrolls"}`} ref={host} />
    </ConsoleFrame>
  );
}
