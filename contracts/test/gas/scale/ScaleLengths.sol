// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAlephLens} from "../../../src/interfaces/IAlephLens.sol";
import {IImageMarketplace} from "../../../src/interfaces/IImageMarketplace.sol";
import {IJobManager} from "../../../src/interfaces/IJobManager.sol";
import {INodeRegistry} from "../../../src/interfaces/INodeRegistry.sol";
import {IPaymentExtension} from "../../../src/interfaces/IPaymentExtension.sol";
import {IPaymentManager} from "../../../src/interfaces/IPaymentManager.sol";
import {IStakingManager} from "../../../src/interfaces/IStakingManager.sol";
import {IStorageRegistry} from "../../../src/interfaces/IStorageRegistry.sol";
import {IStorageWords} from "../../../src/interfaces/IStorageWords.sol";
import {AlephErrors} from "../../../src/libraries/AlephErrors.sol";
import {Liveness} from "../../../src/libraries/Liveness.sol";
import {Payees} from "../../../src/libraries/Payees.sol";
import {ScaleWorld} from "./ScaleWorld.sol";

/// @title ScaleLengths
/// @notice Lists that callers give: each has a longest, or is named here with the reason why it needs none.
abstract contract ScaleLengths is ScaleWorld {
    mapping(address to => mapping(bytes4 selector => bool)) private _known_;

    function test_scale_lengths() public {
        _lists();
        _pages_();
        _proofs_();
        _withoutALongest();
        string[] memory names = _proxies();
        for (uint256 i; i < names.length; ++i) {
            _checkLists(names[i], _at(names[i]));
        }
        _checkLists("PaymentExtension", address(payments));
        _checkLists("AlephGovernor", address(governor));
        _checkLists("AlephLens", address(lens));
    }

    function _checkLists(string memory name, address to) private view {
        string[] memory functions = vm.parseJsonKeys(_artifactOf(name), ".methodIdentifiers");
        for (uint256 i; i < functions.length; ++i) {
            if (vm.indexOf(functions[i], "[]") == type(uint256).max) continue;
            bytes4 selector = bytes4(keccak256(bytes(functions[i])));
            assertTrue(_known_[to][selector], string.concat(name, ".", functions[i], ": how long may its list be?"));
        }
    }

    /// @dev One more than `most` is refused.
    function _atMost(address from, address to, bytes memory data, uint256 least, uint256 most) private {
        _known_[to][bytes4(data)] = true;
        vm.prank(from);
        (bool ok, bytes memory err) = to.call(data);
        assertFalse(ok);
        assertEq(err, abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, most + 1, least, most));
    }

    function _lists() private {
        address to = address(jobs);
        bytes32[] memory specs = new bytes32[](201);
        _atMost(crowd, to, abi.encodeCall(IJobManager.confirmRunning, (specs)), 1, 200);
        _atMost(crowd, to, abi.encodeCall(IJobManager.closeForArrears, (specs)), 1, 200);
        _atMost(crowd, to, abi.encodeCall(IJobManager.expire, (specs)), 1, 200);
        _atMost(crowd, to, abi.encodeCall(IJobManager.endRoyalties, (specs)), 1, 200);
        _atMost(crowd, to, abi.encodeCall(IJobManager.openBatch, (new bytes[](33))), 1, 32);
        to = address(payments);
        address[] memory who = new address[](201);
        _atMost(crowd, to, abi.encodeCall(IPaymentManager.claim, (1, ALEPH, who)), 1, 200);
        _atMost(crowd, to, abi.encodeCall(IPaymentManager.pullMany, (who, ALEPH)), 1, 200);
        uint64 payee = Payees.ofImage(busyImage);
        bytes memory data = abi.encodeCall(IPaymentManager.payOut, (payee, ALEPH, who, new uint128[](201)));
        _atMost(imagesAt, to, data, 1, 200);
        _atMost(crowd, to, abi.encodeCall(IPaymentExtension.multicall, (new bytes[](201))), 1, 200);
        data = abi.encodeCall(IImageMarketplace.distribute, (busyImage, ALEPH, who));
        _atMost(crowd, address(images), data, 1, 200);
        IImageMarketplace.Listing memory l = _royalty(500);
        l.splits = _split(new uint16[](7));
        _atMost(crowd, address(images), abi.encodeCall(IImageMarketplace.publish, (l)), 0, 6);
        data = abi.encodeCall(
            IStorageRegistry.proveMany, (new uint128[](65), new IStorageWords.Terms[](65), 1, new bytes[](65))
        );
        _atMost(crowd, address(storages), data, 1, 64);
        data = abi.encodeCall(
            INodeRegistry.reportMissed,
            (busyNode.id, new uint32[](49), new bytes32[](49), new INodeRegistry.BitmapPage[](49))
        );
        _atMost(crowd, address(nodes), data, 24, 48);
    }

    function _pages_() private {
        address to = address(lens);
        _atMost(crowd, to, abi.encodeCall(IAlephLens.delegations, (crowd, new uint32[](101))), 1, 100);
        _atMost(crowd, to, abi.encodeCall(IAlephLens.jobs, (new bytes32[](101))), 1, 100);
        _atMost(crowd, to, abi.encodeCall(IAlephLens.domains, (new bytes32[](101))), 1, 100);
        _atMost(crowd, to, abi.encodeCall(IAlephLens.nodes, (1, 101)), 1, 100);
        _atMost(crowd, to, abi.encodeCall(IAlephLens.images, (1, 101)), 1, 100);
    }

    /// @dev Proofs that are longer than the deepest tree are refused before they are read.
    function _proofs_() private {
        assertEq(Liveness.MAX_DEPTH, 20);
        _known_[address(nodes)][INodeRegistry.answerLeaf.selector] = true;
        _known_[address(nodes)][INodeRegistry.verifyStat.selector] = true;
        _known_[address(jobs)][IJobManager.challengeAssignment.selector] = true;
        assertFalse(nodes.verifyStat(_now(), _leaf(5), 5, new bytes32[](22)));
        // The hashes of more pages than there are have another hash.
        _known_[address(nodes)][INodeRegistry.demandLeaf.selector] = true;
        _known_[address(nodes)][INodeRegistry.reactivate.selector] = true;
        // A part that was taken is empty, and there are eight.
        _known_[address(staking)][IStakingManager.withdraw.selector] = true;
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        staking.withdraw(pool.id, new uint8[](9));
    }

    /// @dev Each pays for its own list and for nothing else, and nobody else has to make the call.
    function _withoutALongest() private {
        // A node each; nothing is kept between two of them.
        _known_[address(staking)][IStakingManager.syncVotes.selector] = true;
        // A path that is longer than the tree leads to another root.
        _known_[address(storages)][IStorageRegistry.reportMissed.selector] = true;
        _known_[address(storages)][IStorageRegistry.reportMissedBundle.selector] = true;
        // Not asked by contracts.
        _known_[address(lens)][bytes4(keccak256("owed(uint64,uint8,address[])"))] = true;
        _known_[address(lens)][bytes4(keccak256("solvency(uint8,address[],uint64[])"))] = true;
        // OpenZeppelin's: what a proposal does. Whoever makes one that is too long has made one that cannot be executed.
        string[6] memory all = ["propose", "queue", "execute", "cancel", "hashProposal", "getProposalId"];
        for (uint256 i; i < all.length; ++i) {
            string memory last = i == 0 ? "string" : "bytes32";
            bytes4 selector = bytes4(keccak256(abi.encodePacked(all[i], "(address[],uint256[],bytes[],", last, ")")));
            _known_[address(governor)][selector] = true;
        }
        _known_[
            address(governor)
        ][bytes4(keccak256("onERC1155BatchReceived(address,address,uint256[],uint256[],bytes)"))] = true;
    }
}
