// Which conversation and which message are open: kept in the address, so that the browser's own back leads back.

/** `#/GROUP/PLACE`: both, the conversation alone, or neither. */
export interface Route {
  group?: string;
  place?: number;
}

export function currentRoute(): Route {
  const [, group, place] = location.hash.split("/");
  const route: Route = {};
  if (group) route.group = decodeURIComponent(group);
  if (Number(place) > 0) route.place = Number(place);
  return route;
}

/** The address of a route, for links. */
export function hrefOf({ group, place }: Route): string {
  return `#/${group === undefined ? "" : encodeURIComponent(group)}${place === undefined ? "" : `/${place}`}`;
}

/** Goes there. */
export function go(route: Route): void {
  location.hash = hrefOf(route);
}
