// A store's knowledge of each conversation, and its changes when entries land, the user reads or the gateway lists. Pure.
//
// A conversation seq counts the messages of one conversation, so its head and what is unread follow from what lands. The
// gateway's list adds what a store cannot know by itself: what came before it, what is gone, and what was read meanwhile.
// Each function returns the very conversation that it was given where nothing of it changed.
import type { Conversation as Listed, Message } from "./gen/towncrier/v1/gateway.ts";
import type { Position } from "./landing.ts";

/** A conversation of the user, as a store knows it. */
export interface Conversation {
  id: string;
  /** Highest conversation seq; 0 where the gateway gives none. */
  head: bigint;
  /** Oldest conversation seq that the gateway had when it was last asked; 0: it was not. */
  first: bigint;
  /** All up to this conversation seq has landed here, or is known to be gone. */
  landed: bigint;
  /** The user has read all up to this conversation seq, here or elsewhere. */
  mark: bigint;
  /** The mark that the gateway has confirmed. Where it is below `mark`, the rest is still on its way there. */
  confirmed: bigint;
  /** Messages above the mark. */
  unread: number;
  /** False where `unread` may be too high until the gateway lists the conversation: some messages above the mark are gone. */
  isCounted: boolean;
  /** Time of the newest message, Unix ms. */
  lastTime: bigint;
  /** Seq of the newest message in the inbox. */
  lastSeq: bigint;
  /** Entries up to this place count as read: they landed before the conversation had numbers, or in another log. */
  readPlace: number;
}

/** Where a store stands while conversations change in it. */
export interface Standing {
  position: Position;
  /** The newest entry's place; 0 when there is none. */
  place: number;
}

/** Makes another conversation of one, or returns it as it is. */
export type Change = (conversation: Conversation, standing: Standing) => Conversation;

/** A conversation of which nothing is known; `place` is that of the newest entry. */
export function unknownConversation(id: string, place: number): Conversation {
  return {
    id,
    head: 0n,
    first: 0n,
    landed: 0n,
    mark: 0n,
    confirmed: 0n,
    unread: 0,
    isCounted: true,
    lastTime: 0n,
    lastSeq: 0n,
    readPlace: place,
  };
}

/** True for an entry of the inbox that is no message, but says what the user has read. */
export function isMarks({ marks }: Message): boolean {
  return marks.length > 0;
}

/** The conversations that these entries change. */
export function conversationsOf(entries: Message[]): string[] {
  const ids = entries.flatMap((entry) =>
    isMarks(entry) ? entry.marks.map(({ conversationId }) => conversationId) : entry.conversationId,
  );
  return [...new Set(ids)];
}

/** The conversations of these entries after the entries landed. `kept` are the messages that the store did not have. */
export function afterLanding(
  conversations: Iterable<Conversation>,
  entries: Message[],
  kept: ReadonlySet<Message>,
): Conversation[] {
  const known = new Map([...conversations].map((conversation) => [conversation.id, conversation]));
  const change = (id: string, next: (conversation: Conversation) => Conversation) => {
    const conversation = known.get(id);
    if (conversation) known.set(id, next(conversation));
  };
  for (const entry of entries) {
    if (!isMarks(entry))
      change(entry.conversationId, (before) => withMessage(before, entry, kept.has(entry)));
    for (const { conversationId, conversationSeq } of entry.marks)
      change(conversationId, (before) => withMark(before, conversationSeq));
  }
  return [...known.values()];
}

function withMessage(before: Conversation, message: Message, isNew: boolean): Conversation {
  const { conversationSeq, seq, sendTime } = message;
  const newest = { lastSeq: max(before.lastSeq, seq), lastTime: max(before.lastTime, sendTime) };
  // An older gateway gives no numbers: what lands is counted.
  if (conversationSeq === 0n) return revised(before, { ...newest, unread: before.unread + Number(isNew) });
  // The gateway's list counts up to the head.
  const isUnread = conversationSeq > before.head && conversationSeq > before.mark;
  return revised(before, {
    ...newest,
    head: max(before.head, conversationSeq),
    landed: max(before.landed, conversationSeq),
    unread: before.unread + Number(isUnread),
  });
}

/** A mark that the gateway has. It follows on the messages that it marks. */
function withMark(before: Conversation, mark: bigint): Conversation {
  const known = revised(before, {
    head: max(before.head, mark),
    landed: max(before.landed, mark),
    confirmed: max(before.confirmed, mark),
  });
  return moved(known, mark);
}

/** The user read here up to `seq`. Where the gateway gives no numbers: all that has landed. */
export function withRead(before: Conversation, seq: bigint, { place }: Standing): Conversation {
  if (before.head > 0n) return moved(before, seq < before.head ? seq : before.head);
  return before.unread === 0 ? before : revised(before, { unread: 0, readPlace: place });
}

/** The gateway lists it. The answer may be older than the latest messages that landed, and than the latest mark. */
export function withListed(
  before: Conversation,
  listed: Listed,
  { position, place }: Standing,
): Conversation {
  const hasLanded = listed.lastSeq <= position.cursor;
  const landedSince = before.head > listed.head ? Number(before.head - listed.head) : 0;
  const stands: Conversation = {
    ...before,
    head: max(before.head, listed.head),
    first: listed.first,
    landed: hasLanded ? max(before.landed, listed.head) : before.landed,
    mark: listed.mark,
    confirmed: max(before.confirmed, listed.mark),
    unread: listed.unread + landedSince,
    isCounted: true,
    lastTime: max(before.lastTime, listed.lastTime),
    lastSeq: max(before.lastSeq, listed.lastSeq),
    // The gateway counts as read what it had before there were numbers.
    readPlace: before.head === 0n ? place : before.readPlace,
  };
  return revised(before, moved(stands, before.mark));
}

/** The gateway did not take the user's mark. Its next list brings the right number of unread messages. */
export function withoutRead(before: Conversation): Conversation {
  return revised(before, { mark: before.confirmed });
}

/** The cursor moved over what is gone, and what is gone was told. */
export function withGone(before: Conversation, { position }: Standing): Conversation {
  const landed = before.lastSeq <= position.cursor ? before.head : before.first - 1n;
  return revised(before, { landed: max(before.landed, landed) });
}

/** True where the gateway no longer has messages that have not landed here. */
export function isMissingSome({ first, landed }: Conversation): boolean {
  return first > landed + 1n;
}

/** True where the gateway has yet to confirm the user's mark. */
export function isReadWaiting({ mark, confirmed }: Conversation): boolean {
  return mark > confirmed;
}

/** The mark moves forward, or not at all. */
function moved(before: Conversation, mark: bigint): Conversation {
  if (mark <= before.mark) return before;
  if (mark >= before.head) return revised(before, { mark, unread: 0, isCounted: true });
  const above = (from: bigint) => Number(before.head - max(from, before.first - 1n));
  // Where some above the mark are gone, it is not known on which side of the new mark they were.
  const isCounted = before.isCounted && before.unread === above(before.mark);
  return revised(before, { mark, unread: Math.min(before.unread, above(mark)), isCounted });
}

function revised(before: Conversation, change: Partial<Conversation>): Conversation {
  const isSame = Object.entries(change).every(([key, value]) => before[key as keyof Conversation] === value);
  return isSame ? before : { ...before, ...change };
}

function max(one: bigint, other: bigint): bigint {
  return one > other ? one : other;
}
