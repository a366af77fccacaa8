// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Suite} from "./utils/Suite.sol";

/// @title Exactness
/// @notice What a job costs is its rate times its seconds, to the last wei, whatever else happens meanwhile.
contract ExactnessTest is Suite {
    function testFuzz_settled_isRateTimesSeconds(uint64 ratePerSecond, uint32 life, uint8 claims, bool otherJob)
        public
    {
        uint256 rate = bound(ratePerSecond, 1, 1e15);
        uint256 left = bound(life, 1, 30 days);
        uint256 begun = token.balanceOf(payer);
        _run("job", uint128(rate * Q), workers[0]);
        uint256 seconds_ = left;
        if (otherJob) {
            // The second job on the same node starts at an odd moment and ends before the first one.
            _skip(left / 3);
            _run("other", uint128((rate + 7) * Q), workers[1]);
            _skip(left / 5);
            _stop("other");
            left -= left / 3 + left / 5;
        }
        uint256 gross;
        for (uint256 i; i < claims % 5; ++i) {
            _skip(left / 7);
            left -= left / 7;
            gross += _claim(workers[0].id);
        }
        _skip(left);
        _stop("job");
        gross += _claim(workers[0].id);
        assertEq(gross, rate * seconds_, "settled");

        uint256 other = _claim(workers[1].id);
        if (payments.account(payer, ALEPH).refund != 0) payments.withdrawRefund(payer, ALEPH);
        assertEq(begun - token.balanceOf(payer), gross + other, "paid by the payer");
        assertEq(token.balanceOf(address(payments)), gross + other, "held for the payees");
    }

    function test_settled_secondsWithFractionalRates() public {
        // 2.5 wei per second: claims in the middle of a wei lose nothing.
        _run("job", uint128(5 * Q / 2), workers[0]);
        uint256 gross;
        for (uint256 i; i < 100; ++i) {
            _skip(1);
            gross += _claim(workers[0].id);
        }
        assertEq(gross, 250, "settled");
    }

    /// @dev Time passes with a keeper that pulls before each window ends.
    function _skip(uint256 time) private {
        while (time > 0) {
            uint256 step = time < 3600 ? time : 3600;
            skip(step);
            time -= step;
            payments.pull(payer, ALEPH);
        }
    }
}
