#!/usr/bin/env node
// Checks the TypeScript side: abi/*.ts compile strictly, and viem computes from abi/eip712.ts the hashes of
// protocol/testdata/vectors/eip712.json, which the contracts computed and Go checks, and finds the same signers. Every type
// of eip712.json has a case there. The words of heartbeats and names have more, in files of their own.
"use strict";

const assert = require("assert");
const fs = require("fs");
const path = require("path");
const ts = require("typescript");
const { hashStruct, hashTypedData, keccak256, recoverTypedDataAddress, stringToHex } = require("viem");

const root = path.join(__dirname, "..");
const domains = JSON.parse(fs.readFileSync(path.join(root, "eip712.json"), "utf8"));

main().catch((err) => {
  process.stderr.write(`fixtures: ${err.message}\n`);
  process.exit(1);
});

async function main() {
  compile();
  const { eip712Types, eip712Domains } = load("abi/eip712.ts");
  const check = (domain, primaryType, message, digest) => {
    const types = { [primaryType]: eip712Types[primaryType] };
    assert(types[primaryType], `${primaryType} is not in abi/eip712.ts`);
    assert(eip712Domains[domain.name]?.includes(primaryType), `${primaryType} is not of the domain ${domain.name}`);
    const names = types[primaryType].map((f) => f.name);
    assert.deepStrictEqual(Object.keys(message).sort(), names.sort(), `values of ${primaryType}`);
    const data = { domain, types, primaryType, message };
    assert.strictEqual(hashTypedData(data), digest, `digest of ${primaryType}`);
    return data;
  };
  const cases = vectors("eip712.json");
  const missing = new Set(Object.entries(domains).flatMap(([domain, list]) => list.map((type) => `${domain}: ${type}`)));
  for (const c of cases) {
    const data = check(c.domain, c.primaryType, c.message, c.digest);
    assert.strictEqual(keccak256(stringToHex(c.encodeType)), c.typeHash, `type hash of ${c.primaryType}`);
    assert.strictEqual(hashStruct({ ...data, data: c.message }), c.structHash, `struct hash of ${c.primaryType}`);
    assert.strictEqual(await recoverTypedDataAddress({ ...data, signature: c.signature }), c.signer, `signer of ${c.primaryType}`);
    missing.delete(`${c.domain.name}: ${c.encodeType}`);
  }
  assert(missing.size === 0, `no case has ${[...missing].join(" or ")}: add it to test/Vectors.t.sol`);
  const words = cases.length + more(check);
  const types = Object.values(domains).flat().length;
  process.stdout.write(`contracts: viem agrees on ${words} signed words of ${types} types\n`);
}

// The words in the other files, of which some have more than the words.
function more(check) {
  const epochs = vectors("heartbeat.json").epochs;
  for (const e of epochs) {
    const message = { epoch: e.epoch, statsRoot: e.statsRoot, bitmapHash: e.bitmapHash };
    check(domain("AlephNodes", e.chainId, e.contract), "Heartbeat", message, e.digest);
  }
  const { chainId, registry, attestations, revocations } = vectors("domain.json");
  const at = domain("AlephDomains", chainId, registry);
  for (const { digest, ...message } of attestations) check(at, "DnsAttestation", message, digest);
  for (const { digest, ...message } of revocations) check(at, "Revocation", message, digest);
  return epochs.length + attestations.length + revocations.length;
}

function domain(name, chainId, verifyingContract) {
  return { name, version: "1", chainId, verifyingContract };
}

function vectors(name) {
  return JSON.parse(fs.readFileSync(path.join(root, "../protocol/testdata/vectors", name), "utf8"));
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
