#!/usr/bin/env node
// Puts what the other tools measured into one table: table.js [--write ../bench/contracts.md].
// Reads snapshots/*.json, out/calldata, out/scale, out/release, lcov.info and out/mutants.json; what was not measured says so.
"use strict";

const fs = require("fs");
const path = require("path");
const zlib = require("zlib");

const root = path.join(__dirname, "..");
const SIZE_MAX = 24576; // EIP-170.
const GWEI_FLOOR = 0.02; // Arbitrum One's lowest price of gas since ArbOS 51.
const anchors = read("anchors.json");
const text = [summary(), sizes(), gas()].join("\n");
process.stdout.write(text);
const at = process.argv.indexOf("--write");
if (at > 0) fs.writeFileSync(process.argv[at + 1], `${intro()}\n${text}`);

function intro() {
  return `# The contracts, measured

Written by \`make contracts-long\`; do not edit. Gas is of whole transactions (21,000 and calldata included) with the release
bytecode, behind proxies, on cold storage. A figure for one of a batch is the transaction's gas divided by its items.
"Data" is the calldata after Brotli at the level Arbitrum uses for its estimate, in bytes; each counts 16 units of L1 gas.
"Cost" is the L2 part at the floor of ${GWEI_FLOOR} gwei in millionths of an ether. The anchors' figures are measured with their own
published code, see docs/contracts/gas.md.
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
    ["line coverage", coverage ? `${coverage.lines} %` : "not measured in this run"],
    ["branch coverage", coverage ? `${coverage.branches} %` : "not measured in this run"],
    ["broken contracts noticed", mutants ? `${mutants.killed} of ${mutants.counted} (${mutants.percent.toFixed(1)} %)` : "not measured in this run"],
    ["scale", scale()],
  ];
  return table(["what", "measured"], rows);
}

// What calls cost in a large network, beside what they cost in a small one.
function scale() {
  const dir = path.join(root, "out/scale");
  if (!fs.existsSync(dir)) return "not measured in this run";
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
      const anchor = anchors[name];
      rows.push([
        name, number(g.gas), g.target ? number(g.target) : "", g.target ? (g.gas <= g.target ? "yes" : "NO") : "",
        anchor ? `${number(anchor.gas)} (${anchor.what})` : "", anchor ? `${(anchor.gas / g.gas).toFixed(1)} x` : "",
        bytes === undefined ? "" : number(Math.round(bytes / g.items)), (g.gas * GWEI_FLOOR * 1e-3).toFixed(2),
      ]);
    }
  }
  return table(["operation", "gas", "target", "met", "best anchor", "ratio", "data", "cost"], rows);
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
