// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJobManager} from "../../src/interfaces/IJobManager.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {IPaymentManager} from "../../src/interfaces/IPaymentManager.sol";
import {AlephErrors} from "../../src/libraries/AlephErrors.sol";
import {Suite} from "../utils/Suite.sol";

/// @title JobHandler
/// @notice Payers, nodes, coordinators and bystanders that do anything in any order through the JobManager, the
/// NodeRegistry and the StakingManager, with books of their own.
contract JobHandler is Suite {
    struct Life {
        IJobManager.Status status;
        uint256 payer;
        uint256 worker;
        uint128 rateQ32;
        uint128 maxRateQ32;
        uint40 maxUntil;
    }

    bytes32[] public specs;
    mapping(bytes32 spec => Life) public lives;
    mapping(bytes32 spec => bool) public accepted;
    mapping(bytes32 spec => uint256) public opened;
    address[] public payersOf;
    uint256[] internal keys;
    /// @dev For each node: the status seen last, and its payout address with the time it was asked for.
    mapping(uint32 id => INodeRegistry.Status) public lastStatus;
    mapping(uint32 id => uint256) public staked;
    mapping(uint32 id => uint256) public withdrawnStake;
    uint256 public steps;
    uint256 internal minted;

    /// @dev Not a test: the invariant test deploys this and calls {start}.
    function setUp() public override {}

    function start() external {
        Suite.setUp();
        for (uint256 i; i < 3; ++i) {
            (address who, uint256 key) = makeAddrAndKey(string.concat("payer", vm.toString(i)));
            payersOf.push(who);
            keys.push(key);
            _fund(who, i == 2 ? 50 ether : 1_000_000 ether);
        }
        for (uint256 i; i < allNodes(); ++i) {
            Party memory p = party(i);
            lastStatus[p.id] = INodeRegistry.Status.Active;
            (uint128 self,,) = staking.stakeOf(p.id);
            staked[p.id] = self;
        }
    }

    modifier step() {
        ++steps;
        _;
        if (steps % 4 == 0) _noteStatuses();
    }

    /* JOBS */

    function open(uint256 who, uint256 node, uint256 rate, uint256 until, uint256 nonce) external step {
        uint256 p = who % 3;
        Party memory worker = workers[node % workers.length];
        bytes32 spec = keccak256(abi.encode(specs.length, who));
        Opening memory o;
        o.offer = _offer(spec, uint128(bound(rate, 1, 1e16) << 32));
        (o.offer.payer, o.offer.nonce) = (payersOf[p], nonce % 8 == 0 ? 0 : o.offer.nonce);
        if (until % 2 == 0) o.offer.maxUntil = uint40(block.timestamp + bound(until, 1, 2 days));
        uint128 agreed = uint128(bound(rate >> 8, 1, o.offer.maxRateQ32));
        o.assignment = _assignment(spec, agreed, worker.id);
        _signOpening(o, keys[p], worker, 3);
        try jobs.open(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs) {
            specs.push(spec);
            lives[spec] = Life(
                IJobManager.Status.Assigned, p, node % workers.length, agreed, o.offer.maxRateQ32, o.offer.maxUntil
            );
            accepted[spec] = true;
            ++opened[spec];
        } catch (bytes memory err) {
            bytes4 s = bytes4(err);
            require(
                s == AlephErrors.Insufficient.selector || s == IPaymentManager.InArrears.selector
                    || s == IPaymentManager.HasDebt.selector || s == IJobManager.NonceUsed.selector
                    || s == INodeRegistry.NodeNotActive.selector,
                "unexpected revert of open"
            );
        }
    }

    function confirm(uint256 which) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        Life storage life = lives[spec];
        IJobManager.Status before = life.status;
        uint256 ok = _confirm(spec, workers[life.worker]);
        IJobManager.Status now_ = _statusOf(spec);
        require((ok == 1) == (now_ == IJobManager.Status.Running && before == IJobManager.Status.Assigned), "bitmap");
        _move(spec, now_);
    }

    function stop(uint256 which, bool broken) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        if (!_isLive(spec)) return;
        // PM-10: a stop succeeds whatever the token does.
        if (broken) vm.mockCallRevert(address(token), abi.encodeWithSelector(token.transferFrom.selector), "broken");
        vm.prank(payersOf[lives[spec].payer]);
        jobs.stop(spec);
        vm.clearMockedCalls();
        _move(spec, IJobManager.Status.Stopped);
    }

    function nodeStop(uint256 which) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        if (!_isLive(spec)) return;
        vm.prank(workers[lives[spec].worker].signer);
        jobs.nodeStop(spec, 16);
        _move(spec, IJobManager.Status.Failed);
    }

    function failStart(uint256 which) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        try jobs.failStart(spec) {
            require(lives[spec].status == IJobManager.Status.Assigned, "failStart of a job that is not assigned");
            _move(spec, IJobManager.Status.Failed);
        } catch {}
    }

    function closeForArrears(uint256 which) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        if (jobs.closeForArrears(_list(spec)) == 1) _move(spec, IJobManager.Status.Expired);
    }

    function expire(uint256 which) external step {
        if (specs.length == 0) return;
        bytes32 spec = _spec(which);
        if (jobs.expire(_list(spec)) == 1) {
            require(block.timestamp > lives[spec].maxUntil && lives[spec].maxUntil != 0, "expired too soon");
            _move(spec, IJobManager.Status.Expired);
        }
    }

    function settle(uint256 node, uint256 who) external step {
        payments.pullMany(payersOf, ALEPH);
        payments.claim(workers[node % workers.length].id, ALEPH, payersOf);
        address p = payersOf[who % 3];
        if (payments.account(p, ALEPH).refund != 0) payments.withdrawRefund(p, ALEPH);
    }

    function approve(uint256 who, uint256 amount) external step {
        vm.prank(payersOf[who % 3]);
        token.approve(address(payments), amount % 2 == 0 ? type(uint256).max : amount % 1e20);
    }

    function warp(uint256 time) external step {
        uint256 pick = time % 4;
        skip(bound(time, 1, pick == 0 ? 60 : pick == 1 ? 15 minutes : pick == 2 ? 1 hours : 40 hours));
    }

    /* NODES AND STAKES */

    function drain(uint256 which) external step {
        Party memory p = party(which % allNodes());
        vm.prank(p.owner);
        try nodes.drain(p.id) {} catch {}
    }

    function exit(uint256 which) external step {
        Party memory p = party(which % allNodes());
        uint32 running = jobs.activeJobs(p.id);
        vm.prank(p.owner);
        try nodes.exit(p.id) {
            require(running == 0, "exit with jobs");
        } catch {}
    }

    function stake(uint256 which, uint256 amount) external step {
        Party memory p = party(which % allNodes());
        if (nodes.node(p.id).status == INodeRegistry.Status.Exited) return;
        uint128 value = uint128(bound(amount, 1, 1e22));
        _stake(p, value);
        staked[p.id] += value;
    }

    function requestUnstake(uint256 which, uint256 amount) external step {
        Party memory p = party(which % allNodes());
        (uint128 self,,) = staking.stakeOf(p.id);
        if (self == 0) return;
        vm.prank(p.owner);
        try staking.requestUnstake(p.id, uint128(bound(amount, 1, self))) {} catch {}
    }

    function withdrawSelf(uint256 which) external step {
        Party memory p = party(which % allNodes());
        (, uint128 waiting, uint40 unlock) = staking.stakeOf(p.id);
        uint256 before = token.balanceOf(p.owner);
        vm.prank(p.owner);
        try staking.withdrawSelf(p.id) {
            require(block.timestamp >= unlock, "ST-6: paid before the unlock");
            require(token.balanceOf(p.owner) - before == waiting, "ST-6: paid another amount");
            withdrawnStake[p.id] += waiting;
        } catch {}
    }

    function rejoin(uint256 which, uint256 kind) external step {
        if (allNodes() >= 14) return;
        string memory name = string.concat("late", vm.toString(which % 1000), "-", vm.toString(allNodes()));
        if (kind % 2 == 0) coordinators.push(_join(INodeRegistry.Kind.Coordinator, name));
        else workers.push(_join(INodeRegistry.Kind.Compute, name));
        Party memory p = kind % 2 == 0 ? coordinators[coordinators.length - 1] : workers[workers.length - 1];
        lastStatus[p.id] = INodeRegistry.Status.Active;
        (uint128 self,,) = staking.stakeOf(p.id);
        staked[p.id] = self;
    }

    /* VIEWS */

    function count() external view returns (uint256) {
        return specs.length;
    }

    function allNodes() public view returns (uint256) {
        return coordinators.length + workers.length;
    }

    function party(uint256 i) public view returns (Party memory) {
        return i < coordinators.length ? coordinators[i] : workers[i - coordinators.length];
    }

    function contracts() external view returns (address, address, address, address, address) {
        return (address(token), address(nodes), address(staking), address(jobs), address(payments));
    }

    /* INTERNAL */

    function _spec(uint256 which) private view returns (bytes32) {
        // Mostly one of the latest, so that jobs meet several actions.
        uint256 n = specs.length;
        uint256 recent = n < 8 ? n : 8;
        return which % 4 == 0 ? specs[which % n] : specs[n - 1 - which % recent];
    }

    function _isLive(bytes32 spec) private view returns (bool) {
        IJobManager.Status s = lives[spec].status;
        return s == IJobManager.Status.Assigned || s == IJobManager.Status.Running;
    }

    /// @dev JM-3: terminal is absorbing, and only the listed steps are taken.
    function _move(bytes32 spec, IJobManager.Status to) private {
        IJobManager.Status from = lives[spec].status;
        if (from == to) return;
        require(_isLive(spec), "JM-3: a final status was left");
        require(to != IJobManager.Status.Running || from == IJobManager.Status.Assigned, "JM-3: wrong step");
        lives[spec].status = to;
    }

    /// @dev NR-2: only the listed steps of a node's status are taken.
    function _noteStatuses() private {
        for (uint256 i; i < allNodes(); ++i) {
            uint32 id = party(i).id;
            (,, INodeRegistry.Status to) = nodes.standing(id);
            INodeRegistry.Status from = lastStatus[id];
            if (from == to) continue;
            bool listed = (from == INodeRegistry.Status.Active && to == INodeRegistry.Status.Draining)
                || (from == INodeRegistry.Status.Draining && to == INodeRegistry.Status.Exited);
            require(listed, "NR-2: a step that is not listed");
            lastStatus[id] = to;
        }
    }
}
