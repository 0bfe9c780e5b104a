// The parts of a message that are more than text: pictures, films, sounds, files, links.
import { useState } from "preact/hooks";
import { split, type View } from "./content.ts";
import { kindOf } from "./entry.ts";
import { Icon } from "./icons.tsx";
import { say, sayDuration, saySize } from "./words.ts";

/** A link out of the page. What it opens learns nothing of us, and gets no hold of us. */
export function OutLink({
  url,
  class: className,
  children,
}: {
  url: string;
  class?: string;
  children: preact.ComponentChildren;
}) {
  return (
    <a class={className} href={url} target="_blank" rel="noopener noreferrer" title={url}>
      {children}
    </a>
  );
}

/** Where the message leads, with the host that it leads to. */
export function LinkButton({ url }: { url: string }) {
  const { host } = new URL(url);
  return (
    <OutLink class="out" url={url}>
      <Icon name="link" />
      <span>{say("openLink")}</span>
      <span class="host">
        <bdi>{host}</bdi>
      </span>
    </OutLink>
  );
}

/** Text with its line breaks, its addresses as links. */
export function Prose({ text }: { text: string }) {
  return (
    <p class="prose">
      {split(text).map((part) => (part.url ? <OutLink url={part.url}>{part.text}</OutLink> : part.text))}
    </p>
  );
}

/** A picture within its frame; words in its place where it does not load. */
export function Picture({ url, alt, ratio }: { url: string; alt: string; ratio: number | undefined }) {
  const [failed, setFailed] = useState("");
  if (failed === url) {
    return (
      <span class="missing">
        <Icon name="picture" />
        {say("pictureGone")}
      </span>
    );
  }
  const style = ratio ? { aspectRatio: String(Math.min(Math.max(ratio, 0.5), 3)) } : {};
  return (
    <img
      class="picture"
      src={url}
      alt={alt}
      loading="lazy"
      decoding="async"
      style={style}
      onError={() => setFailed(url)}
    />
  );
}

/** A file by name and size; a link where it has an address. */
export function FileRow({ file }: { file: NonNullable<View["file"]> }) {
  const row = (
    <>
      <span class="file-icon">
        <Icon name="file" />
      </span>
      <span class="file-name">{file.name}</span>
      {file.bytes !== undefined && <span class="quiet">{saySize(file.bytes)}</span>}
    </>
  );
  if (!file.url) return <span class="file">{row}</span>;
  return (
    <OutLink class="file" url={file.url}>
      {row}
    </OutLink>
  );
}

const KIND_ICONS = { custom: "code", location: "pin", merged: "stack", card: "person" } as const;

/** What kind of message it is, where its parts alone do not tell. */
export function KindLabel({ view }: { view: View }) {
  const icon = KIND_ICONS[view.kind as keyof typeof KIND_ICONS];
  if (!icon) return null;
  return (
    <span class="kind">
      <Icon name={icon} />
      {kindOf(view)}
    </span>
  );
}

/** What a card shows of the parts: enough to know whether to open it. */
export function Preview({ view }: { view: View }) {
  return (
    <>
      {view.quote && <QuoteBlock quote={view.quote} />}
      {view.picture && <Picture url={view.picture.thumb} alt={say("picture")} ratio={view.picture.ratio} />}
      {view.video && (
        <span class="poster">
          {view.video.poster && <Picture url={view.video.poster} alt={say("video")} ratio={16 / 9} />}
          <span class="play">
            <Icon name="play" />
          </span>
          {view.video.seconds !== undefined && (
            <span class="duration">{sayDuration(view.video.seconds)}</span>
          )}
        </span>
      )}
      {view.sound && (
        <span class="chip">
          <Icon name="sound" />
          {say("voice")}
          {view.sound.seconds !== undefined && <span class="quiet">{sayDuration(view.sound.seconds)}</span>}
        </span>
      )}
      {view.file && <FileRow file={view.file} />}
      {view.lines && <Lines lines={view.lines.slice(0, 3)} />}
      {view.link && <LinkButton url={view.link} />}
    </>
  );
}

/** All of the parts. */
export function Parts({ view }: { view: View }) {
  return (
    <>
      {view.quote && <QuoteBlock quote={view.quote} />}
      {view.picture && (
        <OutLink class="frame" url={view.picture.url}>
          <Picture url={view.picture.url} alt={say("picture")} ratio={view.picture.ratio} />
        </OutLink>
      )}
      {view.video && (
        <video
          class="picture"
          controls
          preload="none"
          src={view.video.url}
          {...(view.video.poster ? { poster: view.video.poster } : {})}
        />
      )}
      {/* biome-ignore lint/a11y/useMediaCaption: the sender's sound has none */}
      {view.sound && <audio class="audio" controls preload="none" src={view.sound.url} />}
      {view.file && <FileRow file={view.file} />}
      {view.lines && <Lines lines={view.lines} />}
      {view.data && <pre class="data">{view.data}</pre>}
      {view.link && <LinkButton url={view.link} />}
    </>
  );
}

function QuoteBlock({ quote }: { quote: NonNullable<View["quote"]> }) {
  return (
    <blockquote class="quote">
      {quote.from && <b>{quote.from}</b>} {quote.text}
    </blockquote>
  );
}

function Lines({ lines }: { lines: string[] }) {
  return (
    <ul class="lines">
      {lines.map((line) => (
        <li>{line}</li>
      ))}
    </ul>
  );
}
