#!/usr/bin/env node
// Puts what the other tools measured into one table: table.js [--write ../bench/contracts.md].
// Reads snapshots/*.json, out/calldata, out/scale, out/release, lcov.info and out/mutants.json; what was not measured says so,
// and then nothing is written. Of anchors.json `each` says of how many items the others' figure is one, `in` which snapshot
// is meant when several have an operation of that name, `published` or `measured` whose figure it is.
"use strict";

const fs = require("fs");
const path = require("path");
const zlib = require("zlib");

const root = path.join(__dirname, "..");
const SIZE_MAX = 24576; // EIP-170.
const GWEI_FLOOR = 0.02; // Arbitrum One's lowest price of gas since ArbOS 51.
const UNITS = 16; // L1 gas that Arbitrum counts for a byte of data after compression.
const MUTANTS_MIN = 100; // Fewer say little.
const NOT_MEASURED = "not measured in this run";
const anchors = read("anchors.json");
const text = [summary(), sizes(), gas()].join("\n");
process.stdout.write(text);
const at = process.argv.indexOf("--write");
if (at > 0) {
  const missing = unmeasured();
  if (missing.length > 0) {
    process.stderr.write(`table: ${process.argv[at + 1]} is as it was, because not all was measured:\n${missing.map((m) => `  ${m}\n`).join("")}`);
    process.exit(1);
  }
  fs.writeFileSync(process.argv[at + 1], `${intro()}\n${text}`);
}

// What is missing for the whole table, with what to run.
function unmeasured() {
  const missing = [];
  if (!exists("lcov.info")) missing.push("coverage: run `make contracts-cover`");
  if (!exists("out/scale")) missing.push("scale: run `make contracts-scale`");
  const counted = exists("out/mutants.json") ? read("out/mutants.json").counted : 0;
  if (counted < MUTANTS_MIN) missing.push(`${counted} mutants, at least ${MUTANTS_MIN}: run \`make contracts-mutants\``);
  const silent = fs.readdirSync(path.join(root, "snapshots")).filter((f) => {
    const data = exists(`out/calldata/${f}`) ? read(`out/calldata/${f}`) : {};
    return Object.keys(read(`snapshots/${f}`)).some((name) => data[name] === undefined);
  });
  if (silent.length > 0) missing.push(`calldata of ${silent.join(", ")}: run \`make contracts-gas\``);
  if (text.includes(NOT_MEASURED) && missing.length === 0) missing.push(`a part: run \`make contracts\``);
  return missing;
}

function intro() {
  return `# The contracts, measured

Written by \`make contracts-long\`; do not edit. Gas is of whole transactions (21,000 and calldata included) with the release
bytecode, behind proxies, on cold storage. A figure for one of a batch is the transaction's gas divided by its items.
"Data" is the calldata after Brotli at the level Arbitrum uses for its estimate, in bytes; each counts 16 units of L1 gas.
"Cost" is (gas + ${UNITS} x data) x ${GWEI_FLOOR} gwei, in millionths of an ether: the L2 part at Arbitrum One's floor, and the L1 part as if a
unit of L1 gas had that price, too. L1 has no floor; at a price of p gwei add ${UNITS} x data x (p - ${GWEI_FLOOR}) gwei. What a transaction has
besides its calldata, some 110 bytes, is not in it.

An anchor is the best figure of others: * is what they publish, all else was measured with the code named in
contracts/anchors.json, see docs/contracts/gas.md. The ratio is for as many items as ours does.
`;
}

