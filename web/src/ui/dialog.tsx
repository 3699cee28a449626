import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { Button } from "./button";

interface ConfirmProps {
  title: string;
  children: ComponentChildren;
  confirm: string;
  danger?: boolean;
  onConfirm: () => void;
  onClose: () => void;
}

/** A question before something that is not easily undone. The browser's own dialog holds focus and closes on Esc. */
export function Confirm({ title, children, confirm, danger = false, onConfirm, onClose }: ConfirmProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  useEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);
  const answer = () => {
    onClose();
    onConfirm();
  };
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby={titleId} onClose={onClose}>
      <h2 id={titleId}>{title}</h2>
      <div class="dialog-text">{children}</div>
      <div class="dialog-buttons">
        <Button onClick={onClose}>Keep it as it is</Button>
        <Button kind={danger ? "danger" : "primary"} onClick={answer}>
          {confirm}
        </Button>
      </div>
    </dialog>
  );
}
