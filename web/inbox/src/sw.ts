// Keeps the page itself, so that it opens without the gateway and shows what has landed.
//
// The page is asked for first and taken from here where it does not come; what it is made of has its hash in its name and
// is taken from here first. A sign-on in front of the gateway reaches the browser. Nothing else passes through: no token,
// no message.
//
// A push of the gateway is shown as a notice; a press on it opens its conversation.
import { groupOfConversation } from "./group.ts";
import { ownName } from "./keep.ts";
import { hrefOf } from "./route.ts";
import { isRefusal, ownScript } from "./signon.ts";

/** Of the service worker's world, what is used here: its types and the page's cannot be loaded together. */
interface WorkerEvents {
  install: { waitUntil(work: Promise<unknown>): void };
  activate: { waitUntil(work: Promise<unknown>): void };
  fetch: {
    request: Request;
    respondWith(response: Promise<Response>): void;
    waitUntil(work: Promise<unknown>): void;
  };
  push: { data: { json(): unknown } | null; waitUntil(work: Promise<unknown>): void };
  notificationclick: { notification: Notification; waitUntil(work: Promise<unknown>): void };
}
interface Page {
  url: string;
  focus(): Promise<unknown>;
  navigate(url: string): Promise<unknown>;
}
interface Worker {
  addEventListener<Name extends keyof WorkerEvents>(
    name: Name,
    listener: (event: WorkerEvents[Name]) => void,
  ): void;
  skipWaiting(): Promise<void>;
  registration: { showNotification(title: string, options: NotificationOptions): Promise<void> };
  clients: {
    claim(): Promise<void>;
    matchAll(kind: { type: "window"; includeUncontrolled: boolean }): Promise<Page[]>;
    openWindow(url: string): Promise<unknown>;
  };
}
const worker = self as unknown as Worker;

const CACHE = ownName("page");
/** The page's own address. What else there is, a proxy may have put there: the console, say. */
const HOME = new URL("./", self.location.href);
/** A gateway that does not answer within this is not waited for where the page is kept, ms. */
const PATIENCE = 3_000;

worker.addEventListener("install", (event) => {
  event.waitUntil(
    fetch("./")
      .then(keepPage)
      .then(() => worker.skipWaiting()),
  );
});
worker.addEventListener("activate", (event) => {
  event.waitUntil(worker.clients.claim());
});
worker.addEventListener("fetch", (event) => {
  const { request } = event;
  const isPage = new URL(request.url).pathname === HOME.pathname;
  // A sign-on may come back with a form of its own, which is not asked for twice.
  if (request.mode === "navigate" && request.method === "GET" && isPage) {
    // As the browser asked: a sign-on comes back with a query. A redirect is the browser's to follow.
    const fetched = fetch(request);
    const kept = fetched.then((response) => keepPage(response.clone()));
    // It may come too late for this time; the next time it is there.
    event.waitUntil(kept.catch(() => {}));
    event.respondWith(page(fetched, kept));
  } else if (isPart(new URL(request.url))) {
    event.respondWith(part(request));
  }
});

worker.addEventListener("push", (event) => {
  event.waitUntil(show(readPush(event.data)));
});
worker.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(String(event.notification.data ?? "")));
});

/** A push as the gateway sends it, as far as it is shown. */
interface Push {
  title?: string;
  body?: string;
  badge?: number;
  server_msg_id?: string;
  conversation_id?: string;
}

function readPush(data: { json(): unknown } | null): Push {
  try {
    return (data?.json() ?? {}) as Push;
  } catch {
    return {};
  }
}

/**
 * Shows a push, also one that says nothing: a browser takes the right away from a page that shows none. A repeat has the same
 * tag, and takes the place of the one before.
 */
async function show({
  title,
  body,
  badge,
  server_msg_id: id,
  conversation_id: conversation,
}: Push): Promise<void> {
  await worker.registration.showNotification(title || "Towncrier", {
    body: body ?? "",
    tag: id ?? "",
    icon: "icon.svg",
    data: conversation ? hrefOf({ group: groupOfConversation(conversation) }) : "",
  });
  if (badge !== undefined) await navigator.setAppBadge?.(badge).catch(() => {});
}

/** Opens a part of the page, in a window that has the page already or in a new one. */
async function open(hash: string): Promise<void> {
  const url = new URL(hash, HOME).href;
  const pages = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find((page) => new URL(page.url).pathname === HOME.pathname);
  if (!page) return void (await worker.clients.openWindow(url));
  await page.focus();
  await page.navigate(url);
}

/** Keeps the page and all that it names, and lets go of what it no longer names. Another page is left alone. */
async function keepPage(response: Response): Promise<void> {
  // A redirected answer is not taken by a navigation.
  if (!response.ok || response.redirected) return;
  const html = await response.clone().text();
  if (!ownScript(html)) return;
  const names = [...html.matchAll(/(?:href|src)="([^"]+)"/g)].map(
    (match) => new URL(match[1] ?? "", self.location.href).href,
  );
  const cache = await caches.open(CACHE);
  const kept = new Set((await cache.keys()).map(({ url }) => url));
  await Promise.all(names.filter((name) => !kept.has(name)).map((name) => keepPart(cache, name)));
  await cache.put("./", response);
  const wanted = new Set([...names, HOME.href]);
  for (const url of kept) if (!wanted.has(url)) await cache.delete(url);
}

/** Rejects where something else comes: a sign-on that expired since the page came. It would be kept for ever. */
async function keepPart(cache: Cache, url: string): Promise<void> {
  const response = await fetch(url);
  const isHtml = response.headers.get("content-type")?.startsWith("text/html");
  if (!response.ok || response.redirected || isHtml) throw new Error(`${url} is not a part of the page`);
  await cache.put(url, response);
}

/**
 * The page, or a sign-on, as it is fetched, once `isKept`; the page as it was kept where that fails or takes too long.
 */
async function page(fetched: Promise<Response>, isKept: Promise<void>): Promise<Response> {
  const cache = await caches.open(CACHE);
  const kept = await cache.match("./");
  if (!kept) return fetched;
  const late = new Promise<Response>((resolve) => setTimeout(resolve, PATIENCE, kept));
  const fresh = Promise.all([fetched, isKept]).then(
    ([response]) => (response.ok || isRefusal(response) ? response : kept),
    () => kept,
  );
  return Promise.race([fresh, late]);
}

/** Whether it is one of the page's own files. */
function isPart({ origin, pathname }: URL): boolean {
  const isBeside = origin === HOME.origin && pathname.startsWith(HOME.pathname);
  return isBeside && /\.(js|css|svg|webmanifest)$/.test(pathname);
}

async function part(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request);
  if (kept) return kept;
  try {
    return await fetch(request);
  } catch (error) {
    // Asked for without its hash, as the icon is: any is better than none.
    const older = await cache.match(request, { ignoreSearch: true });
    if (older) return older;
    throw error;
  }
}
