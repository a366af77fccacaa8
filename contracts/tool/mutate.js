#!/usr/bin/env node
// Breaks the contracts on purpose, one place at a time, and tells which breaks the tests notice:
// mutate.js [--count n] [--only Contract] [--at least percent] [--list].
//
// Each mutant is compiled alone and its bytecode replaces the artifact that the tests deploy, so that no test is compiled
// again. A mutant that does not compile, or compiles to the same bytecode, does not count. Mutants that change nothing
// anybody could notice are named in mutants.json with the reason, by the text of their change, and do not count either.
"use strict";

const { spawnSync } = require("child_process");
const crypto = require("crypto");
const fs = require("fs");
const path = require("path");

const root = path.join(__dirname, "..");
const forge = path.join(root, "node_modules/@foundry-rs/forge-linux-amd64/bin/forge");
const options = parse(process.argv.slice(2));
const table = JSON.parse(fs.readFileSync(path.join(root, "mutants.json"), "utf8"));
const solc = require(path.join(root, "node_modules/solc/soljson.js"));
process.removeAllListeners("uncaughtException");

const SECONDS = 240; // One run of the tests of a mutant; an endless loop is noticed.

main();

function main() {
  const all = [];
  for (const target of table.targets) {
    if (options.only && target.contract !== options.only) continue;
    for (const file of target.files) all.push(...mutants(target, file));
  }
  const chosen = sample(all, options.count);
  if (options.list) {
    for (const m of chosen) process.stdout.write(`${describe(m)}\n`);
    process.stdout.write(`${all.length} possible, ${chosen.length} chosen\n`);
    return;
  }
  for (const target of new Set(chosen.map((m) => m.target))) {
    if (!passes(target)) fail(`the tests of ${target.contract} fail with nothing broken: run \`make contracts-test\``);
  }
  const result = { killed: 0, survived: [], excused: 0, skipped: 0 };
  const originals = new Map();
  process.on("exit", () => restore(originals));
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));
  for (const [i, m] of chosen.entries()) {
    const outcome = judge(m, originals);
    if (outcome === "killed") result.killed++;
    else if (outcome === "survived") result.survived.push(describe(m));
    else result[outcome]++;
    process.stderr.write(`${i + 1}/${chosen.length} ${outcome} ${describe(m)}\n`);
  }
  report(result);
}

function parse(args) {
  const o = { count: 150, atLeast: 0, only: "", list: false };
  for (let i = 0; i < args.length; i++) {
    if (args[i] === "--count") o.count = Number(args[++i]);
    else if (args[i] === "--only") o.only = args[++i];
    else if (args[i] === "--at-least") o.atLeast = Number(args[++i]);
    else if (args[i] === "--list") o.list = true;
    else fail(`unknown argument ${args[i]}`);
  }
  return o;
}

// Every place of a file that one of the operators can change.
function mutants(target, file) {
  const text = fs.readFileSync(path.join(root, file), "utf8");
  const code = blank(text);
  const found = [];
  const add = (from, to, replacement) => {
    const line = text.slice(0, from).split("\n").length;
    found.push({ target, file, line, from, to, old: text.slice(from, to), replacement });
  };
  const each = (pattern, replacement) => {
    for (const m of code.matchAll(pattern)) {
      const at = m.index + (m[1] ?? "").length;
      add(at, at + m[2].length, typeof replacement === "function" ? replacement(m[2]) : replacement);
    }
  };
  const body = code.indexOf("{", code.search(/\b(contract|library)\s+\w/)) + 1;
  each(/( )(<)(?= )/g, "<=");
  each(/( )(<=)(?= )/g, "<");
  each(/( )(>)(?= )/g, ">=");
  each(/( )(>=)(?= )/g, ">");
  each(/( )(==)(?= )/g, "!=");
  each(/( )(!=)(?= )/g, "==");
  each(/( )(&&)(?= )/g, "||");
  each(/( )(\|\|)(?= )/g, "&&");
  each(/( )(\+)(?= )/g, "-");
  each(/( )(-)(?= )/g, "+");
  each(/( )(\*)(?= )/g, "/");
  each(/( )(\/)(?= )/g, "*");
  each(/( )(\+=)(?= )/g, "-=");
  each(/( )(-=)(?= )/g, "+=");
  each(/(\breturn )(true)(?=;)/g, "false");
  each(/(\breturn )(false)(?=;)/g, "true");
  each(/(\bRounding\.)(Ceil|Floor)\b/g, (r) => (r === "Ceil" ? "Floor" : "Ceil"));
  each(/(\bMath\.)(min|max)\b/g, (r) => (r === "min" ? "max" : "min"));
  each(/(\n {8,})(if \([^{};]*?\) revert [^;]*;)/g, "");
  each(/(\n {8,})(_(?:check|only)\w*\([^;{}]*\);)/g, "");
  each(/(\n {8,})((?:\(?[\w$.]+(?:\[[^\]]*\])*(?:, [\w$.[\]]+)*\)? [+-]?= |\+\+|--|delete )[^;{}]*;)/g, "");
  each(/( )(restricted|nonReentrant|unpaused\([^)]*\))(?=[ \n{])/g, "");
  return found.filter((m) => m.from >= body);
}

