// A part of the page whose code is fetched when it is first shown.
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Button, Empty } from "./basics.js";

export function lazyPart<P extends object>(load: () => Promise<ComponentType<P>>, what: string) {
  let ready: ComponentType<P> | null = null;
  return function Lazy(props: P) {
    const [, again] = useState(0);
    const [failed, setFailed] = useState(false);
    const fetchIt = () => {
      setFailed(false);
      load().then((part) => {
        ready = part;
        again((n) => n + 1);
      }, () => setFailed(true));
    };
    useEffect(() => {
      if (!ready) {
        fetchIt();
      }
    }, []);
    if (ready) {
      const Part = ready;
      return <Part {...props} />;
    }
    return failed
      ? (
        <Empty icon="alert" title="Not loaded">
          <p>The code of {what} could not be fetched. If the server was updated, load the page again.</p>
          <Button icon="refresh" label="Try again" onClick={fetchIt} />
        </Empty>
      )
      : <div class="loading"><span class="spinner" /> Loading {what}…</div>;
  };
}
