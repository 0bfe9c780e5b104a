// Signing in with a token: typed, or brought by the link that opened the page.
import { useState } from "preact/hooks";
import { type Account, accountOf, isSameInbox } from "./account.ts";
import { useLanguage } from "./hooks.ts";
import { Icon } from "./icons.tsx";
import { LanguageButton } from "./language.tsx";
import { say } from "./words.ts";

export interface SignInProps {
  /** Who is to sign in again; else anybody may. */
  account: Account | undefined;
  /** Who a link signs in, once the user says so: anybody may write a link. */
  link: Account | undefined;
  onSignIn: (account: Account) => void;
  onSignOut: () => void;
  /** The link is not followed. */
  onStay: () => void;
}

export function SignIn({ account, link, onSignIn, onSignOut, onStay }: SignInProps) {
  useLanguage();
  const user = account?.user;
  const isOther = account && link && !isSameInbox(account, link);
  return (
    <main class="sign-in">
      <div class="sign-in-card">
        <img class="logo" src="icon.svg" alt="" width="48" height="48" />
        <h1>Towncrier</h1>
        <p class="lead">
          {link
            ? say("linkLead", link.user)
            : user === undefined
              ? say("signInLead")
              : say("renewLead", user)}
        </p>
        {isOther && <p class="lead">{say("linkOther", account.user)}</p>}
        <TokenForm key={link?.token} first={link?.token ?? ""} onSignIn={onSignIn} />
      </div>
      {user !== undefined && link && (
        <button type="button" class="plain" onClick={onStay}>
          {say("linkStay", user)}
        </button>
      )}
      {user !== undefined && !link && (
        <button type="button" class="plain" onClick={onSignOut} title={say("signOutNote")}>
          <Icon name="exit" />
          {say("signOut")}
        </button>
      )}
      <LanguageButton />
    </main>
  );
}

function TokenForm({ first, onSignIn }: { first: string; onSignIn: (account: Account) => void }) {
  const [token, setToken] = useState(first);
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
      <button type="submit" class="main">
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
