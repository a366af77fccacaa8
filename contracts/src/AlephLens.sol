// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PaymentLens} from "./PaymentLens.sol";
import {Peers} from "./Peers.sol";
import {IAlephLens} from "./interfaces/IAlephLens.sol";
import {IBase} from "./interfaces/IBase.sol";
import {IDomainRegistry} from "./interfaces/IDomainRegistry.sol";
import {IImageMarketplace} from "./interfaces/IImageMarketplace.sol";
import {IJobManager} from "./interfaces/IJobManager.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {ISLAManager} from "./interfaces/ISLAManager.sol";
import {IStakingManager} from "./interfaces/IStakingManager.sol";
import {IStorageRegistry} from "./interfaces/IStorageRegistry.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Payees} from "./libraries/Payees.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title AlephLens
/// @notice See {IAlephLens}.
contract AlephLens is IAlephLens, PaymentLens {
    /* CONSTANTS */

    /// @dev The longest page, so that one always fits into the gas of a call.
    uint256 private constant _MAX_PAGE = 100;

    /// @dev What the ratings of an image are averaged with: so much weight at so many 1/1,000 of a star.
    uint256 private constant _PRIOR_WEIGHT = 50 << 16;
    uint256 private constant _PRIOR_SCORE = 3_500;

    /// @dev The parts of a delegation that can be leaving at once.
    uint8 private constant _TRANCHES = 8;

    uint32 private constant _EPOCH = 1 hours;

    INodeRegistry private immutable _NODES;
    IStakingManager private immutable _STAKING;
    IJobManager private immutable _JOBS;
    IPaymentManager private immutable _PAYMENTS;
    IStorageRegistry private immutable _STORAGES;
    IDomainRegistry private immutable _DOMAINS;
    ISLAManager private immutable _SLA;
    IImageMarketplace private immutable _IMAGES;

    /* SETUP */

    constructor(Peers memory p) PaymentLens(p.payments) {
        (_NODES, _STAKING) = (INodeRegistry(p.nodes), IStakingManager(p.staking));
        (_JOBS, _PAYMENTS) = (IJobManager(p.jobs), IPaymentManager(p.payments));
        (_STORAGES, _DOMAINS) = (IStorageRegistry(p.storages), IDomainRegistry(p.domains));
        (_SLA, _IMAGES) = (ISLAManager(p.sla), IImageMarketplace(p.images));
    }

    /* NETWORK */

    /// @inheritdoc IAlephLens
    function network() external view returns (NetworkInfo memory n) {
        n.timestamp = block.timestamp;
        (n.lastNodeId, n.activeCoordinators) = (_NODES.lastNodeId(), _NODES.activeCoordinators());
        (n.snapshotDay,,) = _NODES.coordinatorSet();
        (n.lastToken, n.lastImage, n.imageBond) = (_PAYMENTS.lastToken(), _IMAGES.lastSeq(), _IMAGES.bondOfNew());
        (n.prepay, n.softGrace, n.hardGrace) = _PAYMENTS.params();
        n.unbonding = _STAKING.unbonding();
        n.minCoordinator = _STAKING.requirement(INodeRegistry.Kind.Coordinator);
        n.minCompute = _STAKING.requirement(INodeRegistry.Kind.Compute);
        n.minStorage = _STAKING.requirement(INodeRegistry.Kind.Storage);
        address[8] memory all = [
            address(_NODES),
            address(_STAKING),
            address(_JOBS),
            address(_PAYMENTS),
            address(_STORAGES),
            address(_DOMAINS),
            address(_SLA),
            address(_IMAGES)
        ];
        for (uint256 i; i < all.length; ++i) {
            n.paused[i] = _pauseOf(all[i]);
        }
    }

    /* NODES */

    /// @inheritdoc IAlephLens
    function node(uint32 nodeId) public view returns (NodeInfo memory n) {
        n.nodeId = nodeId;
        n.node = _NODES.node(nodeId);
        (n.selfStake, n.delegated, n.unbonding) = _STAKING.totalStake(nodeId);
        (n.slashable, n.weight) = (_STAKING.slashable(nodeId), _STAKING.weight(nodeId));
        n.frozenUntil = _STAKING.frozenUntil(nodeId);
        n.commissionBps = _commissionOf(nodeId);
        n.meetsRequirement = n.node.kind != INodeRegistry.Kind.None && _STAKING.meetsRequirement(nodeId, n.node.kind);
        n.paidLink = _NODES.isPaidLink(nodeId);
        n.jobs = _JOBS.activeJobs(nodeId);
        n.commitments = _commitmentsOf(nodeId);
        n.selfHeartbeats = _selfHeartbeats(nodeId);
        n.points = _pointsOf(nodeId);
    }

    /// @inheritdoc IAlephLens
    function nodes(uint32 from, uint32 count) external view returns (NodeInfo[] memory list, uint32 next) {
        uint32 n;
        (from, n, next) = _page(from, count, _NODES.lastNodeId());
        list = new NodeInfo[](n);
        for (uint32 i; i < n; ++i) {
            list[i] = node(from + i);
        }
    }

    /// @inheritdoc IAlephLens
    function heartbeats() external view returns (uint32 epoch, uint32 posted) {
        epoch = uint32(block.timestamp) / _EPOCH;
        for (uint32 i; i < 32 && i <= epoch; ++i) {
            if (_NODES.heartbeatOf(epoch - i) != 0) posted |= uint32(1) << i;
        }
    }

    /// @inheritdoc IAlephLens
    function delegations(address who, uint32[] calldata nodeIds) external view returns (DelegationInfo[] memory list) {
        _checkPage(nodeIds.length);
        list = new DelegationInfo[](nodeIds.length);
        for (uint256 i; i < nodeIds.length; ++i) {
            list[i].nodeId = nodeIds[i];
            (list[i].tokens, list[i].shares) = _STAKING.positionValue(nodeIds[i], who);
            list[i].leaving = _leaving(who, nodeIds[i]);
        }
    }

    /* PAYMENTS */

    /// @inheritdoc IAlephLens
    function accounts(address payer) external view returns (AccountInfo[] memory list) {
        uint8 n = _PAYMENTS.lastToken();
        list = new AccountInfo[](n);
        for (uint8 i; i < n; ++i) {
            AccountInfo memory a = list[i];
            a.token = i + 1;
            a.info = _PAYMENTS.tokenOf(a.token);
            a.account = _PAYMENTS.account(payer, a.token);
            a.balance = _amountOf(a.info.erc20, abi.encodeCall(IERC20.balanceOf, (payer)));
            a.allowance = _amountOf(a.info.erc20, abi.encodeCall(IERC20.allowance, (payer, address(_PAYMENTS))));
            (a.paidUntil, a.allowanceUntil, a.softStop, a.hardStop) = runway(payer, a.token);
        }
    }

    /// @inheritdoc IAlephLens
    function credits(uint64 payee) external view returns (uint128[] memory list) {
        uint8 n = _PAYMENTS.lastToken();
        list = new uint128[](n);
        for (uint8 i; i < n; ++i) {
            list[i] = _PAYMENTS.creditOf(payee, i + 1);
        }
    }

    /// @inheritdoc IAlephLens
    function job(bytes32 spec) public view returns (JobInfo memory j) {
        j.spec = spec;
        j.job = _JOBS.job(spec);
        if (j.job.status == IJobManager.Status.None) return j;
        j.pair = _PAYMENTS.pair(j.job.payer, j.job.token, j.job.nodeId);
        IPaymentManager.AccountView memory a = _PAYMENTS.account(j.job.payer, j.job.token);
        (j.paidUntil, j.arrearsSince) = (a.paidUntil, a.arrearsSince);
        if (j.job.imageSeq == 0) return j;
        j.imagePair = _PAYMENTS.pair(j.job.payer, j.job.token, Payees.ofImage(j.job.imageSeq));
        j.imageIsPaying = _IMAGES.isPaying(j.job.imageSeq);
    }

    /// @inheritdoc IAlephLens
    function jobs(bytes32[] calldata specs) external view returns (JobInfo[] memory list) {
        _checkPage(specs.length);
        list = new JobInfo[](specs.length);
        for (uint256 i; i < specs.length; ++i) {
            list[i] = job(specs[i]);
        }
    }

    /* NAMES AND IMAGES */

    /// @inheritdoc IAlephLens
    function domain(string calldata fqdn) external view returns (DomainInfo memory d) {
        d.key = _DOMAINS.keyOf(fqdn);
        d.domain = _DOMAINS.domain(d.key);
    }

    /// @inheritdoc IAlephLens
    function domains(bytes32[] calldata keys) external view returns (DomainInfo[] memory list) {
        _checkPage(keys.length);
        list = new DomainInfo[](keys.length);
        for (uint256 i; i < keys.length; ++i) {
            (list[i].key, list[i].domain) = (keys[i], _DOMAINS.domain(keys[i]));
        }
    }

    /// @inheritdoc IAlephLens
    function image(uint32 seq) public view returns (ImageInfo memory i) {
        i.seq = seq;
        i.image = _IMAGES.image(seq);
        (i.weight, i.weightedStars, i.ratings) = _IMAGES.rating(seq);
        // At most five stars.
        i.score = uint16((_PRIOR_WEIGHT * _PRIOR_SCORE + uint256(i.weightedStars) * 1_000) / (_PRIOR_WEIGHT + i.weight));
        (i.usable, i.isPaying) = (_IMAGES.usable(seq), _IMAGES.isPaying(seq));
    }

    /// @inheritdoc IAlephLens
    function images(uint32 from, uint32 count) external view returns (ImageInfo[] memory list, uint32 next) {
        uint32 n;
        (from, n, next) = _page(from, count, _IMAGES.lastSeq());
        list = new ImageInfo[](n);
        for (uint32 i; i < n; ++i) {
            list[i] = image(from + i);
        }
    }

    /* INTERNAL */

    /// @dev The page of the numbers 1 to `last`: its first number, its length, and the number behind it or 0.
    function _page(uint32 from, uint32 count, uint32 last) private pure returns (uint32, uint32, uint32) {
        _checkPage(count);
        if (from == 0) from = 1;
        if (from > last) return (from, 0, 0);
        uint32 left = last - from + 1;
        return count < left ? (from, count, from + count) : (from, left, 0);
    }

    function _checkPage(uint256 length) private pure {
        if (length == 0 || length > _MAX_PAGE) revert AlephErrors.OutOfBounds(length, 1, _MAX_PAGE);
    }

    function _commissionOf(uint32 nodeId) private view returns (uint16 bps) {
        (,, bps,,,) = _STAKING.rewards(nodeId);
    }

    /// @dev Bit i: a sign of life by itself i epochs ago.
    function _selfHeartbeats(uint32 nodeId) private view returns (uint32 mask) {
        uint32 epoch = uint32(block.timestamp) / _EPOCH;
        for (uint32 i; i < 32 && i <= epoch; ++i) {
            if (_NODES.hasSelfHeartbeat(nodeId, epoch - i)) mask |= uint32(1) << i;
        }
    }

    function _leaving(address who, uint32 nodeId) private view returns (TrancheInfo[] memory list) {
        list = new TrancheInfo[](_TRANCHES);
        uint256 n;
        for (uint8 i; i < _TRANCHES; ++i) {
            (uint128 tokens, uint128 shares, uint40 unlock) = _STAKING.tranche(nodeId, who, i);
            if (shares != 0) list[n++] = TrancheInfo(i, tokens, unlock);
        }
        assembly ("memory-safe") {
            mstore(list, n)
        }
    }

    // What follows answers with zero when the contract asked is not there or does not know: one part that fails must not
    // keep the rest from being shown.

    function _commitmentsOf(uint32 nodeId) private view returns (uint32) {
        return uint32(_amountOf(address(_STORAGES), abi.encodeCall(IStorageRegistry.activeCommitments, (nodeId))));
    }

    function _pointsOf(uint32 nodeId) private view returns (uint16) {
        return uint16(_amountOf(address(_SLA), abi.encodeCall(ISLAManager.points, (nodeId))));
    }

    function _pauseOf(address target) private view returns (uint8) {
        return uint8(_amountOf(target, abi.encodeCall(IBase.pauseState, ())));
    }

    /// @dev The first word of the answer.
    function _amountOf(address target, bytes memory data) private view returns (uint256) {
        (bool ok, bytes memory out) = target.staticcall(data);
        return ok && out.length >= 32 ? uint256(bytes32(out)) : 0;
    }
}
