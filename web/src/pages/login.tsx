// Logging in: a page of its own, and over a page whose session has ended. The password leaves the form only in
// the call; it is kept nowhere.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { useCell } from "../state/cell.js";
import { endReason, interrupted, leave, logIn, type EndReason } from "../state/session.js";
import { Button, Field } from "../ui/basics.js";
import { ErrorText } from "../ui/error.js";
import { Icon, Logo } from "../ui/icons.js";

/** The form. `again`: the user whose page waits, and who alone can go on with it. */
function LoginForm({ reason, again }: { reason: EndReason | null; again?: string }) {
  const [user, setUser] = useState(again ?? "root");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const passwordField = useRef<HTMLInputElement>(null);

  useEffect(() => passwordField.current?.focus(), []);

  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await logIn(user, password);
    } catch (failure) {
      setError(failure);
      setPassword("");
      setBusy(false);
      passwordField.current?.focus();
    }
  };

  return (
    <form class="login-box" onSubmit={(e) => void submit(e)} aria-label={again === undefined ? "Log in" : "Log in again"}>
      <div class="login-brand"><Logo size={40} /><div><h1>Corral</h1><p class="faint">Virtual machine pool</p></div></div>
      {error !== null
        ? <div class="callout bad" role="alert"><Icon name="alert" /><ErrorText error={error} /></div>
        : reason && (
          <div class={`callout${reason.error ? " warn" : ""}`} role="status">
            <Icon name={reason.error ? "alert" : "info"} />
            {reason.error ? <ErrorText error={reason.error} /> : <p>{reason.sentence}</p>}
          </div>
        )}
      <Field label="User">
        {(ties) => (
          <input {...ties} class="input" name="username" autocomplete="username" autocapitalize="none" spellcheck={false} required
            readOnly={again !== undefined} value={user} onInput={(e) => setUser(e.currentTarget.value)} />
        )}
      </Field>
      <Field label="Password">
        {(ties) => (
          <input {...ties} ref={passwordField} class="input" name="password" type="password" autocomplete="current-password" required
            value={password} onInput={(e) => setPassword(e.currentTarget.value)} />
        )}
      </Field>
      <Button type="submit" kind="primary" class="block" label={busy ? "Logging in…" : "Log in"} disabled={busy} />
      {again === undefined
        ? (
          <p class="faint login-hint">
            The first user is <code>root</code>. Its password is in the file <code>admin-password</code> of the pool’s state folder.
          </p>
        )
        : (
          <>
            <p class="faint login-hint">What you were doing is kept, with all that you typed, and goes on when you have logged in.</p>
            <Button kind="quiet" class="block" label="Leave it, log in as another user" onClick={leave} />
          </>
        )}
    </form>
  );
}

export function LoginPage() {
  const reason = useCell(endReason);
  useEffect(() => {
    document.title = "Log in – Corral";
  }, []);
  return <main class="login"><LoginForm reason={reason} /></main>;
}

/** Covers the page, dialogs and all, while its session is over. */
export function LoginOver({ user }: { user: string }) {
  const reason = useCell(interrupted);
  return reason && <Cover user={user} reason={reason} />;
}

function Cover({ user, reason }: { user: string; reason: EndReason }) {
  const box = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const dialog = box.current;
    const before = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement && before.isConnected) {
        before.focus();
      }
    };
  }, []);
  // Escape ends a dialog when pressed twice, whatever its page wants: this one has nothing below it to go back to.
  return (
    <dialog ref={box} class="login-over login" aria-label="Log in again" onCancel={(e) => e.preventDefault()}
      onClose={() => { if (interrupted.value && box.current?.isConnected) { box.current.showModal(); } }}>
      <LoginForm reason={reason} again={user} />
    </dialog>
  );
}
