// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {UniswapSuite} from "../utils/UniswapSuite.sol";
import {SwapHandler} from "./SwapHandler.sol";

/// @title Swaps
/// @notice PM-12: whatever somebody does to the price in the published Uniswap V3, a payer pays at most the mean price and
/// the slip, a payee gets at least what it asked for, and nothing stays in the adapter.
contract SwapsInvariantTest is UniswapSuite {
    SwapHandler internal handler;

    function setUp() public override {
        super.setUp();
        bytes memory path = _path(address(usd), MEDIUM, address(token));
        extension.setRoute(USD, ALEPH, path, 100, 1800, 150, 100_000e6);
        extension.setRoute(ALEPH, USD, _path(address(token), MEDIUM, address(usd)), 0, 1800, 0, 0);
        address poor = _swapper(1_000_000e6, 300);
        _asJobs().setFlow(poor, ALEPH, workers[0].id, int256(99 ether * Q / 3600));
        vm.prank(poor);
        token.transfer(address(1), 1 ether);
        address[5] memory who = [address(token), address(usd), poor, trader, workers[0].owner];
        handler = new SwapHandler(payments, swaps, router, who, workers[0].id, path);
        targetContract(address(handler));
    }

    function invariant_PM12_swapsAreBounded() public view {
        assertEq(handler.tooDear(), 0, "PM-12: a payer paid too much");
        assertEq(handler.tooCheap(), 0, "PM-12: a payee got too little");
        assertEq(usd.balanceOf(address(swaps)) + token.balanceOf(address(swaps)), 0, "PM-12: nothing stays");
    }
}
