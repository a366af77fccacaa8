// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title INodeRegistry
/// @notice Who the nodes are: owner, signing key, peer id, status; which coordinators count; and who was alive when.
/// @dev An epoch is an hour and a day 24 of them, both counted from 1970. A node moves between statuses like this, and no
/// other way: None to Pending to Active; Active to Suspended and back; Active or Suspended to Draining; Active, Suspended or
/// Draining to Jailed, and from there to Active or Suspended; Pending or Draining to Exited; all but Exited to Banned.
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
        Banned,
        Released,
        Offline,
        Online
    }

    /// @notice What became of a demand for a leaf.
    enum DemandState {
        None,
        Open,
        Answered,
        Withheld
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

    /// @notice A part of a bitmap that shows what it says of one node.
    /// @param bits The page that the node is on: 512 bytes, 4,096 nodes; fewer when it is the last.
    /// @param hashes The keccak256 of each page.
    struct BitmapPage {
        bytes bits;
        bytes32[] hashes;
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
        address pendingOwner;
        uint40 pendingOwnerAt;
        uint40 jailedUntil;
        uint32 linkedTo;
        bool locked;
        bool offline;
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

    /// @notice `to` can take the node over at `eta` or later; zeros: nobody can.
    event NodeTransferScheduled(uint32 indexed nodeId, address to, uint40 eta);

    /// @notice A node has another owner from now on.
    event NodeOwnerChanged(uint32 indexed nodeId, address indexed oldOwner, address indexed newOwner);

    /// @notice A coordinator links a node; the newest link is the last in its order.
    event NodeLinked(uint32 indexed nodeId, uint32 indexed coordId);

    /// @notice A coordinator links a node no more; the links after it move up.
    event NodeUnlinked(uint32 indexed nodeId, uint32 indexed coordId);

    /// @notice Whether coordinators can link a node.
    event NodeLockSet(uint32 indexed nodeId, bool locked);

    /// @notice A node is in jail until `until`.
    event NodeJailed(uint32 indexed nodeId, uint40 until);

    /// @notice The coordinators of a day, ascending by id, with their weights in whole ALEPH.
    event CoordinatorsSnapshot(uint24 indexed day, uint32[] ids, uint96[] weights);

    /// @notice The coordinators said this of an epoch.
    /// @param statsRoot The root of the tree of what each node can do.
    /// @param bitmap Bit i, from the low end of byte i / 8: node i was alive.
    /// @param signers Bit i: the i-th coordinator of the newest snapshot signed.
    event Heartbeats(uint32 indexed epoch, bytes32 statsRoot, bytes bitmap, uint64 signers);

    /// @notice A node said itself that it was alive in an epoch.
    event SelfHeartbeat(uint32 indexed nodeId, uint32 indexed epoch);

    /// @notice A node was shown to have missed `count` epochs from `firstEpoch` to `lastEpoch`.
    event MissedReported(
        uint32 indexed nodeId, uint32 firstEpoch, uint32 lastEpoch, uint8 count, address indexed reporter
    );

    /// @notice A coordinator was shown to have said two things of one epoch.
    event EquivocationShown(uint32 indexed coordId, uint32 epoch, address indexed reporter);

    /// @notice The leaf of a node in the tree of an epoch must be published until `deadline`.
    event LeafDemanded(uint32 indexed epoch, uint32 indexed nodeId, address by, uint40 deadline);

    /// @notice The leaf of a node in the tree of an epoch.
    event LeafAnswered(uint32 indexed epoch, uint32 indexed nodeId, bytes32 leaf, address by);

    /// @notice The leaf was not published, and this coordinator had signed for it.
    event LeafWithheld(uint32 indexed epoch, uint32 indexed nodeId, uint32 indexed coordId, address reporter);

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

    /// @dev The node still keeps data.
    error CommitmentsHeld(uint32 nodeId, uint32 commitments);

    /// @dev The node was suspended for missing epochs: see {reactivate}.
    error HeartbeatsNeeded(uint32 nodeId);

    /// @dev Another coordinator, or this one, links the node.
    error AlreadyLinked(uint32 nodeId, uint32 coordId);

    /// @dev This coordinator does not link the node.
    error NotLinked(uint32 nodeId, uint32 coordId);

    /// @dev The node's owner wants no links.
    error NodeIsLocked(uint32 nodeId);

    /// @dev The coordinator links as many nodes as it can.
    error LinkLimit(uint32 coordId);

    /// @dev The epoch is too early, too late or not over.
    error EpochWindow(uint32 epoch);

    /// @dev This was said of the epoch already.
    error EpochPosted(uint32 epoch);

    /// @dev The epochs do not ascend.
    error EpochOrder(uint32 previous, uint32 epoch);

    /// @dev The coordinators did not say this of the epoch.
    error WrongHeartbeat(uint32 epoch);

    /// @dev The epoch does not count as missed: the node was alive or not on duty, the bitmap does not reach to it, or the
    /// sequencer was down.
    error NotMissed(uint32 epoch);

    /// @dev The coordinators did not say that the node was alive.
    error NotAlive(uint32 epoch);

    /// @dev There is less weight behind it than needed, in whole ALEPH.
    error LowWeight(uint256 have, uint256 need);

    /// @dev Saying the same twice is no fault.
    error SameHeartbeat(uint32 epoch);

    /// @dev The fee is not the one asked for.
    error WrongFee(uint256 have, uint256 want);

    /// @dev The leaf is not in the tree of the epoch.
    error BadProof();

    /// @dev The ether was not taken.
    error PaymentFailed(address to);

    /// @dev As many coordinators as there can be are Active already.
    error CoordinatorsFull(uint256 max);

    /// @dev No coordinator is Active.
    error NoCoordinators();

    /// @dev The newest snapshot of the coordinators is of the day `day` (0: none), too long ago.
    error SnapshotStale(uint24 day);

    /// @dev The bytes are not 0 to 64 signatures.
    error SignaturesLength(uint256 length);

    /// @dev Fewer coordinators signed than must.
    error QuorumLow(uint256 have, uint256 need);

    /// @dev The coordinators are not in strictly ascending order of their ids.
    error CoordinatorOrder(uint32 previous, uint32 next);

    /// @dev The coordinator that proposed the assignment did not sign it.
    error CoordinatorMissing(uint32 coordId);

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

    /// @notice Lets `to` take a node over, with its stake and earnings, 24 hours ahead; zero: nobody. Only its owner.
    function transferNode(uint32 nodeId, address to) external;

    /// @notice Takes a node over. Its earnings go to the new owner. Only who it was given to.
    function acceptNode(uint32 nodeId) external;

    /// @notice Links a node that no coordinator links and that is not locked; a coordinator links 8 nodes at most, and the
    /// first 5 are paid. Only the coordinator's owner.
    function link(uint32 coordId, uint32 nodeId) external;

    /// @notice Ends a link. Only the coordinator's and the node's owner.
    function unlink(uint32 coordId, uint32 nodeId) external;

    /// @notice Whether coordinators can link a node; a link that there is stays. Only its owner.
    function setLocked(uint32 nodeId, bool locked) external;

    /// @notice Stops new jobs for an Active or Suspended node; running ones go on. Only its owner.
    function drain(uint32 nodeId) external;

    /// @notice Ends a Pending or Draining node without jobs and commitments and frees its peer id and signer. Only its
    /// owner.
    function exit(uint32 nodeId) external;

    /// @notice Tells that a node's stake changed. An Active node below its requirement is Suspended. Only the
    /// StakingManager.
    function onStakeChanged(uint32 nodeId) external;

    /// @notice Takes an Active, Suspended or Draining node out of work for `duration` seconds, at most 365 days; a node in
    /// jail stays at least that long. Nothing happens to a node in another status. Only the SLAManager.
    function jail(uint32 nodeId, uint32 duration) external;

    /// @notice Lets a node out of jail when its time is over: Active when it can work, else Suspended. Anyone may call.
    function unjail(uint32 nodeId) external;

    /// @notice Ends a node for good; its peer id and signer stay taken. Nothing happens to one that has ended. Only the
    /// SLAManager.
    function ban(uint32 nodeId) external;

    /// @notice Takes the snapshot of today's Active coordinators and their weights; nothing happens when there is one.
    /// Anyone may call.
    /// @return day The number of today, in days since 1970.
    function snapshotCoordinators() external returns (uint24 day);

    /// @notice Posts what the coordinators say of an epoch, once, in the six epochs after it. Takes the day's snapshot when
    /// there is none yet. Anyone may call.
    /// @param statsRoot The root of the tree of what each node can do.
    /// @param bitmap Bit i, from the low end of byte i / 8: node i was alive. 1 to 16,384 bytes.
    /// @param sigs Like {quorum}'s, of {heartbeatDigest}, by more than two thirds of the weight.
    function submitHeartbeats(uint32 epoch, bytes32 statsRoot, bytes calldata bitmap, bytes calldata sigs) external;

    /// @notice Says that the caller's node is alive in this epoch, or was in the one before. For a node that the
    /// coordinators leave out. Only the node's signer.
    function selfHeartbeat(uint32 nodeId, uint32 epoch) external;

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

    /// @notice Checks who signed an assignment: reverts unless the node is an Active compute node that signed the first
    /// digest, and each coordinator in `coordSigs` an Active one that signed the second. A wrong signature's index is 1 for
    /// the node and 2 and up for the coordinators.
    /// @param coordId The coordinator that proposed the assignment, who must be among them.
    /// @param quorum How many coordinators must have signed, when as many are Active; with 0 none is asked, and neither
    /// `coordId` nor `coordSigs` is looked at.
    /// @param coordSigs Entries of 69 bytes, 64 at most, ids ascending: a node id (4) and a signature (65: r, s, v).
    function checkAssignment(
        uint32 nodeId,
        uint32 coordId,
        uint256 quorum,
        bytes32[2] calldata digests,
        bytes calldata nodeSig,
        bytes calldata coordSigs
    ) external view;

    /// @notice The ids of the Active coordinators, ascending.
    function activeCoordinatorIds() external view returns (uint32[] memory);

    /// @notice The nodes that a coordinator links, in the order of linking.
    function linksOf(uint32 coordId) external view returns (uint32[] memory nodeIds);

    /// @notice Whether a node is one of the first five that a coordinator links, and so paid for it.
    function isPaidLink(uint32 nodeId) external view returns (bool);

    /// @notice What coordinators sign of an epoch, EIP-712 `Heartbeat(uint32 epoch,bytes32 statsRoot,bytes32 bitmapHash)`.
    function heartbeatDigest(uint32 epoch, bytes32 statsRoot, bytes32 bitmapHash) external view returns (bytes32);

    /// @notice The hash of the stats root and the bitmap's hash of an epoch; zero when none was posted. A bitmap's hash is the
    /// keccak256 of the keccak256 hashes of its pages, each of 512 bytes but for the last.
    function heartbeatOf(uint32 epoch) external view returns (bytes32);

    /// @notice Whether a node said that it was alive in an epoch; of the last 224 epochs before its last word.
    function hasSelfHeartbeat(uint32 nodeId, uint32 epoch) external view returns (bool);

    /// @notice Whether `leaf` is what the coordinators said of a node in an epoch.
    /// @param leaf 32 bytes, of which the first four are the node's id.
    /// @param index The place of the leaf, which is the node's id.
    /// @param proof The siblings from the leaf up, 0 to 20, and the hash of the bitmap.
    function verifyStat(uint32 epoch, bytes32 leaf, uint256 index, bytes32[] calldata proof)
        external
        view
        returns (bool);

    /// @notice Who demanded a leaf, when, and what became of it.
    function leafDemand(uint32 epoch, uint32 nodeId)
        external
        view
        returns (address by, uint40 openedAt, DemandState state);

    /// @notice Shows that a node missed at least 24 of the last 48 epochs. An Active node is Suspended; one that drains is
    /// held to the time before. No epoch counts twice. Anyone may call.
    /// @param epochs The epochs missed, ascending.
    /// @param statsRoots What the coordinators said of each.
    /// @param pages Of the bitmap of each, the page that the node is on.
    function reportMissed(
        uint32 nodeId,
        uint32[] calldata epochs,
        bytes32[] calldata statsRoots,
        BitmapPage[] calldata pages
    ) external;

    /// @notice Makes a node that was Suspended for missing epochs Active again when the coordinators said that it was alive
    /// in three epochs in a row after that, among the last 48. Only the node's owner and signer.
    /// @param firstEpoch The first of the three.
    /// @param pages Of the bitmap of each, the page that the node is on.
    function reactivate(uint32 nodeId, uint32 firstEpoch, bytes32[3] calldata statsRoots, BitmapPage[3] calldata pages)
        external;

    /// @notice Shows that a coordinator signed two different heartbeats of one epoch, in the 14 days after it. Anyone may
    /// call.
    function equivocation(
        uint32 coordId,
        uint32 epoch,
        bytes32 rootA,
        bytes32 mapA,
        bytes calldata sigA,
        bytes32 rootB,
        bytes32 mapB,
        bytes calldata sigB
    ) external;

    /// @notice Demands that the leaf of a node in the tree of one of the last 48 epochs is published within 24 hours. The
    /// coordinators must have said that the node was alive, so there must be a leaf. Costs {leafFee}, which is for whoever
    /// publishes it. Anyone may call.
    function demandLeaf(uint32 epoch, uint32 nodeId, bytes32 statsRoot, BitmapPage calldata page) external payable;

    /// @notice Publishes a leaf that was demanded. Anyone may call.
    /// @param proof Like {verifyStat}'s.
    function answerLeaf(uint32 epoch, uint32 nodeId, bytes32 leaf, bytes32[] calldata proof) external;

    /// @notice Shows that a coordinator signed for a tree of which a leaf that was demanded is not published; once for each
    /// coordinator that signed. The first time the fee goes back. Anyone may call.
    /// @param sig The coordinator's signature of the heartbeat.
    function expireLeaf(
        uint32 epoch,
        uint32 nodeId,
        uint32 coordId,
        bytes32 statsRoot,
        bytes32 bitmapHash,
        bytes calldata sig
    ) external;

    /// @notice What demanding a leaf costs, in wei of ether.
    function leafFee() external pure returns (uint256);
}
