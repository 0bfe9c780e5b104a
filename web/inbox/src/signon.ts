// A sign-on in front of the gateway: a proxy's single sign-on that has expired, or a network's own page.
//
// Only an answer to a navigation can show the form. The service worker hands such an answer on to the browser. The open
// page learns nothing from a WebSocket that is refused, so it asks for its own address and looks at the answer.

/** Every release of the page names its script like this. Other pages do not. */
const OWN_SCRIPT = /"app\.js\?([0-9a-f]{16})"/;
/** Unauthorized, Forbidden (oauth2-proxy's form), and Network Authentication Required (RFC 6585, section 6). */
const REFUSALS = [401, 403, 511];
/** A sign-on that does not answer within this is looked for after the next attempt, ms. */
const ANSWER_TIMEOUT = 10_000;

/** Whether an answer sends the browser to a sign-on. Other errors say nothing: a proxy without its gateway sends 502. */
export function isRefusal({ type, status }: Response): boolean {
  return type === "opaqueredirect" || REFUSALS.includes(status);
}

/** The hash of its script where it is this page, of any release; undefined where a form came in its place. */
export function ownScript(html: string): string | undefined {
  return OWN_SCRIPT.exec(html)?.[1];
}

/** Whether the browser would get something else than this page. False where nothing answers. */
export async function isSignOnWanted(): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT);
    const response = await fetch("./", { redirect: "manual", cache: "no-store", signal });
    return isRefusal(response) || (response.ok && !ownScript(await response.text()));
  } catch {
    return false;
  }
}
