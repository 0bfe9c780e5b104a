// The console: sign-in, then four views, told apart by the address' hash.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Api, forgetToken, savedToken, saveToken } from "./api.ts";
import { Conversations } from "./conversations.tsx";
import { Health } from "./health.tsx";
import { Letters } from "./letters.tsx";
import { Online } from "./online.tsx";
import { Send } from "./send.tsx";
import { Settings } from "./settings.tsx";
import { SignIn, userOf } from "./signin.tsx";
import "../../theme.css";
import "./style.css";

const VIEWS = {
  send: "Send",
  online: "Online",
  health: "Health",
  webhooks: "Webhooks",
  settings: "Settings",
} as const;
type View = keyof typeof VIEWS;

const viewOfHash = (): View => {
  const name = location.hash.slice(1);
  return Object.hasOwn(VIEWS, name) ? (name as View) : "send";
};

function Console() {
  const [token, setToken] = useState(savedToken);
  if (token === null) {
    const enter = (good: string) => {
      saveToken(good);
      setToken(good);
    };
    return <SignIn onToken={enter} />;
  }
  const leave = () => {
    forgetToken();
    setToken(null);
  };
  return <Desk token={token} onLeave={leave} />;
}

function Desk({ token, onLeave }: { token: string; onLeave: () => void }) {
  const [view, setView] = useState(viewOfHash);
  const [api] = useState(() => new Api(token));
  useEffect(() => {
    const follow = () => setView(viewOfHash());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  useEffect(() => {
    document.title = `${VIEWS[view]} · Towncrier Console`;
  }, [view]);
  const user = userOf(token);
  return (
    <>
      <header class="bar">
        <span class="brand">
          <img src="icon.svg" alt="" width="24" height="24" /> Towncrier Console
        </span>
        <nav aria-label="Views">
          {Object.entries(VIEWS).map(([name, label]) => (
            <a key={name} href={`#${name}`} aria-current={name === view ? "page" : undefined}>
              {label}
            </a>
          ))}
        </nav>
        <span class="who" title={user}>
          {user}
        </span>
        <button type="button" class="plain" onClick={onLeave}>
          Sign out
        </button>
      </header>
      <main>
        {/* The draft and the traces stay while another view is looked at. */}
        <div hidden={view !== "send"}>
          <Send api={api} user={user} />
        </div>
        {view === "online" && (
          <>
            <Online api={api} />
            <Conversations api={api} />
          </>
        )}
        {view === "health" && <Health api={api} />}
        {view === "webhooks" && <Letters api={api} />}
        {view === "settings" && <Settings api={api} />}
      </main>
    </>
  );
}

render(<Console />, document.body);
