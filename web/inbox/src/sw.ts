// Keeps the page itself, so that it opens without the gateway and shows what has landed.
//
// The page is asked for first and taken from here where it does not come; what it is made of has its hash in its name and
// is taken from here first. Nothing else passes through: no token, no message.

/** Of the service worker's world, what is used here: its types and the page's cannot be loaded together. */
interface WorkerEvents {
  install: { waitUntil(work: Promise<unknown>): void };
  activate: { waitUntil(work: Promise<unknown>): void };
  fetch: {
    request: Request;
    respondWith(response: Promise<Response>): void;
    waitUntil(work: Promise<unknown>): void;
  };
}
interface Worker {
  addEventListener<Name extends keyof WorkerEvents>(
    name: Name,
    listener: (event: WorkerEvents[Name]) => void,
  ): void;
  skipWaiting(): Promise<void>;
  clients: { claim(): Promise<void> };
}
const worker = self as unknown as Worker;

const CACHE = "page";
/** The page's own address. What else there is, a proxy may have put there: the console, say. */
const HOME = new URL("./", self.location.href);
/** A gateway that does not answer within this is not waited for where the page is kept, ms. */
const PATIENCE = 3_000;

worker.addEventListener("install", (event) => {
  event.waitUntil(keepPage().then(() => worker.skipWaiting()));
});
worker.addEventListener("activate", (event) => {
  event.waitUntil(worker.clients.claim());
});
worker.addEventListener("fetch", (event) => {
  const { request } = event;
  const isPage = new URL(request.url).pathname === HOME.pathname;
  if (request.mode === "navigate" && isPage) {
    const fetched = keepPage();
    // It may come too late for this time; the next time it is there.
    event.waitUntil(fetched.catch(() => {}));
    event.respondWith(page(fetched));
  } else if (isPart(new URL(request.url))) {
    event.respondWith(part(request));
  }
});

/** Fetches the page and all that it names, and lets go of what it no longer names. */
async function keepPage(): Promise<Response> {
  const response = await fetch("./");
  if (!response.ok) return response;
  const html = await response.clone().text();
  const names = [...html.matchAll(/(?:href|src)="([^"]+)"/g)].map(
    (match) => new URL(match[1] ?? "", self.location.href),
  );
  const cache = await caches.open(CACHE);
  const kept = new Set((await cache.keys()).map(({ url }) => url));
  await cache.addAll(names.map(({ href }) => href).filter((href) => !kept.has(href)));
  await cache.put("./", response.clone());
  const wanted = new Set([...names.map(({ href }) => href), HOME.href]);
  for (const url of kept) if (!wanted.has(url)) await cache.delete(url);
  return response;
}

/** The page as it is fetched; as it is kept where that fails, is refused, or takes too long. */
async function page(fetched: Promise<Response>): Promise<Response> {
  const kept = await caches.match("./");
  if (!kept) return fetched;
  const late = new Promise<Response>((resolve) => setTimeout(resolve, PATIENCE, kept));
  const fresh = fetched.then(
    (response) => (response.ok ? response : kept),
    () => kept,
  );
  return Promise.race([fresh, late]);
}

/** Whether it is one of the page's own files. */
function isPart({ origin, pathname }: URL): boolean {
  return origin === self.location.origin && /\.(js|css|svg|webmanifest)$/.test(pathname);
}

async function part(request: Request): Promise<Response> {
  const kept = await caches.match(request);
  if (kept) return kept;
  try {
    return await fetch(request);
  } catch (error) {
    // Asked for without its hash, as the icon is: any is better than none.
    const older = await caches.match(request, { ignoreSearch: true });
    if (older) return older;
    throw error;
  }
}
