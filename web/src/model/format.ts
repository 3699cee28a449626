/** Numbers, sizes, durations and times as people read them. */

export const DASH = "–";

/** A metric's value in four significant digits, e.g. `2.346`, `0.0008512`, `1.2e-7`. */
export function formatMetric(value: number | null | undefined): string {
  if (value === undefined || value === null) return DASH;
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replace("e+", "e");
  if (size >= 10_000) return groupDigits(Math.round(value));
  return size < 0.01 ? String(Number(value.toPrecision(4))) : value.toPrecision(4);
}

/** A whole number with thin groups, e.g. `1 234 567`. */
export function groupDigits(value: number): string {
  const [whole = "", rest] = String(value).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
  return rest === undefined ? grouped : `${grouped}.${rest}`;
}

/** A large count, shortened, e.g. `950`, `12.3k`, `4.56M`. */
export function formatCount(value: number | null | undefined): string {
  if (value === undefined || value === null) return DASH;
  const units = ["", "k", "M", "G", "T"];
  let unit = 0;
  let scaled = value;
  while (Math.abs(scaled) >= 999.5 && unit < units.length - 1) {
    scaled /= 1000;
    unit += 1;
  }
  return unit === 0 ? String(Math.round(scaled)) : `${Number(scaled.toPrecision(3))}${units[unit]}`;
}

/** A rate in three significant digits with its unit, e.g. `2.31 steps/s`; slow ones turn over: `4.5 s/step`. */
export function formatRate(perSecond: number | null | undefined, noun: string): string {
  if (perSecond === undefined || perSecond === null || perSecond <= 0) return DASH;
  if (perSecond >= 1) return `${Number(perSecond.toPrecision(3))} ${noun}s/s`;
  return `${Number((1 / perSecond).toPrecision(3))} s/${noun}`;
}

/** Seconds as the two largest units, e.g. `12 s`, `3 min 05 s`, `2 h 14 min`, `4 d 3 h`. */
export function formatDuration(seconds: number | null | undefined): string {
  if (seconds === undefined || seconds === null || !Number.isFinite(seconds)) return DASH;
  const total = Math.max(0, Math.round(seconds));
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min ${pad(total % 60)} s`;
  if (total < 86_400) return `${Math.floor(total / 3600)} h ${pad(Math.floor((total % 3600) / 60))} min`;
  return `${Math.floor(total / 86_400)} d ${Math.floor((total % 86_400) / 3600)} h`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}

/** Bytes in binary units, e.g. `12.4 MiB`. */
export function formatBytes(bytes: number | null | undefined): string {
  if (bytes === undefined || bytes === null) return DASH;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let scaled = bytes;
  while (scaled >= 1023.5 && unit < units.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? scaled : Number(scaled.toPrecision(3))} ${units[unit]}`;
}

/** A share as whole percents; small but not nothing reads `<1 %`. */
export function formatShare(share: number | null | undefined): string {
  if (share === undefined || share === null || !Number.isFinite(share)) return DASH;
  if (share > 0 && share < 0.01) return "<1\u202f%";
  return `${Math.round(share * 100)}\u202f%`;
}

/** The wall-clock time of an RFC 3339 instant, with the date where it is not today. */
export function formatTime(time: string | null, now: number = Date.now()): string {
  if (time === null) return DASH;
  const moment = new Date(time);
  if (Number.isNaN(moment.getTime())) return time;
  const clock = `${pad(moment.getHours())}:${pad(moment.getMinutes())}:${pad(moment.getSeconds())}`;
  if (moment.toDateString() === new Date(now).toDateString()) return clock;
  return `${moment.getFullYear()}-${pad(moment.getMonth() + 1)}-${pad(moment.getDate())} ${clock}`;
}

/** How long ago, e.g. `just now`, `12 s ago`. */
export function formatAgo(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  return seconds < 2 ? "just now" : `${formatDuration(seconds)} ago`;
}

/** `image_generation` as `Image generation`. */
export function humanize(name: string): string {
  const words = name.replace(/[_-]+/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
