"use strict";

// solhint's recommended rules, with a reason for each that is off. `make contracts-lint` allows no finding.
module.exports = {
  extends: "solhint:recommended",
  rules: {
    "compiler-version": ["error", "^0.8.37"],
    "func-visibility": ["error", { ignoreConstructors: true }],
    // Arithmetic of proofs and calls that must not fail are written in assembly, each block with its reason.
    "no-inline-assembly": "off",
    // A body is empty where a permit that fails is fine and where a constructor only passes on.
    "no-empty-blocks": "off",
    // The words are in the interfaces; @inheritdoc in the contract is enough. A test asks for them.
    "use-natspec": "off",
    // Indexed is what somebody filters by, not everything that could be.
    "gas-indexed-events": "off",
    // `<=` says what is meant; the optimizer makes the same code of both.
    "gas-strict-inequalities": "off",
    // The strings are EIP-712 types, hashed when the contract is compiled.
    "gas-small-strings": "off",
    // Members are ordered for the slots that a call touches together; test/layout shows them.
    "gas-struct-packing": "off",
    // Immutables are constants of a deployment and named like constants, except public ones, which are functions.
    "immutable-vars-naming": "off",
    // External.sol imports what the build should produce.
    "no-unused-import": "off",
  },
};
