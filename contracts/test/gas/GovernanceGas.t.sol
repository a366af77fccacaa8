// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStakingManager} from "../../src/interfaces/IStakingManager.sol";
import {GovernanceSuite} from "../utils/GovernanceSuite.sol";
import {Suite} from "../utils/Suite.sol";
import {GasBench} from "./GasBench.sol";

/// @title GovernanceGas
/// @notice The gas of a proposal from its making to its execution.
contract GovernanceGasTest is GovernanceSuite, GasBench {
    function _bench() internal pure override returns (string memory) {
        return "governance";
    }

    function _code(string memory name) internal view override(Suite, GasBench) returns (bytes memory) {
        return GasBench._code(name);
    }

    function setUp() public override {
        super.setUp();
        _govern();
    }

    function _measure() internal override {
        Proposal memory p =
            _propose(address(staking), abi.encodeCall(IStakingManager.setUnbonding, (10 days)), "wait ten days");
        _record("propose", 0);
        skip(2 days + 1);
        vm.prank(small);
        governor.castVote(p.id, 0);
        vm.prank(big);
        governor.castVote(p.id, 1);
        _record("castVote, which reaches the quorum", 95_000);
        vm.prank(coordinators[2].owner);
        governor.castVote(p.id, 1);
        _record("castVote", 95_000);
        skip(5 days);
        _queue(p);
        _record("queue", 0);
        skip(2 days);
        _execute(p);
        _record("execute, a parameter", 0);
    }
}
