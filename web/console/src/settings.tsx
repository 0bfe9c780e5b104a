// The configuration in force.
import { useEffect, useState } from "preact/hooks";
import { type Api, addressOf, explain } from "./api.ts";

/** Section, then key. Secrets come masked. */
export type Config = Record<string, Record<string, unknown>>;

export function Settings({ api }: { api: Api }) {
  const [config, setConfig] = useState<Config>({});
  const [problem, setProblem] = useState("");
  useEffect(() => {
    api.get<Config>("/gateway/config").then(setConfig, (error) => setProblem(explain(error)));
  }, [api]);
  return (
    <>
      <section class="panel" aria-labelledby="api">
        <h2 id="api">API</h2>
        <p>
          Every call, with its request and its answer: <Path to="/openapi.json" /> (OpenAPI 3.1). For
          machines: <Path to="/metrics" />, <Path to="/readyz" />, <Path to="/healthz" />.
        </p>
      </section>
      <p class="problem" role="alert">
        {problem}
      </p>
      <div class="shelves">
        {Object.entries(config).map(([section, keys]) => (
          <section key={section} class="panel" aria-labelledby={`section-${section}`}>
            <h2 id={`section-${section}`}>{section}</h2>
            <dl>
              {Object.entries(keys).flatMap(([key, value]) => [
                <dt key={key}>{key}</dt>,
                <dd key={`${key} value`} class="mono">
                  {write(value)}
                </dd>,
              ])}
            </dl>
          </section>
        ))}
      </div>
    </>
  );
}

function Path({ to }: { to: string }) {
  return <a href={addressOf(to)}>{to}</a>;
}

function write(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.join(", ");
  return value === "" ? "–" : String(value);
}
