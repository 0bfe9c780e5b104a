// Where messages are: accepted, durable, pushed, acked, for each receiver and device, followed until all have it.
import { useEffect, useState } from "preact/hooks";
import { type Api, explain, Refused } from "./api.ts";

/** How often a message is asked for until all have it. */
const FOLLOW_MS = 1000;
/** Receivers that one message shows; the others are counted. */
const RECEIVERS_MAX = 100;

/** The states of a push that is not over. */
const UNDER_WAY = ["waiting", "queued", "retried"];

/** A message that was sent from here, or that somebody looks for. */
export interface Followed {
  id: string;
  title: string;
  at: number;
  /** Online-only messages leave no trace. */
  isStored: boolean;
  /** Receivers that are no ids. */
  failed: string[];
}

/** `received` is what is known of an OpenIM client in place of `acked`. */
type State = "pending" | "sent" | "received" | "acked" | "expired";

interface Session {
  platform: string;
  deviceID: string;
  state: State;
  sentTime: number | null;
  ackedTime: number | null;
}

/** The doings of vendor push for a class of devices, or for one device. */
interface Push {
  class: string;
  state: string;
  time: number;
  until?: number;
  platform?: string;
  deviceID?: string;
  proof?: string;
  provider?: string;
  device?: string;
  vendorID?: string;
  reason?: string;
}

interface Trace {
  serverMsgID: string;
  clientMsgID: string;
  sendTime: number;
  receiversTotal: number;
  receivers: { userID: string; seq: number; state: State; sessions: Session[]; push?: Push[] }[];
}

const clock = (ms: number) => {
  const date = new Date(ms);
  return `${date.toLocaleTimeString("en-GB")}.${String(date.getMilliseconds()).padStart(3, "0")}`;
};

export function Traces({ api, followed }: { api: Api; followed: Followed[] }) {
  const [wanted, setWanted] = useState("");
  const [looked, setLooked] = useState<Followed[]>([]);
  // What is looked for again is asked for again.
  const others = followed.filter(({ id }) => !looked.some((one) => one.id === id));
  const all = [...others, ...looked].sort((a, b) => b.at - a.at);
  const look = (event: Event) => {
    event.preventDefault();
    const id = wanted.trim();
    const known = all.find((one) => one.id === id);
    const found = { title: id, isStored: true, failed: [], ...known, id, at: Date.now() };
    if (id !== "") setLooked((all) => [found, ...all.filter((other) => other.id !== id)].slice(0, 5));
    setWanted("");
  };
  return (
    <section class="panel" aria-labelledby="traces">
      <h2 id="traces">Delivery</h2>
      <form class="line" onSubmit={look}>
        <input
          aria-label="serverMsgID"
          placeholder="Another message's serverMsgID"
          value={wanted}
          onInput={(event) => setWanted(event.currentTarget.value)}
        />
        <button type="submit" class="plain">
          Trace
        </button>
      </form>
      {all.length === 0 && <p class="empty">What you send is followed here, to each device.</p>}
      <ol class="traces">
        {all.map((one) => (
          <Traced key={`${one.id} ${one.at}`} api={api} one={one} />
        ))}
      </ol>
    </section>
  );
}

/** Asks for a message until every session has it. */
function useTrace(api: Api, one: Followed): [Trace | null, string] {
  const [trace, setTrace] = useState<Trace | null>(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    if (!one.isStored) return;
    const end = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const ask = async () => {
      try {
        const body = { serverMsgID: one.id, limit: RECEIVERS_MAX };
        const trace = await api.call<Trace>("/msg/trace", body);
        if (end.signal.aborted) return;
        setTrace(trace);
        setProblem("");
        const isDone = (state: State) => state === "received" || state === "acked" || state === "expired";
        const isPushed = (push: Push[] = []) => !push.some(({ state }) => UNDER_WAY.includes(state));
        const receivers = trace.receivers.filter(
          ({ sessions, push }) => !sessions.every((s) => isDone(s.state)) || !isPushed(push),
        );
        const isOver = receivers.length === 0 && trace.receivers.every(({ state }) => isDone(state));
        if (!isOver) timer = setTimeout(ask, FOLLOW_MS);
      } catch (error) {
        if (end.signal.aborted) return;
        setProblem(explain(error));
        // Who does not answer may come back; who says no means it.
        if (!(error instanceof Refused)) timer = setTimeout(ask, FOLLOW_MS);
      }
    };
    ask();
    return () => {
      end.abort();
      clearTimeout(timer);
    };
  }, [api, one.id, one.isStored]);
  return [trace, problem];
}

