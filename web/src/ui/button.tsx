import type { ComponentChildren } from "preact";
import { Icon, type IconName } from "./icons";

interface ButtonProps {
  onClick?: () => void;
  kind?: "primary" | "plain" | "danger" | "quiet";
  icon?: IconName;
  /** Said instead of the text where only the icon shows. */
  label?: string;
  type?: "button" | "submit";
  disabled?: boolean;
  busy?: boolean;
  children?: ComponentChildren;
}

export function Button(props: ButtonProps) {
  const { kind = "plain", icon, label, type = "button", disabled = false, busy = false, children } = props;
  const iconOnly = children === undefined;
  return (
    <button
      type={type}
      class={`button ${kind}${iconOnly ? " icon-only" : ""}`}
      onClick={props.onClick}
      disabled={disabled || busy}
      aria-busy={busy || undefined}
      aria-label={label}
      title={iconOnly ? label : undefined}
    >
      {icon && <Icon name={icon} />}
      {!iconOnly && <span>{children}</span>}
    </button>
  );
}
