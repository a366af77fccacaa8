// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title INodeRegistry
/// @notice Who the nodes are: owner, signing key, peer id, status.
interface INodeRegistry {
    /// @notice What a node does. The numbers are part of the protocol.
    enum Kind {
        None,
        Coordinator,
        Compute,
        Storage
    }

    /// @notice Where a node is in its life. The numbers are part of the protocol.
    enum Status {
        None,
        Pending,
        Active,
        Suspended,
        Draining,
        Jailed,
        Exited,
        Banned
    }

    /// @notice Why a status changed.
    enum StatusReason {
        None,
        Registered,
        StakeMet,
        StakeTooLow,
        OwnerDrained,
        OwnerExited,
        Jailed,
        Banned
    }

    /// @notice Who signed something, of the newest snapshot of the coordinators.
    /// @param weight The stake behind the signers, in whole ALEPH.
    /// @param total The stake behind all members that can sign, in whole ALEPH.
    /// @param count How many signed.
    /// @param groups In how many different regions the signers are.
    /// @param signers Bit i: the i-th member signed.
    struct Quorum {
        uint96 weight;
        uint96 total;
        uint16 count;
        uint16 groups;
        uint64 signers;
    }

    /// @notice A node as it is now.
    struct NodeView {
        address owner;
        address signer;
        Kind kind;
        Status status;
        uint40 statusSince;
        uint16 region;
        uint64 features;
        bytes32 peerIdHash;
        bytes32 metaHash;
        address payout;
        address pendingPayout;
        uint40 pendingPayoutAt;
    }

    /// @notice A node was registered, with status Pending.
    /// @param peerId The bytes of the libp2p peer id (its multihash).
    /// @param metaHash The item hash of the message that describes the node.
    event NodeRegistered(
        uint32 indexed nodeId,
        address indexed owner,
        Kind kind,
        address signer,
        bytes peerId,
        bytes32 metaHash,
        uint64 features,
        uint16 region
    );

    /// @notice A node's description changed.
    event NodeMetaUpdated(uint32 indexed nodeId, bytes32 metaHash, uint64 features, uint16 region);

    /// @notice A node's status changed.
    event NodeStatusChanged(uint32 indexed nodeId, Status oldStatus, Status newStatus, StatusReason reason);

    /// @notice A node signs with another key from now on.
    event NodeSignerChanged(uint32 indexed nodeId, address oldSigner, address newSigner);

    /// @notice A node's earnings go to `payout` once {applyPayout} is called at `at` or later.
    event NodePayoutScheduled(uint32 indexed nodeId, address payout, uint40 at);

    /// @notice A node's earnings go to `payout` from now on.
    event NodePayoutChanged(uint32 indexed nodeId, address payout);

    /// @notice A node is in jail until `until`.
    event NodeJailed(uint32 indexed nodeId, uint40 until);

    /// @notice The coordinators of a day, ascending by id, with their weights in whole ALEPH.
    event CoordinatorsSnapshot(uint24 indexed day, uint32[] ids, uint96[] weights);

    /// @dev No node has this id.
    error UnknownNode(uint32 nodeId);

    /// @dev A live node has this peer id.
    error PeerIdTaken(bytes32 peerIdHash);

    /// @dev A live node signs with this key.
    error SignerTaken(address signer);

    /// @dev The owner's key must stay cold: it cannot be the signing key.
    error SignerIsOwner(address signer);

    /// @dev The node is of another kind.
    error WrongKind(uint32 nodeId, Kind have, Kind want);

    /// @dev The node cannot do this in its status.
    error NodeNotActive(uint32 nodeId, Status status);

    /// @dev The node holds less stake than its kind needs.
    error StakeTooLow(uint32 nodeId);

    /// @dev The node still runs jobs.
    error JobsRunning(uint32 nodeId, uint32 jobs);

    /// @dev As many coordinators as there can be are Active already.
    error CoordinatorsFull(uint256 max);

    /// @dev No coordinator is Active.
    error NoCoordinators();

    /// @dev The newest snapshot of the coordinators is of the day `day` (0: none), too long ago.
    error SnapshotStale(uint24 day);

    /// @dev The bytes are not 0 to 64 signatures.
    error SignaturesLength(uint256 length);

    /// @dev No change of the payout address is scheduled.
    error NoPayoutScheduled(uint32 nodeId);

