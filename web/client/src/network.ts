// When the network, or the page itself, may have come back or gone.
//
// What a browser says about the network is a hint (a gateway on this machine is there without any), so all of it leads to
// the same: look whether the gateway answers.

/** Calls `listener` at each such moment; nothing happens where there are no such events. Returns how to end that. */
export function onNetworkChange(listener: () => void): () => void {
  const { document } = globalThis;
  if (typeof globalThis.addEventListener !== "function") return () => {};
  const onVisible = () => {
    if (document.visibilityState === "visible") listener();
  };
  // A page that comes back out of the browser's cache has lost its sockets.
  const events = ["online", "offline", "pageshow"];
  for (const event of events) globalThis.addEventListener(event, listener);
  document?.addEventListener("visibilitychange", onVisible);
  return () => {
    for (const event of events) globalThis.removeEventListener(event, listener);
    document?.removeEventListener("visibilitychange", onVisible);
  };
}
