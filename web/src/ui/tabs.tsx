// Tabs: one list, arrows move between them, the chosen one is part of the address.
import { useLayoutEffect, useRef } from "preact/hooks";
import { Icon, type IconName } from "./icons.js";

export interface Tab {
  id: string;
  label: string;
  icon?: IconName;
  count?: number;
}

export function Tabs({ tabs, chosen, choose, label }: {
  tabs: readonly Tab[]; chosen: string; choose: (id: string) => void; label: string;
}) {
  const list = useRef<HTMLDivElement>(null);
  // On a narrow screen the row scrolls.
  useLayoutEffect(() => {
    list.current?.querySelector(`[data-tab="${chosen}"]`)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [chosen]);
  const key = (e: KeyboardEvent) => {
    const at = tabs.findIndex((t) => t.id === chosen);
    const to = e.key === "ArrowRight" ? at + 1 : e.key === "ArrowLeft" ? at - 1
      : e.key === "Home" ? 0 : e.key === "End" ? tabs.length - 1 : null;
    const tab = to === null ? undefined : tabs[(to + tabs.length) % tabs.length];
    if (tab) {
      e.preventDefault();
      choose(tab.id);
      list.current?.querySelector<HTMLElement>(`[data-tab="${tab.id}"]`)?.focus();
    }
  };
  return (
    <div class="tabs" role="tablist" aria-label={label} ref={list} onKeyDown={key}>
      {tabs.map((tab) => (
        <button key={tab.id} type="button" role="tab" id={`tab-${tab.id}`} data-tab={tab.id}
          aria-selected={tab.id === chosen} aria-controls="tab-panel" tabIndex={tab.id === chosen ? 0 : -1}
          onClick={() => choose(tab.id)}>
          {tab.icon && <Icon name={tab.icon} />}
          <span>{tab.label}</span>
          {tab.count !== undefined && <span class="count">{tab.count}</span>}
        </button>
      ))}
    </div>
  );
}
