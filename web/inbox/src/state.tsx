// How the connection stands: a word beside the name, and a banner where the user should know, or can do, something.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Status } from "towncrier";
import { useOnline, useVisible } from "./hooks.ts";
import { Icon } from "./icons.tsx";
import { isSignOnWanted } from "./signon.ts";
import { say } from "./words.ts";

/** A dot and a word. */
export function StateWord({ status }: { status: Status }) {
  const word = { connecting: "connecting", connected: "receiving", live: "live" } as const;
  const name = word[status.state as keyof typeof word];
  return <span class={`state is-${status.state}`}>{name && say(name)}</span>;
}

export interface BannerProps {
  status: Status;
  onReconnect: () => void;
  /** Opens the store again, after it failed. */
  onReopen: () => void;
  /** Asks for another token; what landed stays. */
  onRenew: () => void;
  onSignOut: () => void;
}

/** What stands above all when not everything is well. */
export function Banner({ status, onReconnect, onReopen, onRenew, onSignOut }: BannerProps) {
  const isOnline = useOnline();
  const isSignOnWanted = useSignOn(status);
  if (status.state === "reconnecting") {
    // The user decides when: the page may be in use without the gateway.
    if (isSignOnWanted)
      return <Bar text={say("signOn")} action={say("goSignOn")} onAction={() => location.reload()} />;
    return <Bar text={say(isOnline ? "reconnecting" : "offline")} />;
  }
  if (status.state !== "ended") return null;
  switch (status.reason) {
    case "stopped":
      return null;
    case "replaced":
      return <Bar text={say("replaced")} action={say("useHere")} onAction={onReconnect} />;
    case "logged_out":
      return <Bar text={say("loggedOut")} action={say("signInAgain")} onAction={onSignOut} />;
    case "refused":
      return <Bar text={say("refused", status.text)} action={say("signInAgain")} onAction={onRenew} />;
    case "store":
      return <Bar text={say("storeFailed", status.text)} action={say("tryAgain")} onAction={onReopen} />;
  }
}

/** Says once that what was kept here was fetched anew. */
export function Anew() {
  const [isRead, setRead] = useState(false);
  return isRead ? null : <Bar text={say("anew")} action={say("close")} onAction={() => setRead(true)} />;
}

/** Whether a sign-on keeps the connection away: looked at after each attempt that failed while the page can be seen. */
function useSignOn(status: Status): boolean {
  const isVisible = useVisible();
  const before = useRef(status.state);
  const [isWanted, setWanted] = useState(false);
  useEffect(() => {
    // A connection that was lost is tried again first: a gateway that restarts is not asked for two things by everybody.
    const hasFailed = before.current === "connecting" || before.current === "reconnecting";
    before.current = status.state;
    if (status.state !== "reconnecting") setWanted(false);
    else if (isVisible && hasFailed) isSignOnWanted().then(setWanted);
  }, [status, isVisible]);
  return isWanted;
}

function Bar({ text, action, onAction }: { text: string; action?: string; onAction?: () => void }) {
  return (
    <div class="banner" role="status">
      <Icon name="warn" />
      <p>{text}</p>
      {action && (
        <button type="button" class="second" onClick={onAction}>
          {action}
        </button>
      )}
    </div>
  );
}
