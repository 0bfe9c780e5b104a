// The button that turns notices on while no page is open, and off again.
import { useEffect, useState } from "preact/hooks";
import type { Account } from "./account.ts";
import { Icon } from "./icons.tsx";
import { type PushState, pushState, startPush, stopPush } from "./push.ts";
import { say } from "./words.ts";

export function NotifyButton({ account }: { account: Account }) {
  const [state, setState] = useState<PushState>("none");
  const [failure, setFailure] = useState("");
  useEffect(() => {
    let isOver = false;
    // Without the gateway there is nothing to turn on; the next time there is.
    pushState(account).then(
      (state) => isOver || setState(state),
      () => {},
    );
    return () => {
      isOver = true;
    };
  }, [account]);
  if (state === "none") return null;
  const press = () => {
    setFailure("");
    const work = state === "on" ? stopPush(account) : startPush(account);
    work.then(setState, (error) => setFailure(error instanceof Error ? error.message : String(error)));
  };
  const note = failure ? say("failed", failure) : say(state === "denied" ? "notifyDenied" : "notifyNote");
  return (
    <button
      type="button"
      class="plain notify"
      onClick={press}
      disabled={state === "denied"}
      aria-pressed={state === "on"}
      title={note}
    >
      <Icon name={failure ? "warn" : "bell"} />
      {say(state === "on" ? "notifyStop" : "notify")}
    </button>
  );
}
