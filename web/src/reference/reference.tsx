// The reference of REST, from the description that the server publishes. It works without any log-in and without any
// other server.
import { render } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { type Description, type Operation, type Schema, operationsOf, resolve, typeName } from "./description.js";

function Type({ schema }: { schema: Schema }) {
  const name = typeName(schema);
  const word = /[A-Za-z_]\w*/.exec(name)?.[0] ?? "";
  const linked = schema.$ref ?? schema.items?.$ref ?? schema.allOf?.[0]?.$ref;
  return linked ? <a class="type" href={`#schema-${word}`}>{name}</a> : <span class="type">{name}</span>;
}

function Properties({ schema, title }: { schema: Schema; title: string }) {
  const names = Object.entries(schema.properties ?? {});
  if (names.length === 0) {
    return null;
  }
  return (
    <table>
      <caption>{title}</caption>
      <tbody>
        {names.map(([name, property]) => (
          <tr key={name}>
            <th scope="row">{name}{schema.required?.includes(name) ? <abbr title="has to be there">*</abbr> : null}</th>
            <td><Type schema={property} /></td>
            <td>{property.description ?? ""}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function OperationCard({ of, operation }: { of: Description; operation: Operation }) {
  const [media, content] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  const body = content?.schema && resolve<Schema>(of, content.schema);
  const errors = operation["x-errors"] ?? [];
  return (
    <details class="operation" id={operation.operationId}>
      <summary>
        <span class={`method ${operation.method}`}>{operation.method.toUpperCase()}</span>
        <code>{operation.path}</code>
        <span class="says">{operation.summary}</span>
      </summary>
      <p>{operation.description}</p>
      {operation.parameters && operation.parameters.length > 0 ? (
        <table>
          <caption>In the address and the headers</caption>
          <tbody>
            {operation.parameters.map((p) => (
              <tr key={p.name}><th scope="row">{p.name}{p.required ? <abbr title="has to be there">*</abbr> : null}</th><td>{p.in}</td><td>{p.description}</td></tr>
            ))}
          </tbody>
        </table>
      ) : null}
      {body ? <Properties schema={body} title="In the body" /> : null}
      {media && !body ? <p>The body is bytes: <code>{media}</code>.</p> : null}
      <table>
        <caption>Answers</caption>
        <tbody>
          {operation.answers.map(({ status, description, schema }) => (
            <tr key={status}><th scope="row">{status}</th><td>{schema ? <Type schema={schema} /> : ""}</td><td>{description}</td></tr>
          ))}
        </tbody>
      </table>
      {errors.length > 0 ? <p>Errors: {errors.map((code, i) => <span key={code}>{i > 0 ? ", " : ""}<a href={`#error-${code}`}>{code}</a></span>)}</p> : null}
    </details>
  );
}

function matches(text: string, words: string[]): boolean {
  const lower = text.toLowerCase();
  return words.every((word) => lower.includes(word));
}

function Errors({ of, words }: { of: Description; words: string[] }) {
  const all = Object.entries(of.components["x-errors"]).filter(([code, e]) => matches(`${code} ${e.description}`, words));
  return all.length === 0 ? null : (
    <section aria-labelledby="errors">
      <h2 id="errors">Errors</h2>
      <table>
        <tbody>
          {all.map(([code, e]) => (
            <tr key={code} id={`error-${code}`}><th scope="row">{code}</th><td>{e.status}</td><td>{e.description}{e.params.length > 0 ? <small> Parameters: {e.params.join(", ")}.</small> : null}</td></tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Schemas({ of, words }: { of: Description; words: string[] }) {
  const all = Object.entries(of.components.schemas).filter(([name]) => matches(name, words));
  return all.length === 0 ? null : (
    <section aria-labelledby="schemas">
      <h2 id="schemas">Objects and words</h2>
      {all.map(([name, schema]) => (
        <details key={name} class="operation" id={`schema-${name}`}>
          <summary><code>{name}</code><span class="says">{schema.description ?? schema.enum?.slice(0, 6).join(", ")}</span></summary>
          {schema.enum ? <p>One of: {schema.enum.join(", ")}.</p> : <Properties schema={schema} title="Fields" />}
        </details>
      ))}
    </section>
  );
}

/** Shows what the address points at, also when it came after the page was loaded or is folded away. */
function openTarget() {
  document.querySelector(".target")?.classList.remove("target");
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
  }
  target?.classList.add("target");
  target?.scrollIntoView();
}

function Reference() {
  const [description, setDescription] = useState<Description | Error>();
  const [search, setSearch] = useState("");
  useEffect(() => {
    fetch("/api/v1/openapi.json").then(async (answer) => {
      if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
      setDescription(await answer.json() as Description);
    }).catch((e: unknown) => setDescription(e instanceof Error ? e : new Error(String(e))));
  }, []);
  const words = useMemo(() => search.toLowerCase().split(/\s+/).filter(Boolean), [search]);
  const lists = useMemo(() => (description && !(description instanceof Error) ? operationsOf(description) : []), [description]);
  useEffect(() => {
    if (lists.length > 0) openTarget();
    addEventListener("hashchange", openTarget);
    return () => removeEventListener("hashchange", openTarget);
  }, [lists]);
  if (description instanceof Error) {
    return <main><h1>REST</h1><p role="alert">The description could not be read: {description.message}</p></main>;
  }
  if (!description) {
    return <main><h1>REST</h1><p role="status">Loading…</p></main>;
  }
  const shown = lists.map((list) => ({ ...list, operations: list.operations.filter((op) => matches(`${op.method} ${op.path} ${op.operationId} ${op.summary}`, words)) }))
    .filter((list) => list.operations.length > 0);
  return (
    <>
      <nav aria-label="Lists">
        <a class="home" href="/">Corral</a>
        {shown.map((list) => <a key={list.name} href={`#list-${list.name}`}>{list.name}</a>)}
        <a href="#schemas">Objects and words</a>
        <a href="#errors">Errors</a>
      </nav>
      <main>
        <h1>{description.info.title}: REST, version {description.info.version}</h1>
        <p>The same as a file: <a href="/api/v1/openapi.json">/api/v1/openapi.json</a> (OpenAPI {description.openapi}).</p>
        <input type="search" aria-label="Search" placeholder="Search: vms start, VM_BAD_POWER_STATE, ..." value={search}
          onInput={(e) => setSearch(e.currentTarget.value)} />
        {shown.map((list) => (
          <section key={list.name} aria-labelledby={`list-${list.name}`}>
            <h2 id={`list-${list.name}`}>{list.name}</h2>
            <p>{list.description}</p>
            {list.operations.map((op) => <OperationCard key={op.operationId} of={description} operation={op} />)}
          </section>
        ))}
        <Schemas of={description} words={words} />
        <Errors of={description} words={words} />
      </main>
    </>
  );
}

render(<Reference />, document.getElementById("app")!);
