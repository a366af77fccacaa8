// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Peers} from "./Peers.sol";
import {TypedData} from "./TypedData.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {IStorageWords} from "./interfaces/IStorageWords.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Payees} from "./libraries/Payees.sol";
import {StorageProof} from "./libraries/StorageProof.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title StorageBase
/// @notice What the two halves of the StorageRegistry share: its storage, and what both look up in it.
/// @dev Cheap calls decide what is kept. Of an object there is one slot, the hash of its terms, and from its first proof on
/// a second one. Of a bundle there are two slots for the roots of two days, each with the day from which it counts: an
/// update overwrites the older one.
abstract contract StorageBase is IStorageWords, Base, TypedData, ReentrancyGuardTransient {
    /* TYPES */

    /// @dev A node, one slot. The key is kept here because asking the NodeRegistry costs as much as all of an update.
    struct Store {
        address signer;
        uint32 active;
        uint40 capacity;
    }

    /// @dev What happened to a commitment, one slot. Bit i of `proven` and `missed` is the day `newestDay` - i. An object
    /// whose status is None is Active when it has terms: nothing has happened to it.
    struct History {
        uint24 newestDay;
        uint32 proven;
        uint32 missed;
        Status status;
        bool rentStopped;
        uint24 sinceDay;
        uint24 endDay;
    }

    /// @dev Five slots. `target` is the hash of the terms, or what binds the bundle, or the hash of both receipt and bundle.
    struct Challenge {
        address challenger;
        uint64 round;
        ChallengeKind kind;
        ChallengeState state;
        uint16 bond;
        address tenant;
        uint40 openedAt;
        uint40 deadline;
        bytes32 target;
        bytes32 seed;
        uint128 id;
    }

    /// @custom:storage-location erc7201:aleph.storage.StorageRegistry.v1
    struct StorageRegistryStorage {
        mapping(uint32 nodeId => Store) stores;
        mapping(uint128 id => bytes32) terms;
        mapping(uint128 id => History) histories;
        // Each: 30 bytes that bind root and leaves, and the day from which they count.
        mapping(uint32 nodeId => bytes32[2]) bundles;
        mapping(uint24 day => bytes32) seeds;
        // Each: 30 bytes of the bitmap's root, and the number of its parts.
        mapping(uint24 day => bytes32) attested;
        mapping(uint32 nodeId => mapping(address signer => bool)) signers;
        mapping(bytes32 challengeId => Challenge) challenges;
    }

    /* CONSTANTS */

    uint256 internal constant _DAY = 1 days;

    /// @dev A day's randomness is from after the day has begun, when its roots are fixed on the chain for good.
    uint256 internal constant _BEACON_DELAY = 60;

    /// @dev The time after a day in which it can still be proven without being reported.
    uint256 internal constant _PROOF_GRACE = 6 hours;

    /// @dev For so many days after it has begun, a day can be proven and reported.
    uint24 internal constant _OPEN_DAYS = 8;

    /// @dev So many misses in a week end a commitment.
    uint256 internal constant _FAULTY_MISSES = 3;

    /// @dev The time a node leaves its clients to bring their objects elsewhere.
    uint24 internal constant _NOTICE_DAYS = 14;

    /// @dev The longest commitment.
    uint24 internal constant _MAX_DAYS = 3_660;

    uint256 internal constant _MAX_K = 20;

    /// @dev A bundle is asked for so many leaves for each started ten TiB, so that filling a bundle with what is cheap to
    /// make does not keep the challenges away from what clients have in it.
    uint256 internal constant _BUNDLE_K = 5;
    uint256 internal constant _BUNDLE_STEP = 10 << 32;

    /// @dev The leaves of a TiB, as a power of two.
    uint256 internal constant _TIB_SHIFT = 32;

    uint256 internal constant _CHALLENGE_K = 10;

    /// @dev The time in which somebody must bring a challenge's randomness.
    uint40 internal constant _ARM_TIME = 1 days;

    uint256 internal constant _MAX_BATCH = 64;
    uint256 internal constant _MAX_PARTS = 128;

    uint16 internal constant _AUDIT = 16;
    uint16 internal constant _AUDIT_MAX = 256;
    uint16 internal constant _STAKE_PER_TIB = 50;
    uint16 internal constant _STAKE_PER_TIB_MAX = 10_000;
    uint16 internal constant _BOND = 200;
    uint16 internal constant _BOND_MAX = 10_000;
    uint16 internal constant _RESPONSE = 24;
    uint16 internal constant _RESPONSE_MIN = 6;
    uint16 internal constant _RESPONSE_MAX = 72;

    /// @dev How grave a violation is, for the SLAManager.
    uint16 internal constant _SEVERITY_MISS = 0;
    uint16 internal constant _SEVERITY_FAULTY = 1;
    uint16 internal constant _SEVERITY_LOST = 2;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.StorageRegistry.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 internal constant _STORAGE = 0xb13561f1ddccb4eb070ac728a89e2dd33f131ade2c4327595936ce49dac63a00;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Base(p) TypedData(p.storages) {}

    /* INTERNAL: COMMITMENTS */

    function _enlist(uint32 nodeId) internal returns (address signer) {
        StorageRegistryStorage storage $ = _storage();
        if (INodeRegistry(NODES).isActive(nodeId)) signer = INodeRegistry(NODES).signerOf(nodeId);
        if ($.stores[nodeId].signer == signer) return signer;
        $.stores[nodeId].signer = signer;
        if (signer != address(0)) $.signers[nodeId][signer] = true;
        emit SignerNoted(nodeId, signer);
    }

    /// @dev Counts a new commitment of a node, which must have a key here, and returns the key.
    function _join(uint128 id) internal returns (address signer) {
        uint32 nodeId = _nodeOf(id);
        Store storage s = _storage().stores[nodeId];
        signer = s.signer;
        if (signer == address(0)) signer = _enlist(nodeId);
        if (signer == address(0)) revert NotEnlisted(nodeId);
        ++s.active;
    }

    /// @dev Keeps the terms of a new commitment and starts its rent.
    function _put(uint128 id, Terms memory t, bytes32 itemHash) internal {
        StorageRegistryStorage storage $ = _storage();
        if ($.terms[id] != 0) revert AlephErrors.Duplicate(bytes32(uint256(id)));
        $.terms[id] = keccak256(abi.encode(t));
        _emitCommitted(id, t, itemHash);
        if (t.rateQ32 != 0) {
            IPaymentManager(PAYMENTS).setFlow(t.payer, t.token, Payees.ofStorage(t.nodeId), int256(uint256(t.rateQ32)));
        }
    }

    function _emitCommitted(uint128 id, Terms memory t, bytes32 itemHash) internal {
        emit Committed(id, t.payer, itemHash, t.root, t.size, t.sinceDay, t.untilDay, t.k, t.token, t.rateQ32);
    }

    function _stopRent(History storage h, Terms calldata terms) internal {
        if (h.rentStopped) return;
        h.rentStopped = true;
        if (terms.rateQ32 == 0) return;
        IPaymentManager(PAYMENTS)
            .setFlow(terms.payer, terms.token, Payees.ofStorage(terms.nodeId), -int256(uint256(terms.rateQ32)));
    }

    /// @dev Overwrites the root that waits for tomorrow, or else the older one.
    function _setRoot(StorageRegistryStorage storage $, uint32 nodeId, bytes32 root, uint64 leaves, uint40 capacity)
        internal
    {
        if (root == 0) revert ZeroRoot();
        if (leaves == 0) revert AlephErrors.ZeroAmount();
        if (leaves > capacity) revert AboveCapacity(leaves, capacity);
        uint256 tomorrow = uint256(_today()) + 1;
        bytes32[2] storage roots = $.bundles[nodeId];
        uint256 first = _dayOf(roots[0]);
        uint256 second = _dayOf(roots[1]);
        uint256 which = second == tomorrow || (first != tomorrow && second < first) ? 1 : 0;
        roots[which] = bytes32(StorageProof.bind(root, leaves)) | bytes32(tomorrow);
        emit BundleUpdated(nodeId, root, leaves, uint24(tomorrow));
    }

    function _checkNodeSig(address signer, bytes32 structHash, bytes calldata sig) internal view {
        (address by,,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(structHash), sig);
        if (by != signer || by == address(0)) revert AlephErrors.BadSignature(0);
    }

    function _checkQuorum(bytes32 structHash, bytes calldata sigs) internal view returns (uint64 signers) {
        INodeRegistry.Quorum memory q = INodeRegistry(NODES).quorum(_hashTypedDataV4(structHash), sigs);
        if (uint256(q.weight) * 3 <= uint256(q.total) * 2) revert QuorumLow(q.weight, q.total);
        return q.signers;
    }

    function _idOf(uint32 nodeId, bytes32 structHash) internal pure returns (uint128) {
        // Never the bundle's id.
        return uint128(nodeId) << 96 | uint96(uint256(structHash)) | 1;
    }

    /// @dev Ends a commitment that is Active, the only place that does.
    function _end(StorageRegistryStorage storage $, uint128 id, Status to, uint24 endDay) internal {
        History storage h = $.histories[id];
        (h.status, h.endDay) = (to, endDay);
        --$.stores[_nodeOf(id)].active;
        emit StatusChanged(id, to, endDay);
    }

    function _isActive(Status status) internal pure returns (bool) {
        return status == Status.None || status == Status.Active;
    }

    /// @dev The status of a commitment that exists.
    function _checkActive(Status status) internal pure {
        if (!_isActive(status)) revert AlephErrors.BadState(uint8(status), uint8(Status.Active));
    }

    function _checkTerms(StorageRegistryStorage storage $, uint128 id, Terms calldata terms) internal view {
        if (_hash(terms) != $.terms[id]) revert WrongTerms(id);
    }

    /// @dev As abi.encode gives it, for terms without anything in the bits that do not count. Others have another hash, so
    /// they are the terms of nothing.
    function _hash(Terms calldata terms) internal pure returns (bytes32 h) {
        assembly ("memory-safe") {
            let m := mload(0x40)
            calldatacopy(m, terms, 0x120)
            h := keccak256(m, 0x120)
        }
    }

    /* INTERNAL: BUNDLES */

    function _checkBundle(bytes30 binding, uint64 total, bytes32 seed, uint128 id, bytes calldata proofs)
        internal
        view
    {
        // Nothing binds an empty bundle, and its leaves could not be chosen.
        if (total == 0) revert AlephErrors.ZeroAmount();
        StorageProof.checkBundle(proofs, binding, total, seed, id, _bundleChallenges(total));
    }

    function _bundleOn(StorageRegistryStorage storage $, uint32 nodeId, uint256 day) internal view returns (bytes30) {
        bytes32[2] storage roots = $.bundles[nodeId];
        (bytes32 first, bytes32 second) = (roots[0], roots[1]);
        if (_dayOf(first) > day) first = 0;
        if (_dayOf(second) > day) second = 0;
        return bytes30(_dayOf(first) > _dayOf(second) ? first : second);
    }

    function _dayOf(bytes32 root) internal pure returns (uint256) {
        return uint16(uint256(root));
    }

    function _bundleChallenges(uint64 total) internal pure returns (uint256) {
        return total <= _BUNDLE_STEP ? _BUNDLE_K : _BUNDLE_K * ((total + _BUNDLE_STEP - 1) / _BUNDLE_STEP);
    }

    /* INTERNAL: PARAMETERS */

    function _parameters()
        internal
        view
        returns (uint16 auditDenominator, uint16 stakePerTiB, uint16 bond, uint16 responseHours)
    {
        uint96 packed = _base().params;
        return (uint16(packed), uint16(packed >> 16), uint16(packed >> 32), uint16(packed >> 48));
    }

    /* INTERNAL */

    /// @inheritdoc TypedData
    function _domainName() internal pure override returns (string memory) {
        return "AlephStorage";
    }

    function _checkBounds(uint256 value, uint256 low, uint256 high) internal pure {
        if (value < low || value > high) revert AlephErrors.OutOfBounds(value, low, high);
    }

    function _today() internal view returns (uint24) {
        return uint24(block.timestamp / _DAY);
    }

    function _bundleId(uint32 nodeId) internal pure returns (uint128) {
        return uint128(nodeId) << 96;
    }

    function _nodeOf(uint128 id) internal pure returns (uint32) {
        return uint32(id >> 96);
    }

    function _storage() internal pure returns (StorageRegistryStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
