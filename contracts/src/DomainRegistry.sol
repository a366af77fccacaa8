// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Peers} from "./Peers.sol";
import {TypedData} from "./TypedData.sol";
import {IDomainRegistry} from "./interfaces/IDomainRegistry.sol";
import {ISLAManager} from "./interfaces/ISLAManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Fqdn} from "./libraries/Fqdn.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {Perspectives} from "./libraries/Perspectives.sol";
import {TypeHashes} from "./libraries/TypeHashes.sol";

/// @title DomainRegistry
/// @notice See {IDomainRegistry}. It holds no money.
contract DomainRegistry is IDomainRegistry, Base, TypedData {
    /* TYPES */

    /// @dev One slot. `nonce` counts the ends of ownerships; `verifiedAt` never goes back, whoever the owner is. `status`
    /// is never Grace: that is Verified after a time. `traits` are the bits _WILDCARD and _REVOCATIONS, which stay.
    struct Domain {
        address owner;
        uint40 verifiedAt;
        uint32 nonce;
        Status status;
        TargetType targetType;
        uint8 traits;
    }

    /// @dev What one account asked for and set, under its token. The first slot is all but hashes. `askedType` is the type
    /// of the target until the account has the name. Certificates: `spkiHash` until `certNotAfter`, `oldSpkiHash` until
    /// `overlapUntil`.
    struct Tenure {
        uint40 requestedAt;
        TargetType askedType;
        bool wildcard;
        uint40 certNotAfter;
        uint40 overlapUntil;
        bytes32 target;
        bytes32 spkiHash;
        bytes32 oldSpkiHash;
        bytes32 caaHash;
    }

    struct Claim {
        address claimant;
        uint40 seenAt;
        uint40 openedAt;
    }

    /// @custom:storage-location erc7201:aleph.storage.DomainRegistry.v1
    struct DomainRegistryStorage {
        mapping(bytes32 key => Domain) domains;
        mapping(bytes32 token => Tenure) tenures;
        mapping(bytes32 key => Claim) claims;
        mapping(bytes32 key => address) heirs;
        mapping(bytes32 key => mapping(bytes32 spkiHash => bool)) revoked;
    }

    /* CONSTANTS */

    /// @dev How long an owner is trusted after it was seen in DNS, and how long it can come back after that.
    uint40 private constant _VALIDITY = 90 days;
    uint40 private constant _GRACE = 14 days;

    /// @dev How old an attestation may be: coordinators sign soon after they look.
    uint40 private constant _FRESH = 24 hours;

    /// @dev The time an owner has to correct its DNS when that names another.
    uint40 private constant _DISPUTE = 72 hours;

    /// @dev Longer than any certificate of a public authority.
    uint40 private constant _MAX_CERT = 730 days;
    uint40 private constant _MAX_OVERLAP = 30 days;

    /// @dev Coordinators that must see the same: a wildcard speaks for many names.
    uint256 private constant _SIGNERS = 5;
    uint256 private constant _SIGNERS_WILDCARD = 8;
    uint256 private constant _REGIONS = 3;

    /// @dev The name begins with "*.".
    uint8 private constant _WILDCARD = 1;

    /// @dev Keys were revoked for this name: there is something to look for.
    uint8 private constant _REVOCATIONS = 2;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.DomainRegistry.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0x8f3d94fe82a6345ee374bce07b7797251f7e133d57e0a32cb7414e36278a8d00;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Base(p) TypedData(p.domains) {}

    /// @notice Sets up a new proxy.
    function initialize() external initializer {
        _initBase();
    }

    /* PROOF OF CONTROL */

    /// @inheritdoc IDomainRegistry
    function request(string calldata fqdn, TargetType targetType, bytes32 target)
        external
        unpaused(Pausing.ENTRY)
        returns (bytes32 key, bytes32 token)
    {
        bool wildcard;
        (key, wildcard) = Fqdn.keyOf(fqdn);
        _checkTarget(targetType, target);
        Domain memory d = _storage().domains[key];
        if (d.owner == msg.sender) revert AlephErrors.Duplicate(key);
        uint32 nonce = _nonceFor(d, msg.sender);
        token = tokenOf(key, msg.sender, nonce);
        Tenure storage t = _storage().tenures[token];
        (t.requestedAt, t.askedType, t.wildcard) = (uint40(block.timestamp), targetType, wildcard);
        if (t.target != target) t.target = target;
        emit DomainRequested(key, msg.sender, fqdn, token, nonce, targetType, target);
    }

    /// @inheritdoc IDomainRegistry
    function verify(bytes32 key, address owner, Method method, uint40 seenAt, bytes calldata sigs) external {
        Domain memory d = _storage().domains[key];
        if (d.owner != owner) {
            if (_isOverdue(d)) _end(key, d, Status.Lapsed, 0);
            if (d.owner != address(0)) revert Taken(key, d.owner);
            _checkUnpaused(Pausing.ENTRY);
        }
        if (d.owner == address(0)) {
            bool wildcard;
            (d.targetType, wildcard) = _asked(key, owner, d.nonce);
            if (wildcard) d.traits |= _WILDCARD;
        }
        _checkAttested(key, d, owner, method, seenAt, sigs);
        if (d.status == Status.Disputed) {
            uint40 claimed = _storage().claims[key].seenAt;
            if (seenAt <= claimed) revert StaleAttestation(seenAt, claimed);
            delete _storage().claims[key];
            emit DisputeSettled(key, owner);
        }
        (d.owner, d.verifiedAt, d.status) = (owner, seenAt, Status.Verified);
        _storage().domains[key] = d;
        emit DomainVerified(key, owner, d.nonce, method, seenAt, seenAt + _VALIDITY);
    }

    /// @inheritdoc IDomainRegistry
    function dispute(bytes32 key, address claimant, Method method, uint40 seenAt, bytes calldata sigs)
        external
        unpaused(Pausing.PENALTY)
    {
        Domain memory d = _storage().domains[key];
        if (d.owner == address(0)) revert NotVerified(key);
        if (claimant == d.owner) revert Taken(key, claimant);
        Claim storage claim = _storage().claims[key];
        // DNS has the last word, but nobody prolongs a dispute by repeating it.
        if (claim.claimant == claimant) revert DisputeOpen(key);
        if (claim.claimant != address(0) && seenAt <= claim.seenAt) revert StaleAttestation(seenAt, claim.seenAt);
        _asked(key, claimant, d.nonce + 1);
        _checkAttested(key, d, claimant, method, seenAt, sigs);
        (claim.claimant, claim.seenAt, claim.openedAt) = (claimant, seenAt, uint40(block.timestamp));
        _storage().domains[key].status = Status.Disputed;
        emit DomainDisputed(key, claimant, seenAt, uint40(block.timestamp) + _DISPUTE);
    }

    /// @inheritdoc IDomainRegistry
    function settleDispute(bytes32 key) external unpaused(Pausing.PENALTY) {
        Domain memory d = _storage().domains[key];
        if (d.status != Status.Disputed) revert NoDispute(key);
        uint40 ends = disputeEnds(key);
        if (block.timestamp < ends) revert AlephErrors.TooSoon(ends);
        Claim memory claim = _storage().claims[key];
        delete _storage().claims[key];
        (d.verifiedAt, d.status) = (claim.seenAt, Status.Verified);
        (d.targetType,) = _asked(key, claim.claimant, d.nonce + 1);
        _move(key, d, claim.claimant, false);
        emit DisputeSettled(key, claim.claimant);
    }

    /// @inheritdoc IDomainRegistry
    function lapse(bytes32 key) external {
        Domain memory d = _storage().domains[key];
        if (d.owner == address(0)) revert NotVerified(key);
        if (d.status == Status.Disputed) revert DisputeOpen(key);
        if (!_isOverdue(d)) revert AlephErrors.TooSoon(d.verifiedAt + _VALIDITY + _GRACE + 1);
        _end(key, d, Status.Lapsed, 0);
    }

    /// @inheritdoc IDomainRegistry
    function revoke(bytes32 key, bytes32 spkiHash, bytes32 evidence, bytes calldata sigs)
        external
        unpaused(Pausing.PENALTY)
    {
        Domain memory d = _storage().domains[key];
        if (d.owner == address(0)) revert NotVerified(key);
        if (evidence == 0) revert AlephErrors.ZeroHash();
        Perspectives.check(NODES, revocationDigest(key, d.nonce, spkiHash, evidence), sigs, _SIGNERS, _REGIONS);
        if (spkiHash == 0) _end(key, d, Status.Revoked, evidence);
        else _revokeCert(key, d, spkiHash, evidence);
    }

    /* WHAT THE OWNER SETS */

    /// @inheritdoc IDomainRegistry
    function setTarget(bytes32 key, TargetType targetType, bytes32 target) external {
        Domain memory d = _owned(key);
        _checkTarget(targetType, target);
        if (d.targetType != targetType) _storage().domains[key].targetType = targetType;
        _tenure(key, d.owner, d.nonce).target = target;
        emit DomainTargetSet(key, targetType, target);
    }

    /// @inheritdoc IDomainRegistry
    function setCert(bytes32 key, bytes32 spkiHash, uint40 notAfter) external {
        Domain memory d = _owned(key);
        if (spkiHash != 0) _checkCert(key, d, spkiHash, notAfter);
        else if (notAfter != 0) revert AlephErrors.OutOfBounds(notAfter, 0, 0);
        Tenure storage t = _tenure(key, d.owner, d.nonce);
        if (t.overlapUntil != 0) t.oldSpkiHash = 0;
        (t.certNotAfter, t.overlapUntil) = (notAfter, 0);
        t.spkiHash = spkiHash;
        emit CertPinned(key, spkiHash, notAfter, 0, 0);
    }

    /// @inheritdoc IDomainRegistry
    function rotateCert(bytes32 key, bytes32 spkiHash, uint40 notAfter, uint40 overlapUntil) external {
        Domain memory d = _owned(key);
        _checkCert(key, d, spkiHash, notAfter);
        Tenure storage t = _tenure(key, d.owner, d.nonce);
        (bytes32 old, uint40 oldNotAfter) = (t.spkiHash, t.certNotAfter);
        if (old == 0) revert NoCert(key);
        if (old == spkiHash) revert AlephErrors.Duplicate(spkiHash);
        uint40 most = uint40(block.timestamp) + _MAX_OVERLAP;
        if (overlapUntil <= block.timestamp || overlapUntil > most) {
            revert AlephErrors.OutOfBounds(overlapUntil, block.timestamp + 1, most);
        }
        if (overlapUntil > oldNotAfter) overlapUntil = oldNotAfter;
        (t.certNotAfter, t.overlapUntil) = (notAfter, overlapUntil);
        (t.spkiHash, t.oldSpkiHash) = (spkiHash, old);
        emit CertPinned(key, spkiHash, notAfter, old, overlapUntil);
    }

    /// @inheritdoc IDomainRegistry
    function revokeCert(bytes32 key, bytes32 spkiHash) external {
        Domain memory d = _owned(key);
        if (spkiHash == 0) revert AlephErrors.ZeroHash();
        _revokeCert(key, d, spkiHash, 0);
    }

    /// @inheritdoc IDomainRegistry
    function setCaa(bytes32 key, bytes32 caaHash) external {
        Domain memory d = _owned(key);
        _tenure(key, d.owner, d.nonce).caaHash = caaHash;
        emit CaaSet(key, caaHash);
    }

    /* OWNERSHIP */

    /// @inheritdoc IDomainRegistry
    function transfer(bytes32 key, address heir) external {
        _owned(key);
        if (heir == msg.sender) revert Taken(key, heir);
        _storage().heirs[key] = heir;
        emit TransferOffered(key, heir);
    }

    /// @inheritdoc IDomainRegistry
    function accept(bytes32 key) external {
        if (_storage().heirs[key] != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
        Domain memory d = _storage().domains[key];
        if (_isOverdue(d)) revert NotVerified(key);
        if (d.status == Status.Disputed) revert DisputeOpen(key);
        // The keys are the old owner's and do not follow.
        _tenure(key, msg.sender, d.nonce + 1).target = _tenure(key, d.owner, d.nonce).target;
        _move(key, d, msg.sender, true);
    }

    /// @inheritdoc IDomainRegistry
    function release(bytes32 key) external {
        Domain memory d = _storage().domains[key];
        if (d.owner != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
        if (d.status == Status.Disputed) revert DisputeOpen(key);
        _end(key, d, Status.Released, 0);
    }

    /* VIEWS */

    /// @inheritdoc IDomainRegistry
    function domain(bytes32 key) external view returns (DomainView memory v) {
        DomainRegistryStorage storage $ = _storage();
        Domain memory d = $.domains[key];
        (v.owner, v.status, v.nonce, v.verifiedAt) = (d.owner, d.status, d.nonce, d.verifiedAt);
        if (d.owner == address(0)) return v;
        v.validUntil = d.verifiedAt + _VALIDITY;
        if (d.status == Status.Verified && block.timestamp > v.validUntil) v.status = Status.Grace;
        v.token = tokenOf(key, d.owner, d.nonce);
        Tenure storage t = $.tenures[v.token];
        (v.wildcard, v.targetType, v.target) = (d.traits & _WILDCARD != 0, d.targetType, t.target);
        (v.spkiHash, v.certNotAfter, v.oldSpkiHash) = (t.spkiHash, t.certNotAfter, t.oldSpkiHash);
        (v.overlapUntil, v.caaHash, v.heir) = (t.overlapUntil, t.caaHash, $.heirs[key]);
        (v.claimant, v.disputedAt) = ($.claims[key].claimant, $.claims[key].openedAt);
    }

    /// @inheritdoc IDomainRegistry
    function requestOf(bytes32 key, address owner) external view returns (RequestView memory v) {
        Domain memory d = _storage().domains[key];
        v.nonce = _nonceFor(d, owner);
        v.token = tokenOf(key, owner, v.nonce);
        Tenure storage t = _storage().tenures[v.token];
        (v.requestedAt, v.wildcard, v.target) = (t.requestedAt, t.wildcard, t.target);
        v.targetType = owner == d.owner ? d.targetType : t.askedType;
    }

    /// @inheritdoc IDomainRegistry
    function resolve(bytes32 key) external view returns (address, TargetType, bytes32) {
        Domain memory d = _storage().domains[key];
        if (_isOverdue(d)) return (address(0), TargetType.None, 0);
        return (d.owner, d.targetType, _tenure(key, d.owner, d.nonce).target);
    }

    /// @inheritdoc IDomainRegistry
    function accepts(bytes32 key, bytes32 spkiHash) external view returns (bool) {
        Domain memory d = _storage().domains[key];
        if (spkiHash == 0 || d.owner == address(0) || _isOverdue(d) || _isRevoked(key, d, spkiHash)) return false;
        Tenure storage t = _tenure(key, d.owner, d.nonce);
        // No key, or one whose time is over: the edge may use any.
        if (t.spkiHash == 0 || block.timestamp > t.certNotAfter) return true;
        if (spkiHash == t.spkiHash) return true;
        return spkiHash == t.oldSpkiHash && block.timestamp <= t.overlapUntil;
    }

    /// @inheritdoc IDomainRegistry
    function isRevoked(bytes32 key, bytes32 spkiHash) external view returns (bool) {
        return _storage().revoked[key][spkiHash];
    }

    /// @inheritdoc IDomainRegistry
    function disputeEnds(bytes32 key) public view returns (uint40) {
        uint40 openedAt = _storage().claims[key].openedAt;
        if (openedAt == 0) return 0;
        return openedAt + _DISPUTE + ISLAManager(SLA).outage(openedAt, uint40(block.timestamp));
    }

    /// @inheritdoc IDomainRegistry
    function keyOf(string calldata fqdn) external pure returns (bytes32 key) {
        (key,) = Fqdn.keyOf(fqdn);
    }

    /// @inheritdoc IDomainRegistry
    function tokenOf(bytes32 key, address owner, uint32 nonce) public pure returns (bytes32) {
        return keccak256(abi.encode(key, owner, nonce));
    }

    /// @inheritdoc IDomainRegistry
    function attestationDigest(bytes32 key, address owner, uint32 nonce, Method method, uint40 seenAt)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(keccak256(abi.encode(TypeHashes.DNS_ATTESTATION, key, owner, nonce, method, seenAt)));
    }

    /// @inheritdoc IDomainRegistry
    function revocationDigest(bytes32 key, uint32 nonce, bytes32 spkiHash, bytes32 evidence)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(keccak256(abi.encode(TypeHashes.REVOCATION, key, nonce, spkiHash, evidence)));
    }

    /* INTERNAL */

    /// @dev Enough coordinators saw `owner` in DNS a short time ago, and after everything that is known.
    function _checkAttested(
        bytes32 key,
        Domain memory d,
        address owner,
        Method method,
        uint40 seenAt,
        bytes calldata sigs
    ) private view {
        bool wildcard = d.traits & _WILDCARD != 0;
        // The address alone may be there for another purpose; that is too little for a wildcard.
        Method least = wildcard ? Method.Token : Method.Address;
        if (method < least) revert AlephErrors.OutOfBounds(uint8(method), uint8(least), uint8(Method.Token));
        if (seenAt > block.timestamp) revert AlephErrors.TooSoon(seenAt);
        if (seenAt <= d.verifiedAt) revert StaleAttestation(seenAt, d.verifiedAt);
        uint40 oldest = uint40(block.timestamp) - _FRESH;
        if (seenAt < oldest) revert StaleAttestation(seenAt, oldest - 1);
        bytes32 digest = attestationDigest(key, owner, _nonceFor(d, owner), method, seenAt);
        Perspectives.check(NODES, digest, sigs, wildcard ? _SIGNERS_WILDCARD : _SIGNERS, _REGIONS);
    }

    /// @dev Ends an ownership. The nonce moves on, and with it everything the owner had set or was signed for it is gone.
    function _end(bytes32 key, Domain memory d, Status status, bytes32 evidence) private {
        emit DomainEnded(key, d.owner, status, d.nonce + 1, evidence);
        if (d.status == Status.Disputed) delete _storage().claims[key];
        (d.owner, d.status, d.nonce, d.targetType) = (address(0), status, d.nonce + 1, TargetType.None);
        _storage().domains[key] = d;
        delete _storage().heirs[key];
    }

    /// @dev Gives a name to another owner, under the next nonce.
    function _move(bytes32 key, Domain memory d, address to, bool given) private {
        emit DomainTransferred(key, d.owner, to, d.nonce + 1, given);
        (d.owner, d.nonce) = (to, d.nonce + 1);
        _storage().domains[key] = d;
        delete _storage().heirs[key];
    }

    /// @dev The key stays pinned, if it is: until the owner sets another, nobody may serve the name.
    function _revokeCert(bytes32 key, Domain memory d, bytes32 spkiHash, bytes32 evidence) private {
        if (_isRevoked(key, d, spkiHash)) revert KeyRevoked(spkiHash);
        _storage().revoked[key][spkiHash] = true;
        _storage().domains[key].traits = d.traits | _REVOCATIONS;
        Tenure storage t = _tenure(key, d.owner, d.nonce);
        if (t.oldSpkiHash == spkiHash) (t.oldSpkiHash, t.overlapUntil) = (0, 0);
        emit CertRevoked(key, spkiHash, evidence);
    }

    /// @dev The nonce under which an account can have a name: the owner's own, or the next one when somebody else has it.
    function _nonceFor(Domain memory d, address owner) private pure returns (uint32) {
        return d.owner == address(0) || d.owner == owner ? d.nonce : d.nonce + 1;
    }

    function _tenure(bytes32 key, address owner, uint32 nonce) private view returns (Tenure storage) {
        return _storage().tenures[tokenOf(key, owner, nonce)];
    }

    /// @dev What an account asked for under a nonce.
    function _asked(bytes32 key, address owner, uint32 nonce) private view returns (TargetType, bool wildcard) {
        Tenure storage t = _tenure(key, owner, nonce);
        if (t.requestedAt == 0) revert NotRequested(key, owner);
        return (t.askedType, t.wildcard);
    }

    /// @dev The name, when it is the caller's.
    function _owned(bytes32 key) private view returns (Domain memory d) {
        d = _storage().domains[key];
        if (d.owner != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
        if (_isOverdue(d)) revert NotVerified(key);
    }

    function _isRevoked(bytes32 key, Domain memory d, bytes32 spkiHash) private view returns (bool) {
        return d.traits & _REVOCATIONS != 0 && _storage().revoked[key][spkiHash];
    }

    /// @dev Whether the owner's time and grace are over. In a dispute they are not: that ends with an owner seen in DNS.
    function _isOverdue(Domain memory d) private view returns (bool) {
        return d.status == Status.Verified && block.timestamp > d.verifiedAt + _VALIDITY + _GRACE;
    }

    function _checkCert(bytes32 key, Domain memory d, bytes32 spkiHash, uint40 notAfter) private view {
        if (spkiHash == 0) revert AlephErrors.ZeroHash();
        uint40 most = uint40(block.timestamp) + _MAX_CERT;
        if (notAfter <= block.timestamp || notAfter > most) {
            revert AlephErrors.OutOfBounds(notAfter, block.timestamp + 1, most);
        }
        if (_isRevoked(key, d, spkiHash)) revert KeyRevoked(spkiHash);
    }

    function _checkTarget(TargetType targetType, bytes32 target) private pure {
        if ((targetType == TargetType.None) != (target == 0)) revert BadTarget(targetType, target);
    }

    function _domainName() internal pure override returns (string memory) {
        return "AlephDomains";
    }

    function _storage() private pure returns (DomainRegistryStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
