// How the gateway is: numbers of the last five minutes, from `/metrics`, read every two seconds while this is looked at.
import { useEffect, useState } from "preact/hooks";
import { type Api, ask, explain } from "./api.ts";
import { Chart } from "./chart.tsx";
import { byLabel, type Metrics, parse, quantile, total } from "./metrics.ts";
import type { Config } from "./settings.tsx";

const SAMPLE_MS = 2000;
const SAMPLES_MAX = 150;
const MIB = 1024 * 1024;
const SEND = 'path="/manager/send_msg"';

interface Reading {
  at: number;
  metrics: Metrics;
}

/** One point of every chart: what happened between two readings. */
export interface Point {
  sessions: number;
  accepted: number;
  acked: number;
  resent: number;
  commit: number | null;
  send: number | null;
  memory: number;
}

function point(before: Reading, after: Reading): Point {
  const seconds = (after.at - before.at) / 1000;
  const rate = (name: string) => {
    const grown = total(after.metrics, name) - total(before.metrics, name);
    // A gateway that was started anew counts from 0.
    return Math.max(0, grown) / seconds;
  };
  const milliseconds = (name: string, q: number, having: string) => {
    const value = quantile(before.metrics, after.metrics, name, q, having);
    return value === null ? null : value * 1000;
  };
  return {
    sessions: total(after.metrics, "towncrier_sessions"),
    accepted: rate("towncrier_messages_accepted_total"),
    acked: rate("towncrier_messages_acked_total"),
    resent: rate("towncrier_messages_resent_total"),
    commit: milliseconds("towncrier_commit_seconds", 0.99, ""),
    send: milliseconds("towncrier_admin_request_seconds", 0.99, SEND),
    memory: total(after.metrics, "towncrier_memory_bytes") / MIB,
  };
}

function useReadings(): { points: Point[]; now: Metrics | null; problem: string } {
  const [points, setPoints] = useState<Point[]>([]);
  const [now, setNow] = useState<Metrics | null>(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let last: Reading | null = null;
    let isOver = false;
    let timer: ReturnType<typeof setTimeout>;
    const read = async () => {
      try {
        const response = await ask("/metrics");
        const reading = { at: performance.now(), metrics: parse(await response.text()) };
        if (isOver) return;
        const before = last;
        if (before !== null) setPoints((points) => [...points, point(before, reading)].slice(-SAMPLES_MAX));
        last = reading;
        setNow(reading.metrics);
        setProblem("");
      } catch (error) {
        if (!isOver) setProblem(explain(error));
      }
      if (!isOver) timer = setTimeout(read, SAMPLE_MS);
    };
    read();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, []);
  return { points, now, problem };
}

export function Health({ api }: { api: Api }) {
  const { points, now, problem } = useReadings();
  const [config, setConfig] = useState<Config | null>(null);
  useEffect(() => {
    api.get<Config>("/gateway/config").then(setConfig, () => setConfig(null));
  }, [api]);
  const line = (pick: (point: Point) => number | null) => points.map(pick);
  return (
    <>
      <h2 class="unseen">Health</h2>
      <p class="problem" role="status">
        {problem}
      </p>
      <div class="charts">
        <Chart title="Sessions" unit="" values={line((point) => point.sessions)} digits={0} />
        <Chart title="Messages accepted" unit="/s" values={line((point) => point.accepted)} digits={1} />
        <Chart title="Messages acked" unit="/s" values={line((point) => point.acked)} digits={1} />
        <Chart title="Resends" unit="/s" values={line((point) => point.resent)} digits={1} />
        <Chart title="Commit, p99" unit=" ms" values={line((point) => point.commit)} digits={2} />
        <Chart title="Send, p99" unit=" ms" values={line((point) => point.send)} digits={2} />
        <Chart title="Memory" unit=" MiB" values={line((point) => point.memory)} digits={1} />
      </div>
      {now !== null && (
        <div class="columns">
          <section class="panel" aria-labelledby="log">
            <h2 id="log">Log</h2>
            <dl>
              <dt>Size</dt>
              <dd>{bytes(total(now, "towncrier_log_bytes"))}</dd>
              <dt>Segments</dt>
              <dd>{total(now, "towncrier_log_segments")}</dd>
              <dt>Kept for</dt>
              <dd>{config === null ? "…" : String(config.log?.retention)}</dd>
              <dt>Kept up to</dt>
              <dd>{retained(config)}</dd>
              <dt>Waiting for an ack</dt>
              <dd>{total(now, "towncrier_messages_pending").toLocaleString("en")}</dd>
              <dt>Takes sends</dt>
              <dd class={total(now, "towncrier_log_writable") === 1 ? "ok" : "problem"}>
                {total(now, "towncrier_log_writable") === 1 ? "yes" : "no: see /readyz"}
              </dd>
            </dl>
          </section>
          <section class="panel" aria-labelledby="platforms">
            <h2 id="platforms">Sessions by platform</h2>
            <Platforms counts={byLabel(now, "towncrier_sessions", "platform")} />
          </section>
        </div>
      )}
    </>
  );
}

function Platforms({ counts }: { counts: [string, number][] }) {
  if (counts.length === 0) return <p class="empty">Nobody is online.</p>;
  return (
    <dl>
      {counts.flatMap(([platform, count]) => [
        <dt key={platform}>{platform}</dt>,
        <dd key={`${platform} count`}>{count.toLocaleString("en")}</dd>,
      ])}
    </dl>
  );
}

function retained(config: Config | null): string {
  const most = config?.log?.retention_bytes;
  if (typeof most !== "number") return "…";
  return most === 0 ? "any size" : bytes(most);
}

function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  return `${(count / 1024 ** step).toFixed(step === 0 ? 0 : 1)} ${units[step]}`;
}
