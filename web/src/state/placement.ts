// Which hosts can take VMs, and why others cannot: the server is asked for each pair.
import { useEffect, useState } from "preact/hooks";
import { isSessionError } from "../api/errors.js";
import { client } from "./session.js";
import { store } from "./store.js";

export interface HostChoice {
  ref: string;
  name: string;
  /** Null when the host cannot tell. */
  memoryFree: number | null;
  /** VMs that it can take, and for the others what the server says. */
  takes: string[];
  refuses: { vm: string; error: unknown }[];
  /** VMs that are there. */
  has: string[];
}

async function askHost(ref: string, vms: readonly string[]): Promise<HostChoice> {
  const choice: HostChoice = { ref, name: store.get("host", ref)?.name_label ?? "", memoryFree: null, takes: [], refuses: [], has: [] };
  const askMemory = async () => {
    try {
      choice.memoryFree = Number(await client().call("host.compute_free_memory", ref));
    } catch (error) {
      if (isSessionError(error)) {
        throw error;
      }
    }
  };
  await Promise.all([askMemory(), ...vms.map(async (vm) => {
    if (store.get("vm", vm)?.resident_on === ref) {
      choice.has.push(vm);
      return;
    }
    try {
      await client().call("VM.assert_can_boot_here", vm, ref);
      choice.takes.push(vm);
    } catch (error) {
      if (isSessionError(error)) {
        throw error;
      }
      choice.refuses.push({ vm, error });
    }
  })]);
  return choice;
}

/** The pool's hosts for these VMs, those that take most first; null until the server has answered. */
export function useHostChoices(vms: readonly string[]): readonly HostChoice[] | null {
  const [choices, setChoices] = useState<readonly HostChoice[] | null>(null);
  useEffect(() => {
    let wanted = true;
    Promise.all(store.all("host").map(([ref]) => askHost(ref, vms))).then((found) => {
      if (wanted) {
        setChoices(found.sort((a, b) => b.takes.length - a.takes.length || (b.memoryFree ?? 0) - (a.memoryFree ?? 0) || a.name.localeCompare(b.name)));
      }
    }, () => undefined); // the user left with the session
    return () => { wanted = false; };
  }, []);
  return choices;
}
