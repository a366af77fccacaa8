// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephToken} from "../../src/AlephToken.sol";
import {SLAManager} from "../../src/SLAManager.sol";
import {CaseHandler} from "./CaseHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @title Cases
/// @notice What holds of cases and their money in any order of calls.
contract CasesInvariantTest is Test {
    CaseHandler internal handler;
    SLAManager internal sla;
    AlephToken internal token;

    function setUp() public {
        handler = new CaseHandler();
        handler.start();
        (address s, address t) = handler.contracts();
        (sla, token) = (SLAManager(s), AlephToken(t));
        targetContract(address(handler));
        bytes4[] memory selectors = new bytes4[](15);
        selectors[0] = CaseHandler.record.selector;
        selectors[1] = CaseHandler.accuse.selector;
        selectors[2] = CaseHandler.defend.selector;
        selectors[3] = CaseHandler.judge.selector;
        selectors[4] = CaseHandler.appeal.selector;
        selectors[5] = CaseHandler.govern.selector;
        selectors[6] = CaseHandler.veto.selector;
        selectors[7] = CaseHandler.finalize.selector;
        selectors[8] = CaseHandler.withdraw.selector;
        selectors[9] = CaseHandler.outage.selector;
        selectors[10] = CaseHandler.pause.selector;
        selectors[11] = CaseHandler.warp.selector;
        selectors[12] = CaseHandler.finalize.selector;
        selectors[13] = CaseHandler.finalize.selector;
        selectors[14] = CaseHandler.burn.selector;
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function invariant_SL1_aCaseIsExecutedOnce() public view {
        for (uint256 i; i < handler.caseCount(); ++i) {
            assertLe(handler.executed(handler.cases(i)), 1);
        }
    }

    function invariant_SL2_atMostThirtyPercentInThirtyDays() public view {
        uint256 n = handler.executionCount();
        for (uint256 i; i < n; ++i) {
            (uint32 node, uint256 end,,) = handler.executions(i);
            uint256 sum;
            for (uint256 j; j <= i; ++j) {
                (uint32 other, uint256 time, uint256 bps,) = handler.executions(j);
                if (other == node && time + 30 days > end) sum += bps;
            }
            assertLe(sum, 3_000);
        }
    }

    /// @dev The handler looks at each penalty. SL-3: none is carried out while PENALTY is paused or within an hour of an
    /// outage. SL-4: the parts of reporter, tenant and caller and what is burned, a quarter at least, make what was slashed.
    /// SL-5: a dismissed case stays so, and nothing is slashed without an execution. SL-7: who is jailed or banned is so in
    /// the NodeRegistry.
    function invariant_SL3_SL4_SL5_SL7_nothingWasSeenThatMayNotBe() public view {
        assertEq(handler.broken(), "");
    }

    function invariant_SL6_bondsAndCreditsAndWhatIsToBeBurnedAreHeld() public view {
        uint256 owed = sla.toBurn();
        for (uint256 i; i < handler.peopleCount(); ++i) {
            owed += sla.creditOf(handler.people(i));
        }
        for (uint256 i; i < handler.caseCount(); ++i) {
            owed += sla.caseOf(handler.cases(i)).bond;
            owed += sla.caseOf(handler.cases(i)).appealBond;
        }
        assertEq(token.balanceOf(address(sla)), owed, "what is held is what is owed");
        assertEq(handler.posted() + handler.received(), owed + handler.withdrawn() + handler.burned(), "nothing goes");
    }
}
