// What a message says, as parts to show: from the JSON object of the send request, which may hold anything. Pure.
//
// Nothing in here is ever html, and no address leaves here that is not http or https: what a sender writes can be read,
// and cannot act.
import type { Message } from "towncrier";

/** The parts of a message that are there. */
export interface View {
  title?: string;
  text?: string;
  /** A message that this one answers. */
  quote?: { from: string; text: string };
  picture?: { url: string; thumb: string; ratio: number | undefined };
  video?: { url: string; poster: string | undefined; seconds: number | undefined };
  sound?: { url: string; seconds: number | undefined };
  file?: { url: string | undefined; name: string; bytes: number | undefined };
  /** Where the message leads. */
  link?: string;
  /** One line each of the messages that were put together here. */
  lines?: string[];
  /** What only a program understands. */
  data?: string;
  /** A notice's own picture, for a sender without one. */
  face?: string;
  /** What kind it is where its parts do not say so. */
  kind?: Kind;
}

/** Kinds that have a name of their own on the page. */
export type Kind = "custom" | "location" | "merged" | "card" | "withdrawn" | "unknown";

/** Numbers of content types. */
export const CONTENT = {
  text: 101,
  picture: 102,
  sound: 103,
  video: 104,
  file: 105,
  at: 106,
  merged: 107,
  card: 108,
  location: 109,
  custom: 110,
  revoke: 111,
  typing: 113,
  quote: 114,
  notice: 1400,
} as const;

/** What `mixType` says a notice carries beside its text. */
const MIX = { picture: 1, video: 2, file: 3 } as const;

/** JSON nested deeper than this is shown as it came: with a step to the right for each level it would be megabytes. */
const NESTING_MAX = 16;
/** Signs that turn the direction of what stands after them: `gpj.exe` reads as a picture's name. */
const TURNING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
/** A sign that can be seen. */
const SEEN = /[^\s\p{Default_Ignorable_Code_Point}\p{Cc}\u2800]/u;

type Content = Record<string, unknown>;

/** The parts of a message. Never throws, whatever the content is. */
export function view(message: Message): View {
  const content = parse(message.content);
  if (!content) return { kind: "unknown" };
  switch (message.contentType) {
    case CONTENT.notice:
      return notice(content);
    case CONTENT.text:
    case CONTENT.at:
      return compact({ text: string(content, "text") });
    case CONTENT.picture:
      return compact({ picture: picture(content) });
    case CONTENT.sound:
      return compact({ sound: sound(content) });
    case CONTENT.video:
      return compact({ video: video(content) });
    case CONTENT.file:
      return compact({ file: file(content) });
    case CONTENT.merged:
      return compact({
        kind: "merged",
        title: string(content, "title"),
        lines: strings(content, "abstractList"),
      });
    case CONTENT.card:
      return compact({ kind: "card", title: string(content, "nickname"), text: string(content, "userID") });
    case CONTENT.location:
      return compact({ kind: "location", text: string(content, "description"), data: coordinates(content) });
    case CONTENT.custom:
      return compact({
        kind: "custom",
        text: string(content, "description"),
        data: pretty(string(content, "data")),
      });
    case CONTENT.revoke:
      return { kind: "withdrawn" };
    case CONTENT.quote:
      return compact({ text: string(content, "text"), quote: quote(content) });
    default:
      return compact({ kind: "unknown", text: string(content, "text") });
  }
}

/** The clientMsgID that a revoke message withdraws. */
export function withdrawn(message: Message): string | undefined {
  if (message.contentType !== CONTENT.revoke) return undefined;
  const content = parse(message.content);
  return content && string(content, "revokeMsgClientID");
}

/** An address that may be opened or shown, as the browser understands it; else nothing. */
export function safeUrl(text: unknown): string | undefined {
  if (typeof text !== "string") return undefined;
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : undefined;
  } catch {
    return undefined;
  }
}

/** A name as it can be trusted to read; nothing where there is nothing to see. */
export function plainName(text: string): string | undefined {
  return SEEN.test(text) ? text.replace(TURNING, "").trim() : undefined;
}

/** Text and the addresses within it, in order. */
export function split(text: string): { text: string; url?: string }[] {
  const parts: { text: string; url?: string }[] = [];
  let end = 0;
  for (const match of text.matchAll(
    /https?:\/\/[^\s<>"'，。；！？、）】」\p{Default_Ignorable_Code_Point}]+/giu,
  )) {
    const found = withoutStops(match[0]);
    const url = safeUrl(found);
    if (!url) continue;
    if (match.index > end) parts.push({ text: text.slice(end, match.index) });
    parts.push({ text: found, url });
    end = match.index + found.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end) });
  return parts;
}

