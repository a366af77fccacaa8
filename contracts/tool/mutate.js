#!/usr/bin/env node
// Breaks the contracts on purpose, one place at a time, and tells which breaks the tests notice:
// mutate.js [--count n] [--skip n] [--only Contract] [--match text]... [--at-least percent] [--list]. With --match those
// whose description, as it is printed, has one of the texts; with --skip without the first n, to go on where a run ended.
//
// A target is a contract with its bases, extension and libraries. Each mutant is compiled alone, while the tests of the one
// before run, and its bytecode replaces the artifacts of what the target `deploys` and the changed file goes into, so that
// no other test is compiled again. All this is done in a copy, out/mutants/<process>, which ends with the program: whatever
// ends it, what is built here is never a broken contract. A library that tests run without a contract names the test contract there, too. The
// optimizer would take three times as long as the rest of the compiler and is off; the tests pass with what is not broken
// compiled so. A mutant that does not compile, or compiles to the same bytecode, does not count. Mutants that change nothing
// anybody could notice are named in mutants.json with the reason, by the function and the text of the change, and do not
// count either.
"use strict";

const { spawnSync } = require("child_process");
const crypto = require("crypto");
const fs = require("fs");
const path = require("path");
const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");

const root = path.join(__dirname, "..");
const forge = path.join(root, "node_modules/@foundry-rs/forge-linux-amd64/bin/forge");
const table = JSON.parse(fs.readFileSync(path.join(root, "mutants.json"), "utf8"));
const remappings = mappings();

// The project that is broken: a copy, once there is one.
let project = isMainThread ? root : workerData;

const SECONDS = 240; // One run of the tests of a mutant; an endless loop is noticed.

if (isMainThread) main(parse(process.argv.slice(2)));
else serve();

async function main(options) {
  const targets = table.targets.filter((t) => !options.only || t.contract === options.only);
  for (const e of table.equivalent) {
    const known = table.targets.some((t) => t.files.includes(e.file) && mutants(t, e.file).some((m) => excuses(e, m)));
    if (!known) fail(`mutants.json excuses what is not there: ${e.file}, ${e.in}: ${e.change}`);
  }
  const wanted = (m) => options.match.length === 0 || options.match.some((text) => describe(m).includes(text));
  const groups = targets.map((t) => t.files.flatMap((f) => mutants(t, f)).filter(wanted));
  const chosen = sample(groups, options.skip + options.count).slice(options.skip);
  if (options.list) {
    for (const m of chosen) process.stdout.write(`${describe(m)}\n`);
    process.stdout.write(`${chosen.length} chosen\n`);
    return;
  }
  project = copy();
  process.env.FOUNDRY_SOLC = quickCompiler();
  const tested = [...new Set(chosen.map((m) => m.target))];
  const broken = chosen.filter((m) => !excused(m));
  const sources = tested.map((t) => ({ deploys: t.deploys }));
  const compiler = compiling([...sources, ...broken.map((m) => ({ ...m, deploys: m.target.deploys }))]);
  const put = putter();
  const sound = new Map();
  for (const target of tested) {
    sound.set(target, await compiler.next());
    const failure = put(sound.get(target), () => failing(target));
    if (failure) fail(`the tests of ${target.contract} fail with nothing broken: run \`make contracts-test\`\n${failure}`);
  }
  const results = Object.fromEntries(tested.map((t) => [t.contract, { killed: 0, survived: [], excused: 0, skipped: 0 }]));
  for (const [i, m] of chosen.entries()) {
    const outcome = excused(m) ? "excused" : judge(m, await compiler.next(), sound.get(m.target), put);
    const result = results[m.target.contract];
    if (outcome === "survived") result.survived.push(describe(m));
    else result[outcome]++;
    process.stderr.write(`${i + 1}/${chosen.length} ${outcome} ${describe(m)}\n`);
  }
  await compiler.stop();
  report(results, options);
}

