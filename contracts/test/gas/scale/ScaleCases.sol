// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../../src/interfaces/INodeRegistry.sol";
import {ISLAManager} from "../../../src/interfaces/ISLAManager.sol";
import {ScaleWorld} from "./ScaleWorld.sol";

/// @title ScaleCases
/// @notice The SLAManager and its other half: cases against the node that has all cases.
abstract contract ScaleCases is ScaleWorld {
    function test_scale_cases() public {
        _scale("SLAManager", address(sla), _cases);
    }

    function _cases() private {
        nodes.snapshotCoordinators();
        _bondOf(watcher, 20);
        _bondOf(accused.owner, 20);
        _files();
        _accusations();
        _money();
        _outages();
        _caseParameters();
        _upkeep("SLAManager", address(sla));
    }

    function _files() private {
        ISLAManager.Kind kind = ISLAManager.Kind.StorageMiss;
        bytes memory data = abi.encodeCall(ISLAManager.recordViolation, (kind, accused.id, "x", 1, 0, watcher, payer));
        bytes32 id = abi.decode(_do("recordViolation", address(nodes), data), (bytes32));
        _do("veto", address(guardian), abi.encodeCall(ISLAManager.veto, (id)));
        _do("governanceResolve, vetoed", address(timelock), abi.encodeCall(ISLAManager.governanceResolve, (id, true)));
        id = sla.caseIdOf(kind, accused.id, 0, 0);
        sla.finalize(sla.caseIdOf(kind, accused.id, bytes32(uint256(1)), 0));
        _do("finalize: slash and shares", address(this), abi.encodeCall(ISLAManager.finalize, (id)));
        _do("withdraw", watcher, abi.encodeCall(ISLAManager.withdraw, (watcher)));
        _do("burn", address(this), abi.encodeCall(ISLAManager.burn, ()));
    }

    function _accusations() private {
        bytes32 id = _accused("1");
        _do("defend", accused.owner, abi.encodeCall(ISLAManager.defend, (id, "evidence")));
        _do("escalate", watcher, abi.encodeCall(ISLAManager.escalate, (id)));
        bytes memory sigs = _coordSigs(_verdictDigest(id, true), 0, 8);
        bytes memory data = abi.encodeCall(ISLAManager.committeeResolve, (id, true, sigs));
        _do("committeeResolve", address(this), data);
        _do("appeal", accused.owner, abi.encodeCall(ISLAManager.appeal, (id)));
        data = abi.encodeCall(ISLAManager.governanceResolve, (id, false));
        _do("governanceResolve, appealed", address(timelock), data);
        id = _accused("2");
        skip(73 hours);
        _do("finalize: not answered", address(this), abi.encodeCall(ISLAManager.finalize, (id)));
        nodes.snapshotCoordinators();
        // A coordinator, whose own word does not count.
        Party memory c = coordinators[7];
        bytes32 digest = _accusationDigest(ISLAManager.Kind.ResourceShortfall, c.id, "job", 1, 0);
        data = abi.encodeCall(
            ISLAManager.accuse,
            (ISLAManager.Kind.ResourceShortfall, c.id, "job", 1, 0, "evidence", _coordSigs(digest, 0, 3))
        );
        id = abi.decode(_do("accuse, a coordinator", watcher, data), (bytes32));
        vm.prank(c.owner);
        sla.defend(id, "evidence");
        sla.escalate(id);
        data = abi.encodeCall(ISLAManager.committeeResolve, (id, false, _coordSigs(_verdictDigest(id, false), 0, 8)));
        _do("committeeResolve, a coordinator", address(this), data);
    }

    function _accused(bytes32 ref) private returns (bytes32) {
        ISLAManager.Kind kind = ISLAManager.Kind.ResourceShortfall;
        bytes memory sigs = _coordSigs(_accusationDigest(kind, accused.id, ref, 1, 0), 0, 3);
        bytes memory data = abi.encodeCall(ISLAManager.accuse, (kind, accused.id, ref, 1, 0, "evidence", sigs));
        return abi.decode(_do(string.concat("accuse ", ref == "1" ? "first" : "second"), watcher, data), (bytes32));
    }

    function _money() private {
        _do("postBond", address(jobs), abi.encodeCall(ISLAManager.postBond, ("bond", watcher)));
        _do("settleBond", address(jobs), abi.encodeCall(ISLAManager.settleBond, ("bond", watcher)));
    }

    function _outages() private {
        uint80 round = feed.push(1, block.timestamp);
        skip(100);
        feed.push(0, block.timestamp);
        skip(1 hours);
        _do("recordOutage", address(this), abi.encodeCall(ISLAManager.recordOutage, (round)));
    }

    function _caseParameters() private {
        (address who, address owner) = (address(timelock), accused.owner);
        ISLAManager.SlaClass memory c = ISLAManager.SlaClass(9_900, 300, 60, 600, 0, [uint16(5), 10, 20, 150], 4_000);
        uint32 class = abi.decode(_do("defineClass", who, abi.encodeCall(ISLAManager.defineClass, (c))), (uint32));
        _do("nodeOptIn", owner, abi.encodeCall(ISLAManager.nodeOptIn, (accused.id, class)));
        _do("nodeOptOut", owner, abi.encodeCall(ISLAManager.nodeOptOut, (accused.id, class)));
        ISLAManager.Penalty memory p = ISLAManager.Penalty([uint16(1), 2, 3, 4], 0, 0, false, false, false);
        _do("setPenalty", who, abi.encodeCall(ISLAManager.setPenalty, (ISLAManager.Kind.Offline, p)));
        _do("setBond", who, abi.encodeCall(ISLAManager.setBond, (50 ether)));
    }
}
