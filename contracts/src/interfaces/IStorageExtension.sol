// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IStorageWords} from "./IStorageWords.sol";

/// @title IStorageExtension
/// @notice The part of the StorageRegistry that is called rarely, or that challenges nodes at any time.
interface IStorageExtension is IStorageWords {
    /* OBJECTS */

    /// @notice Makes an object be stored for longer. Only its payer.
    /// @param nodeSig The node's EIP-712 `StoreExtension(uint128 id,uint24 untilDay)`.
    function extend(uint128 id, Terms calldata terms, uint24 untilDay, bytes calldata nodeSig) external;

    /// @notice Moves a Faulty object to another node, with the same terms from tomorrow on. Anyone may call.
    /// @param nodeSig The new node's EIP-712 `StoreRepair(uint128 id,uint32 nodeId)`.
    /// @param coordSigs The same, signed by more than two thirds of the coordinators' stake, as INodeRegistry.quorum takes
    /// it.
    function repair(
        uint128 id,
        Terms calldata terms,
        uint32 newNodeId,
        bytes calldata nodeSig,
        bytes calldata coordSigs
    ) external returns (uint128 newId);

    /* BUNDLES */

    /// @notice Opens the caller's bundle, effective tomorrow. Only the node's signer.
    /// @param leaves The leaves of all its objects.
    /// @param capacity The most leaves it may come to have without {resizeBundle}; the owner's stake must suffice for it.
    function commitBundle(uint32 nodeId, bytes32 root, uint64 leaves, uint40 capacity) external;

    /// @notice Changes how many leaves a bundle may have. Only the node's signer.
    function resizeBundle(uint32 nodeId, uint40 capacity) external;

    /// @notice Gives notice that a bundle ends in 14 days. Only the node's signer.
    function closeBundle(uint32 nodeId) external;

    /// @notice Keeps a bundle that is closing until a receipt ends. Anyone may call.
    function holdBundle(StorageReceipt calldata receipt, bytes calldata nodeSig) external;

    /// @notice Ends a bundle whose last day is over. Anyone may call.
    function endBundle(uint32 nodeId) external;

    /* CHALLENGES */

    /// @notice Asks an object's node for ten leaves that only the next round of drand decides. Takes a bond, which the node
    /// gets for the answer.
    function challenge(uint128 id, Terms calldata terms) external returns (bytes32 challengeId);

    /// @notice {challenge} for a bundle, as it is today.
    function challengeBundle(uint32 nodeId) external returns (bytes32 challengeId);

    /// @notice Asks for ten leaves of the object of a receipt. Anyone who has the receipt may call.
    function challengeObject(StorageReceipt calldata receipt, bytes calldata nodeSig)
        external
        returns (bytes32 challengeId);

    /// @notice Asks to show that the object of a receipt is in today's bundle. Anyone who has the receipt may call.
    function demandInclusion(StorageReceipt calldata receipt, bytes calldata nodeSig)
        external
        returns (bytes32 challengeId);

    /// @notice Brings the randomness of a challenge: drand's first round after it was opened. Anyone may call, within a day.
    function armChallenge(bytes32 challengeId, uint256[2] calldata signature) external;

    /// @notice Answers the challenge of an object. Anyone may call, until it is expired.
    function respond(bytes32 challengeId, Terms calldata terms, bytes calldata proofs) external;

    /// @notice Answers the challenge of a bundle, of the day it was opened.
    function respondBundle(bytes32 challengeId, uint64 total, bytes calldata proofs) external;

    /// @notice Answers the challenge of a receipt: the path to the bundle, and the proofs in the object.
    /// @param total The leaves of the bundle on the day the challenge was opened.
    function respondObject(
        bytes32 challengeId,
        StorageReceipt calldata receipt,
        uint64 total,
        bytes calldata sumPath,
        bytes calldata proofs
    ) external;

    /// @notice Answers a demand of inclusion.
    function answerInclusion(bytes32 challengeId, StorageReceipt calldata receipt, uint64 total, bytes calldata sumPath)
        external;

    /// @notice Ends a challenge whose time is over and gives the bond back. One that was armed, or needed no randomness, is
    /// lost: a violation. Anyone may call.
    function expireChallenge(bytes32 challengeId) external;
}
