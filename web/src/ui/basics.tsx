// The small parts that all pages are made of.
import type { ButtonHTMLAttributes, ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Icon, type IconName } from "./icons.js";
import { ago, bytes, parseTime, percent } from "./format.js";
import type { Operation } from "../state/vms.js";

type ButtonProps = {
  icon?: IconName | undefined;
  kind?: "plain" | "primary" | "danger" | "quiet" | undefined;
  /** Shows the icon alone; the label is still there for who cannot see it. */
  iconOnly?: boolean | undefined;
  label: string;
  class?: string | undefined;
} & Omit<ButtonHTMLAttributes<HTMLButtonElement>, "icon" | "label" | "class">;

export function Button({ icon, kind = "plain", iconOnly, label, class: extra, ...rest }: ButtonProps) {
  return (
    <button type="button" title={iconOnly ? label : undefined} aria-label={iconOnly ? label : undefined} {...rest}
      class={`button ${kind}${iconOnly ? " icon-only" : ""}${extra ? ` ${extra}` : ""}`}>
      {icon && <Icon name={icon} />}
      {!iconOnly && <span>{label}</span>}
    </button>
  );
}

/** A thin bar: how much of a whole is used, or how far something got (without a value: it moves). */
export function Bar({ value, label, tone }: { value: number | null; label: string; tone?: "warn" | "full" | undefined }) {
  return (
    <span class={`bar${value === null ? " moving" : ""}${tone ? ` ${tone}` : ""}`} role="progressbar" aria-label={label}
      aria-valuemin={0} aria-valuemax={100} aria-valuenow={value === null ? undefined : Math.round(value)}>
      <span class="bar-fill" style={value === null ? undefined : { width: `${value}%` }} />
    </span>
  );
}

/** "3.2 of 16 GiB" over a bar. */
export function Usage({ used, total, label }: { used: number; total: number; label: string }) {
  const share = percent(used, total);
  return (
    <span class="usage">
      <span class="usage-text"><b>{bytes(used)}</b> of {bytes(total)}</span>
      <Bar value={share} label={label} tone={share >= 95 ? "full" : share >= 80 ? "warn" : undefined} />
    </span>
  );
}

export function StateBadge({ state, operation }: { state: string; operation?: Operation | null }) {
  if (operation) {
    return (
      <span class="state busy">
        <span class="dot" aria-hidden="true" />
        <span class="state-words">{operation.words}…</span>
        <Bar value={operation.progress === null ? null : operation.progress * 100} label={operation.words} />
      </span>
    );
  }
  return <span class={`state ${state.toLowerCase()}`}><span class="dot" aria-hidden="true" />{state}</span>;
}

export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <span class="empty-icon"><Icon name={icon} size={28} /></span>
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** The time now, renewed each `everyMs`. */
export function useNow(everyMs = 10_000): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** A moment as "3 min ago", the exact time beside it for who points at it. */
export function When({ time }: { time: string | Date | null | undefined }) {
  const now = useNow();
  const date = time instanceof Date ? time : parseTime(time ?? undefined);
  if (!date) {
    return <span class="faint">–</span>;
  }
  return <time dateTime={date.toISOString()} title={date.toLocaleString()}>{ago(date, now)}</time>;
}

/** Text with a button that copies it. */
export function Copyable({ text, what }: { text: string; what: string }) {
  const [copied, setCopied] = useState(false);
  if (text === "") {
    return <span class="faint">–</span>;
  }
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    } catch {
      // No clipboard here (an insecure origin): the text can still be selected.
    }
  };
  return (
    <span class="copyable">
      <span class="mono">{text}</span>
      <Button kind="quiet" icon={copied ? "check" : "copy"} iconOnly label={`Copy ${what}`} onClick={() => void copy()} />
    </span>
  );
}

/** Rows of name and value. */
export function Facts({ children }: { children: ComponentChildren }) {
  return <dl class="facts">{children}</dl>;
}

export function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return <div class="fact"><dt>{name}</dt><dd>{children}</dd></div>;
}

export function Card({ title, actions, children, flush }: {
  title?: string; actions?: ComponentChildren; children: ComponentChildren; flush?: boolean;
}) {
  const id = useId();
  return (
    <section class={`card${flush ? " flush" : ""}`} aria-labelledby={title ? id : undefined}>
      {title && <header class="card-head"><h2 id={id}>{title}</h2><span class="card-actions">{actions}</span></header>}
      {children}
    </section>
  );
}

/** The head of a page: its heading takes the focus when the page opens, so that screen readers say it. */
export function PageHead({ title, sub, actions, before }: {
  title: ComponentChildren; sub?: ComponentChildren; actions?: ComponentChildren; before?: ComponentChildren;
}) {
  return (
    <header class="page-head">
      {before}
      <div class="page-title">
        <h1 tabIndex={-1}>{title}</h1>
        {sub && <span class="page-sub">{sub}</span>}
      </div>
      <div class="page-actions">{actions}</div>
    </header>
  );
}

/** A map of the server, every key as it is. */
export function MapTable({ map, label }: { map: Record<string, string>; label: string }) {
  const keys = Object.keys(map).sort();
  if (keys.length === 0) {
    return <p class="faint pad">Nothing here.</p>;
  }
  return (
    <table class="map" aria-label={label}>
      <tbody>
        {keys.map((key) => <tr key={key}><th scope="row">{key}</th><td>{map[key]}</td></tr>)}
      </tbody>
    </table>
  );
}

/** A field with its label, and hints that belong to it but are no part of its name. */
export function Field({ label, hints, children }: {
  label: string; hints?: ComponentChildren; children: (ties: { id: string; "aria-describedby": string | undefined }) => ComponentChildren;
}) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children({ id, "aria-describedby": hints ? `${id}-hints` : undefined })}
      {hints && <div class="hints" id={`${id}-hints`}>{hints}</div>}
    </div>
  );
}

/** Text that becomes a field when its pencil is pressed. */
export function EditableText({ value, label, save, placeholder, multiline }: {
  value: string; label: string; save: (text: string) => Promise<void>; placeholder?: string; multiline?: boolean;
}) {
  const [draft, setDraft] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const editing = draft !== null;
  useEffect(() => {
    if (editing) {
      field.current?.select();
    }
  }, [editing]);
  if (draft === null) {
    return (
      <span class={`editable${multiline ? " wide" : ""}`}>
        <span class={value === "" ? "faint" : ""}>{value === "" ? (placeholder ?? "–") : value}</span>
        <Button kind="quiet" icon="edit" iconOnly label={`Change ${label}`} onClick={() => setDraft(value)} />
      </span>
    );
  }
  const submit = async (e: Event) => {
    e.preventDefault();
    if (draft === value) {
      setDraft(null);
      return;
    }
    setBusy(true);
    try {
      await save(draft);
      setDraft(null);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form class="editable" onSubmit={(e) => void submit(e)}
      onKeyDown={(e) => { if (e.key === "Escape") { e.stopPropagation(); setDraft(null); } }}>
      <input ref={field} class="input" aria-label={label} value={draft} disabled={busy}
        onInput={(e) => setDraft(e.currentTarget.value)} />
      <Button type="submit" kind="primary" icon="check" iconOnly label={`Save ${label}`} disabled={busy} />
      <Button icon="close" iconOnly label="Cancel" onClick={() => setDraft(null)} />
    </form>
  );
}
