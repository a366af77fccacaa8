// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephToken} from "../../src/AlephToken.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {StakingManager} from "../../src/StakingManager.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {StakingHandler} from "./StakingHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @title Staking
/// @notice What holds of stakes, delegations and votes whatever happens in whatever order.
contract StakingInvariantTest is Test {
    StakingHandler internal handler;
    AlephToken internal token;
    NodeRegistry internal nodes;
    StakingManager internal staking;
    uint256 internal ids;
    uint256 internal people;

    function setUp() public {
        handler = new StakingHandler();
        handler.start();
        (address t, address n, address s) = handler.contracts();
        (token, nodes, staking) = (AlephToken(t), NodeRegistry(n), StakingManager(s));
        (ids, people,) = handler.counts();
        targetContract(address(handler));
        bytes4[] memory selectors = new bytes4[](18);
        selectors[0] = StakingHandler.delegate.selector;
        selectors[1] = StakingHandler.undelegate.selector;
        selectors[2] = StakingHandler.cancelUndelegate.selector;
        selectors[3] = StakingHandler.withdraw.selector;
        selectors[4] = StakingHandler.stake.selector;
        selectors[5] = StakingHandler.requestUnstake.selector;
        selectors[6] = StakingHandler.withdrawSelf.selector;
        selectors[7] = StakingHandler.setCommission.selector;
        selectors[8] = StakingHandler.claimOwner.selector;
        selectors[9] = StakingHandler.drain.selector;
        selectors[10] = StakingHandler.addRewards.selector;
        selectors[11] = StakingHandler.syncVotes.selector;
        selectors[12] = StakingHandler.delegateVotes.selector;
        selectors[13] = StakingHandler.warp.selector;
        selectors[14] = StakingHandler.slash.selector;
        selectors[15] = StakingHandler.freeze.selector;
        // Twice what fills the pools and what lets time pass.
        selectors[16] = StakingHandler.delegate.selector;
        selectors[17] = StakingHandler.warp.selector;
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function _owed() private view returns (uint256 owed) {
        for (uint32 id = 1; id <= nodes.lastNodeId(); ++id) {
            (uint128 self, uint128 delegated, uint128 waiting) = staking.totalStake(id);
            (uint128 rest,,,,, uint128 credit) = staking.rewards(id);
            owed += uint256(self) + delegated + waiting + rest + credit;
        }
    }

    function invariant_ST1_whatIsOwedIsHeld() public view {
        assertEq(token.balanceOf(address(staking)), _owed(), "ST-1");
    }

    function invariant_ST2_sharesAddUp() public view {
        for (uint256 i; i < ids; ++i) {
            uint32 id = handler.ids(i);
            (, uint128 shares,,, uint128 leaving,) = staking.pool(id);
            uint256 sum;
            uint256 sumLeaving;
            for (uint256 j; j < people; ++j) {
                address who = handler.people(j);
                (, uint128 held) = staking.positionValue(id, who);
                sum += held;
                for (uint8 k; k < 8; ++k) {
                    (, uint128 waiting,) = staking.tranche(id, who, k);
                    sumLeaving += waiting;
                }
            }
            assertEq(sum, shares, "ST-2: bonded");
            assertEq(sumLeaving, leaving, "ST-2: leaving");
        }
    }

    /// @dev With ST-2 this says that positions and shares end together.
    function invariant_ST3_noTokensWithoutShares() public view {
        for (uint256 i; i < ids; ++i) {
            (uint128 tokens, uint128 shares,, uint128 leavingTokens, uint128 leavingShares,) =
                staking.pool(handler.ids(i));
            assertEq(tokens == 0, shares == 0, "ST-3: bonded");
            assertEq(leavingTokens == 0, leavingShares == 0, "ST-3: leaving");
            assertLe(leavingTokens, leavingShares, "a share that leaves is worth at most a token");
            assertLe(shares, uint256(tokens) * 1e9, "R4: bonded");
            assertLe(leavingShares, uint256(leavingTokens) * 1e9 + 1e9, "R4: leaving");
        }
    }

    function invariant_ST4_slashesConserve() public view {
        assertEq(handler.broken("ST-4"), 0);
        assertEq(handler.broken("R5"), 0);
    }

    function invariant_ST5_onlySlashesLowerThePrice() public view {
        assertEq(handler.broken("ST-5"), 0);
        assertEq(handler.broken("R3"), 0);
    }

    function invariant_ST6_nothingLeavesEarlyOrGrows() public view {
        assertEq(handler.broken("ST-6"), 0);
        assertEq(handler.broken("R14"), 0);
    }

    function invariant_ST7_delegatorsLoseAlike() public view {
        assertEq(handler.broken("ST-7"), 0);
    }

    function invariant_ST8_votesAddUp() public {
        uint256 sum;
        for (uint256 i; i < people; ++i) {
            sum += staking.getVotes(handler.people(i));
        }
        for (uint256 i; i < ids; ++i) {
            sum += staking.getVotes(handler.owner(i));
        }
        assertEq(_total(), sum, "ST-8: votes are the sum");

        // Counted anew they are what is bonded.
        uint32[] memory list = new uint32[](ids);
        uint256 bonded;
        for (uint256 i; i < ids; ++i) {
            list[i] = handler.ids(i);
            (uint128 self,,) = staking.stakeOf(list[i]);
            bonded += self;
        }
        for (uint256 i; i < people; ++i) {
            address who = handler.people(i);
            staking.syncVotes(who, list);
            for (uint256 j; j < ids; ++j) {
                (uint128 value,) = staking.positionValue(list[j], who);
                bonded += value;
            }
        }
        assertEq(_total(), bonded, "ST-8: votes are what is bonded");
    }

    function _total() private returns (uint256 total) {
        uint256 time = block.timestamp;
        vm.warp(time + 1);
        total = staking.getPastTotalSupply(time);
        vm.warp(time);
    }

    /// @dev Nothing is taken but by the slashes of the cases, one each.
    function invariant_ST9_oneSlashForEachCase() public view {
        uint256 gone = handler.withdrawn() + handler.slashed() + handler.dust();
        assertEq(token.balanceOf(address(staking)), handler.deposited() - gone, "ST-9");
        (,, uint256 cases) = handler.counts();
        if (cases != 0) assertEq(handler.slashesOf(handler.cases(cases - 1)), 1, "ST-9");
    }

    function invariant_ST10_ownersDoNotGainBySlashes() public view {
        assertEq(handler.broken("ST-10"), 0);
    }

    function invariant_NR5_activeNodesHaveTheirStake() public view {
        for (uint256 i; i < ids; ++i) {
            uint32 id = handler.ids(i);
            if (!nodes.isActive(id)) continue;
            INodeRegistry.Kind kind = nodes.node(id).kind;
            assertTrue(staking.meetsRequirement(id, kind), "NR-5");
        }
    }

    /// @dev G-3: everybody can take everything out.
    function afterInvariant() public {
        // What waited long ago goes first: it may be in the tranche of this week.
        skip(50 days);
        _everybody(true);
        skip(50 days);
        _everybody(false);
        for (uint256 i; i < ids; ++i) {
            uint32 id = handler.ids(i);
            (,,,,, uint128 credit) = staking.rewards(id);
            if (credit != 0) staking.claimOwner(id);
            (, uint128 delegated, uint128 waiting) = staking.totalStake(id);
            (, uint128 selfWaiting,) = staking.stakeOf(id);
            assertEq(delegated, 0, "G-3: all delegations are out");
            assertEq(waiting, selfWaiting, "G-3: all that waited is out");
        }
        invariant_ST1_whatIsOwedIsHeld();
    }

    function _everybody(bool leaves) private {
        for (uint256 i; i < ids; ++i) {
            uint32 id = handler.ids(i);
            for (uint256 j; j < people; ++j) {
                address who = handler.people(j);
                vm.startPrank(who);
                for (uint8 k; k < 8; ++k) {
                    _withdraw(id, who, k);
                }
                (, uint128 shares) = staking.positionValue(id, who);
                if (leaves && shares != 0) staking.undelegate(id, shares, 0);
                vm.stopPrank();
            }
        }
    }

    function _withdraw(uint32 id, address who, uint8 tranche) private {
        (, uint128 shares, uint40 unlock) = staking.tranche(id, who, tranche);
        if (shares == 0 || block.timestamp < unlock || block.timestamp < staking.frozenUntil(id)) return;
        uint8[] memory list = new uint8[](1);
        list[0] = tranche;
        staking.withdraw(id, list);
    }
}