function parse(args) {
  const o = { count: 150, skip: 0, atLeast: 0, only: "", match: [], list: false };
  for (let i = 0; i < args.length; i++) {
    if (args[i] === "--count") o.count = Number(args[++i]);
    else if (args[i] === "--skip") o.skip = Number(args[++i]);
    else if (args[i] === "--only") o.only = args[++i];
    else if (args[i] === "--match") o.match.push(args[++i]);
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
    const change = changeOf(text, from, to, replacement);
    found.push({ target, file, line, from, to, old: text.slice(from, to), replacement, change, in: functionAt(code, from) });
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
  each(/(\n {8,})(if \([^{};]*?\) \{\s*revert [^;]*;\s*\}(?! else))/g, "");
  each(/(\n {8,})(_(?:check|only)\w*\([^;{}]*\);)/g, "");
  each(/(\n {8,})((?:\(?[\w$.]+(?:\[[^\]]*\])*(?:, [\w$.[\]]+)*\)? [+-]?= |\+\+|--|delete )[^;{}]*;)/g, "");
  each(/( )(restricted|nonReentrant(?:View)?|unpaused\([^)]*\)|only[A-Z]\w*(?:\([^)]*\))?)(?=[ \n{])/g, "");
  return found.filter((m) => m.from >= body && !/\bmodifier $/.test(code.slice(0, m.from)));
}

// The text with comments and strings as spaces, of the same length.
function blank(text) {
  return text.replace(/\/\/[^\n]*|\/\*[^]*?\*\/|"(?:[^"\\\n]|\\.)*"/g, (s) => s.replace(/[^\n]/g, " "));
}

// n of all, the same each time for the same sources, spread evenly over the targets and at least one of each.
function sample(groups, n) {
  const rank = (m) => crypto.createHash("sha256").update(`${m.file}\0${m.line}\0${m.old}\0${m.replacement}\0${m.from}`).digest("hex");
  const ranked = groups.flatMap((group) => {
    const sorted = group.map((m) => [rank(m), m]).sort(([a], [b]) => (a < b ? -1 : 1));
    return sorted.map(([hash, m], i) => [i / sorted.length, hash, m]);
  });
  ranked.sort(([a, x], [b, y]) => a - b || (x < y ? -1 : 1));
  return ranked.slice(0, n).map(([, , m]) => m);
}

// Where a mutant is and its line, with what is changed in braces.
function describe(m) {
  return `${m.file}:${m.line}: ${m.change}`;
}

function changeOf(text, from, to, replacement) {
  const end = text.indexOf("\n", to);
  const before = text.slice(text.lastIndexOf("\n", from) + 1, from);
  return oneLine(`${before}{${oneLine(text.slice(from, to))} -> ${replacement}}${text.slice(to, end < 0 ? text.length : end)}`);
}

// The function that a place is in.
function functionAt(code, from) {
  const names = [...code.slice(0, from).matchAll(/\bfunction +(\w+)|\bmodifier +(\w+)|\b(constructor)\b/g)].pop();
  return names ? (names[1] ?? names[2] ?? names[3]) : "";
}

function oneLine(s) {
  return s.replace(/\s+/g, " ").trim();
}

function excuses(e, m) {
  return e.file === m.file && e.in === m.in && e.change === m.change;
}

function excused(m) {
  return table.equivalent.some((e) => excuses(e, m));
}

function judge(m, compiled, sound, put) {
  if (!compiled) return "skipped";
  const changed = Object.fromEntries(Object.entries(compiled).filter(([unit, bytecode]) => bytecode !== sound[unit]));
  if (Object.keys(changed).length === 0) return "skipped";
  return put(changed, () => failing(m.target)) ? "killed" : "survived";
}

// Copies the project as it is built, which forge takes as up to date, and what the tests read beside it; removes what
// programs that were killed have left. What is installed is linked, as nothing writes there.
function copy() {
  const all = path.join(root, "out", "mutants");
  fs.mkdirSync(all, { recursive: true });
  for (const pid of fs.readdirSync(all)) {
    if (!runs(Number(pid))) fs.rmSync(path.join(all, pid), { recursive: true, force: true });
  }
  const mine = path.join(all, String(process.pid));
  process.on("exit", () => fs.rmSync(mine, { recursive: true, force: true }));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));
  const to = path.join(mine, path.basename(root));
  const others = ["mutants", "release", "validate"].map((name) => path.join(root, "out", name));
  for (const name of ["access.json", "eip712.json", "foundry.toml", "bin", "cache", "out", "snapshots", "src", "test"]) {
    const from = path.join(root, name);
    if (!fs.existsSync(from)) fail(`there is no ${name}: run \`make contracts-test-build\``);
    clone(from, path.join(to, name), fs.copyFileSync, (file) => !others.includes(file));
  }
  clone(path.join(root, "node_modules"), path.join(to, "node_modules"), link, () => true);
  const vectors = "protocol/testdata/vectors";
  clone(path.join(root, "..", vectors), path.join(mine, vectors), fs.copyFileSync, () => true);
  return to;
}