function summary() {
  const tests = count(/^    function (test\w*)\(/gm);
  const fuzz = count(/^    function (testFuzz\w*)\(/gm);
  // A campaign may hold several: invariant_G3_G4_whatItSays.
  const properties = new Set(matches(/^    function invariant_((?:[A-Z]+\d+_)+)/gm).flatMap((n) => n.split("_").filter(Boolean)));
  const coverage = lcov();
  const mutants = exists("out/mutants.json") ? read("out/mutants.json") : undefined;
  const rows = [
    ["tests", `${tests}, of them fuzz ${fuzz}`],
    ["properties held as invariants", `${properties.size}`],
    ["line coverage", coverage ? `${coverage.lines} %` : NOT_MEASURED],
    ["branch coverage", coverage ? `${coverage.branches} %` : NOT_MEASURED],
    ["broken contracts noticed", mutants ? `${mutants.killed} of ${mutants.counted} (${mutants.percent.toFixed(1)} %)` : NOT_MEASURED],
    ["scale", scale()],
  ];
  return table(["what", "measured"], rows);
}

// What calls cost in a large network, beside what they cost in a small one.
function scale() {
  const dir = path.join(root, "out/scale");
  if (!fs.existsSync(dir)) return NOT_MEASURED;
  const all = fs.readdirSync(dir).map((f) => read(`out/scale/${f}`));
  const paths = all.flatMap((f) => Object.values(f.paths));
  const growth = (list) => Math.max(...list.map((p) => (100 * p.many) / p.few - 100)).toFixed(1);
  const [flat, looking] = [paths.filter((p) => p.lookups === 0), paths.filter((p) => p.lookups > 0)];
  const history = `of ${looking.length} that look into the history of votes ${growth(looking)} %`;
  return `${paths.length} paths at ${number(all[0].many)}, largest growth ${growth(flat)} %; ${history}`;
}

function sizes() {
  const rows = [];
  for (const name of fs.readdirSync(path.join(root, "src")).sort()) {
    if (!name.endsWith(".sol") || name === "External.sol") continue;
    const contract = name.slice(0, -4);
    const file = `out/release/${name}/${contract}.json`;
    if (!exists(file)) continue;
    const bytes = (read(file).deployedBytecode.object.length - 2) / 2;
    if (bytes > 0) rows.push([contract, number(bytes), number(SIZE_MAX), bytes < SIZE_MAX ? "yes" : "NO"]);
  }
  return table(["contract", "bytes", "at most", "fits"], rows);
}

function gas() {
  const rows = [];
  for (const file of fs.readdirSync(path.join(root, "snapshots")).sort()) {
    const data = exists(`out/calldata/${file}`) ? read(`out/calldata/${file}`) : {};
    for (const [name, g] of Object.entries(read(`snapshots/${file}`))) {
      const bytes = data[name] === undefined ? undefined : brotli(data[name]);
      const anchor = anchors[name]?.in && `${anchors[name].in}.json` !== file ? undefined : anchors[name];
      const each = Math.round(bytes === undefined ? 0 : bytes / g.items);
      rows.push([
        name, number(g.gas), g.target ? number(g.target) : "", g.target ? (g.gas <= g.target ? "yes" : "NO") : "",
        anchor ? `${number(anchor.gas)}${anchor.published ? " *" : ""} (${anchor.what})` : "",
        anchor ? `${ratio((anchor.gas * (anchor.each ?? 1)) / g.gas)} x` : "",
        bytes === undefined ? "" : number(each), bytes === undefined ? "" : ((g.gas + UNITS * each) * GWEI_FLOOR * 1e-3).toFixed(2),
      ]);
    }
  }
  return table(["operation", "gas", "target", "met", "best anchor", "ratio", "data", "cost"], rows);
}

function ratio(r) {
  return r >= 100 ? number(Math.round(r)) : r.toFixed(1);
}

function brotli(hex) {
  const options = { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 } };
  return zlib.brotliCompressSync(Buffer.from(hex.slice(2), "hex"), options).length;
}

function lcov() {
  if (!exists("lcov.info")) return undefined;
  const sum = { LF: 0, LH: 0, BRF: 0, BRH: 0 };
  let ours = false;
  for (const line of fs.readFileSync(path.join(root, "lcov.info"), "utf8").split("\n")) {
    if (line.startsWith("SF:")) ours = line.startsWith("SF:src/");
    const m = line.match(/^(LF|LH|BRF|BRH):(\d+)$/);
    if (m && ours) sum[m[1]] += Number(m[2]);
  }
  const percent = (hit, all) => ((100 * hit) / all).toFixed(1);
  return { lines: percent(sum.LH, sum.LF), branches: percent(sum.BRH, sum.BRF) };
}

function matches(pattern) {
  const found = [];
  for (const file of files(path.join(root, "test"))) {
    for (const m of fs.readFileSync(file, "utf8").matchAll(pattern)) found.push(m[1]);
  }
  return found;
}

function count(pattern) {
  return matches(pattern).length;
}

function files(dir) {
  return fs.readdirSync(dir, { recursive: true }).filter((f) => f.endsWith(".sol")).map((f) => path.join(dir, f));
}

function table(head, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line), ""].join("\n");
}

function number(n) {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ",");
}

function exists(file) {
  return fs.existsSync(path.join(root, file));
}

function read(file) {
  return JSON.parse(fs.readFileSync(path.join(root, file), "utf8"));
}
