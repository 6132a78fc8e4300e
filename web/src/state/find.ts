// Finding anything of the pool by words: its name, uuid, addresses, what it says of itself.
import { collator } from "../ui/format.js";
import type { IconName } from "../ui/icons.js";
import { href } from "./router.js";
import type { Store } from "./store.js";
import { isTemplate } from "./templates.js";
import { addressesOf } from "./vms.js";

export interface Hit {
  key: string;
  kind: string;
  icon: IconName;
  name: string;
  /** Where it is, or what it is part of. */
  where: string;
  href: string;
}

interface Candidate extends Hit {
  /** What else it is found by. */
  also: (string | undefined)[];
}

function* vms(data: Store): Generator<Candidate> {
  for (const [ref, vm] of data.all("vm")) {
    if (vm.is_control_domain) {
      continue;
    }
    const also = [vm.uuid, vm.name_description, ...vm.tags, ...addressesOf(data.get("vm_guest_metrics", vm.guest_metrics)?.networks),
      ...vm.VIFs.map((vif) => data.get("vif", vif)?.MAC)];
    if (vm.is_a_snapshot) {
      const of = data.get("vm", vm.snapshot_of);
      yield { key: ref, kind: "Snapshot", icon: "camera", name: vm.name_label, where: of ? `of ${of.name_label}` : "of a VM that is gone", href: of ? href("vm", of.uuid, "snapshots") : href("vms"), also: [vm.uuid, vm.name_description] };
    } else if (isTemplate(vm)) {
      yield { key: ref, kind: "Template", icon: "template", name: vm.name_label, where: "", href: href("templates", vm.uuid), also };
    } else {
      yield { key: ref, kind: "VM", icon: "vm", name: vm.name_label, where: vm.power_state.toLowerCase(), href: href("vm", vm.uuid), also };
    }
  }
}

function* storage(data: Store): Generator<Candidate> {
  for (const [ref, sr] of data.all("sr")) {
    yield { key: ref, kind: "Storage", icon: "disk", name: sr.name_label, where: sr.type, href: href("storage", sr.uuid), also: [sr.uuid, sr.name_description] };
  }
  for (const [ref, vdi] of data.all("vdi")) {
    const sr = data.get("sr", vdi.SR);
    const disc = sr?.content_type === "iso";
    const user = data.get("vm", data.get("vbd", vdi.VBDs[0])?.VM);
    yield {
      key: ref, kind: disc ? "Disc image" : vdi.is_a_snapshot ? "Disk snapshot" : "Disk", icon: disc ? "cd" : "disk", name: vdi.name_label,
      where: `in ${sr?.name_label ?? "unknown storage"}${user && !disc ? `, of ${user.name_label}` : ""}`,
      href: sr ? href("storage", sr.uuid, vdi.uuid) : href("storage"), also: [vdi.uuid, vdi.name_description, vdi.location],
    };
  }
}

function* rest(data: Store): Generator<Candidate> {
  for (const [ref, host] of data.all("host")) {
    const pifs = host.PIFs.flatMap((p) => [data.get("pif", p)?.MAC, data.get("pif", p)?.IP]);
    yield { key: ref, kind: "Host", icon: "host", name: host.name_label, where: host.address, href: href("host", host.uuid), also: [host.uuid, host.name_description, host.hostname, host.address, ...host.tags, ...pifs] };
  }
  for (const [ref, network] of data.all("network")) {
    yield { key: ref, kind: "Network", icon: "network", name: network.name_label, where: network.bridge, href: href("networks", network.uuid), also: [network.uuid, network.name_description, network.bridge] };
  }
}

/** How near the name is: as it was typed, begun so, a word begun so, anywhere; found by something else. */
function distance(name: string, typed: string): number {
  const text = name.toLowerCase();
  return text === typed ? 0 : text.startsWith(typed) ? 1 : text.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(typed)) ? 2
    : text.includes(typed) ? 3 : 4;
}

/** What has each of the words somewhere, the nearest first. A kind is a word, too: "disk web1". */
export function find(data: Store, text: string): Hit[] {
  const typed = text.trim().toLowerCase();
  const words = typed.split(/\s+/).filter((word) => word !== "");
  if (words.length === 0) {
    return [];
  }
  const found: { hit: Hit; distance: number }[] = [];
  for (const candidates of [vms(data), rest(data), storage(data)]) {
    for (const { also, ...hit } of candidates) {
      const all = [hit.name, hit.kind, hit.where, ...also].join("\n").toLowerCase();
      if (words.every((word) => all.includes(word))) {
        found.push({ hit, distance: distance(hit.name, typed) });
      }
    }
  }
  return found.sort((a, b) => a.distance - b.distance || collator.compare(a.hit.name, b.hit.name)).map(({ hit }) => hit);
}
