// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Peers} from "./Peers.sol";
import {IJobManager} from "./interfaces/IJobManager.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IStakingManager} from "./interfaces/IStakingManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title NodeRegistry
/// @notice See {INodeRegistry}.
contract NodeRegistry is INodeRegistry, Base, EIP712 {
    /* TYPES */

    /// @dev The first slot is all that opening a job reads of a node.
    struct Node {
        address signer;
        Kind kind;
        Status status;
        uint40 statusSince;
        address owner;
        uint64 features;
        uint16 region;
        bytes32 peerIdHash;
        bytes32 metaHash;
        // Zero: the owner.
        address payout;
        uint40 pendingPayoutAt;
        address pendingPayout;
    }

    /// @custom:storage-location erc7201:aleph.storage.NodeRegistry.v1
    struct NodeRegistryStorage {
        uint32 lastNodeId;
        uint32 activeCoordinators;
        mapping(uint32 nodeId => Node) nodes;
        mapping(bytes32 peerIdHash => uint32 nodeId) byPeer;
        mapping(address signer => uint32 nodeId) bySigner;
    }

    /* CONSTANTS */

    /// @dev The longest peer id, in bytes; today's are 34 to 38.
    uint256 private constant _MAX_PEER_ID = 64;

    /// @dev The time an owner has to notice that a stolen key moves the payout address.
    uint40 private constant _PAYOUT_DELAY = 24 hours;

    bytes32 private constant _REGISTER = keccak256("Register(address owner,uint8 kind,bytes32 peerIdHash)");
    bytes32 private constant _SET_SIGNER = keccak256("SetSigner(uint32 nodeId,address owner)");

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.NodeRegistry.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0xb2b9074e96676b4fb308d3137019468e61466608a4ca84931762a6cb61182a00;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Base(p) EIP712("AlephNodes", "1") {}

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
        return _storage().activeCoordinators;
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
        coordSigners = new address[](coordIds.length);
        for (uint256 i; i < coordIds.length; ++i) {
            coordSigners[i] = _activeSigner($, coordIds[i], Kind.Coordinator);
        }
        coordinators = $.activeCoordinators;
    }

    /* INTERNAL */

    /// @dev Moves a node to another status, the only place that does.
    function _advance(uint32 nodeId, Node storage n, Status to, StatusReason reason) private {
        Status from = n.status;
        if (n.kind == Kind.Coordinator) {
            if (to == Status.Active) ++_storage().activeCoordinators;
            else if (from == Status.Active) --_storage().activeCoordinators;
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

    function _storage() private pure returns (NodeRegistryStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
