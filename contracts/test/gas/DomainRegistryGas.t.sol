// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDomainRegistry} from "../../src/interfaces/IDomainRegistry.sol";
import {DomainSuite} from "../utils/DomainSuite.sol";
import {QuorumSuite} from "../utils/QuorumSuite.sol";
import {Suite} from "../utils/Suite.sol";
import {GasBench} from "./GasBench.sol";

/// @title DomainRegistryGas
/// @notice The life of a name.
contract DomainRegistryGasTest is DomainSuite, GasBench {
    function setUp() public override(QuorumSuite, Suite) {
        QuorumSuite.setUp();
    }

    function _code(string memory name) internal view override(Suite, GasBench) returns (bytes memory) {
        return GasBench._code(name);
    }

    function _bench() internal pure override returns (string memory) {
        return "domains";
    }

    function _measure() internal override {
        address alice = makeAddr("alice");
        address bob = makeAddr("bob");
        bytes32 key = _ask(alice, "www.example.com");
        _record("request", 95_000);
        bytes memory sigs = _attest(key, alice, 0, START, 5);
        domains.verify(key, alice, TOKEN_METHOD, START, sigs);
        _record("verify, 5 signatures, first of a name", 95_000);
        skip(60);
        sigs = _attest(key, alice, 0, START + 60, 5);
        domains.verify(key, alice, TOKEN_METHOD, START + 60, sigs);
        _record("verify, 5 signatures, renewal", 95_000);
        vm.prank(alice);
        domains.setTarget(key, IDomainRegistry.TargetType.Site, keccak256("other target"));
        _record("setTarget", 40_000);
        vm.prank(alice);
        domains.setCert(key, keccak256("spki"), START + 90 days);
        _record("setCert, first of a name", 0);
        vm.prank(alice);
        domains.setCert(key, keccak256("spki 2"), START + 91 days);
        _record("setCert", 45_000);
        vm.prank(alice);
        domains.rotateCert(key, keccak256("spki 3"), START + 92 days, START + 7 days);
        _record("rotateCert, first of a name", 0);
        _ask(bob, "www.example.com");
        sigs = _attest(key, bob, 1, START + 61, 5);
        skip(1);
        domains.dispute(key, bob, TOKEN_METHOD, START + 61, sigs);
        _record("dispute, 5 signatures", 0);
        skip(72 hours);
        domains.settleDispute(key);
        _record("settleDispute", 0);
    }
}
