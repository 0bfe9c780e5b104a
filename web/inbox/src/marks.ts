// Marks of releases of this page that kept them to themselves, in localStorage: taken over once, when the gateway first lists
// conversations.
//
// Such a mark is the seq in the inbox up to which a group had been read, and the log that it is of. All later messages that
// landed are looked through; what else a conversation has was read.
import type { Client, Entry, HistoryQuery, Position } from "towncrier";
import { groupOfConversation } from "./group.ts";
import { keep, kept } from "./keep.ts";

/** Entries looked through at a time. */
const PAGE_ENTRIES = 500;

/** The newest entry of a group that was read. Epoch and seq are decimal: JSON has no such numbers. */
interface Mark {
  epoch: string;
  seq: string;
}

/** The part of the store that is used here. */
interface Landed {
  position(): Promise<Position>;
  groupHistory(group: string, query: HistoryQuery): Promise<Entry[]>;
}

/**
 * Marks as read, on all devices, what was read with an earlier release; call it when all has landed. A gateway that knows nothing
 * of reads is waited for.
 */
export async function takeOverMarks(
  name: string,
  store: Landed,
  client: Pick<Client, "conversations" | "markRead">,
): Promise<void> {
  const marks = marksOf(kept(keyOf(name)));
  if (marks.size === 0) return;
  const conversations = (await client.conversations()).filter(({ head }) => head > 0n);
  if (conversations.length === 0) return;
  const { epoch } = await store.position();
  for (const [group, mark] of marks) {
    if (mark.epoch !== String(epoch)) continue;
    const later = await laterIn(store, group, epoch, BigInt(mark.seq));
    for (const { id, landed } of conversations)
      if (groupOfConversation(id) === group) await client.markRead(id, landed - BigInt(later.get(id) ?? 0));
  }
  forgetMarks(name);
}

/** Removes them from this browser. */
export function forgetMarks(name: string): void {
  keep(keyOf(name));
  // The release before that one kept places.
  keep(`${name}/read`);
}

const keyOf = (name: string) => `${name}/marks`;

/** The number of messages of this log with a higher seq, in each conversation of a group. */
async function laterIn(
  store: Landed,
  group: string,
  epoch: bigint,
  seq: bigint,
): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  let before: number | undefined = Number.POSITIVE_INFINITY;
  while (before !== undefined) {
    const page: Entry[] = await store.groupHistory(group, { before, limit: PAGE_ENTRIES });
    // Within one log places ascend as seqs do.
    const later = page.filter((entry) => entry.epoch === epoch && seqOf(entry) > seq);
    for (const entry of later) {
      if (entry.kind === "gap") continue;
      const { conversationId } = entry.message;
      counts.set(conversationId, (counts.get(conversationId) ?? 0) + 1);
    }
    before = later.length === PAGE_ENTRIES ? page[0]?.place : undefined;
  }
  return counts;
}

function seqOf(entry: Entry): bigint {
  return entry.kind === "message" ? entry.message.seq : entry.gap.toSeq;
}

/** A mark that makes no sense marks nothing. */
function marksOf(text: string | null): Map<string, Mark> {
  try {
    const entries: [string, Mark][] = Object.entries(JSON.parse(text ?? "{}"));
    return new Map(entries.filter(([, mark]) => /^\d+$/.test(mark?.epoch) && /^\d+$/.test(mark?.seq)));
  } catch {
    return new Map();
  }
}
