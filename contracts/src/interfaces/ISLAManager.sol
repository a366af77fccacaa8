// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title ISLAManager
/// @notice What nodes promise, what is held against them, and what it costs them. A penalty needs a fault that a contract
/// has seen, or an accusation by coordinators that the node did not answer, or a verdict.
interface ISLAManager {
    /* TYPES */

    /// @notice What a node is said to have done. The numbers are part of the protocol.
    enum Kind {
        None,
        Offline,
        StartTimeout,
        EarlyStop,
        StorageMiss,
        StorageChallengeLost,
        InclusionDenied,
        WrongAssignment,
        Equivocation,
        BadAttestation,
        ResourceShortfall,
        AttestationForged,
        CertMisuse
    }

    /// @notice Where a case is. An accusation is Open until the node defends itself, then the coordinators judge it, and
    /// the loser may appeal to governance. A proven case is executed after the guardian had time to veto it.
    enum State {
        None,
        Open,
        Defended,
        Escalated,
        Judged,
        Appealed,
        Proven,
        Dismissed,
        Vetoed,
        Executed
    }

    /// @notice A class of service. A class never changes once it is defined; a new version is a new class.
    /// @param uptimeBps The part of time that a node is up, in 1/10,000.
    /// @param startTimeout The seconds a node has to start a job.
    /// @param notice The seconds a node goes on running a job after it has given notice.
    /// @param maxGap The longest time without a sign of life, in seconds.
    /// @param creditBpsPerPoint What the tenant gets back of the last 30 days' payments for each point, in 1/10,000.
    /// @param slashBps The penalty by severity, in 1/10,000 of the stake; at least the kind's own is taken.
    /// @param tenantBps The tenant's part of a penalty, in 1/10,000.
    struct SlaClass {
        uint16 uptimeBps;
        uint32 startTimeout;
        uint32 notice;
        uint32 maxGap;
        uint16 creditBpsPerPoint;
        uint16[4] slashBps;
        uint16 tenantBps;
    }

    /// @notice What a kind of violation costs.
    /// @param slashBps By severity, in 1/10,000 of all that can be slashed.
    /// @param jail The seconds in jail; 0 for none.
    /// @param jailSeverity The least severity that jails.
    /// @param fatal Above the cap, from everybody in proportion.
    /// @param ownerOnly Of the owner's stake, not of the delegators'.
    /// @param ban The end of the node.
    struct Penalty {
        uint16[4] slashBps;
        uint32 jail;
        uint8 jailSeverity;
        bool fatal;
        bool ownerOnly;
        bool ban;
    }

    /// @notice A case as it is now.
    /// @param bps The penalty in 1/10,000, fixed when the case was filed.
    /// @param deadline When the state ends, without outages; for Proven the end of the veto window.
    /// @param guilty The verdict, for Judged and Appealed.
    /// @param credit What the tenant gets of the node's earnings in `token`, at most.
    struct CaseView {
        uint32 nodeId;
        Kind kind;
        State state;
        uint8 severity;
        uint16 bps;
        uint40 filedAt;
        uint40 since;
        uint40 deadline;
        bool guilty;
        bool vetoed;
        uint16 tenantBps;
        address reporter;
        address tenant;
        uint96 bond;
        uint96 appealBond;
        bool appealByNode;
        uint8 token;
        uint128 credit;
    }

    /* EVENTS */

    /// @notice A class of service was defined.
    event ClassDefined(uint32 indexed slaClass, SlaClass terms);

    /// @notice A node takes jobs of this class, or no longer.
    event NodeOptedIn(uint32 indexed nodeId, uint32 indexed slaClass, bool taken);

    /// @notice A kind of violation costs this from now on. Cases that are filed already keep their price.
    event PenaltySet(Kind indexed kind, Penalty penalty);

    /// @notice Accusers must leave this much ALEPH.
    event BondSet(uint96 bond);

    /// @notice A case was filed: Proven, because a contract saw it, or Open, when {CaseAccused} comes with it.
    /// @param deadline Until when the guardian may veto, or the node may defend itself.
    /// @param tenantBps The tenant's part of the penalty, in 1/10,000.
    /// @param credit What the tenant gets of the node's earnings in `token`, at most; for none both are zero.
    event CaseFiled(
        bytes32 indexed caseId,
        uint32 indexed nodeId,
        Kind indexed kind,
        uint8 severity,
        uint16 bps,
        uint40 deadline,
        address reporter,
        address tenant,
        bytes32 ref,
        uint32 occurrence,
        uint16 tenantBps,
        uint8 token,
        uint128 credit
    );

    /// @notice Why coordinators accuse; `evidence` is the hash of a message that has it.
    event CaseAccused(bytes32 indexed caseId, bytes32 evidence, uint96 bond, uint64 signers);

