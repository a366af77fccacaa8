#!/usr/bin/env node
// Writes the storage layout of every contract's namespace to layout/*.json, or with --check fails unless the layouts are
// the committed ones with nothing but additions at the end.
"use strict";

const fs = require("fs");
const path = require("path");

const check = process.argv.includes("--check");
let failed = false;
// The namespaces are those that test/layout/Layouts.sol declares.
const declared = fs.readFileSync(path.join(__dirname, "..", "test", "layout", "Layouts.sol"), "utf8");
for (const [, name] of declared.matchAll(/^contract (\w+)Layout /gm)) {
  const artifact = path.join(__dirname, "..", "out", "Layouts.sol", `${name}Layout.json`);
  const layout = members(JSON.parse(fs.readFileSync(artifact, "utf8")).storageLayout);
  const file = path.join(__dirname, "..", "layout", `${name}.json`);
  if (!check) {
    fs.writeFileSync(file, JSON.stringify(layout, null, 2) + "\n");
    continue;
  }
  const committed = JSON.parse(fs.readFileSync(file, "utf8"));
  for (const problem of differences(committed, layout)) {
    process.stderr.write(`layout of ${name}: ${problem}\n`);
    failed = true;
  }
}
process.exit(failed ? 1 : 0);

// The members of every struct, by the struct's name, without the numbers the compiler gives to declarations.
function members(storage) {
  const layout = {};
  for (const type of Object.values(storage.types)) {
    if (!type.members) continue;
    layout[type.label.replace(/^struct /, "")] = type.members.map(
      (m) => `${m.slot}:${m.offset} ${m.label} ${storage.types[m.type].label}`,
    );
  }
  return Object.fromEntries(Object.entries(layout).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function differences(committed, now) {
  const problems = [];
  for (const struct of Object.keys(now)) {
    if (!committed[struct]) problems.push(`${struct} is new: commit it with \`make contracts-layout\``);
  }
  for (const [struct, list] of Object.entries(committed)) {
    const have = now[struct];
    if (!have) {
      problems.push(`${struct} is gone`);
      continue;
    }
    list.forEach((member, i) => {
      if (have[i] !== member) problems.push(`${struct}: got ${have[i] ?? "nothing"}, want ${member}`);
    });
    if (have.length > list.length) problems.push(`${struct} has grown: commit it with \`make contracts-layout\``);
  }
  return problems;
}
