// A choice among storage that takes disks, each with what is free.
import type { SR } from "../api/types.js";
import { Field } from "../ui/basics.js";
import { bytes } from "../ui/format.js";

export function SrSelect({ label, srs, value, choose }: {
  label: string; srs: readonly [string, SR][]; value: string; choose: (ref: string) => void;
}) {
  return (
    <Field label={label} hints={srs.length === 0 ? <span class="warn-text">No storage takes new disks.</span> : undefined}>
      {(ties) => (
        <select {...ties} class="input" value={value} onChange={(e) => choose(e.currentTarget.value)}>
          {srs.map(([ref, sr]) => <option key={ref} value={ref}>{sr.name_label} – {bytes(sr.physical_size - sr.physical_utilisation)} free</option>)}
        </select>
      )}
    </Field>
  );
}
