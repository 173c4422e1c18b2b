// Writes docs/protocol.md: docs/protocol.template.md, with what is between double braces made from the sources.
//
//   {{proto NAME}}   services, enums and messages of proto/waystation/v1/NAME.proto, with their comments
//   {{errors}}       the table of codes, from proto/src/code.rs and proto/src/refusal.rs
//
// Usage: node scripts/protocol.mjs [--check]     with --check nothing is written; exit status 1 if the file is stale
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createFileRegistry, fromBinary, ScalarType } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { getComments } from "@bufbuild/protoplugin";

const at = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const read = (path) => readFileSync(at(path), "utf8");

const OUTPUT = "docs/protocol.md";
const TEMPLATE = "docs/protocol.template.md";
const HEAD = "<!-- Made by `make docs` from protocol.template.md and proto/; do not edit. -->\n\n";

/** A comment as running text: what stood on one line's end and the next line's start is one sentence. */
const prose = (text = "") => text.split("\n").map((line) => line.trim()).join(" ").replace(/\s+/g, " ").trim();
const cell = (text) => prose(text).replaceAll("|", "\\|");
const commentOf = (desc) => getComments(desc).leading ?? getComments(desc).trailing;
/** Anchors as GitHub makes them of a heading that is one name. */
const link = (desc) => `[${desc.name}](#${desc.name.toLowerCase()})`;

function descriptors() {
  const image = execFileSync(at("web/node_modules/.bin/buf"), ["build", at("proto"), "-o", "-#format=binpb"], { maxBuffer: 64 << 20 });
  const set = fromBinary(FileDescriptorSetSchema, image);
  // `buf` sorts files by name; the registry wants imports first.
  return createFileRegistry(set);
}

function scalar(type) {
  return ScalarType[type].toLowerCase();
}

function typeOf(field) {
  switch (field.fieldKind) {
    case "scalar": return scalar(field.scalar);
    case "enum": return link(field.enum);
    case "message": return link(field.message);
    case "list": {
      const of = field.listKind === "scalar" ? scalar(field.scalar) : link(field.listKind === "enum" ? field.enum : field.message);
      return `repeated ${of}`;
    }
    case "map": throw new Error(`${field}: maps are not shown yet; teach protocol.mjs`);
  }
}

function messageText(message) {
  const lines = [`### ${message.name}`, ""];
  const about = prose(commentOf(message));
  if (about !== "") lines.push(about, "");
  if (message.fields.length === 0) return [...lines, "No fields.", ""];
  const groups = message.oneofs.map((group) => `\`${group.name}\``);
  if (groups.length > 0) lines.push(`One field at most is set of ${groups.join(", ")}.`, "");
  lines.push("| no. | field | type | |", "| --- | --- | --- | --- |");
  for (const field of message.fields) {
    const group = field.oneof === undefined ? "" : `${field.oneof.name}: `;
    lines.push(`| ${field.number} | \`${field.name}\` | ${typeOf(field)} | ${cell(`${group}${commentOf(field) ?? ""}`).replace(/: ?$/, "")} |`);
  }
  return [...lines, ""];
}

function enumText(desc) {
  const lines = [`### ${desc.name}`, ""];
  const about = prose(commentOf(desc));
  if (about !== "") lines.push(about, "");
  lines.push("| no. | value | |", "| --- | --- | --- |");
  for (const value of desc.values) lines.push(`| ${value.number} | \`${value.name}\` | ${cell(commentOf(value))} |`);
  return [...lines, ""];
}

function serviceText(service) {
  const lines = [`### ${service.name}`, ""];
  const about = prose(commentOf(service));
  if (about !== "") lines.push(about, "");
  lines.push("| method | takes | answers | |", "| --- | --- | --- | --- |");
  for (const method of service.methods) {
    const streams = (wanted) => method.methodKind === wanted || method.methodKind === "bidi_streaming" ? "stream of " : "";
    lines.push(`| \`${method.name}\` | ${streams("client_streaming")}${link(method.input)} | ${streams("server_streaming")}${link(method.output)} | ${cell(commentOf(method))} |`);
  }
  return [...lines, ""];
}

/** The comment above `syntax`. */
function headOf(file) {
  const syntax = file.proto.sourceCodeInfo?.location.find(({ path }) => path.length === 1 && path[0] === 12);
  return prose(syntax?.leadingComments);
}

function fileText(registry, name, shown) {
  const path = `waystation/v1/${name}.proto`;
  const file = registry.getFile(path) ?? registry.getFile(path.replace(/\.proto$/, ""));
  if (file === undefined) throw new Error(`${TEMPLATE} names ${path}, which is not there`);
  shown.add(file.name);
  const parts = [headOf(file), ""];
  for (const service of file.services) parts.push(...serviceText(service));
  for (const desc of file.enums) parts.push(...enumText(desc));
  for (const message of file.messages) parts.push(...messageText(message));
  return parts.join("\n").trim();
}

/** The table of codes, from the one place where they are written. */
function errorsText() {
  const source = read("proto/src/code.rs");
  const entry = /((?:^ +\/\/\/ .*\n)+) +(\w+) = ([\d_]+), "([^"]+)";/gm;
  const notFinal = new Set([.../matches!\(self, ([^)]+)\)/.exec(source)[1].matchAll(/Self::(\w+)/g)].map(([, name]) => name));
  const statuses = new Map();
  for (const [, names, status] of read("proto/src/refusal.rs").matchAll(/((?:\|? *ErrorCode::\w+\s*)+)=> Code::(\w+)/g)) {
    for (const [, name] of names.matchAll(/ErrorCode::(\w+)/g)) statuses.set(name, status.replace(/(?!^)([A-Z])/g, "_$1").toUpperCase());
  }
  const lines = ["| code | name | says | final | gRPC status | |", "| --- | --- | --- | --- | --- | --- |"];
  for (const [, docs, name, digits, text] of source.matchAll(entry)) {
    const number = digits.replaceAll("_", "");
    const about = cell(docs.replaceAll(/^ +\/\/\/ /gm, ""));
    if (!statuses.has(name)) throw new Error(`${name} has no gRPC status in refusal.rs`);
    lines.push(`| ${number} | \`${name}\` | ${cell(text)} | ${notFinal.has(name) ? "no" : "yes"} | \`${statuses.get(name)}\` | ${about} |`);
  }
  if (lines.length < 12) throw new Error("proto/src/code.rs is not written as protocol.mjs reads it");
  return lines.join("\n");
}

/** The whole document. */
export function protocol() {
  const registry = descriptors();
  const shown = new Set();
  const text = read(TEMPLATE).replace(/^\{\{(\w+)(?: (\w+))?\}\}$/gm, (mark, what, name) => {
    if (what === "proto") return fileText(registry, name, shown);
    if (what === "errors") return errorsText();
    throw new Error(`${TEMPLATE}: unknown mark ${mark}`);
  });
  const left = [...registry.files].map(({ name }) => name).filter((name) => !shown.has(name));
  if (left.length > 0) throw new Error(`${TEMPLATE} has no place for ${left.join(", ")}`);
  return HEAD + text;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const text = protocol();
  if (!process.argv.includes("--check")) writeFileSync(at(OUTPUT), text);
  else if (read(OUTPUT) !== text) {
    console.error(`${OUTPUT} is not what its sources make now: run \`make docs\``);
    process.exitCode = 1;
  }
}
