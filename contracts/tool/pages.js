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

// Which contract a figure of snapshots is of: that of the file, but for the operations that begin so.
const measured = {
  domains: ["DomainRegistry"],
  gas: ["PaymentManager", ["NodeRegistry", /^(registerNode|activate)/], ["StakingManager", /^stake/],
    ["JobManager", /^(open|confirmRunning|stop|nodeStop|failStart)/]],
  governance: ["AlephGovernor"],
  images: ["ImageMarketplace"],
  jobs: ["JobManager", ["SLAManager", /^(recordViolation|finalize|accuse|withdraw a credit|burn)/]],
  nodes: ["NodeRegistry", ["JobManager", /^open/]],
  payments: ["PaymentManager"],
  staking: ["StakingManager"],
  storage: ["StorageRegistry"],
};
// Where the words are that a contract does not say itself: its interfaces, its extension's, and the common errors.
const shared = ["AlephErrors", "IBase", "IStakingManager", "IUniswapAdapter"];

// Who may call the governor, which is OpenZeppelin's and not in access.json.
const governor = {
  initialize: "once", propose: "who has the threshold of votes", queue: "anyone", execute: "anyone",
  cancel: "the guardian, the proposer while Pending", castVote: "anyone", castVoteBySig: "anyone", castVoteWithReason: "anyone",
  castVoteWithReasonAndParams: "anyone", castVoteWithReasonAndParamsBySig: "anyone", cancelUpgrade: "the guardian",
  announceUpgrade: "a proposal", upgradeToAndCall: "a proposal", relay: "a proposal", setLateQuorumVoteExtension: "a proposal",
  setProposalGuardian: "a proposal", setProposalThreshold: "a proposal", setVotingDelay: "a proposal",
  setVotingPeriod: "a proposal", updateQuorumNumerator: "a proposal", updateTimelock: "a proposal",
  onERC721Received: "nobody", onERC1155Received: "nobody", onERC1155BatchReceived: "nobody",
};

// What OpenZeppelin leaves without a comment.
const foreign = {
  BALLOT_TYPEHASH: "The EIP-712 type of a ballot.",
  EXTENDED_BALLOT_TYPEHASH: "The EIP-712 type of a ballot with a reason and parameters.",
  UPGRADE_INTERFACE_VERSION: "The version of OpenZeppelin's interface for upgrades.",
  ProposalGuardianSet: "Another account may cancel proposals from now on.",
  ProposalThresholdSet: "A proposal needs this many votes behind its proposer from now on.",
  QuorumNumeratorUpdated: "The quorum is this share of all votes from now on, in percent.",
  VotingDelaySet: "Votes begin so many seconds after a proposal from now on.",
  VotingPeriodSet: "Votes last so many seconds from now on.",
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
  const who = access[name] ? { ...access.Base, ...access[name], ...access[extensionOf(name)] } : {};
  const sources = [artifact, ...[`I${name}`, `I${extensionOf(name)}`, ...shared].map(release).filter(Boolean)];
  const say = documented(sources);
  const names = argumentNames(sources);
  const part = (title, head, rows) => (rows.length === 0 ? "" : `\n## ${title}\n\n${table(head, rows)}`);
  // Of the PaymentManager's extension a part is reached by the fallback only.
  const abi = [...artifact.abi, ...(release(`I${extensionOf(name)}`)?.abi ?? [])];
  const of = (kind) => abi.filter((f, at) => f.type === kind && abi.findIndex((g) => g.type === kind && signature(g) === signature(f)) === at)
    .sort((a, b) => (a.name < b.name ? -1 : Number(a.name > b.name)));
  const constant = (f) => ["view", "pure"].includes(f.stateMutability);
  return [
    part("Calls that change state", ["call", "who", "what"],
      of("function").filter((f) => !constant(f)).map((f) => [code(named(f, names)), who[signature(f)] ?? governor[f.name] ?? "", say("methods", f)])),
    part("Views", ["call", "what"],
      of("function").filter(constant).map((f) => [code(named(f, names)), say("methods", f)])),
    part("Events", ["event", "when"], of("event").map((e) => [code(named(e, names)), say("events", e)])),
    part("Errors", ["error", "why"], of("error").map((e) => [code(named(e, names)), say("errors", e)])),
    part("Properties", ["id", "what holds in random sequences of calls"], properties(ids)),
    "\nG-1 to G-9 hold of all contracts together: see [overview.md](overview.md#what-holds).\n",
    part("Gas", ["operation", "gas"], gas(name)),
  ].join("");
}

