// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Peers} from "./Peers.sol";
import {TypedData} from "./TypedData.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IStakingManager} from "./interfaces/IStakingManager.sol";
import {CoordinatorSet} from "./libraries/CoordinatorSet.sol";
import {TypeHashes} from "./libraries/TypeHashes.sol";

/// @title NodeBase
/// @notice What {NodeRegistry} and {NodeExtension} share: the storage, and how a node moves from one status to another.
abstract contract NodeBase is Base, TypedData {
    /* TYPES */

    /// @dev The first slot is all that opening a job and the snapshot of the coordinators read of a node.
    struct Node {
        address signer;
        INodeRegistry.Kind kind;
        INodeRegistry.Status status;
        uint40 statusSince;
        uint8 flags;
        uint16 region;
        address owner;
        uint64 features;
        // The coordinator that links it; zero: none.
        uint32 linkedTo;
        bytes32 peerIdHash;
        bytes32 metaHash;
        // Zero: the owner.
        address payout;
        uint40 pendingPayoutAt;
        uint40 jailedUntil;
        address pendingPayout;
        // While Draining: the time from which missed epochs count.
        uint40 dutyFrom;
        address pendingOwner;
        uint40 pendingOwnerAt;
    }

    /// @dev The newest snapshot of the coordinators and what happened to its members since. One slot, so that checking the
    /// signatures of coordinators reads one slot and the code at `store`.
    struct Coordinators {
        // See {CoordinatorSet}.
        address store;
        uint24 day;
        // Bit i: the i-th member stopped being Active, or changed its key, since the snapshot. It counts no more.
        uint64 departed;
        // How many coordinators are Active now.
        uint8 active;
    }

    /// @dev A key that a coordinator signed with until the epoch `lastEpoch`.
    struct PastKey {
        uint32 nodeId;
        uint32 lastEpoch;
    }

    /// @dev A demand to publish a leaf.
    struct Demand {
        address by;
        uint40 openedAt;
        INodeRegistry.DemandState state;
    }

    /// @custom:storage-location erc7201:aleph.storage.NodeRegistry.v1
    struct NodeRegistryStorage {
        uint32 lastNodeId;
        mapping(uint32 nodeId => Node) nodes;
        mapping(bytes32 peerIdHash => uint32 nodeId) byPeer;
        mapping(address signer => uint32 nodeId) bySigner;
        mapping(address signer => PastKey) pastKeys;
        Coordinators coordinators;
        // The ids of the Active coordinators, ascending; the first `coordinators.active` entries count.
        uint32[64] activeIds;
        mapping(uint24 day => address store) snapshots;
        // Eight ids of 32 bits in the order of linking, from the low end.
        mapping(uint32 coordId => uint256) links;
        // What the coordinators said of an epoch, see {Liveness}.
        mapping(uint32 epoch => bytes32) heartbeats;
        // The last epoch in which a node told itself that it lives, and above it a bit for that epoch and each before.
        mapping(uint32 nodeId => uint256) selfBeats;
        mapping(uint32 epoch => mapping(uint32 nodeId => Demand)) demands;
    }

    /* CONSTANTS */

    uint32 internal constant EPOCH = 1 hours;

    /// @dev The most coordinators that can be Active, so that every loop over them is bounded.
    uint256 internal constant MAX_COORDINATORS = 64;

    /// @dev The epochs in which two words of a coordinator about one epoch can be shown: as long as stake unbonds.
    uint32 internal constant EVIDENCE_EPOCHS = 14 * 24;

    /// @dev What demanding a leaf costs. Whoever publishes it gets it, for the gas.
    uint256 internal constant LEAF_FEE = 0.0002 ether;

    /// @dev The bits of a node's flags.
    uint8 internal constant LOCKED = 1;
    uint8 internal constant OFFLINE = 2;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.NodeRegistry.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0xb2b9074e96676b4fb308d3137019468e61466608a4ca84931762a6cb61182a00;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Base(p) TypedData(p.nodes) {}

    /* INTERNAL: NODES */

    /// @dev Moves a node to another status, the only place that does.
    function _advance(uint32 nodeId, Node storage n, INodeRegistry.Status to, INodeRegistry.StatusReason reason)
        internal
    {
        INodeRegistry.Status from = n.status;
        if (n.kind == INodeRegistry.Kind.Coordinator) {
            if (to == INodeRegistry.Status.Active) _join(_storage(), nodeId);
            else if (from == INodeRegistry.Status.Active) _leave(_storage(), nodeId);
        }
        (n.status, n.statusSince) = (to, uint40(block.timestamp));
        emit INodeRegistry.NodeStatusChanged(nodeId, from, to, reason);
    }

    function _known(uint32 nodeId) internal view returns (Node storage n) {
        n = _storage().nodes[nodeId];
        if (n.status == INodeRegistry.Status.None) revert INodeRegistry.UnknownNode(nodeId);
    }

    function _hasStake(uint32 nodeId, INodeRegistry.Kind kind) internal view returns (bool) {
        return IStakingManager(STAKING).meetsRequirement(nodeId, kind);
    }

    function _hasEnded(INodeRegistry.Status status) internal pure returns (bool) {
        return status == INodeRegistry.Status.Exited || status == INodeRegistry.Status.Banned;
    }

    /* INTERNAL: LINKS */

    /// @dev The place of a node that is linked.
    function _linkIndex(uint256 links, uint32 nodeId) internal pure returns (uint256 i) {
        while (uint32(links >> 32 * i) != nodeId) ++i;
    }

    /// @dev Takes a linked node out; those linked after it move up.
    function _unlink(NodeRegistryStorage storage $, uint32 nodeId, Node storage n) internal {
        uint32 coordId = n.linkedTo;
        uint256 links = $.links[coordId];
        uint256 i = _linkIndex(links, nodeId);
        uint256 below = links & ((1 << 32 * i) - 1);
        $.links[coordId] = below | (links >> 32 * (i + 1)) << 32 * i;
        n.linkedTo = 0;
        emit INodeRegistry.NodeUnlinked(nodeId, coordId);
    }

    /// @dev Ends the links of a node that ends, at most eight.
    function _dropLinks(NodeRegistryStorage storage $, uint32 nodeId, Node storage n) internal {
        if (n.linkedTo != 0) _unlink($, nodeId, n);
        uint256 links = $.links[nodeId];
        if (links == 0) return;
        delete $.links[nodeId];
        for (; links != 0; links >>= 32) {
            $.nodes[uint32(links)].linkedTo = 0;
            emit INodeRegistry.NodeUnlinked(uint32(links), nodeId);
        }
    }

    /* INTERNAL: COORDINATORS */

    /// @dev Adds a coordinator to the Active ones. Mostly it has the highest id and goes to the end.
    function _join(NodeRegistryStorage storage $, uint32 nodeId) internal {
        uint256 i = $.coordinators.active;
        if (i == MAX_COORDINATORS) revert INodeRegistry.CoordinatorsFull(MAX_COORDINATORS);
        $.coordinators.active = uint8(i + 1);
        for (; i != 0 && $.activeIds[i - 1] > nodeId; --i) {
            $.activeIds[i] = $.activeIds[i - 1];
        }
        $.activeIds[i] = nodeId;
    }

    /// @dev Takes a coordinator out of the Active ones, and its say with it.
    function _leave(NodeRegistryStorage storage $, uint32 nodeId) internal {
        uint256 last = $.coordinators.active - 1;
        $.coordinators.active = uint8(last);
        uint256 i;
        while ($.activeIds[i] != nodeId) ++i;
        for (; i < last; ++i) {
            $.activeIds[i] = $.activeIds[i + 1];
        }
        $.activeIds[last] = 0;
        _depart($, nodeId);
    }

    /// @dev Takes a coordinator's say until the next snapshot.
    function _depart(NodeRegistryStorage storage $, uint32 nodeId) internal {
        uint256[] memory members = CoordinatorSet.read($.coordinators.store);
        for (uint256 i; i < members.length; ++i) {
            if (CoordinatorSet.id(members[i]) == nodeId) $.coordinators.departed |= uint64(1 << i);
        }
    }

    /* INTERNAL: HEARTBEATS */

    /// @dev What coordinators sign of an epoch.
    function _heartbeatDigest(uint32 epoch, bytes32 statsRoot, bytes32 bitmapHash) internal view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(TypeHashes.HEARTBEAT, epoch, statsRoot, bitmapHash)));
    }

    /// @dev The epoch is over, and not by more than `most` epochs.
    function _checkPast(uint32 epoch, uint32 most) internal view {
        uint32 now_ = _epochNow();
        if (epoch >= now_ || now_ - epoch > most) revert INodeRegistry.EpochWindow(epoch);
    }

    /// @dev Whether the word of a node's own heartbeats has the epoch.
    function _inBeats(uint256 word, uint32 epoch) internal pure returns (bool) {
        uint32 last = uint32(word);
        return epoch <= last && last - epoch < 224 && (word >> (32 + last - epoch)) & 1 != 0;
    }

    function _epochNow() internal view returns (uint32) {
        return uint32(block.timestamp / EPOCH);
    }

    function _startOf(uint32 epoch) internal pure returns (uint40) {
        return uint40(epoch) * EPOCH;
    }

    function _domainName() internal pure override returns (string memory) {
        return "AlephNodes";
    }

    function _storage() internal pure returns (NodeRegistryStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
