// The VM at a glance: what it is, where it runs, what the guest tells; name, text and size to change.
import { useState } from "preact/hooks";
import { client } from "../state/session.js";
import { href } from "../state/router.js";
import { useStore } from "../state/store.js";
import { runJob } from "../state/jobs.js";
import type { VmView } from "../state/vms.js";
import { Button, Card, Copyable, EditableText, Fact, Facts, Field, MapTable, useNow, When } from "../ui/basics.js";
import { Dialog, DialogFoot } from "../ui/dialog.js";
import { bytes, duration, parseTime } from "../ui/format.js";

const MIB = 1024 * 1024;

function bootWords(view: VmView): string {
  const { vm } = view;
  if (vm.PV_kernel !== "") {
    return "Kernel given by the pool (direct boot)";
  }
  const order = vm.HVM_boot_params.order ?? "";
  const names: Record<string, string> = { c: "disk", d: "CD", n: "network" };
  const firmware = vm.HVM_boot_params.firmware ?? "bios";
  const from = [...order].map((letter) => names[letter] ?? letter).join(", then ");
  return `${firmware.toUpperCase()}${from === "" ? "" : `, from ${from}`}`;
}

function Uptime({ since }: { since: Date }) {
  const now = useNow(10_000);
  return <span title={since.toLocaleString()}>{duration((now - since.getTime()) / 1000)}</span>;
}

export function OverviewTab({ view }: { view: VmView }) {
  const data = useStore();
  const [sizing, setSizing] = useState(false);
  const { vm, ref } = view;
  const metrics = data.get("vm_metrics", vm.metrics);
  const guest = data.get("vm_guest_metrics", vm.guest_metrics);
  const running = view.state === "Running" || view.state === "Paused";
  const started = running ? parseTime(metrics?.start_time) : null;
  const describe = async (text: string) => {
    await runJob("Describe", vm.name_label, async () => client().call("VM.set_name_description", ref, text));
  };
  return (
    <div class="grid">
      <div class="column">
        <Card title="General">
          <Facts>
            <Fact name="Description"><EditableText value={vm.name_description} label="description" save={describe} placeholder="none" multiline /></Fact>
            <Fact name="Runs on">{view.host ? <a href={href("host", view.hostUuid)}>{view.host}</a> : <span class="faint">no host</span>}</Fact>
            <Fact name="Running for">{started ? <Uptime since={started} /> : <span class="faint">–</span>}</Fact>
            <Fact name="Installed"><When time={metrics?.install_time} /></Fact>
            <Fact name="From template">{vm.other_config.base_template_name ?? <span class="faint">–</span>}</Fact>
            <Fact name="Boots by">{bootWords(view)}</Fact>
            {vm.tags.length > 0 && <Fact name="Tags"><span class="tags">{vm.tags.map((tag) => <span key={tag} class="tag">{tag}</span>)}</span></Fact>}
            <Fact name="UUID"><Copyable text={vm.uuid} what="UUID" /></Fact>
          </Facts>
        </Card>
        <Card title="More settings" flush>
          <details><summary>Platform</summary><MapTable map={vm.platform} label="Platform" /></details>
          <details><summary>Other settings</summary><MapTable map={vm.other_config} label="Other settings" /></details>
          <details><summary>Boot parameters</summary><MapTable map={{ ...vm.HVM_boot_params, ...(vm.PV_kernel ? { PV_kernel: vm.PV_kernel, PV_args: vm.PV_args } : {}) }} label="Boot parameters" /></details>
        </Card>
      </div>
      <div class="column">
        <Card title="Guest">
          {guest
            ? (
              <Facts>
                <Fact name="Operating system">{view.os || <span class="faint">not told</span>}</Fact>
                {guest.os_version.uname && <Fact name="Kernel"><span class="mono">{guest.os_version.uname}</span></Fact>}
                <Fact name="Addresses">
                  {view.addresses.length > 0
                    ? <span class="stack">{view.addresses.map((a) => <Copyable key={a} text={a} what="address" />)}</span>
                    : <span class="faint">none told</span>}
                </Fact>
                <Fact name="Agent">{guest.live ? "answers" : "does not answer"}, <When time={guest.last_updated} /></Fact>
              </Facts>
            )
            : (
              <p class="faint pad">
                {running ? "No guest agent has spoken yet. With qemu-guest-agent in the guest, its system and addresses are shown here."
                  : "The guest’s system and addresses are shown here while it runs."}
              </p>
            )}
        </Card>
        <Card title="Processors and memory"
          actions={<Button kind="quiet" icon="edit" label="Change" disabled={view.state !== "Halted"} onClick={() => setSizing(true)}
            title={view.state === "Halted" ? undefined : "Shut the VM down to change its size."} />}>
          <Facts>
            <Fact name="vCPUs">{vm.VCPUs_at_startup}{vm.VCPUs_max !== vm.VCPUs_at_startup && <span class="faint"> of at most {vm.VCPUs_max}</span>}</Fact>
            <Fact name="Memory">{bytes(view.memory)}</Fact>
            {vm.memory_dynamic_min !== vm.memory_dynamic_max && (
              <Fact name="Dynamic range">{bytes(vm.memory_dynamic_min)} to {bytes(vm.memory_dynamic_max)}</Fact>
            )}
          </Facts>
        </Card>
      </div>
      {sizing && <SizeDialog view={view} onClose={() => setSizing(false)} />}
    </div>
  );
}

function SizeDialog({ view, onClose }: { view: VmView; onClose: () => void }) {
  const { vm, ref } = view;
  const [vcpus, setVcpus] = useState(vm.VCPUs_at_startup);
  const [memory, setMemory] = useState(Math.round(vm.memory_dynamic_max / MIB));
  const submit = (e: Event) => {
    e.preventDefault();
    void runJob("Change size of", vm.name_label, async (steps) => {
      const api = client();
      if (vcpus >= vm.VCPUs_max) {
        await api.call("VM.set_VCPUs_max", ref, vcpus);
        await api.call("VM.set_VCPUs_at_startup", ref, vcpus);
      } else if (vcpus !== vm.VCPUs_at_startup) {
        await api.call("VM.set_VCPUs_at_startup", ref, vcpus);
        await api.call("VM.set_VCPUs_max", ref, vcpus);
      }
      const wanted = memory * MIB;
      if (wanted !== vm.memory_static_max || wanted !== vm.memory_dynamic_max) {
        await steps.run("VM.set_memory_limits", ref, Math.min(vm.memory_static_min, wanted), wanted, wanted, wanted);
      }
    });
    onClose();
  };
  return (
    <Dialog title={`Size of ${vm.name_label}`} onClose={onClose}>
      <form onSubmit={submit}>
        <div class="dialog-body form">
          <div class="field-row">
            <Field label="vCPUs">
              {(ties) => <input {...ties} class="input" type="number" min={1} max={64} required value={vcpus} onInput={(e) => setVcpus(e.currentTarget.valueAsNumber || 1)} autoFocus />}
            </Field>
            <Field label="Memory (MiB)">
              {(ties) => <input {...ties} class="input" type="number" min={32} required value={memory} onInput={(e) => setMemory(e.currentTarget.valueAsNumber || 0)} />}
            </Field>
          </div>
        </div>
        <DialogFoot label="Change" onClose={onClose} />
      </form>
    </Dialog>
  );
}
