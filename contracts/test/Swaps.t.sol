// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentExtension} from "../src/interfaces/IPaymentExtension.sol";
import {IPaymentManager} from "../src/interfaces/IPaymentManager.sol";
import {IUniswapAdapter} from "../src/interfaces/IUniswapAdapter.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {IPool, IPositions, UniswapSuite} from "./utils/UniswapSuite.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title Swaps
/// @notice Swaps in pools of the published Uniswap V3.
contract SwapsTest is UniswapSuite {
    /// @dev 100 ALEPH an hour, which is 5 USD.
    uint128 internal constant RATE = uint128(100 ether * Q / 3600);
    uint32 internal constant TWAP = 1800;
    uint64 internal node;
    address internal poor;

    function setUp() public override {
        super.setUp();
        node = workers[0].id;
        extension.setRoute(USD, ALEPH, _path(address(usd), MEDIUM, address(token)), 100, TWAP, 150, 1000e6);
        poor = _swapper(1000e6, 300);
        _asJobs().setFlow(poor, ALEPH, node, int256(uint256(RATE)));
        skip(30 minutes);
    }

    function _empty() private view {
        assertEq(usd.balanceOf(address(swaps)), 0);
        assertEq(token.balanceOf(address(swaps)), 0);
        assertEq(weth.balanceOf(address(swaps)), 0);
        assertEq(dai.balanceOf(address(swaps)), 0);
    }

    /* PULLS */

    function test_pullSwap_buysExactlyWhatIsMissing() public {
        uint256 before = usd.balanceOf(poor);
        uint256 rest = token.balanceOf(poor);
        uint256 need = _need() - rest;
        uint256 quote = swaps.quoteIn(_path(address(usd), MEDIUM, address(token)), need, TWAP, 150);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Pulled(poor, ALEPH, need, 0, 0, uint40(block.timestamp) + 3600, false);
        (uint256 amountIn, uint256 amountOut) = extension.pullSwap(poor, USD, ALEPH);
        assertEq(amountOut, need);
        assertEq(before - usd.balanceOf(poor), amountIn, "the rest came back");
        assertApproxEqRel(amountIn, 2.5e6, 0.01e18);
        assertLe(amountIn, quote + quote / 100 + 1, "PM-12");
        assertEq(payments.account(poor, ALEPH).paidUntil, block.timestamp + 3600);
        assertEq(extension.routeOf(USD, ALEPH).left, 1000e6 - amountIn);
        _empty();
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        extension.pullSwap(poor, USD, ALEPH);
    }

    function _need() private view returns (uint256) {
        return (uint256(RATE) * 1800 + type(uint32).max) >> 32;
    }

    function test_pullSwap_usesTheTokenItselfFirst() public {
        gateway.mint(token, poor, 20 ether);
        (, uint256 amountOut) = extension.pullSwap(poor, USD, ALEPH);
        assertLt(amountOut, 30.1 ether);
        assertGt(amountOut, 29.9 ether);
        gateway.mint(token, poor, 200 ether);
        skip(60);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        extension.pullSwap(poor, USD, ALEPH);
    }

    function test_pullSwap_takesAllThatARouteHas() public {
        bytes memory path = _path(address(usd), MEDIUM, address(token));
        uint256 quote = swaps.quoteIn(path, _need() - token.balanceOf(poor), TWAP, 150);
        uint128 most = uint128(quote + (quote * 100 + 9_999) / 10_000);
        extension.setRoute(USD, ALEPH, path, 100, TWAP, 150, most - 1);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.LimitExceeded.selector, most, most - 1));
        extension.pullSwap(poor, USD, ALEPH);
        extension.setRoute(USD, ALEPH, path, 100, TWAP, 150, most);
        extension.pullSwap(poor, USD, ALEPH);
        assertEq(payments.account(poor, ALEPH).paidUntil, block.timestamp + 3600);
    }

    function test_pullSwap_usesTheRefund() public {
        gateway.mint(token, poor, 5);
        vm.prank(poor);
        extension.deposit(ALEPH, 5);
        uint256 refund = payments.account(poor, ALEPH).refund;
        assertGe(refund, 5);
        uint256 rest = token.balanceOf(poor);
        (, uint256 amountOut) = extension.pullSwap(poor, USD, ALEPH);
        assertEq(amountOut, _need() - rest - refund);
        assertEq(payments.account(poor, ALEPH).refund, 0);
    }

    function test_pullSwap_endsArrears() public {
        skip(3 hours);
        payments.pull(poor, ALEPH);
        assertGt(payments.account(poor, ALEPH).arrearsSince, 0);
        vm.expectEmit(address(payments));
        emit IPaymentManager.ArrearsCleared(poor, ALEPH);
        extension.pullSwap(poor, USD, ALEPH);
        assertEq(payments.claim(node, ALEPH, _poor()), uint256(RATE) * (3 hours + 30 minutes) >> 32);
        (uint256 held, uint256 owes) = lens.solvency(ALEPH, _poor(), _everyone());
        assertGe(held, owes);
    }

    function _poor() private view returns (address[] memory list) {
        list = new address[](1);
        list[0] = poor;
    }

    function _everyone() private view returns (uint64[] memory list) {
        list = new uint64[](4);
        (list[0], list[1], list[2], list[3]) = (node, (1 << 33) + 1, (1 << 33) + 2, (1 << 33) + 3);
    }

    function test_pullSwap_overTwoAndThreeHops() public {
        bytes memory two = abi.encodePacked(address(usd), LOW, address(weth), HIGH, address(token));
        extension.setRoute(USD, ALEPH, two, 100, TWAP, 150, 1000e6);
        (uint256 amountIn,) = extension.pullSwap(poor, USD, ALEPH);
        assertApproxEqRel(amountIn, 2.5e6, 0.02e18);
        _empty();

        bytes memory three = abi.encodePacked(address(dai), LOW, address(usd), LOW, address(weth), HIGH, address(token));
        extension.setRoute(DAI, ALEPH, three, 100, TWAP, 150, 1000 ether);
        dai.mint(poor, 1000 ether);
        vm.startPrank(poor);
        dai.approve(address(payments), type(uint256).max);
        extension.setAutoSwap(DAI, ALEPH, 100);
        vm.stopPrank();
        skip(30 minutes);
        uint256 before = dai.balanceOf(poor);
        (amountIn,) = extension.pullSwap(poor, DAI, ALEPH);
        assertApproxEqRel(amountIn, 2.5 ether, 0.02e18);
        assertEq(before - dai.balanceOf(poor), amountIn);
        _empty();
    }

    /// @dev The other way round: a flow in USD, paid with ALEPH. Of another token than ALEPH the delivery is watched.
    function test_pullSwap_intoAnotherToken() public {
        extension.setRoute(ALEPH, USD, _path(address(token), MEDIUM, address(usd)), 100, TWAP, 150, 10_000 ether);
        vm.startPrank(payer);
        usd.approve(address(payments), type(uint256).max);
        extension.setAutoSwap(ALEPH, USD, 100);
        vm.stopPrank();
        usd.mint(payer, 10e6);
        _asJobs().setFlow(payer, USD, node, int256(10e6 * Q / 3600));
        skip(30 minutes);
        uint256 state = vm.snapshotState();
        (uint256 amountIn, uint256 amountOut) = extension.pullSwap(payer, ALEPH, USD);
        assertEq(amountOut, 5e6);
        assertApproxEqRel(amountIn, 100 ether, 0.01e18);
        assertEq(payments.account(payer, USD).paidUntil, block.timestamp + 3600);
        _empty();
        vm.revertToState(state);
        vm.mockCall(address(usd), abi.encodeCall(usd.balanceOf, (address(payments))), abi.encode(7));
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.FeeOnTransfer.selector, 0, 5e6));
        extension.pullSwap(payer, ALEPH, USD);
    }

    function test_pullSwap_needsTheConsentOfThePayer() public {
        vm.expectEmit(address(payments));
        emit IPaymentManager.AutoSwapSet(poor, USD, ALEPH, 0);
        vm.prank(poor);
        extension.setAutoSwap(USD, ALEPH, 0);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.NoAutoSwap.selector, poor, USD, ALEPH));
        extension.pullSwap(poor, USD, ALEPH);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 301, 0, 300));
        extension.setAutoSwap(USD, ALEPH, 301);
        assertEq(extension.autoSwapOf(poor, USD, ALEPH), 0);
    }

    function test_pullSwap_needsARoute() public {
        vm.prank(poor);
        extension.setAutoSwap(WETH, ALEPH, 100);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.NoRoute.selector, WETH, ALEPH));
        extension.pullSwap(poor, WETH, ALEPH);
        bytes memory err = abi.encodeWithSelector(IPaymentManager.NoRoute.selector, USD, ALEPH);
        extension.setTokenTerms(USD, 4, 0, 0);
        vm.expectRevert(err);
        extension.pullSwap(poor, USD, ALEPH);
        extension.setTokenTerms(USD, 2, 0, 0);
        extension.setTokenTerms(ALEPH, 2, 0, 0);
        vm.expectRevert(err);
        extension.pullSwap(poor, USD, ALEPH);
        extension.setTokenTerms(ALEPH, 4, 0, 0);
        extension.setRoute(USD, ALEPH, "", 0, TWAP, 0, 0);
        vm.expectRevert(err);
        extension.pullSwap(poor, USD, ALEPH);
    }

    function test_pullSwap_paused() public {
        payments.pause(Pausing.SWAP, 1 days);
        bytes memory err = abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.SWAP);
        vm.expectRevert(err);
        extension.pullSwap(poor, USD, ALEPH);
        vm.expectRevert(err);
        extension.withdrawSwapped(node, ALEPH, USD, 1, 1);
        payments.pull(poor, ALEPH);
    }

    function test_pullSwap_needsTheMoney() public {
        vm.prank(poor);
        usd.approve(address(payments), 1e6);
        (bool ok, bytes memory err) = address(extension).call(abi.encodeCall(extension.pullSwap, (poor, USD, ALEPH)));
        assertFalse(ok);
        assertEq(bytes4(err), AlephErrors.Insufficient.selector);
    }

    function test_pullSwap_isBoundedPerHour() public {
        extension.setRoute(USD, ALEPH, _path(address(usd), MEDIUM, address(token)), 100, TWAP, 150, 4e6);
        (uint256 first,) = extension.pullSwap(poor, USD, ALEPH);
        uint256 left = extension.routeOf(USD, ALEPH).left;
        assertEq(left, 4e6 - first);
        skip(20 minutes);
        // A third of the hour, a third of the bucket.
        assertEq(extension.routeOf(USD, ALEPH).left, left + uint256(4e6) / 3);
        extension.pullSwap(poor, USD, ALEPH);
        skip(1 hours);
        (bool ok, bytes memory err) = address(extension).call(abi.encodeCall(extension.pullSwap, (poor, USD, ALEPH)));
        assertFalse(ok);
        assertEq(bytes4(err), IPaymentManager.LimitExceeded.selector, "a whole window costs more than the route allows");
    }

    function test_pullSwap_theSmallerSlipCounts() public {
        // The price has moved by about 1.2 %: the route's 1 % is not enough.
        _trade(address(usd), address(token), MEDIUM, 6_000e6);
        (bool ok,) = address(extension).call(abi.encodeCall(extension.pullSwap, (poor, USD, ALEPH)));
        assertFalse(ok);
        extension.setRoute(USD, ALEPH, _path(address(usd), MEDIUM, address(token)), 300, TWAP, 150, 1000e6);
        uint256 state = vm.snapshotState();
        extension.pullSwap(poor, USD, ALEPH);
        vm.revertToState(state);
        vm.prank(poor);
        extension.setAutoSwap(USD, ALEPH, 50);
        (ok,) = address(extension).call(abi.encodeCall(extension.pullSwap, (poor, USD, ALEPH)));
        assertFalse(ok, "the payer's 0.5 % is not");
    }

    /* ATTACKS ON THE PRICE */

    function test_price_movedInTheBlockIsRefused() public {
        _trade(address(usd), address(token), MEDIUM, 20_000e6);
        _refused(IUniswapAdapter.PriceDeviation.selector);
        _trade(address(token), address(usd), MEDIUM, 900_000 ether);
        _refused(IUniswapAdapter.PriceDeviation.selector);
    }

    /// @dev Whatever the attacker trades before, in the same block, the payer pays at most the mean price and the slip.
    function testFuzz_price_payerNeverPaysMoreThanTheBound(uint256 amount, bool up) public {
        uint256 need = _need() - token.balanceOf(poor);
        uint256 quote = swaps.quoteIn(_path(address(usd), MEDIUM, address(token)), need, TWAP, 150);
        if (up) _trade(address(usd), address(token), MEDIUM, bound(amount, 1e6, 1_000_000e6));
        else _trade(address(token), address(usd), MEDIUM, bound(amount, 1 ether, 10_000_000 ether));
        uint256 before = usd.balanceOf(poor);
        (bool ok,) = address(extension).call(abi.encodeCall(extension.pullSwap, (poor, USD, ALEPH)));
        uint256 paid = before - usd.balanceOf(poor);
        if (!ok) assertEq(paid, 0);
        assertLe(paid, quote + quote / 100 + 2, "PM-12");
        _empty();
    }

    /// @dev Holding a price for minutes moves the mean a little and the spot a lot: refused, until the mean has followed so
    /// far that it took the attacker most of the half hour at a price open to everybody.
    function test_price_heldForMinutesIsRefused() public {
        _trade(address(usd), address(token), MEDIUM, 100_000e6);
        for (uint256 i; i < 25; ++i) {
            _refused(IUniswapAdapter.PriceDeviation.selector);
            skip(1 minutes);
        }
        uint256 need = _need();
        // And going back at the end leaves a mean that is off, and the same refusal.
        _trade(address(token), address(usd), MEDIUM, 1_800_000 ether);
        _refused(IUniswapAdapter.PriceDeviation.selector);
        skip(31 minutes);
        uint256 quote = swaps.quoteIn(_path(address(usd), MEDIUM, address(token)), need, TWAP, 150);
        assertApproxEqRel(quote, 2.5e6, 0.05e18, "an honest half hour later all is well");
    }

    function _refused(bytes4 selector) private {
        uint256 before = usd.balanceOf(poor);
        (bool ok, bytes memory err) = address(extension).call(abi.encodeCall(extension.pullSwap, (poor, USD, ALEPH)));
        assertFalse(ok);
        assertEq(bytes4(err), selector);
        assertEq(usd.balanceOf(poor), before);
    }

    function test_quote_needsHistory() public {
        IPool young = _pool(address(usd), 1_000_000e6, address(token), 20_000_000 ether, LOW);
        bytes memory path = _path(address(usd), LOW, address(token));
        skip(60);
        vm.expectRevert(abi.encodeWithSelector(IUniswapAdapter.RouteStale.selector, young, 1, 150));
        swaps.quoteIn(path, 1 ether, TWAP, 150);
        vm.expectRevert(abi.encodeWithSelector(IUniswapAdapter.RouteStale.selector, young, 0, TWAP));
        swaps.quoteIn(path, 1 ether, TWAP, 1);
        skip(1 hours);
        swaps.quoteIn(path, 1 ether, TWAP, 1);
    }

    function test_quote_needsLiquidity() public {
        // A hundredth of the pool is 200,000 ALEPH.
        bytes memory path = _path(address(usd), MEDIUM, address(token));
        swaps.quoteIn(path, 199_000 ether, TWAP, 150);
        (bool ok, bytes memory err) =
            address(swaps).staticcall(abi.encodeCall(swaps.quoteIn, (path, 201_000 ether, TWAP, 150)));
        assertFalse(ok);
        assertApproxEqRel(_lowLiquidity(err, address(alephUsd), 20_100_000 ether), 20_000_000 ether, 0.001e18);
        // The liquidity goes; that it was there in the mean does not help.
        positions.decreaseLiquidity(IPositions.DecreaseParams(1, alephUsd.liquidity() - 1e12, 0, 0, type(uint256).max));
        _refused(IUniswapAdapter.LowLiquidity.selector);
    }

    function test_quote_liquidityOfTheMomentDoesNotHelp() public {
        IPool thin = _pool(address(usd), 10e6, address(token), 200 ether, LOW);
        thin.increaseObservationCardinalityNext(200);
        skip(60);
        _trade(address(usd), address(token), LOW, 1e4);
        skip(1 hours);
        bytes memory path = _path(address(usd), LOW, address(token));
        swaps.quoteIn(path, 1 ether, TWAP, 150);
        // Somebody brings a thousand times more, in the same block.
        _pool(address(usd), 10_000e6, address(token), 200_000 ether, LOW);
        (bool ok, bytes memory err) =
            address(swaps).staticcall(abi.encodeCall(swaps.quoteIn, (path, 50 ether, TWAP, 150)));
        assertFalse(ok);
        assertApproxEqRel(_lowLiquidity(err, address(thin), 5_000 ether), 200 ether, 0.01e18);
    }

    /// @dev Checks whose liquidity is too low for what, and returns what there is.
    function _lowLiquidity(bytes memory err, address pool, uint256 need) private pure returns (uint256 depth) {
        assertEq(bytes4(err), IUniswapAdapter.LowLiquidity.selector);
        assertEq(err.length, 100);
        address at_;
        uint256 needed;
        assembly ("memory-safe") {
            at_ := mload(add(err, 0x24))
            depth := mload(add(err, 0x44))
            needed := mload(add(err, 0x64))
        }
        assertEq(at_, pool, "pool");
        assertEq(needed, need, "needed");
    }

    function test_quote_refusesBadPaths() public {
        bytes[3] memory bad = [bytes(""), abi.encodePacked(address(usd)), new bytes(20 + 4 * 23)];
        for (uint256 i; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IUniswapAdapter.BadPath.selector, bad[i].length));
            swaps.quoteIn(bad[i], 1, TWAP, 1);
        }
        vm.expectRevert(abi.encodeWithSelector(IUniswapAdapter.NoPool.selector, address(usd), address(token), 123));
        swaps.quoteIn(_path(address(usd), 123, address(token)), 1, TWAP, 1);
    }

    /// @dev What the quote says is what a swap costs when nobody moves the price.
    function testFuzz_quote_isWhatASwapCosts(uint256 amountOut, uint8 which) public {
        bytes memory path = _path(address(usd), MEDIUM, address(token));
        if (which % 3 == 1) path = abi.encodePacked(address(usd), LOW, address(weth), HIGH, address(token));
        if (which % 3 == 2) {
            path = abi.encodePacked(address(dai), LOW, address(usd), LOW, address(weth), HIGH, address(token));
        }
        amountOut = bound(amountOut, 1 ether, 100_000 ether);
        address tokenIn = which % 3 == 2 ? address(dai) : address(usd);
        uint256 quote = swaps.quoteIn(path, amountOut, TWAP, 150);
        IERC20(tokenIn).transfer(address(swaps), 2 * quote);
        vm.prank(address(payments));
        uint256 amountIn = swaps.buy(path, amountOut, 2 * quote, address(1), address(2));
        assertEq(token.balanceOf(address(1)), amountOut);
        assertEq(IERC20(tokenIn).balanceOf(address(2)), 2 * quote - amountIn);
        assertApproxEqRel(amountIn, quote, 0.02e18);
        _empty();
    }

    /* THE ADAPTER BY ITSELF */

    function test_adapter_onlyThePaymentManager() public {
        bytes memory path = _path(address(usd), MEDIUM, address(token));
        bytes memory err = abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this));
        vm.expectRevert(err);
        swaps.buy(path, 1, 1, address(this), address(this));
        vm.expectRevert(err);
        swaps.sell(path, 1, 1, address(this));
        vm.expectRevert(err);
        swaps.uniswapV3SwapCallback(1, -1, abi.encode(path, 0, false));
        assertEq(swaps.factory(), address(factory));
        assertEq(swaps.payments(), address(payments));
    }

    function test_adapter_boundsHold() public {
        bytes memory path = _path(address(usd), MEDIUM, address(token));
        usd.transfer(address(swaps), 10e6);
        vm.startPrank(address(payments));
        // What it takes is in.
        uint256 state = vm.snapshotState();
        uint256 amountIn = swaps.buy(path, 100 ether, 10e6, address(1), address(2));
        vm.revertToState(state);
        assertEq(swaps.buy(path, 100 ether, amountIn, address(1), address(2)), amountIn);
        vm.revertToState(state);
        vm.expectRevert(abi.encodeWithSelector(IUniswapAdapter.SwapBound.selector, amountIn, amountIn - 1));
        swaps.buy(path, 100 ether, amountIn - 1, address(1), address(2));
        uint256 amountOut = swaps.sell(path, 1e6, 1, address(1));
        vm.revertToState(state);
        assertEq(swaps.sell(path, 1e6, amountOut, address(1)), amountOut);
        vm.revertToState(state);
        vm.expectRevert(abi.encodeWithSelector(IUniswapAdapter.SwapBound.selector, amountOut, amountOut + 1));
        swaps.sell(path, 1e6, amountOut + 1, address(1));
        bool ok;
        bytes memory err;
        // More than the pool has.
        (ok, err) =
            address(swaps).call(abi.encodeCall(swaps.buy, (path, 30_000_000 ether, 1e30, address(1), address(2))));
        assertFalse(ok);
        vm.stopPrank();
    }

    /// @dev What is too little for anything is paid for all the same.
    function test_adapter_paysForNothing() public {
        address[3] memory fine = [address(token), address(weth), address(dai)];
        uint24[3] memory fees = [MEDIUM, LOW, LOW];
        vm.startPrank(address(payments));
        for (uint256 i; i < 3; ++i) {
            deal(fine[i], address(swaps), 1);
            vm.expectRevert(abi.encodeWithSelector(IUniswapAdapter.SwapBound.selector, 0, 1));
            swaps.sell(_path(fine[i], fees[i], address(usd)), 1, 1, address(1));
        }
    }

    /// @dev A pool whose liquidity ends gives less than is asked, or takes less; both are refused.
    function test_adapter_refusesHalfASwap() public {
        (address a, address b) =
            address(dai) < address(weth) ? (address(dai), address(weth)) : (address(weth), address(dai));
        address pool = positions.createAndInitializePoolIfNecessary(a, b, MEDIUM, 1 << 96);
        IERC20(a).approve(address(positions), type(uint256).max);
        IERC20(b).approve(address(positions), type(uint256).max);
        positions.mint(
            IPositions.MintParams(a, b, MEDIUM, -60, 60, 1 ether, 1 ether, 0, 0, address(this), type(uint256).max)
        );
        IERC20(a).transfer(address(swaps), 100 ether);
        bytes memory path = _path(a, MEDIUM, b);
        vm.startPrank(address(payments));
        (bool ok, bytes memory err) =
            address(swaps).call(abi.encodeCall(swaps.buy, (path, 2 ether, 100 ether, address(1), address(2))));
        assertFalse(ok);
        assertApproxEqRel(_lowLiquidity(err, pool, 2 ether), 1 ether, 0.01e18);
        (ok, err) = address(swaps).call(abi.encodeCall(swaps.sell, (path, 100 ether, 1, address(1))));
        assertFalse(ok);
        assertApproxEqRel(_lowLiquidity(err, pool, 100 ether), 1 ether, 0.01e18);
        assertEq(swaps.sell(path, 0.5 ether, 0.49 ether, address(1)), IERC20(b).balanceOf(address(1)));
        vm.stopPrank();
        assertGt(IERC20(b).balanceOf(pool), 0);
    }

    function test_adapter_needsItsCaller() public {
        bytes memory code = abi.encodePacked(_code("UniswapAdapter"), abi.encode(address(factory), address(0)));
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        _create(code);
    }

    /* WITHDRAWALS */

    function test_withdrawSwapped_paysInAnotherToken() public {
        extension.setRoute(ALEPH, USD, _path(address(token), MEDIUM, address(usd)), 0, TWAP, 0, 0);
        payments.claim(node, ALEPH, _poor());
        uint128 credit = payments.creditOf(node, ALEPH);
        assertApproxEqRel(credit, 30 ether, 0.01e18);
        address to = workers[0].owner;
        vm.prank(workers[0].signer);
        uint256 out = extension.withdrawSwapped(node, ALEPH, USD, credit, 1.48e6);
        assertApproxEqRel(out, 1.5e6, 0.01e18);
        assertEq(usd.balanceOf(to), out);
        assertEq(payments.creditOf(node, ALEPH), 0);
        _empty();
    }

    function test_withdrawSwapped_overTwoHops() public {
        extension.setRoute(
            ALEPH, USD, abi.encodePacked(address(token), HIGH, address(weth), LOW, address(usd)), 0, TWAP, 0, 0
        );
        payments.claim(node, ALEPH, _poor());
        vm.prank(workers[0].owner);
        assertApproxEqRel(extension.withdrawSwapped(node, ALEPH, USD, 10 ether, 0.4e6), 0.5e6, 0.02e18);
        _empty();
    }

    function test_withdrawSwapped_refuses() public {
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.NoRoute.selector, ALEPH, USD));
        extension.withdrawSwapped(node, ALEPH, USD, 1, 1);
        extension.setRoute(ALEPH, USD, _path(address(token), MEDIUM, address(usd)), 0, TWAP, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        extension.withdrawSwapped(node, ALEPH, USD, 1, 1);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        extension.withdrawSwapped(node, ALEPH, USD, 1, 0);
        payments.claim(node, ALEPH, _poor());
        vm.prank(workers[0].owner);
        (bool ok, bytes memory err) =
            address(extension).call(abi.encodeCall(extension.withdrawSwapped, (node, ALEPH, USD, 10 ether, 0.51e6)));
        assertFalse(ok);
        assertEq(bytes4(err), IUniswapAdapter.SwapBound.selector);
        payments.pause(Pausing.EXIT, 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.EXIT));
        extension.withdrawSwapped(node, ALEPH, USD, 1, 1);
    }

    /* ROUTES */

    function test_setRoute_keepsWhatItGets() public {
        bytes memory path = abi.encodePacked(address(usd), LOW, address(weth), HIGH, address(token));
        vm.expectEmit(address(payments));
        emit IPaymentManager.RouteSet(USD, ALEPH, path, 200, 600, 7, 9);
        extension.setRoute(USD, ALEPH, path, 200, 600, 7, 9);
        IPaymentExtension.RouteView memory r = extension.routeOf(USD, ALEPH);
        assertEq(r.path, path);
        assertEq(r.slipBps, 200);
        assertEq(r.twapSec, 600);
        assertEq(r.minCardinality, 7);
        assertEq(r.maxPerSwap, 9);
        assertEq(r.left, 9);
    }

    function test_setRoute_refuses() public {
        bytes memory path = _path(address(usd), MEDIUM, address(token));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 301, 0, 300));
        extension.setRoute(USD, ALEPH, path, 301, TWAP, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 299, 300, 7200));
        extension.setRoute(USD, ALEPH, path, 0, 299, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 7201, 300, 7200));
        extension.setRoute(USD, ALEPH, path, 0, 7201, 0, 0);
        // The limits themselves are in.
        extension.setRoute(USD, ALEPH, path, 300, 300, 0, 0);
        extension.setRoute(USD, ALEPH, path, 300, 7200, 0, 0);
        assertEq(extension.routeOf(USD, ALEPH).twapSec, 7200);
        uint256[4] memory lengths = [uint256(20), 42, 44, 112];
        for (uint256 i; i < 4; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IUniswapAdapter.BadPath.selector, lengths[i]));
            extension.setRoute(USD, ALEPH, new bytes(lengths[i]), 0, TWAP, 0, 0);
        }
        bytes[3] memory wrong = [
            _path(address(weth), MEDIUM, address(token)),
            _path(address(usd), MEDIUM, address(weth)),
            abi.encodePacked(address(usd), LOW, address(0xdead), HIGH, address(token))
        ];
        for (uint256 i; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IPaymentManager.NoRoute.selector, USD, ALEPH));
            extension.setRoute(USD, ALEPH, wrong[i], 0, TWAP, 0, 0);
        }
    }
}