    /// @notice The node answered; `evidence` is the hash of a message that has its side.
    event CaseDefended(bytes32 indexed caseId, bytes32 evidence, uint40 deadline);

    /// @notice The coordinators are asked to judge until `deadline`.
    event CaseEscalated(bytes32 indexed caseId, uint40 deadline);

    /// @notice The coordinators judged.
    event CaseJudged(bytes32 indexed caseId, bool guilty, uint64 signers, uint40 deadline);

    /// @notice The loser appealed to governance.
    event CaseAppealed(bytes32 indexed caseId, bool byNode, uint96 bond, uint40 deadline);

    /// @notice The case is Proven, to be executed from `vetoUntil` on, or Dismissed.
    event CaseResolved(bytes32 indexed caseId, State outcome, uint40 vetoUntil);

    /// @notice The guardian stopped the penalty.
    event CaseVetoed(bytes32 indexed caseId);

    /// @notice A penalty was carried out. `taken`, of what was slashed and of pools that start anew, is the sum of the parts
    /// that follow.
    /// @param burned What waits for {burn}.
    event PenaltyExecuted(
        bytes32 indexed caseId,
        uint32 indexed nodeId,
        uint128 taken,
        uint128 toReporter,
        uint128 toTenant,
        uint128 toCaller,
        uint128 burned,
        uint16 bps
    );

    /// @notice A tenant got back a part of what it paid, from what the node has earned.
    event ServiceCredited(bytes32 indexed caseId, address indexed tenant, uint8 indexed token, uint128 amount);

    /// @notice ALEPH was left as a bond.
    event BondPosted(bytes32 indexed id, address indexed from, uint96 amount);

    /// @notice ALEPH can be withdrawn by `who`; `credit` is all of it now.
    event Credited(address indexed who, uint128 amount, uint128 credit);

    /// @notice A credit was paid.
    event CreditWithdrawn(address indexed who, uint128 amount);

    /// @notice What penalties had left to be burned was burned.
    event PenaltiesBurned(uint128 amount);

    /// @notice The sequencer was down.
    event OutageRecorded(uint80 indexed roundId, uint40 from, uint40 to);

    /* ERRORS */

    /// @dev The kind cannot be used so.
    error WrongKind(Kind kind);

    /// @dev No such class.
    error UnknownClass(uint32 slaClass);

    /// @dev No such case, or not in this state.
    error WrongState(State have);

    /// @dev The guardian may veto until then.
    error VetoWindow(uint40 until);

    /// @dev The node has had as much taken in 30 days as may be.
    error CapReached(uint32 nodeId, uint16 bps);

    /// @dev Too little of the coordinators' stake signed.
    error QuorumLow(uint256 have, uint256 need);

    /// @dev The sequencer is down or was until recently.
    error SequencerGrace(uint256 until);

    /// @dev The round is not the start of an outage that is over.
    error NoOutage(uint80 roundId);

    /// @dev Nothing to withdraw.
    error NoCredit(address who);

    /* VIOLATIONS */

    /// @notice Files a case that the calling contract has proof of. Only the NodeRegistry, the StorageRegistry, the
    /// JobManager and the DomainRegistry.
    /// @param ref What it is about: for jobs the spec.
    /// @param occurrence Tells apart the same violation at another time.
    /// @param severity 0 to 3.
    /// @param reporter Who gets the reporter's part; zero for nobody.
    /// @param tenant Who was harmed; zero for nobody.
    function recordViolation(
        Kind kind,
        uint32 nodeId,
        bytes32 ref,
        uint32 occurrence,
        uint16 severity,
        address reporter,
        address tenant
    ) external returns (bytes32 caseId);

    /// @notice Accuses a node of something that no contract can see. Takes a bond of the caller and the signatures of
    /// coordinators with more than a third of the stake.
    /// @param kind EarlyStop, BadAttestation, ResourceShortfall, AttestationForged or CertMisuse.
    /// @param evidence The hash of a message with the evidence.
    /// @param sigs EIP-712 `Accusation(uint8 kind,uint32 nodeId,bytes32 ref,uint32 occurrence,uint8 severity,bytes32
    /// evidence)` as INodeRegistry.quorum takes them.
    function accuse(
        Kind kind,
        uint32 nodeId,
        bytes32 ref,
        uint32 occurrence,
        uint8 severity,
        bytes32 evidence,
        bytes calldata sigs
    ) external returns (bytes32 caseId);

    /// @notice Answers an accusation, within 72 hours. Only the node's owner or signer. Needs no bond: the stake is one.
    function defend(bytes32 caseId, bytes32 evidence) external;

    /// @notice Asks the coordinators to judge a defended case, within 72 hours of the defence. Anyone may call.
    function escalate(bytes32 caseId) external;

