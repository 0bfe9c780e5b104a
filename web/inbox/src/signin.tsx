// Signing in: with a token, or as anybody where the gateway is open for a look around.
import { useEffect, useState } from "preact/hooks";
import { type Account, accountOf, demoAccount, isDemo } from "./account.ts";
import { useLanguage } from "./hooks.ts";
import { Icon } from "./icons.tsx";
import { LanguageButton } from "./language.tsx";
import { say } from "./words.ts";

export interface SignInProps {
  /** Who is to sign in again; else anybody may. */
  user: string | undefined;
  onSignIn: (account: Account) => void;
  onSignOut: () => void;
}

export function SignIn({ user, onSignIn, onSignOut }: SignInProps) {
  useLanguage();
  const [hasDemo, setHasDemo] = useState(false);
  useEffect(() => {
    isDemo().then(setHasDemo);
  }, []);
  return (
    <main class="sign-in">
      <div class="sign-in-card">
        <img class="logo" src="icon.svg" alt="" width="48" height="48" />
        <h1>Towncrier</h1>
        <p class="lead">{user === undefined ? say("signInLead") : say("renewLead", user)}</p>
        {hasDemo && <DemoForm first={user ?? "alice"} onSignIn={onSignIn} />}
        {hasDemo && <p class="or">{say("demoOr")}</p>}
        <TokenForm onSignIn={onSignIn} isSecond={hasDemo} />
      </div>
      {user !== undefined && (
        <button type="button" class="plain" onClick={onSignOut} title={say("signOutNote")}>
          <Icon name="exit" />
          {say("signOut")}
        </button>
      )}
      <LanguageButton />
    </main>
  );
}

function DemoForm({ first, onSignIn }: { first: string; onSignIn: (account: Account) => void }) {
  const [user, setUser] = useState(first);
  const [failure, setFailure] = useState("");
  const enter = async (event: Event) => {
    event.preventDefault();
    try {
      onSignIn(await demoAccount(user.trim()));
    } catch (error) {
      setFailure(say("failed", error instanceof Error ? error.message : String(error)));
    }
  };
  return (
    <form onSubmit={enter}>
      <label>
        {say("demoUser")}
        <input
          name="user"
          value={user}
          maxLength={64}
          required
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          onInput={(event) => setUser(event.currentTarget.value)}
        />
      </label>
      <p class="hint">{say("demoLead")}</p>
      <Failure text={failure} />
      <button type="submit" class="main">
        {say("demoEnter")}
      </button>
    </form>
  );
}

function TokenForm({ onSignIn, isSecond }: { onSignIn: (account: Account) => void; isSecond: boolean }) {
  const [token, setToken] = useState("");
  const [failure, setFailure] = useState("");
  const enter = (event: Event) => {
    event.preventDefault();
    const account = accountOf(token);
    if (account) onSignIn(account);
    else setFailure(say("tokenBad"));
  };
  return (
    <form onSubmit={enter}>
      <label>
        {say("token")}
        <input
          name="token"
          type="password"
          value={token}
          required
          autocomplete="current-password"
          spellcheck={false}
          onInput={(event) => setToken(event.currentTarget.value)}
        />
      </label>
      <p class="hint">{say("tokenHint")}</p>
      <Failure text={failure} />
      <button type="submit" class={isSecond ? "second" : "main"}>
        {say("signIn")}
      </button>
    </form>
  );
}

function Failure({ text }: { text: string }) {
  return (
    <p class="failure" role="alert">
      {text}
    </p>
  );
}
