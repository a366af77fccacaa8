// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IJobManager
/// @notice The life of a job. The id of a job, its `spec`, is the item hash of its INSTANCE message.
interface IJobManager {
    /// @notice Where a job is in its life. The numbers are part of the protocol. Stopped, Completed, Failed and Expired are
    /// final. In Stopping the node has given notice and the job runs still; in Reassign it waits for another node.
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
        NotExpired,
        ImagePays
    }

    /// @notice What the payer signs: run the message `spec` for at most `maxRateQ32`, the image's part included.
    /// @param slaClass The class of service; 0 for none.
    /// @param imageSeq The image of the marketplace; 0 for none.
    /// @param nodeHint The only node that may get it; 0 for any.
    /// @param reqHash keccak256 of what the job needs, packed as in Stats; 0 when the payer leaves the choice unchecked.
    /// @param nonce A group of offers that the payer can call off together. An offer opens one job whatever its nonce,
    /// because a spec is used once.
    struct JobOffer {
        bytes32 spec;
        address payer;
        uint8 token;
        uint128 maxRateQ32;
        uint32 slaClass;
        uint32 imageSeq;
        uint32 nodeHint;
        bytes32 reqHash;
        uint40 maxUntil;
        uint40 deadline;
        uint256 nonce;
    }

    /// @notice What the node (as `Accept`) and the coordinators (as `Assignment`) sign.
    /// @param coordId The coordinator that proposes; 0 when the payer chose the node and none is asked.
    /// @param statsEpoch The hour of the numbers the node was chosen by; 0 when the payer chose it or asks for no check.
    /// @param reqHash The offer's.
    struct Assignment {
        bytes32 spec;
        uint32 nodeId;
        uint128 rateQ32;
        uint8 attempt;
        uint32 coordId;
        uint32 statsEpoch;
        bytes32 reqHash;
        uint40 deadline;
    }

    /// @notice Two leaves of the numbers of an hour: of the node that got the job, and of one that should have.
    struct StatProof {
        bytes32 needs;
        bytes32 given;
        uint256 givenIndex;
        bytes32[] givenProof;
        bytes32 better;
        uint256 betterIndex;
        bytes32[] betterProof;
    }

    /// @notice A challenge of an assignment; `since` is 0 when there is none.
    struct ChallengeView {
        address challenger;
        uint40 since;
        uint32 coordId;
        ChallengeState state;
    }

    /// @notice Where a challenge is. The numbers are part of the protocol.
    enum ChallengeState {
        None,
        Open,
        Answered,
        Upheld
    }

    /// @notice A job as it is now. `startedAt` is 0 for a job that does not run. In Reassign `nodeId` and `rateQ32` are those
    /// it had, and `attempt` is the next one. `imageRateQ32` flows to the image while the job runs.
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
        uint32 slaClass;
        uint32 imageSeq;
        uint96 imageRateQ32;
    }

    /// @notice A payer offers a job on the chain; coordinators may assign it until `deadline`.
    event JobOffered(bytes32 indexed spec, address indexed payer, JobOffer offer, bytes32 offerHash);

    /// @notice What more was agreed for a job that {JobAssigned} tells of; only when it has a class, an image or needs.
    /// `deadline` is the assignment's; `statsEpoch` is 0 when the assignment cannot be challenged.
    event JobTerms(
        bytes32 indexed spec,
        uint8 attempt,
        uint32 slaClass,
        uint32 imageSeq,
        uint96 imageRateQ32,
        uint96 imageOnce,
        uint32 statsEpoch,
        bytes32 reqHash,
        uint40 deadline
    );

    /// @notice The node gave notice: it runs the job until `endsAt`.
    event JobStopping(bytes32 indexed spec, uint32 indexed nodeId, uint8 reason, uint40 endsAt);

    /// @notice A job left its node and waits for another, as `attempt`. Billed are the seconds from `startedAt` (0: never
    /// started) to `stoppedAt`.
    event JobUnplaced(
        bytes32 indexed spec,
        uint32 indexed nodeId,
        address by,
        uint8 reason,
        uint8 attempt,
        uint40 startedAt,
        uint40 stoppedAt,
        uint128 rateQ32
    );

    /// @notice The node says that the job is done; {JobStopped} comes with it.
    event JobCompleted(bytes32 indexed spec, uint32 indexed nodeId, bytes32 resultHash);

    /// @notice A running job costs this from now on.
    event JobResized(
        bytes32 indexed spec, uint32 indexed nodeId, uint128 rateQ32, uint96 imageRateQ32, uint40 maxUntil
    );

    /// @notice An item of {openBatch} was refused with this error.
    event OpenRefused(bytes32 indexed spec, bytes4 cause);

    /// @notice Somebody shows a node that should have got the job.
    event AssignmentChallenged(
        bytes32 indexed spec,
        uint8 attempt,
        uint32 indexed coordId,
        uint32 indexed better,
        address challenger,
        uint40 deadline
    );

    /// @notice The challenge was answered: the node had declined with `reason`, or had not answered (255).
    event ChallengeAnswered(bytes32 indexed spec, uint8 attempt, uint32 indexed better, uint8 reason);

    /// @notice Nobody answered: `caseId` is the case against the coordinator.
    event ChallengeUpheld(bytes32 indexed spec, uint8 attempt, uint32 indexed better, bytes32 caseId);

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

    /// @notice The payer made these offer nonces unusable, or a resize used one up.
    event NoncesInvalidated(address indexed payer, uint256 word, uint256 mask);

    /// @dev The assignment was made for other needs than the offer's.
    error WrongNeeds(bytes32 have, bytes32 want);

    /// @dev The payer's needs must be matched with the numbers of one of the last 26 hours.
    error WrongEpoch(uint32 have, uint32 newest);

    /// @dev An item of the batch is no call that opens a job.
    error NoOpening(bytes4 selector);

    /// @dev The offer names no node.
    error NoNodeHint();

    /// @dev The offer is not the one the job was opened with, in what cannot change.
    error OfferMismatch(bytes32 spec);

    /// @dev The node does not take jobs of this class.
    error NotOptedIn(uint32 nodeId, uint32 slaClass);

    /// @dev The coordinator is not on duty for this job yet.
    error WrongDuty(uint32 coordId, uint256 ahead);

    /// @dev The job can be moved by its payer only: its node can go on.
    error NodeAvailable(uint32 nodeId);

    /// @dev The node must give notice.
    error NoticeNeeded(uint32 notice);

    /// @dev The assignment is not the one of its attempt, or was not made by needs.
    error WrongAssignment(bytes32 spec);

    /// @dev The leaf is not in the numbers of the hour.
    error BadProof(bytes32 leaf);

    /// @dev The node could not have got the job, or not before the one that did.
    error NotBetter(uint32 nodeId);

    /// @dev Nobody knows the seed of that day.
    error NoSeed(uint24 day);

    /// @dev The challenge is not open.
    error NoChallenge(bytes32 spec, uint8 attempt, uint32 better);

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

    /// @dev The payer has called off the offers with this nonce, or used it to resize.
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

    /// @notice Opens or assigns up to 32 jobs; one that cannot be is told of with {OpenRefused}.
    /// @param calls The calldata of {open}, {openSelf} or {assign}, selector included.
    /// @return okBitmap Bit i is set when item i is Assigned now.
    function openBatch(bytes[] calldata calls) external returns (uint256 okBitmap);

    /// @notice Opens a job on the node that the payer chose; no coordinator is asked. Anyone may relay.
    function openSelf(
        JobOffer calldata offer,
        bytes calldata payerSig,
        Assignment calldata assignment,
        bytes calldata nodeSig
    ) external;

    /// @notice Offers a job on the chain. Only its payer.
    function createJob(JobOffer calldata offer) external;

    /// @notice Gives a job that is offered, or waits for another node, to a node. The coordinator that proposes is the one
    /// on duty, after 10 minutes the second, and so on, when the day has a seed. Once the offer's deadline has passed the
    /// rate is at most the one before. Anyone may relay.
    /// @param payerSig As for {open}; not looked at when the payer made this offer on the chain.
    function assign(
        JobOffer calldata offer,
        bytes calldata payerSig,
        Assignment calldata assignment,
        bytes calldata nodeSig,
        bytes calldata coordSigs
    ) external;

    /// @notice Starts billing of jobs that the caller's node runs now. Only the node's signer, within the start time of the
    /// job's class (15 minutes without one) and outages. A job whose payer is in arrears fails instead, and its reserve is freed.
    /// @return okBitmap Bit i is set when item i is Running now.
    function confirmRunning(bytes32[] calldata specs) external returns (uint256 okBitmap);

    /// @notice Ends a job. Only its payer. Never paused, and never stopped by a token that fails.
    function stop(bytes32 spec) external;

    /// @notice Ends a job by the payer's EIP-712 signature, type `Stop`. Anyone may relay.
    function stopBySig(bytes32 spec, uint40 deadline, bytes calldata sig) external;

    /// @notice Ends a job that the caller's node cannot run, or no longer. Only the node's signer. A running job of a class
    /// with notice is Stopping instead, and may end with {finalize}; a second call ends it before, which is a violation. A
    /// job of a class waits for another node after that, and when it had not started; one without a class has failed.
    /// @param reason A number of at least 16; smaller ones are the contract's own.
    function nodeStop(bytes32 spec, uint8 reason) external;

    /// @notice Ends the try to start a job that its node did not confirm in time: a violation. A job of a class waits for
    /// another node; one without has failed. Anyone may call.
    function failStart(bytes32 spec) external;

    /// @notice Ends a job that the node gave notice for, when the time is over. Anyone may call.
    function finalize(bytes32 spec) external;

    /// @notice Ends a job that has done all it was for. Only the node's signer, and not for classes with notice.
    function complete(bytes32 spec, bytes32 resultHash) external;

    /// @notice Takes a job from its node, so that it can be assigned to another. The payer may at any time, anyone when the
    /// node is Suspended, Jailed, Exited or Banned.
    function reassign(bytes32 spec) external;

    /// @notice Changes the rate and the end of a running job. Anyone may relay.
    /// @param offer The payer's new offer for the same message, whose nonce is used up.
    /// @param nodeSig The node signer's EIP-712 `Resize(bytes32 offer,uint32 nodeId,uint128 rateQ32)`, where `offer` is the
    /// struct hash of the offer.
    function resize(JobOffer calldata offer, bytes calldata payerSig, uint128 rateQ32, bytes calldata nodeSig) external;

    /// @notice Shows that another node should have got a job, by the numbers of the hour that the coordinators signed.
    /// Takes the SLAManager's bond of the caller, from its allowance to the SLAManager. Within 50 hours of the hour.
    function challengeAssignment(Assignment calldata assignment, StatProof calldata proof) external;

    /// @notice Answers a challenge with the word of the better node: it had declined. Anyone may call.
    /// @param sig The node signer's EIP-712 `Decline(bytes32 spec,uint32 nodeId,uint8 attempt,uint8 reason)`.
    function answerDecline(bytes32 spec, uint8 attempt, uint32 better, uint8 reason, bytes calldata sig) external;

    /// @notice Answers a challenge with the word of coordinators with more than half of the stake: the better node did not
    /// answer. Anyone may call.
    /// @param sigs EIP-712 `Silence(bytes32 spec,uint32 nodeId,uint8 attempt)` as INodeRegistry.quorum takes them.
    function answerSilence(bytes32 spec, uint8 attempt, uint32 better, bytes calldata sigs) external;

    /// @notice Ends a challenge that nobody answered in 24 hours and outages: a violation of the coordinator. Anyone may
    /// call.
    function settleChallenge(bytes32 spec, uint8 attempt, uint32 better) external;

    /// @notice Ends jobs whose payer has been in arrears for longer than the hard grace. Anyone may call.
    /// @return okBitmap Bit i is set when item i has ended.
    function closeForArrears(bytes32[] calldata specs) external returns (uint256 okBitmap);

    /// @notice Ends jobs that have reached the end the payer signed, offers nobody took, and jobs that have waited for another
    /// node for a day. Anyone may call.
    /// @return okBitmap Bit i is set when item i has ended.
    function expire(bytes32[] calldata specs) external returns (uint256 okBitmap);

    /// @notice Ends what running jobs pay for an image that was taken down; {JobResized} tells. Anyone may call.
    /// @return okBitmap Bit i is set when item i pays for its image no longer.
    function endRoyalties(bytes32[] calldata specs) external returns (uint256 okBitmap);

    /// @notice Makes offer nonces of the caller unusable: offers with them open no job any more.
    /// @param word The nonces from 256 * word on.
    /// @param mask Which of the 256.
    function invalidateNonces(uint256 word, uint256 mask) external;

    /// @notice A job as it is now.
    function job(bytes32 spec) external view returns (JobView memory);

    /// @notice How many jobs a node has that have not ended.
    function activeJobs(uint32 nodeId) external view returns (uint32);

    /// @notice The 256 nonces from 256 * word on; a set bit is a nonce that cannot be used.
    function nonceBitmap(address payer, uint256 word) external view returns (uint256);

    /// @notice The struct hash of the offer that a payer made on the chain; zero when none.
    function offerHash(bytes32 spec) external view returns (bytes32);

    /// @notice The struct hash of the assignment of an attempt that coordinators placed by needs; zero for others. It can be
    /// challenged for 50 hours after the hour of its numbers.
    function placement(bytes32 spec, uint8 attempt) external view returns (bytes32);

    /// @notice A challenge as it is now.
    function challenge(bytes32 spec, uint8 attempt, uint32 better) external view returns (ChallengeView memory);

    /// @notice The coordinator on duty for a try to place a job on a day; 0 when there is none or the day has no seed.
    function dutyCoordinator(bytes32 spec, uint24 day, uint8 attempt) external view returns (uint32);

    /// @notice The EIP-712 digest the payer signs.
    function offerDigest(JobOffer calldata offer) external view returns (bytes32);

    /// @notice The EIP-712 digest the node signs.
    function acceptDigest(Assignment calldata assignment) external view returns (bytes32);

    /// @notice The EIP-712 digest the coordinators sign.
    function assignmentDigest(Assignment calldata assignment) external view returns (bytes32);

    /// @notice The EIP-712 digest of a stop that the payer signs.
    function stopDigest(bytes32 spec, uint40 deadline) external view returns (bytes32);
}
