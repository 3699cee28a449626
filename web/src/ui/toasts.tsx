import { dismiss, toasts } from "../state/toasts";
import { Button } from "./button";
import { Icon } from "./icons";

export function Toasts() {
  return (
    <div class="toasts" aria-live="polite">
      {toasts.value.map(({ id, tone, text, action }) => (
        <div key={id} class={`toast ${tone}`}>
          <Icon name={tone === "error" ? "warning" : "info"} />
          <span>{text}</span>
          {action && (
            <Button
              onClick={() => {
                dismiss(id);
                action.run();
              }}
            >
              {action.label}
            </Button>
          )}
          <Button kind="quiet" icon="cross" label="Dismiss" onClick={() => dismiss(id)} />
        </div>
      ))}
    </div>
  );
}
