import { getSystem } from "../api/calls";
import { formatBytes, formatShare } from "../model/format";
import { gpusWord } from "../model/queue";
import { useResource } from "../state/resource";

const EVERY_MS = 5000;

/** The machine at a glance. */
export function SystemStrip() {
  const { data } = useResource(getSystem, "system", EVERY_MS);
  const system = data.value;
  if (system === null) return <footer class="system" />;
  const memory = `${formatBytes(system.memory_used)} of ${formatBytes(system.memory_total)}`;
  return (
    <footer class="system">
      <Part name={`CPU · ${system.cpu_count}`} value={formatShare(system.cpu_percent / 100)} />
      <Part name="Memory" value={memory} />
      <Part name="Disk free" value={formatBytes(system.disk_free)} />
      <Part name="GPU" value={gpusWord(system.gpus)} />
      <Part name="Runs" value={`${system.live_runs} of ${system.max_runs} at once`} />
      {!system.torch_installed && (
        <span class="system-part warn">PyTorch is not installed: no run can start</span>
      )}
      <span class="system-end">
        {system.hostname} · Xoron {system.version}
      </span>
    </footer>
  );
}

function Part({ name, value }: { name: string; value: string }) {
  return (
    <span class="system-part">
      {name} <b class="number">{value}</b>
    </span>
  );
}
