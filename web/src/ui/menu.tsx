import { useSignal } from "@preact/signals";
import { useEffect, useId, useRef } from "preact/hooks";
import { Icon, type IconName } from "./icons";

export interface MenuItem {
  label: string;
  icon: IconName;
  danger?: boolean;
  onSelect: () => void;
}

/** A button that opens a list of actions; arrows move in it, Esc and a click elsewhere close it. */
export function Menu({ label, items }: { label: string; items: MenuItem[] }) {
  const open = useSignal(false);
  const root = useRef<HTMLDivElement>(null);
  const id = useId();

  useEffect(() => {
    if (!open.value) return;
    const outside = (event: Event) => {
      if (!root.current?.contains(event.target as Node)) open.value = false;
    };
    root.current?.querySelector<HTMLElement>("[role=menuitem]")?.focus();
    document.addEventListener("pointerdown", outside);
    document.addEventListener("focusin", outside);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("focusin", outside);
    };
  }, [open.value, open]);

  const close = () => {
    open.value = false;
    root.current?.querySelector<HTMLElement>("button")?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (!open.value) return;
    if (event.key === "Escape") close();
    else if (event.key === "ArrowDown") move(root.current, 1);
    else if (event.key === "ArrowUp") move(root.current, -1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const select = (item: MenuItem) => {
    close();
    item.onSelect();
  };

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: keys of the menu inside bubble up to here
    <div class="menu" ref={root} onKeyDown={onKeyDown}>
      <MenuButton label={label} open={open.value} controls={id} onClick={() => (open.value = !open.value)} />
      {open.value && (
        <div class="menu-list" role="menu" id={id} aria-label={label}>
          {items.map((item) => (
            <button
              key={item.label}
              type="button"
              role="menuitem"
              class={item.danger ? "menu-item danger" : "menu-item"}
              onClick={() => select(item)}
            >
              <Icon name={item.icon} />
              {item.label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

interface MenuButtonProps {
  label: string;
  open: boolean;
  controls: string;
  onClick: () => void;
}

function MenuButton({ label, open, controls, onClick }: MenuButtonProps) {
  return (
    <button
      type="button"
      class="button quiet icon-only"
      aria-label={label}
      title={label}
      aria-haspopup="menu"
      aria-expanded={open}
      aria-controls={open ? controls : undefined}
      onClick={onClick}
    >
      <Icon name="more" />
    </button>
  );
}

function move(root: HTMLElement | null, by: number): void {
  const items = [...(root?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
  const at = items.indexOf(document.activeElement as HTMLElement);
  items[(at + by + items.length) % items.length]?.focus();
}
