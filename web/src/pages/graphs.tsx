// What a VM or a host does, drawn over time.
import { useState } from "preact/hooks";
import type { Subject } from "../api/measurements.js";
import { graphsOf, SPANS, useMeasured } from "../state/graphs.js";
import { useStore } from "../state/store.js";
import { Empty } from "../ui/basics.js";
import { Chart } from "../ui/chart.js";
import { ErrorText } from "../ui/error.js";
import { Icon } from "../ui/icons.js";

export function Graphs({ subject }: { subject: Subject }) {
  const data = useStore();
  const [span, setSpan] = useState(SPANS[0]);
  const [at, setAt] = useState<number | null>(null);
  const { measured, asked, error } = useMeasured(subject, span);
  const srName = (prefix: string) => data.all("sr").find(([, sr]) => sr.uuid.startsWith(prefix))?.[1].name_label ?? prefix;
  return (
    <div class="stack-wide">
      <div class="toolbar">
        <div class="chips" role="group" aria-label="Time">
          {SPANS.map((s) => (
            <button key={s.id} type="button" class="chip" aria-pressed={s === span} onClick={() => { setSpan(s); setAt(null); }}>{s.label}</button>
          ))}
        </div>
        {measured && <span class="faint">{subject.live ? "Live: new values appear by themselves." : "The VM does not run: this is what was measured before."}</span>}
      </div>
      {error !== null && <div class="callout warn" role="status"><Icon name="alert" /><ErrorText error={error} hint={measured ? "The graphs are not current; they are asked for again." : "They are asked for again."} /></div>}
      {measured
        ? (
          <div class="graphs">
            {graphsOf(subject.kind, measured, srName).map((graph) => (
              <Chart key={`${graph.id} ${span.id}`} graph={graph} step={measured.step} end={measured.end} rows={measured.rows} at={at} setAt={setAt} />
            ))}
          </div>
        )
        : !asked ? <div class="loading"><span class="spinner" /> Loading…</div>
          : error === null && (
            <Empty icon="chart" title="Nothing measured yet">
              <p>{subject.live ? "The first values come some seconds after the start; they appear by themselves." : "Values are measured while the VM runs. Start it to see them here."}</p>
            </Empty>
          )}
    </div>
  );
}
