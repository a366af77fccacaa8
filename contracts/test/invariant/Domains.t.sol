// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DomainRegistry} from "../../src/DomainRegistry.sol";
import {IDomainRegistry} from "../../src/interfaces/IDomainRegistry.sol";
import {DomainHandler} from "./DomainHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @title Domains
/// @notice What holds of names whatever happens in whatever order.
/// @dev Shorter than the others: most calls of the handler sign, and that takes the time of ten.
contract DomainsInvariantTest is Test {
    DomainHandler internal handler;
    DomainRegistry internal domains;

    function setUp() public {
        handler = new DomainHandler();
        handler.start();
        domains = DomainRegistry(handler.registry());
        targetContract(address(handler));
        bytes4[] memory selectors = new bytes4[](17);
        selectors[0] = DomainHandler.ask.selector;
        selectors[1] = DomainHandler.verify.selector;
        selectors[2] = DomainHandler.dispute.selector;
        selectors[3] = DomainHandler.settle.selector;
        selectors[4] = DomainHandler.lapse.selector;
        selectors[5] = DomainHandler.revoke.selector;
        selectors[6] = DomainHandler.setTarget.selector;
        selectors[7] = DomainHandler.setCert.selector;
        selectors[8] = DomainHandler.rotateCert.selector;
        selectors[9] = DomainHandler.revokeCert.selector;
        selectors[10] = DomainHandler.transfer.selector;
        selectors[11] = DomainHandler.accept.selector;
        selectors[12] = DomainHandler.release.selector;
        selectors[13] = DomainHandler.warp.selector;
        // Twice what names come from.
        selectors[14] = DomainHandler.ask.selector;
        selectors[15] = DomainHandler.verify.selector;
        selectors[16] = DomainHandler.dispute.selector;
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    /// @dev There is at most one owner, and it is who the books say.
    function invariant_DR1_oneOwner() public view {
        for (uint256 i; i < 3; ++i) {
            IDomainRegistry.DomainView memory d = domains.domain(handler.keys(i));
            assertEq(d.owner, handler.book(handler.keys(i)).owner);
            assertEq(d.heir, handler.book(handler.keys(i)).heir);
            bool has = d.status == IDomainRegistry.Status.Verified || d.status == IDomainRegistry.Status.Grace
                || d.status == IDomainRegistry.Status.Disputed;
            assertEq(has, d.owner != address(0));
        }
    }

    /// @dev Whoever was not seen for 104 days loses the name to the first who says so.
    function invariant_DR2_overdueNamesLapse() public {
        for (uint256 i; i < 3; ++i) {
            bytes32 key = handler.keys(i);
            IDomainRegistry.DomainView memory d = domains.domain(key);
            if (d.owner == address(0) || d.status == IDomainRegistry.Status.Disputed) continue;
            if (block.timestamp <= d.verifiedAt + 104 days) {
                (address owner,,) = domains.resolve(key);
                assertEq(owner, d.owner);
                continue;
            }
            (address nobody,,) = domains.resolve(key);
            assertEq(nobody, address(0));
            uint256 before = vm.snapshotState();
            domains.lapse(key);
            assertEq(domains.domain(key).owner, address(0));
            vm.revertToState(before);
        }
    }

    /// @dev Targets and keys are what the owner of the day set last.
    function invariant_DR3_onlyTheOwnerSets() public view {
        for (uint256 i; i < 3; ++i) {
            IDomainRegistry.DomainView memory d = domains.domain(handler.keys(i));
            DomainHandler.Book memory b = handler.book(handler.keys(i));
            assertEq(uint8(d.targetType), uint8(b.targetType));
            assertEq(d.target, b.target);
            assertEq(d.spkiHash, b.spkiHash);
            assertEq(d.oldSpkiHash, b.oldSpkiHash);
        }
    }

    /// @dev What is known of DNS never gets older, and a claim is newer than it.
    function invariant_DR4_onlyNewerAttestationsCount() public view {
        for (uint256 i; i < 3; ++i) {
            IDomainRegistry.DomainView memory d = domains.domain(handler.keys(i));
            DomainHandler.Book memory b = handler.book(handler.keys(i));
            assertEq(d.verifiedAt, b.seenAt);
            assertEq(d.claimant, b.claimant);
            assertEq(d.disputedAt, b.disputedAt);
            if (b.claimant != address(0)) assertGt(b.claimSeenAt, b.seenAt);
        }
    }

    /// @dev The nonce counts the ends of ownerships.
    function invariant_DR5_nonceCountsOwners() public view {
        for (uint256 i; i < 3; ++i) {
            assertEq(domains.domain(handler.keys(i)).nonce, handler.book(handler.keys(i)).ends);
        }
    }

    /// @dev A key that was revoked for a name never serves it again, whoever has it.
    function invariant_DR6_revokedKeysNeverServe() public view {
        for (uint256 i; i < 3; ++i) {
            bytes32[] memory list = handler.revokedOf(handler.keys(i));
            for (uint256 j; j < list.length; ++j) {
                assertFalse(domains.accepts(handler.keys(i), list[j]));
                assertTrue(domains.isRevoked(handler.keys(i), list[j]));
            }
        }
    }

    /// @dev A name that nobody has serves nothing.
    function invariant_DR7_freeNamesServeNothing() public view {
        for (uint256 i; i < 3; ++i) {
            IDomainRegistry.DomainView memory d = domains.domain(handler.keys(i));
            if (d.owner != address(0)) continue;
            assertEq(d.target, 0);
            assertEq(uint8(d.targetType), 0);
            assertFalse(domains.accepts(handler.keys(i), keccak256("any")));
        }
    }
}
