// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IDomainRegistry
/// @notice Custom domains: who proved last to control a name's DNS, where the name points, and which TLS key may serve it.
/// DNS is the source of truth; coordinators in several regions attest what they see there.
/// @dev A name's key is the keccak256 of its lower-case A-label form without a dot at the end. What an account asks for and
/// sets is kept under its token = keccak256(abi.encode(key, owner, nonce)), so that nobody's request is in another's way
/// and no owner inherits what another set.
interface IDomainRegistry {
    /// @notice Where a name is in its life. The numbers are part of the protocol. Grace is the time after the validity in
    /// which only its owner can prove it again, if DNS names nobody else.
    enum Status {
        None,
        Verified,
        Grace,
        Disputed,
        Lapsed,
        Released,
        Revoked
    }

    /// @notice What a name points to. The numbers are part of the protocol.
    enum TargetType {
        None,
        Instance,
        Site,
        Program,
        Ipfs
    }

    /// @notice How control was shown: a TXT record `_control.<name>` with the owner's address, or one with the token.
    /// The numbers are part of the protocol.
    enum Method {
        None,
        Address,
        Token
    }

    /// @notice A name as it is now. `verifiedAt` is when coordinators saw the owner in DNS, `validUntil` the end of what
    /// follows from that. `spkiHash` is the SHA-256 of the public key (SubjectPublicKeyInfo) of the certificate; zero when
    /// the edge may use any. `oldSpkiHash` is accepted, too, until `overlapUntil`.
    struct DomainView {
        address owner;
        Status status;
        uint32 nonce;
        uint40 verifiedAt;
        uint40 validUntil;
        bool wildcard;
        bytes32 token;
        TargetType targetType;
        bytes32 target;
        bytes32 spkiHash;
        uint40 certNotAfter;
        bytes32 oldSpkiHash;
        uint40 overlapUntil;
        bytes32 caaHash;
        address heir;
        address claimant;
        uint40 disputedAt;
    }

    /// @notice What an account asked for. `requestedAt` is 0 when it did not, or when the name has had another owner
    /// since.
    struct RequestView {
        uint40 requestedAt;
        bool wildcard;
        uint32 nonce;
        bytes32 token;
        TargetType targetType;
        bytes32 target;
    }

    /// @notice An account asks for a name. It is to put `token` or its address into DNS.
    event DomainRequested(
        bytes32 indexed key,
        address indexed owner,
        string fqdn,
        bytes32 token,
        uint32 nonce,
        TargetType targetType,
        bytes32 target
    );

    /// @notice Coordinators saw the owner in DNS at `seenAt`; that is good until `until`.
    event DomainVerified(
        bytes32 indexed key, address indexed owner, uint32 nonce, Method method, uint40 seenAt, uint40 until
    );

    /// @notice A name points here from now on.
    event DomainTargetSet(bytes32 indexed key, TargetType targetType, bytes32 target);

    /// @notice Only these keys may serve a name: `spkiHash` until `notAfter`, and `oldSpkiHash` until `overlapUntil`.
    event CertPinned(
        bytes32 indexed key, bytes32 indexed spkiHash, uint40 notAfter, bytes32 oldSpkiHash, uint40 overlapUntil
    );

    /// @notice A key may never serve a name again. `evidence` is zero when the owner says so, else the hash of what the
    /// coordinators saw.
    event CertRevoked(bytes32 indexed key, bytes32 indexed spkiHash, bytes32 evidence);

    /// @notice The name's CAA records must have this hash; zero: any.
    event CaaSet(bytes32 indexed key, bytes32 caaHash);

    /// @notice The owner gives a name to `heir`, who has to accept; zero: to nobody.
    event TransferOffered(bytes32 indexed key, address indexed heir);

    /// @notice A name has another owner. Its target stays when the old owner gave it, and is what the new owner asked for
    /// when DNS did.
    event DomainTransferred(bytes32 indexed key, address indexed from, address indexed to, uint32 nonce, bool given);

    /// @notice Coordinators saw another account in DNS at `seenAt`. It gets the name from `until` on, outages added,
    /// unless the owner is seen there after that.
    event DomainDisputed(bytes32 indexed key, address indexed claimant, uint40 seenAt, uint40 until);

    /// @notice A dispute ended; `owner` has the name.
    event DisputeSettled(bytes32 indexed key, address indexed owner);

    /// @notice A name has no owner any more: Lapsed, Released or Revoked. `evidence` is the hash of what the coordinators
    /// saw when they revoked it.
    event DomainEnded(bytes32 indexed key, address indexed owner, Status status, uint32 nonce, bytes32 evidence);

    /// @dev Nobody has this name now.
    error NotVerified(bytes32 key);

    /// @dev Somebody else has this name.
    error Taken(bytes32 key, address owner);

    /// @dev The account has not asked for this name, or the name has had another owner since.
    error NotRequested(bytes32 key, address owner);

    /// @dev What was seen at `seenAt` is too old or not newer than what is known; it must be after `after_`.
    error StaleAttestation(uint40 seenAt, uint40 after_);

    /// @dev The name is in dispute, and this has to wait.
    error DisputeOpen(bytes32 key);

    /// @dev The name is not in dispute.
    error NoDispute(bytes32 key);

    /// @dev A target needs a type, and a type a target.
    error BadTarget(TargetType targetType, bytes32 target);

    /// @dev This key was revoked for this name.
    error KeyRevoked(bytes32 spkiHash);

    /// @dev There is no certificate to be replaced.
    error NoCert(bytes32 key);

