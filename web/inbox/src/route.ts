// Which conversation and which message are open: kept in the address, so that the browser's own back leads back.

/** `#/GROUP/PLACE`: both, the conversation alone, or neither. */
export interface Route {
  group?: string;
  place?: number;
}

export function currentRoute(): Route {
  const [, group, place] = location.hash.split("/");
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
