// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {ISLAManager} from "../../src/interfaces/ISLAManager.sol";
import {Pausing} from "../../src/libraries/Pausing.sol";
import {CaseSuite} from "../utils/CaseSuite.sol";

/// @title CaseHandler
/// @notice Peers that file, coordinators that accuse and judge, nodes that defend themselves, a guardian, governance, a
/// sequencer that goes down, in any order; with books of who left and got what.
contract CaseHandler is CaseSuite {
    struct Execution {
        uint32 nodeId;
        uint256 time;
        uint256 bps;
        bool fatal;
    }

    bytes32[] public cases;
    Execution[] public executions;
    mapping(bytes32 id => uint256) public executed;
    mapping(bytes32 id => bool) public dismissed;
    address[] public people;
    uint256 public posted;
    uint256 public received;
    uint256 public withdrawn;
    uint256 public burned;
    string public broken;

    /// @dev Not a test: the invariant test deploys this and calls {start}.
    function setUp() public override {}

    function start() external {
        super.setUp();
        _listen();
        for (uint256 i; i < workers.length; ++i) {
            _stake(workers[i], 1_000_000 ether);
        }
        for (uint256 i; i < 2; ++i) {
            coordinators.push(_join(INodeRegistry.Kind.Coordinator, string.concat("more", vm.toString(i))));
        }
        nodes.snapshotCoordinators();
        people.push(makeAddr("reporter"));
        people.push(makeAddr("tenant"));
        people.push(makeAddr("keeper"));
        for (uint256 i; i < 3; ++i) {
            _bondOf(people[i], 1_000);
        }
        for (uint256 i; i < workers.length; ++i) {
            people.push(workers[i].owner);
            _bondOf(workers[i].owner, 1_000);
        }
        for (uint256 i; i < coordinators.length; ++i) {
            people.push(coordinators[i].owner);
            _bondOf(coordinators[i].owner, 1_000);
        }
    }

    /* FILING */

    function record(uint256 kind, uint256 who, uint256 severity, uint256 tenant) external {
        if (cases.length >= 60) return;
        ISLAManager.Kind k = ISLAManager.Kind(bound(kind, 1, 8));
        if (k == ISLAManager.Kind.Equivocation && severity % 4 != 0) k = ISLAManager.Kind.StorageMiss;
        Party memory p = _node(who);
        vm.prank(address(nodes));
        try sla.recordViolation(
            k,
            p.id,
            bytes32(cases.length),
            uint32(cases.length),
            uint16(severity % 4),
            people[0],
            tenant % 2 == 0 ? people[1] : address(0)
        ) returns (
            bytes32 id
        ) {
            cases.push(id);
        } catch (bytes memory err) {
            require(bytes4(err) == ISLAManager.SequencerGrace.selector, "recordViolation");
        }
    }

    function accuse(uint256 kind, uint256 who) external {
        if (cases.length >= 60) return;
        ISLAManager.Kind[3] memory kinds =
            [ISLAManager.Kind.BadAttestation, ISLAManager.Kind.ResourceShortfall, ISLAManager.Kind.CertMisuse];
        uint256 before = token.balanceOf(address(sla));
        Party memory p = _node(who);
        ISLAManager.Kind k = kinds[kind % 3];
        uint32 n = uint32(cases.length);
        bytes memory sigs = _coordSigs(_accusationDigest(k, p.id, bytes32(cases.length), n, 0), 0, 3);
        vm.prank(people[0]);
        try sla.accuse(k, p.id, bytes32(uint256(n)), n, 0, "evidence", sigs) returns (bytes32 id) {
            cases.push(id);
        } catch {}
        posted += token.balanceOf(address(sla)) - before;
    }

    /* DISPUTES */

    function defend(uint256 which) external {
        if (cases.length == 0) return;
        bytes32 id = _case(which);
        vm.prank(_partyOf(sla.caseOf(id).nodeId).owner);
        try sla.defend(id, "answer") {} catch {}
        try sla.escalate(id) {} catch {}
    }

    function judge(uint256 which, bool guilty) external {
        if (cases.length == 0) return;
        bytes32 id = _case(which);
        bytes32 digest = _verdictDigest(id, guilty);
        // A coordinator in jail cannot sign; then the rest may still be enough.
        bytes memory sigs;
        for (uint256 i; i < coordinators.length; ++i) {
            if (nodes.isActive(coordinators[i].id)) {
                sigs = abi.encodePacked(sigs, _sign(coordinators[i].key, digest));
            }
        }
        try sla.committeeResolve(id, guilty, sigs) {} catch {}
    }

    function appeal(uint256 which) external {
        if (cases.length == 0) return;
        bytes32 id = _case(which);
        uint256 before = token.balanceOf(address(sla));
        ISLAManager.CaseView memory c = sla.caseOf(id);
        vm.prank(c.guilty ? _partyOf(c.nodeId).owner : c.reporter);
        try sla.appeal(id) {} catch {}
        posted += token.balanceOf(address(sla)) - before;
    }

    function govern(uint256 which, bool guilty) external {
        if (cases.length == 0) return;
        try sla.governanceResolve(_case(which), guilty) {} catch {}
        _note();
    }

    function veto(uint256 which, uint256 often) external {
        if (cases.length == 0 || often % 3 != 0) return;
        try sla.veto(_case(which)) {} catch {}
    }

    function finalize(uint256 which) external {
        if (cases.length == 0) return;
        bytes32 id = _case(which);
        ISLAManager.CaseView memory c = sla.caseOf(id);
        uint256 stake = staking.slashable(c.nodeId);
        (, uint16 bps,) = sla.points(c.nodeId);
        (uint256 before, uint256 burns) = (token.balanceOf(address(sla)), sla.toBurn());
        (uint8 bits,,) = sla.pauseState();
        bool grace = _inGrace();
        vm.prank(people[2]);
        try sla.finalize(id) {
            if (bits & Pausing.PENALTY != 0 || grace) broken = "SL-3: while paused or in grace";
        } catch {}
        received += token.balanceOf(address(sla)) - before;
        if (sla.stateOf(id) == ISLAManager.State.Executed && c.state != ISLAManager.State.Executed) {
            ++executed[id];
            (, uint16 now_,) = sla.points(c.nodeId);
            bool fatal = sla.penaltyOf(c.kind).fatal;
            executions.push(Execution(c.nodeId, block.timestamp, fatal ? 0 : now_ - bps, fatal));
            uint256 slashed = stake - staking.slashable(c.nodeId);
            if (slashed != token.balanceOf(address(sla)) - before) {
                broken = "SL-4: reporter, tenant, caller and what is burned make what was slashed";
            }
            if ((sla.toBurn() - burns) * 4 < slashed) broken = "SL-4: less than a quarter is burned";
            _checkJail(c);
        } else if (staking.slashable(c.nodeId) != stake) {
            broken = "SL-5: slashed without an execution";
        }
        _note();
    }

    /* THE WORLD */

    function withdraw(uint256 who) external {
        address p = people[who % people.length];
        try sla.withdraw(p) returns (uint128 amount) {
            withdrawn += amount;
        } catch {}
    }

    function burn(uint256 often) external {
        uint256 supply = token.totalSupply();
        uint256 waits = sla.toBurn();
        if (often % 4 != 0 || waits == 0) return;
        burned += sla.burn();
        if (supply - token.totalSupply() != waits || sla.toBurn() != 0) broken = "SL-6: burned something else";
    }

    function outage(uint256 time) external {
        if (time % 3 != 0) return;
        feed.push(1, block.timestamp);
        skip(bound(time, 1, 6 hours));
        feed.push(0, block.timestamp);
        sla.recordOutage(feed.latest() - 1);
    }

    function pause(uint256 time) external {
        (,, uint24 left) = sla.pauseState();
        if (time % 4 != 0 || left < 2 hours) return;
        sla.pause(Pausing.PENALTY, uint24(bound(time, 1, 2 hours)));
    }

    function warp(uint256 time) external {
        uint256[6] memory edges = [uint256(1 hours), 1 hours, 48 hours, 72 hours, 10 days, 30 days];
        uint256 pick = time % 12;
        skip(pick >= 6 ? bound(time, 1, 6 hours) : edges[pick] - 1 + (time >> 8) % 3);
        // There may be none left.
        try nodes.snapshotCoordinators() {} catch {}
    }

    /* VIEWS */

    function caseCount() external view returns (uint256) {
        return cases.length;
    }

    function executionCount() external view returns (uint256) {
        return executions.length;
    }

    function peopleCount() external view returns (uint256) {
        return people.length;
    }

    function contracts() external view returns (address, address) {
        return (address(sla), address(token));
    }

    /* INTERNAL */

    function _case(uint256 which) private view returns (bytes32) {
        uint256 n = cases.length;
        return which % 3 == 0 ? cases[which % n] : cases[n - 1 - which % (n < 6 ? n : 6)];
    }

    function _node(uint256 who) private view returns (Party memory) {
        uint256 n = who % (workers.length + coordinators.length);
        return n < workers.length ? workers[n] : coordinators[n - workers.length];
    }

    function _partyOf(uint32 id) private view returns (Party memory) {
        for (uint256 i; i < workers.length; ++i) {
            if (workers[i].id == id) return workers[i];
        }
        for (uint256 i; i < coordinators.length; ++i) {
            if (coordinators[i].id == id) return coordinators[i];
        }
        revert("no such node");
    }

    function _inGrace() private view returns (bool) {
        (, int256 answer, uint256 since,,) = feed.latestRoundData();
        return answer != 0 || block.timestamp < since + 1 hours;
    }

    /// @dev SL-7, at the moment of the penalty: who is jailed or banned is so in the NodeRegistry.
    function _checkJail(ISLAManager.CaseView memory c) private {
        ISLAManager.Penalty memory p = sla.penaltyOf(c.kind);
        (,, INodeRegistry.Status status) = nodes.standing(c.nodeId);
        bool ended = status == INodeRegistry.Status.Exited || status == INodeRegistry.Status.Banned;
        if (p.ban && !ended) broken = "SL-7: banned here, not there";
        bool jails = p.jail != 0 && c.severity >= p.jailSeverity;
        if (jails && !p.ban && !ended && status != INodeRegistry.Status.Jailed) {
            broken = "SL-7: jailed here, not there";
        }
    }

    /// @dev SL-5: a dismissed case stays so.
    function _note() private {
        for (uint256 i; i < cases.length; ++i) {
            ISLAManager.State s = sla.stateOf(cases[i]);
            if (dismissed[cases[i]] && s != ISLAManager.State.Dismissed) broken = "SL-5: dismissed, and then not";
            if (s == ISLAManager.State.Dismissed) dismissed[cases[i]] = true;
        }
    }
}
