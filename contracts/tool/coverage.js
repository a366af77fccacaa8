#!/usr/bin/env node
// Reports the coverage of src/ from an lcov file and fails below bounds: coverage.js <lcov file> <lines %> <branches %>.
"use strict";

const fs = require("fs");

const [file, lineBound, branchBound] = process.argv.slice(2);
let name = "";
const lines = { all: 0, hit: 0, missed: [] };
const branches = { all: 0, hit: 0, missed: [] };
for (const line of fs.readFileSync(file, "utf8").split("\n")) {
  if (line.startsWith("SF:")) name = line.slice(3);
  if (!name.startsWith("src/")) continue;
  if (line.startsWith("DA:")) {
    const [number, count] = line.slice(3).split(",");
    note(lines, count !== "0", `${name}:${number}`);
  } else if (line.startsWith("BRDA:")) {
    const [number, , , count] = line.slice(5).split(",");
    note(branches, count !== "0" && count !== "-", `${name}:${number}`);
  }
}
if (lines.all === 0 || branches.all === 0) {
  process.stderr.write("coverage: the report has no lines or no branches of src/\n");
  process.exit(1);
}
const enough = [report("lines", lines, lineBound), report("branches", branches, branchBound)];
process.exit(enough.every(Boolean) ? 0 : 1);

function note(kind, hit, where) {
  kind.all++;
  if (hit) kind.hit++;
  else kind.missed.push(where);
}

function report(what, kind, bound) {
  const percent = (100 * kind.hit) / kind.all;
  if (kind.missed.length > 0) process.stdout.write(`${what} not covered:\n  ${[...new Set(kind.missed)].join("\n  ")}\n`);
  process.stdout.write(`contracts: ${percent.toFixed(1)} % of ${kind.all} ${what} covered, at least ${bound} %\n`);
  return percent >= Number(bound);
}
