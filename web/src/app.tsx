// The frame around all pages: navigation, the state of the connection, tasks, theme, log-out.
import { useEffect, useRef } from "preact/hooks";
import { useCell } from "./state/cell.js";
import { link, retryNow } from "./state/live.js";
import { href, route, type Route } from "./state/router.js";
import { interrupted, leave, logOut, session } from "./state/session.js";
import { useStore } from "./state/store.js";
import { chooseTheme, effective, theme } from "./state/theme.js";
import { isTemplate } from "./state/templates.js";
import { isOrdinaryVm } from "./state/vms.js";
import { HostPage, HostsPage } from "./pages/hosts.js";
import { LoginOver, LoginPage } from "./pages/login.js";
import { NetworksPage } from "./pages/networks.js";
import { SrPage, StoragePage } from "./pages/storage.js";
import { openFind, useFindKeys } from "./pages/find.js";
import { Drawer, drawerOpen, isRunning } from "./pages/tasks.js";
import { TemplatesPage } from "./pages/templates.js";
import { VmPage } from "./pages/vm.js";
import { VmsPage } from "./pages/vms.js";
import { Button, Empty, useNow } from "./ui/basics.js";
import { DialogHost } from "./ui/dialog.js";
import { Icon, Logo, type IconName } from "./ui/icons.js";
import { Menu } from "./ui/menu.js";
import { Notices } from "./ui/notices.js";

const NAV: readonly { page: string; also: string; label: string; short?: string; icon: IconName }[] = [
  { page: "vms", also: "vm", label: "Virtual machines", short: "VMs", icon: "vm" },
  { page: "templates", also: "templates", label: "Templates", icon: "template" },
  { page: "hosts", also: "host", label: "Hosts", icon: "host" },
  { page: "storage", also: "storage", label: "Storage", icon: "disk" },
  { page: "networks", also: "networks", label: "Networks", icon: "network" },
];

function Page({ at }: { at: Route }) {
  const [first = "", second = ""] = at.rest;
  switch (at.page) {
    case "vms": return <VmsPage />;
    case "vm": return <VmPage key={first} uuid={first} tab={second} />;
    case "templates": return <TemplatesPage marked={first} />;
    case "hosts": return <HostsPage />;
    case "host": return <HostPage key={first} uuid={first} tab={second} />;
    case "storage": return first === "" ? <StoragePage /> : <SrPage key={first} uuid={first} marked={second} />;
    case "networks": return <NetworksPage marked={first} />;
    default:
      return (
        <div class="page">
          <Empty icon="search" title="There is no such page"><a class="button plain" href={href("vms")}>Virtual machines</a></Empty>
        </div>
      );
  }
}

function ConnectionBanner() {
  const state = useCell(link);
  const now = useNow(1000);
  if (state.state !== "retrying") {
    return null;
  }
  const left = Math.max(0, Math.ceil((state.at - now) / 1000));
  return (
    <div class="banner" role="alert">
      <Icon name="alert" />
      <span><b>Connection lost, retrying{left > 0 ? ` in ${left} s` : ""}…</b> <span class="banner-more">{state.sentence} What you see may be old.</span></span>
      <Button label="Retry now" onClick={retryNow} />
    </div>
  );
}

function TaskButton() {
  const data = useStore();
  const open = useCell(drawerOpen);
  const running = data.all("task").filter(([, t]) => isRunning(t)).length;
  return (
    <button type="button" class="button quiet task-button" aria-expanded={open} onClick={() => drawerOpen.set(!open)}
      aria-label={running > 0 ? `Tasks, ${running} running` : "Tasks"} title="Tasks and messages">
      {running > 0 ? <span class="spinner" /> : <Icon name="tasks" size={18} />}
      <span class="wide-only">Tasks</span>
      {running > 0 && <span class="count">{running}</span>}
    </button>
  );
}