    /// @notice Asks for a name. Costs nothing but gas: a request takes nothing from anybody, for it counts for its account
    /// only, until DNS says so. Again: changes the target.
    /// @param fqdn The name in the form that has a key, see {keyOf}.
    /// @param targetType What the name is to point to.
    /// @param target Item hash, or SHA-256 of the CID; zero with TargetType.None.
    /// @return key The key of the name.
    /// @return token What the caller is to put into DNS.
    function request(string calldata fqdn, TargetType targetType, bytes32 target)
        external
        returns (bytes32 key, bytes32 token);

    /// @notice Gives a free name to who asked for it, or prolongs its owner's time, when DNS says so. Also ends a dispute
    /// for the owner. Anyone may relay.
    /// @param seenAt When the coordinators looked: in the last 24 hours, and after what is known.
    /// @param sigs Of at least 5 coordinators (8 for a wildcard; all, when there are fewer) from at least 3 regions (all,
    /// when there are fewer) with more than half of the weight, EIP-712
    /// `DnsAttestation(bytes32 key,address owner,uint32 nonce,uint8 method,uint40 seenAt)`; see INodeRegistry.quorum for
    /// the form.
    function verify(bytes32 key, address owner, Method method, uint40 seenAt, bytes calldata sigs) external;

    /// @notice Tells that DNS names somebody who asked for a name that another has. Anyone may relay.
    /// @param sigs As for {verify}, with the claimant as owner and the nonce of its request.
    function dispute(bytes32 key, address claimant, Method method, uint40 seenAt, bytes calldata sigs) external;

    /// @notice Gives a name to the claimant after 72 hours and the outages in them. Anyone may call.
    function settleDispute(bytes32 key) external;

    /// @notice Sets where a name points. Only its owner.
    function setTarget(bytes32 key, TargetType targetType, bytes32 target) external;

    /// @notice Sets the only key that may serve a name, at once. Only its owner.
    /// @param spkiHash SHA-256 of the SubjectPublicKeyInfo; zero: any key may.
    /// @param notAfter The end of the certificate, at most two years ahead; 0 with no key.
    function setCert(bytes32 key, bytes32 spkiHash, uint40 notAfter) external;

    /// @notice Replaces the key that may serve a name; the old one may, too, for a time. Only its owner.
    /// @param overlapUntil The end of that time, at most 30 days ahead; the old certificate's end if that is sooner.
    function rotateCert(bytes32 key, bytes32 spkiHash, uint40 notAfter, uint40 overlapUntil) external;

    /// @notice Bars a key from serving a name, for good. Only its owner.
    function revokeCert(bytes32 key, bytes32 spkiHash) external;

    /// @notice Sets the hash that the name's CAA records must have, zero for any: the keccak256 of the records, each as
    /// `<flags> <tag> "<value>"`, in ascending order, joined by line feeds. Only its owner.
    function setCaa(bytes32 key, bytes32 caaHash) external;

    /// @notice Offers a name to another account, which has to accept; zero takes the offer back. Only its owner.
    function transfer(bytes32 key, address heir) external;

    /// @notice Accepts a name that was offered to the caller. The target stays, the keys do not. DNS must name the new
    /// owner before the validity ends.
    function accept(bytes32 key) external;

    /// @notice Gives a name up. Only its owner.
    function release(bytes32 key) external;

    /// @notice Takes a name from an owner that was not seen in DNS for 104 days. Anyone may call.
    function lapse(bytes32 key) external;

    /// @notice Takes a key or a name away for misuse that the coordinators saw. Anyone may relay.
    /// @param spkiHash The key; zero: the whole name.
    /// @param evidence The hash of what they saw.
    /// @param sigs As for {verify}, EIP-712 `Revocation(bytes32 key,uint32 nonce,bytes32 spkiHash,bytes32 evidence)` with
    /// the name's nonce.
    function revoke(bytes32 key, bytes32 spkiHash, bytes32 evidence, bytes calldata sigs) external;

    /// @notice A name as it is now.
    function domain(bytes32 key) external view returns (DomainView memory);

    /// @notice What an account asked for, with the nonce that an attestation for it must have now.
    function requestOf(bytes32 key, address owner) external view returns (RequestView memory);

    /// @notice Where a name points now; zeros when nobody has it.
    function resolve(bytes32 key) external view returns (address owner, TargetType targetType, bytes32 target);

    /// @notice Whether a certificate with this key may serve a name now.
    function accepts(bytes32 key, bytes32 spkiHash) external view returns (bool);

    /// @notice Whether a key was revoked for a name.
    function isRevoked(bytes32 key, bytes32 spkiHash) external view returns (bool);

    /// @notice From when on a dispute can be settled, with the outages until now; 0 when there is none.
    function disputeEnds(bytes32 key) external view returns (uint40);

    /// @notice The key of a name. Reverts when the name is not in the form that has one: 1 to 63 of [a-z0-9_-] in a
    /// label, no hyphen at its start or end, "--" as third and fourth of a label only behind "xn", at most 253 in all, at
    /// least two labels, a letter first in the last label. A wildcard has "*." before such a name and no underscore.
    function keyOf(string calldata fqdn) external pure returns (bytes32);

    /// @notice What an account is to put into DNS.
    function tokenOf(bytes32 key, address owner, uint32 nonce) external pure returns (bytes32);

    /// @notice The EIP-712 digest that coordinators sign for {verify} and {dispute}.
    function attestationDigest(bytes32 key, address owner, uint32 nonce, Method method, uint40 seenAt)
        external
        view
        returns (bytes32);

    /// @notice The EIP-712 digest that coordinators sign for {revoke}.
    function revocationDigest(bytes32 key, uint32 nonce, bytes32 spkiHash, bytes32 evidence)
        external
        view
        returns (bytes32);
}
