// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IJobManager
/// @notice The life of a job. The id of a job, its `spec`, is the item hash of its INSTANCE message.
interface IJobManager {
    /// @notice Where a job is in its life. The numbers are part of the protocol; this release moves a job only
    /// None -> Assigned -> Running and from there to Stopped, Failed or Expired, which are final.
    enum Status {
        None,
        Offered,
        Assigned,
        Running,
        Stopping,
        Stopped,
        Completed,
        Failed,
        Expired,
        Reassign
    }

    /// @notice Why an item of a batch was left as it was.
    enum Refusal {
        None,
        WrongStatus,
        NotSigner,
        StartTooLate,
        NotOverdue,
        NotExpired
    }

    /// @notice What the payer signs: run the message `spec` for at most `maxRateQ32`.
    struct JobOffer {
        bytes32 spec;
        address payer;
        uint8 token;
        uint128 maxRateQ32;
        uint32 nodeHint;
        uint40 maxUntil;
        uint40 deadline;
        uint256 nonce;
    }

    /// @notice What the node (as `Accept`) and the coordinators (as `Assignment`) sign.
    struct Assignment {
        bytes32 spec;
        uint32 nodeId;
        uint128 rateQ32;
        uint8 attempt;
        uint32 coordId;
        uint40 deadline;
    }

    /// @notice A job as it is now. `startedAt` is 0 for a job that never ran.
    struct JobView {
        address payer;
        uint40 changedAt;
        uint32 nodeId;
        Status status;
        uint8 token;
        uint8 attempt;
        uint128 rateQ32;
        uint40 maxUntil;
        uint40 startedAt;
        uint32 coordId;
        uint16 reservedMinutes;
    }

    /// @notice A job was given to a node; `reservedSeconds` at its rate are reserved, nothing accrues yet.
    event JobAssigned(
        bytes32 indexed spec,
        uint32 indexed nodeId,
        address indexed payer,
        uint128 rateQ32,
        uint8 token,
        uint8 attempt,
        uint32 coordId,
        uint40 maxUntil,
        uint32 reservedSeconds
    );

    /// @notice The node runs the job; billing starts at `startedAt`.
    event JobRunning(bytes32 indexed spec, uint32 indexed nodeId, uint40 startedAt);

    /// @notice A job ended. Billed are the seconds from `startedAt` (0: never started, nothing billed) to `stoppedAt`.
    /// @param by Who ended it.
    /// @param status The final status.
    /// @param reason One of the numbers in EndReason, or a number of at least 16 given by the node.
    event JobStopped(
        bytes32 indexed spec,
        uint32 indexed nodeId,
        address by,
        Status status,
        uint8 reason,
        uint40 startedAt,
        uint40 stoppedAt,
        uint128 rateQ32
    );

    /// @notice An item of the batch call `call` was left as it was.
    event ItemRefused(bytes32 indexed spec, bytes4 indexed call, Refusal reason);

    /// @notice The payer made these offer nonces unusable.
    event NoncesInvalidated(address indexed payer, uint256 word, uint256 mask);

    /// @dev The offer's or the assignment's deadline has passed.
    error OfferExpired(uint40 deadline);

    /// @dev The rate is above the payer's ceiling.
    error RateTooHigh(uint128 rateQ32, uint128 maxRateQ32);

    /// @dev The offer and the assignment are for different messages.
    error SpecMismatch(bytes32 offered, bytes32 assigned);

    /// @dev The payer wants another node.
    error WrongNode(uint32 have, uint32 want);

    /// @dev The assignment is for another attempt.
    error WrongAttempt(uint8 have, uint8 want);

    /// @dev Fewer coordinators signed than must.
    error QuorumLow(uint256 have, uint256 need);

    /// @dev The coordinators are not in strictly ascending order of their ids.
    error CoordinatorOrder(uint32 previous, uint32 next);

