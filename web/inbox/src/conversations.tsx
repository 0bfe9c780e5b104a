// The list of conversations: notices first, then the others, the newest first; how many are unread in each.
import { Avatar } from "./avatar.tsx";
import { senderOf, summaryOf, timeOf } from "./entry.ts";
import { NOTICES } from "./group.ts";
import { Icon } from "./icons.tsx";
import type { Group } from "./mailbox.ts";
import { hrefOf } from "./route.ts";
import { say, sayBriefly, sayCount } from "./words.ts";

/** Session types in which a group is what is talked in. */
const GROUP_TYPES = [2, 3];

/** What a conversation is called. */
export function nameOf({ group, newest }: Pick<Group, "group" | "newest">): string {
  if (group === NOTICES) return say("notices");
  if (newest?.kind !== "message") return group;
  const { message } = newest;
  return GROUP_TYPES.includes(message.sessionType) ? message.groupId : senderOf(message);
}

export function Conversations({ list, open }: { list: Group[]; open: string | undefined }) {
  return (
    <nav class="conversations" aria-label={say("conversations")}>
      <ul>
        {list.map((conversation) => (
          <li key={conversation.group}>
            <Item conversation={conversation} isOpen={conversation.group === open} />
          </li>
        ))}
      </ul>
    </nav>
  );
}

function Item({ conversation, isOpen }: { conversation: Group; isOpen: boolean }) {
  const { group, newest, unread } = conversation;
  const name = nameOf(conversation);
  const message = newest?.kind === "message" ? newest.message : undefined;
  const isAmongMany = group === NOTICES || GROUP_TYPES.includes(message?.sessionType ?? 0);
  const before = isAmongMany && message ? `${senderOf(message)}: ` : "";
  return (
    <a class="conversation" href={hrefOf({ group })} aria-current={isOpen ? "page" : undefined}>
      {group === NOTICES ? (
        <span class="avatar is-notices" aria-hidden="true">
          <Icon name="bell" />
        </span>
      ) : (
        <Avatar name={name} url={isAmongMany ? "" : (message?.senderFaceUrl ?? "")} />
      )}
      <span class="conversation-name">{name}</span>
      {message && (
        <time dateTime={timeOf(message).toISOString()}>{sayBriefly(timeOf(message), new Date())}</time>
      )}
      <span class="conversation-last">{newest ? before + summaryOf(newest) : say("nothing")}</span>
      {unread > 0 && (
        <span class="count" role="img" aria-label={say("unread", unread)}>
          {sayCount(unread)}
        </span>
      )}
    </a>
  );
}
