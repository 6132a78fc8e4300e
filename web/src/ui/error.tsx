// An error in full: the sentence, then the code and parameters as the server sent them.
import { ApiError } from "../api/errors.js";
import { sentenceOf } from "../api/errors.js";
import { store } from "../state/store.js";

export function ErrorText({ error, hint }: { error: unknown; hint?: string }) {
  return (
    <div class="error-text">
      <p>{sentenceOf(error, store.nameOf)}</p>
      {hint ? <p>{hint}</p> : null}
      {error instanceof ApiError && (
        <p class="error-code">
          <code>{error.code}</code>
          {error.params.map((param, i) => {
            const name = param.startsWith("OpaqueRef:") ? store.nameOf(param) : "";
            return <code key={i} class="param">{param}{name !== "" && ` (${name})`}</code>;
          })}
        </p>
      )}
    </div>
  );
}