function runs(pid) {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch (error) {
    return error.code === "EPERM";
  }
}

// Links a file, or copies it when the other place is on another file system.
function link(from, to) {
  try {
    fs.linkSync(from, to);
  } catch (error) {
    if (error.code !== "EXDEV") throw error;
    fs.copyFileSync(from, to);
  }
}

// Puts a file or a directory elsewhere, with its times.
function clone(from, to, put, wanted) {
  const stat = fs.lstatSync(from);
  if (stat.isDirectory()) {
    fs.mkdirSync(to, { recursive: true });
    for (const name of fs.readdirSync(from)) {
      if (wanted(path.join(from, name))) clone(path.join(from, name), path.join(to, name), put, wanted);
    }
  } else if (stat.isSymbolicLink()) {
    fs.symlinkSync(fs.realpathSync(from), to);
  } else {
    fs.mkdirSync(path.dirname(to), { recursive: true });
    put(from, to);
    if (put !== link) fs.utimesSync(to, stat.atime, stat.mtime);
  }
}

// Runs something with these bytecodes in the artifacts, which are as they were afterwards.
function putter() {
  const originals = new Map();
  const restore = () => {
    for (const [file, content] of originals) fs.writeFileSync(file, content);
    originals.clear();
  };
  return (compiled, run) => {
    for (const [unit, bytecode] of Object.entries(compiled)) {
      const file = artifact(unit);
      originals.set(file, fs.readFileSync(file, "utf8"));
      const content = JSON.parse(originals.get(file));
      content.bytecode.object = `0x${bytecode}`;
      fs.writeFileSync(file, JSON.stringify(content));
    }
    try {
      return run();
    } finally {
      restore();
    }
  };
}

// A compiler that only tells its version, which forge asks for at each start: loading the real one takes longer than most
// tests, and nothing is to be compiled.
function quickCompiler() {
  const file = path.join(project, "mutate-solc");
  const version = spawnSync(path.join(root, "bin/solc"), ["--version"], { encoding: "utf8" }).stdout;
  fs.writeFileSync(file, `#!/bin/sh\n[ "$1" = --version ] || exit 2\ncat <<END\n${version}END\n`, { mode: 0o755 });
  return file;
}

