#!/usr/bin/env node
// Writes the second half of docs/contracts/<Contract>.md from the artifacts, access.json, the invariants in test and the
// gas snapshots; the first half is written by hand. With --check it fails when a page is not what it should be.
"use strict";

const fs = require("fs");
const path = require("path");

const root = path.join(__dirname, "..");
const pages = path.join(root, "..", "docs", "contracts");
const MARK = "<!-- From here on written by contracts/tool/pages.js. -->";
const check = process.argv.includes("--check");
const access = read("access.json");
// The ids of the properties of each contract, see contracts/test/invariant.
const contracts = {
  NodeRegistry: "NR", StakingManager: "ST", JobManager: "JM", PaymentManager: "PM", StorageRegistry: "SR",
  DomainRegistry: "DR", AlephGovernor: "GV", SLAManager: "SL", ImageMarketplace: "IM",
};

let failed = false;
for (const [name, ids] of Object.entries(contracts)) {
  const file = path.join(pages, `${name}.md`);
  const artifact = `out/release/${name}.sol/${name}.json`;
  if (!fs.existsSync(path.join(root, artifact))) continue;
  const have = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : `# ${name}\n\n${MARK}\n`;
  const cut = have.indexOf(MARK);
  if (cut < 0) fail(`${file} has lost its mark: ${MARK}`);
  const want = have.slice(0, cut) + MARK + "\n" + generated(name, ids, read(artifact));
  if (want === have) continue;
  if (check) {
    process.stderr.write(`${path.relative(path.join(root, ".."), file)} is not up to date: run \`make contracts-pages\`\n`);
    failed = true;
  } else fs.writeFileSync(file, want);
}
process.exit(failed ? 1 : 0);

function generated(name, ids, artifact) {
  const { userdoc, devdoc } = artifact.metadata.output;
  const who = { ...access.Base, ...access[name] };
  const part = (title, head, rows) => (rows.length === 0 ? "" : `\n## ${title}\n\n${table(head, rows)}`);
  const functions = artifact.abi.filter((f) => f.type === "function").map((f) => [f, signature(f)]);
  const changing = functions.filter(([f]) => !["view", "pure"].includes(f.stateMutability));
  const views = functions.filter(([f]) => ["view", "pure"].includes(f.stateMutability));
  return [
    part("Calls that change state", ["call", "who", "what"],
      changing.map(([f, s]) => [code(named(f)), who[s] ?? "", first(userdoc.methods[s]?.notice ?? devdoc.methods[s]?.details)])),
    part("Views", ["call", "what"],
      views.map(([f, s]) => [code(named(f)), first(userdoc.methods[s]?.notice ?? devdoc.methods[s]?.details)])),
    part("Events", ["event", "when"],
      artifact.abi.filter((e) => e.type === "event").map((e) => [code(named(e)), first(userdoc.events?.[signature(e)]?.notice ?? devdoc.events?.[signature(e)]?.details)])),
    part("Errors", ["error", "why"],
      artifact.abi.filter((e) => e.type === "error").map((e) => [code(named(e)), first(devdoc.errors?.[signature(e)]?.[0]?.details)])),
    part("Properties", ["id", "what holds after every call"], properties(ids)),
    part("Gas", ["operation", "gas"], snapshots(name)),
  ].join("");
}

// The invariants of the contract: their ids with the comment above the function.
function properties(ids) {
  const found = new Map();
  for (const file of fs.readdirSync(path.join(root, "test"), { recursive: true }).filter((f) => f.endsWith(".sol"))) {
    const text = fs.readFileSync(path.join(root, "test", file), "utf8");
    for (const m of text.matchAll(/((?:^ {4}\/\/\/[^\n]*\n)*)^ {4}function invariant_([A-Z]+)(\d+)_(\w+)\(/gm)) {
      if (m[2] !== ids || found.has(Number(m[3]))) continue;
      const comment = m[1].replace(/^ {4}\/\/\/ ?(@dev |@notice )?/gm, "").replace(/\n/g, " ").trim();
      found.set(Number(m[3]), comment || words(m[4]));
    }
  }
  return [...found].sort(([a], [b]) => a - b).map(([n, what]) => [`${ids}-${n}`, cell(what)]);
}

function words(name) {
  return name.replace(/([A-Z])/g, (c) => ` ${c.toLowerCase()}`).replace(/_/g, " ").trim();
}

function snapshots(name) {
  const file = `snapshots/${name}.json`;
  if (!fs.existsSync(path.join(root, file))) return [];
  return Object.entries(read(file)).map(([what, g]) => [cell(what), String(g.gas).replace(/\B(?=(\d{3})+$)/g, ",")]);
}

function signature(f) {
  return `${f.name}(${f.inputs.map(type).join(",")})`;
}

function type(input) {
  if (!input.type.startsWith("tuple")) return input.type;
  return `(${input.components.map(type).join(",")})${input.type.slice("tuple".length)}`;
}

function named(f) {
  const short = (i) => (i.internalType ?? i.type).replace(/^(struct|enum|contract) /, "");
  return `${f.name}(${f.inputs.map((i) => `${short(i)}${i.indexed ? " indexed" : ""} ${i.name}`.trim()).join(", ")})`;
}

function first(text) {
  return cell((text ?? "").replace(/\s+/g, " "));
}

function cell(text) {
  return text.replace(/\|/g, "\\|");
}

function code(text) {
  return `\`${text}\``;
}

function table(head, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line), ""].join("\n");
}

function read(file) {
  return JSON.parse(fs.readFileSync(path.join(root, file), "utf8"));
}

function fail(text) {
  process.stderr.write(`pages: ${text}\n`);
  process.exit(1);
}
