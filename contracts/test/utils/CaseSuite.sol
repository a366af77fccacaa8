// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Peers} from "../../src/Peers.sol";
import {ISLAManager} from "../../src/interfaces/ISLAManager.sol";
import {Suite} from "./Suite.sol";
import {UptimeFeed} from "./UptimeFeed.sol";

/// @title CaseSuite
/// @notice Cases against nodes: who files them, who judges, and a sequencer whose outages a test can make.
abstract contract CaseSuite is Suite {
    bytes32 private constant _IMPLEMENTATION = 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;

    UptimeFeed internal feed;

    /// @dev Puts an implementation behind the proxy that listens to a feed.
    function _listen() internal {
        feed = new UptimeFeed();
        feed.push(0, block.timestamp - 30 days);
        Peers memory p = _peers();
        p.uptimeFeed = address(feed);
        address code = _build("SLAManager", p);
        vm.store(address(sla), _IMPLEMENTATION, bytes32(uint256(uint160(code))));
    }

    /// @dev The sequencer is down for `time` seconds from now on, and an hour has passed since.
    function _outage(uint256 time) internal returns (uint80 round) {
        round = feed.push(1, block.timestamp);
        skip(time);
        feed.push(0, block.timestamp);
        skip(1 hours);
    }

    function _record(ISLAManager.Kind kind, uint32 nodeId, uint32 occurrence, uint16 severity, address reporter)
        internal
        returns (bytes32)
    {
        vm.prank(address(nodes));
        return sla.recordViolation(kind, nodeId, "ref", occurrence, severity, reporter, address(0));
    }

    function _accusationDigest(ISLAManager.Kind kind, uint32 nodeId, bytes32 ref, uint32 occurrence, uint8 severity)
        internal
        view
        returns (bytes32)
    {
        bytes32 typeHash = keccak256(
            "Accusation(uint8 kind,uint32 nodeId,bytes32 ref,uint32 occurrence,uint8 severity,bytes32 evidence)"
        );
        return _digest(
            "AlephSLA",
            address(sla),
            keccak256(abi.encode(typeHash, kind, nodeId, ref, occurrence, severity, bytes32("evidence")))
        );
    }

    function _verdictDigest(bytes32 caseId, bool guilty) internal view returns (bytes32) {
        bytes32 typeHash = keccak256("Verdict(bytes32 caseId,bool guilty)");
        return _digest("AlephSLA", address(sla), keccak256(abi.encode(typeHash, caseId, guilty)));
    }

    /// @dev The signatures of `n` coordinators from `first` on.
    function _coordSigs(bytes32 digest, uint256 first, uint256 n) internal view returns (bytes memory sigs) {
        for (uint256 i = first; i < first + n; ++i) {
            sigs = abi.encodePacked(sigs, _sign(coordinators[i].key, digest));
        }
    }

    function _bondOf(address who, uint256 bonds) internal {
        gateway.mint(token, who, bonds * sla.bondOf());
        vm.prank(who);
        token.approve(address(sla), type(uint256).max);
    }

    function _accuse(address accuser, ISLAManager.Kind kind, uint32 nodeId, bytes32 ref, uint32 occurrence)
        internal
        returns (bytes32)
    {
        bytes memory sigs = _coordSigs(_accusationDigest(kind, nodeId, ref, occurrence, 0), 0, 2);
        vm.prank(accuser);
        return sla.accuse(kind, nodeId, ref, occurrence, 0, "evidence", sigs);
    }

    function _judge(bytes32 caseId, bool guilty) internal {
        sla.committeeResolve(caseId, guilty, _coordSigs(_verdictDigest(caseId, guilty), 0, coordinators.length));
    }

    function _class(uint32 notice, uint16 creditBps) internal returns (uint32) {
        return sla.defineClass(
            ISLAManager.SlaClass({
                uptimeBps: 9_900,
                startTimeout: 5 minutes,
                notice: notice,
                maxGap: 600,
                creditBpsPerPoint: creditBps,
                slashBps: [uint16(5), 10, 20, 150],
                tenantBps: 4_000
            })
        );
    }

    function _optIn(Party memory p, uint32 slaClass) internal {
        vm.prank(p.owner);
        sla.nodeOptIn(p.id, slaClass);
    }

    function _stateOf(bytes32 caseId) internal view returns (ISLAManager.State) {
        return sla.stateOf(caseId);
    }
}