// The text with comments and strings as spaces, of the same length.
function blank(text) {
  return text.replace(/\/\/[^\n]*|\/\*[^]*?\*\/|"(?:[^"\\\n]|\\.)*"/g, (s) => s.replace(/[^\n]/g, " "));
}

// n of all, the same each time for the same sources, spread over the contracts.
function sample(all, n) {
  const rank = (m) => crypto.createHash("sha256").update(`${m.file}\0${m.line}\0${m.old}\0${m.replacement}\0${m.from}`).digest("hex");
  return all.map((m) => [rank(m), m]).sort(([a], [b]) => (a < b ? -1 : 1)).slice(0, n).map(([, m]) => m);
}

function describe(m) {
  return `${m.file}:${m.line}: ${oneLine(m.old)} -> ${oneLine(m.replacement) || "(removed)"}`;
}

function oneLine(s) {
  return s.replace(/\s+/g, " ").trim();
}

function judge(m, originals) {
  if (table.equivalent.some((e) => e.file === m.file && e.change === describe(m).replace(/^[^ ]* /, ""))) return "excused";
  const text = fs.readFileSync(path.join(root, m.file), "utf8");
  const changed = text.slice(0, m.from) + m.replacement + text.slice(m.to);
  const compiled = compile(m, changed);
  if (!compiled) return "skipped";
  let same = true;
  for (const [name, bytecode] of Object.entries(compiled)) {
    const file = path.join(root, "out", `${name}.sol`, `${name}.json`);
    if (!originals.has(file)) originals.set(file, fs.readFileSync(file, "utf8"));
    const artifact = JSON.parse(originals.get(file));
    if (artifact.bytecode.object !== `0x${bytecode}`) same = false;
    artifact.bytecode.object = `0x${bytecode}`;
    fs.writeFileSync(file, JSON.stringify(artifact));
  }
  try {
    if (same) return "skipped";
    return passes(m.target) ? "survived" : "killed";
  } finally {
    restore(originals);
  }
}

// Whether the tests of the target pass, the quick ones first.
function passes(target) {
  for (const test of target.tests) {
    const env = { ...process.env, FOUNDRY_INVARIANT_RUNS: "24", FOUNDRY_INVARIANT_DEPTH: "120", FOUNDRY_FUZZ_RUNS: "64" };
    const run = spawnSync(forge, ["test", "--match-path", test, "--fail-fast"], { cwd: root, env, timeout: SECONDS * 1000 });
    if (run.status !== 0) return false;
  }
  return true;
}

// The bytecode of the contracts that a changed file goes into; undefined when it does not compile.
function compile(m, changed) {
  const sources = {};
  const read = (name) => {
    if (sources[name]) return;
    const content = name === m.file ? changed : fs.readFileSync(locate(name), "utf8");
    sources[name] = { content };
    for (const i of content.matchAll(/^\s*(?:import|\}) [^;]*?from "([^"]+)";|^import "([^"]+)";/gm)) {
      const to = i[1] ?? i[2];
      read(to.startsWith(".") ? path.posix.join(path.posix.dirname(name), to) : to);
    }
  };
  const outputSelection = {};
  for (const name of m.target.deploys) {
    read(`src/${name}.sol`);
    outputSelection[`src/${name}.sol`] = { [name]: ["evm.bytecode.object"] };
  }
  const settings = {
    optimizer: { enabled: true, runs: 100 }, evmVersion: "cancun", outputSelection,
    metadata: { bytecodeHash: "none", appendCBOR: false },
  };
  const input = JSON.stringify({ language: "Solidity", sources, settings });
  const size = Buffer.byteLength(input) + 1;
  const pointer = solc._solidity_alloc(size);
  solc.stringToUTF8(input, pointer, size);
  const output = JSON.parse(solc.UTF8ToString(solc._solidity_compile(pointer, 0, 0)));
  solc._solidity_reset();
  if ((output.errors ?? []).some((e) => e.severity === "error")) return undefined;
  return Object.fromEntries(m.target.deploys.map((n) => [n, output.contracts[`src/${n}.sol`][n].evm.bytecode.object]));
}

function locate(name) {
  return path.join(root, name.startsWith("src/") ? name : path.join("node_modules", name));
}

function restore(originals) {
  for (const [file, content] of originals) fs.writeFileSync(file, content);
}

function report(result) {
  const counted = result.killed + result.survived.length;
  const percent = counted === 0 ? 0 : (100 * result.killed) / counted;
  fs.mkdirSync(path.join(root, "out"), { recursive: true });
  fs.writeFileSync(path.join(root, "out", "mutants.json"), JSON.stringify({ ...result, counted, percent }, null, 2) + "\n");
  for (const s of result.survived) process.stdout.write(`survived: ${s}\n`);
  process.stdout.write(
    `contracts: ${result.killed} of ${counted} broken contracts noticed (${percent.toFixed(1)} %), ` +
      `${result.excused} excused, ${result.skipped} not counted\n`,
  );
  if (counted === 0 || percent < options.atLeast) process.exit(1);
}

function fail(text) {
  process.stderr.write(`mutate: ${text}\n`);
  process.exit(2);
}
