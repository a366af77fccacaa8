// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Extensible} from "./Extensible.sol";
import {NodeBase} from "./NodeBase.sol";
import {Peers} from "./Peers.sol";
import {IJobManager} from "./interfaces/IJobManager.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IStakingManager} from "./interfaces/IStakingManager.sol";
import {IStorageRegistry} from "./interfaces/IStorageRegistry.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {CoordinatorSet} from "./libraries/CoordinatorSet.sol";
import {Liveness} from "./libraries/Liveness.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {Recover} from "./libraries/Recover.sol";
import {TypeHashes} from "./libraries/TypeHashes.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title NodeRegistry
/// @notice See {INodeRegistry}.
contract NodeRegistry is INodeRegistry, NodeBase, Extensible {
    /* CONSTANTS */

    /// @dev The longest peer id, in bytes; today's are 34 to 38.
    uint256 private constant _MAX_PEER_ID = 64;

    /// @dev The time an owner has to notice that a stolen key moves the payout address or the node.
    uint40 private constant _OWNER_DELAY = 24 hours;

    /// @dev A snapshot that is older binds nobody.
    uint24 private constant _SNAPSHOT_DAYS = 7;

    /// @dev Nodes that one coordinator can link, and how many of them are paid for it.
    uint256 private constant _MAX_LINKS = 8;
    uint256 private constant _PAID_LINKS = 5;

    /// @dev The length of a coordinator's entry under an assignment: its node id and a signature.
    uint256 private constant _ENTRY = 4 + 65;

    /// @dev Heartbeats of an epoch can be posted in this many epochs after it.
    uint32 private constant _POST_EPOCHS = 6;

    /// @dev The longest bitmap: of 131,072 nodes.
    uint256 private constant _MAX_BITMAP = 16_384;

    /* SETUP */

    /// @param extension_ The NodeExtension for the same peers; the code of both together is above what a contract may have.
    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p, address extension_) NodeBase(p) Extensible(extension_) {}

    /// @notice Sets up a new proxy.
    function initialize() external initializer {
        _initBase();
    }

    /* REGISTRATION */

    /// @inheritdoc INodeRegistry
    function registerNode(
        Kind kind,
        bytes calldata peerId,
        address signer,
        bytes32 metaHash,
        uint64 features,
        uint16 region,
        bytes calldata signerSig
    ) external unpaused(Pausing.ENTRY) returns (uint32 nodeId) {
        bytes32 peerIdHash = _checkPeer(kind, peerId);
        if (metaHash == 0) revert AlephErrors.ZeroHash();
        _checkSigner(0, signer, _registerHash(kind, peerIdHash), signerSig);
        nodeId = _add(kind, peerIdHash, signer);
        Node storage n = _storage().nodes[nodeId];
        (n.owner, n.features, n.region, n.metaHash) = (msg.sender, features, region, metaHash);

        _emitRegistered(nodeId, n, peerId);
        emit NodeStatusChanged(nodeId, Status.None, Status.Pending, StatusReason.Registered);
    }

    /// @inheritdoc INodeRegistry
    function updateMeta(uint32 nodeId, bytes32 metaHash, uint64 features, uint16 region) external {
        Node storage n = _owned(nodeId);
        if (metaHash == 0) revert AlephErrors.ZeroHash();
        (n.metaHash, n.features, n.region) = (metaHash, features, region);
        emit NodeMetaUpdated(nodeId, metaHash, features, region);
    }

    /// @inheritdoc INodeRegistry
    function setSigner(uint32 nodeId, address signer, bytes calldata signerSig) external {
        NodeRegistryStorage storage $ = _storage();
        Node storage n = _owned(nodeId);
        _checkSigner(nodeId, signer, keccak256(abi.encode(TypeHashes.SET_SIGNER, nodeId, msg.sender)), signerSig);
        address old = n.signer;
        _freeSigner($, nodeId, n);
        $.bySigner[signer] = nodeId;
        n.signer = signer;
        // The old key is dead at once; the new one counts among the coordinators from the next snapshot.
        if (n.kind == Kind.Coordinator) _depart($, nodeId);
        emit NodeSignerChanged(nodeId, old, signer);
    }

    /// @inheritdoc INodeRegistry
    function setPayout(uint32 nodeId, address payout) external {
        Node storage n = _owned(nodeId);
        if (payout == address(0)) revert AlephErrors.ZeroAddress();
        uint40 eta = uint40(block.timestamp) + _OWNER_DELAY;
        (n.pendingPayout, n.pendingPayoutAt) = (payout, eta);
        emit NodePayoutScheduled(nodeId, payout, eta);
    }

    /// @inheritdoc INodeRegistry
    function applyPayout(uint32 nodeId) external {
        Node storage n = _storage().nodes[nodeId];
        (address payout, uint40 eta) = (n.pendingPayout, n.pendingPayoutAt);
        if (eta == 0) revert NoPayoutScheduled(nodeId);
        if (block.timestamp < eta) revert AlephErrors.TooSoon(eta);
        (n.payout, n.pendingPayout, n.pendingPayoutAt) = (payout, address(0), 0);
        emit NodePayoutChanged(nodeId, payout);
    }

    /// @inheritdoc INodeRegistry
    function transferNode(uint32 nodeId, address to) external {
        Node storage n = _owned(nodeId);
        uint40 eta = to == address(0) ? 0 : uint40(block.timestamp) + _OWNER_DELAY;
        (n.pendingOwner, n.pendingOwnerAt) = (to, eta);
        emit NodeTransferScheduled(nodeId, to, eta);
    }

    /// @inheritdoc INodeRegistry
    function acceptNode(uint32 nodeId) external {
        Node storage n = _alive(nodeId);
        if (n.pendingOwner != msg.sender || n.pendingOwnerAt == 0) revert AlephErrors.NotAuthorized(msg.sender);
        if (block.timestamp < n.pendingOwnerAt) revert AlephErrors.TooSoon(n.pendingOwnerAt);
        if (n.signer == msg.sender) revert SignerIsOwner(msg.sender);
        address old = n.owner;
        (n.owner, n.pendingOwner, n.pendingOwnerAt) = (msg.sender, address(0), 0);
        // The earnings go with the node, and what the old owner scheduled does not.
        (n.payout, n.pendingPayout, n.pendingPayoutAt) = (address(0), address(0), 0);
        emit NodeOwnerChanged(nodeId, old, msg.sender);
        emit NodePayoutChanged(nodeId, msg.sender);
    }

    /* LINKS */

    /// @inheritdoc INodeRegistry
    function link(uint32 coordId, uint32 nodeId) external {
        NodeRegistryStorage storage $ = _storage();
        Node storage c = _owned(coordId);
        if (c.kind != Kind.Coordinator) revert WrongKind(coordId, c.kind, Kind.Coordinator);
        Node storage n = _alive(nodeId);
        if (n.kind == Kind.Coordinator) revert WrongKind(nodeId, n.kind, Kind.Compute);
        if (n.linkedTo != 0) revert AlreadyLinked(nodeId, n.linkedTo);
        if (n.flags & LOCKED != 0) revert NodeIsLocked(nodeId);
        uint256 links = $.links[coordId];
        uint256 i = _linkCount(links);
        if (i == _MAX_LINKS) revert LinkLimit(coordId);
        $.links[coordId] = links | uint256(nodeId) << 32 * i;
        n.linkedTo = coordId;
        emit NodeLinked(nodeId, coordId);
    }

    /// @inheritdoc INodeRegistry
    function unlink(uint32 coordId, uint32 nodeId) external {
        NodeRegistryStorage storage $ = _storage();
        Node storage n = _known(nodeId);
        if (n.linkedTo != coordId || coordId == 0) revert NotLinked(nodeId, coordId);
        if (msg.sender != n.owner && msg.sender != $.nodes[coordId].owner) {
            revert AlephErrors.NotAuthorized(msg.sender);
        }
        _unlink($, nodeId, n);
    }

    /// @inheritdoc INodeRegistry
    function setLocked(uint32 nodeId, bool locked) external {
        Node storage n = _owned(nodeId);
        n.flags = locked ? n.flags | LOCKED : n.flags & ~LOCKED;
        emit NodeLockSet(nodeId, locked);
    }

    /* STATUS */

    /// @inheritdoc INodeRegistry
    function activate(uint32 nodeId) external unpaused(Pausing.ENTRY) {
        Node storage n = _known(nodeId);
        if (n.status != Status.Pending && n.status != Status.Suspended) revert NodeNotActive(nodeId, n.status);
        if (n.flags & OFFLINE != 0) revert HeartbeatsNeeded(nodeId);
        if (!_hasStake(nodeId, n.kind)) revert StakeTooLow(nodeId);
        _advance(nodeId, n, Status.Active, StatusReason.StakeMet);
    }

    /// @inheritdoc INodeRegistry
    function drain(uint32 nodeId) external {
        Node storage n = _owned(nodeId);
        if (n.status != Status.Active && n.status != Status.Suspended) revert NodeNotActive(nodeId, n.status);
        n.dutyFrom = n.status == Status.Active ? n.statusSince : uint40(block.timestamp);
        _advance(nodeId, n, Status.Draining, StatusReason.OwnerDrained);
    }

    /// @inheritdoc INodeRegistry
    function exit(uint32 nodeId) external {
        NodeRegistryStorage storage $ = _storage();
        Node storage n = _owned(nodeId);
        if (n.status != Status.Pending && n.status != Status.Draining) revert NodeNotActive(nodeId, n.status);
        uint32 jobs = IJobManager(JOBS).activeJobs(nodeId);
        if (jobs != 0) revert JobsRunning(nodeId, jobs);
        uint32 commitments = IStorageRegistry(STORAGES).activeCommitments(nodeId);
        if (commitments != 0) revert CommitmentsHeld(nodeId, commitments);
        delete $.byPeer[n.peerIdHash];
        _freeSigner($, nodeId, n);
        _dropLinks($, nodeId, n);
        _advance(nodeId, n, Status.Exited, StatusReason.OwnerExited);
    }

    /// @inheritdoc INodeRegistry
    function onStakeChanged(uint32 nodeId) external {
        _onlyPeer(STAKING);
        Node storage n = _known(nodeId);
        if (n.status != Status.Active || _hasStake(nodeId, n.kind)) return;
        _advance(nodeId, n, Status.Suspended, StatusReason.StakeTooLow);
    }

    /* HEARTBEATS */

    /// @inheritdoc INodeRegistry
    function snapshotCoordinators() external returns (uint24 day) {
        return _snapshot(_storage());
    }

    /// @inheritdoc INodeRegistry
    function submitHeartbeats(uint32 epoch, bytes32 statsRoot, bytes calldata bitmap, bytes calldata sigs) external {
        NodeRegistryStorage storage $ = _storage();
        _checkPast(epoch, _POST_EPOCHS);
        if ($.heartbeats[epoch] != 0) revert EpochPosted(epoch);
        if (statsRoot == 0) revert AlephErrors.ZeroHash();
        if (bitmap.length == 0 || bitmap.length > _MAX_BITMAP) {
            revert AlephErrors.OutOfBounds(bitmap.length, 1, _MAX_BITMAP);
        }
        _snapshot($);
        bytes32 bitmapHash = Liveness.hash(bitmap);
        Coordinators memory c = $.coordinators;
        uint256[] memory members = CoordinatorSet.read(c.store);
        uint64 signers =
            CoordinatorSet.signers(members, c.departed, _heartbeatDigest(epoch, statsRoot, bitmapHash), sigs);
        Quorum memory q = CoordinatorSet.tally(members, c.departed, signers);
        uint256 need = uint256(q.total) * 2 / 3 + 1;
        if (q.weight < need) revert LowWeight(q.weight, need);
        $.heartbeats[epoch] = Liveness.commitment(statsRoot, bitmapHash);
        emit Heartbeats(epoch, statsRoot, bitmap, signers);
    }

    /// @inheritdoc INodeRegistry
    function selfHeartbeat(uint32 nodeId, uint32 epoch) external {
        NodeRegistryStorage storage $ = _storage();
        if ($.nodes[nodeId].signer != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
        uint256 now_ = _epochNow();
        // A transaction sent at the end of an epoch may arrive in the next; later is too late to be a sign of life.
        if (epoch != now_ && uint256(epoch) + 1 != now_) revert EpochWindow(epoch);
        uint256 word = $.selfBeats[nodeId];
        (uint256 bits, uint256 last, uint256 bit) = (word >> 32, uint32(word), 1);
        if (epoch < last) bit = 2;
        else (bits, last) = (epoch - last < 224 ? bits << (epoch - last) : 0, epoch);
        if (bits & bit != 0) revert EpochPosted(epoch);
        $.selfBeats[nodeId] = (bits | bit) << 32 | last;
        emit SelfHeartbeat(nodeId, epoch);
    }

    /* THE EXTENSION'S */

    /// @inheritdoc INodeRegistry
    function jail(uint32, uint32) external {
        _extend();
    }

    /// @inheritdoc INodeRegistry
    function unjail(uint32) external {
        _extend();
    }

    /// @inheritdoc INodeRegistry
    function ban(uint32) external {
        _extend();
    }

    /// @inheritdoc INodeRegistry
    function reportMissed(uint32, uint32[] calldata, bytes32[] calldata, BitmapPage[] calldata) external {
        _extend();
    }

    /// @inheritdoc INodeRegistry
    function reactivate(uint32, uint32, bytes32[3] calldata, BitmapPage[3] calldata) external {
        _extend();
    }

    /// @inheritdoc INodeRegistry
    function equivocation(uint32, uint32, bytes32, bytes32, bytes calldata, bytes32, bytes32, bytes calldata) external {
        _extend();
    }

    /// @inheritdoc INodeRegistry
    function demandLeaf(uint32, uint32, bytes32, BitmapPage calldata) external payable {
        _extend();
    }

    /// @inheritdoc INodeRegistry
    function answerLeaf(uint32, uint32, bytes32, bytes32[] calldata) external {
        _extend();
    }

    /// @inheritdoc INodeRegistry
    function expireLeaf(uint32, uint32, uint32, bytes32, bytes32, bytes calldata) external {
        _extend();
    }

    /* VIEWS */

    /// @inheritdoc INodeRegistry
    function node(uint32 nodeId) external view returns (NodeView memory v) {
        Node storage n = _storage().nodes[nodeId];
        (v.owner, v.signer, v.kind, v.status, v.statusSince) = (n.owner, n.signer, n.kind, n.status, n.statusSince);
        (v.region, v.features, v.peerIdHash, v.metaHash) = (n.region, n.features, n.peerIdHash, n.metaHash);
        (v.payout, v.pendingPayout, v.pendingPayoutAt) = (payoutOf(nodeId), n.pendingPayout, n.pendingPayoutAt);
        (v.pendingOwner, v.pendingOwnerAt, v.jailedUntil) = (n.pendingOwner, n.pendingOwnerAt, n.jailedUntil);
        (v.linkedTo, v.locked, v.offline) = (n.linkedTo, n.flags & LOCKED != 0, n.flags & OFFLINE != 0);
    }

    /// @inheritdoc INodeRegistry
    function isActive(uint32 nodeId) external view returns (bool) {
        return _storage().nodes[nodeId].status == Status.Active;
    }

    /// @inheritdoc INodeRegistry
    function standing(uint32 nodeId) external view returns (address, Kind, Status) {
        Node storage n = _storage().nodes[nodeId];
        return (n.owner, n.kind, n.status);
    }

    /// @inheritdoc INodeRegistry
    function signerOf(uint32 nodeId) external view returns (address) {
        return _storage().nodes[nodeId].signer;
    }

    /// @inheritdoc INodeRegistry
    function payoutOf(uint32 nodeId) public view returns (address) {
        Node storage n = _storage().nodes[nodeId];
        address payout = n.payout;
        return payout == address(0) ? n.owner : payout;
    }

    /// @inheritdoc INodeRegistry
    function nodeOfPeer(bytes32 peerIdHash) external view returns (uint32) {
        return _storage().byPeer[peerIdHash];
    }

    /// @inheritdoc INodeRegistry
    function nodeOfSigner(address signer) external view returns (uint32) {
        return _storage().bySigner[signer];
    }

    /// @inheritdoc INodeRegistry
    function activeCoordinators() external view returns (uint32) {
        return _storage().coordinators.active;
    }

    /// @inheritdoc INodeRegistry
    function activeCoordinatorIds() external view returns (uint32[] memory ids) {
        NodeRegistryStorage storage $ = _storage();
        ids = new uint32[]($.coordinators.active);
        for (uint256 i; i < ids.length; ++i) {
            ids[i] = $.activeIds[i];
        }
    }

    /// @inheritdoc INodeRegistry
    function coordinatorSet() external view returns (uint24 day, uint32[] memory ids, uint96[] memory weights) {
        Coordinators memory c = _storage().coordinators;
        (ids, weights) = CoordinatorSet.unpack(CoordinatorSet.read(c.store));
        day = c.day;
    }

    /// @inheritdoc INodeRegistry
    function coordinatorsOn(uint24 day) external view returns (uint32[] memory ids, uint96[] memory weights) {
        return CoordinatorSet.unpack(CoordinatorSet.read(_storage().snapshots[day]));
    }

    /// @inheritdoc INodeRegistry
    function quorum(bytes32 digest, bytes calldata sigs) external view returns (Quorum memory q) {
        Coordinators memory c = _storage().coordinators;
        if (c.store == address(0) || _today() - c.day > _SNAPSHOT_DAYS) revert SnapshotStale(c.day);
        uint256[] memory members = CoordinatorSet.read(c.store);
        q = CoordinatorSet.tally(members, c.departed, CoordinatorSet.signers(members, c.departed, digest, sigs));
        q.groups = CoordinatorSet.groups(members, q.signers);
    }

    /// @inheritdoc INodeRegistry
    function lastNodeId() external view returns (uint32) {
        return _storage().lastNodeId;
    }

    /// @inheritdoc INodeRegistry
    function checkAssignment(
        uint32 nodeId,
        uint32 coordId,
        uint256 quorum_,
        bytes32[2] calldata digests,
        bytes calldata nodeSig,
        bytes calldata coordSigs
    ) external view {
        NodeRegistryStorage storage $ = _storage();
        if (!Recover.isBy(_activeSigner($, nodeId, Kind.Compute), digests[0], nodeSig)) {
            revert AlephErrors.BadSignature(1);
        }
        if (quorum_ == 0) return;
        Coordinators memory c = $.coordinators;
        _checkQuorum(c.active, quorum_, coordSigs.length);
        _checkCoordinators(c, coordId, digests[1], coordSigs);
    }

    /// @inheritdoc INodeRegistry
    function linksOf(uint32 coordId) external view returns (uint32[] memory nodeIds) {
        uint256 links = _storage().links[coordId];
        nodeIds = new uint32[](_linkCount(links));
        for (uint256 i; i < nodeIds.length; ++i) {
            nodeIds[i] = uint32(links >> 32 * i);
        }
    }

    /// @inheritdoc INodeRegistry
    function isPaidLink(uint32 nodeId) external view returns (bool) {
        NodeRegistryStorage storage $ = _storage();
        uint32 coordId = $.nodes[nodeId].linkedTo;
        return coordId != 0 && _linkIndex($.links[coordId], nodeId) < _PAID_LINKS;
    }

    /// @inheritdoc INodeRegistry
    function heartbeatDigest(uint32 epoch, bytes32 statsRoot, bytes32 bitmapHash) external view returns (bytes32) {
        return _heartbeatDigest(epoch, statsRoot, bitmapHash);
    }

    /// @inheritdoc INodeRegistry
    function heartbeatOf(uint32 epoch) external view returns (bytes32) {
        return _storage().heartbeats[epoch];
    }

    /// @inheritdoc INodeRegistry
    function hasSelfHeartbeat(uint32 nodeId, uint32 epoch) external view returns (bool) {
        return _inBeats(_storage().selfBeats[nodeId], epoch);
    }

    /// @inheritdoc INodeRegistry
    function verifyStat(uint32 epoch, bytes32 leaf, uint256 index, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        return Liveness.verify(_storage().heartbeats[epoch], leaf, index, proof);
    }

    /// @inheritdoc INodeRegistry
    function leafDemand(uint32 epoch, uint32 nodeId) external view returns (address, uint40, DemandState) {
        Demand storage d = _storage().demands[epoch][nodeId];
        return (d.by, d.openedAt, d.state);
    }

    /// @inheritdoc INodeRegistry
    function leafFee() external pure returns (uint256) {
        return LEAF_FEE;
    }

    /* INTERNAL: NODES */

    /// @dev A new node has a kind and a peer id that no live node has.
    function _checkPeer(Kind kind, bytes calldata peerId) private view returns (bytes32 peerIdHash) {
        if (kind == Kind.None) revert AlephErrors.OutOfBounds(0, 1, uint256(type(Kind).max));
        if (peerId.length == 0 || peerId.length > _MAX_PEER_ID) {
            revert AlephErrors.OutOfBounds(peerId.length, 1, _MAX_PEER_ID);
        }
        peerIdHash = keccak256(peerId);
        if (_storage().byPeer[peerIdHash] != 0) revert PeerIdTaken(peerIdHash);
    }

    /// @dev Gives the next number to a node and makes it findable.
    function _add(Kind kind, bytes32 peerIdHash, address signer) private returns (uint32 nodeId) {
        NodeRegistryStorage storage $ = _storage();
        nodeId = ++$.lastNodeId;
        $.byPeer[peerIdHash] = nodeId;
        $.bySigner[signer] = nodeId;
        Node storage n = $.nodes[nodeId];
        (n.signer, n.kind, n.status, n.statusSince) = (signer, kind, Status.Pending, uint40(block.timestamp));
        n.peerIdHash = peerIdHash;
    }

    function _emitRegistered(uint32 nodeId, Node storage n, bytes calldata peerId) private {
        emit NodeRegistered(nodeId, n.owner, n.kind, n.signer, peerId, n.metaHash, n.features, n.region);
    }

    function _registerHash(Kind kind, bytes32 peerIdHash) private view returns (bytes32) {
        return keccak256(abi.encode(TypeHashes.REGISTER, msg.sender, kind, peerIdHash));
    }

    /// @dev A new signer consents, is nobody else's and is not the owner's cold key. A key that another coordinator signed
    /// with stays that coordinator's as long as it can be held to what it signed.
    function _checkSigner(uint32 nodeId, address signer, bytes32 structHash, bytes calldata sig) private view {
        NodeRegistryStorage storage $ = _storage();
        if (signer == address(0)) revert AlephErrors.ZeroAddress();
        if (signer == msg.sender) revert SignerIsOwner(signer);
        PastKey memory past = $.pastKeys[signer];
        bool held = past.nodeId != 0 && past.nodeId != nodeId && past.lastEpoch + EVIDENCE_EPOCHS >= _epochNow();
        if (held || $.bySigner[signer] != 0) revert SignerTaken(signer);
        (address by,,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(structHash), sig);
        if (by != signer) revert AlephErrors.BadSignature(0);
    }

    /// @dev Frees a node's key, and notes until when it was a coordinator's.
    function _freeSigner(NodeRegistryStorage storage $, uint32 nodeId, Node storage n) private {
        address signer = n.signer;
        delete $.bySigner[signer];
        if (n.kind == Kind.Coordinator) $.pastKeys[signer] = PastKey(nodeId, _epochNow());
    }

    function _activeSigner(NodeRegistryStorage storage $, uint32 nodeId, Kind want) private view returns (address) {
        Node storage n = $.nodes[nodeId];
        if (n.status != Status.Active) revert NodeNotActive(nodeId, n.status);
        if (n.kind != want) revert WrongKind(nodeId, n.kind, want);
        return n.signer;
    }

    /// @dev As many coordinators signed as must.
    function _checkQuorum(uint32 active, uint256 quorum_, uint256 length) private pure {
        uint256 n = length / _ENTRY;
        if (length != n * _ENTRY || n > MAX_COORDINATORS) revert SignaturesLength(length);
        if (quorum_ > active) quorum_ = active;
        if (n < quorum_) revert QuorumLow(n, quorum_);
    }

    /// @dev Who signed is an Active coordinator, each once and `coordId` among them.
    function _checkCoordinators(Coordinators memory c, uint32 coordId, bytes32 digest, bytes calldata sigs)
        private
        view
    {
        uint256[] memory members = CoordinatorSet.read(c.store);
        uint256 k;
        uint32 previous;
        bool found;
        bytes calldata sig = sigs;
        // Nothing overflows: there are 64 entries at most.
        unchecked {
            for (uint256 at; at < sigs.length; at += _ENTRY) {
                uint32 id;
                assembly ("memory-safe") {
                    id := shr(224, calldataload(add(sigs.offset, at)))
                    sig.offset := add(add(sigs.offset, at), 4)
                    sig.length := sub(_ENTRY, 4)
                }
                if (id <= previous) revert CoordinatorOrder(previous, id);
                previous = id;
                if (id == coordId) found = true;
                k = CoordinatorSet.find(members, id, k);
                if (!Recover.isBy(_coordinatorSigner(c, members, k, id), digest, sig)) {
                    revert AlephErrors.BadSignature(uint8(at / _ENTRY + 2));
                }
            }
        }
        if (!found) revert CoordinatorMissing(coordId);
    }

    /// @dev The key of an Active coordinator, whose place among the members of the snapshot is `k` if it has one. A member
    /// that has not departed is Active and has the key of the snapshot, however old that is. Of any other its own slot tells.
    function _coordinatorSigner(Coordinators memory c, uint256[] memory members, uint256 k, uint32 id)
        private
        view
        returns (address)
    {
        if (k < members.length && (c.departed >> k) & 1 == 0) {
            uint256 member = members[k];
            if (CoordinatorSet.id(member) == id) return CoordinatorSet.signer(member);
        }
        return _activeSigner(_storage(), id, Kind.Coordinator);
    }

    /// @dev The node, when it has not ended.
    function _alive(uint32 nodeId) private view returns (Node storage n) {
        n = _known(nodeId);
        if (_hasEnded(n.status)) revert NodeNotActive(nodeId, n.status);
    }

    /// @dev The node, when the caller owns it and it has not ended.
    function _owned(uint32 nodeId) private view returns (Node storage n) {
        n = _known(nodeId);
        if (n.owner != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
        return _alive(nodeId);
    }

    /* INTERNAL: LINKS */

    function _linkCount(uint256 links) private pure returns (uint256 i) {
        while (i < _MAX_LINKS && uint32(links >> 32 * i) != 0) ++i;
    }

    /* INTERNAL: COORDINATORS */

    /// @dev Takes the snapshot of today unless there is one.
    function _snapshot(NodeRegistryStorage storage $) private returns (uint24 day) {
        Coordinators memory c = $.coordinators;
        day = _today();
        if (c.day == day) return day;
        if (c.active == 0) revert NoCoordinators();
        uint256[] memory members = new uint256[](c.active);
        for (uint256 i; i < members.length; ++i) {
            uint32 id = $.activeIds[i];
            Node storage n = $.nodes[id];
            uint256 weight = IStakingManager(STAKING).weight(id) / 1 ether;
            members[i] = CoordinatorSet.pack(n.signer, id, weight, n.region);
        }
        (c.store, c.day, c.departed) = (CoordinatorSet.write(c.store, members), day, 0);
        $.coordinators = c;
        $.snapshots[day] = c.store;
        (uint32[] memory ids, uint96[] memory weights) = CoordinatorSet.unpack(members);
        emit CoordinatorsSnapshot(day, ids, weights);
    }

    /* INTERNAL: TIME AND DUTY */

    function _today() private view returns (uint24) {
        return uint24(block.timestamp / 1 days);
    }
}
