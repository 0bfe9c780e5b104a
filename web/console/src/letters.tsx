// The events that the receiver of webhooks refused, and the way to send them again.
import { useEffect, useState } from "preact/hooks";
import { type Api, explain } from "./api.ts";

/** Letters asked for at a time. */
const PAGE = 20;

interface Letter {
  number: number;
  eventID: string;
  type: string;
  reason: string;
  refusedTime: number;
  event: { data: unknown };
}

/** The letters that were asked for so far, the oldest first. */
interface Listed {
  total: number;
  list: Letter[];
}

const since = (ms: number) =>
  new Date(ms).toLocaleString("en-GB", { dateStyle: "short", timeStyle: "medium" });

export function Letters({ api }: { api: Api }) {
  const [listed, setListed] = useState<Listed | null>(null);
  const [note, setNote] = useState("");

  const look = async (before: Letter[]) => {
    try {
      const after = before.at(-1)?.number ?? 0;
      const page = await api.call<Listed>("/webhook/dead_letters", { after, limit: PAGE });
      setListed({ total: page.total, list: [...before, ...page.list] });
    } catch (error) {
      setNote(explain(error));
    }
  };
  const again = async (which: { numbers: number[] } | { all: true }) => {
    try {
      const { sent } = await api.call<{ sent: number }>("/webhook/send_again", which);
      setNote(sent === 1 ? "1 event is sent again." : `${sent} events are sent again.`);
      await look([]);
    } catch (error) {
      setNote(explain(error));
    }
  };
  useEffect(() => {
    look([]);
  }, []);

  return (
    <section class="panel" aria-labelledby="letters">
      <h2 id="letters">Webhooks: refused events</h2>
      <p class="problem" role="status">
        {note}
      </p>
      {listed !== null && listed.total === 0 && <p class="empty">The receiver refused no event.</p>}
      {listed !== null && listed.list.length > 0 && (
        <table>
          <thead>
            <tr>
              <th>Event</th>
              <th>Answer</th>
              <th>Data</th>
              <th />
            </tr>
          </thead>
          <tbody>
            {listed.list.map(({ number, eventID, type, reason, refusedTime, event }) => (
              <tr key={number}>
                <td title={eventID}>{type}</td>
                <td>
                  {reason} <span class="hint">{since(refusedTime)}</span>
                </td>
                <td>
                  <details>
                    <summary>Show</summary>
                    <pre>{JSON.stringify(event.data, null, 2)}</pre>
                  </details>
                </td>
                <td>
                  <button type="button" class="plain" onClick={() => again({ numbers: [number] })}>
                    Send again
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <div class="line">
        <button type="button" class="plain" onClick={() => look([])}>
          Look again
        </button>
        {listed !== null && listed.list.length > 0 && listed.list.length < listed.total && (
          <button type="button" class="plain" onClick={() => look(listed.list)}>
            More
          </button>
        )}
        {listed !== null && listed.total > 0 && (
          <button type="button" class="plain" onClick={() => again({ all: true })}>
            Send all {listed.total} again
          </button>
        )}
      </div>
    </section>
  );
}
