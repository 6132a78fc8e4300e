// The log-in page. The password leaves this component only in the call; it is kept nowhere.
import { useEffect, useRef, useState } from "preact/hooks";
import { useCell } from "../state/cell.js";
import { endReason, logIn } from "../state/session.js";
import { Button, Field } from "../ui/basics.js";
import { ErrorText } from "../ui/error.js";
import { Icon, Logo } from "../ui/icons.js";

export function LoginPage() {
  const reason = useCell(endReason);
  const [user, setUser] = useState("root");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const passwordField = useRef<HTMLInputElement>(null);

  useEffect(() => {
    document.title = "Log in – Corral";
    passwordField.current?.focus();
  }, []);

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
    <main class="login">
      <form class="login-box" onSubmit={(e) => void submit(e)} aria-label="Log in">
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
              value={user} onInput={(e) => setUser(e.currentTarget.value)} />
          )}
        </Field>
        <Field label="Password">
          {(ties) => (
            <input {...ties} ref={passwordField} class="input" name="password" type="password" autocomplete="current-password" required
              value={password} onInput={(e) => setPassword(e.currentTarget.value)} />
          )}
        </Field>
        <Button type="submit" kind="primary" class="block" label={busy ? "Logging in…" : "Log in"} disabled={busy} />
        <p class="faint login-hint">
          The first user is <code>root</code>. Its password is in the file <code>admin-password</code> of the pool’s state folder.
        </p>
      </form>
    </main>
  );
}
