// Writes a message, shows how it will look and what will be sent, sends it once, and follows what became of it.
import { useMemo, useRef, useState } from "preact/hooks";
import { type Api, explain, Refused, randomId } from "./api.ts";
import { Card } from "./card.tsx";
import { type Draft, emptyDraft, missing, path, request } from "./draft.ts";
import { ChoiceField, TextField } from "./fields.tsx";
import { type Followed, Traces } from "./trace.tsx";

/** How many sends the page remembers. */
const FOLLOWED_MAX = 50;

const AUDIENCES = { one: "One user", many: "Several", all: "Everyone" };
const KINDS = { notice: "Notice", text: "Text", custom: "Custom" };
const MIXES = { none: "Text only", picture: "Picture", video: "Video", file: "File" };

interface Sent {
  serverMsgID: string;
}

interface BatchSent {
  resultList: (Sent & { recvID: string })[];
  FailedIDList: string[];
}

/** Sends; resolves to what to follow. */
async function submit(api: Api, draft: Draft, body: object): Promise<Followed> {
  const about = { title: draft.title || draft.text, at: Date.now() };
  if (draft.audience === "one") {
    const sent = await api.call<Sent>(path(draft), body);
    return { ...about, id: sent.serverMsgID, isStored: !draft.onlineOnly, failed: [] };
  }
  const sent = await api.call<BatchSent>(path(draft), body);
  const first = sent.resultList[0];
  if (first === undefined) throw new Refused(200, 0, "it reached nobody: no such receiver");
  return { ...about, id: first.serverMsgID, isStored: !draft.onlineOnly, failed: sent.FailedIDList };
}

export function Send({ api, user }: { api: Api; user: string }) {
  const [draft, setDraft] = useState(() => emptyDraft(user));
  const [followed, setFollowed] = useState<Followed[]>([]);
  const [problem, setProblem] = useState("");
  const [round, setRound] = useState(0);
  const [sentID, setSentID] = useState("");
  const isSending = useRef(false);
  const change = (change: Partial<Draft>) => setDraft((draft) => ({ ...draft, ...change }));
  const text = <K extends keyof Draft>(name: K) => ({
    name,
    value: draft[name] as string,
    onInput: (value: string) => change({ [name]: value }),
  });

  const body = useMemo(() => request(draft), [draft]);
  // Made before it is sent, one for each body: whoever sends again after a cut sends the same message, which lands once.
  // `round` makes it another one.
  const clientMsgID = useMemo(randomId, [body, round]);
  // A second click may come long after the first one's answer.
  const isSent = sentID === clientMsgID;

  const send = async (event: Event) => {
    event.preventDefault();
    if (isSent || isSending.current) return;
    const lacking = missing(draft);
    setProblem(lacking ?? "");
    if (lacking !== null) return;
    if (draft.audience === "all" && !confirm("Send this to everyone?")) return;
    isSending.current = true;
    try {
      const sent = await submit(api, draft, { ...body, clientMsgID });
      // After a cut, the answer may be the first one's.
      setFollowed((all) => [sent, ...all.filter(({ id }) => id !== sent.id)].slice(0, FOLLOWED_MAX));
      setSentID(clientMsgID);
    } catch (error) {
      setProblem(explain(error));
    } finally {
      isSending.current = false;
    }
  };

  return (
    <div class="columns">
      <form class="panel" onSubmit={send} aria-labelledby="compose">
        <h2 id="compose">Compose</h2>
        <ChoiceField
          legend="To"
          name="audience"
          options={AUDIENCES}
          value={draft.audience}
          onChange={(audience) => change({ audience })}
        />
        {draft.audience === "one" && <TextField label="Receiver" hint="user ID" {...text("receiver")} />}
        {draft.audience === "many" && (
          <TextField
            label="Receivers"
            hint="user IDs, apart by spaces or lines"
            rows={3}
            {...text("receivers")}
          />
        )}
        {draft.audience === "all" && (
          <p class="hint">Everyone who ever connected, was registered, or has an inbox.</p>
        )}
        <ChoiceField
          legend="What"
          name="kind"
          options={KINDS}
          value={draft.kind}
          onChange={(kind) => change({ kind })}
        />
        <div class="pair">
          <TextField label="Sender" {...text("sender")} />
          <TextField label="Sender's name" {...text("nickname")} />
        </div>
        <TextField label="Sender's picture" hint="https://…" {...text("faceUrl")} />
        {draft.kind !== "text" && (
          <TextField label={draft.kind === "notice" ? "Title" : "Description"} {...text("title")} />
        )}
        <TextField label={draft.kind === "custom" ? "Data" : "Text"} rows={5} {...text("text")} />
        {draft.kind === "notice" && (
          <>
            <TextField label="Link" hint="https://…" {...text("link")} />
            <ChoiceField
              legend="With"
              name="mix"
              options={MIXES}
              value={draft.mix}
              onChange={(mix) => change({ mix })}
            />
            {draft.mix !== "none" && (
              <TextField label={`${MIXES[draft.mix]}'s address`} hint="https://…" {...text("mediaUrl")} />
            )}
            {draft.mix === "file" && <TextField label="File's name" {...text("fileName")} />}
          </>
        )}
        <label class="check">
          <input
            type="checkbox"
            name="onlineOnly"
            checked={draft.onlineOnly}
            onChange={(event) => change({ onlineOnly: event.currentTarget.checked })}
          />
          Only to who is online now, not stored
        </label>
        <p class="problem" role="alert">
          {problem}
        </p>
        <div class="line">
          <button type="submit" aria-disabled={isSent}>
            Send
          </button>
          <p class="hint" role="status">
            {isSent && "Sent. Change anything for another message."}
          </p>
          {isSent && (
            <button type="button" class="plain" onClick={() => setRound((round) => round + 1)}>
              The same again
            </button>
          )}
        </div>
      </form>
      <div>
        <section class="panel" aria-labelledby="preview">
          <h2 id="preview">Preview</h2>
          <Card draft={draft} />
          <details>
            <summary>Request as JSON</summary>
            <pre>{`POST ${path(draft)}\n${JSON.stringify({ ...body, clientMsgID }, null, 2)}`}</pre>
          </details>
        </section>
        <Traces api={api} followed={followed} />
      </div>
    </div>
  );
}
