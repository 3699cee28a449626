/** Line icons, 16 × 16, in the colour of the text around them. */

const PATHS = {
  plus: "M8 3v10M3 8h10",
  stop: "M4.5 4.5h7v7h-7z",
  pause: "M5.5 4v8M10.5 4v8",
  resume: "M5 3.5l7.5 4.5L5 12.5z",
  cancel: "M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 0 1 0-11.6M4 12L12 4",
  checkpoint: "M3.5 2.5h7.5l2 2v9h-9.5zM5.5 2.5v3.5h5v-3.5M5.5 13.5v-4h5v4",
  sample: "M2.5 3.5h11v9h-11zM2.5 10.5l3-3 3 3 2-2 3 3M10.8 6.2v.1",
  delete: "M3 4.5h10M6.5 4.5v-2h3v2M4.5 4.5l.6 9h5.8l.6-9",
  edit: "M3 13l.8-3 7-7 2.2 2.2-7 7zM9.5 4.3l2.2 2.2",
  more: "M3.5 7.2a.8.8 0 1 1 0 1.6a.8.8 0 0 1 0-1.6M8 7.2a.8.8 0 1 1 0 1.6a.8.8 0 0 1 0-1.6M12.5 7.2a.8.8 0 1 1 0 1.6a.8.8 0 0 1 0-1.6",
  check: "M3 8.5l3.3 3.3L13 5",
  cross: "M4 4l8 8M12 4l-8 8",
  warning: "M8 2.5l6 11H2zM8 6.5v3.5M8 11.9v.1",
  info: "M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 0 1 0-11.6M8 7.5v3.5M8 5.1v.1",
  clock: "M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 0 1 0-11.6M8 5v3.2l2.2 1.5",
  sun: "M8 5.2a2.8 2.8 0 1 1 0 5.6a2.8 2.8 0 0 1 0-5.6M8 1.5v1.2M8 13.3v1.2M1.5 8h1.2M13.3 8h1.2M3.4 3.4l.9.900M11.7 11.7l.9.900M12.6 3.4l-.9.900M4.3 11.7l-.9.900",
  moon: "M13.2 9.6A5.6 5.6 0 0 1 6.4 2.8a5.6 5.6 0 1 0 6.8 6.8z",
  question: "M5.8 6a2.2 2.2 0 1 1 3.2 2c-.7.400-1 .8-1 1.6M8 12v.1",
  dot: "M8 5.5a2.5 2.5 0 1 1 0 5a2.5 2.5 0 0 1 0-5",
  circle: "M8 4.5a3.5 3.5 0 1 1 0 7a3.5 3.5 0 0 1 0-7",
  minus: "M4.5 8h7",
  up: "M8 13V3.5M4 7.5l4-4 4 4",
  down: "M8 3v9.5M4 8.500l4 4 4-4",
  first: "M3.5 2.5h9M8 13.5V6M4.5 9.500L8 6l3.5 3.5",
  refresh: "M13 8a5 5 0 1 1-1.5-3.6M13 2.5v3h-3",
} as const;

export type IconName = keyof typeof PATHS;

const FILLED: ReadonlySet<IconName> = new Set(["stop", "resume", "dot", "more"]);

export function Icon({ name }: { name: IconName }) {
  return (
    <svg
      class={FILLED.has(name) ? "icon filled" : "icon"}
      viewBox="0 0 16 16"
      aria-hidden="true"
      focusable="false"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
