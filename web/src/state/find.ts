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
  /** And its numbers: uuids, MAC addresses. */
  ids: (string | undefined)[];
}

/**
 * True when a word in small letters is in one of the texts, or names one of the numbers: by how it begins, or by a good
 * part of it. Any few letters are somewhere in the uuids of a large pool.
 */
export function says(word: string, texts: readonly (string | undefined)[], ids: readonly (string | undefined)[]): boolean {
  return texts.some((text) => text?.toLowerCase().includes(word))
    || (word.length >= 4 && ids.some((id) => id?.toLowerCase().startsWith(word)))
    || (word.length >= 8 && ids.some((id) => id?.toLowerCase().includes(word)));
}

function* vms(data: Store): Generator<Candidate> {
  for (const [ref, vm] of data.all("vm")) {
    if (vm.is_control_domain) {
      continue;
    }
    const also = [vm.name_description, ...vm.tags, ...addressesOf(data.get("vm_guest_metrics", vm.guest_metrics)?.networks)];
    const ids = [vm.uuid, ...vm.VIFs.map((vif) => data.get("vif", vif)?.MAC)];
    if (vm.is_a_snapshot) {
      const of = data.get("vm", vm.snapshot_of);
      yield { key: ref, kind: "Snapshot", icon: "camera", name: vm.name_label, where: of ? `of ${of.name_label}` : "of a VM that is gone", href: of ? href("vm", of.uuid, "snapshots") : href("vms"), also: [vm.name_description], ids: [vm.uuid] };
    } else if (isTemplate(vm)) {
      yield { key: ref, kind: "Template", icon: "template", name: vm.name_label, where: "", href: href("templates", vm.uuid), also, ids };
    } else {
      yield { key: ref, kind: "VM", icon: "vm", name: vm.name_label, where: vm.power_state.toLowerCase(), href: href("vm", vm.uuid), also, ids };
    }
  }
}

function* storage(data: Store): Generator<Candidate> {
  for (const [ref, sr] of data.all("sr")) {
    yield { key: ref, kind: "Storage", icon: "disk", name: sr.name_label, where: sr.type, href: href("storage", sr.uuid), also: [sr.name_description], ids: [sr.uuid] };
  }
  for (const [ref, vdi] of data.all("vdi")) {
    const sr = data.get("sr", vdi.SR);
    const disc = sr?.content_type === "iso";
    const user = data.get("vm", data.get("vbd", vdi.VBDs[0])?.VM);
    yield {
      key: ref, kind: disc ? "Disc image" : vdi.is_a_snapshot ? "Disk snapshot" : "Disk", icon: disc ? "cd" : "disk", name: vdi.name_label,
      where: `in ${sr?.name_label ?? "unknown storage"}${user && !disc ? `, of ${user.name_label}` : ""}`,
      href: sr ? href("storage", sr.uuid, vdi.uuid) : href("storage"), also: [vdi.name_description, vdi.location === vdi.uuid ? undefined : vdi.location], ids: [vdi.uuid],
    };
  }
}

function* rest(data: Store): Generator<Candidate> {
  for (const [ref, host] of data.all("host")) {
    const pifs = host.PIFs.map((p) => data.get("pif", p));
    yield { key: ref, kind: "Host", icon: "host", name: host.name_label, where: host.address, href: href("host", host.uuid), also: [host.name_description, host.hostname, host.address, ...host.tags, ...pifs.map((p) => p?.IP)], ids: [host.uuid, ...pifs.map((p) => p?.MAC)] };
  }
  for (const [ref, network] of data.all("network")) {
    yield { key: ref, kind: "Network", icon: "network", name: network.name_label, where: network.bridge, href: href("networks", network.uuid), also: [network.name_description, network.bridge], ids: [network.uuid] };
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
    for (const { also, ids, ...hit } of candidates) {
      const texts = [hit.name, hit.kind, hit.where, ...also];
      if (words.every((word) => says(word, texts, ids))) {
        found.push({ hit, distance: distance(hit.name, typed) });
      }
    }
  }
  return found.sort((a, b) => a.distance - b.distance || collator.compare(a.hit.name, b.hit.name)).map(({ hit }) => hit);
}
