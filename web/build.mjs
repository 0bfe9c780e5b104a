// Builds the two pages into `dist`, which is committed: whoever builds the gateway needs no Node.
//
//   node build.mjs            writes dist
//   node build.mjs --check    builds in memory and fails where dist holds something else
//
// A page is a folder: `index.html`, `src/main.tsx` (which imports its styles), files to copy in `static`, and where there is one
// the service worker `src/sw.ts`. The html names what it loads as `%app.js%`; it becomes `app.js?HASH`, so that the gateway may
// call it immutable.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const ROOT = dirname(fileURLToPath(import.meta.url));
const PAGES = ["inbox", "console"];

/** Everything a page consists of, by file name. */
async function buildPage(page) {
  const folder = join(ROOT, page);
  const entries = [{ in: join(folder, "src/main.tsx"), out: "app" }];
  if (existsSync(join(folder, "src/sw.ts"))) entries.push({ in: join(folder, "src/sw.ts"), out: "sw" });
  const { outputFiles } = await build({
    entryPoints: entries,
    outdir: join(ROOT, "dist", page),
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    // The client's sources, not what is published of it.
    conditions: ["towncrier-source"],
    target: ["es2022"],
    jsx: "automatic",
    jsxImportSource: "preact",
    charset: "utf8",
    legalComments: "none",
  });
  const files = new Map();
  for (const file of outputFiles) files.set(file.path.slice(file.path.lastIndexOf("/") + 1), file.contents);
  const statics = existsSync(join(folder, "static")) ? await readdir(join(folder, "static")) : [];
  for (const name of statics) files.set(name, await readFile(join(folder, "static", name)));
  const html = await readFile(join(folder, "index.html"), "utf8");
  const named = html.replace(/%([\w.-]+)%/g, (_, name) => `${name}?${hash(name, files.get(name))}`);
  return files.set("index.html", Buffer.from(named));
}

/** As the gateway computes it: the beginning of SHA-256. */
function hash(name, contents) {
  if (contents === undefined) throw new Error(`index.html names ${name}, which is not built`);
  return createHash("sha256").update(contents).digest("hex").slice(0, 16);
}

/** What `dist` holds otherwise than it was built. */
async function differences(page, files) {
  const folder = join(ROOT, "dist", page);
  const committed = existsSync(folder) ? await readdir(folder) : [];
  const names = new Set([...committed, ...files.keys()]);
  const found = [];
  for (const name of names) {
    const built = files.get(name);
    const isSame = built && committed.includes(name) && (await readFile(join(folder, name))).equals(built);
    if (!isSame) found.push(`dist/${page}/${name}`);
  }
  return found;
}

async function write(page, files) {
  const folder = join(ROOT, "dist", page);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  for (const [name, contents] of files) await writeFile(join(folder, name), contents);
}

const stale = [];
for (const page of PAGES) {
  const files = await buildPage(page);
  if (process.argv.includes("--check")) stale.push(...(await differences(page, files)));
  else await write(page, files);
}
if (stale.length > 0) {
  console.error(`not what the sources build: ${stale.join(", ")}; run: npm run build`);
  process.exit(1);
}
