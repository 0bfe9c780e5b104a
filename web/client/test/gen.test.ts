// The generated code is of the present .proto.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const FILE = "src/gen/towncrier/v1/gateway.ts";

test("what is generated is what `npm run generate` makes", async () => {
  const folder = await mkdtemp(join(tmpdir(), "towncrier-gen-"));
  after(() => rm(folder, { recursive: true }));
  execFileSync("npm", ["exec", "--", "buf", "generate", "--output", folder], { cwd: ROOT });
  const [made, kept] = await Promise.all([
    readFile(join(folder, FILE), "utf8"),
    readFile(join(ROOT, FILE), "utf8"),
  ]);
  assert.equal(made, kept, "run: npm run generate -w client");
});
