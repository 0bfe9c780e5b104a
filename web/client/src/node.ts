/** What the client has for Node alone: the durable file store. */
export { FileStore } from "./file.ts";
