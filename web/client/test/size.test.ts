// What the client costs whoever loads it, its protobuf runtime included.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const GZIPPED_BYTES_MAX = 20 * 1024;

test("the whole client is at most 20 KiB gzipped", async (context) => {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("../src/index.ts", import.meta.url))],
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
  });
  const [bundle] = outputFiles;
  assert.ok(bundle);
  const bytes = gzipSync(bundle.contents, { level: 9 }).length;
  context.diagnostic(`${bytes} bytes gzipped, ${bundle.contents.length} minified`);
  assert.ok(bytes <= GZIPPED_BYTES_MAX);
});
