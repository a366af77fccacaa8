// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IImageMarketplace} from "../../src/interfaces/IImageMarketplace.sol";
import {IJobManager} from "../../src/interfaces/IJobManager.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {IPaymentManager} from "../../src/interfaces/IPaymentManager.sol";
import {ISLAManager} from "../../src/interfaces/ISLAManager.sol";
import {IStakingManager} from "../../src/interfaces/IStakingManager.sol";
import {IStorageWords} from "../../src/interfaces/IStorageWords.sol";
import {Payees} from "../../src/libraries/Payees.sol";
import {PlacementSuite} from "../utils/PlacementSuite.sol";
import {StorageSuite} from "../utils/StorageSuite.sol";
import {UptimeFeed} from "../utils/UptimeFeed.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {VmSafe} from "forge-std/Vm.sol";

/// @title WorldBooks
/// @notice The books of the world: what everybody who only reads events knows. Nothing here asks a contract for its state.
abstract contract WorldBooks is PlacementSuite, StorageSuite {
    /// @dev A payer's account in a token. What came and went is money between the wallets and the account; `used` is what
    /// was paid from it to somebody.
    struct Acc {
        address payer;
        uint8 token;
        uint256 rateQ32;
        uint256 paidUntil;
        uint256 arrearsSince;
        uint256 refund;
        uint256 reserved;
        uint256 revokedAt;
        uint256 source;
        uint256 came;
        uint256 used;
        uint256 went;
        uint256 changes;
    }

    /// @dev What one payer pays one payee. `agreedQ32` is the integral of the rates of the jobs that ran.
    struct Stream {
        address payer;
        uint8 token;
        uint64 payee;
        uint256 rateQ32;
        uint256 since;
        uint256 pendingQ32;
        uint256 debt;
        uint256 jobsRateQ32;
        uint256 agreedQ32;
        uint256 claimed;
        uint256 debts;
        uint256 changes;
    }

    struct Work {
        IJobManager.Status status;
        address payer;
        uint8 token;
        uint32 nodeId;
        uint256 rateQ32;
        uint32 imageSeq;
        uint256 imageRateQ32;
        uint256 imageOnce;
        uint256 terms;
    }

    /// @dev A node's stake. `pooled` is what is delegated with what has not dripped.
    struct Stakes {
        uint256 self;
        uint256 waiting;
        uint256 pooled;
        uint256 shares;
        uint256 leaving;
        uint256 credit;
    }

    mapping(bytes32 key => Acc) internal accs;
    bytes32[] internal accKeys;
    mapping(bytes32 key => Stream) internal streams;
    bytes32[] internal streamKeys;
    mapping(uint64 payee => mapping(uint8 token => uint256)) internal credits;
    uint64[] internal payees;
    mapping(uint64 payee => bool) internal knownPayee;
    mapping(bytes32 spec => Work) internal works;
    bytes32[] internal workKeys;
    mapping(uint32 id => INodeRegistry.Status) internal statuses;
    mapping(uint32 id => Stakes) internal stakes;
    mapping(uint32 id => uint256) public slashedOf;
    mapping(bytes32 id => ISLAManager.State) internal caseStates;
    mapping(bytes32 id => bytes32) internal caseTerms;
    bytes32[] internal cases;
    mapping(bytes32 id => uint32) internal caseNode;
    mapping(address who => uint256) internal slaCredits;
    address[] internal creditors;
    mapping(uint128 id => IStorageWords.Status) internal commitments;
    mapping(uint32 seq => IImageMarketplace.Status) internal imageStatuses;
    uint32 internal imageCount;
    /// @dev All who ever held a token, and what was made and destroyed of it.
    address[] internal holders;
    mapping(address who => bool) internal knownHolder;
    mapping(address erc20 => uint256) internal made;
    mapping(address erc20 => uint256) internal gone;
    uint256 internal toBurn;
    uint256 internal burnedBySlashes;
    uint256 public folded;

    function _uptimeFeed() internal view override returns (address) {
        return address(feed);
    }

    /* FOLDING */

    function _fold() internal {
        VmSafe.Log[] memory logs = vm.getRecordedLogs();
        _foldFrom(logs, 0);
    }

    /// @dev After a confirmation that did not charge the price of its image. Foundry keeps the logs of calls that were
    /// undone, which no chain does: what comes before the reserve is released.
    function _foldUncharged() internal {
        VmSafe.Log[] memory logs = vm.getRecordedLogs();
        uint256 from;
        while (from < logs.length && logs[from].topics[0] != IPaymentManager.Released.selector) ++from;
        _foldFrom(logs, from == logs.length ? 0 : from);
    }

    function _foldFrom(VmSafe.Log[] memory logs, uint256 from) private {
        folded += logs.length - from;
        for (uint256 i = from; i < logs.length; ++i) {
            VmSafe.Log memory l = logs[i];
            if (l.topics.length == 0) continue;
            if (l.emitter == address(payments)) _foldPayments(l);
            else if (l.emitter == address(jobs)) _foldJobs(l);
            else if (l.emitter == address(staking)) _foldStaking(l);
            else if (l.emitter == address(nodes)) _foldNodes(l);
            else if (l.emitter == address(sla)) _foldCases(l);
            else if (l.emitter == address(storages)) _foldStorage(l);
            else if (l.emitter == address(images)) _foldImages(l);
            else if (l.topics[0] == IERC20.Transfer.selector) _foldTransfer(l);
        }
    }

    function _foldTransfer(VmSafe.Log memory l) private {
        (address from, address to) = (_who(l, 1), _who(l, 2));
        uint256 amount = abi.decode(l.data, (uint256));
        if (from == address(0)) made[l.emitter] += amount;
        else _hold(from);
        if (to == address(0)) gone[l.emitter] += amount;
        else _hold(to);
    }

    function _hold(address who) private {
        if (knownHolder[who]) return;
        knownHolder[who] = true;
        holders.push(who);
    }

    /* PAYMENTS */

    function _foldPayments(VmSafe.Log memory l) private {
        bytes32 t = l.topics[0];
        if (t == IPaymentManager.FlowChanged.selector) return _flowChanged(l);
        if (t == IPaymentManager.Pulled.selector) return _pulled(l);
        if (t == IPaymentManager.RevenueSplit.selector) return _revenueSplit(l);
        if (t == IPaymentManager.Withdrawn.selector) {
            (,, uint128 left) = abi.decode(l.data, (address, uint256, uint128));
            credits[uint64(uint256(l.topics[1]))][uint8(uint256(l.topics[2]))] = left;
            return;
        }
        if (t == IPaymentManager.SponsorSet.selector || t == IPaymentManager.SponsorPaid.selector) return;
        if (t == IPaymentManager.LimitSet.selector) return;
        if (l.topics.length == 4) return _foldPair(t, l);
        if (l.topics.length == 3) _foldAccount(t, l);
    }

    function _flowChanged(VmSafe.Log memory l) private {
        (Acc storage a, Stream storage s) = (_acc(l), _stream(l));
        uint256 rate;
        (s.rateQ32, s.since, s.pendingQ32, rate, a.paidUntil) =
            abi.decode(l.data, (uint256, uint256, uint256, uint256, uint256));
        a.rateQ32 = rate;
        ++s.changes;
        ++a.changes;
    }

    function _pulled(VmSafe.Log memory l) private {
        Acc storage a = _accOf(_who(l, 1), uint8(uint256(l.topics[2])));
        uint256 amount;
        (amount,, a.refund, a.paidUntil,) = abi.decode(l.data, (uint256, uint256, uint256, uint256, bool));
        a.came += amount;
        ++a.changes;
    }

    function _revenueSplit(VmSafe.Log memory l) private {
        (uint64 payee, uint8 tok) = (uint64(uint256(l.topics[1])), uint8(uint256(l.topics[2])));
        (,,, uint256 coordinator, uint256 staker, uint256 development, uint256 credit) =
            abi.decode(l.data, (uint256, uint256, uint256, uint256, uint256, uint256, uint256));
        credits[payee][tok] = credit;
        credits[Payees.COORDINATORS][tok] += coordinator;
        credits[Payees.STAKERS][tok] += staker;
        credits[Payees.DEVELOPMENT][tok] += development;
        _knowPayee(payee);
    }

    function _foldPair(bytes32 t, VmSafe.Log memory l) private {
        (Acc storage a, Stream storage s) = (_acc(l), _stream(l));
        ++a.changes;
        ++s.changes;
        if (t == IPaymentManager.Reserved.selector) {
            uint256 amount;
            uint256 fromRefund;
            (amount, fromRefund, a.reserved, a.refund) = abi.decode(l.data, (uint256, uint256, uint256, uint256));
            a.came += amount - fromRefund;
        } else if (t == IPaymentManager.Released.selector) {
            (, a.reserved, a.refund) = abi.decode(l.data, (uint256, uint256, uint256));
        } else if (t == IPaymentManager.Activated.selector) {
            (, a.reserved) = abi.decode(l.data, (uint256, uint256));
        } else if (t == IPaymentManager.DebtRecorded.selector) {
            uint256 amount;
            (amount, s.debt) = abi.decode(l.data, (uint256, uint256));
            s.debts += amount;
        } else if (t == IPaymentManager.DebtPaid.selector) {
            s.debt = 0;
        } else if (t == IPaymentManager.Charged.selector) {
            uint256 amount;
            uint256 fromRefund;
            (amount, fromRefund, a.refund,) = abi.decode(l.data, (uint256, uint256, uint256, bytes32));
            a.came += amount - fromRefund;
            a.used += amount;
        } else if (t == IPaymentManager.Compensated.selector) {
            uint256 amount;
            (amount, credits[s.payee][s.token], a.refund,) = abi.decode(l.data, (uint256, uint256, uint256, bytes32));
            a.came += amount;
        } else if (t == IPaymentManager.Claimed.selector) {
            (uint256 gross, uint256 since) = abi.decode(l.data, (uint256, uint256));
            if (since > s.since) s.pendingQ32 += s.rateQ32 * (since - s.since);
            s.pendingQ32 -= gross << 32;
            s.since = since;
            s.claimed += gross;
            a.used += gross;
        }
    }

    function _foldAccount(bytes32 t, VmSafe.Log memory l) private {
        if (t == IPaymentManager.TokenListed.selector || t == IPaymentManager.PoolPayoutSet.selector) return;
        Acc storage a = _accOf(_who(l, 1), uint8(uint256(l.topics[2])));
        if (t == IPaymentManager.ArrearsStarted.selector) {
            a.arrearsSince = abi.decode(l.data, (uint256));
        } else if (t == IPaymentManager.ArrearsCleared.selector) {
            a.arrearsSince = 0;
        } else if (t == IPaymentManager.Refunded.selector) {
            (, a.refund) = abi.decode(l.data, (uint256, uint256));
            ++a.changes;
        } else if (t == IPaymentManager.RefundPaid.selector) {
            a.went += abi.decode(l.data, (uint256));
            a.refund = 0;
        } else if (t == IPaymentManager.FlowsRevoked.selector) {
            (a.revokedAt, a.paidUntil, a.refund) = abi.decode(l.data, (uint256, uint256, uint256));
            (a.rateQ32, a.arrearsSince) = (0, 0);
            ++a.changes;
        } else if (t == IPaymentManager.RevocationEnded.selector) {
            a.revokedAt = 0;
        } else if (t == IPaymentManager.Deposited.selector) {
            uint256 amount;
            (amount, a.refund) = abi.decode(l.data, (uint256, uint256));
            a.came += amount;
        } else if (t == IPaymentManager.DepositWithdrawn.selector) {
            uint256 amount;
            (amount, a.refund) = abi.decode(l.data, (uint256, uint256));
            a.went += amount;
        } else if (t == IPaymentManager.SourceSet.selector) {
            a.source = abi.decode(l.data, (uint256));
        } else if (t == IPaymentManager.BountyPaid.selector) {
            uint256 amount;
            (amount, a.refund, credits[Payees.DEVELOPMENT][a.token]) = abi.decode(l.data, (uint256, uint256, uint256));
            a.came += amount;
        }
    }

    /// @dev What a pair has earned and nobody has claimed, by the books.
    function _claimableOf(Stream storage s) internal view returns (uint256) {
        uint256 until = accs[keccak256(abi.encode(s.payer, s.token))].paidUntil;
        if (until > block.timestamp) until = block.timestamp;
        return (until > s.since ? s.pendingQ32 + s.rateQ32 * (until - s.since) : s.pendingQ32) >> 32;
    }

    /* JOBS */

    function _foldJobs(VmSafe.Log memory l) private {
        bytes32 t = l.topics[0];
        if (l.topics.length < 2) return;
        bytes32 spec = l.topics[1];
        Work storage w = works[spec];
        if (t == IJobManager.JobOffered.selector) {
            _work(spec);
            (w.status, w.payer) = (IJobManager.Status.Offered, _who(l, 2));
        } else if (t == IJobManager.JobTerms.selector) {
            (uint256 attempt,, uint256 seq, uint256 rate, uint256 once,,,) =
                abi.decode(l.data, (uint256, uint256, uint256, uint256, uint256, uint256, bytes32, uint256));
            (w.terms, w.imageSeq, w.imageRateQ32, w.imageOnce) = (attempt + 1, uint32(seq), rate, once);
        } else if (t == IJobManager.JobAssigned.selector) {
            _work(spec);
            _assigned(w, l);
        } else if (t == IJobManager.JobRunning.selector) {
            w.status = IJobManager.Status.Running;
            _flow(w, true);
        } else if (t == IJobManager.JobStopping.selector) {
            w.status = IJobManager.Status.Stopping;
        } else if (t == IJobManager.JobUnplaced.selector) {
            _flow(w, false);
            w.status = IJobManager.Status.Reassign;
        } else if (t == IJobManager.JobStopped.selector) {
            _flow(w, false);
            (, w.status,,,,) = abi.decode(l.data, (address, IJobManager.Status, uint8, uint256, uint256, uint256));
        } else if (t == IJobManager.JobResized.selector) {
            _flow(w, false);
            (w.rateQ32, w.imageRateQ32,) = abi.decode(l.data, (uint256, uint256, uint256));
            _flow(w, true);
        }
    }

    function _assigned(Work storage w, VmSafe.Log memory l) private {
        (uint256 rate, uint8 tok, uint256 attempt,,,) =
            abi.decode(l.data, (uint256, uint8, uint256, uint256, uint256, uint256));
        if (w.terms != attempt + 1) (w.imageSeq, w.imageRateQ32, w.imageOnce) = (0, 0, 0);
        (w.status, w.nodeId, w.payer) = (IJobManager.Status.Assigned, uint32(uint256(l.topics[2])), _who(l, 3));
        (w.rateQ32, w.token) = (rate, tok);
    }

    function _work(bytes32 spec) private {
        if (works[spec].status == IJobManager.Status.None) workKeys.push(spec);
    }

    function _runs(IJobManager.Status s) internal pure returns (bool) {
        return s == IJobManager.Status.Running || s == IJobManager.Status.Stopping;
    }

    /// @dev A job that runs, or no longer, changes what was agreed from now on.
    function _flow(Work storage w, bool starts) private {
        if (!_runs(w.status)) return;
        _agree(_streamOf(w.payer, w.token, w.nodeId), w.rateQ32, starts);
        if (w.imageRateQ32 != 0) {
            _agree(_streamOf(w.payer, w.token, Payees.ofImage(w.imageSeq)), w.imageRateQ32, starts);
        }
    }

    function _agree(Stream storage s, uint256 rate, bool starts) private {
        if (starts) s.jobsRateQ32 += rate;
        else s.jobsRateQ32 -= rate;
    }

    /// @dev Before time passes: what the jobs that run will have cost. Nothing once the payer has revoked all.
    function _elapse(uint256 time) internal {
        for (uint256 i; i < streamKeys.length; ++i) {
            Stream storage s = streams[streamKeys[i]];
            if (s.jobsRateQ32 == 0 || accs[keccak256(abi.encode(s.payer, s.token))].revokedAt != 0) continue;
            s.agreedQ32 += s.jobsRateQ32 * time;
        }
    }

    /* STAKES, NODES, CASES, STORAGE, IMAGES */

    function _foldStaking(VmSafe.Log memory l) private {
        bytes32 t = l.topics[0];
        if (l.topics.length < 2) return;
        Stakes storage s = stakes[uint32(uint256(l.topics[1]))];
        if (t == IStakingManager.Staked.selector) {
            (, s.self) = abi.decode(l.data, (uint256, uint256));
        } else if (t == IStakingManager.SelfUnbonding.selector) {
            (, s.self, s.waiting,) = abi.decode(l.data, (uint256, uint256, uint256, uint256));
        } else if (t == IStakingManager.SelfWithdrawn.selector) {
            s.waiting -= abi.decode(l.data, (uint256));
        } else if (t == IStakingManager.Delegated.selector) {
            uint256 amount;
            (amount,,, s.shares) = abi.decode(l.data, (uint256, uint256, uint256, uint256));
            s.pooled += amount;
        } else if (t == IStakingManager.Undelegated.selector) {
            uint256 amount;
            (,,, amount,,, s.shares) =
                abi.decode(l.data, (uint256, uint256, uint256, uint256, uint256, uint256, uint256));
            s.pooled -= amount;
            s.leaving += amount;
        } else if (t == IStakingManager.UndelegationCancelled.selector) {
            uint256 amount;
            (, amount,,, s.shares) = abi.decode(l.data, (uint256, uint256, uint256, uint256, uint256));
            s.pooled += amount;
            s.leaving -= amount;
        } else if (t == IStakingManager.Withdrawn.selector) {
            (,, s.leaving,) = abi.decode(l.data, (uint256, uint256, uint256, uint256));
        } else {
            _foldRewards(t, s, l);
        }
    }

    function _foldRewards(bytes32 t, Stakes storage s, VmSafe.Log memory l) private {
        if (t == IStakingManager.RewardsAdded.selector) {
            (uint256 amount, uint256 commission,,) = abi.decode(l.data, (uint256, uint256, uint256, uint256));
            s.pooled += amount - commission;
            s.credit += commission;
        } else if (t == IStakingManager.LeftToOwner.selector) {
            uint256 amount = abi.decode(l.data, (uint256));
            // Whatever the order, nobody delegates any longer.
            (s.pooled, s.credit) = (s.pooled - amount, s.credit + amount);
        } else if (t == IStakingManager.OwnerPaid.selector) {
            s.credit -= abi.decode(l.data, (uint256));
        } else if (t == IStakingManager.PoolReset.selector) {
            (, uint256 dust) = abi.decode(l.data, (uint256, uint256));
            (s.pooled, s.shares) = (s.pooled - dust, 0);
        } else if (t == IStakingManager.UnbondingReset.selector) {
            (, uint256 dust) = abi.decode(l.data, (uint256, uint256));
            s.leaving -= dust;
        } else if (t == IStakingManager.Slashed.selector) {
            _slashed(s, l);
        }
    }

    /// @dev A reset comes before the slash that makes it.
    function _slashed(Stakes storage s, VmSafe.Log memory l) private {
        (uint256 self, uint256 waiting, uint256 pooled, uint256 leaving) =
            abi.decode(l.data, (uint256, uint256, uint256, uint256));
        s.self -= self;
        s.waiting -= waiting;
        s.pooled -= pooled;
        s.leaving -= leaving;
        slashedOf[uint32(uint256(l.topics[1]))] += self + waiting + pooled + leaving;
    }

    function _foldNodes(VmSafe.Log memory l) private {
        if (l.topics[0] != INodeRegistry.NodeStatusChanged.selector) return;
        (, statuses[uint32(uint256(l.topics[1]))],) = abi.decode(l.data, (uint256, INodeRegistry.Status, uint256));
    }

    function _foldCases(VmSafe.Log memory l) private {
        bytes32 t = l.topics[0];
        if (t == ISLAManager.Credited.selector) {
            address who = _who(l, 1);
            if (slaCredits[who] == 0) creditors.push(who);
            (, slaCredits[who]) = abi.decode(l.data, (uint256, uint256));
        } else if (t == ISLAManager.CreditWithdrawn.selector) {
            slaCredits[_who(l, 1)] -= abi.decode(l.data, (uint256));
        } else if (t == ISLAManager.CaseFiled.selector) {
            cases.push(l.topics[1]);
            caseNode[l.topics[1]] = uint32(uint256(l.topics[2]));
            caseStates[l.topics[1]] = ISLAManager.State.Proven;
            caseTerms[l.topics[1]] = _termsIn(l.data);
        } else if (t == ISLAManager.CaseAccused.selector) {
            caseStates[l.topics[1]] = ISLAManager.State.Open;
        } else if (t == ISLAManager.CaseDefended.selector) {
            caseStates[l.topics[1]] = ISLAManager.State.Defended;
        } else if (t == ISLAManager.CaseEscalated.selector) {
            caseStates[l.topics[1]] = ISLAManager.State.Escalated;
        } else if (t == ISLAManager.CaseJudged.selector) {
            caseStates[l.topics[1]] = ISLAManager.State.Judged;
        } else if (t == ISLAManager.CaseAppealed.selector) {
            caseStates[l.topics[1]] = ISLAManager.State.Appealed;
        } else if (t == ISLAManager.CaseVetoed.selector) {
            caseStates[l.topics[1]] = ISLAManager.State.Vetoed;
        } else if (t == ISLAManager.CaseResolved.selector) {
            (caseStates[l.topics[1]],) = abi.decode(l.data, (ISLAManager.State, uint256));
        } else if (t == ISLAManager.PenaltyExecuted.selector) {
            caseStates[l.topics[1]] = ISLAManager.State.Executed;
            (,,,, uint256 burned,) = abi.decode(l.data, (uint256, uint256, uint256, uint256, uint256, uint256));
            toBurn += burned;
        } else if (t == ISLAManager.PenaltiesBurned.selector) {
            uint256 burned = abi.decode(l.data, (uint256));
            toBurn -= burned;
            burnedBySlashes += burned;
        }
    }

    function _termsIn(bytes memory filed) private pure returns (bytes32) {
        (,,,,,,, uint16 tenantBps, uint8 token_, uint128 credit) =
            abi.decode(filed, (uint256, uint256, uint256, address, address, bytes32, uint256, uint16, uint8, uint128));
        return _terms(tenantBps, token_, credit);
    }

    /// @dev What a tenant gets when a case is carried out.
    function _terms(uint16 tenantBps, uint8 token_, uint128 credit) internal pure returns (bytes32) {
        return keccak256(abi.encode(tenantBps, token_, credit));
    }

    function _foldStorage(VmSafe.Log memory l) private {
        uint128 id = uint128(uint256(l.topics.length > 1 ? l.topics[1] : bytes32(0)));
        if (l.topics[0] == IStorageWords.Committed.selector) {
            commitments[id] = IStorageWords.Status.Active;
        } else if (l.topics[0] == IStorageWords.StatusChanged.selector) {
            (commitments[id],) = abi.decode(l.data, (IStorageWords.Status, uint256));
        }
    }

    function _foldImages(VmSafe.Log memory l) private {
        uint32 seq = uint32(uint256(l.topics.length > 1 ? l.topics[1] : bytes32(0)));
        if (l.topics[0] == IImageMarketplace.ImagePublished.selector) {
            imageStatuses[seq] = IImageMarketplace.Status.Published;
            imageCount = seq;
        } else if (l.topics[0] == IImageMarketplace.ImageStatus.selector) {
            (, imageStatuses[seq]) = abi.decode(l.data, (uint256, IImageMarketplace.Status));
        }
    }

    /* INTERNAL */

    function _who(VmSafe.Log memory l, uint256 topic) private pure returns (address) {
        return address(uint160(uint256(l.topics[topic])));
    }

    function _acc(VmSafe.Log memory l) private returns (Acc storage) {
        return _accOf(_who(l, 1), uint8(uint256(l.topics[3])));
    }

    function _accOf(address who, uint8 tok) internal returns (Acc storage a) {
        bytes32 key = keccak256(abi.encode(who, tok));
        a = accs[key];
        if (a.payer != address(0)) return a;
        (a.payer, a.token) = (who, tok);
        accKeys.push(key);
    }

    function _stream(VmSafe.Log memory l) private returns (Stream storage) {
        return _streamOf(_who(l, 1), uint8(uint256(l.topics[3])), uint64(uint256(l.topics[2])));
    }

    function _streamOf(address who, uint8 tok, uint64 payee) internal returns (Stream storage s) {
        bytes32 key = keccak256(abi.encode(who, tok, payee));
        s = streams[key];
        if (s.payer != address(0)) return s;
        (s.payer, s.token, s.payee) = (who, tok, payee);
        streamKeys.push(key);
        _knowPayee(payee);
    }

    function _knowPayee(uint64 payee) internal {
        if (knownPayee[payee]) return;
        knownPayee[payee] = true;
        payees.push(payee);
    }
}