    /// @notice Registers a node that the caller owns. It is Pending until {activate}.
    /// @param kind What the node does.
    /// @param peerId The bytes of the libp2p peer id, 1 to 64 of them. No live node may have it.
    /// @param signer The key the node signs and sends with. No live node may have it.
    /// @param metaHash The item hash of the message that describes the node.
    /// @param features Bit set of capabilities.
    /// @param region Number of the region the node claims to be in.
    /// @param signerSig The signer's consent, EIP-712 `Register(address owner,uint8 kind,bytes32 peerIdHash)` with
    /// peerIdHash = keccak256(peerId).
    /// @return nodeId The number of the node; numbers start at 1 and are never reused.
    function registerNode(
        Kind kind,
        bytes calldata peerId,
        address signer,
        bytes32 metaHash,
        uint64 features,
        uint16 region,
        bytes calldata signerSig
    ) external returns (uint32 nodeId);

    /// @notice Makes a Pending or Suspended node Active when its stake suffices. Anyone may call.
    function activate(uint32 nodeId) external;

    /// @notice Changes a node's description. Only its owner.
    function updateMeta(uint32 nodeId, bytes32 metaHash, uint64 features, uint16 region) external;

    /// @notice Changes a node's signing key, at once. Only its owner.
    /// @param signerSig The new signer's consent, EIP-712 `SetSigner(uint32 nodeId,address owner)`.
    function setSigner(uint32 nodeId, address signer, bytes calldata signerSig) external;

    /// @notice Schedules where a node's earnings go, 24 hours ahead. Only its owner.
    function setPayout(uint32 nodeId, address payout) external;

    /// @notice Carries out the scheduled change of the payout address. Anyone may call.
    function applyPayout(uint32 nodeId) external;

    /// @notice Stops new jobs for a node; running ones go on. Only its owner.
    function drain(uint32 nodeId) external;

    /// @notice Ends a Pending or Draining node without jobs and frees its peer id and signer. Only its owner.
    function exit(uint32 nodeId) external;

    /// @notice Tells that a node's stake changed. An Active node below its requirement is Suspended. Only the
    /// StakingManager.
    function onStakeChanged(uint32 nodeId) external;

    /// @notice Takes an Active, Suspended or Draining node out of work for `duration` seconds, at most 365 days; a node in
    /// jail stays at least that long. Nothing happens to a node in another status. Only the SLAManager.
    function jail(uint32 nodeId, uint32 duration) external;

    /// @notice Ends a node for good; its peer id and signer stay taken. Nothing happens to one that has ended. Only the
    /// SLAManager.
    function ban(uint32 nodeId) external;

    /// @notice Takes the snapshot of today's Active coordinators and their weights; nothing happens when there is one.
    /// Anyone may call.
    /// @return day The number of today, in days since 1970.
    function snapshotCoordinators() external returns (uint24 day);

    /// @notice The newest snapshot of the coordinators, ascending by id, with weights in whole ALEPH.
    function coordinatorSet() external view returns (uint24 day, uint32[] memory ids, uint96[] memory weights);

    /// @notice The snapshot of a day; empty when none was taken.
    function coordinatorsOn(uint24 day) external view returns (uint32[] memory ids, uint96[] memory weights);

    /// @notice Who signed `digest`. A member of the newest snapshot that is Active no more, or has changed its key since,
    /// cannot sign and is not counted. Reverts when the snapshot is older than 7 days.
    /// @param sigs Signatures of 65 bytes, one after the other, in the order of the members in the snapshot. BadSignature(i)
    /// is the revert for one that is not by a later member.
    function quorum(bytes32 digest, bytes calldata sigs) external view returns (Quorum memory);

    /// @notice A node as it is now.
    function node(uint32 nodeId) external view returns (NodeView memory);

    /// @notice Whether a node may get new work.
    function isActive(uint32 nodeId) external view returns (bool);

    /// @notice The owner, kind and status of a node; zeros when there is none.
    function standing(uint32 nodeId) external view returns (address owner, Kind kind, Status status);

    /// @notice The key a node signs with; zero when there is none.
    function signerOf(uint32 nodeId) external view returns (address);

    /// @notice Where a node's earnings go; zero when there is no node.
    function payoutOf(uint32 nodeId) external view returns (address);

    /// @notice The live node with this peer id (its keccak256); 0 when none.
    function nodeOfPeer(bytes32 peerIdHash) external view returns (uint32);

    /// @notice The live node that signs with this key; 0 when none.
    function nodeOfSigner(address signer) external view returns (uint32);

    /// @notice How many coordinators are Active.
    function activeCoordinators() external view returns (uint32);

    /// @notice The highest node id given out.
    function lastNodeId() external view returns (uint32);

    /// @notice The keys that must sign an assignment. Reverts unless the node is an Active compute node and each
    /// coordinator is an Active coordinator. Ids that ascend cost the least.
    /// @return nodeSigner The key of the node.
    /// @return coordSigners The keys of the coordinators, in the order given.
    /// @return coordinators How many coordinators are Active.
    function assignmentSigners(uint32 nodeId, uint32[] calldata coordIds)
        external
        view
        returns (address nodeSigner, address[] memory coordSigners, uint32 coordinators);
}
