// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Rendezvous} from "./Rendezvous.sol";
import {Stats} from "./Stats.sol";

/// @title AssignmentRules
/// @notice Who gets a job and who decides it.
library AssignmentRules {
    /// @notice Whether a node should have got a job instead of the one that did: it has what the job needs, and the other
    /// has not, or lost the race. The weight of a node is its score squared.
    function better(bytes32 seed, bytes32 spec, uint8 attempt, bytes32 needs, bytes32 given, bytes32 other)
        internal
        pure
        returns (bool)
    {
        if (!Stats.satisfies(other, needs)) return false;
        if (!Stats.satisfies(given, needs)) return true;
        Rendezvous.Runner memory g = Rendezvous.run(seed, spec, attempt, Stats.nodeOf(given), _square(given));
        Rendezvous.Runner memory o = Rendezvous.run(seed, spec, attempt, Stats.nodeOf(other), _square(other));
        return Rendezvous.before(o, g);
    }

    /// @notice How many of these coordinators come before `id` in the race for the duty, which their stake weighs; all of
    /// them when it is not among them or has no stake.
    function rank(bytes32 seed, bytes32 spec, uint8 attempt, uint32 id, uint32[] memory ids, uint96[] memory weights)
        internal
        pure
        returns (uint256 ahead)
    {
        uint256 mine;
        while (mine < ids.length && ids[mine] != id) ++mine;
        if (mine == ids.length || weights[mine] == 0) return ids.length;
        Rendezvous.Runner memory me = Rendezvous.run(seed, spec, attempt, id, weights[mine]);
        for (uint256 i; i < ids.length; ++i) {
            if (i == mine || weights[i] == 0) continue;
            if (Rendezvous.before(Rendezvous.run(seed, spec, attempt, ids[i], weights[i]), me)) ++ahead;
        }
    }

    /// @notice The coordinator on duty; 0 when none has stake.
    function duty(bytes32 seed, bytes32 spec, uint8 attempt, uint32[] memory ids, uint96[] memory weights)
        internal
        pure
        returns (uint32)
    {
        Rendezvous.Runner memory best;
        for (uint256 i; i < ids.length; ++i) {
            if (weights[i] == 0) continue;
            Rendezvous.Runner memory r = Rendezvous.run(seed, spec, attempt, ids[i], weights[i]);
            if (best.id == 0 || Rendezvous.before(r, best)) best = r;
        }
        return best.id;
    }

    function _square(bytes32 leaf) private pure returns (uint256) {
        return uint256(Stats.scoreOf(leaf)) ** 2;
    }
}
