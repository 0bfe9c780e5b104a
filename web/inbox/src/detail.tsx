// One message in full.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Message } from "towncrier";
import { Avatar } from "./avatar.tsx";
import { type View, withdrawn } from "./content.ts";
import { senderOf, timeOf, viewOf } from "./entry.ts";
import { Icon } from "./icons.tsx";
import type { Item, Mailbox } from "./mailbox.ts";
import { KindLabel, Parts, Prose } from "./parts.tsx";
import { goUp } from "./route.ts";
import { say, sayFully } from "./words.ts";

export function Detail({ mailbox, group, place }: { mailbox: Mailbox; group: string; place: number }) {
  const { entry, isWithdrawn } = useEntry(mailbox, group, place);
  const heading = useRef<HTMLHeadingElement>(null);
  const close = () => goUp({ group });
  useLayoutEffect(() => heading.current?.focus({ preventScroll: true }), [place]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape") close();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });
  return (
    <aside class="detail" aria-label={say("details")}>
      <div class="bar">
        <button type="button" class="plain back" onClick={close} aria-label={say("back")}>
          <Icon name="back" />
        </button>
        <h2 ref={heading} tabIndex={-1} class="bar-title">
          {say("details")}
        </h2>
        <button type="button" class="plain close" onClick={close} aria-label={say("close")}>
          <Icon name="close" />
        </button>
      </div>
      {entry?.kind === "message" && <Body message={entry.message} isWithdrawn={isWithdrawn} />}
      {entry === null && <p class="empty quiet">{say("notHere")}</p>}
    </aside>
  );
}

function Body({ message, isWithdrawn }: { message: Message; isWithdrawn: boolean }) {
  const view: View = isWithdrawn ? {} : viewOf(message);
  const sender = senderOf(message);
  const time = timeOf(message);
  return (
    <article class="detail-body">
      <KindLabel view={view} />
      {view.title && <h1>{view.title}</h1>}
      <header>
        <Avatar name={sender} url={message.senderFaceUrl || (view.face ?? "")} />
        <span class="sender">{sender}</span>
        <time dateTime={time.toISOString()}>{sayFully(time)}</time>
      </header>
      {isWithdrawn && <p class="quiet">{say("withdrawnHere")}</p>}
      {view.text && <Prose text={view.text} />}
      {view.kind === "unknown" && !view.text && <p class="quiet">{say("unknown")}</p>}
      {view.kind === "withdrawn" && <p class="quiet">{say("withdrawn", sender)}</p>}
      <Parts view={view} />
      <details class="about">
        <summary>{say("moreAbout")}</summary>
        <dl>
          <dt>{say("from")}</dt>
          <dd>{message.sendId}</dd>
          <dt>{say("number")}</dt>
          <dd>{String(message.seq)}</dd>
          <dt>{say("messageId")}</dt>
          <dd>{message.serverMsgId}</dd>
        </dl>
      </details>
    </article>
  );
}

/** The entry at a place, null when there is none, undefined until that is known; and whether it was withdrawn. */
function useEntry(mailbox: Mailbox, group: string, place: number) {
  const [entry, setEntry] = useState<Item | null>();
  const [isWithdrawn, setWithdrawn] = useState(false);
  useEffect(() => {
    let isCurrent = true;
    const read = async () => {
      const [at] = await mailbox.store.history({ after: place - 1, limit: 1 });
      const found = at?.place === place ? at : null;
      const isGone = found?.kind === "message" && (await mailbox.isWithdrawn(group, place, found.message));
      if (!isCurrent) return;
      setEntry(found);
      setWithdrawn(isGone);
    };
    // Where the store fails the session ends too, which says so.
    const readSoon = () => void read().catch(() => {});
    readSoon();
    const end = mailbox.onArrival((arrival) => {
      if ("entry" in arrival && arrival.entry.kind === "message" && withdrawn(arrival.entry.message))
        readSoon();
    });
    return () => {
      isCurrent = false;
      end();
    };
  }, [mailbox, group, place]);
  return { entry, isWithdrawn };
}
