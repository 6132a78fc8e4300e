// A button with a list of choices, by mouse and by keyboard (arrows, Home, End, Escape, first letters).
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Button } from "./basics.js";
import { Icon, type IconName } from "./icons.js";

export interface MenuItem {
  id: string;
  label: string;
  icon?: IconName;
  danger?: boolean;
  disabled?: boolean;
  /** Marks the present choice of several. */
  checked?: boolean;
  /** Why it cannot be chosen. */
  title?: string | undefined;
  run: () => void;
}

export function Menu({ label, icon = "more", items, text, align = "end" }: {
  label: string; icon?: IconName; items: readonly (MenuItem | "line")[]; text?: string; align?: "start" | "end";
}) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLSpanElement>(null);
  const list = useRef<HTMLDivElement>(null);

  const close = (refocus: boolean) => {
    setOpen(false);
    if (refocus) {
      box.current?.querySelector<HTMLElement>(".menu-button")?.focus();
    }
  };
  const choices = () => [...(list.current?.querySelectorAll<HTMLButtonElement>("[role^=menuitem]") ?? [])];

  // The list is placed against the window, so that a scrolling table does not cut it off.
  useLayoutEffect(() => {
    const anchor = box.current?.getBoundingClientRect();
    const menu = list.current;
    if (!open || !anchor || !menu) {
      return;
    }
    const { width, height } = menu.getBoundingClientRect();
    const left = align === "end" ? anchor.right - width : anchor.left;
    const below = anchor.bottom + 4;
    const top = below + height > window.innerHeight - 8 ? Math.max(8, anchor.top - height - 4) : below;
    menu.style.left = `${Math.max(8, Math.min(left, window.innerWidth - width - 8))}px`;
    menu.style.top = `${top}px`;
    choices().find((c) => !c.disabled)?.focus();
  }, [open]);

  useEffect(() => {
    if (!open) {
      return undefined;
    }
    const outside = (e: Event) => {
      if (!box.current?.contains(e.target as Node)) {
        setOpen(false);
      }
    };
    const scrolled = () => setOpen(false);
    document.addEventListener("pointerdown", outside);
    window.addEventListener("resize", scrolled);
    document.addEventListener("scroll", scrolled, true);
    return () => {
      document.removeEventListener("pointerdown", outside);
      window.removeEventListener("resize", scrolled);
      document.removeEventListener("scroll", scrolled, true);
    };
  }, [open]);

  const key = (e: KeyboardEvent) => {
    const all = choices().filter((c) => !c.disabled);
    const at = all.indexOf(document.activeElement as HTMLButtonElement);
    let to: number | null = null;
    if (e.key === "ArrowDown") to = (at + 1) % all.length;
    else if (e.key === "ArrowUp") to = (at - 1 + all.length) % all.length;
    else if (e.key === "Home") to = 0;
    else if (e.key === "End") to = all.length - 1;
    else if (e.key === "Escape" || e.key === "Tab") {
      close(e.key === "Escape");
      if (e.key === "Escape") e.stopPropagation();
      return;
    } else if (e.key.length === 1 && /\S/.test(e.key)) {
      const wanted = e.key.toLowerCase();
      const found = all.findIndex((c, i) => i > at && (c.textContent ?? "").toLowerCase().startsWith(wanted));
      to = found >= 0 ? found : all.findIndex((c) => (c.textContent ?? "").toLowerCase().startsWith(wanted));
    }
    if (to !== null && to >= 0) {
      e.preventDefault();
      all[to]?.focus();
    }
  };

  return (
    <span class="menu" ref={box}>
      <Button class="menu-button" kind={text ? "plain" : "quiet"} icon={icon} iconOnly={!text} label={text ?? label}
        aria-label={label} aria-haspopup="menu" aria-expanded={open} onClick={() => setOpen(!open)}
        onKeyDown={(e) => { if (e.key === "ArrowDown" && !open) { e.preventDefault(); setOpen(true); } }} />
      {open && (
        <div class="menu-list" role="menu" aria-label={label} ref={list} onKeyDown={key}>
          {items.map((item, i) => item === "line"
            ? <hr key={`line${i}`} />
            : (
              <button key={item.id} type="button" tabIndex={-1} disabled={item.disabled} title={item.title}
                role={item.checked === undefined ? "menuitem" : "menuitemradio"} aria-checked={item.checked}
                class={item.danger ? "danger" : ""} onClick={() => { close(true); item.run(); }}>
                {item.icon ? <Icon name={item.icon} /> : <span class="icon" />}
                <span>{item.label}</span>
                {item.checked && <Icon name="check" />}
              </button>
            ))}
        </div>
      )}
    </span>
  );
}
