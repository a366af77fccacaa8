// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {ISLAManager} from "../../src/interfaces/ISLAManager.sol";
import {Suite} from "./Suite.sol";

/// @title QuorumSuite
/// @notice The suite with eight coordinators in four regions: what it takes to agree on something outside of the chain.
abstract contract QuorumSuite is Suite {
    function setUp() public virtual override {
        super.setUp();
        for (uint256 i = 3; i < 8; ++i) {
            coordinators.push(_join(INodeRegistry.Kind.Coordinator, string.concat("coordinator", vm.toString(i))));
        }
        for (uint256 i; i < 8; ++i) {
            _region(i, uint16(1 + i % 4));
        }
        nodes.snapshotCoordinators();
        _outage(0);
    }

    /// @dev From now on the sequencer was down for so long, whatever the interval.
    function _outage(uint32 duration) internal {
        vm.mockCall(slaAt, abi.encodeWithSelector(ISLAManager.outage.selector), abi.encode(duration));
    }

    function _region(uint256 i, uint16 region) internal {
        Party memory p = coordinators[i];
        vm.prank(p.owner);
        nodes.updateMeta(p.id, keccak256("meta"), 0, region);
    }

    function _newDay() internal {
        skip(1 days);
        nodes.snapshotCoordinators();
    }

    /// @dev The signatures of the coordinators with these indexes, which ascend.
    function _sigs(bytes32 digest, bytes memory who) internal view returns (bytes memory sigs) {
        for (uint256 i; i < who.length; ++i) {
            sigs = bytes.concat(sigs, _sign(coordinators[uint8(who[i])].key, digest));
        }
    }
}
