// What went wrong, as one type, and in words. A code of the API is never hidden behind the sentence:
// whoever shows an error shows sentence, code and parameters (see ErrorText in ui/error.tsx).

/** The server refused or failed a call: code and parameters as it sent them. */
export class ApiError extends Error {
  constructor(readonly code: string, readonly params: readonly string[]) {
    super(params.length === 0 ? code : `${code}: ${params.join(", ")}`);
    this.name = "ApiError";
  }

  /** From a task's error_info: the code first, then its parameters. */
  static fromList(list: readonly string[]): ApiError {
    return new ApiError(list[0] ?? "UNKNOWN_ERROR", list.slice(1));
  }
}

/** No usable answer: the server is not reachable, or what answers is not the API. */
export class ConnectionError extends Error {
  constructor(message: string, readonly status?: number) {
    super(message);
    this.name = "ConnectionError";
  }
}

/** True when the session is over and only a new log-in helps. */
export function isSessionError(e: unknown): e is ApiError {
  return e instanceof ApiError &&
    (e.code === "SESSION_INVALID" || (e.code === "HANDLE_INVALID" && e.params[0]?.toLowerCase() === "session"));
}

type Sentence = (p: readonly string[], name: (ref: string) => string) => string;

/** Reads "VM", "SR" as they are and "vm" as "VM": the class of an object, for a sentence. */
function classWord(c: string | undefined): string {
  const known = ["VM", "VDI", "SR", "VBD", "VIF", "PIF", "PBD"].find((k) => k.toLowerCase() === c?.toLowerCase());
  return known ?? c ?? "object";
}

function bytesWord(text: string | undefined): string {
  const n = Number(text);
  return Number.isFinite(n) && n >= 1024 * 1024 ? `${Math.round(n / (1024 * 1024))} MiB` : (text ?? "?");
}

