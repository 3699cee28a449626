/** The one place that knows uPlot: lines over steps, on a canvas. */

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { formatCount, formatMetric } from "../model/format";

export interface Line {
  label: string;
  color: string;
  width: number;
  dash?: number[];
  /** Every value as a dot too, for curves of few points. */
  dots?: boolean;
}

/** Curves that share their steps: x, then one column per line. */
export type Table = [x: number[], ...ys: (number | null)[][]];

export interface ChartStyle {
  text: string;
  grid: string;
  alarm: string;
  surface: string;
  font: string;
}

export interface Reading {
  x: number;
  values: (number | null | undefined)[];
}

interface ChartOptions {
  element: HTMLElement;
  width: number;
  height: number;
  yLabel: string;
  lines: Line[];
  style: ChartStyle;
  /** Charts of one group share their cursor and zoom. */
  group: string;
  onCursor: (reading: Reading | null) => void;
}

const SOLID: number[] = [];
const MARK_EVERY_PX = 7;

export class Chart {
  private plot: uPlot;
  private marks: number[] = [];
  private span: [number, number] | null = null;

  constructor(private readonly options: ChartOptions) {
    const { lines, width, height, element } = options;
    const empty = [[], ...lines.map(() => [])] as unknown as uPlot.AlignedData;
    this.plot = new uPlot(
      {
        width,
        height,
        padding: [10, 12, 0, 0],
        legend: { show: false },
        scales: { x: { time: false, range: (_, min, max) => this.rangeOf(min, max) } },
        axes: axes(options),
        series: [{}, ...lines.map((line) => series(line, options.style))],
        cursor: {
          sync: { key: options.group, scales: ["x", null] },
          drag: { x: true, y: false },
          points: { size: 7 },
        },
        hooks: {
          draw: [() => this.drawMarks()],
          setCursor: [() => this.tellCursor()],
        },
      },
      empty,
      element,
    );
  }

  /**
   * Shows tables joined on x; `marks` are the steps whose value was not finite, `span` those of all charts of the
   * group. A zoom stays as it is.
   */
  setData(tables: Table[], marks: number[], span: [number, number] | null): void {
    this.marks = marks;
    this.span = span;
    const zoomed = this.isZoomed();
    const joined = uPlot.join(tables as unknown as uPlot.AlignedData[]);
    this.plot.setData(joined, !zoomed);
    if (zoomed) this.plot.redraw(true, false);
  }

  /** Charts of a group show the same steps, also where one of them has fewer values. */
  private rangeOf(min: number | null, max: number | null): [number, number] {
    const xs = this.plot?.data[0] ?? [];
    const whole =
      min === null || max === null || (min <= (xs[0] ?? min) && max >= (xs[xs.length - 1] ?? max));
    const [first, last] = whole ? (this.span ?? [min ?? 0, max ?? 1]) : [min, max];
    return first === last ? [first - 1, last + 1] : [first, last];
  }

  private isZoomed(): boolean {
    const xs = this.plot.data[0];
    const { min, max } = this.plot.scales.x ?? {};
    if (xs.length < 2 || min === undefined || max === undefined) return false;
    return (min ?? 0) > (xs[0] as number) || (max ?? 0) < (xs[xs.length - 1] as number);
  }

  resize(width: number, height: number): void {
    this.plot.setSize({ width, height });
  }

  destroy(): void {
    this.plot.destroy();
  }

  private tellCursor(): void {
    const index = this.plot.cursor.idx;
    const x = index === null || index === undefined ? undefined : this.plot.data[0][index];
    if (index === null || index === undefined || x === undefined) {
      this.options.onCursor(null);
      return;
    }
    const values = this.options.lines.map((_, i) => valueBefore(this.plot.data[i + 1] ?? [], index));
    this.options.onCursor({ x, values });
  }

  /** A cross at the top for every value that was not finite: the gap alone is easily overlooked. */
  private drawMarks(): void {
    const { ctx, bbox } = this.plot;
    const scale = window.devicePixelRatio;
    const arm = 3.5 * scale;
    const y = bbox.top + arm + 2 * scale;
    let last = Number.NEGATIVE_INFINITY;
    ctx.save();
    ctx.strokeStyle = this.options.style.alarm;
    ctx.lineWidth = 1.5 * scale;
    ctx.setLineDash(SOLID);
    for (const step of this.marks) {
      const x = this.plot.valToPos(step, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width || x - last < MARK_EVERY_PX * scale) continue;
      last = x;
      ctx.beginPath();
      ctx.moveTo(x - arm, y - arm);
      ctx.lineTo(x + arm, y + arm);
      ctx.moveTo(x + arm, y - arm);
      ctx.lineTo(x - arm, y + arm);
      ctx.stroke();
    }
    ctx.restore();
  }
}

function valueBefore(column: ArrayLike<number | null | undefined>, index: number): number | null | undefined {
  for (let i = index; i >= 0; i--) if (column[i] !== undefined) return column[i];
  return undefined;
}

function axes({ style, yLabel }: ChartOptions): uPlot.Axis[] {
  const shared = {
    stroke: style.text,
    font: `11px ${style.font}`,
    labelFont: `11px ${style.font}`,
    grid: { stroke: style.grid, width: 1 },
    ticks: { show: false },
    gap: 6,
  };
  return [
    {
      ...shared,
      label: "step",
      labelSize: 16,
      size: 26,
      space: 50,
      grid: { show: false },
      values: (plot, splits) => {
        const isEmpty = plot.data[0].length === 0;
        return splits.map((value) => (!isEmpty && Number.isInteger(value) ? formatCount(value) : ""));
      },
    },
    {
      ...shared,
      ...(yLabel === "" ? {} : { label: yLabel, labelSize: 18 }),
      size: 44,
      space: 34,
      values: (_, splits) => splits.map(tick),
    },
  ];
}

function tick(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 10_000) return formatCount(value);
  if (size < 1e-3) return formatMetric(Number(value.toPrecision(2))).replace(/\.?0+(?=e|$)/, "");
  return String(Number(value.toPrecision(4)));
}

function series(line: Line, style: ChartStyle): uPlot.Series {
  const dots = line.dots
    ? { show: true, size: 6, fill: style.surface, stroke: line.color, width: 1.5 }
    : { show: (_: uPlot, __: number, from: number, to: number) => to - from < 2, size: 5, fill: line.color };
  return {
    label: line.label,
    stroke: line.color,
    width: line.width,
    points: dots,
    ...(line.dash === undefined ? {} : { dash: line.dash }),
  };
}
