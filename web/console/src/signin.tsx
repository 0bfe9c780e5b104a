import { useState } from "preact/hooks";
import { Api, explain } from "./api.ts";

/** Whom a token names, as far as it can be read; who it is good for says the gateway. */
export function userOf(token: string): string {
  try {
    const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0));
    return String(JSON.parse(new TextDecoder().decode(bytes)).UID);
  } catch {
    return "";
  }
}

/** Asks for a token and tries it. */
export function SignIn({ onToken }: { onToken: (token: string) => void }) {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState("");
  const [isBusy, setBusy] = useState(false);
  const enter = async (event: Event) => {
    event.preventDefault();
    // A terminal breaks long lines, and who copies from one copies that.
    const whole = token.replace(/\s+/g, "");
    if (userOf(whole) === "") return setProblem("This is not a token. Copy all of it.");
    setBusy(true);
    try {
      // What only an administrator may ask.
      await new Api(whole).get("/gateway/config");
      onToken(whole);
    } catch (error) {
      setProblem(explain(error));
    }
    setBusy(false);
  };
  return (
    <main class="door">
      <form class="panel" onSubmit={enter}>
        <img src="icon.svg" alt="" width="40" height="40" />
        <h1>Towncrier Console</h1>
        <label>
          Administrator's token
          <textarea
            name="token"
            rows={4}
            autocomplete="off"
            spellcheck={false}
            value={token}
            onInput={(event) => setToken(event.currentTarget.value)}
          />
        </label>
        <p class="hint">
          Have one made where the gateway runs:
          <code>towncrier token --user openIM123456</code>
          It is kept until this tab is closed.
        </p>
        <p class="problem" role="alert">
          {problem}
        </p>
        <button type="submit" disabled={isBusy || token.trim() === ""}>
          Sign in
        </button>
      </form>
    </main>
  );
}
