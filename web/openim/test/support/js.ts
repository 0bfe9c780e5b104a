// The SDK for mini programs, which keeps nothing, in a process of its own.
import { format } from "node:util";
import { WebSocket } from "ws";
import { serve, tell } from "./wire.ts";

/** As in a browser, bytes come as a blob unless it is asked otherwise. */
class BrowserSocket extends WebSocket {
  override binaryType = "blob" as never;
}
// Node has one of its own only from version 22 on.
globalThis.WebSocket = BrowserSocket as unknown as typeof globalThis.WebSocket;
// Before the SDK takes them for its log.
for (const level of ["warn", "error"] as const)
  console[level] = (...words) => tell({ logged: `${level}: ${format(...words)}` });
// This is the one of its four builds that goes on after a break.
const { getSDK, CbEvents } = (await import(
  new URL("index.modern.mjs", import.meta.resolve("@openim/client-sdk")).href
)) as {
  getSDK: () => Record<string, (...args: unknown[]) => Promise<unknown>> & {
    on: (event: string, listener: (callback: Parameters<typeof tell>[0]) => void) => void;
  };
  CbEvents: Record<string, string>;
};
const sdk = getSDK();
for (const event of Object.values(CbEvents)) sdk.on(event, (callback) => tell({ ...callback, event }));

// Where a call of its own fails because the network just broke, it leaves the rejection to whoever finds it.
process.on("unhandledRejection", (reason) =>
  tell({ event: "Unhandled", data: (reason as Error)?.stack ?? JSON.stringify(reason) }),
);

serve(async (method, args) => sdk[method]?.(...args));
tell({ event: "Started" });
