// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephToken} from "../../src/AlephToken.sol";
import {PaymentManager} from "../../src/PaymentManager.sol";
import {StorageRegistry} from "../../src/StorageRegistry.sol";
import {IStorageWords} from "../../src/interfaces/IStorageWords.sol";
import {Payees} from "../../src/libraries/Payees.sol";
import {StorageHandler} from "./StorageHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @title Storage
/// @notice What holds of commitments, proofs and challenges whatever happens in whatever order. SR-8, SR-10 and SR-11 are
/// properties of proofs alone: StorageProof.t.sol and the Go package protocol/commitment have them.
contract StorageInvariantTest is Test {
    StorageHandler internal handler;
    AlephToken internal token;
    StorageRegistry internal storages;
    PaymentManager internal payments;
    address internal payer;

    function setUp() public {
        handler = new StorageHandler();
        handler.start();
        (address t, address s, address p, address by) = handler.contracts();
        (token, storages, payments, payer) = (AlephToken(t), StorageRegistry(s), PaymentManager(p), by);
        targetContract(address(handler));
        bytes4[] memory selectors = new bytes4[](15);
        selectors[0] = StorageHandler.commit.selector;
        selectors[1] = StorageHandler.release.selector;
        selectors[2] = StorageHandler.bundle.selector;
        selectors[3] = StorageHandler.publish.selector;
        selectors[4] = StorageHandler.prove.selector;
        selectors[5] = StorageHandler.attest.selector;
        selectors[6] = StorageHandler.report.selector;
        selectors[7] = StorageHandler.challenge.selector;
        selectors[8] = StorageHandler.arm.selector;
        selectors[9] = StorageHandler.respond.selector;
        selectors[10] = StorageHandler.expire.selector;
        selectors[11] = StorageHandler.warp.selector;
        selectors[12] = StorageHandler.sequencer.selector;
        // Twice what makes something due.
        selectors[13] = StorageHandler.publish.selector;
        selectors[14] = StorageHandler.prove.selector;
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function _today() private view returns (uint24) {
        return uint24(block.timestamp / 1 days);
    }

    /// @dev A day counts as proven when, and only when, a right proof was sent for it.
    function invariant_SR1_provenIsWhatWasProven() public view {
        for (uint256 i; i < handler.count(); ++i) {
            uint128 id = handler.idOf(i);
            IStorageWords.CommitmentView memory c = storages.commitment(id);
            assertEq(c.proven, handler.bits(id, c.newestDay, true), "SR-1");
        }
    }

    function invariant_SR2_noDayIsInTheFuture() public view {
        for (uint256 i; i < handler.count(); ++i) {
            assertLe(storages.commitment(handler.idOf(i)).newestDay, _today(), "SR-2");
        }
    }

    function invariant_SR3_randomnessIsWrittenOnce() public view {
        for (uint24 day = handler.firstDay(); day <= _today(); ++day) {
            assertEq(storages.seedOf(day), handler.seeds(day), "SR-3");
        }
    }

    /// @dev The root that was due today at midnight is due all day, and tomorrow's is the last one sent.
    function invariant_SR4_rootsChangeAtMidnight() public view {
        for (uint256 w; w < 4; ++w) {
            uint24 today = _today();
            assertEq(storages.bundleOn(handler.nodeOf(w), today), handler.dueOn(w, today), "SR-4: today");
            bytes30 next = handler.dueOn(w, today + 1);
            if (next == 0) next = handler.dueOn(w, today);
            assertEq(storages.bundleOn(handler.nodeOf(w), today + 1), next, "SR-4: tomorrow");
        }
    }

    function invariant_SR5_neverBothProvenAndMissed() public view {
        for (uint256 i; i < handler.count(); ++i) {
            uint128 id = handler.idOf(i);
            IStorageWords.CommitmentView memory c = storages.commitment(id);
            assertEq(c.proven & c.missed, 0, "SR-5: proven");
            for (uint24 age; age < 32 && age < c.newestDay; ++age) {
                if ((c.missed >> age) & 1 == 1) assertFalse(handler.excused(id, c.newestDay - age), "SR-5: attested");
            }
        }
    }

    function invariant_SR6_bondsAreHeld() public view {
        assertEq(token.balanceOf(address(storages)), handler.openBonds(), "SR-6");
        for (uint256 i; i < handler.disputeCount(); ++i) {
            (bytes32 id, IStorageWords.ChallengeState state) = handler.dispute(i);
            assertEq(uint8(storages.challengeOf(id).state), uint8(state), "SR-6: state");
        }
    }

    /// @dev Depth follows from the size, which the hash of the terms binds for good.
    function invariant_SR7_termsAreBound() public view {
        for (uint256 i; i < handler.count(); ++i) {
            StorageHandler.Book memory b = handler.book(i);
            if (b.bundle) continue;
            assertEq(storages.commitment(b.id).termsHash, keccak256(abi.encode(b.terms)), "SR-7");
            assertGt(b.terms.size, 0, "SR-7: leaves");
        }
    }

    /// @dev Missed is what was reported when it could be: with randomness, after the grace and the outage.
    function invariant_SR9_missedIsWhatWasReported() public view {
        for (uint256 i; i < handler.count(); ++i) {
            uint128 id = handler.idOf(i);
            IStorageWords.CommitmentView memory c = storages.commitment(id);
            assertEq(c.missed, handler.bits(id, c.newestDay, false), "SR-9");
        }
    }

    /// @dev What is active is counted, for the NodeRegistry; what has ended pays no rent, but for what was lost and is not
    /// released.
    function invariant_SR_activeAndRentAreCounted() public view {
        for (uint256 i; i < handler.count(); ++i) {
            bool active = storages.commitment(handler.idOf(i)).status == IStorageWords.Status.Active;
            assertEq(active, !handler.ended(i), "status");
        }
        for (uint256 w; w < 4; ++w) {
            (uint256 active, uint256 rate) = handler.account(w);
            assertEq(storages.activeCommitments(handler.nodeOf(w)), active, "active");
            assertEq(payments.pair(payer, 1, Payees.ofStorage(handler.nodeOf(w))).rateQ32, rate, "rent");
        }
    }
}