function ThemeMenu() {
  const chosen = useCell(theme);
  return (
    <Menu label="Light or dark" icon={effective(chosen) === "dark" ? "moon" : "sun"} items={[
      { id: "auto", label: "As the system", icon: "monitor", checked: chosen === "auto", run: () => chooseTheme("auto") },
      { id: "light", label: "Light", icon: "sun", checked: chosen === "light", run: () => chooseTheme("light") },
      { id: "dark", label: "Dark", icon: "moon", checked: chosen === "dark", run: () => chooseTheme("dark") },
    ]} />
  );
}

function Shell({ user }: { user: string }) {
  const data = useStore();
  const at = useCell(route);
  const main = useRef<HTMLElement>(null);
  const place = [at.page, at.rest[0]].join("/");
  const pool = data.all("pool")[0]?.[1];
  const counts: Record<string, number> = {
    vms: data.all("vm").filter(([, vm]) => isOrdinaryVm(vm)).length,
    templates: data.all("vm").filter(([, vm]) => isTemplate(vm)).length,
    hosts: data.tables.host.size, storage: data.tables.sr.size, networks: data.tables.network.size,
  };
  const subject = at.page === "vm" ? data.byUuid("vm", at.rest[0] ?? "")?.[1].name_label
    : at.page === "host" ? data.byUuid("host", at.rest[0] ?? "")?.[1].name_label
      : at.page === "storage" ? data.byUuid("sr", at.rest[0] ?? "")?.[1].name_label : undefined;
  const nav = NAV.find((n) => n.page === at.page || n.also === at.page);
  const title = subject ?? nav?.label ?? "";

  useFindKeys();
  useEffect(() => {
    document.title = title === "" ? "Corral" : `${title} – Corral`;
  }, [title]);
  const opened = useRef(false);
  useEffect(() => {
    if (opened.current) {
      main.current?.querySelector<HTMLElement>("h1")?.focus({ preventScroll: true });
      main.current?.scrollTo(0, 0);
    }
    opened.current = true;
  }, [place]);

  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); main.current?.querySelector<HTMLElement>("h1")?.focus(); }}>To the content</a>
      <nav class="side" aria-label="Main">
        <a class="brand" href={href("vms")} aria-label="Corral"><Logo /><span>Corral</span></a>
        {NAV.map((n) => (
          <a key={n.page} href={href(n.page)} class="nav" aria-current={n === nav ? "page" : undefined}>
            <Icon name={n.icon} size={18} /><span class={n.short ? "nav-label long" : "nav-label"}>{n.label}</span>
            {n.short && <span class="nav-label short" aria-hidden="true">{n.short}</span>}
            <span class="count">{counts[n.page]}</span>
          </a>
        ))}
      </nav>
      <header class="top">
        <span class="top-brand"><Logo size={24} /></span>
        <span class="pool-name ellipsis">{pool?.name_label || "Pool"}</span>
        <span class="top-tools">
          <button type="button" class="button quiet find-button" onClick={openFind} title="Find (press /)" aria-label="Find" aria-keyshortcuts="/ Control+K">
            <Icon name="search" size={18} /><span class="wide-only">Find</span><kbd class="wide-only">/</kbd>
          </button>
          <TaskButton />
          <ThemeMenu />
          <Menu label={`User ${user}`} icon="user" items={[
            { id: "who", label: `Logged in as ${user}`, icon: "user", disabled: true, run: () => undefined }, "line",
            { id: "out", label: "Log out", icon: "logout", run: () => void logOut() },
          ]} />
        </span>
      </header>
      <main class="main" id="main" ref={main}>
        <ConnectionBanner />
        <Page at={at} />
      </main>
      <Drawer />
      <Notices />
      <DialogHost />
      <LoginOver user={user} />
    </div>
  );
}

export function App() {
  const signedIn = useCell(session);
  const waits = useCell(interrupted);
  const data = useStore();
  // A session that was over before the page had anything to show leaves nothing to go back to.
  const nothingYet = waits !== null && !data.loaded.value;
  useEffect(() => {
    if (nothingYet) {
      leave();
    }
  }, [nothingYet]);
  return signedIn && !nothingYet ? <Shell key={signedIn.user} user={signedIn.user} /> : <LoginPage />;
}
