// The documents say what is there: the protocol page is what its sources make, every link leads somewhere, and every
// block of code is a part of an example that a test runs.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

import { protocol } from "../scripts/protocol.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const documents = readdirSync(`${root}/docs`).filter((name) => name.endsWith(".md") && !name.endsWith(".template.md"));
const read = (path) => readFileSync(resolve(root, path), "utf8");

/** Folders whose examples `tests/cluster/examples.rs` runs, and the languages of their blocks. */
const EXAMPLES = { rust: ["client/examples"], ts: ["web/examples"], html: ["web/examples"] };

/** Lines without their common indentation: a block may be a part of a function. */
function flush(text) {
  const lines = text.split("\n").map((line) => line.trimEnd());
  const full = lines.filter((line) => line !== "");
  const indent = Math.min(...full.map((line) => line.search(/\S/)));
  return lines.map((line) => line.slice(indent)).join("\n").trim();
}

/** Whether the block's lines stand in the file in one piece, whatever their indentation. */
function holds(file, block) {
  const wanted = flush(block).split("\n");
  const lines = file.split("\n").map((line) => line.trimEnd());
  return lines.some((_, start) => {
    const part = lines.slice(start, start + wanted.length);
    return part.length === wanted.length && flush(part.join("\n")) === wanted.join("\n");
  });
}

function blocks(text) {
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language, code]) => ({ language, code }));
}

/** The anchors that GitHub makes of headings. */
function anchors(text) {
  const headings = text.replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/^#+ (.*)$/gm);
  return [...headings].map(([, title]) => title.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-"));
}

test("the protocol page is what its sources make", () => {
  expect(read("docs/protocol.md") === protocol(), "docs/protocol.md is stale: run `make docs`").toBe(true);
});

test("no two headings of the protocol page share an anchor", () => {
  const all = anchors(read("docs/protocol.md"));
  expect(all.filter((anchor, index) => all.indexOf(anchor) !== index)).toEqual([]);
});

test.each(documents)("every link of docs/%s leads somewhere", (name) => {
  const text = read(`docs/${name}`);
  for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^https?:/.test(target)) continue;
    const [path, anchor] = target.split("#");
    const file = path === "" ? `${root}/docs/${name}` : resolve(dirname(`${root}/docs/${name}`), path);
    expect(existsSync(file), `${target}: there is no such file`).toBe(true);
    if (anchor !== undefined) expect(anchors(readFileSync(file, "utf8")), target).toContain(anchor);
  }
});

test.each(documents)("every block of code of docs/%s is a part of an example that runs", (name) => {
  for (const { language, code } of blocks(read(`docs/${name}`))) {
    const folders = EXAMPLES[language];
    if (folders === undefined) continue;
    const files = folders.flatMap((folder) => readdirSync(`${root}/${folder}`).map((file) => `${folder}/${file}`));
    expect(files.some((file) => holds(read(file), code)), `in none of ${files.join(", ")}:\n${code}`).toBe(true);
  }
});

test("every example is run", () => {
  const runner = read("tests/cluster/examples.rs");
  for (const file of [...readdirSync(`${root}/client/examples`), ...readdirSync(`${root}/web/examples`)]) {
    if (!/\.(rs|html)$/.test(file)) continue;
    expect(runner.includes(`"${file.replace(/\.rs$/, "")}"`), `tests/cluster/examples.rs does not run ${file}`).toBe(true);
  }
});
