// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DomainRegistry} from "../src/DomainRegistry.sol";
import {Peers} from "../src/Peers.sol";
import {IDomainRegistry} from "../src/interfaces/IDomainRegistry.sol";
import {Fqdn} from "../src/libraries/Fqdn.sol";
import {DomainSuite} from "./utils/DomainSuite.sol";

/// @title DomainVectors
/// @notice The cases of names that Go checks, too: protocol/testdata/vectors/domain.json is what the contract computes.
/// With WRITE_VECTORS=true the file is written, else it is compared.
contract DomainVectorsTest is DomainSuite {
    string internal constant FILE = "../protocol/testdata/vectors/domain.json";
    address internal constant AT = 0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0;
    address internal constant OWNER = 0x5B38Da6a701c568545dCfcB03FcB875f56beddC4;

    DomainRegistry internal registry = DomainRegistry(AT);

    function setUp() public override {
        super.setUp();
        // At an address of its own, so that the vectors do not move with the deployment.
        Peers memory p = _peers();
        p.domains = AT;
        vm.etch(AT, _build("DomainRegistry", p).code);
    }

    function test_vectors_areWhatTheContractComputes() public {
        string memory json = string.concat(
            '{\n  "names": [\n', _names(), '\n  ],\n  "refused": [\n', _refused(), '\n  ],\n  "tokens": [\n', _tokens()
        );
        json = string.concat(json, '\n  ],\n  "chainId": 31337,\n  "registry": "', vm.toString(AT));
        json = string.concat(json, '",\n  "attestations": [\n', _attestations(), '\n  ],\n  "revocations": [\n');
        json = string.concat(json, _revocations(), "\n  ]\n}\n");
        if (vm.envOr("WRITE_VECTORS", false)) vm.writeFile(FILE, json);
        assertEq(vm.readFile(FILE), json, "vectors differ: run `make contracts-vectors`");
    }

    function _names() private view returns (string memory out) {
        string[9] memory names = [
            "example.com",
            "www.example.com",
            "*.example.com",
            "xn--bcher-kva.example",
            "_dnslink.a_b.example.org",
            "a.b.c.d.e.f",
            "1.2.3.x4",
            "abc--d.x--y",
            _longName(61)
        ];
        for (uint256 i; i < names.length; ++i) {
            out = string.concat(out, i == 0 ? "" : ",\n", '    {"name": "', names[i], '", "key": "');
            out = string.concat(out, vm.toString(registry.keyOf(names[i])), '", "wildcard": ');
            out = string.concat(out, bytes(names[i])[0] == "*" ? "true}" : "false}");
        }
    }

    function _refused() private view returns (string memory out) {
        string[18] memory names = [
            "",
            "localhost",
            "Example.com",
            "example.com.",
            ".example.com",
            "a..com",
            "-a.com",
            "a-.com",
            "a b.com",
            "aa--b.com",
            "xn--.com",
            "10.0.0.1",
            "a._tcp",
            "*",
            "*.com",
            "a.*.example.com",
            "*._a.com",
            _longName(62)
        ];
        for (uint256 i; i < names.length; ++i) {
            (bool ok, bytes memory err) = AT.staticcall(abi.encodeCall(registry.keyOf, (names[i])));
            require(!ok && bytes4(err) == Fqdn.BadFqdn.selector, names[i]);
            uint256 index;
            assembly ("memory-safe") {
                index := mload(add(err, 0x24))
            }
            out = string.concat(out, i == 0 ? "" : ",\n", '    {"name": "', names[i], '", "index": ');
            out = string.concat(out, vm.toString(index), "}");
        }
    }

    function _tokens() private view returns (string memory out) {
        bytes32 key = registry.keyOf("example.com");
        for (uint32 nonce; nonce < 2; ++nonce) {
            out = string.concat(out, nonce == 0 ? "" : ",\n", _head(key, nonce), ', "owner": "', vm.toString(OWNER));
            out = string.concat(out, '", "token": "', vm.toString(registry.tokenOf(key, OWNER, nonce)), '"}');
        }
    }

    function _attestations() private view returns (string memory out) {
        bytes32 key = registry.keyOf("example.com");
        for (uint8 method = 1; method < 3; ++method) {
            bytes32 digest = registry.attestationDigest(key, OWNER, 7, IDomainRegistry.Method(method), type(uint40).max);
            out = string.concat(out, method == 1 ? "" : ",\n", _head(key, 7), ', "owner": "', vm.toString(OWNER));
            out = string.concat(out, '", "method": ', vm.toString(method), ', "seenAt": ');
            out = string.concat(out, vm.toString(type(uint40).max), ', "digest": "', vm.toString(digest), '"}');
        }
    }

    function _revocations() private view returns (string memory out) {
        bytes32 key = registry.keyOf("example.com");
        for (uint256 i; i < 2; ++i) {
            bytes32 spki = i == 0 ? bytes32(0) : sha256("spki");
            bytes32 evidence = sha256("evidence");
            bytes32 digest = registry.revocationDigest(key, type(uint32).max, spki, evidence);
            out = string.concat(out, i == 0 ? "" : ",\n", _head(key, type(uint32).max), ', "spkiHash": "');
            out = string.concat(out, vm.toString(spki), '", "evidence": "', vm.toString(evidence), '", "digest": "');
            out = string.concat(out, vm.toString(digest), '"}');
        }
    }

    function _head(bytes32 key, uint32 nonce) private pure returns (string memory) {
        return string.concat('    {"key": "', vm.toString(key), '", "nonce": ', vm.toString(nonce));
    }

    /// @dev Three labels of 63 and one of `last` letters.
    function _longName(uint256 last) private pure returns (string memory) {
        bytes memory name = new bytes(3 * 64 + last);
        for (uint256 i; i < name.length; ++i) {
            name[i] = i < 192 && i % 64 == 63 ? bytes1(".") : bytes1("a");
        }
        return string(name);
    }
}
