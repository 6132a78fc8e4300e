// Questions in front of the page: the browser's own modal dialog (it keeps the focus, Escape closes it).
import type { ComponentChildren } from "preact";
import { useEffect, useId, useLayoutEffect, useRef } from "preact/hooks";
import { Cell, useCell } from "../state/cell.js";
import { Button } from "./basics.js";
import type { IconName } from "./icons.js";

export function Dialog({ title, onClose, children, wide }: {
  title: string; onClose: () => void; children: ComponentChildren; wide?: boolean;
}) {
  const box = useRef<HTMLDialogElement>(null);
  const id = useId();
  // At once, not after the next paint: a key pressed right after belongs to the dialog.
  useLayoutEffect(() => {
    const dialog = box.current;
    const before = document.activeElement;
    if (dialog && !dialog.open) {
      dialog.showModal();
    }
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement && before.isConnected) {
        before.focus();
      }
    };
  }, []);
  return (
    <dialog ref={box} class={`dialog${wide ? " wide" : ""}`} aria-labelledby={id}
      onCancel={(e) => { e.preventDefault(); onClose(); }}
      onMouseDown={(e) => { if (e.target === box.current) { onClose(); } }}>
      <div class="dialog-box">
        <header class="dialog-head">
          <h2 id={id}>{title}</h2>
          <Button kind="quiet" icon="close" iconOnly label="Close" onClick={onClose} />
        </header>
        {children}
      </div>
    </dialog>
  );
}

/** The end of a dialog's form: back, or on. `careful`: Cancel has the focus, and what goes on is marked as a danger. */
export function DialogFoot({ label, icon, disabled, careful, onClose }: {
  label: string; icon?: IconName; disabled?: boolean; careful?: boolean; onClose: () => void;
}) {
  return (
    <footer class="dialog-foot">
      <Button label="Cancel" onClick={onClose} autoFocus={careful} />
      <Button type="submit" kind={careful ? "danger" : "primary"} icon={icon} label={label} disabled={disabled} />
    </footer>
  );
}

export interface Question {
  title: string;
  body: ComponentChildren;
  confirm: string;
  icon?: IconName;
  run: () => void;
}

const asked = new Cell<Question | null>(null);
const opened = new Cell<((close: () => void) => ComponentChildren) | null>(null);

/** Shows a dialog that belongs to no part of the page: a menu's, whose row may go meanwhile. */
export function openDialog(render: (close: () => void) => ComponentChildren): void {
  opened.set(render);
}

/** Asks before something that cannot be undone. */
export function ask(question: Question): void {
  asked.set(question);
}

/** Where questions and opened dialogs are shown. */
export function DialogHost() {
  const render = useCell(opened);
  // Who logs in next finds no dialog of who left.
  useEffect(() => () => {
    opened.set(null);
    asked.set(null);
  }, []);
  return <>{render?.(() => opened.set(null))}<QuestionHost /></>;
}

function QuestionHost() {
  const question = useCell(asked);
  if (!question) {
    return null;
  }
  const close = () => asked.set(null);
  const run = (e: Event) => {
    e.preventDefault();
    close();
    question.run();
  };
  return (
    <Dialog title={question.title} onClose={close}>
      <form onSubmit={run}>
        <div class="dialog-body">{question.body}</div>
        <DialogFoot careful icon={question.icon} label={question.confirm} onClose={close} />
      </form>
    </Dialog>
  );
}
