// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Peers} from "../src/Peers.sol";
import {IPaymentManager} from "../src/interfaces/IPaymentManager.sol";
import {UniswapSuite} from "./utils/UniswapSuite.sol";
import {UptimeFeed} from "./utils/UptimeFeed.sol";

/// @title PaymentOutage
/// @notice While the sequencer is down nobody can pay and nobody can trade: graces last longer, and prices count only an
/// hour later.
contract PaymentOutageTest is UniswapSuite {
    bytes32 private constant _IMPLEMENTATION = 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;
    uint128 internal constant R = uint128(1000 * Q);

    UptimeFeed internal feed;
    uint64 internal node;

    function setUp() public override {
        super.setUp();
        node = workers[0].id;
        feed = new UptimeFeed();
        feed.push(0, block.timestamp - 30 days);
        Peers memory p = _peers();
        p.uptimeFeed = address(feed);
        _replace(address(payments), _build("PaymentManager", p));
        _replace(address(sla), _build("SLAManager", p));
    }

    function _replace(address proxy, address code) private {
        vm.store(proxy, _IMPLEMENTATION, bytes32(uint256(uint160(code))));
    }

    function test_closeOverdue_waitsLongerAfterAnOutage() public {
        _asJobs().setFlow(payer, ALEPH, node, int256(uint256(R)));
        vm.prank(payer);
        token.approve(address(payments), 0);
        skip(1 hours + 10 hours);
        uint80 round = feed.push(1, block.timestamp);
        skip(5 hours);
        feed.push(0, block.timestamp);
        skip(9 hours + 1);
        // 24 hours of arrears are over, 19 of them with a sequencer.
        uint256 state = vm.snapshotState();
        assertTrue(_asJobs().closeOverdue(payer, ALEPH, node, R), "nobody has recorded the outage");
        vm.revertToState(state);
        sla.recordOutage(round);
        assertFalse(_asJobs().closeOverdue(payer, ALEPH, node, R));
        skip(5 hours - 1);
        assertFalse(_asJobs().closeOverdue(payer, ALEPH, node, R));
        skip(1);
        assertTrue(_asJobs().closeOverdue(payer, ALEPH, node, R));
    }

    function test_pullSwap_waitsAnHourAfterAnOutage() public {
        extension.setRoute(USD, ALEPH, _path(address(usd), MEDIUM, address(token)), 100, 1800, 150, 1000e6);
        address poor = _swapper(1000e6, 300);
        _asJobs().setFlow(poor, ALEPH, node, int256(100 ether * Q / 3600));
        skip(30 minutes);
        feed.push(1, block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.SequencerGrace.selector, type(uint256).max));
        extension.pullSwap(poor, USD, ALEPH);
        uint256 up = block.timestamp + 10;
        feed.push(0, up);
        vm.warp(up + 1 hours - 1);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.SequencerGrace.selector, up + 1 hours));
        extension.pullSwap(poor, USD, ALEPH);
        skip(1);
        extension.pullSwap(poor, USD, ALEPH);
    }
}
