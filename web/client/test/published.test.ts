// What whoever installs the package gets.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

test("no condition but this repository's own leads to what is not published", async () => {
  const text = await readFile(new URL("../package.json", import.meta.url), "utf8");
  const { exports, files } = JSON.parse(text) as {
    exports: Record<string, Record<string, string>>;
    files: string[];
  };
  const conditions = Object.values(exports).flatMap((entry) => Object.entries(entry));
  const others = conditions.filter(([condition]) => condition !== "towncrier-source");
  assert.equal(others.length, 4);
  for (const [condition, path] of others)
    assert.ok(
      files.some((folder) => path.startsWith(`./${folder}/`)),
      `${condition}: ${path}`,
    );
});
