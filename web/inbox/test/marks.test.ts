// Messages that were read with an earlier release stay read, and no others become so.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Conversation, Entry } from "towncrier";
import { unknownConversation } from "../../client/src/conversations.ts";
import { gap, message } from "../../client/test/support/messages.ts";
import { keep, kept } from "../src/keep.ts";
import { forgetMarks, takeOverMarks } from "../src/marks.ts";

const EPOCH = 7n;
const [PAYROLL, CANTEEN, CHAT] = ["sn_alice_payroll", "sn_alice_canteen", "si_alice_bob"];

let names = 0;
/** Each test has an account of its own. */
const freshName = () => `towncrier/user${++names}/Web`;

/** One group, that of notices, with these at the places from 1 on: messages of conversations, or gaps. */
function database(entries: [seq: number, conversationId: string | undefined][], epoch = EPOCH): Entry[] {
  return entries.map(([seq, conversationId], index) => {
    const place = { place: index + 1, epoch };
    if (conversationId === undefined) return { ...place, kind: "gap", gap: gap(BigInt(seq), BigInt(seq)) };
    // An earlier release kept no conversation seqs.
    const more = { conversationId, conversationSeq: 0n };
    return { ...place, kind: "message", message: message(seq, `id-${seq}`, more) };
  });
}

/** As the gateway lists it, and has landed. */
function conversation(id: string, head: bigint): Conversation {
  return { ...unknownConversation(id, 0), head, landed: head, unread: Number(head) };
}

/** Takes the marks over; what is read then, by conversation. */
async function takeOver(
  name: string,
  entries: Entry[],
  conversations: Conversation[],
): Promise<Record<string, number>> {
  const read: Record<string, number> = {};
  const store = {
    position: async () => ({ epoch: EPOCH, cursor: 100n }),
    groupHistory: async (group: string, { before = Number.POSITIVE_INFINITY, limit = 100 }) =>
      group === "notices" ? entries.filter(({ place }) => place < before).slice(-limit) : [],
  };
  const client = {
    conversations: async () => conversations,
    markRead: async (id: string, seq: bigint) => {
      if (seq > 0n) read[id] = Number(seq);
    },
  };
  await takeOverMarks(name, store, client);
  return read;
}

const keepMarks = (name: string, marks: object) => keep(`${name}/marks`, JSON.stringify(marks));
const markAt = (seq: number, epoch = EPOCH) => ({ place: 3, epoch: String(epoch), seq: String(seq) });

test("each conversation of a group was read up to the mark, and those of other groups were not", async () => {
  const name = freshName();
  keepMarks(name, { notices: markAt(4) });
  const entries = database([
    [1, PAYROLL],
    [2, CANTEEN],
    [4, PAYROLL],
    [6, PAYROLL],
    [7, undefined],
  ]);
  const conversations = [conversation(PAYROLL, 12n), conversation(CANTEEN, 5n), conversation(CHAT, 2n)];
  assert.deepEqual(await takeOver(name, entries, conversations), { [PAYROLL]: 11, [CANTEEN]: 5 });
  assert.equal(kept(`${name}/marks`), null, "once");
  assert.deepEqual(await takeOver(name, entries, conversations), {});
});

test("a conversation of its own is a group too", async () => {
  const name = freshName();
  keepMarks(name, { [CHAT]: markAt(9) });
  assert.deepEqual(await takeOver(name, [], [conversation(CHAT, 2n), conversation(PAYROLL, 2n)]), {
    [CHAT]: 2,
  });
});

test("a large inbox is looked through", async () => {
  const name = freshName();
  keepMarks(name, { notices: markAt(100) });
  const entries = database(Array.from({ length: 2_000 }, (_, index) => [index + 1, PAYROLL]));
  assert.deepEqual(await takeOver(name, entries, [conversation(PAYROLL, 2_000n)]), { [PAYROLL]: 100 });
});

test("marks wait for a gateway that knows of conversations", async () => {
  const name = freshName();
  keepMarks(name, { notices: markAt(1) });
  assert.deepEqual(await takeOver(name, [], [conversation(PAYROLL, 0n)]), {});
  assert.notEqual(kept(`${name}/marks`), null);
});

test("marks of another log mark nothing, and go", async () => {
  const name = freshName();
  keepMarks(name, { notices: markAt(5, 8n) });
  const entries = database([[1, PAYROLL]]);
  assert.deepEqual(await takeOver(name, entries, [conversation(PAYROLL, 1n)]), {});
  assert.equal(kept(`${name}/marks`), null);
});

test("what cannot be read keeps nobody out", async () => {
  for (const text of ["{", "null", "3", '{"notices":{"place":"3"}}', '{"notices":null}', '{"notices":[]}']) {
    const name = freshName();
    keep(`${name}/marks`, text);
    assert.deepEqual(await takeOver(name, [], [conversation(PAYROLL, 1n)]), {}, text);
  }
});

test("signing out forgets them", () => {
  const name = freshName();
  keepMarks(name, { notices: markAt(1) });
  keep(`${name}/read`, JSON.stringify({ notices: 1 }));
  forgetMarks(name);
  assert.deepEqual([kept(`${name}/marks`), kept(`${name}/read`)], [null, null]);
});