function Traced({ api, one }: { api: Api; one: Followed }) {
  const [trace, problem] = useTrace(api, one);
  const count = (state: State) => trace?.receivers.filter((receiver) => receiver.state === state).length ?? 0;
  return (
    <li data-id={one.id}>
      <p class="title">{one.title}</p>
      <p class="hint mono">{one.id}</p>
      {!one.isStored && <p>Pushed to who was online; it leaves no trace.</p>}
      {one.failed.length > 0 && <p class="problem">No such receivers: {one.failed.join(", ")}</p>}
      {problem !== "" && <p class="problem">{problem}</p>}
      {trace !== null && (
        <>
          <p>
            <b class="ok">Accepted and durable</b> at {clock(trace.sendTime)}, for {trace.receiversTotal}{" "}
            {trace.receiversTotal === 1 ? "receiver" : "receivers"}
            {trace.receivers.length > 1 &&
              `: ${count("acked") + count("received")} acked, ${count("sent")} pushed, ${count("pending")} waiting`}
          </p>
          <table>
            <thead>
              <tr>
                <th>Receiver</th>
                <th>Device</th>
                <th>Pushed</th>
                <th>Acked</th>
              </tr>
            </thead>
            <tbody>{trace.receivers.flatMap((receiver) => [...rows(receiver), ...pushes(receiver)])}</tbody>
          </table>
          {trace.receiversTotal > trace.receivers.length && (
            <p class="hint">and {trace.receiversTotal - trace.receivers.length} more</p>
          )}
        </>
      )}
    </li>
  );
}

function rows({ userID, seq, state, sessions }: Trace["receivers"][number]) {
  const name = (
    <td>
      {userID} <span class="hint">#{seq}</span>
    </td>
  );
  if (sessions.length === 0)
    return [
      <tr key={userID} data-state={state}>
        {name}
        <td colSpan={3} class="hint">
          waits for a first device
        </td>
      </tr>,
    ];
  return sessions.map((session) => (
    <tr key={`${userID} ${session.platform} ${session.deviceID}`} data-state={session.state}>
      {name}
      <td>
        {session.platform} {session.deviceID}
      </td>
      <td>
        {session.sentTime !== null
          ? clock(session.sentTime)
          : session.state === "pending"
            ? "waiting"
            : "yes"}
      </td>
      <td class={session.state === "acked" || session.state === "received" ? "ok" : "hint"}>
        {session.ackedTime !== null
          ? clock(session.ackedTime)
          : session.state === "acked"
            ? "yes"
            : session.state}
      </td>
    </tr>
  ));
}

/** The rows of vendor push, below those of the sessions. */
function pushes({ userID, push = [] }: Trace["receivers"][number]) {
  return push.map((fact) => (
    <tr key={`${userID} push ${fact.class} ${fact.provider} ${fact.device}`} data-push={fact.state}>
      <td class="hint">push</td>
      <td>
        {fact.class} {fact.provider} {fact.device}
      </td>
      <td>{clock(fact.time)}</td>
      <td class={fact.state === "sent" || fact.state === "served" ? "ok" : "hint"}>{said(fact)}</td>
    </tr>
  ));
}

function said({ state, until, platform, deviceID, proof, vendorID, reason }: Push) {
  if (state === "served") return `served by ${platform}${deviceID ? ` ${deviceID}` : ""}: ${proof}`;
  const details = [vendorID, reason, until !== undefined && `until ${clock(until)}`];
  return [state, ...details.filter(Boolean)].join(", ");
}
