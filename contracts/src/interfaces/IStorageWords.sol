// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IStorageWords
/// @notice The words of the StorageRegistry: what it keeps, tells and refuses.
interface IStorageWords {
    /* TYPES */

    /// @notice Where a commitment is in its life. Faulty: too many days were missed, or a challenge was lost. Closed: it
    /// was released. Repaired: another node has taken it over.
    enum Status {
        None,
        Active,
        Faulty,
        Closed,
        Repaired
    }

    /// @notice What is challenged: an object with terms, a bundle, an object of a bundle by its receipt, or only that the
    /// object is in the bundle.
    enum ChallengeKind {
        None,
        Object,
        Bundle,
        Receipt,
        Inclusion
    }

    /// @notice Where a challenge is. Open: its randomness is not there yet. Void: nobody brought the randomness.
    enum ChallengeState {
        None,
        Open,
        Armed,
        Answered,
        Lost,
        Void
    }

    /// @notice What a payer asks a node to store, and the node agrees to by its signature.
    /// @param size The bytes of the object.
    /// @param itemHash The hash by which the object is known.
    /// @param untilDay The first day that need not be proven.
    /// @param k How many leaves are asked for each day, 1 to 20.
    /// @param token The number of the token that rent is paid in; any when the rate is 0.
    /// @param rateQ32 The rent in wei per second times 2^32; 0 for none.
    /// @param deadline The node's signature counts until then.
    struct Request {
        uint32 nodeId;
        bytes32 root;
        uint64 size;
        bytes32 itemHash;
        uint24 untilDay;
        uint8 k;
        uint8 token;
        uint96 rateQ32;
        uint40 deadline;
    }

    /// @notice The terms of an object's commitment: it must be proven for the days sinceDay to untilDay-1.
    struct Terms {
        uint32 nodeId;
        bytes32 root;
        uint64 size;
        uint24 sinceDay;
        uint24 untilDay;
        uint8 k;
        address payer;
        uint8 token;
        uint96 rateQ32;
    }

    /// @notice What a node signs for a client whose object is in its bundle, without a transaction.
    /// @param root The object's root.
    /// @param leaves The object's leaves.
    /// @param sinceDay The first day on which the object is in the bundle.
    /// @param untilDay The first day on which it need not be.
    /// @param holder Whose object it is.
    struct StorageReceipt {
        uint32 nodeId;
        bytes32 root;
        uint64 leaves;
        uint24 sinceDay;
        uint24 untilDay;
        address holder;
    }

    /// @notice A part of a day's attested bitmap. Anything does when nothing is attested or the node is in the audit sample.
    /// @param part The 256 bytes that have the node's bit.
    /// @param path The siblings of the part, from the bottom.
    struct BitmapPart {
        bytes32[8] part;
        bytes32[] path;
    }

    /// @notice A commitment as it is now. Bit i of `proven` and of `missed` is the day `newestDay` - i.
    /// @param termsHash For an object: the hash of its terms.
    /// @param sinceDay For a bundle: the first day to be proven.
    /// @param endDay When set: the first day that need not be proven, whatever the terms say.
    struct CommitmentView {
        Status status;
        bytes32 termsHash;
        uint24 newestDay;
        uint32 proven;
        uint32 missed;
        uint24 sinceDay;
        uint24 endDay;
    }

    /// @notice A node as this contract knows it. A bundle has at most `capacity` leaves; 0: it has no bundle.
    struct StoreView {
        address signer;
        uint32 active;
        uint40 capacity;
    }

    /// @notice A challenge as it is now.
    struct ChallengeView {
        uint128 id;
        address challenger;
        ChallengeKind kind;
        ChallengeState state;
        uint64 round;
        uint96 bond;
        uint40 openedAt;
        uint40 deadline;
        bytes32 seed;
    }

    /* EVENTS */

    /// @notice This contract takes `signer` for the node's key from now on; zero: the node commits nothing.
    event SignerNoted(uint32 indexed nodeId, address signer);

    /// @notice A node has promised to store an object. These are its terms.
    event Committed(
        uint128 indexed id,
        address indexed payer,
        bytes32 indexed itemHash,
        bytes32 root,
        uint64 size,
        uint24 sinceDay,
        uint24 untilDay,
        uint8 k,
        uint8 token,
        uint96 rateQ32
    );

