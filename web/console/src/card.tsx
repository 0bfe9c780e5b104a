// How a message will look to whoever gets it. What it says becomes text, whatever it says.
import { useState } from "preact/hooks";
import type { Draft } from "./draft.ts";

/** An address that may be followed or shown: of the web, else nothing. */
export function webAddress(text: string): string | null {
  try {
    const url = new URL(text.trim());
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

/** The sender's picture, or the beginning of its name. */
function Avatar({ name, url }: { name: string; url: string }) {
  const [failed, setFailed] = useState<string | null>(null);
  const address = webAddress(url);
  if (address !== null && failed !== address)
    return <img class="avatar" src={address} alt="" onError={() => setFailed(address)} />;
  return (
    <span class="avatar" aria-hidden="true">
      {[...name.trim()].slice(0, /^[\x20-\x7e]/.test(name) ? 2 : 1).join("") || "?"}
    </span>
  );
}

function Media({ draft }: { draft: Draft }) {
  const address = webAddress(draft.mediaUrl);
  if (draft.mix === "none" || address === null) return null;
  if (draft.mix === "picture") return <img class="media" src={address} alt="" />;
  // biome-ignore lint/a11y/useMediaCaption: a sender gives none
  if (draft.mix === "video") return <video class="media" src={address} controls preload="none" />;
  return (
    <a class="file" href={address} target="_blank" rel="noreferrer">
      {draft.fileName.trim() || address}
    </a>
  );
}

export function Card({ draft }: { draft: Draft }) {
  const sender = draft.nickname.trim() || draft.sender;
  const link = webAddress(draft.link);
  return (
    <article class="card" aria-label="Preview">
      <Avatar name={sender} url={draft.faceUrl} />
      <div>
        <p class="sender">{sender}</p>
        {draft.kind === "notice" && draft.title !== "" && <h3>{draft.title}</h3>}
        <p class="text">{draft.text || "…"}</p>
        {draft.kind === "notice" && <Media draft={draft} />}
        {draft.kind === "notice" && link !== null && (
          <a href={link} target="_blank" rel="noreferrer">
            {link}
          </a>
        )}
      </div>
    </article>
  );
}