    /// @dev The coordinator that proposed the assignment did not sign it.
    error CoordinatorMissing(uint32 coordId);

    /// @dev The signatures are not a whole number of entries.
    error SignaturesLength(uint256 length);

    /// @dev The payer has used or invalidated this nonce.
    error NonceUsed(uint256 nonce);

    /// @dev The job has ended.
    error AlreadyTerminal(Status status);

    /// @notice Opens a job: checks all signatures, reserves one prepay window, gives the job to the node. Anyone may
    /// relay.
    /// @param offer What the payer offers.
    /// @param payerSig The payer's EIP-712 signature of `offer` (ECDSA, or ERC-1271 when the payer is a contract).
    /// @param assignment What the node accepts and the coordinators decide.
    /// @param nodeSig The node signer's EIP-712 signature, type `Accept`.
    /// @param coordSigs Entries of 69 bytes, in strictly ascending order of the coordinator's node id: the id as 4 bytes
    /// (big endian), then the 65-byte EIP-712 signature, type `Assignment`. At least min(3, active coordinators)
    /// entries, one of them of `assignment.coordId`.
    function open(
        JobOffer calldata offer,
        bytes calldata payerSig,
        Assignment calldata assignment,
        bytes calldata nodeSig,
        bytes calldata coordSigs
    ) external;

    /// @notice Starts billing of jobs that the caller's node runs now. Only the node's signer, within 15 minutes of the
    /// assignment. A job whose payer is in arrears fails instead, and its reserve is freed.
    /// @return okBitmap Bit i is set when item i is Running now.
    function confirmRunning(bytes32[] calldata specs) external returns (uint256 okBitmap);

    /// @notice Ends a job. Only its payer. Never paused, and never stopped by a token that fails.
    function stop(bytes32 spec) external;

    /// @notice Ends a job by the payer's EIP-712 signature, type `Stop`. Anyone may relay.
    function stopBySig(bytes32 spec, uint40 deadline, bytes calldata sig) external;

    /// @notice Ends a job that the caller's node cannot run, or no longer. Only the node's signer.
    /// @param reason A number of at least 16; smaller ones are the contract's own.
    function nodeStop(bytes32 spec, uint8 reason) external;

    /// @notice Ends a job that its node did not confirm in time. Anyone may call.
    function failStart(bytes32 spec) external;

    /// @notice Ends jobs whose payer has been in arrears for longer than the hard grace. Anyone may call.
    /// @return okBitmap Bit i is set when item i has ended.
    function closeForArrears(bytes32[] calldata specs) external returns (uint256 okBitmap);

    /// @notice Ends jobs that have reached the end the payer signed. Anyone may call.
    /// @return okBitmap Bit i is set when item i has ended.
    function expire(bytes32[] calldata specs) external returns (uint256 okBitmap);

    /// @notice Makes offer nonces of the caller unusable.
    /// @param word The nonces from 256 * word on.
    /// @param mask Which of the 256.
    function invalidateNonces(uint256 word, uint256 mask) external;

    /// @notice A job as it is now.
    function job(bytes32 spec) external view returns (JobView memory);

    /// @notice How many jobs a node has that have not ended.
    function activeJobs(uint32 nodeId) external view returns (uint32);

    /// @notice The 256 nonces from 256 * word on; a set bit is a nonce that cannot be used.
    function nonceBitmap(address payer, uint256 word) external view returns (uint256);

    /// @notice The EIP-712 digest the payer signs.
    function offerDigest(JobOffer calldata offer) external view returns (bytes32);

    /// @notice The EIP-712 digest the node signs.
    function acceptDigest(Assignment calldata assignment) external view returns (bytes32);

    /// @notice The EIP-712 digest the coordinators sign.
    function assignmentDigest(Assignment calldata assignment) external view returns (bytes32);

    /// @notice The EIP-712 digest of a stop that the payer signs.
    function stopDigest(bytes32 spec, uint40 deadline) external view returns (bytes32);
}
