// The admin API, as an administrator calls it. The token is kept as long as the tab, and goes nowhere but this gateway.

const KEY = "towncrier-console-token";

/** How the sentence about a token that is expired, revoked or none begins. */
const BAD_TOKEN = "parse token failed";

/** The gateway said no: its errCode and sentence. */
export class Refused extends Error {
  readonly status: number;
  readonly code: number;

  constructor(status: number, code: number, sentence: string) {
    super(sentence);
    this.status = status;
    this.code = code;
  }
}

/** The gateway was not reached: something in front of it wants a sign-on. */
export class SignOnWanted extends Error {}

/** Statuses with which a sign-on shows its form; a proxy without its gateway answers otherwise. */
const FORM_STATUSES = [200, 401, 403, 511];

/** The token of this tab, if someone signed in. */
export const savedToken = (): string | null => sessionStorage.getItem(KEY);
export const saveToken = (token: string): void => sessionStorage.setItem(KEY, token);
export const forgetToken = (): void => sessionStorage.removeItem(KEY);

/** Random, 32 hex digits. `crypto.randomUUID` is missing where the page came over plain HTTP from another machine. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The address of a path of the API: beside the folder that this page is in, wherever a proxy has put both. */
export const addressOf = (path: string): string => new URL(`..${path}`, location.href).href;

/** Asks the gateway. Throws {@link SignOnWanted}, or what `fetch` throws when nobody answers. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const response = await fetch(addressOf(path), { ...init, cache: "no-store", redirect: "manual" });
  const isHtml = response.headers.get("content-type")?.startsWith("text/html");
  const isForm = isHtml && FORM_STATUSES.includes(response.status);
  if (response.type === "opaqueredirect" || isForm) throw new SignOnWanted();
  return response;
}

export class Api {
  readonly #token: string;

  constructor(token: string) {
    this.#token = token;
  }

  /** Calls with `POST`; resolves to the answer's `data`. Throws `Refused`, or what {@link ask} throws. */
  call<T>(path: string, body: object): Promise<T> {
    return this.#ask<T>(path, {
      method: "POST",
      headers: { token: this.#token, "content-type": "application/json" },
      body: JSON.stringify({ operationID: `console-${randomId()}`, ...body }),
    });
  }

  /** The same with `GET`. */
  get<T>(path: string): Promise<T> {
    return this.#ask<T>(path, { headers: { token: this.#token } });
  }

  async #ask<T>(path: string, init: RequestInit): Promise<T> {
    const response = await ask(path, init);
    const answer = (await response.json()) as { errCode: number; errMsg: string; data: T };
    if (answer.errCode !== 0) throw new Refused(response.status, answer.errCode, answer.errMsg);
    return answer.data;
  }
}

/** What went wrong, in a sentence for whoever reads the page. */
export function explain(error: unknown): string {
  if (error instanceof Refused && error.message.startsWith(BAD_TOKEN))
    return "The gateway does not accept this token: sign in with another one.";
  if (error instanceof Refused) return `${error.message} (errCode ${error.code})`;
  if (error instanceof SignOnWanted)
    return "Your organisation or your network asks you to sign on again: open this page in another tab, then try again here.";
  return "The gateway does not answer. Try again in a moment.";
}
