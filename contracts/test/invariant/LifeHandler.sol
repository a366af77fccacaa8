// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJobManager} from "../../src/interfaces/IJobManager.sol";
import {PlacementSuite} from "../utils/PlacementSuite.sol";

/// @title LifeHandler
/// @notice Every step in the life of jobs, in any order: with a class and without, offered on the chain and off it, moved,
/// resized, stopped, left behind; with books of what was signed.
contract LifeHandler is PlacementSuite {
    struct Book {
        IJobManager.Status status;
        uint256 payer;
        uint128 ceilingQ32;
        uint32 slaClass;
        uint40 maxUntil;
        bool offered;
    }

    bytes32[] public specs;
    mapping(bytes32 spec => Book) public books;
    /// @dev JM-7: who said yes to which try.
    mapping(bytes32 spec => mapping(uint8 attempt => uint32)) public acceptedBy;
    mapping(bytes32 spec => uint256) public opened;
    address[] public payersOf;
    uint256[] internal keys;
    uint32[3] public classes;
    string public broken;
    bytes32 private touched;

    /// @dev Not a test: the invariant test deploys this and calls {start}.
    function setUp() public override {}

    function start() external {
        super.setUp();
        _listen();
        nodes.snapshotCoordinators();
        (classes[1], classes[2]) = (_class(2 hours, 500), _class(0, 0));
        for (uint256 i; i < workers.length; ++i) {
            _optIn(workers[i], classes[1]);
            _optIn(workers[i], classes[2]);
        }
        for (uint256 i; i < 3; ++i) {
            (address who, uint256 key) = makeAddrAndKey(string.concat("payer", vm.toString(i)));
            payersOf.push(who);
            keys.push(key);
            _fund(who, i == 2 ? 50 ether : 1_000_000 ether);
        }
    }

    modifier step() {
        _;
        // JM-3: the job that was called has taken one of the listed steps, or none.
        if (touched != 0) _note(touched);
    }

    /* OPENING */

    function open(uint256 who, uint256 node, uint256 rate, uint256 flags) external step {
        _begin(who, node, rate, flags, false);
    }

    function create(uint256 who, uint256 node, uint256 rate, uint256 flags) external step {
        _begin(who, node, rate, flags, true);
    }

    function _begin(uint256 who, uint256 node, uint256 rate, uint256 flags, bool onChain) private {
        if (specs.length >= 24) return;
        bytes32 spec = keccak256(abi.encode(specs.length, who));
        Opening memory o;
        o.offer = _offer(spec, uint128(bound(rate, 1, 1e16) << 32));
        (o.offer.payer, o.offer.slaClass) = (payersOf[who % 3], classes[flags % 3]);
        if (flags % 5 == 0) o.offer.maxUntil = uint40(block.timestamp + bound(flags, 1, 2 days));
        books[spec] =
            Book(IJobManager.Status.None, who % 3, o.offer.maxRateQ32, o.offer.slaClass, o.offer.maxUntil, onChain);
        specs.push(spec);
        touched = spec;
        if (onChain) {
            vm.prank(o.offer.payer);
            jobs.createJob(o.offer);
            return;
        }
        _agree(o, node, rate, 0);
        try jobs.open(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs) {
            ++opened[spec];
            acceptedBy[spec][0] = o.assignment.nodeId;
        } catch {}
        // JM-6: the same once more.
        try jobs.open(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs) {
            ++opened[spec];
        } catch {}
    }

    /// @dev Makes the assignment and signs it all; mostly at less than the ceiling.
    function _agree(Opening memory o, uint256 node, uint256 rate, uint8 attempt) private view {
        Party memory worker = workers[node % workers.length];
        uint128 agreed = uint128(bound(rate >> 8, 1, o.offer.maxRateQ32));
        o.assignment = _assignment(o.offer.spec, agreed, worker.id);
        o.assignment.attempt = attempt;
        _signOpening(o, keys[books[o.offer.spec].payer], worker, 3);
    }

    function assign(uint256 which, uint256 node, uint256 rate, uint256 old) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        IJobManager.JobView memory j = jobs.job(spec);
        Opening memory o;
        Book storage b = books[spec];
        uint128 most = old % 3 == 0 ? b.ceilingQ32 : uint128(bound(rate, 1, 1e16) << 32);
        o.offer = _offer(spec, most);
        (o.offer.payer, o.offer.slaClass, o.offer.maxUntil) = (payersOf[b.payer], b.slaClass, b.maxUntil);
        // Some offers have run out.
        if (old % 4 == 0) o.offer.deadline = uint40(block.timestamp) - 1;
        _agree(o, node, rate, j.attempt);
        try jobs.assign(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs) {
            acceptedBy[spec][j.attempt] = o.assignment.nodeId;
            if (o.offer.deadline < block.timestamp && o.assignment.rateQ32 > j.rateQ32) {
                broken = "JM-4: an offer that has run out raised the rate";
            }
            if (most > b.ceilingQ32) b.ceilingQ32 = most;
        } catch {}
    }

    /* RUNNING */

    function confirm(uint256 which) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        vm.prank(_signerOf(spec));
        jobs.confirmRunning(_list(spec));
    }

    function resize(uint256 which, uint256 rate, uint256 until) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        Book storage b = books[spec];
        IJobManager.JobOffer memory offer = _offer(spec, uint128(bound(rate, 1, 1e16) << 32));
        (offer.payer, offer.slaClass) = (payersOf[b.payer], b.slaClass);
        if (until % 2 == 0) offer.maxUntil = uint40(block.timestamp + bound(until, 1, 2 days));
        uint128 agreed = uint128(bound(rate >> 8, 1, offer.maxRateQ32));
        bytes memory sig = _sign(keys[b.payer], jobs.offerDigest(offer));
        bytes memory nodeSig = _resizeSig(offer, _workerOf(spec), agreed);
        try jobs.resize(offer, sig, agreed, nodeSig) {
            b.maxUntil = offer.maxUntil;
            if (offer.maxRateQ32 > b.ceilingQ32) b.ceilingQ32 = offer.maxRateQ32;
        } catch {}
    }

    function reassign(uint256 which, bool byPayer) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        if (byPayer) vm.prank(payersOf[books[spec].payer]);
        try jobs.reassign(spec) {} catch {}
    }

    function jail(uint256 node, uint256 time) external step {
        if (time % 4 != 0) return;
        vm.prank(address(sla));
        nodes.jail(workers[node % workers.length].id, uint32(bound(time, 1, 2 hours)));
    }

    /* ENDING */

    function stop(uint256 which, bool failing) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        IJobManager.Status s = _statusOf(spec);
        if (s == IJobManager.Status.None || _isFinal(s)) return;
        if (failing) vm.mockCallRevert(address(token), abi.encodeWithSelector(token.transferFrom.selector), "failing");
        vm.prank(payersOf[books[spec].payer]);
        // Never fails, whatever the token does.
        jobs.stop(spec);
        vm.clearMockedCalls();
    }

    function nodeStop(uint256 which) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        vm.prank(_signerOf(spec));
        try jobs.nodeStop(spec, 16) {} catch {}
    }

    function finalize(uint256 which) external step {
        if (specs.length == 0) return;
        try jobs.finalize(_spec(which)) {} catch {}
    }

    function complete(uint256 which) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        vm.prank(_signerOf(spec));
        try jobs.complete(spec, "result") {} catch {}
    }

    function failStart(uint256 which) external step {
        if (specs.length == 0) return;
        try jobs.failStart(_spec(which)) {} catch {}
    }

    function expire(uint256 which) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        IJobManager.JobView memory j = jobs.job(spec);
        bool running = j.status == IJobManager.Status.Running || j.status == IJobManager.Status.Assigned;
        if (jobs.expire(_list(spec)) == 1 && running && (j.maxUntil == 0 || block.timestamp <= j.maxUntil)) {
            broken = "JM-5: expired too soon";
        }
    }

    function closeForArrears(uint256 which) external step {
        if (specs.length == 0) return;
        jobs.closeForArrears(_list(_spec(which)));
    }

    function approve(uint256 who, uint256 amount) external step {
        vm.prank(payersOf[who % 3]);
        token.approve(address(payments), amount % 2 == 0 ? type(uint256).max : amount % 1e20);
    }

    function warp(uint256 time) external step {
        uint256[6] memory edges = [uint256(1), 5 minutes, 15 minutes, 2 hours, 1 days, 40 hours];
        uint256 edge = edges[time % 6];
        // Just before, at and just after the boundaries.
        skip(edge == 1 ? bound(time, 1, 600) : edge - 1 + time % 3);
    }

    /* VIEWS */

    function count() external view returns (uint256) {
        return specs.length;
    }

    function workerCount() external view returns (uint256) {
        return workers.length;
    }

    function workerId(uint256 i) external view returns (uint32) {
        return workers[i].id;
    }

    function contracts() external view returns (address, address) {
        return (address(jobs), address(payments));
    }

    /* INTERNAL */

    function _spec(uint256 which) private returns (bytes32) {
        uint256 n = specs.length;
        touched = which % 3 == 0 ? specs[which % n] : specs[n - 1 - which % (n < 8 ? n : 8)];
        return touched;
    }

    function _workerOf(bytes32 spec) private view returns (Party memory) {
        uint32 id = jobs.job(spec).nodeId;
        for (uint256 i; i < workers.length; ++i) {
            if (workers[i].id == id) return workers[i];
        }
        return workers[0];
    }

    function _signerOf(bytes32 spec) private view returns (address) {
        return _workerOf(spec).signer;
    }

    function _isFinal(IJobManager.Status s) private pure returns (bool) {
        return s >= IJobManager.Status.Stopped && s <= IJobManager.Status.Expired;
    }

    function _note(bytes32 spec) private {
        IJobManager.Status from = books[spec].status;
        IJobManager.Status to = _statusOf(spec);
        if (from == to) return;
        if (!_isStep(from, to)) {
            broken = string.concat("JM-3: from ", vm.toString(uint8(from)), " to ", vm.toString(uint8(to)));
        }
        books[spec].status = to;
    }

    function _isStep(IJobManager.Status from, IJobManager.Status to) private pure returns (bool) {
        if (_isFinal(from)) return false;
        if (to == IJobManager.Status.Offered) return from == IJobManager.Status.None;
        if (to == IJobManager.Status.Assigned) {
            return from == IJobManager.Status.None || from == IJobManager.Status.Offered
                || from == IJobManager.Status.Reassign;
        }
        if (to == IJobManager.Status.Running) return from == IJobManager.Status.Assigned;
        if (to == IJobManager.Status.Stopping || to == IJobManager.Status.Completed) {
            return from == IJobManager.Status.Running;
        }
        if (to == IJobManager.Status.Reassign || to == IJobManager.Status.Failed) {
            return from == IJobManager.Status.Assigned || from == IJobManager.Status.Running
                || from == IJobManager.Status.Stopping;
        }
        return from != IJobManager.Status.None;
    }
}
