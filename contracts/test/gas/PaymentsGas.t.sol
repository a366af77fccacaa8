// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Suite} from "../utils/Suite.sol";
import {UniswapSuite} from "../utils/UniswapSuite.sol";
import {GasBench} from "./GasBench.sol";

/// @title PaymentsGas
/// @notice What payments cost: one payer with 1,000 jobs on 100 nodes, a batch as large as it can be, swaps, and what a
/// payer does by itself.
contract PaymentsGasTest is GasBench, UniswapSuite {
    uint128 internal constant RATE = uint128(1e12 * Q);

    function setUp() public override(Suite, UniswapSuite) {
        super.setUp();
    }

    function _bench() internal pure override returns (string memory) {
        return "payments";
    }

    function _code(string memory name) internal view override(Suite, GasBench) returns (bytes memory) {
        return GasBench._code(name);
    }

    function _uniswap() internal override(Suite, UniswapSuite) returns (address) {
        return UniswapSuite._uniswap();
    }

    function _measure() internal override {
        _thousandJobs();
        _batches();
        _settings();
        _swaps();
    }

    /// @dev Ten jobs on each of 100 nodes; the node ids need no registration here.
    function _thousandJobs() private {
        for (uint64 i; i < 1_000; ++i) {
            _asJobs().setFlow(payer, ALEPH, 1 + i % 100, int256(uint256(RATE)));
        }
        skip(60);
        payments.pull(payer, ALEPH);
        skip(600);
        payments.pull(payer, ALEPH);
        _record("pull, 1,000 jobs on 100 nodes", 58_000);
        _asJobs().setFlow(payer, ALEPH, 1, 1e12);
        _record("setFlow, existing pair", 70_000);
        _asJobs().setFlow(payer, ALEPH, 1, -1e12);
        _record("setFlow, lower, first refund", 0);
        _asJobs().chargeOnce(payer, ALEPH, 1, 1e12, 0);
        _asJobs().chargeOnce(payer, ALEPH, 1, 1e12, 0);
        _record("chargeOnce", 0);
        vm.prank(payer);
        extension.revokeAll(ALEPH);
        _record("revokeAll, 1,000 jobs on 100 nodes", 0);
    }

    /// @dev 200 payers with a running flow to one node.
    function _batches() private {
        address[] memory many = new address[](200);
        for (uint256 i; i < 200; ++i) {
            many[i] = makeAddr(string.concat("many", vm.toString(i)));
            _fund(many[i], 1 ether);
            _asJobs().setFlow(many[i], ALEPH, workers[0].id, int256(uint256(RATE)));
        }
        skip(60);
        payments.claim(workers[0].id, ALEPH, many);
        skip(60);
        payments.claim(workers[0].id, ALEPH, many);
        _recordEach("claim, each of 200 pairs", 11_000, 200);
        skip(60);
        payments.pullMany(many, ALEPH);
        _recordEach("pullMany, each of 200 payers", 24_000, 200);
    }

    function _settings() private {
        address p = makeAddr("settings");
        _fund(p, 10 ether);
        vm.prank(p);
        extension.deposit(ALEPH, 1 ether);
        _record("deposit, first", 0);
        vm.prank(p);
        extension.withdrawDeposit(ALEPH, 0.5 ether);
        _record("withdrawDeposit", 0);
        vm.prank(p);
        extension.setLimits(ALEPH, address(jobs), RATE, type(uint40).max, type(uint88).max);
        _record("setLimits, first", 0);
        vm.prank(trader);
        extension.sponsor(p, ALEPH, RATE, type(uint40).max);
        _record("sponsor, first", 0);
    }

    function _swaps() private {
        extension.setRoute(USD, ALEPH, _path(address(usd), MEDIUM, address(token)), 100, 1800, 150, 1000e6);
        address poor = _swapper(1000e6, 100);
        _asJobs().setFlow(poor, ALEPH, workers[1].id, int256(99 ether * Q / 3600));
        vm.prank(poor);
        token.transfer(address(1), 1 ether);
        skip(30 minutes);
        extension.pullSwap(poor, USD, ALEPH);
        _record("pullSwap, one hop", 230_000);
        extension.setRoute(
            USD, ALEPH, abi.encodePacked(address(usd), LOW, address(weth), HIGH, address(token)), 100, 1800, 150, 1000e6
        );
        skip(30 minutes);
        extension.pullSwap(poor, USD, ALEPH);
        _record("pullSwap, two hops", 0);
        extension.setRoute(ALEPH, USD, _path(address(token), MEDIUM, address(usd)), 0, 1800, 0, 0);
        vm.prank(workers[0].owner);
        extension.withdrawSwapped(workers[0].id, ALEPH, USD, 1e15, 1);
        _record("withdrawSwapped, one hop", 0);
    }
}
