// A user's conversations: the newest message, the mark and the number of unread messages in each.
import { useState } from "preact/hooks";
import { type Api, explain } from "./api.ts";

/** Conversations asked for at a time. */
const PAGE = 100;

interface Conversation {
  conversationID: string;
  head: number;
  mark: number;
  unread: number;
  lastTime: number;
  lastSeq: number;
}

/** The conversations of one user that were asked for so far, the newest first. */
interface Found {
  userID: string;
  list: Conversation[];
  end: boolean;
}

const since = (ms: number) =>
  new Date(ms).toLocaleString("en-GB", { dateStyle: "short", timeStyle: "short" });

export function Conversations({ api }: { api: Api }) {
  const [wanted, setWanted] = useState("");
  const [found, setFound] = useState<Found | null>(null);
  const [problem, setProblem] = useState("");

  const ask = async (userID: string, before: Conversation[]) => {
    try {
      const beforeSeq = before.at(-1)?.lastSeq ?? 0;
      const page = await api.call<Found>("/conversation/list", { userID, beforeSeq, limit: PAGE });
      setFound({ userID, list: [...before, ...page.list], end: page.end });
      setProblem("");
    } catch (error) {
      setProblem(explain(error));
    }
  };
  const look = (event: Event) => {
    event.preventDefault();
    if (wanted.trim() !== "") ask(wanted.trim(), []);
  };

  return (
    <section class="panel" aria-labelledby="conversations">
      <h2 id="conversations">Conversations</h2>
      <form class="line" onSubmit={look}>
        <input
          aria-label="User"
          placeholder="A user's id"
          value={wanted}
          onInput={(event) => setWanted(event.currentTarget.value)}
        />
        <button type="submit" class="plain">
          Show
        </button>
      </form>
      <p class="problem" role="status">
        {problem}
      </p>
      {found !== null && found.list.length === 0 && <p class="empty">{found.userID} has no messages.</p>}
      {found !== null && found.list.length > 0 && (
        <table>
          <thead>
            <tr>
              <th>Conversation of {found.userID}</th>
              <th>Newest</th>
              <th>Read up to</th>
              <th>Unread</th>
            </tr>
          </thead>
          <tbody>
            {found.list.map(({ conversationID, head, mark, unread, lastTime }) => (
              <tr key={conversationID}>
                <td>{conversationID}</td>
                <td>
                  {head} <span class="hint">{since(lastTime)}</span>
                </td>
                <td>{mark}</td>
                <td>{unread}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {found !== null && !found.end && (
        <button type="button" class="plain" onClick={() => ask(found.userID, found.list)}>
          More
        </button>
      )}
    </section>
  );
}
