// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {GasBench} from "./GasBench.sol";

/// @title Gas
/// @notice The life of a node, a job and its payments.
contract GasTest is GasBench {
    uint128 internal constant RATE = uint128(1e12 * Q);

    function _bench() internal pure override returns (string memory) {
        return "gas";
    }

    function _measure() internal override {
        _nodes();
        _jobs();
        _batches();
        _payments();
    }

    function _nodes() private {
        Party memory p = _party("gas node");
        bytes memory peerId = abi.encodePacked(keccak256("gas node"), hex"0024080112");
        bytes memory sig = _registerSig(p, INodeRegistry.Kind.Compute, peerId);
        vm.prank(p.owner);
        p.id = nodes.registerNode(INodeRegistry.Kind.Compute, peerId, p.signer, keccak256("meta"), 1, 1, sig);
        _record("registerNode", 190_000);
        gateway.mint(token, p.owner, 20_000 ether);
        vm.prank(p.owner);
        token.approve(address(staking), 20_000 ether);
        vm.prank(p.owner);
        staking.stake(p.id, 10_000 ether);
        _record("stake", 110_000);
        nodes.activate(p.id);
        _record("activate", 45_000);
    }

    function _jobs() private {
        _open("first", RATE, workers[0]);
        _record("open, 3 signatures, first of a payer", 220_000);
        _open("second", RATE, workers[0]);
        _record("open, 3 signatures", 165_000);
        _confirm("first", workers[0]);
        _record("confirmRunning, first of a pair", 57_100);
        skip(60);
        _confirm("second", workers[0]);
        _record("confirmRunning, one", 40_000);
        skip(60);
        _stop("second");
        _record("stop", 58_000);
    }

    function _batches() private {
        bytes32[] memory specs = new bytes32[](10);
        for (uint256 i; i < 10; ++i) {
            specs[i] = keccak256(abi.encode(i));
            _open(specs[i], RATE, workers[0]);
        }
        skip(60);
        vm.prank(workers[0].signer);
        jobs.confirmRunning(specs);
        _recordEach("confirmRunning, each of 10", 14_000, 10);
        vm.prank(workers[0].signer);
        jobs.nodeStop(specs[0], 16);
        _record("nodeStop", 58_000);
        _open("never", RATE, workers[0]);
        skip(901);
        jobs.failStart("never");
        _record("failStart", 58_000);
    }

    function _payments() private {
        payments.withdrawRefund(payer, ALEPH);
        _record("withdrawRefund", 62_000);
        skip(60);
        payments.pull(payer, ALEPH);
        _record("pull", 60_000);
        _claim(workers[0].id);
        _record("claim, first of a payee", 120_000);
        skip(600);
        _claim(workers[0].id);
        _record("claim, one pair", 39_208);
        _manyPayers();
        vm.prank(workers[0].owner);
        payments.withdraw(workers[0].id, ALEPH, 1e12);
        _record("withdraw, first of a wallet", 79_100);
        vm.prank(workers[0].owner);
        payments.withdraw(workers[0].id, ALEPH, 1e12);
        _record("withdraw", 62_000);
        _asJobs().setFlow(payer, ALEPH, workers[0].id, 1e12);
        _record("setFlow, existing pair", 70_000);
        _asJobs().reserve(payer, ALEPH, workers[0].id, RATE);
        _record("reserve", 70_000);
        _asJobs().release(payer, ALEPH, workers[0].id, RATE, 60);
        _record("release", 45_000);
    }

    /// @dev 50 payers with a running flow to one node.
    function _manyPayers() private {
        address[] memory many = new address[](50);
        for (uint256 i; i < 50; ++i) {
            many[i] = makeAddr(string.concat("many", vm.toString(i)));
            _fund(many[i], 1 ether);
            _asJobs().setFlow(many[i], ALEPH, workers[0].id, int256(uint256(RATE)));
        }
        skip(60);
        payments.claim(workers[0].id, ALEPH, many);
        skip(60);
        payments.claim(workers[0].id, ALEPH, many);
        _recordEach("claim, each of 50 pairs", 11_000, 50);
        skip(60);
        payments.pullMany(many, ALEPH);
        _recordEach("pullMany, each of 50 payers", 24_000, 50);
    }
}
