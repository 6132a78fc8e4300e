// A VM, template or snapshot as a file on the user's machine (XVA). The session may not stand in an address, so the
// page fetches the bytes itself and writes them as they come, where the browser has a file picker; elsewhere the
// browser keeps them until all are there.
import { ApiError, isSessionError } from "../api/errors.js";
import type { Task } from "../api/types.js";
import { runJob } from "./jobs.js";
import { client } from "./session.js";
import type { VmView } from "./vms.js";

interface FileHandle {
  createWritable: () => Promise<WritableStream<Uint8Array>>;
}
type Picker = (options: { suggestedName: string }) => Promise<FileHandle>;

function fileName(name: string): string {
  return `${name.replace(/[^\p{L}\p{N}._ -]+/gu, "_").replace(/^[. ]+/, "").slice(0, 100) || "vm"}.xva`;
}

/** Where the file goes; null: into the browser's own folder. Undefined: the user thought better of it. */
async function target(name: string): Promise<FileHandle | null | undefined> {
  const pick = (window as unknown as { showSaveFilePicker?: Picker }).showSaveFilePicker;
  try {
    return pick ? await pick.call(window, { suggestedName: name }) : null;
  } catch (e) {
    if (e instanceof DOMException && e.name === "AbortError") {
      return undefined;
    }
    return null;
  }
}

function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** What the server says of an export whose bytes stopped coming, or null. */
async function saidOf(task: string): Promise<Task | null> {
  try {
    const record = await client().call("task.get_record", task);
    return record.status === "failure" || record.status === "cancelled" ? record : null;
  } catch (e) {
    if (isSessionError(e)) {
      throw e;
    }
    return null;
  }
}

export async function exportVm({ vm }: VmView): Promise<boolean> {
  const name = fileName(vm.name_label);
  const handle = await target(name);
  if (handle === undefined) {
    return false;
  }
  return runJob("Export", vm.name_label, async (steps) => {
    const api = client();
    const task = await api.call("task.create", "Export", vm.name_label);
    try {
      await steps.watch(task, async () => {
        try {
          const response = await api.download("/export", { uuid: vm.uuid, task_id: task });
          if (handle && response.body) {
            await response.body.pipeTo(await handle.createWritable());
          } else {
            save(await response.blob(), name);
          }
        } catch (e) {
          const record = await saidOf(task);
          if (!record) {
            throw e;
          }
          throw ApiError.fromList(record.status === "cancelled" ? ["TASK_CANCELLED", task] : record.error_info);
        }
      });
    } finally {
      await api.call("task.destroy", task);
    }
  });
}
