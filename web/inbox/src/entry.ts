// How an entry reads: who sent it, when, what it is called, and in one line what it says.
import { type Gap, Gap_Reason, type Message } from "towncrier";
import { plainName, type View, view } from "./content.ts";
import type { Item } from "./mailbox.ts";
import { say } from "./words.ts";

/** More than one line shows, however long it is. */
const SUMMARY_MAX = 300;

const views = new WeakMap<Message, View>();

/** A message's parts, taken apart once. */
export function viewOf(message: Message): View {
  let known = views.get(message);
  if (!known) {
    known = view(message);
    views.set(message, known);
  }
  return known;
}

/** The sender as a person knows them. */
export function senderOf(message: Message): string {
  return plainName(message.senderNickname) ?? message.sendId;
}

export function timeOf(message: Message): Date {
  return new Date(Number(message.sendTime));
}

/** The name of a message's kind, where its parts alone do not tell. */
export function kindOf({ kind }: View): string | undefined {
  return kind && kind !== "unknown" && kind !== "withdrawn" ? say(kind) : undefined;
}

/** An entry in one line, for the list of conversations and for who listens. */
export function summaryOf(entry: Item): string {
  if (entry.kind === "gap") return gapText(entry.gap);
  const parts = viewOf(entry.message);
  if (parts.kind === "withdrawn") return say("withdrawn", senderOf(entry.message));
  const words = [parts.title ?? kindOf(parts), parts.text ?? mediumOf(parts)].filter(
    (word) => word !== undefined,
  );
  return words.join(" · ").slice(0, SUMMARY_MAX) || say("unknown");
}

function mediumOf({ picture, video, sound, file, lines }: View): string | undefined {
  if (picture) return say("picture");
  if (video) return say("video");
  if (sound) return say("voice");
  return file?.name ?? lines?.[0];
}

/** What is missing, and why. */
export function gapText({ fromSeq, toSeq, reason }: Gap): string {
  if (reason === Gap_Reason.EPOCH_CHANGED) return say("newLog");
  return fromSeq === toSeq ? say("goneOne", fromSeq) : say("gone", fromSeq, toSeq);
}
