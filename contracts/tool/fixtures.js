#!/usr/bin/env node
// Checks the TypeScript side: abi/*.ts compile strictly, and viem computes from abi/eip712.ts the digests of
// protocol/testdata/vectors/eip712.json, which the contracts computed and Go checks, and finds the same signers.
"use strict";

const assert = require("assert");
const fs = require("fs");
const path = require("path");
const ts = require("typescript");
const { hashTypedData, recoverTypedDataAddress } = require("viem");

const root = path.join(__dirname, "..");
const vectors = JSON.parse(fs.readFileSync(path.join(root, "..", "protocol/testdata/vectors/eip712.json"), "utf8"));

// Types whose digests other vectors and tests hold to the contracts: heartbeat.json, asp1.json, domain.json, and the tests
// of the ImageMarketplace and the StakingManager.
const ELSEWHERE = [
  "Heartbeat", "StoreRequest", "StoreExtension", "StoreRepair", "StorageReceipt", "DayAttestation", "DnsAttestation",
  "Revocation", "Takedown", "Delegation",
];

main().catch((err) => {
  process.stderr.write(`fixtures: ${err.message}\n`);
  process.exit(1);
});

async function main() {
  compile();
  const { eip712Types, eip712Domains } = load("abi/eip712.ts");
  const seen = new Set();
  for (const c of vectors) {
    const types = { [c.primaryType]: eip712Types[c.primaryType] };
    assert(types[c.primaryType], `${c.primaryType} is not in eip712.json`);
    assert(eip712Domains[c.domain.name]?.includes(c.primaryType), `${c.primaryType} is not of the domain ${c.domain.name}`);
    const data = { domain: c.domain, types, primaryType: c.primaryType, message: c.message };
    assert.strictEqual(hashTypedData(data), c.digest, `digest of ${c.primaryType}`);
    assert.strictEqual(await recoverTypedDataAddress({ ...data, signature: c.signature }), c.signer, `signer of ${c.primaryType}`);
    seen.add(c.primaryType);
  }
  for (const name of Object.keys(eip712Types)) {
    assert(seen.has(name) || ELSEWHERE.includes(name), `no vector has the type ${name}`);
  }
  process.stdout.write(`contracts: viem agrees on ${vectors.length} signed words of ${seen.size} types\n`);
}

function compile() {
  const files = fs.readdirSync(path.join(root, "abi")).map((f) => path.join(root, "abi", f));
  const program = ts.createProgram(files, { noEmit: true, strict: true, target: ts.ScriptTarget.ES2022, types: [] });
  const problems = ts.getPreEmitDiagnostics(program);
  const host = { getCanonicalFileName: (f) => f, getCurrentDirectory: () => root, getNewLine: () => "\n" };
  assert.strictEqual(problems.length, 0, ts.formatDiagnostics(problems, host));
}

function load(file) {
  const source = fs.readFileSync(path.join(root, file), "utf8");
  const { outputText } = ts.transpileModule(source, { compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 } });
  const module = { exports: {} };
  new Function("module", "exports", outputText)(module, module.exports);
  return module.exports;
}