// What the tests of the target say when they fail, the quick ones first.
function failing(target) {
  for (const test of target.tests) {
    const env = { ...process.env, FOUNDRY_INVARIANT_RUNS: "24", FOUNDRY_INVARIANT_DEPTH: "120", FOUNDRY_FUZZ_RUNS: "64" };
    const options = { cwd: project, env, timeout: SECONDS * 1000, maxBuffer: 1 << 28, encoding: "utf8" };
    const run = spawnSync(forge, ["test", "--match-path", test, "--fail-fast"], options);
    if (run.error?.code === "ETIMEDOUT") return "no end";
    if (run.status === 0) continue;
    const failure = run.stdout.match(/^\[FAIL.*$/m)?.[0];
    if (!failure) fail(`forge could not run the tests; is everything built?\n${run.stderr}`);
    return failure;
  }
  return "";
}

// Compiles these one after another, in a thread that is ahead of who asks.
function compiling(list) {
  const worker = new Worker(__filename, { workerData: project });
  const answers = [];
  const waiting = [];
  worker.on("message", (answer) => (waiting.length ? waiting.shift()(answer) : answers.push(answer)));
  worker.on("error", (error) => fail(error.stack));
  for (const { file, from, to, replacement, deploys } of list) worker.postMessage({ file, from, to, replacement, deploys });
  return {
    next: () => (answers.length ? Promise.resolve(answers.shift()) : new Promise((resolve) => waiting.push(resolve))),
    stop: () => worker.terminate(),
  };
}

function serve() {
  const solc = require(path.join(root, "node_modules/solc/soljson.js"));
  process.removeAllListeners("uncaughtException");
  parentPort.on("message", (m) => parentPort.postMessage(compile(solc, m)));
}

// The bytecode of what a mutant goes into, or without one of all; undefined when it does not compile.
function compile(solc, m) {
  const text = m.file && fs.readFileSync(path.join(project, m.file), "utf8");
  const changed = m.file && text.slice(0, m.from) + m.replacement + text.slice(m.to);
  const read = (name) => (name === m.file ? changed : fs.readFileSync(path.join(project, name), "utf8"));
  const sources = {};
  const outputSelection = {};
  const concerned = [];
  for (const unit of m.deploys) {
    const needed = collect(sourceOf(unit), read, {});
    if (m.file && !needed[m.file]) continue;
    Object.assign(sources, needed);
    outputSelection[sourceOf(unit)] = { [nameOf(unit)]: ["evm.bytecode.object"] };
    concerned.push(unit);
  }
  const settings = { evmVersion: "cancun", outputSelection, remappings, metadata: { bytecodeHash: "none", appendCBOR: false } };
  const input = JSON.stringify({ language: "Solidity", sources, settings });
  const size = Buffer.byteLength(input) + 1;
  const pointer = solc._solidity_alloc(size);
  solc.stringToUTF8(input, pointer, size);
  const output = JSON.parse(solc.UTF8ToString(solc._solidity_compile(pointer, 0, 0)));
  solc._solidity_reset();
  if ((output.errors ?? []).some((e) => e.severity === "error")) return undefined;
  return Object.fromEntries(concerned.map((unit) => [unit, output.contracts[sourceOf(unit)][nameOf(unit)].evm.bytecode.object]));
}

// A source with all that it imports.
function collect(name, read, sources) {
  if (sources[name]) return sources;
  sources[name] = { content: read(name) };
  for (const i of sources[name].content.matchAll(/^\s*(?:import|\}) [^;]*?from "([^"]+)";|^import "([^"]+)";/gm)) {
    const to = i[1] ?? i[2];
    const [prefix, target] = remappings.map((r) => r.split("=")).find(([start]) => to.startsWith(start)) ?? ["", ""];
    collect(to.startsWith(".") ? path.posix.join(path.posix.dirname(name), to) : target + to.slice(prefix.length), read, sources);
  }
  return sources;
}

// What is deployed is a name, of src/<name>.sol, or <source>:<name>.
function sourceOf(unit) {
  return unit.includes(":") ? unit.split(":")[0] : `src/${unit}.sol`;
}

function nameOf(unit) {
  return unit.split(":").pop();
}

function artifact(unit) {
  return path.join(project, "out", path.basename(sourceOf(unit)), `${nameOf(unit)}.json`);
}

function mappings() {
  const text = fs.readFileSync(path.join(root, "foundry.toml"), "utf8");
  return [...text.match(/^remappings = \[([^\]]*)\]/m)[1].matchAll(/"([^"]+)"/g)].map((m) => m[1]);
}

function report(results, options) {
  const all = Object.values(results);
  const sum = (f) => all.reduce((n, r) => n + f(r), 0);
  const survived = all.flatMap((r) => r.survived);
  const total = { killed: sum((r) => r.killed), survived, excused: sum((r) => r.excused), skipped: sum((r) => r.skipped) };
  const counted = total.killed + survived.length;
  const percent = counted === 0 ? 0 : (100 * total.killed) / counted;
  fs.mkdirSync(path.join(root, "out"), { recursive: true });
  fs.writeFileSync(path.join(root, "out", "mutants.json"), JSON.stringify({ ...total, counted, percent }, null, 2) + "\n");
  for (const [contract, r] of Object.entries(results)) {
    const all = r.killed + r.survived.length;
    process.stdout.write(`${contract}: ${r.killed} of ${all} noticed, ${r.excused} excused, ${r.skipped} not counted\n`);
  }
  for (const s of survived) process.stdout.write(`survived: ${s}\n`);
  process.stdout.write(
    `contracts: ${total.killed} of ${counted} broken contracts noticed (${percent.toFixed(1)} %), ` +
      `${total.excused} excused, ${total.skipped} not counted\n`,
  );
  if (counted === 0 || percent < options.atLeast) process.exit(1);
}

function fail(text) {
  process.stderr.write(`mutate: ${text}\n`);
  process.exit(2);
}