    /// @notice An object must be stored until another day.
    event Extended(uint128 indexed id, uint24 untilDay);

    /// @notice A commitment is in another status. An object must be proven for days before `endDay` only, when it is set.
    event StatusChanged(uint128 indexed id, Status status, uint24 endDay);

    /// @notice A node's bundle has this root from `effectiveDay` on.
    event BundleUpdated(uint32 indexed nodeId, bytes32 root, uint64 leaves, uint24 effectiveDay);

    /// @notice A node's bundle may have this many leaves.
    event CapacitySet(uint32 indexed nodeId, uint40 capacity);

    /// @notice A node's bundle ends: `endDay` is the first day that need not be proven.
    event BundleClosing(uint32 indexed nodeId, uint24 endDay);

    /// @notice The randomness of a day.
    event BeaconPublished(uint24 indexed day, uint64 round, bytes32 seed);

    /// @notice A commitment was proven for a day.
    event Proven(uint128 indexed id, uint24 indexed day);

    /// @notice A proof in a batch was refused; `reason` is the selector of the error.
    event ProofRefused(uint128 indexed id, uint24 indexed day, bytes4 reason);

    /// @notice More than two thirds of the coordinators' stake have seen proofs, of the nodes in the bitmap. Bit i of the
    /// 32-byte word w is the node 256*w + i.
    event DayAttested(uint24 indexed day, bytes32 bitmapRoot, bytes bitmap, uint64 signers);

    /// @notice A commitment was not proven for a day; it is `count` of the seven days around it that lack a proof most.
    /// @param paid What of the day's rent went back to the payer.
    event Missed(uint128 indexed id, uint24 indexed day, uint256 count, uint128 paid, address reporter);

    /// @notice A node was challenged. For a receipt `tenant` is its holder.
    event Challenged(
        bytes32 indexed challengeId,
        uint128 indexed id,
        ChallengeKind kind,
        address challenger,
        address tenant,
        bytes32 target,
        uint96 bond,
        uint40 deadline
    );

    /// @notice The randomness of a challenge is there: the node has until `deadline`, and while the sequencer is down.
    event ChallengeArmed(bytes32 indexed challengeId, uint64 round, bytes32 seed, uint40 deadline);

    /// @notice A challenge was answered; the bond went to `to`.
    event ChallengeAnswered(bytes32 indexed challengeId, address to);

    /// @notice A challenge ended without an answer: Lost, or Void. The bond went back.
    event ChallengeExpired(bytes32 indexed challengeId, ChallengeState state);

    /// @notice Another node has taken over an object.
    event RepairedBy(uint128 indexed id, uint128 indexed newId, uint64 signers);

    /// @notice The parameters from now on.
    event ParametersSet(uint16 auditDenominator, uint16 stakePerTiB, uint16 bond, uint16 responseHours);

    /* ERRORS */

    /// @dev The root is zero.
    error ZeroRoot();

    /// @dev These are not the terms of the commitment.
    error WrongTerms(uint128 id);

    /// @dev The node has no signer here.
    error NotEnlisted(uint32 nodeId);

    /// @dev The node has no bundle.
    error NoBundle(uint32 nodeId);

    /// @dev The bundle would have more leaves than the node may have.
    error AboveCapacity(uint64 leaves, uint40 capacity);

    /// @dev The owner's stake is too small for so many leaves.
    error StakeTooLow(uint256 have, uint256 need);

    /// @dev There is no randomness for that day.
    error BeaconMissing(uint24 day);

    /// @dev The day need not be proven.
    error NotDue(uint128 id, uint24 day);

    /// @dev The day is proven.
    error AlreadyProven(uint128 id, uint24 day);

    /// @dev The day was reported as missed.
    error AlreadyMissed(uint128 id, uint24 day);

    /// @dev The day is too long ago, or not over.
    error DayClosed(uint24 day);

    /// @dev The coordinators have attested the node's proof for that day.
    error Attested(uint32 nodeId, uint24 day);

    /// @dev The part with its path is not of the day's bitmap.
    error WrongBitmap(uint24 day);

    /// @dev Too little of the coordinators' stake has signed.
    error QuorumLow(uint256 weight, uint256 total);

    /// @dev The challenge is of another kind.
    error WrongKind(ChallengeKind have, ChallengeKind want);

    /// @dev This is not what was challenged.
    error WrongTarget(bytes32 challengeId);
}