    /// @notice The coordinators' verdict, within 48 hours. Needs more than two thirds of the stake; a coordinator that is
    /// accused does not count.
    /// @param sigs EIP-712 `Verdict(bytes32 caseId,bool guilty)` as INodeRegistry.quorum takes them.
    function committeeResolve(bytes32 caseId, bool guilty, bytes calldata sigs) external;

    /// @notice Appeals against a verdict, within 72 hours, with a bond of five times the accuser's. Only the node's owner
    /// when it is guilty, only the accuser when it is not.
    function appeal(bytes32 caseId) external;

    /// @notice Decides an appeal, or brings a vetoed case back. Only governance.
    function governanceResolve(bytes32 caseId, bool guilty) external;

    /// @notice Stops the penalty of a proven case within its veto window, once. Only the guardian.
    function veto(bytes32 caseId) external;

    /// @notice Takes a case one step further when its time has come, and carries out the penalty of a proven one: slash,
    /// jail, ban, and the parts of the reporter, the tenant and the caller, who gets 2.5 %. The rest, at least a quarter,
    /// waits for {burn}. Anyone may call.
    function finalize(bytes32 caseId) external;

    /* MONEY */

    /// @notice Pays all that is credited to `who` to it. Anyone may call.
    function withdraw(address who) external returns (uint128 amount);

    /// @notice Burns what all penalties since the last call have left to be burned; once for many costs less. Of a token
    /// that cannot be burned it goes to 0xdead. Anyone may call.
    function burn() external returns (uint128 amount);

    /// @notice Takes a bond for a dispute that another contract decides. Only the JobManager.
    function postBond(bytes32 id, address from) external;

    /// @notice Credits a bond to who it belongs to. Only the JobManager.
    function settleBond(bytes32 id, address to) external;

    /* OUTAGES */

    /// @notice Notes an outage of the sequencer that is over. Anyone may call, within 30 days.
    /// @param roundId The round of the uptime feed in which it went down; the next one must be up.
    function recordOutage(uint80 roundId) external;

    /// @notice How long the sequencer was down between the two times, at most 48 hours.
    function outage(uint40 from, uint40 to) external view returns (uint32 seconds_);

    /* CLASSES */

    /// @notice Defines a class of service. Only the lister.
    function defineClass(SlaClass calldata terms) external returns (uint32 slaClass);

    /// @notice From now on the node may get jobs of this class. Only its owner.
    function nodeOptIn(uint32 nodeId, uint32 slaClass) external;

    /// @notice The node gets no new jobs of this class. Only its owner.
    function nodeOptOut(uint32 nodeId, uint32 slaClass) external;

    /// @notice Sets what a kind of violation costs, within bounds. Only PARAM.
    function setPenalty(Kind kind, Penalty calldata penalty) external;

    /// @notice Sets the bond, 1 to 10,000 ALEPH. Only PARAM.
    function setBond(uint96 bond) external;

    /// @notice The seconds a node of this class must go on after giving notice; 0 for class 0.
    function noticeOf(uint32 slaClass) external view returns (uint32 seconds_);

    /// @notice The seconds a node has to start a job of this class; 15 minutes for class 0.
    function startTimeoutOf(uint32 slaClass) external view returns (uint32 seconds_);

    /// @notice The terms of a class.
    function classOf(uint32 slaClass) external view returns (SlaClass memory);

    /// @notice The last class defined.
    function lastClass() external view returns (uint32);

    /// @notice Whether the node may get jobs of this class. Every node takes class 0.
    function optedIn(uint32 nodeId, uint32 slaClass) external view returns (bool);

    /* VIEWS */

    /// @notice A case as it is now.
    function caseOf(bytes32 caseId) external view returns (CaseView memory);

    /// @notice Where a case is.
    function stateOf(bytes32 caseId) external view returns (State);

    /// @notice The id of a case.
    function caseIdOf(Kind kind, uint32 nodeId, bytes32 ref, uint32 occurrence) external pure returns (bytes32);

    /// @notice What was executed and filed against a node in the last 30 to 40 days: points, and 1/10,000 of stake.
    function points(uint32 nodeId) external view returns (uint16 points_, uint16 executedBps, uint16 filedBps);

    /// @notice What a kind costs.
    function penaltyOf(Kind kind) external view returns (Penalty memory);

    /// @notice The bond of an accuser.
    function bondOf() external view returns (uint96);

    /// @notice The bond of a dispute that another contract decides; zero when it is settled.
    function bond(bytes32 id) external view returns (uint96);

    /// @notice What can be withdrawn for `who`.
    function creditOf(address who) external view returns (uint128);

    /// @notice What of penalties waits for {burn}.
    function toBurn() external view returns (uint128);
}
