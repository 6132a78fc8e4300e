// "Find": anything of the pool by name, address or number, by keyboard or by mouse.
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import { find } from "../state/find.js";
import { useStore } from "../state/store.js";
import { Dialog, openDialog } from "../ui/dialog.js";
import { plural } from "../ui/format.js";
import { Icon } from "../ui/icons.js";

const SHOWN = 40;

function FindDialog({ onClose }: { onClose: () => void }) {
  const data = useStore();
  const id = useId();
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const list = useRef<HTMLUListElement>(null);
  const found = useMemo(() => find(data, text), [data.generation.value, text]);
  const shown = found.slice(0, SHOWN);
  const chosen = Math.min(at, shown.length - 1);

  useEffect(() => {
    list.current?.children[chosen]?.scrollIntoView({ block: "nearest" });
  }, [chosen]);

  const open = (to: string) => {
    onClose();
    location.hash = to;
  };
  const key = (e: KeyboardEvent) => {
    const step = e.key === "ArrowDown" ? 1 : e.key === "ArrowUp" ? -1 : 0;
    if (step !== 0 && shown.length > 0) {
      e.preventDefault();
      setAt((chosen + step + shown.length) % shown.length);
    }
  };
  return (
    <Dialog title="Find" onClose={onClose} wide>
      <form onSubmit={(e) => { e.preventDefault(); const hit = shown[chosen]; if (hit) { open(hit.href); } }}>
        <div class="dialog-body form find">
          <label class="search">
            <Icon name="search" />
            <input type="search" class="input" role="combobox" list={undefined} aria-label="Find" placeholder="Name, address, MAC, UUID…" autocomplete="off" spellcheck={false} autoFocus
              aria-expanded={shown.length > 0} aria-controls={`${id}-hits`} aria-activedescendant={shown.length > 0 ? `${id}-${chosen}` : undefined}
              value={text} onInput={(e) => { setText(e.currentTarget.value); setAt(0); }} onKeyDown={key} />
          </label>
          <p class="faint" role="status">
            {text.trim() === "" ? "VMs, templates, snapshots, hosts, storage, disks and networks."
              : found.length === 0 ? `Nothing of the pool contains “${text.trim()}”.`
                : found.length > SHOWN ? `${plural(found.length, "hit")}; the first ${SHOWN} are shown.` : `${plural(found.length, "hit")}.`}
          </p>
          <ul class="hits" role="listbox" aria-label="Hits" id={`${id}-hits`} ref={list}>
            {shown.map((hit, i) => (
              <li key={hit.key} id={`${id}-${i}`} role="option" aria-selected={i === chosen} onClick={() => open(hit.href)}>
                <Icon name={hit.icon} size={18} />
                <span class="hit-name ellipsis">{hit.name || <i>no name</i>}</span>
                <span class="faint ellipsis">{hit.where}</span>
                <span class="tag">{hit.kind}</span>
              </li>
            ))}
          </ul>
        </div>
      </form>
    </Dialog>
  );
}

export function openFind(): void {
  openDialog((close) => <FindDialog onClose={close} />);
}

/** "/" and Ctrl+K open it, except where a key belongs to what is typed into: fields, terminals, screens. */
export function useFindKeys(): void {
  useEffect(() => {
    const key = (e: KeyboardEvent) => {
      const wanted = (e.key === "/" && !e.ctrlKey && !e.metaKey && !e.altKey) || (e.key === "k" && (e.ctrlKey || e.metaKey) && !e.altKey && !e.shiftKey);
      const into = e.target instanceof Element && e.target.closest("input, textarea, select, canvas, dialog, [contenteditable]");
      if (wanted && !into && !e.defaultPrevented) {
        e.preventDefault();
        openFind();
      }
    };
    document.addEventListener("keydown", key);
    return () => document.removeEventListener("keydown", key);
  }, []);
}
