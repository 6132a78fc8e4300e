// What is done to networks: made, private or as a VLAN of a NIC on every host, renamed, removed.
import { NULL_REF, type Network, type PIF } from "../api/types.js";
import { client } from "./session.js";
import { runJob } from "./jobs.js";
import { store, type Store } from "./store.js";

export interface NewNetwork {
  name: string;
  description: string;
  mtu: number;
  /** The NIC of the coordinator that carries it, the same on each host; null: no NIC. */
  vlan: { pif: string; tag: number } | null;
}

/** The NICs of the coordinator that can carry VLANs. */
export function vlanCarriers(data: Store): [ref: string, pif: PIF][] {
  const master = data.all("pool")[0]?.[1].master;
  return data.all("pif").filter(([, pif]) => pif.host === master && pif.VLAN < 0).sort(([, a], [, b]) => a.device.localeCompare(b.device));
}

export function createNetwork(order: NewNetwork): Promise<boolean> {
  return runJob("New network", order.name, async (steps) => {
    const network = await client().call("network.create", {
      name_label: order.name, name_description: order.description, MTU: order.mtu, other_config: {}, bridge: "", managed: true, tags: [],
    });
    if (order.vlan) {
      try {
        steps.say("Making the VLAN on each host");
        await steps.run("pool.create_VLAN_from_PIF", order.vlan.pif, network, order.vlan.tag);
      } catch (error) {
        steps.hint("The network without its VLAN could not be removed.");
        await client().call("network.destroy", network);
        steps.hint("");
        throw error;
      }
    }
  });
}

export function renameNetwork(ref: string, network: Network, name: string, description: string): Promise<boolean> {
  return runJob("Rename", network.name_label, async () => {
    if (name !== network.name_label) {
      await client().call("network.set_name_label", ref, name);
    }
    if (description !== network.name_description) {
      await client().call("network.set_name_description", ref, description);
    }
  });
}

/** Why the network cannot be removed, in words; null: it can. */
export function keptBy(data: Store, network: Network): string | null {
  if (network.VIFs.length > 0) {
    return "VMs are on it.";
  }
  return network.PIFs.some((ref) => (data.get("pif", ref)?.VLAN ?? -1) < 0) ? "It is the network of a host’s NIC." : null;
}

/** Its VLANs go first. */
export function removeNetwork(ref: string, network: Network): Promise<boolean> {
  return runJob("Remove network", network.name_label, async (steps) => {
    for (const pifRef of network.PIFs) {
      const pif = store.get("pif", pifRef);
      if (pif && pif.VLAN_master_of !== NULL_REF) {
        steps.say(`Removing VLAN ${pif.VLAN} of ${store.get("host", pif.host)?.name_label ?? "a host"}`);
        steps.hint("Some hosts no longer have its VLAN.");
        await steps.run("VLAN.destroy", pif.VLAN_master_of);
      }
    }
    await steps.run("network.destroy", ref);
    steps.hint("");
  });
}
