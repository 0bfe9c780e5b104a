// The core in Go that is inside of apps for Android, iOS, Flutter and Electron, in a process of its own: `native.ts FOLDER`. Its
// database and its log are in that folder.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { serve, tell } from "./wire.ts";

/** The level of the SDK's log at which it says everything. */
const LOUDEST = 6;

const require = createRequire(import.meta.url);
const browser = require("@openim/wasm-client-sdk");
// Both packages have the same names of events; this version exports them by the older of two words.
browser.SdkEvent ??= browser.CbEvents;

const [folder = ""] = process.argv.slice(2);
const main = require.resolve("@openim/electron-client-sdk");
const library = join(dirname(main), "../assets", `linux_${process.arch}`, "libopenimsdk.so");
const { default: Sdk = require(main), OPENIM_SDK_METHOD_CHANNEL = "openim-sdk-ipc-methods" } = require(main);
const electron = require("electron");

new Sdk(library, {
  send: (_channel: string, _event: string, callback: Parameters<typeof tell>[0]) => tell(callback),
  isDestroyed: () => false,
  once() {},
});

serve(async (method, args) => {
  // An app knows its addresses when it begins, and where it may write.
  if (method === "initSDK") {
    Object.assign(args[0] as object, {
      dataDir: folder,
      logFilePath: folder,
      logLevel: LOUDEST,
      systemType: "electron",
    });
    return { data: await electron.invoke(OPENIM_SDK_METHOD_CHANNEL, method, ...args) };
  }
  return electron.invoke(OPENIM_SDK_METHOD_CHANNEL, method, ...args);
});
tell({ event: "Started" });
