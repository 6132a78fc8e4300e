// The icons, drawn for 20 x 20 with strokes in the text's colour.
import type { ComponentChildren } from "preact";

const paths = {
  alert: <path d="M10 3.2 18 17H2zM10 8.2v4M10 14.6v.2" />,
  arrowLeft: <path d="M16 10H4M9 5l-5 5 5 5" />,
  bolt: <path d="M11 2.5 4.5 11.5H10L9 17.5l6.5-9H10z" />,
  camera: <><path d="M2.5 6.5h3.2L7.2 4h5.6l1.5 2.5h3.2v10h-15z" /><circle cx="10" cy="11" r="3" /></>,
  cancel: <><circle cx="10" cy="10" r="7" /><path d="m5.2 5.2 9.6 9.6" /></>,
  cd: <><circle cx="10" cy="10" r="7" /><circle cx="10" cy="10" r="2" /></>,
  chart: <path d="M3 3.5v13h14M6 13l3.2-4.5 3 2.5L16.5 5" />,
  check: <path d="m4 10.5 4 4 8-9" />,
  chevronDown: <path d="m5 7.5 5 5 5-5" />,
  chevronRight: <path d="m7.5 5 5 5-5 5" />,
  close: <path d="m5 5 10 10M15 5 5 15" />,
  copy: <><rect x="7" y="7" width="9.5" height="9.5" rx="1.5" /><path d="M13 7V5a1.5 1.5 0 0 0-1.5-1.5H5A1.5 1.5 0 0 0 3.5 5v6.5A1.5 1.5 0 0 0 5 13h2" /></>,
  disk: <><ellipse cx="10" cy="5" rx="6.5" ry="2.5" /><path d="M3.5 5v10c0 1.4 2.9 2.5 6.5 2.5s6.5-1.1 6.5-2.5V5M3.5 10c0 1.4 2.9 2.5 6.5 2.5s6.5-1.1 6.5-2.5" /></>,
  download: <path d="M10 3v9.5M5.5 8.5 10 13l4.5-4.5M3.5 16.5h13" />,
  edit: <path d="M12.5 4.5 15.5 7.5 7 16H4v-3zM11 6l3 3" />,
  eject: <path d="M10 4 16 11.5H4zM4.5 15h11" />,
  expand: <path d="M12 3.5h4.5V8M8 16.5H3.5V12M16.5 3.5 11.5 8.5M3.5 16.5l5-5" />,
  fit: <><rect x="2.5" y="4" width="15" height="12" rx="1.5" /><path d="M6 9V7h2.5M14 11v2h-2.5" /></>,
  host: <><rect x="3" y="3.5" width="14" height="5.5" rx="1.5" /><rect x="3" y="11" width="14" height="5.5" rx="1.5" /><path d="M6 6.2h.1M6 13.8h.1M9 6.2h5M9 13.8h5" /></>,
  info: <><circle cx="10" cy="10" r="7" /><path d="M10 9.5v4M10 6.5v.2" /></>,
  keyboard: <><rect x="2" y="5" width="16" height="10.5" rx="1.5" /><path d="M5 8.2h.1M8.3 8.2h.1M11.6 8.2h.1M15 8.2h.1M6 12.3h8" /></>,
  logout: <path d="M8 3.5H4.5A1 1 0 0 0 3.5 4.5v11a1 1 0 0 0 1 1H8M12.5 6.5 16 10l-3.5 3.5M16 10H8" />,
  monitor: <><rect x="2.5" y="3.5" width="15" height="10" rx="1.5" /><path d="M7 17h6M10 13.5V17" /></>,
  moon: <path d="M16.5 12A7 7 0 0 1 8 3.5a7 7 0 1 0 8.5 8.5z" />,
  more: <path d="M4.5 10h.1M10 10h.1M15.5 10h.1" stroke-width="2.6" />,
  move: <path d="M3 10h11M10 5.5l4.5 4.5-4.5 4.5M17 4v12" />,
  network: <><rect x="7.5" y="2.5" width="5" height="4.5" rx="1" /><rect x="2.5" y="13" width="5" height="4.5" rx="1" /><rect x="12.5" y="13" width="5" height="4.5" rx="1" /><path d="M10 7v3M5 13v-1.5A1.5 1.5 0 0 1 6.5 10h7A1.5 1.5 0 0 1 15 11.5V13" /></>,
  paste: <><rect x="4" y="4" width="12" height="13" rx="1.5" /><path d="M7.5 5.5v-2h5v2zM7 9.5h6M7 12.5h4" /></>,
  pause: <path d="M7 4.5v11M13 4.5v11" stroke-width="2.2" />,
  play: <path d="M6 4v12l10-6z" />,
  playPause: <path d="M3.5 4.5v11L10.5 10zM13 5v10M16.5 5v10" />,
  plus: <path d="M10 4v12M4 10h12" />,
  power: <path d="M10 3v6.5M6 5.3a6.3 6.3 0 1 0 8 0" />,
  refresh: <path d="M16.5 4v4h-4M3.5 16v-4h4M4.3 8a6 6 0 0 1 10-2.2L16.5 8M3.5 12l2.2 2.2a6 6 0 0 0 10-2.2" />,
  restart: <path d="M15.8 12.2A6.3 6.3 0 1 1 15 6.3L16.5 8M16.5 4v4h-4" />,
  search: <><circle cx="8.8" cy="8.8" r="5.3" /><path d="m12.8 12.8 4 4" /></>,
  star: <path d="m10 3 2.1 4.5 4.9.6-3.6 3.4.9 4.9L10 14l-4.3 2.4.9-4.9L3 8.1l4.9-.6z" />,
  sun: <><circle cx="10" cy="10" r="3.3" /><path d="M10 2v1.8M10 16.2V18M2 10h1.8M16.2 10H18M4.3 4.3l1.3 1.3M14.4 14.4l1.3 1.3M4.3 15.7l1.3-1.3M14.4 5.6l1.3-1.3" /></>,
  tasks: <path d="M3.5 5.5 5 7l2.5-3M3.5 12.5 5 14l2.5-3M10.5 6h6M10.5 13h6" />,
  terminal: <><rect x="2.5" y="3.5" width="15" height="13" rx="1.5" /><path d="m5.5 7.5 2.5 2.5-2.5 2.5M10 13h4" /></>,
  trash: <path d="M3.5 5.5h13M8 5.5v-2h4v2M5.5 5.5l.7 11h7.6l.7-11M8.5 8.5v5M11.5 8.5v5" />,
  user: <><circle cx="10" cy="6.8" r="3.3" /><path d="M3.5 17a6.5 6.5 0 0 1 13 0" /></>,
  template: <><rect x="2.5" y="6" width="11" height="11" rx="1.5" stroke-dasharray="2.4 1.8" /><path d="M6.5 3h9.5a1.5 1.5 0 0 1 1.5 1.5V13" /></>,
  vm: <><rect x="2.5" y="3" width="15" height="14" rx="2" /><path d="M2.5 7h15M5 5h.1M7.5 5h.1" /><path d="m7 10 2 2-2 2M11 14h2.5" /></>,
} satisfies Record<string, ComponentChildren>;

export type IconName = keyof typeof paths;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 20 20" fill="none" stroke="currentColor"
      stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">
      {paths[name]}
    </svg>
  );
}

/** The sign of the product: a fence. */
export function Logo({ size = 28 }: { size?: number }) {
  return (
    <svg class="logo" width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="7" class="logo-ground" />
      <g fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round">
        <path d="M8.5 8v16M16 8v16M23.5 8v16M5 13h22M5 19.5h22" />
      </g>
    </svg>
  );
}