/** Without the signs at its end that belong to the sentence. Step by step: a pattern would try from each of them. */
function withoutStops(address: string): string {
  let end = address.length;
  while (".,;:!?)]".includes(address.charAt(end - 1))) end -= 1;
  return address.slice(0, end);
}

/** A notice shows its picture, film or file only where its `mixType` says that it has one. */
function notice(content: Content): View {
  const mix = content.mixType;
  return compact({
    title: string(content, "notificationName"),
    text: string(content, "text"),
    face: safeUrl(content.notificationFaceURL),
    link: safeUrl(content.externalUrl) ?? safeUrl(content.url),
    picture: mix === MIX.picture ? picture(object(content, "pictureElem")) : undefined,
    video: mix === MIX.video ? video(object(content, "videoElem")) : undefined,
    file: mix === MIX.file ? file(object(content, "fileElem")) : undefined,
  });
}

function picture(content: Content): View["picture"] {
  const sizes = ["sourcePicture", "bigPicture", "snapshotPicture"].map((name) => object(content, name));
  const urls = sizes.map((size) => safeUrl(size.url)).filter((url) => url !== undefined);
  const [url] = urls;
  const thumb = urls.at(-1);
  if (!url || !thumb) return undefined;
  const sized = sizes.find((size) => number(size, "width") && number(size, "height"));
  const ratio = sized && (number(sized, "width") ?? 1) / (number(sized, "height") ?? 1);
  return { url, thumb, ratio };
}

function video(content: Content): View["video"] {
  const url = safeUrl(content.videoUrl);
  return url
    ? { url, poster: safeUrl(content.snapshotUrl), seconds: number(content, "duration") }
    : undefined;
}

function sound(content: Content): View["sound"] {
  const url = safeUrl(content.sourceUrl);
  return url ? { url, seconds: number(content, "duration") } : undefined;
}

function file(content: Content): View["file"] {
  const url = safeUrl(content.sourceUrl);
  const name = plainName(string(content, "fileName") ?? "") ?? url?.split("/").at(-1);
  return name ? { url, name, bytes: number(content, "fileSize") } : undefined;
}

function quote(content: Content): View["quote"] {
  const quoted = object(content, "quoteMessage");
  const inner = typeof quoted.content === "string" ? parseText(quoted.content) : object(quoted, "content");
  const text =
    (inner && string(inner, "text")) ??
    string(object(quoted, "textElem"), "content") ??
    string(quoted, "content");
  return text ? { from: string(quoted, "senderNickname") ?? "", text } : undefined;
}

function coordinates(content: Content): string | undefined {
  const [latitude, longitude] = [content.latitude, content.longitude];
  if (typeof latitude !== "number" || typeof longitude !== "number") return undefined;
  return `${latitude.toFixed(5)}, ${longitude.toFixed(5)}`;
}

function pretty(data: string | undefined): string | undefined {
  if (!data || nesting(data) > NESTING_MAX) return data;
  try {
    return JSON.stringify(JSON.parse(data), null, 2);
  } catch {
    return data;
  }
}

/** How deep brackets stand within brackets; too deep where they stand within strings. */
function nesting(text: string): number {
  let [depth, deepest] = [0, 0];
  for (const sign of text) {
    if (sign === "[" || sign === "{") depth += 1;
    else if (sign === "]" || sign === "}") depth -= 1;
    deepest = Math.max(deepest, depth);
  }
  return deepest;
}

function parse(bytes: Uint8Array): Content | undefined {
  return parseText(new TextDecoder().decode(bytes));
}

function parseText(text: string): Content | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Content {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function object(content: Content, name: string): Content {
  const value = content[name];
  return isObject(value) ? value : {};
}

/** A text that is not empty. */
function string(content: Content, name: string): string | undefined {
  const value = content[name];
  return typeof value === "string" && value.trim() ? value : undefined;
}

function strings(content: Content, name: string): string[] | undefined {
  const value = content[name];
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : undefined;
}

/** A number above 0 that can be of something. */
function number(content: Content, name: string): number | undefined {
  const value = content[name];
  return typeof value === "number" && value > 0 && value <= Number.MAX_SAFE_INTEGER ? value : undefined;
}

/** Without the parts that are not there. */
function compact(parts: { [Part in keyof View]: View[Part] | undefined }): View {
  return Object.fromEntries(Object.entries(parts).filter(([, part]) => part !== undefined)) as View;
}
