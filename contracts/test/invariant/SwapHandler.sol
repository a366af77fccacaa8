// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PaymentManager} from "../../src/PaymentManager.sol";
import {UniswapAdapter} from "../../src/UniswapAdapter.sol";
import {IPaymentExtension} from "../../src/interfaces/IPaymentExtension.sol";
import {IRouter} from "../utils/UniswapSuite.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {CommonBase} from "forge-std/Base.sol";
import {StdUtils} from "forge-std/StdUtils.sol";

/// @title SwapHandler
/// @notice A trader with any amount of money moves the price at will, and anybody pulls a payer's other token.
contract SwapHandler is CommonBase, StdUtils {
    uint8 internal constant ALEPH = 1;
    uint8 internal constant USD = 2;
    uint32 internal constant TWAP = 1800;

    PaymentManager internal immutable payments;
    UniswapAdapter internal immutable swaps;
    IRouter internal immutable router;
    IERC20 internal immutable token;
    IERC20 internal immutable usd;
    address internal immutable payer;
    address internal immutable trader;
    address internal immutable payout;
    uint64 internal immutable node;
    bytes internal path;

    uint256 public spent;
    uint256 public bought;
    /// @dev By how much the dearest swap was above its bound, and the cheapest sale below its own.
    uint256 public tooDear;
    uint256 public tooCheap;
    mapping(bytes32 action => uint256) public done;

    constructor(
        PaymentManager payments_,
        UniswapAdapter swaps_,
        IRouter router_,
        address[5] memory who,
        uint64 node_,
        bytes memory path_
    ) {
        (payments, swaps, router, node, path) = (payments_, swaps_, router_, node_, path_);
        (token, usd, payer, trader, payout) = (IERC20(who[0]), IERC20(who[1]), who[2], who[3], who[4]);
    }

    function trade(uint256 amount, bool up, bool big) external {
        (IERC20 from, IERC20 to) = up ? (usd, token) : (token, usd);
        amount = up ? bound(amount, 1e6, big ? 1_000_000e6 : 5_000e6) : bound(amount, 1 ether, big ? 1e25 : 1e23);
        vm.startPrank(trader);
        from.approve(address(router), amount);
        router.exactInputSingle(
            IRouter.ExactInputSingleParams(address(from), address(to), 3000, trader, type(uint256).max, amount, 0, 0)
        );
        vm.stopPrank();
        ++done["trade"];
    }

    function pullSwap() external {
        payments.pull(payer, ALEPH);
        uint256 need = _need();
        uint256 quote;
        if (need != 0) {
            try swaps.quoteIn(path, need, TWAP, 150) returns (uint256 q) {
                quote = q;
            } catch {}
        }
        uint256 before = usd.balanceOf(payer);
        try IPaymentExtension(address(payments)).pullSwap(payer, USD, ALEPH) returns (uint256, uint256 out) {
            uint256 paid = before - usd.balanceOf(payer);
            uint256 most = quote + quote / 100 + 2;
            if (paid > most && paid - most > tooDear) tooDear = paid - most;
            if (out != need) tooDear = type(uint256).max;
            spent += paid;
            bought += out;
            ++done["pullSwap"];
        } catch {
            if (usd.balanceOf(payer) != before) tooDear = type(uint256).max;
        }
    }

    function withdrawSwapped(uint256 amount, uint256 min) external {
        address[] memory list = new address[](1);
        list[0] = payer;
        payments.claim(node, ALEPH, list);
        uint128 credit = payments.creditOf(node, ALEPH);
        if (credit == 0) return;
        amount = bound(amount, 1, credit);
        min = bound(min, 1, amount / 1e12 + 1);
        uint256 before = usd.balanceOf(payout);
        vm.prank(payout);
        try IPaymentExtension(address(payments)).withdrawSwapped(node, ALEPH, USD, uint128(amount), uint128(min)) {
            uint256 got = usd.balanceOf(payout) - before;
            if (got < min) tooCheap = min - got;
            if (payments.creditOf(node, ALEPH) != credit - amount) tooCheap = type(uint256).max;
            ++done["withdrawSwapped"];
        } catch {
            if (payments.creditOf(node, ALEPH) != credit) tooCheap = type(uint256).max;
        }
    }

    function warp(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, time % 3 == 0 ? 2 hours : 20 minutes));
    }

    function _need() private view returns (uint256) {
        uint256 rate = payments.account(payer, ALEPH).rateQ32;
        uint256 paidUntil = payments.account(payer, ALEPH).paidUntil;
        uint256 target = block.timestamp + payments.account(payer, ALEPH).window;
        if (paidUntil >= target) return 0;
        uint256 need = (rate * (target - paidUntil) + type(uint32).max) >> 32;
        uint256 refund = payments.account(payer, ALEPH).refund;
        return need > refund ? need - refund : 0;
    }
}
