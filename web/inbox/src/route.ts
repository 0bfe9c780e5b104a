// Which conversation and which message are open: kept in the address, so that the browser's own back leads back.

/** `#/GROUP/PLACE`: both, the conversation alone, or neither. */
export interface Route {
  group?: string;
  place?: number;
}

export function currentRoute(): Route {
  return routeOf(location.hash);
}

function routeOf(hash: string): Route {
  const [, group, place] = hash.split("/");
  const route: Route = {};
  const name = group && decode(group);
  if (name) route.group = name;
  if (Number(place) > 0 && Number.isSafeInteger(Number(place))) route.place = Number(place);
  return route;
}

/** Nothing where it was not encoded: anybody may write an address. */
function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** The address of a route, for links. */
export function hrefOf({ group, place }: Route): string {
  return `#/${group === undefined ? "" : encodeURIComponent(group)}${place === undefined ? "" : `/${place}`}`;
}

/** Goes there. */
export function go(route: Route): void {
  location.hash = hrefOf(route);
}

/** Goes up there: back, where that is where we came from. The browser's own back would lead down again otherwise. */
export function goUp(route: Route): void {
  const leadsThere = (hash: string) => hrefOf(routeOf(hash)) === hrefOf(route);
  // Pressed twice, before the first one shows.
  if (leadsThere(location.hash)) return;
  const { navigation } = globalThis;
  const before = navigation?.entries()[(navigation.currentEntry?.index ?? 0) - 1];
  if (!before?.url || !leadsThere(new URL(before.url).hash)) {
    go(route);
    return;
  }
  // By its key: pressed twice, it leads no further either. What comes between ends it.
  const { committed, finished } = navigation.traverseTo(before.key);
  for (const end of [committed, finished]) end?.catch(() => {});
}
