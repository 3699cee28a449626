import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Curve } from "../model/curve";
import { fittingHalfLife, smooth } from "../model/curve";
import { formatMetric, groupDigits } from "../model/format";
import type { RunFeed } from "../state/run-feed";
import { shownTheme } from "../state/theme";
import { Chart, type Line, type Reading, type Table } from "./chart";

interface MetricChartProps {
  feed: RunFeed;
  /** The metric; what belongs to it on held-out data, if anything does. */
  metric: string;
  heldOut: string | null;
  label: string;
  unit: string;
  /** A custom property of the style sheet. */
  color: string;
  /** Points after which an old value counts half; 0: no smoothing. */
  halfLife: number;
  height: number;
  /** Of one line only, with its name in place of a legend. */
  plain?: boolean;
}

/** One metric over the steps: raw faintly behind smoothed, and held-out values as a dashed line with dots. */
export function MetricChart(props: MetricChartProps) {
  const { feed, metric, heldOut, label, unit, halfLife } = props;
  const host = useRef<HTMLDivElement>(null);
  const reading = useSignal<Reading | null>(null);
  useChart(host, props, (value) => {
    reading.value = value;
  });

  const train = feed.curves.get(metric);
  const held = heldOut === null ? null : feed.curves.get(heldOut);
  feed.drawn.value; // the texts below follow the curves
  const lost = train.nonFinite();
  const at = reading.value;
  return (
    <figure class="chart" style={{ "--series": `var(${props.color})` }}>
      {props.plain ? (
        <figcaption class="reading">
          <h3>{label}</h3>
          <span class="number">
            {trainText(trainValue(train, at, halfLife), unit)}
            {at !== null && <span class="muted small"> at {groupDigits(at.x)}</span>}
          </span>
        </figcaption>
      ) : (
        <figcaption class="legend">
          {(train.length > 0 || held === null || held.length === 0) && (
            <LegendItem
              kind="train"
              name={halfLife > 0 ? "training, smoothed" : "training"}
              value={trainValue(train, at, halfLife)}
            />
          )}
          {held !== null && held.length > 0 && (
            <LegendItem kind="held" name="held-out" value={at === null ? held.latest() : at.values[2]} />
          )}
          {at === null && lost.length > 0 && (
            <span class="chart-note">
              <span aria-hidden="true">✕</span> {lost.length} not finite, last at step{" "}
              {groupDigits(lost[lost.length - 1] ?? 0)}
            </span>
          )}
          {at !== null && <span class="legend-step number">step {groupDigits(at.x)}</span>}
        </figcaption>
      )}
      <div class="plot" ref={host} role="img" aria-label={summary(label, unit, train, held)}>
        {train.length === 0 && (held === null || held.length === 0) && (
          <p class="plot-empty muted">No values yet</p>
        )}
      </div>
    </figure>
  );
}

function trainValue(train: Curve, at: Reading | null, halfLife: number): number | null | undefined {
  if (at !== null) return at.values[halfLife > 0 ? 1 : 0];
  const { y } = train.points();
  const smoothed = smooth(y, fittingHalfLife(halfLife, y.length));
  return smoothed[smoothed.length - 1];
}

function trainText(value: number | null | undefined, unit: string): string {
  if (value === null) return "not finite";
  return unit === "" || value === undefined ? formatMetric(value) : `${formatMetric(value)} ${unit}`;
}

function LegendItem({ kind, name, value }: { kind: string; name: string; value: number | null | undefined }) {
  return (
    <span class="legend-item">
      <span class={`swatch ${kind}`} aria-hidden="true" />
      {name}
      <b class="number">{value === null ? "not finite" : formatMetric(value)}</b>
    </span>
  );
}

function summary(label: string, unit: string, train: Curve, held: Curve | null): string {
  const parts = [`${label}${unit === "" ? "" : ` in ${unit}`} over steps`];
  const latest = train.latest();
  if (typeof latest === "number") parts.push(`latest ${formatMetric(latest)}`);
  const lowest = train.best("lower");
  if (lowest !== null) parts.push(`lowest ${formatMetric(lowest.y)} at step ${lowest.x}`);
  const heldLatest = held?.latest();
  if (typeof heldLatest === "number") parts.push(`held-out ${formatMetric(heldLatest)}`);
  return parts.join(", ");
}

/** Makes the chart, keeps it as wide as its place, and redraws it when its curves changed and it can be seen. */
function useChart(
  host: { current: HTMLDivElement | null },
  props: MetricChartProps,
  onCursor: (reading: Reading | null) => void,
): void {
  const { feed, metric, heldOut, halfLife, unit, label, color, height, plain = false } = props;
  const theme = shownTheme.value;
  useEffect(() => {
    const element = host.current;
    if (element === null) return;
    const lines = linesOf(element, color, halfLife);
    const chart = new Chart({
      element,
      width: element.clientWidth,
      height,
      yLabel: unit === "" ? (plain ? "" : label) : unit,
      lines,
      style: styleOf(element),
      group: `run-${feed.id}`,
      onCursor,
    });
    const train = feed.curves.get(metric);
    const held = heldOut === null ? null : feed.curves.get(heldOut);
    let drawn = "";
    let visible = false;
    const draw = () => {
      const span = feed.curves.span();
      const version = `${train.version}/${held?.version ?? ""}/${span?.join()}`;
      if (!visible || version === drawn) return;
      drawn = version;
      chart.setData(tables(train, held, halfLife), train.nonFinite(), span);
    };
    const stopDrawing = feed.drawn.subscribe(draw);
    const sight = new IntersectionObserver((entries) => {
      visible = entries[entries.length - 1]?.isIntersecting ?? false;
      draw();
    });
    const size = new ResizeObserver(() => chart.resize(element.clientWidth, height));
    sight.observe(element);
    size.observe(element);
    return () => {
      stopDrawing();
      sight.disconnect();
      size.disconnect();
      chart.destroy();
      onCursor(null);
    };
  }, [feed, metric, heldOut, halfLife, unit, label, color, height, plain, theme]);
}

function tables(train: Curve, held: Curve | null, halfLife: number): Table[] {
  const { x, y } = train.points();
  const heldPoints = held?.points() ?? { x: [], y: [] };
  return [
    [x, y, smooth(y, fittingHalfLife(halfLife, y.length))],
    [heldPoints.x, heldPoints.y],
  ];
}

function linesOf(element: HTMLElement, color: string, halfLife: number): Line[] {
  const stroke = property(element, color);
  const heldOut = property(element, "--chart-held");
  return [
    { label: "raw", color: halfLife > 0 ? `${stroke}55` : stroke, width: halfLife > 0 ? 1 : 1.5 },
    { label: "smoothed", color: stroke, width: halfLife > 0 ? 2 : 0 },
    { label: "held-out", color: heldOut, width: 1.75, dash: [6, 4], dots: true },
  ];
}

function styleOf(element: HTMLElement) {
  return {
    text: property(element, "--muted"),
    grid: property(element, "--grid"),
    alarm: property(element, "--bad"),
    surface: property(element, "--surface"),
    font: getComputedStyle(element).fontFamily,
  };
}

function property(element: HTMLElement, name: string): string {
  return getComputedStyle(element).getPropertyValue(name).trim();
}