const sentences: Record<string, Sentence> = {
  SESSION_AUTHENTICATION_FAILED: () => "The user name or the password is wrong.",
  SESSION_AUTHORIZATION_FAILED: () => "This user may not log in to this pool.",
  SESSION_INVALID: () => "Your session has ended. Log in again.",
  HOST_IS_SLAVE: (p) => `This host does not speak for the pool. Log in at ${p[0] ?? "the coordinator"}.`,
  RBAC_PERMISSION_DENIED: (p) => `Your role does not allow ${p[0] ?? "this"}.`,
  HANDLE_INVALID: (p) => `This ${classWord(p[0])} no longer exists.`,
  UUID_INVALID: (p) => `There is no ${classWord(p[0])} with this UUID.`,
  VM_BAD_POWER_STATE: (p, name) =>
    `${name(p[0] ?? "")} is ${(p[2] ?? "in another state").toLowerCase()}; this needs it to be ${(p[1] ?? "in another state").toLowerCase()}.`,
  NO_HOSTS_AVAILABLE: () =>
    "No host can run this VM now. Check that a host is enabled and has enough free memory, and that it sees the VM's storage and networks.",
  HOST_NOT_ENOUGH_FREE_MEMORY: (p) =>
    `The host has too little free memory: ${bytesWord(p[0])} needed, ${bytesWord(p[1])} free.`,
  HOST_NOT_ENOUGH_PCPUS: (p) => `The VM has ${p[0] ?? "more"} vCPUs, but the host has only ${p[1] ?? "fewer"} processors.`,
  HOST_DISABLED: (p, name) => `Host ${name(p[0] ?? "")} is disabled: it takes no new VMs.`,
  HOST_NOT_LIVE: () => "The host does not answer.",
  HOST_OFFLINE: (p, name) => `Host ${name(p[0] ?? "")} does not answer.`,
  HOST_IN_USE: () => "The host still runs VMs.",
  OTHER_OPERATION_IN_PROGRESS: (p, name) =>
    `${classWord(p[0])} ${name(p[1] ?? "")} is busy with another operation (${(p[2] ?? "unknown").replaceAll("_", " ")}). Try again when it is done.`,
  OPERATION_NOT_ALLOWED: (p) => `This is not allowed now: ${p[0] ?? "no reason given"}`,
  OPERATION_BLOCKED: (p, name) => `This operation is blocked for ${name(p[0] ?? "")}.`,
  VM_IS_TEMPLATE: (p, name) => `${name(p[0] ?? "")} is a template; this works on VMs only.`,
  VM_IS_SNAPSHOT: (p, name) => `${name(p[0] ?? "")} is a snapshot; this works on VMs only.`,
  VM_CANNOT_DELETE_DEFAULT_TEMPLATE: () => "A built-in template cannot be deleted.",
  VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT: () =>
    "The guest did not shut down in time. If it has hung, force it off.",
  VM_LACKS_FEATURE: () => "The guest does not support this: no guest agent answers in it.",
  VM_MISSING_PV_DRIVERS: () => "The guest has no agent or drivers for this.",
  VM_REQUIRES_SR: (p, name) => `The host does not see storage ${name(p[1] ?? "")}, which this VM needs.`,
  VM_REQUIRES_NETWORK: (p, name) => `The host is not on network ${name(p[1] ?? "")}, which this VM needs.`,
  VM_REQUIRES_GPU: () => "The host has no free graphics processor of the kind this VM needs.",
  VM_HAS_PCI_ATTACHED: () => "The VM has a device of its host passed through: it cannot leave this host.",
  VM_IS_IMMOBILE: () => "The VM is set not to be moved while it runs.",
  VM_MIGRATE_FAILED: (p) => `The migration failed: ${p[3] ?? p[0] ?? "no reason given"}`,
  VM_INCOMPATIBLE_WITH_THIS_HOST: (p) => `The VM cannot run on this host: ${p[2] ?? "its processor lacks something"}`,
  VM_HOST_INCOMPATIBLE_VERSION: () => "This host runs an older version than the one the VM is on.",
  CANNOT_EVACUATE_HOST: (p) => `Not all VMs can leave this host: ${p[0] ?? "no reason given"}`,
  VM_NO_VCPUS: () => "The VM has no vCPUs.",
  MEMORY_CONSTRAINT_VIOLATION: () =>
    "The memory limits contradict each other: static minimum ≤ dynamic minimum ≤ dynamic maximum ≤ static maximum.",
  SR_FULL: () => "The storage is full.",
  SR_NOT_EMPTY: () => "The storage still holds disks.",
  SR_HAS_PBD: () => "The storage is still connected to a host.",
  SR_UNKNOWN_DRIVER: (p) => `The server knows no storage of kind ${p[0] ?? ""}.`,
  NETWORK_CONTAINS_PIF: () => "NICs of hosts are on this network.",
  NETWORK_CONTAINS_VIF: () => "NICs of VMs are on this network.",
  PIF_VLAN_EXISTS: () => "This NIC has a VLAN with this tag already.",
  VLAN_TAG_INVALID: (p) => `${p[0] ?? "This"} is no VLAN tag: it is a number from 0 to 4094.`,
  SR_HAS_NO_PBDS: () => "The storage is not connected to any host.",
  SR_OPERATION_NOT_SUPPORTED: () => "This kind of storage cannot do that.",
  VDI_IN_USE: (p, name) => `Disk ${name(p[0] ?? "")} is in use.`,
  VDI_READONLY: (p, name) => `Disk ${name(p[0] ?? "")} is read-only.`,
  VDI_NOT_AVAILABLE: (p, name) => `Disk ${name(p[0] ?? "")} cannot be reached.`,
  VBD_IS_EMPTY: () => "There is no disc in this drive.",
  VBD_NOT_EMPTY: () => "There is already a disc in this drive. Eject it first.",
  VBD_NOT_REMOVABLE_MEDIA: () => "This is not a CD drive.",
  DEVICE_ALREADY_EXISTS: (p) => `Device ${p[0] ?? ""} is already taken.`,
  DEVICE_ALREADY_ATTACHED: () => "The device is already attached.",
  DEVICE_DETACH_REJECTED: (p) => `The guest does not let go of the device: ${p[2] ?? "it is in use"}`,
  DEVICE_DETACH_TIMEOUT: () => "The guest did not let go of the device in time. It is probably in use.",
  MAC_INVALID: (p) => `${p[0] ?? "This"} is no MAC address that a NIC can have.`,
  DEVICE_ALREADY_DETACHED: () => "The device is already detached.",
  MESSAGE_METHOD_UNKNOWN: (p) => `This server does not know ${p[0] ?? "the call"}.`,
  NOT_IMPLEMENTED: (p) => `This server cannot do ${p[0] ?? "that"} yet.`,
  INVALID_VALUE: (p) => `The value ${JSON.stringify(p[1] ?? "")} is not good for ${p[0] ?? "this field"}.`,
  VALUE_NOT_SUPPORTED: (p) => `${p[0] ?? "This field"} cannot be ${JSON.stringify(p[1] ?? "")}: ${p[2] ?? "not supported"}.`,
  FIELD_TYPE_ERROR: (p) => `${p[0] ?? "A field"} has a value of the wrong type.`,
  TASK_CANCELLED: () => "The task was cancelled.",
  XENAPI_PLUGIN_FAILURE: (p) => `The plug-in failed: ${p[2] ?? p[1] ?? ""}`,
  INTERNAL_ERROR: () => "The server failed inside. Its log has the details.",
};

/** One sentence for a person. `name` turns a ref into what it is called, if it can. */
export function sentenceOf(e: unknown, name: (ref: string) => string = (ref) => ref): string {
  if (e instanceof ApiError) {
    const known = sentences[e.code];
    if (known) {
      return known(e.params, (ref) => name(ref) || "The object");
    }
    if (e.code.startsWith("SR_BACKEND_FAILURE")) {
      return e.params[1] ? `The storage failed: ${e.params[1]}` : "The storage failed.";
    }
    return "The server refused this.";
  }
  if (e instanceof ConnectionError) {
    return e.message;
  }
  return e instanceof Error ? e.message : String(e);
}
