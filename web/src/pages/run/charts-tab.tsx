import { signal, useSignal } from "@preact/signals";
import { MetricChart } from "../../charts/metric-chart";
import type { MetricInfo, ModalityInfo, ModalityMetrics, Run } from "../../contract";
import { formatMetric, formatRate, formatShare, groupDigits } from "../../model/format";
import type { RunFeed } from "../../state/run-feed";
import { LatestSamples } from "./samples-tab";

interface SpeedChart {
  metric: string;
  label: string;
  unit: string;
}

export const SPEED_CHARTS: SpeedChart[] = [
  { metric: "optim/grad_norm", label: "Gradient norm", unit: "" },
  { metric: "optim/lr", label: "Learning rate", unit: "" },
  { metric: "speed/steps_per_s", label: "Speed", unit: "steps/s" },
  { metric: "memory/peak_gib", label: "Peak memory", unit: "GiB" },
];

const SMOOTHING = [
  { name: "off", halfLife: 0 },
  { name: "light", halfLife: 8 },
  { name: "strong", halfLife: 40 },
];
const KEY = "xoron.smoothing";
const smoothing = signal(localStorage.getItem(KEY) ?? "light");

interface ChartsTabProps {
  run: Run;
  feed: RunFeed;
  modalities: ModalityInfo[];
}

/** How well each modality learns, and how the optimizer and the machine fare. */
export function ChartsTab({ run, feed, modalities }: ChartsTabProps) {
  const halfLife = SMOOTHING.find((entry) => entry.name === smoothing.value)?.halfLife ?? 0;
  const metrics = feed.metrics.value;
  const shown = modalities.filter((info) => metrics?.modalities[info.name]?.enabled ?? true);
  return (
    <>
      <section aria-labelledby="modalities-title">
        <div class="section-head">
          <h2 id="modalities-title">Modalities</h2>
          <SmoothingChoice />
        </div>
        <div class="board modal-board">
          {shown.map((info) => (
            <ModalityCard
              key={info.name}
              feed={feed}
              info={info}
              color={`--chart-${modalities.indexOf(info) + 1}`}
              halfLife={halfLife}
              figures={metrics?.modalities[info.name] ?? null}
            />
          ))}
        </div>
      </section>
      <LatestSamples run={run} feed={feed} modalities={modalities} />
      <section aria-labelledby="speed-title">
        <div class="section-head">
          <h2 id="speed-title">Optimizer and speed</h2>
        </div>
        <div class="board small-board">
          {SPEED_CHARTS.map((chart) => (
            <div class="card chart-card" key={chart.metric}>
              <MetricChart
                feed={feed}
                metric={chart.metric}
                heldOut={null}
                label={chart.label}
                unit={chart.unit}
                color="--chart-other"
                halfLife={0}
                height={150}
                plain
              />
            </div>
          ))}
        </div>
      </section>
    </>
  );
}

function SmoothingChoice() {
  const choose = (name: string) => {
    smoothing.value = name;
    localStorage.setItem(KEY, name);
  };
  return (
    <fieldset class="choice" aria-label="Smoothing">
      <span class="muted small">Smoothing</span>
      {SMOOTHING.map(({ name }) => (
        <button
          key={name}
          type="button"
          class="chip"
          aria-pressed={smoothing.value === name}
          onClick={() => choose(name)}
        >
          {name}
        </button>
      ))}
    </fieldset>
  );
}

interface ModalityCardProps {
  feed: RunFeed;
  info: ModalityInfo;
  color: string;
  halfLife: number;
  figures: ModalityMetrics | null;
}

function ModalityCard({ feed, info, color, halfLife, figures }: ModalityCardProps) {
  const chosen = useSignal(info.metrics[0]?.name ?? "");
  feed.drawn.value; // metrics turn up as the run goes on
  const present = info.metrics.filter((metric, i) => i === 0 || hasValues(feed, metric));
  const metric = present.find((entry) => entry.name === chosen.value) ?? present[0];
  if (metric === undefined) return null;
  return (
    <article class="card chart-card" data-modality={info.name}>
      <div class="chart-head">
        <h3>{info.label}</h3>
        <span class="muted small number">{shareText(figures)}</span>
      </div>
      <MetricFigures feed={feed} metric={metric} figures={figures} />
      {present.length === 1 && (
        <div class="choice">
          <span class="chip only">{metric.label}</span>
        </div>
      )}
      {present.length > 1 && (
        <fieldset class="choice" aria-label={`Metric of ${info.label}`}>
          {present.map((entry) => (
            <button
              key={entry.name}
              type="button"
              class="chip"
              aria-pressed={entry === metric}
              onClick={() => (chosen.value = entry.name)}
            >
              {entry.label}
            </button>
          ))}
        </fieldset>
      )}
      <MetricChart
        feed={feed}
        metric={metric.name}
        heldOut={`eval/${metric.name}`}
        label={metric.label}
        unit={metric.unit ?? ""}
        color={color}
        halfLife={halfLife}
        height={230}
      />
    </article>
  );
}

/** Some metrics, such as error rates, exist on held-out data only. */
function hasValues(feed: RunFeed, metric: MetricInfo): boolean {
  return isTrained(feed, metric) || feed.curves.get(`eval/${metric.name}`).length > 0;
}

function isTrained(feed: RunFeed, metric: MetricInfo): boolean {
  return feed.curves.get(metric.name).length > 0;
}

function shareText(figures: ModalityMetrics | null): string {
  if (figures === null) return "";
  const parts = [`${formatShare(figures.actual_share ?? figures.planned_share)} of mix`];
  const rate = formatRate(figures.samples_per_s, "sample");
  if (rate !== "–") parts.push(rate);
  return parts.join(" · ");
}

interface MetricFiguresProps {
  feed: RunFeed;
  metric: MetricInfo;
  figures: ModalityMetrics | null;
}

function MetricFigures({ feed, metric, figures }: MetricFiguresProps) {
  const held = feed.curves.get(`eval/${metric.name}`);
  const best = metric.better === "neither" ? null : held.best(metric.better ?? "lower");
  const isHeldOutOnly = held.length > 0 && !isTrained(feed, metric);
  return (
    <dl class="figures compact">
      {!isHeldOutOnly && (
        <>
          <div class="figure">
            <dt>Latest</dt>
            <dd class="number big">{formatMetric(feed.curves.get(metric.name).latest())}</dd>
          </div>
          <div class="figure">
            <dt>Mean of 100</dt>
            <dd class="number">{formatMetric(figures?.metrics[metric.name]?.mean_last_100)}</dd>
          </div>
        </>
      )}
      <div class="figure">
        <dt>Held-out</dt>
        <dd class={isHeldOutOnly ? "number big" : "number"}>{formatMetric(held.latest())}</dd>
      </div>
      {metric.better !== "neither" && (
        <div class="figure">
          <dt>Best held-out</dt>
          <dd class="number">
            {formatMetric(best?.y)}
            {best !== null && <span class="muted small"> at {groupDigits(best.x)}</span>}
          </dd>
        </div>
      )}
    </dl>
  );
}
