// One entry as a row of a conversation: a message as a card, a gap as a line across.
import { Avatar } from "./avatar.tsx";
import { gapText, senderOf, timeOf, viewOf } from "./entry.ts";
import { Icon } from "./icons.tsx";
import type { Item } from "./mailbox.ts";
import { KindLabel, Preview } from "./parts.tsx";
import { hrefOf } from "./route.ts";
import { say, sayFully, sayTime } from "./words.ts";

export interface CardProps {
  group: string;
  entry: Item;
  isNew: boolean;
  /** Its message was withdrawn by a later one. */
  isWithdrawn: boolean;
  /** It is open in the detail view. */
  isOpen: boolean;
  /** It is the one that Tab leads to. */
  isActive: boolean;
}

export function Card({ group, entry, isNew, isWithdrawn, isOpen, isActive }: CardProps) {
  if (entry.kind === "gap") return <Line icon="gap" text={gapText(entry.gap)} />;
  const { message } = entry;
  const view = viewOf(message);
  const sender = senderOf(message);
  if (view.kind === "withdrawn") return <Line icon="close" text={say("withdrawn", sender)} />;
  const time = timeOf(message);
  return (
    <article class={`card${isOpen ? " is-open" : ""}`}>
      <header>
        <Avatar name={sender} url={message.senderFaceUrl || (view.face ?? "")} />
        <a
          class="card-link"
          href={hrefOf({ group, place: entry.place })}
          tabIndex={isActive ? 0 : -1}
          aria-current={isOpen ? "true" : undefined}
        >
          <span class="sender">{sender}</span>
        </a>
        {isNew && (
          <span class="new-dot">
            <span class="spoken">{say("newMark")}</span>
          </span>
        )}
        <time dateTime={time.toISOString()} title={sayFully(time)}>
          {sayTime(time)}
        </time>
      </header>
      {isWithdrawn ? (
        <p class="text quiet">{say("withdrawnHere")}</p>
      ) : (
        <div class="body">
          <KindLabel view={view} />
          {view.title && <h3>{view.title}</h3>}
          {view.text && <p class="text">{view.text}</p>}
          {view.kind === "unknown" && !view.text && <p class="text quiet">{say("unknown")}</p>}
          <Preview view={view} />
        </div>
      )}
    </article>
  );
}

function Line({ icon, text }: { icon: "gap" | "close"; text: string }) {
  return (
    <p class="line-across">
      <Icon name={icon} />
      <span>{text}</span>
    </p>
  );
}
