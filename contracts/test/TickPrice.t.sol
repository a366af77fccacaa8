// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {TickPrice} from "../src/libraries/TickPrice.sol";
import {Test} from "forge-std/Test.sol";

interface IFactory {
    function createPool(address a, address b, uint24 fee) external returns (address);
}

interface IPool {
    function initialize(uint160 root) external;
    function slot0() external view returns (uint160, int24, uint16, uint16, uint16, uint8, bool);
}

/// @title TickPriceTest
/// @notice The price of a tick agrees with the published pool.
contract TickPriceTest is Test {
    IFactory internal factory;

    function setUp() public {
        string memory file =
            "node_modules/@uniswap/v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json";
        bytes memory code = vm.parseJsonBytes(vm.readFile(file), ".bytecode");
        address at_;
        assembly ("memory-safe") {
            at_ := create(0, add(code, 0x20), mload(code))
        }
        factory = IFactory(at_);
    }

    /// @dev A pool started there has this tick.
    function testFuzz_sqrtAt_agreesWithThePool(int24 tick) public {
        _agrees(int24(bound(tick, -887_270, 887_270)));
    }

    function test_sqrtAt_agreesAtTheEnds() public {
        int24[6] memory ticks = [int24(-887_270), -1, 0, 1, 2, 887_270];
        for (uint256 i; i < ticks.length; ++i) {
            _agrees(ticks[i]);
        }
    }

    function _agrees(int24 tick) private {
        uint256 root = TickPrice.sqrtAt(tick);
        assertEq(_tickOf(uint160(root + 2)), tick);
        assertEq(_tickOf(uint160(root - 2)), tick - 1);
    }

    function _tickOf(uint160 root) private returns (int24 tick) {
        uint256 state = vm.snapshotState();
        IPool pool = IPool(factory.createPool(address(1), address(2), 500));
        pool.initialize(root);
        (, tick,,,,,) = pool.slot0();
        vm.revertToState(state);
    }

    function test_sqrtAt_isExactAtTheLimits() public {
        // The limits of a pool, which round up where this rounds down.
        assertEq(TickPrice.sqrtAt(-887_272), 4_295_128_738);
        assertEq(TickPrice.sqrtAt(0), 1 << 96);
        for (int256 side = -1; side < 2; side += 2) {
            vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 887_273, 0, 887_272));
            this.sqrtAt(side * 887_273);
        }
    }

    function sqrtAt(int256 tick) external pure returns (uint256) {
        return TickPrice.sqrtAt(tick);
    }

    function test_costOf_roundsUp() public pure {
        // 4 of token1 for one of token0.
        uint256 root = 2 << 96;
        assertEq(TickPrice.costOf(400, root, true), 100);
        assertEq(TickPrice.costOf(401, root, true), 101);
        assertEq(TickPrice.costOf(100, root, false), 400);
        // A half is one, and half of that is one again.
        assertEq(TickPrice.costOf(1, root, true), 1);
        assertEq(TickPrice.costOf(0, root, true), 0);
        // A little above 2 is 3, and a little above 6 is 7.
        assertEq(TickPrice.costOf(1, root + 1, false), 7);
    }
}
