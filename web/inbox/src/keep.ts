// The little that is kept by name, beside the messages: in localStorage, for all tabs; where the browser denies that, or
// it is full, as long as the page.
//
// A browser keeps by host. Where a gateway has a path of its own, the other paths of its host are other gateways, or other
// pages altogether, so names begin with the path.

const instead = new Map<string, string>();

/** A name of this page's own among all that its host keeps. At the root of a host it stays as it is. */
export function ownName(name: string): string {
  const path = globalThis.location ? new URL("./", location.href).pathname : "/";
  return path === "/" ? name : `${path}${name}`;
}

/** What is kept under this name, one of {@link ownName}. */
export function kept(name: string): string | null {
  try {
    return instead.get(name) ?? localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Keeps it, or, without a value, no longer. */
export function keep(name: string, value?: string): void {
  instead.delete(name);
  try {
    if (value === undefined) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    if (value !== undefined) instead.set(name, value);
  }
}

/** What this tab keeps under this name. */
export function keptForTab(name: string): string | null {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Keeps it as long as this tab, where the browser allows that. */
export function keepForTab(name: string, value: string): void {
  try {
    sessionStorage.setItem(name, value);
  } catch {}
}
