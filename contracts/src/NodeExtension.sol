// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {NodeBase} from "./NodeBase.sol";
import {Peers} from "./Peers.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ISLAManager} from "./interfaces/ISLAManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Liveness} from "./libraries/Liveness.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title NodeExtension
/// @notice See {INodeRegistry}. This is a part of the {NodeRegistry}, which runs it on its own storage: both together are too
/// large for one contract. Called directly it has nothing to work on, so there is nothing to initialize.
/// @custom:oz-upgrades-unsafe-allow missing-initializer
contract NodeExtension is NodeBase {
    /* CONSTANTS */

    /// @dev The longest time in jail. A node that must not come back is banned.
    uint32 private constant _MAX_JAIL = 365 days;

    /// @dev A node that missed this many of the last epochs is suspended.
    uint256 private constant _MISSED = 24;
    uint32 private constant _WINDOW = 48;

    /// @dev The epochs in a row that bring it back.
    uint32 private constant _COMEBACK = 3;

    /// @dev The time the coordinators have to publish a leaf.
    uint40 private constant _LEAF_TIME = 24 hours;

    /// @dev The gas a receiver of ether may use.
    uint256 private constant _PAY_GAS = 30_000;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) NodeBase(p) {}

    /* PENALTIES */

    /// @notice See {INodeRegistry-jail}.
    function jail(uint32 nodeId, uint32 duration) external {
        _onlyPeer(SLA);
        if (duration == 0 || duration > _MAX_JAIL) revert AlephErrors.OutOfBounds(duration, 1, _MAX_JAIL);
        Node storage n = _known(nodeId);
        INodeRegistry.Status status = n.status;
        // A penalty must not fail because the node left: then there is nothing to keep it from.
        if (status == INodeRegistry.Status.Pending || _hasEnded(status)) return;
        uint40 until = uint40(block.timestamp) + duration;
        if (status != INodeRegistry.Status.Jailed || until > n.jailedUntil) {
            n.jailedUntil = until;
            emit INodeRegistry.NodeJailed(nodeId, until);
        }
        if (status != INodeRegistry.Status.Jailed) {
            _advance(nodeId, n, INodeRegistry.Status.Jailed, INodeRegistry.StatusReason.Jailed);
        }
    }

    /// @notice See {INodeRegistry-unjail}.
    function unjail(uint32 nodeId) external unpaused(Pausing.ENTRY) {
        Node storage n = _known(nodeId);
        if (n.status != INodeRegistry.Status.Jailed) revert INodeRegistry.NodeNotActive(nodeId, n.status);
        if (block.timestamp < n.jailedUntil) revert AlephErrors.TooSoon(n.jailedUntil);
        // A node that cannot work yet is Suspended, so that its owner can drain it whatever it lacks.
        bool works = n.flags & OFFLINE == 0 && _hasStake(nodeId, n.kind)
            && (n.kind != INodeRegistry.Kind.Coordinator || _storage().coordinators.active < MAX_COORDINATORS);
        _advance(
            nodeId,
            n,
            works ? INodeRegistry.Status.Active : INodeRegistry.Status.Suspended,
            INodeRegistry.StatusReason.Released
        );
    }

    /// @notice See {INodeRegistry-ban}.
    function ban(uint32 nodeId) external {
        _onlyPeer(SLA);
        Node storage n = _known(nodeId);
        if (_hasEnded(n.status)) return;
        _dropLinks(_storage(), nodeId, n);
        _advance(nodeId, n, INodeRegistry.Status.Banned, INodeRegistry.StatusReason.Banned);
    }

    /* MISSED EPOCHS */

    /// @notice See {INodeRegistry-reportMissed}.
    function reportMissed(
        uint32 nodeId,
        uint32[] calldata epochs,
        bytes32[] calldata statsRoots,
        INodeRegistry.BitmapPage[] calldata pages
    ) external unpaused(Pausing.PENALTY) {
        Node storage n = _known(nodeId);
        uint256 count = epochs.length;
        if (count < _MISSED || count > _WINDOW) revert AlephErrors.OutOfBounds(count, _MISSED, _WINDOW);
        if (statsRoots.length != count) revert AlephErrors.OutOfBounds(statsRoots.length, count, count);
        if (pages.length != count) revert AlephErrors.OutOfBounds(pages.length, count, count);
        uint32 last = epochs[count - 1];
        _checkDuty(nodeId, n, epochs[0], last);
        _checkMissed(nodeId, epochs, statsRoots, pages);
        _checkSequencer(epochs);

        emit INodeRegistry.MissedReported(nodeId, epochs[0], last, uint8(count), msg.sender);
        // Either way no epoch up to the last one counts again.
        if (n.status == INodeRegistry.Status.Active) {
            n.flags |= OFFLINE;
            _advance(nodeId, n, INodeRegistry.Status.Suspended, INodeRegistry.StatusReason.Offline);
        } else {
            n.dutyFrom = _startOf(last + 1);
        }
        _record(ISLAManager.Kind.Offline, nodeId, epochs[0], last, 0);
    }

    /// @notice See {INodeRegistry-reactivate}.
    function reactivate(
        uint32 nodeId,
        uint32 firstEpoch,
        bytes32[3] calldata statsRoots,
        INodeRegistry.BitmapPage[3] calldata pages
    ) external unpaused(Pausing.ENTRY) {
        Node storage n = _known(nodeId);
        if (msg.sender != n.owner && msg.sender != n.signer) revert AlephErrors.NotAuthorized(msg.sender);
        if (n.status != INodeRegistry.Status.Suspended) revert INodeRegistry.NodeNotActive(nodeId, n.status);
        _checkPast(firstEpoch, _WINDOW);
        if (_startOf(firstEpoch) < n.statusSince) revert INodeRegistry.EpochWindow(firstEpoch);
        for (uint32 i; i < _COMEBACK; ++i) {
            _checkAlive(nodeId, firstEpoch + i, statsRoots[i], pages[i]);
        }
        if (!_hasStake(nodeId, n.kind)) revert INodeRegistry.StakeTooLow(nodeId);
        n.flags &= ~OFFLINE;
        _advance(nodeId, n, INodeRegistry.Status.Active, INodeRegistry.StatusReason.Online);
    }

    /* EVIDENCE AGAINST COORDINATORS */

    /// @notice See {INodeRegistry-equivocation}.
    function equivocation(
        uint32 coordId,
        uint32 epoch,
        bytes32 rootA,
        bytes32 mapA,
        bytes calldata sigA,
        bytes32 rootB,
        bytes32 mapB,
        bytes calldata sigB
    ) external unpaused(Pausing.PENALTY) {
        if (rootA == rootB && mapA == mapB) revert INodeRegistry.SameHeartbeat(epoch);
        uint32 now_ = _epochNow();
        if (epoch > now_ || now_ - epoch > EVIDENCE_EPOCHS) revert INodeRegistry.EpochWindow(epoch);
        _checkKeyOf(coordId, epoch, _heartbeatDigest(epoch, rootA, mapA), sigA, 0);
        _checkKeyOf(coordId, epoch, _heartbeatDigest(epoch, rootB, mapB), sigB, 1);
        emit INodeRegistry.EquivocationShown(coordId, epoch, msg.sender);
        _record(ISLAManager.Kind.Equivocation, coordId, epoch, epoch, 3);
    }

    /// @notice See {INodeRegistry-demandLeaf}.
    function demandLeaf(uint32 epoch, uint32 nodeId, bytes32 statsRoot, INodeRegistry.BitmapPage calldata page)
        external
        payable
    {
        if (msg.value != LEAF_FEE) revert INodeRegistry.WrongFee(msg.value, LEAF_FEE);
        _checkPast(epoch, _WINDOW);
        _checkAlive(nodeId, epoch, statsRoot, page);
        Demand storage d = _storage().demands[epoch][nodeId];
        if (d.state != INodeRegistry.DemandState.None) {
            revert AlephErrors.BadState(uint8(d.state), uint8(INodeRegistry.DemandState.None));
        }
        (d.by, d.openedAt, d.state) = (msg.sender, uint40(block.timestamp), INodeRegistry.DemandState.Open);
        emit INodeRegistry.LeafDemanded(epoch, nodeId, msg.sender, uint40(block.timestamp) + _LEAF_TIME);
    }

    /// @notice See {INodeRegistry-answerLeaf}.
    function answerLeaf(uint32 epoch, uint32 nodeId, bytes32 leaf, bytes32[] calldata proof) external {
        Demand storage d = _storage().demands[epoch][nodeId];
        if (d.state != INodeRegistry.DemandState.Open) {
            revert AlephErrors.BadState(uint8(d.state), uint8(INodeRegistry.DemandState.Open));
        }
        if (!Liveness.verify(_storage().heartbeats[epoch], leaf, nodeId, proof)) revert INodeRegistry.BadProof();
        d.state = INodeRegistry.DemandState.Answered;
        emit INodeRegistry.LeafAnswered(epoch, nodeId, leaf, msg.sender);
        if (!_pay(msg.sender, LEAF_FEE)) revert INodeRegistry.PaymentFailed(msg.sender);
    }

    /// @notice See {INodeRegistry-expireLeaf}.
    function expireLeaf(
        uint32 epoch,
        uint32 nodeId,
        uint32 coordId,
        bytes32 statsRoot,
        bytes32 bitmapHash,
        bytes calldata sig
    ) external unpaused(Pausing.PENALTY) {
        _checkHeartbeat(epoch, statsRoot, bitmapHash);
        _checkKeyOf(coordId, epoch, _heartbeatDigest(epoch, statsRoot, bitmapHash), sig, 0);
        address refund = _withhold(epoch, nodeId);
        emit INodeRegistry.LeafWithheld(epoch, nodeId, coordId, msg.sender);
        // The fault is to hide what was said of the epoch, however many leaves of it are missing.
        _record(ISLAManager.Kind.BadAttestation, coordId, epoch, epoch, 1);
        // Whoever demanded it must not be able to prevent this by refusing the ether.
        if (refund != address(0)) _pay(refund, LEAF_FEE);
    }

    /* INTERNAL */

    /// @dev This is what the coordinators said of the epoch.
    function _checkHeartbeat(uint32 epoch, bytes32 statsRoot, bytes32 bitmapHash) private view {
        if (_storage().heartbeats[epoch] != Liveness.commitment(statsRoot, bitmapHash)) {
            revert INodeRegistry.WrongHeartbeat(epoch);
        }
    }

    /// @dev The epochs ascend, and in none of them did the coordinators or the node itself say that it lived.
    function _checkMissed(
        uint32 nodeId,
        uint32[] calldata epochs,
        bytes32[] calldata statsRoots,
        INodeRegistry.BitmapPage[] calldata pages
    ) private view {
        uint256 beats = _storage().selfBeats[nodeId];
        uint32 previous;
        for (uint256 i; i < epochs.length; ++i) {
            uint32 epoch = epochs[i];
            if (epoch <= previous) revert INodeRegistry.EpochOrder(previous, epoch);
            previous = epoch;
            (bool told, bool alive) = _look(nodeId, epoch, statsRoots[i], pages[i]);
            if (!told || alive || (beats != 0 && _inBeats(beats, epoch))) revert INodeRegistry.NotMissed(epoch);
        }
    }

    /// @dev The coordinators said of the epoch that the node was alive.
    function _checkAlive(uint32 nodeId, uint32 epoch, bytes32 statsRoot, INodeRegistry.BitmapPage calldata page)
        private
        view
    {
        (, bool alive) = _look(nodeId, epoch, statsRoot, page);
        if (!alive) revert INodeRegistry.NotAlive(epoch);
    }

    /// @dev What the coordinators said of the node in the epoch, if anything.
    function _look(uint32 nodeId, uint32 epoch, bytes32 statsRoot, INodeRegistry.BitmapPage calldata page)
        private
        view
        returns (bool told, bool alive)
    {
        bytes32 bitmapHash;
        (bitmapHash, told, alive) = Liveness.look(page, nodeId);
        _checkHeartbeat(epoch, statsRoot, bitmapHash);
    }

    /// @dev The node was on duty from the first to the last epoch, and these are among the last 48.
    function _checkDuty(uint32 nodeId, Node storage n, uint32 first, uint32 last) private view {
        (uint40 from, uint40 to) = _duty(nodeId, n);
        _checkPast(first, _WINDOW);
        if (_startOf(first) < from) revert INodeRegistry.NotMissed(first);
        if (_startOf(last + 1) > to) revert INodeRegistry.NotMissed(last);
    }

    /// @dev When missed epochs count. A node that drains is held to the time before.
    function _duty(uint32 nodeId, Node storage n) private view returns (uint40 from, uint40 to) {
        INodeRegistry.Status status = n.status;
        if (status == INodeRegistry.Status.Active) return (n.statusSince, uint40(block.timestamp));
        if (status == INodeRegistry.Status.Draining) return (n.dutyFrom, n.statusSince);
        revert INodeRegistry.NodeNotActive(nodeId, status);
    }

    /// @dev No epoch overlaps with an outage of the sequencer: in one no node could speak for itself.
    function _checkSequencer(uint32[] calldata epochs) private view {
        uint32 last = epochs[epochs.length - 1];
        if (ISLAManager(SLA).outage(_startOf(epochs[0]), _startOf(last + 1)) == 0) return;
        for (uint256 i; i < epochs.length; ++i) {
            uint32 epoch = epochs[i];
            if (ISLAManager(SLA).outage(_startOf(epoch), _startOf(epoch + 1)) != 0) {
                revert INodeRegistry.NotMissed(epoch);
            }
        }
    }

    /// @dev The signature is by a key that the coordinator had in the epoch, or has now.
    function _checkKeyOf(uint32 coordId, uint32 epoch, bytes32 digest, bytes calldata sig, uint8 index) private view {
        NodeRegistryStorage storage $ = _storage();
        Node storage c = _known(coordId);
        if (c.kind != INodeRegistry.Kind.Coordinator) {
            revert INodeRegistry.WrongKind(coordId, c.kind, INodeRegistry.Kind.Coordinator);
        }
        (address by,,) = ECDSA.tryRecoverCalldata(digest, sig);
        PastKey memory past = $.pastKeys[by];
        // Whoever finds an old key later cannot harm the coordinator that gave it up.
        bool old = past.nodeId == coordId && epoch <= past.lastEpoch;
        if (!old && $.bySigner[by] != coordId) revert AlephErrors.BadSignature(index);
    }

    /// @dev The time for publishing the leaf is over; outages of the sequencer do not count. Tells who gets the fee back, the
    /// first time.
    function _withhold(uint32 epoch, uint32 nodeId) private returns (address refund) {
        Demand storage d = _storage().demands[epoch][nodeId];
        INodeRegistry.DemandState state = d.state;
        if (state == INodeRegistry.DemandState.Open) {
            refund = d.by;
        } else if (state != INodeRegistry.DemandState.Withheld) {
            revert AlephErrors.BadState(uint8(state), uint8(INodeRegistry.DemandState.Open));
        }
        uint40 now_ = uint40(block.timestamp);
        uint40 end = d.openedAt + _LEAF_TIME + ISLAManager(SLA).outage(d.openedAt, now_);
        if (now_ < end) revert AlephErrors.TooSoon(end);
        d.state = INodeRegistry.DemandState.Withheld;
    }

    function _record(ISLAManager.Kind kind, uint32 nodeId, uint32 ref, uint32 occurrence, uint16 severity) private {
        ISLAManager(SLA)
            .recordViolation(kind, nodeId, bytes32(uint256(ref)), occurrence, severity, msg.sender, address(0));
    }

    /// @dev Sends ether without caring for what comes back.
    function _pay(address to, uint256 value) private returns (bool ok) {
        assembly ("memory-safe") {
            ok := call(_PAY_GAS, to, value, 0, 0, 0, 0)
        }
    }
}
