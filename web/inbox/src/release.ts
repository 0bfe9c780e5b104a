// Which release of the page this is, and whether it is the one that the gateway serves.
import { keepForTab, keptForTab, ownName } from "./keep.ts";
import { ownScript } from "./signon.ts";

const KEY = ownName("towncrier.loadedFor");
/** A gateway that does not answer within this is asked again later, ms. */
const ANSWER_TIMEOUT = 10_000;

/**
 * Whether the gateway serves this release; undefined where it cannot be asked. Where it serves another one, that is loaded in
 * place of this page: once, so that a proxy that serves now this one and now that one leads to no loop.
 */
export async function isServed(): Promise<boolean | undefined> {
  const served = await servedScript();
  if (served === undefined) return undefined;
  if (served === new URL(import.meta.url).search.slice(1)) return true;
  if (keptForTab(KEY) !== served) {
    keepForTab(KEY, served);
    location.reload();
  }
  return false;
}

/** The hash of the script that the gateway's page names. */
async function servedScript(): Promise<string | undefined> {
  try {
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT);
    const response = await fetch("./", { redirect: "manual", cache: "no-store", signal });
    return response.ok ? ownScript(await response.text()) : undefined;
  } catch {
    return undefined;
  }
}
