// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IStorageExtension} from "./IStorageExtension.sol";

/// @title IStorageRegistry
/// @notice What nodes have promised to store, and the proofs that they do.
/// @dev Days are block.timestamp / 86,400. A commitment is an object with terms of its own, or the bundle of all other
/// objects of a node, of which every node has at most one. For an object only the hash of its terms is kept; who calls
/// shows the terms, which the event {Committed} told. Proofs have the format ASP-1, see StorageProof.
///
/// An id is the node's id times 2^96, plus for an object 96 bits of the hash that the node signed; for the bundle plus zero.
interface IStorageRegistry is IStorageExtension {
    /* NODES */

    /// @notice Takes over the node's key from the NodeRegistry; no key when the node is not Active. Anyone may call; who
    /// changes a node's key calls this, too. Receipts signed by a former key still count.
    function enlist(uint32 nodeId) external;

    /* OBJECTS */

    /// @notice Commits a node to store an object from tomorrow on. The caller pays the rent, if there is any.
    /// @param nodeSig The node's EIP-712 `StoreRequest(address payer,uint32 nodeId,bytes32 root,uint64 size,bytes32
    /// itemHash,uint24 untilDay,uint8 k,uint8 token,uint96 rateQ32,uint40 deadline)`.
    function commit(Request calldata request, bytes calldata nodeSig) external returns (uint128 id);

    /// @notice Ends a commitment and its rent: the payer at any time, everybody from the day on that the terms end.
    function release(uint128 id, Terms calldata terms) external;

    /* BUNDLES */

    /// @notice Changes the root of a bundle, effective tomorrow; today's root stays provable today. A node that has not
    /// proven yesterday does that first: yesterday's root makes room. Only the node's signer.
    function updateBundle(uint32 nodeId, bytes32 root, uint64 leaves) external;

    /* PROOFS */

    /// @notice Publishes the randomness of today: drand's first round that is not before 60 seconds after midnight. A day
    /// without it is void: nothing is due. Anyone may call.
    function publishBeacon(uint24 day, uint256[2] calldata signature) external;

    /// @notice Proves an object for a day, as long as it is not reported as missed. Anyone may call.
    function prove(uint128 id, Terms calldata terms, uint24 day, bytes calldata proofs) external;

    /// @notice {prove} for many, at most 64. A proof that is refused changes nothing; {ProofRefused} tells why.
    /// @return okBitmap Bit i is set when proof i was accepted.
    function proveMany(uint128[] calldata ids, Terms[] calldata terms, uint24 day, bytes[] calldata proofs)
        external
        returns (uint256 okBitmap);

    /// @notice Proves a bundle for a day. Anyone may call.
    /// @param total The leaves of the bundle on that day.
    function proveBundle(uint32 nodeId, uint64 total, uint24 day, bytes calldata proofs) external;

    /// @notice Attests that nodes have proven everything for a day to the coordinators. It counts for nodes that are not in
    /// the day's audit sample. Once a day, until the day can be reported. Anyone may call.
    /// @param bitmap Whole parts of 256 bytes, 1 to 128.
    /// @param coordSigs EIP-712 `DayAttestation(uint24 day,bytes32 seed,bytes32 bitmapRoot)` by more than two thirds of the
    /// coordinators' stake, as INodeRegistry.quorum takes it.
    function attestDay(uint24 day, bytes calldata bitmap, bytes calldata coordSigs) external;

    /// @notice Reports that an object was not proven for a day. Possible from six hours after the day's end on, later when
    /// the sequencer was down, for a week. With three of seven days the commitment is Faulty and its rent stops.
    /// @param bits Shows that the coordinators have not attested the node's proof.
    function reportMissed(uint128 id, Terms calldata terms, uint24 day, BitmapPart calldata bits) external;

    /// @notice {reportMissed} for a bundle. A bundle never becomes Faulty: its receipts go on to count.
    function reportMissedBundle(uint32 nodeId, uint24 day, BitmapPart calldata bits) external;

    /* PARAMETERS */

    /// @notice Sets the parameters.
    /// @param auditDenominator One of so many nodes must prove on the chain each day, 1 to 256.
    /// @param stakePerTiB The whole ALEPH an owner must have staked for each TiB that a bundle may have, at most 10,000.
    /// @param bond The whole ALEPH of a challenge's bond, 1 to 10,000.
    /// @param responseHours The hours a node has for an answer, 6 to 72.
    function setParameters(uint16 auditDenominator, uint16 stakePerTiB, uint16 bond, uint16 responseHours) external;

    /* VIEWS */

    /// @notice How many commitments of a node have not ended, its bundle included.
    function activeCommitments(uint32 nodeId) external view returns (uint32);

    /// @notice A commitment as it is now.
    function commitment(uint128 id) external view returns (CommitmentView memory);

    /// @notice A node as this contract knows it.
    function store(uint32 nodeId) external view returns (StoreView memory);

    /// @notice A challenge as it is now.
    function challengeOf(bytes32 challengeId) external view returns (ChallengeView memory);

    /// @notice The randomness of a day; zero when there is none.
    function seedOf(uint24 day) external view returns (bytes32);

    /// @notice The root of a day's attested bitmap; zero when there is none.
    function attestedRoot(uint24 day) external view returns (bytes32);

    /// @notice What binds root and leaves of a node's bundle on a day; zero when it has none.
    function bundleOn(uint32 nodeId, uint24 day) external view returns (bytes30);

    /// @notice Which leaves of `leaves` are asked for: of a day for a commitment. Of bundles these are the leaves of all
    /// objects together.
    function challengesOf(uint128 id, uint24 day, uint64 leaves, uint256 k) external view returns (uint256[] memory);

    /// @notice Whether a node is in the audit sample of a day. False when there is no randomness yet.
    function isSampled(uint32 nodeId, uint24 day) external view returns (bool);

    /// @notice Whether a key is or was the node's, so that receipts signed with it count.
    function isSignerOf(uint32 nodeId, address signer) external view returns (bool);

    /// @notice How many leaves of a bundle are asked for each day.
    function bundleChallenges(uint64 total) external pure returns (uint256);

    /// @notice The root of a bitmap of whole parts of 256 bytes.
    function bitmapRoot(bytes calldata bitmap) external pure returns (bytes32);

    /// @notice The parameters.
    function parameters()
        external
        view
        returns (uint16 auditDenominator, uint16 stakePerTiB, uint16 bond, uint16 responseHours);

    /// @notice The digest that a node signs to agree to a request of `payer`.
    function commitDigest(address payer, Request calldata request) external view returns (bytes32);

    /// @notice The digest that a node signs to store for longer.
    function extendDigest(uint128 id, uint24 untilDay) external view returns (bytes32);

    /// @notice The digest that a node and the coordinators sign to repair.
    function repairDigest(uint128 id, uint32 nodeId) external view returns (bytes32);

    /// @notice The digest that a node signs as a receipt.
    function receiptDigest(StorageReceipt calldata receipt) external view returns (bytes32);

    /// @notice The digest that coordinators sign for a day.
    function attestationDigest(uint24 day, bytes32 bitmapRoot_) external view returns (bytes32);
}
