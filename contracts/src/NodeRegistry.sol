// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Peers} from "./Peers.sol";
import {TypedData} from "./TypedData.sol";
import {IJobManager} from "./interfaces/IJobManager.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IStakingManager} from "./interfaces/IStakingManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title NodeRegistry
/// @notice See {INodeRegistry}.
contract NodeRegistry is INodeRegistry, Base, TypedData {
    /* TYPES */

    /// @dev The first slot is all that opening a job reads of a node.
    struct Node {
        address signer;
        Kind kind;
        Status status;
        uint40 statusSince;
        // The coordinator that links it; zero: none.
        uint32 linkedTo;
        uint8 flags;
        address owner;
        uint64 features;
        uint16 region;
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
        // Its code is a STOP and 32 bytes per member: signer, node id (32 bits), weight (48 bits), region (16 bits).
        address store;
        uint24 day;
        // Bit i: the i-th member stopped being Active, or changed its key, since the snapshot. It counts no more.
        uint64 departed;
        // How many coordinators are Active now.
        uint8 active;
    }

    /// @custom:storage-location erc7201:aleph.storage.NodeRegistry.v1
    struct NodeRegistryStorage {
        uint32 lastNodeId;
        mapping(uint32 nodeId => Node) nodes;
        mapping(bytes32 peerIdHash => uint32 nodeId) byPeer;
        mapping(address signer => uint32 nodeId) bySigner;
        Coordinators coordinators;
        // The ids of the Active coordinators, ascending; the first `coordinators.active` entries count.
        uint32[64] activeIds;
        mapping(uint24 day => address store) snapshots;
    }

    /* CONSTANTS */

    /// @dev The longest peer id, in bytes; today's are 34 to 38.
    uint256 private constant _MAX_PEER_ID = 64;

    /// @dev The time an owner has to notice that a stolen key moves the payout address.
    uint40 private constant _PAYOUT_DELAY = 24 hours;

    /// @dev The most coordinators that can be Active, so that every loop over them is bounded.
    uint256 private constant _MAX_COORDINATORS = 64;

    /// @dev A snapshot that is older binds nobody.
    uint24 private constant _SNAPSHOT_DAYS = 7;

    /// @dev The longest time in jail. A node that must not come back is banned.
    uint32 private constant _MAX_JAIL = 365 days;

    bytes32 private constant _REGISTER = keccak256("Register(address owner,uint8 kind,bytes32 peerIdHash)");
    bytes32 private constant _SET_SIGNER = keccak256("SetSigner(uint32 nodeId,address owner)");

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.NodeRegistry.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0xb2b9074e96676b4fb308d3137019468e61466608a4ca84931762a6cb61182a00;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Base(p) TypedData(p.nodes) {}

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
        _checkSigner(signer, _registerHash(kind, peerIdHash), signerSig);
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
        _checkSigner(signer, keccak256(abi.encode(_SET_SIGNER, nodeId, msg.sender)), signerSig);
        address old = n.signer;
        delete $.bySigner[old];
        $.bySigner[signer] = nodeId;
        n.signer = signer;
        // The old key is dead at once; the new one counts among the coordinators from the next snapshot.
        if (n.kind == Kind.Coordinator) _depart(nodeId);
        emit NodeSignerChanged(nodeId, old, signer);
    }

    /// @inheritdoc INodeRegistry
    function setPayout(uint32 nodeId, address payout) external {
        Node storage n = _owned(nodeId);
        if (payout == address(0)) revert AlephErrors.ZeroAddress();
        uint40 at = uint40(block.timestamp) + _PAYOUT_DELAY;
        (n.pendingPayout, n.pendingPayoutAt) = (payout, at);
        emit NodePayoutScheduled(nodeId, payout, at);
    }

    /// @inheritdoc INodeRegistry
    function applyPayout(uint32 nodeId) external {
        Node storage n = _storage().nodes[nodeId];
        (address payout, uint40 at) = (n.pendingPayout, n.pendingPayoutAt);
        if (at == 0) revert NoPayoutScheduled(nodeId);
        if (block.timestamp < at) revert AlephErrors.TooSoon(at);
        (n.payout, n.pendingPayout, n.pendingPayoutAt) = (payout, address(0), 0);
        emit NodePayoutChanged(nodeId, payout);
    }

    /* STATUS */

    /// @inheritdoc INodeRegistry
    function activate(uint32 nodeId) external unpaused(Pausing.ENTRY) {
        Node storage n = _known(nodeId);
        if (n.status != Status.Pending && n.status != Status.Suspended) revert NodeNotActive(nodeId, n.status);
        if (!IStakingManager(STAKING).meetsRequirement(nodeId, n.kind)) revert StakeTooLow(nodeId);
        _advance(nodeId, n, Status.Active, StatusReason.StakeMet);
    }

    /// @inheritdoc INodeRegistry
    function drain(uint32 nodeId) external {
        Node storage n = _owned(nodeId);
        if (n.status != Status.Active && n.status != Status.Suspended) revert NodeNotActive(nodeId, n.status);
        _advance(nodeId, n, Status.Draining, StatusReason.OwnerDrained);
    }

    /// @inheritdoc INodeRegistry
    function exit(uint32 nodeId) external {
        NodeRegistryStorage storage $ = _storage();
        Node storage n = _owned(nodeId);
        if (n.status != Status.Pending && n.status != Status.Draining) revert NodeNotActive(nodeId, n.status);
        uint32 jobs = IJobManager(JOBS).activeJobs(nodeId);
        if (jobs != 0) revert JobsRunning(nodeId, jobs);
        delete $.byPeer[n.peerIdHash];
        delete $.bySigner[n.signer];
        _advance(nodeId, n, Status.Exited, StatusReason.OwnerExited);
    }

    /// @inheritdoc INodeRegistry
    function onStakeChanged(uint32 nodeId) external {
        if (msg.sender != STAKING) revert AlephErrors.NotAuthorized(msg.sender);
        Node storage n = _known(nodeId);
        if (n.status != Status.Active || IStakingManager(STAKING).meetsRequirement(nodeId, n.kind)) return;
        _advance(nodeId, n, Status.Suspended, StatusReason.StakeTooLow);
    }

    /// @inheritdoc INodeRegistry
    function jail(uint32 nodeId, uint32 duration) external {
        _onlyPeer(SLA);
        if (duration == 0 || duration > _MAX_JAIL) revert AlephErrors.OutOfBounds(duration, 1, _MAX_JAIL);
        Node storage n = _known(nodeId);
        Status status = n.status;
        // A penalty must not fail because the node left: then there is nothing to keep it from.
        if (status == Status.Pending || status == Status.Exited || status == Status.Banned) return;
        uint40 until = uint40(block.timestamp) + duration;
        if (until > n.jailedUntil) {
            n.jailedUntil = until;
            emit NodeJailed(nodeId, until);
        }
        if (status != Status.Jailed) _advance(nodeId, n, Status.Jailed, StatusReason.Jailed);
    }

    /// @inheritdoc INodeRegistry
    function ban(uint32 nodeId) external {
        _onlyPeer(SLA);
        Node storage n = _known(nodeId);
        if (n.status == Status.Exited || n.status == Status.Banned) return;
        _advance(nodeId, n, Status.Banned, StatusReason.Banned);
    }

    /* COORDINATORS */

    /// @inheritdoc INodeRegistry
    function snapshotCoordinators() external returns (uint24 day) {
        return _snapshot(_storage());
    }

    /* VIEWS */

    /// @inheritdoc INodeRegistry
    function node(uint32 nodeId) external view returns (NodeView memory) {
        Node storage n = _storage().nodes[nodeId];
        return NodeView({
            owner: n.owner,
            signer: n.signer,
            kind: n.kind,
            status: n.status,
            statusSince: n.statusSince,
            region: n.region,
            features: n.features,
            peerIdHash: n.peerIdHash,
            metaHash: n.metaHash,
            payout: payoutOf(nodeId),
            pendingPayout: n.pendingPayout,
            pendingPayoutAt: n.pendingPayoutAt
        });
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
    function coordinatorSet() external view returns (uint24 day, uint32[] memory ids, uint96[] memory weights) {
        Coordinators memory c = _storage().coordinators;
        (ids, weights) = _unpack(_members(c.store));
        day = c.day;
    }

    /// @inheritdoc INodeRegistry
    function coordinatorsOn(uint24 day) external view returns (uint32[] memory ids, uint96[] memory weights) {
        return _unpack(_members(_storage().snapshots[day]));
    }

    /// @inheritdoc INodeRegistry
    function quorum(bytes32 digest, bytes calldata sigs) external view returns (Quorum memory q) {
        Coordinators memory c = _storage().coordinators;
        if (c.store == address(0) || _today() - c.day > _SNAPSHOT_DAYS) revert SnapshotStale(c.day);
        uint256[] memory members = _members(c.store);
        q = _tally(members, c.departed, _signers(members, c.departed, digest, sigs));
        q.groups = _groups(members, q.signers);
    }

    /// @inheritdoc INodeRegistry
    function lastNodeId() external view returns (uint32) {
        return _storage().lastNodeId;
    }

    /// @inheritdoc INodeRegistry
    function assignmentSigners(uint32 nodeId, uint32[] calldata coordIds)
        external
        view
        returns (address nodeSigner, address[] memory coordSigners, uint32 coordinators)
    {
        NodeRegistryStorage storage $ = _storage();
        nodeSigner = _activeSigner($, nodeId, Kind.Compute);
        Coordinators memory c = $.coordinators;
        uint256[] memory members = _members(c.store);
        uint256 k;
        coordSigners = new address[](coordIds.length);
        for (uint256 i; i < coordIds.length; ++i) {
            uint32 id = coordIds[i];
            while (k < members.length && _id(members[k]) < id) ++k;
            // A member that has not departed is Active and has the key of the snapshot, however old that is. Of any other
            // its own slot tells.
            bool present = k < members.length && _id(members[k]) == id && (c.departed >> k) & 1 == 0;
            coordSigners[i] = present ? _signer(members[k]) : _activeSigner($, id, Kind.Coordinator);
        }
        coordinators = c.active;
    }

    /* INTERNAL */

    /// @dev Moves a node to another status, the only place that does.
    function _advance(uint32 nodeId, Node storage n, Status to, StatusReason reason) private {
        Status from = n.status;
        if (n.kind == Kind.Coordinator) {
            if (to == Status.Active) {
                _join(nodeId);
            } else if (from == Status.Active) {
                _leave(nodeId);
                _depart(nodeId);
            }
        }
        (n.status, n.statusSince) = (to, uint40(block.timestamp));
        emit NodeStatusChanged(nodeId, from, to, reason);
    }

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
        return keccak256(abi.encode(_REGISTER, msg.sender, kind, peerIdHash));
    }

    /// @dev A new signer consents, is nobody else's and is not the owner's cold key.
    function _checkSigner(address signer, bytes32 structHash, bytes calldata sig) private view {
        if (signer == address(0)) revert AlephErrors.ZeroAddress();
        if (signer == msg.sender) revert SignerIsOwner(signer);
        if (_storage().bySigner[signer] != 0) revert SignerTaken(signer);
        (address by,,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(structHash), sig);
        if (by != signer) revert AlephErrors.BadSignature(0);
    }

    function _activeSigner(NodeRegistryStorage storage $, uint32 nodeId, Kind want) private view returns (address) {
        Node storage n = $.nodes[nodeId];
        if (n.status != Status.Active) revert NodeNotActive(nodeId, n.status);
        if (n.kind != want) revert WrongKind(nodeId, n.kind, want);
        return n.signer;
    }

    /* INTERNAL: COORDINATORS */

    /// @dev Adds a coordinator to the Active ones. Mostly it has the highest id and goes to the end.
    function _join(uint32 nodeId) private {
        NodeRegistryStorage storage $ = _storage();
        uint256 i = $.coordinators.active;
        if (i == _MAX_COORDINATORS) revert CoordinatorsFull(_MAX_COORDINATORS);
        $.coordinators.active = uint8(i + 1);
        for (; i != 0 && $.activeIds[i - 1] > nodeId; --i) {
            $.activeIds[i] = $.activeIds[i - 1];
        }
        $.activeIds[i] = nodeId;
    }

    /// @dev Takes a coordinator out of the Active ones.
    function _leave(uint32 nodeId) private {
        NodeRegistryStorage storage $ = _storage();
        uint256 last = $.coordinators.active - 1;
        $.coordinators.active = uint8(last);
        uint256 i;
        while ($.activeIds[i] != nodeId) ++i;
        for (; i < last; ++i) {
            $.activeIds[i] = $.activeIds[i + 1];
        }
        $.activeIds[last] = 0;
    }

    /// @dev Takes a coordinator's say from it until the next snapshot.
    function _depart(uint32 nodeId) private {
        Coordinators storage c = _storage().coordinators;
        uint256[] memory members = _members(c.store);
        for (uint256 i; i < members.length; ++i) {
            if (_id(members[i]) == nodeId) c.departed |= uint64(1 << i);
        }
    }

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
            members[i] = uint256(uint160(n.signer)) << 96 | uint256(id) << 64 | weight << 16 | n.region;
        }
        c.store = _write(c.store, members);
        (c.day, c.departed) = (day, 0);
        $.coordinators = c;
        $.snapshots[day] = c.store;
        (uint32[] memory ids, uint96[] memory weights) = _unpack(members);
        emit CoordinatorsSnapshot(day, ids, weights);
    }

    /// @dev Stores members as code: reading them all costs one cold account instead of a cold slot each. When they are
    /// those at `old`, that stays.
    function _write(address old, uint256[] memory members) private returns (address store) {
        // The length's word makes room for the creation code, whose last byte is the STOP that the stored code begins with.
        assembly ("memory-safe") {
            let n := mload(members)
            let size := add(shl(5, n), 1)
            mstore(members, or(0x61000080600a3d393df300, shl(64, size)))
            store := old
            if iszero(eq(extcodehash(old), keccak256(add(members, 0x1f), size))) {
                store := create(0, add(members, 0x15), add(size, 10))
            }
            mstore(members, n)
        }
        if (store == address(0)) revert AlephErrors.ZeroAddress();
    }

    /// @dev The members of a snapshot; none when there is no snapshot.
    function _members(address store) private view returns (uint256[] memory members) {
        assembly ("memory-safe") {
            members := mload(0x40)
            let size := extcodesize(store)
            if size { size := sub(size, 1) }
            mstore(members, shr(5, size))
            extcodecopy(store, add(members, 0x20), 1, size)
            mstore(0x40, add(add(members, 0x20), size))
        }
    }

    /// @dev Which members signed, as bits. The signatures are in the order of the members.
    function _signers(uint256[] memory members, uint64 departed, bytes32 digest, bytes calldata sigs)
        private
        pure
        returns (uint64 signers)
    {
        uint256 n = sigs.length / 65;
        if (sigs.length != n * 65 || n > _MAX_COORDINATORS) revert SignaturesLength(sigs.length);
        uint256 k;
        for (uint256 i; i < n; ++i) {
            (address by,,) = ECDSA.tryRecoverCalldata(digest, sigs[i * 65:i * 65 + 65]);
            while (k < members.length && (_signer(members[k]) != by || (departed >> k) & 1 != 0)) ++k;
            if (k == members.length) revert AlephErrors.BadSignature(uint8(i));
            signers |= uint64(1 << k++);
        }
    }

    /// @dev The weight behind `signers`, and of all members that have not departed.
    function _tally(uint256[] memory members, uint64 departed, uint64 signers) private pure returns (Quorum memory q) {
        uint256 weight;
        uint256 total;
        uint256 count;
        for (uint256 i; i < members.length; ++i) {
            if ((departed >> i) & 1 != 0) continue;
            uint256 w = _weight(members[i]);
            total += w;
            if ((signers >> i) & 1 == 0) continue;
            weight += w;
            ++count;
        }
        (q.weight, q.total, q.count, q.signers) = (uint96(weight), uint96(total), uint16(count), signers);
    }

    /// @dev How many regions the signers are in.
    function _groups(uint256[] memory members, uint64 signers) private pure returns (uint16 groups) {
        uint256[] memory seen = new uint256[](256);
        for (uint256 i; i < members.length; ++i) {
            if ((signers >> i) & 1 == 0) continue;
            uint256 region = uint16(members[i]);
            uint256 bit = 1 << (region & 0xff);
            if (seen[region >> 8] & bit == 0) ++groups;
            seen[region >> 8] |= bit;
        }
    }

    function _unpack(uint256[] memory members) private pure returns (uint32[] memory ids, uint96[] memory weights) {
        (ids, weights) = (new uint32[](members.length), new uint96[](members.length));
        for (uint256 i; i < members.length; ++i) {
            (ids[i], weights[i]) = (_id(members[i]), uint96(_weight(members[i])));
        }
    }

    function _signer(uint256 member) private pure returns (address) {
        return address(uint160(member >> 96));
    }

    function _id(uint256 member) private pure returns (uint32) {
        return uint32(member >> 64);
    }

    function _weight(uint256 member) private pure returns (uint256) {
        return uint48(member >> 16);
    }

    function _today() private view returns (uint24) {
        return uint24(block.timestamp / 1 days);
    }

    /* INTERNAL: NODES */

    function _known(uint32 nodeId) private view returns (Node storage n) {
        n = _storage().nodes[nodeId];
        if (n.status == Status.None) revert UnknownNode(nodeId);
    }

    /// @dev The node, when the caller owns it and it has not ended.
    function _owned(uint32 nodeId) private view returns (Node storage n) {
        n = _known(nodeId);
        if (n.owner != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
        if (n.status == Status.Exited) revert NodeNotActive(nodeId, Status.Exited);
    }

    function _domainName() internal pure override returns (string memory) {
        return "AlephNodes";
    }

    function _storage() private pure returns (NodeRegistryStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
