// Who sent it: the picture, or the initials while there is none.
import { useState } from "preact/hooks";
import { safeUrl } from "./content.ts";

/** As many tints as the style sheet has. */
const TINTS = 8;

/** A sender's picture. It says nothing to a screen reader: the name stands beside it. */
export function Avatar({ name, url }: { name: string; url: string }) {
  const [failed, setFailed] = useState("");
  const src = safeUrl(url);
  return (
    <span class={`avatar tint-${tint(name)}`} aria-hidden="true">
      {initials(name)}
      {src && src !== failed && (
        <img src={src} alt="" loading="lazy" decoding="async" onError={() => setFailed(src)} />
      )}
    </span>
  );
}

/** One letter each of the first and the last word; of a Chinese name its last two signs, by which people are told apart. */
export function initials(name: string): string {
  const words = name.match(/[\p{L}\p{N}]+/gu) ?? ["?"];
  const [first = "?"] = words;
  if (/\p{Script=Han}/u.test(first)) return [...first].slice(-2).join("");
  const last = words.length > 1 ? words.at(-1) : "";
  return `${[...first][0]}${[...(last ?? "")][0] ?? ""}`.toUpperCase();
}

/** The same for the same name. */
function tint(name: string): number {
  let sum = 0;
  for (const char of name) sum = (sum * 31 + (char.codePointAt(0) ?? 0)) % 65_521;
  return sum % TINTS;
}
