// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBase} from "../../src/interfaces/IBase.sol";
import {IDomainRegistry} from "../../src/interfaces/IDomainRegistry.sol";
import {IImageMarketplace} from "../../src/interfaces/IImageMarketplace.sol";
import {IJobManager} from "../../src/interfaces/IJobManager.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {IPaymentExtension} from "../../src/interfaces/IPaymentExtension.sol";
import {IPaymentManager} from "../../src/interfaces/IPaymentManager.sol";
import {ISLAManager} from "../../src/interfaces/ISLAManager.sol";
import {IStakingManager} from "../../src/interfaces/IStakingManager.sol";
import {IStorageRegistry} from "../../src/interfaces/IStorageRegistry.sol";
import {IStorageWords} from "../../src/interfaces/IStorageWords.sol";
import {Pausing} from "../../src/libraries/Pausing.sol";
import {Payees} from "../../src/libraries/Payees.sol";
import {BadToken} from "../utils/BadToken.sol";
import {Bitmaps} from "../utils/Bitmaps.sol";
import {Suite} from "../utils/Suite.sol";
import {UptimeFeed} from "../utils/UptimeFeed.sol";
import {WorldBooks} from "./WorldBooks.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title WorldHandler
/// @notice All contracts together: payers, honest nodes and two that are not, seven coordinators of which one lies and one
/// is away, delegators, publishers, a guardian, governance, an attacker, a sequencer that goes down, tokens that misbehave
/// and upgrades, in any order.
contract WorldHandler is WorldBooks {
    struct Held {
        uint128 id;
        uint256 worker;
        bytes object;
        IStorageWords.Terms terms;
    }

    uint256 internal constant PAYERS = 4;
    uint256 internal constant HONEST = 2;
    uint256 internal constant LIAR = 6;
    uint256 internal constant AWAY = 5;
    uint256 internal constant MAX_JOBS = 24;

    address[] public payersOf;
    uint256[] internal keys;
    address[] internal delegators;
    address[] internal publishers;
    address internal accuser;
    address internal attacker;
    uint32[3] internal classes;
    BadToken internal usd;
    BadToken internal evil;
    Held[] internal held;
    mapping(uint24 day => bool) internal seeded;
    mapping(uint32 epoch => bytes) internal said;
    mapping(string name => address) internal next_;
    string[] internal names;
    /// @dev G-4: what the handler made a node do.
    mapping(uint32 id => bool) public fault;
    mapping(uint32 id => bool) public honest;
    /// @dev What was seen that may not be, by property.
    mapping(string property => string) public broken;
    mapping(bytes32 action => uint256) public done;
    uint256 public steps;
    uint256 public successes;

    /// @dev Not a test: the invariant test deploys this and calls {start}.
    function setUp() public override {}

    function start() external {
        vm.recordLogs();
        vm.warp(START);
        feed = new UptimeFeed();
        feed.push(0, block.timestamp - 30 days);
        Suite.setUp();
        for (uint256 i; i < 4; ++i) {
            coordinators.push(_join(INodeRegistry.Kind.Coordinator, string.concat("more", vm.toString(i))));
        }
        for (uint256 i; i < coordinators.length; ++i) {
            Party memory p = coordinators[i];
            vm.prank(p.owner);
            nodes.updateMeta(p.id, keccak256("meta"), 0, uint16(1 + i % 4));
            honest[p.id] = i != LIAR;
        }
        nodes.snapshotCoordinators();
        (classes[1], classes[2]) = (_class(2 hours, 500), _class(0, 0));
        for (uint256 i; i < workers.length; ++i) {
            honest[workers[i].id] = i < HONEST;
            _stake(workers[i], 100_000 ether);
            _optIn(workers[i], classes[1]);
            _optIn(workers[i], classes[2]);
            storages.enlist(workers[i].id);
        }
        _tokens();
        _people();
        names = _proxies();
        for (uint256 i; i < names.length; ++i) {
            next_[names[i]] = _implementation(names[i]);
        }
        images.setUsdUnit(ALEPH, 1e15);
        _fold();
    }

    function _tokens() private {
        (usd, evil) = (new BadToken(6), new BadToken(18));
        payments.listToken(address(usd));
        payments.listToken(address(evil));
        extension.setTokenTerms(ALEPH, 0, 0, 1 ether);
        for (uint64 pool = Payees.TREASURY; pool <= Payees.DEVELOPMENT; ++pool) {
            payments.setPoolPayout(pool, makeAddr("pool"));
            _knowPayee(pool);
        }
    }

    function _people() private {
        for (uint256 i; i < PAYERS; ++i) {
            (address who, uint256 key) = makeAddrAndKey(string.concat("payer", vm.toString(i)));
            payersOf.push(who);
            keys.push(key);
            // One is poor: its wallet runs dry within hours.
            _fund(who, i == 3 ? 50 ether : 1_000_000 ether);
            usd.mint(who, 1e24);
            evil.mint(who, 1e24);
            vm.startPrank(who);
            usd.approve(address(payments), type(uint256).max);
            evil.approve(address(payments), type(uint256).max);
            vm.stopPrank();
        }
        for (uint256 i; i < 2; ++i) {
            delegators.push(makeAddr(string.concat("delegator", vm.toString(i))));
            gateway.mint(token, delegators[i], 1_000_000 ether);
            vm.prank(delegators[i]);
            token.approve(address(staking), type(uint256).max);
            publishers.push(makeAddr(string.concat("publisher", vm.toString(i))));
            gateway.mint(token, publishers[i], 1_000_000 ether);
            vm.prank(publishers[i]);
            token.approve(address(images), type(uint256).max);
        }
        (accuser, attacker) = (makeAddr("accuser"), makeAddr("attacker"));
        _bondOf(accuser, 1_000);
        _bondOf(attacker, 1_000_000);
        for (uint256 i; i < workers.length; ++i) {
            _bondOf(workers[i].owner, 100);
        }
    }

    modifier step() {
        ++steps;
        vm.recordLogs();
        _;
        _fold();
    }

    /* JOBS */

    function open(uint256 who, uint256 node, uint256 rate, uint256 flags) external step {
        if (workKeys.length >= MAX_JOBS) return;
        Opening memory o = _newOffer(who, rate, flags);
        if (flags % 6 == 5) {
            vm.prank(o.offer.payer);
            try jobs.createJob(o.offer) {
                _did("createJob");
            } catch {
                _drop();
            }
            return;
        }
        _agreeOn(o, who % PAYERS, workers[node % workers.length], rate >> 8, 0);
        try jobs.open(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs) {
            _did("open");
        } catch {
            _drop();
        }
    }

    function _newOffer(uint256 who, uint256 rate, uint256 flags) private returns (Opening memory o) {
        o.offer = _offer(keccak256(abi.encode(steps, who)), uint128(bound(rate, 2, 1e16) << 32));
        (o.offer.payer, o.offer.slaClass) = (payersOf[who % PAYERS], classes[flags % 3]);
        o.offer.token = flags % 4 == 0 ? uint8(2 + flags / 4 % 2) : ALEPH;
        if (flags % 5 == 0) o.offer.maxUntil = uint40(block.timestamp + bound(flags, 1, 3 days));
        if (imageCount != 0 && flags % 7 < 2) o.offer.imageSeq = uint32(1 + flags / 7 % imageCount);
    }

    function _agreeOn(Opening memory o, uint256 who, Party memory worker, uint256 rate, uint8 attempt) private view {
        uint256 most = o.offer.imageSeq == 0 ? o.offer.maxRateQ32 : o.offer.maxRateQ32 / 2;
        o.assignment = _assignment(o.offer.spec, uint128(bound(rate, 1, most)), worker.id);
        o.assignment.attempt = attempt;
        uint32 duty = jobs.dutyCoordinator(o.offer.spec, _today(), attempt);
        if (duty != 0) o.assignment.coordId = duty;
        o.payerSig = _sign(keys[who], jobs.offerDigest(o.offer));
        o.nodeSig = _sign(worker.key, jobs.acceptDigest(o.assignment));
        bytes32 digest = jobs.assignmentDigest(o.assignment);
        for (uint256 i; i < coordinators.length; ++i) {
            Party memory c = coordinators[i];
            if (i > 2 && c.id != duty) continue;
            o.coordSigs = abi.encodePacked(o.coordSigs, c.id, _sign(c.key, digest));
        }
    }

    function assign(uint256 which, uint256 node, uint256 rate) external step {
        if (workKeys.length == 0) return;
        bytes32 spec = _spec(which);
        IJobManager.JobView memory j = jobs.job(spec);
        uint256 who = _payerIndex(j.payer);
        if (who == PAYERS) return;
        Opening memory o;
        o.offer = _offer(spec, uint128(bound(rate, 2, 1e16) << 32));
        (o.offer.payer, o.offer.slaClass, o.offer.imageSeq) = (j.payer, j.slaClass, j.imageSeq);
        (o.offer.token, o.offer.maxUntil) = (j.token, j.maxUntil);
        _agreeOn(o, who, workers[node % workers.length], rate >> 8, j.attempt);
        try jobs.assign(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs) {
            _did("assign");
        } catch {
            _drop();
        }
    }

    function confirm(uint256 which) external step {
        if (workKeys.length != 0) _confirmOne(_spec(which));
    }

    function _confirmOne(bytes32 spec) private {
        Work storage w = works[spec];
        uint64 image = Payees.ofImage(w.imageSeq);
        uint256 credit = payments.creditOf(image, w.token);
        vm.prank(nodes.signerOf(jobs.job(spec).nodeId));
        if (jobs.confirmRunning(_list(spec)) == 1) return _did("confirm");
        if (w.imageOnce != 0 && payments.creditOf(image, w.token) == credit) _foldUncharged();
    }

    /// @dev PM-10: whatever the token does and whatever is paused, a payer can stop.
    function stop(uint256 which, uint256 often) external step {
        if (workKeys.length == 0 || often % 2 == 0) return;
        bytes32 spec = _spec(which);
        IJobManager.JobView memory j = jobs.job(spec);
        if (j.payer == address(0) || _final(j.status)) return;
        vm.prank(j.payer);
        try jobs.stop(spec) {
            _did("stop");
        } catch {
            _drop();
            broken["G-3"] = "a job cannot be stopped";
        }
    }

    function nodeStop(uint256 which) external step {
        if (workKeys.length == 0) return;
        bytes32 spec = _spec(which);
        IJobManager.JobView memory j = jobs.job(spec);
        bool early = j.status == IJobManager.Status.Stopping && j.slaClass == classes[1];
        early = early && block.timestamp < uint256(j.changedAt) + 2 hours;
        if (early && honest[j.nodeId]) return;
        if (early) fault[j.nodeId] = true;
        uint256 before = cases.length;
        vm.prank(nodes.signerOf(j.nodeId));
        try jobs.nodeStop(spec, 16) {
            _did("nodeStop");
            _fold();
            if (early && cases.length == before) broken["G-6"] = "an early stop without a case";
        } catch {
            _drop();
        }
    }

    function finish(uint256 which, bool completes) external step {
        if (workKeys.length == 0) return;
        bytes32 spec = _spec(which);
        if (completes) {
            vm.prank(nodes.signerOf(jobs.job(spec).nodeId));
            try jobs.complete(spec, "result") {
                _did("complete");
            } catch {
                _drop();
            }
        } else {
            try jobs.finalize(spec) {
                _did("finalize job");
            } catch {
                _drop();
            }
        }
    }

    function failStart(uint256 which) external step {
        if (workKeys.length != 0) _failStart(_spec(which));
    }

    function _failStart(bytes32 spec) private {
        IJobManager.JobView memory j = jobs.job(spec);
        if (j.status != IJobManager.Status.Assigned) return;
        uint256 end = uint256(j.changedAt) + sla.startTimeoutOf(j.slaClass);
        if (block.timestamp > end) end += sla.outage(j.changedAt, uint40(block.timestamp));
        bool due = block.timestamp > end && !_inGrace();
        if (due && !honest[j.nodeId]) fault[j.nodeId] = true;
        vm.prank(attacker);
        try jobs.failStart(spec) {
            _did("failStart");
            if (honest[j.nodeId]) broken["G-5"] = "an honest node failed to start";
            _fold();
            bytes32 id = sla.caseIdOf(ISLAManager.Kind.StartTimeout, j.nodeId, spec, j.attempt);
            if (caseStates[id] == ISLAManager.State.None) broken["G-6"] = "a late start without a case";
        } catch {
            _drop();
            if (due && !honest[j.nodeId]) broken["G-6"] = "a late start cannot be told";
        }
    }

    function tidy(uint256 which, uint256 how) external step {
        if (workKeys.length == 0) return;
        bytes32 spec = _spec(which);
        if (how % 4 == 0 && jobs.expire(_list(spec)) == 1) _did("expire");
        if (how % 4 == 1 && jobs.closeForArrears(_list(spec)) == 1) _did("closeForArrears");
        if (how % 4 > 1) {
            if (how % 4 == 3) vm.prank(jobs.job(spec).payer);
            try jobs.reassign(spec) {
                _did("reassign");
            } catch {
                _drop();
            }
        }
    }

    function resize(uint256 which, uint256 rate) external step {
        if (workKeys.length == 0) return;
        bytes32 spec = _spec(which);
        IJobManager.JobView memory j = jobs.job(spec);
        uint256 who = _payerIndex(j.payer);
        if (who == PAYERS) return;
        IJobManager.JobOffer memory offer = _offer(spec, uint128(bound(rate, 2, 1e16) << 32));
        (offer.payer, offer.slaClass, offer.imageSeq) = (j.payer, j.slaClass, j.imageSeq);
        offer.token = j.token;
        uint128 agreed = uint128(bound(rate >> 8, 1, offer.maxRateQ32 / 2));
        bytes memory sig = _sign(keys[who], jobs.offerDigest(offer));
        bytes memory nodeSig = _resizeSig(offer, _partyOf(j.nodeId), agreed);
        try jobs.resize(offer, sig, agreed, nodeSig) {
            _did("resize");
        } catch {
            _drop();
        }
    }

    /* MONEY */

    function approve(uint256 who, uint256 amount) external step {
        IERC20 erc20 = amount % 5 == 4 ? IERC20(address(usd)) : IERC20(address(token));
        vm.prank(payersOf[who % PAYERS]);
        erc20.approve(address(payments), amount % 2 == 0 ? type(uint256).max : amount % 1e20);
    }

    function pull(uint256 who, uint256 tok, bool many) external step {
        vm.prank(attacker);
        if (many) payments.pullMany(payersOf, _token(tok));
        else payments.pull(payersOf[who % PAYERS], _token(tok));
        _did("pull");
    }

    function claim(uint256 which) external step {
        if (streamKeys.length == 0) return;
        Stream storage s = streams[streamKeys[which % streamKeys.length]];
        if (payments.claim(s.payee, s.token, payersOf) != 0) _did("claim");
    }

    function withdraw(uint256 which, uint256 tok, uint256 part) external step {
        uint64 payee = payees[which % payees.length];
        uint8 t = _token(tok);
        uint128 credit = payments.creditOf(payee, t);
        if (credit == 0 || _lies(t)) return;
        vm.prank(payments.payoutOf(payee));
        try payments.withdraw(payee, t, uint128(bound(part, 1, credit))) {
            _did("withdraw");
        } catch {
            _drop();
        }
    }

    function refund(uint256 who, uint256 tok) external step {
        address p = payersOf[who % PAYERS];
        if (_lies(_token(tok))) return;
        vm.prank(p);
        try payments.withdrawRefund(p, _token(tok)) {
            _did("withdrawRefund");
        } catch {
            _drop();
        }
    }

    function purse(uint256 who, uint256 tok, uint256 amount, uint256 how) external step {
        uint8 t = _token(tok);
        vm.startPrank(payersOf[who % PAYERS]);
        if (how % 4 == 0 && (t != 3 || evil.mode() != BadToken.Mode.BurnGas)) {
            try extension.deposit(t, uint128(bound(amount, 1, 100 ether))) {
                _did("deposit");
            } catch {
                _drop();
            }
        } else if (how % 4 == 1 && !_lies(t)) {
            try extension.withdrawDeposit(t, uint128(bound(amount, 1, 10 ether))) {
                _did("withdrawDeposit");
            } catch {
                _drop();
            }
        } else if (how % 4 == 2) {
            extension.setSource(t, amount % 3 == 0 ? 2 : 0);
        } else {
            extension.setLimits(
                t, address(jobs), uint128(amount % 1e16) << 32, amount % 2 == 0 ? 0 : type(uint40).max, 1e22
            );
        }
        vm.stopPrank();
    }

    function sponsor(uint256 who, uint256 by, uint256 rate) external step {
        vm.prank(payersOf[by % PAYERS]);
        try extension.sponsor(
            payersOf[who % PAYERS], ALEPH, uint128(rate % 1e16) << 32, uint40(block.timestamp + 1 days)
        ) {
            _did("sponsor");
        } catch {
            _drop();
        }
    }

    function revokeAll(uint256 who, uint256 tok, uint256 often) external step {
        if (often % 4 != 0) return;
        vm.prank(payersOf[who % PAYERS]);
        try extension.revokeAll(_token(tok)) {
            _did("revokeAll");
        } catch {
            _drop();
        }
    }

    function payDebt(uint256 which) external step {
        if (streamKeys.length == 0) return;
        Stream storage s = streams[streamKeys[which % streamKeys.length]];
        if (s.debt == 0) return;
        vm.prank(s.payer);
        try payments.payDebt(s.payer, s.token, s.payee) {
            _did("payDebt");
        } catch {
            _drop();
        }
    }

    function evilMode(uint256 mode) external step {
        BadToken.Mode[7] memory modes = [
            BadToken.Mode.Honest,
            BadToken.Mode.Fee,
            BadToken.Mode.Silent,
            BadToken.Mode.Bomb,
            BadToken.Mode.No,
            BadToken.Mode.Mute,
            BadToken.Mode.BurnGas
        ];
        evil.setMode(modes[mode % 7]);
    }

    /* STAKES */

    function delegate(uint256 node, uint256 who, uint256 amount) external step {
        uint32 id = _node(node).id;
        // What lies holds less than a third of the stake.
        if (id == coordinators[LIAR].id) amount %= 10_000 ether;
        vm.prank(delegators[who % 2]);
        try staking.delegate(id, uint128(bound(amount, 1 ether, 20_000 ether)), 0) {
            _did("delegate");
        } catch {
            _drop();
        }
    }

    function undelegate(uint256 node, uint256 who, uint256 part, bool back) external step {
        uint32 id = _node(node).id;
        address p = delegators[who % 2];
        (, uint128 shares) = staking.positionValue(id, p);
        vm.startPrank(p);
        if (back) {
            try staking.cancelUndelegate(id, uint8(part % 8)) {
                _did("cancelUndelegate");
            } catch {
                _drop();
            }
        } else if (shares != 0) {
            try staking.undelegate(id, part % 2 == 0 ? shares : uint128(bound(part, 1, shares)), 0) {
                _did("undelegate");
            } catch {
                _drop();
            }
        }
        vm.stopPrank();
    }

    function withdrawStake(uint256 node, uint256 who) external step {
        Party memory p = _node(node);
        address d = delegators[who % 2];
        for (uint8 i; i < 8; ++i) {
            _withdrawTranche(p.id, d, i);
        }
        vm.prank(p.owner);
        try staking.withdrawSelf(p.id) {
            _did("withdrawSelf");
        } catch {
            _drop();
        }
        try staking.claimOwner(p.id) {
            _did("claimOwner");
        } catch {
            _drop();
        }
    }

    function _withdrawTranche(uint32 id, address who, uint8 i) private {
        (, uint128 shares,) = staking.tranche(id, who, i);
        if (shares == 0) return;
        uint8[] memory list = new uint8[](1);
        list[0] = i;
        vm.prank(who);
        try staking.withdraw(id, list) {
            _did("withdraw stake");
        } catch {
            _drop();
        }
    }

    function stake(uint256 node, uint256 amount, bool out) external step {
        Party memory p = _node(node);
        if (!out) {
            // Not as one call that reverts with a prank in force.
            uint128 value = uint128(amount % 1_000 ether + 1);
            gateway.mint(token, p.owner, value);
            _fold();
            vm.startPrank(p.owner);
            token.approve(address(staking), value);
            try staking.stake(p.id, value) {
                _did("stake");
            } catch {
                _drop();
            }
            vm.stopPrank();
            return;
        }
        vm.prank(p.owner);
        try staking.requestUnstake(p.id, uint128(amount % 50_000 ether + 1)) {
            _did("requestUnstake");
        } catch {
            _drop();
        }
    }

    function rewards(uint256 node, uint256 amount, uint256 bps) external step {
        Party memory p = _node(node);
        vm.prank(p.owner);
        staking.setCommission(p.id, uint16(bps % 3_001));
        _fold();
        vm.startPrank(delegators[0]);
        try staking.addRewards(p.id, uint128(bound(amount, 1 ether, 100 ether))) {
            _did("addRewards");
        } catch {
            _drop();
        }
        vm.stopPrank();
    }

    /* LIVES OF NODES */

    /// @dev Hours pass; one of the dishonest workers may be away.
    function epochs(uint256 count, uint256 dark) external step {
        count = bound(count, 2, 26);
        if (count > 6) count = 26;
        bytes memory bitmap = hex"ffffffff";
        uint32 id = workers[HONEST + dark % 2].id;
        if (dark % 3 != 0) bitmap[id / 8] ^= bytes1(uint8(1 << (id % 8)));
        for (uint256 i; i < count; ++i) {
            uint32 epoch = _now();
            _pass((uint256(epoch) + 1) * 1 hours);
            _speak(epoch, bitmap);
        }
        if (dark % 3 != 0 && count > 24 && dark % 5 != 0) _reportDark(id);
    }

    function _speak(uint32 epoch, bytes memory bitmap) private {
        bytes32 digest = nodes.heartbeatDigest(epoch, ROOT, Bitmaps.hashOf(bitmap));
        // The liar says nothing of what is true.
        try nodes.submitHeartbeats(epoch, ROOT, bitmap, _quorumOf(digest, AWAY)) {
            said[epoch] = bitmap;
            _did("heartbeats");
        } catch {
            _drop();
        }
    }

    function reportMissed(uint256 which) external step {
        _reportDark(workers[which % workers.length].id);
    }

    function _reportDark(uint32 id) private {
        (uint32[] memory list, bytes32[] memory roots, bytes[] memory bitmaps) = _missed(id);
        bool due = list.length >= 24 && nodes.isActive(id) && !_inGrace() && !_paused(address(nodes), Pausing.PENALTY);
        if (due) fault[id] = true;
        if (due && honest[id]) broken["handler"] = "an honest node was dark";
        try nodes.reportMissed(id, list, roots, Bitmaps.pagesOf(bitmaps, id)) {
            _did("reportMissed");
            if (honest[id]) broken["G-5"] = "an honest node was reported";
            fault[id] = true;
            if (
                sla.stateOf(
                        sla.caseIdOf(ISLAManager.Kind.Offline, id, bytes32(uint256(list[0])), list[list.length - 1])
                    ) == ISLAManager.State.None
            ) broken["G-6"] = "missed epochs without a case";
        } catch {
            _drop();
            if (due) broken["G-6"] = "missed epochs cannot be told";
        }
    }

    function _missed(uint32 id)
        private
        view
        returns (uint32[] memory list, bytes32[] memory roots, bytes[] memory bitmaps)
    {
        uint32 now_ = _now();
        uint40 from = nodes.node(id).statusSince;
        (list, roots, bitmaps) = (new uint32[](48), new bytes32[](48), new bytes[](48));
        uint256 n;
        for (uint32 epoch = now_ - 48; epoch < now_; ++epoch) {
            bytes memory b = said[epoch];
            if (b.length == 0 || uint8(b[id / 8]) >> (id % 8) & 1 == 1) continue;
            if (uint256(epoch) * 1 hours < from) continue;
            // An epoch of an outage does not count.
            if (sla.outage(uint40(uint256(epoch) * 1 hours), uint40((uint256(epoch) + 1) * 1 hours)) != 0) continue;
            (list[n], roots[n], bitmaps[n]) = (epoch, ROOT, b);
            ++n;
        }
        assembly ("memory-safe") {
            mstore(list, n)
            mstore(roots, n)
            mstore(bitmaps, n)
        }
    }

    function comeBack(uint256 which) external step {
        Party memory p = workers[HONEST + which % 2];
        if (nodes.isActive(p.id)) return;
        try nodes.unjail(p.id) {
            _did("unjail");
        } catch {
            _drop();
        }
        uint32 first = _now();
        for (uint32 i; i < 3; ++i) {
            _pass((uint256(first) + i + 1) * 1 hours);
            _speak(first + i, hex"ffffffff");
        }
        bytes[3] memory bitmaps = [said[first], said[first + 1], said[first + 2]];
        vm.prank(p.owner);
        try nodes.reactivate(p.id, first, [ROOT, ROOT, ROOT], Bitmaps.threeOf(bitmaps, p.id)) {
            _did("reactivate");
        } catch {
            _drop();
        }
    }

    /// @dev The liar says two things of one hour.
    function equivocate(uint256 back, uint256 often) external step {
        if (often % 5 != 0) return;
        Party memory c = coordinators[LIAR];
        uint32 epoch = _now() - uint32(back % 300);
        bytes memory a = _sign(c.key, nodes.heartbeatDigest(epoch, "a", "m"));
        bytes memory b = _sign(c.key, nodes.heartbeatDigest(epoch, "b", "m"));
        bytes32 id = sla.caseIdOf(ISLAManager.Kind.Equivocation, c.id, bytes32(uint256(epoch)), epoch);
        bool due = !_paused(address(nodes), Pausing.PENALTY) && sla.stateOf(id) == ISLAManager.State.None;
        due = due && _statusOfNode(c.id) != INodeRegistry.Status.Exited;
        fault[c.id] = true;
        vm.prank(accuser);
        try nodes.equivocation(c.id, epoch, "a", "m", a, "b", "m", b) {
            _did("equivocation");
        } catch {
            _drop();
        }
        if (due && sla.stateOf(id) == ISLAManager.State.None) broken["G-6"] = "two words of one hour without a case";
    }

    /// @dev An attacker with the liar's key tries to have honest nodes punished.
    function frame(uint256 which, uint256 how) external step {
        Party memory p = how % 2 == 0 ? workers[which % HONEST] : coordinators[which % 5];
        bytes32 ref = bytes32(steps);
        Party memory c = coordinators[LIAR];
        bytes memory sig = _sign(c.key, _accusationDigest(ISLAManager.Kind.BadAttestation, p.id, ref, 0, 3));
        vm.startPrank(attacker);
        try sla.accuse(ISLAManager.Kind.BadAttestation, p.id, ref, 0, 3, "evidence", sig) {
            broken["G-5"] = "one coordinator accused";
        } catch {
            _drop();
        }
        bytes memory a = _sign(c.key, nodes.heartbeatDigest(_now(), "a", "m"));
        bytes memory b = _sign(c.key, nodes.heartbeatDigest(_now(), "b", "m"));
        try nodes.equivocation(p.id, _now(), "a", "m", a, "b", "m", b) {
            broken["G-5"] = "another's words were held against a coordinator";
        } catch {
            _drop();
        }
        vm.stopPrank();
        _frameStorage(which);
        if (workKeys.length != 0) _failStart(_spec(which));
    }

    function _frameStorage(uint256 which) private {
        if (held.length == 0) return;
        Held storage h = held[which % held.length];
        if (!honest[workers[h.worker].id]) return;
        IStorageWords.BitmapPart memory bits;
        vm.prank(attacker);
        try storages.reportMissed(h.id, h.terms, _today() - uint24(which % 7), bits) {
            broken["G-5"] = "an honest node missed a day";
        } catch {
            _drop();
        }
    }

    /* STORAGE */

    function store(uint256 who, uint256 size, uint256 rent) external step {
        if (held.length >= 8) return;
        Held storage h = held.push();
        h.worker = who % workers.length;
        h.object = _object(steps, 1 + size % 700);
        IStorageWords.Request memory r = _request(h.object, workers[h.worker].id, rent % 2 == 0 ? 0 : RENT);
        r.untilDay = _today() + uint24(bound(rent, 2, 40));
        h.terms = _termsOf(r, payersOf[who / 4 % 3]);
        bytes memory sig = _requestSig(r, h.terms.payer, workers[h.worker].key);
        vm.prank(h.terms.payer);
        try storages.commit(r, sig) returns (uint128 id) {
            h.id = id;
            _did("commit");
        } catch {
            _drop();
            held.pop();
        }
    }

    function release(uint256 which, uint256 often) external step {
        if (held.length == 0 || often % 2 == 0) return;
        Held storage h = held[which % held.length];
        vm.prank(h.terms.payer);
        try storages.release(h.id, h.terms) {
            _did("release");
        } catch {
            _drop();
        }
    }

    /// @dev A dishonest node has not proven a day.
    function reportStorage(uint256 which, uint256 back) external step {
        if (held.length == 0) return;
        Held storage h = held[which % held.length];
        uint32 id = workers[h.worker].id;
        if (honest[id]) return;
        uint24 day = _today() - uint24(1 + back % 5);
        IStorageWords.CommitmentView memory c = storages.commitment(h.id);
        bool due = c.status == IStorageWords.Status.Active && seeded[day] && day >= h.terms.sinceDay;
        due = due && day < h.terms.untilDay && !_has(c.proven, c, day) && !_has(c.missed, c, day);
        uint256 end = uint256(day) * 1 days + 30 hours;
        due = due && block.timestamp > end + sla.outage(uint40(uint256(day) * 1 days), uint40(block.timestamp));
        due = due && !_inGrace() && !_paused(address(storages), Pausing.PENALTY);
        if (due) fault[id] = true;
        IStorageWords.BitmapPart memory bits;
        try storages.reportMissed(h.id, h.terms, day, bits) {
            fault[id] = true;
            _did("reportMissed storage");
        } catch {
            _drop();
            if (due) broken["G-6"] = "a missed day cannot be told";
        }
    }

    function _has(uint32 bits, IStorageWords.CommitmentView memory c, uint24 day) private pure returns (bool) {
        return day <= c.newestDay && (bits >> (c.newestDay - day)) & 1 == 1;
    }

    /* CASES */

    /// @dev Honest coordinators accuse who is at fault.
    function accuse(uint256 who, uint256 kind, uint256 often) external step {
        if (often % 3 != 0) return;
        uint32 id = who % 3 == 2 ? coordinators[LIAR].id : workers[HONEST + who % 2].id;
        ISLAManager.Kind[3] memory kinds =
            [ISLAManager.Kind.BadAttestation, ISLAManager.Kind.ResourceShortfall, ISLAManager.Kind.CertMisuse];
        ISLAManager.Kind k = kinds[kind % 3];
        bytes32 ref = bytes32(steps);
        bytes memory sigs = _quorumOf(_accusationDigest(k, id, ref, 0, 0), AWAY);
        fault[id] = true;
        vm.prank(accuser);
        try sla.accuse(k, id, ref, 0, 0, "evidence", sigs) {
            _did("accuse");
        } catch {
            _drop();
        }
    }

    function dispute(uint256 which, uint256 how) external step {
        if (cases.length == 0) return;
        bytes32 id = cases[cases.length - 1 - which % (cases.length < 8 ? cases.length : 8)];
        ISLAManager.CaseView memory c = sla.caseOf(id);
        if (c.state == ISLAManager.State.Open) {
            vm.prank(_partyOf(c.nodeId).owner);
            try sla.defend(id, "answer") {
                _did("defend");
            } catch {
                _drop();
            }
            try sla.escalate(id) {
                _did("escalate");
            } catch {
                _drop();
            }
        } else if (c.state == ISLAManager.State.Escalated) {
            try sla.committeeResolve(id, fault[c.nodeId], _quorumOf(_verdictDigest(id, fault[c.nodeId]), AWAY)) {
                _did("verdict");
            } catch {
                _drop();
            }
        } else if (c.state == ISLAManager.State.Judged && how % 2 == 0) {
            vm.prank(c.guilty ? _partyOf(c.nodeId).owner : c.reporter);
            try sla.appeal(id) {
                _did("appeal");
            } catch {
                _drop();
            }
        } else if (c.state == ISLAManager.State.Appealed || c.state == ISLAManager.State.Vetoed) {
            sla.governanceResolve(id, fault[c.nodeId]);
            _did("govern");
        } else if (c.state == ISLAManager.State.Proven && how % 6 == 0) {
            try sla.veto(id) {
                _did("veto");
            } catch {
                _drop();
            }
        }
    }

    function finalize(uint256 which) external step {
        if (cases.length == 0) return;
        bytes32 id = cases[cases.length - 1 - which % (cases.length < 16 ? cases.length : 16)];
        vm.prank(attacker);
        try sla.finalize(id) {
            _did("finalize case");
        } catch {
            _drop();
        }
    }

    function bonds(uint256 which) external step {
        if (which % 8 == 0 && sla.toBurn() != 0) {
            sla.burn();
            _did("burn penalties");
            return;
        }
        if (creditors.length == 0) return;
        try sla.withdraw(creditors[which % creditors.length]) {
            _did("withdraw credit");
        } catch {
            _drop();
        }
    }

    /* IMAGES AND NAMES */

    function publish(uint256 who, uint256 model, uint256 price) external step {
        if (imageCount >= 6) return;
        IImageMarketplace.Listing memory l;
        (l.imageId, l.manifestHash) = (bytes32(steps), "manifest");
        l.model = IImageMarketplace.Model(model % 4);
        if (l.model == IImageMarketplace.Model.Royalty) l.royaltyBps = uint16(bound(price, 1, 2_000));
        if (model % 4 > 1) (l.token, l.price) = (ALEPH, uint128(bound(price, 1, model % 4 == 2 ? 1e18 : 1e18)));
        if (imageCount != 0 && price % 2 == 0) (l.parent, l.parentBps) = (imageCount, uint16(price % 3_001));
        vm.prank(publishers[who % 2]);
        try images.publish(l) {
            _did("publish");
        } catch {
            _drop();
        }
    }

    function image(uint256 which, uint256 how, uint256 job) external step {
        if (imageCount == 0) return;
        uint32 seq = uint32(1 + which % imageCount);
        if (how % 6 < 3) {
            try images.distribute(seq, ALEPH, payersOf) {
                _did("distribute");
            } catch {
                _drop();
            }
        } else if (how % 6 == 3 && workKeys.length != 0) {
            bytes32 spec = _spec(job);
            vm.prank(works[spec].payer);
            try images.rate(works[spec].imageSeq, uint8(1 + job % 5), spec, "review") {
                _did("rate");
            } catch {
                _drop();
            }
        } else if (how % 12 == 4) {
            vm.prank(images.image(seq).publisher);
            try images.unpublish(seq) {
                _did("unpublish");
            } catch {
                _drop();
            }
        } else if (how % 12 == 5) {
            try images.takedown(seq, "reason") {
                _did("takedown");
                _endRoyalties(seq);
            } catch {
                _drop();
            }
        } else {
            try images.returnBond(seq) {
                _did("returnBond");
            } catch {
                _drop();
            }
        }
    }

    /// @dev Whatever the jobs are about: what runs pays no longer for what was taken down.
    function _endRoyalties(uint32 seq) private {
        for (uint256 i; i < workKeys.length; ++i) {
            Work storage w = works[workKeys[i]];
            if (w.imageSeq != seq || w.imageRateQ32 == 0 || !_runs(w.status)) continue;
            if (jobs.endRoyalties(_list(workKeys[i])) != 1) broken["G-6"] = "an image that was taken down earns";
            _did("endRoyalty");
        }
    }

    function domain(uint256 who, uint256 name) external step {
        address p = payersOf[who % PAYERS];
        string memory fqdn = name % 2 == 0 ? "example.com" : "www.example.org";
        vm.prank(p);
        try domains.request(fqdn, IDomainRegistry.TargetType.Site, keccak256("target")) {
            _fold();
        } catch {
            _drop();
        }
        bytes32 key = domains.keyOf(fqdn);
        uint32 nonce = domains.requestOf(key, p).nonce;
        uint40 now_ = uint40(block.timestamp);
        IDomainRegistry.Method method = IDomainRegistry.Method.Token;
        bytes memory sigs = _quorumOf(domains.attestationDigest(key, p, nonce, method, now_), AWAY);
        try domains.verify(key, p, method, now_, sigs) {
            _did("verify domain");
        } catch {
            _drop();
        }
        try domains.lapse(key) {
            _did("lapse");
        } catch {
            _drop();
        }
    }

    /* THE WORLD */

    function outage(uint256 time) external step {
        if (time % 4 != 0) return;
        uint256 duration = bound(time, 1, 6 hours);
        feed.push(1, block.timestamp);
        _elapse(duration);
        skip(duration);
        uint80 up = feed.push(0, block.timestamp);
        // Before anybody tells of the outage an attacker uses it.
        for (uint256 i; i < workKeys.length; ++i) {
            _failStart(workKeys[i]);
        }
        sla.recordOutage(up - 1);
        _did("outage");
    }

    function pause(uint256 which, uint256 bits, uint256 time, uint256 often) external step {
        if (often % 4 == 0) {
            IBase base = IBase(_at(names[which % names.length]));
            base.renewPause();
            base.pause(uint8(1 + bits % Pausing.ALL), uint24(bound(time, 1, 2 hours)));
            _did("pause");
        } else if (often % 4 == 1) {
            IBase(_at(names[which % names.length])).unpause();
        }
    }

    function upgrade(uint256 which) external step {
        string memory name = names[which % names.length];
        IBase base = IBase(_at(name));
        (address announced,, uint40 eta) = base.announcedUpgrade();
        if (announced == address(0)) {
            base.announceUpgrade(next_[name]);
        } else if (block.timestamp >= eta) {
            bytes32 before = _views();
            UUPSUpgradeable(address(base)).upgradeToAndCall(announced, "");
            if (_views() != before) broken["G-8"] = string.concat("an upgrade changed what is seen: ", name);
            _did("upgrade");
        }
    }

    /// @dev G-7: an exit does the same whether new things are paused or not.
    function exits(uint256 pick, uint256 a, uint256 b) external step {
        for (uint256 i; i < names.length; ++i) {
            (uint8 bits,,) = IBase(_at(names[i])).pauseState();
            if (bits != 0) return;
        }
        (address from, address to, bytes memory data) = _exit(pick % 20, a, b);
        if (to == address(0)) return;
        uint256 snapshot = vm.snapshotState();
        bytes32 plain = _attempt(from, to, data);
        vm.revertToState(snapshot);
        for (uint256 i; i < names.length; ++i) {
            IBase(_at(names[i])).renewPause();
            IBase(_at(names[i])).pause(Pausing.ENTRY, 1 hours);
        }
        bytes32 paused = _attempt(from, to, data);
        vm.revertToStateAndDelete(snapshot);
        // Nothing of this has happened.
        _drop();
        if (plain != paused) {
            broken["G-7"] =
                string.concat("paused entries change an exit: ", vm.toString(abi.encodePacked(bytes4(data))));
        }
        _did("exits");
    }

    function _attempt(address from, address to, bytes memory data) private returns (bytes32) {
        vm.prank(from);
        (bool ok, bytes memory answer) = to.call(data);
        return keccak256(abi.encode(ok, answer, _views()));
    }

    function _exit(uint256 pick, uint256 a, uint256 b)
        private
        view
        returns (address from, address to, bytes memory data)
    {
        if (pick < 6) return _exitJob(pick, a);
        if (pick < 12) return _exitMoney(pick, a, b);
        Party memory p = _node(a);
        address d = delegators[b % 2];
        (, uint128 shares) = staking.positionValue(p.id, d);
        uint8[] memory list = new uint8[](1);
        list[0] = uint8(b % 8);
        if (pick == 12) return (p.owner, address(staking), abi.encodeCall(staking.requestUnstake, (p.id, 1 ether)));
        if (pick == 13) return (p.owner, address(staking), abi.encodeCall(staking.withdrawSelf, (p.id)));
        if (pick == 14) return (d, address(staking), abi.encodeCall(staking.undelegate, (p.id, shares, 0)));
        if (pick == 15) return (d, address(staking), abi.encodeCall(staking.withdraw, (p.id, list)));
        if (pick == 16) return (d, address(staking), abi.encodeCall(staking.claimOwner, (p.id)));
        if (pick == 17) return (p.owner, address(nodes), abi.encodeCall(nodes.drain, (p.id)));
        if (pick == 18 && creditors.length != 0) {
            return (d, address(sla), abi.encodeCall(sla.withdraw, (creditors[b % creditors.length])));
        }
        if (pick == 19 && held.length != 0) {
            Held storage h = held[b % held.length];
            return (h.terms.payer, address(storages), abi.encodeCall(IStorageRegistry.release, (h.id, h.terms)));
        }
    }

    function _exitJob(uint256 pick, uint256 a) private view returns (address from, address to, bytes memory data) {
        if (workKeys.length == 0) return (from, to, data);
        bytes32 spec = _spec(a);
        (from, to) = (works[spec].payer, address(jobs));
        if (pick == 0) data = abi.encodeCall(IJobManager.stop, (spec));
        if (pick == 1) data = abi.encodeCall(IJobManager.reassign, (spec));
        if (pick == 2) data = abi.encodeCall(IJobManager.finalize, (spec));
        if (pick == 3) data = abi.encodeCall(IJobManager.failStart, (spec));
        if (pick == 4) data = abi.encodeCall(IJobManager.expire, (_list(spec)));
        if (pick == 5) {
            data = abi.encodeCall(IJobManager.nodeStop, (spec, 16));
            from = nodes.signerOf(works[spec].nodeId);
        }
    }

    function _exitMoney(uint256 pick, uint256 a, uint256 b)
        private
        view
        returns (address from, address to, bytes memory data)
    {
        uint8 t = _token(b);
        from = payersOf[a % PAYERS];
        to = address(payments);
        uint64 payee = payees[a % payees.length];
        if (pick == 6) data = abi.encodeCall(payments.withdrawRefund, (from, t));
        if (pick == 7) data = abi.encodeCall(payments.claim, (payee, t, payersOf));
        if (pick == 8) data = abi.encodeCall(payments.pull, (from, t));
        if (pick == 9) data = abi.encodeCall(IPaymentExtension.revokeAll, (t));
        if (pick == 10) data = abi.encodeCall(IPaymentExtension.withdrawDeposit, (t, uint128(1 + b % 1e18)));
        if (pick == 11) {
            data = abi.encodeCall(payments.withdraw, (payee, t, payments.creditOf(payee, t)));
            from = payments.payoutOf(payee);
        }
    }

    /// @dev Mostly to a second around what decides something.
    function warp(uint256 how, uint256 time) external step {
        uint256[8] memory edges = [uint256(1), 5 minutes, 15 minutes, 1 hours, 2 hours, 24 hours, 3 days, 7 days];
        uint256 pick = how % 12;
        uint256 to = block.timestamp + bound(time, 1, 6 hours);
        if (pick < 8) to = block.timestamp + edges[pick] - 1 + time % 3;
        if (pick == 8) to = (block.timestamp / 1 days + 1) * 1 days - 1 + time % 3;
        if (pick == 9 && accKeys.length != 0) {
            uint256 until = accs[accKeys[time % accKeys.length]].paidUntil;
            if (until > block.timestamp && until < block.timestamp + 3 days) to = until - 1 + time % 3;
        }
        _pass(to);
    }

    /// @dev Time passes; honest nodes do their duties in it.
    function _pass(uint256 to) internal {
        while (block.timestamp < to) {
            uint256 next = (block.timestamp / 1 days) * 1 days + 2 hours;
            if (next <= block.timestamp) next += 1 days;
            if (next > to) next = to;
            for (uint256 i; i < workKeys.length; ++i) {
                _confirmInTime(workKeys[i], next);
            }
            _fold();
            _elapse(next - block.timestamp);
            vm.warp(next);
            _morning();
        }
    }

    function _confirmInTime(bytes32 spec, uint256 before) private {
        if (works[spec].status != IJobManager.Status.Assigned || !honest[works[spec].nodeId]) return;
        IJobManager.JobView memory j = jobs.job(spec);
        if (uint256(j.changedAt) + sla.startTimeoutOf(j.slaClass) < before) _confirmOne(spec);
    }

    /// @dev Today's randomness, and the proofs of those who keep what they promised.
    function _morning() private {
        uint24 today = _today();
        if (block.timestamp % 1 days < 2 hours) return;
        try nodes.snapshotCoordinators() {
            _fold();
        } catch {
            _drop();
        }
        if (seeded[today] || uint256(keccak256(abi.encode(today, steps))) % 8 == 0) return;
        _publish();
        seeded[today] = true;
        for (uint256 i; i < held.length; ++i) {
            Held storage h = held[i];
            bool due = commitments[h.id] == IStorageWords.Status.Active && today >= h.terms.sinceDay;
            if (!due || today >= h.terms.untilDay || !honest[workers[h.worker].id]) continue;
            _prove(h.id, h.terms, h.object, today);
            _did("prove");
        }
    }

    /* THE END */

    /// @dev G-3: from here everybody takes what is theirs; only calls that anybody in the right place can make.
    function unwind() external {
        vm.recordLogs();
        evil.setMode(BadToken.Mode.Honest);
        for (uint256 i; i < names.length; ++i) {
            IBase(_at(names[i])).unpause();
        }
        for (uint256 i; i < workKeys.length; ++i) {
            if (_final(works[workKeys[i]].status)) continue;
            vm.prank(works[workKeys[i]].payer);
            jobs.stop(workKeys[i]);
            _fold();
        }
        for (uint256 i; i < held.length; ++i) {
            vm.prank(held[i].terms.payer);
            try storages.release(held[i].id, held[i].terms) {
                _fold();
            } catch {
                _drop();
            }
        }
        _fold();
        _unwindCases();
        _unwindStakes();
        _unwindPayments();
        _fold();
    }

    /// @dev Every case ends.
    function _unwindCases() private {
        for (uint256 round; round < 3; ++round) {
            _elapse(40 days);
            skip(40 days);
            for (uint256 i; i < cases.length; ++i) {
                if (caseStates[cases[i]] == ISLAManager.State.Vetoed) sla.governanceResolve(cases[i], false);
                _fold();
                try sla.finalize(cases[i]) {
                    _fold();
                } catch {
                    _drop();
                }
                _fold();
            }
        }
        for (uint256 i; i < creditors.length; ++i) {
            if (sla.creditOf(creditors[i]) != 0) sla.withdraw(creditors[i]);
        }
        if (sla.toBurn() != 0) sla.burn();
        _fold();
    }

    function _unwindStakes() private {
        nodes.snapshotCoordinators();
        uint256 n = workers.length + coordinators.length;
        for (uint256 i; i < n; ++i) {
            Party memory p = _node(i);
            try nodes.unjail(p.id) {
                _fold();
            } catch {
                _drop();
            }
            vm.startPrank(p.owner);
            try nodes.drain(p.id) {
                _fold();
            } catch {
                _drop();
            }
            try nodes.exit(p.id) {
                _fold();
            } catch {
                _drop();
            }
            (uint128 self,,) = staking.stakeOf(p.id);
            if (self != 0) {
                try staking.requestUnstake(p.id, self) {
                    _fold();
                } catch {
                    _drop();
                }
            }
            vm.stopPrank();
            for (uint256 d; d < 2; ++d) {
                for (uint8 k; k < 8; ++k) {
                    _withdrawTranche(p.id, delegators[d], k);
                }
                (, uint128 shares) = staking.positionValue(p.id, delegators[d]);
                if (shares == 0) continue;
                vm.prank(delegators[d]);
                staking.undelegate(p.id, shares, 0);
                _fold();
            }
        }
        _fold();
        skip(60 days);
        for (uint256 i; i < n; ++i) {
            Party memory p = _node(i);
            for (uint256 d; d < 2; ++d) {
                for (uint8 k; k < 8; ++k) {
                    _withdrawTranche(p.id, delegators[d], k);
                }
            }
            vm.prank(p.owner);
            try staking.withdrawSelf(p.id) {
                _fold();
            } catch {
                _drop();
            }
            try staking.claimOwner(p.id) {
                _fold();
            } catch {
                _drop();
            }
        }
        _fold();
    }

    function _unwindPayments() private {
        for (uint8 t = 1; t <= 3; ++t) {
            for (uint256 j; j < payees.length; ++j) {
                if (Payees.isNode(payees[j]) || payees[j] < Payees.TREASURY) payments.claim(payees[j], t, payersOf);
            }
            for (uint256 j; j < payees.length; ++j) {
                uint64 payee = payees[j];
                uint128 credit = payments.creditOf(payee, t);
                if (credit == 0) continue;
                if (!Payees.isNode(payee) && payee < Payees.TREASURY) {
                    // A few wei may not divide among the recipients.
                    try images.distribute(uint32(payee), t, new address[](0)) {
                        _fold();
                    } catch {
                        _drop();
                        assertLt(credit, 1e4, "G-3: an image's revenue");
                    }
                    continue;
                }
                vm.prank(payments.payoutOf(payee));
                payments.withdraw(payee, t, credit);
            }
        }
        for (uint256 i; i < accKeys.length; ++i) {
            Acc storage a = accs[accKeys[i]];
            if (payments.account(a.payer, a.token).refund == 0) continue;
            vm.prank(a.payer);
            payments.withdrawRefund(a.payer, a.token);
        }
        for (uint32 seq = 1; seq <= imageCount; ++seq) {
            vm.prank(images.image(seq).publisher);
            try images.unpublish(seq) {
                _fold();
            } catch {
                _drop();
            }
        }
        skip(31 days);
        for (uint32 seq = 1; seq <= imageCount; ++seq) {
            if (images.image(seq).bond != 0) images.returnBond(seq);
        }
    }

    /// @dev What is left after {unwind} and belongs to nobody who could take it.
    function checkUnwound() external view {
        for (uint8 t = 1; t <= 3; ++t) {
            uint256 dust = 64;
            for (uint256 i; i < accKeys.length; ++i) {
                dust += accs[accKeys[i]].changes;
            }
            assertLe(_erc20(t).balanceOf(address(payments)), dust, "G-3: payments");
        }
        assertEq(token.balanceOf(address(storages)), 0, "G-3: storage");
        assertEq(token.balanceOf(address(images)), 0, "G-3: images");
        uint256 open_;
        for (uint256 i; i < cases.length; ++i) {
            ISLAManager.State s = caseStates[cases[i]];
            assertTrue(
                s == ISLAManager.State.Executed || s == ISLAManager.State.Dismissed || s == ISLAManager.State.Proven,
                "G-3: a case has no end"
            );
            open_ += sla.caseOf(cases[i]).bond + sla.caseOf(cases[i]).appealBond;
        }
        assertEq(token.balanceOf(address(sla)), open_, "G-3: bonds and credits");
        uint256 n = workers.length + coordinators.length;
        for (uint256 i; i < n; ++i) {
            Party memory p = _node(i);
            (uint128 self, uint128 delegated, uint128 waiting) = staking.totalStake(p.id);
            assertEq(delegated, 0, "G-3: delegations");
            assertEq(waiting, 0, "G-3: what waits");
            assertEq(self, 0, "G-3: an owner's stake");
        }
        assertLe(token.balanceOf(address(staking)), 64, "G-3: stakes");
    }

    /* CHECKS */

    /// @dev G-1: no token comes from nowhere or goes there, and every contract holds what it owes.
    function checkMoney() external view {
        for (uint8 t = 1; t <= 3; ++t) {
            IERC20 erc20 = _erc20(t);
            uint256 sum;
            for (uint256 i; i < holders.length; ++i) {
                sum += erc20.balanceOf(holders[i]);
            }
            assertEq(sum, erc20.totalSupply(), "G-1: all tokens are somebody's");
            assertEq(made[address(erc20)] - gone[address(erc20)], sum, "G-1: made and destroyed");
            _checkPayments(t);
        }
        assertGe(gone[address(token)], burnedBySlashes, "G-1: what slashes burn is burned");
        _checkStakes();
        uint256 owed = sla.toBurn();
        for (uint256 i; i < creditors.length; ++i) {
            bool again;
            for (uint256 j; j < i; ++j) {
                again = again || creditors[j] == creditors[i];
            }
            if (!again) owed += sla.creditOf(creditors[i]);
        }
        for (uint256 i; i < cases.length; ++i) {
            ISLAManager.CaseView memory c = sla.caseOf(cases[i]);
            owed += uint256(c.bond) + c.appealBond;
        }
        assertEq(token.balanceOf(address(sla)), owed, "G-1: bonds, credits and what is to be burned");
        owed = 0;
        for (uint32 seq = 1; seq <= imageCount; ++seq) {
            owed += uint256(images.image(seq).bond) * 1 ether;
        }
        assertEq(token.balanceOf(address(images)), owed, "G-1: bonds of images");
    }

    function _checkStakes() private view {
        uint256 owed;
        for (uint32 id = 1; id <= nodes.lastNodeId(); ++id) {
            (uint128 self, uint128 delegated, uint128 waiting) = staking.totalStake(id);
            (uint128 rest,,,,, uint128 credit) = staking.rewards(id);
            owed += uint256(self) + delegated + waiting + rest + credit;
        }
        assertEq(token.balanceOf(address(staking)), owed, "G-1: stakes");
    }

    function _checkPayments(uint8 t) private view {
        uint256 owes;
        uint256 slack = 64;
        for (uint256 i; i < accKeys.length; ++i) {
            Acc storage a = accs[accKeys[i]];
            if (a.token != t) continue;
            owes += _keptOf(a.payer, t);
            slack += 2 * a.changes;
        }
        for (uint256 i; i < streamKeys.length; ++i) {
            Stream storage s = streams[streamKeys[i]];
            if (s.token == t) owes += payments.pair(s.payer, t, s.payee).claimable;
        }
        for (uint256 i; i < payees.length; ++i) {
            owes += payments.creditOf(payees[i], t);
        }
        uint256 balance = _erc20(t).balanceOf(address(payments));
        assertGe(balance, owes, "G-1: payments are solvent");
        assertLe(balance - owes, slack, string.concat("G-1: stranded in token ", vm.toString(t)));
    }

    function _keptOf(address who, uint8 t) private view returns (uint256) {
        IPaymentManager.AccountView memory a = payments.account(who, t);
        uint256 time = a.paidUntil > block.timestamp ? a.paidUntil - block.timestamp : 0;
        return uint256(a.refund) + a.reserved + ((uint256(a.rateQ32) * time) >> 32);
    }

    /// @dev G-2: what jobs cost is what was agreed for the time they ran, paid, owed or unpaid; and nobody has paid more than
    /// that, but for a window and what is to be had back.
    function checkService() external view {
        for (uint256 i; i < streamKeys.length; ++i) {
            Stream storage s = streams[streamKeys[i]];
            if (s.payee >= Payees.STORAGES || s.agreedQ32 == 0) continue;
            IPaymentManager.AccountView memory a = payments.account(s.payer, s.token);
            uint256 until = a.revokedAt != 0 ? a.revokedAt : block.timestamp;
            uint256 unpaid = until > a.paidUntil ? s.jobsRateQ32 * (until - a.paidUntil) >> 32 : 0;
            uint256 have = s.claimed + payments.pair(s.payer, s.token, s.payee).claimable + s.debts + unpaid;
            uint256 want = s.agreedQ32 >> 32;
            assertGe(have + s.changes + 2, want, "G-2: free service");
            assertLe(have, want + s.changes + 2, "G-2: more than agreed");
        }
        for (uint256 i; i < accKeys.length; ++i) {
            Acc storage a = accs[accKeys[i]];
            if (_payerIndex(a.payer) == PAYERS) continue;
            uint256 spent = a.used + a.went + _keptOf(a.payer, a.token);
            for (uint256 j; j < streamKeys.length; ++j) {
                Stream storage s = streams[streamKeys[j]];
                if (s.payer != a.payer || s.token != a.token) continue;
                spent += payments.pair(s.payer, s.token, s.payee).claimable;
            }
            assertGe(a.came, spent, "G-2: more was used than came");
            assertLe(a.came, spent + 2 * a.changes + 2, "G-2: money of a payer is lost");
            IPaymentManager.AccountView memory v = payments.account(a.payer, a.token);
            assertLe(v.paidUntil, block.timestamp + v.window + 1, "G-2: more than a window ahead");
        }
    }

    /// @dev G-4 and G-5.
    function checkSlashes() external view {
        for (uint32 id = 1; id <= nodes.lastNodeId(); ++id) {
            if (slashedOf[id] != 0) assertTrue(fault[id], "G-4: slashed without a fault");
            if (honest[id]) assertEq(slashedOf[id], 0, "G-5: an honest node was slashed");
        }
    }

    /// @dev G-9: who only reads events knows all.
    function checkReplay() external view {
        for (uint256 i; i < accKeys.length; ++i) {
            Acc storage a = accs[accKeys[i]];
            IPaymentManager.AccountView memory v = payments.account(a.payer, a.token);
            assertEq(v.rateQ32, a.rateQ32, "G-9: rate");
            if (v.rateQ32 != 0 || v.flows != 0) assertEq(v.paidUntil, a.paidUntil, "G-9: paidUntil");
            assertEq(v.arrearsSince, a.arrearsSince, "G-9: arrears");
            assertEq(v.refund, a.refund, "G-9: refund");
            assertEq(v.reserved, a.reserved, "G-9: reserved");
            assertEq(v.revokedAt, a.revokedAt, "G-9: revoked");
            assertEq(v.source, a.source, "G-9: source");
        }
        for (uint256 i; i < streamKeys.length; ++i) {
            Stream storage s = streams[streamKeys[i]];
            IPaymentManager.PairView memory v = payments.pair(s.payer, s.token, s.payee);
            assertEq(v.rateQ32, s.rateQ32, "G-9: pair's rate");
            assertEq(v.debt, s.debt, "G-9: debt");
            assertEq(v.claimable, _claimableOf(s), "G-9: claimable");
        }
        for (uint256 i; i < payees.length; ++i) {
            for (uint8 t = 1; t <= 3; ++t) {
                assertEq(payments.creditOf(payees[i], t), credits[payees[i]][t], "G-9: credit");
            }
        }
        for (uint256 i; i < workKeys.length; ++i) {
            Work storage w = works[workKeys[i]];
            IJobManager.JobView memory j = jobs.job(workKeys[i]);
            assertEq(uint8(j.status), uint8(w.status), "G-9: status of a job");
            if (w.status == IJobManager.Status.Offered) continue;
            assertEq(j.nodeId, w.nodeId, "G-9: node of a job");
            assertEq(j.rateQ32, w.rateQ32, "G-9: rate of a job");
            assertEq(j.imageRateQ32, w.imageRateQ32, "G-9: image of a job");
        }
        _checkReplayOfNodes();
        for (uint256 i; i < cases.length; ++i) {
            ISLAManager.CaseView memory c = sla.caseOf(cases[i]);
            assertEq(uint8(c.state), uint8(caseStates[cases[i]]), "G-9: case");
            assertEq(_terms(c.tenantBps, c.token, c.credit), caseTerms[cases[i]], "G-9: terms of a case");
        }
        for (uint256 i; i < creditors.length; ++i) {
            assertEq(sla.creditOf(creditors[i]), slaCredits[creditors[i]], "G-9: credit of a reporter");
        }
        assertEq(sla.toBurn(), toBurn, "G-9: what is to be burned");
        for (uint256 i; i < held.length; ++i) {
            uint8 have = uint8(storages.commitment(held[i].id).status);
            assertEq(have, uint8(commitments[held[i].id]), "G-9: commitment");
        }
        for (uint32 seq = 1; seq <= imageCount; ++seq) {
            assertEq(uint8(images.image(seq).status), uint8(imageStatuses[seq]), "G-9: image");
        }
    }

    function _checkReplayOfNodes() private view {
        for (uint32 id = 1; id <= nodes.lastNodeId(); ++id) {
            assertEq(uint8(_statusOfNode(id)), uint8(statuses[id]), "G-9: status of a node");
            Stakes storage s = stakes[id];
            (uint128 self, uint128 waiting,) = staking.stakeOf(id);
            (uint128 tokens, uint128 shares,, uint128 leaving,,) = staking.pool(id);
            (uint128 rest,,,,, uint128 credit) = staking.rewards(id);
            assertEq(self, s.self, "G-9: stake");
            assertEq(waiting, s.waiting, "G-9: stake that waits");
            assertEq(uint256(tokens) + rest, s.pooled, "G-9: delegations");
            assertEq(shares, s.shares, "G-9: shares");
            assertEq(leaving, s.leaving, "G-9: delegations that wait");
            assertEq(credit, s.credit, "G-9: credit of an owner");
        }
    }

    /* INTERNAL */

    function _did(bytes32 action) private {
        ++done[action];
        ++successes;
        _fold();
    }

    /// @dev The logs of a call that failed are recorded, too.
    function _drop() private {
        vm.getRecordedLogs();
    }

    /// @dev All that can be seen, hashed.
    function _views() internal view returns (bytes32 h) {
        for (uint256 i; i < workKeys.length; ++i) {
            h = keccak256(abi.encode(h, jobs.job(workKeys[i])));
        }
        for (uint256 i; i < accKeys.length; ++i) {
            h = keccak256(abi.encode(h, payments.account(accs[accKeys[i]].payer, accs[accKeys[i]].token)));
        }
        for (uint256 i; i < streamKeys.length; ++i) {
            Stream storage s = streams[streamKeys[i]];
            h = keccak256(abi.encode(h, payments.pair(s.payer, s.token, s.payee)));
        }
        for (uint256 i; i < payees.length; ++i) {
            for (uint8 t = 1; t <= 3; ++t) {
                h = keccak256(abi.encode(h, payments.creditOf(payees[i], t)));
            }
        }
        for (uint32 id = 1; id <= nodes.lastNodeId(); ++id) {
            h = keccak256(abi.encode(h, nodes.node(id), _stakeView(id), jobs.activeJobs(id)));
        }
        for (uint256 i; i < cases.length; ++i) {
            h = keccak256(abi.encode(h, sla.caseOf(cases[i])));
        }
        for (uint256 i; i < creditors.length; ++i) {
            h = keccak256(abi.encode(h, sla.creditOf(creditors[i])));
        }
        h = keccak256(abi.encode(h, sla.toBurn()));
        for (uint256 i; i < held.length; ++i) {
            h = keccak256(abi.encode(h, storages.commitment(held[i].id)));
        }
        for (uint32 seq = 1; seq <= imageCount; ++seq) {
            h = keccak256(abi.encode(h, images.image(seq)));
        }
        for (uint256 i; i < holders.length; ++i) {
            h = keccak256(
                abi.encode(h, token.balanceOf(holders[i]), usd.balanceOf(holders[i]), evil.balanceOf(holders[i]))
            );
        }
        return keccak256(abi.encode(h, domains.domain(domains.keyOf("example.com"))));
    }

    function _stakeView(uint32 id) private view returns (bytes32 h) {
        h = _seen(h, address(staking), abi.encodeCall(staking.pool, (id)));
        h = _seen(h, address(staking), abi.encodeCall(staking.rewards, (id)));
        h = _seen(h, address(staking), abi.encodeCall(staking.stakeOf, (id)));
        h = _seen(h, address(staking), abi.encodeCall(staking.frozenUntil, (id)));
        h = _seen(h, address(sla), abi.encodeCall(sla.points, (id)));
    }

    function _seen(bytes32 h, address target, bytes memory call) private view returns (bytes32) {
        (bool ok, bytes memory answer) = target.staticcall(call);
        return keccak256(abi.encode(h, ok, answer));
    }

    /// @dev The signatures of the first `n` coordinators that count now.
    function _quorumOf(bytes32 digest, uint256 n) private view returns (bytes memory sigs) {
        for (uint256 i; i < n; ++i) {
            if (nodes.isActive(coordinators[i].id)) sigs = bytes.concat(sigs, _sign(coordinators[i].key, digest));
        }
    }

    function _token(uint256 seed) private pure returns (uint8) {
        return seed % 3 == 0 ? uint8(2 + seed / 3 % 2) : ALEPH;
    }

    /// @dev Whether a token says yes and moves nothing. Its word is taken when something is paid out in it: what its receivers
    /// lose so is nobody's, and would hide what else is.
    function _lies(uint8 t) private view returns (bool) {
        return t == 3 && evil.mode() == BadToken.Mode.Silent;
    }

    function _erc20(uint8 t) private view returns (IERC20) {
        return t == ALEPH ? IERC20(address(token)) : IERC20(address(t == 2 ? usd : evil));
    }

    function _spec(uint256 which) private view returns (bytes32) {
        uint256 n = workKeys.length;
        return which % 3 == 0 ? workKeys[which % n] : workKeys[n - 1 - which % (n < 8 ? n : 8)];
    }

    function _payerIndex(address who) private view returns (uint256 i) {
        while (i < PAYERS && payersOf[i] != who) ++i;
    }

    function _node(uint256 which) private view returns (Party memory) {
        uint256 i = which % (workers.length + coordinators.length);
        return i < workers.length ? workers[i] : coordinators[i - workers.length];
    }

    function _partyOf(uint32 id) private view returns (Party memory) {
        for (uint256 i; i < workers.length; ++i) {
            if (workers[i].id == id) return workers[i];
        }
        for (uint256 i; i < coordinators.length; ++i) {
            if (coordinators[i].id == id) return coordinators[i];
        }
        return workers[0];
    }

    function _statusOfNode(uint32 id) private view returns (INodeRegistry.Status status) {
        (,, status) = nodes.standing(id);
    }

    function _final(IJobManager.Status s) private pure returns (bool) {
        return s == IJobManager.Status.None || (s >= IJobManager.Status.Stopped && s <= IJobManager.Status.Expired);
    }

    function _inGrace() private view returns (bool) {
        (, int256 answer, uint256 since,,) = feed.latestRoundData();
        return answer != 0 || block.timestamp < since + 1 hours;
    }

    function _paused(address base, uint8 bit) private view returns (bool) {
        (uint8 bits,,) = IBase(base).pauseState();
        return bits & bit != 0;
    }
}
