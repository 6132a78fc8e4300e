// The measurements of the fake pool: smooth made-up curves with a gap now and then, in the forms of /rrd_updates
// (rows, newest first, numbers as text) and /vm_rrd (archives, oldest first).
const ROWS = { 5: 120, 60: 120, 3600: 168, 86400: 366 };
const KIB = 1024;
const MIB = 1024 * KIB;

/** Between 0 and 1, the same for the same name and time. */
function wave(name, t) {
  const phase = [...name].reduce((sum, ch) => (sum * 31 + ch.charCodeAt(0)) % 997, 7);
  return 0.5 + 0.28 * Math.sin(t / 97 + phase) + 0.14 * Math.sin(t / 23 + 2 * phase) + 0.07 * Math.sin(t / 7 + 3 * phase);
}

function sourcesOf(model, cls, ref) {
  const record = model.get(cls, ref);
  if (cls === "VM") {
    const running = record.memory_dynamic_max;
    return [
      ...Array.from({ length: record.VCPUs_at_startup }, (_, i) => [`cpu${i}`, 0.8]),
      ["cpu_usage", 0.6], ["memory", running, true], ["memory_target", running, true], ["memory_internal_free", running / KIB / 2],
      ...record.VIFs.flatMap((_, i) => [[`vif_${i}_rx`, 9 * MIB], [`vif_${i}_tx`, 3 * MIB]]),
      ...record.VBDs.flatMap((vbd) => { const { device } = model.get("VBD", vbd); return device ? [[`vbd_${device}_read`, 40 * MIB], [`vbd_${device}_write`, 12 * MIB]] : []; }),
    ];
  }
  const { memory_total } = model.get("host_metrics", record.metrics);
  return [
    ...Array.from({ length: Number(record.cpu_info.cpu_count) }, (_, i) => [`cpu${i}`, 0.9]),
    ["cpu_avg", 0.5], ["memory_total_kib", memory_total / KIB, true], ["memory_free_kib", memory_total / KIB / 2],
    ["pif_eth0_rx", 80 * MIB], ["pif_eth0_tx", 25 * MIB], ["pif_aggr_rx", 80 * MIB],
  ];
}

/** One value; a few rows, always the same number of them before the last, are unknown. */
function value(prefix, [name, most, steady], t, step, end) {
  const back = (end - t) / step;
  return back >= 70 && back < 74 ? "NaN" : (steady ? most : most * wave(prefix + name, t / step * 5)).toPrecision(6);
}

export function rrdUpdates(model, query, now) {
  const wanted = query.getAll("vm_uuid");
  const columns = [...model.rows.values()].flatMap(({ cls, ref, record }) => {
    const isIn = cls === "VM" ? ["Running", "Paused"].includes(record.power_state) && (wanted.length === 0 || wanted.includes(record.uuid))
      : cls === "host" && query.get("host") === "true";
    const prefix = `${cls.toLowerCase()}:${record.uuid}:`;
    return isIn ? sourcesOf(model, cls, ref).map((source) => ({ prefix, source })) : [];
  });
  const interval = Number(query.get("interval") ?? 5);
  const asked = Number(query.get("start"));
  const start = asked < 0 ? now + asked : asked;
  const step = Number(Object.keys(ROWS).find((s) => s >= interval && now - start <= s * ROWS[s]) ?? 86400);
  const end = Math.floor(now / step) * step;
  const count = columns.length === 0 ? 0 : Math.min(ROWS[step], Math.max(0, Math.floor((end - start) / step) + 1));
  return {
    meta: {
      start: String(Math.floor(start / step) * step + step), step: String(step), end: String(end), rows: String(count),
      columns: String(columns.length), legend: columns.map(({ prefix, source }) => `AVERAGE:${prefix}${source[0]}`),
    },
    data: Array.from({ length: count }, (_, i) => {
      const t = end - i * step;
      return { t: String(t), values: columns.map(({ prefix, source }) => value(prefix, source, t, step, end)) };
    }),
  };
}

/** All archives of a VM; null when nothing was ever measured of it. */
export function vmRrd(model, uuid, now) {
  const [ref] = model.find("VM", (vm) => vm.uuid === uuid);
  if (!ref || !model.get("VM", ref).other_config.measured) {
    return null;
  }
  const sources = sourcesOf(model, "VM", ref);
  return {
    version: "0003", step: "5", lastupdate: String(now), ds: sources.map(([name]) => ({ name })),
    rra: Object.entries(ROWS).map(([step, rows]) => {
      const end = Math.floor(now / step) * step;
      return {
        cf: "AVERAGE", pdp_per_row: String(step / 5),
        database: Array.from({ length: rows }, (_, i) => sources.map((source) => value(uuid, source, end - (rows - 1 - i) * step, Number(step), end))),
      };
    }),
  };
}