function extensionOf(name) {
  return name.replace(/Manager$|Registry$/, "Extension");
}

// What an artifact's comments say. forge's own reading of them leaves out events and errors.
function documented(sources) {
  const outputs = sources.map((a) => JSON.parse(a.rawMetadata).output);
  return (kind, f) => {
    for (const { userdoc, devdoc } of outputs) {
      // Of an error there may be several.
      const said = [userdoc[kind]?.[signature(f)], devdoc[kind]?.[signature(f)]].map((d) => (Array.isArray(d) ? d[0] : d));
      const text = said[0]?.notice ?? said[1]?.details;
      if (text) return first(text);
    }
    return foreign[f.name] ?? "";
  };
}

// A function that an extension does has no use for the names of its arguments; the interface gives them.
function argumentNames(sources) {
  const found = {};
  for (const { abi } of sources) {
    for (const f of abi) {
      if (f.inputs?.length > 0 && f.inputs.every((i) => i.name !== "")) found[signature(f)] ??= f.inputs.map((i) => i.name);
    }
  }
  return found;
}

function release(name) {
  const file = `out/release/${name}.sol/${name}.json`;
  return fs.existsSync(path.join(root, file)) ? read(file) : undefined;
}

// The invariants of a contract: their ids with the comment above the function. A campaign may hold several:
// invariant_G3_G4_whatItSays.
function properties(ids) {
  const found = [];
  const seen = new Set();
  for (const file of fs.readdirSync(path.join(root, "test"), { recursive: true }).filter((f) => f.endsWith(".sol")).sort()) {
    const text = fs.readFileSync(path.join(root, "test", file), "utf8");
    for (const m of text.matchAll(/((?:^ {4}\/\/\/[^\n]*\n)*)^ {4}function invariant_((?:[A-Z]+\d+_)+)(\w+)\(/gm)) {
      const comment = m[1].replace(/^ {4}\/\/\/ ?(@dev |@notice )?/gm, "").replace(/\n/g, " ").trim();
      for (const id of m[2].split("_").filter(Boolean)) {
        const [, letters, number] = id.match(/^([A-Z]+)(\d+)$/);
        // A comment on several says which is which, as in "SL-3: ... SL-4: ...".
        const own = comment.match(new RegExp(`${letters}-${number}: (.*?)(?= [A-Z]+-\\d+: |$)`));
        const what = own?.[1] || comment || words(m[3]);
        if (letters !== ids || seen.has(`${id} ${what}`)) continue;
        seen.add(`${id} ${what}`);
        found.push([Number(number), what]);
      }
    }
  }
  return found.sort(([a], [b]) => a - b).map(([n, what]) => [`${ids}-${n}`, cell(what)]);
}

function words(name) {
  return name.replace(/([A-Z])/g, (c) => ` ${c.toLowerCase()}`).replace(/_/g, " ").trim();
}

function gas(name) {
  const rows = [];
  for (const file of fs.readdirSync(path.join(root, "snapshots")).sort()) {
    const of = measured[file.replace(/\.json$/, "")];
    if (!of) fail(`no contract is known for snapshots/${file}: name it in tool/pages.js`);
    const [owner, ...others] = of;
    for (const [what, g] of Object.entries(read(`snapshots/${file}`))) {
      if ((others.find(([, begins]) => begins.test(what))?.[0] ?? owner) !== name) continue;
      const row = [cell(what), String(g.gas).replace(/\B(?=(\d{3})+$)/g, ",")];
      if (!rows.some((r) => r[0] === row[0])) rows.push(row);
    }
  }
  return rows;
}

function signature(f) {
  return `${f.name}(${f.inputs.map(type).join(",")})`;
}

function type(input) {
  if (!input.type.startsWith("tuple")) return input.type;
  return `(${input.components.map(type).join(",")})${input.type.slice("tuple".length)}`;
}

function named(f, names) {
  const short = (i) => (i.internalType ?? i.type).replace(/^(struct|enum|contract) /, "");
  const name = (i, at) => i.name || names[signature(f)]?.[at] || "";
  return `${f.name}(${f.inputs.map((i, at) => `${short(i)}${i.indexed ? " indexed" : ""} ${name(i, at)}`.trim()).join(", ")})`;
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
