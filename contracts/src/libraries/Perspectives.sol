// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {INodeRegistry} from "../interfaces/INodeRegistry.sol";

/// @title Perspectives
/// @notice Whether coordinators saw something from enough places. A network that is smaller than what is asked for must be
/// unanimous instead.
library Perspectives {
    /// @dev Too few coordinators signed, or from too few regions.
    error TooFewPerspectives(uint256 signers, uint256 regions);

    /// @dev Those who signed do not hold more than half of the weight.
    error TooLittleWeight(uint256 weight, uint256 total);

    /// @notice Reverts unless at least `signers` coordinators (or all) from at least `regions` regions (or from as many as
    /// there are) with more than half of the weight signed `digest`.
    function check(address nodes, bytes32 digest, bytes calldata sigs, uint256 signers, uint256 regions) internal view {
        INodeRegistry.Quorum memory q = INodeRegistry(nodes).quorum(digest, sigs);
        if (uint256(q.weight) * 2 <= q.total) revert TooLittleWeight(q.weight, q.total);
        if (q.count >= signers && q.groups >= regions) return;
        // The set is read only when it decides: in a network large enough it never does.
        (uint256 members, uint256 places) = _available(nodes, regions);
        if ((q.count < signers && q.count < members) || (q.groups < regions && q.groups < places)) {
            revert TooFewPerspectives(q.count, q.groups);
        }
    }

    /// @dev How many of the newest set of coordinators are Active, and in how many regions, counted up to `most`. There
    /// are at most 64.
    function _available(address nodes, uint256 most) private view returns (uint256 members, uint256 places) {
        (, uint32[] memory ids,) = INodeRegistry(nodes).coordinatorSet();
        uint256[] memory seen = new uint256[](most);
        for (uint256 i; i < ids.length; ++i) {
            INodeRegistry.NodeView memory n = INodeRegistry(nodes).node(ids[i]);
            if (n.status != INodeRegistry.Status.Active) continue;
            ++members;
            uint256 j;
            while (j < places && seen[j] != n.region) ++j;
            if (j == places && places < most) seen[places++] = n.region;
        }
    }
}
