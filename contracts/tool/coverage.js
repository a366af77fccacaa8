#!/usr/bin/env node
// Reports the line coverage of src/ from an lcov file and fails below a bound: coverage.js <lcov file> <percent>.
"use strict";

const fs = require("fs");

const [file, bound] = process.argv.slice(2);
let name = "";
let all = 0;
let hit = 0;
const missed = [];
for (const line of fs.readFileSync(file, "utf8").split("\n")) {
  if (line.startsWith("SF:")) name = line.slice(3);
  if (!line.startsWith("DA:") || !name.startsWith("src/")) continue;
  const [number, count] = line.slice(3).split(",");
  all++;
  if (count === "0") missed.push(`${name}:${number}`);
  else hit++;
}
if (all === 0) {
  process.stderr.write("coverage: the report has no lines of src/\n");
  process.exit(1);
}
const percent = (100 * hit) / all;
if (missed.length > 0) process.stdout.write(`not covered:\n  ${missed.join("\n  ")}\n`);
process.stdout.write(`contracts: ${percent.toFixed(1)} % of ${all} lines covered, at least ${bound} %\n`);
process.exit(percent < Number(bound) ? 1 : 0);
